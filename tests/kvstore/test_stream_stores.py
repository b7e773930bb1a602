"""Streams with groups among stores and over turns: branches that differ, copies in steps, groups that go in steps."""

import pytest

from kvstore.store.check import contents
from kvstore.store.flush import background_step
from mmcore.heap import heap_used
from mmcore.jit import int64, linked
from mmcore.state import SPACE
from tests.kvstore.bare import Bare
from tests.kvstore.test_difference import Stores

CHANGES = [
    ("XADD", "k", "9999-1", "f", "v"),
    ("XDEL", "k", "1500-1"),
    ("XSETID", "k", "9999-1"),
    ("XACK", "k", "g", "77-1"),
    ("XCLAIM", "k", "g", "one", 0, "77-1", "RETRYCOUNT", 9),
    ("XCLAIM", "k", "g", "two", 0, "77-1", "JUSTID"),
    ("XGROUP", "SETID", "k", "g", "$"),
    ("XGROUP", "CREATE", "k", "h", "$"),
    ("XGROUP", "CREATECONSUMER", "k", "g", "three"),
    ("XGROUP", "DESTROY", "k", "g"),
    ("XREADGROUP", "GROUP", "g", "one", "COUNT", 1, "STREAMS", "k", ">"),
]


@linked(int64(SPACE))
def used(space):  # type: ignore[no-untyped-def]
    """heap_used, for Python."""
    return heap_used(space)


def fill(store: Bare, entries: int, pending: int) -> None:
    for i in range(1, entries + 1):
        store("XADD", "k", f"{i}-1", "field", f"value:{i}")
    store("XGROUP", "CREATE", "k", "g", 0)
    store("XREADGROUP", "GROUP", "g", "one", "COUNT", pending, "STREAMS", "k", ">")
    store("XREADGROUP", "GROUP", "g", "two", "COUNT", 3, "STREAMS", "k", ">")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: " ".join(map(str, change)))
def test_any_change_of_a_stream_or_its_groups_is_a_difference(change: tuple[str | int, ...]) -> None:
    with Stores() as stores:
        fill(stores, 2000, 300)
        one, other = stores.make("main"), stores.make("main")
        stores.of(one)("XADD", "k", "7000-1", "f", "v")
        stores.of(one)("XADD", "new", "1-1", "f", "v")
        stores.of(one)("DEL", "new")
        stores.of(other)("XADD", "k", "7000-1", "f", "v")
        assert stores.differ(one, other) == stores.differ(other, one, budget=10) == {}
        stores.of(one)(*change)
        assert stores.differ(one, other) == stores.differ(other, one, budget=10) == {(0, b"k"): "changed"}


