"""A read-only store over a frozen root answers every reading command without changing any memory."""

from collections.abc import Iterator
from copy import copy
from typing import TypeVar

import numpy as np
import pytest

from kvstore.commands.table import COMMANDS
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.databases import keyspace_open
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.space import AddressSpace
from tests.kvstore.bare import HANDLERS, START_MS, Bare
from tests.kvstore.pipelines import Pipelines

B = TypeVar("B", bound=Bare)

READING = {
    "get": [("GET", "text"), ("GET", "none"), ("GET", "long"), ("GET", "due")],
    "mget": [("MGET", "text", "none", "number", "due")],
    "strlen": [("STRLEN", "long"), ("STRLEN", "none")],
    "getrange": [("GETRANGE", "long", 3990, 4010)],
    "substr": [("SUBSTR", "text", 1, 2)],
    "getbit": [("GETBIT", "long", 9), ("GETBIT", "none", 1)],
    "bitcount": [("BITCOUNT", "long"), ("BITCOUNT", "text", 3, -2, "BIT"), ("BITCOUNT", "due")],
    "bitpos": [("BITPOS", "long", 0), ("BITPOS", "text", 1, 1)],
    "bitfield_ro": [("BITFIELD_RO", "long", "GET", "u9", 33, "GET", "i64", "#7")],
    "pfcount": [("PFCOUNT", "sketch"), ("PFCOUNT", "sketch", "sketch:dense", "none")],
    "exists": [("EXISTS", "text", "text", "due", "none")],
    "touch": [("TOUCH", "text", "due")],
    "type": [("TYPE", "text"), ("TYPE", "due")],
    "dbsize": [("DBSIZE",)],
    "keys": [("KEYS", "*"), ("KEYS", "t*")],
    "scan": [("SCAN", 0, "COUNT", 1000)],
    "randomkey": [("RANDOMKEY",)],
    "ttl": [("TTL", "timed"), ("TTL", "text"), ("TTL", "due")],
    "pttl": [("PTTL", "timed")],
    "expiretime": [("EXPIRETIME", "timed")],
    "pexpiretime": [("PEXPIRETIME", "timed")],
    "object": [("OBJECT", "ENCODING", "number"), ("OBJECT", "IDLETIME", "text"), ("OBJECT", "ENCODING", "due")],
    "hget": [("HGET", "hash", "f1"), ("HGET", "hash:big", "f700"), ("HGET", "none", "f")],
    "hmget": [("HMGET", "hash", "f1", "none", "f2")],
    "hgetall": [("HGETALL", "hash"), ("HGETALL", "hash:big")],
    "hkeys": [("HKEYS", "hash")],
    "hvals": [("HVALS", "hash:big")],
    "httl": [("HTTL", "hash:timed", "FIELDS", 3, "soon", "later", "none")],
    "hpttl": [("HPTTL", "hash:timed", "FIELDS", 2, "later", "f")],
    "hexpiretime": [("HEXPIRETIME", "hash:timed", "FIELDS", 1, "later")],
    "hpexpiretime": [("HPEXPIRETIME", "hash:timed", "FIELDS", 2, "later", "soon"), ("HGETALL", "hash:timed")],
    "hlen": [("HLEN", "hash"), ("HLEN", "hash:big")],
    "hstrlen": [("HSTRLEN", "hash", "f1")],
    "hexists": [("HEXISTS", "hash:big", "f1"), ("HEXISTS", "hash:big", "none")],
    "hrandfield": [("HRANDFIELD", "hash:one", -3, "WITHVALUES"), ("HRANDFIELD", "hash:one")],
    "hscan": [("HSCAN", "hash", 0), ("HSCAN", "hash:big", 0, "MATCH", "f7*", "COUNT", 100)],
    "smembers": [("SMEMBERS", "set"), ("SMEMBERS", "set:big"), ("SMEMBERS", "ints")],
    "sismember": [("SISMEMBER", "set:big", "m5"), ("SISMEMBER", "ints", 7)],
    "smismember": [("SMISMEMBER", "set", "m5", "none")],
    "scard": [("SCARD", "set:big"), ("SCARD", "ints")],
    "srandmember": [("SRANDMEMBER", "set:one", -3), ("SRANDMEMBER", "set:one", 3), ("SRANDMEMBER", "set:one")],
    "sscan": [("SSCAN", "set:big", 0, "COUNT", 50), ("SSCAN", "ints", 0)],
    "sinter": [("SINTER", "set", "set:big"), ("SINTER", "ints", "set:big")],
    "sintercard": [("SINTERCARD", 2, "set", "set:big", "LIMIT", 3)],
    "sunion": [("SUNION", "set", "set:big", "ints")],
    "sdiff": [("SDIFF", "set:big", "set"), ("SDIFF", "ints", "set:big")],
    "xinfo": [
        ("XINFO", "STREAM", "stream"),
        ("XINFO", "STREAM", "stream", "FULL"),
        ("XINFO", "GROUPS", "stream"),
        ("XINFO", "CONSUMERS", "stream", "g"),
        ("XINFO", "GROUPS", "none"),
    ],
    "xpending": [
        ("XPENDING", "stream", "g"),
        ("XPENDING", "stream", "g", "-", "+", 5),
        ("XPENDING", "stream", "none"),
        ("XPENDING", "stream", "g", "IDLE", 1, "3", "+", 5, "one"),
    ],
    "xlen": [("XLEN", "stream"), ("XLEN", "none")],
    "xrange": [
        ("XRANGE", "stream", "-", "+", "COUNT", 7),
        ("XRANGE", "stream", "(150", "300-9"),
        ("XRANGE", "text", 1, 2),
    ],
    "xrevrange": [("XREVRANGE", "stream", "+", "-"), ("XREVRANGE", "none", "+", "-")],
    "xread": [
        ("XREAD", "COUNT", 3, "STREAMS", "none", "stream", 0, 250),
        ("XREAD", "STREAMS", "stream", "$"),
        ("XREAD", "STREAMS", "stream", "+"),
    ],
    "zcard": [("ZCARD", "zset:big")],
    "zscore": [("ZSCORE", "zset:big", "m7"), ("ZSCORE", "zset", "none")],
    "zmscore": [("ZMSCORE", "zset", "m1", "none")],
    "zrank": [("ZRANK", "zset:big", "m500"), ("ZRANK", "zset", "m3")],
    "zrevrank": [("ZREVRANK", "zset:big", "m500")],
    "zcount": [("ZCOUNT", "zset:big", "(10", 200)],
    "zlexcount": [("ZLEXCOUNT", "zset", "-", "[m3")],
    "zrange": [("ZRANGE", "zset:big", 0, -1, "WITHSCORES"), ("ZRANGE", "zset", "(1", "+inf", "BYSCORE", "LIMIT", 1, 5)],
    "zrangebyscore": [("ZRANGEBYSCORE", "zset:big", 5, 50)],
    "zrevrangebyscore": [("ZREVRANGEBYSCORE", "zset:big", 50, 5, "LIMIT", 2, 3)],
    "zrangebylex": [("ZRANGEBYLEX", "zset", "-", "+")],
    "zrevrangebylex": [("ZREVRANGEBYLEX", "zset", "+", "(m2")],
    "zrevrange": [("ZREVRANGE", "zset:big", 3, 9)],
    "zrandmember": [("ZRANDMEMBER", "zset:one", -3), ("ZRANDMEMBER", "zset:one", 2, "WITHSCORES")],
    "zscan": [("ZSCAN", "zset", 0), ("ZSCAN", "zset:big", 0, "COUNT", 50)],
    "zunion": [("ZUNION", 2, "zset", "zset:big", "WITHSCORES")],
    "zinter": [("ZINTER", 2, "zset", "zset:big", "WEIGHTS", 2, 3)],
    "zdiff": [("ZDIFF", 2, "zset:big", "zset")],
    "zintercard": [("ZINTERCARD", 2, "zset:big", "set:big", "LIMIT", 9)],
    "geodist": [("GEODIST", "zset", "m1", "m9", "ft")],
    "geohash": [("GEOHASH", "zset:big", "m1", "none", "m77")],
    "geopos": [("GEOPOS", "zset:big", "m1", "none", "m77")],
    "geosearch": [("GEOSEARCH", "zset:big", "FROMMEMBER", "m5", "BYRADIUS", 9, "m", "WITHDIST", "COUNT", 40)],
    "georadius_ro": [("GEORADIUS_RO", "zset", -180, -85, 90, "km", "DESC", "WITHCOORD", "WITHHASH")],
    "georadiusbymember_ro": [("GEORADIUSBYMEMBER_RO", "zset", "m1", 9, "mi")],
    "sort_ro": [
        ("SORT_RO", "list:big", "ALPHA", "DESC"),
        ("SORT_RO", "ints", "BY", "key:*", "GET", "#", "GET", "key:*"),
        ("SORT_RO", "zset:big", "BY", "hash*->f1", "ALPHA", "LIMIT", 5, 50),
        ("SORT_RO", "set", "BY", "nosort"),
    ],
    "lcs": [
        ("LCS", "key:299", "long"),
        ("LCS", "text", "number", "IDX", "WITHMATCHLEN"),
        ("LCS", "text", "due", "LEN"),
    ],
    "llen": [("LLEN", "list"), ("LLEN", "list:big")],
    "lrange": [("LRANGE", "list", 0, -1), ("LRANGE", "list:big", 100, 2000)],
    "lindex": [("LINDEX", "list:big", 1500), ("LINDEX", "list", -1)],
    "lpos": [("LPOS", "list:big", "e1500"), ("LPOS", "list", "e3", "COUNT", 0)],
}
ELSEWHERE = {"memory", "lolwut", "dump"}  # with forms that Python serves, or not served as yet


