"""The memory of connections is known without looking at them, and the largest are closed first."""

import random
from collections.abc import Iterator

import pytest

from kvstore.connections.clientlist import ClientTotals, add_connections
from kvstore.connections.memory import CLOSED_AT_ONCE, connections_memory, evict_connections
from kvstore.connections.table import open_connection
from kvstore.lifetimes import connection
from kvstore.lifetimes.connection import AUTHENTICATED, FIELDS, FLAGS, INPUT_CAPACITY, KILLED, NO_EVICT
from kvstore.net.closing import close_connection
from kvstore.net.output import send_all
from mmcore.jit import int64, zeros
from tests.kvstore.bare import Bare
from tests.kvstore.test_turn import Sockets
from tests.server.wire import encode

EMPTY = 8 * FIELDS  # bytes that an idle connection takes


def walked(store: Bare) -> int:
    """The memory of all connections, by a walk over them."""
    totals = zeros(int64, len(ClientTotals._fields))
    add_connections(store.context, totals)
    return ClientTotals(*totals.tolist()).memory


@pytest.fixture
def server() -> Iterator[Sockets]:
    with Sockets() as made:
        yield made
        for client in made.clients:
            client.close()


def test_the_sum_is_that_of_a_walk(server: Sockets) -> None:
    """Input that is not whole, output that is not read, queued commands and watches, and the end of each."""

    def check(at_least: int, at_most: int = 1 << 40) -> None:
        send_all(server.context)
        assert connections_memory(server.context) == walked(server)
        assert at_least <= walked(server) <= at_most

    slots = [server.open() for _ in range(4)]
    check(4 * EMPTY, 4 * EMPTY)
    whole = encode("SET", "key", "x" * 100_000)
    server.clients[slots[0]].sendall(whole[:50_000])
    server.receive(slots[0])
    check(4 * EMPTY + 50_000)
    server.clients[slots[0]].sendall(whole[50_000:])
    while int(server.shard.connections[slots[0], connection.INPUT_CAPACITY]):
        server.receive(slots[0])
    check(4 * EMPTY, 4 * EMPTY)
    server.receive(slots[1], ("MULTI",), *[("SET", "key", "y" * 1000)] * 50)
    server.receive(slots[2], ("WATCH", *range(1000)))
    check(4 * EMPTY + 50_000 + 1000 * 8)
    server.receive(slots[3], *[("GET", "key")] * 30)
    check(4 * EMPTY + 1_000_000)
    server.receive(slots[1], ("EXEC",))
    server.receive(slots[2], ("UNWATCH",))
    check(4 * EMPTY + 1_000_000)
    for slot in slots:
        close_connection(server.context, slot)
    check(0, 0)
    assert server.registers.CLIENT_BUFFERS == 0


class Crowd(Bare):
    """Connections without sockets, each with an input buffer of a given size that is not there."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(connections=len(sizes))
        for number, size in enumerate(sizes):
            slot = open_connection(self.context, -1, number + 1, AUTHENTICATED, 0)
            self.row(slot)[INPUT_CAPACITY] = size
            self.registers.CLIENT_BUFFERS += size

    def row(self, slot: int):
        """The row of a connection."""
        return self.shard.connections.row(slot)

    def closed(self) -> set[int]:
        """The slots that are to be closed."""
        return {slot for slot in range(len(self.shard.connections)) if int(self.row(slot)[FLAGS]) & KILLED}

    def evict(self, limit: int) -> set[int]:
        """Let all connections together take less than `limit`; returns the slots that are to be closed so far."""
        self.registers.MAXMEMORY_CLIENTS = limit
        evict_connections(self.context)
        return self.closed()


def test_the_largest_go_first_and_no_more_than_must() -> None:
    generator = random.Random(1)
    sizes = [generator.randrange(1, 1_000_000) for _ in range(50)]
    spared = set(generator.sample(range(50), 10))
    with Crowd(sizes) as crowd:
        for slot in spared:
            crowd.row(slot)[FLAGS] |= NO_EVICT
        order = sorted(set(range(50)) - spared, key=lambda slot: -sizes[slot])
        total = sum(sizes) + 50 * EMPTY
        assert connections_memory(crowd.context) == walked(crowd) == total
        assert crowd.evict(total + 1) == set()
        assert crowd.evict(total) == {order[0]}
        left = total
        for count in range(1, len(order)):
            left -= sizes[order[count - 1]] + EMPTY
            assert crowd.evict(left + 1) == set(order[:count])
            assert crowd.evict(left) == set(order[: count + 1])
        assert len(order) == crowd.registers.EVICTED_CLIENTS
        assert len(order) == crowd.registers.TURNS_PENDING


def test_very_many_are_closed_some_a_turn() -> None:
    sizes = [1000 + slot for slot in range(3 * CLOSED_AT_ONCE + 5)]
    with Crowd(sizes) as crowd:
        for turn in range(1, 4):
            assert crowd.evict(1) == set(range(len(sizes) - turn * CLOSED_AT_ONCE, len(sizes)))
        assert crowd.evict(1) == set(range(len(sizes)))


def test_when_nobody_may_be_closed_the_next_look_waits_for_a_tick() -> None:
    with Crowd([1 << 20, 1 << 20]) as crowd:
        crowd.registers.TIMER_MS, crowd.registers.TICK_MS = 1000, 100
        for slot in range(2):
            crowd.row(slot)[FLAGS] |= NO_EVICT
        assert crowd.evict(1 << 20) == set()
        crowd.row(0)[FLAGS] &= ~NO_EVICT
        crowd.registers.TIMER_MS = 1099
        assert crowd.evict(1 << 20) == set()
        crowd.registers.TIMER_MS = 1100
        assert crowd.evict(1 << 20) == {0}


def test_one_that_is_being_closed_counts_no_more() -> None:
    """The sum still has its memory until its turn, but nobody else is closed for that."""
    with Crowd([1 << 20, 1 << 19, 1 << 18]) as crowd:
        assert crowd.evict(1 << 20) == {0}
        assert crowd.evict(1 << 20) == {0}
        assert connection.KILLED & int(crowd.row(1)[FLAGS]) == 0
