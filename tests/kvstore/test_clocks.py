"""Clocks of use: what they tell of each key, what a full line forgets, growth, and what must not disturb them."""

import ctypes
import random

import numpy as np
import pytest

from kvstore.lifetimes.sizes import CLOCK_LINE, CLOCK_LINES_MIN
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store import clockgrowth, clocks
from kvstore.store.check import check_keyspace
from kvstore.store.clockgrowth import clocks_fit
from kvstore.store.clockline import CELLS, CLOCK_MASK
from kvstore.store.clocks import LFU_INIT, POLICY_ALLKEYS, POLICY_LFU, POLICY_LRU, clocks_empty
from kvstore.store.databases import memory_used
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

LFU = POLICY_LFU | POLICY_ALLKEYS
MANY = 3000  # keys, more than the first lines have cells


def idle(bare: Bare, key: object) -> int:
    found = bare("OBJECT", "IDLETIME", str(key))
    assert isinstance(found, int)
    return found


def use_lfu(bare: Bare, log_factor: int = 10, decay: int = 1) -> None:
    bare.registers.MAXMEMORY_POLICY, bare.registers.LFU_LOG_FACTOR = LFU, log_factor
    bare.registers.LFU_DECAY_TIME = decay
    clocks_empty(bare.context)


def counter(bare: Bare, key: str) -> int:
    return int(bare("OBJECT", "FREQ", key))  # type: ignore[call-overload]


def fit(bare: Bare) -> int:
    """The number of lines after the timer has fitted them to the keys."""
    before = -1
    while before != bare.registers.CLOCK_LINES:
        before = bare.registers.CLOCK_LINES
        clocks_fit(bare.context)
    return before