def fill(store: Bare) -> None:
    """Keys of every form, some of them due before START_MS + 1000, in two databases."""
    store("SET", "text", "value")
    store("SET", "number", 12345)
    store("SET", "long", "0123456789" * 1000)
    store("SET", "timed", "x", "PXAT", START_MS + 10_000_000)
    store("SET", "due", "y", "PXAT", START_MS + 500)
    store("PFADD", "sketch", "a", "b")
    store("PFADD", "sketch:dense", *range(3000))
    for i in range(300):
        store("SET", f"key:{i}", "v" * i, *(("PXAT", START_MS + 500) if i % 3 == 0 else ()))
    for key, size in (("one", 1), ("", 20), ("big", 1000)):
        colon = f":{key}" if key else ""
        for i in range(size):
            store("HSET", f"hash{colon}", f"f{i}", f"v{i}")
            store("SADD", f"set{colon}", f"m{i}")
            store("ZADD", f"zset{colon}", i % 300, f"m{i}")
            store("RPUSH", f"list{colon}", *(f"e{3 * i + j}" for j in range(3)))
    for i in range(1, 400):
        store("XADD", "stream", f"{i}-1", "field", i)
    store("XGROUP", "CREATE", "stream", "g", 0)
    store("XREADGROUP", "GROUP", "g", "one", "COUNT", 150, "STREAMS", "stream", ">")
    store("HSETEX", "hash:timed", "PXAT", START_MS + 500, "FIELDS", 1, "soon", "v")
    store("HSETEX", "hash:timed", "PXAT", START_MS + 10_000_000, "FIELDS", 1, "later", "v")
    store("HSET", "hash:timed", "f", "v")
    store("SADD", "ints", *range(0, 100, 7))
    store("SELECT", 1)
    store("SET", "other", "database")
    store("SELECT", 0)


