"""The arguments of the command at hand: their position, and the numbers and words that they spell.

Argument i is `arg_length` bytes at `arg_offset` in the query buffer.  Integers are read as strictly as Redis reads
them (string2ll): an optional minus, digits without leading zeros, within int64; nothing else.
"""

from kvstore.lifetimes.call import ARGS, QUERY_ADDRESS, QUERY_SIZE
from kvstore.system.libc import bytes_at
from mmcore.jit import kernel, view

INT64_MAX = 0x7FFF_FFFF_FFFF_FFFF
INT64_MIN = -0x8000_0000_0000_0000


def pack(text: bytes) -> int:
    """The value of `word` for an argument that spells `text` (at most 8 bytes, upper case)."""
    assert len(text) <= 8 and text.upper() == text
    return int.from_bytes(text.ljust(8, b"\0"), "big", signed=True)


@view
def query(context):  # type: ignore[no-untyped-def]
    """The buffer that holds the arguments, uint8[QUERY_SIZE]."""
    return bytes_at(context.call[QUERY_ADDRESS], context.call[QUERY_SIZE])


@kernel
def arg_offset(context, i):  # type: ignore[no-untyped-def]
    """Offset of argument i in the query buffer."""
    return context.args[2 * (context.call[ARGS] + i)]


@kernel
def arg_address(context, i):  # type: ignore[no-untyped-def]
    """Address of argument i in the process."""
    return context.call[QUERY_ADDRESS] + arg_offset(context, i)


@kernel
def arg_length(context, i):  # type: ignore[no-untyped-def]
    """Length of argument i [bytes]."""
    return context.args[2 * (context.call[ARGS] + i) + 1]


@kernel
def argument(context, i):  # type: ignore[no-untyped-def]
    """(address, size) of argument i, the form in which the store's kernels take keys and values."""
    return arg_address(context, i), arg_length(context, i)


@kernel
def word_at(text, start, length):  # type: ignore[no-untyped-def]
    """`length` bytes of `text`, upper-cased and packed big-endian into an int64; 0 when there are more than 8."""
    if length > 8:
        return 0
    packed = 0
    for i in range(8):
        byte = 0
        if i < length:
            byte = int(text[start + i])
            if 97 <= byte <= 122:
                byte -= 32
        packed = (packed << 8) | byte
    return packed


@kernel
def word(context, i):  # type: ignore[no-untyped-def]
    """Argument i as a word to compare with `pack(...)`."""
    return word_at(query(context), arg_offset(context, i), arg_length(context, i))


@kernel
def is_word(context, i, text):  # type: ignore[no-untyped-def]
    """Whether argument i spells `text`, a constant in upper case, in any case.  For words of more than 8 bytes."""
    if arg_length(context, i) != len(text):
        return False
    given, start = query(context), arg_offset(context, i)
    for j in range(len(text)):
        byte = int(given[start + j])
        if byte != text[j] and (byte < 97 or byte > 122 or byte - 32 != text[j]):
            return False
    return True


@kernel
def parse_integer(text, start, length):  # type: ignore[no-untyped-def]
    """(whether these bytes spell an int64, its value)."""
    if length == 0 or length > 20:
        return False, 0
    position, negative = start, False
    if text[start] == 45:
        negative = True
        position += 1
        if length == 1:
            return False, 0
    first = int(text[position])
    if first == 48:
        return length == 1, 0
    if first < 49 or first > 57:
        return False, 0
    # Count in negative numbers, because an int64 has one more of them than of positive ones.
    value = 0
    while position < start + length:
        digit = int(text[position]) - 48
        if digit < 0 or digit > 9 or value < INT64_MIN // 10 + (INT64_MIN % 10 != 0):
            return False, 0
        value *= 10
        if value < INT64_MIN + digit:
            return False, 0
        value -= digit
        position += 1
    if negative:
        return True, value
    if value == INT64_MIN:
        return False, 0
    return True, -value


@kernel
def integer_argument(context, i):  # type: ignore[no-untyped-def]
    """(whether argument i spells an int64, its value)."""
    return parse_integer(query(context), arg_offset(context, i), arg_length(context, i))
