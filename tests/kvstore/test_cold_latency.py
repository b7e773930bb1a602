"""LATENCY without a loop: the monitor's rings, and the reports about them."""

from array import array

import pytest

from kvstore.observe.latency import (
    COMMAND_EVENT,
    EVENTS,
    EXPIRE_EVENT,
    FAST_COMMAND_EVENT,
    FORK_EVENT,
    SAMPLES,
    LatencyMonitor,
    latency_sample,
)
from kvstore.wire.reply import CommandError, Verbatim
from tests.kvstore.bare import Bare
from tests.kvstore.cold import FakeClient, FakeServer, ask

NOW_S = 1_700_000_000


class Watched:
    """A monitor, and a store whose clock is moved by hand."""

    def __init__(self, store: Bare, threshold_ms: int) -> None:
        self.bare, self.monitor = store, LatencyMonitor()
        store.registers.LATENCY_ADDRESS = self.monitor.rings.address
        store.registers.LATENCY_MS = threshold_ms

    def happens(self, event: int, duration_ms: int, at_s: int) -> None:
        self.bare.clock_ms = 1000 * at_s
        latency_sample(self.bare.context, event, duration_ms)


def test_what_is_below_the_threshold_is_not_remembered() -> None:
    with Bare() as store:
        watched = Watched(store, 5)
        watched.happens(COMMAND_EVENT, 4, NOW_S)
        assert watched.monitor.series() == []
        watched.happens(COMMAND_EVENT, 5, NOW_S)
        (series,) = watched.monitor.series()
        assert (series.event, series.samples, series.longest_ms) == ("command", [(NOW_S, 5)], 5)


def test_without_a_threshold_nothing_is_remembered() -> None:
    with Bare() as store:
        watched = Watched(store, 0)
        watched.happens(COMMAND_EVENT, 5000, NOW_S)
        assert watched.monitor.series() == []


def test_of_one_second_only_the_slowest_is_kept() -> None:
    with Bare() as store:
        watched = Watched(store, 1)
        for duration_ms in (7, 9, 8):
            watched.happens(FORK_EVENT, duration_ms, NOW_S)
        watched.happens(FORK_EVENT, 3, NOW_S + 1)
        (series,) = watched.monitor.series()
        assert (series.event, series.samples, series.longest_ms) == ("fork", [(NOW_S, 9), (NOW_S + 1, 3)], 9)


def test_the_oldest_samples_go_and_the_longest_stays_known() -> None:
    with Bare() as store:
        watched = Watched(store, 1)
        watched.happens(EXPIRE_EVENT, 1000, NOW_S)
        for second in range(1, SAMPLES + 3):
            watched.happens(EXPIRE_EVENT, second, NOW_S + second)
        (series,) = watched.monitor.series()
        assert series.samples == [(NOW_S + second, second) for second in range(3, SAMPLES + 3)]
        assert series.longest_ms == 1000


def test_kinds_of_event_are_forgotten_by_name() -> None:
    with Bare() as store:
        watched = Watched(store, 1)
        for event in range(len(EVENTS)):
            watched.happens(event, 10, NOW_S)
        assert [series.event for series in watched.monitor.series()] == list(EVENTS)
        assert watched.monitor.reset("fork")
        assert not watched.monitor.reset("fork")
        assert not watched.monitor.reset("nosuch")
        assert [series.event for series in watched.monitor.series()] == [
            "command",
            "fast-command",
            "expire-cycle",
            "eviction-cycle",
        ]


# ------------------------------------------------------------------------------------------------------- what is said


def server(*events: tuple[int, list[tuple[int, int]]], **settings: str) -> FakeServer:
    """A server that remembers these events: (kind, [(seconds ago, ms)])."""
    found = FakeServer(**settings)
    now_s = int(found.registers.NOW_MS) // 1000
    with Bare() as store:
        watched = Watched(store, 1)
        for event, samples in events:
            for ago, duration_ms in samples:
                watched.happens(event, duration_ms, now_s - ago)
        found.latency = watched.monitor
    return found


def said(found: FakeServer, *words: str) -> str:
    reply = ask(found, FakeClient(1), "LATENCY", *words)
    assert isinstance(reply, Verbatim)
    return str(reply)


def test_the_doctor_says_how_to_turn_the_monitor_on() -> None:
    assert "latency-monitor-threshold" in said(server(), "DOCTOR")
    assert "as long as latency-monitor-threshold, 3 ms" in said(server(latency_monitor_threshold="3"), "DOCTOR")


ADVICE = [
    (COMMAND_EVENT, {"slowlog_log_slower_than": "-1"}, "slow log is off", "only keeps"),
    (COMMAND_EVENT, {"slowlog_max_len": "0"}, "slow log is off", "only keeps"),
    (COMMAND_EVENT, {"slowlog_log_slower_than": "10000"}, "'CONFIG SET slowlog-log-slower-than 2000'", "is off"),
    (COMMAND_EVENT, {"slowlog_log_slower_than": "2000"}, "SLOWLOG GET", "CONFIG SET slowlog"),
    (FAST_COMMAND_EVENT, {}, "--intrinsic-latency", "SLOWLOG GET"),
    (FORK_EVENT, {"fork_mode": "classic"}, "'CONFIG SET fork-mode constant'", "copies one page, so"),
    (FORK_EVENT, {}, "copies one page, so", "CONFIG SET fork-mode"),
    (EXPIRE_EVENT, {}, "expire at the same time", "SLOWLOG GET"),
]


@pytest.mark.parametrize(("event", "settings", "there", "missing"), ADVICE)
def test_the_doctor_advises_by_what_happened_and_what_is_configured(
    event: int, settings: dict[str, str], there: str, missing: str
) -> None:
    found = server((event, [(0, 20)]), latency_monitor_threshold="2", **settings)
    report = said(found, "DOCTOR")
    assert f"1. {EVENTS[event]}: 1 latency spikes (average 20ms, mean deviation 0ms" in report
    assert "Worst all time event 20ms." in report
    assert there in report
    assert missing not in report


def test_a_histogram_is_answered_by_name_in_any_case() -> None:
    reply = {"get": {"calls": 4, "histogram_usec": {1: 3, 8: 4}}}
    assert ask(FakeServer(), FakeClient(1), "LATENCY", "HISTOGRAM") == reply
    assert ask(FakeServer(), FakeClient(1), "LATENCY", "HISTOGRAM", "GeT", "nosuch", "set") == reply
    assert ask(FakeServer(), FakeClient(1), "LATENCY", "HISTOGRAM", "set") == {}


def test_a_graph_needs_samples() -> None:
    with pytest.raises(CommandError, match="ERR No samples available for event 'fork'"):
        ask(server(), FakeClient(1), "LATENCY", "GRAPH", "fork")


def test_the_rings_are_read_oldest_first() -> None:
    monitor = LatencyMonitor()
    assert monitor.rings.shape == (len(EVENTS), 2 + 2 * SAMPLES)
    monitor.rings.row(0)[:6] = array("q", [0, 9, 2, 5, 1, 9])  # the next sample goes where the one of second 2 is
    monitor.rings[0, 0] = 1
    assert monitor.series()[0].samples == [(1, 9), (2, 5)]
