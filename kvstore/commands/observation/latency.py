"""LATENCY: slow events, their times, and advice about them.

The monitor (kvstore/observe/latency.py) remembers single events that took latency-monitor-threshold milliseconds or
more.  The histograms (kvstore/observe/histogram.py) count every call of every command.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvstore.commands.table import find
from kvstore.observe.latency import EVENTS, Series
from kvstore.observe.sparkline import sparkline
from kvstore.system.clock import wall_us
from kvstore.wire.reply import CommandError, Reply, Verbatim
from kvstore.wire.words import text

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

_GRAPH_COLUMNS, _GRAPH_ROWS = 80, 4


def _series(server: "Server", event: str) -> Series | None:
    return next((series for series in server.latency.series() if series.event == event), None)


def latency_latest(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """LATENCY LATEST"""
    return [[series.event, *series.samples[-1], series.longest_ms] for series in server.latency.series()]


def latency_history(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """LATENCY HISTORY event"""
    series = _series(server, text(args[2]))
    return [list(sample) for sample in series.samples] if series else []


def latency_reset(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """LATENCY RESET [event ...]"""
    events = [text(arg).lower() for arg in args[2:]] or EVENTS
    return sum(server.latency.reset(event) for event in events)


def latency_histogram(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """LATENCY HISTOGRAM [command ...]"""
    histograms = server.histograms()
    names = list(histograms)
    if len(args) > 2:
        rows = [row for row in map(find, args[2:]) if row]
        names = [one.name for row in rows for one in (row, *row.subcommands)]
    reply: dict[str, Reply] = {}
    for name in names:
        if name in histograms:
            pairs: dict[int, Reply] = dict(histograms[name].cumulated())
            reply[name] = {"calls": histograms[name].calls, "histogram_usec": pairs}
    return reply


# ---------------------------------------------------------------------------------------------------- for people


def _now_s(server: "Server") -> int:
    return wall_us(server.registers) // 1_000_000


def _ago(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def latency_graph(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """LATENCY GRAPH event"""
    event = text(args[2])
    series = _series(server, event)
    if series is None:
        raise CommandError(f"ERR No samples available for event '{event}'")
    durations = series.durations_ms
    labels = [_ago(_now_s(server) - when) for when, _ in series.samples]
    return Verbatim(
        f"{event} - high {max(durations)} ms, low {min(durations)} ms (all time high {series.longest_ms} ms)\n"
        f"{'-' * _GRAPH_COLUMNS}\n{sparkline(durations, labels, _GRAPH_ROWS, _GRAPH_COLUMNS)}"
    )


_NOT_WATCHED = (
    'The latency monitor is off: "CONFIG SET latency-monitor-threshold <milliseconds>" turns it on, and from then on '
    "events that take as long are remembered. LATENCY HISTOGRAM needs no threshold.\n"
)
_NOTHING_FOUND = "No event has taken as long as latency-monitor-threshold, {} ms, since the monitor was turned on.\n"


def _about(number: int, series: Series, now_s: int) -> str:
    durations, count = series.durations_ms, len(series.samples)
    mean = sum(durations) / count
    deviation = sum(abs(duration - mean) for duration in durations) / count
    period = max(1, now_s - series.samples[0][0]) / count
    return (
        f"{number}. {series.event}: {count} latency spikes (average {mean:.0f}ms, mean deviation {deviation:.0f}ms, "
        f"period {period:.2f} sec). Worst all time event {series.longest_ms}ms."
    )


def _advice(server: "Server", found: set[str]) -> Iterator[str]:
    config = server.config
    threshold_us, slow_us = 1000 * config["latency-monitor-threshold"], config["slowlog-log-slower-than"]
    if "command" in found:
        if slow_us < 0 or config["slowlog-max-len"] == 0:
            yield (
                "The slow log is off, so it cannot tell which commands these were: "
                f"'CONFIG SET slowlog-log-slower-than {threshold_us}', and slowlog-max-len above 0."
            )
        elif slow_us > threshold_us:
            yield (
                "The slow log only keeps commands slower than what is monitored here: "
                f"'CONFIG SET slowlog-log-slower-than {threshold_us}'."
            )
        yield "'SLOWLOG GET' tells which commands took long, and with which arguments."
        yield (
            "KEYS, FLUSHDB beside other databases, and commands with very many keys or very long values take time in "
            "proportion: SCAN instead of KEYS, and several smaller commands, let others in between."
        )
    if "fast-command" in found:
        yield (
            "A command that is fast by itself takes long when the process does not get a processor or its memory is "
            "swapped out: 'redis-cli --intrinsic-latency 100' on this machine shows how long it is kept from running."
        )
    if "fork" in found:
        if config["fork-mode"] == "constant":
            yield "The fork here copies one page, so the system was slow: look for what else runs on this machine."
        else:
            yield f"A fork of mode {config['fork-mode']} copies page tables, 'CONFIG SET fork-mode constant' a page."
    if "eviction-cycle" in found:
        yield "Eviction takes long: a larger maxmemory, or a lower maxmemory-eviction-tenacity, lets others in between."
    if "expire-cycle" in found:
        yield "Many keys expire at the same time: some random seconds added to each deadline spread the work."


def latency_doctor(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """LATENCY DOCTOR"""
    threshold_ms, known = server.config["latency-monitor-threshold"], server.latency.series()
    if not known:
        return Verbatim(_NOTHING_FOUND.format(threshold_ms) if threshold_ms else _NOT_WATCHED)
    lines = ["Events that took long:", ""]
    lines += [_about(number, series, _now_s(server)) for number, series in enumerate(known, 1)]
    lines += ["", "What may help:", ""]
    lines += [f"- {line}" for line in _advice(server, {series.event for series in known})]
    return Verbatim("".join(f"{line}\n" for line in lines))
