"""A record of what an XREADGROUP has given: of each stream the range of identifiers, and whether there was something.

    WORD  DESCRIPTION
    0     the stream at hand, from 0 on; behind the last one, all has been given
    1     whether that has been begun
    2     how many entries of it may still be given
    3     entries given so far, of all streams
    4     of each stream SERVED, NEW, and two identifiers: what was given lies behind the first, and up to the second

If the command takes several turns, the record lies in the connection's queue buffer, which is free then.  Else it lies
behind the command's options, if it is small, or wherever there is room.  The reply is made of the record: each entry
that was given and is still there.

For the reader's thread (store/aside.py) the record is spelled as a command that is kept in the place of the client's:

    XREADGROUP ... STREAMS key key other other (3-0 7-1 0-0 5-0

Each key that was served has two identifiers.  The bracket says that the entries were new.
"""

from kvstore.commands.streams.giving import give_again, give_new, is_behind, wants_new
from kvstore.commands.streams.groups import consumer_at_hand, find_consumer, find_group
from kvstore.commands.streams.identifiers import (
    LEAST,
    identifier_after,
    parse_identifier,
    put_identifier_text,
    reply_identifier,
)
from kvstore.commands.streams.reading import (
    GROUP,
    GROUP_AT,
    MOST,
    MS,
    RECORD,
    ROOT,
    SEQ,
    STREAMS,
    STREAMS_AT,
    begin_stream,
    end_streams,
    peek_stream,
)
from kvstore.commands.streams.value import OPTION_WORDS, length_limit, options_of, reply_entry, reply_forward, room_of
from kvstore.connections.table import drop, grow
from kvstore.effects.door import changed
from kvstore.effects.events import XPENDING
from kvstore.lifetimes.call import COMMAND, DB, REPLY_LENGTH
from kvstore.lifetimes.connection import QUEUE_ADDRESS, QUEUE_CAPACITY, QUEUE_LENGTH
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import CLIENT_BUFFERS
from kvstore.store.leaving import reply_goes_on
from kvstore.store.lookup import key_hash
from kvstore.structures.groups import GIVEN_MS, GIVEN_SEQ, pending_identifier, pending_seek, word_at
from kvstore.structures.stream import NOWHERE, node_where, stream_has
from kvstore.structures.stream_layout import is_before
from kvstore.structures.tree import position_next
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.arguments import arg_length, arg_offset, argument, query
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.resp import reply_array, reply_null_array
from kvstore.wire.wanted import is_given_up
from mmcore.jit import copy_bytes, int64, kernel, linked, view, void

AT, _BEGUN, _LEFT, GIVEN = range(4)
_HEAD = 4
_SERVED, _NEW, _FROM_MS, _FROM_SEQ, _TO_MS, _TO_SEQ = range(6)
_WORDS = 6  # of a stream
_SMALL_PLACE = 16  # of a small record, among the words of the options
_TEXT_MAX = 48  # [bytes] of an identifier, with a bracket
_BRACKET = b"("[0]


@kernel
def _size(context):  # type: ignore[no-untyped-def]
    return _HEAD + _WORDS * options_of(context)[STREAMS]


@view
def deliveries_of(context):  # type: ignore[no-untyped-def]
    """The words of the record."""
    return words_at(options_of(context)[RECORD], _size(context))


@kernel
def _small(context):  # type: ignore[no-untyped-def]
    # The address of a small record.
    return int64(options_of(context).ctypes.data) + 8 * _SMALL_PLACE


@linked(int64(CONTEXT, int64[::1], int64))
def deliveries_begin(context, row, lasts):  # type: ignore[no-untyped-def]
    """Begin a record, which `lasts` for several turns or not: 1, or 0 when memory ran out."""
    options, size = options_of(context), _size(context)
    if not lasts and size <= OPTION_WORDS - _SMALL_PLACE:
        options[RECORD] = _small(context)
    elif not lasts:
        options[RECORD] = malloc(8 * size)
    elif grow(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY, 8 * size):
        options[RECORD] = row[QUEUE_ADDRESS]
    else:
        options[RECORD] = 0
    if options[RECORD] == 0:
        return 0
    record = deliveries_of(context)
    for i in range(size):
        record[i] = 0
    return 1


