"""A transaction that runs out of memory at any point is undone as a whole."""

import random
from collections.abc import Iterator

import pytest

from kvstore.commands import rows
from kvstore.commands.table import find, row_number_of
from kvstore.effects.journal import Journal
from kvstore.lifetimes import connection
from kvstore.store.check import contents
from kvstore.store.digest import store_digest
from tests.kvstore.bare import ReplyError
from tests.kvstore.pipelines import Command, Pipelines
from tests.kvstore.test_collections import FAMILIES, small, stream

UNDONE = "EXECABORT Transaction discarded because of: OOM"


@pytest.fixture
def store() -> Iterator[Pipelines]:
    with Pipelines() as made:
        for i in range(200):
            made("SET", f"key:{i}", "v" * (i * 7 % 900))
        made("SET", "counter", 5)
        made("SET", "timed", "x", "PX", 50)
        yield made


LONG: tuple[Command, ...] = (
    *(("SET", f"new:{i}", bytes([65 + i % 26]) * 3000) for i in range(120)),
    ("INCR", "counter"),
    *(("APPEND", f"key:{i}", "w" * 2000) for i in range(0, 100, 3)),
    ("DEL", *(f"key:{i}" for i in range(100, 140))),
    ("RENAME", "key:1", "key:2"),
    ("EXPIRE", "key:3", 1000),
    ("SWAPDB", 0, 1),
    ("SELECT", 1),
    ("SETRANGE", "key:5", 20_000, "end"),
    ("COPY", "new:1", "copied", "DB", 2),
    ("FLUSHDB",),
    *(("SET", f"again:{i}", "z" * 4000) for i in range(60)),
    ("SELECT", 0),
)


def test_what_fits_is_done_and_never_forked(store: Pipelines) -> None:
    forks = store.shard.processor.counters["forks"]
    assert store.transaction(("SET", "a", 1), ("INCR", "a"), ("DEL", "key:1")) == ["OK", 2, 1]
    assert store.transaction(("GET", "a"), ("STRLEN", "key:2")) == [b"2", 14]
    assert store.shard.processor.counters["forks"] == forks


def test_sketches_are_bounded_and_never_forked() -> None:
    with Pipelines(32 << 20) as store:
        elements = [f"element:{i}" for i in range(3000)]
        forks = store.shard.processor.counters["forks"]
        assert store.transaction(("PFADD", "a", 1), ("PFADD", "a", *elements), ("PFMERGE", "b", "a")) == [1, 1, "OK"]
        assert store.shard.processor.counters["forks"] == forks


def test_a_transaction_of_sketches_is_done_whole_or_not_at_all() -> None:
    """A transaction that was granted without a fork does not run out, however many frames are free."""
    outcomes = set()
    with Pipelines(32 << 20) as store:
        store("PFADD", "dense", *range(3000))
        for free in range(0, 4000, 200):
            names = [f"sketch:{free}:{i}" for i in range(20)]
            commands = [part for name in names for part in (("PFADD", name, 1), ("PFMERGE", name, "dense"))]
            forks, store.registers.FRAMES_IN_FORCE = store.shard.processor.counters["forks"], store.used + free
            reply = store.transaction(*commands)
            forked, store.registers.FRAMES_IN_FORCE = store.shard.processor.counters["forks"] > forks, 1 << 40
            done = store("EXISTS", *names)
            assert (reply, done) == ([1, "OK"] * 20, 20) or (forked and done == 0), (free, reply)
            outcomes.add((forked, done))
            store("DEL", *names)
            store.settle()
        store.check()
    assert {(False, 20), (True, 0)} <= outcomes


def test_deletions_alone_never_fork_however_full_the_store_is(store: Pipelines) -> None:
    store.registers.FRAMES_IN_FORCE = store.used - 100
    forks = store.shard.processor.counters["forks"]
    assert store.transaction(("DEL", "key:1"), ("UNLINK", "key:2", "key:3"), ("FLUSHALL",)) == [1, 2, "OK"]
    assert store.shard.processor.counters["forks"] == forks


def test_what_its_arguments_do_not_bound_is_forked_and_holds(store: Pipelines) -> None:
    forks = store.shard.processor.counters["forks"]
    assert store.transaction(("APPEND", "key:0", "x"), ("SETRANGE", "key:0", 100, "y")) == [1, 101]
    assert store.shard.processor.counters["forks"] == forks + 1
    assert store("GET", "key:0") == b"x" + bytes(99) + b"y"
    store.settle()
    store.check()


def test_memory_runs_out_at_each_point_of_a_long_transaction(store: Pipelines) -> None:
    before, digest, outcomes = contents(store.context), store_digest(store.context), []
    journal = Journal(store.context)
    r, used = store.registers, store.used
    registers = {name: getattr(r, name) for name in ("DIRTY", "KEYSPACE_HITS", "KEYSPACE_MISSES", "EXPIRED_KEYS")}
    for spare in range(220, 900, 20):
        r.FRAMES_IN_FORCE = used + spare
        answer = store.transaction(*LONG)
        if isinstance(answer, ReplyError):
            assert answer.startswith(UNDONE)
            assert store_digest(store.context) == digest
            assert contents(store.context) == before  # deadlines too
            assert {name: getattr(r, name) for name in registers} == registers
            assert journal.take() == []
            outcomes.append("undone")
        else:
            assert isinstance(answer, list) and not any(isinstance(one, ReplyError) for one in answer)
            outcomes.append("done")
            break
        assert r.UNDO_ROOT == -1 and r.FROZEN_ROOTS == 0 and r.DEPTH == 0
        store.settle()
        store.check()
    assert outcomes.count("undone") >= 5, outcomes
    assert outcomes[-1] == "done", outcomes
    assert [one.event for one in journal.take()][:3] == ["set", "set", "set"]
    assert contents(store.context)[1].keys() == {f"again:{i}".encode() for i in range(60)}
    assert contents(store.context)[2].keys() == {b"copied"}
    store.settle()
    store.check()


