"""What does a fork cost altogether, with the accesses after it, and from which share of the memory on?

Method.  The paper's Figure 8: a fork, after which the parent touches the first X % of its memory through a buffer of
32 MiB, in pieces of which 0, 25, 50, 75 or 100 % are copied to the buffer (read) and the others from it (written); in
sequence, in pieces of the buffer's size, and at random, in pages.  Compiled code reads the clock on the way, so that
one run to the end gives every X; the modes take turns, in another order each round, and a mode's curve is the median
over the rounds of its time over the classic one of the same round.  A first round, and the child's exit, are not
counted.  Where a curve crosses 1 its mode becomes dearer, or cheaper again, than a classic fork; crossings within
NOISE of 1 are none.

Beside it the same on the operating system's fork, in sequence, from Python, whose time is in the memcpy (osfork.py).

Units: the table has shares of the classic time, and ms.

What would make it wrong: memory not touched before (all is, machine.py; the system's gets back what the round before
gave up); a child that has gone; free frames in the order in which some mode has freed them (they are sorted after each
run); a buffer that is not aligned to pages, for then processors take loads from the source to depend on stores to the
target that are a few bytes behind them, modulo 4 KiB, and copying takes twice as long one way.  Random rounds start
from pages that the rounds before have scattered.
"""

import mmap
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench import osfork
from bench.machine import ADDRESS, GIB, MIB, MODES, clock_note, new_clock, pages_of, timed_whole, written
from bench.paper import SOURCE, WHOLE_RATIO
from bench.report import Report, Say, median, ratio, say
from mmcore.paging import HUGE_SIZE, PAGE_SIZE
from mmcore.space import AddressSpace, ForkMode, release

SIZE_GIB = 4.0
SMOKE: dict[str, Any] = {"size_gib": 1 / 16, "rounds": 1}
BUFFER = 32 * MIB
PARTS = 32  # of the memory, at whose ends the clock is read
QUARTERS = range(5)  # how many pieces of four are read
ORDERS = ("in sequence", "at random")
SHOWN = (0, 25, 50, 75, 100)  # [%]
NOISE = 0.02
BAR_READ, BAR_WRITTEN = 0.92, 0.96

Marks = dict[tuple[str, int, str], list[np.ndarray]]  # by order, quarters read, mode: float64[PARTS + 1] a round [ms]


def crossings(shares: np.ndarray, ratios: np.ndarray, noise: float = NOISE) -> list[float]:
    """Where a curve goes from clearly below 1 to clearly above it, or back: the shares at which it meets 1."""
    found, side, since = [], 0, 0
    for i, value in enumerate(ratios):
        now = 0 if abs(value - 1.0) <= noise else 1 if value > 1.0 else -1
        if now == 0:
            continue
        if side and now != side:
            steps = np.arange(since, i + 1)
            at = next(int(k) for k in steps[1:] if (ratios[k] - 1.0) * side <= 0)
            low, high = ratios[at - 1] - 1.0, ratios[at] - 1.0
            found.append(float(shares[at - 1] + (shares[at] - shares[at - 1]) * low / (low - high)))
        side, since = now, i
    return found


def rounds_of(marks: Marks, order: str, reads: int, mode: str) -> np.ndarray:
    """float64[rounds, PARTS + 1]: time over that of the classic fork of the same round."""
    return np.divide(marks[order, reads, mode], marks[order, reads, "classic"])


def curve(marks: Marks, order: str, reads: int, mode: str) -> np.ndarray:
    """float64[PARTS + 1]: time over that of the classic fork, the median over the rounds."""
    found: np.ndarray = np.median(rounds_of(marks, order, reads, mode), axis=0)
    return found


def measure_run(
    space: AddressSpace, mode: ForkMode, addresses: np.ndarray, piece: int, reads: int, buffer: np.ndarray
) -> tuple[np.ndarray, float]:
    """(float64[PARTS + 1] since the beginning, the whole as seen from Python) [ms]."""
    marks = np.zeros(PARTS + 1, np.int64)
    before = perf_counter_ns()
    root = int(timed_whole(space.state, int(mode), addresses, piece, reads, buffer, marks, new_clock()))
    outside = perf_counter_ns() - before
    release(space.memory, root)
    return marks / 1e6, outside / 1e6


