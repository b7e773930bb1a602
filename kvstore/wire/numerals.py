"""Integers as decimal digits."""

from mmcore.jit import constant, int64, kernel, uint8, uint64

_PAIRS = constant(b"".join(b"%02d" % pair for pair in range(100)))


@kernel
def put_decimal(out, start, value):  # type: ignore[no-untyped-def]
    """Write `value` in decimal at out[start:] (20 bytes at most); returns how many bytes it took."""
    if value < 0:
        out[start] = 45
        return 1 + put_unsigned(out, start + 1, ~uint64(value) + uint64(1))
    return put_unsigned(out, start, value)


@kernel
def put_unsigned(out, start, value):  # type: ignore[no-untyped-def]
    """put_decimal of a word without a sign."""
    rest, left, digits = uint64(value), uint64(value), 1
    while left >= uint64(100):
        digits += 2
        left //= uint64(100)
    digits += int64(left >= uint64(10))
    at = start + digits
    while rest >= uint64(100):
        pair = 2 * int64(rest % uint64(100))
        rest //= uint64(100)
        at -= 2
        out[at] = _PAIRS[pair]
        out[at + 1] = _PAIRS[pair + 1]
    if rest >= uint64(10):
        out[start] = _PAIRS[2 * int64(rest)]
    out[at - 1] = uint8(rest % uint64(10)) + 48
    return digits
