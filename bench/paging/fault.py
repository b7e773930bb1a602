"""The cost of the first access after a fork, and of the worst of all first writes.

Method.  The first part repeats the paper's Table 1.  After a fork of 1 GiB, a byte in the middle is accessed, then a
byte in another page of the same page table.  This is done `repetitions` times, each after a new fork, for reading and
for writing separately.  The first access finds a shared table.  The second finds a shared page, below a table that the
first access has copied, if the mode copies tables at all.

The second part measures the distribution.  After a fork, one byte of every page is written in random order, and each
write is timed by itself.  The modes take turns in `rounds` rounds.  The number of tables that a write copied determines
its kind:

    page          only the page: a plain copy-on-write fault, whose median in a classic fork is *a page fault*
    table, page   the page table first
    upper, too    tables above it, too: in a constant fork the first write in a PDPT or PD

Before each round the pages are laid out anew, in sequence or scattered (machine.py): the copy of a table increments the
counts of its 512 pages, and these counts are either neighbours or in 512 different places.

Percentiles are computed for each round, and the median of the rounds is shown, because a pause of the machine can hit
any mode and then appears in the p99.9 of that round.  For comparison, both parts measure the operating system's fork
(osfork.py).

Units: ns.  In the kernel: compiled code reads the clock before and after; from Python: AddressSpace.write.

Sources of error: frames never touched before (there are none, machine.py); too few writes for a p99.9; a child that has
exited, because then nothing is shared.  If the system backs physical memory with 4 KiB pages, a copy also waits for the
processor's own TLB.
"""

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.reporting.paper import FAULT_NS, FAULT_RATIO, SOURCE
from bench.reporting.report import Report, Say, median, pair, ratio, say
from bench.rig import osfork
from bench.rig.machine import (
    ADDRESS,
    GIB,
    LAYOUTS,
    MODES,
    clock_note,
    first_writes,
    lay_out,
    new_clock,
    pages_of,
    timed_fork,
    timed_reads,
    written,
)
from mmcore.paging import HUGE_SIZE
from mmcore.release import release
from mmcore.space import AddressSpace, ForkMode

SIZE_GIB = 1.0
SMOKE: dict[str, Any] = {"size_gib": 1 / 64, "repetitions": 5, "rounds": 2}
HUGE = "classic, huge pages"
SUBJECTS = (*MODES, HUGE, *osfork.NAMES.values())
COUNTERPARTS = {
    "classic": "fork",
    "on-demand": "on-demand-fork",
    HUGE: "fork, huge pages",
    osfork.NAMES["normal"]: "fork",
    osfork.NAMES["huge"]: "fork, huge pages",
}
ACCESSES = ("read, new table", "read, new page", "write, new table", "write, new page", "write, from Python")
KINDS = ("page", "table, page", "upper, too")
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


@dataclass
class Faults:
    """Times [ns] of accesses, and of all first writes of a round with the number of tables that each copied."""

    accesses: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # by subject and access
    rounds: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)  # and layout

    def of_kind(self, name: str, layout: str, kind: int) -> np.ndarray:
        """int64[N]: times of one kind, of all rounds."""
        return np.concatenate([times[np.minimum(tables, 2) == kind] for times, tables in self.rounds[name, layout]])

    def percentile(self, name: str, layout: str, percentile: float) -> float | None:
        """The median over the rounds."""
        return median(float(np.percentile(times, percentile)) for times, _ in self.rounds.get((name, layout), []))


def measure_middle(space: AddressSpace, name: str, mode: ForkMode, middle: int, into: Faults) -> None:
    """Measure the first accesses in the middle, each after a new fork."""
    pair = np.array([middle, middle + osfork.BESIDE])
    clock, reads = new_clock(), np.zeros_like(pair)
    root = int(timed_fork(space.state, int(mode), clock))
    timed_reads(space.state, pair, reads, clock)
    release(space.memory, root)
    writes, _ = first_writes(space, mode, pair)
    child = space.fork(mode)
    before = perf_counter_ns()
    space.write(middle, b"w")
    elapsed = perf_counter_ns() - before
    child.exit()
    for access, time in zip(ACCESSES, [*reads.tolist(), *writes.tolist(), elapsed], strict=True):
        into.accesses.setdefault((name, access), []).append(time)


def measure_machine(size: int, repetitions: int, rounds: int, progress: Say) -> Faults:
    """Measure the modes in turn, then classic forks of huge pages."""
    found, rng, middle = Faults(), np.random.default_rng(1), ADDRESS + size // 2 + 8
    with written(size, size) as space:
        progress("first accesses in the middle")
        for _ in range(repetitions):
            for name, mode in MODES.items():
                measure_middle(space, name, mode, middle, found)
        for done in range(rounds):
            progress(f"all first writes in random order, round {done + 1} of {rounds}")
            for layout in LAYOUTS:
                for name, mode in MODES.items():
                    lay_out(space, size, layout, rng)
                    measured = first_writes(space, mode, pages_of(size, rng))
                    found.rounds.setdefault((name, layout), []).append(measured)
    with written(size, size, huge=True) as space:
        progress("huge pages")
        for _ in range(repetitions):
            measure_middle(space, HUGE, ForkMode.CLASSIC, middle, found)
    return found