def measure_machine(size: int, rounds: int, progress: Say) -> tuple[Marks, list[float]]:
    """Everything, and what Python saw over what the kernel did."""
    marks: Marks = {}
    seen: list[float] = []
    rng, names = np.random.default_rng(1), list(MODES)
    piece = min(BUFFER, size // (4 * PARTS))
    pieces = np.arange(ADDRESS, ADDRESS + size, piece)
    buffer = np.frombuffer(mmap.mmap(-1, BUFFER), np.uint8)
    buffer.fill(1)
    with written(size, size) as space:
        for order in ORDERS:
            for done in range(rounds + 1):
                progress(f"fork and touch {order}, round {done} of {rounds}")
                for reads in QUARTERS:
                    for name in [*names[done % 3 :], *names[: done % 3]]:
                        one, addresses = (piece, pieces) if order == ORDERS[0] else (PAGE_SIZE, pages_of(size, rng))
                        inside, outside = measure_run(space, MODES[name], addresses, one, reads, buffer)
                        if done:
                            marks.setdefault((order, reads, name), []).append(inside)
                            seen.append(outside / float(inside[-1]))
    return marks, seen


def run(size_gib: float = SIZE_GIB, rounds: int = 5, plot: Path | None = None, progress: Say = say) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "whole",
        "What does a fork cost altogether, with the accesses after it?",
        [
            f"a fork of {size_gib:g} GiB, then its first 0 to 100 % touched through a buffer of {BUFFER // MIB} MiB",
            f"{rounds} rounds after one that does not count, the modes in turn; medians of the ratios within a round",
            "the clock read by compiled code on the way; all memory was touched before; without the child's exit",
            "os.fork: the same in sequence, from Python, measured after ours",
            SOURCE + "; there 50 GB, in sequence",
        ],
        {"size_gib": size_gib, "rounds": rounds, "buffer": BUFFER},
    )
    size = int(size_gib * GIB) & -HUGE_SIZE
    marks, seen = measure_machine(size, rounds, progress)
    system: dict[str, np.ndarray] = {}
    for pages, name in osfork.NAMES.items():
        progress(name)
        answers = np.array(osfork.measure("whole", size, rounds + 1, pages)[1:])
        system[name] = np.median(answers, axis=0) / 1e6
    tabulate(report, marks, system)
    hold(report, marks, system, size_gib)
    report.notes += [
        f"from Python a run takes {median(seen) or 0.0:.5f} times as long as in the kernel",
        clock_note(),
    ]
    if plot:
        draw(marks, plot)
    return report


def tabulate(report: Report, marks: Marks, system: dict[str, np.ndarray]) -> None:
    """The tables."""
    at = [share * PARTS // 100 for share in SHOWN]
    shares = np.linspace(0.0, 100.0, PARTS + 1)
    columns = [f"{share} %" for share in SHOWN]
    table = report.table(
        "Time over that of a classic fork, after touching the first X %",
        "what",
        "touched",
        "reads",
        *columns,
        "crosses 1 at [%]",
        "the paper, 0 %",
        "the paper, 100 %",
    )
    for order in ORDERS:
        for mode in ("on-demand", "constant"):
            for reads in QUARTERS:
                found = curve(marks, order, reads, mode)
                crossed = ", ".join(f"{share:.0f}" for share in crossings(shares, found)) or "nowhere"
                paper: Sequence[float | None] = (None, None)
                if mode == "on-demand" and order == ORDERS[0]:
                    end = {0: WHOLE_RATIO["written"], 4: WHOLE_RATIO["read"]}.get(reads)
                    paper = (WHOLE_RATIO["untouched"], end)
                table.add(mode, order, f"{25 * reads} %", *(float(found[i]) for i in at), crossed, *paper)
    table = report.table("Times, median [ms]", "what", "touched", "reads", *columns)
    for mode in MODES:
        for order in ORDERS:
            for reads in QUARTERS:
                found = np.median(marks[order, reads, mode], axis=0)
                table.add(mode, order, f"{25 * reads} %", *(float(found[i]) for i in at))
    for name, answer in system.items():
        for reads in QUARTERS:
            table.add(name, ORDERS[0], f"{25 * reads} %", *(float(ms) for ms in answer[reads]))


def hold(report: Report, marks: Marks, system: dict[str, np.ndarray], size_gib: float) -> None:
    """The figures and their bars."""
    for reads, what, bar in ((0, "written", BAR_WRITTEN), (4, "read", BAR_READ)):
        spread = []
        for mode in ("on-demand", "constant"):
            wholes = rounds_of(marks, ORDERS[0], reads, mode)[:, -1]
            spread.append(f"{mode} {wholes.min():.3f} to {wholes.max():.3f}")
            report.figure(
                f"{size_gib:g} GiB, everything {what} in sequence after the fork: whole cost, {mode} over classic",
                float(curve(marks, ORDERS[0], reads, mode)[-1]),
                at_most=bar,
                paper=WHOLE_RATIO[what] if mode == "on-demand" else None,
            )
        classic = [float(one[-1]) for one in marks[ORDERS[0], reads, "classic"]]
        alone = [float(one[0]) for one in marks[ORDERS[0], reads, "classic"]]
        report.figure(
            f"the same, everything {what}, on-demand over os.fork with 4 KiB pages",
            ratio(
                median(float(one[-1]) for one in marks[ORDERS[0], reads, "on-demand"]),
                float(system[osfork.NAMES["normal"]][reads][-1]),
            ),
        )
        share = 100 * (ratio(median(alone), median(classic)) or 0.0)
        report.notes.append(
            f"everything {what}: the classic fork alone is {share:.2f} % of its whole cost, all there is to save; "
            f"over classic in the single rounds: {', '.join(spread)}"
        )


def draw(marks: Marks, path: Path) -> None:
    """The picture: the curves, in sequence and at random."""
    from bench.picture import COLOURS, figure, save

    canvas, axes = figure(len(ORDERS), height=6.4)
    shares = np.linspace(0.0, 100.0, PARTS + 1)
    for panel, order in zip(axes, ORDERS, strict=True):
        for mode in ("on-demand", "constant"):
            for reads, style in zip(QUARTERS, ("-", "--", "-.", (0, (5, 5)), ":"), strict=True):
                found = curve(marks, order, reads, mode)
                panel.plot(shares, found, linestyle=style, color=COLOURS[mode], label=f"{mode}, {25 * reads} % read")
        panel.axhline(1.0, color=COLOURS["classic"], label="classic")
        panel.set(ylabel="time over classic", ylim=(0.0, 1.3))
        panel.set_title(f"fork, then the first X % touched {order}", loc="left", fontsize=9)
    axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set_xlabel("memory touched [%]")
    save(canvas, path)
