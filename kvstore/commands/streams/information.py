"""XINFO: what a stream, its groups and their consumers are like.

A stream may have many groups, and a group many consumers.  So each form goes aside where there is much to tell.  The
headers of the long arrays come first, and the reply leaves while it is made.
"""

from kvstore.commands.streams.groups import find_group, lag_of, refuse_form, refuse_no_group_of_key
from kvstore.commands.streams.identifiers import GREATEST, LEAST, reply_identifier
from kvstore.commands.streams.pending import reply_name
from kvstore.commands.streams.value import ALL, reply_backward, reply_forward
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import NOW_MS, READ_ASIDE_OVER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.structures.groups import (
    ACTIVE,
    CONSUMER,
    CONSUMERS,
    GIVEN_MS,
    GIVEN_SEQ,
    NEVER,
    PENDING,
    READ,
    SEEN,
    TIME,
    TIMES,
    UNKNOWN,
    pending_count,
    pending_identifier,
    word_at,
)
from kvstore.structures.record import record_count
from kvstore.structures.stream import (
    ADDED,
    GROUPS,
    stream_count,
    stream_deleted,
    stream_edge,
    stream_last,
    stream_nodes,
)
from kvstore.structures.stream_whole import groups_parts
from kvstore.structures.tree import position_address, position_next, tree_seek
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import NO_KEY, NOT_INTEGER
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_empty_array,
    reply_error,
    reply_integer,
    reply_length,
    reply_map,
    reply_null,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, int64, kernel, linked, void
from mmcore.mmu import load64

_STREAM, _GROUPS, _FULL, _COUNT = pack(b"STREAM"), pack(b"GROUPS"), pack(b"FULL"), pack(b"COUNT")
_CONSUMERS = constant(b"CONSUMERS")
_COUNT_DEFAULT = 10
_SHORT, _REFUSED = -1, -2  # in the place of a count: without FULL; an error was replied

_FIELDS = [
    "length",
    "radix-tree-keys",
    "radix-tree-nodes",
    "last-generated-id",
    "max-deleted-entry-id",
    "entries-added",
    "recorded-first-entry-id",
    "groups",
    "first-entry",
    "last-entry",
    "entries",
    "name",
    "last-delivered-id",
    "entries-read",
    "lag",
    "pel-count",
    "pending",
    "consumers",
    "seen-time",
    "active-time",
    "idle",
    "inactive",
]
_TEXT = constant("".join(_FIELDS).encode())
_PLACES = constant([sum(map(len, _FIELDS[:i])) for i in range(len(_FIELDS) + 1)], int64)
(
    _F_LENGTH, _F_KEYS, _F_NODES, _F_LAST_ID, _F_DELETED, _F_ADDED, _F_FIRST_ID, _F_GROUPS, _F_FIRST, _F_LAST,
    _F_ENTRIES, _F_NAME, _F_GIVEN, _F_READ, _F_LAG, _F_PEL_COUNT, _F_PENDING, _F_CONSUMERS, _F_SEEN, _F_ACTIVE, _F_IDLE,
    _F_INACTIVE,
) = range(len(_FIELDS))  # fmt: skip


@kernel
def _field(context, field):  # type: ignore[no-untyped-def]
    reply_bulk(context, _TEXT, _PLACES[field], _PLACES[field + 1] - _PLACES[field])


@linked(void(CONTEXT, int64, int64))
def _number(context, field, value):  # type: ignore[no-untyped-def]
    """A field with a number."""
    _field(context, field)
    reply_integer(context, value)


@linked(void(CONTEXT, int64, int64))
def _perhaps(context, field, value):  # type: ignore[no-untyped-def]
    """A field with a number, or null for UNKNOWN."""
    _field(context, field)
    if value == UNKNOWN:
        reply_null(context)
    else:
        reply_integer(context, value)


@linked(void(CONTEXT, int64, int64, int64))
def _identifier(context, field, ms, seq):  # type: ignore[no-untyped-def]
    """A field with an identifier."""
    _field(context, field)
    reply_identifier(context, ms, seq)


@kernel
def _name(context, element):  # type: ignore[no-untyped-def]
    _field(context, _F_NAME)
    reply_name(context, element)


