"""Active expiry, and RANDOMKEY among due keys: the keys visited and deleted, and the time granted for that."""

import random
from collections.abc import Iterator

import pytest

from kvstore.net import upkeep
from kvstore.store.check import contents
from kvstore.store.databases import memory_used
from kvstore.store.expire import ALL, BUCKETS_FOR_ROOM, deadline_buckets, expire_step, make_room
from kvstore.store.layout import DATABASES
from mmcore.state import FREE_COUNT
from tests.kvstore.bare import START_MS, Bare
from tests.mmcore.support import seeds

NOT_CALIBRATED, FOREVER = 100_000, 10**12  # cycles a millisecond


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        made.registers.ACTIVE_EXPIRE_ENABLED = 1
        made.registers.CYCLES_PER_MS = NOT_CALIBRATED
        yield made


def fill(store: Bare, prefix: str, count: int, *options: str | int) -> None:
    for i in range(count):
        assert store("SET", f"{prefix}:{i}", "value", *options) == "OK"


def one_round(store: Bare) -> int:
    """Look at all deadlines once; returns how many keys expired."""
    r = store.registers
    before = int(r.EXPIRED_KEYS)
    r.EXPIRE_DB = r.EXPIRE_BUCKET = 0
    expire_step(store.context, deadline_buckets(store.context))
    return int(r.EXPIRED_KEYS) - before


@pytest.mark.parametrize("seed", seeds(4))
def test_a_round_deletes_what_is_due_and_nothing_else(store: Bare, seed: int) -> None:
    draw = random.Random(seed)
    model: dict[int, dict[bytes, int | None]] = {}
    for db in draw.sample(range(DATABASES), 4):
        store("SELECT", db)
        model[db] = {}
        for i in range(draw.choice((3, 100, 3000))):
            deadline = draw.choice((None, START_MS + draw.randrange(1, 1000)))
            store("SET", f"k{i}", b"v" * draw.randrange(80), *(("PXAT", deadline) if deadline else ()))
            model[db][b"k%d" % i] = deadline
    for now in range(START_MS, START_MS + 1100, 100):
        store.clock_ms = now
        due = sum(1 for keys in model.values() for deadline in keys.values() if deadline and deadline <= now)
        # A merge may move a deadline to a bucket that the round has already passed; the next round finds it.
        assert one_round(store) + one_round(store) == due
        model = {
            db: {key: deadline for key, deadline in keys.items() if not deadline or deadline > now}
            for db, keys in model.items()
        }
        held = {
            db: {key: deadline for key, (_, deadline) in keys.items()} for db, keys in contents(store.context).items()
        }
        assert held == {db: keys for db, keys in model.items() if keys}
    store.check()


def test_every_deadline_is_looked_at_once_a_round(store: Bare) -> None:
    fill(store, "k", 5000, "PX", 1000)
    fill(store, "forever", 500)
    assert one_round(store) == 0
    assert store.registers.DEADLINES_MET == 5000


def test_what_is_due_of_the_deadlines_is_known(store: Bare) -> None:
    r = store.registers
    fill(store, "soon", 2000, "PX", 1000)
    fill(store, "late", 2000, "PX", 100_000)
    one_round(store)
    assert r.EXPIRED_STALE_PERC == 0
    store.clock_ms += 2000
    expire_step(store.context, 200)
    assert 0.3 * ALL < r.EXPIRED_STALE_PERC < 0.7 * ALL
    while one_round(store):
        pass
    one_round(store)
    assert r.EXPIRED_STALE_PERC < upkeep.PRESSED
    store.clock_ms += 200_000
    expire_step(store.context, 200)
    assert r.EXPIRED_STALE_PERC > 0.7 * ALL
    while one_round(store):
        pass
    assert expire_step(store.context, 10) == 0
    assert r.EXPIRED_STALE_PERC == 0


def test_expiry_waits_for_frames_and_is_not_pressed_by_what_it_cannot_delete(store: Bare) -> None:
    fill(store, "k", 2000, "PX", 1000)
    store.clock_ms += 2000
    frames = store.memory.state.frames
    free = int(frames[FREE_COUNT])
    frames[FREE_COUNT] = 0
    try:
        assert one_round(store) == 0
        assert store.registers.EXPIRED_STALE_PERC == 0
    finally:
        frames[FREE_COUNT] = free
    while one_round(store):
        pass
    assert store("DBSIZE") == 0


