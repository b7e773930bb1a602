"""The latency of requests before and during a snapshot.

Method.  A server holds the keys.  An open-loop generator (openloop.py) sends requests at a fixed rate, half SET and
half GET of uniformly random keys, over many connections.  Quiet times alternate with a BGSAVE whose end is awaited.
The latency of a request counts from the time when it was due, so a stop of the server is charged to every request that
became due during it.  "before" are the requests due before the first BGSAVE, "during" those due between any BGSAVE and
its end.  Servers are measured one after the other.  A server that does nothing (echo.py) is the floor: it shows the
cost of loopback and generator.

With --paper the load is that of the on-demand-fork paper (Zhao, Gong, Fonseca, EuroSys 2021, section 5.3.2).  A closed
loop makes it, as memtier_benchmark does: 996 MB of data, 3 connections, pipelines of 2,000, and a snapshot after every
10,000 changes.  Latency counts from the time when a request was made.

Units: ms, percentiles by HdrHistogram with 3 digits.

Sources of error: a generator that is late itself (its lateness is in the table; it runs on the same machine, with
real-time priority if permitted); too few requests during a short snapshot for a p99.99 (their number is in the table);
a rate that the server cannot sustain (then every percentile grows with the length of the run).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.reporting.report import Report, Say, Table, latencies, median, pair, ratio, say
from bench.rig.echo import echo_server
from bench.rig.load import KEY_SIZE, fill
from bench.rig.openloop import Generator, Outcome, Plan
from bench.rig.servers import SUBJECTS, Server, Taken, pause, present, server, snapshot

COLUMNS = ("p50", "p99", "p99.9", "p99.99", "max")
WARM_UP_S = 1.0
FIRST_SNAPSHOT_S = 60.0  # extra time to wait for the first snapshot of a load
SECONDS_MAX = 300.0  # limit of one server's run
BIN_MS = 10  # width of a bin of the picture
FOREVER_NS = 1 << 62

PAPER_BYTES = 996_000_000
PAPER_CONNECTIONS, PAPER_PIPELINE, PAPER_CHANGES, PAPER_SET_SHARE = 3, 2000, 10_000, 1 / 11
PAPER_FORK_MS = {"fork": 7.40, "on-demand-fork": 0.12}  # the paper's table 4
PAPER_LATENCY_MS = {"fork": (6.335, 16.255), "on-demand-fork": (4.799, 5.535)}  # p99.9 and p99.99, its table 5


@dataclass
class Run:
    """One server under load."""

    subject: str
    outcome: Outcome
    taken: list[Taken]
    quiet_from_ns: int
    server_core: float | None  # the share of a processor that the server used

    @property
    def before(self) -> np.ndarray:
        """bool[N]: whether each request was due after the warm-up and before the first snapshot."""
        return self.outcome.between(self.quiet_from_ns, self.taken[0].began_ns if self.taken else FOREVER_NS)

    @property
    def during(self) -> np.ndarray:
        """bool[N]: whether each request was due while a snapshot was taken."""
        found = np.zeros(len(self.outcome.due), bool)
        for one in self.taken:
            found |= self.outcome.between(one.began_ns, one.ended_ns)
        return found


def measure(one: Server, plan: Plan, snapshots: int, quiet_s: float) -> Run:
    """Put a server under load, and take snapshots meanwhile."""
    with Generator(plan) as generator, one.client() as client:
        started = generator.start()
        used, began = one.processor_s(), time.monotonic()
        time.sleep(WARM_UP_S + quiet_s)
        taken = []
        for _ in range(snapshots):
            taken.append(snapshot(client))
            time.sleep(quiet_s)
        core = (one.processor_s() - used) / (time.monotonic() - began)
        return Run(one.subject, generator.stop(), taken, started + int(WARM_UP_S * 1e9), core)


def measure_nothing(plan: Plan, quiet_s: float) -> Run:
    """Run the same generator against a server that does nothing."""
    with echo_server(plan.value_size) as one, Generator(replace(plan, port=one.port)) as generator:
        started = generator.start()
        time.sleep(WARM_UP_S + quiet_s)
        return Run("nothing", generator.stop(), [], started + int(WARM_UP_S * 1e9), None)


def run(
    subjects: Sequence[str] = SUBJECTS,
    keys: int = 1_000_000,
    value_size: int = 1024,
    rate: int = 20_000,
    connections: int = 50,
    snapshots: int = 3,
    quiet_s: float = 5.0,
    rival_options: Sequence[str] = (),
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "snapshot",
        "The latency of requests before and during a snapshot.",
        [
            f"open loop: {rate:,} requests a second, half SET, half GET, over {connections} connections; "
            "latency from when a request was due",
            f"{keys:,} keys of {value_size} B, random bytes; {snapshots} BGSAVEs, {quiet_s:g} s between them",
            "before: due before the first; during: due between a BGSAVE and its end",
            "nothing: a server that answers and does nothing else",
        ],
        {
            "subjects": list(subjects),
            "keys": keys,
            "value_size": value_size,
            "rate": rate,
            "connections": connections,
            "snapshots": snapshots,
            "quiet_s": quiet_s,
            "rival_options": list(rival_options),
        },
    )
    here, missing = present(subjects)
    report.notes += missing
    plan = Plan(0, rate, connections, keys, value_size, SECONDS_MAX)
    progress("the floor: a server that does nothing")
    runs = [measure_nothing(plan, quiet_s)]
    for subject in here:
        progress(f"{subject}: load {keys:,} keys")
        with server(subject, rival_options if subject == "redis" else ()) as one:
            fill(one.port, keys, value_size)
            time.sleep(WARM_UP_S)
            progress(f"{subject}: {rate:,} requests a second, {snapshots} snapshots")
            runs.append(measure(one, replace(plan, port=one.port), snapshots, quiet_s))
    _tabulate(report, runs)
    if plot:
        draw(runs, plot)
    return report


def _tabulate(report: Report, runs: Sequence[Run]) -> None:
    table = report.table("Latency [ms]", "server", "window", "requests", *COLUMNS, "server core", "generator core")
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for one in runs:
        windows = {"before": one.before, "during": one.during} if one.taken else {"–": one.before}
        for window, chosen in windows.items():
            values = latencies(one.outcome.latency[chosen])
            found.setdefault((one.subject, window), values)
            cells = [values[column] for column in COLUMNS]
            table.add(one.subject, window, int(chosen.sum()), *cells, one.server_core, one.outcome.processor_share)
    table = report.table("The generator's own lateness, a part of every latency [ms]", "server", *COLUMNS)
    for one in runs:
        values = latencies(one.outcome.lateness(one.quiet_from_ns))
        table.add(one.subject, *(values[column] for column in COLUMNS))
        if one.outcome.errors:
            report.notes.append(f"{one.subject} answered {one.outcome.errors} requests with an error")
    table = report.table(
        "Snapshots, median / worst", "server", "duration [s]", "fork [us]", "pause [us]", "copied by writes [MiB]"
    )
    for one in runs[1:]:
        table.add(
            one.subject,
            pair([t.seconds for t in one.taken]),
            pair([t.fork_us for t in one.taken]),
            pair([t.pause_us for t in one.taken]),
            pair([t.copied_bytes / 2**20 for t in one.taken]),
        )
    ours, theirs = runs[1], next((one for one in runs if one.subject == "redis"), None)
    during = found[ours.subject, "during"]["p99.9"]
    rival = found["redis", "during"]["p99.9"] if theirs else None
    report.figure("p99.9 during BGSAVE, over redis-server's", ratio(during, rival), at_most=0.2)
    report.figure(
        "p99.9 during BGSAVE, over the same before it",
        ratio(during, found[ours.subject, "before"]["p99.9"]),
        at_most=2.0,
    )
    durations = [median(t.seconds for t in one.taken) if one else None for one in (ours, theirs)]
    report.figure("duration of BGSAVE, over redis-server's", ratio(durations[0], durations[1]), at_most=0.5)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the slowest request of each 10 ms over time, one panel per server, snapshots shaded."""
    from bench.reporting.picture import COLOURS, figure, save

    shown = [one for one in runs if one.taken]
    canvas, axes = figure(len(shown), height=0.8 + 1.7 * len(shown))
    for one, panel in zip(shown, axes, strict=True):
        start = one.taken[0].began_ns
        chosen = one.outcome.due >= one.quiet_from_ns
        bins = (one.outcome.due[chosen] - one.quiet_from_ns) // (BIN_MS * 1_000_000)
        slowest = np.zeros(int(bins.max(initial=0)) + 1)
        np.maximum.at(slowest, bins, one.outcome.latency[chosen] / 1e6)
        seconds = (one.quiet_from_ns - start) / 1e9 + np.arange(len(slowest)) * BIN_MS / 1000
        for i, taken in enumerate(one.taken):
            edges = ((taken.began_ns - start) / 1e9, (taken.ended_ns - start) / 1e9)
            panel.axvspan(*edges, color="#e4e9f2", label="BGSAVE under way" if i == 0 else None)
        panel.plot(seconds, slowest, linewidth=0.7, color=COLOURS[one.subject])
        panel.set(yscale="log", ylabel="ms")
        title = "redis-server" if one.subject == "redis" else f"this server, fork-mode {one.subject}"
        panel.set_title(f"{title}: slowest request of every {BIN_MS} ms", loc="left", fontsize=9)
    axes[0].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("seconds since the first BGSAVE")
    save(canvas, path)