def test_it_runs_out_of_frames_themselves(store: Pipelines) -> None:
    """The machine sets the limit, not the policy: fewer frames are free than the copies alone need."""
    before = contents(store.context)
    seen = set()
    for size in range(1, 14):
        value = b"x" * (size << 20)
        answer = store.transaction(("APPEND", "key:0", "y"), ("SET", "big", value), ("SET", "big:2", value))
        seen.add(isinstance(answer, ReplyError))
        if isinstance(answer, ReplyError):
            assert answer.startswith(UNDONE)
            assert contents(store.context) == before
        else:
            assert store.transaction(("SET", "key:0", ""), ("DEL", "big", "big:2")) == ["OK", 2]
            before = contents(store.context)
        store.settle()
        store.check()
    assert seen == {False, True}


def test_who_watches_hears_of_what_holds_and_of_nothing_that_was_undone(store: Pipelines) -> None:
    row = store.shard.connections.row(store.other)
    assert store.run(("WATCH", "key:1"), ("WATCH", "new:7"), slot=store.other) == ["OK", "OK"]
    journal = Journal(store.context)
    store.registers.FRAMES_IN_FORCE = store.used + 300
    answer = store.transaction(("APPEND", "key:1", "x"), *(("SET", f"new:{i}", b"v" * 4000) for i in range(500)))
    assert isinstance(answer, ReplyError)
    assert journal.take() == []
    assert row[connection.FLAGS] & connection.DIRTY_CAS == 0
    store.registers.FRAMES_IN_FORCE = store.used + 2000
    assert store.transaction(("APPEND", "key:1", "x"), ("DEL", "key:2")) == [8, 1]
    assert [one[:3] for one in journal.take()] == [("append", 0, b"key:1"), ("del", 0, b"key:2")]
    assert row[connection.FLAGS] & connection.DIRTY_CAS != 0


def test_an_undone_transaction_counts_as_a_failed_call_of_exec(store: Pipelines) -> None:
    store.registers.FRAMES_IN_FORCE = store.used
    assert isinstance(store.transaction(("SET", "new", b"v" * 9_000_000)), ReplyError)
    table = store.table.counters
    exec_ = find(b"exec")
    assert exec_ is not None
    row = table.row(row_number_of(exec_))
    assert (row[rows.STAT_CALLS], row[rows.STAT_FAILED]) == (1, 1)
    assert store.registers.ERROR_REPLIES == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transaction_on_collections_is_undone_as_a_whole(family: str) -> None:
    r = random.Random(family)
    with Pipelines(32 << 20) as store:
        small(store)
        for command in stream(r, family, 120):
            store(*command)
        store.settle()
        before, digest = contents(store.context), store_digest(store.context)
        # RENAME has an error of its own, and Python decides whether a command with subcommands may be queued.
        commands = [command for command in stream(r, family, 150) if command[0] not in ("RENAME", "XGROUP")]
        fill = [("SET", f"new:{i}", bytes(3000)) for i in range(80)]
        outcomes = set()
        for spare in range(100, 3000, 150):
            store.registers.FRAMES_IN_FORCE = store.used + spare
            answer = store.transaction(*fill[:40], *commands, *fill[40:])
            if isinstance(answer, ReplyError):
                assert answer.startswith(UNDONE)
                assert store_digest(store.context) == digest
                assert contents(store.context) == before
                outcomes.add("undone")
            else:
                outcomes.add("done")
                break
            store.settle()
            store.check()
        assert outcomes == {"undone", "done"}
        store.settle()
        store.check()


@pytest.mark.parametrize(
    "change",
    [
        *(
            ("XADD", "s", "*", "f", "v"),
            ("HSET", "h", "f", "v"),
            ("SADD", "t", "x"),
            ("XCLAIM", "s", "h", "d", 0, "1-1"),
        ),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"),
    ],
    ids=lambda words: words[0],
)
def test_a_transaction_near_the_limit_is_whole_or_nothing(change: Command) -> None:
    for extra in range(100, 1200, 40):
        with Pipelines() as store:
            store("SET", "a", 1)
            for i in range(1, 51):
                store("XADD", "s", f"{i}-1", "f", "v")
            for group in "gh":
                store("XGROUP", "CREATE", "s", group, 0)
            store("XREADGROUP", "GROUP", "h", "c", "STREAMS", "s", ">")
            store.registers.FRAMES_IN_FORCE = store.used + extra
            undone = isinstance(store.transaction(("DEL", "a"), change), ReplyError)
            assert store("EXISTS", "a") == int(undone), extra
