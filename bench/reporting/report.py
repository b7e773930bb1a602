"""The report of a benchmark: tables, figures with their bars, and the way in which all of it was measured.

A report is shown on a terminal and saved as JSON with the same numbers, unrounded.  It contains everything needed to
question them: the method, the parameters, the machine, its load when the run began, the versions, the revision of the
source.  An unavailable number is None, and shown as a dash; the notes say why.
"""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

Cell = str | float | int | None
Say = Callable[[str], None]

PERCENTILES = (50.0, 99.0, 99.9, 99.99)
LATENCY_MAX_NS = 600 * 10**9
SIGNIFICANT_DIGITS = 3
FIGURE_COLUMNS = ("what", "measured", "bar", "reached", "the paper")


@dataclass
class Table:
    """Rows of numbers; the column names contain the units."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Append a row."""
        assert len(cells) == len(self.columns), f"{len(cells)} cells, {len(self.columns)} columns"
        self.rows.append(cells)

    def show(self, console: Console) -> None:
        """Print it."""
        shown = RichTable(title=escape(self.title), title_justify="left", title_style="bold")
        for i, column in enumerate(self.columns):
            shown.add_column(escape(column), justify="left" if i == 0 else "right")
        for row in self.rows:
            shown.add_row(*[escape(number(cell)) for cell in row])
        console.print(shown)


@dataclass
class Figure:
    """A measured figure and its bar, the value that it must reach or must not exceed."""

    what: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    paper: float | None = None  # the corresponding figure of the paper that is reproduced

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None when there is no figure, or no bar."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is None or self.value <= self.at_most

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:.4g}{self.unit}"
        return f"at most {self.at_most:.4g}{self.unit}" if self.at_most is not None else ""

    @property
    def cells(self) -> Sequence[Cell]:
        """The figure as a row under FIGURE_COLUMNS."""
        value = None if self.value is None else number(self.value) + self.unit
        paper = None if self.paper is None else number(self.paper) + self.unit
        return self.what, value, self.bar, {True: "yes", False: "no", None: None}[self.reached], paper


@dataclass
class Report:
    """One run of one benchmark."""

    name: str
    question: str
    method: list[str]
    parameters: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def table(self, title: str, *columns: str) -> Table:
        """A new table of this report."""
        self.tables.append(Table(title, columns))
        return self.tables[-1]

    def figure(
        self,
        what: str,
        value: float | None,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "",
        paper: float | None = None,
    ) -> None:
        """Add a figure with its bar."""
        self.figures.append(Figure(what, value, at_least, at_most, unit, paper))

    def show(self, console: Console) -> None:
        """Print it."""
        console.print(f"\n[bold]{self.name}[/bold]: {self.question}")
        for line in self.method:
            console.print(f"  {escape(line)}", style="dim", highlight=False)
        for table in self.tables:
            table.show(console)
        if self.figures:
            columns = (
                FIGURE_COLUMNS if any(figure.paper is not None for figure in self.figures) else FIGURE_COLUMNS[:-1]
            )
            table = Table("Figures", columns)
            for figure in self.figures:
                table.add(*figure.cells[: len(columns)])
            table.show(console)
        for note in self.notes:
            console.print(f"  note: {escape(note)}", highlight=False)
        about = machine()
        console.print(
            f"  {about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; "
            f"load average before the run {self.load_before:.2f}",
            style="dim",
            highlight=False,
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {
            "name": self.name,
            "question": self.question,
            "method": self.method,
            "parameters": self.parameters,
            "began": self.began,
            "load_average_before": self.load_before,
            "machine": machine(),
            "versions": versions(),
            "revision": revision(),
            "tables": [{"title": t.title, "columns": list(t.columns), "rows": t.rows} for t in self.tables],
            "figures": [
                {
                    "what": f.what,
                    "value": f.value,
                    "unit": f.unit.strip(),
                    "at_least": f.at_least,
                    "at_most": f.at_most,
                    "reached": f.reached,
                    "paper": f.paper,
                }
                for f in self.figures
            ],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    # NumPy's scalars and paths, for json.
    return value.item() if isinstance(value, np.generic) else str(value)


def number(value: Cell) -> str:
    """A cell as text: four significant digits, separated thousands, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if not math.isfinite(value):
        return str(value)
    digits = max(0, SIGNIFICANT_DIGITS - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


# ----------------------------------------------------------------------------------------------------------- statistics


def middle(values: Iterable[float]) -> float:
    """The median of values that there are."""
    return float(np.median(list(values)))


def median(values: Iterable[float]) -> float | None:
    """The median; None if there are no values."""
    values = list(values)
    return float(np.median(values)) if values else None


def worst(values: Iterable[float]) -> float | None:
    """The largest value; None if there are no values."""
    return max(values, default=None)


def pair(values: Iterable[float], digits: str = ".4g") -> str | None:
    """The median and the largest value as one cell; None if there are no values."""
    values = list(values)
    return f"{np.median(values):,{digits}} / {max(values):,{digits}}" if values else None


def largest(values: Iterable[float | None]) -> float | None:
    """The largest of the available values; None if there are none."""
    return max((value for value in values if value is not None), default=None)


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b; None if either is missing or b is zero."""
    return a / b if a is not None and b else None


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """(intercept, slope) of the least-squares line through the points."""
    slope, intercept = np.polyfit(xs, ys, 1)
    return float(intercept), float(slope)


def latencies(values_ns: np.ndarray) -> dict[str, float | None]:
    """Percentiles and maximum of latencies in nanoseconds, in milliseconds, by HdrHistogram (3 digits)."""
    names = [f"p{p:g}" for p in PERCENTILES]
    if len(values_ns) == 0:
        return dict.fromkeys([*names, "max"])
    histogram = HdrHistogram(1, LATENCY_MAX_NS, SIGNIFICANT_DIGITS)
    # The histogram keeps only the top 11 bits of a value; dropping the others first leaves few values to record.
    values = np.maximum(values_ns, 1).astype(np.int64)
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - 12, 0)
    distinct, counts = np.unique(values >> shift << shift, return_counts=True)
    for value, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    found: dict[str, float | None] = {
        name: histogram.get_value_at_percentile(p) / 1e6 for name, p in zip(names, PERCENTILES, strict=True)
    }
    found["max"] = float(values.max()) / 1e6
    return found


# ---------------------------------------------------------------------------------------------------------- the machine


def _field(path: str, name: str) -> str:
    # The value of `name : value` in a file of /proc; "" when there is none.
    try:
        text = Path(path).read_text()
    except OSError:
        return ""
    for entry in text.splitlines():
        key, _, value = entry.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def machine() -> dict[str, Any]:
    """A description of the machine."""
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "transparent_hugepage": huge.read_text().strip() if huge.exists() else None,
    }


def versions() -> dict[str, str | None]:
    """The versions of the software that took part."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("numba", "numpy", "llvmlite", "hdrhistogram"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    for name in ("redis-server", "redis-benchmark"):
        found[name] = _output([name, "--version"]) if shutil.which(name) else None
    return found


def revision() -> str | None:
    """The source's git revision, with "+" when files differ from it; None outside a repository."""
    root = str(Path(__file__).resolve().parent.parent)
    found = _output(["git", "-C", root, "rev-parse", "--short=12", "HEAD"]) if shutil.which("git") else None
    if found and _output(["git", "-C", root, "status", "--porcelain", "--untracked-files=no"]):
        return found + "+"
    return found


def _output(command: list[str]) -> str | None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or None if run.returncode == 0 else None


def say(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)
