"""How many inputs a second can be tried, each by a guest in a clone of its memory?

Method.  This is the paper's Figure 10.  There, TriforceAFL fuzzes the kernel of a guest whose virtual machine has 188
MB of memory: each input is run in a clone of the machine, which a fork makes.  The paper gives executions a second: 91
with fork, 145 with on-demand-fork.  We run neither QEMU nor a guest's kernel.  A guest is 188 MB of address space with
every page written.  For each input a kernel forks it, makes the clone a space, reads and writes a byte of some pages in
it, and releases it.  Our executions lack the guest's own work, some ms in the paper.  Two things can be compared: the
time that a better fork saves, and the ratios where the guest does little.

We have assumed what a run touches:

    nothing   no page
    near      300 reads and 100 writes in the pages of 8 page tables, drawn anew for each run, as code, stacks and heap
    far       as many, anywhere: the worst case of a fork on demand, which then copies most tables after all

All modes get the same pages, drawn beforehand, and take turns in `rounds` rounds of `runs` runs, in one call of a
kernel.  The same runs without a fork, in the guest itself, show what is left if a clone costs nothing.  os.fork is
measured in a process with as much memory, which the child touches in the same way (osfork.py).

Units: executions a second, and us of one execution; medians of the rounds, of os.fork of the single executions.

Sources of error: another process on the same cores, which above all delays the children of os.fork; the
memory of Python, some MiB, which os.fork copies too, and Python's loop over the pages, some 40 ns for each.  Copies get
the frames that the last clone gave back, which are in the caches; so do those of os.fork.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.reporting.paper import CLONES, SOURCE
from bench.reporting.report import Report, Say, median, ratio, say
from bench.rig import osfork
from bench.rig.machine import ADDRESS, MIB, MODES, new_clock, now, written
from kvstore.system.libc import words_at
from mmcore.fork import fork
from mmcore.jit import address_of, int64, kernel, linked, zeros
from mmcore.mmu import load8, store8
from mmcore.paging import HUGE_SIZE, PAGE_SIZE
from mmcore.release import CURSOR_SIZE, release_all
from mmcore.space import AddressSpace
from mmcore.spaces import SPACE_WORDS, space_close, space_open
from mmcore.state import SPACE, space_at

GUEST = 188 * MIB
RUNS: dict[str, tuple[int, int, int]] = {"nothing": (0, 0, 0), "near": (300, 100, 8), "far": (300, 100, 0)}
NO_FORK = -1
NONE = "no clone"
BAR = CLONES["on-demand-fork"] / CLONES["fork"]
COUNTERPARTS = {"classic": "fork", "on-demand": "on-demand-fork", osfork.NAMES["normal"]: "fork"}
SMOKE: dict[str, Any] = {"size": 8 * MIB, "runs": 5, "rounds": 2}


@kernel
def _run_guest(space, addresses, first, reads, end):  # type: ignore[no-untyped-def]
    # One run: read a byte at each of the first addresses, write one at each of the others.
    for i in range(first, first + reads):
        load8(space, addresses[i])
    for i in range(first + reads, end):
        store8(space, addresses[i], i)


@linked(int64(SPACE, int64, int64, int64, int64, int64[::1], int64, int64[::1], int64[::1]))
def timed_clones(space, source, record, mode, runs, addresses, reads, cursor, clock):  # type: ignore[no-untyped-def]
    """The time of `runs` runs [ns], each in a clone made by a fork of this mode; with NO_FORK in the space itself.

    source, record: addresses of the space's record, and of room for the clone's.  addresses: the same number for each
    run, of which the first `reads` are read and the others written.  cursor: for release.
    """
    touched = addresses.size // runs
    before = now(clock)
    for run in range(runs):
        first = run * touched
        if mode == NO_FORK:
            _run_guest(space, addresses, first, reads, first + touched)
            continue
        root = fork(space, mode)
        code = space_open(space, words_at(source, SPACE_WORDS), words_at(record, SPACE_WORDS), root, 0)
        assert root >= 0 and code == 0, "no room for a clone"
        clone = space_at(record)
        _run_guest(clone, addresses, first, reads, first + touched)
        release_all(space.mem, cursor, space_close(clone))
    return now(clock) - before


def places(size: int, runs: int, amounts: tuple[int, int, int], seed: int) -> np.ndarray:
    """int64[runs * (reads + writes)]: the addresses that the runs touch."""
    generator = random.Random(seed)
    pages = [page for _ in range(runs) for page in osfork.draw_pages(generator, size // PAGE_SIZE, *amounts)]
    return ADDRESS + PAGE_SIZE * np.array(pages, np.int64)


def time_runs(space: AddressSpace, mode: int, runs: int, addresses: np.ndarray, reads: int) -> float:
    """The mean time of a run [us]."""
    record, cursor = zeros(int64, SPACE_WORDS), zeros(int64, CURSOR_SIZE)
    where = space.state.address, address_of(record)
    return float(timed_clones(space.state, *where, mode, runs, addresses, reads, cursor, new_clock())) / runs / 1000


Times = dict[tuple[str, str], list[float]]  # [us], by subject and by what a run touches


def measure(size: int, runs: int, rounds: int, progress: Say) -> Times:
    """Let every mode and no fork take turns, then the system's forks."""
    found: Times = {}
    with written(size, size, spaces=2) as space:
        for what, amounts in RUNS.items():
            for number in range(rounds + 1):  # the first is not counted
                progress(f"clone, {what} is touched, round {number} of {rounds}")
                addresses = places(size, runs, amounts, number)
                for name, mode in {NONE: NO_FORK, **MODES}.items():
                    took = time_runs(space, int(mode), runs, addresses, amounts[0])
                    if number:
                        found.setdefault((name, what), []).append(took)
    for pages, name in osfork.NAMES.items():
        for what, amounts in RUNS.items():
            progress(f"clone, {name}, {what} is touched")
            taken = osfork.measure("clone", size, runs + 1, pages, amounts=amounts)[1:]
            found[name, what] = [ns / 1000 for ns in taken]
    return found


