"""Differences of named stores, compared with full dumps in streams over many branches; lines of contents, their bounds.

A stream changes up to eight stores that come from each other in all ways: forked, reset, restored, swapped, dropped.
With few records a line often forgets.  The dump of a store is made by commands, while its clock stands.
"""

import ctypes
import random
from copy import copy
from typing import Any

import pytest

from kvstore.branches import candidates, lineage
from kvstore.branches import difference as diff
from kvstore.branches.known import Known, context_over, known_stores
from kvstore.branches.named import area_open
from kvstore.branches.registry import registry_begin, registry_remove
from kvstore.effects import changes
from kvstore.lifetimes import named
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.listeners import RECORDED
from kvstore.store import comparing_bytes
from kvstore.store.digest import value_digest
from kvstore.store.flush import background_step
from kvstore.store.undo import undo, undo_begin, undo_end
from mmcore.jit import address_of
from tests.kvstore.bare import Bare, ReplyError, parse
from tests.mmcore.support import seeds

STEPS = 160
DATABASES = 2
KEYS = [b"key:%d" % i for i in range(24)] + [b"", b"L" * 4090, b"M" * 9000]
LENGTHS = 0, 1, 8, 60, 500, 4100, 20_000, 300_000
Dump = dict[tuple[int, bytes], tuple[object, ...]]
Changes = dict[tuple[int, bytes], str]


def words(address: int, count: int) -> Any:
    """Words of the process's memory."""
    return (ctypes.c_int64 * count).from_address(address)


class Line:
    """A line of contents, as Python reads it."""

    def __init__(self, address: int) -> None:
        self.address, self._words = address, words(address, changes.LINE_WORDS)

    def __getattr__(self, name: str) -> int:
        return int(self._words[getattr(changes, name.upper())])

    def children(self) -> list["Line"]:
        """Those that began at it."""
        found, at = [], self.first
        while at:
            found.append(Line(at))
            at = found[-1].next
        return found


