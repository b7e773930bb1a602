"""Integers as decimal digits."""

from mmcore.jit import kernel, uint8, uint64


@kernel
def put_decimal(out, start, value):  # type: ignore[no-untyped-def]
    """Write `value` in decimal at out[start:] (20 bytes at most); returns how many bytes it took."""
    negative = value < 0
    magnitude = uint64(value)
    if negative:
        magnitude = ~uint64(value) + uint64(1)
    digits = 1
    rest = magnitude // uint64(10)
    while rest > uint64(0):
        digits += 1
        rest //= uint64(10)
    end = start + digits
    if negative:
        out[start] = 45
        end += 1
    for i in range(digits):
        out[end - 1 - i] = uint8(magnitude % uint64(10)) + 48
        magnitude //= uint64(10)
    return end - start


@kernel
def put_unsigned(out, start, value):  # type: ignore[no-untyped-def]
    """put_decimal of a word without a sign."""
    rest, digits = uint64(value), 1
    left = rest // uint64(10)
    while left > uint64(0):
        digits += 1
        left //= uint64(10)
    for i in range(digits):
        out[start + digits - 1 - i] = uint8(rest % uint64(10)) + 48
        rest //= uint64(10)
    return digits