@linked(void(CONTEXT, int64, int64, int64))
def _pending(context, owner, most, named):  # type: ignore[no-untyped-def]
    """The field of the pending entries of a group, with the consumers' names, or of a consumer."""
    space, left = context.space, min(most, pending_count(context.space, owner))
    _field(context, _F_PENDING)
    reply_array(context, left)
    where = tree_seek(space, word_at(space, owner, PENDING), 0, 0)
    while left > 0 and not is_given_up(context):
        element = position_address(space, where)
        ms, seq = pending_identifier(space, where)
        reply_array(context, 4 if named else 3)
        reply_identifier(context, ms, seq)
        if named:
            reply_name(context, word_at(space, element, CONSUMER))
        reply_integer(context, word_at(space, element, TIME))
        reply_integer(context, word_at(space, element, TIMES))
        left -= 1
        where = position_next(space, where)
        reply_leaves(context)


@linked(void(CONTEXT, int64, int64))
def _full_group(context, group, most):  # type: ignore[no-untyped-def]
    """The rest of a group in XINFO STREAM FULL: what is pending, and the consumers."""
    space = context.space
    _number(context, _F_PEL_COUNT, pending_count(space, group))
    _pending(context, group, most, 1)
    _field(context, _F_CONSUMERS)
    consumers = word_at(space, group, CONSUMERS)
    reply_array(context, record_count(space, consumers))
    where = tree_seek(space, consumers, 0, 0)
    while where != 0 and not is_given_up(context):
        consumer = position_address(space, where)
        reply_map(context, 5)
        _name(context, consumer)
        _number(context, _F_SEEN, word_at(space, consumer, SEEN))
        _number(context, _F_ACTIVE, word_at(space, consumer, ACTIVE))
        _number(context, _F_PEL_COUNT, pending_count(space, consumer))
        _pending(context, consumer, most, 0)
        where = position_next(space, where)


@linked(void(CONTEXT, int64, int64))
def _groups(context, root, most):  # type: ignore[no-untyped-def]
    """All groups of a stream, with all that there is if `most` is not _SHORT."""
    space, groups = context.space, load64(context.space, root + GROUPS)
    if groups == 0:
        reply_empty_array(context)
        return
    reply_array(context, record_count(space, groups))
    where = tree_seek(space, groups, 0, 0)
    while where != 0 and not is_given_up(context):
        group = position_address(space, where)
        reply_map(context, 6 if most == _SHORT else 7)
        _name(context, group)
        if most == _SHORT:
            _number(context, _F_CONSUMERS, record_count(space, word_at(space, group, CONSUMERS)))
            _number(context, _F_PENDING, pending_count(space, group))
        _identifier(context, _F_GIVEN, word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ))
        _perhaps(context, _F_READ, word_at(space, group, READ))
        _perhaps(context, _F_LAG, lag_of(context, root, group))
        if most != _SHORT:
            _full_group(context, group, most)
        where = position_next(space, where)
        reply_leaves(context)


@linked(void(CONTEXT, int64, int64))
def _edge(context, root, last):  # type: ignore[no-untyped-def]
    """The field of the first or the last entry."""
    _field(context, _F_LAST if last else _F_FIRST)
    if stream_count(context.space, root) == 0:
        reply_null(context)
    elif last:
        reply_backward(context, root, LEAST, LEAST, GREATEST, GREATEST, 1, -1)
    else:
        reply_forward(context, root, LEAST, LEAST, GREATEST, GREATEST, 1, -1)


