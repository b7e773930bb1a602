"""Defragmentation of a whole store: what is left of many values takes about as many pages as in a fresh store."""

import random
from collections.abc import Iterator

import pytest

from kvstore.net import upkeep
from kvstore.store.check import contents
from kvstore.store.defrag import (
    CHOOSING,
    RESTING,
    RETURNING,
    TABLES,
    WALKING,
    defrag_abandon,
    defrag_begin,
    defrag_step,
    fragmentation,
    wasted_bytes,
)
from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from mmcore.heap import heap_leaving, heap_slab_pages
from mmcore.jit import int64, linked
from mmcore.state import SPACE
from tests.kvstore.bare import Bare
from tests.mmcore.support import only

FOREVER = 10**9
KINDS = ("strings", "hashes", "great hashes", "zsets", "great zsets", "deadlines")
SEQUENCES = ("ints", "sets", "great sets", "lists", "great lists", "streams", "great streams")
DATED = ("dated" + "-" * 200, "great dated")  # hashes that have fields with deadlines


@linked(int64(SPACE))
def slab_pages(space):  # type: ignore[no-untyped-def]
    """heap_slab_pages, for Python."""
    return heap_slab_pages(space)


@linked(int64(SPACE))
def leaving(space):  # type: ignore[no-untyped-def]
    """heap_leaving, for Python."""
    return int64(heap_leaving(space))


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare(128 << 20) as made:
        yield made


def pages(store: Bare) -> int:
    return int(slab_pages(store.context.space))


def settle(store: Bare) -> None:
    """Free what waits to be freed."""
    while background_step(store.context, 1000):
        pass


def write(store: Bare, kind: str, i: int, draw: random.Random) -> None:
    """Write the value number `i` of a kind, which depends on nothing else."""
    key, size = f"{kind}:{i}", 1 + i * 7919 % (draw.randrange(8, 400))
    if kind == "strings":
        store("SET", key, b"v" * (size if i % 50 else 3000 + size))
    elif kind == "deadlines":
        store("SET", key, b"v" * size, "PX", 10**9)
    elif kind == "hashes":
        store("HSET", key, *(part for j in range(1 + i % 40) for part in (f"f{j}", b"v" * (size % 60))))
    elif kind == "zsets":
        store("ZADD", key, *(part for j in range(1 + i % 40) for part in (j % 7, f"m{j}")))
    elif kind == "ints":
        store("SADD", key, *range(1 + i % 60))
    elif kind == "sets":
        store("SADD", key, *(f"m{j}" for j in range(1 + i % 40)))
    elif kind == "lists":
        store("RPUSH", key, *(b"v" * (size % 60) for _ in range(1 + i % 40)))
    elif kind == "streams":
        for j in range(1 + i % 40):
            store("XADD", key, f"{j + 1}-1", "f", b"v" * (size % 60))
    elif kind == "great streams" and i % 100 == 0:
        for j in range(1000):
            store("XADD", key, f"{j + 1}-1", "field", f"value:{j}")
    elif kind == "great sets" and i % 100 == 0:
        store("SADD", key, *(f"member:{j}" for j in range(1000)))
    elif kind == "great lists" and i % 100 == 0:
        store("RPUSH", key, *(f"{j}:" + "v" * (j * size % 90) for j in range(3000)))
    elif kind == "great hashes" and i % 100 == 0:
        store("HSET", key, *(part for j in range(1000) for part in (f"f{j}", b"v" * (j * size % 90))))
    elif kind == DATED[0] or (kind in DATED and i % 100 == 0):
        names = [f"f{j}" for j in range(1 + i % 3 if kind == DATED[0] else 2000)]
        store("HSET", key, *(part for name in names for part in (name, b"v" * (size % 60))))
        for j in range(0, len(names), 100):
            some = names[j : j + 100]
            store("HPEXPIRE", key, 10**6 + draw.randrange(10**6), "FIELDS", len(some), *some)
    elif kind == "great zsets" and i % 100 == 0:
        store("ZADD", key, *(part for j in range(600) for part in (j % 97, f"member:{j}")))


