"""Messages to other connections: written once, in order with replies, within bounds."""

import ctypes
from collections.abc import Iterator

import pytest

from kvstore.connections.messages import message_begin, message_end, messages_bound, post
from kvstore.connections.sends import MESSAGES_MAX, spill
from kvstore.connections.table import connection as connection_of
from kvstore.lifetimes import connection
from kvstore.lifetimes.call import CONNECTION, PROTOCOL
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.sizes import SENDS_MAX
from kvstore.net.afterwards import afterwards
from kvstore.net.closing import close_connection
from kvstore.net.output import keep_output, send_all, send_waiting
from kvstore.wire.resp import reply_array, reply_bulk_integer, reply_integer, reply_null
from mmcore.jit import int64, linked
from tests.kvstore.test_turn import Sockets


@linked(int64(CONTEXT, int64, int64, int64))
def tell(context, slot, other, number):  # type: ignore[no-untyped-def]
    """Post a number to one connection, or to two (-1 for none)."""
    messages_bound(context)
    start = message_begin(context, 2)
    reply_bulk_integer(context, number)
    size = message_end(context, start)
    post(context, slot, start, size)
    if other >= 0:
        post(context, other, start, size)
    return start


@linked(int64(CONTEXT, int64, int64))
def tell_null(context, slot, protocol):  # type: ignore[no-untyped-def]
    """Post the null of a protocol."""
    start = message_begin(context, protocol)
    reply_null(context)
    post(context, slot, start, message_end(context, start))
    return context.call[PROTOCOL]


@linked(int64(CONTEXT, int64, int64, int64))
def command(context, slot, told, number):  # type: ignore[no-untyped-def]
    """As if a command of `slot` posted a number to `told` in the middle of its reply, which is an array of two."""
    context.call[CONNECTION] = slot
    reply_array(context, 2)
    reply_integer(context, number)
    tell(context, told, -1, number)
    reply_integer(context, number + 1)
    afterwards(context, slot, connection_of(context, slot))
    return 0


@linked(int64(CONTEXT, int64))
def keep(context, slot):  # type: ignore[no-untyped-def]
    """keep_output, for Python."""
    keep_output(context, slot, connection_of(context, slot))
    return 0


@pytest.fixture
def server() -> Iterator[Sockets]:
    with Sockets() as made:
        made.registers.CONNECTION = -1
        yield made
        for client in made.clients:
            client.close()


def bulk(number: int) -> bytes:
    return b"$%d\r\n%d\r\n" % (len(str(number)), number)


def test_a_message_is_written_once_and_sent_to_all(server: Sockets) -> None:
    first, second = server.open(), server.open()
    tell(server.context, first, second, 42)
    assert len(bulk(42)) == server.registers.MESSAGES_LENGTH
    assert server.registers.SENDS == 2
    send_all(server.context)
    assert server.arrived(first) == server.arrived(second) == bulk(42)
    assert server.registers.SENDS == server.registers.MESSAGES_LENGTH == 0


def test_messages_that_follow_each_other_are_one_piece(server: Sockets) -> None:
    slot = server.open()
    before = server.registers.WRITES_PROCESSED
    for number in range(100):
        tell(server.context, slot, -1, number)
    assert server.registers.SENDS == 1
    send_all(server.context)
    assert before + 1 == server.registers.WRITES_PROCESSED
    assert server.arrived(slot) == b"".join(map(bulk, range(100)))


