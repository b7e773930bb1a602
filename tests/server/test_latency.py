"""LATENCY and INFO latencystats: the server's report on the durations of commands."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.wire import OK, Failure, Verbatim, Wire, info

PARAMETERS = {
    "latency-monitor-threshold": "0",
    "latency-tracking": "yes",
    "latency-tracking-info-percentiles": "50 99 99.9",
}


@pytest.fixture(autouse=True)
def as_it_was(wire: Wire) -> Iterator[None]:
    """Restores the parameters."""
    wire("CONFIG", "RESETSTAT")
    wire("LATENCY", "RESET")
    yield
    for name, value in PARAMETERS.items():
        assert wire("CONFIG", "SET", name, value) == OK
    wire("LATENCY", "RESET")


def as_map(reply: Any) -> dict[Any, Any]:
    return reply if isinstance(reply, dict) else dict(zip(reply[0::2], reply[1::2], strict=True))


def histogram(wire: Wire, *names: str) -> dict[bytes, dict[bytes, Any]]:
    found = {name: as_map(one) for name, one in as_map(wire("LATENCY", "HISTOGRAM", *names)).items()}
    for one in found.values():
        one[b"histogram_usec"] = as_map(one[b"histogram_usec"])
    return found


# ---------------------------------------------------------------------------------------------------------- histograms


def test_every_call_is_in_its_command_s_histogram(wire: Wire) -> None:
    """Subcommands have their own, in kernels and Python; the counts are cumulative, and the last one is the total."""
    for i in range(37):
        wire("SET", "k", i)
    wire("OBJECT", "ENCODING", "k")
    wire("CONFIG", "GET", "timeout")
    wire("MEMORY", "USAGE", "k")
    found = histogram(wire)
    assert found.keys() >= {b"set", b"object|encoding", b"config|get", b"memory|usage", b"config|resetstat"}
    assert b"object" not in found and b"memory" not in found and b"config" not in found and b"get" not in found
    for one in found.values():
        counts = list(one[b"histogram_usec"].values())
        assert counts == sorted(set(counts))
        assert counts[-1] == one[b"calls"]
        times = list(one[b"histogram_usec"])
        assert set(times) <= {(128 * (1024 << i) + (1024 << i)) // 128 // 1000 for i in range(40)}
        assert times == sorted(times)
    assert found[b"set"][b"calls"] == 37


def test_a_slow_call_is_where_it_belongs(wire: Wire) -> None:
    """20 ms are more than 16.9 ms, which is one of Redis's bounds."""
    wire("DEBUG", "SLEEP", "0.02")
    bounds = list(histogram(wire, "debug")[b"debug"][b"histogram_usec"])
    assert len(bounds) == 1 and bounds[0] >= 33_816


def test_names_choose_and_a_container_stands_for_its_subcommands(wire: Wire) -> None:
    """Case does not matter; commands that are unknown or were never called are left out."""
    wire("SET", "k", "v")
    wire("GET", "k")
    wire("CONFIG", "GET", "timeout")
    assert set(histogram(wire, "GET", "nosuch", "append")) == {b"get"}
    assert set(histogram(wire, "Config")) == {b"config|get", b"config|resetstat"}
    assert set(histogram(wire, "config|GET", "set")) == {b"config|get", b"set"}


def test_resetstat_empties_the_histograms(wire: Wire) -> None:
    """They then hold only later calls."""
    wire("SET", "k", "v")
    wire("CONFIG", "RESETSTAT")
    assert set(histogram(wire)) == {b"config|resetstat"}


def test_tracking_can_be_turned_off(wire: Wire) -> None:
    """As in Redis, the counts stay, but INFO shows nothing."""
    wire("SET", "k", "v")
    wire("CONFIG", "SET", "latency-tracking", "no")
    wire("SET", "k", "v")
    assert histogram(wire, "set")[b"set"][b"calls"] == 1
    assert info(wire, "latencystats") == {}
    wire("CONFIG", "SET", "latency-tracking", "yes")
    wire("SET", "k", "v")
    assert histogram(wire, "set")[b"set"][b"calls"] == 2


def test_a_transaction_is_a_call_that_lasts_as_long_as_what_it_runs(wire: Wire) -> None:
    """EXEC's time includes that of its commands."""
    wire.pipeline([("MULTI",), ("DEBUG", "SLEEP", "0.02"), ("SET", "k", "v"), ("EXEC",)])
    stats = info(wire, "commandstats")
    fields = dict(pair.split("=") for pair in stats["cmdstat_exec"].split(","))
    assert (fields["calls"], fields["failed_calls"]) == ("1", "0")
    assert int(fields["usec"]) >= 20_000
    assert min(histogram(wire, "exec")[b"exec"][b"histogram_usec"]) >= 33_816


# ------------------------------------------------------------------------------------------------------- percentiles


def test_info_latencystats_has_percentiles_of_every_command(wire: Wire) -> None:
    """They are in microseconds with three decimals, as in Redis."""
    for _ in range(100):
        wire("SET", "k", "v")
    wire("DEBUG", "SLEEP", "0.02")
    wire("OBJECT", "ENCODING", "k")
    stats = info(wire, "latencystats")
    pattern = r"p50=\d+\.\d{3},p99=\d+\.\d{3},p99\.9=\d+\.\d{3}"
    assert all(re.fullmatch(pattern, value) for value in stats.values())
    assert {"latency_percentiles_usec_set", "latency_percentiles_usec_object|encoding"} <= set(stats)
    p50, p99, p999 = (float(part.split("=")[1]) for part in stats["latency_percentiles_usec_set"].split(","))
    assert 0 < p50 <= p99 <= p999
    slept = float(stats["latency_percentiles_usec_debug"].split(",")[0].removeprefix("p50="))
    assert 20_000 <= slept < 1_000_000