def thin(store: Bare, kinds: tuple[str, ...], keep: list[bool], draw: random.Random) -> None:
    for kind in kinds:
        for i, kept in enumerate(keep):
            if not kept and i % 100:
                store("DEL", f"{kind}:{i}")
            elif kind == "great sets" and i % 100 == 0:
                store("SREM", f"{kind}:{i}", *(f"member:{j}" for j in range(1000) if draw.random() < 0.9))
            elif kind == "great streams" and i % 100 == 0:
                store("XTRIM", f"{kind}:{i}", "MAXLEN", 700)
            elif kind == "great lists" and i % 100 == 0:
                store("LTRIM", f"{kind}:{i}", 200, 2000)
            elif kind in ("great hashes", "great dated") and i % 100 == 0:
                store("HDEL", f"{kind}:{i}", *(f"f{j}" for j in range(2000) if draw.random() < 0.9))
            elif kind == "great zsets" and i % 100 == 0:
                store("ZREM", f"{kind}:{i}", *(f"member:{j}" for j in range(600) if draw.random() < 0.9))
    settle(store)


def cycle(store: Bare, budget: int, each: int = 0) -> int:
    """A whole cycle; returns the number of steps.  Proves the store sound in the middle of it, every `each` steps."""
    defrag_begin(store.context)
    steps = 1
    while defrag_step(store.context, budget):
        if each and steps % each == 0:
            store.check()
        steps += 1
    assert not leaving(store.context.space)
    return steps


def copy_of(store: Bare) -> Bare:
    """A fresh store with the same data."""
    other = Bare(128 << 20)
    for db, keys in contents(store.context).items():
        other("SELECT", db)
        for key, (value, deadline) in keys.items():
            if isinstance(value, bytes):
                other("SET", key, value, *(("PXAT", deadline) if deadline else ()))
            elif isinstance(value, dict):
                pairs = {field: pair if isinstance(pair, tuple) else (pair, None) for field, pair in value.items()}
                other("HSET", key, *(part for field, (text, _) in pairs.items() for part in (field, text)))
                for field, (_, time) in pairs.items():
                    if time is not None:
                        other("HPEXPIREAT", key, time, "FIELDS", 1, field)
            elif isinstance(value, set):
                other("SADD", key, *value)
            elif isinstance(value[-1], tuple) and value[-1][0] == "groups":
                for id_, texts in value[:-4]:
                    other("XADD", key, f"{id_[0]}-{id_[1]}", *texts)
            elif isinstance(value[0], bytes):
                other("RPUSH", key, *value)
            else:
                store("SELECT", db)
                pairs = store("ZRANGE", key, 0, -1, "WITHSCORES")
                assert isinstance(pairs, list)
                other("ZADD", key, *(part for i in range(0, len(pairs), 2) for part in (pairs[i + 1], pairs[i])))
    other("SELECT", 0)
    store("SELECT", 0)
    return other


@pytest.mark.parametrize(
    "kinds", [("strings",), ("strings", "deadlines", "hashes", "great hashes"), KINDS, SEQUENCES, DATED]
)
def test_what_5_percent_of_the_values_take_is_what_a_fresh_store_of_them_takes(store: Bare, kinds: tuple[str, ...]):
    draw, count = random.Random(len(kinds)), 8000 // len(kinds)
    for i in range(count):
        for kind in kinds:
            store("SELECT", i % 2 * 9)
            write(store, kind, i, draw)
    full, keep = pages(store), [draw.random() < 0.05 for _ in range(count)]
    for db in (0, 9):
        store("SELECT", db)
        thin(store, kinds, keep, draw)
    store("SELECT", 0)
    digest, model, before = store_digest(store.context), contents(store.context), pages(store)
    with copy_of(store) as other:
        fresh = pages(other)
        assert store_digest(other.context) == digest
    steps = cycle(store, 32, 80)
    after = pages(store)
    print(f"{kinds}: {full} full, {before} before, {after} after, {fresh} fresh, {steps} steps")
    assert store_digest(store.context) == digest and contents(store.context) == model
    assert after <= fresh * 1.25 + 16 < before
    r = store.registers
    assert r.DEFRAG_HITS > 0 and 0 < r.DEFRAG_KEY_HITS <= sum(len(keys) for keys in model.values())
    assert fragmentation(store.context) <= 45
    store.check()


