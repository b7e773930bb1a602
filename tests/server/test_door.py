"""The one door for effects: every writing command announces exactly the keys that it changed.

test_notifications.py compares the events with those that a real redis-server publishes.
"""

from collections.abc import Iterator

import pytest

from kvstore.commands.table import COMMANDS
from kvstore.effects.journal import Journal, Told
from kvstore.store.check import contents
from kvstore.store.expire import expire_step
from tests.kvstore.bare import HANDLERS, Bare

Command = tuple[str | int, ...]
BEFORE: tuple[Command, ...] = (
    ("SET", "text", "value"),
    ("SET", "number", 41),
    ("SET", "timed", "x", "EX", 1000),
    ("SET", "long", "y" * 9000),
    ("HSET", "hash", "f", "v", "n", 1, "other", "x" * 100),
    ("HSET", "hash:1", "f", "v"),
    ("HSETEX", "fields", "EX", 1000, "FIELDS", 1, "timed", "v"),
    ("HSET", "fields", "f", "v"),
    ("SADD", "set", "a", "b", "c", "long" * 30),
    ("SADD", "ints", 1, 2, 3),
    ("SADD", "set:1", "a"),
    ("ZADD", "zset", 1, "a", 2, "b", 3, "c", 4, "long" * 30),
    ("ZADD", "zset:1", 1, "a"),
    ("XADD", "stream", "1-1", "f", "v"),
    ("XADD", "stream", "2-1", "f", "w"),
    ("XGROUP", "CREATE", "stream", "g", 0),
    ("XREADGROUP", "GROUP", "g", "one", "COUNT", 1, "STREAMS", "stream", ">"),
    ("RPUSH", "list", "a", "b", "c", "b", "long" * 30),
    ("RPUSH", "list:1", "a"),
    ("PFADD", "sketch", "a", "b"),
    ("PFADD", "sketch:dense", *range(3000)),
    ("SELECT", 1),
    ("SET", "there", "z"),
    ("SELECT", 0),
)
IDLE_READ = ("XREADGROUP", "GROUP", "g", "one", "STREAMS", "stream", 0)
PAST, LATER = 1_000, 1_900_000_000_000
WRITING: dict[str, tuple[Command, ...]] = {
    "set": (
        ("SET", "new", 1), ("SET", "text", "v"), ("SET", "text", "v", "NX"), ("SET", "none", "v", "XX"),
        ("SET", "text", "v", "EX", 100), ("SET", "timed", "v", "KEEPTTL"), ("SET", "timed", "v"),
        ("SET", "text", "v", "GET"), ("SET", "text", "v", "PXAT", LATER), ("SET", "text", "v", "IFEQ", "value"),
        ("SET", "text", "v", "IFEQ", "other"), ("SET", "none", "v", "IFEQ", ""), ("SET", "list", "v", "IFEQ", "v"),
    ),
    "setnx": (("SETNX", "new", 1), ("SETNX", "text", 1)),
    "setex": (("SETEX", "text", 100, "v"),),
    "psetex": (("PSETEX", "new", 100_000, "v"),),
    "delifeq": (
        ("DELIFEQ", "text", "value"), ("DELIFEQ", "text", "v"), ("DELIFEQ", "none", ""), ("DELIFEQ", "list", "x"),
    ),
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
    "hset": (("HSET", "hash", "f", "w", "g", "x"), ("HSET", "new", "f", "v"), ("HSET", "text", "f", "v")),
    "hmset": (("HMSET", "hash", "f", "v"),),
    "hsetnx": (("HSETNX", "hash", "f", "v"), ("HSETNX", "hash", "g", "v"), ("HSETNX", "new", "g", "v")),
    "hdel": (("HDEL", "hash", "f", "none"), ("HDEL", "hash", "none"), ("HDEL", "hash:1", "f", "f")),
    "hexpire": (
        ("HEXPIRE", "hash", 100, "FIELDS", 2, "f", "none"), ("HEXPIRE", "hash", 100, "XX", "FIELDS", 1, "f"),
        ("HEXPIRE", "hash:1", 0, "FIELDS", 1, "f"), ("HEXPIRE", "none", 1, "FIELDS", 1, "f"),
    ),
    "hpexpire": (("HPEXPIRE", "hash", 100_000, "FIELDS", 1, "f"), ("HPEXPIRE", "fields", 0, "FIELDS", 1, "timed")),
    "hexpireat": (("HEXPIREAT", "hash", LATER // 1000, "FIELDS", 1, "f"), ("HEXPIREAT", "hash", 1, "FIELDS", 1, "f")),
    "hpexpireat": (
        ("HPEXPIREAT", "fields", LATER, "FIELDS", 1, "timed"),
        ("HPEXPIREAT", "fields", LATER, "LT", "FIELDS", 1, "timed"),
    ),
    "hpersist": (("HPERSIST", "fields", "FIELDS", 2, "timed", "f"), ("HPERSIST", "hash", "FIELDS", 1, "f")),
    "hgetdel": (
        ("HGETDEL", "fields", "FIELDS", 2, "timed", "none"), ("HGETDEL", "hash:1", "FIELDS", 1, "f"),
        ("HGETDEL", "hash", "FIELDS", 1, "none"),
    ),
    "hgetex": (
        ("HGETEX", "hash", "EX", 100, "FIELDS", 1, "f"), ("HGETEX", "fields", "PERSIST", "FIELDS", 1, "timed"),
        ("HGETEX", "hash", "PERSIST", "FIELDS", 1, "f"), ("HGETEX", "hash:1", "PXAT", 0, "FIELDS", 1, "f"),
        ("HGETEX", "fields", "FIELDS", 1, "timed"),
    ),
    "hsetex": (
        ("HSETEX", "hash", "FIELDS", 1, "f", "w"), ("HSETEX", "new", "EX", 100, "FIELDS", 2, "f", "w", "g", "x"),
        ("HSETEX", "new", "PXAT", 0, "FIELDS", 1, "f", "w"), ("HSETEX", "hash", "FNX", "FIELDS", 1, "f", "w"),
        ("HSETEX", "fields", "KEEPTTL", "FIELDS", 1, "timed", "w"), ("HSETEX", "text", "FIELDS", 1, "f", "w"),
    ),
    "hincrby": (("HINCRBY", "hash", "n", 5), ("HINCRBY", "hash", "f", 5), ("HINCRBY", "new", "n", 5)),
    "hincrbyfloat": (("HINCRBYFLOAT", "hash", "n", "1.5"), ("HINCRBYFLOAT", "new", "n", "1.5")),
    "sadd": (("SADD", "set", "a", "d"), ("SADD", "set", "a"), ("SADD", "new", 1, "x"), ("SADD", "ints", "x")),
    "srem": (("SREM", "set", "a", "none"), ("SREM", "set", "none"), ("SREM", "set:1", "a")),
    "spop": (("SPOP", "set:1"), ("SPOP", "ints", 3), ("SPOP", "set", 0), ("SPOP", "none")),
    "smove": (
        ("SMOVE", "set", "ints", "a"), ("SMOVE", "set:1", "set", "a"), ("SMOVE", "set:1", "new", "a"),
        ("SMOVE", "set", "new", "none"), ("SMOVE", "set", "set", "a"),
    ),
    "sinterstore": (("SINTERSTORE", "new", "set", "set:1"), ("SINTERSTORE", "text", "set", "ints"),
        ("SINTERSTORE", "new", "set", "ints")),
    "sunionstore": (("SUNIONSTORE", "set", "set", "ints"), ("SUNIONSTORE", "new", "none"),),
    "sdiffstore": (("SDIFFSTORE", "new", "set", "set:1"), ("SDIFFSTORE", "text", "set:1", "set")),
    "zadd": (
        ("ZADD", "zset", 5, "a", 6, "new"), ("ZADD", "zset", 1, "a"), ("ZADD", "new", 1, "a"),
        ("ZADD", "zset", "XX", 1, "x"), ("ZADD", "zset", "INCR", 2, "a"),
        ("ZADD", "zset", "CH", "GT", 0, "a", 9, "b"), ("ZADD", "text", 1, "a"),
    ),
    "zincrby": (("ZINCRBY", "zset", 2, "a"), ("ZINCRBY", "new", 2, "a"), ("ZINCRBY", "zset", 0, "a")),
    "zrem": (("ZREM", "zset", "a", "none"), ("ZREM", "zset", "none"), ("ZREM", "zset:1", "a")),
    "zremrangebyrank": (("ZREMRANGEBYRANK", "zset", 0, 1), ("ZREMRANGEBYRANK", "zset", 0, -1)),
    "zremrangebyscore": (("ZREMRANGEBYSCORE", "zset", 2, 3), ("ZREMRANGEBYSCORE", "zset", 7, 8)),
    "zremrangebylex": (("ZREMRANGEBYLEX", "zset:1", "-", "+"),),
    "zpopmin": (("ZPOPMIN", "zset"), ("ZPOPMIN", "zset:1"), ("ZPOPMIN", "none"), ("ZPOPMIN", "zset", 0)),
    "zpopmax": (("ZPOPMAX", "zset", 2), ("ZPOPMAX", "zset:1")),
    "zmpop": (
        ("ZMPOP", 2, "none", "zset", "MIN"), ("ZMPOP", 1, "zset:1", "MAX", "COUNT", 3), ("ZMPOP", 1, "none", "MIN"),
    ),
    "zrangestore": (("ZRANGESTORE", "new", "zset", 0, 1), ("ZRANGESTORE", "text", "zset", 9, 10)),
    "zunionstore": (("ZUNIONSTORE", "new", 2, "zset", "set"), ("ZUNIONSTORE", "text", 1, "none")),
    "zinterstore": (("ZINTERSTORE", "new", 2, "zset", "zset:1"), ("ZINTERSTORE", "new", 2, "zset", "none")),
    "zdiffstore": (("ZDIFFSTORE", "new", 2, "zset", "zset:1"), ("ZDIFFSTORE", "zset", 2, "zset:1", "zset")),
    "geoadd": (
        ("GEOADD", "zset", 13, 38, "a", 15, 37, "new"), ("GEOADD", "new", "CH", 1, 2, "a"),
        ("GEOADD", "zset", "XX", 1, 1, "x"), ("GEOADD", "zset", "NX", 1, 1, "a"), ("GEOADD", "text", 1, 1, "a"),
    ),
    "georadius": (
        ("GEORADIUS", "zset", -180, -85, 9000, "km", "STORE", "new"), ("GEORADIUS", "zset", 0, 0, 1, "m"),
        ("GEORADIUS", "zset", 0, 0, 1, "m", "STOREDIST", "text"), ("GEORADIUS", "none", 0, 0, 1, "m", "STORE", "set"),
    ),
    "georadiusbymember": (
        ("GEORADIUSBYMEMBER", "zset", "a", 1, "km", "STOREDIST", "zset"),
        ("GEORADIUSBYMEMBER", "zset", "none", 1, "km", "STORE", "new"),
    ),
    "geosearchstore": (
        ("GEOSEARCHSTORE", "new", "zset", "FROMMEMBER", "a", "BYRADIUS", 9, "km", "STOREDIST"),
        ("GEOSEARCHSTORE", "text", "zset", "FROMLONLAT", 0, 0, "BYBOX", 1, 1, "km"),
        ("GEOSEARCHSTORE", "none", "none", "FROMLONLAT", 0, 0, "BYBOX", 1, 1, "km"),
    ),
    "sort": (
        ("SORT", "list", "ALPHA", "STORE", "new"), ("SORT", "ints", "DESC", "STORE", "list"), ("SORT", "ints"),
        ("SORT", "none", "STORE", "text"), ("SORT", "list", "STORE", "new"), ("SORT", "text", "STORE", "new"),
    ),
    "setbit": (
        ("SETBIT", "text", 1, 0), ("SETBIT", "text", 1, 1), ("SETBIT", "new", 9, 0), ("SETBIT", "text", 5000, 0),
        ("SETBIT", "list", 1, 1),
    ),
    "bitop": (("BITOP", "NOT", "new", "text"), ("BITOP", "OR", "text", "none"), ("BITOP", "AND", "none", "none")),
    "bitfield": (
        ("BITFIELD", "text", "SET", "u8", 0, 7, "INCRBY", "u8", 0, 1), ("BITFIELD", "text", "GET", "u8", 0),
        ("BITFIELD", "new", "SET", "u8", 0, 0), ("BITFIELD", "text", "OVERFLOW", "FAIL", "INCRBY", "u1", 900, 5),
    ),
    "pfadd": (("PFADD", "sketch", "c"), ("PFADD", "sketch", "a"), ("PFADD", "new"), ("PFADD", "sketch:dense", "x")),
    "pfmerge": (("PFMERGE", "sketch", "sketch:dense"), ("PFMERGE", "new"), ("PFMERGE", "text", "sketch")),
    "pfdebug": (
        ("PFDEBUG", "TODENSE", "sketch"), ("PFDEBUG", "TODENSE", "sketch:dense"), ("PFDEBUG", "ENCODING", "sketch"),
    ),
    "lpush": (("LPUSH", "list", "x", "y"), ("LPUSH", "new", "x"), ("LPUSH", "text", "x")),
    "rpush": (("RPUSH", "list", "x", "y"), ("RPUSH", "new", "x")),
    "lpushx": (("LPUSHX", "list", "x"), ("LPUSHX", "new", "x")),
    "rpushx": (("RPUSHX", "list", "x"), ("RPUSHX", "new", "x")),
    "lpop": (("LPOP", "list"), ("LPOP", "list:1"), ("LPOP", "list", 3), ("LPOP", "list", 0), ("LPOP", "none")),
    "rpop": (("RPOP", "list"), ("RPOP", "list:1", 4)),
    "blpop": (("BLPOP", "none", "list", 0), ("BLPOP", "list:1", 0)),
    "brpop": (("BRPOP", "list", "none", 0), ("BRPOP", "text", 0)),
    "blmove": (("BLMOVE", "list", "new", "LEFT", "RIGHT", 0), ("BLMOVE", "list:1", "list", "LEFT", "LEFT", 0)),
    "brpoplpush": (("BRPOPLPUSH", "list", "list", 0), ("BRPOPLPUSH", "list", "text", 0)),
    "blmpop": (("BLMPOP", 0, 2, "none", "list", "LEFT"), ("BLMPOP", 0, 1, "list:1", "RIGHT", "COUNT", 2)),
    "bzpopmin": (("BZPOPMIN", "none", "zset", 0), ("BZPOPMIN", "zset:1", 0)),
    "bzpopmax": (("BZPOPMAX", "zset", 0), ("BZPOPMAX", "text", 0)),
    "bzmpop": (("BZMPOP", 0, 2, "none", "zset", "MIN"), ("BZMPOP", 0, 1, "zset:1", "MAX", "COUNT", 3)),
    "lmpop": (("LMPOP", 2, "none", "list", "LEFT"), ("LMPOP", 1, "list:1", "RIGHT", "COUNT", 2)),
    "lset": (("LSET", "list", 1, "x"), ("LSET", "list", 9, "x"), ("LSET", "none", 0, "x")),
    "linsert": (("LINSERT", "list", "BEFORE", "b", "x"), ("LINSERT", "list", "AFTER", "none", "x")),
    "lrem": (("LREM", "list", 0, "b"), ("LREM", "list", 1, "none"), ("LREM", "list:1", 0, "a")),
    "ltrim": (("LTRIM", "list", 1, 2), ("LTRIM", "list", 0, -1), ("LTRIM", "list", 9, 10)),
    "lmove": (
        ("LMOVE", "list", "new", "LEFT", "RIGHT"), ("LMOVE", "list:1", "list", "LEFT", "LEFT"),
        ("LMOVE", "list", "list", "LEFT", "RIGHT"), ("LMOVE", "none", "list", "LEFT", "LEFT"),
    ),
    "rpoplpush": (("RPOPLPUSH", "list:1", "list"), ("RPOPLPUSH", "list", "list")),
    "xadd": (
        ("XADD", "stream", "9-1", "f", "v"), ("XADD", "stream", "1-1", "f", "v"), ("XADD", "new", "*", "f", "v"),
        ("XADD", "text", "*", "f", "v"), ("XADD", "new", "NOMKSTREAM", "*", "f", "v"),
        ("XADD", "stream", "MAXLEN", "=", 1, "*", "f", "v"),
    ),
    "xack": (("XACK", "stream", "g", "1-1"), ("XACK", "stream", "g", "7-7"), ("XACK", "none", "g", "1-1")),
    "xautoclaim": (
        ("XAUTOCLAIM", "stream", "g", "two", 0, 0), ("XAUTOCLAIM", "stream", "g", "one", 1000, 0, "JUSTID"),
        ("XAUTOCLAIM", "stream", "none", "one", 0, 0),
    ),
    "xclaim": (
        ("XCLAIM", "stream", "g", "two", 0, "1-1"), ("XCLAIM", "stream", "g", "one", 0, "7-7"),
        ("XCLAIM", "stream", "g", "one", 0, "2-1", "FORCE", "LASTID", "3-3"), ("XCLAIM", "none", "g", "one", 0, "1-1"),
    ),
    "xreadgroup": (
        ("XREADGROUP", "GROUP", "g", "one", "STREAMS", "stream", ">"), IDLE_READ,
        ("XREADGROUP", "GROUP", "g", "two", "NOACK", "STREAMS", "stream", ">"),
    ),
    "xdel": (("XDEL", "stream", "1-1", "7-7"), ("XDEL", "stream", "7-7"), ("XDEL", "none", "1-1")),
    "xtrim": (("XTRIM", "stream", "MAXLEN", 1), ("XTRIM", "stream", "MINID", 0), ("XTRIM", "none", "MAXLEN", 1)),
    "xsetid": (("XSETID", "stream", "9-9"), ("XSETID", "stream", "0-1"), ("XSETID", "none", "1-1")),
    "swapdb": (("SWAPDB", 0, 1), ("SWAPDB", 0, 0)),
    "flushdb": (("FLUSHDB",),),
    "flushall": (("FLUSHALL",),),
}  # fmt: skip
TELLS_NO_CHANGE = {
    ("LTRIM", "list", 0, -1),  # as Redis: an event, and nothing to save
    ("XAUTOCLAIM", "stream", "g", "one", 1000, 0, "JUSTID"),  # the consumer was seen, which nobody saves
    ("XCLAIM", "stream", "g", "one", 0, "7-7"),
}
OF_CONTAINERS: tuple[Command, ...] = (
    ("XGROUP", "CREATE", "stream", "h", "$"), ("XGROUP", "CREATE", "new", "h", "0", "MKSTREAM"),
    ("XGROUP", "CREATE", "stream", "g", "0"), ("XGROUP", "SETID", "stream", "g", "0", "ENTRIESREAD", 1),
    ("XGROUP", "DESTROY", "stream", "g"), ("XGROUP", "DESTROY", "stream", "none"),
    ("XGROUP", "CREATECONSUMER", "stream", "g", "two"), ("XGROUP", "CREATECONSUMER", "stream", "g", "one"),
    ("XGROUP", "DELCONSUMER", "stream", "g", "one"), ("XGROUP", "DELCONSUMER", "stream", "g", "two"),
)  # fmt: skip
SAMPLES = [*(sample for samples in WRITING.values() for sample in samples), *OF_CONTAINERS]
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
    if sample not in TELLS_NO_CHANGE:
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
