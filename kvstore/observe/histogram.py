"""Durations of calls: a histogram for each command, which the loop keeps in cycles and Python reads in microseconds.

Cells are log-linear ranges of cycles: below 64 cycles each number has a cell of its own, and above that each power of
two has 32 cells of equal width.  A cell is at most 3 % wide.  Finding it takes a count of leading zeros, two shifts and
an addition.

    cycles      0  1 ..  63  64..65  66..67 ..  126..127  128..131 ..
    cell        0  1 ..  63    64      65   ..     95        96    ..

Cycles are converted to time only when a client asks for it: LATENCY HISTOGRAM, INFO latencystats.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from mmcore.jit import int64, intrinsic, kernel
from mmcore.jit.toolchain import ir

MANTISSA = 5  # bits behind a number's first one that select its cell
CYCLES_MAX = (1 << 40) - 1  # minutes; longer calls count as this
CELLS = (40 - MANTISSA + 1) << MANTISSA
# The times of Redis's histograms: each is the end of a cell that begins at a power of two of nanoseconds and is 1/128
# of that wide.
ENDS_NS = [power + power // 128 - 1 for power in (1 << exponent for exponent in range(10, 52))]


@intrinsic
def _leading_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """The number of zero bits above the highest set bit of the 64; `value` must not be 0."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.ctlz(values[0], ir.Constant(ir.IntType(1), 1))

    return int64(int64), codegen


@kernel
def cell_of(cycles):  # type: ignore[no-untyped-def]
    """The cell that counts a call of `cycles` cycles, which must not be negative."""
    cycles = min(cycles, CYCLES_MAX)
    exponent = 63 - MANTISSA - _leading_zeros(cycles | (2 << MANTISSA) - 1)
    return (exponent << MANTISSA) + (cycles >> exponent)


def upper_end(cell: int) -> int:
    """The largest number in a cell [cycles]."""
    exponent = max(cell >> MANTISSA, 1) - 1
    return ((cell - (exponent << MANTISSA) + 1) << exponent) - 1


class Scale:
    """The times of the cells at a given rate of the counter: computed once for all histograms of a reply."""

    def __init__(self, cycles_per_us: float) -> None:
        self.upper_us = [upper_end(cell) / cycles_per_us for cell in range(CELLS)]
        self.cells = [bisect_right(self.upper_us, end / 1000) for end in ENDS_NS]  # below each of ENDS_NS


class Histogram:
    """The calls of one command, by duration."""

    def __init__(self, counts: Any, scale: Scale) -> None:
        self._scale = scale
        self._cumulated = [0, *accumulate(counts)]  # calls in the first i cells

    @property
    def calls(self) -> int:
        """Number of calls."""
        return int(self._cumulated[-1])

    def percentile(self, share: float) -> float:
        """The time that `share` per cent of the calls did not exceed [us]."""
        rank = max(1, int(share / 100 * self.calls + 0.5))
        return float(self._scale.upper_us[bisect_left(self._cumulated, rank) - 1])

    def cumulated(self) -> Iterator[tuple[int, int]]:
        """Pairs of a time [us] and the number of calls that did not exceed it; each time is about twice the last.

        Times that add no call to the number are left out.  The times are Redis's.
        """
        before = 0
        for end, cell in zip(ENDS_NS, self._scale.cells, strict=True):
            below = self._cumulated[cell]
            if below != before:
                yield end // 1000, below
            before = below