def test_a_great_value_takes_several_steps_and_may_change_or_go_between_them(store: Bare) -> None:
    draw = random.Random(5)
    for i in range(0, 400, 100):
        for kind in ("great hashes", "great zsets"):
            write(store, kind, i, draw)
    for i in range(3000):
        store("SET", f"s:{i}", b"v" * (i % 90), *(("PX", 10**8) if i % 2 else ()))
        store("HSET", "great hashes:0", f"x{i}", b"v" * (i % 50))
    for i in range(3000):
        if i % 16:
            store("DEL", f"s:{i}")
            store("HDEL", "great hashes:0", f"x{i}")
    defrag_begin(store.context)
    seen, step = set(), 0
    while defrag_step(store.context, 4):
        step += 1
        r = store.registers
        seen.add((r.DEFRAG_STATE, r.DEFRAG_ENTRY != 0))
        if r.DEFRAG_ENTRY and step % 9 == 0:
            action = draw.randrange(6)
            key = f"great {draw.choice(('hashes', 'zsets'))}:{draw.randrange(4) * 100}"
            if action == 0:
                store("DEL", key)
            elif action == 1:
                store("SET", key, "another type")
            elif action == 2:
                store("RENAME", f"s:{16 * draw.randrange(100)}", key)
            elif action == 3:
                store("PEXPIRE", key, 10**7)
            elif action == 4:
                store("COPY", "great hashes:0", f"copy:{step}")
            else:
                store("HSET", "great hashes:0", *(part for j in range(300) for part in (f"y{step}:{j}", "value")))
        if step % 20 == 0:
            store.check()
    assert {(WALKING, False), (WALKING, True), (RETURNING, False)} <= seen
    store.check()


def test_names_of_dated_hashes_come_and_go_while_their_agenda_is_moved(store: Bare) -> None:
    draw, kind = random.Random(7), DATED[0]
    for i in range(8000):
        write(store, kind, i, draw)
    thin(store, (kind,), [i % 8 == 0 for i in range(8000)], draw)
    defrag_begin(store.context)
    r, steps, moved = store.registers, 0, 0
    while defrag_step(store.context, 4):
        if r.DEFRAG_STATE == WALKING and r.DEFRAG_AT >= TABLES and r.DEFRAG_ENTRY:
            steps, moved = steps + 1, moved + r.DEFRAG_HITS
            i = draw.randrange(8000)
            if steps % 3:
                store("DEL", f"{kind}:{i - i % 8}")
            else:
                write(store, kind, i, draw)
            if steps % 5 == 0:
                store.check()
        r.DEFRAG_HITS = 0
    assert steps > 15 and moved > 100
    store.check()


@pytest.mark.parametrize("count", [1, 100, 1000])
@pytest.mark.parametrize("command", ["FLUSHDB", "FLUSHALL", "SWAPDB", "DEL"])
def test_an_agenda_goes_while_it_is_moved(store: Bare, command: str, count: int) -> None:
    """FLUSHDB with and without another database; the last name goes; another agenda comes in its place."""
    kind, draw = DATED[0], random.Random(1)
    for i in range(0, 14 * count, 14):
        write(store, kind, i, draw)
        store("SET", f"s:{i}", "v" * 200)
    for i in range(0, 14 * count, 28):
        store("DEL", f"s:{i}", f"{kind}:{i}")
    store("SET", "s", "v")
    defrag_begin(store.context)
    r = store.registers
    while r.DEFRAG_STATE != WALKING or r.DEFRAG_AT < TABLES:
        if not defrag_step(store.context, 1):
            break
    assert r.DEFRAG_STATE == WALKING or count < 1000
    if command == "DEL":
        store("DEL", *(f"{kind}:{i}" for i in range(0, 14 * count, 14)))
    else:
        store(command, *((0, 1) if command == "SWAPDB" else ()))
    store.check()
    while defrag_step(store.context, 4):
        store.check()
    settle(store)
    store.check()


def test_a_store_that_is_emptied_during_a_cycle(store: Bare) -> None:
    for command in ("FLUSHALL", "FLUSHDB"):
        for i in range(3000):
            store("SET", f"s:{i}", b"v" * 50, "PX", 10**8)
        store("SELECT", 3)
        store("SET", "another", "database")
        store("SELECT", 0)
        for i in range(3000):
            if i % 10:
                store("DEL", f"s:{i}")
        defrag_begin(store.context)
        while store.registers.DEFRAG_STATE != WALKING or store.registers.DEFRAG_HITS == 0:
            assert defrag_step(store.context, 4)
        assert leaving(store.context.space)
        store(command)
        store.check()
        while defrag_step(store.context, 4):
            store.check()
        settle(store)
        store.check()
        store.registers.DEFRAG_HITS = 0


