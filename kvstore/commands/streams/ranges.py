"""XLEN, XRANGE, XREVRANGE.  A range of many entries, or of long ones, is read aside."""

from kvstore.commands.streams.identifiers import bound_argument
from kvstore.commands.streams.value import ALL, entries_between, options_of, reply_backward, reply_forward
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import STREAM, entry_root
from kvstore.structures.stream import stream_count
from kvstore.wire.arguments import argument, integer_argument, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import NOT_INTEGER, SYNTAX
from kvstore.wire.resp import reply_empty_array, reply_error, reply_integer, reply_null_array
from mmcore.jit import int64, linked

_COUNT = pack(b"COUNT")
_START_MS, _START_SEQ, _END_MS, _END_SEQ = range(4)
_REFUSED = -1


@linked(HANDLER)
def xlen(context):  # type: ignore[no-untyped-def]
    """XLEN key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, STREAM)
    if entry != OTHER_TYPE:
        reply_integer(context, stream_count(context.space, entry_root(context, entry)) if entry != 0 else 0)
    return 0


@linked(int64(CONTEXT))
def _count(context):  # type: ignore[no-untyped-def]
    """The COUNT among the arguments from 4 on, ALL without one; _REFUSED with an error replied."""
    most, i = int64(ALL), int64(4)
    while i < context.call[ARGC]:
        if word(context, i) != _COUNT or i + 1 == context.call[ARGC]:
            reply_error(context, SYNTAX)
            return _REFUSED
        valid, most = integer_argument(context, i + 1)
        if not valid:
            reply_error(context, NOT_INTEGER)
            return _REFUSED
        most = max(most, 0)
        i += 2
    return most


@linked(int64(CONTEXT, int64))
def _range(context, back):  # type: ignore[no-untyped-def]
    """XRANGE and XREVRANGE."""
    bounds = options_of(context)
    if not bound_argument(context, 2 + back, 0, bounds, _START_MS):
        return 0
    if not bound_argument(context, 3 - back, 1, bounds, _END_MS):
        return 0
    most = _count(context)
    if most == _REFUSED:
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, STREAM)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0:
        reply_empty_array(context)
        return 0
    if most == 0:
        reply_null_array(context)
        return 0
    root = entry_root(context, entry)
    ms, seq, end_ms, end_seq = bounds[_START_MS], bounds[_START_SEQ], bounds[_END_MS], bounds[_END_SEQ]
    if goes_aside(context, entries_between(context, root, ms, seq, end_ms, end_seq, most) >> 1):
        return BLOCKS
    start = begin_array(context)
    if back:
        count = reply_backward(context, root, ms, seq, end_ms, end_seq, most, start)
    else:
        count = reply_forward(context, root, ms, seq, end_ms, end_seq, most, start)
    if count < 0:
        return BLOCKS
    end_array(context, start, count)
    return 0


@linked(HANDLER)
def xrange_(context):  # type: ignore[no-untyped-def]
    """XRANGE key start end [COUNT count]"""
    return _range(context, 0)


@linked(HANDLER)
def xrevrange(context):  # type: ignore[no-untyped-def]
    """XREVRANGE key end start [COUNT count]"""
    return _range(context, 1)
