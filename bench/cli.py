"""The command line: `kvstore bench NAME`, or `python -m bench NAME`.

Every benchmark prints its results and its method.  --json saves them, --plot draws them.  --smoke runs for a few
seconds at a size whose numbers mean nothing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.report import Report
from bench.servers import DEFAULT, RIVALS, SUBJECTS

TABLE_WIDTH_MIN = 120


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every benchmark has."""
    command = click.option("--smoke", is_flag=True, help="A size of seconds, to see that it works.")(command)
    return click.option(
        "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Save the report as JSON."
    )(command)


plotted = click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, as PNG.")


into_directory = click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench-results"),
    show_default=True,
    help="Where reports and pictures go.",
)


def touched_memory(default: float) -> Callable[..., Any]:
    """The option for the amount of memory to measure."""
    return click.option("--gib", "size_gib", type=float, default=default, show_default=True, help="Touched memory.")


def in_rounds(default: int) -> Callable[..., Any]:
    """The option for the number of rounds, in each of which all subjects take a turn."""
    return click.option("--rounds", type=click.IntRange(1), default=default, show_default=True)


def against(*default: str) -> Callable[..., Any]:
    """The option for the subjects to compare."""
    return click.option(
        "--subject",
        "subjects",
        type=click.Choice(tuple(dict.fromkeys((*SUBJECTS, *RIVALS)))),
        multiple=True,
        default=default,
        help=f"What to measure; may be given more than once.  By default {', '.join(default)}.",
    )


def chosen_parts(only: str | None, parts: Sequence[str]) -> Sequence[str]:
    """The parts that --only names, all by default."""
    chosen = only.split(",") if only else parts
    if unknown := set(chosen) - set(parts):
        raise click.BadParameter(f"no such part: {', '.join(sorted(unknown))}", param_hint="--only")
    return chosen