def test_which_percentiles_is_configured(wire: Wire) -> None:
    """There may be any number of them, even none."""
    wire("SET", "k", "v")
    wire("CONFIG", "SET", "latency-tracking-info-percentiles", "0 12.345678 100")
    line = info(wire, "latencystats")["latency_percentiles_usec_set"]
    assert [part.split("=")[0] for part in line.split(",")] == ["p0", "p12.345678", "p100"]
    wire("CONFIG", "SET", "latency-tracking-info-percentiles", "")
    assert info(wire, "latencystats")["latency_percentiles_usec_set"] == ""


# ---------------------------------------------------------------------------------------------------------- the monitor


def test_a_slow_command_is_an_event(wire: Wire) -> None:
    """The monitor must be on for that."""
    wire("DEBUG", "SLEEP", "0.02")
    assert wire("LATENCY", "LATEST") == []
    wire("CONFIG", "SET", "latency-monitor-threshold", "10")
    before = int(time.time())
    wire("DEBUG", "SLEEP", "0.02")
    wire("CONFIG", "SET", "latency-monitor-threshold", "0")
    latest = {event[0]: event[1:] for event in wire("LATENCY", "LATEST")}
    when, last_ms, longest_ms = latest[b"command"]
    assert before <= when <= time.time()
    assert 20 <= last_ms <= longest_ms
    assert wire("LATENCY", "HISTORY", "command")[-1] == [when, last_ms]
    graph = wire("LATENCY", "GRAPH", "command")
    text = (graph.data if wire.protocol == 3 else graph).decode()
    first, line, *rows = text.splitlines()
    assert re.fullmatch(rf"command - high \d+ ms, low \d+ ms \(all time high {longest_ms} ms\)", first)
    assert line == "-" * 80
    assert rows[-1] == "s" * len(rows[-1])
    assert isinstance(graph, Verbatim if wire.protocol == 3 else bytes)
    report = wire("LATENCY", "DOCTOR")
    assert b"1. command: " in (report.data if wire.protocol == 3 else report)
    assert wire("LATENCY", "RESET", "nosuch", "COMMAND") == 1
    assert b"command" not in {event[0] for event in wire("LATENCY", "LATEST")}


def test_a_transaction_that_is_slow_is_an_event_too(wire: Wire) -> None:
    """EXEC takes as long as its commands; the slow log leaves it out, the monitor does not."""
    wire("CONFIG", "SET", "latency-monitor-threshold", "10")
    wire.pipeline([("MULTI",), ("DEBUG", "SLEEP", "0.006"), ("DEBUG", "SLEEP", "0.006"), ("EXEC",)])
    assert b"command" in {event[0] for event in wire("LATENCY", "LATEST")}


def test_the_longest_turn_is_told_while_the_monitor_is_on(wire: Wire, ours: None) -> None:
    """In processor time of the loop's thread; CONFIG RESETSTAT forgets it, and its own turn with it."""

    def longest_us() -> float:
        return float(info(wire, "machine")["loop_longest_turn_usec"])

    wire("CONFIG", "RESETSTAT")
    wire("PING")
    assert longest_us() == 0
    wire("CONFIG", "SET", "latency-monitor-threshold", "1000000")
    wire("PING")
    assert longest_us() > 0
    wire("CONFIG", "SET", "latency-monitor-threshold", "0")
    wire("CONFIG", "RESETSTAT")
    assert longest_us() == 0


REPLIES = [
    ("LATENCY",),
    ("LATENCY", "NOSUCH"),
    ("LATENCY", "LATEST"),
    ("LATENCY", "LATEST", "x"),
    ("LATENCY", "HISTORY"),
    ("LATENCY", "HISTORY", "command"),
    ("LATENCY", "HISTORY", "nosuch"),
    ("LATENCY", "RESET", "command", "nosuch"),
    ("LATENCY", "GRAPH"),
    ("LATENCY", "GRAPH", "command"),
    ("LATENCY", "GRAPH", "nosuch"),
    ("LATENCY", "DOCTOR", "x"),
    ("LATENCY", "HISTOGRAM", "nosuch", "xadd"),
    ("CONFIG", "SET", "latency-monitor-threshold", "-1"),
    ("CONFIG", "SET", "latency-tracking", "maybe"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "50 x"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "100.5"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "-1"),
    ("CONFIG", "GET", "latency-monitor-threshold"),
    ("CONFIG", "GET", "latency-tracking"),
    ("CONFIG", "GET", "latency-tracking-info-percentiles"),
]


@pytest.mark.parametrize("words", REPLIES, ids=" ".join)
def test_replies_are_those_of_redis(server, redis_server, wire: Wire, words: tuple[str, ...]) -> None:
    """Errors, settings and empty answers are equal to the byte."""
    with Wire(redis_server.address, wire.protocol) as theirs:
        theirs("LATENCY", "RESET")
        assert wire.raw(*words) == theirs.raw(*words)


def test_a_histogram_has_redis_s_form(server, redis_server, wire: Wire) -> None:
    """Names, nesting and types are equal; the numbers differ."""
    shapes = []
    with Wire(redis_server.address, wire.protocol) as theirs:
        for one in (wire, theirs):
            one("CONFIG", "RESETSTAT")
            for _ in range(3):
                one("STRLEN", "k")
            reply = one("LATENCY", "HISTOGRAM", "strlen", "config")
            shapes.append(_shape(reply))
            assert not isinstance(reply, Failure)
    assert shapes[0] == shapes[1]


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        if all(isinstance(key, int) for key in value):
            return "a map of integers"
        return {key: _shape(one) for key, one in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(one, int) for one in value):
            return "integers"
        return [_shape(one) for one in value]
    return value
