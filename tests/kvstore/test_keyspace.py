"""The keyspace against a dictionary: seeded streams of commands, with snapshots alive at random moments."""

import random
from collections.abc import Iterator

import pytest

from kvstore.lifetimes.context import Context
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.check import contents
from kvstore.store.databases import memory_used
from kvstore.store.expire import expire_step
from kvstore.store.flush import background_step
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from mmcore.space import AddressSpace
from tests.kvstore.bare import Bare, ReplyError
from tests.mmcore.support import seeds
from tests.model.keyspace import Contents, Entry, Keyspace, Refused

OOM = ERRORS[OUT_OF_FRAMES]
LENGTHS = (0, 1, 20, 44, 45, 64, 200, 500, 1000, 2000, 4000, 4070, 4080, 4090, 4096, 5000, 9000, 70_000)


def held(context: Context) -> Contents:
    """The contents of a store, in the form of the model; proves the store sound."""
    return {
        db: {key: Entry(value, deadline) for key, (value, deadline) in entries.items()}
        for db, entries in contents(context).items()
    }


def frozen(bare: Bare, root: int) -> Contents:
    """The contents of a frozen root."""
    space = AddressSpace.of_root(bare.memory, root, bare.space.epoch)
    return held(OpenStore(bare.pool, bare.shard, space, registers=bare.opened.registers).context)


class Stream:
    """Random commands, executed by a store and by its model."""

    def __init__(self, bare: Bare, seed: int, keys: int = 60, lengths: tuple[int, ...] = LENGTHS) -> None:
        self.choose = random.Random(seed)
        self.bare, self.model = bare, Keyspace()
        self.keys = [b"key:%d" % i for i in range(keys)] + [b"", b"L" * 4090, b"M" * 9000]
        self.lengths = lengths
        self.db = 0
        self.frozen: list[tuple[int, Contents]] = []

    def key(self) -> bytes:
        return self.choose.choice(self.keys)

    def value(self) -> bytes:
        return bytes([self.choose.randrange(256)]) * self.choose.choice(self.lengths)

    def expect(self, expected: object, *command: str | bytes | int) -> None:
        got = self.bare(*command)
        assert got == expected, (command, got, expected)

    def step(self) -> None:
        """One random command."""
        name = self.choose.choice(self.STEPS)
        getattr(self, name)()

    STEPS = (
        ["set"] * 6
        + ["get", "set_ex", "append", "setrange", "delete", "delete", "expire", "persist", "rename", "copy", "move"]
        + ["incr", "select", "wait", "background", "snapshot", "release"]
    )
    RARE = ("flushdb", "flushall", "swapdb")

    def set(self) -> None:
        key, value = self.key(), self.value()
        self.model.set(self.db, key, value)
        self.expect("OK", "SET", key, value)

    def set_ex(self) -> None:
        key, value, ttl = self.key(), self.value(), self.choose.randrange(1, 200)
        self.model.set(self.db, key, value, self.bare.clock_ms + ttl)
        self.expect("OK", "SET", key, value, "PX", ttl)

    def get(self) -> None:
        key = self.key()
        self.expect(self.model.get(self.db, key), "GET", key)

    def append(self) -> None:
        key, tail = self.key(), self.value()
        self.expect(self.model.append(self.db, key, tail), "APPEND", key, tail)

    def setrange(self) -> None:
        key, part, offset = self.key(), self.value(), self.choose.choice([0, 1, 40, 3000, 10_000])
        self.expect(self.model.setrange(self.db, key, offset, part), "SETRANGE", key, offset, part)

    def incr(self) -> None:
        key, by = self.key(), self.choose.randrange(-(10**18), 10**18)
        try:
            self.expect(self.model.incrby(self.db, key, by), "INCRBY", key, by)
        except Refused:
            assert isinstance(self.bare("INCRBY", key, by), ReplyError)

    def delete(self) -> None:
        keys = [self.key() for _ in range(self.choose.randrange(1, 5))]
        self.expect(self.model.delete(self.db, *keys), "DEL", *keys)

    def expire(self) -> None:
        key, ttl = self.key(), self.choose.randrange(1, 300)
        self.expect(self.model.deadline(self.db, key, self.bare.clock_ms + ttl), "PEXPIRE", key, ttl)

    def persist(self) -> None:
        key = self.key()
        self.expect(self.model.deadline(self.db, key, None), "PERSIST", key)

    def rename(self) -> None:
        source, target = self.key(), self.key()
        try:
            self.model.rename(self.db, source, target)
        except Refused:
            self.expect("ERR no such key", "RENAME", source, target)
        else:
            self.expect("OK", "RENAME", source, target)

    def copy(self) -> None:
        source, target, db = self.key(), self.key(), self.choose.randrange(3)
        replace = self.choose.random() < 0.5
        try:
            expected: object = self.model.copy_key(self.db, source, db, target, replace)
        except Refused:
            expected = "ERR source and destination objects are the same"
        self.expect(expected, "COPY", source, target, "DB", db, *(["REPLACE"] if replace else []))

    def move(self) -> None:
        key, db = self.key(), self.choose.randrange(3)
        try:
            expected: object = self.model.move(self.db, key, db)
        except Refused:
            expected = "ERR source and destination objects are the same"
        self.expect(expected, "MOVE", key, db)

    def select(self) -> None:
        self.db = self.choose.randrange(3)
        self.bare("SELECT", self.db)
        if self.choose.random() < 0.3:
            getattr(self, self.choose.choice(self.RARE))()

    def flushdb(self) -> None:
        self.model.flush(self.db)
        self.expect("OK", "FLUSHDB")

    def flushall(self) -> None:
        self.model.flush()
        self.expect("OK", "FLUSHALL")

    def swapdb(self) -> None:
        one, other = self.choose.randrange(3), self.choose.randrange(3)
        self.model.swap(one, other)
        self.expect("OK", "SWAPDB", one, other)

    def wait(self) -> None:
        self.bare.clock_ms += self.choose.randrange(30)
        self.model.expire(self.bare.clock_ms)
        if self.choose.random() < 0.5:
            expire_step(self.bare.context, self.choose.choice([1, 64, 1000]))

    def background(self) -> None:
        background_step(self.bare.context, self.choose.choice([1, 8, 64]))

    def snapshot(self) -> None:
        if len(self.frozen) < 3:
            self.frozen.append((self.bare.fork(), held(self.bare.context)))

    def release(self) -> None:
        if self.frozen:
            root, expected = self.frozen.pop(self.choose.randrange(len(self.frozen)))
            assert frozen(self.bare, root) == expected
            self.bare.release(root)

    def check(self) -> None:
        """Prove the store sound: it holds the model's keys, and perhaps due keys that are not deleted yet."""
        self.bare.check()
        now = self.bare.clock_ms
        found = {
            db: {key: entry for key, entry in entries.items() if entry.deadline_ms is None or entry.deadline_ms > now}
            for db, entries in held(self.bare.context).items()
        }
        assert {db: entries for db, entries in found.items() if entries} == self.model.contents(now)


