r"""Commands about keys of any type: every option, every refusal, in both protocols; the transcripts are Redis's own."""

import random

import pytest

from tests.server.wire import OK, Failure, Wire, run_transcript, wait_until

TRANSCRIPTS = {
    "del unlink exists touch": r"""
        MSET a 1 b 2 c 3 d 4 -> OK
        EXISTS a -> 1
        EXISTS a a b missing -> 3
        TOUCH a b missing a -> 3
        DEL a missing a -> 1
        UNLINK b missing c -> 2
        EXISTS a b c d -> 1
        DBSIZE -> 1
        DEL -> !ERR wrong number of arguments for 'del' command
        UNLINK -> !ERR wrong number of arguments for 'unlink' command
        EXISTS -> !ERR wrong number of arguments for 'exists' command
        TOUCH -> !ERR wrong number of arguments for 'touch' command
    """,
    "type": r"""
        TYPE k -> none
        SET k v -> OK
        TYPE k -> string
        SET k 1 -> OK
        TYPE k -> string
        TYPE -> !ERR wrong number of arguments for 'type' command
    """,
    "dbsize flushdb flushall": r"""
        DBSIZE -> 0
        MSET a 1 b 2 -> OK
        SELECT 3 -> OK
        SET c 3 -> OK
        DBSIZE -> 1
        FLUSHDB -> OK
        DBSIZE -> 0
        SELECT 0 -> OK
        DBSIZE -> 2
        SELECT 5 -> OK
        SET x y -> OK
        FLUSHALL -> OK
        DBSIZE -> 0
        SELECT 0 -> OK
        DBSIZE -> 0
        SET k v -> OK
        FLUSHDB ASYNC -> OK
        DBSIZE -> 0
        SET k v -> OK
        FLUSHDB sync -> OK
        DBSIZE -> 0
        SET k v -> OK
        FLUSHALL ASYNC -> OK
        DBSIZE -> 0
        SET k v -> OK
        FLUSHALL SYNC -> OK
        GET k -> nil
        FLUSHALL FOO -> !ERR syntax error
        FLUSHALL ASYNC SYNC -> !ERR syntax error
        FLUSHDB FOO -> !ERR syntax error
        DBSIZE x -> !ERR wrong number of arguments for 'dbsize' command
    """,
    "select": r"""
        SELECT 15 -> OK
        SELECT 16 -> !ERR DB index is out of range
        SELECT -1 -> !ERR DB index is out of range
        SELECT 2147483648 -> !ERR value is out of range, value must between -2147483648 and 2147483647
        SELECT 9223372036854775808 -> !ERR value is not an integer or out of range
        SELECT x -> !ERR value is not an integer or out of range
        SELECT "" -> !ERR value is not an integer or out of range
        SELECT 0 -> OK
        SELECT -> !ERR wrong number of arguments for 'select' command
    """,
    "rename": r"""
        RENAME missing x -> !ERR no such key
        RENAME missing missing -> !ERR no such key
        SET a 1 EX 100 -> OK
        RENAME a b -> OK
        EXISTS a -> 0
        GET b -> "1"
        TTL b -> 100
        SET c 2 -> OK
        RENAME c b -> OK
        GET b -> "2"
        TTL b -> -1
        RENAME b b -> OK
        GET b -> "2"
        RENAME b -> !ERR wrong number of arguments for 'rename' command
    """,
    "renamenx": r"""
        RENAMENX missing x -> !ERR no such key
        MSET a 1 b 2 -> OK
        RENAMENX a b -> 0
        RENAMENX a a -> 0
        MGET a b -> ["1", "2"]
        EXPIRE a 100 -> 1
        RENAMENX a c -> 1
        TTL c -> 100
        MGET a b c -> [nil, "2", "1"]
        RENAMENX a -> !ERR wrong number of arguments for 'renamenx' command
    """,
    "copy": r"""
        COPY missing x -> 0
        SET a 1 EX 100 -> OK
        COPY a b -> 1
        MGET a b -> ["1", "1"]
        TTL b -> 100
        SET a 2 -> OK
        COPY a b -> 0
        GET b -> "1"
        COPY a b REPLACE -> 1
        GET b -> "2"
        TTL b -> -1
        COPY a a -> !ERR source and destination objects are the same
        COPY a a REPLACE -> !ERR source and destination objects are the same
        COPY missing missing -> !ERR source and destination objects are the same
        COPY a a DB 0 -> !ERR source and destination objects are the same
        COPY a a DB 1 -> 1
        COPY a a DB 1 -> 0
        COPY a a DB 1 REPLACE -> 1
        COPY a b replace db 1 -> 1
        COPY a c DB 16 -> !ERR DB index is out of range
        COPY a c DB -1 -> !ERR DB index is out of range
        COPY a c DB 2147483648 -> !ERR value is out of range, value must between -2147483648 and 2147483647
        COPY a c DB x -> !ERR value is not an integer or out of range
        COPY a c DB -> !ERR syntax error
        COPY a c FOO -> !ERR syntax error
        COPY a -> !ERR wrong number of arguments for 'copy' command
        EXISTS c -> 0
        SELECT 1 -> OK
        MGET a b c -> ["2", "2", nil]
        SELECT 0 -> OK
    """,
    "move": r"""
        MOVE missing 1 -> 0
        SET a 1 EX 100 -> OK
        MOVE a 0 -> !ERR source and destination objects are the same
        MOVE a 1 -> 1
        EXISTS a -> 0
        SELECT 1 -> OK
        GET a -> "1"
        TTL a -> 100
        SELECT 0 -> OK
        SET a 2 -> OK
        MOVE a 1 -> 0
        GET a -> "2"
        MOVE a 16 -> !ERR DB index is out of range
        MOVE a -1 -> !ERR DB index is out of range
        MOVE a 2147483648 -> !ERR value is out of range, value must between -2147483648 and 2147483647
        MOVE a x -> !ERR value is not an integer or out of range
        MOVE a -> !ERR wrong number of arguments for 'move' command
    """,
    "swapdb": r"""
        SET zero 0 -> OK
        SELECT 1 -> OK
        SET one 1 EX 100 -> OK
        SWAPDB 0 1 -> OK
        GET one -> nil
        GET zero -> "0"
        SELECT 0 -> OK
        GET one -> "1"
        TTL one -> 100
        SWAPDB 0 0 -> OK
        GET one -> "1"
        SWAPDB 0 2 -> OK
        DBSIZE -> 0
        SELECT 2 -> OK
        DBSIZE -> 1
        SWAPDB x 1 -> !ERR invalid first DB index
        SWAPDB 1 x -> !ERR invalid second DB index
        SWAPDB 2147483648 1 -> !ERR invalid first DB index
        SWAPDB 1 2147483648 -> !ERR invalid second DB index
        SWAPDB 0 16 -> !ERR DB index is out of range
        SWAPDB 16 0 -> !ERR DB index is out of range
        SWAPDB -1 0 -> !ERR DB index is out of range
        SWAPDB 1 -> !ERR wrong number of arguments for 'swapdb' command
        SELECT 0 -> OK
    """,
    "randomkey": r"""
        RANDOMKEY -> nil
        SET only v -> OK
        RANDOMKEY -> "only"
        SET only v PXAT 1 -> OK
        RANDOMKEY -> nil
        RANDOMKEY x -> !ERR wrong number of arguments for 'randomkey' command
    """,
    "keys": r"""
        KEYS * -> []
        SET only v -> OK
        KEYS * -> ["only"]
        KEYS on?y -> ["only"]
        KEYS nope -> []
        SET gone v PXAT 1 -> OK
        KEYS * -> ["only"]
        KEYS -> !ERR wrong number of arguments for 'keys' command
        KEYS a b -> !ERR wrong number of arguments for 'keys' command
    """,
    "object encoding": r"""
        OBJECT ENCODING missing -> nil
        SET k 12345 -> OK
        OBJECT ENCODING k -> "int"
        SET k 9223372036854775807 -> OK
        OBJECT ENCODING k -> "int"
        SET k -9223372036854775808 -> OK
        OBJECT ENCODING k -> "int"
        SET k 9223372036854775808 -> OK
        OBJECT ENCODING k -> "embstr"
        SET k 01 -> OK
        OBJECT ENCODING k -> "embstr"
        SET k "" -> OK
        OBJECT ENCODING k -> "embstr"
        SET k 12345678901234567890123456789012345678901234 -> OK
        OBJECT ENCODING k -> "embstr"
        SET k 123456789012345678901234567890123456789012345 -> OK
        OBJECT ENCODING k -> "raw"
        SET k abc -> OK
        APPEND k d -> 4
        OBJECT ENCODING k -> "raw"
        SET k 1 -> OK
        APPEND k 2 -> 2
        OBJECT ENCODING k -> "raw"
        INCR k -> 13
        OBJECT ENCODING k -> "int"
        SETRANGE k 0 9 -> 2
        OBJECT ENCODING k -> "raw"
        SET k 93 -> OK
        OBJECT ENCODING k -> "int"
        INCRBYFLOAT k 1 -> "94"
        OBJECT ENCODING k -> "embstr"
        APPEND new x -> 1
        OBJECT ENCODING new -> "embstr"
        APPEND newint 12 -> 2
        OBJECT ENCODING newint -> "int"
        SETRANGE range 0 12 -> 2
        OBJECT ENCODING range -> "raw"
        MSET m 1 n x -> OK
        OBJECT ENCODING m -> "int"
        OBJECT ENCODING n -> "embstr"
        COPY range copied -> 1
        GETSET k 5 -> "94"
        OBJECT ENCODING k -> "int"
    """,
    "object": r"""
        SET k v -> OK
        OBJECT REFCOUNT k -> 1
        OBJECT REFCOUNT missing -> nil
        OBJECT IDLETIME missing -> nil
        OBJECT FREQ missing -> nil
        OBJECT FREQ k -> !ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
            note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        OBJECT encoding k -> "embstr"
        OBJECT FOO k -> !ERR unknown subcommand 'FOO'. Try OBJECT HELP.
        OBJECT ENCODING -> !ERR wrong number of arguments for 'object|encoding' command
        OBJECT ENCODING a b -> !ERR wrong number of arguments for 'object|encoding' command
        OBJECT -> !ERR wrong number of arguments for 'object' command
    """,
    "memory usage": r"""
        MEMORY USAGE missing -> nil
        SET k v -> OK
        MEMORY USAGE k -> any
        MEMORY USAGE k SAMPLES 0 -> any
        MEMORY USAGE k samples 5 -> any
        MEMORY USAGE k SAMPLES -1 -> !ERR syntax error
        MEMORY USAGE k SAMPLES x -> !ERR value is not an integer or out of range
        MEMORY USAGE k SAMPLES -> !ERR syntax error
        MEMORY USAGE k FOO 1 -> !ERR syntax error
        MEMORY USAGE -> !ERR wrong number of arguments for 'memory|usage' command
        MEMORY FOO -> !ERR unknown subcommand 'FOO'. Try MEMORY HELP.
        MEMORY -> !ERR wrong number of arguments for 'memory' command
    """,
    "databases keep apart": r"""
        SET k zero -> OK
        SELECT 7 -> OK
        GET k -> nil
        SET k seven -> OK
        SELECT 0 -> OK
        GET k -> "zero"
        DEL k -> 1
        SELECT 7 -> OK
        GET k -> "seven"
        SELECT 0 -> OK
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


GLOBS = {
    "*": ["", "a", "hello", "h[llo", "a*c", "a\\b", "\xff", "hallo", "hillo", "h^llo", "h-llo"],
    "h**o": ["hello", "h[llo", "hallo", "hillo", "h^llo", "h-llo"],
    "": [""],
    "?": ["a", "\xff"],
    "h?llo": ["hello", "h[llo", "hallo", "hillo", "h^llo", "h-llo"],
    "h*o": ["hello", "h[llo", "hallo", "hillo", "h^llo", "h-llo"],
    "h[ae]llo": ["hello", "hallo"],
    "h[^e]llo": ["h[llo", "hallo", "hillo", "h^llo", "h-llo"],
    "h[a-e]llo": ["hello", "hallo"],
    "h[e-a]llo": ["hello", "hallo"],
    "h[\\[]llo": ["h[llo"],
    "h\\[llo": ["h[llo"],
    "h[llo": [],
    "a\\*c": ["a*c"],
    "a*c": ["a*c"],
    "a\\\\b": ["a\\b"],
    "[^a]": ["\xff"],
    "\\h\\ello": ["hello"],
    "h[i^]llo": ["hillo", "h^llo"],
    "*l*l*": ["hello", "h[llo", "hallo", "hillo", "h^llo", "h-llo"],
    "*o?": [],
    "?*?*?": ["hello", "h[llo", "a*c", "a\\b", "hallo", "hillo", "h^llo", "h-llo"],
}
GLOB_KEYS = GLOBS["*"]


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_pattern_selects_these_keys(wire2: Wire, pattern: str) -> None:
    """Tests Redis's globs in KEYS and in SCAN."""
    wire2("MSET", *(word for key in GLOB_KEYS for word in (key.encode("latin-1"), "v")))
    expected = sorted(key.encode("latin-1") for key in GLOBS[pattern])
    assert sorted(wire2("KEYS", pattern.encode("latin-1"))) == expected
    cursor, found = wire2("SCAN", 0, "MATCH", pattern.encode("latin-1"), "COUNT", 1000)
    assert cursor == b"0"
    assert sorted(found) == expected


def test_a_hostile_pattern_does_not_hang(wire2: Wire) -> None:
    """Many stars against a key that nearly matches: backtracking would take practically forever."""
    wire2("SET", "a" * 30_000, "v")
    assert wire2("KEYS", "a*" * 40 + "b") == []
    assert wire2("SCAN", 0, "MATCH", "a*" * 40 + "b", "COUNT", 1000) == [b"0", []]


def test_randomkey_reaches_every_key_and_nothing_else(wire2: Wire) -> None:
    """Each of a few keys is returned about equally often."""
    names = {b"key:%d" % i for i in range(20)}
    wire2("MSET", *(word for name in names for word in (name, "v")))
    drawn = wire2.pipeline([("RANDOMKEY",)] * 4000)
    counts = {name: drawn.count(name) for name in names}
    assert sum(counts.values()) == 4000
    assert min(counts.values()) > 30


def test_randomkey_finds_the_few_keys_left_of_many(wire2: Wire) -> None:
    """The sparse table does not hide them."""
    wire2.pipeline([("SET", f"key:{i}", "v") for i in range(20_000)])
    wire2.pipeline([("DEL", f"key:{i}") for i in range(20_000) if i != 777])
    assert wire2("RANDOMKEY") == b"key:777"


def test_memory_usage_grows_with_the_value(wire2: Wire) -> None:
    """It is at least the size of key and value, and not many times that."""
    for size in (10, 1000, 10_000, 1_000_000):
        wire2("SET", "k", b"x" * size)
        used = wire2("MEMORY", "USAGE", "k")
        assert size < used < 2 * size + 200


def test_idletime_counts_from_the_last_access_and_touch_resets_it(wire2: Wire) -> None:
    """OBJECT IDLETIME is not an access, TOUCH is."""
    wire2("SET", "k", "v")
    wait_until(lambda: wire2("OBJECT", "IDLETIME", "k") >= 1, "a second to pass")
    assert wire2("EXISTS", "k") == 1
    # Within a transaction no time passes.
    assert wire2.pipeline([("MULTI",), ("TOUCH", "k"), ("OBJECT", "IDLETIME", "k"), ("EXEC",)])[-1] == [1, 0]


def test_help_of_the_containers_says_what_they_take(wire: Wire) -> None:
    """HELP is an array of statuses, the first of which names the command."""
    for container in ("OBJECT", "MEMORY", "CLIENT", "CONFIG", "COMMAND", "DEBUG"):
        lines = wire(container, "HELP")
        assert isinstance(lines, list)
        assert lines[0].text == f"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        assert any(line.text == "HELP" for line in lines)


def test_a_hundred_thousand_keys_come_and_go(wire2: Wire) -> None:
    """Growing and shrinking the index loses no key."""
    count = 100_000
    for start in range(0, count, 10_000):
        replies = wire2.pipeline([("SET", f"k{i}", i) for i in range(start, start + 10_000)])
        assert replies == [OK] * 10_000
    assert wire2("DBSIZE") == count
    order = list(range(count))
    random.Random(1).shuffle(order)
    for start in range(0, count, 10_000):
        part = order[start : start + 10_000]
        assert wire2.pipeline([("GETDEL", f"k{i}") for i in part]) == [str(i).encode() for i in part]
        assert wire2("DBSIZE") == count - start - 10_000
    assert wire2("RANDOMKEY") is None


def test_flushing_is_instant_and_complete_however_many_keys_there_are(wire2: Wire) -> None:
    """After FLUSHALL and FLUSHDB the same names are free again, in every database."""
    for db in (0, 1):
        wire2("SELECT", db)
        wire2.pipeline([("SET", f"k{i}", b"x" * 50, "EX", 1000) for i in range(20_000)])
    assert wire2("FLUSHDB") == OK
    assert wire2("DBSIZE") == 0
    assert wire2("EXISTS", *(f"k{i}" for i in range(0, 20_000, 100))) == 0
    assert wire2("SET", "k1", "again", "NX") == OK
    wire2("SELECT", 0)
    assert wire2("DBSIZE") == 20_000
    assert wire2("GET", "k19999") == b"x" * 50
    assert wire2("FLUSHALL") == OK
    wire2("SELECT", 1)
    assert wire2("DBSIZE") == 0
    assert wire2("GET", "k1") is None
    assert wire2("SET", "k1", "once more", "NX") == OK


def test_a_command_that_does_not_exist_is_answered_in_redis_words(wire: Wire) -> None:
    """The error quotes the first 128 characters of the arguments."""
    assert wire("FOO") == Failure("ERR unknown command 'FOO', with args beginning with: ")
    assert wire("foo", "bar", "b az") == Failure("ERR unknown command 'foo', with args beginning with: 'bar' 'b az' ")
    assert wire("") == Failure("ERR unknown command '', with args beginning with: ")
    long = wire("x" * 200, "y" * 200, "z")
    assert long == Failure(f"ERR unknown command '{'x' * 128}', with args beginning with: '{'y' * 128}' ")
    many = wire("foo", *(["0123456789"] * 20))
    assert many == Failure(
        "ERR unknown command 'foo', with args beginning with: " + "'0123456789' " * 9 + "'0123456789' "
    )
    assert wire("foo\r\nbar", "a\r\nb") == Failure("ERR unknown command 'foo  bar', with args beginning with: 'a  b' ")
    assert wire("PING").text == "PONG"
