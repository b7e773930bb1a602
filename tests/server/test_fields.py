"""Deadlines of fields beside valkey-server, in streams; and what Redis 8 does otherwise, by itself.

The replies are Redis 8's, and so are the errors; Valkey words its errors in its own way, so of an error it is compared
only that there is one.  Other intended differences:

    deadlines beyond 2^46 ms         Redis refuses them, Valkey does not
    conditions NX and XX of HSETEX   of the whole key; Valkey's alone
    HEXPIRETIME                      rounds up, as HTTL does
    OBJECT ENCODING                  listpackex for a small hash with deadlines, as in Redis
"""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.attack.seeds import told
from tests.harness import Process
from tests.mmcore.support import seeds
from tests.server.conftest import Start
from tests.server.wire import OK, Failure, Wire, info, wait_until

TWICE = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
FAR = 4_000_000_000_000  # [Unix ms]
NAMES = [b"f%d" % i for i in range(8)] + [b"", b"n" * 100, b"N" * 5000]
KEYS = [b"h", b"g", b"string"]
Words = list[bytes]


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(request: pytest.FixtureRequest, server: Process, valkey_server: Process, ours: None) -> Any:
    """Connections to this server and to Valkey, both empty."""
    with Wire(server.address, request.param) as mine, Wire(valkey_server.address, request.param) as theirs:
        assert mine("FLUSHALL") == theirs("FLUSHALL") == OK
        yield mine, theirs


def some(r: random.Random) -> list[bytes]:
    return r.choices(NAMES, k=r.choice([1, 1, 2, 3, 12]))


def moment(r: random.Random) -> bytes:
    return b"%d" % r.choice([FAR, FAR + 1000 * r.randrange(100), 0, 1])


def fields(r: random.Random, names: list[bytes]) -> Words:
    """FIELDS, a number that is mostly right, and the names."""
    count = r.choice([b"%d" % len(names)] * 9 + [b"0", b"-1", b"x", b"99", b"9223372036854775807"])
    return [r.choice([b"FIELDS"] * 12 + [b"fields", b"FIELD"]), count, *names]


def expire(r: random.Random, key: bytes) -> Words:
    condition = r.choice([[], [], [b"NX"], [b"XX"], [b"GT"], [b"lt"]])
    time = r.choice([moment(r)] * 8 + [b"-1", b"x", b"1.5", b""])
    return [b"HPEXPIREAT", key, time, *condition, *fields(r, some(r))]


def together(r: random.Random, key: bytes) -> Words:
    names, values = some(r), [b"%d" % r.randrange(99)]
    option = r.choice([[], [b"KEEPTTL"], [b"PXAT", moment(r)], [b"EX", b"0"], [b"PXAT", b"x"], [b"PXAT", b"-1"]])
    condition = r.choice([[], [], [b"FNX"], [b"FXX"], [b"FNX", b"FXX"]])
    pairs = [word for name in names for word in (name, r.choice(values))]
    return [b"HSETEX", key, *condition, *option, *fields(r, names)[:1], b"%d" % len(names), *pairs]


def get_together(r: random.Random, key: bytes) -> Words:
    option = r.choice([[], [b"PERSIST"], [b"PXAT", moment(r)], [b"PX", b"0"], [b"EX", b"x"], [b"EX"]])
    return [b"HGETEX", key, *option, *fields(r, some(r))]


def other(r: random.Random, key: bytes) -> Words:
    name, names = r.choice(NAMES), some(r)
    return r.choice(
        [
            [b"HSET", key, *(word for name in names for word in (name, b"5"))],
            [b"HSET", key, name, b"v"],
            [b"HSETNX", key, name, b"7"],
            [b"HINCRBY", key, name, b"3"],
            [b"HDEL", key, *names],
            [b"HGETDEL", key, *fields(r, names)],
            [b"HPERSIST", key, *fields(r, names)],
            [b"HPEXPIRETIME", key, *fields(r, names)],
            [b"HEXPIRETIME", key, *fields(r, names)],
            [b"HTTL", b"none", *fields(r, names)],
            [b"HMGET", key, *names],
            [b"HLEN", key],
            [b"HEXISTS", key, name],
            [b"HSTRLEN", key, name],
            [b"COPY", r.choice(KEYS[:2]), r.choice(KEYS[:2]), b"REPLACE"],
            [b"RENAME", r.choice(KEYS[:2]), r.choice(KEYS[:2])],
            [b"EXISTS", key],
        ]
    )


def command(r: random.Random) -> Words:
    """A command, now and then with an argument too few."""
    key = r.choice(KEYS[:2] * 6 + KEYS)
    words = r.choice([expire, expire, together, together, get_together, other, other, other, other])(r, key)
    return words[:-1] if r.random() < 0.03 and len(words) > 3 else words


