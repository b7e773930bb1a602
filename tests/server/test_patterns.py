"""Glob patterns in every command that takes one, compared with a real redis-server's replies."""

import random
from collections.abc import Iterator

import pytest

from tests.harness import Process
from tests.server.wire import OK, Wire

SYMBOLS = [b"a", b"b", b"A", b"*", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\xff", b"\x80", b"z"]
LETTERS = b"aabbABz-]^[\\\x80\xff*"


@pytest.fixture
def both(server: Process, redis_server: Process) -> Iterator[tuple[Wire, Wire]]:
    """This server and the real one, both empty."""
    with Wire(server.address) as ours, Wire(redis_server.address) as theirs:
        assert [wire("FLUSHALL") for wire in (ours, theirs)] == [OK, OK]
        yield ours, theirs


@pytest.mark.parametrize("seed", range(4))
def test_keys_and_scan_match_what_redis_matches(both: tuple[Wire, Wire], seed: int) -> None:
    draw = random.Random(seed)
    keys = {bytes(draw.choices(LETTERS, k=draw.randrange(6))) for _ in range(300)}
    for wire in both:
        assert wire.pipeline([("SET", key, "v") for key in keys]) == [OK] * len(keys)
    patterns = [b"".join(draw.choices(SYMBOLS, k=draw.randrange(8))) for _ in range(1000)]
    for command in (["KEYS"], ["SCAN", "0", "COUNT", "100000", "MATCH"]):
        ours, theirs = (wire.pipeline([(*command, pattern) for pattern in patterns]) for wire in both)
        matched = 0
        for pattern, mine, stock in zip(patterns, ours, theirs, strict=True):
            mine, stock = (reply if command == ["KEYS"] else reply[1] for reply in (mine, stock))
            assert set(mine) == set(stock), pattern
            matched += bool(mine)
        assert matched > 50


@pytest.mark.parametrize("seed", range(2))
def test_config_get_matches_what_redis_matches(both: tuple[Wire, Wire], seed: int) -> None:
    draw = random.Random(seed)
    every = [set(wire("CONFIG", "GET", "*")[::2]) for wire in both]
    names = sorted(every[0] & every[1])
    matched = 0
    for _ in range(400):
        pattern = bytearray(draw.choice(names))
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(pattern))
            pattern[at : at + draw.randrange(4)] = draw.choice(
                (b"*", b"?", b"[a-z]", b"[^m]", b"[A-Z]", b"[\\e]", b"[z-A]", b"\\", b"[", b"[^", b"E", b"**")
            )
        ours, theirs = (set(wire("CONFIG", "GET", bytes(pattern))[::2]) & set(names) for wire in both)
        assert ours == theirs, bytes(pattern)
        matched += bool(ours)
    assert matched > 50


def test_a_list_of_commands_is_filtered_as_redis_filters_it(both: tuple[Wire, Wire]) -> None:
    common = set(both[0]("COMMAND", "LIST")) & set(both[1]("COMMAND", "LIST"))
    for pattern in (b"s*", b"*ET", b"[gm]et", b"?et*", b"[^g]et", b"get", b"GET", b"*a*e*", b"[", b""):
        ours, theirs = (set(wire("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern)) & common for wire in both)
        assert ours == theirs, pattern


@pytest.mark.parametrize(
    "pattern", [b"*a" * 30 + b"*b", b"*[az]" * 30 + b"*[b]", (b"*[" + b"z" * 4000 + b"a]") * 10 + b"*b"]
)
def test_a_hostile_pattern_is_answered_by_every_command(wire2: Wire, ours: None, pattern: bytes) -> None:
    """Backtracking would practically never end."""
    assert wire2("SET", b"a" * 40_000, "v") == OK
    assert wire2("KEYS", pattern) == []
    assert wire2("SCAN", 0, "MATCH", pattern) == [b"0", []]
    assert wire2("KEYS", pattern[:-1] + b"a") == [b"a" * 40_000]
    assert wire2("CONFIG", "GET", pattern) == []
    assert wire2("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern) == []
