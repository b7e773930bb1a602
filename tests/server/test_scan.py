r"""SCAN: its options, and its guarantee to return every key that exists from beginning to end of the scan."""

import random

import pytest

from tests.server.wire import Wire, run_transcript, scan_all, wait_until

TRANSCRIPTS = {
    "refusals": r"""
        SCAN 0 -> ["0", []]
        SET k v -> OK
        SCAN 0 -> ["0", ["k"]]
        SCAN 0 MATCH k* COUNT 100 TYPE string -> ["0", ["k"]]
        SCAN 0 match x* -> ["0", []]
        SCAN 0 TYPE hash -> ["0", []]
        SCAN 0 TYPE nope -> ["0", []]
        SCAN x -> !ERR invalid cursor
        SCAN "0 " -> !ERR invalid cursor
        SCAN 99999999999999999999999 -> !ERR invalid cursor
        SCAN 0 COUNT 0 -> !ERR syntax error
        SCAN 0 COUNT -1 -> !ERR syntax error
        SCAN 0 COUNT x -> !ERR value is not an integer or out of range
        SCAN 0 COUNT -> !ERR syntax error
        SCAN 0 MATCH -> !ERR syntax error
        SCAN 0 TYPE -> !ERR syntax error
        SCAN 0 FOO -> !ERR syntax error
        SCAN 0 FOO bar -> !ERR syntax error
        SCAN -> !ERR wrong number of arguments for 'scan' command
        SCAN 0 COUNT 9223372036854775807 -> ["0", ["k"]]
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


def fill(wire: Wire, prefix: str, count: int) -> set[bytes]:
    """Set prefix:0 .. prefix:count-1."""
    names = [f"{prefix}:{i}" for i in range(count)]
    wire.pipeline([("SET", name, "v") for name in names])
    return {name.encode() for name in names}


@pytest.mark.parametrize("count", [1, 10, 1000, 100_000])
def test_a_scan_returns_every_key_once_when_nothing_changes(wire2: Wire, count: int) -> None:
    """This holds for every COUNT; no cursor comes twice."""
    names = fill(wire2, "k", 5000)
    found: list[bytes] = []
    cursors: set[bytes] = set()
    cursor: bytes | int = 0
    while True:
        cursor, keys = wire2("SCAN", cursor, "COUNT", count)
        found += keys
        if cursor == b"0":
            break
        assert cursor not in cursors
        cursors.add(cursor)
    assert len(found) == 5000
    assert set(found) == names


def test_count_bounds_what_one_call_returns(wire2: Wire) -> None:
    """The bound is approximate, because a bucket is returned whole."""
    fill(wire2, "k", 20_000)
    cursor, keys = wire2("SCAN", 0, "COUNT", 100)
    assert 50 <= len(keys) <= 200
    cursor, keys = wire2("SCAN", cursor)
    assert len(keys) <= 60


def test_options_filter_and_every_database_is_its_own(wire2: Wire) -> None:
    """MATCH and TYPE filter after COUNT has chosen."""
    fill(wire2, "user", 1000)
    fill(wire2, "item", 1000)
    wire2("SELECT", 1)
    fill(wire2, "user", 10)
    assert len(list(scan_all(wire2, "MATCH", "user:*"))) == 10
    wire2("SELECT", 0)
    assert len(set(scan_all(wire2, "MATCH", "user:*"))) == 1000
    assert set(scan_all(wire2, "MATCH", "item:7", "COUNT", 3)) == {b"item:7"}
    assert len(set(scan_all(wire2, "TYPE", "string"))) == 2000
    assert list(scan_all(wire2, "TYPE", "list")) == []


def test_keys_and_values_with_any_bytes_are_scanned(wire2: Wire) -> None:
    """Tests binary keys, empty keys, and keys longer than a page."""
    generator = random.Random(5)
    names = {generator.randbytes(generator.choice((0, 1, 2, 30, 5000))) for _ in range(300)}
    wire2.pipeline([("SET", name, b"v") for name in names])
    assert set(scan_all(wire2)) == names


SEEDS = [1, 2, 3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("direction", ["grows", "shrinks", "both"])
def test_what_stays_is_returned_while_the_index_changes_size(wire2: Wire, direction: str, seed: int) -> None:
    """Between the calls of a scan, hundreds of other keys come and go, and the table splits or merges."""
    generator = random.Random(f"{seed}{direction}")
    stays = fill(wire2, "stays", 2000)
    passing = [f"passing:{i}" for i in range(30_000)]
    present = set(passing) if direction != "grows" else set()
    wire2.pipeline([("SET", name, "v") for name in present])
    found: set[bytes] = set()
    cursor: bytes | int = 0
    calls = 0
    while True:
        cursor, keys = wire2("SCAN", cursor, "COUNT", generator.choice((10, 50, 200)))
        found.update(keys)
        calls += 1
        assert calls < 100_000, "the scan does not end"
        if cursor == b"0":
            break
        batch = generator.sample(passing, 300)
        remove = {"grows": 0.0, "shrinks": 1.0, "both": 0.5 + 0.5 * (calls // 40 % 2)}[direction]
        wire2.pipeline([("DEL", name) if generator.random() < remove else ("SET", name, "v") for name in batch])
    assert stays <= found, f"{len(stays - found)} keys that were there throughout were not returned (seed {seed})"
    assert found <= stays | {name.encode() for name in passing}


@pytest.mark.parametrize("first", [50_000, 200])
def test_a_scan_survives_that_the_table_is_emptied_and_filled_again(wire2: Wire, first: int) -> None:
    """Cursors of a large table are valid in a small one, and vice versa."""
    stays = fill(wire2, "stays", 100)
    fill(wire2, "other", first)
    found: set[bytes] = set()
    cursor: bytes | int = 0
    for _ in range(10):
        cursor, keys = wire2("SCAN", cursor, "COUNT", first // 30)
        found.update(keys)
    if first == 50_000:
        wire2.pipeline([("DEL", f"other:{i}") for i in range(first)])
    else:
        fill(wire2, "other", 50_000)
    while cursor != b"0":
        cursor, keys = wire2("SCAN", cursor, "COUNT", 100)
        found.update(keys)
    assert stays <= found


def test_a_scan_of_what_is_left_of_a_large_table_is_bounded_work(wire2: Wire) -> None:
    """A call looks at a bounded number of buckets, even if they are empty."""
    fill(wire2, "k", 100_000)
    removals = [("DEL", f"k:{i}") for i in range(100_000) if i != 5]
    cursor, _ = wire2.pipeline([*removals, ("SCAN", 0, "COUNT", 1)])[-1]
    assert cursor != b"0"  # a call that looked at all that is empty would be through
    assert set(scan_all(wire2, "COUNT", 1000)) == {b"k:5"}


def test_expired_keys_are_not_returned(wire2: Wire) -> None:
    """They are left out even while they are still in the table."""
    wire2("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        wire2.pipeline([("SET", f"gone:{i}", "v", "PX", "1") for i in range(1000)])
        stays = fill(wire2, "stays", 500)
        wire2("SET", "watch", "v", "PX", "1")
        wait_until(lambda: wire2("EXISTS", "watch") == 0, "the last key's time to pass")
        assert set(scan_all(wire2, "COUNT", 10)) == stays
    finally:
        wire2("DEBUG", "SET-ACTIVE-EXPIRE", "1")


@pytest.mark.parametrize("cursor", [1, 12345, 2**31, 2**48 - 1, 2**63, 2**64 - 1])
def test_a_made_up_cursor_is_harmless(wire2: Wire, cursor: int) -> None:
    """The scan still ends."""
    fill(wire2, "k", 1000)
    answer: list[object] = [b"%d" % cursor, []]
    for _ in range(10_000):
        answer = wire2("SCAN", answer[0], "COUNT", 1000)  # type: ignore[arg-type]
        if answer[0] == b"0":
            return
    pytest.fail("no end")
