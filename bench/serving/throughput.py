"""How many commands per second does this server answer, compared with redis-server, by the depth of the pipeline?

Method.  Both servers run at the same time, with the same keys loaded.  redis-benchmark drives them alternately, so that
a slow minute of the machine hits both.  The figure is the median of the ratios of neighbouring runs.  The table also
shows the share of a core that the server used: near 1.0 the server is the bottleneck; well below it the client or the
network stack is, and then the ratio tells little about the server.

Units: requests per second; ratios have none.

Sources of error: a client that is the bottleneck (see above); competition of the servers for the page cache (neither
saves here); a first run that warms the caches for the later ones (a short run precedes).
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from bench.reporting.report import Report, Say, median, say
from bench.rig.load import fill
from bench.rig.redisbenchmark import redis_benchmark
from bench.rig.servers import DEFAULT, Server, present, server

PIPELINES = (1, 16, 64)
BARS = {1: 1.0, 16: 1.5}
REQUESTS = {1: 200_000, 16: 1_000_000, 64: 2_000_000}


def run(
    subjects: Sequence[str] = (DEFAULT, "redis"),
    pipelines: Sequence[int] = PIPELINES,
    tests: Sequence[str] = ("get", "set"),
    rounds: int = 5,
    keys: int = 1_000_000,
    value_size: int = 64,
    clients: int = 50,
    scale: float = 1.0,
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Measure; `scale` multiplies the number of requests."""
    report = Report(
        "throughput",
        "How many commands a second, beside redis-server, by the depth of the pipeline?",
        [
            f"redis-benchmark, {clients} clients, {value_size} B values, {keys:,} keys; both servers run at once",
            f"{rounds} rounds in turn, first {subjects[0]}; the ratio is the median of the rounds' ratios",
            "core: the share of one processor that the server used meanwhile",
        ],
        {"subjects": list(subjects), "rounds": rounds, "keys": keys, "value_size": value_size, "clients": clients},
    )
    if not shutil.which("redis-benchmark"):
        report.notes.append("redis-benchmark is not installed; nothing was measured")
        return report
    here, missing = present(subjects)
    report.notes += missing
    rates: dict[tuple[int, str, int], list[float]] = {}  # by (subject's index, test, pipeline)
    cores: dict[tuple[int, str, int], list[float]] = {}
    with ExitStack() as stack:
        running: list[Server] = []
        for subject in here:
            progress(f"start {subject}, load {keys:,} keys")
            running.append(stack.enter_context(server(subject)))
            fill(running[-1].port, keys, value_size)
            redis_benchmark(running[-1].port, tests, max(1000, int(20_000 * scale)), 16, clients, keys, value_size)
        for pipeline in pipelines:
            requests = max(1000, int(REQUESTS.get(pipeline, 1_000_000) * scale))
            for round_ in range(rounds):
                progress(f"pipeline {pipeline}, round {round_ + 1} of {rounds}")
                for test in tests:
                    for place, one in enumerate(running):
                        used, began = one.processor_s(), monotonic()
                        found = redis_benchmark(one.port, [test], requests, pipeline, clients, keys, value_size)
                        core = (one.processor_s() - used) / (monotonic() - began)
                        for name, rate in found.items():
                            rates.setdefault((place, name, pipeline), []).append(rate)
                            cores.setdefault((place, name, pipeline), []).append(core)
    a, b = subjects[0], subjects[-1]
    table = report.table(
        "Requests a second, median",
        "test",
        "pipeline",
        f"{a} (A)",
        f"{b} (B)",
        "A / B",
        "core A",
        "core B",
        "A / B, rounds",
    )
    ratios: dict[tuple[str, int], float | None] = {}
    for name, pipeline in dict.fromkeys((name, pipeline) for _, name, pipeline in rates):
        ours, theirs = rates[0, name, pipeline], rates.get((1, name, pipeline), [])
        pairs = [x / y for x, y in zip(ours, theirs, strict=False)]
        ratios[name, pipeline] = median(pairs)
        table.add(
            name,
            pipeline,
            median(ours),
            median(theirs),
            median(pairs),
            median(cores[0, name, pipeline]),
            median(cores.get((1, name, pipeline), [])),
            " ".join(f"{pair:.2f}" for pair in pairs) or None,
        )
    for (name, pipeline), value in ratios.items():
        if pipeline in BARS and name in ("GET", "SET"):
            report.figure(f"{name}, pipeline {pipeline}, over redis-server", value, at_least=BARS[pipeline], unit=" ×")
    if plot:
        draw(report, ratios, plot)
    return report


def draw(report: Report, ratios: dict[tuple[str, int], float | None], path: Path) -> None:
    """Draw a bar for each ratio."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=0.5 + 0.4 * max(4, len(ratios)))
    names = [f"{name}, pipeline {pipeline}" for name, pipeline in ratios]
    axes[0].barh(names, [value or 0.0 for value in ratios.values()], color=COLOURS[DEFAULT])
    axes[0].axvline(1.0, color=COLOURS["redis"])
    axes[0].invert_yaxis()
    axes[0].set(xlabel="requests a second, over redis-server's", title=report.question)
    save(canvas, path)
