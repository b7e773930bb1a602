r"""Commands that redis-server 7.0 lacks, compared with a real valkey-server: every reply must be the same bytes.

Valkey claims to be Redis 7.2.4, but has changed since, so it does not always behave like 7.2.  MEANT lists each
intended difference with its reason.  An unlisted difference fails, and so does a listed one that does not occur.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.attack.commands import ROWS
from tests.attack.seeds import seeds, told
from tests.harness import Process
from tests.server.wire import OK, Wire, info, wait_until

NEW = ("client|no-touch", "client|setinfo", "delifeq")
"""Rows of the table that redis-server 7.0 does not have."""

Commands = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Meant:
    """An intended difference."""

    applies: Callable[[list[bytes]], bool]  # to these words
    ours: bytes
    theirs: bytes
    why: str


LONG = "v" * 9000

SAME: dict[str, Commands] = {
    "no-touch": (
        ("CLIENT", "NO-TOUCH", "ON"), ("CLIENT", "NO-TOUCH", "off"), ("CLIENT", "NO-TOUCH", "x"),
        ("CLIENT", "NO-TOUCH"), ("CLIENT", "NO-TOUCH", "ON", "OFF"),
    ),
    "setinfo": (
        ("CLIENT", "SETINFO", "LIB-NAME", "a"), ("CLIENT", "SETINFO", "lib-ver", "1.2"),
        ("CLIENT", "SETINFO", "x", "y"),
        ("CLIENT", "SETINFO", "LIB-NAME", "a b"), ("CLIENT", "SETINFO", "LIB-VER", "a\n"), ("CLIENT", "SETINFO"),
        ("CLIENT", "SETINFO", "LIB-NAME", ""), ("CLIENT", "SETINFO", "LIB-NAME"),
    ),
    "getkeys": (
        ("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"), ("COMMAND", "GETKEYS", "GET"),
        ("COMMAND", "GETKEYS", "PING"), ("COMMAND", "GETKEYSANDFLAGS", "SET", "a", "1", "EX", "5", "get"),
        ("COMMAND", "GETKEYS"), ("COMMAND", "GETKEYSANDFLAGS", "SET", "a", "1"),
        ("COMMAND", "GETKEYSANDFLAGS", "COPY", "a", "b"), ("COMMAND", "GETKEYSANDFLAGS"),
    ),
    "expiretime": (
        ("EXPIRETIME", "k"), ("SET", "k", "v", "EXAT", "99999999999"), ("EXPIRETIME", "k"), ("PEXPIRETIME", "k"),
        ("PERSIST", "k"), ("PEXPIRETIME", "k"), ("EXPIRETIME", "k", "x"),
    ),
    "expire with conditions": (
        ("SET", "k", "v"), ("EXPIRE", "k", "100", "XX"), ("EXPIRE", "k", "100", "NX"), ("EXPIRE", "k", "50", "GT"),
        ("EXPIRE", "k", "50", "LT"), ("EXPIRE", "k", "50", "NX", "XX"), ("EXPIRE", "k", "50", "GT", "LT"),
        ("EXPIRE", "k", "50", "FOO"), ("PEXPIREAT", "k", "99999999999999", "NX"), ("EXPIREAT", "k", "x", "GT"),
    ),
    "set with get": (
        ("SET", "k", "v", "GET"), ("SET", "k", "w", "NX", "GET"), ("SET", "k", "w", "XX", "GET"), ("GET", "k"),
        ("SET", "k", "x", "KEEPTTL", "EX", "10"), ("SET", "k", "x", "PXAT", "0"), ("SET", "k", "x", "NX", "XX"),
    ),
    "set if equal": (
        ("SET", "k", "v"), ("SET", "k", "w", "IFEQ", "v"), ("GET", "k"), ("SET", "k", "x", "IFEQ", "v"),
        ("SET", "k", "x", "IFEQ", "v", "GET"), ("SET", "k", "x", "ifeq", "w", "get"), ("GET", "k"),
        ("SET", "none", "x", "IFEQ", ""), ("SET", "none", "x", "IFEQ", "", "GET"), ("EXISTS", "none"),
        ("SET", "k", "y", "IFEQ", "x", "EX", "100"), ("TTL", "k"), ("SET", "k", "z", "KEEPTTL", "IFEQ", "y"),
        ("TTL", "k"), ("SET", "k", "5", "IFEQ", "z"), ("SET", "k", "6", "IFEQ", "5"), ("SET", "k", "7", "IFEQ", "06"),
        ("SET", "k", LONG, "IFEQ", "6"), ("SET", "k", "v", "IFEQ", LONG[1:]), ("SET", "k", "v", "IFEQ", LONG),
        ("SET", "k", "v", "IFEQ"), ("SET", "k", "v", "IFEQ", "v", "NX"), ("SET", "k", "v", "XX", "IFEQ", "v"),
        ("SET", "k", "v", "IFEQ", "v", "IFEQ", "v"), ("SET", "k", "v", "IFEQ", "NX"), ("GETEX", "k", "IFEQ", "v"),
        ("SET", "k", "v", "IFEQ", "v", "EX", "0"), ("SET", "k", "v", "EX", "7", "IFEQ", "v", "PX", "8"),
        ("RPUSH", "l", "x"), ("SET", "l", "v", "IFEQ", "x"), ("SET", "l", "v", "IFEQ", "x", "GET"), ("TYPE", "l"),
    ),
    "delete if equal": (
        ("SET", "k", "v"), ("DELIFEQ", "k", "w"), ("DELIFEQ", "k", "v"), ("DELIFEQ", "k", "v"), ("SET", "n", "12"),
        ("DELIFEQ", "n", "012"), ("DELIFEQ", "n", "12"), ("SET", "k", LONG), ("DELIFEQ", "k", LONG[1:]),
        ("DELIFEQ", "k", LONG), ("EXISTS", "k"), ("SET", "e", ""), ("DELIFEQ", "none", ""), ("DELIFEQ", "e", ""),
        ("RPUSH", "l", "x"), ("DELIFEQ", "l", "x"), ("DELIFEQ", "k"), ("DELIFEQ", "k", "v", "w"),
    ),
    "reset": (("RESET",), ("RESET", "x")),
    "unknown": (
        ("CLIENT", "NOSUCH"), ("OBJECT", "NOSUCH", "k"), ("COMMAND", "NOSUCH"), ("CONFIG", "NOSUCH"),
        ("MEMORY", "NOSUCH"), ("NOSUCH", "a", "b"),
    ),
}  # fmt: skip

MEANT = [
    Meant(
        lambda words, name=name: (
            [word.upper() for word in words[:3]] == [b"CLIENT", b"SETINFO", name]
            and len(words) == 4
            and b"\0" in words[3]
        ),
        b"-ERR %s cannot contain spaces, newlines or special characters.\r\n" % name,
        b"+OK\r\n",
        "a zero byte ends what C looks at; it is no printable character, and would be shown by CLIENT LIST",
    )
    for name in (b"LIB-NAME", b"LIB-VER")
]


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(request: pytest.FixtureRequest, server: Process, valkey_server: Process) -> Any:
    """Connections to this server and to Valkey, both empty."""
    with Wire(server.address, request.param) as ours, Wire(valkey_server.address, request.param) as theirs:
        assert ours("FLUSHALL") == theirs("FLUSHALL") == OK
        yield ours, theirs


def compare(pair: tuple[Wire, Wire], arguments: tuple[str | bytes, ...]) -> str:
    """The difference of the two replies; empty for none, or for an intended one."""
    words = [word if isinstance(word, bytes) else word.encode() for word in arguments]
    mine, theirs = (wire.raw(*words) for wire in pair)
    if words[0] == b"RESET":
        for wire in pair:
            if wire.protocol == 3:
                wire("HELLO", 3)
    if any(meant.applies(words) and (mine, theirs) == (meant.ours, meant.theirs) for meant in MEANT):
        return ""
    return "" if mine == theirs else f"{words}\n  got    {mine[:300]!r}\n  valkey {theirs[:300]!r}"


@pytest.mark.parametrize("name", SAME)
def test_replies_are_valkeys(pair: tuple[Wire, Wire], name: str, ours: None) -> None:
    """Tests right and wrong forms."""
    differences = [found for words in SAME[name] if (found := compare(pair, words))]
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", NEW)
def test_odd_arguments_get_valkeys_replies(pair: tuple[Wire, Wire], name: str, ours: None) -> None:
    """Plays the fuzzer's arguments for the commands that redis-server 7.0 does not have."""
    row = next(row for row in ROWS if row.command.name == name)
    for seed in seeds("valkey", 3):
        with told(seed) as generator:
            differences = [found for _ in range(40) if (found := compare(pair, tuple(row.words(generator))))]
            assert not differences, "\n".join(differences[:5])