@kernel
def deliveries_resume(context, row):  # type: ignore[no-untyped-def]
    """Go on with the record that was begun in an earlier turn."""
    assert row[QUEUE_CAPACITY] >= 8 * _size(context), "the record of what was given is gone"
    options_of(context)[RECORD] = row[QUEUE_ADDRESS]


@kernel
def deliveries_end(context, row):  # type: ignore[no-untyped-def]
    """Drop the record."""
    record = options_of(context)[RECORD]
    if record == row[QUEUE_ADDRESS]:
        drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    elif record != _small(context):
        free(record)


@kernel
def _stream(i):  # type: ignore[no-untyped-def]
    # Where the words of a stream begin.
    return _HEAD + _WORDS * i


# --- giving ----------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64[::1], int64, int64, int64))
def _begin_stream_at_hand(context, record, root, group, at):  # type: ignore[no-untyped-def]
    """Begin with the stream at hand, whose key is argument `at`: whether there is something to give (0 or 1)."""
    options, space, place = options_of(context), context.space, _stream(record[AT])
    served = is_behind(context, root, group, at + options[STREAMS])
    new = int64(wants_new(context, at + options[STREAMS]))
    record[_BEGUN], record[_LEFT] = 1, options[MOST]
    record[place + _SERVED], record[place + _NEW] = served, new
    record[place + _FROM_MS] = word_at(space, group, GIVEN_MS) if new else options[MS]
    record[place + _FROM_SEQ] = word_at(space, group, GIVEN_SEQ) if new else options[SEQ]
    record[place + _TO_MS], record[place + _TO_SEQ] = record[place + _FROM_MS], record[place + _FROM_SEQ]
    return served


@linked(int64(CONTEXT, int64[::1], int64, int64, int64, int64))
def _give(context, record, root, group, consumer, most):  # type: ignore[no-untyped-def]
    """Give up to `most` entries of the stream at hand: how many."""
    options, space, place = options_of(context), context.space, _stream(record[AT])
    if not record[place + _NEW]:
        options[MS], options[SEQ] = record[place + _TO_MS], record[place + _TO_SEQ]
        count = give_again(context, root, consumer, most)
        record[place + _TO_MS], record[place + _TO_SEQ] = options[MS], options[SEQ]
        return count
    count = give_new(context, root, group, consumer, most)
    record[place + _TO_MS], record[place + _TO_SEQ] = word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ)
    return count


@linked(int64(CONTEXT, int64[::1], int64, int64, int64))
def _goes_on(context, record, root, group, at):  # type: ignore[no-untyped-def]
    """Whether there is more to give of the stream at hand, of which some was given in an earlier turn (0 or 1).

    Another consumer may have been given some since then, or the group's last identifier was set.  Then what was given
    so far is all.
    """
    space, place = context.space, _stream(record[AT])
    if not record[place + _NEW]:
        return 1
    if word_at(space, group, GIVEN_MS) != record[place + _TO_MS]:
        return 0
    if word_at(space, group, GIVEN_SEQ) != record[place + _TO_SEQ]:
        return 0
    return is_behind(context, root, group, at + options_of(context)[STREAMS])


@linked(void(CONTEXT))
def find_stream(context):  # type: ignore[no-untyped-def]
    """Find the stream at hand and its group, and note them in the options; 0 without one."""
    options = options_of(context)
    options[ROOT] = peek_stream(context, options[STREAMS_AT] + deliveries_of(context)[AT])
    options[GROUP] = find_group(context, options[ROOT], options[GROUP_AT]) if options[ROOT] != 0 else int64(0)


