"""COPY of a great value, one step a turn: what others do meanwhile, and what is left when it does not end well."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvstore.connections.table import open_connection
from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes.context import AGAIN
from kvstore.net.closing import close_connection
from kvstore.net.loop import may_wait_ms
from kvstore.store.check import contents
from kvstore.store.copying import BEGINS_MAX, GREAT_BYTES, GREAT_ELEMENTS, STEP_WORK
from kvstore.store.databases import keyspace_open, memory_used
from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from kvstore.store.undo import undo, undo_begin
from mmcore.jit import address_of, int64, zeros
from mmcore.mapping import reset
from mmcore.paging import PAGE_SIZE
from mmcore.populate import CONTROL_SIZE, POLLED, RUN_READY, WATERMARK
from mmcore.release import release
from snapshot.restore import restore
from snapshot.snapshotter import Snapshotter
from tests.kvstore.bare import Bare, ReplyError
from tests.kvstore.test_collections import MEMBERS
from tests.mmcore.support import only

COUNT = 3000
KINDS = ("hash", "set", "zset", "list")
LIST_VALUE = b"v" * 200  # so that it is more than GREAT_BYTES


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare(connections=4) as made:
        yield made


def fill(store: Bare, kind: str, key: str = "great", count: int = COUNT, mark: bytes = b"x") -> None:
    for first in range(0, count, 100):
        numbers = range(first, min(first + 100, count))
        if kind == "hash":
            store("HSET", key, *[part for i in numbers for part in (b"field:%d" % i, b"%s%d" % (mark, i * 7))])
        elif kind == "set":
            store("SADD", key, *[b"member:%s%d" % (mark, i) for i in numbers])
        elif kind == "zset":
            store("ZADD", key, *[part for i in numbers for part in (i * 7919 % 1009, b"member:%s%d" % (mark, i))])
        else:
            store("RPUSH", key, *[b"%d%s" % (i, mark) + LIST_VALUE for i in numbers])


def change(r: random.Random, kind: str, store: Bare) -> None:
    """Some command that changes the value."""
    some, one = r.sample(MEMBERS, 5), b"field:%d" % r.randrange(COUNT)
    member = b"member:x%d" % r.randrange(COUNT)
    choices: dict[str, list[tuple[object, ...]]] = {
        "hash": [
            ("HSET", "great", one, b"w" * r.randrange(90)),
            ("HDEL", "great", one, *some),
            ("HSET", "great", *[part for i in some for part in (i, i)]),
        ],
        "set": [("SADD", "great", *some), ("SREM", "great", member, *some), ("SPOP", "great", 20)],
        "zset": [("ZADD", "great", r.random(), member), ("ZREM", "great", member), ("ZPOPMIN", "great", 20)],
        "list": [
            *(("LSET", "great", r.randrange(2000), some[0]), ("LPOP", "great", 30), ("RPUSH", "great", *some)),
            *(("LINSERT", "great", "BEFORE", some[0], some[1]), ("LTRIM", "great", 2, -2)),
        ],
    }
    reply = store(*r.choice(choices[kind]))  # type: ignore[arg-type]
    assert not isinstance(reply, ReplyError), reply


def held(store: Bare, key: str = "great", db: int = 0) -> object:
    """A key's value and deadline; None without it.  Proves the store sound."""
    return contents(store.context).get(db, {}).get(key.encode())


def settle(store: Bare) -> None:
    """Do all work that waits."""
    while background_step(store.context, 64) > 0:
        pass


def frames_used(store: Bare) -> int:
    """Frames that are not free."""
    return store.memory.size // PAGE_SIZE - store.memory.frames_free


def is_over(store: Bare) -> None:
    """Nothing is left of a COPY, once what waits has been done."""
    r = store.registers
    settle(store)
    assert r.COPY_OWNER == 0 and r.COPY_ROOT == -1 and r.FROZEN_ROOTS == 0 and store.pool.waiting == []
    store.check()


