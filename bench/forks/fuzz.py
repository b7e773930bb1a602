"""How many inputs a second can a fuzzer try on a loaded store, with a fork of the store for each?

Method.  This is the paper's Figure 9.  There, AFL fuzzes SQLite with a database of 1 GB loaded, in a forked child for
each input; the paper gives executions a second, 63 with fork and 206 with on-demand-fork.  Here the store of this
server is loaded with `keys` strings of VALUE_SIZE bytes, some 1 GB, and an input is a mutated stream of about eight
commands (kvstore/fuzz/inputs.py).  A kernel forks the store, plays the input by the loop's own pipeline, and restores
the store, without a socket and without Python (kvstore/fuzz/playing.py).  Those commands are left out whose time
depends on the number of keys: KEYS, SCAN, FLUSHALL, FLUSHDB; and PFSELFTEST, whose milliseconds would hide the forks.
A string is limited to 1 MiB.

All modes play the same inputs, drawn beforehand, and take turns in `rounds` rounds; then the inputs are played in the
store itself, where their effects add up, to see what is left if a fork costs nothing.  The same is done with a
thousandth of the keys, some 1 MB; its inputs differ in the numbers of keys only.  os.fork is measured in a process that
holds the same store; the child plays the input by the same kernels (osfuzz.py).

Units: executions in a second of processor time, and us of it; medians of the rounds, of os.fork of the single
executions.  The rate of a fuzzer includes the mutation of inputs, which Python does here; the times of executions do
not.

Sources of error: another process on the same cores, which takes the caches too; inputs that do nothing, as many
of a fuzzer's: the commands and the changes of an input are given.  AFL's executions include the tracing of branches, of
which there is none here, so the ratios can be compared and the rates cannot.
"""

import time
from pathlib import Path
from typing import Any

from bench.reporting.paper import FUZZED, SOURCE
from bench.reporting.report import Report, Say, median, pair, ratio, say
from bench.rig import osfork, osfuzz
from bench.rig.attacked import attacked, source
from kvstore.fuzz.playing import NO_FORK
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND

KEYS, VALUE_SIZE, SHRUNK = 1_000_000, 1000, 1000
MODES = {"classic": CLASSIC, "on-demand": ON_DEMAND, "constant": CONSTANT}
SUBJECTS = (*MODES, *osfork.NAMES.values())
COUNTERPARTS = {"classic": "fork", "on-demand": "on-demand-fork", osfork.NAMES["normal"]: "fork"}
NONE = "no fork"
SIZE_BAR, GAIN_BAR = 0.8, 3.3
PAPER_GAIN = FUZZED["on-demand-fork"] / FUZZED["fork"]
LOADED, EMPTY = "1 GB", "1 MB"
SMOKE: dict[str, Any] = {"keys": 20_000, "inputs": 10, "rounds": 2}

Times = dict[tuple[str, str], list[float]]  # [us] of an execution, by subject and store


def measure(name: str, keys: int, inputs: int, rounds: int, found: Times, progress: Say) -> dict[str, float]:
    """Let the modes take turns on one store, then the system's forks; returns what an input does, and its mutation."""
    mutations: list[float] = []
    for _ in range(rounds + 1):
        inputs_of = source(keys)
        before = time.thread_time_ns()
        drawn = [inputs_of.draw() for _ in range(inputs)]
        mutations.append((time.thread_time_ns() - before) / inputs / 1000)
    told = {"mutation [us]": median(mutations) or 0.0}
    progress(f"fuzz, loading {name}")
    with attacked(keys, VALUE_SIZE) as target:
        r = target.registers
        for number in range(rounds + 1):  # the first is not counted
            progress(f"fuzz, {name}, round {number} of {rounds}")
            for mode_name, mode in MODES.items():
                commands, changes, began = r.COMMANDS_PROCESSED, r.DIRTY, time.thread_time_ns()
                target.run(drawn, mode)
                took = time.thread_time_ns() - began
                told["commands"] = (r.COMMANDS_PROCESSED - commands) / inputs
                told["changes"] = (r.DIRTY - changes) / inputs
                if number:
                    found.setdefault((mode_name, name), []).append(took / inputs / 1000)
        for _ in range(rounds):
            began = time.thread_time_ns()
            target.run(drawn, NO_FORK)
            found.setdefault((NONE, name), []).append((time.thread_time_ns() - began) / inputs / 1000)
    for pages, system in osfork.NAMES.items():
        progress(f"fuzz, {name}, {system}")
        found[system, name] = osfuzz.measure(keys, VALUE_SIZE, inputs, pages)
    return told


