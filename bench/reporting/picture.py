"""The common style of the benchmarks' pictures, which are drawn without a display."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

WIDTH_INCHES = 9.0
DOTS_PER_INCH = 130
COLOURS = {
    "on-demand": "#1b7f5c",
    "constant": "#2b5c9e",
    "classic": "#c98a1b",
    "redis": "#b3312c",
    "nothing": "#777777",
}


def figure(panels: int, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """A canvas of panels under one another, in `columns`, that share their axes, and the panels row by row."""
    canvas = Figure(figsize=(WIDTH_INCHES, height))
    axes = canvas.subplots(panels, columns, sharex=True, sharey=True, squeeze=False)
    for one in axes.flat:
        one.grid(True, which="major", color="#dddddd", linewidth=0.6)
        one.set_axisbelow(True)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    return canvas, list(axes.flat)


def save(canvas: Any, path: Path) -> None:
    """Write it as PNG, or in the format of the file name's suffix."""
    canvas.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
