"""Do the gains for large address spaces cost small ones anything?

Method.  A space of 64 KiB to 16 MiB, every page written, is forked, and the parent writes all of it again, page by
page.  Compiled code reads the clock after the fork and at the end.  The modes take turns, `repetitions` times.  A fork
of the same mode, timed from Python, precedes each, so that the caches hold the code and data of that mode.  For
comparison, os.fork is measured in a process with as much memory; the memory of Python itself, some MiB, outweighs that
(osfork.py).

Units: us.

Sources of error: differences of tens of ns, the time of one reading of the clock; another process on the same cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, largest, median, pair, ratio, say
from bench.rig import osfork
from bench.rig.machine import KIB, MIB, MODES, clock_note, new_clock, pages_of, timed_whole, written
from mmcore.paging import PAGE_SIZE
from mmcore.release import release
from mmcore.space import AddressSpace, ForkMode

SIZES = tuple(64 * KIB << 2 * i for i in range(5))
SMOKE: dict[str, Any] = {"sizes": SIZES[:2], "repetitions": 5}
FORK, PYTHON, WHOLE = "fork, in the kernel", "fork, from Python", "fork and write all, in the kernel"


@dataclass
class Times:
    """Times [us] by measurement, mode and size."""

    of: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)

    def add(self, what: str, name: str, size: int, elapsed_ns: float) -> None:
        self.of.setdefault((what, name, size), []).append(elapsed_ns / 1000)

    def slowest(self, what: str, name: str, sizes: Sequence[int]) -> float | None:
        """The largest ratio, over all sizes, of the mode's median to the classic one."""
        return largest(ratio(median(self.of[what, name, s]), median(self.of[what, "classic", s])) for s in sizes)


def measure_once(space: AddressSpace, name: str, mode: ForkMode, size: int, into: Times) -> None:
    """Time a fork from Python, and a fork in the kernel together with all writes after it."""
    before = perf_counter_ns()
    child = space.fork(mode)
    into.add(PYTHON, name, size, perf_counter_ns() - before)
    child.exit()
    marks, page = np.zeros(2, np.int64), np.ones(PAGE_SIZE, np.uint8)
    root = int(timed_whole(space.state, int(mode), pages_of(size), PAGE_SIZE, 0, page, marks, new_clock()))
    release(space.memory, root)
    into.add(FORK, name, size, int(marks[0]))
    into.add(WHOLE, name, size, int(marks[1]))


def run(sizes: Sequence[int] = SIZES, repetitions: int = 300, plot: Path | None = None, progress: Say = say) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "small",
        "Do small address spaces pay for what large ones gain?",
        [
            f"{repetitions} forks of each size and mode, the modes in turn; every page written before and after",
            "in the kernel: the clock read by compiled code; from Python: AddressSpace.fork",
            "os.fork: a process with as much touched private memory beside its own, measured after ours",
        ],
        {"sizes": list(sizes), "repetitions": repetitions},
    )
    found = Times()
    for size in sizes:
        progress(f"small, {size // KIB} KiB")
        with written(size, size) as space:
            for _ in range(repetitions):
                for name, mode in MODES.items():
                    measure_once(space, name, mode, size, found)
        for pages, name in osfork.NAMES.items():
            for elapsed in osfork.measure("fork", size, max(3, repetitions // 10), pages):
                found.add(PYTHON, name, size, elapsed)
    columns = [f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB" for size in sizes]
    for what in (FORK, PYTHON, WHOLE):
        table = report.table(f"{what[0].upper()}{what[1:]}, median / worst [us]", "what", *columns)
        for name in (*MODES, *(osfork.NAMES.values() if what == PYTHON else ())):
            times = [found.of[what, name, size] for size in sizes]
            table.add(name, *map(pair, times))
    for what, bar in ((FORK, 1.0), (WHOLE, None)):
        for name in ("on-demand", "constant"):
            slowest = found.slowest(what, name, sizes)
            report.figure(f"{what}: {name} over classic, at the size where it is dearest", slowest, at_most=bar)
    report.notes.append(clock_note())
    if plot:
        draw(found, sizes, plot)
    return report


def draw(found: Times, sizes: Sequence[int], path: Path) -> None:
    """Draw the medians of the fork and of the whole by size, both axes logarithmic."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=4.2)
    kib = [size / KIB for size in sizes]
    for name in MODES:
        for what, style in ((FORK, "o-"), (WHOLE, "o:")):
            medians = [median(found.of[what, name, size]) or 0.0 for size in sizes]
            axes[0].plot(kib, medians, style, markersize=4, color=COLOURS[name], label=f"{name}: {what}")
    axes[0].set(xscale="log", yscale="log", xlabel="memory [KiB]", ylabel="median [us]")
    axes[0].set_xticks(kib, [f"{size:g}" for size in kib])
    axes[0].minorticks_off()
    axes[0].legend(fontsize=8)
    save(canvas, path)
