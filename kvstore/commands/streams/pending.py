"""XACK and XPENDING: what is pending of a group.

XACK is bounded by its arguments and reserves frames.  XPENDING finds where a range begins in the tree.  With IDLE it
may have to look at all that is pending, and the summary looks at all consumers; then it goes aside.
"""

from kvstore.commands.streams.groups import find_consumer, find_group, refuse_no_group
from kvstore.commands.streams.identifiers import LEAST, bound_argument, identifier_argument, reply_identifier
from kvstore.commands.streams.value import options_of, room_of
from kvstore.effects.door import changed
from kvstore.effects.events import XPENDING
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.groups import (
    CONSUMER,
    CONSUMERS,
    PENDING,
    TIME,
    TIMES,
    pending_count,
    pending_find,
    pending_identifier,
    pending_remove,
    pending_seek,
    word_at,
)
from kvstore.structures.record import record_count
from kvstore.structures.stream_layout import is_before
from kvstore.structures.tree import position_address, position_next, tree_seek
from kvstore.wire.arguments import argument, integer_argument, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import NOT_INTEGER, SYNTAX
from kvstore.wire.resp import (
    reply_array,
    reply_bulk_integer,
    reply_bulk_memory,
    reply_error,
    reply_integer,
    reply_null,
    reply_null_array,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, void

_IDLE = pack(b"IDLE")
_START_MS, _START_SEQ, _END_MS, _END_SEQ, _MOST, _LEAST_IDLE, _CONSUMER_AT = range(7)


@linked(HANDLER)
def xack(context):  # type: ignore[no-untyped-def]
    """XACK key group id [id ...]"""
    space, argc, id_ = context.space, context.call[ARGC], options_of(context)
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    entry = collection_read(context, key, key_size, STREAM)  # a miss is announced, as in Redis
    if entry == OTHER_TYPE:
        return SERVED
    group = find_group(context, entry_root(context, entry), 2) if entry != 0 else int64(0)
    if group == 0:
        reply_integer(context, 0)
        return SERVED
    for i in range(3, argc):
        if not identifier_argument(context, i, LEAST, id_, 0):
            return SERVED
    if not reserve_removal_of(context, 2 * (argc - 3)):
        return SERVED
    acknowledged = int64(0)
    for i in range(3, argc):
        identifier_argument(context, i, LEAST, id_, 0)
        element = pending_find(space, group, id_[0], id_[1], room_of(context))
        if element != 0:
            pending_remove(space, group, id_[0], element)
            acknowledged += 1
    if acknowledged > 0:
        changed(context, context.call[DB], key, key_size, hash_, XPENDING, acknowledged)
    reply_integer(context, acknowledged)
    return SERVED


@linked(int64(CONTEXT, int64[::1]))
def _options(context, options):  # type: ignore[no-untyped-def]
    """Read the arguments of XPENDING from 3 on: 1, or 0 with an error replied."""
    argc, at = context.call[ARGC], int64(3)
    options[_LEAST_IDLE] = options[_CONSUMER_AT] = 0
    if argc < 6 or argc > 9:
        reply_error(context, SYNTAX)
        return 0
    if word(context, 3) == _IDLE:
        valid, options[_LEAST_IDLE] = integer_argument(context, 4)
        if not valid or argc < 8:
            reply_error(context, SYNTAX if valid else NOT_INTEGER)
            return 0
        at += 2
    valid, most = integer_argument(context, at + 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    options[_MOST] = max(most, 0)
    if not bound_argument(context, at, 0, options, _START_MS):
        return 0
    if not bound_argument(context, at + 1, 1, options, _END_MS):
        return 0
    if at + 3 < argc:
        options[_CONSUMER_AT] = at + 3
    return 1


@kernel
def reply_name(context, element):  # type: ignore[no-untyped-def]
    """The name of a group or a consumer."""
    reply_bulk_memory(context, element_key(context.space, element), element_key_length(context.space, element))


@linked(void(CONTEXT, int64))
def _reply_summary(context, group):  # type: ignore[no-untyped-def]
    """How many entries are pending of a group, the first and the last, and how many of each consumer."""
    space, pending = context.space, pending_count(context.space, group)
    reply_array(context, 4)
    reply_integer(context, pending)
    if pending == 0:
        reply_null(context)
        reply_null(context)
        reply_null_array(context)
        return
    record = word_at(space, group, PENDING)
    for rank in (0, pending - 1):
        ms, seq = pending_identifier(space, tree_seek(space, record, rank, 0))
        reply_identifier(context, ms, seq)
    start, count = begin_array(context), int64(0)
    where = tree_seek(space, word_at(space, group, CONSUMERS), 0, 0)
    while where != 0 and not is_given_up(context):
        consumer = position_address(space, where)
        if pending_count(space, consumer) > 0:
            reply_array(context, 2)
            reply_name(context, consumer)
            reply_bulk_integer(context, pending_count(space, consumer))
            count += 1
        where = position_next(space, where)
    end_array(context, start, count)


@linked(int64(CONTEXT, int64[::1], int64))
def _reply_range(context, options, owner):  # type: ignore[no-untyped-def]
    """The pending entries of a group or a consumer that the options ask for: how many."""
    space, now, count = context.space, context.shard[NOW_MS], int64(0)
    where = pending_seek(space, owner, options[_START_MS], options[_START_SEQ], room_of(context), 0)
    while where != 0 and count < options[_MOST] and not is_given_up(context):
        ms, seq = pending_identifier(space, where)
        if is_before(options[_END_MS], options[_END_SEQ], ms, seq):
            break
        element = position_address(space, where)
        idle = now - word_at(space, element, TIME)
        if options[_LEAST_IDLE] == 0 or idle >= options[_LEAST_IDLE]:
            reply_array(context, 4)
            reply_identifier(context, ms, seq)
            reply_name(context, word_at(space, element, CONSUMER))
            reply_integer(context, max(idle, 0))
            reply_integer(context, word_at(space, element, TIMES))
            count += 1
        where = position_next(space, where)
    return count


@linked(HANDLER)
def xpending(context):  # type: ignore[no-untyped-def]
    """XPENDING key group [[IDLE min-idle-time] start end count [consumer]]"""
    options, whole = options_of(context), context.call[ARGC] == 3
    if not whole and not _options(context, options):
        return SERVED
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, STREAM)
    if entry == OTHER_TYPE:
        return SERVED
    group = find_group(context, entry_root(context, entry), 2) if entry != 0 else int64(0)
    if group == 0:
        refuse_no_group(context, 1, 2, 0)
        return SERVED
    if whole:
        if goes_aside(context, record_count(context.space, word_at(context.space, group, CONSUMERS))):
            return BLOCKS
        _reply_summary(context, group)
        return SERVED
    owner = find_consumer(context, group, options[_CONSUMER_AT]) if options[_CONSUMER_AT] > 0 else group
    work = int64(0)
    if owner != 0:
        work = pending_count(context.space, owner)
        work = work >> 2 if options[_LEAST_IDLE] > 0 else min(work, options[_MOST]) >> 1
    if goes_aside(context, work):
        return BLOCKS
    start = begin_array(context)
    end_array(context, start, _reply_range(context, options, owner) if owner != 0 else int64(0))
    return SERVED
