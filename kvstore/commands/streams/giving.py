"""Entries that a consumer of a group is given: those behind the last one that the group was given, or its own again.

Nothing is replied here.  XREADGROUP gives first, and makes its reply of a record of that (deliveries.py).
"""

from kvstore.commands.streams.groups import note_given
from kvstore.commands.streams.identifiers import GREATEST, LEAST, WHOLE, identifier_after, parse_identifier
from kvstore.commands.streams.reading import DOLLAR, MS, NEW, NOACK, PLUS, SEQ
from kvstore.commands.streams.trimming import is_sign
from kvstore.commands.streams.value import options_of, room_of
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import NOW_MS
from kvstore.structures.groups import (
    ACTIVE,
    GIVEN_MS,
    GIVEN_SEQ,
    PENDING_SIZE,
    TIME,
    TIMES,
    pending_add,
    pending_find,
    pending_give,
    pending_identifier,
    pending_seek,
    put_word,
    word_at,
)
from kvstore.structures.stream import (
    NOWHERE,
    entry_identifier,
    node_entries,
    node_where,
    stream_count,
    stream_edge,
    stream_has,
    stream_seek,
    where_next,
)
from kvstore.structures.stream_layout import is_before
from kvstore.structures.tree import position_address, position_next
from kvstore.wire.errors import STREAM_ID, XREADGROUP_DOLLAR, XREADGROUP_PLUS
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, kernel, linked, void

BYTES_OF_PENDING = 2 * PENDING_SIZE + 64


@kernel
def wants_new(context, i):  # type: ignore[no-untyped-def]
    """Whether argument i, which was read, is >.  An identifier that is the last of all counts as that, too."""
    options = options_of(context)
    return is_sign(context, i, NEW) or (options[MS] == GREATEST and options[SEQ] == GREATEST)


@linked(int64(CONTEXT, int64))
def read_identifier(context, i):  # type: ignore[no-untyped-def]
    """Read argument i, > or an identifier, to the options: 1, or 0 with an error replied."""
    options = options_of(context)
    options[MS] = options[SEQ] = GREATEST
    if is_sign(context, i, DOLLAR):
        reply_error(context, XREADGROUP_DOLLAR)
        return 0
    if is_sign(context, i, PLUS):
        reply_error(context, XREADGROUP_PLUS)
        return 0
    if not is_sign(context, i, NEW) and parse_identifier(context, i, 0, LEAST, 0, options, MS) != WHOLE:
        reply_error(context, STREAM_ID)
        return 0
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def is_behind(context, root, group, i):  # type: ignore[no-untyped-def]
    """Whether there is something to reply of a stream, whose identifier is argument i, which is read (0 or 1)."""
    space = context.space
    read_identifier(context, i)
    if not wants_new(context, i):
        return 1
    if stream_count(space, root) == 0:
        return 0
    ms, seq = stream_edge(space, root, True)
    return 1 if is_before(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ), ms, seq) else 0


@linked(void(CONTEXT, int64, int64, int64, int64))
def _note_pending(context, group, consumer, ms, seq):  # type: ignore[no-untyped-def]
    """An entry was given to a consumer.  Another one may have had it, if the group's last identifier was set back."""
    space, room, now = context.space, room_of(context), context.shard[NOW_MS]
    element = pending_find(space, group, ms, seq, room)
    if element == 0:
        pending_add(space, group, consumer, ms, seq, room, now, 1)
        return
    pending_give(space, consumer, ms, element)
    put_word(space, element, TIME, now)
    put_word(space, element, TIMES, 1)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def give_new(context, root, group, consumer, most):  # type: ignore[no-untyped-def]
    """Give a consumer up to `most` entries behind the last one that the group was given: how many.

    Frames were reserved.  The group's last identifier is then that of the last entry given.
    """
    space, options, count = context.space, options_of(context), int64(0)
    ms, seq = identifier_after(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ))
    where, place = stream_seek(space, root, ms, seq, room_of(context))
    while where != NOWHERE and count < most:
        node = node_where(space, root, where)
        ms, seq = entry_identifier(space, node, place)
        note_given(context, root, group, ms, seq)
        if not options[NOACK]:
            _note_pending(context, group, consumer, ms, seq)
        count += 1
        place += 1
        if place == node_entries(space, node):
            where, place = where_next(space, where), int64(0)
    if not options[NOACK]:
        put_word(space, consumer, ACTIVE, context.shard[NOW_MS])
    return count


@linked(int64(CONTEXT, int64, int64, int64))
def give_again(context, root, consumer, most):  # type: ignore[no-untyped-def]
    """Give a consumer again up to `most` entries that are pending of it, behind the identifier in the options.

    Returns how many.  The identifier in the options becomes that of the last of them.
    """
    space, options, count, room = context.space, options_of(context), int64(0), room_of(context)
    at = pending_seek(space, consumer, options[MS], options[SEQ], room, 1)
    while at != 0 and count < most:
        options[MS], options[SEQ] = pending_identifier(space, at)
        where, _ = stream_has(space, root, options[MS], options[SEQ], room)
        if where != NOWHERE:
            element = position_address(space, at)
            put_word(space, element, TIME, context.shard[NOW_MS])
            put_word(space, element, TIMES, word_at(space, element, TIMES) + 1)
        count += 1
        at = position_next(space, at)
    return count