def frozen_of(owner: B) -> B:
    """The store as it is now, frozen."""
    root = owner.fork()
    frozen = copy(owner)
    frozen.space = AddressSpace.of_root(
        owner.memory, root, owner.space.epoch, processor=owner.shard.processor, frozen=True
    )
    frozen.opened = OpenStore(owner.pool, owner.shard, frozen.space)
    frozen.context = frozen.opened.context
    frozen.registers = frozen.context.registers
    assert keyspace_open(frozen.context) == 0
    return frozen


@pytest.fixture(params=[CLASSIC, ON_DEMAND, CONSTANT], ids=["classic", "on-demand", "constant"])
def both(request) -> Iterator[tuple[Bare, Bare]]:
    """A store, and the same one frozen."""
    with Bare(mode=request.param) as owner:
        fill(owner)
        frozen = frozen_of(owner)
        yield owner, frozen


def test_every_reading_command_has_a_sample() -> None:
    kernels = {name.decode().lower() for name in HANDLERS}
    reading = {command.name for command in COMMANDS if "readonly" in command.flags and command.name in kernels}
    assert (reading - ELSEWHERE) | {"object", "xinfo"} == set(READING)


def test_it_answers_as_the_owner_does_and_changes_nothing(both: tuple[Bare, Bare]) -> None:
    owner, frozen = both
    owner.clock_ms = START_MS + 1000
    memory = owner.memory.state.arrays
    entries, counts = memory.entries.copy(), memory.refcount.copy()
    copied = owner.shard.processor.counters
    answers = {}
    for name, samples in READING.items():
        for sample in samples:
            if name.upper().encode() in HANDLERS:
                answers[sample] = frozen(*sample)
    assert np.array_equal(memory.entries, entries)  # tables, and the contents of all pages
    assert np.array_equal(memory.refcount, counts)
    after = owner.shard.processor.counters
    for counter in ("pages_copied", "tables_copied", "write_faults", "pages_mapped", "pages_unmapped"):
        assert after[counter] == copied[counter]
    assert frozen.registers.EXPIRED_KEYS == 0
    for sample, answer in answers.items():
        if sample[0] == "RANDOMKEY":
            assert owner("EXISTS", answer) == 1
        elif sample[0] == "DBSIZE":
            assert answer == 322  # as Redis counts: keys that are due and still there
        elif sample[0] in ("KEYS", "SCAN"):
            own, read = (one if sample[0] == "KEYS" else one[1] for one in (owner(*sample), answer))
            assert sorted(own) == sorted(read)
            assert b"due" not in read
        else:
            assert answer == owner(*sample), sample