def turns_for(kind: str) -> int:
    """Turns that COPY of a great value takes; an element of a sorted set has an item in a tree, too."""
    return -(-COUNT * (2 if kind == "zset" else 1) // STEP_WORK)


def once(act: Callable[[], object], turn: int = 3) -> Callable[[], None]:
    """Do something between two turns, once."""
    turns = iter(range(1, 1 << 30))

    def between() -> None:
        if next(turns) == turn:
            act()

    return between


@pytest.mark.parametrize("kind", KINDS)
def test_a_great_value_is_copied_in_turns(store: Bare, kind: str) -> None:
    fill(store, kind)
    store("PEXPIREAT", "great", store.clock_ms + 5000)
    value, used = held(store), memory_used(store.context)
    assert store("COPY", "great", "copy") == 1
    assert 5 < store.turns < 10 if kind == "list" else store.turns == turns_for(kind)
    assert held(store, "copy") == value == held(store)
    assert store("OBJECT", "ENCODING", "copy") == store("OBJECT", "ENCODING", "great")
    is_over(store)
    assert memory_used(store.context) < 2.2 * used
    store("DEL", "great")
    is_over(store)
    assert held(store, "copy") == value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_what_the_value_was_when_it_began(store: Bare, kind: str, seed: int) -> None:
    r = random.Random(seed)
    fill(store, kind)
    value = held(store)

    def others() -> None:
        for _ in range(10):
            change(r, kind, store)
        background_step(store.context, 64)
        if r.random() < 0.3:
            store.check()

    store.between = others
    assert store("COPY", "great", "copy") == 1
    assert store.turns > 3
    assert held(store, "copy") == value != held(store)
    is_over(store)
    assert held(store, "copy") == value


SOURCE_GOES: dict[str, Callable[[Bare], object]] = {
    "deleted": lambda store: store("DEL", "great"),
    "unlinked, and freed": lambda store: [store("UNLINK", "great"), settle(store)],
    "renamed": lambda store: store("RENAME", "great", "elsewhere"),
    "moved": lambda store: store("MOVE", "great", 3),
    "another type": lambda store: store("SET", "great", "text"),
    "another value": lambda store: [store("DEL", "great"), store("SADD", "great", "a", "b")],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("goes", SOURCE_GOES)
def test_the_source_may_go_once_copying_has_begun(store: Bare, kind: str, goes: str) -> None:
    fill(store, kind)
    value = held(store)
    store.between = once(lambda: SOURCE_GOES[goes](store))
    assert store("COPY", "great", "copy", "DB", 2) == 1
    assert store.turns > 3 and held(store) != value
    assert held(store, "copy", 2) == value
    is_over(store)


def test_a_source_that_expires_meanwhile_leaves_a_copy_that_is_due(store: Bare) -> None:
    fill(store, "hash")
    store("PEXPIRE", "great", 1000)
    store("SET", "copy", "old")

    def later() -> None:
        store.clock_ms += 1000
        assert store("EXISTS", "great") == 0

    store.between = once(later)
    assert store("COPY", "great", "copy", "REPLACE") == 1
    assert store("EXISTS", "copy") == 0 and store("DBSIZE") == 0
    is_over(store)


@pytest.mark.parametrize("kind", KINDS)
def test_a_destination_that_comes_meanwhile_stays_or_is_replaced(store: Bare, kind: str) -> None:
    fill(store, "zset", "other", mark=b"y")
    fill(store, kind)
    value, other = held(store), held(store, "other")
    used = memory_used(store.context)
    store.between = once(lambda: store("RENAME", "other", "copy"))
    assert store("COPY", "great", "copy") == 0
    is_over(store)
    assert held(store, "copy") == other and memory_used(store.context) <= used + 4096
    store.between = once(lambda: fill(store, "list", "late"))
    assert store("COPY", "great", "copy", "REPLACE") == 1
    assert held(store, "copy") == value
    store("DEL", "great", "copy", "late")
    is_over(store)
    assert store("DBSIZE") == 0


def test_a_destination_that_is_there_is_told_at_once(store: Bare) -> None:
    fill(store, "hash")
    store("SET", "copy", "old")
    forks = store.shard.processor.counters["forks"]
    assert store("COPY", "great", "copy") == 0 and store.turns == 1
    assert store.shard.processor.counters["forks"] == forks
    assert store("COPY", "great", "copy", "REPLACE") == 1 and store.turns > 3


def test_a_destination_that_goes_meanwhile_does_not_matter(store: Bare) -> None:
    fill(store, "hash")
    fill(store, "zset", "copy")
    store.between = once(lambda: store("DEL", "copy"))
    assert store("COPY", "great", "copy", "REPLACE") == 1
    assert held(store, "copy") == held(store)
    is_over(store)


def test_what_flushall_deletes_does_not_come_back(store: Bare) -> None:
    fill(store, "hash")
    store.between = once(lambda: store("FLUSHALL"))
    assert store("COPY", "great", "copy") == 0
    is_over(store)
    assert contents(store.context) == {}
    fill(store, "hash")

    def anew() -> None:
        store("FLUSHALL")
        fill(store, "zset", count=900)

    store.between = once(anew)
    assert store("COPY", "great", "copy") == 1
    assert held(store, "copy") == held(store) and store("ZCARD", "copy") == 900
    is_over(store)


def test_what_flushdb_deletes_does_not_come_back(store: Bare) -> None:
    store("SELECT", 1)
    store("SET", "other", "x")
    store("SELECT", 0)
    fill(store, "hash")

    def flush() -> None:
        store("FLUSHDB")
        store("HSET", "great", "f", "new")

    store.between = once(flush)
    assert store("COPY", "great", "copy") == 1
    assert held(store, "copy") == ({b"f": b"new"}, None)
    is_over(store)


def test_after_swapdb_it_copies_what_the_name_means_now(store: Bare) -> None:
    fill(store, "hash")
    store("SELECT", 1)
    fill(store, "zset", mark=b"y")
    store("SELECT", 0)
    values = held(store), held(store, db=1)
    store.between = once(lambda: store("SWAPDB", 0, 1))
    assert store("COPY", "great", "copy") == 1
    assert held(store, "copy") == values[1] and held(store, "copy", 1) is None and held(store, db=1) == values[0]
    is_over(store)
    store.between = once(lambda: store("SWAPDB", 0, 5))
    assert store("COPY", "great", "copy", "REPLACE") == 0, "there is no such key any more"
    is_over(store)


def test_it_ends_however_often_databases_change_places(store: Bare) -> None:
    for db in range(2):
        store("SELECT", db)
        fill(store, "hash", mark=b"%d" % db)
    store("SELECT", 0)
    values = [held(store), held(store, db=1)]
    store.between = lambda: store("SWAPDB", 0, 1)
    assert store("COPY", "great", "copy") == 1
    assert store.turns == BEGINS_MAX + 1
    assert held(store, "copy") in values
    is_over(store)


@pytest.mark.parametrize("kind", KINDS)
def test_running_out_of_memory_leaves_nothing(kind: str) -> None:
    outcomes = set()
    with Bare(16 << 20, connections=4) as store:
        fill(store, kind, count=1500)
        used, digest, r = memory_used(store.context), store_digest(store.context), store.registers
        for free in range(350, 800, 30):
            # Either the frames in force bound it, or those that there are.
            r.FRAMES_IN_FORCE = frames_used(store) + free if free % 20 else 1 << 40
            with only(store.memory, store.memory.frames_free if free % 20 else free):
                reply = store("COPY", "great", "copy")
                assert reply == 1 or (isinstance(reply, ReplyError) and reply.startswith("OOM")), reply
                outcomes.add(str(reply)[:3])
                if reply != 1:
                    assert store_digest(store.context) == digest
            store("DEL", "copy")
            is_over(store)
            assert memory_used(store.context) <= used + 8192 and store_digest(store.context) == digest
    assert outcomes == {"1", "OOM"}


def test_a_copy_stays_within_the_frames_in_force(store: Bare) -> None:
    store("HSET", "great", *[part for i in range(30) for part in (i, b"%d" % i * 50_000)])
    r = store.registers
    used = frames_used(store)
    r.FRAMES_IN_FORCE = used + 600
    highest = 0

    def watch() -> None:
        nonlocal highest
        highest = max(highest, frames_used(store))

    store.between = watch
    assert str(store("COPY", "great", "copy")).startswith("OOM")
    assert used < highest <= r.FRAMES_IN_FORCE
    is_over(store)
    r.FRAMES_IN_FORCE = 1 << 40
    assert store("COPY", "great", "copy") == 1 and held(store, "copy") == held(store)


def begin(store: Bare, *command: str | bytes) -> list[bytes]:
    """The first turn of a COPY; returns its arguments."""
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    assert store._turn(parts) == AGAIN
    return parts


def test_another_great_copy_waits_and_a_small_one_does_not(store: Bare) -> None:
    fill(store, "hash")
    fill(store, "zset", "second")
    store("HSET", "small", "f", "v")
    values, r = (held(store), held(store, "second")), store.registers
    first = begin(store, "COPY", "great", "copy")
    r.CONNECTION, hits = 1, r.KEYSPACE_HITS
    for _ in range(3):
        second = begin(store, "COPY", "second", "second copy")
    assert r.COPY_OWNER == 1 and hits == r.KEYSPACE_HITS, "it waits, and looks at nothing"
    assert store("COPY", "small", "small copy") == 1 and store.turns == 1
    r.CONNECTION = 0
    while store._turn(first) == AGAIN:
        pass
    r.CONNECTION = 1
    while store._turn(second) == AGAIN:
        assert r.COPY_OWNER == 2
    assert (held(store, "copy"), held(store, "second copy")) == values
    is_over(store)


def test_a_connection_that_is_closed_leaves_nothing(store: Bare) -> None:
    fill(store, "zset")
    used, r = memory_used(store.context), store.registers
    for turns in (1, 4):
        assert open_connection(store.context, -1, turns, 0, 0) == 0
        command = begin(store, "COPY", "great", "copy")
        for _ in range(turns - 1):
            assert store._turn(command) == AGAIN
        store.check()
        close_connection(store.context, 0)
        assert r.COPY_OWNER == 0
        is_over(store)
        assert memory_used(store.context) <= used + 8192 and held(store, "copy") is None
    # Another one need not wait for what is left of it.
    begin(store, "COPY", "great", "copy")
    r.COPY_OWNER, r.CONNECTION = 0, 1
    assert store("COPY", "great", "copy") == 1 and held(store, "copy") == held(store)
    is_over(store)


def test_within_a_transaction_it_takes_one_turn(store: Bare) -> None:
    fill(store, "zset")
    r = store.registers
    r.DEPTH = 1
    assert store("COPY", "great", "copy") == 1 and store.turns == 1
    r.DEPTH = 0
    assert held(store, "copy") == held(store)
    # Nor does it wait for one that takes several.
    first = begin(store, "COPY", "great", "other")
    r.CONNECTION = r.DEPTH = 1
    assert store("COPY", "great", "copy", "REPLACE") == 1 and store.turns == 1
    r.CONNECTION = r.DEPTH = 0
    while store._turn(first) == AGAIN:
        pass
    assert held(store, "other") == held(store)
    is_over(store)


@pytest.mark.parametrize("flush", [False, True])
def test_a_transaction_that_is_undone_meanwhile_does_no_harm(store: Bare, flush: bool) -> None:
    fill(store, "zset")
    value = held(store)

    def transaction() -> None:
        assert undo_begin(store.context) == 1
        store("ZREMRANGEBYRANK", "great", 0, 500)
        if flush:
            store("FLUSHALL")
            fill(store, "hash", "other", count=900)
        undo(store.context)

    store.between = once(transaction)
    assert store("COPY", "great", "copy") == 1
    assert store.turns == turns_for("zset") + 3 * flush, "after FLUSHALL it begins again, even if that is undone"
    assert held(store, "copy") == held(store) == value
    is_over(store)


def test_what_is_great(store: Bare) -> None:
    forks = store.shard.processor.counters["forks"]
    fill(store, "hash", count=GREAT_ELEMENTS)
    store("RPUSH", "list", *[b"%d" % i for i in range(5000)])
    store("SET", "text", b"x" * 1_000_000)
    store("SADD", "numbers", *range(500))
    store("HSET", "few", *[part for i in range(30) for part in (i, b"x" * 5000)])
    for key in ("great", "list", "text", "numbers", "few"):
        assert store("COPY", key, f"copy of {key}") == 1 and store.turns == 1
        assert held(store, f"copy of {key}") == held(store, key)
    assert store.shard.processor.counters["forks"] == forks
    store("HSET", "great", "one more", b"x" * 100)  # too long for a chain, which is never great
    store("HSET", "few", *[part for i in range(30) for part in (i, b"x" * (GREAT_BYTES // 20))])
    assert store("COPY", "great", "a") == 1 and store.turns == 3
    assert store("COPY", "few", "b") == 1 and store.turns >= 3
    assert held(store, "a") == held(store) and held(store, "b") == held(store, "few")
    assert store.shard.processor.counters["forks"] == forks + 2
    is_over(store)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_taken_meanwhile_has_no_half_a_copy_in_the_end(store: Bare, kind: str, tmp_path: Path) -> None:
    fill(store, kind)
    value = held(store)
    snapshotter = Snapshotter(store.space.state, tmp_path, metadata=describe_store, accept=accept_store)

    def save() -> None:
        assert snapshotter.run_and_wait().ok
        while not snapshotter.release():
            pass
        store("SET", "other", b"y" * 3000)

    store.between = once(save)
    assert store("COPY", "great", "copy") == 1
    assert held(store, "copy") == value
    store("DEL", "other")
    is_over(store)
    with Bare(connections=4) as other:
        release(other.memory, int(reset(other.space.state)))
        restore(snapshotter.images.path_of(1), other.space.state, accept=accept_store)
        assert keyspace_open(other.context) == 0
        assert contents(other.context) == {0: {b"great": value}}
        half = memory_used(other.context)
        is_over(other)
        assert memory_used(other.context) < half, "what had been copied by then is freed"
        assert contents(other.context) == {0: {b"great": value}}
        assert other("COPY", "great", "copy") == 1 and held(other, "copy") == value
        is_over(other)
    snapshotter.close()


def test_a_copy_that_waits_for_fresh_memory_asks_for_it_and_rests() -> None:
    """Nobody populates anything here, until the copy has waited three times."""
    fd, control = os.eventfd(0, os.EFD_NONBLOCK), zeros(int64, CONTROL_SIZE)
    control[POLLED], control[RUN_READY] = fd, -1
    rested = []
    with Bare(size=1 << 28, connections=4) as store:
        fill(store, "list", count=20_000)
        store.registers.POPULATOR_ADDRESS, store.registers.TIMER_MS = address_of(control), 1000

        def between() -> None:
            rested.append(store.registers.TURNS_RESTING)
            store.registers.TURNS_PENDING = 1
            assert may_wait_ms(store.context, 50) == (1 if rested[-1] else 0)
            assert store.registers.TURNS_RESTING == 0
            store.registers.TURNS_PENDING = 0
            if sum(rested) == 3:
                control[WATERMARK] = store.memory.frames_total

        store.between = between
        assert store("COPY", "great", "copy") == 1
        store.between = None
        first = rested.index(1)
        assert rested[first : first + 3] == [1, 1, 1] and sum(rested) == 3 and len(rested) > 20
        assert os.eventfd_read(fd) == 1, "it was asked once for each wait"
        assert contents(store.context)[0][b"copy"] == contents(store.context)[0][b"great"]
        store.registers.POPULATOR_ADDRESS = 0
        store.check()
    os.close(fd)


def test_the_loop_sleeps_only_if_all_who_want_a_turn_rest(store: Bare) -> None:
    for pending, resting, expected in ((0, 0, 50), (1, 0, 0), (2, 1, 0), (1, 1, 1), (2, 2, 1)):
        store.registers.TURNS_PENDING, store.registers.TURNS_RESTING = pending, resting
        assert may_wait_ms(store.context, 50) == expected
    store.registers.TURNS_PENDING, store.registers.TURNS_RESTING = 1, 1
    assert may_wait_ms(store.context, 0) == 0
    assert may_wait_ms(store.context, -3) == 0
    store.registers.TURNS_PENDING = 0
    assert may_wait_ms(store.context, -3) == 0
