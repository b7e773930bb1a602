"""Fills a server quickly with numbered keys, by pipelined SETs of a fixed shape.

    *3 CRLF $3 CRLF SET CRLF $16 CRLF key:000000000042 CRLF $1024 CRLF <value> CRLF

Keys are named as by redis-benchmark.  Values are windows into a pool of random bytes, so they do not compress.  The
number of a key determines the value first stored at it.
"""

import socket
from functools import cache

import numpy as np

from bench.rig.client import Client

KEY_DIGITS = 12
KEY_SIZE = 4 + KEY_DIGITS
POOL_SIZE = 1 << 22
BATCH_BYTES = 1 << 20
OK = b"+OK\r\n"


@cache
def pool() -> np.ndarray:
    """uint8[POOL_SIZE], always the same."""
    return np.random.default_rng(2021).integers(0, 256, POOL_SIZE, dtype=np.uint8)


def key_name(index: int) -> bytes:
    """The name of a key."""
    return b"key:%012d" % index


def value_of(index: int, size: int) -> bytes:
    """The value that `fill` stores at a key."""
    start = int(_starts(np.array([index]), size)[0])
    return pool()[start : start + size].tobytes()


def _starts(indices: np.ndarray, size: int) -> np.ndarray:
    return (indices * 2654435761) % (POOL_SIZE - size)


def request_parts(value_size: int) -> tuple[bytes, bytes]:
    """The bytes of a SET before the digits of its key, and those between the digits and the value."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:" % KEY_SIZE, b"\r\n$%d\r\n" % value_size


def requests(first: int, count: int, value_size: int) -> np.ndarray:
    """uint8[count, request size]: the SETs of `count` keys from the one numbered `first`."""
    before, between = request_parts(value_size)
    template = before + b"0" * KEY_DIGITS + between + bytes(value_size) + b"\r\n"
    rows = np.tile(np.frombuffer(template, np.uint8), (count, 1))
    numbers = np.arange(first, first + count)
    rest = numbers.copy()
    for digit in range(KEY_DIGITS):
        rows[:, len(before) + KEY_DIGITS - 1 - digit] = 48 + rest % 10
        rest //= 10
    windows = np.lib.stride_tricks.sliding_window_view(pool(), value_size) if value_size else None
    if windows is not None:
        start = len(before) + KEY_DIGITS + len(between)
        rows[:, start : start + value_size] = windows[_starts(numbers, value_size)]
    return rows


def fill(port: int, keys: int, value_size: int) -> None:
    """Store the keys numbered 0 to keys - 1; two batches are in flight at any time."""
    batch = max(1, BATCH_BYTES // (value_size + 60))
    with Client(port) as client:
        waiting = 0
        for first in range(0, keys, batch):
            count = min(batch, keys - first)
            client.socket.sendall(requests(first, count, value_size).data)
            _expect(client.socket, waiting)
            waiting = count
        _expect(client.socket, waiting)
        found = client.command("DBSIZE")
    if found < keys:
        raise RuntimeError(f"{keys} keys were stored, the server has {found}")


def _expect(connection: socket.socket, count: int) -> None:
    # Receive the replies of `count` SETs.
    wanted = len(OK) * count
    received = bytearray()
    while len(received) < wanted:
        data = connection.recv(wanted - len(received))
        if not data:
            raise ConnectionError("the server closed the connection")
        received += data
        if received[:1] != b"+":
            raise RuntimeError(f"the server refused a SET: {bytes(received[:200])!r}")
    if received != OK * count:
        raise RuntimeError(f"not {count} times OK: {bytes(received[:200])!r}")
