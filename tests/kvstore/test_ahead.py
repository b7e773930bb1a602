"""Looking ahead: for any query buffer it changes nothing but caches and places, and returns where to look next."""

import ctypes
import random

import numpy as np
import pytest

from kvstore.lifetimes.sizes import PLACES_WORDS
from kvstore.net.ahead import AHEAD_MAX, FEW_BUCKETS, look_ahead
from kvstore.net.output import send_all
from kvstore.store.places import PACKED, RANK, REST, ROOT, STORE
from tests.kvstore.bare import Bare
from tests.kvstore.test_turn import Sockets

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
    r.AHEAD = r.PLACES_NEXT = r.PLACES_END = 0
    registers, data = words(store), bytes(store.memory.state.bytes[: 4 << 20])
    look_ahead(store.context)
    found = r.AHEAD
    r.AHEAD = r.PLACES_NEXT = r.PLACES_END = 0
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


@pytest.mark.parametrize("type_", ["HASH", "SET", "ZSET"])
def test_with_few_keys_it_looks_at_great_collections(type_: str) -> None:
    """The first command decides; the commands behind it may be for anything."""
    with Bare() as store:
        for key, elements in (("great", 6 * FEW_BUCKETS), ("small", 1000)):
            for first in range(0, elements, 100):
                fill(store, type_, key, range(first, first + 100))
        store("SET", "text", "v")
        great, small = (command(b"HGET", key, b"m7") for key in (b"great", b"small"))
        get, hlen = command(b"GET", b"text"), command(b"HLEN", b"great")
        assert look(store, great * 100) == AHEAD_MAX * len(great)
        assert look(store, great + small + get) == len(great + small + get)
        for other in (small, command(b"GET", b"text", b"x"), command(b"HGET", b"none", b"m7"), get, hlen):
            assert look(store, other + great * 100) == len(other) + 100 * len(great), other
        for name in (b"ZRANGE", b"zrevrangebyscore", b"ZCOUNT", b"ZLEXCOUNT", b"ZREMRANGEBYRANK"):
            ranged = command(name, b"great", b"0", b"9")
            looked_at = 100 if type_ == "ZSET" else AHEAD_MAX  # all at once: without a look
            assert look(store, ranged * 100) == looked_at * len(ranged), name
        assert look(store, great[:-1]) == len(great) - 1
        long = command(b"HGET", b"great", b"m" * 513)  # nothing is known of so long an element
        assert look(store, long * 20) == len(long) * 20
        store.check()


def fill(store: Bare, type_: str, key: str, numbers: range) -> None:
    if type_ == "HASH":
        store("HSET", key, *(word for i in numbers for word in (f"m{i}", "v" * (i % 50))))
    elif type_ == "SET":
        store("SADD", key, *(f"m{i}" for i in numbers))
    else:
        store("ZADD", key, *(word for i in numbers for word in (i % 99, f"m{i}")))


@pytest.mark.parametrize("keys", [0, 1, MANY])
def test_whatever_is_in_the_buffer_nothing_changes(keys: int) -> None:
    generator = random.Random(keys)
    with Bare() as store:
        for i in range(keys):
            store("SET", f"key:{i}", "v" * generator.randrange(6000 if i % 50 == 0 else 60))
        store("SET", "k" * 5000, "long")
        store("RPUSH", "short", "a", "b")
        for type_ in ("HASH", "SET", "ZSET") if keys else ():
            for elements in (3, 6 * FEW_BUCKETS):
                for first in range(0, elements, 100):
                    fill(store, type_, f"{type_}:{elements}", range(first, min(first + 100, elements)))
        store("SADD", "ints", *range(100))
        store("XADD", "stream", "*", "f", "v")
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
            command(b"HGET", b"HASH:3072", b"m1"),
            command(b"HSET", b"HASH:3072", b"m2", b"v", b"none", b"v"),
            command(b"HGET", b"HASH:3", b"m2"),
            command(b"SADD", b"SET:3072", b"m3071"),
            command(b"SREM", b"SET:3", b"m" * 511),
            command(b"ZADD", b"ZSET:3072", b"1", b"m7"),
            command(b"ZSCORE", b"ZSET:3072", b""),
            command(b"ZSCORE", b"ZSET:3", b"m1"),
            command(b"ZADD", b"SET:3072", b"1", b"m" * 600),
            command(b"SADD", b"ints", b"7"),
            command(b"XLEN", b"stream", b"more"),
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


