"""The cardinality that registers stand for: the estimator of Otmar Ertl, arXiv:1702.01284, as Redis computes it.

It needs only how many registers have each value: a histogram.  Four of them are counted in turn, because a processor
waits for a counter that it has just written.
"""

import math

from kvstore.commands.hyperloglog.elements import HASH_BITS, REGISTERS
from kvstore.commands.hyperloglog.sketch import (
    BITS,
    CORRUPT,
    DENSE,
    ENCODING,
    HEADER,
    REGISTER_MAX,
    run_at,
)
from mmcore.jit import bytes64, int64, kernel, linked, uint8

VALUES = REGISTER_MAX + 1
HISTOGRAMS = 4
_ALPHA = 0.721347520444481703680  # 1 / (2 ln 2)
_INT64_MIN = -0x8000_0000_0000_0000


@kernel
def _sigma(x):  # type: ignore[no-untyped-def]
    if x == 1.0:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while before != z:
        x *= x
        before = z
        z += x * y
        y += y
    return z


@kernel
def _tau(x):  # type: ignore[no-untyped-def]
    if x == 0.0 or x == 1.0:
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while before != z:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) * (1.0 - x) * y
    return z / 3.0


@linked(int64(int64[::1]))
def estimate(histogram):  # type: ignore[no-untyped-def]
    """The cardinality by a histogram, the first VALUES words, rounded half away from zero.

    Registers that no sketch has by honest means may make it infinite: then it is what a conversion yields, INT64_MIN.
    """
    m = float(REGISTERS)
    z = m * _tau((m - histogram[HASH_BITS + 1]) / m)
    for value in range(HASH_BITS, 0, -1):
        z += histogram[value]
        z *= 0.5
    z += m * _sigma(histogram[0] / m)
    if z == 0.0:
        return _INT64_MIN
    cardinality = _ALPHA * m * m / z
    if not cardinality < 9.2e18:
        return _INT64_MIN
    whole = math.floor(cardinality)
    return int64(whole) + (cardinality - whole >= 0.5)


@kernel
def _clear(counts):  # type: ignore[no-untyped-def]
    for i in range(HISTOGRAMS * VALUES):
        counts[i] = 0


@kernel
def _total(counts):  # type: ignore[no-untyped-def]
    # The estimate by all histograms together.
    for value in range(VALUES):
        for other in range(1, HISTOGRAMS):
            counts[value] += counts[other * VALUES + value]
    return estimate(counts)


@linked(int64(uint8[::1], int64[::1]))
def count_registers(registers, counts):  # type: ignore[no-untyped-def]
    """The cardinality of registers, a byte each.

    registers: uint8[REGISTERS], all below VALUES; counts: int64[HISTOGRAMS * VALUES], to work in
    """
    _clear(counts)
    for at in range(0, REGISTERS, HISTOGRAMS):
        for i in range(HISTOGRAMS):
            counts[i * VALUES + (int64(registers[at + i]) & REGISTER_MAX)] += 1
    return _total(counts)


@linked(int64(uint8[::1], int64, int64[::1], int64[::1]))
def count_sketch(sketch, length, counts, out):  # type: ignore[no-untyped-def]
    """Write the cardinality of a sketch of `length` bytes to out[0]: 0, or CORRUPT.  counts: see count_registers."""
    _clear(counts)
    if sketch[ENCODING] == DENSE:
        for group in range(REGISTERS // 8):  # eight registers are six bytes
            word = bytes64(sketch, HEADER + 6 * group)
            for i in range(8):
                counts[(i & 3) * VALUES + (word >> (BITS * i) & REGISTER_MAX)] += 1
        out[0] = _total(counts)
        return 0
    at, index = HEADER, 0
    while at < length:
        _, count, value, size = run_at(sketch, at, length)
        if size == 0:
            return CORRUPT
        counts[value] += count
        index += count
        at += size
    if index != REGISTERS:
        return CORRUPT
    out[0] = _total(counts)
    return 0