def test_no_touch_leaves_the_access_time_alone_in_both(pair: tuple[Wire, Wire], ours: None) -> None:
    """Under NO-TOUCH, GET is not an access, but TOUCH is."""
    for wire in pair:
        wire("SET", "k", "v")
        assert wire("CLIENT", "NO-TOUCH", "ON") == OK
        wait_until(lambda wire=wire: wire("GET", "k") and wire("OBJECT", "IDLETIME", "k") >= 1, "a second to pass")
        assert wire.pipeline([("MULTI",), ("TOUCH", "k"), ("OBJECT", "IDLETIME", "k"), ("EXEC",)])[-1] == [1, 0]


def test_what_a_library_says_of_itself_is_listed_in_both(pair: tuple[Wire, Wire], ours: None) -> None:
    """CLIENT LIST shows the text of CLIENT SETINFO."""
    for wire in pair:
        assert wire("CLIENT", "SETINFO", "LIB-NAME", "lib") == wire("CLIENT", "SETINFO", "LIB-VER", "1.2.3") == OK
        line = wire.raw("CLIENT", "INFO")
        assert b" lib-name=lib lib-ver=1.2.3" in line


def test_it_is_a_valkey(valkey_server: Process) -> None:
    """A canary: the other server is not this one."""
    with Wire(valkey_server.address) as wire:
        assert info(wire, "server")["server_name"] == "valkey"
