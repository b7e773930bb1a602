"""Ranges of a sorted set as intervals of ranks: [start, stop), empty where start >= stop.

A range is given by places, by scores or by members, each end in an argument (kvstore/wire/ranges.py).  The arguments
are checked before the key is looked up, and read again to find the ranks.
"""

from kvstore.commands.sortedsets.order import cursor_at, cursor_score, zset_rank, zset_rank_word
from kvstore.lifetimes.call import QUERY_ADDRESS
from kvstore.lifetimes.context import CONTEXT
from kvstore.store.scores import ordered
from kvstore.structures.collection import root_count
from kvstore.wire.arguments import integer_argument
from kvstore.wire.doubles import sortable
from kvstore.wire.errors import MIN_MAX_FLOAT, MIN_MAX_LEX, NOT_INTEGER
from kvstore.wire.ranges import LEX_FIRST, LEX_LAST, lex_end, score_end
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, kernel, linked

BY_RANK, BY_SCORE, BY_LEX = 0, 1, 2


@kernel
def rank_bounds(context, first, last):  # type: ignore[no-untyped-def]
    """Whether two arguments are places; else an error is replied."""
    valid, _ = integer_argument(context, first)
    also_valid, _ = integer_argument(context, last)
    if not (valid and also_valid):
        reply_error(context, NOT_INTEGER)
        return False
    return True


@kernel
def score_bounds(context, low, high):  # type: ignore[no-untyped-def]
    """Whether two arguments are ends of a range of scores; else an error is replied."""
    valid, _, _ = score_end(context, low)
    also_valid, _, _ = score_end(context, high)
    if not (valid and also_valid):
        reply_error(context, MIN_MAX_FLOAT)
        return False
    return True


@kernel
def lex_bounds(context, low, high):  # type: ignore[no-untyped-def]
    """Whether two arguments are ends of a range of members; else an error is replied."""
    valid, _, _, _, _ = lex_end(context, low)
    also_valid, _, _, _, _ = lex_end(context, high)
    if not (valid and also_valid):
        reply_error(context, MIN_MAX_LEX)
        return False
    return True


@linked(int64(CONTEXT, int64, int64, int64))
def check_bounds(context, kind, low, high):  # type: ignore[no-untyped-def]
    """Whether two arguments are ends of a range of this kind; else an error is replied."""
    if kind == BY_RANK:
        return int64(rank_bounds(context, low, high))
    return int64(score_bounds(context, low, high) if kind == BY_SCORE else lex_bounds(context, low, high))


@kernel
def place_ranks(count, first, last):  # type: ignore[no-untyped-def]
    """The interval of two places of `count` members, counted from the end where they are negative."""
    first = max(first + count, 0) if first < 0 else first
    last = last + count if last < 0 else last
    return min(first, count), min(last, count - 1) + 1


@kernel
def score_ranks(context, root, low, high):  # type: ignore[no-untyped-def]
    """The interval of a range of scores."""
    _, least, above = score_end(context, low)
    _, most, below = score_end(context, high)
    start = zset_rank_word(context.space, root, sortable(least), int64(above))
    return start, zset_rank_word(context.space, root, sortable(most), int64(not below))


@linked(int64(CONTEXT, int64, int64, int64))
def _lex_rank(context, root, i, after):  # type: ignore[no-untyped-def]
    """Members before the end in argument i; `after`: and up to it, where it includes its member."""
    space = context.space
    _, kind, excluded, offset, k = lex_end(context, i)
    if kind == LEX_FIRST:
        return 0
    if kind == LEX_LAST:
        return root_count(space, root)
    # All scores are equal: otherwise the result of a range of members is not specified.
    word = ordered(cursor_score(space, root, cursor_at(space, root, 0)))
    inclusive = after if not excluded else 1 - after
    return zset_rank(space, root, word, context.call[QUERY_ADDRESS] + offset, k, inclusive)


@kernel
def lex_ranks(context, root, low, high):  # type: ignore[no-untyped-def]
    """The interval of a range of members."""
    return _lex_rank(context, root, low, 0), _lex_rank(context, root, high, 1)


@kernel
def range_ranks(context, root, kind, low, high):  # type: ignore[no-untyped-def]
    """The interval of a range of any kind, whose ends were checked."""
    if kind == BY_SCORE:
        return score_ranks(context, root, low, high)
    if kind == BY_LEX:
        return lex_ranks(context, root, low, high)
    _, first = integer_argument(context, low)
    _, last = integer_argument(context, high)
    return place_ranks(root_count(context.space, root), first, last)