@linked(int64(CONTEXT, int64))
def give_stream(context, budget):  # type: ignore[no-untyped-def]
    """Give up to `budget` entries of the stream at hand, for which frames were reserved: how many.

    It is noted in the options.  If that is all of it, the next stream is at hand.  The same is true if the stream or
    its group is gone.
    """
    options, record = options_of(context), deliveries_of(context)
    at, count, most = options[STREAMS_AT] + record[AT], int64(0), int64(0)
    root, group = options[ROOT], options[GROUP]
    if group != 0:
        consumer, began = consumer_at_hand(context, group, options[GROUP_AT] + 1, at), record[_BEGUN] == 0
        if began:
            served = _begin_stream_at_hand(context, record, root, group, at)
        else:
            served = _goes_on(context, record, root, group, at)
        if served:
            most = min(budget, record[_LEFT])
            count = _give(context, record, root, group, consumer, most)
            record[_LEFT] -= count
            record[GIVEN] += count
        key, size = argument(context, at)
        counts = served if began else int64(count > 0)  # an image may have been taken between two turns
        changed(context, context.call[DB], key, size, key_hash(context, key, size), XPENDING, counts)
    if count == 0 or count < most or record[_LEFT] == 0:
        record[AT], record[_BEGUN] = record[AT] + 1, 0
    return count


# --- replying --------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def _reply_pending(context, root, consumer, ms, seq, end_ms, end_seq, start):  # type: ignore[no-untyped-def]
    """Reply the entries that are pending of a consumer, behind one identifier and up to another: how many.

    start: as of reply_forward, like the result.
    """
    space, count, room, limit = context.space, int64(0), room_of(context), length_limit(context, start)
    most = options_of(context)[MOST]
    at = pending_seek(space, consumer, ms, seq, room, 1)
    while at != 0 and count < most and not is_given_up(context):
        ms, seq = pending_identifier(space, at)
        if is_before(end_ms, end_seq, ms, seq):
            break
        where, place = stream_has(space, root, ms, seq, room)
        if where == NOWHERE:
            reply_array(context, 2)
            reply_identifier(context, ms, seq)
            reply_null_array(context)
        else:
            reply_entry(context, node_where(space, root, where), place)
        count += 1
        if context.call[REPLY_LENGTH] >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return -1
        at = position_next(space, at)
    return count


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64, int64))
def _reply_range(context, root, at, new, ms, seq, end_ms, end_seq, start):  # type: ignore[no-untyped-def]
    """Reply what was given of the stream whose key is argument `at`: 1, 0 if it is gone, -1 if the reply goes aside."""
    if root == 0:
        return 0
    begin_stream(context, at)
    inner, entries = begin_array(context), int64(0)
    if not new:
        group = find_group(context, root, options_of(context)[GROUP_AT])
        consumer = find_consumer(context, group, options_of(context)[GROUP_AT] + 1) if group != 0 else int64(0)
        if consumer != 0:
            entries = _reply_pending(context, root, consumer, ms, seq, end_ms, end_seq, start)
    elif is_before(ms, seq, end_ms, end_seq):
        ms, seq = identifier_after(ms, seq)
        entries = reply_forward(context, root, ms, seq, end_ms, end_seq, options_of(context)[MOST], start)
    if entries < 0:
        return -1
    end_array(context, inner, entries)
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def reply_given(context, root, i, start):  # type: ignore[no-untyped-def]
    """Reply what was given of stream i: 1, 0 if there was nothing, -1 if the command goes aside with its whole reply.

    root: of the stream as it is now, 0 without one.
    start: where the whole reply begins, if it may go aside because its entries are long, else -1.
    """
    record, place = deliveries_of(context), _stream(i)
    if not record[place + _SERVED]:
        return 0
    return _reply_range(
        context, root, options_of(context)[STREAMS_AT] + i, record[place + _NEW], record[place + _FROM_MS],
        record[place + _FROM_SEQ], record[place + _TO_MS], record[place + _TO_SEQ], start,
    )  # fmt: skip


