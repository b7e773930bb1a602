"""ZRANGE, and the older commands that are spellings of it.

A range is an interval of ranks (bounds.py).  REV and LIMIT change which ranks of it are answered, and in which order.

    RANGE words at `range_state(context)`, which `range_options` fills:

    WORD     DESCRIPTION
    KIND     BY_RANK, BY_SCORE or BY_LEX
    REVERSE  1 with REV
    SCORES   1 with WITHSCORES
    OFFSET   of LIMIT, 0 without it
    LIMIT    the count of LIMIT, -1 without it
    LOW      number of the argument with the lower end
    HIGH     number of the argument with the upper end
"""

from kvstore.commands.sortedsets.bounds import BY_LEX, BY_RANK, BY_SCORE, check_bounds, range_ranks
from kvstore.commands.sortedsets.order import reply_members
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.structures.collection import root_count
from kvstore.system.libc import words_at
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.errors import LEX_WITHSCORES, LIMIT_ALONE, NOT_INTEGER, SYNTAX
from kvstore.wire.resp import reply_empty_array, reply_error
from mmcore.jit import constant, int64, kernel, linked, view

KIND, REVERSE, SCORES, OFFSET, LIMIT, LOW, HIGH = range(7)
RANGE_WORDS = 7
ANY, FORWARD, BACKWARD = -1, 0, 1  # of a kind or a direction: ANY may be given by an option
_WITHSCORES = constant(b"WITHSCORES")
_LIMIT_WORD, _REV_WORD = pack(b"LIMIT"), pack(b"REV")
_BYLEX_WORD, _BYSCORE_WORD = pack(b"BYLEX"), pack(b"BYSCORE")


@view
def range_state(context):  # type: ignore[no-untyped-def]
    """The range of the command at hand, int64[RANGE_WORDS]."""
    return words_at(context.shard[SCRATCH_ADDRESS], RANGE_WORDS)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def range_options(context, source, kind, direction, stored):  # type: ignore[no-untyped-def]
    """Read the range whose key is argument `source`, with its options: 1, or 0 with an error replied."""
    state, argc, i = range_state(context), context.call[ARGC], source + 3
    state[SCORES], state[OFFSET], state[LIMIT] = 0, 0, -1
    while i < argc:
        option = word(context, i)
        if not stored and is_word(context, i, _WITHSCORES):
            state[SCORES] = 1
        elif option == _LIMIT_WORD and i + 2 < argc:
            valid, offset = integer_argument(context, i + 1)
            also_valid, limit = integer_argument(context, i + 2)
            if not (valid and also_valid):
                reply_error(context, NOT_INTEGER)
                return 0
            state[OFFSET], state[LIMIT] = offset, limit
            i += 2
        elif option == _REV_WORD and direction == ANY:
            direction = BACKWARD
        elif option == _BYLEX_WORD and kind == ANY:
            kind = BY_LEX
        elif option == _BYSCORE_WORD and kind == ANY:
            kind = BY_SCORE
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 1
    kind = BY_RANK if kind == ANY else kind
    if state[LIMIT] != -1 and kind == BY_RANK:
        reply_error(context, LIMIT_ALONE)
        return 0
    if state[SCORES] and kind == BY_LEX:
        reply_error(context, LEX_WITHSCORES)
        return 0
    swapped = direction == BACKWARD and kind != BY_RANK  # the upper end comes first
    state[KIND], state[REVERSE] = kind, int64(direction == BACKWARD)
    state[LOW], state[HIGH] = source + 1 + swapped, source + 2 - swapped
    return check_bounds(context, kind, source + 1 + swapped, source + 2 - swapped)


@kernel
def chosen_ranks(context, root):  # type: ignore[no-untyped-def]
    """(the lowest rank that the range at hand chooses, how many it chooses)."""
    state = range_state(context)
    start, stop = range_ranks(context, root, state[KIND], state[LOW], state[HIGH])
    count = max(stop - start, 0)
    if state[KIND] == BY_RANK:
        # In reverse, places are counted from the end.
        return (root_count(context.space, root) - stop if state[REVERSE] else start), count
    offset = state[OFFSET]
    count = 0 if offset < 0 or offset > count else count - offset
    if state[LIMIT] >= 0:
        count = min(count, state[LIMIT])
    return (stop - offset - count if state[REVERSE] else start + offset), count


@linked(int64(CONTEXT, int64, int64))
def _range(context, kind, direction):  # type: ignore[no-untyped-def]
    """Serve one of the commands below."""
    if not range_options(context, 1, kind, direction, 0):
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0:
        reply_empty_array(context)
        return 0
    root, state = entry_root(context, entry), range_state(context)
    lowest, count = chosen_ranks(context, root)
    rank = lowest + count - 1 if state[REVERSE] else lowest
    if goes_aside(context, count):
        return BLOCKS
    return reply_members(context, root, rank, count, state[REVERSE], state[SCORES])


@linked(HANDLER)
def zrange(context):  # type: ignore[no-untyped-def]
    """ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]"""
    return _range(context, ANY, ANY)


@linked(HANDLER)
def zrevrange(context):  # type: ignore[no-untyped-def]
    """ZREVRANGE key start stop [WITHSCORES]"""
    return _range(context, BY_RANK, BACKWARD)


@linked(HANDLER)
def zrangebyscore(context):  # type: ignore[no-untyped-def]
    """ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]"""
    return _range(context, BY_SCORE, FORWARD)


@linked(HANDLER)
def zrevrangebyscore(context):  # type: ignore[no-untyped-def]
    """ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]"""
    return _range(context, BY_SCORE, BACKWARD)


@linked(HANDLER)
def zrangebylex(context):  # type: ignore[no-untyped-def]
    """ZRANGEBYLEX key min max [LIMIT offset count]"""
    return _range(context, BY_LEX, FORWARD)


@linked(HANDLER)
def zrevrangebylex(context):  # type: ignore[no-untyped-def]
    """ZREVRANGEBYLEX key max min [LIMIT offset count]"""
    return _range(context, BY_LEX, BACKWARD)
