"""COMMAND, field by field, beside a real redis-server: INFO, DOCS, LIST, COUNT, GETKEYS and GETKEYSANDFLAGS.

Summaries and costs are our own text, because they describe this server.  Everything else equals Redis's reply, in the
same order, in RESP2 and RESP3.  Rows that redis-server 7.0 does not have are compared with Valkey.  MEANT and
UNLIKE_VALKEY list the intended differences.
"""

from collections.abc import Callable
from typing import Any

import pytest

from kvstore.commands.table import COMMANDS, ROWS
from tests.harness import Process
from tests.server.wire import Failure, Wire

OURS = ("branch", "snapshot")
"""Containers that no Redis has."""

NAMES = [row.name for row in ROWS if row.name.partition("|")[0] not in OURS]
CHANGED = ("command|getkeys", "command|getkeysandflags", "hscan", "set", "zrank", "zrevrank")
"""Rows that have changed since Redis 7.0: HSCAN has NOVALUES, SET has IFEQ, ZRANK and ZREVRANK have WITHSCORE."""

OF_FIELDS = (
    *("hexpire", "hexpireat", "hexpiretime", "hgetdel", "hgetex", "hpersist", "hpexpire", "hpexpireat", "hpexpiretime"),
    *("hpttl", "hsetex", "httl"),
)
"""Commands about deadlines of fields, which are Redis 8's: its versions, and refused beyond maxmemory."""

NOT_IN_REDIS = ("delifeq", *OF_FIELDS)
"""Commands that redis-server 7.0 does not have."""

LATER = ("client|no-touch", "client|setinfo", *NOT_IN_REDIS, *CHANGED)
"""Rows that are Valkey's: those that redis-server 7.0 does not have, and those that have changed since."""

LEFT_OUT = {  # subcommands that are not served: there are no users to change and no modules to load
    *("acl|deluser", "acl|dryrun", "acl|genpass", "acl|load", "acl|save", "acl|setuser"),
    *("module|load", "module|loadex", "module|unload"),
}
OWN_WORDS = ("summary", "complexity")
COSTLESS = ("monitor",)  # Redis does not say what they cost

Tree = Any  # a reply with the kinds of its parts: see `tree`


def tree(reply: bytes) -> Tree:
    """A reply as (kind, parts), so that a set differs from an array and a map from a set."""
    value, end = _part(reply, 0)
    assert end == len(reply)
    return value


def _part(reply: bytes, at: int) -> tuple[Tree, int]:
    end = reply.index(b"\r\n", at)
    kind, line, at = reply[at : at + 1].decode(), reply[at + 1 : end].decode(), end + 2
    if kind in "+-:_":
        return (kind, line), at
    if kind == "$":
        count = int(line)
        return (kind, None if count < 0 else reply[at : at + count].decode()), at + max(count, -2) + 2
    assert kind in "*~%", kind
    parts = []
    for _ in range(int(line) * (2 if kind == "%" else 1)):
        part, at = _part(reply, at)
        parts.append(part)
    return (kind, parts), at