def run(size: int = GUEST, runs: int = 200, rounds: int = 7, plot: Path | None = None, progress: Say = say) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "clone",
        "How many inputs a second can be tried, each by a guest in a clone of its memory?",
        [
            f"a guest of {size // MIB} MiB, every page written; {rounds} rounds of {runs} runs, the modes in turn",
            *(
                f"{what}: a run reads {reads} pages and writes {writes}, of {tables or 'all'} page tables"
                for what, (reads, writes, tables) in RUNS.items()
            ),
            "an execution: the fork, the run in the clone, its release; os.fork: until the child was waited for",
            SOURCE,
        ],
        {"size": size, "runs": runs, "rounds": rounds},
    )
    found = measure(size & -HUGE_SIZE, runs, rounds, progress)
    subjects = (*MODES, *osfork.NAMES.values())
    table = report.table("Executions a second", "clone by", *RUNS, "the paper")
    for name in (*subjects, NONE):
        rates = [ratio(1e6, median(found[name, what])) for what in RUNS]
        table.add(name, *rates, CLONES.get(COUNTERPARTS.get(name, "")))
    table = report.table("One execution, median [us]", "clone by", *RUNS, "the paper")
    for name in (*subjects, NONE):
        table.add(name, *(median(found[name, what]) for what in RUNS), _paper_us(COUNTERPARTS.get(name)))
    for name, what, bar in (
        ("on-demand", "near", BAR), ("constant", "near", BAR), ("on-demand", "far", None), ("constant", "far", None),
    ):  # fmt: skip
        gain = ratio(median(found["classic", what]), median(found[name, what]))
        report.figure(f"executions by {name} over classic forks, {what}", gain, bar, unit=" x", paper=BAR)
    saved = (median(found["classic", "near"]) or 0.0) - (median(found["on-demand", "near"]) or 0.0)
    in_paper = (_paper_us("fork") or 0.0) - (_paper_us("on-demand-fork") or 0.0)
    report.figure("what a fork on demand saves of a classic one, near", saved, unit=" us", paper=in_paper)
    system = ratio(median(found[osfork.NAMES["normal"], "near"]), median(found["constant", "near"]))
    report.figure("executions by constant forks over os.fork, near", system, BAR, unit=" x")
    report.notes.append(
        "the paper's executions include the work of QEMU and of a guest's kernel; ours touch pages only"
    )
    if plot:
        draw(found, subjects, plot)
    return report


def _paper_us(name: str | None) -> float | None:
    return ratio(1e6, CLONES.get(name or ""))


def draw(found: Times, subjects: Sequence[str], path: Path) -> None:
    """Draw the executions a second as bars, by what a run touches."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=3.6)
    for i, name in enumerate(subjects):
        rates = [ratio(1e6, median(found[name, what])) for what in RUNS]
        at = np.arange(len(RUNS)) + i / (len(subjects) + 1)
        axes[0].bar(at, rates, 1 / (len(subjects) + 1), label=name, color=COLOURS.get(name))
    for name, style in (("fork", ":"), ("on-demand-fork", "--")):
        axes[0].axhline(CLONES[name], color="k", linestyle=style, linewidth=1, label=f"the paper, {name}")
    axes[0].set(yscale="log", ylabel="executions a second")
    axes[0].set_xticks(np.arange(len(RUNS)) + 0.3, list(RUNS))
    axes[0].legend(fontsize=8)
    save(canvas, path)
