"""Active expiry in a running server: it keeps up, lets other clients through, and makes room for writes."""

from collections.abc import Iterator

import pytest

from tests.harness import Process
from tests.server.wire import OK, Status, Wire, info, wait_until

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server whose wall clock these tests move."""
    with Process("kvstore", tmp_path_factory.mktemp("expiry")) as process:
        yield process


@pytest.fixture
def wire(moved: Process) -> Iterator[Wire]:
    """A connection to it, emptied."""
    with Wire(moved.address) as connection:
        assert connection("FLUSHALL") == OK
        yield connection


def fill(wire: Wire, prefix: str, count: int, *options: str | int) -> None:
    for first in range(0, count, 10_000):
        keys = range(first, min(first + 10_000, count))
        commands = [("SET", f"{prefix}:{i}", "value", *options) for i in keys]
        assert wire.pipeline(commands) == [OK] * len(keys)


def test_many_keys_expire_at_once_and_the_server_goes_on_serving(wire: Wire) -> None:
    fill(wire, "k", 200_000, "PX", HOUR_MS)
    fill(wire, "stays", 10)
    assert wire("CONFIG", "RESETSTAT") == OK
    before = info(wire)
    assert wire("DEBUG", "SHIFT-CLOCK", "WALL", 2 * HOUR_MS) == OK
    pings = 0
    while wire("DBSIZE") > 10:
        assert wire("PING") == Status("PONG")
        pings += 1
    after = info(wire)
    assert pings > 20
    assert int(after["expired_keys"]) == 200_000
    assert int(after["expire_cycle_cpu_milliseconds"]) > 0
    assert int(after["expired_time_cap_reached_count"]) > 20  # it was much more than one slice
    assert int(after["loop_turns"]) - int(before["loop_turns"]) > 40
    wait_until(lambda: info(wire, "stats")["expired_stale_perc"] == "0.00", "the average to follow")


def test_a_random_key_is_one_that_lives(wire: Wire) -> None:
    assert wire("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
    try:
        fill(wire, "dead", 150_000, "PX", HOUR_MS)
        fill(wire, "live", 2)
        assert wire("DEBUG", "SHIFT-CLOCK", "WALL", 2 * HOUR_MS) == OK
        drawn = wire.pipeline([("RANDOMKEY",)] * 50)
        assert set(drawn) == {b"live:0", b"live:1"}
        assert wire.pipeline([("MULTI",), ("RANDOMKEY",), ("EXEC",)])[2][0] in (b"live:0", b"live:1")
    finally:
        assert wire("DEBUG", "SET-ACTIVE-EXPIRE", 1) == OK


def test_a_write_is_not_refused_for_keys_that_are_dead(wire: Wire) -> None:
    """A flood of keys that live for a millisecond never meets the limit, with memory for a tenth of them."""
    used = int(info(wire, "memory")["used_memory"])
    assert wire("CONFIG", "SET", "maxmemory", used + 3_000_000) == OK
    try:
        fill(wire, "k", 200_000, "PX", 1)
        wait_until(lambda: wire("DBSIZE") == 0, "the end of them")
    finally:
        assert wire("CONFIG", "SET", "maxmemory", 0) == OK


def test_active_expiry_can_be_turned_off(wire: Wire) -> None:
    assert wire("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK
    try:
        fill(wire, "k", 1000, "PX", HOUR_MS)
        assert wire("DEBUG", "SHIFT-CLOCK", "WALL", 2 * HOUR_MS) == OK
        ticks = int(info(wire, "machine")["timer_ticks"])
        wait_until(lambda: int(info(wire, "machine")["timer_ticks"]) > ticks + 3, "ticks")
        assert wire("DBSIZE") == 1000
    finally:
        assert wire("DEBUG", "SET-ACTIVE-EXPIRE", 1) == OK
    wait_until(lambda: wire("DBSIZE") == 0, "active expiry")
