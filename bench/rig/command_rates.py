"""How many commands a second, and at what processor time each: the part that the benchmarks of commands share.

Method.  All servers run at once, with the same data loaded.  Two clients drive them in turn, command after command and
round after round: redis-benchmark, which is foreign to all of them, and the light client (lightclient.py), beside which
the server is the limit.  The rates that are compared with a bar are those of the light client; processor times are
those of redis-benchmark's runs.  Data that a command changes are made anew before each run, outside the clock.  A run's
processor time is that of the server's process; divided by the number of commands it is the cost of one.  It includes
the system's share: receiving and sending.  Ratios are the medians of the rounds' ratios.

Units: requests per second; ns of processor time per command; ratios have none.

Sources of error: a client that is the bottleneck, as redis-benchmark is when it parses long replies (the columns "core"
have the share of a processor that the server used: well below 1.0 a ratio of rates tells little, and that of processor
times still does); processors shared with other work; runs shorter than a second.
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic

from bench.reporting.report import Report, Say, median
from bench.rig.client import Client, ReplyError
from bench.rig.lightclient import ClientBroke, rate_of
from bench.rig.redisbenchmark import ClientFailed, rates_of
from bench.rig.servers import Server, server

PIPELINE = 16
RATE_BAR, PROCESSOR_BAR = 1.5, 0.9
BENCHMARK, LIGHT = "redis-benchmark", "light"  # the clients


@dataclass(frozen=True)
class Driven:
    """A command as the clients send it."""

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


def _rate_of_benchmark(port: int, driven: Driven, clients: int) -> float:
    options = {"-p": port, "-n": driven.requests, "-P": driven.pipeline, "-c": clients, "-r": driven.highest}
    command = ["redis-benchmark", "--csv", *(str(word) for pair in options.items() for word in pair), *driven.words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ClientFailed(f"redis-benchmark did not end within 600 s: {driven.name}") from error
    (rate,) = rates_of(done).values()
    return rate


def _rate_of_light(port: int, driven: Driven, clients: int) -> float:
    return rate_of(port, driven.words, driven.requests, driven.pipeline, clients, driven.highest)


_RATE_OF = {BENCHMARK: _rate_of_benchmark, LIGHT: _rate_of_light}


def run_once(one: Server, driven: Driven, client: str, clients: int) -> Run:
    """One run by one of the clients.  Raises ClientFailed and ClientBroke."""
    used, began = one.processor_ns(), monotonic()
    rate = _RATE_OF[client](one.port, driven, clients)
    took, spent = monotonic() - began, one.processor_ns() - used
    seconds = driven.requests / rate if client == LIGHT else took  # it makes its requests before its clock runs
    return Run(rate, spent / driven.requests, spent / 1e9 / seconds)


Found = dict[tuple[str, str, str], list[Run]]  # by command, subject and client


def measure(
    report: Report, here: Sequence[str], commands: Sequence[Driven], rounds: int, clients: int, progress: Say
) -> None:
    """Measure these commands: a table for each client, and two figures for each command."""
    if not shutil.which("redis-benchmark"):
        report.notes.append("redis-benchmark is not installed; no throughput was measured")
        return
    found: Found = {}
    with ExitStack() as stack:
        running = [stack.enter_context(server(subject)) for subject in here]
        for driven in commands:
            progress(f"throughput, {driven.name}")
            _in_rounds(report, running, driven, rounds, clients, found)
    for client in (BENCHMARK, LIGHT):
        table = report.table(f"{client}: requests a second; processor time a command [ns]; medians",
                             "command", *(f"{s}{what}" for s in here for what in ("", ", processor", ", core")),
                             "over redis", "processor over valkey")  # fmt: skip
        for driven in commands:
            runs = [found.get((driven.name, subject, client), []) for subject in here]
            cells = [median(getattr(run, what) for run in of) for of in runs for what in ("rate", "cost_ns", "core")]
            table.add(driven.name, *cells, *(_ratio(found, driven.name, here, client, rival, what) for rival, what in
                                             (("redis", "rate"), ("valkey", "cost_ns"))))  # fmt: skip
    for driven in commands:
        rate = _ratio(found, driven.name, here, LIGHT, "redis", "rate")
        processor = _ratio(found, driven.name, here, BENCHMARK, "valkey", "cost_ns")
        report.figure(f"{driven.name}, requests a second over redis-server's", rate, at_least=RATE_BAR, unit=" ×")
        report.figure(f"{driven.name}, processor time over Valkey's", processor, at_most=PROCESSOR_BAR, unit=" ×")


def _in_rounds(
    report: Report, running: Sequence[Server], driven: Driven, rounds: int, clients: int, found: Found
) -> None:
    lacking = set()
    for round_ in range(rounds):
        for client in (BENCHMARK, LIGHT):
            for one in running:
                if one.subject in lacking:
                    continue
                try:
                    if (round_ == 0 and client == BENCHMARK) or driven.again:
                        with one.client() as connection:
                            driven.prepare(connection)
                    run = run_once(one, driven, client, clients)
                    found.setdefault((driven.name, one.subject, client), []).append(run)
                except (ReplyError, ClientFailed, ClientBroke, OSError) as error:
                    lacking.add(one.subject)
                    report.notes.append(f"{one.subject}, {driven.name}: {str(error)[:100]}")


def _ratio(found: Found, name: str, here: Sequence[str], client: str, rival: str, what: str) -> float | None:
    ours, theirs = found.get((name, here[0], client), []), found.get((name, rival, client), [])
    return median(getattr(a, what) / getattr(b, what) for a, b in zip(ours, theirs, strict=False))
