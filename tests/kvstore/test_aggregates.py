"""Maps, sets and doubles as replies, in both protocols, with headers put first and last."""

import ctypes
import math
import struct

import pytest

from kvstore.lifetimes.context import CONTEXT
from kvstore.wire.deferred import begin_array, end_array, end_map, end_set
from kvstore.wire.resp import reply_double_bits, reply_empty_array, reply_integer, reply_map, reply_raw, reply_set
from mmcore.jit import constant, int64, linked, void
from tests.kvstore.bare import Bare

BEFORE = constant(b"+before\r\n")


@linked(void(CONTEXT, int64))
def reply_headers(context, count):  # type: ignore[no-untyped-def]
    """A map, a set and an empty array, by their headers."""
    reply_map(context, count)
    reply_set(context, count)
    reply_empty_array(context)


@linked(void(CONTEXT, int64))
def reply_deferred(context, count):  # type: ignore[no-untyped-def]
    """A set in a map in an array, of which each tells its length at its end."""
    reply_raw(context, BEFORE, 0, len(BEFORE))
    outer = begin_array(context)
    middle = begin_array(context)
    reply_integer(context, 7)
    inner = begin_array(context)
    for i in range(count):
        reply_integer(context, i)
    end_set(context, inner, count)
    end_map(context, middle, 1)
    end_array(context, outer, 1)


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def store(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    with Bare(16 << 20, protocol=request.param) as bare:
        yield bare


def replied(store: Bare, kernel: object, *arguments: int) -> bytes:
    store.registers.REPLY_LENGTH = 0
    kernel(store.context, *arguments)  # type: ignore[operator]
    return ctypes.string_at(store.registers.REPLY_ADDRESS, store.registers.REPLY_LENGTH)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 12345])
def test_headers(store: Bare, count: int) -> None:
    expected = f"%{count}\r\n~{count}\r\n" if store.registers.PROTOCOL == 3 else f"*{2 * count}\r\n*{count}\r\n"
    assert replied(store, reply_headers, count) == f"{expected}*0\r\n".encode()


@pytest.mark.parametrize("count", [0, 1, 11, 20_000])
def test_headers_put_before_what_is_there(store: Bare, count: int) -> None:
    """Twenty thousand integers move the reply's buffer between begin and end."""
    items = "".join(f":{i}\r\n" for i in range(count))
    map_, set_ = ("%1", "~") if store.registers.PROTOCOL == 3 else ("*2", "*")
    expected = f"+before\r\n*1\r\n{map_}\r\n:7\r\n{set_}{count}\r\n{items}"
    assert replied(store, reply_deferred, count) == expected.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "1.5"), (-0.0, "-0"), (3.0, "3"), (math.inf, "inf"), (-1.7976931348623157e308, "-1.7976931348623157e+308")],
)
def test_doubles(store: Bare, value: float, text: str) -> None:
    expected = f",{text}\r\n" if store.registers.PROTOCOL == 3 else f"${len(text)}\r\n{text}\r\n"
    assert replied(store, reply_double_bits, *struct.unpack("<q", struct.pack("<d", value))) == expected.encode()
