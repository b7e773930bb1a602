"""How many bytes an element would take in Redis's listpack.

Redis decides by this number whether a list is small, so this store has to know it, too.  No listpack is ever made.

    entry     encoding, content, length of both (written from behind)
    integer   1, 2, 3, 4, 5 or 9 bytes with the encoding
    string    its bytes, and 1, 2 or 5 bytes of encoding
"""

from mmcore.jit import int64, kernel, linked, uint8

LISTPACK_EMPTY = 7  # header and end
_DIGITS_MAX = 20  # of an integer's text, with the sign
_LAST = (1 << 63) - 1


@kernel
def _integer_size(value):  # type: ignore[no-untyped-def]
    if 0 <= value <= 127:
        return 1
    if -(1 << 12) <= value < 1 << 12:
        return 2
    if -(1 << 15) <= value < 1 << 15:
        return 3
    if -(1 << 23) <= value < 1 << 23:
        return 4
    return 5 if -(1 << 31) <= value < 1 << 31 else 9


@kernel
def _string_size(count):  # type: ignore[no-untyped-def]
    # Encoding, content, and the length of both in seven bits a byte.
    size = count + (1 if count < 64 else 2 if count < 4096 else 5)
    if size <= 127:
        return size + 1
    if size < 16_383:
        return size + 2
    if size < 2_097_151:
        return size + 3
    return size + (4 if size < 268_435_455 else 5)


@linked(int64(uint8[::1], int64, int64))
def listpack_size(text, start, count):  # type: ignore[no-untyped-def]
    """Bytes of a listpack's entry for `count` bytes of `text`.  An integer is what Redis would print the same way."""
    negative = count > 0 and text[start] == 45
    digits = count - negative
    if digits <= 0 or count > _DIGITS_MAX:
        return _string_size(count)
    at, value = start + negative, 0
    if text[at] == 48:
        return 2 if count == 1 else _string_size(count)
    for i in range(digits):
        digit = int64(text[at + i]) - 48
        if digit < 0 or digit > 9:
            return _string_size(count)
        if value > (_LAST - digit) // 10:  # beyond the last integer, or the first one
            first = negative and i == digits - 1 and value == _LAST // 10 and digit == 8
            return 10 if first else _string_size(count)
        value = 10 * value + digit
    return _integer_size(-value if negative else value) + 1


@kernel
def is_listpack_integer(text, start, count):  # type: ignore[no-untyped-def]
    """Whether a listpack would hold these bytes as an integer."""
    return count > 0 and listpack_size(text, start, count) != _string_size(count)