class Stores(Bare):
    """A store with a name, and the others that come from it."""

    def __init__(self, records: int = 1 << 18, size: int = 64 << 20) -> None:
        super().__init__(size)
        self.registers.CHANGES_MAX = records
        self.name = b"main"
        assert registry_begin(self.context, address_of(self.name), len(self.name))
        self.made = 0

    def known(self) -> dict[str, Known]:
        """All stores by their names."""
        return {one.name: one for one in known_stores(self.context)}

    def of(self, name: str) -> Bare:
        """A store that takes commands."""
        if name == "main":
            return self
        view = copy(self)
        view.context = context_over(self.context, self.known()[name].context)
        view.registers = view.context.registers
        return view

    def make(self, origin: str, kind: int = named.BRANCH) -> str:
        """A branch or a snapshot."""
        self.made += 1
        name = b"%d" % self.made
        address = lineage.make(self.of(origin).context, address_of(name), len(name), kind, NEVER, 0)
        assert address > 0
        view = self.of(name.decode())
        assert area_open(view.context)
        return name.decode()

    def drop(self, name: str) -> None:
        """Drop a branch or a snapshot for good."""
        for one in self.known().values():  # the list of stores with work left is the loop's affair
            words(one.address, named.NAMED_WORDS)[named.IS_DUE] = 0
        self.registers.DUE_FIRST = self.registers.DUE_LAST = 0
        context = self.of(name).context
        registry_remove(context, context.registers.NAMED_ADDRESS)
        lineage.end(context)

    def restore(self, snapshot: str, into: str) -> None:
        """SNAPSHOT RESTORE."""
        assert lineage.restore(self.of(into).context, self.known()[snapshot].address)

    def dump(self, name: str) -> Dump:
        """All keys of a store that are not due, with a digest of the value and the deadline.  Deletes nothing."""
        view, found = self.of(name), {}
        registers = view.registers
        kept, registers.READ_ONLY, selected = registers.READ_ONLY, 1, registers.DB
        for db in range(DATABASES):
            view("SELECT", db)
            keys = view("KEYS", "*")
            assert isinstance(keys, list)
            for key in keys:
                found[db, key] = view("TYPE", key), value_digest(view.context, db, key), view("PEXPIRETIME", key)
        registers.READ_ONLY, registers.DB = kept, selected
        return found

    def call(self, one: str, other: str, cursor: int, count: int, budget: int, between: Any = None) -> Any:
        """One call of BRANCH DIFF: the next cursor, the databases scanned, and the changes in their order."""
        a, b = self.of(one).context, self.of(other).context
        at = diff.difference_begin(a, b, 0, cursor, count)
        assert at
        while not diff.difference_step(at, budget):
            assert diff.difference_freeze(self.context, at)
            if between is not None:
                between()
        state = words(at, diff.OUT_CAPACITY + 1)
        reply, place, found = ctypes.string_at(state[diff.OUT], state[diff.OUT_LENGTH]), 0, []
        while place < len(reply):
            item, place = parse(reply, place)
            found.append(item)
        assert len(found) == state[diff.FOUND]
        result = state[candidates.PLACE], state[candidates.SCANNED], found
        diff.difference_end(self.context, at)
        return result

    def differ(self, one: str, other: str, count: int = 100, budget: int = 1 << 40, between: Any = None) -> Changes:
        """BRANCH DIFF, call by call; no key is told twice."""
        found: Changes = {}
        cursor, self.scanned, self.calls, order = 0, 0, 0, []
        while True:
            cursor, scanned, told = self.call(one, other, cursor, count, budget, between)
            self.scanned |= scanned
            self.calls += 1
            for db, key, what in told:
                assert (db, key) not in found
                found[db, key] = what.decode()
                order.append((db, key))
            if cursor == 0:
                self.order = order
                return found

    def lines(self) -> list[Line]:
        """All lines, from those of the stores upwards."""
        holders = []
        for one in self.known().values():
            context = context_over(self.context, one.context)
            holders += [context.registers.LINE, words(one.address, named.NAMED_WORDS)[named.BASE_LINE]]
        found: dict[int, Line] = {}
        for address in holders:
            while address and address not in found:
                found[address] = Line(address)
                address = found[address].parent
        return list(found.values())

    def check_lines(self) -> None:
        """The numbered invariants of lines.py, and that every byte is counted."""
        lines = self.lines()
        for line in lines:
            children = line.children()
            begins = [child.begin for child in children]
            assert begins == sorted(begins), "(1)"
            assert all(child.parent == line.address for child in children)
            assert [child.before for child in children] == [0, *(child.address for child in children)][: len(children)]
            assert line.last == (children[-1].address if children else 0)
            assert {child.address for child in children} <= {one.address for one in lines}
            assert line.held or len(children) >= 2, "(2)"
            assert not children or line.mark >= begins[-1] or begins[-1] < line.floor
            assert line.end - line.floor <= line.capacity
        for one in self.known().values():
            registers = context_over(self.context, one.context).registers
            line = Line(registers.LINE)
            assert line.owner == one.context
            assert bool(registers.LISTENERS & RECORDED) == bool(line.parent or line.first), "(3)"
        assert sum(line.ring_bytes for line in lines) == self.registers.CHANGES_BYTES


def difference(one: Dump, other: Dump) -> Changes:
    """The answer that BRANCH DIFF must give."""
    return {
        key: "new" if key not in one else "gone" if key not in other else "changed"
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key)
    }


