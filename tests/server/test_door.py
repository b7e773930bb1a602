"""The one door for effects: every writing command announces exactly the keys that it changed.

The events are compared with those that a real redis-server publishes for the same commands.
"""

from collections.abc import Iterator

import pytest

from kvstore.commands.table import COMMANDS
from kvstore.effects.journal import Journal, Told
from kvstore.store.expire import expire_step
from tests.harness import Process
from tests.kvstore.bare import HANDLERS, START_MS, Bare
from tests.kvstore.keyspace_check import contents
from tests.server.wire import OK, Wire, encode

Command = tuple[str | int, ...]
BEFORE: tuple[Command, ...] = (
    ("SET", "text", "value"),
    ("SET", "number", 41),
    ("SET", "timed", "x", "EX", 1000),
    ("SET", "long", "y" * 9000),
    ("SELECT", 1),
    ("SET", "there", "z"),
    ("SELECT", 0),
)
PAST, LATER = 1_000, 1_900_000_000_000
WRITING: dict[str, tuple[Command, ...]] = {
    "set": (
        ("SET", "new", 1), ("SET", "text", "v"), ("SET", "text", "v", "NX"), ("SET", "none", "v", "XX"),
        ("SET", "text", "v", "EX", 100), ("SET", "timed", "v", "KEEPTTL"), ("SET", "timed", "v"),
        ("SET", "text", "v", "GET"), ("SET", "text", "v", "PXAT", LATER),
    ),
    "setnx": (("SETNX", "new", 1), ("SETNX", "text", 1)),
    "setex": (("SETEX", "text", 100, "v"),),
    "psetex": (("PSETEX", "new", 100_000, "v"),),
    "getset": (("GETSET", "text", "v"), ("GETSET", "new", "v")),
    "getdel": (("GETDEL", "text"), ("GETDEL", "none")),
    "getex": (
        ("GETEX", "text"), ("GETEX", "text", "EX", 100), ("GETEX", "timed", "PERSIST"), ("GETEX", "text", "PERSIST"),
        ("GETEX", "text", "PXAT", PAST), ("GETEX", "none", "EX", 100),
    ),
    "mset": (("MSET", "text", 1, "new", 2, "text", 3),),
    "msetnx": (("MSETNX", "new", 1, "newer", 2), ("MSETNX", "new", 1, "text", 2)),
    "append": (("APPEND", "text", "more"), ("APPEND", "new", "more"), ("APPEND", "text", "")),
    "setrange": (("SETRANGE", "text", 2, "xx"), ("SETRANGE", "new", 2, "xx"), ("SETRANGE", "new", 2, "")),
    "incr": (("INCR", "number"), ("INCR", "new"), ("INCR", "text")),
    "decr": (("DECR", "number"),),
    "incrby": (("INCRBY", "number", 5),),
    "decrby": (("DECRBY", "number", 5),),
    "incrbyfloat": (("INCRBYFLOAT", "number", "1.5"), ("INCRBYFLOAT", "new", "2")),
    "del": (("DEL", "text", "none", "long", "text"),),
    "unlink": (("UNLINK", "text", "none", "long"),),
    "expire": (
        ("EXPIRE", "text", 100), ("EXPIRE", "none", 100), ("EXPIRE", "text", -1), ("EXPIRE", "timed", 5, "GT"),
    ),
    "pexpire": (("PEXPIRE", "text", 100_000),),
    "expireat": (("EXPIREAT", "text", LATER // 1000), ("EXPIREAT", "text", 1)),
    "pexpireat": (("PEXPIREAT", "timed", LATER), ("PEXPIREAT", "timed", PAST)),
    "persist": (("PERSIST", "timed"), ("PERSIST", "text")),
    "rename": (("RENAME", "text", "new"), ("RENAME", "text", "long"), ("RENAME", "text", "text")),
    "renamenx": (("RENAMENX", "text", "new"), ("RENAMENX", "text", "long")),
    "move": (("MOVE", "text", 1), ("MOVE", "none", 1)),
    "copy": (
        ("COPY", "text", "new"), ("COPY", "text", "long"), ("COPY", "text", "long", "REPLACE"),
        ("COPY", "timed", "new", "DB", 1),
    ),
    "swapdb": (("SWAPDB", 0, 1), ("SWAPDB", 0, 0)),
    "flushdb": (("FLUSHDB",),),
    "flushall": (("FLUSHALL",),),
}  # fmt: skip
SAMPLES = [sample for samples in WRITING.values() for sample in samples]
Found = dict[tuple[int, bytes], object]


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        for command in BEFORE:
            made(*command)
        yield made


def held(store: Bare) -> Found:
    """All keys, with their values and deadlines."""
    return {(db, key): value for db, keys in contents(store.context).items() for key, value in keys.items()}


def different(before: Found, after: Found) -> set[tuple[int, bytes]]:
    """The keys that have come, gone or changed."""
    return {key for key in before | after if before.get(key) != after.get(key)}


def keys_of(told: list[Told], before: Found, after: Found) -> set[tuple[int, bytes]]:
    """The keys in the announced events."""
    found: set[tuple[int, bytes]] = set()
    for one in told:
        if one.event == "emptied":
            found |= {key for key in before if one.db in (-1, key[0])}
        elif one.event == "swapped":
            found |= {key for key in before | after if key[0] in (one.db, one.other)}
        else:
            found.add((one.db, one.key))
    return found


def test_every_writing_command_has_a_sample() -> None:
    kernels = {name.decode().lower() for name in HANDLERS}
    assert {row.name for row in COMMANDS if "write" in row.flags and row.name in kernels} == set(WRITING)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: " ".join(map(str, sample)))
def test_what_a_command_changes_is_what_it_tells(store: Bare, sample: Command) -> None:
    journal, before, dirty = Journal(store.context), held(store), store.registers.DIRTY
    store(*sample)
    told, after = journal.take(), held(store)
    changed = different(before, after)
    assert changed <= keys_of(told, before, after)
    assert bool(told) == (dirty < store.registers.DIRTY)
    if changed:
        assert told
    assert journal.left_out == 0


@pytest.mark.parametrize("how", ["lookup", "active"])
def test_expiry_tells_too_and_is_no_change_that_is_saved(store: Bare, how: str) -> None:
    store("SET", "L" * 5000, "x", "PX", 100)
    store("SET", "short", "x", "PX", 100)
    journal, dirty = Journal(store.context), store.registers.DIRTY
    store.clock_ms += 101
    if how == "lookup":
        assert store("EXISTS", "short", "L" * 5000) == 0
    else:
        assert expire_step(store.context, 1000) > 0
    assert sorted(journal.take()) == sorted(Told("expired", 0, key) for key in (b"short", b"L" * 5000))
    assert dirty == store.registers.DIRTY
    store.check()


def test_a_journal_that_is_full_counts_what_it_leaves_out(store: Bare) -> None:
    journal = Journal(store.context, capacity=48)
    for _ in range(3):
        store("SET", "text", 1)
    assert ([one.event for one in journal.take()], journal.left_out) == (["set", "set"], 1)
    store("SET", "text", 1)
    assert len(journal.take()) == 1
    journal.close()
    store("SET", "text", 1)
    assert journal.take() == []


def published(redis: Wire, listener: Wire, sample: Command) -> list[tuple[str, int, bytes]]:
    """The events that redis-server publishes for a command, in order."""
    redis("SELECT", 0)
    redis("FLUSHALL")
    for command in BEFORE:
        redis(*command)
    redis("PUBLISH", "mark", "begin")
    redis(*sample)
    redis("PUBLISH", "mark", "end")
    found: list[tuple[str, int, bytes]] = []
    seen = False
    while True:
        _, _, channel, message = listener.reply()
        if channel == b"mark":
            if message == b"end":
                return found
            seen = True
        elif seen:
            place, _, key = channel.partition(b"__:")
            found.append((message.decode(), int(place.removeprefix(b"__keyspace@")), key))


def test_the_events_are_those_that_redis_publishes(redis_server: Process) -> None:
    with Wire(redis_server.address) as redis, Wire(redis_server.address) as listener:
        assert redis("CONFIG", "SET", "notify-keyspace-events", "KA") == OK
        listener.send(encode("PSUBSCRIBE", "__keyspace@*__:*", "mark"))
        for _ in range(2):
            listener.reply()
        for sample in SAMPLES:
            expected = published(redis, listener, sample)
            with Bare() as store:
                store.clock_ms = START_MS
                for command in BEFORE:
                    store(*command)
                journal = Journal(store.context)
                store(*sample)
                told = [one[:3] for one in journal.take() if one.event not in ("emptied", "swapped")]
            assert told == expected, sample
        assert redis("CONFIG", "SET", "notify-keyspace-events", "") == OK