def scattered(store: Bare) -> None:
    draw = random.Random(1)
    for i in range(6000):
        store("SET", f"s:{i}", b"v" * (i % 90), *(("PX", 10**8) if i % 2 else ()))
        if i < 200:
            write(store, "great hashes", i, draw)
            write(store, "great zsets", i, draw)
    for i in range(6000):
        if i % 13:
            store("DEL", f"s:{i}")
    settle(store)


def test_short_of_frames_a_step_moves_what_it_can(store: Bare) -> None:
    scattered(store)
    digest = store_digest(store.context)
    root = store.fork()
    frames = [*range(0, 140, 14), 500]
    for free in frames:
        defrag_begin(store.context)
        with only(store.memory, free):
            for _ in range(60):
                if not defrag_step(store.context, 8):
                    break
        store.check()
        assert store_digest(store.context) == digest
        defrag_abandon(store.context)
        while defrag_step(store.context, FOREVER):
            pass
    assert store.registers.DEFRAG_HITS > 0
    store.release(root)
    store.check()


def plan(store: Bare) -> int:
    store.registers.TIMER_MS += 100
    upkeep.plan_defrag(store.context)
    return int(store.registers.DEFRAG_RUNNING)


def test_the_share_of_the_time_grows_with_fragmentation_between_the_thresholds(store: Bare) -> None:
    scattered(store)
    r = store.registers
    r.DEFRAG_IGNORE_BYTES = 1
    now = int(fragmentation(store.context))
    assert now > 60
    for lower, upper, least, most, expected in (
        (now, now + 100, 1, 25, 1),
        (now - 50, now + 50, 1, 25, 13),
        (now - 100, now, 1, 25, 25),
        (0, now // 2, 5, 40, 40),
        (now + 1, now + 2, 1, 25, 0),
        (10, 10, 1, 25, 25),
    ):
        r.DEFRAG_THRESHOLD_LOWER, r.DEFRAG_THRESHOLD_UPPER = lower, upper
        r.DEFRAG_CYCLE_MIN, r.DEFRAG_CYCLE_MAX = least, most
        assert upkeep.defrag_percent(store.context) == expected
    r.DEFRAG_IGNORE_BYTES = int(wasted_bytes(store.context)) + 1
    assert upkeep.defrag_percent(store.context) == 0


def test_it_runs_only_if_it_is_wanted_and_nothing_shares_the_pages(store: Bare) -> None:
    scattered(store)
    r = store.registers
    r.TIMER_MS, r.DEFRAG_IGNORE_BYTES = 1_000_000, 1
    assert plan(store) == 0 and r.DEFRAG_STATE == RESTING, "it is off by default"
    r.ACTIVE_DEFRAG = 1
    root = store.fork()
    assert plan(store) == 0 and r.DEFRAG_STATE == RESTING, "a frozen root shares all pages"
    store.release(root)
    assert plan(store) > 0 and r.DEFRAG_STATE == CHOOSING
    while r.DEFRAG_STATE != WALKING:
        defrag_step(store.context, 8)
    root = store.fork()
    assert plan(store) == 0 and r.DEFRAG_STATE == WALKING, "it goes on when the root is gone"
    store.release(root)
    assert plan(store) > 0
    r.ACTIVE_DEFRAG = 0
    assert plan(store) > 0 and r.DEFRAG_STATE == RETURNING, "what is leaving is returned"
    while defrag_step(store.context, 100):
        pass
    assert plan(store) == 0 and not leaving(store.context.space)
    store.check()


def test_it_rests_after_a_cycle_and_longer_after_one_without_effect(store: Bare) -> None:
    scattered(store)
    r = store.registers
    r.TIMER_MS, r.DEFRAG_IGNORE_BYTES, r.ACTIVE_DEFRAG = 1_000_000, 1, 1
    assert plan(store) > 0
    while defrag_step(store.context, 1000):
        pass
    r.DEFRAG_THRESHOLD_LOWER = 0
    assert r.DEFRAG_REST_MS == r.TIMER_MS + 1000 and plan(store) == 0
    r.TIMER_MS += 1000
    assert plan(store) > 0
    while defrag_step(store.context, 1000):
        pass
    assert r.DEFRAG_REST_MS == r.TIMER_MS + 10_000 and plan(store) == 0


def test_pages_that_an_image_holds_as_leaving_are_returned(store: Bare) -> None:
    scattered(store)
    defrag_begin(store.context)
    while not leaving(store.context.space):
        defrag_step(store.context, 8)
    r = store.registers
    r.DEFRAG_STATE = RESTING  # as after a restart
    assert plan(store) > 0 and r.DEFRAG_STATE == RETURNING
    while defrag_step(store.context, 8):
        pass
    assert not leaving(store.context.space)
    store.check()


def _groups(store: Bare, draw: random.Random) -> None:
    """A great stream and small ones with groups, whose consumers get entries in turn."""
    for key, entries in (("great", 4000), *((f"small:{i}", 12) for i in range(100))):
        for i in range(1, entries + 1):
            store("XADD", key, f"{i // 2}-{i}", "f", i)
        for group in ("g", "h"):
            store("XGROUP", "CREATE", key, group, 0)
            for i in range(0, entries, 4):
                name = f"consumer:{draw.randrange(entries // 6)}:{'n' * draw.randrange(60)}"
                store("XREADGROUP", "GROUP", group, name if i % 8 else "many", "COUNT", 4, "STREAMS", key, ">")


def _thin_groups(store: Bare, draw: random.Random) -> None:
    for key, entries in (("great", 4000), *((f"small:{i}", 12) for i in range(100))):
        for group in ("g", "h"):
            gone = [f"{i // 2}-{i}" for i in range(1, entries + 1) if draw.random() < 0.93]
            store("XACK", key, group, *gone)
            for consumer in store("XINFO", "CONSUMERS", key, group):  # type: ignore[attr-defined]
                if draw.random() < 0.8 and consumer[1] != b"many":
                    store("XGROUP", "DELCONSUMER", key, group, consumer[1])
    settle(store)


def test_what_lies_below_the_groups_of_streams_moves_together(store: Bare) -> None:
    draw = random.Random(3)
    _groups(store, draw)
    _thin_groups(store, draw)
    digest, model, before = store_digest(store.context), contents(store.context), pages(store)
    cycle(store, 32, 40)
    assert store_digest(store.context) == digest and contents(store.context) == model
    assert pages(store) < 0.65 * before
    assert fragmentation(store.context) <= 45
    store.check()
    for group in ("g", "h"):
        left = store("XPENDING", "great", group, "-", "+", 5000)
        assert isinstance(left, list) and len(left) > 100
        assert store("XACK", "great", group, *(one[0] for one in left)) == len(left)
    store.check()


def test_groups_change_while_they_are_moved(store: Bare) -> None:
    draw = random.Random(4)
    _groups(store, draw)
    _thin_groups(store, draw)
    defrag_begin(store.context)
    r, steps, met = store.registers, 0, set()
    while defrag_step(store.context, 3):
        if r.DEFRAG_STATE != WALKING or r.DEFRAG_ENTRY == 0:
            continue
        steps += 1
        met.add(min(r.DEFRAG_GROUP, 3))
        kind, group, name = draw.randrange(8), draw.choice("gh"), f"consumer:{draw.randrange(600)}:new"
        if steps % 3 == 0:
            if kind < 2:
                store("XACK", "great", group, *(f"{i // 2}-{i}" for i in draw.sample(range(1, 4001), 200)))
            elif kind < 4:
                ids = [f"{i // 2}-{i}" for i in draw.sample(range(1, 4001), 50)]
                store("XCLAIM", "great", group, name, 0, *ids, "FORCE", "JUSTID")
            elif kind == 4:
                store("XGROUP", "DELCONSUMER", "great", group, draw.choice((name, "many")))
            elif kind == 5 and draw.random() < 0.1:
                store("XGROUP", "DESTROY", "great", group)
                store("XGROUP", "CREATE", "great", group, 0)
            elif kind == 6:
                store("XGROUP", "CREATE", "great", f"g{steps}", "$")
            else:
                store("XREADGROUP", "GROUP", group, name, "COUNT", 30, "STREAMS", "great", ">")
        if steps % 50 == 0:
            store.check()
    assert {1, 2, 3} <= met and steps > 200
    store.check()
