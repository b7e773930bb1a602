"""Looking ahead: for any query buffer it changes nothing but caches, and it returns the right place to look next."""

import random

import numpy as np
import pytest

from kvstore.net.ahead import AHEAD_MAX, FEW_BUCKETS, look_ahead
from tests.kvstore.bare import Bare

MANY = 6 * FEW_BUCKETS + 1000  # keys of a database that does not fit the cache


def command(*words: bytes) -> bytes:
    """A command in the form that clients send."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def words(store: Bare) -> list[list[int]]:
    """All registers."""
    context = store.context
    return [one.tolist() for one in (context.pool, context.store, context.shard, context.call)]


def look(store: Bare, text: bytes, position: int = 0) -> int:
    """Look ahead in `text` from `position`; returns AHEAD, and checks that nothing but the TLB was changed."""
    kept = np.frombuffer(text, np.uint8).copy()
    r = store.registers
    r.QUERY_ADDRESS, r.QUERY_SIZE, r.INPUT_POSITION = kept.ctypes.data, len(text), position
    r.AHEAD = 0
    registers, data = words(store), bytes(store.memory.state.bytes[: 4 << 20])
    look_ahead(store.context)
    found = r.AHEAD
    r.AHEAD = 0
    assert words(store) == registers
    assert bytes(store.memory.state.bytes[: 4 << 20]) == data
    assert kept.tobytes() == text
    return found


def test_it_looks_at_so_many_commands_and_goes_on_behind_them() -> None:
    with Bare() as store:
        for i in range(MANY):
            store("SET", f"key:{i}", "v" * (i % 300))
        one = command(b"GET", b"key:500")
        text = one * 100
        assert look(store, text) == AHEAD_MAX * len(one)
        assert look(store, text, 3 * len(one)) == (3 + AHEAD_MAX) * len(one)
        assert look(store, text, 90 * len(one)) == len(text)


def test_it_stops_at_what_is_not_whole_and_does_not_come_back_to_it() -> None:
    with Bare() as store:
        store("RPUSH", "a", "b")
        whole = command(b"LINDEX", b"a", b"0")
        for cut in range(1, len(whole)):
            text = whole + whole[:cut]
            assert look(store, text) == len(whole)
            assert look(store, text, len(whole)) == len(text)


def test_with_few_keys_it_looks_at_lindex_alone() -> None:
    with Bare() as store:
        store("RPUSH", "list", *("v" * 20 for _ in range(1000)))
        one, other = command(b"lindex", b"list", b"7"), command(b"LLEN", b"list")
        assert look(store, one * 100) == AHEAD_MAX * len(one)
        assert look(store, other * 100) == len(other) * 100
        assert look(store, one[:-1]) == len(one) - 1


@pytest.mark.parametrize("keys", [0, 1, MANY])
def test_whatever_is_in_the_buffer_nothing_changes(keys: int) -> None:
    generator = random.Random(keys)
    with Bare() as store:
        for i in range(keys):
            store("SET", f"key:{i}", "v" * generator.randrange(6000 if i % 50 == 0 else 60))
        store("SET", "k" * 5000, "long")
        store("RPUSH", "short", "a", "b")
        for _ in range(60 if keys else 0):
            store("RPUSH", "list", *("v" * generator.randrange(40) for _ in range(100)))
        pieces = [
            command(b"GET", b"key:1"),
            command(b"PING"),
            command(b"SET", b"", b"v" * 1000),
            *(command(b"LINDEX", b"list", b"%d" % rank) for rank in (-1, 0, 10, 3000, 5999, 6000, 10**8)),
            command(b"lindex", b"short", b"1"),
            command(b"LINDEX", b"key:1", b"1"),
            command(b"LINDEX", b"list", b"3000", b"more"),
            command(b"LINDEX", b"list", b"3x"),
            command(b"GET", b"k" * 5000),
            command(*[b"MGET"] + [b"key:%d" % i for i in range(40)]),
            b"PING\r\n",
            b"\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\n",
            b"*2\r\n$3\r\nGET\r\n$999999999\r\nx",
            b"*2\r\n$3\r\nGET\r\n$99999999999999999999\r\n",
            b"*999999999\r\n",
            b"*2\r\n$3GET",
            b"\x00\xff*$",
        ]
        for _ in range(700):
            text = b"".join(
                generator.choices(pieces, weights=[6] + [1] * (len(pieces) - 1), k=generator.randrange(1, 30))
            )
            text = text[: generator.randrange(1, len(text) + 1)]
            position = generator.randrange(len(text))
            assert position <= look(store, text, position) <= len(text)
        store.check()
