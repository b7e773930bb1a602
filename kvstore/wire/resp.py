"""Replies: kernels append them to the reply buffer, in the connection's protocol, RESP2 or RESP3.

The reply of the command at hand goes to one malloc'd buffer: REPLY_ADDRESS, REPLY_CAPACITY, REPLY_LENGTH.  Every
function here makes room before it writes, so a reply is never cut short.  The loop sends replies, and keeps the bytes
that a socket does not take.

An error that quotes a client is built between `begin_error` and `end_error`.  `end_error` makes it a single line: a
line break from the client would end the reply, and the rest would pass for the next reply.
"""

from kvstore.lifetimes.call import PROTOCOL, REPLY_ADDRESS, REPLY_CAPACITY, REPLY_LENGTH, REPLY_MAX
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import FRAMES_MAX, RAN_OUT
from kvstore.system.libc import bytes_at, free, malloc, realloc
from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.doubles import bits_of_double, write_double
from kvstore.wire.errors import ABORTED, ERROR_BYTES, ERROR_START, OUT_OF_BRANCH, OUT_OF_FRAMES
from kvstore.wire.numerals import put_decimal
from kvstore.wire.wanted import TOO_LONG, give_up
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, put32, uint8, view, void
from mmcore.mmu import copy_out

REPLY_CAPACITY_MIN = 1 << 16  # [bytes] kept between commands
NUMBER_LINE = 24  # [bytes] of a type byte, a number, and the end of the line

_FIXED = {
    "OK": b"+OK\r\n",
    "PONG": b"+PONG\r\n",
    "QUEUED": b"+QUEUED\r\n",
    "NULL2": b"$-1\r\n",
    "NULL3": b"_\r\n",
    "NULL_ARRAY": b"*-1\r\n",
    "EMPTY": b"$0\r\n\r\n",
    "EMPTY_ARRAY": b"*0\r\n",
}
_OK, _PONG, _QUEUED, _NULL2, _NULL3, _NULL_ARRAY, _EMPTY, _EMPTY_ARRAY = (constant(text) for text in _FIXED.values())


@linked(void(CONTEXT, int64))
def reply_grow(context, count):  # type: ignore[no-untyped-def]
    """Make room for `count` more bytes of reply by moving the buffer to one at least twice as large."""
    call = context.call
    if 0 < call[REPLY_MAX] < call[REPLY_LENGTH] + count:
        give_up(context, TOO_LONG)
    capacity = max(2 * call[REPLY_CAPACITY], call[REPLY_LENGTH] + count)
    address = realloc(call[REPLY_ADDRESS], capacity)
    assert address != 0, "out of memory for a reply"
    call[REPLY_ADDRESS] = address
    call[REPLY_CAPACITY] = capacity


@kernel
def reply_reset(context):  # type: ignore[no-untyped-def]
    """Empty the buffer, and free the memory that an unusually long reply needed."""
    call = context.call
    call[REPLY_LENGTH] = 0
    if call[REPLY_CAPACITY] > 16 * REPLY_CAPACITY_MIN or call[REPLY_ADDRESS] == 0:
        free(call[REPLY_ADDRESS])
        call[REPLY_ADDRESS] = malloc(REPLY_CAPACITY_MIN)
        call[REPLY_CAPACITY] = REPLY_CAPACITY_MIN


@view
def reply_room(context, count):  # type: ignore[no-untyped-def]
    """The reply buffer, uint8[REPLY_CAPACITY], with room for `count` more bytes at REPLY_LENGTH."""
    if context.call[REPLY_LENGTH] + count > context.call[REPLY_CAPACITY]:
        reply_grow(context, count)
    return bytes_at(context.call[REPLY_ADDRESS], context.call[REPLY_CAPACITY])


@kernel
def reply_length(context):  # type: ignore[no-untyped-def]
    """Bytes in the buffer; `reply_truncate` can return to this length."""
    return context.call[REPLY_LENGTH]


@kernel
def reply_truncate(context, length):  # type: ignore[no-untyped-def]
    """Remove everything appended since the buffer held `length` bytes."""
    context.call[REPLY_LENGTH] = length


@kernel
def reply_raw(context, array, offset, count):  # type: ignore[no-untyped-def]
    """Append bytes that are RESP already."""
    out = reply_room(context, count)
    copy_bytes(out, context.call[REPLY_LENGTH], array, offset, count)
    context.call[REPLY_LENGTH] += count


@linked(int64(uint8[::1], int64, int64, int64))
def _put_long_line(out, at, kind, value):  # type: ignore[no-untyped-def]
    """_put_line, for any number."""
    out[at] = kind
    at += 1
    at += put_decimal(out, at, value)
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@kernel
def _put_line(out, at, kind, value):  # type: ignore[no-untyped-def]
    # Write a line of a type byte and a number to `out`, which has NUMBER_LINE bytes of room: the offset behind it.
    # Most numbers are lengths of short strings.
    if 0 <= value < 10:
        put32(out, at, kind | 48 + value << 8 | 13 << 16 | 10 << 24)
        return at + 4
    if 10 <= value < 100:
        tens = value * 103 >> 10
        put32(out, at, kind | 48 + tens << 8 | 48 + value - 10 * tens << 16 | 13 << 24)
        out[at + 4] = 10
        return at + 5
    return _put_long_line(out, at, kind, value)