def test_messages_and_replies_keep_their_order_and_are_sent_by_one_call(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    server.receive(slot, ("ECHO", "a"))
    tell(server.context, slot, other, 1)
    server.receive(slot, ("ECHO", "b"))
    tell(server.context, other, -1, 2)
    tell(server.context, slot, -1, 3)
    before = server.registers.WRITES_PROCESSED
    send_all(server.context)
    assert before + 2 == server.registers.WRITES_PROCESSED
    assert server.arrived(slot) == b"$1\r\na\r\n" + bulk(1) + b"$1\r\nb\r\n" + bulk(3)
    assert server.arrived(other) == bulk(1) + bulk(2)


def test_more_pieces_than_one_call_takes_arrive_in_order(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    for number in range(500):
        tell(server.context, slot, -1, number)
        tell(server.context, other, -1, number)
    assert server.registers.SENDS == 1000
    send_all(server.context)
    assert server.arrived(slot) == server.arrived(other) == b"".join(map(bulk, range(500)))


def test_a_message_to_the_connection_at_hand_follows_its_reply(server: Sockets) -> None:
    slot = server.open()
    command(server.context, slot, slot, 7)
    command(server.context, slot, slot, 9)
    server.registers.CONNECTION = -1
    send_all(server.context)
    assert server.arrived(slot) == b"*2\r\n:7\r\n:8\r\n" + bulk(7) + b"*2\r\n:9\r\n:10\r\n" + bulk(9)


def test_a_deferred_message_waits_while_others_are_sent(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    server.registers.CONNECTION = slot
    tell(server.context, other, slot, 1)
    send_waiting(server.context)  # as before Python is entered in the middle of a transaction
    assert (server.arrived(other), server.arrived(slot)) == (bulk(1), b"")
    assert server.registers.SENDS == server.registers.SENDS_DEFERRED == 1
    tell(server.context, other, slot, 2)
    row = server.shard.connections.row(slot)
    assert row[connection.FLAGS] & connection.AFTERWARDS
    afterwards(server.context, slot, row)
    server.registers.CONNECTION = -1
    send_all(server.context)
    assert (server.arrived(other), server.arrived(slot)) == (bulk(2), bulk(1) + bulk(2))
    assert server.registers.SENDS_DEFERRED == server.registers.MESSAGES_LENGTH == 0


def test_a_connection_that_is_closed_meanwhile_gets_nothing_nor_does_its_successor(server: Sockets) -> None:
    slot = server.open()
    tell(server.context, slot, -1, 1)
    close_connection(server.context, slot)
    server.clients.pop().close()
    assert server.open() == slot
    tell(server.context, slot, -1, 2)
    send_all(server.context)
    assert server.arrived(slot) == bulk(2)


def test_a_reader_that_does_not_read_is_closed_at_the_limit_for_subscribers(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    server.registers.PUBSUB_HARD_LIMIT = 100_000
    row = server.shard.connections.row(slot)
    row[connection.FLAGS] |= connection.SUBSCRIBER
    sent = 0
    while not row[connection.FLAGS] & connection.KILLED:
        for number in range(10_000):
            tell(server.context, slot, -1, number)
        send_all(server.context)
        sent += 1
        assert sent < 1000
    assert server.registers.OUTPUT_LIMIT_CLOSED == 1
    tell(server.context, slot, other, 5)
    assert server.registers.SENDS == 1, "it gets no more"


def test_too_many_records_move_to_the_connections_own_output(server: Sockets) -> None:
    slot, other, third = server.open(), server.open(), server.open()
    for number in range(SENDS_MAX):
        tell(server.context, (slot, other)[number % 2], third, number)
    assert server.registers.SENDS <= SENDS_MAX
    assert server.registers.TURNS_PENDING == 3, "the loop looks at them"
    rows = [server.shard.connections.row(each) for each in (slot, other, third)]
    waiting = sum(row[connection.OUTPUT_LENGTH] for row in rows)
    assert waiting > 0
    total = 2 * sum(len(bulk(number)) for number in range(SENDS_MAX))
    spill(server.context, 0)
    assert sum(row[connection.OUTPUT_LENGTH] for row in rows) == total
    start = b"".join(map(bulk, range(1000)))
    out = rows[2]
    assert ctypes.string_at(out[connection.OUTPUT_ADDRESS], len(start)) == start


def test_too_many_bytes_move_to_the_connections_own_output(server: Sockets) -> None:
    slot = server.open()
    tell(server.context, slot, -1, 1)
    server.registers.MESSAGES_LENGTH = MESSAGES_MAX + 1  # as if there were so many
    tell(server.context, slot, -1, 2)
    assert len(bulk(2)) == server.registers.MESSAGES_LENGTH
    assert server.shard.connections.row(slot)[connection.OUTPUT_LENGTH] == len(bulk(1))


def test_a_message_has_its_own_protocol(server: Sockets) -> None:
    slot = server.open()
    server.registers.PROTOCOL = 2
    assert tell_null(server.context, slot, 3) == 2
    send_all(server.context)
    assert server.arrived(slot) == b"_\r\n"


def test_one_that_is_to_be_closed_is_closed_when_nothing_waits(server: Sockets) -> None:
    slot = server.open()
    row = server.shard.connections.row(slot)
    row[connection.FLAGS] |= connection.CLOSE_AFTER_REPLY
    keep(server.context, slot)
    assert row[connection.FLAGS] & connection.KILLED


def test_one_that_is_held_is_closed_when_messages_exceed_its_limit(server: Sockets) -> None:
    slot = server.open()
    row = server.shard.connections.row(slot)
    row[connection.FLAGS] |= connection.HELD | connection.SUBSCRIBER
    server.registers.PUBSUB_HARD_LIMIT = 1000
    for number in range(10_000, 10_200):
        tell(server.context, slot, -1, number)
        send_all(server.context)
    assert row[connection.FLAGS] & connection.KILLED
    assert server.arrived(slot) == b"", "what it is held for has not come"
