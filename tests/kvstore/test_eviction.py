"""Eviction, kernel by kernel: what each policy evicts, its bounds, and that it leaves a sound store."""

import ctypes
import random
from collections import Counter

import pytest

from kvstore.effects.journal import Journal
from kvstore.store.check import check_keyspace
from kvstore.store.clockgrowth import clocks_fit
from kvstore.store.clocks import POLICY_ALLKEYS
from kvstore.store.databases import memory_exceeded, memory_used
from kvstore.store.eviction import (
    CANNOT,
    FITS,
    GOES_ON,
    LIMITS_US,
    POLICIES,
    evict,
    evict_between,
    evict_one,
    lacks_memory,
    use_policy,
)
from kvstore.store.evictionpool import COUNT, LONG_KEY, NEVER, POOL_SIZE, pool_sample
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

ALWAYS_US = 1 << 40


@pytest.fixture
def store():
    with Bare(size=1 << 26, seed=5) as bare:
        bare.registers.CYCLES_PER_MS = 1_000_000
        yield bare


def use(bare: Bare, policy: str) -> None:
    use_policy(bare.context, POLICIES[policy])


def limit(bare: Bare, share: float) -> None:
    """Set maxmemory to a share of what is used."""
    bare.registers.MAXMEMORY = int(memory_used(bare.context) * share)


def names(bare: Bare, prefix: str, count: int) -> list[str]:
    return [name for name in (f"{prefix}:{i}" for i in range(count)) if bare("EXISTS", name)]


def test_limits_of_time_are_those_of_redis() -> None:
    assert [LIMITS_US[i] for i in (0, 1, 10, 11, 99)] == [0, 50, 500, 575, int(500 * 1.15**89)]
    assert LIMITS_US[100] > 10**9


