"""The total cost of a fork and the accesses after it, and the share of the memory up to which a mode pays.

Method.  This is the paper's Figure 8.  After a fork, the parent touches the first X % of its memory through a buffer of
32 MiB, piece by piece.  0, 25, 50, 75 or 100 % of the pieces are copied to the buffer (read), the others from it
(written).  The order is in sequence, in pieces of the buffer's size, or at random, in pages.  Compiled code reads the
clock on the way, so that one run to the end gives every X.  The modes take turns, in another order each round.  The
curve of a mode is the median, over the rounds, of the ratio of its time to the classic one of the same round.  The
first round and the exit of the child are not counted.  Where a curve crosses 1, its mode becomes more expensive, or
cheaper again, than a classic fork; crossings within NOISE of 1 do not count.

For comparison, the same is done with the operating system's fork, in sequence, from Python; memcpy takes nearly all of
that time (osfork.py).

Units: the table has shares of the classic time, and ms.

Sources of error: memory not touched before (all of it is, machine.py; the system's processes get the memory that the
previous round freed); a child that has exited; free frames in an order that depends on the mode that freed them (they
are sorted after each run); a buffer that is not page-aligned: processors then take loads from the source to depend on
stores to the target that are a few bytes behind them, modulo 4 KiB, and copying takes twice as long in one direction.
Random rounds start from pages that earlier rounds have scattered.
"""

import mmap
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.reporting.paper import SOURCE, WHOLE_RATIO
from bench.reporting.report import Report, Say, median, ratio, say
from bench.rig import osfork
from bench.rig.machine import ADDRESS, GIB, MIB, MODES, clock_note, new_clock, pages_of, timed_whole, written
from mmcore.paging import HUGE_SIZE, PAGE_SIZE
from mmcore.release import release
from mmcore.space import AddressSpace, ForkMode

SIZE_GIB = 4.0
SMOKE: dict[str, Any] = {"size_gib": 1 / 16, "rounds": 1}
BUFFER = 32 * MIB
PARTS = 32  # parts of the memory; the clock is read at the end of each
QUARTERS = range(5)  # how many of every four pieces are read
ORDERS = ("in sequence", "at random")
SHOWN = (0, 25, 50, 75, 100)  # [%]
NOISE = 0.02
BAR_READ, BAR_WRITTEN = 0.92, 0.96

Marks = dict[tuple[str, int, str], list[np.ndarray]]  # by order, quarters read, mode: float64[PARTS + 1] a round [ms]


def crossings(shares: np.ndarray, ratios: np.ndarray, noise: float = NOISE) -> list[float]:
    """The shares at which a curve crosses 1, from clearly below to clearly above it or back."""
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
    """float64[rounds, PARTS + 1]: the ratio of the time to that of the classic fork of the same round."""
    return np.divide(marks[order, reads, mode], marks[order, reads, "classic"])


def curve(marks: Marks, order: str, reads: int, mode: str) -> np.ndarray:
    """float64[PARTS + 1]: the ratio of the time to that of the classic fork, the median over the rounds."""
    found: np.ndarray = np.median(rounds_of(marks, order, reads, mode), axis=0)
    return found


def measure_run(
    space: AddressSpace, mode: ForkMode, addresses: np.ndarray, piece: int, reads: int, buffer: np.ndarray
) -> tuple[np.ndarray, float]:
    """(float64[PARTS + 1]: times since the beginning, the total time as seen from Python) [ms]."""
    marks = np.zeros(PARTS + 1, np.int64)
    before = perf_counter_ns()
    root = int(timed_whole(space.state, int(mode), addresses, piece, reads, buffer, marks, new_clock()))
    outside = perf_counter_ns() - before
    release(space.memory, root)
    return marks / 1e6, outside / 1e6


def measure_machine(size: int, rounds: int, progress: Say) -> tuple[Marks, list[float]]:
    """All measurements, and the ratios of the times seen from Python to those in the kernel."""
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
        "The total cost of a fork and the accesses after it.",
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
    """Draw the curves, in sequence and at random."""
    from bench.reporting.picture import COLOURS, figure, save

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