def test_a_copy_has_the_groups_and_what_is_pending() -> None:
    """A great one, made in steps, and a small one, made at once."""
    for entries in (30, 20_000):
        with Bare() as store:
            fill(store, entries, entries // 2)
            store("XDEL", "k", "7-1")
            assert store("COPY", "k", "copy") == 1
            found = contents(store.context)[0]
            assert found[b"copy"] == found[b"k"]
            store("XADD", "copy", "99999-1", "f", "v")
            store("XACK", "copy", "g", "1-1", "2-1")
            assert store("XPENDING", "k", "g")[0] == store("XPENDING", "copy", "g")[0] + 2  # type: ignore[index]
            store.check()


def test_what_goes_is_freed_in_steps_to_the_last_byte() -> None:
    with Bare() as store:
        before = used(store.context.space)
        for last in (("XGROUP", "DESTROY", "k", "g"), ("XTRIM", "k", "MAXLEN", 10), ("DEL", "k")):
            fill(store, 5000, 3000)
            store(*last)
            store.check()
            assert 0 < background_step(store.context, 50) <= 100
            store.check()
            store("DEL", "k")
            while background_step(store.context, 1000):
                pass
            store.check()
            assert used(store.context.space) == before


def test_a_consumer_with_much_pending_is_removed_over_several_turns() -> None:
    """The reply counts what was pending when the command came; others go on meanwhile."""
    with Bare() as store:
        fill(store, 9000, 8000)
        assert store("XGROUP", "DELCONSUMER", "k", "g", "one") == 8000
        assert store("XPENDING", "k", "g")[:1] == [3]  # type: ignore[index]
        assert store("XGROUP", "DELCONSUMER", "k", "g", "one") == 0
        store.check()


@pytest.mark.slow
def test_a_million_pending_entries_stop_nobody() -> None:
    """The nodes that a command touches are those on its way: counted by the pages that it writes beside a snapshot."""
    with Bare(size=1 << 30) as store:
        fill(store, 1_000_000, 990_000)
        for command in (
            ("XACK", "k", "g", "500000-1"),
            ("XCLAIM", "k", "g", "two", 0, "600000-1"),
            ("XAUTOCLAIM", "k", "g", "two", 0, "700000-1", "COUNT", 1, "JUSTID"),
            ("XPENDING", "k", "g", "800000-1", "+", 3),
            ("XPENDING", "k", "g"),
            ("XGROUP", "DESTROY", "k", "g"),
        ):
            root = store.fork()
            free = store.memory.frames_free
            store(*command)
            assert free - store.memory.frames_free < 100, command
            store.release(root)
        store("XTRIM", "k", "MAXLEN", 10)
        assert store("XLEN", "k") == 10


def test_a_copy_of_a_long_name_of_a_group_is_refused_and_not_begun() -> None:
    with Bare(size=64 << 20, spare=8 << 20) as store:
        store("XADD", "s", "1-1", "f", "v")
        store("XGROUP", "CREATE", "s", b"n" * (24 << 20), 0)
        assert store("COPY", "s", "t") == 1
        assert str(store("COPY", "s", "u")).startswith("OOM")
        store.check()


def test_frames_are_reserved_for_all_entries_of_dense_nodes_behind_sparse_ones() -> None:
    with Bare(size=32 << 20, spare=0) as store:
        store.registers.STREAM_NODE_MAX_ENTRIES = 1
        for i in range(1, 60_001):
            store("XADD", "s", f"1-{i}", "", "")
        store.registers.STREAM_NODE_MAX_ENTRIES = store.registers.STREAM_NODE_MAX_BYTES = 0
        for i in range(1, 200_001):
            store("XADD", "s", f"2-{i}", "", "")
        store("XGROUP", "CREATE", "s", "g", "1-60000")
        for i in range(10_000):
            if store.memory.frames_free <= 2050:
                break
            store("SET", f"x{i}", b"x" * 65536)
        assert str(store("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")).startswith("OOM")
        assert store("XPENDING", "s", "g") == [0, None, None, None]


def test_a_small_stream_with_groups_is_copied_where_few_frames_are_free() -> None:
    """Those that any command which adds something wants, and some for its trees: no more than for a small hash."""
    with Bare(size=24 << 20, spare=0) as store:
        fill(store, 20, 10)
        for i in range(10_000):
            if store.memory.frames_free <= 450:
                break
            store("SET", f"x{i}", b"x" * 8192)
        before = store.memory.frames_free
        assert 430 < before <= 450
        assert store("COPY", "k", "copy") == 1
        assert before - store.memory.frames_free < 20
        found = contents(store.context)[0]
        assert found[b"copy"] == found[b"k"]
        store.check()


@pytest.mark.parametrize("shared", [False, True])
def test_a_copy_that_runs_out_of_frames_anywhere_leaves_nothing(shared: bool) -> None:
    """With each number of free frames the copy is made, or refused and freed."""
    with Bare(size=24 << 20, spare=0) as store:
        fill(store, 300, 150)
        for i in range(40):
            store("XGROUP", "CREATE", "k", f"{'n' * 5000}{i}", 0)
            store("XREADGROUP", "GROUP", f"{'n' * 5000}{i}", "one", "COUNT", 30, "STREAMS", "k", ">")
        if shared:
            store.fork()
        outcomes = set()
        for i in range(1000):
            if store("SET", f"x{i}", b"x" * 65536) != "OK":
                break
            if store.memory.frames_free <= 800:
                outcomes.add(str(store("COPY", "k", "copy"))[:3])
                store.check()
                store("DEL", "copy")
                while background_step(store.context, 10_000):
                    pass
        assert outcomes == {"1", "OOM"}
