"""The benchmarks of the paging machine by itself, as commands."""

from pathlib import Path

import click

from bench.options import common, finish, in_rounds, plotted, touched_memory
from bench.reporting.report import Report


@click.command("fork")
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
    from bench.paging import fork

    sizes = {"sizes_gib": sizes_gib or fork.SIZES_GIB, "aliased_gib": aliased_gib or fork.ALIASED_GIB}
    return finish(fork.run(**(fork.SMOKE if smoke else {**sizes, "repetitions": repetitions}), plot=plot), json_file)


@click.command("concurrent")
@touched_memory(1.0)
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Of forks, by each number of threads.")
@in_rounds(3)
@plotted
@common
def concurrent_command(
    size_gib: float, seconds: float, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None
) -> Report:
    """The cost of forks to each other that are made at once.

    \b
    Example:
      kvstore bench concurrent --gib 2
    """
    from bench.paging import concurrent

    sizes = concurrent.SMOKE if smoke else {"size_gib": size_gib, "seconds": seconds, "rounds": rounds}
    return finish(concurrent.run(**sizes, plot=plot), json_file)


@click.command("fault")
@touched_memory(1.0)
@click.option("--repetitions", type=click.IntRange(1), default=200, show_default=True, help="Of the first accesses.")
@in_rounds(7)
@plotted
@common
def fault_command(
    size_gib: float, repetitions: int, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None
) -> Report:
    """The cost of the first access after a fork, and how all first writes are distributed.

    \b
    Example:
      kvstore bench fault --rounds 20 --plot fault.png
    """
    from bench.paging import fault

    sizes = fault.SMOKE if smoke else {"size_gib": size_gib, "repetitions": repetitions, "rounds": rounds}
    return finish(fault.run(**sizes, plot=plot), json_file)


@click.command("whole")
@touched_memory(4.0)
@in_rounds(5)
@plotted
@common
def whole_command(size_gib: float, rounds: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """The cost of a fork together with the reads and writes that follow it.

    \b
    Example:
      kvstore bench whole --gib 1 --plot whole.png
    """
    from bench.paging import whole

    sizes = whole.SMOKE if smoke else {"size_gib": size_gib, "rounds": rounds}
    return finish(whole.run(**sizes, plot=plot), json_file)


@click.command("small")
@click.option("--repetitions", type=click.IntRange(1), default=300, show_default=True)
@plotted
@common
def small_command(repetitions: int, plot: Path | None, smoke: bool, json_file: Path | None) -> Report:
    """The cost of forks of little memory.

    \b
    Example:
      kvstore bench small --repetitions 1000
    """
    from bench.paging import small

    return finish(small.run(**(small.SMOKE if smoke else {"repetitions": repetitions}), plot=plot), json_file)


@click.command("exit")
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
    from bench.paging import exits

    sizes = exits.SMOKE if smoke else {"size_gib": size_gib, "rounds": rounds}
    return finish(exits.run(**sizes, plot=plot), json_file)


@click.command("clone")
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
    from bench.paging import clone

    sizes = clone.SMOKE if smoke else {"size": mib << 20, "runs": runs, "rounds": rounds}
    return finish(clone.run(**sizes, plot=plot), json_file)


@click.command("map")
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
    """An address space after a fork, when writers come: accounts, and a map of its regions.

    \b
    Example:
      kvstore bench map --plot map.png
      kvstore bench map --mode on-demand --pattern random --writes 5000
    """
    from bench.paging import map as space_map
    from bench.rig.machine import MODES

    if smoke:
        gib, writes = space_map.SMOKE_GIB, min(writes, 20)
    finish(
        space_map.run(gib, modes or tuple(MODES), patterns or space_map.PATTERNS, writes, seed, huge, plot),
        json_file,
    )


@click.command("translation")
@click.option("--gib", "sizes_gib", type=float, multiple=True, help="Touched memory; may be given more than once.")
@in_rounds(15)
@common
def translation_command(sizes_gib: tuple[float, ...], rounds: int, smoke: bool, json_file: Path | None) -> Report:
    """The time that the TLB and the paging-structure caches of the machine save.

    \b
    Example:
      kvstore bench translation --gib 0.125 --gib 4
    """
    from bench.paging import translation

    sizes = {"sizes_gib": sizes_gib or translation.SIZES_GIB, "rounds": rounds}
    return finish(translation.run(**(translation.SMOKE if smoke else sizes)), json_file)


COMMANDS = (
    fork_command,
    concurrent_command,
    fault_command,
    whole_command,
    small_command,
    exit_command,
    clone_command,
    map_command,
    translation_command,
)
