"""BRANCH DIFF over the wire: its reply in both protocols, its options and errors, and calls that take many turns."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Process
from tests.server.wire import OK, Argument, Failure, Wire, encode, info, wait_until

FIELDS = 200_000  # of a hash whose comparison takes several turns


def changes(wire: Wire, *arguments: Argument) -> Any:
    """The parts of a reply by their names, in either protocol."""
    reply = wire("BRANCH", "DIFF", *arguments)
    assert not isinstance(reply, Failure), reply
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def all_changes(wire: Wire, *arguments: Argument) -> list[Any]:
    """All changes, call by call."""
    found, cursor = [], 0
    while True:
        reply = changes(wire, *arguments, "CURSOR", cursor)
        found += reply["changes"]
        cursor = reply["cursor"]
        if cursor == 0:
            return found


@pytest.fixture
def other(server: Process, wire: Wire) -> Iterator[Wire]:
    """A connection that uses the branch `b`, which was made while the main store had some keys."""
    for i in range(300):
        wire("SET", f"key:{i}", i)
    wire("SADD", "set", "1", "2", "3")
    assert wire("BRANCH", "CREATE", "b") == OK
    with Wire(server.address) as there:
        assert there("BRANCH", "USE", "b") == OK
        yield there
    assert wire("BRANCH", "DROP", "b", "FORCE") == OK
    assert server.process.poll() is None and "Traceback" not in server.log(), server.log()[-5000:]


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_reply_is_a_map(server: Process, other: Wire, protocol: int) -> None:
    other("SET", "key:1", "other")
    with Wire(server.address, protocol) as wire:
        kind = b"%3" if protocol == 3 else b"*6"
        change = b"*3\r\n:0\r\n$5\r\nkey:1\r\n$7\r\nchanged\r\n"
        assert wire.raw("BRANCH", "DIFF", "main", "b") == (
            kind + b"\r\n$6\r\ncursor\r\n:0\r\n$7\r\nscanned\r\n*0\r\n$7\r\nchanges\r\n*1\r\n" + change
        )
        assert changes(wire, "b", "b") == {"cursor": 0, "scanned": [], "changes": []}


def test_keys_are_new_gone_or_changed_and_one_written_again_is_none_of_these(wire: Wire, other: Wire) -> None:
    other.pipeline([
        ("SET", "key:1", "other"), ("DEL", "key:2"), ("SET", "key:3", "3"), ("SET", "new", "v"),
        ("SREM", "set", "1"), ("SADD", "set", "a"), ("SREM", "set", "a"), ("SADD", "set", "1"),
        ("PEXPIREAT", "key:4", 1 << 45), ("SELECT", 3), ("SET", "key:1", "v"),
    ])  # fmt: skip
    wire("SET", "key:5", "other")
    expected = {
        (0, b"key:1", b"changed"), (0, b"key:2", b"gone"), (0, b"new", b"new"), (0, b"key:4", b"changed"),
        (0, b"key:5", b"changed"), (3, b"key:1", b"new"),
    }  # fmt: skip
    found = changes(wire, "main", "b")
    assert {tuple(change) for change in found["changes"]} == expected
    assert found["cursor"] == 0 and found["scanned"] == []
    assert all_changes(wire, "main", "b", "COUNT", 1) == found["changes"]
    swapped = {b"new": b"gone", b"gone": b"new", b"changed": b"changed"}
    assert changes(wire, "b", "main")["changes"] == [[db, key, swapped[what]] for db, key, what in found["changes"]]


def test_a_flushed_database_is_compared_as_a_whole(wire: Wire, other: Wire) -> None:
    other("FLUSHALL")
    other("SET", "key:7", "7")
    assert changes(wire, "main", "b", "COUNT", 5)["scanned"] == [0]
    found = all_changes(wire, "main", "b", "COUNT", 7)
    assert len(found) == 300 and all(what == b"gone" for _, _, what in found)
    other("BRANCH", "RESET")
    assert changes(wire, "main", "b") == {"cursor": 0, "scanned": [], "changes": []}


def test_options_and_errors(wire: Wire, other: Wire) -> None:
    assert changes(wire, "main", "b", "count", "7", "cursor", "0")["changes"] == []
    for arguments, error in {
        ("main", "nosuch"): "NOBRANCH no such branch or snapshot",
        ("nosuch", "main"): "NOBRANCH no such branch or snapshot",
        ("main", "b", "COUNT"): "ERR syntax error",
        ("main", "b", "MATCH", "k"): "ERR syntax error",
        ("main", "b", "COUNT", "0"): "ERR count should be greater than 0",
        ("main", "b", "COUNT", "x"): "ERR count should be greater than 0",
        ("main", "b", "CURSOR", "-1"): "ERR invalid cursor",
        ("main", "b", "CURSOR", str(16 << 43)): "ERR invalid cursor",
    }.items():
        assert wire("BRANCH", "DIFF", *arguments) == Failure(error), arguments
    assert isinstance(wire("BRANCH", "DIFF", "main"), Failure)


def test_what_is_recorded_is_shown(wire: Wire, other: Wire) -> None:
    for i in range(100):
        other("SET", f"key:{i}", "other")
    reply = wire("BRANCH", "INFO", "b")
    fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    assert fields[b"changes"] == 100 and fields[b"changes_bytes"] == 128 * 24
    assert int(info(wire, "branches")["branches_changes_bytes"]) >= 128 * 24


@pytest.fixture
def great(server: Process, wire: Wire, other: Wire) -> Iterator[Wire]:
    """A connection that uses the branch `b`, where a great hash was written again."""
    fields = [part for i in range(FIELDS) for part in (f"field:{i}", i)]
    for i in range(0, len(fields), 20_000):
        other("HSET", "great", *fields[i : i + 20_000])
    assert wire("BRANCH", "CREATE", "c", "FROM", "b") == OK
    other("RENAME", "great", "moved")
    other("COPY", "moved", "great")
    other("DEL", "moved")
    yield other
    assert wire("BRANCH", "DROP", "c", "FORCE") == OK


def test_others_are_served_while_a_great_value_is_compared(server: Process, wire: Wire, great: Wire) -> None:
    with Wire(server.address) as asking:
        asking.send(encode("BRANCH", "DIFF", "b", "c"))
        served = 0
        while not asking.pending() and served < 10:
            assert great("SET", "key:1", "other") == OK
            served += 1
        assert served == 10
        # It answers for the moment at which it began, which may have been before the first SET or behind it.
        assert asking.reply()[5] in ([], [[0, b"key:1", b"changed"]])
        assert changes(wire, "b", "c")["changes"] == [[0, b"key:1", b"changed"]]


def test_a_client_that_leaves_while_a_great_value_is_compared_leaves_nothing_behind(
    server: Process, wire: Wire, great: Wire
) -> None:
    def frames() -> int | None:
        figures = [int(info(wire, "machine")["frames_in_use"]) for _ in range(20)]
        return figures[0] if len(set(figures)) == 1 else None

    def leave() -> int:
        for _ in range(20):
            with Wire(server.address) as asking:
                asking.send(encode("BRANCH", "DIFF", "b", "c"))
                great("PING")
        assert changes(wire, "b", "c")["changes"] == []
        return int(wait_until(frames, "all to be released"))

    before = leave()
    assert leave() < before + 40  # a root and a copy of a table for each would be more


def test_a_store_that_is_dropped_while_it_is_compared_is_an_error(server: Process, wire: Wire, great: Wire) -> None:
    assert wire("BRANCH", "CREATE", "d", "FROM", "c") == OK
    with Wire(server.address) as asking:
        asking.send(encode("BRANCH", "DIFF", "b", "d"))
        great("PING")
        assert wire("BRANCH", "DROP", "d") == OK
        reply = asking.reply()
        assert reply == Failure("NOBRANCH no such branch or snapshot") or reply[5] == []
    assert wire("PING").text == "PONG"