# ----------------------------------------------------------------------------------------------------- the paper's load


@dataclass
class PaperRun:
    """One server under the paper's load."""

    subject: str
    saving: Outcome
    quiet: Outcome
    forks_us: list[float]
    pauses_us: list[float]


def measure_paper(one: Server, plan: Plan, seconds: float) -> PaperRun:
    """Measure under closed-loop load without snapshots, then with one after every 10,000 changes."""

    def load(save: str) -> tuple[Outcome, list[float], list[float]]:
        client.command("CONFIG", "SET", "save", save)
        forks: list[float] = []
        pauses: list[float] = []
        seen = client.info("persistence").get("rdb_saves")
        with Generator(plan) as generator:
            generator.start()
            ends = time.monotonic() + seconds
            while True:
                missing = save and not forks  # wait for the first snapshot, even after all requests are answered
                if time.monotonic() > ends + (FIRST_SNAPSHOT_S if missing else 0):
                    break
                if not missing and not generator.alive():
                    break
                time.sleep(0.1)
                saves = client.info("persistence").get("rdb_saves")
                if saves != seen:
                    seen = saves
                    fork_us, pause_us = pause(client)
                    forks.append(fork_us)
                    pauses.append(pause_us)
            outcome = generator.stop()
        client.command("CONFIG", "SET", "save", "")
        return outcome, forks, pauses

    with one.client() as client:
        quiet, _, _ = load("")
        saving, forks, pauses = load(f"1 {PAPER_CHANGES}")
    return PaperRun(one.subject, saving, quiet, forks, pauses)


