"""Hashes whose fields have deadlines in the rest of the store: keys that move, SORT, transactions, branches, images."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.check import contents
from kvstore.store.databases import keyspace_open
from kvstore.store.digest import store_digest
from kvstore.store.expiring import expire_fields, fields_wait
from kvstore.store.flush import background_step
from kvstore.store.undo import undo, undo_begin
from mmcore import AddressSpace, PhysicalMemory
from snapshot.directory import ImageDirectory
from snapshot.preload import Preload
from snapshot.restore import adopt
from snapshot.snapshotter import Snapshotter
from tests.kvstore.bare import START_MS, Bare, ReplyError
from tests.kvstore.pipelines import Pipelines
from tests.kvstore.test_difference import Dump, Stores, difference
from tests.kvstore.test_leftnames import date, leave, left_of
from tests.mmcore.support import seeds

SIZES = (1, 5, 300)  # an agenda that is a chain of one text, of some, and a record
Hash = dict[bytes, tuple[bytes, int]]


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        yield made
        made.check()


def dated(store: Bare, key: str, count: int) -> Hash:
    """Make a hash of so many fields, each with a deadline of its own."""
    for i in range(count):
        words = ("PXAT", START_MS + 1000 + i, "FIELDS", 1, f"f{i}", f"v{i}")
        assert store("HSETEX", key, *words) == 1
    return {b"f%d" % i: (b"v%d" % i, START_MS + 1000 + i) for i in range(count)}


def expire_all(store: Bare) -> None:
    while expire_fields(store.context, 7):
        pass
    assert fields_wait(store.context) == 0


# -------------------------------------------------------------------------------------------------- keys that move


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("command", [("RENAME", "h", "g"), ("COPY", "h", "g"), ("MOVE", "h", 1), ("SWAPDB", 0, 1)])
@pytest.mark.parametrize("there", ["", "a string", "a dated hash"])
def test_a_key_that_moves_keeps_the_deadlines_of_its_fields(
    store: Bare, command: tuple[str | int, ...], there: str, count: int
) -> None:
    """And they pass at their new place, whatever was there."""
    expected = dated(store, "h", count)
    store("SELECT", 1 if command[-1] == 1 else 0)
    if there == "a string":
        store("SET", "g", "v", "PX", 500)
    elif there == "a dated hash":
        dated(store, "g", 3)
    store("SELECT", 0)
    replies = {"RENAME": "OK", "COPY": 1, "MOVE": 1, "SWAPDB": "OK"}
    assert store(*command, *(("REPLACE",) if command[0] == "COPY" else ())) == replies[str(command[0])]
    store.check()
    db, key = (1, b"h") if command[-1] == 1 else (0, b"g")
    held = contents(store.context)
    assert held[db][key] == (expected, None)
    assert (b"h" in held.get(0, {})) == (command[0] == "COPY")
    store("SELECT", db)
    for passed in sorted({0, count // 2, count - 1}):
        store.clock_ms = START_MS + 999 + passed
        expire_all(store)
        assert store("HLEN", key) == count - passed
    store.clock_ms = START_MS + 999 + count
    expire_all(store)
    assert store("EXISTS", key) == 0


@pytest.mark.parametrize("count", SIZES)
def test_sort_sees_no_field_that_is_due(store: Bare, count: int) -> None:
    """BY and GET: it has no weight, and no value."""
    store("RPUSH", "list", *range(3))
    for i in range(3):
        dated(store, f"h{i}", count)
        store("HSETEX", f"h{i}", "PXAT", START_MS + 100 * (i + 1), "FIELDS", 2, "weight", 9 - i, "name", f"n{i}")
    words = ("SORT", "list", "BY", "h*->weight", "GET", "#", "GET", "h*->name")
    assert store(*words) == [b"2", b"n2", b"1", b"n1", b"0", b"n0"]
    store.clock_ms = START_MS + 200
    assert store(*words) == [b"0", None, b"1", None, b"2", b"n2"]
    assert store(*words, "STORE", "to") == 6
    assert store("LRANGE", "to", 0, -1) == [b"0", b"", b"1", b"", b"2", b"n2"]
    expire_all(store)
    assert store(*words) == [b"0", None, b"1", None, b"2", b"n2"]


def test_replies_of_the_third_protocol() -> None:
    """Maps, sets, nulls and nested pairs, without what is due."""
    with Bare(protocol=3) as store:
        store("HSET", "h", "stays", 1)
        assert store.raw("HEXPIRE", "h", 100, "FIELDS", 2, "stays", "none") == b"*2\r\n:1\r\n:-2\r\n"
        assert store.raw("HSETEX", "h", "PX", 50, "FIELDS", 1, "goes", "v") == b":1\r\n"
        assert store.raw("HPTTL", "h", "FIELDS", 2, "goes", "none") == b"*2\r\n:50\r\n:-2\r\n"
        store.clock_ms += 50
        assert store.raw("HGETALL", "h") == b"%1\r\n$5\r\nstays\r\n$1\r\n1\r\n"
        assert store.raw("HGET", "h", "goes") == b"_\r\n"
        assert store.raw("HMGET", "h", "goes", "stays") == b"*2\r\n_\r\n$1\r\n1\r\n"
        assert store.raw("HKEYS", "h") == b"*1\r\n$5\r\nstays\r\n"
        assert store.raw("HRANDFIELD", "h", 5, "WITHVALUES") == b"*1\r\n*2\r\n$5\r\nstays\r\n$1\r\n1\r\n"
        assert store.raw("HGETEX", "h", "PERSIST", "FIELDS", 2, "goes", "stays") == b"*2\r\n_\r\n$1\r\n1\r\n"
        assert store.raw("HGETDEL", "h", "FIELDS", 2, "goes", "stays") == b"*2\r\n_\r\n$1\r\n1\r\n"
        assert store.raw("HTTL", "h", "FIELDS", 1, "goes") == b"*1\r\n:-2\r\n"
        store.check()


# ---------------------------------------------------------------------------------------------------- transactions


def statistics(store: Bare) -> dict[str, int]:
    names = ("KEYSPACE_HITS", "KEYSPACE_MISSES", "EXPIRED_KEYS", "EXPIRED_SUBKEYS", "LAZYFREED_OBJECTS", "DIRTY")
    return {name: int(getattr(store.registers, name)) for name in names}


@pytest.mark.parametrize("count", SIZES)
def test_a_transaction_that_is_undone_gives_fields_their_deadlines_back(count: int) -> None:
    """And the statistics, which have counted due fields, due keys, and keys that a FLUSHDB had left."""
    with Pipelines(8 << 20) as store:
        dated(store, "h", count)
        dated(store, "g", count)
        store("HSETEX", "due", "PX", 1, "FIELDS", 1, "f", "v")
        store("HSET", "due", "stays", "v")
        store("SET", "due key", "v", "PX", 1)
        store("SELECT", 1)
        for i in range(600):
            store("SET", f"key:{i}", "v" * 100)
        assert store("FLUSHDB") == "OK"
        store("SELECT", 0)
        store.clock_ms += 10
        before, digest, counted = contents(store.context), store_digest(store.context), statistics(store)
        changes = [
            *(("HPERSIST", "h", "FIELDS", 1, "f0"), ("HDEL", "g", "f0"), ("HSET", "due", "f", "new")),
            *(("HEXPIRE", "h", 5000, "FIELDS", 1, f"f{i}") for i in range(count)),
            *(("RENAME", "h", "other"), ("COPY", "g", "h"), ("GET", "due key"), ("HGETALL", "h"), ("GET", "none")),
            ("HSETEX", "new", "PX", 5, "FIELDS", 1, "f", "v"),
        ]
        store.registers.FRAMES_IN_FORCE = store.used + 1100
        answer = store.transaction(*changes, *(("SET", f"more:{i}", b"v" * 4000) for i in range(1400)))
        assert isinstance(answer, ReplyError) and answer.startswith("EXECABORT")
        assert contents(store.context) == before and store_digest(store.context) == digest
        assert statistics(store) == counted
        store.registers.FRAMES_IN_FORCE = 1 << 40
        store.settle()
        assert statistics(store)["LAZYFREED_OBJECTS"] == counted["LAZYFREED_OBJECTS"] + 600
        answer = store.transaction(*changes)
        assert isinstance(answer, list) and not any(isinstance(one, ReplyError) for one in answer)
        after = statistics(store)
        assert after["EXPIRED_SUBKEYS"] == counted["EXPIRED_SUBKEYS"] + 1
        assert after["EXPIRED_KEYS"] == counted["EXPIRED_KEYS"] + 1
        store.check()


def test_what_has_expired_since_a_fork_that_is_gone_back_to_is_there_again(store: Bare) -> None:
    dated(store, "h", 300)
    before = contents(store.context)
    assert undo_begin(store.context)
    store.clock_ms = START_MS + 5000
    expire_all(store)
    assert store("EXISTS", "h") == 0 and statistics(store)["EXPIRED_SUBKEYS"] == 300
    undo(store.context)
    assert contents(store.context) == before and statistics(store)["EXPIRED_SUBKEYS"] == 0
    assert store("HLEN", "h") == 0
    expire_all(store)
    while background_step(store.context, 1000):
        pass


# -------------------------------------------------------------------------------------------------------- branches


class Branches(Stores):
    """A dump tells the deadlines of fields, which a digest does not."""

    def dump(self, name: str) -> Dump:
        found, view = super().dump(name), self.of(name)
        held = contents(view.context)
        return {place: (*told, held[place[0]][place[1]]) for place, told in found.items()}


@pytest.mark.parametrize("count", SIZES)
def test_branch_diff_tells_hashes_whose_deadlines_differ(count: int) -> None:
    """Given, taken, another one, one more and one less; not one that is the same again."""
    with Branches() as stores:
        keys = ("given", "taken", "later", "more", "less", "same", "again", "dead")
        for key in keys:
            dated(stores, key, count)
            stores("HSET", key, "plain", "v")
        branch = stores.make("main")
        other = stores.of(branch)
        at = START_MS + 10**6
        assert other("HPEXPIREAT", "given", at, "FIELDS", 1, "plain") == [1]
        assert other("HPERSIST", "taken", "FIELDS", 1, "f0") == [1]
        assert other("HPEXPIREAT", "later", at, "FIELDS", 1, f"f{count - 1}") == [1]
        assert other("HSETEX", "more", "PXAT", at, "FIELDS", 1, "another", "v") == 1
        assert other("HDEL", "less", "f0") == 1
        assert other("HPEXPIREAT", "again", at, "FIELDS", 1, "f0") == [1]
        assert other("HPEXPIREAT", "again", START_MS + 1000, "FIELDS", 1, "f0") == [1]
        assert other("HPEXPIREAT", "dead", 1, "FIELDS", count, *(f"f{i}" for i in range(count))) == [2] * count
        told = stores.differ("main", branch)
        assert told == {(0, key.encode()): "changed" for key in keys if key not in ("same", "again")}
        assert told == difference(stores.dump("main"), stores.dump(branch))
        assert stores.differ("main", branch, budget=1) == told


@pytest.mark.parametrize("seed", seeds(4))
def test_branch_diff_in_streams_over_deadlines(seed: int) -> None:
    r = random.Random(seed)
    with Branches(records=r.choice([4, 1 << 10])) as stores:
        names = ["main"]
        for step in range(120):
            view, key = stores.of(r.choice(names)), f"h{r.randrange(12)}"
            fields = [f"f{r.randrange(40)}" for _ in range(r.choice([1, 3, 30]))]
            kind = r.randrange(7)
            if kind < 2:
                words = [word for name in fields for word in (name, r.randrange(3))]
                view("HSETEX", key, "PX", r.choice([10**6, 10**7]), "FIELDS", len(fields), *words)
            elif kind == 2:
                view("HPERSIST", key, "FIELDS", len(fields), *fields)
            elif kind == 3:
                view("HPEXPIRE", key, r.choice([10**6, 10**7]), "FIELDS", len(fields), *fields)
            elif kind == 4:
                view("HSET", key, *(word for name in fields for word in (name, r.randrange(3))))
            elif kind == 5:
                view("HDEL", key, *fields)
            elif len(names) < 4:
                names.append(stores.make(r.choice(names)))
            if step % 10 == 0:
                one, other = r.choice(names), r.choice(names)
                expected = difference(stores.dump(one), stores.dump(other))
                assert stores.differ(one, other, count=r.choice([1, 100])) == expected, (seed, step)
        stores.check_lines()


# ---------------------------------------------------------------------------------------------------------- images


def test_a_store_that_is_opened_from_an_image_has_deadlines_agendas_and_names_that_were_left(tmp_path: Path) -> None:
    """It goes on with all of them: names are dropped, and fields expire."""
    size = 32 << 20
    with Bare(size) as store:
        for count in SIZES:
            dated(store, f"h{count}", count)
        date(store, *(f"small:{i}" for i in range(200)), ttl_ms=500)
        leave(store, "small:7", "small:9")
        held = contents(store.context)
        snapshotter = Snapshotter(store.space.state, tmp_path, metadata=describe_store, accept=accept_store)
        assert snapshotter.run_and_wait().ok
        snapshotter.close()
    preload = Preload(ImageDirectory(tmp_path, accept=accept_store), size)
    with PhysicalMemory(size, mapping=preload.mapping) as memory:
        space = AddressSpace(memory)
        assert adopt(preload, space.state, accept=accept_store) is not None
        pool, shard = Pool(memory, size), Shard(1, arguments=16)
        opened = OpenStore(pool, shard, space)
        context = opened.context
        assert keyspace_open(context) == 0
        assert contents(context) == held and left_of(context) == 2
        while background_step(context, 7):
            pass
        assert contents(context) == held and left_of(context) == 0
        for passed in (500, 1000, 1004, 1200, 2000):
            context.registers.NOW_MS = START_MS + passed
            while expire_fields(context, 7):
                pass
            expected = {
                key: {field: pair for field, pair in fields.items() if pair[1] > START_MS + passed}
                for key, (fields, _) in held[0].items()
            }
            found = {key: fields for key, (fields, _) in contents(context).get(0, {}).items()}
            assert found == {key: fields for key, fields in expected.items() if fields}
