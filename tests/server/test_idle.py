"""Idleness costs nothing: neither idle connections, nor polling for requests that do not come."""

from contextlib import ExitStack

from tests.harness import Process
from tests.server.conftest import Start
from tests.server.wire import OK, Wire, info, wait_until

IDLE = 300


def ticks_pass(wire: Wire, count: int) -> None:
    """Wait until the timer has run `count` times."""
    first = int(info(wire, "machine")["timer_ticks"])
    wait_until(lambda: int(info(wire, "machine")["timer_ticks"]) >= first + count, "the timer")


def looks_after_requests(wire: Wire) -> int:
    """How often the loop has polled, after some more requests."""
    for _ in range(100):
        wire("PING")
    return int(info(wire, "machine")["busy_poll_looks"])


def test_the_timer_looks_at_idle_connections_only_where_they_may_time_out(server: Process) -> None:
    with ExitStack() as stack, Wire(server.address) as wire:
        for _ in range(IDLE):
            stack.enter_context(Wire(server.address))
        before = int(info(wire, "machine")["timer_rows_swept"])
        ticks_pass(wire, 3)
        assert int(info(wire, "machine")["timer_rows_swept"]) == before
        assert wire("CONFIG", "SET", "timeout", 1000) == OK
        ticks_pass(wire, 12)
        assert int(info(wire, "machine")["timer_rows_swept"]) >= before + IDLE
        assert wire("CONFIG", "SET", "timeout", 0) == OK


def test_the_loop_looks_again_after_a_request_unless_it_is_told_not_to(tmp_path, start: Start) -> None:
    with start(tmp_path, options=("--busy-poll-usec", "0")) as server, Wire(server.address) as wire:
        for _ in range(100):
            wire("PING")
        assert info(wire, "machine")["busy_poll_looks"] == "0"
        assert wire("CONFIG", "SET", "busy-poll-usec", 200) == OK
        ticks_pass(wire, 2)  # the timer takes it over
        wait_until(lambda: looks_after_requests(wire) > 0, "a look")  # it rests while others want the processor
        machine = info(wire, "machine")
        assert int(machine["busy_poll_found"]) <= int(machine["busy_poll_looks"])


def test_a_server_that_nobody_asks_looks_for_nothing(tmp_path, start: Start) -> None:
    with start(tmp_path, options=("--busy-poll-usec", "1000")) as server, Wire(server.address) as wire:
        ticks_pass(wire, 2)
        before = info(wire, "machine")
        ticks = int(before["timer_ticks"])
        wait_until(lambda: int(info(wire, "machine")["timer_ticks"]) >= ticks + 10, "the timer", interval_s=0.5)
        after = info(wire, "machine")
        # At most one look follows each of this test's own few requests.
        asked = int(info(wire, "stats")["total_commands_processed"])
        assert int(after["busy_poll_looks"]) <= asked + 2
        assert int(after["loop_turns"]) - int(before["loop_turns"]) < 100