@linked(void(CONTEXT, int64, int64))
def reply_number(context, kind, value):  # type: ignore[no-untyped-def]
    """Append a line of a type byte and a number: the header of an aggregate, or an integer."""
    out = reply_room(context, NUMBER_LINE)
    context.call[REPLY_LENGTH] = _put_line(out, context.call[REPLY_LENGTH], kind, value)


@kernel
def reply_digits(context, value):  # type: ignore[no-untyped-def]
    """The digits of a number, as a part of a longer text."""
    out = reply_room(context, 24)
    context.call[REPLY_LENGTH] += put_decimal(out, context.call[REPLY_LENGTH], value)


@kernel
def reply_integer(context, value):  # type: ignore[no-untyped-def]
    """:value"""
    reply_number(context, 58, value)


@kernel
def reply_array(context, count):  # type: ignore[no-untyped-def]
    """The header of an array of `count` replies."""
    reply_number(context, 42, count)


@kernel
def reply_push(context, count):  # type: ignore[no-untyped-def]
    """The header of a push of `count` replies; in RESP2 of an array."""
    reply_number(context, 62 if context.call[PROTOCOL] == 3 else 42, count)


@kernel
def reply_set(context, count):  # type: ignore[no-untyped-def]
    """The header of a set of `count` replies; in RESP2 of an array."""
    reply_number(context, 126 if context.call[PROTOCOL] == 3 else 42, count)


@linked(void(CONTEXT, int64))
def reply_map(context, pairs):  # type: ignore[no-untyped-def]
    """The header of a map of `pairs` keys with their values; in RESP2 of an array of twice as many replies."""
    if context.call[PROTOCOL] == 3:
        reply_number(context, 37, pairs)
    else:
        reply_number(context, 42, 2 * pairs)


@kernel
def _end_bulk(context, out):  # type: ignore[no-untyped-def]
    at = context.call[REPLY_LENGTH]
    out[at] = 13
    out[at + 1] = 10
    context.call[REPLY_LENGTH] = at + 2


@kernel
def reply_bulk(context, array, offset, count):  # type: ignore[no-untyped-def]
    """A bulk string out of `array`."""
    out = reply_room(context, NUMBER_LINE + count + 2)
    at = _put_line(out, context.call[REPLY_LENGTH], 36, count)
    copy_bytes(out, at, array, offset, count)
    context.call[REPLY_LENGTH] = at + count
    _end_bulk(context, out)


@linked(void(CONTEXT, int64, int64))
def reply_bulk_memory(context, va, count):  # type: ignore[no-untyped-def]
    """A bulk string out of the address space."""
    reply_number(context, 36, count)
    out = reply_room(context, count + 2)
    copy_out(context.space, va, out, context.call[REPLY_LENGTH], count)
    context.call[REPLY_LENGTH] += count
    _end_bulk(context, out)


@linked(void(CONTEXT, int64))
def reply_bulk_integer(context, value):  # type: ignore[no-untyped-def]
    """A bulk string that spells an integer."""
    out = reply_room(context, 48)
    at = context.call[REPLY_LENGTH]
    digits = put_decimal(out, at + 8, value)  # first written behind the room for a header, measured, then moved
    reply_number(context, 36, digits)
    out = reply_room(context, 48)
    copy_bytes(out, context.call[REPLY_LENGTH], out, at + 8, digits)
    context.call[REPLY_LENGTH] += digits
    _end_bulk(context, out)


@linked(void(CONTEXT, int64))
def reply_double_bits(context, bits):  # type: ignore[no-untyped-def]
    """reply_double of the double with these bits."""
    out = reply_room(context, 64)
    at = context.call[REPLY_LENGTH]
    if context.call[PROTOCOL] == 3:
        out[at] = 44
        context.call[REPLY_LENGTH] = at + 1 + write_double(out, at + 1, bits)
    else:
        count = write_double(out, at + 8, bits)  # behind the room for a header, as in reply_bulk_integer
        reply_number(context, 36, count)
        out = reply_room(context, 64)
        copy_bytes(out, context.call[REPLY_LENGTH], out, at + 8, count)
        context.call[REPLY_LENGTH] += count
    _end_bulk(context, out)


@kernel
def reply_double(context, value):  # type: ignore[no-untyped-def]
    """A double; in RESP2 a bulk string that spells it."""
    reply_double_bits(context, bits_of_double(value))