def command(choose: random.Random) -> tuple[str | bytes | int, ...]:
    """A command that changes something, more often than not."""
    key, other = choose.choice(KEYS), choose.choice(KEYS)
    value = b"%d" % choose.randrange(3) + bytes([choose.randrange(97, 100)]) * choose.choice(LENGTHS)
    many = choose.choice((1, 1, 3, 40, 400))
    member = [b"%d" % choose.randrange(500) if choose.random() < 0.7 else b"m" * choose.choice((1, 70, 5000))][0]
    some = [b"%d" % choose.randrange(500) for _ in range(many)]
    return choose.choice(
        (
            ("SET", key, value),
            ("SET", key, value, "PX", choose.randrange(1, 3000)),
            ("APPEND", key, value[:100]),
            ("SETRANGE", key, choose.randrange(5000), value[:10]),
            ("DEL", key, other),
            ("HSET", key, *[part for field in some for part in (b"f" + field, b"%d" % choose.randrange(2))]),
            ("HSET", key, b"f" + member, value[:6000]),
            ("HDEL", key, *[b"f" + field for field in some]),
            ("SADD", key, *some),
            ("SADD", key, member),
            ("SREM", key, *some, member),
            ("ZADD", key, *[part for one in some for part in (choose.randrange(3), one)]),
            ("ZADD", key, choose.choice(("1.5", "-0.0", "0", "inf")), member),
            ("ZREM", key, *some, member),
            ("RPUSH", key, *some),
            ("LPUSH", key, value[:6000]),
            ("LPOP", key),
            ("LSET", key, choose.randrange(-3, 3), member),
            ("LTRIM", key, 0, choose.randrange(1, 500)),
            ("RENAME", key, other),
            ("COPY", key, other, "DB", choose.randrange(DATABASES), "REPLACE"),
            ("MOVE", key, choose.randrange(DATABASES)),
            ("PEXPIRE", key, choose.randrange(1, 3000)),
            ("PERSIST", key),
            ("GET", key),
            ("SELECT", choose.randrange(DATABASES)),
            ("SELECT", choose.randrange(DATABASES)),
        )
    )


RARE = ("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", 0, 1)


class Stream:
    """A stream of changes to stores that come from each other."""

    def __init__(self, seed: str, stores: Stores) -> None:
        self.choose, self.stores = random.Random(seed), stores
        self.snapshots: set[str] = set()
        self.history: list[str] = []

    def names(self) -> list[str]:
        """The stores that can be written."""
        return [name for name in self.stores.known() if name not in self.snapshots]

    def change(self) -> None:
        """One command, or a few as a transaction, in some store."""
        choose, name = self.choose, self.choose.choice(self.names())
        view = self.stores.of(name)
        if choose.random() < 0.05:
            assert undo_begin(view.context)
            for _ in range(3):
                view(*(choose.choice(RARE) if choose.random() < 0.1 else command(choose)))
            (undo if choose.random() < 0.6 else undo_end)(view.context)
            return
        view(*(choose.choice(RARE) if choose.random() < 0.015 else command(choose)))
        if choose.random() < 0.1:
            self.stores.clock_ms += choose.randrange(1000)

    def turn(self) -> None:
        """A change of contents, or of what stores there are."""
        choose, stores = self.choose, self.stores
        names, origin = self.names(), self.choose.choice(list(stores.known()))
        what = choose.choice(("make", "make", "snapshot", "reset", "restore", "swap", "drop", "drop"))
        if what == "make" and len(stores.known()) < 8:
            self.history.append(f"{stores.make(origin)} from {origin}")
        elif what == "snapshot" and len(stores.known()) < 8:
            self.snapshots.add(stores.make(origin, named.SNAPSHOT))
            self.history.append(f"snapshot {stores.made} from {origin}")
        elif what == "reset" and len(names) > 1:
            name = choose.choice([name for name in names if name != "main"])
            assert lineage.reset_branch(stores.of(name).context)
            self.history.append(f"reset {name}")
        elif what == "restore" and self.snapshots:
            snapshot, into = choose.choice(sorted(self.snapshots)), choose.choice(names)
            stores.restore(snapshot, into)
            self.history.append(f"restore {snapshot} into {into}")
        elif what == "swap" and len(names) > 1:
            one, other = choose.sample(names, 2)
            lineage.swap(stores.of(one).context, stores.of(other).context)
            self.history.append(f"swap {one} {other}")
        elif what == "drop" and origin != "main":
            stores.drop(origin)
            self.snapshots.discard(origin)
            self.history.append(f"drop {origin}")

    def pair(self) -> list[str]:
        """Two stores to be compared."""
        names = list(self.stores.known())
        return self.choose.sample(names, 2) if len(names) > 1 else []


@pytest.fixture(params=[1 << 18, 64])
def records(request: pytest.FixtureRequest) -> int:
    """How many changes a line may record."""
    return int(request.param)