def run_paper(
    subjects: Sequence[str] = SUBJECTS,
    data_bytes: int = PAPER_BYTES,
    value_size: int = 1024,
    seconds: float = 20.0,
    requests_max: int = 12_000_000,
    rival_options: Sequence[str] = (),
    progress: Say = say,
) -> Report:
    """Measure under the paper's load."""
    keys = data_bytes // (value_size + KEY_SIZE)
    report = Report(
        "snapshot --paper",
        "The paper's measurement of Redis (EuroSys 2021, section 5.3.2): what is gained by forking on demand?",
        [
            f"closed loop: {PAPER_CONNECTIONS} connections, pipelines of {PAPER_PIPELINE:,}, one SET to ten GETs, "
            f"{seconds:g} s; latency from when a request was made",
            f"{data_bytes / 1e6:,.0f} MB in {keys:,} keys of {value_size} B; "
            f"a snapshot at every {PAPER_CHANGES:,} changes, at most one a second",
            "the paper: Redis 6.0.6, EPYC 7302P, Linux 5.6.19, memtier_benchmark",
        ],
        {"subjects": list(subjects), "data_bytes": data_bytes, "value_size": value_size, "seconds": seconds},
    )
    here, missing = present(subjects)
    report.notes += missing
    plan = Plan(
        0,
        0,
        PAPER_CONNECTIONS,
        keys,
        value_size,
        0.0,
        set_share=PAPER_SET_SHARE,
        pipeline=PAPER_PIPELINE,
        requests_max=requests_max,
    )
    runs = []
    for subject in here:
        progress(f"{subject}: load {keys:,} keys")
        with server(subject, rival_options if subject == "redis" else ()) as one:
            fill(one.port, keys, value_size)
            progress(f"{subject}: the paper's load, {2 * seconds:g} s")
            runs.append(measure_paper(one, replace(plan, port=one.port), seconds))
    table = report.table("Time of the fork (the paper's table 4)", "server", "snapshots", "fork [ms]", "pause [ms]")
    for found in runs:
        forks = median(found.forks_us)
        stopped = median(found.pauses_us)
        table.add(
            found.subject,
            len(found.forks_us),
            forks / 1000 if forks is not None else None,
            stopped / 1000 if stopped is not None else None,
        )
    for name, fork_ms in PAPER_FORK_MS.items():
        table.add(f"the paper, {name}", None, fork_ms, None)
    table = report.table(
        "Latency with snapshots (the paper's table 5) [ms]",
        "server",
        "requests a second",
        "p50",
        "p99.9",
        "p99.99",
        "max",
    )
    _paper_rows(table, [(found.subject, found.saving) for found in runs])
    for name, (p999, p9999) in PAPER_LATENCY_MS.items():
        table.add(f"the paper, {name}", None, None, p999, p9999, None)
    table = report.table(
        "The same without snapshots [ms]", "server", "requests a second", "p50", "p99.9", "p99.99", "max"
    )
    _paper_rows(table, [(found.subject, found.quiet) for found in runs])
    return report


def _paper_rows(table: Table, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    for subject, outcome in outcomes:
        values = latencies(outcome.latency)
        rate = len(outcome.due) / (np.ptp([outcome.due, outcome.answered]) / 1e9) if len(outcome.due) else None
        table.add(subject, rate, values["p50"], values["p99.9"], values["p99.99"], values["max"])