@pytest.fixture(params=seeds(4, 1))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_random_commands_do_what_the_model_does(seed: int) -> None:
    with Bare(seed=seed) as bare:
        stream = Stream(bare, seed)
        for _ in range(30):
            for _ in range(100):
                stream.step()
            stream.check()
        while stream.frozen:
            stream.release()
        stream.flushall()
        while background_step(bare.context, 64):
            pass
        stream.check()
        assert bare.memory.frames_total - bare.memory.frames_free < 12


def test_random_commands_on_many_short_keys(seed: int) -> None:
    with Bare(seed=seed) as bare:
        stream = Stream(bare, seed, keys=3000, lengths=(0, 3, 17, 64, 90))
        for _ in range(8):
            for _ in range(1000):
                stream.step()
            stream.check()
        while stream.frozen:
            stream.release()


def fill(bare: Bare, sizes: Iterator[int]) -> int:
    """Set keys until memory is full; returns how many."""
    for i, size in enumerate(sizes):
        if bare("SET", f"full:{i}", b"x" * size) == OOM:
            return i
    raise AssertionError


@pytest.mark.parametrize("size", [10, 100, 3000, 50_000])
def test_full_memory_refuses_writes_and_lets_go(size: int) -> None:
    with Bare(4 << 20 if size < 1000 else 8 << 20) as bare:
        sizes = (size + i % 7 for i in range(1 << 20))
        count = fill(bare, sizes)
        bare.check()
        before = contents(bare.context)
        assert bare("SET", "another", b"x" * 100_000) == OOM
        assert bare("APPEND", "full:0", b"x" * 4_000_000) == OOM
        assert bare("MSET", *(part for i in range(400) for part in (f"m{i}", b"x" * 5000))) == OOM
        assert bare("SETRANGE", "new", 5_000_000, "x") == OOM
        assert contents(bare.context) == before
        assert bare("GET", "full:0") is not None
        for i in range(count):
            assert bare("DEL", f"full:{i}") == 1
        while background_step(bare.context, 64):
            pass
        bare.check()
        again = fill(bare, (size + i % 7 for i in range(1 << 20)))
        assert again >= count * 0.95
        assert bare("FLUSHALL") == "OK"


