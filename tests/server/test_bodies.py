"""Long values that are received into frames: all that a client sees is what it sees of values that are collected."""

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import Process
from tests.server.wire import OK, QUEUED, Failure, Status, Wire, encode, info, wait_until

MIB = 1 << 20
LONG = random.Random(5).randbytes(3 * MIB + 777)


def frames(wire: Wire) -> int:
    """Frames in use."""
    return int(info(wire, "machine")["frames_in_use"])


def has_frames(wire: Wire, count: int) -> bool:
    return frames(wire) >= count


def has_fewer(wire: Wire, count: int) -> bool:
    return frames(wire) < count


def unread(wire: Wire, identity: int) -> int:
    """Bytes that a connection has sent and that have not been executed."""
    line = wire("CLIENT", "LIST", "ID", identity)
    return int(dict(field.split(b"=", 1) for field in line.split())[b"qbuf"])


@pytest.fixture
def sender(server: Process) -> Iterator[Wire]:
    with Wire(server.address) as connection:
        yield connection


def half(sender: Wire, wire: Wire, *command: bytes | str) -> bytes:
    """Send a command up to the middle of its long value, until that has been received; returns the rest."""
    before, data = frames(wire), encode(*command)
    cut = data.index(LONG) + len(LONG) // 2
    sender.send(data[:cut])
    wait_until(partial(has_frames, wire, before + len(LONG) // 2 // 4096), "half of the value")
    return data[cut:]


@pytest.mark.parametrize("size", [MIB, MIB + 1, 2 * MIB, 3 * MIB + 777, 5 * MIB])
@pytest.mark.parametrize("piece", [1 << 30, 100_000, 4097])
def test_a_long_value_arrives_in_any_pieces(wire2: Wire, sender: Wire, size: int, piece: int) -> None:
    value = (LONG + LONG)[:size]
    data = encode("SET", "k", value, "EX", 100) + encode("APPEND", "k", "more") + encode("STRLEN", "k")
    for at in range(0, len(data), piece):
        sender.send(data[at : at + piece])
    assert [sender.reply() for _ in range(3)] == [OK, size + 4, size + 4]
    assert wire2("GET", "k") == value + b"more" and 90 < wire2("TTL", "k") <= 100
    assert wire2("DEBUG", "DIGEST-VALUE", "k") == wire2("DEBUG", "DIGEST-VALUE", "k")


def test_it_lies_in_frames_and_counts_as_unread_input(wire2: Wire, sender: Wire) -> None:
    identity = sender("CLIENT", "ID")
    rest = half(sender, wire2, "SET", "k", LONG)
    assert 0 <= unread(wire2, identity) - len(LONG) // 2 < 1000
    assert wire2("EXISTS", "k") == 0
    sender.send(rest)
    assert sender.reply() == OK and wire2("GET", "k") == LONG


def test_every_command_that_adopts_a_value(wire2: Wire, sender: Wire) -> None:
    assert sender("SETEX", "a", 100, LONG) == sender("PSETEX", "b", 100_000, LONG) == OK
    assert sender("SETNX", "c", LONG) == 1 and sender("SETNX", "c", LONG + b"x") == 0
    assert sender("GETSET", "c", LONG + b"y") == LONG
    assert sender("SET", "c", LONG, "NX") is None and sender("SET", "d", LONG, "XX") is None
    assert sender("SET", "c", LONG + b"z", "GET", "KEEPTTL") == LONG + b"y"
    assert sender("SET", "a", LONG + b"a", "KEEPTTL") == OK and 90 < wire2("TTL", "a") <= 100
    assert sender("GETSET", "short", "x") is None and sender("SET", "short", LONG) == OK
    assert sender("MSET", "e", LONG, "f", LONG) == OK and sender("APPEND", "g", LONG) == len(LONG)
    assert [wire2("GET", key) for key in "abc"] == [LONG + b"a", LONG, LONG + b"z"]
    assert all(wire2("GET", key) == LONG for key in ("e", "f", "g", "short"))
    before = frames(wire2)
    wire2("DEL", *"abcdefg", "short")
    wait_until(partial(has_fewer, wire2, before - 7 * len(LONG) // 4096), "the frames")


def test_what_is_refused_leaves_no_frames(wire2: Wire, sender: Wire) -> None:
    before = frames(wire2)
    for command in (
        ("SET", "k", LONG, "BAD"),
        ("SET", "k", LONG, "EX", "0"),
        ("SET", "k", LONG, "XX", "NX"),
        ("SETEX", "k", "x", LONG),
        ("SETNX", "k", LONG, "more"),
    ):
        assert isinstance(sender(*command), Failure)
    assert wire2("EXISTS", "k") == 0
    wait_until(partial(has_fewer, wire2, before + 100), "the frames")
    sender.send(encode("SET", "k", LONG)[:-2] + b"xx" + encode("PING"))  # Redis does not look at these two bytes
    assert [sender.reply(), sender.reply()] == [OK, Status("PONG")]


def test_a_client_that_dies_in_the_middle_leaves_no_frames(wire2: Wire, sender: Wire) -> None:
    before = frames(wire2)
    half(sender, wire2, "SET", "k", LONG)
    sender.close()
    wait_until(partial(has_fewer, wire2, before + 100), "the frames")
    assert wire2("EXISTS", "k") == 0


def test_a_store_that_is_flushed_swapped_or_undone_meanwhile(wire2: Wire, sender: Wire) -> None:
    wire2("SET", "k", "old")
    rest = half(sender, wire2, "SET", "k", LONG)
    wire2("SET", "other", "x")
    assert wire2("FLUSHALL") == OK and wire2("SWAPDB", 0, 1) == OK
    assert wire2.pipeline([("MULTI",), ("SET", "other", "y"), ("COPY", "other", "copy"), ("EXEC",)])[-1] == [OK, 1]
    sender.send(rest)
    assert sender.reply() == OK and wire2("GET", "k") == LONG and wire2("DBSIZE") == 3


def test_an_image_of_that_moment_does_not_contain_it(start, tmp_path: Path) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire, Wire(server.address) as sender:
        wire("SET", "before", LONG)
        wire("COPY", "before", "copy")
        rest = half(sender, wire, "SET", "k", LONG)
        assert wire("SAVE") == OK
        sender.send(rest)
        assert sender.reply() == OK and wire("GET", "k") == LONG
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 2 and wire("GET", "before") == wire("GET", "copy") == LONG
        assert frames(wire) < 3 * len(LONG) // 4096
        wire("SET", "before", LONG)
        assert wire("GET", "copy") == LONG
        assert wire("SAVE") == OK
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DEL", "before", "copy") == 2


def test_a_pause_holds_the_whole_command_back(wire2: Wire, sender: Wire) -> None:
    rest = half(sender, wire2, "SET", "k", LONG)
    wire2("CLIENT", "PAUSE", 100_000, "WRITE")
    sender.send(rest + encode("GET", "k"))
    time.sleep(0.1)
    assert wire2("EXISTS", "k") == 0
    wire2("CLIENT", "UNPAUSE")
    assert sender.reply() == OK and sender.reply() == LONG


def test_the_slow_log_has_the_beginning_of_the_value(wire2: Wire, sender: Wire) -> None:
    wire2("CONFIG", "SET", "slowlog-log-slower-than", 0)
    try:
        assert sender("SET", "k", LONG) == OK
        entries = [entry[3] for entry in wire2("SLOWLOG", "GET", 10)]
        shown = b"%s... (%d more bytes)" % (LONG[:128], len(LONG) - 128)
        assert [b"SET", b"k", shown] in entries
        sender.send(encode("SET", "k", LONG, "BAD"))
        assert isinstance(sender.reply(), Failure)
    finally:
        wire2("CONFIG", "SET", "slowlog-log-slower-than", 10_000)


def test_in_a_transaction_it_is_collected(wire2: Wire, sender: Wire) -> None:
    assert sender.pipeline([("MULTI",), ("SET", "k", LONG), ("GET", "k"), ("EXEC",)]) == [
        OK,
        QUEUED,
        QUEUED,
        [OK, LONG],
    ]


def test_limits(wire2: Wire, sender: Wire) -> None:
    wire2("CONFIG", "SET", "proto-max-bulk-len", "2mb")
    try:
        sender.send(encode("SET", "k", LONG)[:1000])
        assert b"invalid bulk length" in sender.until_closed()
    finally:
        wire2("CONFIG", "SET", "proto-max-bulk-len", "512mb")
    assert wire2("EXISTS", "k") == 0


def test_without_frames_it_is_collected_and_then_refused_or_served(start, tmp_path: Path) -> None:
    value = LONG * 4
    options = ("--machine-memory", "32mb")
    with (
        start(tmp_path, options=options) as server,
        Wire(server.address) as wire,
        Wire(server.address) as first,
        Wire(server.address) as second,
    ):
        data = encode("SET", "a", value), encode("SET", "b", value)
        first.send(data[0][: 2 * MIB])
        second.send(data[1][: 2 * MIB])
        wait_until(partial(has_frames, wire, 900), "both beginnings")
        wire("SET", "between", b"x" * (8 * MIB))
        first.send(data[0][2 * MIB :])
        second.send(data[1][2 * MIB :])
        replies = [first.reply(), second.reply()]
        assert sum(reply == OK for reply in replies) == 1, replies
        assert [wire("GET", key) for key, reply in zip("ab", replies, strict=True) if reply == OK] == [value]
        full = "a" if replies[0] == OK else "b"
        assert first("SET", full, value[::-1]) == OK, "in place"
        assert wire("GET", full) == value[::-1]
        assert wire("DBSIZE") == 2
