"""The type of every reply that Python makes, in RESP2 and RESP3, compared with a real redis-server's."""

import re
from typing import Any

import pytest

from tests.server.test_command import NOT_IN_REDIS
from tests.server.wire import Wire

# ---------------------------------------------------------------------------------------------------------- skeletons


def skeleton(reply: bytes) -> Any:
    """The types in a reply: for a map by key; for an array or a set, the kinds of its members."""
    tree, end = _parse(reply, 0)
    assert end == len(reply)
    return tree


def _parse(reply: bytes, at: int) -> tuple[Any, int]:
    end = reply.index(b"\r\n", at)
    kind, rest, at = reply[at : at + 1].decode(), reply[at + 1 : end], end + 2
    if kind in "+-:,#_":
        return kind, at
    if kind in "$=":
        return ("nil", at) if rest == b"-1" else (kind, at + int(rest) + 2)
    items: list[tuple[Any, bytes]] = []
    for _ in range(int(rest) * (2 if kind == "%" else 1)):
        start = at
        item, at = _parse(reply, at)
        items.append((item, reply[start:at]))
    if kind == "%":
        pairs = zip(items[0::2], items[1::2], strict=True)
        return {name: value for (_, name), (value, _) in pairs}, at
    return [kind, *sorted({repr(item) for item, _ in items})], at


def test_a_skeleton_tells_sets_from_arrays_and_maps() -> None:
    """Otherwise the comparisons below could not fail."""
    assert skeleton(b"*2\r\n:1\r\n$1\r\nx\r\n") == ["*", "'$'", "':'"]
    assert skeleton(b"~1\r\n+a\r\n") != skeleton(b"*1\r\n+a\r\n")
    assert skeleton(b"%1\r\n+a\r\n,1.5\r\n") == {b"+a\r\n": ","}
    assert skeleton(b"$-1\r\n") != skeleton(b"_\r\n")


# Commands whose replies have the same types on both servers, and the same keys in maps.
ALIKE = """
    COMMAND COUNT
    COMMAND INFO get nosuch
    COMMAND LIST FILTERBY PATTERN getd*
    COMMAND LIST FILTERBY MODULE x
    COMMAND GETKEYS get a
    COMMAND GETKEYSANDFLAGS set a b
    COMMAND DOCS nosuch
    COMMAND HELP
    CLIENT ID
    CLIENT GETNAME
    CLIENT SETNAME x
    CLIENT GETNAME
    CLIENT SETNAME ""
    CLIENT LIST
    CLIENT LIST TYPE normal
    CLIENT LIST TYPE master
    CLIENT INFO
    CLIENT TRACKINGINFO
    CLIENT GETREDIR
    CLIENT CACHING YES
    CLIENT UNBLOCK 99999
    CLIENT KILL ID 99999
    CLIENT NO-EVICT OFF
    CLIENT REPLY ON
    CLIENT HELP
    CONFIG GET maxmemory
    CONFIG GET nosuch
    CONFIG GET max*
    CONFIG SET maxmemory 0
    CONFIG RESETSTAT
    CONFIG REWRITE
    CONFIG HELP
    INFO
    INFO commandstats
    INFO nosuch
    MEMORY USAGE nosuch
    MEMORY DOCTOR
    MEMORY MALLOC-STATS
    MEMORY PURGE
    MEMORY HELP
    OBJECT HELP
    OBJECT ENCODING nosuch
    OBJECT FREQ nosuch
    OBJECT IDLETIME nosuch
    OBJECT REFCOUNT nosuch
    SLOWLOG GET 0
    SLOWLOG LEN
    SLOWLOG RESET
    SLOWLOG HELP
    LATENCY RESET
    LATENCY LATEST
    LATENCY HISTORY command
    LATENCY DOCTOR
    LATENCY HISTOGRAM nosuch
    LATENCY HELP
    ACL WHOAMI
    ACL LIST
    ACL USERS
    ACL CAT
    ACL CAT string
    ACL GETUSER default
    ACL GETUSER nosuch
    ACL LOG RESET
    ACL LOG
    ACL HELP
    MODULE LIST
    MODULE HELP
    ROLE
    LASTSAVE
    TIME
    WAIT 0 0
    DBSIZE
    AUTH x
    DEBUG SLEEP 0
    DEBUG NOSUCH
    RESET
"""


def words_of(line: str) -> list[str]:
    return ["" if word == '""' else word for word in line.split()]


