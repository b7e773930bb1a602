"""XCLAIM and XAUTOCLAIM: a consumer gets what is pending of others.

An entry that was deleted from the stream is pending no more when it is claimed.  XCLAIM is bounded by its arguments,
XAUTOCLAIM by COUNT: it looks at ten times as many pending entries.  Both reserve frames, and then cannot fail.
"""

from kvstore.commands.streams.groups import consumer_at_hand, entry_exists, find_group, note_last, refuse_no_group
from kvstore.commands.streams.identifiers import (
    LEAST,
    WHOLE,
    bound_argument,
    identifier_argument,
    parse_identifier,
    reply_identifier,
)
from kvstore.commands.streams.value import options_of, reply_entry, room_of
from kvstore.effects.door import changed
from kvstore.effects.events import XPENDING
from kvstore.lifetimes.call import ARGC, DB, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements
from kvstore.structures.groups import (
    ACTIVE,
    PENDING_SIZE,
    TIME,
    TIMES,
    pending_add,
    pending_count,
    pending_find,
    pending_give,
    pending_identifier,
    pending_remove,
    pending_seek,
    put_word,
    word_at,
)
from kvstore.structures.stream import NOWHERE, node_where
from kvstore.structures.tree import position_address
from kvstore.system.libc import free, malloc, words_at
from kvstore.wire.arguments import INT64_MAX, arg_length, argument, integer_argument, is_word, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import (
    OUT_OF_RESULT,
    SYNTAX,
    XAUTOCLAIM_COUNT,
    XAUTOCLAIM_IDLE,
    XCLAIM_IDLE,
    XCLAIM_OPTION_IDLE,
    XCLAIM_OPTION_TIME,
    XCLAIM_OPTION_TIMES,
)
from kvstore.wire.resp import (
    begin_error,
    end_error,
    put_argument,
    reply_array,
    reply_error,
    reply_raw,
    reply_room,
)
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, void

# The options, by their place in the words of `options_of`; behind them the identifier at hand.
_LEAST_IDLE, _STOP, _GIVEN_AT, _TIMES, _FORCE, _JUST_ID, _LAST_MS, _LAST_SEQ, _COUNT, _MS, _SEQ = range(11)
_AS_BEFORE = -1
_FORCE_WORD, _JUSTID_WORD, _IDLE_WORD, _TIME_WORD = pack(b"FORCE"), pack(b"JUSTID"), pack(b"IDLE"), pack(b"TIME")
_LASTID_WORD, _COUNT_WORD = pack(b"LASTID"), pack(b"COUNT")
_RETRYCOUNT = constant(b"RETRYCOUNT")
_UNRECOGNIZED, _QUOTE = constant(b"ERR Unrecognized XCLAIM option '"), constant(b"'")
_COUNT_DEFAULT, _ATTEMPTS = 100, 10
_COUNT_MAX = INT64_MAX // 16
_BYTES_OF_PENDING = 2 * PENDING_SIZE + 64
_ALL_OF_IT = 1 << 30


@linked(void(CONTEXT, int64))
def _refuse_option(context, i):  # type: ignore[no-untyped-def]
    """The error for an option that XCLAIM does not have."""
    start = begin_error(context)
    reply_raw(context, _UNRECOGNIZED, 0, len(_UNRECOGNIZED))
    put_argument(context, i, _ALL_OF_IT)
    reply_raw(context, _QUOTE, 0, len(_QUOTE))
    end_error(context, start)


@linked(int64(CONTEXT, int64[::1], int64))
def _claim_number(context, options, i):  # type: ignore[no-untyped-def]
    """Read IDLE, TIME, RETRYCOUNT or LASTID, which is argument i, with its value: 1, or 0 with an error replied."""
    what = word(context, i)
    if what == _LASTID_WORD:
        return identifier_argument(context, i + 1, LEAST, options, _LAST_MS)
    valid, value = integer_argument(context, i + 1)
    if what == _IDLE_WORD:
        options[_GIVEN_AT] = context.shard[NOW_MS] - value
        if not valid:
            reply_error(context, XCLAIM_OPTION_IDLE)
    elif what == _TIME_WORD:
        options[_GIVEN_AT] = value
        if not valid:
            reply_error(context, XCLAIM_OPTION_TIME)
    else:
        options[_TIMES] = value
        if not valid:
            reply_error(context, XCLAIM_OPTION_TIMES)
    return int64(valid)


@kernel
def _has_number(context, i):  # type: ignore[no-untyped-def]
    what = word(context, i)
    return what == _IDLE_WORD or what == _TIME_WORD or what == _LASTID_WORD or is_word(context, i, _RETRYCOUNT)