def test_full_memory_beside_a_snapshot(seed: int) -> None:
    choose = random.Random(seed)
    with Bare(8 << 20, seed=seed) as bare:
        for i in range(8000):
            bare("SET", f"k:{i}", b"x" * 400)
        root = bare.fork()
        before = frozen(bare, root)
        refused = 0
        for _ in range(20_000):
            i = choose.randrange(12_000)
            command = choose.choice(["SET", "SET", "DEL", "APPEND", "PEXPIRE"])
            tail = {"SET": [b"y" * choose.randrange(900)], "APPEND": [b"z" * 300], "PEXPIRE": [5], "DEL": []}[command]
            refused += bare(command, f"k:{i}", *tail) == OOM
            if choose.random() < 0.01:
                bare.clock_ms += 3
                expire_step(bare.context, 50)
        assert refused > 1000
        bare.check()
        assert frozen(bare, root) == before
        bare.release(root)
        bare.check()
        assert bare("SET", "k:1", "there is room again") == "OK"


def test_expiry_deletes_what_is_due_and_nothing_else() -> None:
    with Bare() as bare:
        for i in range(3000):
            bare("SELECT", i % 3)
            bare("SET", f"k:{i}", "v", *(["PX", 1 + i] if i % 2 else []))
        bare.clock_ms += 1500
        for _ in range(1000):
            expire_step(bare.context, 16)
        bare.check()
        assert int(bare.registers.EXPIRED_KEYS) == 750
        left = {key for entries in contents(bare.context).values() for key in entries}
        assert left == {b"k:%d" % i for i in range(3000) if i % 2 == 0 or i >= 1500}


def test_a_look_up_meets_the_deadline_first() -> None:
    with Bare() as bare:
        for command in (["GET"], ["STRLEN"], ["EXISTS"], ["TTL"], ["TYPE"], ["INCR"], ["APPEND", "x"], ["DEL"]):
            bare("SET", "k", "10", "PX", 100)
            bare.clock_ms += 99
            assert bare("PTTL", "k") == 1
            bare.clock_ms += 1
            reply = bare(command[0], "k", *command[1:])
            expected = {"GET": None, "TTL": -2, "TYPE": "none", "INCR": 1, "APPEND": 1}.get(command[0], 0)
            assert reply == expected, command
            bare("DEL", "k")


def test_flushdb_of_one_among_several_leaves_the_others() -> None:
    with Bare() as bare:
        for round_ in range(40):  # more than there are spare regions
            bare("SELECT", 1)
            for i in range(50):
                bare("SET", f"k:{i}", b"v" * (100 * i), "EX", 100)
            bare("SELECT", 0)
            bare("SET", f"stays:{round_}", "v")
            bare("SELECT", 1)
            assert bare("FLUSHDB") == "OK" and bare("DBSIZE") == 0
            if round_ % 8 == 0:
                bare.check()
        while background_step(bare.context, 64):
            pass
        bare.check()
        assert contents(bare.context).keys() == {0} and len(contents(bare.context)[0]) == 40
        assert int(bare.registers.LAZYFREED_OBJECTS) > 0


def test_a_flush_keeps_the_seed_for_those_who_watch() -> None:
    with Bare() as bare:
        seed = int(bare.registers.HASH_SEED)
        bare("SET", "k", "v")
        bare("FLUSHALL")
        assert int(bare.registers.HASH_SEED) == seed != 0


def test_large_values_are_given_back_in_steps() -> None:
    with Bare(64 << 20) as bare:
        bare("SET", "k", b"x" * (20 << 20))
        used = bare.memory.frames_total - bare.memory.frames_free
        assert bare("DEL", "k") == 1
        assert bare.memory.frames_total - bare.memory.frames_free > used - 10
        steps = 0
        while background_step(bare.context, 64):
            steps += 1
        assert steps >= (20 << 20) / 4096 / 64
        bare.check()


@pytest.mark.parametrize("shared", [False, True])
def test_a_copy_of_a_very_long_value_takes_no_pages_until_one_is_written(shared: bool) -> None:
    with Bare(96 << 20) as bare:
        long = bytes(range(256)) * (5 << 12)  # 5 MiB
        bare("SET", "k", long, "PX", 1000)
        root = bare.fork() if shared else -1
        used, free = memory_used(bare.context), bare.memory.frames_free
        assert bare("COPY", "k", "copy") == 1 and bare("PTTL", "copy") == 1000
        assert free - bare.memory.frames_free < 30
        assert memory_used(bare.context) - used >= len(long)
        assert bare("SETRANGE", "k", 1 << 20, "k's own") == bare("APPEND", "copy", "") == len(long)
        assert bare("SETRANGE", "copy", 2 << 20, "copy's own") == len(long)
        assert bare("APPEND", "k", "more") == len(long) + 4
        edited = long[: 1 << 20] + b"k's own" + long[(1 << 20) + 7 :] + b"more"
        assert bare("GET", "k") == edited
        assert bare("GET", "copy") == long[: 2 << 20] + b"copy's own" + long[(2 << 20) + 10 :]
        bare.check()
        assert free - bare.memory.frames_free < 60
        assert bare("COPY", "k", "copy", "REPLACE") == 1
        assert bare("SET", "k", long) == "OK" and bare("GET", "copy") == edited
        bare.check()
        if shared:
            bare.release(root)
        assert bare("DEL", "k", "copy") == 2
        while background_step(bare.context, 64):
            pass
        bare.check()


