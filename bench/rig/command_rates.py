"""How many commands a second, and at what processor time each: the part that the benchmarks of commands share.

Method.  All servers run at once, with the same data loaded.  redis-benchmark drives them in turn, command after command
and round after round.  Data that a command changes are made anew before each run, outside the clock.  A run's processor
time is that of the server's process; divided by the number of commands it is the cost of one.  It includes the system's
share: receiving and sending.  Ratios are the medians of the rounds' ratios.

Units: requests per second; ns of processor time per command; ratios have none.

Sources of error: a client that is the bottleneck, as redis-benchmark is when it parses long replies (the column "core"
has the share of a processor that the server used: well below 1.0 the ratio of rates tells little, and that of processor
times still does); processors shared with other work; runs shorter than a second.
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic

from bench.reporting.report import Report, Say, Table, median
from bench.rig.client import Client, ReplyError
from bench.rig.redisbenchmark import ClientFailed, rates_of
from bench.rig.servers import Server, server

PIPELINE = 16
RATE_BAR, PROCESSOR_BAR = 1.5, 0.9
RAND = "__rand_int__"  # redis-benchmark puts twelve digits in its place


@dataclass(frozen=True)
class Driven:
    """A command as redis-benchmark sends it."""

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Client], None]  # makes its data
    requests: int  # of a run
    highest: int  # below which the numbers of RAND are
    again: bool = False  # whether each run needs its data anew
    pipeline: int = PIPELINE


@dataclass(frozen=True)
class Run:
    """The figures of one run."""

    rate: float  # requests a second
    cost_ns: float  # processor time a command
    core: float  # share of a processor


def run_once(one: Server, driven: Driven, clients: int) -> Run:
    """One run of redis-benchmark.  Raises ClientFailed."""
    options = {"-p": one.port, "-n": driven.requests, "-P": driven.pipeline, "-c": clients, "-r": driven.highest}
    command = ["redis-benchmark", "--csv", *(str(word) for pair in options.items() for word in pair), *driven.words]
    used, began = one.processor_ns(), monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ClientFailed(f"redis-benchmark did not end within 600 s: {driven.name}") from error
    took, spent = monotonic() - began, one.processor_ns() - used
    (rate,) = rates_of(done).values()
    return Run(rate, spent / driven.requests, spent / 1e9 / took)


def measure(
    report: Report, here: Sequence[str], commands: Sequence[Driven], rounds: int, clients: int, progress: Say
) -> None:
    """Measure these commands: a table, and two figures for each command."""
    if not shutil.which("redis-benchmark"):
        report.notes.append("redis-benchmark is not installed; no throughput was measured")
        return
    found: dict[tuple[str, str], list[Run]] = {}
    with ExitStack() as stack:
        running = [stack.enter_context(server(subject)) for subject in here]
        for driven in commands:
            progress(f"throughput, {driven.name}")
            _in_rounds(report, running, driven, rounds, clients, found)
    table = report.table("Requests a second, median; processor time a command [ns], median",
                         "command", *(f"{s}{what}" for s in here for what in ("", ", processor", ", core")),
                         "over redis", "processor over valkey")  # fmt: skip
    for driven in commands:
        _row(report, table, driven.name, here, found)


def _in_rounds(
    report: Report,
    running: Sequence[Server],
    driven: Driven,
    rounds: int,
    clients: int,
    found: dict[tuple[str, str], list[Run]],
) -> None:
    lacking = set()
    for round_ in range(rounds):
        for one in running:
            if one.subject in lacking:
                continue
            try:
                if round_ == 0 or driven.again:
                    with one.client() as client:
                        driven.prepare(client)
                found.setdefault((driven.name, one.subject), []).append(run_once(one, driven, clients))
            except (ReplyError, ClientFailed) as error:
                lacking.add(one.subject)
                report.notes.append(f"{one.subject}, {driven.name}: {str(error)[:100]}")


def _row(report: Report, table: Table, name: str, here: Sequence[str], found: dict[tuple[str, str], list[Run]]) -> None:
    def ratios(rival: str, what: str) -> float | None:
        ours, theirs = found.get((name, here[0]), []), found.get((name, rival), [])
        return median(getattr(a, what) / getattr(b, what) for a, b in zip(ours, theirs, strict=False))

    runs = [found.get((name, subject), []) for subject in here]
    cells = [median(getattr(run, what) for run in of) for of in runs for what in ("rate", "cost_ns", "core")]
    rate, processor = ratios("redis", "rate"), ratios("valkey", "cost_ns")
    table.add(name, *cells, rate, processor)
    report.figure(f"{name}, requests a second over redis-server's", rate, at_least=RATE_BAR, unit=" ×")
    report.figure(f"{name}, processor time over Valkey's", processor, at_most=PROCESSOR_BAR, unit=" ×")