@linked(int64(CONTEXT, int64[::1]))
def _claim_options(context, options):  # type: ignore[no-untyped-def]
    """Read the arguments of XCLAIM from 4 on: 1, or 0 with an error replied.  STOP is behind the identifiers."""
    argc, now = context.call[ARGC], context.shard[NOW_MS]
    valid, idle = integer_argument(context, 4)
    if not valid:
        reply_error(context, XCLAIM_IDLE)
        return 0
    options[_LEAST_IDLE], options[_GIVEN_AT], options[_TIMES] = max(idle, 0), _AS_BEFORE, _AS_BEFORE
    options[_FORCE], options[_JUST_ID], options[_LAST_MS], options[_LAST_SEQ] = 0, 0, LEAST, LEAST
    i = int64(5)
    while i < argc and parse_identifier(context, i, 0, LEAST, 0, options, _MS) == WHOLE:
        i += 1
    options[_STOP] = i
    while i < argc:
        what, more = word(context, i), i + 1 < argc
        if what == _FORCE_WORD:
            options[_FORCE] = 1
        elif what == _JUSTID_WORD:
            options[_JUST_ID] = 1
        elif more and (
            what == _IDLE_WORD or what == _TIME_WORD or what == _LASTID_WORD or is_word(context, i, _RETRYCOUNT)
        ):
            if not _claim_number(context, options, i):
                return 0
            i += 1
        else:
            _refuse_option(context, i)
            return 0
        i += 1
    if options[_GIVEN_AT] < 0 or options[_GIVEN_AT] > now:  # not given, or nonsense
        options[_GIVEN_AT] = now
    return 1


@linked(void(CONTEXT, int64, int64, int64))
def _claim(context, consumer, ms, element):  # type: ignore[no-untyped-def]
    """Give a pending entry to a consumer, as the options say."""
    space, options = context.space, options_of(context)
    put_word(space, element, TIME, options[_GIVEN_AT])
    if options[_TIMES] >= 0:
        put_word(space, element, TIMES, options[_TIMES])
    elif not options[_JUST_ID]:
        put_word(space, element, TIMES, word_at(space, element, TIMES) + 1)
    pending_give(space, consumer, ms, element)
    put_word(space, consumer, ACTIVE, context.shard[NOW_MS])


@linked(int64(CONTEXT, int64, int64, int64))
def _claim_one(context, root, group, consumer):  # type: ignore[no-untyped-def]
    """Claim the entry whose identifier is in the options, and reply it: 1; 2 if it is pending no more; else 0."""
    space, options, room = context.space, options_of(context), room_of(context)
    ms, seq, now = options[_MS], options[_SEQ], context.shard[NOW_MS]
    element = pending_find(space, group, ms, seq, room)
    where, place = entry_exists(context, root, ms, seq)
    if where == NOWHERE:
        if element == 0:
            return 0
        pending_remove(space, group, ms, element)
        return 2
    if element == 0:
        if not options[_FORCE]:
            return 0
        element = pending_add(space, group, consumer, ms, seq, room, now, 1)
    elif options[_LEAST_IDLE] > 0 and now - word_at(space, element, TIME) < options[_LEAST_IDLE]:
        return 0
    _claim(context, consumer, ms, element)
    if options[_JUST_ID]:
        reply_identifier(context, ms, seq)
    else:
        reply_entry(context, node_where(space, root, where), place)
    return 1


@linked(HANDLER)
def xclaim(context):  # type: ignore[no-untyped-def]
    """XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME ms] [RETRYCOUNT count] [FORCE] ..."""
    options = options_of(context)
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    entry = collection_read(context, key, key_size, STREAM)  # a miss is announced, as in Redis
    if entry == OTHER_TYPE:
        return SERVED
    root = entry_root(context, entry) if entry != 0 else int64(0)
    group = find_group(context, root, 2) if entry != 0 else int64(0)
    if group == 0:
        refuse_no_group(context, 1, 2, 0)
        return SERVED
    if not _claim_options(context, options):
        return SERVED
    ids = options[_STOP] - 5
    if not reserve_elements(context, 4 * ids + 4, arg_length(context, 3) + ids * _BYTES_OF_PENDING):
        return SERVED
    moved = note_last(context, group, options[_LAST_MS], options[_LAST_SEQ])
    consumer = consumer_at_hand(context, group, 3, 1)
    start, count = begin_array(context), int64(0)
    for i in range(5, options[_STOP]):
        identifier_argument(context, i, LEAST, options, _MS)
        done = _claim_one(context, root, group, consumer)
        moved += int64(done > 0)
        count += int64(done == 1)
    end_array(context, start, count)
    changed(context, context.call[DB], key, key_size, hash_, XPENDING, moved)
    return SERVED


