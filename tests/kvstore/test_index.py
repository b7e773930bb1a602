"""The index, seen through commands: it grows and shrinks bucket by bucket, during scans and random draws."""

import random
from collections import Counter

import pytest

from kvstore.store import layout
from kvstore.store.check_reader import read_words
from kvstore.store.flush import background_step
from kvstore.store.index import BUCKETS_MIN, LOAD_MAX
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds


def buckets(store: Bare, db: int = 0) -> tuple[int, int]:
    """Buckets of a database's two tables."""
    descriptor = layout.DESCRIPTORS + db * layout.DESCRIPTOR_SIZE
    key_buckets, deadline_buckets = read_words(store.context, descriptor + layout.DB_KEY_BUCKETS, 2)
    return key_buckets, deadline_buckets


def settle(store: Bare) -> None:
    """Finish all waiting work."""
    while background_step(store.context, 64):
        pass


def test_a_table_grows_with_its_keys_and_shrinks_with_them() -> None:
    with Bare() as store:
        free = store.memory.frames_free
        assert buckets(store) == (0, 0)
        for i in range(20_000):
            store("SET", f"key:{i}", i)
        assert buckets(store)[0] == -(-20_000 // LOAD_MAX)
        store.check()
        for i in range(20_000):
            assert store("GET", f"key:{i}") == b"%d" % i
        for i in range(20_000):
            assert store("DEL", f"key:{i}") == 1
        assert buckets(store) == (BUCKETS_MIN, 0)
        store.check()
        assert free - store.memory.frames_free < 20  # metadata and tables that stay


def test_deadlines_have_a_table_that_grows_too() -> None:
    with Bare() as store:
        for i in range(5_000):
            store("SET", f"key:{i}", "v")
        for i in range(5_000):
            store("EXPIRE", f"key:{i}", 100 + i)
        assert buckets(store)[1] == -(-5_000 // LOAD_MAX)
        store.check()
        for i in range(5_000):
            store("PERSIST", f"key:{i}")
        settle(store)
        assert buckets(store) == (-(-5_000 // LOAD_MAX), BUCKETS_MIN)
        store.check()


def test_a_table_waits_for_a_snapshot_before_it_shrinks() -> None:
    with Bare() as store:
        for i in range(5_000):
            store("SET", f"key:{i}", "v")
        root = store.fork()
        for i in range(4_000):
            store("DEL", f"key:{i}")
        assert buckets(store)[0] == -(-5_000 // LOAD_MAX)
        for i in range(4_000, 4_999):
            store("DEL", f"key:{i}")
        assert buckets(store)[0] < 100  # too empty to draw from
        store.release(root)
        settle(store)
        assert buckets(store)[0] == BUCKETS_MIN
        store.check()


def scan(store: Bare, between, *options: str | int) -> Counter[bytes]:  # type: ignore[no-untyped-def]
    """Every key that a scan returns, with `between()` called between its steps."""
    seen: Counter[bytes] = Counter()
    cursor = b"0"
    while True:
        reply = store("SCAN", cursor, *options)
        assert isinstance(reply, list)
        cursor = reply[0]
        seen.update(reply[1])
        if cursor == b"0":
            return seen
        between()


def test_a_scan_returns_every_key_once_while_nothing_changes() -> None:
    with Bare() as store:
        for size in (1, 10, 319, 320, 321, 1000, 3333):
            store("FLUSHALL")
            for i in range(size):
                store("SET", f"key:{i}", "v")
            for count in (1, 10, 100):
                seen = scan(store, lambda: None, "COUNT", count)
                assert sorted(seen) == sorted(b"key:%d" % i for i in range(size))
                assert set(seen.values()) == {1}


@pytest.mark.parametrize("seed", seeds(6))
def test_a_scan_meets_every_key_that_is_there_throughout(seed: int) -> None:
    choose = random.Random(seed)
    with Bare(seed=seed) as store:
        staying = {b"stay:%d" % i for i in range(choose.choice([50, 500, 3000]))}
        passing = [f"pass:{i}" for i in range(choose.choice([500, 6000]))]
        for key in staying:
            store("SET", key, "v")
        if choose.random() < 0.5:
            for key in passing:
                store("SET", key, "v")
        trend = choose.choice(["SET", "DEL", "both"])
        step = choose.choice([20, 200])

        def change() -> None:
            verb = trend if trend != "both" else choose.choice(["SET", "DEL"])
            for key in choose.sample(passing, step):
                store(*((verb, key, "v") if verb == "SET" else (verb, key)))

        seen = scan(store, change, "COUNT", choose.choice([1, 7, 50]))
        assert staying <= set(seen)
        store.check()


def test_a_scan_filters() -> None:
    with Bare() as store:
        for i in range(100):
            store("SET", f"key:{i}", "v")
        assert sorted(scan(store, lambda: None, "MATCH", "key:1?")) == [b"key:%d" % i for i in range(10, 20)]
        assert len(scan(store, lambda: None, "TYPE", "STRING")) == 100
        assert len(scan(store, lambda: None, "TYPE", "hash")) == 0


def test_a_step_of_a_scan_is_bounded_however_empty_the_table() -> None:
    with Bare() as store:
        for i in range(20_000):
            store("SET", f"key:{i}", "v")
        store.registers.FROZEN_ROOTS = 1
        for i in range(18_500):
            store("DEL", f"key:{i}")
        steps = 0
        cursor = b"0"
        while steps == 0 or cursor != b"0":
            reply = store("SCAN", cursor, "COUNT", 1, "MATCH", "nothing")
            assert isinstance(reply, list) and reply[1] == []
            cursor = reply[0]
            steps += 1
        assert steps >= buckets(store)[0] / 10


def test_randomkey_draws_all_keys_alike() -> None:
    with Bare() as store:
        for i in range(400):
            store("SET", f"key:{i}", "v")
        drawn = Counter(store("RANDOMKEY") for _ in range(40_000))
        assert len(drawn) == 400
        chi_square = sum((count - 100) ** 2 / 100 for count in drawn.values())
        assert chi_square < 399 + 6 * (2 * 399) ** 0.5


def test_randomkey_passes_over_what_has_expired() -> None:
    with Bare() as store:
        for i in range(300):
            store("SET", f"key:{i}", "v", "PX", 5)
        store("SET", "stays", "v")
        store.clock_ms += 10
        assert store("RANDOMKEY") == b"stays"
        store("DEL", "stays")
        assert store("RANDOMKEY") is None


def test_a_key_longer_than_a_page_is_a_key() -> None:
    with Bare() as store:
        keys = [bytes([65 + i]) * (4080 + 3 * i) for i in range(20)] + [b"k" * 100_000]
        for key in keys:
            store("SET", key, "v" * 20, "EX", 100)
            store("APPEND", key, b"w" * 5_000)
        store.check()
        for key in keys:
            assert store("GET", key) == b"v" * 20 + b"w" * 5_000
            assert store("PERSIST", key) == 1
            assert store("RENAME", key, key + b"!") == "OK"
        store.check()
        assert sorted(store("KEYS", "*!")) == sorted(key + b"!" for key in keys)  # type: ignore[call-overload]
        for i in range(1000):
            store("SET", i, "v")  # splits move the long ones
        store.check()
        assert store("DEL", *(key + b"!" for key in keys)) == len(keys)
        settle(store)
        store.check()