@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_have_redis_s_types(server, redis_server, protocol: int) -> None:
    """Compares arrays, sets, maps, doubles, nulls and verbatim texts."""
    lines = [line.strip() for line in ALIKE.strip().splitlines()]
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        found = {line: [skeleton(one.raw(*words_of(line))) for one in (mine, theirs)] for line in lines}
    assert {line: pair for line, pair in found.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("protocol", [2, 3])
def test_memory_stats_have_redis_s_types(server, redis_server, protocol: int) -> None:
    """Compares figures that both have, by name, except two about the allocator, and those of the databases."""
    replies = []
    for process in (server, redis_server):
        with Wire(process.address, protocol) as wire:
            wire("SET", "k", "v")
            replies.append(wire.raw("MEMORY", "STATS"))
    if protocol == 2:
        assert [reply[:1] for reply in replies] == [b"*", b"*"]
        return
    mine, theirs = map(skeleton, replies)
    assert len(mine.keys() & theirs.keys()) > 25
    assert {name: mine[name] for name in mine if name in theirs} == {
        name: theirs[name] for name in theirs if name in mine
    }


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_has_redis_s_types(server, redis_server, protocol: int) -> None:
    """The map has the same fields on both servers."""
    replies = []
    for process in (server, redis_server):
        with Wire(process.address) as wire:
            wire.send(b"HELLO %d\r\n" % protocol)
            replies.append(skeleton(wire.raw_reply()))
    assert replies[0] == replies[1]


# ------------------------------------------------------------------------------------------- the table of commands

# Intended differences: commands that Redis 7.0 does not have, and commands that Redis 7.2 has changed.
NOT_IN_REDIS_7_0 = {b"client|no-touch", b"client|setinfo"}
CHANGED_SINCE = {b"command|getkeys": 1, b"command|getkeysandflags": 1, b"zrank": 1, b"zrevrank": 1}  # here: arity
NOTED_IN_OTHER_WORDS = {b"set", b"getex"}  # why their keys are read and written
SUBCOMMANDS_LEFT_OUT = {
    *(b"acl|deluser", b"acl|dryrun", b"acl|genpass", b"acl|load", b"acl|save", b"acl|setuser"),
    *(b"module|load", b"module|loadex", b"module|unload"),
}
FIELDS = ("name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications")


def _items(reply: bytes) -> list[bytes]:
    """The parts of an aggregate, as bytes, without its header."""
    at = reply.index(b"\r\n") + 2
    items = []
    while at < len(reply):
        _, end = _parse(reply, at)
        items.append(reply[at:end])
        at = end
    return items


def _unordered(field: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    # A set, or RESP2's array for one: its header, and its parts in any order, sets in them likewise.
    return field[: field.index(b"\r\n")], tuple(sorted(map(_canonical, _items(field))))


def _canonical(reply: bytes) -> bytes:
    if reply[:1] not in (b"*", b"~", b"%"):
        return reply
    items = list(map(_canonical, _items(reply)))
    if reply[:1] == b"~":
        items.sort()
    return reply[: reply.index(b"\r\n") + 2] + b"".join(items)


def _without_notes(specifications: bytes) -> bytes:
    return re.sub(rb"(\$5\r\nnotes\r\n)\$\d+\r\n[^\r]*\r\n", rb"\1$0\r\n\r\n", specifications)


def _rows(reply: bytes) -> dict[bytes, list[bytes]]:
    """The rows of COMMAND INFO, subcommands among them, by name: ten fields each."""
    found = {}
    for row in _items(reply):
        fields = _items(row)
        found[fields[0].split(b"\r\n")[1]] = fields
        found |= _rows(fields[9])
    return found


@pytest.mark.parametrize("protocol", [2, 3])
def test_command_info_is_redis_s_to_the_byte(server, redis_server, protocol: int) -> None:
    """Compares every command and subcommand that both have; sets are compared without their order."""
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        others = {b"branch", b"snapshot", *map(str.encode, NOT_IN_REDIS)}
        names = [entry[0] for entry in mine("COMMAND") if entry[0] not in others]
        ours, redis = (_rows(one.raw("COMMAND", "INFO", *names)) for one in (mine, theirs))
    assert ours.keys() - redis.keys() == NOT_IN_REDIS_7_0
    assert redis.keys() - ours.keys() == SUBCOMMANDS_LEFT_OUT
    different = []
    for name in sorted(ours.keys() & redis.keys()):
        for index, field in enumerate(FIELDS):
            pair = [rows[name][index] for rows in (ours, redis)]
            if index == 8 and name in NOTED_IN_OTHER_WORDS:
                pair = [_without_notes(one) for one in pair]
            if pair[0][:1] in b"*~":
                pair = [_unordered(one) for one in pair]
            if pair[0] != pair[1] and CHANGED_SINCE.get(name) != index:
                different.append((name, field, *pair))
        headers = [rows[name][9][:1] for rows in (ours, redis)]
        if headers[0] != headers[1]:
            different.append((name, "subcommands", *headers))
    assert different == []


def test_the_list_of_differences_is_not_longer_than_the_differences(server, redis_server) -> None:
    """Every listed command really differs."""
    with Wire(server.address, 3) as mine, Wire(redis_server.address, 3) as theirs:
        for name, index in CHANGED_SINCE.items():
            ours, redis = (_rows(one.raw("COMMAND", "INFO", name))[name][index] for one in (mine, theirs))
            assert ours != redis


@pytest.mark.parametrize("protocol", [2, 3])
def test_command_docs_have_redis_s_types(server, redis_server, protocol: int) -> None:
    """Compares every field of every document, and of every argument."""
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        names = [entry[0] for entry in mine("COMMAND")]
        if protocol == 2:
            assert mine.raw("COMMAND", "DOCS", "get")[:1] == theirs.raw("COMMAND", "DOCS", "get")[:1] == b"*"
            return
        ours, redis = (_field_types(skeleton(one.raw("COMMAND", "DOCS", *names))) for one in (mine, theirs))
    assert {name: kinds for name, kinds in ours.items() if kinds != redis.get(name)} == {}


def _field_types(documents: Any) -> dict[bytes, set[str]]:
    """The types that occur for each field of a document."""
    found: dict[bytes, set[str]] = {}
    for document in documents.values():
        for name, kind in document.items():
            if name.endswith(b"subcommands\r\n"):
                found.setdefault(name, set()).add("%")
                for field, kinds in _field_types(kind).items():
                    found.setdefault(field, set()).update(kinds)
            else:
                found.setdefault(name, set()).add("%" if isinstance(kind, dict) else str(kind[0]))
    return found