def fields(document: Tree) -> dict[str, Tree]:
    """A map's values by their names, in either protocol."""
    _, parts = document
    return {name: value for (_, name), value in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    """The protocol of both connections."""
    return int(request.param)


@pytest.fixture
def pair(server: Process, redis_server: Process, protocol: int, ours: None) -> Any:
    """Connections to this server and to Redis."""
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        yield mine, theirs


@pytest.fixture
def valkey_pair(server: Process, valkey_server: Process, protocol: int, ours: None) -> Any:
    """Connections to this server and to Valkey."""
    with Wire(server.address, protocol) as mine, Wire(valkey_server.address, protocol) as theirs:
        yield mine, theirs


def without_subcommands(row: Tree) -> Tree:
    """A row of COMMAND INFO without its last field, whose order is a hash table's."""
    kind, parts = row
    return kind, parts[:-1]


def test_command_info_is_redis_own(pair: tuple[Wire, Wire]) -> None:
    """Name, arity, flags, keys, categories, tips and key specifications of every command and subcommand."""
    names = [name for name in NAMES if name not in LATER]
    mine, theirs = (tree(wire.raw("COMMAND", "INFO", *names))[1] for wire in pair)
    for name, own, other in zip(names, mine, theirs, strict=True):
        assert without_subcommands(own) == without_subcommands(other), name


def test_containers_have_redis_subcommands(pair: tuple[Wire, Wire]) -> None:
    """COMMAND INFO has an array of rows, or an empty set; COMMAND DOCS has a map."""
    for command in [row for row in COMMANDS if row.name not in (*OURS, *NOT_IN_REDIS)]:
        rows = [tree(wire.raw("COMMAND", "INFO", command.name))[1][0][1][-1] for wire in pair]
        assert rows[0][0] == rows[1][0], command.name
        mine, theirs = ({row[1][0][1]: without_subcommands(row) for row in parts} for _, parts in rows)
        assert theirs.keys() - mine.keys() == {name for name in LEFT_OUT if name.startswith(f"{command.name}|")}
        assert mine.keys() - theirs.keys() <= set(LATER)
        assert {name: row for name, row in mine.items() if name not in LATER} == {
            name: row for name, row in theirs.items() if name not in LEFT_OUT and name not in LATER
        }


Change = Callable[[Tree], Tree]


def _with_age(arguments: Tree) -> Tree:
    # Redis 7.0's arguments of CLIENT KILL, with the filter of 7.4.
    kind, (outer,) = arguments
    inner = fields(fields(outer)["arguments"][1][1])["arguments"][1]
    text, integer, token, flags = ("$", "maxage"), ("$", "integer"), ("$", "MAXAGE"), fields(inner[0])["flags"]
    inner.append(
        (inner[0][0], [("$", "name"), text, ("$", "type"), integer, ("$", "token"), token, ("$", "flags"), flags])
    )
    return kind, [outer]


MEANT: dict[str, tuple[str, Change, str]] = {
    "client|kill": ("arguments", _with_age, "MAXAGE is served, which is of Redis 7.4"),
}
"""Differences of a document from Redis 7.0's: the field, how it follows from Redis's, and the reason."""


def documented(wire: Wire, name: str) -> dict[str, Tree]:
    """A command's document in COMMAND DOCS, without our own text and without its subcommands."""
    ((_, told), document) = tree(wire.raw("COMMAND", "DOCS", name))[1]
    assert told == name
    found = fields(document)
    for word in OWN_WORDS:
        if word == "complexity" and name in COSTLESS and word not in found:
            continue
        kind, text = found.pop(word)
        assert kind == "$" and text
    found.pop("subcommands", None)
    return found


def test_command_docs_are_redis_own(pair: tuple[Wire, Wire]) -> None:
    """Since, group, flags, deprecation, history and arguments: all but the summary and the cost."""
    for name in NAMES:
        if name in LATER:
            continue
        mine, theirs = (documented(wire, name) for wire in pair)
        if name in MEANT:
            field, change, _ = MEANT[name]
            assert mine[field] != theirs[field]
            theirs[field] = change(theirs[field])
        assert list(mine.items()) == list(theirs.items()), name


def test_documents_of_containers_have_their_subcommands(pair: tuple[Wire, Wire]) -> None:
    """They are listed by their full names."""
    for command in [row for row in COMMANDS if row.name not in (*OURS, *NOT_IN_REDIS)]:
        found = [fields(tree(wire.raw("COMMAND", "DOCS", command.name))[1][1]) for wire in pair]
        assert ("subcommands" in found[0]) == ("subcommands" in found[1]) == bool(command.subcommands), command.name
        if command.subcommands:
            mine, theirs = (set(fields(one["subcommands"])) for one in found)
            assert mine - set(LATER) == theirs - LEFT_OUT - set(LATER), command.name


UNLIKE_VALKEY = {  # facts in Valkey's rows that this server does not state
    "display_text": "a field of arguments that redis-server 7.0's documents do not have: their name, said again",
    "summary": "a sentence about one argument, SET's IFEQ",
    "allow_busy": "a flag that Valkey has given to CLIENT; there are no scripts here that it could run beside",
}


def _as_redis(part: Tree) -> Tree:
    kind, parts = part
    if not isinstance(parts, list):
        return part
    if kind == "%" or (kind == "*" and parts and parts[0] == ("$", "name")):
        pairs = [pair for pair in zip(parts[::2], parts[1::2], strict=True) if pair[0][1] not in UNLIKE_VALKEY]
        return kind, [_as_redis(one) for pair in pairs for one in pair]
    return kind, [_as_redis(one) for one in parts if one[1] not in list(UNLIKE_VALKEY)]


def _without_denyoom(part: Tree) -> Tree:
    kind, parts = part
    return (kind, [one for one in parts if one != ("+", "denyoom")]) if isinstance(parts, list) else part


def test_what_redis_does_not_have_is_valkeys(valkey_pair: tuple[Wire, Wire]) -> None:
    """Compares COMMAND INFO and COMMAND DOCS of the newer rows."""
    for name in [name for name in LATER if name in NAMES]:
        mine, theirs = (without_subcommands(tree(wire.raw("COMMAND", "INFO", name))[1][0]) for wire in valkey_pair)
        if name in OF_FIELDS:
            mine, theirs = ((kind, [_without_denyoom(part) for part in parts]) for kind, parts in (mine, theirs))
        assert mine == _as_redis(theirs), name
        if name in OF_FIELDS:
            continue
        own, other = (documented(wire, name) for wire in valkey_pair)
        assert own == {field: _as_redis(value) for field, value in other.items()}, name


@pytest.mark.parametrize("words", [
    ("LIST", "FILTERBY", "ACLCAT", "dangerous"), ("LIST", "FILTERBY", "ACLCAT", "fast"), ("LIST",),
    ("LIST", "FILTERBY", "ACLCAT", "connection"), ("LIST", "FILTERBY", "PATTERN", "*con*"),
    ("LIST", "FILTERBY", "PATTERN", "CONFIG|*"), ("LIST", "FILTERBY", "MODULE", "m"),
])  # fmt: skip
def test_commands_and_subcommands_are_listed_as_in_redis(pair: tuple[Wire, Wire], words: tuple[str, ...]) -> None:
    """Compares the commands that both servers have."""
    (mine_kind, mine), (kind, theirs) = (tree(wire.raw("COMMAND", *words)) for wire in pair)
    names = set(NAMES) - (set(LATER) - set(CHANGED))
    assert mine_kind == kind
    assert len(mine) == len(set(mine))
    assert {name for _, name in mine} & names == {name for _, name in theirs} & names


def test_subcommands_are_not_counted(pair: tuple[Wire, Wire]) -> None:
    """COMMAND COUNT is the number of names that COMMAND LIST has without a bar."""
    for wire in pair:
        assert wire("COMMAND", "COUNT") == len([name for name in wire("COMMAND", "LIST") if b"|" not in name])
    assert pair[0]("COMMAND", "COUNT") == len(COMMANDS)


CALLS = [
    *("GET a", "SET a 1", "SET a 1 EX 5 GET", "SET a 1 get", "MSET a 1 b 2", "MGET a b c", "DEL a b", "COPY a b"),
    *("RENAME a b", "RENAMENX a b", "GETEX a PERSIST", "WATCH a b", "TOUCH a", "EXPIRE a 1", "MOVE a 1", "GETSET a 1"),
    *("OBJECT ENCODING a", "OBJECT FREQ a", "MEMORY USAGE a", "MSETNX a 1", "UNLINK a b c", "object|encoding a"),
    *("NOSUCH a", "OBJECT NOSUCH a", "GET a b", "MSET a 1 b"),
]


@pytest.mark.parametrize("call", CALLS)
def test_keys_of_a_call_are_redis_own(pair: tuple[Wire, Wire], call: str) -> None:
    """Calls GETKEYS and GETKEYSANDFLAGS with right and wrong arguments."""
    for subcommand in ("GETKEYS", "GETKEYSANDFLAGS"):
        mine, theirs = (wire.raw("COMMAND", subcommand, *call.split()) for wire in pair)
        assert mine == theirs, subcommand


def test_names_that_are_not_served_are_none_as_in_redis(pair: tuple[Wire, Wire]) -> None:
    """INFO answers null, DOCS leaves them out."""
    for words in (("INFO", "nosuch"), ("INFO", "get|x"), ("DOCS", "nosuch"), ("LIST", "FILTERBY", "x", "y")):
        mine, theirs = (wire.raw("COMMAND", *words) for wire in pair)
        assert mine == theirs, words
    assert isinstance(pair[0]("COMMAND", "LIST", "FILTERBY", "x", "y"), Failure)