# ---------------------------------------------------------------------------------------------------------- the time


def test_the_share_of_the_time_grows_with_what_is_due() -> None:
    shares = [int(upkeep.expiry_share(ALL * percent // 100)) for percent in range(101)]
    assert shares == sorted(shares)
    assert [shares[percent] for percent in (0, 1, 5, 10, 40, 60, 100)] == [0, 50, 250, 500, 500, 600, 800]


def test_small_turns_save_up_for_a_slice_and_no_slice_is_long(store: Bare) -> None:
    r = store.registers
    r.EXPIRED_STALE_PERC = ALL // 10  # half of the time: as much as serving took
    least, longest = (NOT_CALIBRATED * us // 1000 for us in (upkeep.SLICE_MIN_US, upkeep.SLICE_MAX_US))
    assert upkeep.expiry_slice(store.context, least - 1, 0) == 0
    assert upkeep.expiry_slice(store.context, 1, 0) == least
    assert r.EXPIRE_CREDIT == 0
    assert upkeep.expiry_slice(store.context, longest - 7, 0) == longest - 7
    assert upkeep.expiry_slice(store.context, 1 << 60, 0) == longest
    assert upkeep.expiry_slice(store.context, 0, 1) == NOT_CALIBRATED * upkeep.IDLE_SLICE_US // 1000


def plan(store: Bare, passed_ms: int) -> int:
    """The buckets granted to the calm walk after `passed_ms`."""
    store.registers.TIMER_MS += passed_ms
    upkeep.plan_expiry(store.context)
    return int(store.registers.EXPIRE_CALM)


def test_while_little_is_due_the_walk_follows_the_time(store: Bare) -> None:
    r = store.registers
    r.TICK_MS = 100
    assert plan(store, 1000) == 0
    fill(store, "k", 1200, "PX", 1_000_000)
    round_ = int(deadline_buckets(store.context))
    assert 20 * upkeep.CALM_BUCKETS_PER_MS > round_ > 9 * upkeep.CALM_BUCKETS_PER_MS
    assert plan(store, upkeep.PROBE_MS - 1) == 0
    assert plan(store, 1) == upkeep.CALM_BUCKETS_PER_MS * upkeep.PROBE_MS
    assert plan(store, 100_000) == round_  # no deadline is looked at twice


def test_while_nothing_expires_the_loop_sleeps_until_the_tick(store: Bare) -> None:
    r = store.registers
    r.TICK_MS = 100
    fill(store, "k", 1000, "PX", 1_000_000)
    plan(store, 1000)
    rests = [int(upkeep.upkeep(store.context, 1))]
    while r.EXPIRE_CALM > 0:
        rests.append(int(upkeep.upkeep(store.context, 1)))
    assert set(rests[:-1]) <= {0}
    assert rests[-1] == 100
    assert r.DEADLINES_MET == 1000
    r.ACTIVE_EXPIRE_ENABLED = 0
    r.TIMER_MS += 1000
    assert upkeep.upkeep(store.context, 1) == 100
    assert r.DEADLINES_MET == 1000


def test_while_keys_expire_the_loop_looks_more_often(store: Bare) -> None:
    r = store.registers
    r.TICK_MS = 100
    r.CYCLES_PER_MS = FOREVER
    fill(store, "late", 5000, "PX", 1_000_000)
    fill(store, "soon", 5000, "PX", 1000)
    store.clock_ms += 2000
    r.TIMER_MS += 1000
    while upkeep.upkeep(store.context, 1) == 0:
        pass
    assert store("DBSIZE") < 5050
    assert upkeep.upkeep(store.context, 1) == upkeep.PROBE_MS
    r.TIMER_MS += upkeep.LIVELY_MS
    while store("DBSIZE") > 5000:
        r.TIMER_MS += upkeep.LIVELY_MS
        upkeep.upkeep(store.context, 1)
    r.TIMER_MS += upkeep.LIVELY_MS
    while upkeep.upkeep(store.context, 1) == 0:
        pass
    assert upkeep.upkeep(store.context, 1) == 100


def test_when_all_is_due_an_idle_turn_goes_on_until_its_time_is_over(store: Bare) -> None:
    """The budget is time, not a number of keys: with unlimited time one turn deletes everything."""
    r = store.registers
    r.TICK_MS = 100
    fill(store, "k", 20_000, "PX", 1000)
    store.clock_ms += 2000
    r.TIMER_MS += 1000
    r.CYCLES_PER_MS = 5  # hardly any time: a step beside the calm walk's, and there is more to do
    assert upkeep.upkeep(store.context, 1) == 0
    most = 8 * (upkeep.CALM_IDLE_SLICE + upkeep.STEP)
    assert 0 < r.EXPIRED_KEYS <= most
    r.CYCLES_PER_MS = FOREVER
    upkeep.upkeep(store.context, 1)
    assert store("DBSIZE") == 0
    assert r.EXPIRE_CYCLES > 0
    r.EXPIRE_CALM = 0
    assert upkeep.upkeep(store.context, 1) == upkeep.PROBE_MS
    store.check()


def test_a_long_turn_is_interrupted_for_what_is_due(store: Bare) -> None:
    r = store.registers
    fill(store, "k", 2000, "PX", 1000)
    store.clock_ms += 2000
    r.EXPIRED_STALE_PERC = ALL // 2
    r.UPKEEP_CYCLES = 0  # the turn has taken since the machine started
    assert upkeep.upkeep_between(store.context) > 0
    assert r.EXPIRED_KEYS > 0
    expired = int(r.EXPIRED_KEYS)
    r.CYCLES_PER_MS = FOREVER  # the turn has taken no time to speak of
    assert upkeep.upkeep_between(store.context) == 0
    assert expired == r.EXPIRED_KEYS


def test_a_write_beyond_maxmemory_makes_room_by_what_is_due(store: Bare) -> None:
    r = store.registers
    fill(store, "k", 2000, "PX", 1000)
    r.MAXMEMORY = memory_used(store.context) - 1
    assert make_room(store.context) == 0
    store.clock_ms += 2000
    assert make_room(store.context) == 1
    assert 0 < r.EXPIRED_KEYS <= 8 * BUCKETS_FOR_ROOM
    r.ACTIVE_EXPIRE_ENABLED = 0
    r.MAXMEMORY = memory_used(store.context) - 1
    assert make_room(store.context) == 0


# -------------------------------------------------------------------------------------------------------- RANDOMKEY


def test_random_keys_are_those_that_live(store: Bare) -> None:
    """A few live keys among many due ones, without active expiry: never nil, and in bounded pieces."""
    fill(store, "dead", 150_000, "PX", 1000)
    assert store("SET", "a", "1") == "OK"
    assert store("SET", "b", "1", "PX", 1_000_000) == "OK"
    store.clock_ms += 2000
    seen, turns = set(), 0
    for _ in range(60):
        before = int(store.registers.EXPIRED_KEYS)
        seen.add(store("RANDOMKEY"))
        turns += store.turns
        assert int(store.registers.EXPIRED_KEYS) - before <= 500 * store.turns
    assert seen == {b"a", b"b"}
    assert turns > 60
    assert int(store.registers.EXPIRED_KEYS) > 10_000  # each turn makes progress


def test_a_random_key_in_a_transaction_is_found_at_once(store: Bare) -> None:
    fill(store, "dead", 50_000, "PX", 1000)
    assert store("SET", "a", "1") == "OK"
    store.clock_ms += 2000
    store.registers.DEPTH = 1
    assert store("RANDOMKEY") == b"a"
    assert store.turns == 1


def test_a_random_key_is_found_where_nothing_can_be_deleted(store: Bare) -> None:
    fill(store, "dead", 50_000, "PX", 1000)
    assert store("SET", "a", "1") == "OK"
    store.clock_ms += 2000
    frames = store.memory.state.frames
    free = int(frames[FREE_COUNT])
    frames[FREE_COUNT] = 0
    try:
        assert store("RANDOMKEY") == b"a"
        assert store.turns == 1
    finally:
        frames[FREE_COUNT] = free


def test_where_everything_is_due_a_random_key_is_nil(store: Bare) -> None:
    fill(store, "dead", 50_000, "PX", 1000)
    store.clock_ms += 2000
    assert store("RANDOMKEY") is None
    assert store("SELECT", 1) == "OK"
    assert store("RANDOMKEY") is None
