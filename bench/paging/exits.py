"""How long does the exit of a space take, and how long does each of its steps stop the owner?

Method.  A written space is forked, and the child exits.  In one case the child still shares everything it can.  In the
other case the parent has written every page since the fork, so that the child's pages are private and are freed.  The
exit is made in steps of BOUND frames, as by `Release.step`; compiled code times each step.  A second exit is timed from
Python.  The modes take turns in `rounds` rounds.  The pages are laid out anew for each round, in sequence or scattered
(machine.py).

A step does the same work in each round, while a pause of the machine can hit any step.  Hence "worst step" is the
largest, over the steps, of the median over the rounds.  "Worst of all" is the maximum, pauses included.

For comparison, the operating system: the time from the permission to exit until the child was waited for; this has no
steps (osfork.py).

Units: us.

Sources of error: frames that are neighbours because nothing was ever written twice, which is one of the two layouts;
other work on the machine, which "worst of all" shows.
"""

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, median, ratio, say, worst
from bench.rig import osfork
from bench.rig.machine import (
    GIB,
    LAYOUTS,
    MODES,
    clock_note,
    lay_out,
    new_clock,
    page_fault_ns,
    pages_of,
    timed_release,
    timed_writes,
    written,
)
from mmcore.paging import HUGE_SIZE
from mmcore.space import AddressSpace, ForkMode

SIZE_GIB = 1.0
BOUND = 1000  # frames a step
SMOKE: dict[str, Any] = {"size_gib": 1 / 64, "rounds": 2}
HUGE = "classic, huge pages"
SHARED, OWN = "all shared", "all its own"


@dataclass
class Exits:
    """Times of steps [us], float64[steps] per round, by subject, layout, and whether the child's pages are shared."""

    inside: dict[tuple[str, str, str], list[np.ndarray]] = field(default_factory=dict)
    outside: dict[tuple[str, str, str], list[np.ndarray]] = field(default_factory=dict)

    def worst_step(self, key: tuple[str, str, str]) -> float:
        """The largest, over the steps, of the median over the rounds."""
        steps = min(times.size for times in self.inside[key])
        return float(np.median([times[:steps] for times in self.inside[key]], axis=0).max())

    def worst_of_all(self, key: tuple[str, str, str]) -> float:
        return max(float(times.max()) for times in self.inside[key])


def child_of(space: AddressSpace, mode: ForkMode, addresses: np.ndarray) -> AddressSpace:
    """Fork a child, then write to these addresses of the parent."""
    child = space.fork(mode)
    timed_writes(space.state, addresses, np.zeros_like(addresses), np.zeros_like(addresses), new_clock())
    return child


