"""The table of commands: complete, and every row served."""

from importlib import import_module
from typing import Any

import pytest

from kvstore.commands import families
from kvstore.commands.compiled import CommandTable
from kvstore.commands.declaration import Command
from kvstore.commands.refusals import unknown_subcommand, wrong_arity
from kvstore.commands.rows import ROW_HANDLER
from kvstore.commands.table import COMMANDS, ROWS, cold_handler, find, kernel_of, resolve, row_number
from kvstore.wire.keyspecs import NoKeys
from kvstore.wire.reply import CommandError
from mmcore.jit import Linked

SERVED = """
GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX MGET MSET MSETNX APPEND STRLEN GETRANGE SUBSTR SETRANGE INCR DECR INCRBY
DECRBY INCRBYFLOAT DELIFEQ
LCS SORT SORT_RO
SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO
PFADD PFCOUNT PFMERGE PFDEBUG PFSELFTEST
DEL UNLINK EXISTS TYPE KEYS SCAN RANDOMKEY RENAME RENAMENX COPY MOVE TOUCH EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL
EXPIRETIME PEXPIRETIME PERSIST DBSIZE FLUSHDB FLUSHALL SELECT SWAPDB OBJECT
BRANCH SNAPSHOT
HSET HSETNX HMSET HGET HMGET HGETALL HKEYS HVALS HLEN HSTRLEN HEXISTS HDEL HINCRBY HINCRBYFLOAT HRANDFIELD HSCAN
HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HTTL HPTTL HEXPIRETIME HPEXPIRETIME HPERSIST HGETDEL HGETEX HSETEX
SADD SREM SMEMBERS SISMEMBER SMISMEMBER SCARD SPOP SRANDMEMBER SMOVE SSCAN SINTER SINTERCARD SUNION SDIFF SINTERSTORE
SUNIONSTORE SDIFFSTORE
ZADD ZINCRBY ZREM ZCARD ZSCORE ZMSCORE ZRANK ZREVRANK ZCOUNT ZLEXCOUNT ZRANGE ZRANGESTORE ZRANGEBYSCORE
ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZREVRANGE ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX ZPOPMIN ZPOPMAX
ZMPOP ZRANDMEMBER ZSCAN ZUNION ZINTER ZDIFF ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZINTERCARD
GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GEOSEARCHSTORE GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO
LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LRANGE LINDEX LSET LINSERT LREM LTRIM LPOS LMOVE RPOPLPUSH LMPOP
BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP
XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE XSETID XTRIM
MULTI EXEC DISCARD WATCH UNWATCH
SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB
PING ECHO QUIT RESET AUTH HELLO CLIENT COMMAND CONFIG INFO TIME MEMORY DEBUG SAVE BGSAVE LASTSAVE SHUTDOWN
SLOWLOG LATENCY MONITOR ROLE WAIT ACL MODULE CLUSTER ASKING READONLY READWRITE
"""


def test_every_promised_command_is_declared_and_no_other_is() -> None:
    assert sorted(SERVED.lower().split()) == [command.name for command in COMMANDS]


def test_no_command_is_declared_twice() -> None:
    declared = [command.name for family in families.FAMILIES for command in import_module(family).COMMANDS]
    assert sorted(declared) == [command.name for command in COMMANDS]
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_command_has_somebody_who_serves_it(row: Command) -> None:
    """A kernel or a Python function, or subcommands for a container; a subcommand uses its container's kernel."""
    kernel = kernel_of(row)
    container = find(row.name.partition("|")[0].encode())
    assert container is not None
    if row.kernel:
        assert isinstance(kernel, Linked)
        assert kernel is kernel_of(container)
    if row.python:
        served = cold_handler(row)
        assert row.subcommands or (served.__module__, served.__name__) == tuple(row.python.split(":"))
    assert row.kernel or row.python or row.subcommands


def test_the_loop_calls_the_kernels_that_are_declared() -> None:
    handlers = [CommandTable().rows[number, ROW_HANDLER] for number in range(len(ROWS))]
    expected = [kernel_of(row).address if row.kernel and "|" not in row.name else 0 for row in ROWS]
    assert expected == handlers


def test_names_are_found_in_any_case() -> None:
    found = find(b"gEt")
    assert found is not None and found.name == "get"
    found = find(b"Client|LIST")
    assert found is not None and found.name == "client|list"
    assert find(b"client|nothing") is None
    assert find(b"get|x") is None
    assert find(b"") is None


def test_a_whole_command_resolves_to_its_subcommand() -> None:
    found = resolve([b"config", b"GET", b"*"])
    assert found is not None and found.name == "config|get"
    found = resolve([b"command"])
    assert found is not None and found.name == "command"
    assert resolve([b"config", b"nothing"]) is None


def test_a_whole_command_is_counted_by_its_subcommand() -> None:
    for words, name in (
        ("GET", "get"),
        ("config Get x", "config|get"),
        ("CONFIG nosuch", "config"),
        ("DEBUG x", "debug"),
    ):
        assert ROWS[row_number(words.encode().split())].name == name


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("mset a 1 b 2", [(b"a", ("OW", "update")), (b"b", ("OW", "update"))]),
        ("copy x y REPLACE", [(b"x", ("RO", "access")), (b"y", ("OW", "update"))]),
        ("memory usage x", [(b"x", ("RO",))]),
        ("set a 1", [(b"a", ("OW", "update"))]),
        ("set a get", [(b"a", ("OW", "update"))]),
        ("set a 1 ex 5 get", [(b"a", ("RW", "access", "update"))]),
        ("ping", []),
    ],
)
def test_the_keys_of_a_command(words: str, keys: list[tuple[bytes, tuple[str, ...]]]) -> None:
    args = words.encode().split()
    command = resolve(args)
    assert command is not None
    assert keys == command.keys_in(args)


def test_a_command_that_is_too_short_has_no_keys() -> None:
    command = find(b"get")
    assert command is not None
    with pytest.raises(NoKeys):
        command.keys_in([b"get"])


def test_refusals_are_in_redis_words() -> None:
    assert unknown_subcommand("client", b"x").args[0] == "ERR unknown subcommand 'x'. Try CLIENT HELP."
    get = find(b"get")
    assert get is not None
    assert wrong_arity(get).args[0] == "ERR wrong number of arguments for 'get' command"


def test_a_container_refuses_unknown_subcommands_and_wrong_arity() -> None:
    client = find(b"client")
    assert client is not None
    serve: Any = cold_handler(client)
    with pytest.raises(CommandError, match=r"ERR unknown subcommand 'nope'\. Try CLIENT HELP\."):
        serve(None, None, [b"client", b"nope"])
    with pytest.raises(CommandError, match=r"ERR wrong number of arguments for 'client\|kill' command"):
        serve(None, None, [b"client", b"KILL"])
