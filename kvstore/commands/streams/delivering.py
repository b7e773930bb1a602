"""XREADGROUP: entries for a consumer of a group, which are pending until it acknowledges them; it may wait for some.

With > it is given the entries behind the last one that the group was given; with an identifier, those that are pending
of it.  COUNT and the entries that there are bound the memory that it needs.  It reserves frames for all streams at
once, and then cannot fail.
"""

from kvstore.commands.streams.groups import consumer_at_hand, find_consumer, find_group, note_given, refuse_no_group
from kvstore.commands.streams.identifiers import (
    GREATEST,
    LEAST,
    WHOLE,
    identifier_after,
    parse_identifier,
    reply_identifier,
)
from kvstore.commands.streams.reading import (
    DOLLAR,
    GROUP_AT,
    MOST,
    MS,
    NEW,
    NO_TIMEOUT,
    NOACK,
    PLUS,
    SEQ,
    STREAMS,
    STREAMS_AT,
    TIMEOUT,
    begin_stream,
    end_streams,
    read_options,
    stream_of,
)
from kvstore.commands.streams.trimming import is_sign
from kvstore.commands.streams.value import entries_behind, options_of, reply_entry, room_of
from kvstore.effects.door import changed
from kvstore.effects.events import XPENDING
from kvstore.effects.waiting import GROUP_READ, may_wait, wait_for_keys
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.collections import OTHER_TYPE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements
from kvstore.structures.groups import (
    ACTIVE,
    GIVEN_MS,
    GIVEN_SEQ,
    PENDING_SIZE,
    TIME,
    TIMES,
    pending_add,
    pending_count,
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
from kvstore.wire.arguments import arg_length, argument
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import STREAM_ID, XREAD_NO_GROUP, XREADGROUP_DOLLAR, XREADGROUP_PLUS
from kvstore.wire.resp import reply_array, reply_error, reply_length, reply_null_array, reply_truncate
from mmcore.jit import int64, kernel, linked, void

_BYTES_OF_PENDING = 2 * PENDING_SIZE + 64


@kernel
def _wants_new(context, i):  # type: ignore[no-untyped-def]
    # Whether argument i is >, as which an identifier that is the last of all counts, too.
    options = options_of(context)
    return is_sign(context, i, NEW) or (options[MS] == GREATEST and options[SEQ] == GREATEST)


@linked(int64(CONTEXT, int64, int64))
def _identifier(context, i, key_at):  # type: ignore[no-untyped-def]
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


@linked(int64(CONTEXT, int64, int64))
def _work(context, root, group):  # type: ignore[no-untyped-def]
    """How many entries of a stream the consumer will get at most: frames are reserved for so many."""
    options = options_of(context)
    if options[MS] != GREATEST or options[SEQ] != GREATEST:
        consumer = find_consumer(context, group, options[GROUP_AT] + 1)
        return min(pending_count(context.space, consumer), options[MOST]) if consumer != 0 else int64(0)
    given_ms, given_seq = word_at(context.space, group, GIVEN_MS), word_at(context.space, group, GIVEN_SEQ)
    if given_ms == GREATEST and given_seq == GREATEST:
        return 0
    ms, seq = identifier_after(given_ms, given_seq)
    return entries_behind(context, root, ms, seq, options[MOST])


@linked(int64(CONTEXT))
def _look(context):  # type: ignore[no-untyped-def]
    """How many entries the consumer will get at most, if nothing is wrong with the arguments; -1 with an error."""
    options, work = options_of(context), int64(0)
    for i in range(options[STREAMS]):
        at = options[STREAMS_AT] + i
        root = stream_of(context, at)
        if root == OTHER_TYPE:
            return -1
        group = find_group(context, root, options[GROUP_AT]) if root != 0 else int64(0)
        if group == 0:
            refuse_no_group(context, at, options[GROUP_AT], 1)
            return -1
        if not _identifier(context, at + options[STREAMS], at):
            return -1
        work += _work(context, root, group)
    return work


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


@linked(int64(CONTEXT, int64, int64, int64))
def _give_new(context, root, group, consumer):  # type: ignore[no-untyped-def]
    """Reply the entries behind the last one that the group was given, and give them to a consumer: how many."""
    space, options, count = context.space, options_of(context), int64(0)
    ms, seq = identifier_after(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ))
    where, place = stream_seek(space, root, ms, seq, room_of(context))
    while where != NOWHERE and count < options[MOST]:
        node = node_where(space, root, where)
        ms, seq = entry_identifier(space, node, place)
        note_given(context, root, group, ms, seq)
        reply_entry(context, node, place)
        if not options[NOACK]:
            _note_pending(context, group, consumer, ms, seq)
        count += 1
        place += 1
        if place == node_entries(space, node):
            where, place = where_next(space, where), int64(0)
    if not options[NOACK]:
        put_word(space, consumer, ACTIVE, context.shard[NOW_MS])
    return count