def measure_system(size: int, repetitions: int, rounds: int, into: Faults, progress: Say) -> None:
    """Measure the operating system's fork."""
    for pages, name in osfork.NAMES.items():
        progress(name)
        for times in osfork.measure("fault", size, repetitions + 1, pages)[1:]:
            for access, time in zip(ACCESSES[:-1], times, strict=True):
                into.accesses.setdefault((name, access), []).append(time)
    # In a huge page, only one of the 512 writes is a first write.
    for answer in osfork.measure("writes", size, rounds + 1, "normal")[1:]:
        times = np.array(answer)
        into.rounds.setdefault((osfork.NAMES["normal"], "its own"), []).append((times, np.zeros_like(times)))


def run(
    size_gib: float = SIZE_GIB,
    repetitions: int = 200,
    rounds: int = 7,
    plot: Path | None = None,
    progress: Say = say,
) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "fault",
        "The cost of the first access after a fork, and of the worst of all first writes.",
        [
            f"one byte in the middle of {size_gib:g} GiB, then one in another page of its table; "
            f"{repetitions} forks, the modes in turn",
            f"then every page written once in random order after a fork, {rounds} rounds, the modes in turn, the pages "
            "laid out anew for each; percentiles: the median of the rounds'",
            "in the kernel: the clock read by compiled code before and after; all memory was touched before",
            "os.fork: timed in Python, measured after ours, the first repetition left out",
            SOURCE,
        ],
        {"size_gib": size_gib, "repetitions": repetitions, "rounds": rounds},
    )
    size = int(size_gib * GIB) & -HUGE_SIZE
    found = measure_machine(size, repetitions, rounds, progress)
    measure_system(size, repetitions, rounds, found, progress)
    tabulate(report, found)
    hold(report, found)
    report.notes.append(clock_note())
    if plot:
        draw(found, plot)
    return report


def tabulate(report: Report, found: Faults) -> None:
    """The tables."""
    table = report.table(
        "One byte in the middle after a fork, median / worst [ns]", "what", *ACCESSES, "the paper, worst fault"
    )
    for name in SUBJECTS:
        cells = [pair(found.accesses.get((name, access), []), ".0f") for access in ACCESSES]
        table.add(name, *cells, FAULT_NS.get(COUNTERPARTS.get(name, "")))
    table = report.table(
        "All first writes in random order, median of the rounds [ns]", "what", "pages", "writes", *PERCENTILES
    )
    for (name, layout), rounds in found.rounds.items():
        table.add(name, layout, rounds[0][0].size, *(found.percentile(name, layout, p) for p in PERCENTILES.values()))
    table = report.table("The same by kind, all rounds together [ns]", "what", "pages", "kind", "writes", *PERCENTILES)
    for layout in LAYOUTS:
        for name in MODES:
            for kind, label in enumerate(KINDS):
                chosen = found.of_kind(name, layout, kind)
                if chosen.size:
                    tail = [float(np.percentile(chosen, p)) for p in PERCENTILES.values()]
                    table.add(name, layout, label, chosen.size, *tail)


def hold(report: Report, found: Faults) -> None:
    """The figures and their bars."""
    for layout in LAYOUTS:
        page_fault = float(np.median(found.of_kind("classic", layout, 0)))
        report.notes.append(f"a page fault, median, pages {layout}: {page_fault:.0f} ns")
        report.figure(
            f"fault that copies a table and a page, over a plain page copy, medians, pages {layout}",
            ratio(float(np.median(found.of_kind("on-demand", layout, 1))), page_fault),
            at_most=3.0,
            unit=" x",
            paper=FAULT_RATIO,
        )
        report.figure(
            f"p99.9 of all first writes in random order, on-demand over classic, pages {layout}",
            ratio(found.percentile("on-demand", layout, 99.9), found.percentile("classic", layout, 99.9)),
            at_most=2.0,
            unit=" x",
        )
    in_sequence = float(np.median(found.of_kind("classic", LAYOUTS[0], 0)))
    report.figure(
        "first write after a constant fork, all levels copied, in page faults",
        ratio(median(found.accesses["constant", ACCESSES[2]]), in_sequence),
        at_most=6.0,
    )


def draw(found: Faults, path: Path) -> None:
    """Draw the share of all first writes that took longer than a time, both axes logarithmic."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=4.2)
    for (name, layout), rounds in found.rounds.items():
        times = np.sort(np.concatenate([times for times, _ in rounds]))
        tail = np.unique(np.geomspace(1, times.size, 2000).astype(np.int64))  # enough points of the slowest writes
        style = ":" if layout == LAYOUTS[1] else "-"
        axes[0].plot(times[-tail], tail / times.size, style, label=f"{name}, pages {layout}", color=COLOURS.get(name))
    axes[0].set(xscale="log", yscale="log", xlabel="first write to a page [ns]", ylabel="share that took as long")
    axes[0].legend(fontsize=8, loc="upper right")
    save(canvas, path)