# --- the places that LINDEX is told -----------------------------------------------------------------------------------

LONG = 3000  # elements, whose list is a record with a tree


def long_list(store: Bare) -> None:
    for first in range(0, LONG, 100):
        store("RPUSH", "list", *(f"v{i}" for i in range(first, first + 100)))


def look_for(store: Bare, ranks: list[int]) -> int:
    """Look ahead at LINDEX of these ranks; returns how many places were noted."""
    kept = np.frombuffer(b"".join(command(b"LINDEX", b"list", b"%d" % rank) for rank in ranks), np.uint8).copy()
    r = store.registers
    r.QUERY_ADDRESS, r.QUERY_SIZE, r.INPUT_POSITION = kept.ctypes.data, kept.size, 0
    look_ahead(store.context)
    return r.PLACES_END


def test_lindex_takes_the_places_that_were_noted() -> None:
    with Bare() as store:
        long_list(store)
        ranks = [7 * i + 1200 for i in range(10)]
        assert look_for(store, ranks) == 10
        for i, rank in enumerate(ranks):
            assert store("LINDEX", "list", rank) == b"v%d" % rank
            assert i + 1 == store.registers.PLACES_NEXT
        assert store("LINDEX", "list", ranks[0]) == b"v%d" % ranks[0]  # none is left: it searches


def test_lindex_believes_the_place_and_does_not_search() -> None:
    with Bare() as store:
        long_list(store)
        look_for(store, [1500, 1600])
        first, second = (words_of_place(store, i) for i in range(2))
        first[PACKED], first[REST] = second[PACKED], second[REST]
        assert store("LINDEX", "list", 1500) == b"v1600"


def test_a_pipeline_that_is_entered_knows_no_places() -> None:
    """Between two turns defragmentation may have moved what they name."""
    with Sockets() as server:
        long_list(server)
        server.registers.REPLY_LENGTH = server.registers.REPLY_BASE = 0
        look_for(server, [1500, 1600])
        first, second = (words_of_place(server, i) for i in range(2))
        first[PACKED], first[REST] = second[PACKED], second[REST]
        slot = server.open()
        server.receive(slot, ("LINDEX", "list", 1500))
        send_all(server.context)
        assert server.arrived(slot) == b"$5\r\nv1500\r\n"
        server.clients[slot].close()


def test_a_place_is_for_its_store_list_and_rank_alone() -> None:
    for word in (STORE, ROOT, RANK):
        with Bare() as store:
            long_list(store)
            look_for(store, [1500, 1600])
            words_of_place(store, 0)[word] += 1
            assert store("LINDEX", "list", 1500) == b"v1500"
            assert store.registers.PLACES_NEXT == 0
            assert store("LINDEX", "list", 1600) == b"v1600"
            assert store.registers.PLACES_NEXT == 2  # it was passed over


def test_no_place_is_noted_beyond_a_list_or_at_its_ends() -> None:
    with Bare() as store:
        long_list(store)
        assert look_for(store, [0, LONG - 1, LONG, 10**9]) == 0
        store("RPUSH", "list", "x" * 60)
        assert look_for(store, [1500] * (AHEAD_MAX + 9)) == AHEAD_MAX


def words_of_place(store: Bare, number: int) -> np.ndarray:
    """The words of a noted place."""
    address = store.registers.PLACES_ADDRESS + 8 * PLACES_WORDS * number
    return np.frombuffer((ctypes.c_int64 * PLACES_WORDS).from_address(address), np.int64)
