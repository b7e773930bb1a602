"""How long does a fork stop its caller, by the amount of memory?

Method.  A space whose pages have all been written is forked in every mode, and the child is released, `repetitions`
times; the modes take turns.  Each turn has a fork "from Python", which times all of AddressSpace.fork, and one "in the
kernel", where compiled code reads the clock before and after the fork.  An uncounted fork of the same mode precedes the
second one, so that the caches hold the code and data of that mode and not of the others.  Huge pages are measured in a
separate space, forked classically.  For comparison, os.fork is measured in a fresh process with as much touched private
memory (osfork.py).  Straight lines are fitted through the medians.

For larger sizes the page tables are real and full, but the pages are the same 1 GiB of pages over and over
(machine.py).  For these sizes the report gives the cost of forks, but not of writes after them.

Units: us.

Sources of error: memory that was never touched, because then there are no tables to copy; a first call that compiles;
another process on the same cores, which affects the worst of the repetitions but not the median.  Pages are not written
again between repetitions, for any fork, so each fork finds them write-protected by the previous one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from bench.reporting.paper import FORK_RATIO, FORK_US, SOURCE
from bench.reporting.report import Report, Say, largest, line, median, pair, ratio, say, worst
from bench.rig import osfork
from bench.rig.machine import (
    ELAPSED,
    GIB,
    MODES,
    aliased,
    clock_note,
    new_clock,
    page_fault_ns,
    timed_fork,
    written,
)
from mmcore.paging import HUGE_SIZE
from mmcore.release import release
from mmcore.space import AddressSpace, ForkMode

SIZES_GIB = (0.5, 1.0, 2.0, 4.0, 8.0)
ALIASED_GIB = (16.0, 50.0, 1024.0)
PART_GIB = 1.0  # the part of an aliased size that is written
SMOKE: dict[str, Any] = {
    "sizes_gib": (1 / 64, 1 / 32),
    "aliased_gib": (1 / 16, 1 / 8),
    "part_gib": 1 / 32,
    "repetitions": 3,
}
WARM = 1  # uncounted forks in the kernel before the counted one
LONG_GIB, LONG_REPETITIONS = 100.0, 4  # classic forks of more than this size take seconds
HUGE_MODES = {"classic, huge pages": ForkMode.CLASSIC}
KERNEL, PYTHON = "in the kernel", "from Python"


@dataclass
class Forks:
    """Times of forks [us], by subject and way of timing, and by GiB."""

    times: dict[tuple[str, str], dict[float, list[float]]] = field(default_factory=dict)

    def add(self, name: str, seen: str, gib: float, elapsed_ns: float) -> None:
        self.times.setdefault((name, seen), {}).setdefault(gib, []).append(elapsed_ns / 1000)

    def median(self, name: str, gib: float, seen: str = KERNEL) -> float | None:
        return median(self.times.get((name, seen), {}).get(gib, []))

    def worst(self, name: str, gib: float, seen: str = KERNEL) -> float | None:
        return worst(self.times.get((name, seen), {}).get(gib, []))


def fork_in_turn(space: AddressSpace, modes: dict[str, ForkMode], gib: float, repetitions: int, into: Forks) -> None:
    """Fork the space in each of the modes, again and again."""
    clock = new_clock()
    for repetition in range(repetitions):
        for name, mode in modes.items():
            if mode == ForkMode.CLASSIC and gib > LONG_GIB and repetition >= LONG_REPETITIONS:
                continue
            before = perf_counter_ns()
            child = space.fork(mode)
            into.add(name, PYTHON, gib, perf_counter_ns() - before)
            child.exit()
            for _ in range(WARM + 1):
                root = int(timed_fork(space.state, int(mode), clock))
                release(space.memory, root)
            into.add(name, KERNEL, gib, int(clock[ELAPSED]))


def run(
    sizes_gib: Sequence[float] = SIZES_GIB,
    aliased_gib: Sequence[float] = ALIASED_GIB,
    part_gib: float = PART_GIB,
    repetitions: int = 20,
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "fork",
        "How long does a fork stop its caller, by the amount of memory?",
        [
            f"{repetitions} forks of one mapping in each mode, in turn; every page written, all memory touched before",
            "in the kernel: the clock read by compiled code around the fork; from Python: AddressSpace.fork",
            f"page tables of {', '.join(f'{gib:g}' for gib in aliased_gib)} GiB: real and full, but they map the same "
            f"{part_gib:g} GiB of pages over and over",
            f"classic forks of more than {LONG_GIB:g} GiB: {LONG_REPETITIONS}",
            "os.fork: a process with as much touched private memory and nothing else, measured after ours",
            SOURCE,
        ],
        {
            "sizes_gib": list(sizes_gib),
            "aliased_gib": list(aliased_gib),
            "part_gib": part_gib,
            "repetitions": repetitions,
        },
    )
    found = Forks()
    for gib in sizes_gib:
        size = int(gib * GIB) & -HUGE_SIZE
        progress(f"fork, {gib:g} GiB")
        with written(size) as space:
            fork_in_turn(space, MODES, gib, repetitions, found)
        with written(size, huge=True) as space:
            fork_in_turn(space, HUGE_MODES, gib, repetitions, found)
        for pages, name in osfork.NAMES.items():
            progress(f"{name}, {gib:g} GiB")
            for elapsed in osfork.measure("fork", size, repetitions, pages):
                found.add(name, PYTHON, gib, elapsed)
    part = int(part_gib * GIB)
    for gib in aliased_gib:
        size = int(gib * GIB)
        progress(f"fork, page tables of {gib:g} GiB")
        with aliased(size, part) as space:
            fork_in_turn(space, MODES, gib, repetitions, found)
        if part % GIB == 0:  # whole PDs
            with aliased(size, part, huge=True) as space:
                fork_in_turn(space, HUGE_MODES, gib, repetitions, found)
    nothing = median(osfork.measure("fork", 0, repetitions, "normal")) or 0.0
    tabulate(report, found, sizes_gib, aliased_gib)
    hold(report, found, sizes_gib, aliased_gib)
    report.notes += [
        f"os.fork of a process without that memory takes {nothing / 1000:.0f} us",
        clock_note(),
    ]
    if plot:
        draw(found, [*sizes_gib, *aliased_gib], plot)
    return report


# The paper's subjects, by the corresponding subjects here.
COUNTERPARTS = {
    "classic": "fork",
    "on-demand": "on-demand-fork",
    osfork.NAMES["normal"]: "fork",
}
OURS = (*MODES, *HUGE_MODES)


def tabulate(report: Report, found: Forks, sizes_gib: Sequence[float], aliased_gib: Sequence[float]) -> None:
    """The tables: medians and worst, of written and of aliased sizes."""
    columns = [f"{gib:g} GiB" for gib in sizes_gib]
    rows = [(name, seen) for name in OURS for seen in (KERNEL, PYTHON)]
    rows += [(name, PYTHON) for name in osfork.NAMES.values()]
    table = report.table("Fork, median [us]", "what", "seen", *columns, "slope [us/GiB]", "the paper, 1 GB")
    for name, seen in rows:
        medians = [found.median(name, gib, seen) or 0.0 for gib in sizes_gib]
        paper = FORK_US.get(COUNTERPARTS.get(name, ""), {}).get(1)
        table.add(name, seen, *medians, line(sizes_gib, medians)[1], paper)
    table = report.table("Fork, worst [us]", "what", "seen", *columns)
    for name, seen in rows:
        table.add(name, seen, *(found.worst(name, gib, seen) for gib in sizes_gib))
    columns = [f"{gib:g} GiB" for gib in aliased_gib]
    table = report.table(
        "Fork of page tables whose pages are aliased, median / worst [us]",
        "what",
        "seen",
        *columns,
        "the paper, 50 GB",
    )
    for name, seen in rows[: 2 * len(OURS)]:
        cells = [pair(found.times.get((name, seen), {}).get(gib, [])) for gib in aliased_gib]
        table.add(name, seen, *cells, FORK_US.get(COUNTERPARTS.get(name, ""), {}).get(50))


def hold(report: Report, found: Forks, sizes_gib: Sequence[float], aliased_gib: Sequence[float]) -> None:
    """The figures and their bars."""
    one = 1.0 if 1.0 in sizes_gib else sizes_gib[-1]
    fifty = 50.0 if 50.0 in aliased_gib else aliased_gib[0]
    last = aliased_gib[-1]
    fault_us = page_fault_ns() / 1000
    for gib, bar, paper in ((one, 100.0, FORK_RATIO[1]), (fifty, 270.0, FORK_RATIO[50])):
        report.figure(
            f"classic fork over on-demand, {gib:g} GiB",
            ratio(found.median("classic", gib), found.median("on-demand", gib)),
            at_least=bar,
            unit=" x",
            paper=paper,
        )
    constant = [found.median("constant", gib) for gib in (one, last)]
    for gib, time in zip((one, last), constant, strict=True):
        report.figure(f"constant fork of {gib:g} GiB, in page faults", ratio(time, fault_us), at_most=2.0)
    report.figure(
        f"constant forks of {one:g} and {last:g} GiB, the slower over the faster",
        largest((ratio(*constant), ratio(*reversed(constant)))),
        at_most=1.5,
    )
    report.figure(
        f"os.fork over on-demand fork, {one:g} GiB",
        ratio(found.median(osfork.NAMES["normal"], one, PYTHON), found.median("on-demand", one)),
        at_least=1000.0,
        unit=" x",
        paper=FORK_RATIO[1],
    )
    report.figure(
        f"worst on-demand fork over median classic fork, {one:g} GiB",
        ratio(found.worst("on-demand", one), found.median("classic", one)),
        at_most=0.02,
    )
    report.notes.append(f"a page fault, median: {1000 * fault_us:.0f} ns")


def draw(found: Forks, sizes_gib: Sequence[float], path: Path) -> None:
    """Draw the medians and worst times by size, both axes logarithmic."""
    from bench.reporting.picture import figure, save

    canvas, axes = figure(1, height=4.8)
    for name, seen in (*((name, KERNEL) for name in OURS), *((name, PYTHON) for name in osfork.NAMES.values())):
        shown = [gib for gib in sizes_gib if found.median(name, gib, seen)]
        medians = [found.median(name, gib, seen) or 0.0 for gib in shown]
        above = [(found.worst(name, gib, seen) or 0.0) - m for gib, m in zip(shown, medians, strict=True)]
        axes[0].errorbar(
            shown, medians, [[0.0] * len(above), above], fmt="o-", markersize=4, linewidth=1, capsize=3, label=name
        )
    for name, marker in (("fork", "x"), ("on-demand-fork", "+")):
        axes[0].plot(*zip(*FORK_US[name].items(), strict=True), f"k{marker}", label=f"the paper, {name}")
    axes[0].set(xscale="log", yscale="log", xlabel="memory [GiB]", ylabel="fork [us], median and worst")
    axes[0].set_xticks(list(sizes_gib), [f"{gib:g}" for gib in sizes_gib])
    axes[0].minorticks_off()
    axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(canvas, path)