def measure_exit(child: AddressSpace) -> np.ndarray:
    """The times of the steps of an exit, taken in compiled code [us]."""
    ending, times = child.exit_begin(), np.zeros(child.memory.frames_total // BOUND + 100, np.int64)
    steps = int(timed_release(child.memory.state, ending.cursor, BOUND, times, new_clock()))
    return times[:steps] / 1000


def measure_exit_from_python(child: AddressSpace) -> np.ndarray:
    """The same, timed from Python [us]."""
    ending, times = child.exit_begin(), []
    while not ending.done:
        before = perf_counter_ns()
        ending.step(BOUND)
        times.append(perf_counter_ns() - before)
    return np.array(times) / 1000


def measure_round(space: AddressSpace, name: str, mode: ForkMode, layout: str, size: int, into: Exits) -> None:
    """Measure the exits of both children in both ways."""
    rng = np.random.default_rng(1)
    for state in (SHARED, OWN):
        for measure, found in ((measure_exit, into.inside), (measure_exit_from_python, into.outside)):
            if name in MODES:
                lay_out(space, size, layout, rng)
            child = child_of(space, mode, pages_of(size, rng) if state == OWN else np.zeros(0, np.int64))
            found.setdefault((name, layout, state), []).append(measure(child))


def run(size_gib: float = SIZE_GIB, rounds: int = 7, plot: Path | None = None, progress: Say = say) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "exit",
        "How long does the end of a space take, and for how long does it stop its owner at a time?",
        [
            f"exits of children of {size_gib:g} GiB in steps of {BOUND} frames, the modes in turn, {rounds} rounds",
            "the pages laid out anew for each",
            "worst step: the largest, over the steps, of the median over the rounds; worst of all: with all pauses",
            f"{SHARED}: as it was forked; {OWN}: the parent has written every page since, at random",
            "in the kernel: the clock read by compiled code around each step; from Python: Release.step",
            "os.fork: from when the child may exit until it was waited for, in Python, the first repetition left out",
        ],
        {"size_gib": size_gib, "bound": BOUND, "rounds": rounds},
    )
    size = int(size_gib * GIB) & -HUGE_SIZE
    found = Exits()
    with written(size, size) as space:
        for done in range(rounds):
            progress(f"exits, round {done + 1} of {rounds}")
            for name, mode in MODES.items():
                for layout in LAYOUTS:
                    measure_round(space, name, mode, layout, size, found)
    with written(size, size, huge=True) as space:
        progress("exits of huge pages")
        for _ in range(rounds):
            measure_round(space, HUGE, ForkMode.CLASSIC, LAYOUTS[0], size, found)
    system: dict[str, list[list[int]]] = {}
    for pages, name in osfork.NAMES.items():
        progress(name)
        system[name] = osfork.measure("exit", size, rounds + 1, pages)[1:]
    tabulate(report, found, system)
    hold(report, found)
    report.notes.append(clock_note())
    if plot:
        draw(found, plot)
    return report


def tabulate(report: Report, found: Exits, system: dict[str, list[list[int]]]) -> None:
    """The tables."""
    table = report.table(
        "Exit [us]",
        "what",
        "pages",
        "the child has",
        "steps",
        "total, median",
        "total, worst",
        "step, median",
        "worst step",
        "worst of all",
        "from Python: total",
        "from Python: worst of all",
    )
    for key, rounds in found.inside.items():
        totals = [float(times.sum()) for times in rounds]
        table.add(
            *key,
            rounds[0].size,
            median(totals),
            worst(totals),
            float(np.median(np.concatenate(rounds))),
            found.worst_step(key),
            found.worst_of_all(key),
            median(float(times.sum()) for times in found.outside[key]),
            worst(float(times.max()) for times in found.outside[key]),
        )
    for name, answers in system.items():
        for i, state in enumerate((SHARED, OWN)):
            totals = [answer[i] / 1000 for answer in answers]
            table.add(name, "its own", state, *[None] * 6, median(totals), worst(totals))


def hold(report: Report, found: Exits) -> None:
    """The figures and their bars."""
    fault_us = page_fault_ns() / 1000
    report.notes.append(f"a page fault, median: {1000 * fault_us:.0f} ns")
    for layout in LAYOUTS:
        keys = [key for key in found.inside if key[0] in MODES and key[1] == layout]
        for what, times in (
            ("worst step of an exit", [found.worst_step(key) for key in keys]),
            ("worst step of all exits, pauses of the machine included", [found.worst_of_all(key) for key in keys]),
        ):
            report.figure(
                f"{what}, bound {BOUND} frames, pages {layout}, in page faults",
                ratio(worst(times), fault_us),
                at_most=100.0,
            )


def draw(found: Exits, path: Path) -> None:
    """Draw the share of the steps that took longer than a time, both axes logarithmic."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=4.2)
    for (name, layout, state), rounds in found.inside.items():
        if state == SHARED and name != "classic":
            continue  # too few steps to draw
        times = np.sort(np.concatenate(rounds))
        share = 1.0 - np.arange(times.size) / times.size
        style = ":" if layout == LAYOUTS[1] else "-" if state == OWN else "--"
        axes[0].plot(times, share, style, label=f"{name}, {state}, pages {layout}", color=COLOURS.get(name))
    axes[0].set(xscale="log", yscale="log", xlabel="step of an exit [us]", ylabel="share that took as long")
    axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(canvas, path)
