"""The table of commands: complete, and what Redis says of the same commands."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.commands.docs import Argument, docs, parse_syntax
from kvstore.commands.table import (
    COMMANDS,
    ROWS,
    Command,
    cold_handler,
    find,
    hot_handlers,
    keys_of,
    resolve,
    row_number,
    unknown_subcommand,
    wrong_arity,
)
from kvstore.wire.reply import CommandError
from tests.harness import need_redis, start_redis

SERVED = """
GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX MGET MSET MSETNX APPEND STRLEN GETRANGE SUBSTR SETRANGE INCR DECR INCRBY
DECRBY INCRBYFLOAT
DEL UNLINK EXISTS TYPE KEYS SCAN RANDOMKEY RENAME RENAMENX COPY MOVE TOUCH EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL
EXPIRETIME PEXPIRETIME PERSIST DBSIZE FLUSHDB FLUSHALL SELECT SWAPDB OBJECT
MULTI EXEC DISCARD WATCH UNWATCH
PING ECHO QUIT RESET AUTH HELLO CLIENT COMMAND CONFIG INFO TIME MEMORY DEBUG SAVE BGSAVE LASTSAVE SHUTDOWN
SLOWLOG LATENCY ROLE WAIT ACL MODULE CLUSTER ASKING READONLY READWRITE
"""


SERVED_BY_THEIR_CONTAINER = {  # whose kernel tells them apart
    *("object|encoding", "object|freq", "object|idletime", "object|refcount"),
    *("memory|usage", "slowlog|len"),
}


def test_every_promised_command_has_a_row_and_no_other_has() -> None:
    assert sorted(SERVED.lower().split()) == [command.name for command in COMMANDS]


def test_every_row_is_documented_and_every_document_has_a_row() -> None:
    assert {row.name for row in ROWS} == set(docs())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_command_has_somebody_who_serves_it(row: Command) -> None:
    if row.hot:
        assert row.name in hot_handlers()
    elif row.name in SERVED_BY_THEIR_CONTAINER:
        assert row.name.partition("|")[0] in hot_handlers() and not row.cold
    elif not row.subcommands:
        assert callable(cold_handler(row))
        assert row.cold


def test_every_kernel_has_a_row() -> None:
    assert set(hot_handlers()) == {row.name for row in COMMANDS if row.hot}


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


def test_keys_are_found_where_the_row_says() -> None:
    command = find(b"mset")
    assert command is not None
    found = [key for key, _ in keys_of(command, [b"mset", b"a", b"1", b"b", b"2"])]
    assert found == [b"a", b"b"]
    command = find(b"copy")
    assert command is not None
    assert list(keys_of(command, [b"copy", b"x", b"y", b"REPLACE"])) == [
        (b"x", ("RO", "access")),
        (b"y", ("OW", "update")),
    ]


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


SYNTAX = [
    ("key value", (Argument("key", "key"), Argument("value", "string"))),
    ("[GET]", (Argument("get", "pure-token", "GET", optional=True),)),
    ("DB n:integer", (Argument("n", "integer", "DB"),)),
    ("[x...]", (Argument("x", "string", optional=True, multiple=True),)),
    (
        "[c: NX | EX seconds]",
        (
            Argument(
                "c",
                "oneof",
                optional=True,
                arguments=(Argument("nx", "pure-token", "NX"), Argument("seconds", "integer", "EX")),
            ),
        ),
    ),
    (
        "(p: key value)...",
        (Argument("p", "block", multiple=True, arguments=(Argument("key", "key"), Argument("value", "string"))),),
    ),
    ("", ()),
]


@pytest.mark.parametrize(("syntax", "expected"), SYNTAX)
def test_the_notation_of_arguments(syntax: str, expected: tuple[Argument, ...]) -> None:
    assert expected == parse_syntax(syntax)


def test_usage_reads_as_a_user_would_write_it() -> None:
    assert docs()["mset"].usage == "<key> <value> [<key> <value> ...]"
    assert docs()["client|pause"].usage == "<timeout> [WRITE|ALL]"
    assert docs()["client|list"].usage == "[TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [<client-id> ...]]"


# ------------------------------------------------------------------------------------------------ beside a real Redis


@pytest.fixture(scope="module")
def redis_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The beginning of a redis-cli command line that asks a real redis-server in RESP3 and prints JSON."""
    need_redis(shutil.which("redis-cli"), "redis-cli")
    with start_redis(tmp_path_factory.mktemp("redis")) as process:
        yield ["redis-cli", "-3", "--json", "-p", str(process.port)]


