"""How much do simultaneous forks slow each other down?

Method.  One, two and three threads each have a machine with 1 GiB of written memory, and fork it at the same time.
After all have started, each thread forks and releases the child again and again for `seconds`, without the GIL;
compiled code times each fork.  The same is then done from Python, where the threads share the GIL.  All numbers of
threads and all modes take turns.  For comparison, as many processes call os.fork as often as they can (osfork.py).

Units: us.

Sources of error: with more threads than processors, the threads wait for one another; this affects the worst time, but
hardly the median.  A thread that gets no processor in all of its `seconds` makes no fork: then there is no figure, and
a note says so.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bench.reporting.paper import FORK_US, SOURCE
from bench.reporting.report import Report, Say, median, pair, ratio, say
from bench.rig import osfork
from bench.rig.machine import GIB, MODES, clock_note, new_clock, timed_forks, written
from mmcore.paging import HUGE_SIZE
from mmcore.release import CURSOR_SIZE
from mmcore.space import AddressSpace, ForkMode

SIZE_GIB = 1.0
AT_ONCE = (1, 2, 3)
SMOKE: dict[str, Any] = {"size_gib": 1 / 64, "rounds": 1, "seconds": 0.05, "repetitions": 3}
AGREED_NS = 1_000_000  # delay from the start of the last thread until all begin to fork
FORKS_MAX = 1 << 20
KERNEL, PYTHON = "in the kernel", "from Python"
COUNTERPARTS = {"classic": "fork", "on-demand": "on-demand-fork", osfork.NAMES["normal"]: "fork"}

Times = dict[tuple[str, str], dict[int, list[float]]]  # [us] by what forked and how it was timed, by how many at once


def forks_in_kernel(space: AddressSpace, mode: ForkMode, begin: int, end: int) -> list[float]:
    """Fork from `begin` to `end` [ns, monotonic clock]; the times [us]."""
    times = np.zeros(FORKS_MAX, np.int64)
    cursor = np.zeros(CURSOR_SIZE, np.int64)
    count = int(timed_forks(space.state, int(mode), begin, end, times, cursor, new_clock()))
    found: list[float] = (times[:count] / 1000).tolist()
    return found


def forks_from_python(space: AddressSpace, mode: ForkMode, begin: int, end: int) -> list[float]:
    """The same by AddressSpace.fork."""
    time.sleep(max(0, begin - time.monotonic_ns()) / 1e9)
    times = []
    while time.monotonic_ns() < end:
        before = time.perf_counter_ns()
        child = space.fork(mode)
        times.append((time.perf_counter_ns() - before) / 1000)
        child.exit()
    return times


def fork_together(
    fork: Callable[[AddressSpace, ForkMode, int, int], list[float]],
    spaces: list[AddressSpace],
    mode: ForkMode,
    seconds: float,
) -> list[float]:
    """The times of forks of these spaces, each forked by its own thread."""
    begins: list[int] = []
    started = threading.Barrier(len(spaces), lambda: begins.append(time.monotonic_ns() + AGREED_NS))

    def run_one(space: AddressSpace) -> list[float]:
        started.wait()
        return fork(space, mode, begins[0], begins[0] + int(seconds * 1e9))

    with ThreadPoolExecutor(len(spaces)) as threads:
        return [elapsed for times in threads.map(run_one, spaces) for elapsed in times]


def measure_machine(size: int, rounds: int, seconds: float, progress: Say) -> Times:
    """All modes."""
    found: Times = {}
    with ExitStack() as stack:
        spaces = [stack.enter_context(written(size)) for _ in range(max(AT_ONCE))]
        for done in range(rounds):
            progress(f"forks at once, round {done + 1} of {rounds}")
            for name, mode in MODES.items():
                for count in AT_ONCE:
                    for seen, fork in ((KERNEL, forks_in_kernel), (PYTHON, forks_from_python)):
                        times = fork_together(fork, spaces[:count], mode, seconds)
                        found.setdefault((name, seen), {}).setdefault(count, []).extend(times)
    return found


def run(
    size_gib: float = SIZE_GIB,
    rounds: int = 3,
    seconds: float = 0.5,
    repetitions: int = 20,
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "concurrent",
        "What do forks cost each other that are made at once?",
        [
            f"threads with a machine of {size_gib:g} GiB each, every page written, fork at once for {seconds:g} s; "
            f"{rounds} rounds",
            "in the kernel: each fork timed by compiled code, without the GIL; from Python: AddressSpace.fork, with it",
            f"os.fork: as many processes at once, {repetitions} forks each, measured after ours",
            SOURCE,
        ],
        {"size_gib": size_gib, "rounds": rounds, "seconds": seconds, "repetitions": repetitions},
    )
    size = int(size_gib * GIB) & -HUGE_SIZE
    found = measure_machine(size, rounds, seconds, progress)
    for pages, name in osfork.NAMES.items():
        for count in AT_ONCE:
            progress(f"{name}, {count} at once")
            times = [ns / 1000 for ns in osfork.measure("fork", size, repetitions, pages, count)]
            found.setdefault((name, PYTHON), {})[count] = times
    tell(report, found)
    report.notes.append(clock_note())
    if plot:
        draw(found, plot)
    return report


def tell(report: Report, found: Times) -> None:
    """Add the table and the figures, and a note for each number of threads that made no fork."""
    table = report.table(
        "Fork, median / worst [us]", "what", "seen", *(f"{count} at once" for count in AT_ONCE), "the paper, 1 at once"
    )
    for (name, seen), times_of in found.items():
        cells = [pair(times_of[count]) for count in AT_ONCE]
        table.add(name, seen, *cells, FORK_US.get(COUNTERPARTS.get(name, ""), {}).get(1))
        report.notes += [
            f"{name}, {seen}: no fork was made by {count} at once in the time there was"
            for count, cell in zip(AT_ONCE, cells, strict=True)
            if cell is None
        ]
    most = max(AT_ONCE)
    for key in (*((name, KERNEL) for name in MODES), (osfork.NAMES["normal"], PYTHON)):
        report.figure(
            f"{key[0]}, {most} at once over one alone, medians", ratio(median(found[key][most]), median(found[key][1]))
        )


def draw(found: Times, path: Path) -> None:
    """Draw the medians and the 99th percentiles by the number of simultaneous forks."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=4.2)
    for (name, seen), times_of in found.items():
        shown = [count for count in AT_ONCE if times_of[count]]
        medians = [float(np.median(times_of[count])) for count in shown]
        above = [float(np.percentile(times_of[count], 99)) - m for count, m in zip(shown, medians, strict=True)]
        style = "o-" if seen == KERNEL or name not in MODES else "o:"
        axes[0].errorbar(
            shown,
            medians,
            [[0.0] * len(above), above],
            fmt=style,
            markersize=4,
            capsize=3,
            color=COLOURS.get(name),
            label=f"{name}, {seen}",
        )
    axes[0].set(yscale="log", xlabel="forks at once", ylabel="fork [us], median and p99")
    axes[0].set_xticks(AT_ONCE)
    axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(canvas, path)
