"""Identifiers of entries as clients write them: ms-seq, ms alone, ms-*, - and +, and with ( before it.

In kernels an identifier is two ordered words (kvstore/structures/stream_layout.py): (LEAST, LEAST) is 0-0, and
(GREATEST, GREATEST) the last one that there is.

Numbers are read as Redis reads them, which falls back on C's strtoull: blanks before a number, a plus sign and leading
zeros are accepted.
"""

from kvstore.lifetimes.call import REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT
from kvstore.structures.stream import GREATEST_HALF, LEAST_HALF
from kvstore.structures.stream_layout import ORDERED
from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.errors import INTERVAL_END, INTERVAL_START, STREAM_ID
from kvstore.wire.numerals import put_unsigned
from kvstore.wire.resp import reply_error, reply_number, reply_room
from mmcore.jit import copy_bytes, int64, kernel, linked, uint64, void

LEAST, GREATEST = LEAST_HALF, GREATEST_HALF
INVALID, WHOLE, WITHOUT_SEQ = range(3)
_LENGTH_MAX = 127
_TEXT_MAX = 41  # two numbers of 20 digits and a dash
_BULK = 36
_STAR, _PLUS, _DASH, _PAREN, _BLANK = b"*+-( "


@kernel
def _half(text, start, stop):  # type: ignore[no-untyped-def]
    # (whether these bytes spell a half of an identifier, the half, ordered).
    at = start
    while at < stop and (text[at] == _BLANK or 9 <= text[at] <= 13):
        at += 1
    negative = at < stop and text[at] == _DASH
    plain_sign = negative and at == start
    if at < stop and (negative or text[at] == _PLUS):
        at += 1
    valid, value, first = at < stop, uint64(0), at
    while at < stop and valid:
        digit = int64(text[at]) - 48
        valid = 0 <= digit <= 9
        if valid and value >= uint64(1844674407370955161):
            valid = value == uint64(1844674407370955161) and digit <= 5
        value = value * uint64(10) + uint64(digit)
        at += 1
    word = int64(value)
    if valid and negative:
        # A number that Redis reads as a signed one is below zero; what only strtoull reads wraps around.
        if plain_sign and text[first] != 48 and (word > 0 or word == ORDERED):
            valid = False
        word = -word
    return valid, word ^ ORDERED


@linked(int64(CONTEXT, int64, int64, int64, int64, int64[::1], int64))
def parse_identifier(context, i, skip, missing, special, out, to):  # type: ignore[no-untyped-def]
    """Read argument i without its first `skip` bytes to out[to:to + 2]: INVALID, WHOLE, or WITHOUT_SEQ for ms-*.

    missing: the second half, where there is none.  special: whether - and + are taken.
    """
    text, start = query(context), arg_offset(context, i) + skip
    length = arg_length(context, i) - skip
    if length > _LENGTH_MAX:
        return INVALID
    stop = start
    while stop < start + length and text[stop] != 0:
        stop += 1
    if stop - start == 1 and (text[start] == _DASH or text[start] == _PLUS) and length == 1:
        out[to] = out[to + 1] = LEAST if text[start] == _DASH else GREATEST
        return WHOLE if special else INVALID
    dash = start
    while dash < stop and text[dash] != _DASH:
        dash += 1
    valid, out[to] = _half(text, start, dash)
    if not valid:
        return INVALID
    if dash == stop:
        out[to + 1] = missing
        return WHOLE
    if stop - dash == 2 and text[dash + 1] == _STAR:
        out[to + 1] = LEAST
        return WITHOUT_SEQ
    valid, out[to + 1] = _half(text, dash + 1, stop)
    return WHOLE if valid else INVALID


@linked(int64(CONTEXT, int64, int64, int64[::1], int64))
def identifier_argument(context, i, missing, out, to):  # type: ignore[no-untyped-def]
    """Read argument i, an identifier without - and +, to out[to:to + 2]: 1, or 0 with an error replied."""
    if parse_identifier(context, i, 0, missing, 0, out, to) != WHOLE:
        reply_error(context, STREAM_ID)
        return 0
    return 1


@linked(int64(CONTEXT, int64, int64, int64[::1], int64))
def bound_argument(context, i, end, out, to):  # type: ignore[no-untyped-def]
    """Read argument i, an end of an interval or its start, to out[to:to + 2]: 1, or 0 with an error replied."""
    open_ = arg_length(context, i) > 1 and query(context)[arg_offset(context, i)] == _PAREN
    missing = GREATEST if end else LEAST
    if parse_identifier(context, i, 1 if open_ else 0, missing, 0 if open_ else 1, out, to) != WHOLE:
        reply_error(context, STREAM_ID)
        return 0
    if open_:
        edge = LEAST if end else GREATEST
        if out[to] == edge and out[to + 1] == edge:
            reply_error(context, INTERVAL_END if end else INTERVAL_START)
            return 0
        if end:
            out[to], out[to + 1] = identifier_before(out[to], out[to + 1])
        else:
            out[to], out[to + 1] = identifier_after(out[to], out[to + 1])
    return 1


@kernel
def identifier_after(ms, seq):  # type: ignore[no-untyped-def]
    """The next identifier.  The last one of all has none."""
    if seq == GREATEST:
        return ms + 1, int64(LEAST)
    return ms, seq + 1


@kernel
def identifier_before(ms, seq):  # type: ignore[no-untyped-def]
    """The identifier in front of one.  The first one of all has none."""
    if seq == LEAST:
        return ms - 1, int64(GREATEST)
    return ms, seq - 1


@kernel
def put_identifier_text(out, at, ms, seq):  # type: ignore[no-untyped-def]
    """Write ms-seq at out[at:], 41 bytes at most; returns how many bytes it took."""
    count = put_unsigned(out, at, ms ^ ORDERED)
    out[at + count] = _DASH
    return count + 1 + put_unsigned(out, at + count + 1, seq ^ ORDERED)


@linked(void(CONTEXT, int64, int64))
def reply_identifier(context, ms, seq):  # type: ignore[no-untyped-def]
    """A bulk string that spells an identifier."""
    out, at = reply_room(context, 2 * _TEXT_MAX), context.call[REPLY_LENGTH]
    # First written behind the room for a header of two digits, which most need.
    count = put_identifier_text(out, at + 5, ms, seq)
    reply_number(context, _BULK, count)
    head = context.call[REPLY_LENGTH]
    if head != at + 5:
        copy_bytes(out, head, out, at + 5, count)
    out[head + count] = 13
    out[head + count + 1] = 10
    context.call[REPLY_LENGTH] = head + count + 2