# --- XAUTOCLAIM ------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64[::1]))
def _auto_options(context, options):  # type: ignore[no-untyped-def]
    """Read the arguments of XAUTOCLAIM from 4 on: 1, or 0 with an error replied."""
    argc = context.call[ARGC]
    valid, idle = integer_argument(context, 4)
    if not valid:
        reply_error(context, XAUTOCLAIM_IDLE)
        return 0
    options[_LEAST_IDLE], options[_GIVEN_AT], options[_TIMES] = max(idle, 0), context.shard[NOW_MS], _AS_BEFORE
    options[_COUNT], options[_JUST_ID] = _COUNT_DEFAULT, 0
    if not bound_argument(context, 5, 0, options, _MS):
        return 0
    i = int64(6)
    while i < argc:
        if word(context, i) == _COUNT_WORD and i + 1 < argc:
            valid, options[_COUNT] = integer_argument(context, i + 1)
            if not valid or options[_COUNT] < 1 or options[_COUNT] > _COUNT_MAX:
                reply_error(context, XAUTOCLAIM_COUNT)
                return 0
            i += 1
        elif word(context, i) == _JUSTID_WORD:
            options[_JUST_ID] = 1
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 1
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _claim_idle(context, root, group, consumer, gone_address):  # type: ignore[no-untyped-def]
    """Claim pending entries from the identifier in the options on, and reply them: how many were deleted.

    The identifiers of these go to the words at `gone_address`.  That in the options becomes where to go on, or 0-0.
    The count in the options becomes how many were claimed.
    """
    space, options, room, now = context.space, options_of(context), room_of(context), context.shard[NOW_MS]
    left, attempts, gone, claimed = options[_COUNT], options[_COUNT] * _ATTEMPTS, int64(0), int64(0)
    after = int64(0)
    where = pending_seek(space, group, options[_MS], options[_SEQ], room, after)
    start = begin_array(context)
    while where != 0 and left > 0 and attempts > 0:
        attempts -= 1
        element = position_address(space, where)
        ms, seq = pending_identifier(space, where)
        held, place = entry_exists(context, root, ms, seq)
        if held == NOWHERE:
            pending_remove(space, group, ms, element)
            found = words_at(gone_address, 2 * gone + 2)
            found[2 * gone], found[2 * gone + 1] = ms, seq
            gone += 1
            left -= 1
        elif now - word_at(space, element, TIME) >= options[_LEAST_IDLE]:
            _claim(context, consumer, ms, element)
            if options[_JUST_ID]:
                reply_identifier(context, ms, seq)
            else:
                reply_entry(context, node_where(space, root, held), place)
            claimed += 1
            left -= 1
        where = pending_seek(space, group, ms, seq, room, 1)
    end_array(context, start, claimed)
    options[_COUNT], options[_MS], options[_SEQ] = claimed, LEAST, LEAST
    if where != 0:
        options[_MS], options[_SEQ] = pending_identifier(space, where)
    return gone


@linked(void(CONTEXT, int64, int64, int64))
def _put_before(context, start, ms, seq):  # type: ignore[no-untyped-def]
    """Reply an identifier before what was replied from `start` on."""
    end = context.call[REPLY_LENGTH]
    reply_identifier(context, ms, seq)
    size = context.call[REPLY_LENGTH] - end
    out = reply_room(context, size)
    copy_bytes(out, start + size, out, start, end + size - start)
    copy_bytes(out, start, out, end + size, size)


@linked(HANDLER)
def xautoclaim(context):  # type: ignore[no-untyped-def]
    """XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]"""
    options, space = options_of(context), context.space
    if not _auto_options(context, options):
        return SERVED
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    entry = collection_read(context, key, key_size, STREAM)  # a miss is announced, as in Redis
    if entry == OTHER_TYPE:
        return SERVED
    root = entry_root(context, entry) if entry != 0 else int64(0)
    group = find_group(context, root, 2) if entry != 0 else int64(0)
    if group == 0:
        refuse_no_group(context, 1, 2, 0)
        return SERVED
    options[_COUNT] = min(options[_COUNT], pending_count(space, group) + 1)
    if not reserve_elements(context, 4 * options[_COUNT] + 4, arg_length(context, 3)):
        return SERVED
    gone_address = malloc(16 * options[_COUNT])
    if gone_address == 0:
        reply_error(context, OUT_OF_RESULT)
        return SERVED
    consumer = consumer_at_hand(context, group, 3, 1)
    reply_array(context, 3)
    start = context.call[REPLY_LENGTH]
    gone = _claim_idle(context, root, group, consumer, gone_address)
    _put_before(context, start, options[_MS], options[_SEQ])
    reply_array(context, gone)
    found = words_at(gone_address, 2 * gone)
    for i in range(gone):
        reply_identifier(context, found[2 * i], found[2 * i + 1])
    free(gone_address)
    changed(context, context.call[DB], key, key_size, hash_, XPENDING, gone + options[_COUNT])
    return SERVED
