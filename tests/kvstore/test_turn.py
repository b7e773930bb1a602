"""A turn executes all ready commands, and then sends the replies in the order of execution."""

import socket
from collections.abc import Iterator

import pytest

from kvstore.commands.compiled import CommandTable
from kvstore.connections.table import connection as connection_of
from kvstore.connections.table import open_connection
from kvstore.lifetimes import connection
from kvstore.lifetimes.context import CONTEXT
from kvstore.net.closing import close_connection
from kvstore.net.output import send_all, send_waiting
from kvstore.net.receiving import receive
from mmcore.jit import int64, linked
from tests.kvstore.bare import Bare
from tests.server.wire import encode


@linked(int64(CONTEXT, int64))
def receive_of(context, slot):  # type: ignore[no-untyped-def]
    """receive, for Python."""
    return receive(context, slot, connection_of(context, slot))


class Sockets(Bare):
    """A store with connections to sockets; a test decides when their input is received."""

    def __init__(self, connections: int = 8) -> None:
        super().__init__(connections=connections)
        self.table = CommandTable()
        self.table.install(self.shard)
        self.registers.TURN_SHARE = 1 << 60
        self.registers.QUERY_BUFFER_LIMIT = 1 << 40
        self.clients: list[socket.socket] = []
        self.opened_so_far = 0

    def open(self) -> int:
        """The slot of a new connection, whose other end is the last of `clients`."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.clients.append(theirs)
        self.opened_so_far += 1
        slot = int(open_connection(self.context, ours.detach(), self.opened_so_far, connection.AUTHENTICATED, 0))
        assert slot >= 0, "no slot is free"
        return slot

    def receive(self, slot: int, *commands: tuple[str | bytes | int, ...]) -> None:
        """Receive and execute commands."""
        self.clients[slot].sendall(b"".join(encode(*command) for command in commands))
        assert receive_of(self.context, slot) == 0

    def arrived(self, slot: int) -> bytes:
        """The bytes that a client has received."""
        try:
            return self.clients[slot].recv(1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def server() -> Iterator[Sockets]:
    with Sockets() as made:
        yield made
        for client in made.clients:
            client.close()


def test_nothing_is_sent_before_all_is_executed(server: Sockets) -> None:
    first, second = server.open(), server.open()
    server.receive(first, ("SET", "key", "one"), ("GET", "key"))
    server.receive(second, ("SET", "key", "two"), ("GET", "key"))
    assert server.arrived(first) == server.arrived(second) == b""
    assert server.registers.SENDS == 2
    send_all(server.context)
    assert server.arrived(first) == b"+OK\r\n$3\r\none\r\n"
    assert server.arrived(second) == b"+OK\r\n$3\r\ntwo\r\n"
    assert server.registers.SENDS == server.registers.REPLY_LENGTH == server.registers.REPLY_BASE == 0


def test_who_speaks_twice_in_a_turn_is_answered_in_order(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    server.receive(slot, ("ECHO", "a"))
    server.receive(other, ("ECHO", "b"))
    server.receive(slot, ("ECHO", "c"))
    send_all(server.context)
    assert (server.arrived(slot), server.arrived(other)) == (b"$1\r\na\r\n$1\r\nc\r\n", b"$1\r\nb\r\n")


def test_what_waits_is_sent_beside_a_reply_that_is_being_made(server: Sockets) -> None:
    slot, other = server.open(), server.open()
    server.receive(slot, ("ECHO", "a"))
    send_waiting(server.context)  # as before Python is entered
    assert server.arrived(slot) == b"$1\r\na\r\n"
    server.receive(other, ("ECHO", "b"))
    send_all(server.context)
    assert (server.arrived(slot), server.arrived(other)) == (b"", b"$1\r\nb\r\n")


def test_who_has_been_closed_meanwhile_is_sent_nothing_nor_is_who_came_in_its_place(server: Sockets) -> None:
    slot = server.open()
    server.receive(slot, ("ECHO", "a"))
    close_connection(server.context, slot)
    server.clients.pop().close()
    assert server.open() == slot
    send_all(server.context)
    assert server.arrived(slot) == b""


def test_long_replies_do_not_wait_until_there_are_too_many(server: Sockets) -> None:
    slot = server.open()
    server("SET", "long", "x" * 200_000)
    server.registers.REPLY_LENGTH = server.registers.REPLY_BASE = 0
    for _ in range(2):
        server.receive(slot, ("GET", "long"))
    assert server.registers.SENDS == 0 and server.registers.REPLY_LENGTH == 0
    assert server.arrived(slot).startswith(b"$200000\r\nxxx")