@pytest.mark.parametrize("seed", seeds(6))
def test_a_difference_is_that_of_two_full_dumps(seed: int, records: int) -> None:
    scanned = recorded = 0
    with Stores(records) as stores:
        stream = Stream(f"{seed} {records}", stores)
        for step in range(STEPS):
            for _ in range(stream.choose.randrange(6)):
                stream.change()
            if stream.choose.random() < 0.3:
                stream.turn()
            pair = stream.pair()
            if step % 4 == 0 and pair:
                expected = difference(*map(stores.dump, pair))
                assert stores.differ(*pair) == expected, (pair, stream.history[-30:])
                scanned, recorded = scanned + (stores.scanned != 0), recorded + (stores.scanned == 0)
            if step % 20 == 0:
                stores.check_lines()
        for name in list(stores.known()):
            if name != "main":
                stores.drop(name)
        stores.check_lines()
        assert stores.registers.CHANGES_BYTES == 0 and not stores.registers.LISTENERS & RECORDED
        stores.check()
    assert scanned > 0 and recorded > 0


@pytest.mark.parametrize("seed", seeds(4))
def test_a_call_that_takes_many_turns_answers_for_the_moment_at_which_it_was_made(seed: int, records: int) -> None:
    with Stores(records) as stores:
        stream = Stream(f"turns {seed}", stores)
        for _ in range(60):
            for _ in range(12):
                stream.change()
            stream.turn()
            pair = stream.pair()
            if pair:
                expected = difference(*map(stores.dump, pair))
                assert stores.differ(*pair, count=1 << 30, budget=20, between=stream.change) == expected, pair
                assert stores.calls == 1
        stores.check_lines()
        assert stores.registers.DIFFS_FIRST == 0 and stores.registers.LENT_ROOTS == 0


@pytest.mark.parametrize("seed", seeds(4))
def test_a_cursor_stays_usable_while_the_stores_change(seed: int, records: int) -> None:
    with Stores(records) as stores:
        stream = Stream(f"cursor {seed}", stores)
        names = [stores.make("main"), stores.make("main")]
        for _ in range(40):
            for _ in range(20):
                stream.change()
            before = [difference(*map(stores.dump, names))]
            found, cursor = set(), 0
            while True:
                cursor, _, told = stores.call(*names, cursor, 2, 1 << 40)
                found |= {(db, key) for db, key, _ in told}
                if cursor == 0:
                    break
                stream.change()
                before.append(difference(*map(stores.dump, names)))
            always = set.intersection(*(set(one) for one in before))
            ever = set.union(*(set(one) for one in before))
            assert always <= found <= ever


def test_the_order_is_the_same_whether_the_changes_are_known_or_not(records: int) -> None:
    with Stores() as stores:
        for i in range(300):
            stores("SET", f"key:{i}", i)
        name = stores.make("main")
        view = stores.of(name)
        for i in range(0, 400, 3):
            view("SET", f"key:{i}", "other")
        known = stores.differ("main", name, 7)
        order = stores.order
        assert stores.scanned == 0 and len(known) == 134 and stores.calls == 20
        view("FLUSHDB")
        for i in range(400):
            if i < 300 or i % 3 == 0:
                view("SET", f"key:{i}", "other" if i % 3 == 0 else i)
        assert stores.differ("main", name, 7) == known
        assert stores.scanned == 1 and stores.order == order


@pytest.mark.parametrize("kind", ["hash", "set", "zset", "list", "string"])
def test_a_great_value_written_again_is_the_same_and_one_element_is_a_difference(kind: str) -> None:
    def write(view: Bare, i: int, value: int) -> None:
        if kind == "hash":
            view("HSET", "k", f"field:{i}", value)
        elif kind == "zset":
            view("ZADD", "k", value, f"member:{i}")
        elif kind == "set":
            view("SREM", "k", f"member:{i}")
            view("SADD", "k", f"member:{i + (10_000 if value != i else 0)}")
        elif kind == "list":
            view("LSET", "k", i, value)
        else:
            view("SETRANGE", "k", 8 * i, b"%08d" % value)

    with Stores() as stores:
        if kind == "list":
            stores("RPUSH", "k", *range(5000))
        elif kind == "string":
            stores("SET", "k", b"".join(b"%08d" % i for i in range(100_000)))
        else:
            for i in range(5000):
                write(stores, i, i)
        one, other = stores.make("main"), stores.make("main")
        for i in range(0, 5000, 311):
            write(stores.of(one), i, i)
        assert stores.differ(one, other) == {}
        assert stores.differ(one, other, budget=10) == {}
        write(stores.of(one), 4999, 7)
        assert stores.differ(one, other) == stores.differ(other, one, budget=10) == {(0, b"k"): "changed"}
        if kind != "string":
            stores.of(other)("COPY", "k", "copy")
            stores.of(other)("RENAME", "copy", "k")
            assert stores.differ("main", other) == {}


