"""The notation of Redis's manual, and the arguments, arity, keys and options derived from it."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.commands.declaration import Command, Family
from kvstore.wire.keyspecs import Count, Index, KeySpec, Keyword, NoKeys, Place, Range, as_one_run, places
from kvstore.wire.options import Options, read
from kvstore.wire.reply import CommandError
from kvstore.wire.syntax import Argument, parse, words_of
from tests.harness import need_redis, start_redis
from tests.kvstore.manual import annotations, syntax_of
from tests.server.wire import Wire

KEY, VALUE = Argument("key", "key"), Argument("value", "string")
NX, XX = Argument("nx", "pure-token", "NX"), Argument("xx", "pure-token", "XX")
SECONDS = Argument("seconds", "integer", "EX")

NOTATION: list[tuple[str, tuple[str, ...], tuple[Argument, ...]]] = [
    ("", (), ()),
    ("key value", (), (KEY, VALUE)),
    ("[GET]", (), (Argument("get", "pure-token", "GET", optional=True),)),
    ("DB count", (), (Argument("count", "integer", "DB"),)),
    ("key [key ...]", (), (Argument("key", "key", multiple=True),)),
    ("[key [key ...]]", (), (Argument("key", "key", optional=True, multiple=True),)),
    ("[NX | XX]", ("c",), (Argument("c", "oneof", optional=True, arguments=(NX, XX)),)),
    ("<NX | EX seconds>", ("c",), (Argument("c", "oneof", arguments=(NX, SECONDS)),)),
    ("TYPE <NX | XX>", ("c",), (Argument("c", "oneof", "TYPE", arguments=(NX, XX)),)),
    ("key value [key value ...]", ("p",), (Argument("p", "block", multiple=True, arguments=(KEY, VALUE)),)),
    ("<key> [<key> ...]", ("p",), (Argument("p", "block", multiple=True, arguments=(KEY,)),)),
    ("<NX | XX> ...", ("c",), (Argument("c", "oneof", multiple=True, arguments=(NX, XX)),)),
    ("[ID key [key ...]]", (), (Argument("key", "key", "ID", optional=True, multiple=True),)),
    (
        "[ID key [ID key ...]]",
        (),
        (Argument("key", "key", "ID", optional=True, multiple=True, multiple_token=True),),
    ),
    ("[AUTH key value]", ("a",), (Argument("a", "block", "AUTH", optional=True, arguments=(KEY, VALUE)),)),
    (
        "[value [EX seconds] [NX]]",
        ("a",),
        (
            Argument(
                "a",
                "block",
                optional=True,
                arguments=(
                    VALUE,
                    Argument("seconds", "integer", "EX", optional=True),
                    Argument("nx", "pure-token", "NX", optional=True),
                ),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("syntax", "groups", "expected"), NOTATION, ids=[row[0] for row in NOTATION])
def test_the_notation(syntax: str, groups: tuple[str, ...], expected: tuple[Argument, ...]) -> None:
    assert expected == parse(syntax, groups)


def test_what_the_notation_does_not_say_stands_beside_it() -> None:
    (source, change, order) = parse(
        "source [CH] <NX | EX seconds>",
        ("order",),
        types={"source": "key"},
        names={"CH": "change"},
        added={"CH": "6.2.0", "order": "2.0.0", "NX": "3.0.0"},
        deprecated={"source": "7.0.0"},
    )
    assert source == Argument("source", "key", deprecated_since="7.0.0")
    assert change == Argument("change", "pure-token", "CH", optional=True, since="6.2.0")
    members = (Argument("nx", "pure-token", "NX", since="3.0.0"), SECONDS)
    assert order == Argument("order", "oneof", since="2.0.0", arguments=members)


@pytest.mark.parametrize(
    ("syntax", "groups"),
    [
        ("[NX | XX]", ()),
        ("key", ("c",)),
        ("[key", ()),
        ("key]", ()),
        ("key [other value ...]", ("c",)),
        ("<key]", ()),
    ],
)
def test_a_line_that_is_wrong_is_refused(syntax: str, groups: tuple[str, ...]) -> None:
    with pytest.raises((AssertionError, IndexError)):
        parse(syntax, groups)


@pytest.mark.parametrize(
    ("syntax", "least", "more"),
    [
        ("", 0, False),
        ("key value", 2, False),
        ("key [NX | XX]", 1, True),
        ("key [key ...]", 1, True),
        ("key value [key value ...]", 2, True),
        ("<EX seconds | PX milliseconds>", 2, False),
        ("<NX | EX seconds>", 1, True),
        ("DB count", 2, False),
        ("STREAMS <key [key ...] value [value ...]>", 3, True),
        ("<[ID key] | [TYPE value]> ...", 1, True),
    ],
)
def test_the_number_of_words(syntax: str, least: int, more: bool) -> None:
    groups = ("g",) if any(mark in syntax for mark in ("|", "key value [", "STREAMS")) else ()
    assert (least, more) == words_of(parse(syntax, groups))


# ------------------------------------------------------------------------------------------------------------ keys

PLACES: list[tuple[str, tuple[str, ...], str, list[Place], list[int], tuple[tuple[int, int, int], bool]]] = [
    ("key", (), "get a", [(Index(1), Range(0))], [1], ((1, 1, 1), False)),
    ("key [key ...]", (), "mget a b", [(Index(1), Range(-1))], [1, 2], ((1, -1, 1), False)),
    ("key [key ...] timeout", (), "blpop a b 0", [(Index(1), Range(-2))], [1, 2], ((1, -2, 1), False)),
    ("key value [key value ...]", ("p",), "mset a 1 b 2", [(Index(1), Range(-1, 2))], [1, 3], ((1, -1, 2), False)),
    (
        "key destination [NX]",
        (),
        "copy a b nx",
        [(Index(1), Range(0)), (Index(2), Range(0))],
        [1, 2],
        ((1, 2, 1), False),
    ),
    ("numkeys key [key ...] [NX]", (), "zinter 2 a b nx", [(Index(1), Count())], [2, 3], ((0, 0, 0), True)),
    (
        "destination numkeys key [key ...]",
        (),
        "zinterstore d 1 a",
        [(Index(1), Range(0)), (Index(2), Count())],
        [1, 3],
        ((1, 1, 1), True),
    ),
    (
        "value numkeys [key [key ...]] [value [value ...]]",
        (),
        "eval s 1 a x",
        [(Index(2), Count())],
        [3],
        ((0, 0, 0), True),
    ),
    (
        "key [COUNT count] [STORE destination]",
        (),
        "sort a count 1 store d",
        [(Index(1), Range(0)), (Keyword("STORE", 2), Range(0))],
        [1, 5],
        ((1, 1, 1), True),
    ),
    (
        "[COUNT count] STREAMS <key [key ...] id [id ...]>",
        ("s",),
        "xread count 1 streams a b 0 0",
        [(Keyword("STREAMS", 1), Range(-1, 1, 2))],
        [4, 5],
        ((0, 0, 0), True),
    ),
    ("value", (), "echo a", [], [], ((0, 0, 0), False)),
]


@pytest.mark.parametrize(("syntax", "groups", "words", "expected", "positions", "run"), PLACES)
def test_where_keys_stand(
    syntax: str,
    groups: tuple[str, ...],
    words: str,
    expected: list[Place],
    positions: list[int],
    run: tuple[tuple[int, int, int], bool],
) -> None:
    found = places(parse(syntax, groups, types={"destination": "key"}), 1)
    assert expected == found
    specs = [KeySpec(begin, find, ()) for begin, find in found]
    args = words.encode().split()
    assert positions == [position for spec in specs for position in spec.positions(args)]
    assert run == as_one_run(specs)


def test_a_token_that_is_not_there_has_no_keys_behind_it() -> None:
    assert list(KeySpec(Keyword("STORE", 2), Range(0), ()).positions([b"sort", b"a"])) == []


def test_a_token_may_be_looked_for_from_the_end() -> None:
    spec = KeySpec(Keyword("KEYS", -2), Range(-1), ())
    assert list(spec.positions(b"migrate h p keys 0 1 KEYS a b".split())) == [7, 8]


@pytest.mark.parametrize(
    "words",
    ["zinter", "zinter x a", "zinter 3 a b", "zinter -1 a", "zinter 0 a", "zinter 2x a b", f"zinter {'9' * 5000} a"],
)
def test_a_count_that_cannot_be_is_refused(words: str) -> None:
    with pytest.raises(NoKeys):
        KeySpec(Index(1), Count(), ()).positions(words.encode().split())


def test_keys_behind_what_is_optional_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="does not say where key stands"):
        places(parse("[count] key"), 1)


# --------------------------------------------------------------------------------------------------------- options

SET = ("key value [NX | XX] [GET] [EX seconds | KEEPTTL]", ("condition", "expiration"))
KILL = ("<value | <[ID client-id] | [USER username]> ...>", ("filter", "new"))
OPTIONS: list[tuple[tuple[str, tuple[str, ...]], str, Options]] = [
    (SET, "k v", {"key": b"k", "value": b"v"}),
    (SET, "k v get", {"key": b"k", "value": b"v", "get": True}),
    (SET, "get nx", {"key": b"get", "value": b"nx"}),
    (
        SET,
        "k v ex 5 XX",
        {"key": b"k", "value": b"v", "expiration": "seconds", "seconds": b"5", "condition": "xx", "xx": True},
    ),
    (SET, "k v EX 5 EX 6", {"key": b"k", "value": b"v", "expiration": "seconds", "seconds": b"6"}),
    (("[value] password", ()), "p", {"password": b"p"}),
    (("[value] password", ()), "v p", {"value": b"v", "password": b"p"}),
    (("[count | RESET]", ("o",)), "", {}),
    (("[count | RESET]", ("o",)), "5", {"o": "count", "count": b"5"}),
    (("[count | RESET]", ("o",)), "Reset", {"o": "reset", "reset": True}),
    (("key value [key value ...]", ("p",)), "a 1 b 2",
     {"p": [{"key": b"a", "value": b"1"}, {"key": b"b", "value": b"2"}]}),
    (("[section [section ...]]", ()), "a b", {"section": [b"a", b"b"]}),
    (("[section [section ...]]", ()), "", {}),
    (("key [key ...] timeout", ()), "a b 0", {"key": [b"a", b"b"], "timeout": b"0"}),
    (("[ID id [id ...]]", ()), "id 1 2", {"id": [b"1", b"2"]}),
    (("[GET pattern [GET pattern ...]] [NX]", ()), "get a NX get b", {"pattern": [b"a", b"b"], "nx": True}),
    (("[value [AUTH username password] [NX]]", ("a", "up")), "3 nx auth u p",
     {"value": b"3", "nx": True, "username": b"u", "password": b"p"}),
    (("[FILTERBY <MODULE value | PATTERN pattern>]", ("by",)), "filterby pattern x",
     {"by": "pattern", "pattern": b"x"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words", "expected"), OPTIONS, ids=[f"{row[0][0]}: {row[1]}" for row in OPTIONS])
def test_options_are_read_by_the_syntax(line: tuple[str, tuple[str, ...]], words: str, expected: Options) -> None:
    assert expected == read(parse(*line), words.encode().split())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SET, ""),
        (SET, "k"),
        (SET, "k v foo"),
        (SET, "k v NX XX"),
        (SET, "k v EX"),
        (SET, "k v EX 5 KEEPTTL"),
        (("key value [key value ...]", ("p",)), "a 1 b"),
        (("[value] password", ()), "a b c"),
        (("<NX | XX>", ("c",)), "GT"),
        (("[FILTERBY <MODULE value | PATTERN pattern>]", ("by",)), "filterby pattern"),
        (("key", ()), "a b"),
    ],
)
def test_what_the_syntax_has_not_is_a_syntax_error(line: tuple[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(CommandError, match=r"^ERR syntax error$"):
        read(parse(*line), words.encode().split())


# ----------------------------------------------------------------------------------- every command of a real Redis

OTHERWISE = {  # facts in redis-server 7.0.15's documents that no line of the manual yields
    "arguments": {
        *("failover", "migrate", "xtrim"),
    },
    "arity": {  # it describes no arguments, fewer than it takes or more
        *("command|getkeys", "command|getkeysandflags", "debug", "geohash", "geopos", "migrate", "pfmerge", "psync"),
        *("quit", "replconf", "xtrim"),
    },
    "keys": {  # keys under names that are two runs here; channels as keys; keys that no specification tells
        *("lcs", "migrate", "sort", "sort_ro", "spublish", "ssubscribe", "sunsubscribe", "xtrim"),
    },
}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A connection to a real redis-server."""
    need_redis(shutil.which("redis-server"), "redis-server")
    with start_redis(tmp_path_factory.mktemp("redis")) as process, Wire(process.address, 3) as wire:
        yield wire


