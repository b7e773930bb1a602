"""Deadlines of fields without sockets: beside a dictionary with a clock, in steps, where memory is short, in a fork.

tests/server/test_fields.py compares the same commands with valkey-server.
"""

import random
from collections.abc import Iterator

import pytest

from kvstore.store.check import contents
from kvstore.store.expiring import expire_fields, fields_wait
from kvstore.store.flush import background_step
from kvstore.structures.agenda import TIME_MAX
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from mmcore.jit import int64, zeros
from tests.kvstore.bare import START_MS, Bare, ReplyError
from tests.mmcore.support import drop_roots, seeds, take_roots

OOM = ERRORS[OUT_OF_FRAMES]
Field = tuple[bytes, int | None]  # a value and a deadline [Unix ms]
Hash = dict[bytes, Field]
KEYS = (b"h", b"g", b"a longer name of a hash, " * 3)


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        yield made
        made.check()


def expire_all(store: Bare) -> int:
    """Active expiry until nothing is due; returns the steps that it took."""
    steps = 0
    while expire_fields(store.context, 7) > 0:
        steps += 1
    assert fields_wait(store.context) == 0
    return steps


class Twin:
    """The contents that the store should have: hashes by their keys, in one database."""

    def __init__(self) -> None:
        self.hashes: dict[bytes, Hash] = {}
        self.now = START_MS

    def live(self, key: bytes) -> Hash:
        """The fields that are not due."""
        found = self.hashes.get(key, {})
        return {field: pair for field, pair in found.items() if pair[1] is None or pair[1] > self.now}

    def settle(self, key: bytes, fields: list[bytes]) -> None:
        """Forget those of the fields that are due, and the hash with its last one."""
        live, found = self.live(key), self.hashes.get(key, {})
        for field in fields:
            if field in found and field not in live:
                del found[field]
        self.drop_empty(key)

    def drop_empty(self, key: bytes) -> None:
        if key in self.hashes and not self.hashes[key]:
            del self.hashes[key]

    def expire(self) -> None:
        """Do what active expiry does."""
        for key in list(self.hashes):
            self.settle(key, list(self.hashes[key]))


