"""The command line: `kvstore bench NAME`, or `python -m bench NAME`.

Every benchmark prints its results and its method.  --json saves them, --plot draws them.  --smoke runs for a few
seconds at a size whose numbers mean nothing.  Each room of benchmarks declares its own commands, which import the
benchmark when they run.
"""

from pathlib import Path

import click

from bench.forks.commands import COMMANDS as FORKS
from bench.options import finish, into_directory
from bench.paging.commands import COMMANDS as PAGING
from bench.serving.commands import COMMANDS as SERVING
from bench.values.commands import COMMANDS as VALUES

PAPER_PARTS = ("fork", "concurrent", "fault", "whole", "small", "exit", "clone", "fuzz")
PICTURED = ("throughput", "snapshot", "map")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure this server, beside redis-server where that is installed.

    \b
    Example:
      kvstore bench snapshot --json snapshot.json --plot snapshot.png
    """


for command in (*PAGING, *SERVING, *VALUES, *FORKS):
    bench.add_command(command)


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
    from bench.reporting import paper

    directory.mkdir(parents=True, exist_ok=True)
    reports = [
        context.invoke(
            bench.commands[name], smoke=smoke, json_file=directory / f"{name}.json", plot=directory / f"{name}.png"
        )
        for name in PAPER_PARTS
    ]
    finish(paper.summary(reports), directory / "paper.json")


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
    for name in [name for name in bench.commands if name not in (*PAPER_PARTS, "paper", "all")]:
        picture = {"plot": directory / f"{name}.png"} if name in PICTURED else {}
        context.invoke(bench.commands[name], smoke=smoke, json_file=directory / f"{name}.json", **picture)
    paper = directory / "snapshot-paper.json"
    context.invoke(bench.commands["snapshot"], paper=True, smoke=smoke, json_file=paper)
