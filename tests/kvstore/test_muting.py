"""A connection that waits for a turn does not wake the loop, whatever its client sends meanwhile; no input is lost."""

import os
import select
from collections.abc import Iterator

import pytest

from kvstore.lifetimes import connection
from kvstore.net.loop import may_wait_ms, serve_turns
from kvstore.net.output import send_all
from mmcore.jit import address_of, int64, zeros
from mmcore.populate import CONTROL_SIZE, POLLED, RUN_READY, WATERMARK
from tests.kvstore.test_turn import Sockets, receive_of
from tests.server.wire import encode

VALUE = os.urandom(3 << 20)


class Polled(Sockets):
    """Connections that are watched as by the loop, and a populator that provides nothing until a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.epoll = select.epoll()
        self.registers.EPOLL_FD, self.registers.TIMER_MS = self.epoll.fileno(), 1000
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.control = zeros(int64, CONTROL_SIZE)
        self.control[POLLED], self.control[RUN_READY] = self.eventfd, -1

    def open(self) -> int:
        slot = super().open()
        self.epoll.register(int(self.shard.connections[slot, connection.FD]), select.EPOLLIN)
        return slot

    def has(self, slot: int, flag: int) -> bool:
        return bool(self.shard.connections[slot, connection.FLAGS] & flag)

    def has_event(self) -> bool:
        return bool(self.epoll.poll(0))

    def receive_events(self, slot: int) -> int:
        """Receive while there are events, as turn after turn does; returns how often."""
        count = 0
        while self.has_event():
            assert receive_of(self.context, slot) == 0
            count += 1
            assert count < 1000, "the loop spins"
        return count

    def give_turns(self) -> None:
        """A turn for each connection that waits for one."""
        self.registers.TURNS_LEFT = -1
        assert serve_turns(self.context) == 0
        send_all(self.context)

    def offer(self, slot: int, data: memoryview) -> memoryview:
        """Send as much as the socket takes; returns the rest."""
        try:
            return data[self.clients[slot].send(data) :] if data else data
        except BlockingIOError:
            return data


@pytest.fixture
def server() -> Iterator[Polled]:
    with Polled() as made:
        yield made
        made.registers.POPULATOR_ADDRESS = 0
        for client in made.clients:
            client.close()
        made.epoll.close()
        os.close(made.eventfd)


def begin(server: Polled) -> tuple[int, memoryview]:
    """A connection whose long value waits for memory, and what it has not sent yet of that and of a STRLEN."""
    slot = server.open()
    left = memoryview(encode("SET", "k", VALUE) + encode("STRLEN", "k"))
    while not server.shard.connections[slot, connection.BODY_ROOT_PLUS_1]:
        left = server.offer(slot, left)
        server.receive_events(slot)
    server.registers.POPULATOR_ADDRESS = address_of(server.control)
    while not server.has(slot, connection.WAITS_FOR_TURN):
        left = server.offer(slot, left)
        server.receive_events(slot)
    return slot, left


def test_a_value_that_waits_for_memory_does_not_wake_the_loop(server: Polled) -> None:
    slot, left = begin(server)
    left = server.offer(slot, left)
    server.receive_events(slot)
    assert server.has(slot, connection.MUTED) and len(left) > 0 and not server.has_event()
    for _ in range(3):
        server.give_turns()
        assert server.registers.TURNS_RESTING == server.registers.TURNS_PENDING == 1
        assert server.receive_events(slot) == 1, "it is asked in its turn, and muted again"
    server.control[WATERMARK] = server.memory.frames_total
    server.give_turns()
    assert not server.has(slot, connection.MUTED | connection.WAITS_FOR_TURN)
    replies = b""
    for _ in range(1000):
        left = server.offer(slot, left)
        server.receive_events(slot)
        server.give_turns()
        replies += server.arrived(slot)
    assert replies == b"+OK\r\n:%d\r\n" % len(VALUE) and not left
    assert server("GET", "k") == VALUE


def test_a_client_that_goes_meanwhile_does_not_wake_the_loop_again_and_again(server: Polled) -> None:
    slot, left = begin(server)
    server.offer(slot, left)
    server.receive_events(slot)
    assert server.has(slot, connection.MUTED)
    server.clients[slot].close()
    assert server.receive_events(slot) <= 1
    server.control[WATERMARK] = server.memory.frames_total
    server.give_turns()
    assert server.receive_events(slot) > 0, "it is told of again"
    server.give_turns()
    assert not server.has(slot, connection.IN_USE)


def test_one_that_rests_is_counted_once_in_a_turn(server: Polled) -> None:
    """Otherwise the loop would sleep although another connection wants a turn."""
    other = server.open()
    begin(server)
    server.registers.TURN_SHARE = -1
    server.clients[other].sendall(encode("INCR", "n") * 50)
    assert receive_of(server.context, other) == 0
    server.give_turns()
    assert (server.registers.TURNS_PENDING, server.registers.TURNS_RESTING) == (2, 1)
    assert may_wait_ms(server.context, 50) == 0


def test_input_behind_a_long_pipeline_does_not_wake_the_loop(server: Polled) -> None:
    """With a share of nothing each command is a turn of its own."""
    slot = server.open()
    server.registers.TURN_SHARE = -1
    server.clients[slot].sendall(encode("INCR", "k") * 50)
    server.receive_events(slot)
    server.clients[slot].sendall(encode("INCR", "k") * 50)
    server.receive_events(slot)
    assert server.has(slot, connection.MUTED) and not server.has_event()
    for _ in range(200):
        server.give_turns()
        server.receive_events(slot)
    assert server.arrived(slot) == b"".join(b":%d\r\n" % i for i in range(1, 101))
    assert not server.has(slot, connection.MUTED | connection.WAITS_FOR_TURN)


def test_a_muted_connection_may_wait_to_send_too(server: Polled) -> None:
    """Its wishes are kept apart: room to send wakes the loop, and input does not."""
    slot = server.open()
    server("SET", "long", "x" * 500_000)
    server.registers.REPLY_LENGTH = server.registers.REPLY_BASE = 0
    server.registers.TURN_SHARE = -1
    server.clients[slot].sendall(encode("GET", "long") * 30)
    server.receive_events(slot)
    server.clients[slot].sendall(encode("ECHO", "end"))
    server.receive_events(slot)
    assert server.has(slot, connection.MUTED)
    send_all(server.context)
    server.receive_events(slot)
    assert server.has(slot, connection.MUTED) and server.has(slot, connection.WANTS_WRITE) and not server.has_event()