@linked(int64(CONTEXT, int64, int64))
def _stream(context, root, most):  # type: ignore[no-untyped-def]
    """XINFO STREAM, of FULL with up to `most` of each kind; BLOCKS if that goes aside because its entries are long."""
    space, groups = context.space, load64(context.space, root + GROUPS)
    nodes, begin = stream_nodes(space, root), reply_length(context)
    reply_map(context, 10 if most == _SHORT else 9)
    _number(context, _F_LENGTH, stream_count(space, root))
    _number(context, _F_KEYS, nodes)
    _number(context, _F_NODES, nodes + 1)  # in Redis, those of a radix tree
    ms, seq = stream_last(space, root)
    _identifier(context, _F_LAST_ID, ms, seq)
    ms, seq = stream_deleted(space, root)
    _identifier(context, _F_DELETED, ms, seq)
    _number(context, _F_ADDED, load64(space, root + ADDED))
    ms, seq = stream_edge(space, root, False)
    _identifier(context, _F_FIRST_ID, ms, seq)
    if most == _SHORT:
        _number(context, _F_GROUPS, record_count(space, groups) if groups != 0 else int64(0))
        _edge(context, root, 0)
        _edge(context, root, 1)
        return SERVED
    _field(context, _F_ENTRIES)
    start = begin_array(context)
    entries = reply_forward(context, root, LEAST, LEAST, GREATEST, GREATEST, most, begin)
    if entries < 0:
        return BLOCKS
    end_array(context, start, entries)
    _field(context, _F_GROUPS)
    _groups(context, root, most)
    return SERVED


@linked(void(CONTEXT, int64))
def _consumers(context, group):  # type: ignore[no-untyped-def]
    """XINFO CONSUMERS"""
    space, now, consumers = context.space, context.shard[NOW_MS], word_at(context.space, group, CONSUMERS)
    reply_array(context, record_count(space, consumers))
    where = tree_seek(space, consumers, 0, 0)
    while where != 0 and not is_given_up(context):
        consumer = position_address(space, where)
        active = word_at(space, consumer, ACTIVE)
        reply_map(context, 4)
        _name(context, consumer)
        _number(context, _F_PENDING, pending_count(space, consumer))
        _number(context, _F_IDLE, max(now - word_at(space, consumer, SEEN), 0))
        _number(context, _F_INACTIVE, max(now - active, 0) if active != NEVER else int64(NEVER))
        where = position_next(space, where)
        reply_leaves(context)


@linked(int64(CONTEXT))
def _how_many(context):  # type: ignore[no-untyped-def]
    """Read the options of XINFO STREAM: _SHORT, or the count of FULL; _REFUSED with an error replied."""
    argc = context.call[ARGC]
    if argc == 3:
        return _SHORT
    if (argc != 4 and argc != 6) or word(context, 3) != _FULL or (argc == 6 and word(context, 4) != _COUNT):
        refuse_form(context, 0)
        return _REFUSED
    if argc == 4:
        return _COUNT_DEFAULT
    valid, most = integer_argument(context, 5)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return _REFUSED
    return _COUNT_DEFAULT if most < 0 else most if most > 0 else ALL


@kernel
def _work(context, root, most):  # type: ignore[no-untyped-def]
    # How much work XINFO STREAM FULL has ahead: half an entry's worth for each, and what is told of the groups.
    parts = groups_parts(context.space, root, ALL, most, context.shard[READ_ASIDE_OVER])
    return (min(most, stream_count(context.space, root)) >> 1) + parts


@linked(HANDLER)
def xinfo(context):  # type: ignore[no-untyped-def]
    """XINFO STREAM | GROUPS | CONSUMERS; its other forms are left to Python"""
    what, argc, consumers = word(context, 1), context.call[ARGC], is_word(context, 1, _CONSUMERS)
    if not (what == _STREAM and argc >= 3) and not (what == _GROUPS and argc == 3) and not (consumers and argc == 4):
        return 1
    key, key_size = argument(context, 2)
    entry = collection_read(context, key, key_size, STREAM)
    if entry == OTHER_TYPE:
        return SERVED
    if entry == 0:
        reply_error(context, NO_KEY)
        return SERVED
    root = entry_root(context, entry)
    if what == _GROUPS:
        if goes_aside(context, groups_parts(context.space, root, 0, 0, context.shard[READ_ASIDE_OVER])):
            return BLOCKS
        _groups(context, root, _SHORT)
    elif consumers:
        group = find_group(context, root, 3)
        if group == 0:
            refuse_no_group_of_key(context, 3, 2)
            return SERVED
        if goes_aside(context, record_count(context.space, word_at(context.space, group, CONSUMERS))):
            return BLOCKS
        _consumers(context, group)
    else:
        most = _how_many(context)
        if most > 0 and goes_aside(context, _work(context, root, most)):
            return BLOCKS
        if most != _REFUSED:
            return _stream(context, root, most)
    return SERVED