def _ask(redis_cli: list[str], *args: str) -> Any:
    return json.loads(subprocess.run([*redis_cli, *args], capture_output=True, check=True).stdout)


LATER_THAN_7_0 = {"client|no-touch", "client|setinfo"}
LEFT_OUT = {  # subcommands that have no row: there are no users to change and no modules to load
    *("acl|deluser", "acl|dryrun", "acl|genpass", "acl|load", "acl|save", "acl|setuser"),
    *("module|load", "module|loadex", "module|unload"),
}
ARITY_CHANGED = {"command|getkeys": -3, "command|getkeysandflags": -3}


def _flat(entries: list[Any]) -> dict[str, list[Any]]:
    return {entry[0]: entry for entry in entries if entry} | {
        sub[0]: sub for entry in entries if entry for sub in entry[9]
    }


@pytest.mark.parametrize(("words", "flags"), [
    (b"SET a 1", ("OW", "update")),
    (b"SET a 1 EX 5 get", ("RW", "access", "update")),
    (b"COPY a b", ("RO", "access")),
])  # fmt: skip
def test_what_a_command_does_to_its_first_key(words: bytes, flags: tuple[str, ...]) -> None:
    command = find(words.split()[0])
    assert command is not None
    assert next(keys_of(command, words.split())) == (b"a", flags)


def test_rows_are_those_of_redis(redis_cli: list[str]) -> None:
    """Arity, flags, keys, categories and tips of every command and subcommand, compared with COMMAND INFO."""
    theirs = _flat(_ask(redis_cli, "command", "info", *(command.name for command in COMMANDS)))
    for row in ROWS:
        if row.name in LATER_THAN_7_0:
            continue
        _, arity, flags, first, last, step, categories, tips, keys, _ = theirs[row.name]
        mine = (row.arity, set(row.flags), row.first_key_last_key_step, {"@" + name for name in row.categories})
        assert (ARITY_CHANGED.get(row.name, arity), set(flags), (first, last, step), set(categories)) == mine, row.name
        assert set(tips) == set(row.tips), row.name
        assert [set(key["flags"]) for key in keys] == [set(run.flags) for run in row.keys], row.name
        assert [key["begin_search"]["spec"]["index"] for key in keys] == [run.first for run in row.keys], row.name
    assert theirs.keys() - {row.name for row in ROWS} == LEFT_OUT


def _shape(argument: Any) -> Any:
    # What hints depend on: the words, and how they nest.
    if isinstance(argument, Argument):
        flags = {name for name in ("optional", "multiple") if getattr(argument, name)}
        return (argument.name, argument.type, argument.token, flags, [_shape(part) for part in argument.arguments])
    flags = set(argument.get("flags", ())) - {"multiple_token"}
    parts = [_shape(part) for part in argument.get("arguments", ())]
    return (argument["name"], argument["type"], argument.get("token", ""), flags, parts)


# Groups that a later Redis has renamed or extended, and arguments that Redis leaves undocumented.
DOCUMENTED_OTHERWISE = {
    *("client|kill", "client|list", "client|reply", "client|tracking", "client|unblock"),
    *("command|getkeys", "command|getkeysandflags", "config|get", "debug", "hello", "shutdown"),
}


def test_arguments_are_those_of_redis(redis_cli: list[str]) -> None:
    """Names, types, tokens and nesting, compared with COMMAND DOCS."""
    theirs = _ask(redis_cli, "command", "docs", *(command.name for command in COMMANDS))
    theirs |= {name: sub for doc in list(theirs.values()) for name, sub in doc.get("subcommands", {}).items()}
    for row in ROWS:
        if row.name in LATER_THAN_7_0:
            continue
        doc = theirs[row.name]
        assert (doc["group"], doc["since"]) == (row.group, row.doc.since), row.name
        if row.name not in DOCUMENTED_OTHERWISE:
            expected = [_shape(argument) for argument in doc.get("arguments", ())]
            assert expected == [_shape(argument) for argument in row.doc.arguments], row.name