def test_copies_do_not_outgrow_the_memory_in_force() -> None:
    with Bare(32 << 20, spare=256 << 20) as bare:
        bare("SET", "k:0", b"x" * (4 << 20))
        replies = [bare("COPY", "k:0", f"k:{i}") for i in range(1, 10)]
        assert 5 <= replies.count(1) <= 7 and replies == sorted(replies, key=str), replies
        assert bare("SET", "other", b"x" * (8 << 20)) == bare("COPY", "k:0", "one more")  # both are refused
        for i in range(1, 10):
            bare("DEL", f"k:{i}")
        assert bare("COPY", "k:0", "one more") == 1
        bare.check()


@pytest.mark.parametrize("gap", [1, 3000, 5000, 300_000])
@pytest.mark.parametrize("length", [0, 1, 100, 4000, 5000, 8192, 300_000])
def test_a_gap_that_setrange_makes_holds_zeros(length: int, gap: int) -> None:
    with Bare(16 << 20) as bare:
        for i in range(40):  # leave bytes of others behind
            bare("SET", f"other:{i}", b"y" * (length + gap))
        bare("SET", "k", b"y" * (length + 900 if length > 4096 else length))
        for i in range(40):
            bare("DEL", f"other:{i}")
        if length:
            bare("SET", "k", b"x" * length)
        assert bare("SETRANGE", "k", length + gap, "z") == length + gap + 1
        assert bare("GET", "k") == b"x" * length + bytes(gap) + b"z"
        bare.check()


def test_renaming_does_not_move_a_large_value() -> None:
    with Bare() as bare:
        bare("SET", "k", b"x" * 1_000_000, "EX", 100)
        copied = bare.space.counters["pages_mapped"]
        assert bare("RENAME", "k", "another name") == "OK"
        bare("MOVE", "another name", 3)
        bare("SELECT", 3)
        assert bare("PTTL", "another name") == 100_000
        assert bare.space.counters["pages_mapped"] - copied < 10
        assert bare("STRLEN", "another name") == 1_000_000
        bare.check()


def test_a_use_is_noted_beside_a_snapshot_without_a_write_to_a_page() -> None:
    with Bare() as bare:
        bare("SET", "k", "v")
        bare.clock_ms += 10_000
        assert bare("OBJECT", "IDLETIME", "k") == 10
        assert bare("EXISTS", "k") == 1 and bare("TTL", "k") == -1 and bare("TYPE", "k") == "string"
        assert bare("OBJECT", "IDLETIME", "k") == 10
        root = bare.fork()
        before = bare.space.counters["write_faults"]
        bare("GET", "k")
        assert bare.space.counters["write_faults"] == before
        assert bare("OBJECT", "IDLETIME", "k") == 0
        bare.release(root)


def test_memory_of_a_key_is_what_the_heap_gives_for_it() -> None:
    with Bare() as bare:
        bare("SET", b"k" * 16, b"v" * 64)
        assert bare("MEMORY", "USAGE", b"k" * 16) == 88 + 8
        assert bare("MEMORY", "USAGE", "none") is None


def test_a_value_of_its_own_that_fits_a_page_is_set_beside_a_shared_copy() -> None:
    """A short value has an allocation of its own where key and value together exceed a page; it borrows nothing."""
    with Bare() as store:
        store("SET", "long", "x" * (1 << 20))
        assert store("COPY", "long", "copy") == 1
        for length in (4000, 4090, 4096, 4097, 9000):
            key = "k" * (4100 - min(length, 4000))
            assert store("SET", key, "v" * length) == "OK"
            assert store("SET", key, "w" * length) == "OK"
            assert store("GET", key) == b"w" * length
        store.check()
        assert store("GET", "copy") == store("GET", "long")


def test_the_zeros_of_a_short_value_at_the_start_of_a_page_are_written() -> None:
    """A value beside a long key has an allocation of its own, which may be the first of a page that was used before."""
    with Bare() as bare:
        for i in range(100):
            bare("SET", f"k{i}", "x" * 75)
        for i in range(100):
            bare("DEL", f"k{i}")
        for i in range(100):
            bare("SETRANGE", b"long" * 2000 + b"%d" % i, 84, "e")
            assert bare("GET", b"long" * 2000 + b"%d" % i) == b"\0" * 84 + b"e"
