"""XREADGROUP: entries for a consumer of a group, which are pending until it acknowledges them; it may wait for some.

With > it is given the entries behind the last one that the group was given; with an identifier, those that are pending
of it.  A record says what it was given (deliveries.py), and the reply is made of that.

few entries     Frames for all are reserved at once, so it gets all or nothing.  A reply that becomes long in bytes is
                dropped, and the reader's thread makes it (store/aside.py).
many            They are given in steps, so many a turn, and replied at the end.  Each step reserves frames.  If there
                are none, or another consumer of the group has come between two turns, what was given so far is all.
                The client may go away meanwhile: what it was given is pending.

In a transaction all are given at once, and so they are where no read goes aside.
"""

from kvstore.commands.streams.deliveries import (
    AT,
    GIVEN,
    deliveries_begin,
    deliveries_end,
    deliveries_keep,
    deliveries_of,
    deliveries_read,
    deliveries_resume,
    find_stream,
    give_stream,
    reply_all_given,
    reply_given,
)
from kvstore.commands.streams.giving import BYTES_OF_PENDING, read_identifier
from kvstore.commands.streams.groups import find_consumer, find_group, refuse_no_group
from kvstore.commands.streams.identifiers import GREATEST, identifier_after
from kvstore.commands.streams.reading import (
    GROUP,
    GROUP_AT,
    MOST,
    MS,
    NO_TIMEOUT,
    ROOT,
    SEQ,
    STREAMS,
    STREAMS_AT,
    TIMEOUT,
    end_streams,
    read_options,
    stream_of,
)
from kvstore.commands.streams.value import ALL, entries_behind, options_of
from kvstore.connections.table import connection
from kvstore.effects.waiting import GROUP_READ, may_wait, wait_for_keys
from kvstore.lifetimes.call import CONNECTION, DEPTH, GIVEN_UP_AT
from kvstore.lifetimes.connection import NEVER, PART_DONE
from kvstore.lifetimes.context import AGAIN, BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import KEYSPACE_HITS, READ_ASIDE_OVER
from kvstore.store.aside import read_begin, read_withdraw
from kvstore.store.collections import OTHER_TYPE
from kvstore.store.copies import is_shared
from kvstore.store.reserve import reserve_elements
from kvstore.structures.groups import GIVEN_MS, GIVEN_SEQ, pending_count, word_at
from kvstore.wire.arguments import arg_length
from kvstore.wire.deferred import begin_array
from kvstore.wire.errors import OUT_OF_WAITING, XREAD_NO_GROUP
from kvstore.wire.resp import reply_error, reply_length, reply_null_array, reply_truncate
from mmcore.jit import int64, kernel, linked

_COST = 3  # elements of a read aside that take as long as an entry that is given and replied
_A_TURN, _A_TURN_SHARED = 500, 100  # entries that a step gives; fewer where it copies pages


# --- before anything is given ----------------------------------------------------------------------------------------


@kernel
def _few(context):  # type: ignore[no-untyped-def]
    # How many entries are given at once.
    over = context.shard[READ_ASIDE_OVER]
    return int64(ALL) if over == NEVER or context.call[DEPTH] != 0 else over // _COST


@linked(int64(CONTEXT, int64, int64, int64))
def _work(context, root, group, most):  # type: ignore[no-untyped-def]
    """How many entries of a stream the consumer will get, of `most` at most."""
    options = options_of(context)
    if options[MS] != GREATEST or options[SEQ] != GREATEST:
        consumer = find_consumer(context, group, options[GROUP_AT] + 1)
        return min(pending_count(context.space, consumer), most) if consumer != 0 else int64(0)
    given_ms, given_seq = word_at(context.space, group, GIVEN_MS), word_at(context.space, group, GIVEN_SEQ)
    if given_ms == GREATEST and given_seq == GREATEST:
        return 0
    ms, seq = identifier_after(given_ms, given_seq)
    return entries_behind(context, root, ms, seq, most)


@linked(int64(CONTEXT, int64))
def _look(context, enough):  # type: ignore[no-untyped-def]
    """How many entries the consumer will get at most, if nothing is wrong with the arguments; -1 with an error.

    No more than `enough` are counted.  The last stream and its group are noted in the options.
    """
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
        if not read_identifier(context, at + options[STREAMS]):
            return -1
        work += _work(context, root, group, min(options[MOST], enough - work))
        options[ROOT], options[GROUP] = root, group
    return work