def test_it_stays_as_it_was_while_the_owner_goes_on(both: tuple[Bare, Bare]) -> None:
    owner, frozen = both
    for i in range(300):
        owner("SET", f"key:{i}", "new")
        owner("SET", f"more:{i}", "new")
    owner("DEL", "text")
    owner("FLUSHALL")
    owner("SET", "text", "again")
    assert frozen("GET", "text") == b"value"
    assert [frozen("STRLEN", f"key:{i}") for i in range(300)] == list(range(300))
    assert frozen("EXISTS", "more:1") == 0
    assert (frozen("DBSIZE"), owner("DBSIZE")) == (322, 1)
    frozen("SELECT", 1)
    assert frozen("GET", "other") == b"database"
    frozen("SELECT", 0)
    owner.check()


REFUSED = "READONLY You can't write against a read only replica."
WRITING = [command for command in COMMANDS if "write" in command.flags]


@pytest.fixture
def served() -> Iterator[tuple[Pipelines, Pipelines]]:
    """A store with connections, and the same one frozen."""
    with Pipelines(64 << 20) as owner:
        fill(owner)
        yield owner, frozen_of(owner)


def test_it_refuses_every_writing_command_and_changes_nothing(served: tuple[Pipelines, Pipelines]) -> None:
    owner, frozen = served
    memory = owner.memory.state.arrays
    entries, counts = memory.entries.copy(), memory.refcount.copy()
    assert len(WRITING) > 25
    for command in WRITING:
        assert frozen.run((command.name, *["text"] * (abs(command.arity) - 1))) == [REFUSED], command.name
    assert np.array_equal(memory.entries, entries)
    assert np.array_equal(memory.refcount, counts)
    assert frozen.run(("GET", "text"), ("PING",)) == [b"value", "PONG"]
    assert owner.run(("SET", "text", "new"), ("GET", "text")) == ["OK", b"new"]
    assert frozen.run(("GET", "text")) == [b"value"]


def test_a_transaction_with_a_writing_command_is_refused_and_one_that_reads_is_not(
    served: tuple[Pipelines, Pipelines],
) -> None:
    _, frozen = served
    aborted = "EXECABORT Transaction discarded because of previous errors."
    replies = frozen.run(("MULTI",), ("GET", "text"), ("SET", "text", "new"), ("GET", "text"), ("EXEC",))
    assert replies == ["OK", "QUEUED", REFUSED, "QUEUED", aborted]
    assert frozen.transaction(("GET", "text"), ("DBSIZE",)) == [b"value", 322]


def test_exec_itself_is_refused_if_the_store_has_become_read_only_since_the_commands_were_queued(
    served: tuple[Pipelines, Pipelines],
) -> None:
    owner, _ = served
    assert owner.run(("MULTI",), ("SET", "text", "new")) == ["OK", "QUEUED"]
    owner.registers.READ_ONLY = 1
    assert owner.run(("EXEC",)) == [f"EXECABORT Transaction discarded because of: {REFUSED}"]
    owner.registers.READ_ONLY = 0
    assert owner.run(("EXEC",), ("GET", "text")) == ["ERR EXEC without MULTI", b"value"]


def test_neither_a_full_memory_nor_a_failed_snapshot_matters_to_it(served: tuple[Pipelines, Pipelines]) -> None:
    _, frozen = served
    frozen.registers.MAXMEMORY = frozen.registers.WRITES_REFUSED = frozen.registers.ACTIVE_EXPIRE_ENABLED = 1
    frozen.clock_ms = START_MS + 1000
    assert frozen.run(("SET", "text", "new"), ("PING",), ("DBSIZE",)) == [REFUSED, "PONG", 322]