def test_a_key_that_is_due_is_absent_whether_it_was_deleted_or_not() -> None:
    with Stores() as stores:
        stores("SET", "k", "v", "PX", 100)
        stores("SET", "other", "v")
        name = stores.make("main")
        stores.of(name)("PERSIST", "other")
        stores.clock_ms += 200
        assert stores("GET", "k") is None and stores("DBSIZE") == 1
        assert stores.of(name)("DBSIZE") == 2
        assert stores.differ("main", name) == {}
        stores.of(name)("SET", "k", "v")
        assert stores.differ("main", name) == {(0, b"k"): "new"}


def test_only_the_databases_that_were_flushed_or_swapped_are_scanned() -> None:
    with Stores() as stores:
        for db in range(3):
            stores("SELECT", db)
            stores("SET", "k", "v")
        stores("SELECT", 0)
        name = stores.make("main")
        view = stores.of(name)
        view("SELECT", 1)
        view("FLUSHDB")
        view("SET", "n", "v")
        view("SELECT", 0)
        view("DEL", "k")
        assert stores.differ("main", name) == {(0, b"k"): "gone", (1, b"k"): "gone", (1, b"n"): "new"}
        assert stores.scanned == 0b10
        view("SWAPDB", 0, 2)
        assert stores.differ("main", name)[2, b"k"] == "gone"
        assert stores.scanned == 0b111


def test_a_key_is_recorded_once_between_two_forks() -> None:
    with Stores() as stores:
        name = stores.make("main")
        line = Line(stores.registers.LINE)
        for _ in range(3):
            for i in range(1000):
                stores("SET", f"key:{i}", "v")
        assert 1000 <= line.end - line.floor <= 1010
        stores.make("main")
        for _ in range(3):
            stores("SET", "key:1", "v")
        assert 1001 <= line.end - line.floor <= 1011
        stores.drop(name)


def test_a_line_with_many_changes_records_ranges_and_forgets_none_of_them() -> None:
    """With 256 records, the first eight keys are recorded one by one, and of the others one of 128 ranges."""
    with Stores(256) as stores:
        for i in range(2000):
            stores("SET", f"key:{i}", "v")
        name = stores.make("main")
        line = Line(stores.registers.LINE)
        for turn in range(3):
            for i in range(0, 2000, 2):
                stores("SET", f"key:{i}", turn)
            assert 8 < line.end - line.floor <= 8 + 128
        stores("SELECT", 1)
        stores("SET", "key:1", "v")
        expected = {(0, b"key:%d" % i): "changed" for i in range(0, 2000, 2)} | {(1, b"key:1"): "gone"}
        assert stores.differ("main", name) == expected
        assert stores.scanned == 0
        later = stores.make("main")
        stores("SELECT", 0)
        stores("SET", "key:3", "w")
        assert stores.differ(later, "main") == {(0, b"key:3"): "changed"} and stores.scanned == 0
        assert stores.differ(name, "main").keys() == {*expected, (0, b"key:3")} and stores.scanned == 0
        stores.check_lines()


@pytest.mark.parametrize("left", [10, 80_000])
def test_a_turn_looks_into_few_buckets_however_many_ranges_are_recorded(left: int) -> None:
    """8,192 ranges of which few or most have keys left; each step goes beyond its budget by few buckets only."""
    with Stores(1 << 15) as stores:
        name = stores.make("main")
        for i in range(100_000):
            stores("SET", f"key:{i}", "v")
        for i in range(left, 100_000):
            stores("DEL", f"key:{i}")
        line = Line(stores.registers.LINE)
        assert line.end - line.floor > 8192
        while background_step(stores.context, 1000):
            pass
        at = diff.difference_begin(stores.context, stores.of(name).context, 0, 0, 1 << 30)
        most = 0
        left_at = candidates.COMPARING + comparing_bytes.LEFT
        while not diff.difference_step(at, 500):
            most = max(most, -words(at, left_at + 1)[left_at])
        state = words(at, diff.OUT_CAPACITY + 1)
        found, scanned = state[diff.FOUND], state[candidates.SCANNED]
        diff.difference_end(stores.context, at)
        assert most < 12 * candidates.RANGES_AT_ONCE
        assert found >= min(left, 30_000)  # the rest is for the next call
        assert scanned == (1 if left == 10 else 0)


