"""The time-outs of commands that wait: seconds with a fraction, or whole milliseconds.  0 is no time-out."""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import DECIMAL_ADDRESS, NOW_MS
from kvstore.wire.arguments import INT64_MAX, arg_length, arg_offset, integer_argument, query
from kvstore.wire.decimal import milliseconds, number_text
from kvstore.wire.errors import TIMEOUT_NEGATIVE, TIMEOUT_NOT_FLOAT, TIMEOUT_NOT_INTEGER, TIMEOUT_RANGE
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, kernel, linked


@kernel
def _checked(context, timeout_ms):  # type: ignore[no-untyped-def]
    if timeout_ms < 0:
        reply_error(context, TIMEOUT_NEGATIVE)
        return -1
    if timeout_ms > INT64_MAX - context.shard[NOW_MS]:
        reply_error(context, TIMEOUT_RANGE)
        return -1
    return timeout_ms


@linked(int64(CONTEXT, int64))
def milliseconds_argument(context, i):  # type: ignore[no-untyped-def]
    """The time-out in argument i [ms], -1 with an error replied."""
    valid, timeout_ms = integer_argument(context, i)
    if not valid:
        reply_error(context, TIMEOUT_NOT_INTEGER)
        return -1
    return _checked(context, timeout_ms)


@linked(int64(CONTEXT, int64))
def seconds_argument(context, i):  # type: ignore[no-untyped-def]
    """The time-out in argument i, where it stands in seconds [ms]; -1 with an error replied."""
    room = context.shard[DECIMAL_ADDRESS]
    if not number_text(query(context), arg_offset(context, i), arg_length(context, i), room):
        reply_error(context, TIMEOUT_NOT_FLOAT)
        return -1
    return _checked(context, milliseconds(room))