@pytest.mark.parametrize("seed", seeds(4, 1))
def test_the_clocks_of_few_keys_are_those_of_a_model(seed: int) -> None:
    """Beside a snapshot too.  Two keys may share a cell: then each counts as used when the later of them was."""
    choose, used = random.Random(seed), dict[str, int]()
    with Bare(seed=seed) as bare:
        root = None
        for _ in range(600):
            key, now = str(choose.randrange(60)), bare.clock_ms // 1000
            command = choose.choice(["GET", "SET", "APPEND", "EXISTS", "TTL", "DEL", "PEXPIRE", "TOUCH"])
            more = {"SET": ["v" * choose.randrange(90)], "APPEND": ["w"], "PEXPIRE": ["1000000"]}.get(command, [])
            bare(command, key, *more)
            if command == "DEL":
                used.pop(key, None)
            elif command in ("SET", "APPEND") or (key in used and command in ("GET", "TOUCH", "PEXPIRE")):
                used[key] = now
            if choose.random() < 0.02:
                root = bare.fork() if root is None else bare.release(root)
            bare.clock_ms += choose.randrange(3) * 1000
        wrong = [key for key in used if idle(bare, key) != bare.clock_ms // 1000 - used[key]]
        assert all(idle(bare, key) < bare.clock_ms // 1000 - used[key] for key in wrong) and len(wrong) <= 4, seed


@pytest.mark.parametrize("seed", seeds(2, 1))
def test_a_full_line_forgets_the_stalest(seed: int) -> None:
    """Each key used lately has its own clock, and no key seems to have been used later than it was, but by its tag."""
    choose = random.Random(seed)
    with Bare(seed=seed) as bare:
        keys = [str(i) for i in range(MANY)]
        for key in keys:
            bare("SET", key, "v")
        bare.clock_ms += 1000_000
        recent = choose.sample(keys, 200)
        for key in recent:
            bare("GET", key)
        bare.clock_ms += 50_000
        assert all(idle(bare, key) == 50 for key in recent), seed
        others = [idle(bare, key) for key in set(keys) - set(recent)]
        assert set(others) == {50, 1050}
        assert others.count(50) < 0.1 * len(others), seed


def test_lines_follow_the_number_of_keys_and_keep_what_is_recent() -> None:
    with Bare(size=1 << 26) as bare:
        assert fit(bare) == CLOCK_LINES_MIN
        for i in range(20_000):
            bare("SET", f"k:{i}", "v")
        bare.clock_ms += 100_000
        for i in range(300):
            bare("GET", f"k:{i}")
        bare.clock_ms += 7_000
        used = memory_used(bare.context)
        lines = fit(bare)
        assert lines == 20_000 * 15 // 256
        assert memory_used(bare.context) - used == (lines - CLOCK_LINES_MIN) * CLOCK_LINE
        assert [idle(bare, f"k:{i}") for i in range(300)] == [7] * 300
        for i in range(800, 20_000):
            bare("DEL", f"k:{i}")
        assert fit(bare) == CLOCK_LINES_MIN
        assert memory_used(bare.context) < used
        assert [idle(bare, f"k:{i}") for i in range(300)] == [7] * 300


def cells_above(bare: Bare, least: int) -> int:
    """Cells whose counter is at least so high."""
    lines = np.frombuffer(
        ctypes.string_at(bare.registers.CLOCKS_ADDRESS, CLOCK_LINE * bare.registers.CLOCK_LINES), np.uint8
    )
    lines = lines.reshape(-1, CLOCK_LINE)
    return int(((lines[:, :CELLS] != 0) & (lines[:, CELLS::3] >= least)).sum())


@pytest.mark.parametrize("databases", [1, 16])  # many: their indices are smaller than the array
def test_a_line_that_is_split_shares_its_cells_out(databases: int) -> None:
    """Nothing displaces the cell of a key that is used very often, so a second one of the same key would stay."""
    with Bare(size=1 << 27) as bare:
        use_lfu(bare, log_factor=0)
        for i in range(40):
            bare("SET", f"hot:{i}", "v")
            for _ in range(30):
                bare("GET", f"hot:{i}")
        for db in range(databases):
            bare("SELECT", db)
            for i in range(20_000 // databases):
                bare("SET", f"k:{i}", "v")
                if i % 100 == 0:
                    clocks_fit(bare.context)
        assert fit(bare) == 2048
        assert 25 <= cells_above(bare, LFU_INIT + 25) <= 40  # a new key may share a cell, and begins anew
        bare("SELECT", 0)
        assert sum(counter(bare, f"hot:{i}") >= LFU_INIT + 30 for i in range(40)) >= 25


def test_cells_of_deleted_keys_are_emptied_in_time() -> None:
    with Bare() as bare:
        use_lfu(bare, log_factor=0)
        for i in range(40):
            bare("SET", f"hot:{i}", "v")
            for _ in range(30):
                bare("GET", f"hot:{i}")
        assert 36 <= cells_above(bare, LFU_INIT + 25) <= 40
        for i in range(30):
            bare("DEL", f"hot:{i}")
        for _ in range(-(-CLOCK_LINES_MIN // clockgrowth.SCRUB_STEP)):
            clocks_fit(bare.context)
        assert 8 <= cells_above(bare, LFU_INIT + 25) <= 10
        assert all(counter(bare, f"hot:{i}") >= LFU_INIT + 30 for i in range(30, 40))


def test_under_a_policy_that_goes_by_the_clocks_no_line_has_more_keys_than_others() -> None:
    """So their number is a power of two; it is kept until a quarter of the keys are gone beyond the bound."""
    with Bare(size=1 << 26) as bare:
        bare.registers.MAXMEMORY_POLICY = POLICY_LRU | POLICY_ALLKEYS
        for i in range(8_000):
            bare("SET", f"k:{i}", "v")
        assert fit(bare) == 1024  # 562 and up
        for i in range(1_500):
            bare("DEL", f"k:{i}")
        assert fit(bare) == 1024  # 457 would do, but 571 for a quarter more
        for i in range(1_500, 3_000):
            bare("DEL", f"k:{i}")
        assert fit(bare) == 512
        bare.registers.MAXMEMORY_POLICY = 0
        assert fit(bare) == 5_000 * 5 // 4 * 15 // 256


def test_no_more_lines_than_were_reserved() -> None:
    with Bare() as bare:
        bare.registers.CLOCK_LINES_MAX = CLOCK_LINES_MIN + 3
        for i in range(MANY):
            bare("SET", i, "v")
        assert fit(bare) == CLOCK_LINES_MIN + 3


def test_a_step_of_growth_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bare(size=1 << 27) as bare:
        for i in range(256 * (clockgrowth.ADD_STEP + 200) // 15 // 4):
            bare("MSET", *(text for j in range(4) for text in (f"{i}:{j}", "v")))
        clocks_fit(bare.context)
        assert bare.registers.CLOCK_LINES == CLOCK_LINES_MIN + clockgrowth.ADD_STEP


def test_a_key_moves_with_its_clock_and_a_namesake_has_its_own() -> None:
    with Bare() as bare:
        use_lfu(bare, log_factor=0)
        bare("SET", "k", "v")
        for _ in range(20):
            bare("GET", "k")
        bare("SELECT", 1)
        bare("SET", "k", "other")
        assert counter(bare, "k") == LFU_INIT
        bare("SELECT", 0)
        assert counter(bare, "k") == LFU_INIT + 20
        bare("RENAME", "k", "j")
        assert counter(bare, "j") == LFU_INIT + 21
        bare("MOVE", "j", 1)
        bare("SELECT", 1)
        assert (counter(bare, "j"), counter(bare, "k")) == (LFU_INIT + 22, LFU_INIT)
        bare("SWAPDB", 1, 2)
        bare("SELECT", 2)
        assert (counter(bare, "j"), counter(bare, "k")) == (LFU_INIT + 22, LFU_INIT)
        bare("COPY", "j", "copy")
        assert (counter(bare, "j"), counter(bare, "copy")) == (LFU_INIT + 23, LFU_INIT)
        bare("DEL", "j")
        bare("SET", "j", "v")
        assert counter(bare, "j") == LFU_INIT


def test_a_counter_grows_by_chance_and_decays_by_time() -> None:
    with Bare(seed=3) as bare:
        use_lfu(bare)
        bare("SET", "k", "v")
        for _ in range(100):
            bare("GET", "k")
        assert 8 <= counter(bare, "k") <= 14  # Redis's documentation: 10 after a hundred hits
        for _ in range(10_000):
            bare("GET", "k")
        high = counter(bare, "k")
        assert 40 <= high <= 70  # and 18 after a thousand, 142 after a hundred thousand
        bare.clock_ms += 10 * 60_000
        assert counter(bare, "k") == high - 10
        bare.registers.LFU_DECAY_TIME = 5
        assert counter(bare, "k") == high - 2
        bare.registers.LFU_DECAY_TIME = 0
        assert counter(bare, "k") == high
        bare.registers.LFU_DECAY_TIME = 1
        bare.clock_ms += 1000 * 60_000
        assert counter(bare, "k") == 0
        bare.registers.LFU_LOG_FACTOR = 0
        for _ in range(300):
            bare("GET", "k")
        assert counter(bare, "k") == 255


def test_a_store_without_clocks_says_that_all_was_used_just_now() -> None:
    with Bare() as bare:
        bare("SET", "k", "v")
        bare.clock_ms += 9_000
        frozen = OpenStore(bare.pool, bare.shard, bare.space)
        assert clocks.clock_of(frozen.context, 0, 1) == bare.registers.LRU_CLOCK & CLOCK_MASK
        clocks.clock_touch(frozen.context, 0, 1)
        clocks_empty(frozen.context)
        assert idle(bare, "k") == 9


def test_an_emptied_store_begins_anew() -> None:
    with Bare() as bare:
        for i in range(MANY):
            bare("SET", i, "v")
        assert fit(bare) == MANY * 15 // 256
        bare.clock_ms += 5_000
        bare("FLUSHALL")
        assert bare.registers.CLOCK_LINES == CLOCK_LINES_MIN
        bare.clock_ms += 5_000
        assert clocks.clock_of(bare.context, 0, 77) == (bare.registers.LRU_CLOCK - 5) & CLOCK_MASK


@pytest.mark.parametrize("size", [(1 << 24) - 2, (1 << 24) - 1, 1 << 24, (1 << 24) + 4095])
def test_keys_of_16_mib_and_more(size: int) -> None:
    """The length of such a key does not fit its entry's first word."""
    with Bare(size=1 << 29, connections=1) as bare:
        long, longer = b"k" * size, b"k" * (size + 1)
        bare("SET", long, "v" * 100)
        assert bare("GET", long) == b"v" * 100 and bare("GET", longer) is None
        bare("SET", longer, "w", "PX", 10_000)
        assert bare("GET", long) == b"v" * 100 and bare("PTTL", longer) == 10_000
        bare("APPEND", long, "w" * 5000)
        bare("HSET", b"h" * size, "f", "v")
        assert bare("HGET", b"h" * size, "f") == b"v" and bare("STRLEN", long) == 5100
        check_keyspace(bare.context)
        bare("RENAME", long, "short")
        bare("RENAME", "short", b"r" * size)
        bare("COPY", b"r" * size, b"c" * size)
        assert bare("GET", b"c" * size) == b"v" * 100 + b"w" * 5000
        bare("PERSIST", longer)
        assert bare("GET", longer) == b"w"
        check_keyspace(bare.context)
        for key in (b"c", b"r", b"h"):
            bare("DEL", key * size)
        bare("DEL", longer)
        assert bare("DBSIZE") == 0
        check_keyspace(bare.context)
