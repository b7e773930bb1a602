"""A series of numbers drawn in text: one column each, a few rows, and under each column its label, top to bottom.

    |#
    ||_
    |||_

The height of a column shows the position of its number between the smallest and the largest.  At its top, one of three
characters shows how far the column reaches into the row.
"""

from collections.abc import Sequence
from itertools import zip_longest

_PART, _FULL = "_o#", "|"


def _column(value: int, least: int, spread: int, rows: int) -> str:
    # The rows, bottom row first.
    steps = len(_PART) * rows
    step = min((value - least) * steps // spread, steps - 1)
    full, part = divmod(step, len(_PART))
    return (_FULL * full + _PART[part]).ljust(rows)


def sparkline(values: Sequence[int], labels: Sequence[str], rows: int, columns: int) -> str:
    """The drawing, in bands of at most `columns` values; every line ends with a line break."""
    least = min(values, default=0)
    spread = max(values, default=0) - least or 1
    drawn = []
    for first in range(0, len(values), columns):
        last = first + columns
        heights = [_column(value, least, spread, rows) for value in values[first:last]]
        lines = ["".join(row) for row in zip(*heights, strict=True)][::-1]
        lines.append(" " * len(heights))
        lines += ["".join(row) for row in zip_longest(*labels[first:last], fillvalue=" ")]
        drawn.append("".join(f"{line}\n" for line in lines))
    return "\n".join(drawn)
