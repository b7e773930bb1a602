"""Eviction where the machine's frames are short, and maxmemory is not reached: the data get a ceiling."""

import random
from collections.abc import Iterator

import pytest

from kvstore.store.ceiling import FALL_SHIFT, MARGIN_LEAST
from kvstore.store.check import check_keyspace
from kvstore.store.databases import memory_used
from kvstore.store.eviction import POLICIES, evict_between, lacks_memory, use_policy
from kvstore.store.flush import background_step
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.bare import Bare
from tests.mmcore.support import only, seeds, some

IN_FORCE = 8192  # frames
OOM = ERRORS[OUT_OF_FRAMES]


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare(IN_FORCE << 12, seed=3) as made:
        made.registers.CYCLES_PER_MS, made.registers.EVICTION_TENACITY = 1_000_000, 100
        use(made, "allkeys-lru")
        yield made
        made.check()


def use(store: Bare, policy: str) -> None:
    use_policy(store.context, POLICIES[policy])


def used(store: Bare) -> int:
    frames = store.memory.state.frames
    return int(frames[TOTAL] - frames[FREE_COUNT])


def write(store: Bare, *words: str | bytes | int) -> object:
    """A command as the loop admits it: it is not refused for maxmemory, because there is none."""
    assert lacks_memory(store.context) == 0
    return store(*words)


def fill(store: Bare, prefix: str, count: int, size: int) -> int:
    """Write so many values; the number that was refused."""
    return sum(write(store, "SET", f"{prefix}:{i}", b"v" * size) != "OK" for i in range(count))


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"noeviction"}))
def test_a_store_without_maxmemory_evicts_before_it_refuses(store: Bare, policy: str) -> None:
    """Under every policy; twice as much is written as there is room for."""
    use(store, policy)
    count = 2 * (IN_FORCE << 12) // 1000
    for i in range(count):
        assert write(store, "SET", f"key:{i}", b"v" * 900, "EX", 10_000) == "OK", i
    left = store("DBSIZE")
    assert isinstance(left, int) and left + store.registers.EVICTED_KEYS == count
    assert left * 1000 > 0.6 * (IN_FORCE << 12)
    assert used(store) <= IN_FORCE
    assert store("EXISTS", f"key:{count - 1}") == 1


def test_noeviction_refuses(store: Bare) -> None:
    use(store, "noeviction")
    assert fill(store, "key", 100_000, 300) > 0
    assert store.registers.EVICTED_KEYS == 0 and store.registers.CEILING == 0


def test_nothing_to_evict_is_refused_for_want_of_frames(store: Bare) -> None:
    use(store, "volatile-lru")
    refused = fill(store, "key", 100_000, 300)
    assert refused > 0 and store.registers.EVICTED_KEYS == 0
    assert write(store, "HSET", "h", *range(20)) == OOM
    assert store("EXPIRE", "key:1", 1000) == 1
    write(store, "SET", "new", "v")
    assert store.registers.EVICTED_KEYS == 1


@pytest.mark.parametrize("seed", seeds(6))
def test_sizes_and_types_that_change_go_on_without_a_refusal(store: Bare, seed: int) -> None:
    """One generation of values takes the place of another one."""
    r = random.Random(seed)
    policy = r.choice(["allkeys-lru", "allkeys-lfu", "volatile-ttl"])
    use(store, policy)
    for generation in range(some(6, 4)):
        size, kind = r.choice([60, 600, 3000, 20_000]), r.choice(["SET", "HSET", "RPUSH", "ZADD"])
        written = 0
        for i in range(12_000):
            key, value = f"{generation}:{i}", b"v" * r.randrange(1 + size)
            words: list[str | bytes | int] = {
                "SET": [value],
                "HSET": ["field", value, "g", 1],
                "RPUSH": [value, value[:50]],
                "ZADD": [1, value, 2, "member"],
            }[kind]
            assert not str(write(store, kind, key, *words)).startswith("OOM"), (generation, kind, size, i)
            store("EXPIRE", key, 10_000 + generation)
            written += len(value) + 100
            store.clock_ms += 10
            if i % 64 == 0:
                background_step(store.context, 64)
            if written > IN_FORCE << 12:
                break
        check_keyspace(store.context)
    assert store.registers.EVICTED_KEYS > 1000
    assert memory_used(store.context) > 0.4 * (IN_FORCE << 12)


def test_a_ceiling_is_set_falls_and_goes(store: Bare) -> None:
    """It is set behind `start`; it falls at each command behind `low`; it goes when frames are back."""
    r, start, low = store.registers, IN_FORCE - MARGIN_LEAST, IN_FORCE - MARGIN_LEAST // 2
    i = 0
    while r.CEILING == 0:
        assert r.EVICTED_KEYS == 0 and used(store) <= start + 1
        assert write(store, "SET", f"key:{i}", b"v" * 1000) == "OK"
        i += 1
    ceiling = r.CEILING
    for _ in range(1000):
        assert write(store, "SET", f"key:{i}", b"v" * 1000) == "OK"
        i += 1
    assert r.EVICTED_KEYS > 900 and ceiling == r.CEILING and start < used(store) < low
    total = store.memory.frames_free + used(store)
    with only(store.memory, total - low - 1000):  # others take the rest
        assert lacks_memory(store.context) == 0 and ceiling == r.CEILING  # the last value is above it
        for _ in range(3):
            data = int(memory_used(store.context))
            assert lacks_memory(store.context) == 0
            assert data - (data >> FALL_SHIFT) == r.CEILING
            assert memory_used(store.context) <= r.CEILING
    while used(store) > start:
        store("DEL", f"key:{i}")
        i -= 1
    assert evict_between(store.context) == 0 and r.CEILING == 0


def test_nothing_is_evicted_for_frames_that_others_share(store: Bare) -> None:
    """The ceiling that there is stays, so the data do not grow."""
    assert fill(store, "key", 10_000, 300) == 0 and store.registers.CEILING == 0
    root = store.fork()
    refused = fill(store, "new", 100_000, 300)
    assert refused > 0 and store.registers.EVICTED_KEYS == 0 and store.registers.CEILING == 0
    store.release(root)
    assert fill(store, "more", 1000, 300) == 0
    ceiling = store.registers.CEILING
    assert ceiling > 0 and store.registers.EVICTED_KEYS > 0
    root = store.fork()
    before = store.registers.EVICTED_KEYS
    fill(store, "again", 100, 300)
    assert ceiling == store.registers.CEILING and before < store.registers.EVICTED_KEYS
    store.release(root)


def test_maxmemory_goes_before_a_ceiling(store: Bare) -> None:
    store.registers.MAXMEMORY = IN_FORCE << 11
    assert fill(store, "key", 100_000, 300) == 0
    assert store.registers.CEILING == 0 and memory_used(store.context) < (IN_FORCE << 11) + 10_000


def test_another_policy_begins_without_a_ceiling(store: Bare) -> None:
    fill(store, "key", 100_000, 300)
    assert store.registers.CEILING > 0
    use(store, "noeviction")
    assert store.registers.CEILING == 0 and evict_between(store.context) == 0
    assert fill(store, "more", 50_000, 300) > 0
