"""The benchmarks of branches, of frozen stores and of the work that forks serve, as commands."""

from pathlib import Path

import click

from bench.options import common, finish, in_rounds, plotted
from bench.reporting.report import Report


@click.command("branches")
@click.option("--keys", type=click.IntRange(100), default=1_000_000, show_default=True)
@in_rounds(5)
@common
def branches_command(keys: int, rounds: int, smoke: bool, json_file: Path | None) -> None:
    """The cost to make, to reset, to keep and to compare branches of a loaded store.

    \b
    Example:
      kvstore bench branches --keys 100000
    """
    from bench.forks import branches

    finish(branches.run(**(branches.SMOKE if smoke else {"keys": keys, "rounds": rounds})), json_file)


@click.command("tests")
@click.option("--mib", type=click.IntRange(1), default=1024, show_default=True, help="Of data.")
@click.option("--tests", "count", type=click.IntRange(1), default=200, show_default=True)
@common
def tests_command(mib: int, count: int, smoke: bool, json_file: Path | None) -> None:
    """The cost to give every unit test a loaded store of its own, beside the ways that people have with redis-server.

    \b
    Example:
      kvstore bench tests --mib 100
    """
    from bench.forks import unittests

    finish(unittests.run(**(unittests.SMOKE if smoke else {"mib": mib, "tests": count})), json_file)


@click.command("fuzz")
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
    from bench.forks import fuzz

    sizes = fuzz.SMOKE if smoke else {"keys": keys, "inputs": inputs, "rounds": rounds}
    return finish(fuzz.run(**sizes, plot=plot), json_file)


@click.command("scan")
@click.option("--hashes", type=click.IntRange(100), default=1_000_000, show_default=True)
@click.option("--rate", type=float, default=20_000.0, show_default=True, help="Writes a second.")
@common
def scan_command(hashes: int, rate: float, smoke: bool, json_file: Path | None) -> None:
    """A consistent scan of all data beside transactions.

    \b
    Example:
      kvstore bench scan --hashes 100000
    """
    from bench.forks import scan

    finish(scan.run(**(scan.SMOKE if smoke else {"hashes": hashes, "rate": rate})), json_file)


@click.command("frozen")
@click.option("--keys", type=int, default=1_000_000, show_default=True, help="Keys in the store.")
@in_rounds(15)
@common
def frozen_command(keys: int, rounds: int, smoke: bool, json_file: Path | None) -> Report:
    """The cost to read a frozen store, beside reading the store itself.

    \b
    Example:
      kvstore bench frozen --keys 1000000
    """
    from bench.forks import frozen

    return finish(frozen.run(**(frozen.SMOKE if smoke else {"keys": keys, "rounds": rounds})), json_file)


COMMANDS = (
    branches_command,
    tests_command,
    fuzz_command,
    scan_command,
    frozen_command,
)