class Both:
    """A store and its twin."""

    def __init__(self, store: Bare, seed: int, fields: int) -> None:
        self.store, self.twin, self.r = store, Twin(), random.Random(seed)
        self.names = [b"f%d" % i for i in range(fields)] + [b"", b"n" * 70, b"N" * 200, b"w" * 5000]

    def some(self, most: int = 12) -> list[bytes]:
        """Names of fields, perhaps some twice."""
        return self.r.choices(self.names, k=self.r.choice([1, 2, 5, self.r.randrange(1, most)]))

    def moment(self) -> int:
        """A time to live [ms], often a short one, perhaps none."""
        return self.r.choice([0, 1, 10, 100, self.r.randrange(1, 5000), 10**6, TIME_MAX - self.twin.now])

    def set(self, key: bytes) -> None:
        names, twin = self.some(40), self.twin
        pairs = [(name, b"%d" % self.r.randrange(1000)) for name in names]
        live = twin.live(key)
        twin.settle(key, names)
        assert self.store("HSET", key, *(word for pair in pairs for word in pair)) == len(set(names) - live.keys())
        twin.hashes.setdefault(key, {}).update({name: (value, None) for name, value in pairs})

    def set_together(self, key: bytes) -> None:
        names, twin, r = self.some(), self.twin, self.r
        values = [b"%d" % r.randrange(1000) for _ in names]
        condition, ttl = r.choice(["", "", "FNX", "FXX"]), self.moment()
        timed = r.choice(["PX", "PX", "PXAT", "KEEPTTL", ""])
        live = twin.live(key)
        met = (
            condition == ""
            or (condition == "FNX" and not set(names) & live.keys())
            or (condition == "FXX" and set(names) <= live.keys())
        )
        words: list[str | bytes | int] = ["HSETEX", key, *([condition] if condition else [])]
        words += {"PX": ["PX", ttl], "PXAT": ["PXAT", twin.now + ttl], "KEEPTTL": ["KEEPTTL"], "": []}[timed]
        words += ["FIELDS", len(names), *(word for pair in zip(names, values, strict=True) for word in pair)]
        assert self.store(*words) == met, words
        if not met:
            return
        twin.settle(key, names)
        found = twin.hashes.setdefault(key, {})
        for name, value in zip(names, values, strict=True):
            kept = found.get(name, (b"", None))[1] if timed == "KEEPTTL" else None
            found[name] = value, twin.now + ttl if timed.startswith("PX") else kept
        if timed.startswith("PX") and ttl == 0:
            for name in names:
                found.pop(name, None)
        twin.drop_empty(key)

    def expire(self, key: bytes) -> None:
        names, twin, ttl = self.some(), self.twin, self.moment()
        condition = self.r.choice(["", "", "", "NX", "XX", "GT", "LT"])
        at, wanted, live = twin.now + ttl, [], twin.live(key)
        for name in names:
            if name not in live:
                wanted.append(-2)
                continue
            before = live[name][1]
            met = {
                "": True,
                "NX": before is None,
                "XX": before is not None,
                "GT": before is not None and before < at,
                "LT": before is None or before > at,
            }[condition]
            wanted.append(0 if not met else 2 if ttl == 0 else 1)
            if met and ttl == 0:
                del live[name]
            elif met:
                live[name] = live[name][0], at
        words = [*([condition] if condition else []), "FIELDS", len(names), *names]
        if self.r.random() < 0.5:
            assert self.store("HPEXPIRE", key, ttl, *words) == wanted
        else:
            assert self.store("HPEXPIREAT", key, at, *words) == wanted
        self._become(key, names, live)

    def _become(self, key: bytes, names: list[bytes], live: Hash) -> None:
        # The fields that were named are now as `live` has them.
        found = self.twin.hashes.get(key, {})
        for name in names:
            found.pop(name, None)
            if name in live:
                found[name] = live[name]
        self.twin.drop_empty(key)

    def persist(self, key: bytes) -> None:
        names, live = self.some(), self.twin.live(key)
        wanted = []
        for name in names:
            wanted.append(-2 if name not in live else -1 if live[name][1] is None else 1)
            if name in live:
                live[name] = live[name][0], None
        assert self.store("HPERSIST", key, "FIELDS", len(names), *names) == wanted
        found = self.twin.hashes.get(key, {})
        found.update({name: live[name] for name in names if name in live})

    def get_together(self, key: bytes) -> None:
        names, live, ttl = self.some(), self.twin.live(key), self.moment()
        option = self.r.choice(["PX", "PERSIST", "", "delete"])
        wanted = []
        for name in names:
            wanted.append(live[name][0] if name in live else None)
            if name not in live:
                continue
            if option == "delete" or (option == "PX" and ttl == 0):
                del live[name]
            elif option:
                live[name] = live[name][0], self.twin.now + ttl if option == "PX" else None
        if option == "delete":
            assert self.store("HGETDEL", key, "FIELDS", len(names), *names) == wanted
        else:
            words = ["PX", ttl] if option == "PX" else [option] if option else []
            assert self.store("HGETEX", key, *words, "FIELDS", len(names), *names) == wanted
        self._become(key, names, live)

    def delete(self, key: bytes) -> None:
        names, live = self.some(), self.twin.live(key)
        assert self.store("HDEL", key, *names) == len(set(names) & live.keys())
        self._become(key, names, {})

    def count(self, key: bytes) -> None:
        name, live, by = self.some()[0], self.twin.live(key), self.r.randrange(100)
        value, deadline = live.get(name, (b"0", None))
        assert self.store("HINCRBY", key, name, by) == int(value) + by
        self.twin.settle(key, [name])
        self.twin.hashes.setdefault(key, {})[name] = b"%d" % (int(value) + by), deadline
        name = self.some()[0]
        live = self.twin.live(key)
        assert self.store("HSETNX", key, name, 7) == (name not in live)
        if name not in live:
            self.twin.settle(key, [name])
            self.twin.hashes.setdefault(key, {})[name] = b"7", None

    def whole(self, key: bytes) -> None:
        """Keys come and go."""
        store, hashes, r, other = self.store, self.twin.hashes, self.r, self.r.choice(KEYS)
        kind = r.randrange(7)
        if kind == 0:
            assert store("DEL", key) == (key in hashes)
            hashes.pop(key, None)
        elif kind == 1 and key in hashes:
            assert store("RENAME", key, other) == "OK"
            hashes[other] = hashes.pop(key)
        elif kind == 2 and key != other:
            assert store("COPY", key, other, "REPLACE") == (key in hashes)
            if key in hashes:
                hashes[other] = dict(hashes[key])
        elif kind == 3:
            assert store("SET", key, "a string" * r.choice([1, 1000])) == "OK"
            assert store("DEL", key) == 1
            hashes.pop(key, None)
        elif kind == 4:
            assert store("MOVE", key, 1) == (key in hashes)
            store("SELECT", 1)
            store("FLUSHDB") if r.random() < 0.2 else store("DEL", key)
            store("SELECT", 0)
            hashes.pop(key, None)
        elif kind == 5 and key in hashes:
            assert store("PEXPIRE", key, 10**9) == 1
        elif kind == 6 and key in hashes:
            assert store("PERSIST", key) in (0, 1)

    def look(self, key: bytes) -> None:
        """The answers of reading commands."""
        store, live, names = self.store, self.twin.live(key), self.some()
        found = store("HGETALL", key)
        assert isinstance(found, list)
        values = {name: value for name, (value, _) in live.items()}
        assert len(found) == 2 * len(values) and dict(zip(found[::2], found[1::2], strict=True)) == values
        assert store("HLEN", key) == len(live)
        assert store("HMGET", key, *names) == [values.get(name) for name in names]
        wanted = [-2 if name not in live else -1 if live[name][1] is None else live[name][1] for name in names]
        assert store("HPEXPIRETIME", key, "FIELDS", len(names), *names) == wanted
        wanted = [time - self.twin.now if isinstance(time, int) and time > 0 else time for time in wanted]
        assert store("HPTTL", key, "FIELDS", len(names), *names) == wanted
        wanted = [-(-time // 1000) if isinstance(time, int) and time > 0 else time for time in wanted]
        assert store("HTTL", key, "FIELDS", len(names), *names) == wanted
        assert store("HEXISTS", key, names[0]) == (names[0] in live)
        assert store("HSTRLEN", key, names[0]) == len(values.get(names[0], b""))
        self._draw(key, values)

    def _draw(self, key: bytes, values: dict[bytes, bytes]) -> None:
        count = self.r.choice([1, 3, 1000])
        drawn = self.store("HRANDFIELD", key, count, "WITHVALUES")
        assert isinstance(drawn, list) and len(drawn) == 2 * min(count, len(values))
        assert dict(zip(drawn[::2], drawn[1::2], strict=True)).items() <= values.items()
        again = self.store("HRANDFIELD", key, -count)
        assert isinstance(again, list) and len(again) == (count if values else 0) and set(again) <= values.keys()
        assert self.store("HRANDFIELD", key) in (values or {None: b""})
        cursor, met = b"0", set()
        while True:
            cursor, page = self.store("HSCAN", key, cursor, "COUNT", 20)  # type: ignore[misc]
            met |= set(zip(page[::2], page[1::2], strict=True))
            if cursor == b"0":
                break
        assert met == values.items()

    def step(self) -> None:
        """One thing that may happen."""
        r, key = self.r, self.r.choice(KEYS)
        writes = [self.set, self.set_together, self.expire, self.expire, self.expire, self.persist]
        writes += [self.get_together, self.delete, self.count]
        chance = r.random()
        if chance < 0.75:
            r.choice(writes)(key)
        elif chance < 0.85:
            self.whole(key)
        elif chance < 0.95:
            self.twin.now += r.choice([1, 10, 100, 1000])
            self.store.clock_ms = self.twin.now
        else:
            expire_all(self.store)
            self.twin.expire()

    def compare(self) -> None:
        """The whole store is what its twin is; proves it sound."""
        held = contents(self.store.context).get(0, {})
        found = {
            key: {
                field: pair if isinstance(pair, tuple) else (pair, None)
                for field, pair in fields.items()
                if not isinstance(pair, tuple) or pair[1] > self.twin.now
            }
            for key, (fields, _) in held.items()
        }
        assert {key: fields for key, fields in found.items() if fields} == {
            key: self.twin.live(key) for key in self.twin.hashes if self.twin.live(key)
        }
        assert held.keys() == self.twin.hashes.keys()


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("fields", [8, 300])
def test_fields_expire_as_a_dictionary_says(store: Bare, fields: int, seed: int) -> None:
    both = Both(store, seed, fields)
    store.registers.HASH_MAX_LISTPACK_ENTRIES = 20
    frozen = 0
    for i in range(300):
        both.step()
        if i % 5 == 0:
            both.look(both.r.choice(KEYS))
        if i % 60 == 30:
            frozen = store.fork()
        elif i % 60 == 50:
            store.release(frozen)
            both.compare()
    both.compare()


def filled(store: Bare, count: int, ttl_ms: int) -> None:
    """Make the hash "h" with so many fields, all with this time to live."""
    for first in range(0, count, 1000):
        names = [b"f%d" % i for i in range(first, min(first + 1000, count))]
        words = [word for name in names for word in (name, b"v" + name)]
        assert store("HSETEX", "h", "PX", ttl_ms, "FIELDS", len(names), *words) == 1


def test_a_great_hash_expires_in_steps_and_hides_what_is_left(store: Bare) -> None:
    count = 20_000
    filled(store, count, 1000)
    store("HSET", "h", "stays", "v")
    assert fields_wait(store.context) == 0
    store.clock_ms += 1000
    assert fields_wait(store.context) == 1
    done = 0
    while done < count:
        assert store("HLEN", "h") == 1
        assert store("HGETALL", "h") == [b"stays", b"v"]
        work = expire_fields(store.context, 999)
        assert 0 < work <= 1000
        done += work
        assert store("HRANDFIELD", "h", 2) == [b"stays"]
    assert expire_fields(store.context, 999) == 0
    assert contents(store.context)[0] == {b"h": ({b"stays": b"v"}, None)}


def test_a_hash_goes_with_its_last_field(store: Bare) -> None:
    filled(store, 300, 50)
    store("SELECT", 3)
    filled(store, 3, 70)
    store.clock_ms += 60
    expire_all(store)
    assert store("EXISTS", "h") == 1
    store.clock_ms += 10
    expire_all(store)
    assert contents(store.context) == {}
    while background_step(store.context, 64) > 0:
        pass


def test_least_deadlines_that_rise_are_followed(store: Bare) -> None:
    """The name in the agenda of the database comes early then, and gets another time."""
    store("HSET", "h", "a", 1, "b", 2)
    store("HPEXPIRE", "h", 100, "FIELDS", 1, "a")
    store("HPEXPIRE", "h", 900, "FIELDS", 2, "a", "b")
    store.clock_ms += 100
    assert expire_fields(store.context, 10) == 1
    assert fields_wait(store.context) == 0
    assert store("HLEN", "h") == 2
    store.clock_ms += 800
    expire_all(store)
    assert store("EXISTS", "h") == 0


def test_a_hash_without_deadlines_pays_no_byte(store: Bare) -> None:
    """Nor does one that has lost them, but for its form."""
    words = [word for i in range(600) for word in (b"f%d" % i, b"v%d" % i)]
    store("HSET", "plain", *words)
    before = store("MEMORY", "USAGE", "plain")
    store("HSET", "other", *words)
    store("HEXPIRE", "other", 100, "FIELDS", 2, "f1", "f2")
    assert store("MEMORY", "USAGE", "plain") == before
    dated = store("MEMORY", "USAGE", "other")
    assert isinstance(dated, int) and isinstance(before, int) and before < dated < before + 200
    store("HPERSIST", "other", "FIELDS", 2, "f1", "f2")
    assert store("MEMORY", "USAGE", "other") == before


def test_encodings(store: Bare) -> None:
    store("HSET", "h", "a", 1)
    assert store("OBJECT", "ENCODING", "h") == b"listpack"
    store("HEXPIRE", "h", 100, "FIELDS", 1, "a")
    assert store("OBJECT", "ENCODING", "h") == b"listpackex"
    store("HSET", "h", "b", "x" * 100)
    assert store("OBJECT", "ENCODING", "h") == b"hashtable"


@pytest.mark.parametrize(
    "words",
    [
        ("HPEXPIREAT", "h", TIME_MAX + 1, "FIELDS", 1, "a"),
        ("HPEXPIRE", "h", TIME_MAX - START_MS + 1, "FIELDS", 1, "a"),
        ("HEXPIRE", "h", 2**63 - 1, "FIELDS", 1, "a"),
        ("HEXPIRE", "h", 2**63, "FIELDS", 1, "a"),
        ("HEXPIRE", "h", -1, "FIELDS", 1, "a"),
        ("HEXPIRE", "h", -(2**63), "FIELDS", 1, "a"),
        ("HEXPIRE", "h", 1, "FIELDS", 2, "a"),
        ("HEXPIRE", "h", 1, "FIELDS", 2**63 - 1, "a"),
        ("HEXPIRE", "h", 1, "FIELDS", 0, "a"),
        ("HEXPIRE", "h", 1, "NX", "FIELDS", "1"),
        ("HEXPIRE", "h", 1, "NX", "XX", "FIELDS", 1, "a"),
        ("HSETEX", "h", "EX", 1, "PX", 1, "FIELDS", 1, "a", "x"),
        ("HSETEX", "h", "FNX", "FXX", "FIELDS", 1, "a", "x"),
        ("HSETEX", "h", "FIELDS", 2, "a", "x"),
        ("HSETEX", "h", "FIELDS", 2**40, "a", "x"),
        ("HSETEX", "h", "EX", "KEEPTTL", "FIELDS", 1, "a", "x"),
        ("HSETEX", "h", "FNX", "EX", "1", "EX"),
        ("HSETEX", "h", "nonsense", "EX", "1", "EX"),
        ("HGETEX", "h", "PERSIST", "FIELDS", "1"),
        ("HGETEX", "h", "EX", "5", "FIELDS"),
        ("HGETEX", "h", "EX", 2**62, "FIELDS", 1, "a"),
        ("HGETDEL", "h", "FIELDS", 3, "a", "b"),
        ("HTTL", "h", "FIELDS", "x", "a"),
        ("HPERSIST", "h", "FIELD", 1, "a"),
    ],
    ids=str,
)
def test_what_is_refused_changes_nothing(store: Bare, words: tuple[str | int, ...]) -> None:
    store("HSET", "h", "a", 1, "b", 2)
    before = contents(store.context)
    assert isinstance(store(*words), ReplyError), words
    assert contents(store.context) == before


def test_the_last_moment_there_is_can_be_a_deadline(store: Bare) -> None:
    store("HSET", "h", "a", 1)
    assert store("HPEXPIREAT", "h", TIME_MAX, "FIELDS", 1, "a") == [1]
    assert store("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [TIME_MAX]
    store.clock_ms = TIME_MAX - 1
    assert store("HGET", "h", "a") == b"1"
    store.clock_ms = TIME_MAX
    assert store("HGET", "h", "a") is None
    expire_all(store)


def test_a_full_store_refuses_deadlines_and_can_be_emptied_of_fields_that_have_some() -> None:
    with Bare(8 << 20) as store:
        count, reply = 0, 1
        while reply == 1:
            words = [word for i in range(count, count + 100) for word in (b"f%d" % i, b"v" * 100)]
            reply = store("HSETEX", "h", "PX", 500, "FIELDS", 100, *words)
            count += 100
        assert reply == OOM and count > 2000
        store.check()
        frozen = store.fork()
        assert store("HDEL", "h", "f1", "f2") == 2
        assert store("HGETDEL", "h", "FIELDS", 1, "f3") == [b"v" * 100]
        assert store("HPERSIST", "h", "FIELDS", 1, "f4") == [1]
        store.clock_ms += 500
        assert store("HGETALL", "h") == [b"f4", b"v" * 100]
        expire_all(store)
        assert store("HLEN", "h") == 1
        store.check()
        store.release(frozen)
        assert store("DEL", "h") == 1
        store.check()


@pytest.mark.parametrize("fields", [3, 600])
def test_active_expiry_stops_where_frames_are_short_and_goes_on_when_they_are_not(fields: int) -> None:
    """With each number of free frames: it ends, the store is sound, and what has gone is due."""
    with Bare(16 << 20) as store:
        for name in ("h", "other"):
            words = [word for i in range(fields) for word in (f"f{i}", "v" * 40)]
            assert store("HSETEX", name, "PX", 500, "FIELDS", fields, *words) == 1
            assert store("HSET", name, "stays", "v") == 1
        store("SET", "padding", "v" * 3000)
        frozen = store.fork()
        store.clock_ms += 500
        short = 0
        for free in range(0, 1600, 16):
            roots = zeros(int64, store.memory.frames_free - free)
            take_roots(store.memory.state, roots)
            for _ in range(2 * fields + 10):
                if expire_fields(store.context, 7) == 0:
                    break
            else:
                raise AssertionError("it does not end")
            short += fields_wait(store.context)
            drop_roots(store.memory.state, roots)
            for name in ("h", "other"):
                assert contents(store.context)[0][name.encode()][0][b"stays"] == b"v"
            store.check()
        assert 0 < short < 100
        expire_all(store)
        assert store("HGETALL", "h") == store("HGETALL", "other") == [b"stays", b"v"]
        store.release(frozen)
        store.check()


def test_a_store_that_is_only_read_hides_them(store: Bare) -> None:
    """The read-only one keeps them; the other one deletes them."""
    filled(store, 200, 100)
    store("HSET", "h", "stays", "v")
    store.registers.READ_ONLY = 1
    store.clock_ms += 100
    assert store("HGETALL", "h") == [b"stays", b"v"]
    assert store("HGET", "h", "f1") is None
    assert store("HMGET", "h", "f1", "stays") == [None, b"v"]
    assert store("HLEN", "h") == 1
    assert store("HRANDFIELD", "h", -3) == [b"stays"] * 3
    assert len(contents(store.context)[0][b"h"][0]) == 201
    store.registers.READ_ONLY = 0
    expire_all(store)
    assert len(contents(store.context)[0][b"h"][0]) == 1


def test_a_great_hash_with_deadlines_is_copied_in_steps(store: Bare) -> None:
    """Others go on between two steps; a step that ends within the deadlines leaves a store that is sound."""
    filled(store, 3000, 10_000)
    before = contents(store.context)[0][b"h"]

    def others() -> None:
        store("HSET", "h", "f1", "changed")
        if store.turns % 7 == 0:
            store.check()

    store.between = others
    assert store("COPY", "h", "copy") == 1
    assert store.turns > 10
    store.between = None
    assert contents(store.context)[0][b"copy"] == before
    store.clock_ms += 10_000
    expire_all(store)
    assert contents(store.context)[0] == {b"h": ({b"f1": b"changed"}, None)}


def fill(store: Bare) -> None:
    """Values of 1 MiB up to the end of the store, but for nine."""
    for i in range(1000):
        if store("SET", f"fill{i}", b"x" * (1 << 20)) != "OK":
            break
    for i in range(9):
        store("DEL", f"fill{i}")


def test_a_long_name_is_reserved_twice() -> None:
    """The agenda of the database has it, too."""
    name = b"k" * (16 << 20)
    with Bare(64 << 20, spare=4 << 20) as store:
        assert store("HSET", name, "f", "v") == 1
        fill(store)
        assert str(store("HEXPIRE", name, 100, "FIELDS", 1, "f")) == ERRORS[OUT_OF_FRAMES]
        store.check()


def test_a_dated_hash_gets_no_long_name_that_would_not_have_room_twice() -> None:
    with Bare(64 << 20, spare=4 << 20) as store:
        assert store("HSET", "h", "f", "v") == 1
        assert store("HEXPIRE", "h", 100, "FIELDS", 1, "f") == [1]
        fill(store)
        assert str(store("RENAME", "h", b"k" * (8 << 20))) == ERRORS[OUT_OF_FRAMES]
        store.check()