@pytest.mark.parametrize("keys", [1000, 8000])  # few: by a look at each entry; many: by the index and the clocks alone
def test_lru_evicts_what_was_not_used(store: Bare, keys: int) -> None:
    use(store, "allkeys-lru")
    for i in range(keys):
        store("SET", f"old:{i}", "v" * 50)
    for _ in range(3):
        clocks_fit(store.context)
    store.clock_ms += 100_000
    for i in range(keys // 2):
        store("GET", f"old:{i}")
    store.clock_ms += 100_000
    for _ in range(keys // 4):
        assert evict_one(store.context, NEVER) == FITS
    used = [i for i in range(keys // 2) if store("EXISTS", f"old:{i}")]
    assert len(used) > 0.98 * keys // 2
    assert store("DBSIZE") == keys - keys // 4 and keys // 4 == store.registers.EVICTED_KEYS
    check_keyspace(store.context)


def test_the_stalest_go_first_wherever_their_lines_are(store: Bare) -> None:
    """The number of keys is one for which half of the lines would be twice as full, were they no more than needed."""
    use(store, "allkeys-lru")
    keys = [str(i) for i in range(8500)]
    random.Random(3).shuffle(keys)
    for i, key in enumerate(keys):
        store("SET", key, "v")
        if i % 100 == 0:
            store.clock_ms += 1000
            clocks_fit(store.context)
    for _ in range(4):
        clocks_fit(store.context)
    for _ in range(2500):
        assert evict_one(store.context, NEVER) == FITS
    gone = [i for i, key in enumerate(keys) if not store("EXISTS", key)]
    assert sum(i < 3000 for i in gone) > 0.9 * len(gone)


def test_lfu_evicts_what_is_seldom_used(store: Bare) -> None:
    use(store, "allkeys-lfu")
    for i in range(1000):
        store("SET", f"k:{i}", "v" * 50)
    for _ in range(30):
        for i in range(0, 1000, 2):
            store("GET", f"k:{i}")
    for _ in range(400):
        assert evict_one(store.context, NEVER) == FITS
    left = names(store, "k", 1000)
    assert sum(int(name[2:]) % 2 == 0 for name in left) > 490


def test_volatile_ttl_evicts_what_is_due_next(store: Bare) -> None:
    use(store, "volatile-ttl")
    order = list(range(800))
    random.Random(1).shuffle(order)
    for i in order:
        store("SET", f"k:{i}", "v", "PX", 100_000 + 1000 * i)
        store("SET", f"forever:{i}", "v")
    for _ in range(200):
        assert evict_one(store.context, NEVER) == FITS
    gone = set(range(800)) - {int(name[2:]) for name in names(store, "k", 800)}
    assert sum(i < 400 for i in gone) > 190
    assert len(names(store, "forever", 800)) == 800


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_volatile_policies_evict_only_keys_with_a_deadline(store: Bare, policy: str) -> None:
    use(store, policy)
    for i in range(100):
        store("SET", f"k:{i}", "v", "EX", 1000)
        store("SET", f"forever:{i}", "v")
    for _ in range(100):
        assert evict_one(store.context, NEVER) == FITS
    assert evict_one(store.context, NEVER) == CANNOT
    assert len(names(store, "forever", 100)) == 100 == store("DBSIZE")
    check_keyspace(store.context)


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"noeviction"}))
def test_every_policy_empties_all_databases_and_no_more(store: Bare, policy: str) -> None:
    use(store, policy)
    for db in (0, 3, 15):
        store("SELECT", db)
        for i in range(60):
            store("SET", f"k:{i}", "v" * i, "EX", 1000)
        store("HSET", "h", *(str(i) for i in range(2000)))
        store("EXPIRE", "h", 1000)
    outcomes = Counter(evict_one(store.context, NEVER) for _ in range(200))
    assert outcomes == {FITS: 183, CANNOT: 17}
    store.registers.MAXMEMORY = 1
    assert evict(store.context, ALWAYS_US) == CANNOT
    check_keyspace(store.context)


def test_random_policies_take_from_one_database_after_the_other(store: Bare) -> None:
    use(store, "allkeys-random")
    for db in range(4):
        store("SELECT", db)
        for i in range(50):
            store("SET", i, "v")
    for _ in range(80):
        evict_one(store.context, NEVER)
    sizes = []
    for db in range(4):
        store("SELECT", db)
        sizes.append(store("DBSIZE"))
    assert sizes == [30] * 4


def test_a_key_that_was_used_since_it_was_sampled_stays(store: Bare) -> None:
    use(store, "allkeys-lru")
    for i in range(POOL_SIZE // 2):
        store("SET", f"k:{i}", "v")
    store.clock_ms += 50_000
    store.registers.MAXMEMORY_SAMPLES = 64
    assert evict_one(store.context, NEVER) == FITS  # all others are in the pool now
    left = names(store, "k", POOL_SIZE // 2)
    store.clock_ms += 50_000
    store("SET", "last", "v")
    for name in left[1:]:
        store("GET", name)
    assert evict_one(store.context, NEVER) == FITS
    assert names(store, "k", POOL_SIZE // 2) == left[1:]


def test_a_pool_survives_whatever_happens_to_its_candidates(store: Bare) -> None:
    choose = random.Random(7)
    use(store, "allkeys-lru")
    for _ in range(400):
        key = f"k:{choose.randrange(300)}"
        store("SELECT", choose.randrange(3))
        command = choose.choice(["SET", "SET", "SET", "SET", "DEL", "APPEND", "RENAME", "PEXPIRE", "SWAPDB", "FLUSHDB"])
        if command == "FLUSHDB" and choose.random() < 0.9:
            continue
        more = {
            "SET": [key, "v" * choose.randrange(100)], "DEL": [key], "APPEND": [key, "w"], "RENAME": [key, "r"],
            "PEXPIRE": [key, 10_000], "SWAPDB": [0, 1], "FLUSHDB": [],
        }[command]  # fmt: skip
        store(command, *more)
        if choose.random() < 0.3:
            evict_one(store.context, NEVER)
        store.clock_ms += 1000
    check_keyspace(store.context)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lfu", "allkeys-random"])
def test_a_store_above_its_limit_fits_after_eviction(store: Bare, policy: str) -> None:
    use(store, policy)
    for i in range(3000):
        store("SET", f"k:{i}", "v" * 100, "EX", 1000)
    limit(store, 0.5)
    store.registers.EVICTION_TENACITY = 100
    assert lacks_memory(store.context) == 0
    assert not memory_exceeded(store.context)
    assert 1000 < store.registers.EVICTED_KEYS < 2000
    check_keyspace(store.context)


def test_a_great_value_is_freed_before_another_key_goes(store: Bare) -> None:
    use(store, "allkeys-lru")
    store("HSET", "great", *(f"{i}" for i in range(20_000)))
    store.clock_ms += 100_000
    for i in range(100):
        store("SET", f"k:{i}", "v")
    limit(store, 0.5)
    store.registers.MAXMEMORY_SAMPLES = 1000
    assert evict(store.context, ALWAYS_US) == FITS
    assert store.registers.EVICTED_KEYS == 1 and store("DBSIZE") == 100


def test_time_bounds_a_step_and_the_command_is_served(store: Bare) -> None:
    use(store, "allkeys-lru")
    for i in range(3000):
        store("SET", f"k:{i}", "v" * 100)
    limit(store, 0.3)
    store.registers.EVICTION_TENACITY = 0
    store.registers.TIMER_MS = 1000
    assert lacks_memory(store.context) == 0
    assert store.registers.EVICTED_KEYS == 1 and memory_exceeded(store.context)
    assert store.registers.EVICTION_BEGAN_MS == 1000
    store.registers.TIMER_MS = 1500
    assert evict_between(store.context) == 1 and store.registers.EVICTED_KEYS == 2
    store.registers.EVICTION_TENACITY = 100
    while memory_exceeded(store.context):
        evict_between(store.context)
    assert evict_between(store.context) == 0
    assert (store.registers.EVICTION_BEGAN_MS, store.registers.EVICTION_EXCEEDED_MS) == (0, 500)


def candidates(bare: Bare) -> int:
    """How many candidates the pool has."""
    return int(ctypes.c_int64.from_address(bare.registers.EVICTION_POOL_ADDRESS + 8 * COUNT).value)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-lfu"])
@pytest.mark.parametrize("long", [False, True])
def test_no_sample_goes_on_behind_a_long_key_when_the_time_is_over(store: Bare, policy: str, long: bool) -> None:
    """Hashing such keys takes long: with no time at all, one is hashed, and evicted.  Of short ones, a sample is."""
    use(store, policy)
    for db in range(3):
        store("SELECT", db)
        for i in range(40):
            store("SET", f"{i}:" + "k" * (LONG_KEY if long else LONG_KEY - 10), "v", "EX", 1000 + i)
    limit(store, 0.5)
    for _ in range(20):
        evicted = store.registers.EVICTED_KEYS
        assert evict(store.context, 0) == GOES_ON
        assert evicted + 1 == store.registers.EVICTED_KEYS
        assert (candidates(store) == 0) == long
    assert evict(store.context, ALWAYS_US) == FITS
    check_keyspace(store.context)


@pytest.mark.parametrize("long", [False, True])
def test_a_step_whose_time_is_over_hashes_one_long_key_even_if_it_was_just_used(store: Bare, long: bool) -> None:
    """The pool is full of keys that were used since; only without long keys it is sampled until one is found."""
    use(store, "allkeys-lru")
    names = [f"{i}:" + "k" * (LONG_KEY if long else 10) for i in range(200)]
    for name in names:
        store("SET", name, "v")
    store.clock_ms += 100_000
    while candidates(store) < POOL_SIZE:
        pool_sample(store.context, NEVER)
    for name in names:
        store("GET", name)
    limit(store, 0.5)
    assert evict(store.context, 0) == GOES_ON
    assert (store.registers.EVICTED_KEYS, candidates(store) == 0) == ((0, True) if long else (1, False))
    assert evict(store.context, 0) == GOES_ON and (1 if long else 2) == store.registers.EVICTED_KEYS


def test_what_cannot_be_evicted_is_refused_and_upkeep_rests(store: Bare) -> None:
    use(store, "volatile-lru")
    for i in range(500):
        store("SET", f"k:{i}", "v" * 100)
    limit(store, 0.5)
    assert lacks_memory(store.context) == 1
    assert evict_between(store.context) == 0 and store.registers.EVICTED_KEYS == 0
    store("EXPIRE", "k:1", 1000)
    assert evict_between(store.context) == 0 and store.registers.EVICTED_KEYS == 0  # until the next tick
    store.registers.TIMER_MS += store.registers.TICK_MS
    evict_between(store.context)
    assert store.registers.EVICTED_KEYS == 1


def test_noeviction_deletes_nothing(store: Bare) -> None:
    for i in range(500):
        store("SET", f"k:{i}", "v" * 100, "EX", 1000)
    limit(store, 0.5)
    assert lacks_memory(store.context) == 1 and evict_between(store.context) == 0
    assert store("DBSIZE") == 500


def test_a_snapshot_keeps_what_is_evicted_and_the_limit_is_met(store: Bare) -> None:
    use(store, "allkeys-lru")
    for i in range(3000):
        store("SET", f"k:{i}", "v" * 100)
    root = store.fork()
    limit(store, 0.5)
    assert evict(store.context, ALWAYS_US) == FITS and store.registers.EVICTED_KEYS < 2000
    check_keyspace(store.context)
    store.release(root)


def test_eviction_stops_when_frames_are_short(store: Bare) -> None:
    """Each eviction beside a snapshot may copy pages; what is left when it stops is sound."""
    with Bare(size=1 << 22, spare=0) as bare:
        use(bare, "allkeys-random")
        i = 0
        while bare("SET", f"k:{i}", "v" * 200) == "OK":
            i += 1
        bare.fork()
        bare.registers.MAXMEMORY, bare.registers.CYCLES_PER_MS = 1, 1_000_000
        assert evict(bare.context, ALWAYS_US) == CANNOT
        assert 0 < bare("DBSIZE") < i
        check_keyspace(bare.context)


def test_evictions_are_told(store: Bare) -> None:
    use(store, "allkeys-random")
    for i in range(20):
        store("SET", f"k:{i}", "v")
    dirty = store.registers.DIRTY
    journal = Journal(store.context)
    for _ in range(20):
        evict_one(store.context, NEVER)
    told = journal.take()
    journal.close()
    assert sorted((event.event, event.key) for event in told) == sorted(("evicted", b"k:%d" % i) for i in range(20))
    assert dirty == store.registers.DIRTY


def test_a_change_of_the_kind_of_clock_begins_anew(store: Bare) -> None:
    use(store, "allkeys-lru")
    store("SET", "k", "v")
    store.clock_ms += 9000
    use(store, "volatile-lru")
    assert store("OBJECT", "IDLETIME", "k") == 9
    use(store, "allkeys-lfu")
    assert store("OBJECT", "FREQ", "k") == 5
    use(store, "noeviction")
    assert store("OBJECT", "IDLETIME", "k") == 0


@pytest.mark.parametrize("seed", seeds(4, 1))
def test_streams_at_the_limit_leave_a_sound_store_within_it(seed: int) -> None:
    choose = random.Random(seed)
    with Bare(size=1 << 25, seed=seed) as bare:
        bare.registers.CYCLES_PER_MS = 1_000_000
        use(bare, choose.choice(sorted(set(POLICIES) - {"noeviction"})))
        bare.registers.MAXMEMORY = 600_000
        for step in range(3000):
            assert lacks_memory(bare.context) == 0 or bare.registers.MAXMEMORY_POLICY & POLICY_ALLKEYS == 0, seed
            key, size = f"k:{choose.randrange(5000)}", choose.randrange(300)
            kind = choose.random()
            if memory_exceeded(bare.context):
                bare("DEL", key)
            elif kind < 0.7:
                bare("SET", key, "v" * size, "EX", 1000)
            elif kind < 0.8:
                bare("GET", key)
            elif kind < 0.9:
                bare("DEL", f"h:{key}")
                bare("HSET", f"h:{key}", *(str(i) for i in range(2 * size + 2)))
                bare("EXPIRE", f"h:{key}", 1000)
            elif step % 50 == 0:
                bare("SWAPDB", 0, 1)
        assert evict(bare.context, ALWAYS_US) in (FITS, GOES_ON), seed
        assert not memory_exceeded(bare.context)
        check_keyspace(bare.context)
