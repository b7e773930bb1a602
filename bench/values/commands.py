"""The benchmarks of collections and of the other types, as commands."""

from pathlib import Path

import click

from bench.options import against, chosen_parts, common, finish, in_rounds
from bench.rig.servers import DEFAULT, RIVALS


@click.command("collections")
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
    from bench.values import collections
    from bench.values.sizes import SMOKE, Sizes

    parts = chosen_parts(only, collections.PARTS)
    sizes = SMOKE if smoke else Sizes(rounds=rounds)
    finish(collections.run(parts, subjects, sizes), json_file)


@click.command("data")
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
    from bench.values import data

    parts = chosen_parts(only, data.PARTS)
    sizes = data.Sizes(**data.SMOKE) if smoke else data.Sizes(**data.FULL, rounds=rounds)
    finish(data.run(parts, subjects, sizes), json_file)


@click.command("pages")
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
    from bench.values import pages

    sizes = {"elements": elements, "writes": writes or pages.WRITES, "rounds": rounds}
    finish(pages.run(subjects, **(pages.SMOKE if smoke else sizes)), json_file)


COMMANDS = (
    collections_command,
    data_command,
    pages_command,
)