def finish(report: Report, json_file: Path | None) -> Report:
    """Show the report, save it if wanted, and return it."""
    console = Console()
    if console.width < TABLE_WIDTH_MIN:
        console = Console(width=TABLE_WIDTH_MIN)
    report.show(console)
    if json_file:
        report.save(json_file)
        console.print(f"  saved as {json_file}", highlight=False)
    return report


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure this server, beside redis-server where that is installed.

    \b
    Example:
      kvstore bench snapshot --json snapshot.json --plot snapshot.png
    """


@bench.command("fork")
@click.option("--gib", "sizes_gib", type=float, multiple=True, help="Touched memory; may be given more than once.")
@click.option("--aliased-gib", type=float, multiple=True, help="Page tables of so much; may be given more than once.")
@click.option("--repetitions", type=click.IntRange(1), default=20, show_default=True)
@plotted
@common
def fork_command(
    sizes_gib: tuple[float, ...],
    aliased_gib: tuple[float, ...],
    repetitions: int,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> Report:
    """How long a fork takes, by the amount of memory: the machine's and the operating system's.

    \b
    Example:
      kvstore bench fork --gib 1 --gib 8 --plot fork.png
    """
    from bench import fork

    sizes = {"sizes_gib": sizes_gib or fork.SIZES_GIB, "aliased_gib": aliased_gib or fork.ALIASED_GIB}
    return finish(fork.run(**(fork.SMOKE if smoke else {**sizes, "repetitions": repetitions}), plot=plot), json_file)


@bench.command("concurrent")
@touched_memory(1.0)
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Of forks, by each number of threads.")
@in_rounds(3)
@plotted
@common
def concurrent_command(
    size_gib: float, seconds: float, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None
) -> Report:
    """What forks cost each other that are made at once.

    \b
    Example:
      kvstore bench concurrent --gib 2
    """
    from bench import concurrent

    sizes = concurrent.SMOKE if smoke else {"size_gib": size_gib, "seconds": seconds, "rounds": rounds}
    return finish(concurrent.run(**sizes, plot=plot), json_file)


@bench.command("fault")
@touched_memory(1.0)
@click.option("--repetitions", type=click.IntRange(1), default=200, show_default=True, help="Of the first accesses.")
@in_rounds(7)
@plotted
@common
def fault_command(
    size_gib: float, repetitions: int, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None
) -> Report:
    """What the first access after a fork costs, and how all first writes are distributed.

    \b
    Example:
      kvstore bench fault --rounds 20 --plot fault.png
    """
    from bench import fault

    sizes = fault.SMOKE if smoke else {"size_gib": size_gib, "repetitions": repetitions, "rounds": rounds}
    return finish(fault.run(**sizes, plot=plot), json_file)


@bench.command("whole")
@touched_memory(4.0)
@in_rounds(5)
@plotted
@common
def whole_command(size_gib: float, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """What a fork costs with the reads and writes that follow it.

    \b
    Example:
      kvstore bench whole --gib 1 --plot whole.png
    """
    from bench import whole

    sizes = whole.SMOKE if smoke else {"size_gib": size_gib, "rounds": rounds}
    return finish(whole.run(**sizes, plot=plot), json_file)


@bench.command("small")
@click.option("--repetitions", type=click.IntRange(1), default=300, show_default=True)
@plotted
@common
def small_command(repetitions: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """What forks of little memory cost.

    \b
    Example:
      kvstore bench small --repetitions 1000
    """
    from bench import small

    return finish(small.run(**(small.SMOKE if smoke else {"repetitions": repetitions}), plot=plot), json_file)


@bench.command("exit")
@touched_memory(1.0)
@in_rounds(7)
@plotted
@common
def exit_command(size_gib: float, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """How long the end of an address space takes, and each of its steps.

    \b
    Example:
      kvstore bench exit --plot exit.png
    """
    from bench import exits

    sizes = exits.SMOKE if smoke else {"size_gib": size_gib, "rounds": rounds}
    return finish(exits.run(**sizes, plot=plot), json_file)


@bench.command("clone")
@click.option("--mib", type=click.IntRange(2), default=188, show_default=True, help="The guest's memory.")
@click.option("--runs", type=click.IntRange(1), default=200, show_default=True, help="Of each round.")
@in_rounds(7)
@plotted
@common
def clone_command(mib: int, runs: int, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """Executions a second of a guest that is cloned for every input.

    \b
    Example:
      kvstore bench clone --mib 1024
    """
    from bench import clone

    sizes = clone.SMOKE if smoke else {"size": mib << 20, "runs": runs, "rounds": rounds}
    return finish(clone.run(**sizes, plot=plot), json_file)


@bench.command("fuzz")
@click.option("--keys", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Strings of 1000 bytes.")
@click.option("--inputs", type=click.IntRange(1), default=200, show_default=True, help="Of each round.")
@in_rounds(5)
@plotted
@common
def fuzz_command(keys: int, inputs: int, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """Executions a second of a fuzzer that forks a loaded store for every input.

    \b
    Example:
      kvstore bench fuzz --inputs 1000
    """
    from bench import fuzz

    sizes = fuzz.SMOKE if smoke else {"keys": keys, "inputs": inputs, "rounds": rounds}
    return finish(fuzz.run(**sizes, plot=plot), json_file)


@bench.command("translation")
@click.option("--gib", "sizes_gib", type=float, multiple=True, help="Touched memory; may be given more than once.")
@in_rounds(15)
@common
def translation_command(sizes_gib: tuple[float, ...], rounds: int, smoke: bool, json_file: Path | None) -> Report:
    """What the TLB and the paging-structure caches of the machine save.

    \b
    Example:
      kvstore bench translation --gib 0.125 --gib 4
    """
    from bench import translation

    sizes = {"sizes_gib": sizes_gib or translation.SIZES_GIB, "rounds": rounds}
    return finish(translation.run(**(translation.SMOKE if smoke else sizes)), json_file)


@bench.command("frozen")
@click.option("--keys", type=int, default=1_000_000, show_default=True, help="Keys in the store.")
@in_rounds(15)
@common
def frozen_command(keys: int, rounds: int, smoke: bool, json_file: Path | None) -> Report:
    """What it costs to read a frozen store, beside reading the store itself.

    \b
    Example:
      kvstore bench frozen --keys 1000000
    """
    from bench import frozen

    return finish(frozen.run(**(frozen.SMOKE if smoke else {"keys": keys, "rounds": rounds})), json_file)


PAPER_PARTS = ("fork", "concurrent", "fault", "whole", "small", "exit", "clone", "fuzz")


@bench.command("paper")
@into_directory
@click.option("--smoke", is_flag=True, help="Sizes of seconds, to see that it works.")
@click.pass_context
def paper_command(context: click.Context, directory: Path, smoke: bool) -> None:
    """The measurements of the on-demand-fork paper, each saved as NAME.json and NAME.png, and all figures at the end.

    \b
    Example:
      kvstore bench paper --to results
    """
    from bench import paper

    directory.mkdir(parents=True, exist_ok=True)
    reports = [
        context.invoke(
            bench.commands[name], smoke=smoke, json_file=directory / f"{name}.json", plot=directory / f"{name}.png"
        )
        for name in PAPER_PARTS
    ]
    finish(paper.summary(reports), directory / "paper.json")


@bench.command("pause")
@against(*SUBJECTS)
@click.option("--keys", type=click.IntRange(1), default=1_048_576, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=20, show_default=True, help="Snapshots of this server.")
@click.option("--rival-repetitions", type=click.IntRange(1), default=5, show_default=True, help="Of redis-server.")
@common
def pause_command(
    subjects: tuple[str, ...], keys: int, repetitions: int, rival_repetitions: int, smoke: bool, json_file: Path | None
) -> None:
    """How long taking a snapshot stops the server.

    \b
    Example:
      kvstore bench pause --repetitions 50
    """
    from bench import pause

    if smoke:
        keys, repetitions, rival_repetitions = min(keys, 2000), 2, 2
    finish(pause.run(subjects, keys, repetitions=repetitions, rival_repetitions=rival_repetitions), json_file)


@bench.command("throughput")
@against(DEFAULT, "redis")
@click.option("--pipeline", "pipelines", type=click.IntRange(1), multiple=True, help="Default 1, 16 and 64.")
@click.option("--tests", default="get,set", show_default=True, help="Of redis-benchmark: get,set,incr,mset ...")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=64, show_default=True, help="[bytes]")
@click.option("--clients", type=click.IntRange(1), default=50, show_default=True)
@plotted
@common
def throughput_command(
    subjects: tuple[str, ...],
    pipelines: tuple[int, ...],
    tests: str,
    rounds: int,
    keys: int,
    value_size: int,
    clients: int,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Requests a second by redis-benchmark, this server and redis-server in turn.

    \b
    Example:
      kvstore bench throughput --pipeline 1 --pipeline 32 --tests get,set,incr
    """
    from bench import throughput

    scale = 1.0
    if smoke:
        rounds, keys, scale = 1, min(keys, 1000), 0.01
    report = throughput.run(
        subjects, pipelines or throughput.PIPELINES, tests.split(","), rounds, keys, value_size, clients, scale, plot
    )
    finish(report, json_file)