@linked(void(CONTEXT, int64))
def reply_error(context, code):  # type: ignore[no-untyped-def]
    """The error reply with the text ERRORS[code]."""
    reply_raw(context, ERROR_BYTES, ERROR_START[code], ERROR_START[code + 1] - ERROR_START[code])


@linked(void(CONTEXT, int64))
def prefix_error(context, start):  # type: ignore[no-untyped-def]
    """Turn the error replied at `start` into the reason why a transaction is discarded."""
    reply = reply_room(context, len(ABORTED))
    copy_bytes(reply, start + len(ABORTED), reply, start + 1, context.call[REPLY_LENGTH] - start - 1)
    copy_bytes(reply, start, ABORTED, 0, len(ABORTED))
    context.call[REPLY_LENGTH] += len(ABORTED) - 1


@linked(void(CONTEXT))
def reply_out_of_frames(context):  # type: ignore[no-untyped-def]
    """Refuse the command at hand because frames have run out; a transaction that can be undone will be undone."""
    context.store[RAN_OUT] = 1
    reply_error(context, OUT_OF_FRAMES if context.store[FRAMES_MAX] == 0 else OUT_OF_BRANCH)


@kernel
def begin_error(context):  # type: ignore[no-untyped-def]
    """Begin an error reply of several parts; returns the argument for `end_error`."""
    start = context.call[REPLY_LENGTH]
    reply_room(context, 1)[start] = 45
    context.call[REPLY_LENGTH] = start + 1
    return start


@linked(void(CONTEXT, int64, int64))
def put_argument(context, i, limit):  # type: ignore[no-untyped-def]
    """Append argument i to an error: like C, up to a zero byte, and `limit` bytes at most."""
    text, start = query(context), arg_offset(context, i)
    end, stop = start, start + min(arg_length(context, i), limit)
    while end < stop and text[end] != 0:
        end += 1
    reply_raw(context, text, start, end - start)


@linked(void(CONTEXT, int64))
def end_error(context, start):  # type: ignore[no-untyped-def]
    """Make the bytes appended since `begin_error` one line: blanks for line breaks, and none at its end."""
    out = reply_room(context, 2)
    end = context.call[REPLY_LENGTH]
    while out[end - 1] == 13 or out[end - 1] == 10:
        end -= 1
    for at in range(start, end):
        if out[at] == 13 or out[at] == 10:
            out[at] = 32
    out[end] = 13
    out[end + 1] = 10
    context.call[REPLY_LENGTH] = end + 2


@linked(void(CONTEXT, int64, int64))
def reply_error_about(context, code, i):  # type: ignore[no-untyped-def]
    """The error with the text ERRORS[code], followed by argument i."""
    start = context.call[REPLY_LENGTH]
    reply_error(context, code)
    context.call[REPLY_LENGTH] -= 2
    put_argument(context, i, arg_length(context, i))
    end_error(context, start)


@linked(void(CONTEXT))
def reply_ok(context):  # type: ignore[no-untyped-def]
    """+OK"""
    reply_raw(context, _OK, 0, len(_OK))


@linked(void(CONTEXT))
def reply_null(context):  # type: ignore[no-untyped-def]
    """The null of the connection's protocol."""
    if context.call[PROTOCOL] == 3:
        reply_raw(context, _NULL3, 0, len(_NULL3))
    else:
        reply_raw(context, _NULL2, 0, len(_NULL2))


@linked(void(CONTEXT))
def reply_null_array(context):  # type: ignore[no-untyped-def]
    """The null that replaces an array (EXEC of a transaction that a watched key aborted)."""
    if context.call[PROTOCOL] == 3:
        reply_raw(context, _NULL3, 0, len(_NULL3))
    else:
        reply_raw(context, _NULL_ARRAY, 0, len(_NULL_ARRAY))


@kernel
def reply_empty_bulk(context):  # type: ignore[no-untyped-def]
    """$0"""
    reply_raw(context, _EMPTY, 0, len(_EMPTY))


@kernel
def reply_empty_array(context):  # type: ignore[no-untyped-def]
    """*0"""
    reply_raw(context, _EMPTY_ARRAY, 0, len(_EMPTY_ARRAY))


@kernel
def reply_pong(context):  # type: ignore[no-untyped-def]
    """+PONG"""
    reply_raw(context, _PONG, 0, len(_PONG))


@kernel
def reply_queued(context):  # type: ignore[no-untyped-def]
    """+QUEUED"""
    reply_raw(context, _QUEUED, 0, len(_QUEUED))


@kernel
def reply_status(context, text, start, count):  # type: ignore[no-untyped-def]
    """+ and `count` bytes of `text`."""
    out = reply_room(context, count + 3)
    at = context.call[REPLY_LENGTH]
    out[at] = 43
    copy_bytes(out, at + 1, text, start, count)
    out[at + 1 + count] = 13
    out[at + 2 + count] = 10
    context.call[REPLY_LENGTH] = at + 3 + count