@pytest.mark.parametrize("kind", ["hash", "list", "stream", "set"])
def test_a_long_element_is_compared_in_steps(kind: str) -> None:
    """Written again, it is the same after as many steps as its pages need; its last byte makes a difference."""
    size, budget = 3_000_000, 500

    def write(view: Bare, value: bytes) -> None:
        if kind == "hash":
            view("HSET", "k", "long", value)
        elif kind == "list":
            view("LSET", "k", 1, value)
        elif kind == "set":
            view("SADD", "k", value)
        else:
            view("XADD", "k", "1-1", "field", value)

    with Stores() as stores:
        rest = {"hash": ("HSET", "a", 1, "b", 2), "list": ("RPUSH", *"abc"), "set": ("SADD", *"abc")}
        for name in ("k", "other"):
            if kind in rest:
                stores(rest[kind][0], name, *rest[kind][1:])
        if kind != "stream":
            write(stores, b"v" * size)
        one, other, third = stores.make("main"), stores.make("main"), stores.make("main")
        for name, end in ((one, b"v"), (other, b"v"), (third, b"w")):
            if kind == "set":
                stores.of(name)("SREM", "k", b"v" * size)
            write(stores.of(name), b"v" * (size - 1) + end)
        assert stores.differ(one, third) == stores.differ(one, third, budget=50) == {(0, b"k"): "changed"}
        at, steps = diff.difference_begin(stores.of(one).context, stores.of(other).context, 0, 0, 100), 1
        while not diff.difference_step(at, budget):
            steps += 1
        assert words(at, diff.FOUND + 1)[diff.FOUND] == 0
        diff.difference_end(stores.context, at)
        if kind != "set":
            assert size // 4096 * 8 // budget <= steps <= size // 4096 * 16 // budget


def test_forks_that_are_gone_leave_no_records_behind() -> None:
    with Stores(64) as stores:
        for i in range(40):
            stores("SET", f"key:{i}", "v")
        eldest = stores.make("main")
        for turn in range(50):
            for i in range(20):
                stores("SET", f"key:{i}", turn)
            stores.drop(stores.make("main"))
        assert len(stores.differ(eldest, "main")) == 20
        assert stores.scanned == 0


def test_a_chain_of_forks_whose_ends_are_dropped_stays_short() -> None:
    with Stores() as stores:
        name = first = stores.make("main")
        for i in range(200):
            following = stores.make(name)
            stores.of(following)("SET", f"key:{i}", "v")
            if name != first:
                stores.drop(name)
            name = following
        assert len(stores.lines()) <= 8
        assert len(stores.differ(first, name)) == 200 and stores.scanned == 0
        assert len(stores.differ("main", name, 1000)) == 200 and stores.scanned == 0
        stores.check_lines()


def test_a_line_without_memory_forgets_and_says_so() -> None:
    with Stores() as stores:
        stores("SET", "k", "v")
        one, other = stores.make("main"), stores.make("main")
        stores.registers.CHANGES_BYTES_MAX = 0
        stores.of(one)("SET", "k", "w")
        assert stores.differ(one, other) == {(0, b"k"): "changed"}
        assert stores.scanned == 1
        lineage.reset_branch(stores.of(one).context)
        assert stores.differ(one, other) == {}
        assert stores.scanned == 0


def test_what_a_wrong_type_refuses_is_no_change() -> None:
    with Stores() as stores:
        stores("SET", "k", "v")
        name = stores.make("main")
        assert isinstance(stores.of(name)("LPUSH", "k", "v"), ReplyError)
        assert stores.differ("main", name) == {}