@kernel
def _reserve(context, work):  # type: ignore[no-untyped-def]
    # Reserve frames for giving so many entries: 1, or 0 with an error replied.
    options = options_of(context)
    size = arg_length(context, options[GROUP_AT] + 1) * options[STREAMS] + work * BYTES_OF_PENDING
    return reserve_elements(context, work + 4 * options[STREAMS], size)


# --- few entries -----------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64[::1]))
def _reply_aside(context, row):  # type: ignore[no-untyped-def]
    """All has been given, and the store was forked: let the reader reply."""
    if deliveries_keep(context, row):
        return BLOCKS
    read_withdraw(context)
    reply_all_given(context, -1)
    deliveries_end(context, row)
    return SERVED


@linked(int64(CONTEXT, int64))
def _at_once(context, work):  # type: ignore[no-untyped-def]
    """Give `work` entries, for which frames were reserved, and reply them: of how many streams there were any.

    -1 if the reader is to reply.
    """
    options, record, length = options_of(context), deliveries_of(context), reply_length(context)
    start, count, early = begin_array(context), int64(0), int64(0)
    while record[AT] < options[STREAMS]:
        i = record[AT]
        if options[STREAMS] > 1:
            find_stream(context)
        while record[AT] == i:
            give_stream(context, ALL)
        replied = reply_given(context, options[ROOT], i, length) if count >= 0 else int64(0)
        if replied >= 0:
            count += replied
        else:
            count, early = int64(-1), int64(record[AT] < options[STREAMS])
            if early:  # the reader is to see what the other streams give, too
                read_withdraw(context)
                if not _reserve(context, work):  # pages are shared still, so that these may need more
                    reply_truncate(context, length)
                    break
    if count >= 0:
        end_streams(context, start, count)
    elif early and not read_begin(context):
        count = reply_all_given(context, -1)
    return count


# --- many ------------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64[::1]))
def _end(context, row):  # type: ignore[no-untyped-def]
    """All has been given in steps: reply it."""
    long = deliveries_of(context)[GIVEN] >> 1 > context.shard[READ_ASIDE_OVER]
    if not long and reply_all_given(context, reply_length(context)) >= 0:
        deliveries_end(context, row)
        return SERVED
    if not long or read_begin(context):
        return _reply_aside(context, row)
    reply_all_given(context, -1)
    deliveries_end(context, row)
    return SERVED


@linked(int64(CONTEXT, int64[::1]))
def _step(context, row):  # type: ignore[no-untyped-def]
    """A step of the command at hand."""
    options, record, length = options_of(context), deliveries_of(context), reply_length(context)
    # Each turn reads the whole command again, so the step must grow with its length.
    left = max(int64(_A_TURN_SHARED if is_shared(context) else _A_TURN), options[STREAMS] >> 4)
    row[PART_DONE] = 0
    if _reserve(context, left):
        while left > 0 and record[AT] < options[STREAMS]:
            find_stream(context)
            left -= max(give_stream(context, left), 1)
    elif record[GIVEN] == 0:
        deliveries_end(context, row)
        return SERVED
    else:
        reply_truncate(context, length)
        return _end(context, row)
    if record[AT] < options[STREAMS]:
        row[PART_DONE] = 1
        return AGAIN
    return _end(context, row)


# ---------------------------------------------------------------------------------------------------------------------


@linked(HANDLER)
def xreadgroup(context):  # type: ignore[no-untyped-def]
    """XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]"""
    if not read_options(context, 1):
        return SERVED
    options, row = options_of(context), connection(context, context.call[CONNECTION])
    if options[GROUP_AT] == 0:
        reply_error(context, XREAD_NO_GROUP)
        return SERVED
    if context.call[GIVEN_UP_AT] != 0:
        deliveries_read(context)
        return SERVED
    if row[PART_DONE] != 0:
        deliveries_resume(context, row)
        return _step(context, row)
    few, length = _few(context), reply_length(context)
    work = _look(context, few + 1)
    if work < 0 or (work <= few and not _reserve(context, work)):
        return SERVED
    if not deliveries_begin(context, row, int64(work > few)):
        reply_error(context, OUT_OF_WAITING)
        return SERVED
    context.shard[KEYSPACE_HITS] += options[STREAMS]  # Redis looks up twice
    if work > few:
        return _step(context, row)
    count = _at_once(context, work)
    if count < 0:
        return _reply_aside(context, row)
    deliveries_end(context, row)
    if count > 0:
        return SERVED
    reply_truncate(context, length)
    if options[TIMEOUT] != NO_TIMEOUT and may_wait(context):
        return wait_for_keys(context, options[STREAMS_AT], options[STREAMS], GROUP_READ, options[TIMEOUT])
    reply_null_array(context)
    return SERVED
