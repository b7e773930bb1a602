"""Two clocks: deadlines of keys follow the wall clock, durations the monotonic one, even if either clock jumps."""

from collections.abc import Iterator

import pytest

from tests.harness import Process
from tests.server.wire import NULL_ARRAY, OK, QUEUED, Failure, Status, Wire, info, wait_until

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server whose clocks these tests move."""
    with Process("kvstore", tmp_path_factory.mktemp("clocks")) as process:
        yield process


@pytest.fixture
def wire(moved: Process) -> Iterator[Wire]:
    """A connection to it, emptied."""
    with Wire(moved.address) as connection:
        assert connection("FLUSHALL") == OK
        yield connection


def shift(wire: Wire, which: str, by_ms: int) -> None:
    assert wire("DEBUG", "SHIFT-CLOCK", which, by_ms) == OK


def some_ticks(wire: Wire) -> None:
    """Wait until the timer has run ten times, and so has checked every connection and the save points."""
    before = int(info(wire, "machine")["timer_ticks"])
    wait_until(lambda: int(info(wire, "machine")["timer_ticks"]) >= before + 11, "ticks")


def client_list(wire: Wire) -> dict[int, dict[str, str]]:
    lines = wire("CLIENT", "LIST").decode().split("\n")
    rows = [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines if line]
    return {int(row["id"]): row for row in rows}


def test_deadlines_follow_the_wall_clock(wire: Wire) -> None:
    assert wire("SET", "k", "v", "PX", 60_000) == OK
    shift(wire, "wall", -HOUR_MS)
    assert HOUR_MS < wire("PTTL", "k") <= HOUR_MS + 60_000
    shift(wire, "wall", HOUR_MS)
    assert 0 < wire("PTTL", "k") <= 60_000
    shift(wire, "timer", HOUR_MS)
    assert wire("GET", "k") == b"v"
    shift(wire, "wall", 60_000)
    wait_until(lambda: wire("DBSIZE") == 0, "active expiry")


def test_keys_expire_while_the_wall_clock_is_an_hour_back(wire: Wire) -> None:
    some_ticks(wire)
    shift(wire, "wall", -HOUR_MS)
    assert wire.pipeline([("SET", f"k:{i}", "v", "PX", 50) for i in range(1000)]) == [OK] * 1000
    wait_until(lambda: wire("DBSIZE") == 0, "active expiry")


def test_a_pause_ends_while_the_wall_clock_is_an_hour_back(wire: Wire) -> None:
    shift(wire, "wall", -HOUR_MS)
    assert wire("CLIENT", "PAUSE", 300) == OK
    assert wire("PING") == Status("PONG")


def test_a_pause_is_as_long_as_the_monotonic_clock_says(moved: Process, wire: Wire) -> None:
    with Wire(moved.address) as held:
        assert wire("CLIENT", "PAUSE", HOUR_MS, "WRITE") == OK
        held.send(b"SET k v\r\n")
        wait_until(lambda: info(wire, "clients")["blocked_clients"] == "1", "the pause to hold it back")
        shift(wire, "wall", 2 * HOUR_MS)
        some_ticks(wire)
        assert info(wire, "clients")["blocked_clients"] == "1"
        shift(wire, "timer", HOUR_MS)
        assert held.reply() == OK
        assert info(wire, "clients")["blocked_clients"] == "0"


def test_idle_connections_are_closed_by_the_monotonic_clock(moved: Process, wire: Wire) -> None:
    assert wire("CONFIG", "SET", "timeout", 1000) == OK
    try:
        with Wire(moved.address) as idle:
            assert idle("PING") == Status("PONG")
            shift(wire, "wall", HOUR_MS)
            some_ticks(wire)
            assert idle("PING") == Status("PONG")
            shift(wire, "wall", -2 * HOUR_MS)
            shift(wire, "timer", 1_001_000)
            assert idle.until_closed() == b""
    finally:
        with Wire(moved.address) as fresh:
            assert fresh("CONFIG", "SET", "timeout", 0) == OK


def test_a_soft_limit_is_timed_by_the_monotonic_clock(moved: Process, wire: Wire) -> None:
    assert wire("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1000") == OK
    assert wire("SET", "long", b"x" * 1_000_000) == OK
    with Wire(moved.address) as slow:
        slow.send(b"GET long\r\n" * 64)
        number = wait_until(
            lambda: [one for one, row in client_list(wire).items() if int(row["omem"]) > 1_000_000], "pending replies"
        )[0]
        some_ticks(wire)
        shift(wire, "wall", HOUR_MS)
        some_ticks(wire)
        assert number in client_list(wire)
        shift(wire, "timer", 1_001_000)
        wait_until(lambda: number not in client_list(wire), "the limit")
    assert wire("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0") == OK


def test_ages_do_not_jump_with_the_wall_clock(moved: Process, wire: Wire) -> None:
    with Wire(moved.address) as other:
        number = other("CLIENT", "ID")
        uptime = int(info(wire, "server")["uptime_in_seconds"])
        assert wire("SET", "k", "v") == OK
        for by_ms in (HOUR_MS, -2 * HOUR_MS):
            shift(wire, "wall", by_ms)
            row = client_list(wire)[number]
            assert int(row["age"]) < 1800
            assert int(row["idle"]) < 1800
            assert wire("OBJECT", "IDLETIME", "k") < 1800
            assert 0 <= int(info(wire, "server")["uptime_in_seconds"]) - uptime < 1800
        shift(wire, "timer", HOUR_MS)
        row = client_list(wire)[number]
        assert 3600 <= int(row["age"]) < 5400
        assert 3600 <= int(row["idle"]) < 5400
        assert 3600 <= wire("OBJECT", "IDLETIME", "k") < 5400
        assert 3600 <= int(info(wire, "server")["uptime_in_seconds"]) - uptime < 5400


def test_the_age_of_a_refusal_does_not_jump_with_the_wall_clock(wire: Wire) -> None:
    def entry() -> dict[bytes, bytes | int]:
        fields = wire("ACL", "LOG", 1)[0]
        return dict(zip(fields[::2], fields[1::2], strict=True))

    assert wire("ACL", "LOG", "RESET") == OK
    assert isinstance(wire("AUTH", "nobody", "wrong"), Failure)
    created = entry()[b"timestamp-created"]
    for by_ms in (HOUR_MS, -2 * HOUR_MS):
        shift(wire, "wall", by_ms)
        assert 0 <= float(entry()[b"age-seconds"]) < 1800
        assert entry()[b"timestamp-created"] == created
    shift(wire, "timer", HOUR_MS)
    assert 3600 <= float(entry()[b"age-seconds"]) < 5400


def test_times_that_clients_are_told_are_of_the_wall_clock(wire: Wire) -> None:
    before = int(wire("TIME")[0])
    shift(wire, "wall", HOUR_MS)
    assert 3600 <= int(wire("TIME")[0]) - before < 5400
    assert wire("SAVE") == OK
    assert 3600 <= wire("LASTSAVE") - before < 5400
    assert 3600 <= int(info(wire, "persistence")["rdb_last_save_time"]) - before < 5400


def test_save_points_count_by_the_monotonic_clock(wire: Wire) -> None:
    saves = int(info(wire, "persistence")["rdb_saves"])
    assert wire("CONFIG", "SET", "save", "1000 1") == OK
    try:
        assert wire("SET", "k", "v") == OK
        assert wire("SAVE") == OK
        assert wire("SET", "k", "w") == OK
        shift(wire, "wall", HOUR_MS)
        some_ticks(wire)
        assert int(info(wire, "persistence")["rdb_saves"]) == saves + 1
        shift(wire, "wall", -2 * HOUR_MS)
        shift(wire, "timer", 1_001_000)
        wait_until(lambda: int(info(wire, "persistence")["rdb_saves"]) == saves + 2, "the save point")
    finally:
        assert wire("CONFIG", "SET", "save", "") == OK


def test_a_transaction_sees_one_moment(wire: Wire) -> None:
    assert wire("SET", "k", "v", "PX", 60_000) == OK
    assert wire("MULTI") == OK
    for command in (("GET", "k"), ("DEBUG", "SHIFT-CLOCK", "WALL", 120_000), ("GET", "k")):
        assert wire(*command) == QUEUED
    assert wire("EXEC") == [b"v", OK, b"v"]
    assert wire("GET", "k") is None


def test_a_watched_key_that_expires_fails_the_transaction(wire: Wire) -> None:
    assert wire("SET", "k", "v", "PX", 60_000) == OK
    assert wire("WATCH", "k") == OK
    shift(wire, "wall", 120_000)
    assert wire("MULTI") == OK
    assert wire("PING") == QUEUED
    assert wire("EXEC") is NULL_ARRAY
