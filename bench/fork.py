"""How long does a fork stop its caller, by the amount of memory, and what does the first write after it cost?

Method.  An AddressSpace with one mapping, every page of which has been written, is forked classically and on demand,
and the child released, `repetitions` times.  "in the kernel" is the clock read before and after the fork by compiled
code, "from Python" is AddressSpace.fork with all it does.  Beside it os.fork of a fresh process with as much touched
private memory, whose child exits at once (osfork.py).  A straight line is fitted through the medians.  After each fork
one byte in the middle is written, which in a machine forked on demand copies a table and a page.

Units: ms for forks, us for the write.

What would make it wrong: memory that was never touched (no tables to copy); a first call that compiles; another
process on the same cores, which the worst of the repetitions shows and the median hides.  Pages are not written again
between repetitions, here as there, so each fork finds them write-protected by the one before.
"""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from numba import int64

from bench.osfork import measure
from bench.report import Report, Say, line, median, ratio, say, worst
from kvstore.libc import CLOCK_MONOTONIC, clock_gettime, words_at
from mmcore.fork import fork as fork_kernel
from mmcore.jit import build, linked
from mmcore.mmu import store8
from mmcore.paging import PAGE_SIZE
from mmcore.space import AddressSpace, ForkMode, PhysicalMemory, release
from mmcore.state import SPACE

ADDRESS = 1 << 40
GIB = 1 << 30
SIZES_GIB = (0.5, 1.0, 2.0, 4.0)
SMOKE_SIZES_GIB = (1 / 64, 1 / 32)
MODES = {"classic": ForkMode.CLASSIC, "on-demand": ForkMode.ON_DEMAND}


@linked(int64(SPACE, int64, int64))
def touch(space, va, pages):  # type: ignore[no-untyped-def]
    """Write a byte to each of these pages."""
    for i in range(pages):
        store8(space, va + i * PAGE_SIZE, 1 + (i & 0x7F))
    return pages


@linked(int64(SPACE, int64, int64[::1]))
def timed_fork(space, mode, clock):  # type: ignore[no-untyped-def]
    """Fork; returns the root, and leaves the nanoseconds in clock[2].  clock[3] is the array's own address."""
    clock_gettime(CLOCK_MONOTONIC, clock[3])
    before = words_at(clock[3], 2)[0] * 1_000_000_000 + words_at(clock[3], 2)[1]
    root = fork_kernel(space, mode)
    clock_gettime(CLOCK_MONOTONIC, clock[3])
    clock[2] = words_at(clock[3], 2)[0] * 1_000_000_000 + words_at(clock[3], 2)[1] - before
    return root


@linked(int64(SPACE, int64, int64[::1]))
def timed_write(space, va, clock):  # type: ignore[no-untyped-def]
    """Write a byte; returns the nanoseconds.  clock[3] is the array's own address."""
    clock_gettime(CLOCK_MONOTONIC, clock[3])
    before = words_at(clock[3], 2)[0] * 1_000_000_000 + words_at(clock[3], 2)[1]
    store8(space, va, 77)
    clock_gettime(CLOCK_MONOTONIC, clock[3])
    return words_at(clock[3], 2)[0] * 1_000_000_000 + words_at(clock[3], 2)[1] - before


