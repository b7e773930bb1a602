"""A server that does nothing: it answers the load generator's requests without parsing them.

Every SET gets OK and every GET the same value.  The server only counts bytes, because the generator's requests have
fixed sizes.  Measured against it, the generator shows the cost of loopback and of the generator itself.  This is the
floor under every latency in the reports, and it checks that the generator can measure microseconds.
"""

import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.rig.load import KEY_DIGITS, request_parts
from bench.rig.servers import environment
from kvstore.system.libc import EPOLL_EVENT_SIZE, MSG_NOSIGNAL, epoll_wait, ints_at, recv, send
from mmcore.jit import build, copy_bytes, int32, int64, kernel, linked, named_tuple, uint8

INPUT_SIZE = 1 << 18
EVENTS_MAX = 256
DESCRIPTORS_MAX = 1024
SET_LETTER = 51  # a SET begins by "*3", a GET by "*2"


class Echo(NamedTuple):
    """The server's state."""

    plan: np.ndarray  # int64[8]                     below
    input: np.ndarray  # uint8[INPUT_SIZE]
    output: np.ndarray  # uint8[room for replies]
    events: np.ndarray  # int64[2 * EVENTS_MAX]
    rows: np.ndarray  # int64[DESCRIPTORS_MAX, 2]    by descriptor: bytes of the request seen, its size
    replies: np.ndarray  # uint8[2, reply]             to a GET, to a SET


ECHO = named_tuple((int64[::1], uint8[::1], uint8[::1], int64[::1], int64[:, ::1], uint8[:, ::1]), Echo)
EPOLL, GET_SIZE, SET_SIZE, GET_REPLY, SET_REPLY, INPUT, OUTPUT, EVENTS = range(8)
SEEN, SIZE = 0, 1


@kernel
def _flush(echo, fd, count):  # type: ignore[no-untyped-def]
    sent = 0
    while sent < count:
        n = send(int32(fd), echo.plan[OUTPUT] + sent, count - sent, int32(MSG_NOSIGNAL))
        if n <= 0:
            return -1
        sent += n
    return 0


@linked(int64(ECHO, int64))
def answer(echo, fd):  # type: ignore[no-untyped-def]
    """Receive once from a connection and answer the complete requests; -1 if it is closed."""
    plan, row = echo.plan, echo.rows[fd]
    count = recv(int32(fd), plan[INPUT], INPUT_SIZE, int32(0))
    if count <= 0:
        return -1
    at, filled = 0, 0
    while at < count:
        if row[SEEN] == 1:
            row[SIZE] = plan[SET_SIZE] if echo.input[at] == SET_LETTER else plan[GET_SIZE]
        step = 1 if row[SEEN] < 2 else min(row[SIZE] - row[SEEN], count - at)
        at += step
        row[SEEN] += step
        if row[SEEN] >= 2 and row[SEEN] == row[SIZE]:
            kind = 1 if row[SIZE] == plan[SET_SIZE] else 0
            size = plan[SET_REPLY] if kind == 1 else plan[GET_REPLY]
            if filled + size > echo.output.size:
                if _flush(echo, fd, filled) != 0:
                    return -1
                filled = 0
            copy_bytes(echo.output, filled, echo.replies[kind], 0, size)
            filled += size
            row[SEEN] = 0
    return _flush(echo, fd, filled)


@linked(int64(ECHO, int64))
def serve(echo, listener):  # type: ignore[no-untyped-def]
    """Answer until the listener has a connection (returns -1) or a descriptor is closed (returns it)."""
    plan = echo.plan
    while True:
        ready = epoll_wait(int32(plan[EPOLL]), plan[EVENTS], int32(EVENTS_MAX), int32(1000))
        for i in range(ready):
            fd = int64(ints_at(plan[EVENTS] + i * EPOLL_EVENT_SIZE, 2)[1])
            if fd == listener:
                return -1
            if answer(echo, fd) != 0:
                return fd


def run(value_size: int) -> None:
    """The server's process: it prints its port and serves until its stdin ends."""
    before, between = request_parts(value_size)
    value_reply = b"$%d\r\n" % value_size + b"v" * value_size + b"\r\n"
    replies = np.zeros((2, len(value_reply) + 5), np.uint8)
    replies[0, : len(value_reply)] = np.frombuffer(value_reply, np.uint8)
    replies[1, :5] = np.frombuffer(b"+OK\r\n", np.uint8)
    echo = Echo(
        np.zeros(8, np.int64),
        np.zeros(INPUT_SIZE, np.uint8),
        np.zeros(1 << 20, np.uint8),
        np.zeros(2 * EVENTS_MAX, np.int64),
        np.zeros((DESCRIPTORS_MAX, 2), np.int64),
        replies,
    )
    build()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    epoll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    echo.plan[:] = (
        epoll.fileno(),
        len(before) + KEY_DIGITS + 2,
        len(before) + KEY_DIGITS + len(between) + value_size + 2,
        len(value_reply),
        5,
        *(a.ctypes.data for a in (echo.input, echo.output, echo.events)),
    )
    print(listener.getsockname()[1], flush=True)
    connections: dict[int, socket.socket] = {}
    while True:
        closed = serve(echo, listener.fileno())
        if closed == sys.stdin.fileno():
            return
        if closed >= 0:
            connections.pop(closed).close()
            continue
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections[connection.fileno()] = connection
        echo.rows[connection.fileno()] = 0
        epoll.register(connection.fileno(), select.EPOLLIN)


@dataclass(frozen=True)
class EchoServer:
    """The port and process of a running server."""

    port: int
    pid: int


@contextlib.contextmanager
def echo_server(value_size: int) -> Iterator[EchoServer]:
    """Run such a server during the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.rig.echo", str(value_size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise RuntimeError("the echo server did not start")
        yield EchoServer(int(port), process.pid)
    finally:
        process.kill()
        process.communicate()


def main(arguments: Sequence[str]) -> None:
    """`python -m bench.rig.echo VALUE_SIZE`."""
    run(int(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
