"""ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZCOUNT, ZLEXCOUNT: questions about members and their number."""

from kvstore.commands.sortedsets.bounds import lex_bounds, lex_ranks, score_bounds, score_ranks
from kvstore.commands.sortedsets.order import reply_score, zset_rank
from kvstore.commands.sortedsets.value import member_find
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.store.scores import element_score, ordered
from kvstore.structures.collection import root_count
from kvstore.wire.arguments import argument, is_word
from kvstore.wire.errors import SYNTAX, ZRANK_ARITY, ZREVRANK_ARITY
from kvstore.wire.resp import reply_array, reply_error, reply_integer, reply_null, reply_null_array
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, int64, kernel, linked

_WITHSCORE = constant(b"WITHSCORE")


@linked(HANDLER)
def zcard(context):  # type: ignore[no-untyped-def]
    """ZCARD key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry != OTHER_TYPE:
        reply_integer(context, root_count(context.space, entry_root(context, entry)) if entry != 0 else 0)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _reply_score_of(context, entry, i):  # type: ignore[no-untyped-def]
    """The score of the member in argument i, or null."""
    element = 0
    if entry != 0:
        member, k = argument(context, i)
        element = member_find(context, entry_root(context, entry), member, k)
    if element == 0:
        reply_null(context)
    else:
        reply_score(context, element_score(context.space, element))
    return 0


@linked(HANDLER)
def zscore(context):  # type: ignore[no-untyped-def]
    """ZSCORE key member"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry != OTHER_TYPE:
        _reply_score_of(context, entry, 2)
    return 0


@linked(HANDLER)
def zmscore(context):  # type: ignore[no-untyped-def]
    """ZMSCORE key member [member ...]"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    if goes_aside(context, context.call[ARGC] - 2):
        return BLOCKS
    reply_array(context, context.call[ARGC] - 2)
    for i in range(2, context.call[ARGC]):
        _reply_score_of(context, entry, i)
        reply_leaves(context)
        if is_given_up(context):
            break
    return 0


@linked(int64(CONTEXT, int64))
def _rank(context, reverse):  # type: ignore[no-untyped-def]
    space, argc = context.space, context.call[ARGC]
    if argc > 4:
        reply_error(context, ZREVRANK_ARITY if reverse else ZRANK_ARITY)
        return 0
    if argc == 4 and not is_word(context, 3, _WITHSCORE):
        reply_error(context, SYNTAX)
        return 0
    key, key_size = argument(context, 1)
    member, k = argument(context, 2)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    root = entry_root(context, entry) if entry != 0 else 0
    element = member_find(context, root, member, k) if entry != 0 else 0
    if element == 0:
        if argc == 4:
            reply_null_array(context)
        else:
            reply_null(context)
        return 0
    score = element_score(space, element)
    rank = zset_rank(space, root, ordered(score), member, k, 0)
    if reverse:
        rank = root_count(space, root) - 1 - rank
    if argc == 4:
        reply_array(context, 2)
    reply_integer(context, rank)
    if argc == 4:
        reply_score(context, score)
    return 0


@linked(HANDLER)
def zrank(context):  # type: ignore[no-untyped-def]
    """ZRANK key member [WITHSCORE]"""
    return _rank(context, 0)


@linked(HANDLER)
def zrevrank(context):  # type: ignore[no-untyped-def]
    """ZREVRANK key member [WITHSCORE]"""
    return _rank(context, 1)


@kernel
def _reply_count(context, start, stop):  # type: ignore[no-untyped-def]
    reply_integer(context, max(stop - start, 0))


@linked(HANDLER)
def zcount(context):  # type: ignore[no-untyped-def]
    """ZCOUNT key min max"""
    if not score_bounds(context, 2, 3):
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == 0:
        reply_integer(context, 0)
    elif entry != OTHER_TYPE:
        start, stop = score_ranks(context, entry_root(context, entry), 2, 3)
        _reply_count(context, start, stop)
    return 0


@linked(HANDLER)
def zlexcount(context):  # type: ignore[no-untyped-def]
    """ZLEXCOUNT key min max"""
    if not lex_bounds(context, 2, 3):
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == 0:
        reply_integer(context, 0)
    elif entry != OTHER_TYPE:
        start, stop = lex_ranks(context, entry_root(context, entry), 2, 3)
        _reply_count(context, start, stop)
    return 0