def run(keys: int = KEYS, inputs: int = 200, rounds: int = 5, plot: Path | None = None, progress: Say = say) -> Report:
    """Measure, and draw the picture if wanted."""
    report = Report(
        "fuzz",
        "How many inputs a second can a fuzzer try on a loaded store, with a fork of the store for each?",
        [
            f"1 GB: {keys:,} strings of {VALUE_SIZE} bytes; 1 MB: {max(1, keys // SHRUNK):,}; and 8 collections",
            f"{rounds} rounds of {inputs} inputs, the same for all; the modes in turn",
            "an execution: the fork, the input by the loop's pipeline, the release of what it changed",
            "os.fork: the processor time of both processes, until the child was waited for",
            SOURCE,
        ],
        {"keys": keys, "inputs": inputs, "rounds": rounds},
    )
    found: Times = {}
    told = {
        name: measure(name, count, inputs, rounds, found, progress)
        for name, count in ((EMPTY, max(1, keys // SHRUNK)), (LOADED, keys))
    }
    tabulate(report, found, told)

    def rate(name: str, size: str = LOADED, *, whole: bool = False) -> float | None:
        return ratio(1e6, (median(found[name, size]) or 0.0) + whole * told[size]["mutation [us]"])

    by_size = {
        "constant forks, mutation too": (rate("constant", whole=True), rate("constant", EMPTY, whole=True)),
        "constant forks": (rate("constant"), rate("constant", EMPTY)),
        "no fork": (rate(NONE), rate(NONE, EMPTY)),
    }
    for what, rates in by_size.items():
        report.figure(f"executions by {what}, 1 GB over 1 MB", ratio(*rates), None if what == NONE else SIZE_BAR)
    for name, bar in (("on-demand", None), ("constant", GAIN_BAR)):
        gain = ratio(rate(name, whole=True), rate("classic", whole=True))
        report.figure(f"rate by {name} over classic forks, 1 GB", gain, bar, unit=" x", paper=PAPER_GAIN)
    system = ratio(rate("constant", whole=True), rate(osfork.NAMES["normal"], whole=True))
    report.figure("rate by constant forks over os.fork, 1 GB", system, GAIN_BAR, unit=" x", paper=PAPER_GAIN)
    if plot:
        draw_rates(found, plot)
    return report


def tabulate(report: Report, found: Times, told: dict[str, dict[str, float]]) -> None:
    """The tables: rates and times by subject, and what an input is."""
    table = report.table(
        "Executions in a second of processor time, mutation too", "fork by", EMPTY, LOADED, "the paper, 1 GB"
    )
    for name in (*SUBJECTS, NONE):
        took = [(median(found[name, size]) or 0.0) + facts["mutation [us]"] for size, facts in told.items()]
        table.add(name, *(ratio(1e6, us) for us in took), FUZZED.get(COUNTERPARTS.get(name, "")))
    table = report.table("One execution, median / slowest, processor time [us]", "fork by", EMPTY, LOADED)
    for name in (*SUBJECTS, NONE):
        table.add(name, *(pair(found[name, size]) for size in (EMPTY, LOADED)))
    table = report.table("An input, mean", "store", *told[LOADED])
    for size, facts in told.items():
        table.add(size, *facts.values())


def draw_rates(found: Times, path: Path) -> None:
    """Draw the executions a second as bars, by the size of the store."""
    from bench.reporting.picture import COLOURS, figure, save

    canvas, axes = figure(1, height=3.6)
    width = 1 / (len(SUBJECTS) + 1)
    for i, name in enumerate(SUBJECTS):
        rates = [ratio(1e6, median(found[name, size])) for size in (EMPTY, LOADED)]
        axes[0].bar([i * width, 1 + i * width], rates, width, label=name, color=COLOURS.get(name))
    for name, style in (("fork", ":"), ("on-demand-fork", "--")):
        axes[0].axhline(FUZZED[name], color="k", linestyle=style, linewidth=1, label=f"the paper, {name}, 1 GB")
    axes[0].set(yscale="log", ylabel="executions a second, without mutation")
    axes[0].set_xticks([0.3, 1.3], [EMPTY, LOADED])
    axes[0].legend(fontsize=8)
    save(canvas, path)
