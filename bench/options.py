"""The options that benchmarks share, and the way in which each of them ends."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.reporting.report import Report
from bench.rig.servers import RIVALS, SUBJECTS

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