def measure_machine(size: int, mode: ForkMode, repetitions: int) -> tuple[list[float], list[float], list[float]]:
    """(fork in the kernel, fork from Python, first write after it) of each repetition [ms, ms, us]."""
    clock = np.zeros(4, np.int64)
    clock[3] = clock.ctypes.data
    inside, outside, writes = [], [], []
    with PhysicalMemory(size + size // 64 + (1 << 20)) as memory:
        space = AddressSpace(memory)
        space.map(ADDRESS, size)
        touch(space.state, ADDRESS, size // PAGE_SIZE)
        for _ in range(repetitions):
            root = int(timed_fork(space.state, int(mode), clock))
            inside.append(int(clock[2]) / 1e6)
            writes.append(int(timed_write(space.state, ADDRESS + size // 2 + 8, clock)) / 1e3)
            release(memory, root)
            before = perf_counter_ns()
            child = space.fork(mode)
            outside.append((perf_counter_ns() - before) / 1e6)
            child.exit()
        space.exit()
    return inside, outside, writes


def measure_all(sizes_gib: Sequence[float], repetitions: int, progress: Say) -> dict[str, dict[float, list[float]]]:
    """By what was forked and how it was timed, by GiB: the repetitions' times."""
    build()
    found: dict[str, dict[float, list[float]]] = {}
    for gib in sizes_gib:
        size = int(gib * GIB) // PAGE_SIZE * PAGE_SIZE
        for name, mode in MODES.items():
            progress(f"fork {name}, {gib:g} GiB")
            inside, outside, writes = measure_machine(size, mode, repetitions)
            found.setdefault(f"{name}, in the kernel", {})[gib] = inside
            found.setdefault(f"{name}, from Python", {})[gib] = outside
            found.setdefault(f"write after {name}", {})[gib] = writes
        for pages in ("normal", "huge"):
            progress(f"os.fork with {pages} pages, {gib:g} GiB")
            name = "os.fork, 4 KiB pages" if pages == "normal" else "os.fork, huge pages"
            found.setdefault(name, {})[gib] = [ns / 1e6 for ns in measure(size, repetitions, pages)]
    return found


FORKS = (
    "on-demand, in the kernel",
    "on-demand, from Python",
    "classic, in the kernel",
    "classic, from Python",
    "os.fork, 4 KiB pages",
    "os.fork, huge pages",
)


def run(
    sizes_gib: Sequence[float] = SIZES_GIB, repetitions: int = 20, plot: Path | None = None, progress: Say = say
) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "fork",
        "How long does a fork stop its caller, by the amount of memory?",
        [
            f"{repetitions} forks each of one mapping with every page written; median and worst",
            "in the kernel: the clock read by compiled code around the fork; from Python: AddressSpace.fork",
            "os.fork: a process with as much touched private memory and nothing else; its child exits at once",
        ],
        {"sizes_gib": list(sizes_gib), "repetitions": repetitions},
    )
    found = measure_all(sizes_gib, repetitions, progress)
    nothing = [ns / 1e6 for ns in measure(0, repetitions, "normal")]

    table = report.table("Fork, median [ms]", "what", *(f"{gib:g} GiB" for gib in sizes_gib), "slope [ms/GiB]")
    for name in FORKS:
        medians = [median(found[name][gib]) or 0.0 for gib in sizes_gib]
        table.add(name, *medians, line(sizes_gib, medians)[1])
    table = report.table("Fork, worst [ms]", "what", *(f"{gib:g} GiB" for gib in sizes_gib))
    for name in FORKS:
        table.add(name, *(worst(found[name][gib]) for gib in sizes_gib))
    table = report.table(
        "First write after the fork, one byte in the middle, median / worst [us]",
        "what",
        *(f"{gib:g} GiB" for gib in sizes_gib),
    )
    for name in MODES:
        times = found[f"write after {name}"]
        table.add(name, *(f"{median(times[gib]):.2f} / {worst(times[gib]):.2f}" for gib in sizes_gib))
    middle = 1.0 if 1.0 in sizes_gib else sizes_gib[-1]
    demand, classic = found["on-demand, in the kernel"][middle], found["classic, in the kernel"][middle]
    report.figure(
        f"worst on-demand fork over median classic fork, {middle:g} GiB",
        ratio(worst(demand), median(classic)),
        at_most=0.02,
    )
    report.notes.append(f"os.fork of a process without that memory takes {median(nothing):.3f} ms")
    if plot:
        draw(found, sizes_gib, plot)
    return report


def draw(found: dict[str, dict[float, list[float]]], sizes_gib: Sequence[float], path: Path) -> None:
    """The picture: medians, worst, and the line through the medians, both axes logarithmic."""
    from bench.picture import figure, save

    canvas, axes = figure(1, height=4.8)
    for name in FORKS:
        medians = [median(found[name][gib]) or 0.0 for gib in sizes_gib]
        above = [(worst(found[name][gib]) or 0.0) - m for gib, m in zip(sizes_gib, medians, strict=True)]
        start, slope = line(sizes_gib, medians)
        drawn = axes[0].errorbar(
            sizes_gib, medians, [[0.0] * len(above), above], fmt="o", capsize=3, label=f"{name}: {slope:.3g} ms/GiB"
        )
        fitted = [max(start + slope * gib, 1e-6) for gib in sizes_gib]
        axes[0].plot(sizes_gib, fitted, color=drawn.lines[0].get_color(), linewidth=1)
    axes[0].set(xscale="log", yscale="log", xlabel="touched memory [GiB]", ylabel="fork [ms], median and worst")
    axes[0].set_xticks(list(sizes_gib), [f"{gib:g}" for gib in sizes_gib])
    axes[0].minorticks_off()
    axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(canvas, path)