@bench.command("snapshot")
@against(*SUBJECTS)
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=1024, show_default=True, help="[bytes]")
@click.option("--rate", type=click.IntRange(1), default=20_000, show_default=True, help="Requests a second.")
@click.option("--connections", type=click.IntRange(1, 900), default=50, show_default=True)
@click.option("--snapshots", type=click.IntRange(1), default=3, show_default=True, help="BGSAVEs of each server.")
@click.option("--quiet", "quiet_s", type=float, default=5.0, show_default=True, help="Seconds before, between, after.")
@click.option("--rival-option", "rival_options", multiple=True, help='For redis-server, as "--rdbcompression no".')
@click.option("--paper", is_flag=True, help="The load of the on-demand-fork paper, its figures beside.")
@plotted
@common
def snapshot_command(
    subjects: tuple[str, ...],
    keys: int,
    value_size: int,
    rate: int,
    connections: int,
    snapshots: int,
    quiet_s: float,
    rival_options: tuple[str, ...],
    paper: bool,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Latency under a fixed rate of requests while snapshots are taken.

    \b
    Example:
      kvstore bench snapshot --plot latency.png
      kvstore bench snapshot --paper
    """
    from bench import snapshot

    options = [word for option in rival_options for word in option.split()]
    if paper:
        if plot:
            raise click.UsageError("--paper has no picture")
        size, seconds, requests_max = snapshot.PAPER_BYTES, 20.0, 12_000_000
        if smoke:
            size, seconds, requests_max = 2_000_000, 2.5, 400_000
        finish(snapshot.run_paper(subjects, size, value_size, seconds, requests_max, options), json_file)
        return
    if smoke:
        keys, rate, snapshots, quiet_s = min(keys, 2000), min(rate, 2000), 1, 0.5
    report = snapshot.run(subjects, keys, value_size, rate, connections, snapshots, quiet_s, options, plot)
    finish(report, json_file)


@bench.command("restart")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=1024, show_default=True, help="[bytes]")
@click.option("--repetitions", type=click.IntRange(1), default=10, show_default=True)
@common
def restart_command(
    subjects: tuple[str, ...], keys: int, value_size: int, repetitions: int, smoke: bool, json_file: Path | None
) -> None:
    """From a restart to the first answered GET, and from an empty start to the first PONG.

    \b
    Example:
      kvstore bench restart --keys 4000000
    """
    from bench import restart

    if smoke:
        keys, repetitions = min(keys, 2000), 1
    finish(restart.run(subjects, keys, value_size, repetitions), json_file)


@bench.command("eviction")
@against(DEFAULT, "redis", "valkey")
@click.option("--keys", type=click.IntRange(100), default=400_000, show_default=True, help="Asked for; a quarter fits.")
@in_rounds(3)
@common
def eviction_command(subjects: tuple[str, ...], keys: int, rounds: int, smoke: bool, json_file: Path | None) -> None:
    """How many requests a cache hits under LRU and LFU, and what a SET costs that evicts.

    \b
    Example:
      kvstore bench eviction --keys 1000000 --rounds 5
    """
    from bench import eviction

    if smoke:
        keys, rounds = min(keys, 40_000), 1
    finish(eviction.run(subjects, keys, rounds), json_file)


@bench.command("expiry")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True, help="That expire at once.")
@click.option("--rate", type=click.IntRange(1), default=35_000, show_default=True, help="New keys a second.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=15.0, show_default=True, help="Of new keys."
)
@in_rounds(3)
@common
def expiry_command(
    subjects: tuple[str, ...],
    keys: int,
    rate: int,
    seconds: float,
    rounds: int,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Whether active expiry keeps up, and how long others wait for it.

    \b
    Example:
      kvstore bench expiry --keys 4000000 --rounds 5
    """
    from bench import expiry

    idle_s = 4.0
    if smoke:
        keys, rate, seconds, rounds, idle_s = min(keys, 2000), min(rate, 2000), 1.0, 1, 1.0
    finish(expiry.run(subjects, keys, rate, seconds, rounds, idle_s=idle_s), json_file)


@bench.command("memory")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", "value_sizes", type=click.IntRange(1), multiple=True, help="[bytes]; default 64.")
@common
def memory_command(
    subjects: tuple[str, ...], keys: int, value_sizes: tuple[int, ...], smoke: bool, json_file: Path | None
) -> None:
    """Resident bytes per key.

    \b
    Example:
      kvstore bench memory --value-size 64 --value-size 1024
    """
    from bench import memory

    settle_s = memory.SETTLE_S
    if smoke:
        keys, settle_s = min(keys, 2000), 0.1
    finish(memory.run(subjects, keys, value_sizes or (64,), settle_s), json_file)


@bench.command("givenback")
@against(DEFAULT, "redis")
@click.option("--gib", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of values.")
@click.option("--way", "ways", multiple=True, type=click.Choice(("FLUSHALL", "UNLINK", "expiry", "7 of 8")))
@common
def givenback_command(
    subjects: tuple[str, ...], gib: float, ways: tuple[str, ...], smoke: bool, json_file: Path | None
) -> None:
    """Resident memory once what was loaded is deleted.

    \b
    Example:
      kvstore bench givenback --way FLUSHALL --way expiry
    """
    from bench import givenback

    wait_s = givenback.WAIT_S
    if smoke:
        gib, wait_s = min(gib, 0.05), 0.5
    finish(givenback.run(subjects, gib, ways or givenback.WAYS, wait_s), json_file)


@bench.command("map")
@click.option("--gib", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of the space.")
@click.option(
    "--mode", "modes", type=click.Choice(("classic", "on-demand", "constant")), multiple=True, help="By default all."
)
@click.option(
    "--pattern", "patterns", type=click.Choice(("sequential", "random", "zipf")), multiple=True, help="By default all."
)
@click.option("--writes", type=click.IntRange(0), default=500, show_default=True, help="Places the parent writes.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--huge", is_flag=True, help="Map it by pages of 2 MiB.")
@plotted
@common
def map_command(
    gib: float,
    modes: tuple[str, ...],
    patterns: tuple[str, ...],
    writes: int,
    seed: int,
    huge: bool,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """What an address space looks like after a fork, when writers come: accounts, and a map of its regions.

    \b
    Example:
      kvstore bench map --plot map.png
      kvstore bench map --mode on-demand --pattern random --writes 5000
    """
    from bench import map as space_map
    from bench.machine import MODES

    if smoke:
        gib, writes = space_map.SMOKE_GIB, min(writes, 20)
    finish(
        space_map.run(gib, modes or tuple(MODES), patterns or space_map.PATTERNS, writes, seed, huge, plot),
        json_file,
    )


@bench.command("bystander")
@against(DEFAULT, "redis")
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@common
def bystander_command(subjects: tuple[str, ...], repetitions: int, smoke: bool, json_file: Path | None) -> None:
    """How long another client waits while one sends something that takes long.

    \b
    Example:
      kvstore bench bystander
      kvstore bench bystander --subject constant --repetitions 3
    """
    from bench import bystander

    sizes = bystander.SMOKE if smoke else {**bystander.FULL, "repetitions": repetitions}
    finish(bystander.run(subjects, sizes), json_file)


@bench.command("aside")
@against(DEFAULT, "redis")
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@common
def aside_command(subjects: tuple[str, ...], repetitions: int, smoke: bool, json_file: Path | None) -> None:
    """How long another client waits while one reads very much at once.

    \b
    Example:
      kvstore bench aside
      kvstore bench aside --subject constant --repetitions 3
    """
    from bench import aside

    sizes = aside.SMOKE if smoke else {**aside.FULL, "repetitions": repetitions}
    finish(aside.run(subjects, sizes), json_file)


@bench.command("collections")
@against(DEFAULT, *RIVALS)
@click.option("--only", help="Parts, with commas between: throughput, memory, index, turns, snapshot, remainder.")
@in_rounds(5)
@common
def collections_command(
    subjects: tuple[str, ...], only: str | None, rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """Hashes, sets, sorted sets and lists: speed, memory, stops of the loop, latency during a snapshot.

    \b
    Example:
      kvstore bench collections --only throughput,memory
    """
    from bench import collections

    parts = chosen_parts(only, collections.PARTS)
    sizes = collections.SMOKE if smoke else collections.Sizes(rounds=rounds)
    finish(collections.run(parts, subjects, sizes), json_file)


@bench.command("data")
@against(DEFAULT, *RIVALS)
@click.option("--only", help="Parts, with commas between: rates, memory, bits.")
@in_rounds(5)
@common
def data_command(subjects: tuple[str, ...], only: str | None, rounds: int, smoke: bool, json_file: Path | None) -> None:
    """Streams, HyperLogLogs, bits, geography and SORT: speed, memory, long commands.

    \b
    Example:
      kvstore bench data --only rates
    """
    from bench import data

    parts = chosen_parts(only, data.PARTS)
    sizes = data.Sizes(**data.SMOKE) if smoke else data.Sizes(**data.FULL, rounds=rounds)
    finish(data.run(parts, subjects, sizes), json_file)


@bench.command("pages")
@against(DEFAULT, *RIVALS)
@click.option("--elements", type=click.IntRange(1), default=200_000, show_default=True, help="Of each collection.")
@click.option("--writes", type=click.IntRange(1), multiple=True, help="Beside one fork; default 100, 500, 1,000.")
@in_rounds(5)
@common
def pages_command(
    subjects: tuple[str, ...], elements: int, writes: tuple[int, ...], rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """Pages copied per random write to a collection, beside a living fork.

    \b
    Example:
      kvstore bench pages --writes 100 --rounds 10
    """
    from bench import pages

    sizes = {"elements": elements, "writes": writes or pages.WRITES, "rounds": rounds}
    finish(pages.run(subjects, **(pages.SMOKE if smoke else sizes)), json_file)


@bench.command("pubsub")
@against(DEFAULT, *RIVALS)
@click.option("--subscribers", type=click.IntRange(1, 900), multiple=True, help="Default 1 and 100.")
@click.option("--size", type=click.IntRange(0), default=32, show_default=True, help="Of a message [bytes].")
@in_rounds(5)
@common
def pubsub_command(
    subjects: tuple[str, ...], subscribers: tuple[int, ...], size: int, rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """Messages delivered a second by PUBLISH, and what each costs the server.

    \b
    Example:
      kvstore bench pubsub --subscribers 100 --subscribers 500
    """
    from bench import pubsub

    sizes = pubsub.SMOKE if smoke else {"rounds": rounds}
    finish(pubsub.run(subjects, subscribers or pubsub.SUBSCRIBERS, size=size, **sizes), json_file)


@bench.command("blocking")
@against(DEFAULT, *RIVALS)
@click.option("--connections", type=click.IntRange(1), default=10_000, show_default=True, help="That are in the way.")
@in_rounds(5)
@common
def blocking_command(
    subjects: tuple[str, ...], connections: int, rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """How soon a push answers a client that waits, and what many connections cost the others.

    \b
    Example:
      kvstore bench blocking --connections 5000
    """
    from bench import blocking

    sizes: dict[str, Any] = blocking.SMOKE if smoke else {"rounds": rounds, "connections": connections}
    finish(blocking.run(subjects, **sizes), json_file)


@bench.command("branches")
@click.option("--keys", type=click.IntRange(100), default=1_000_000, show_default=True)
@in_rounds(5)
@common
def branches_command(keys: int, rounds: int, smoke: bool, json_file: Path | None) -> None:
    """What it costs to make, to reset and to keep branches of a loaded store.

    \b
    Example:
      kvstore bench branches --keys 100000
    """
    from bench import branches

    finish(branches.run(**(branches.SMOKE if smoke else {"keys": keys, "rounds": rounds})), json_file)


@bench.command("tests")
@click.option("--mib", type=click.IntRange(1), default=1024, show_default=True, help="Of data.")
@click.option("--tests", "count", type=click.IntRange(1), default=200, show_default=True)
@common
def tests_command(mib: int, count: int, smoke: bool, json_file: Path | None) -> None:
    """What it costs to give every unit test a loaded store of its own, beside what people do with redis-server.

    \b
    Example:
      kvstore bench tests --mib 100
    """
    from bench import unittests

    finish(unittests.run(**(unittests.SMOKE if smoke else {"mib": mib, "tests": count})), json_file)


@bench.command("scan")
@click.option("--hashes", type=click.IntRange(100), default=1_000_000, show_default=True)
@click.option("--rate", type=float, default=20_000.0, show_default=True, help="Writes a second.")
@common
def scan_command(hashes: int, rate: float, smoke: bool, json_file: Path | None) -> None:
    """A consistent scan of all data beside transactions.

    \b
    Example:
      kvstore bench scan --hashes 100000
    """
    from bench import scan

    finish(scan.run(**(scan.SMOKE if smoke else {"hashes": hashes, "rate": rate})), json_file)


PICTURED = ("throughput", "snapshot", "map")


@bench.command("all")
@into_directory
@click.option("--smoke", is_flag=True, help="Sizes of seconds, to see that it works.")
@click.pass_context
def all_command(context: click.Context, directory: Path, smoke: bool) -> None:
    """Every benchmark after the other, saved as NAME.json and NAME.png.

    \b
    Example:
      kvstore bench all --to results
    """
    directory.mkdir(parents=True, exist_ok=True)
    context.invoke(paper_command, directory=directory, smoke=smoke)
    first = "translation frozen pause throughput snapshot restart memory givenback map bystander expiry eviction"
    for name in f"{first} aside collections data pages pubsub blocking branches tests scan".split():
        picture = {"plot": directory / f"{name}.png"} if name in PICTURED else {}
        context.invoke(bench.commands[name], smoke=smoke, json_file=directory / f"{name}.json", **picture)
    paper = directory / "snapshot-paper.json"
    context.invoke(snapshot_command, paper=True, smoke=smoke, json_file=paper)
