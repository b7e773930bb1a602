r"""Times to live: setting, asking, removing them; lazy and active expiry; the transcripts are Redis's own."""

import time

import pytest

from tests.server.wire import OK, Wire, info, run_transcript, wait_until

TRANSCRIPTS = {
    "asking": r"""
        TTL missing -> -2
        PTTL missing -> -2
        EXPIRETIME missing -> -2
        PEXPIRETIME missing -> -2
        SET k v -> OK
        TTL k -> -1
        PTTL k -> -1
        EXPIRETIME k -> -1
        PEXPIRETIME k -> -1
        PEXPIREAT k 99999999999500 -> 1
        EXPIRETIME k -> 100000000000
        PEXPIRETIME k -> 99999999999500
        TTL -> !ERR wrong number of arguments for 'ttl' command
        PTTL a b -> !ERR wrong number of arguments for 'pttl' command
        EXPIRETIME -> !ERR wrong number of arguments for 'expiretime' command
        PEXPIRETIME -> !ERR wrong number of arguments for 'pexpiretime' command
    """,
    "setting": r"""
        EXPIRE missing 10 -> 0
        PEXPIRE missing 10 -> 0
        EXPIREAT missing 99999999999 -> 0
        PEXPIREAT missing 99999999999000 -> 0
        SET k v -> OK
        EXPIRE k 100 -> 1
        TTL k -> 100
        PEXPIRE k 200000 -> 1
        TTL k -> 200
        EXPIREAT k 99999999999 -> 1
        EXPIRETIME k -> 99999999999
        PEXPIREAT k 99999999999123 -> 1
        PEXPIRETIME k -> 99999999999123
        GET k -> "v"
        PERSIST k -> 1
        PERSIST k -> 0
        PERSIST missing -> 0
        TTL k -> -1
        PERSIST -> !ERR wrong number of arguments for 'persist' command
        EXPIRE k -> !ERR wrong number of arguments for 'expire' command
        PEXPIRE k -> !ERR wrong number of arguments for 'pexpire' command
        EXPIREAT k -> !ERR wrong number of arguments for 'expireat' command
        PEXPIREAT k -> !ERR wrong number of arguments for 'pexpireat' command
    """,
    "a time that has passed deletes": r"""
        MSET a 1 b 2 c 3 d 4 e 5 -> OK
        EXPIRE a 0 -> 1
        EXPIRE b -1 -> 1
        PEXPIRE c -100 -> 1
        EXPIREAT d 1 -> 1
        PEXPIREAT e 1000 -> 1
        EXISTS a b c d e -> 0
        DBSIZE -> 0
        SET k v EX 100 -> OK
        EXPIRE k -1 GT -> 0
        EXPIRE k -1 LT -> 1
        EXISTS k -> 0
    """,
    "conditions": r"""
        SET k v -> OK
        EXPIRE k 100 XX -> 0
        EXPIRE k 100 GT -> 0
        TTL k -> -1
        EXPIRE k 100 NX -> 1
        EXPIRE k 200 NX -> 0
        TTL k -> 100
        EXPIRE k 200 XX -> 1
        TTL k -> 200
        EXPIRE k 100 GT -> 0
        EXPIRE k 300 GT -> 1
        TTL k -> 300
        EXPIRE k 400 LT -> 0
        EXPIRE k 100 LT -> 1
        TTL k -> 100
        EXPIRE k 200 XX GT -> 1
        EXPIRE k 100 xx lt -> 1
        PERSIST k -> 1
        EXPIRE k 100 LT -> 1
        TTL k -> 100
        PERSIST k -> 1
        EXPIRE k 100 XX LT -> 0
        PEXPIRE k 100000 NX -> 1
        EXPIREAT k 99999999999 GT -> 1
        PEXPIREAT k 99999999999001 GT -> 1
        PEXPIREAT k 99999999999001 GT -> 0
        PEXPIREAT k 99999999999001 LT -> 0
        EXPIRE missing 100 NX -> 0
    """,
    "conditions that do not go together": r"""
        SET k v -> OK
        EXPIRE k 100 NX XX -> !ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 100 NX GT -> !ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 100 LT NX -> !ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 100 GT LT -> !ERR GT and LT options at the same time are not compatible
        EXPIRE k 100 FOO -> !ERR Unsupported option FOO
        EXPIRE k 100 NX FOO -> !ERR Unsupported option FOO
        PEXPIREAT k 100 foo -> !ERR Unsupported option foo
        EXPIRE missing 100 FOO -> !ERR Unsupported option FOO
        EXPIRE missing x FOO -> !ERR Unsupported option FOO
        TTL k -> -1
    """,
    "times out of range": r"""
        SET k v -> OK
        EXPIRE k x -> !ERR value is not an integer or out of range
        EXPIRE k 1.5 -> !ERR value is not an integer or out of range
        EXPIRE k "" -> !ERR value is not an integer or out of range
        EXPIRE k 9223372036854775808 -> !ERR value is not an integer or out of range
        EXPIRE missing x -> !ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 -> !ERR invalid expire time in 'expire' command
        EXPIRE k 9223372036854776 -> !ERR invalid expire time in 'expire' command
        EXPIRE k -9223372036854775808 -> !ERR invalid expire time in 'expire' command
        EXPIRE missing 9223372036854775807 -> !ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 -> !ERR invalid expire time in 'pexpire' command
        PEXPIRE k 9223372036854770000 -> !ERR invalid expire time in 'pexpire' command
        EXPIREAT k 9223372036854775807 -> !ERR invalid expire time in 'expireat' command
        EXPIREAT k 9223372036854776 -> !ERR invalid expire time in 'expireat' command
        TTL k -> -1
        PEXPIREAT k 9223372036854775807 -> 1
        PEXPIRETIME k -> 9223372036854775807
        EXPIREAT k 9223372036854775 -> 1
        PEXPIRETIME k -> 9223372036854775000
        PEXPIREAT k -9223372036854775808 -> 1
        EXISTS k -> 0
    """,
    "an expired key is not there for any command": r"""
        SET k v PXAT 1 -> OK
        GET k -> nil
        SET k v PXAT 1 -> OK
        EXISTS k -> 0
        SET k v PXAT 1 -> OK
        TYPE k -> none
        SET k v PXAT 1 -> OK
        STRLEN k -> 0
        SET k v PXAT 1 -> OK
        TTL k -> -2
        SET k v PXAT 1 -> OK
        PEXPIRETIME k -> -2
        SET k v PXAT 1 -> OK
        EXPIRE k 100 -> 0
        SET k v PXAT 1 -> OK
        PERSIST k -> 0
        SET k v PXAT 1 -> OK
        DEL k -> 0
        SET k v PXAT 1 -> OK
        UNLINK k -> 0
        SET k v PXAT 1 -> OK
        TOUCH k -> 0
        SET k v PXAT 1 -> OK
        RENAME k l -> !ERR no such key
        SET k v PXAT 1 -> OK
        COPY k l -> 0
        SET k v PXAT 1 -> OK
        MOVE k 1 -> 0
        SET k 5 PXAT 1 -> OK
        INCR k -> 1
        TTL k -> -1
        SET k v PXAT 1 -> OK
        APPEND k w -> 1
        GET k -> "w"
        SET k v PXAT 1 -> OK
        SETNX k w -> 1
        SET k v PXAT 1 -> OK
        SET k w XX -> nil
        SET k v PXAT 1 -> OK
        MSETNX k w -> 1
        SET k v PXAT 1 -> OK
        SETRANGE k 1 w -> 2
        GET k -> "\x00w"
        SET k v PXAT 1 -> OK
        GETSET k w -> nil
        SET k v PXAT 1 -> OK
        GETDEL k -> nil
        SET k v PXAT 1 -> OK
        GETEX k PERSIST -> nil
        SET k v PXAT 1 -> OK
        OBJECT ENCODING k -> nil
        SET k v PXAT 1 -> OK
        KEYS * -> []
        SET k v PXAT 1 -> OK
        SCAN 0 COUNT 100 -> ["0", []]
        SET k v PXAT 1 -> OK
        SET other w -> OK
        RENAMENX other k -> 1
        GET k -> "w"
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


def test_a_key_goes_at_its_time_and_not_before(wire2: Wire) -> None:
    """The server's own clock decides, to the millisecond."""

    def now_us() -> int:
        seconds, microseconds = wire2("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    wire2("SET", "k", "v", "PX", 300)
    deadline_ms = wire2("PEXPIRETIME", "k")
    while True:
        before_us, there, after_us = now_us(), wire2("EXISTS", "k"), now_us()
        if not there:
            break
        assert before_us < 1000 * deadline_ms
    assert after_us >= 1000 * deadline_ms
    assert wire2("GET", "k") is None


def test_ttl_rounds_to_the_nearest_second(wire2: Wire) -> None:
    """As in Redis, half a second or more is rounded up."""
    for left_ms, shown in ((1900, 2), (1400, 1)):
        commands = [("MULTI",), ("SET", "k", "v", "PX", left_ms), ("TTL", "k"), ("EXEC",)]
        assert wire2.pipeline(commands)[-1] == [OK, shown]  # within a transaction no time passes


def test_keys_nobody_asks_for_go_as_well(wire2: Wire) -> None:
    """Active expiry empties every database without any access, and counts the deleted keys."""
    before = int(info(wire2, "stats")["expired_keys"])
    for db in (0, 9):
        wire2("SELECT", db)
        wire2.pipeline([("SET", f"short:{i}", "v", "PX", 100 + i % 200) for i in range(5000)])
        wire2.pipeline([("SET", f"long:{i}", "v", "EX", 1000) for i in range(500)])
        wire2.pipeline([("SET", f"forever:{i}", "v") for i in range(500)])
    wire2("SELECT", 0)
    wait_until(lambda: wire2("DBSIZE") == 1000, "active expiry to remove what is due")
    wire2("SELECT", 9)
    wait_until(lambda: wire2("DBSIZE") == 1000, "active expiry to remove what is due")
    assert int(info(wire2, "stats")["expired_keys"]) - before == 10_000
    assert info(wire2, "keyspace")["db9"].startswith("keys=1000,expires=500,avg_ttl=")


def test_the_keys_with_a_deadline_are_counted(wire2: Wire) -> None:
    """INFO keyspace follows every way of gaining and losing a deadline."""

    def expires() -> str:
        return info(wire2, "keyspace")["db0"].split(",")[1]

    wire2.pipeline([("SET", f"k{i}", "v", "EX", 1000) for i in range(10)])
    assert expires() == "expires=10"
    wire2("PERSIST", "k0")
    wire2("SET", "k1", "v")
    wire2("GETSET", "k2", "v")
    wire2("DEL", "k3")
    wire2("GETEX", "k4", "PERSIST")
    assert expires() == "expires=5"
    wire2("RENAME", "k5", "k6")
    assert expires() == "expires=4"
    wire2("COPY", "k6", "k0", "REPLACE")
    wire2("EXPIRE", "k1", 100)
    assert expires() == "expires=6"
    wire2("RENAME", "k2", "k0")
    assert expires() == "expires=5"
    wire2("MOVE", "k1", 3)
    assert expires() == "expires=4"
    wire2("MSET", "k6", "v")
    assert expires() == "expires=3"
    assert wire2("FLUSHALL") == OK


def test_active_expiry_can_be_switched_off(wire2: Wire) -> None:
    """After DEBUG SET-ACTIVE-EXPIRE 0, only access deletes due keys."""
    assert wire2("DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
    try:
        wire2.pipeline([("SET", f"k{i}", "v", "PX", 1) for i in range(100)])
        wire2("SET", "watch", "v", "PX", 400)
        wait_until(lambda: wire2("EXISTS", "watch") == 0, "the last key's time to pass")
        assert wire2("DBSIZE") == 100
        assert wire2("EXISTS", *(f"k{i}" for i in range(100))) == 0
        assert wire2("DBSIZE") == 0
    finally:
        assert wire2("DEBUG", "SET-ACTIVE-EXPIRE", "1") == OK


def test_many_keys_due_at_once_hold_nobody_up(wire2: Wire) -> None:
    """A hundred thousand keys expire in many slices, and another client is answered between them."""
    before = int(info(wire2, "stats")["expired_time_cap_reached_count"])
    deadline_ms = int(time.time() * 1000) + 1500
    for start in range(0, 100_000, 10_000):
        wire2.pipeline([("SET", f"k{i}", "v", "PXAT", deadline_ms) for i in range(start, start + 10_000)])
    wire2("SET", "stays", "v")
    wait_until(lambda: wire2("GET", "stays") == b"v" and wire2("DBSIZE") == 1, "all to expire", interval_s=0.001)
    slices = int(info(wire2, "stats")["expired_time_cap_reached_count"]) - before
    assert slices > 5  # a slice ends by the time it takes: on a slow machine there are more