@linked(int64(CONTEXT, int64, int64))
def _give_again(context, root, consumer):  # type: ignore[no-untyped-def]
    """Reply the entries that are pending of a consumer, behind the identifier in the options: how many."""
    space, options, count, room = context.space, options_of(context), int64(0), room_of(context)
    at = pending_seek(space, consumer, options[MS], options[SEQ], room, 1)
    while at != 0 and count < options[MOST]:
        element = position_address(space, at)
        ms, seq = pending_identifier(space, at)
        where, place = stream_has(space, root, ms, seq, room)
        if where == NOWHERE:
            reply_array(context, 2)
            reply_identifier(context, ms, seq)
            reply_null_array(context)
        else:
            reply_entry(context, node_where(space, root, where), place)
            put_word(space, element, TIME, context.shard[NOW_MS])
            put_word(space, element, TIMES, word_at(space, element, TIMES) + 1)
        count += 1
        at = position_next(space, at)
    return count


@linked(int64(CONTEXT, int64, int64, int64))
def _is_behind(context, root, group, i):  # type: ignore[no-untyped-def]
    """Whether there is something to reply of a stream, whose identifier is argument i (0 or 1)."""
    space = context.space
    _identifier(context, i, 0)
    if not _wants_new(context, i):
        return 1
    if stream_count(space, root) == 0:
        return 0
    ms, seq = stream_edge(space, root, True)
    return 1 if is_before(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ), ms, seq) else 0


@linked(int64(CONTEXT))
def _serve(context):  # type: ignore[no-untyped-def]
    """Reply what there is of each stream: of how many there was something.  Frames were reserved."""
    options, call = options_of(context), context.call
    start, count = begin_array(context), int64(0)
    for i in range(options[STREAMS]):
        at = options[STREAMS_AT] + i
        root = stream_of(context, at)
        group = find_group(context, root, options[GROUP_AT])
        consumer = consumer_at_hand(context, group, options[GROUP_AT] + 1, at)
        served = _is_behind(context, root, group, at + options[STREAMS])
        if served:
            begin_stream(context, at)
            inner = begin_array(context)
            if _wants_new(context, at + options[STREAMS]):
                given = _give_new(context, root, group, consumer)
            else:
                given = _give_again(context, root, consumer)
            end_array(context, inner, given)
            count += 1
        key, key_size = argument(context, at)
        changed(context, call[DB], key, key_size, key_hash(context, key, key_size), XPENDING, served)
    end_streams(context, start, count)
    return count


@linked(HANDLER)
def xreadgroup(context):  # type: ignore[no-untyped-def]
    """XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]"""
    if not read_options(context, 1):
        return SERVED
    options = options_of(context)
    if options[GROUP_AT] == 0:
        reply_error(context, XREAD_NO_GROUP)
        return SERVED
    work = _look(context)
    if work < 0:
        return SERVED
    size = arg_length(context, options[GROUP_AT] + 1) * options[STREAMS] + work * _BYTES_OF_PENDING
    if not reserve_elements(context, work + 4 * options[STREAMS], size):
        return SERVED
    length = reply_length(context)
    if _serve(context) > 0:
        return SERVED
    reply_truncate(context, length)
    if options[TIMEOUT] != NO_TIMEOUT and may_wait(context):
        return wait_for_keys(context, options[STREAMS_AT], options[STREAMS], GROUP_READ, options[TIMEOUT])
    reply_null_array(context)
    return SERVED