def _text(value: Any) -> Any:
    """A reply with texts in place of bytes and statuses."""
    if isinstance(value, dict):
        return {_text(name): _text(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_text(part) for part in value]
    return value.decode() if isinstance(value, bytes) else getattr(value, "text", value)


def _described(argument: Argument) -> dict[str, Any]:
    flags = [flag for flag in ("optional", "multiple", "multiple_token") if getattr(argument, flag)]
    fields = {
        "name": argument.name,
        "type": argument.type,
        "token": argument.token,
        "since": argument.since,
        "deprecated_since": argument.deprecated_since,
        "flags": flags,
        "arguments": [_described(one) for one in argument.arguments],
    }
    return {name: value for name, value in fields.items() if value}


def _theirs(argument: dict[str, Any]) -> dict[str, Any]:
    members = [_theirs(one) for one in argument.get("arguments", [])]
    fields = {name: value for name, value in argument.items() if name != "key_spec_index"}
    return fields | ({"arguments": members} if members else {})


def _place(spec: dict[str, Any]) -> Place:
    begin, find = spec["begin_search"]["spec"], spec["find_keys"]["spec"]
    return (
        Index(begin["index"]) if "index" in begin else Keyword(begin["keyword"], begin["startfrom"]),
        Range(find["lastkey"], find["keystep"], find["limit"]) if "lastkey" in find else Count(*find.values()),
    )


def test_every_command_of_redis_can_be_declared_by_its_line_of_the_manual(redis_server: Wire) -> None:
    """The line yields the arguments, arity and keys of each, even of commands that this server does not have."""
    rows = {row[0]: row for entry in _text(redis_server("COMMAND")) for row in (entry, *entry[9])}
    documents = _text(redis_server("COMMAND", "DOCS"))
    documents |= {name: sub for one in list(documents.values()) for name, sub in one.get("subcommands", {}).items()}
    assert len(rows) > 300 and rows.keys() == documents.keys()
    otherwise: dict[str, set[str]] = {"arguments": set(), "arity": set(), "keys": set()}
    for name, row in rows.items():
        theirs = documents[name].get("arguments", [])
        named = 1 + name.count("|")
        try:
            arguments = parse(syntax_of(theirs), **annotations(theirs))
        except (AssertionError, IndexError):
            for what in otherwise.values():
                what.add(name)
            continue
        if [_described(one) for one in arguments] != [_theirs(one) for one in theirs]:
            otherwise["arguments"].add(name)
        least, more = words_of(arguments)
        if not row[9] and row[1] != (-(named + least) if more else named + least):
            otherwise["arity"].add(name)
        if any(spec["begin_search"]["type"] == "unknown" for spec in row[8]):
            otherwise["keys"].add(name)
            continue
        found = places(arguments, named)
        run, movable = as_one_run([KeySpec(begin, find, ()) for begin, find in found])
        if (found, list(run), movable) != ([_place(spec) for spec in row[8]], row[3:6], "movablekeys" in row[2]):
            otherwise["keys"].add(name)
    assert otherwise == OTHERWISE


STATED = {  # categories that follow neither from the group nor from the flags, so that a declaration states them
    *("asking", "command", "command|count", "command|docs", "command|getkeys", "command|getkeysandflags"),
    *("command|help", "command|info", "command|list", "dbsize", "flushall", "flushdb", "info", "keys"),
    *("lastsave", "migrate", "readonly", "readwrite", "restore", "restore-asking", "role", "sort", "sort_ro"),
    *("swapdb", "wait"),
}


def test_the_categories_of_redis_follow_from_group_and_flags(redis_server: Wire) -> None:
    """This holds for every command except those of STATED."""
    rows = {row[0]: row for entry in _text(redis_server("COMMAND")) for row in (entry, *entry[9])}
    documents = _text(redis_server("COMMAND", "DOCS"))
    documents |= {name: sub for one in list(documents.values()) for name, sub in one.get("subcommands", {}).items()}
    stated = set()
    for name, row in rows.items():
        of = Family(documents[name]["group"], "nowhere")
        command = Command(of, name, "", since="", cost="", flags=" ".join(row[2]))
        command.subcommands = (command,) if row[9] else ()
        if {f"@{category}" for category in command.categories} != set(row[6]):
            stated.add(name)
    assert stated == STATED
