"""How long calls took: a histogram of cycles for each command, kept by the loop and read in microseconds.

A cell is a range of cycles, log-linear: up to 64 cycles each number has its own, and above that each power of two has
32 of equal width.  A cell is at most 3 % wide, and finding it is a count of leading zeros, two shifts and a sum.

    cycles      0  1 ..  63  64..65  66..67 ..  126..127  128..131 ..
    cell        0  1 ..  63    64      65   ..     95        96    ..

The time stamp counter becomes time only here, when somebody asks: LATENCY HISTOGRAM, INFO latencystats.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmcore.jit import int64, intrinsic, kernel
from mmcore.jit.toolchain import ir

MANTISSA = 5  # bits of a number that its cell tells, behind the first
CYCLES_MAX = (1 << 40) - 1  # minutes; what took longer counts as this
CELLS = (40 - MANTISSA + 1) << MANTISSA
# The times of Redis's histograms: each is the end of a cell that begins at a power of two of nanoseconds and is a 128th
# of that wide.
ENDS_NS = np.array([power + power // 128 - 1 for power in (1 << exponent for exponent in range(10, 52))])


@intrinsic
def _leading_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """How many of the 64 bits stand above the highest one that is set; `value` must not be 0."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.ctlz(values[0], ir.Constant(ir.IntType(1), 1))

    return int64(int64), codegen


@kernel
def cell_of(cycles):  # type: ignore[no-untyped-def]
    """The cell that counts a call of so many cycles, 0 or more."""
    cycles = min(cycles, CYCLES_MAX)
    exponent = 63 - MANTISSA - _leading_zeros(cycles | (2 << MANTISSA) - 1)
    return (exponent << MANTISSA) + (cycles >> exponent)


def _upper_ends() -> np.ndarray:
    cells = np.arange(CELLS)
    exponents = np.maximum(cells >> MANTISSA, 1) - 1
    ends: np.ndarray = ((cells - (exponents << MANTISSA) + 1) << exponents) - 1
    return ends


UPPER_ENDS = _upper_ends()  # of each cell: the largest number in it [cycles]; int64[CELLS]


class Scale:
    """What cells are in time, at a rate of the counter: found once, used for all histograms of a reply."""

    def __init__(self, cycles_per_us: float) -> None:
        self.upper_us = UPPER_ENDS / cycles_per_us
        self.cells = np.searchsorted(1000 * self.upper_us, ENDS_NS, "right")  # below each of ENDS_NS


class Histogram:
    """The calls of one command, by how long they took."""

    def __init__(self, counts: Any, scale: Scale) -> None:
        self._scale = scale
        self._cumulated = np.concatenate(([0], np.cumsum(counts)))  # calls in the first i cells

    @property
    def calls(self) -> int:
        """How many there were."""
        return int(self._cumulated[-1])

    def percentile(self, share: float) -> float:
        """What `share` per cent of the calls took at most [us]."""
        rank = max(1, int(share / 100 * self.calls + 0.5))
        return float(self._scale.upper_us[np.searchsorted(self._cumulated, rank) - 1])

    def cumulated(self) -> Iterator[tuple[int, int]]:
        """Pairs of a time [us] and how many calls took that at most; each time is about twice the one before it.

        Times at which nothing is added to the number are left out.  The times are Redis's.
        """
        below = self._cumulated[self._scale.cells]
        for at in np.flatnonzero(np.diff(below, prepend=0)).tolist():
            yield int(ENDS_NS[at]) // 1000, int(below[at])