def alike(mine: bytes, theirs: bytes) -> bool:
    """Whether two replies say the same; errors may have other words."""
    return mine == theirs or (mine[:1] == theirs[:1] == b"-")


@pytest.mark.parametrize("seed", seeds(12))
def test_streams_have_valkeys_replies(pair: tuple[Wire, Wire], seed: int) -> None:
    """And the fields have the same deadlines in the end."""
    mine, theirs = pair
    with told(seed) as r:
        for wire in pair:
            assert wire("FLUSHALL") == wire("SET", "string", "x") == OK
            assert wire("CONFIG", "SET", "hash-max-listpack-entries", "6") == OK
        for _ in range(250):
            words = command(r)
            replies = mine.raw(*words), theirs.raw(*words)
            assert alike(*replies), (words, *replies)
        for key in KEYS[:2]:
            whole = [sorted(zip(*[iter(flat(wire("HGETALL", key)))] * 2, strict=True)) for wire in pair]
            assert whole[0] == whole[1]
            times = [wire("HPEXPIRETIME", key, "FIELDS", len(NAMES), *NAMES) for wire in pair]
            assert times[0] == times[1]
        for wire in pair:
            assert wire("CONFIG", "SET", "hash-max-listpack-entries", "512") == OK


def flat(reply: Any) -> list[bytes]:
    """A map or an array of fields and values as a list."""
    return [word for item in reply.items() for word in item] if isinstance(reply, dict) else reply


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("HEXPIRE h x FIELDS 1 f", "ERR value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 f", "ERR invalid expire time, must be >= 0"),
        ("HEXPIRE h 70368744178 FIELDS 1 f", "ERR invalid expire time in 'hexpire' command"),
        ("HPEXPIRE h 70368744177663 FIELDS 1 f", "ERR invalid expire time in 'hpexpire' command"),
        ("HEXPIREAT h 9223372036854775807 FIELDS 1 f", "ERR invalid expire time in 'hexpireat' command"),
        ("HPEXPIREAT h 70368744177664 FIELDS 1 f", "ERR invalid expire time in 'hpexpireat' command"),
        ("HEXPIRE h 1 FIELD 1 f", "ERR Mandatory argument FIELDS is missing or not at the right position"),
        ("HEXPIRE h 1 NX GT FIELDS 1 f", "ERR Mandatory argument FIELDS is missing or not at the right position"),
        ("HEXPIRE h 1 FIELDS 0 f", "ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 1 FIELDS x f", "ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 1 FIELDS 2 f", "ERR The `numfields` parameter must match the number of arguments"),
        ("HTTL h FIELDS 0 f", "ERR Number of fields must be a positive integer"),
        ("HPERSIST h FIELDS 3 f", "ERR The `numfields` parameter must match the number of arguments"),
        ("HGETEX h EX 70368744178 FIELDS 1 f", "ERR invalid expire time in 'hgetex' command"),
        ("HSETEX h EX 70368744178 FIELDS 1 f v", "ERR invalid expire time in 'hsetex' command"),
        ("HSETEX h FIELDS 0 f v", "ERR invalid number of fields"),
        ("HSETEX h FIELDS 2 f v", "ERR wrong number of arguments for 'hsetex' command"),
        (
            "HSETEX h EX 1 KEEPTTL FIELDS 1 f v",
            "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        ),
        ("HSETEX h FNX FXX FIELDS 1 f v", "ERR Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h FNX EX 1 PXAT", TWICE),
        ("HSETEX h what FIELDS 1 f v", "ERR unknown argument: what"),
        ("HEXPIRE string x FIELDS 1 f", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HSETEX string x FIELDS 1 f v", "ERR unknown argument: x"),
    ],
)
def test_errors_are_redis_eights(wire: Wire, command: str, error: str) -> None:
    """In its words, and in its order."""
    wire("HSET", "h", "f", "v")
    wire("SET", "string", "x")
    reply = wire(*command.split())
    assert isinstance(reply, Failure) and reply.text == error


