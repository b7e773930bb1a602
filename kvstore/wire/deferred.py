"""Aggregates whose length is known only at their end: their replies come first, and then the header is put before them.

start = begin_array(context)
...                                 the replies
end_array(context, start, count)    or end_set, or end_map with the number of pairs
"""

from kvstore.lifetimes.call import PROTOCOL, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_room
from mmcore.jit import copy_bytes, int64, kernel, linked, void

HEADER_ROOM = 24  # [bytes] for the header

_ARRAY, _SET, _MAP = b"*~%"


@kernel
def begin_array(context):  # type: ignore[no-untyped-def]
    """Begin an aggregate of unknown length; returns the argument for the function that ends it."""
    reply_room(context, HEADER_ROOM)
    start = context.call[REPLY_LENGTH]
    context.call[REPLY_LENGTH] = start + HEADER_ROOM
    return start


@linked(void(CONTEXT, int64, int64, int64))
def end_aggregate(context, start, kind, count):  # type: ignore[no-untyped-def]
    """Put a header of this type byte and `count` before the bytes appended since `begin_array`."""
    out = reply_room(context, 0)
    end = context.call[REPLY_LENGTH]
    out[start] = kind
    at = start + 1
    at += put_decimal(out, at, count)
    out[at] = 13
    out[at + 1] = 10
    copy_bytes(out, at + 2, out, start + HEADER_ROOM, end - start - HEADER_ROOM)
    context.call[REPLY_LENGTH] = end - (start + HEADER_ROOM - at - 2)


@kernel
def end_array(context, start, count):  # type: ignore[no-untyped-def]
    """End an array of `count` replies."""
    end_aggregate(context, start, _ARRAY, count)


@kernel
def end_set(context, start, count):  # type: ignore[no-untyped-def]
    """End a set of `count` replies; in RESP2 an array."""
    end_aggregate(context, start, _SET if context.call[PROTOCOL] == 3 else _ARRAY, count)


@kernel
def end_map(context, start, pairs):  # type: ignore[no-untyped-def]
    """End a map of `pairs` keys with their values; in RESP2 an array of twice as many replies."""
    if context.call[PROTOCOL] == 3:
        end_aggregate(context, start, _MAP, pairs)
    else:
        end_aggregate(context, start, _ARRAY, 2 * pairs)
