"""The ends of ranges of scores and of members, and the same beside redis-server."""

import math
import struct
from array import array
from pathlib import Path

import numpy as np
import pytest

from kvstore.lifetimes.context import CONTEXT
from kvstore.wire.doubles import bits_of_double
from kvstore.wire.ranges import LEX_FIRST, LEX_LAST, LEX_MEMBER, lex_end, score_end
from mmcore.jit import int64, linked, void
from tests.harness import start_redis
from tests.kvstore.bare import Bare
from tests.server.wire import Wire

SCORES: list[tuple[bytes, tuple[float, bool] | None]] = [
    (b"1", (1.0, False)),
    (b"(1.5", (1.5, True)),
    (b"-2", (-2.0, False)),
    (b"(-2e3", (-2000.0, True)),
    (b"inf", (math.inf, False)),
    (b"+inf", (math.inf, False)),
    (b"-inf", (-math.inf, False)),
    (b"(+inf", (math.inf, True)),
    (b"(-Infinity", (-math.inf, True)),
    (b"", (0.0, False)),
    (b"(", (0.0, True)),
    (b" 1", (1.0, False)),
    (b"(\t1", (1.0, True)),
    (b"1e400", (math.inf, False)),
    (b"(1e400", (math.inf, True)),
    (b"1e-400", (0.0, False)),
    (b"0x10", (16.0, False)),
    (b"1\0x", (1.0, False)),
    (b"\x001", (0.0, False)),
    (b"1 ", None),
    (b"((1", None),
    (b"[1", None),
    (b"+", None),
    (b"-", None),
    (b"nan", None),
    (b"(nan", None),
    (b"abc", None),
]
MEMBERS: list[tuple[bytes, tuple[int, bool, bytes] | None]] = [
    (b"[a", (LEX_MEMBER, False, b"a")),
    (b"(a", (LEX_MEMBER, True, b"a")),
    (b"[", (LEX_MEMBER, False, b"")),
    (b"(", (LEX_MEMBER, True, b"")),
    (b"[a\0b", (LEX_MEMBER, False, b"a\0b")),
    (b"[-", (LEX_MEMBER, False, b"-")),
    (b"(+", (LEX_MEMBER, True, b"+")),
    (b"((", (LEX_MEMBER, True, b"(")),
    (b"-", (LEX_FIRST, False, b"")),
    (b"+", (LEX_LAST, False, b"")),
    (b"-\0x", (LEX_FIRST, False, b"")),
    (b"+\0", (LEX_LAST, False, b"")),
    (b"", None),
    (b"a", None),
    (b"-a", None),
    (b"+a", None),
    (b"--", None),
    (b"\0", None),
]


@linked(void(CONTEXT, int64, int64[::1]))
def put_score_end(context, i, out):  # type: ignore[no-untyped-def]
    """score_end, for Python."""
    valid, value, excluded = score_end(context, i)
    out[0] = valid
    out[1] = bits_of_double(value)
    out[2] = excluded


@linked(void(CONTEXT, int64, int64[::1]))
def put_lex_end(context, i, out):  # type: ignore[no-untyped-def]
    """lex_end, for Python."""
    valid, kind, excluded, offset, length = lex_end(context, i)
    out[0] = valid
    out[1] = kind
    out[2] = excluded
    out[3] = offset
    out[4] = length


@pytest.fixture(scope="module")
def store():  # type: ignore[no-untyped-def]
    with Bare(16 << 20) as bare:
        yield bare


def found(store: Bare, kernel: object, part: bytes) -> list[int]:
    """The output of the kernel for an argument between others."""
    text = np.frombuffer(b"9(" + part + b"9", np.uint8).copy()
    store.context.args[:6] = memoryview(array("q", (0, 2, 2, len(part), 2 + len(part), 1)))
    store.registers.QUERY_ADDRESS, store.registers.QUERY_SIZE = text.ctypes.data, len(text)
    store.registers.ARGS = 0
    out = np.zeros(5, np.int64)
    kernel(store.context, 1, out)  # type: ignore[operator]
    return [int(word) for word in out]


@pytest.mark.parametrize(("part", "expected"), SCORES)
def test_ends_by_score(store: Bare, part: bytes, expected: tuple[float, bool] | None) -> None:
    valid, bits, excluded, *_ = found(store, put_score_end, part)
    assert valid == (expected is not None)
    if expected:
        assert (struct.unpack("<d", struct.pack("<q", bits))[0], bool(excluded)) == expected


@pytest.mark.parametrize(("part", "expected"), MEMBERS)
def test_ends_by_member(store: Bare, part: bytes, expected: tuple[int, bool, bytes] | None) -> None:
    valid, kind, excluded, offset, length = found(store, put_lex_end, part)
    assert valid == (expected is not None)
    if expected:
        assert (kind, bool(excluded), (b"9(" + part)[offset : offset + length]) == expected


def test_ends_are_those_of_redis_server(tmp_path: Path) -> None:
    """The tables above, by what redis-server counts."""
    scores = [-math.inf, -2000.0, -2.0, 0.0, 1.0, 1.5, 2.0, 16.0, math.inf]
    members = [b"", b"(", b"+", b"-", b"a", b"a\0b", b"b"]
    with start_redis(tmp_path) as process, Wire(process.address) as wire:
        for score in scores:
            wire("ZADD", "scores", repr(score), repr(score))
        for member in members:
            wire("ZADD", "members", "0", member)
        for part, end in SCORES:
            reply = wire.raw("ZCOUNT", "scores", part, "+inf")
            if end is None:
                assert reply == b"-ERR min or max is not a float\r\n", part
            else:
                value, excluded = end
                assert reply == b":%d\r\n" % sum(s > value or (s == value and not excluded) for s in scores), part
        for part, by_member in MEMBERS:
            reply = wire.raw("ZLEXCOUNT", "members", part, "+")
            if by_member is None:
                assert reply == b"-ERR min or max not valid string range item\r\n", part
            else:
                kind, excluded, member = by_member
                count = sum(m > member or (m == member and not excluded) for m in members)
                assert reply == b":%d\r\n" % (0 if kind == LEX_LAST else count), part
