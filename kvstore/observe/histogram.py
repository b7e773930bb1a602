"""How long calls took: a histogram of cycles for each command, kept by the loop and read in microseconds.

A cell is a range of cycles, log-linear: up to 64 cycles each number has its own, and above that each power of two has
32 of equal width.  A cell is at most 3 % wide, and finding it is a count of leading zeros, two shifts and a sum.

    cycles      0  1 ..  63  64..65  66..67 ..  126..127  128..131 ..
    cell        0  1 ..  63    64      65   ..     95        96    ..

The time stamp counter becomes time only here, when somebody asks: LATENCY HISTOGRAM, INFO latencystats.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from mmcore.jit import int64, intrinsic, kernel
from mmcore.jit.toolchain import ir

MANTISSA = 5  # bits of a number that its cell tells, behind the first
CYCLES_MAX = (1 << 40) - 1  # minutes; what took longer counts as this
CELLS = (40 - MANTISSA + 1) << MANTISSA
# The times of Redis's histograms: each is the end of a cell that begins at a power of two of nanoseconds and is a 128th
# of that wide.
ENDS_NS = [power + power // 128 - 1 for power in (1 << exponent for exponent in range(10, 52))]


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


def upper_end(cell: int) -> int:
    """The largest number in a cell [cycles]."""
    exponent = max(cell >> MANTISSA, 1) - 1
    return ((cell - (exponent << MANTISSA) + 1) << exponent) - 1


class Scale:
    """What cells are in time, at a rate of the counter: found once, used for all histograms of a reply."""

    def __init__(self, cycles_per_us: float) -> None:
        self.upper_us = [upper_end(cell) / cycles_per_us for cell in range(CELLS)]
        self.cells = [bisect_right(self.upper_us, end / 1000) for end in ENDS_NS]  # below each of ENDS_NS


class Histogram:
    """The calls of one command, by how long they took."""

    def __init__(self, counts: Any, scale: Scale) -> None:
        self._scale = scale
        self._cumulated = [0, *accumulate(counts)]  # calls in the first i cells

    @property
    def calls(self) -> int:
        """How many there were."""
        return int(self._cumulated[-1])

    def percentile(self, share: float) -> float:
        """What `share` per cent of the calls took at most [us]."""
        rank = max(1, int(share / 100 * self.calls + 0.5))
        return float(self._scale.upper_us[bisect_left(self._cumulated, rank) - 1])

    def cumulated(self) -> Iterator[tuple[int, int]]:
        """Pairs of a time [us] and how many calls took that at most; each time is about twice the one before it.

        Times at which nothing is added to the number are left out.  The times are Redis's.
        """
        before = 0
        for end, cell in zip(ENDS_NS, self._scale.cells, strict=True):
            below = self._cumulated[cell]
            if below != before:
                yield end // 1000, below
            before = below