@linked(int64(CONTEXT, int64))
def reply_all_given(context, start):  # type: ignore[no-untyped-def]
    """The whole reply: of how many streams there was something, with no reply of none; -1 if the command goes aside."""
    length = context.call[REPLY_LENGTH]
    begun, count = begin_array(context), int64(0)
    for i in range(options_of(context)[STREAMS]):
        root = peek_stream(context, options_of(context)[STREAMS_AT] + i)
        replied = reply_given(context, root, i, start)
        if replied < 0:
            return -1
        count += replied
    end_streams(context, begun, count)
    if count == 0:
        context.call[REPLY_LENGTH] = length
        reply_null_array(context)
    return count


# --- for the reader --------------------------------------------------------------------------------------------------


@kernel
def _keep_argument(context, head, out, at, i, place):  # type: ignore[no-untyped-def]
    # Write argument i as number `place` of the kept command; returns the index behind it.
    size = arg_length(context, i)
    copy_bytes(out, at, query(context), arg_offset(context, i), size)
    head[2 + place] = size
    return at + size


@linked(int64(CONTEXT, int64[::1]))
def deliveries_keep(context, row):  # type: ignore[no-untyped-def]
    """Keep the record as a command in the queue buffer: 1, or 0 when memory ran out.

    It has the form of keep_command (kvstore/commands/transactions.py), which is not called then.
    """
    call, options, record = context.call, options_of(context), deliveries_of(context)
    first, streams, served, size = options[STREAMS_AT], options[STREAMS], int64(0), int64(0)
    for i in range(first + streams):
        size += arg_length(context, i) * (2 if i >= first else 1)
    for i in range(streams):
        served += record[_stream(i) + _SERVED]
    count = first + 4 * served
    capacity = 16 + 8 * count + size + 2 * _TEXT_MAX * served + 8
    address = malloc(capacity)
    if address == 0:
        return 0
    head, out, at = words_at(address, 2 + count), bytes_at(address, capacity), 16 + 8 * count
    head[0], head[1] = call[COMMAND], count
    for i in range(first):
        at = _keep_argument(context, head, out, at, i, i)
    place = first
    for i in range(streams):
        for _ in range(2 * record[_stream(i) + _SERVED]):
            at = _keep_argument(context, head, out, at, first + i, place)
            place += 1
    for i in range(streams):
        words = _stream(i)
        for word in range(_FROM_MS, _WORDS if record[words + _SERVED] else 0, 2):
            start = at
            if word == _FROM_MS and record[words + _NEW]:
                out[at] = _BRACKET
                at += 1
            at += put_identifier_text(out, at, record[words + word], record[words + word + 1])
            head[2 + place] = at - start
            place += 1
    deliveries_end(context, row)
    drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    context.shard[CLIENT_BUFFERS] += capacity
    row[QUEUE_ADDRESS], row[QUEUE_CAPACITY], row[QUEUE_LENGTH] = address, capacity, (at + 7) & ~7
    return 1


@linked(void(CONTEXT))
def deliveries_read(context):  # type: ignore[no-untyped-def]
    """Reply to such a command, on the reader's thread."""
    options = options_of(context)
    pairs, start, count = options[STREAMS] >> 1, begin_array(context), int64(0)
    for i in range(0, 2 * pairs, 2):
        at = options[STREAMS_AT] + options[STREAMS] + i
        new = int64(query(context)[arg_offset(context, at)] == _BRACKET)
        parse_identifier(context, at, new, LEAST, 0, options, MS)
        ms, seq = options[MS], options[SEQ]
        parse_identifier(context, at + 1, 0, LEAST, 0, options, MS)
        end_ms, end_seq = options[MS], options[SEQ]
        root = peek_stream(context, options[STREAMS_AT] + i)
        count += _reply_range(context, root, options[STREAMS_AT] + i, new, ms, seq, end_ms, end_seq, -1)
    if count > 0:
        end_streams(context, start, count)
    else:
        context.call[REPLY_LENGTH] = start
        reply_null_array(context)