def test_seconds_are_rounded_up_as_in_redis(wire: Wire) -> None:
    wire("HSET", "h", "f", "v")
    wire("HPEXPIREAT", "h", FAR + 1, "FIELDS", 1, "f")
    assert wire("HEXPIRETIME", "h", "FIELDS", 1, "f") == [FAR // 1000 + 1]
    assert wire("HPEXPIRETIME", "h", "FIELDS", 1, "f") == [FAR + 1]


EVENTS = [
    ("HSET h f v g w", ["hset"]),
    ("HEXPIRE h 100 FIELDS 2 f none", ["hexpire"]),
    ("HEXPIRE h 100 NX FIELDS 1 f", []),
    ("HPERSIST h FIELDS 2 f g", ["hpersist"]),
    ("HPERSIST h FIELDS 2 f g", []),
    ("HGETEX h PX 90000 FIELDS 2 f g", ["hexpire"]),
    ("HGETEX h PERSIST FIELDS 1 g", ["hpersist"]),
    ("HGETEX h FIELDS 1 g", []),
    ("HSETEX h EX 100 FIELDS 1 i x", ["hset", "hexpire"]),
    ("HSETEX h KEEPTTL FIELDS 1 i y", ["hset"]),
    ("HSETEX h FNX FIELDS 1 i y", []),
    ("HSETEX h PXAT 1 FIELDS 1 i y", ["hset", "hdel"]),
    ("HEXPIRE h 0 FIELDS 1 g", ["hdel"]),
    ("HGETDEL h FIELDS 1 g", []),
    ("HGETDEL h FIELDS 1 f", ["hdel", "del"]),
    ("HSETEX h PX 1 FIELDS 2 f v g w", ["hset", "hexpire", "hexpired", "del"]),
]


def test_events_are_redis_eights(server: Process, wire: Wire) -> None:
    """The last command's fields expire by themselves, and the key goes with them."""
    wire("CONFIG", "SET", "notify-keyspace-events", "KA")
    try:
        with Wire(server.address) as listener:
            listener("SUBSCRIBE", "__keyspace@0__:h")
            for command, events in EVENTS:
                reply = wire(*command.split())
                assert not isinstance(reply, Failure), (command, reply)
                assert [listener.reply()[2].decode() for _ in events] == events, command
            wire("PUBLISH", "__keyspace@0__:h", "no more")
            assert listener.reply()[2] == b"no more"
    finally:
        wire("CONFIG", "SET", "notify-keyspace-events", "")


def test_info_counts_hashes_with_deadlines_and_fields_that_have_expired(wire: Wire) -> None:
    def expired() -> int:
        return int(info(wire, "stats")["expired_subkeys"])

    before = expired()
    assert wire("HSETEX", "h", "PX", 60_000, "FIELDS", 2, "a", "1", "b", "2") == 1
    assert wire("HSETEX", "short", "PX", 1, "FIELDS", 3, "a", "1", "b", "2", "c", "3") == 1
    assert wire("HSET", "plain", "a", "1") == 1
    wait_until(lambda: wire("EXISTS", "short") == 0, "active expiry")
    assert info(wire, "keyspace")["db0"] == "keys=2,expires=0,avg_ttl=0,subexpiry=1"
    assert expired() - before == 3
    assert wire("HPERSIST", "h", "FIELDS", 2, "a", "b") == [1, 1]
    assert info(wire, "keyspace")["db0"].endswith(",subexpiry=0")


def test_fields_expire_by_themselves(wire: Wire) -> None:
    """A great many at once, while others are served; afterwards nothing of them is left."""
    for first in range(0, 20_000, 1000):
        words = [word for i in range(first, first + 1000) for word in (f"f{i}", "v")]
        wire("HSETEX", "h", "PX", 300, "FIELDS", 1000, *words)
    wire("HSET", "h", "stays", "v")
    wait_until(lambda: wire("HLEN", "h") == 1, "the deadlines")
    assert flat(wire("HGETALL", "h")) == [b"stays", b"v"]
    wait_until(lambda: wire("MEMORY", "USAGE", "h") < 3000, "active expiry")
    wire("HEXPIRE", "h", 0, "FIELDS", 1, "stays")
    assert wire("EXISTS", "h") == 0


def test_deadlines_outlive_a_restart(start: Start, data: Path, ours: None) -> None:
    """Those that pass while there is no server, too; their fields expire by themselves."""
    names = [f"f{i}" for i in range(300)]
    with start(data) as server, Wire(server.address) as wire:
        wire("HSET", "h", "plain", "v", *(word for name in names for word in (name, "v")))
        wire("HPEXPIREAT", "h", FAR, "FIELDS", 300, *names)
        wire("HSETEX", "soon", "PX", 200, "FIELDS", 1, "f", "v")
        wire("HSETEX", "some", "PX", 200, "FIELDS", 2, "f", "v", "g", "v")
        wire("HPERSIST", "some", "FIELDS", 1, "g")
        digest = wire("DEBUG", "DIGEST-VALUE", "h")
        assert wire("DEBUG", "RELOAD") == OK
        assert wire("DEBUG", "DIGEST-VALUE", "h") == digest
        assert wire("SAVE") == OK
    with start(data) as server, Wire(server.address) as wire:
        assert wire("HPEXPIRETIME", "h", "FIELDS", 301, "plain", *names) == [-1] + [FAR] * 300
        wait_until(lambda: wire("EXISTS", "soon") == 0, "active expiry")
        wait_until(lambda: wire("HLEN", "some") == 1, "the deadline")
        left = "keys=2,expires=0,avg_ttl=0,subexpiry=1"
        wait_until(lambda: info(wire, "keyspace")["db0"] == left, "active expiry")
