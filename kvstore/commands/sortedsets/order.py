"""The order of a sorted set: ranks, and walks from a rank on, whatever the form.

    zset_rank(space, root, word, member, k, after)      members before a score and a member; with `after`, or equal
    zset_rank_word(space, root, word, after)            members with a lower score; with `after`, or an equal one

    at = cursor_at(space, root, rank)                   0 where no member has this rank
    cursor_element(space, root, at), cursor_score(space, root, at)
    at = cursor_next(space, root, at)                   or cursor_previous; 0 at the end

Ranks are of `ordered` words (kvstore/store/scores.py).  A cursor is a spot in a chain (kvstore/structures/chain.py),
and a position in a tree (kvstore/structures/tree/).
"""

from kvstore.commands.elements import reply_key
from kvstore.lifetimes.call import PROTOCOL
from kvstore.lifetimes.context import BLOCKS, CONTEXT, SERVED
from kvstore.store.leaving import reply_goes_on, reply_limit
from kvstore.store.scores import element_score, ordered
from kvstore.structures.chain import (
    block_count,
    block_element,
    block_next,
    chain_count,
    chain_spot,
    spot_element,
    spot_next,
    spot_previous,
)
from kvstore.structures.element import element_compare
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.tree import (
    ADDRESSES,
    WORDS,
    position_address,
    position_next,
    position_previous,
    position_run,
    position_word,
    tree_rank,
    tree_rank_word,
    tree_seek,
)
from kvstore.wire.doubles import double_of
from kvstore.wire.resp import reply_array, reply_double, reply_length
from kvstore.wire.wanted import is_given_up
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.state import SPACE


@linked(int64(SPACE, int64, int64, int64, int64))
def _order(space, element, word, member, k):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: the order of an element and a score with a member; with k below zero, the member does not matter."""
    here = ordered(element_score(space, element))
    if here != word or k < 0:
        return -1 if here < word else int64(here > word)
    return element_compare(space, element, member, k)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def chain_rank(space, chain, word, member, k, after):  # type: ignore[no-untyped-def]
    """zset_rank in a chain.  With k below zero, members do not matter, and equal scores count with `after`."""
    block, before = chain, 0
    count, following = block_count(space, block), block_next(space, block)
    while following != 0 and _order(space, block_element(space, block, count - 1), word, member, k) < after:
        before += count
        block = following
        count, following = block_count(space, block), block_next(space, block)
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if _order(space, block_element(space, block, middle), word, member, k) < after:
            low = middle + 1
        else:
            high = middle
    return before + low


@kernel
def zset_rank(space, root, word, member, k, after):  # type: ignore[no-untyped-def]
    """Members before a score and the member of `k` bytes at `member`; with `after`, or equal to them."""
    if kind_of(space, root) == CHAIN:
        return chain_rank(space, root, word, member, k, after)
    return tree_rank(space, root, word, member, k, after)


@kernel
def zset_rank_word(space, root, word, after):  # type: ignore[no-untyped-def]
    """Members with a lower score; with `after`, or an equal one."""
    if kind_of(space, root) == CHAIN:
        return chain_rank(space, root, word, 0, -1, after)
    return tree_rank_word(space, root, word, after)


@linked(int64(SPACE, int64, int64))
def cursor_at(space, root, rank):  # type: ignore[no-untyped-def]
    """The cursor of the member with this rank; 0 where there is none."""
    if kind_of(space, root) == CHAIN:
        return chain_spot(space, root, rank) if 0 <= rank < chain_count(space, root) else 0
    return tree_seek(space, root, rank, 0)


@linked(int64(SPACE, int64, int64))
def cursor_element(space, root, at):  # type: ignore[no-untyped-def]
    """The element at a cursor."""
    return spot_element(space, at) if kind_of(space, root) == CHAIN else position_address(space, at)


@linked(int64(SPACE, int64, int64))
def cursor_score(space, root, at):  # type: ignore[no-untyped-def]
    """The word of the score at a cursor."""
    if kind_of(space, root) == CHAIN:
        return element_score(space, spot_element(space, at))
    word = position_word(space, at)
    return word if word != 0 else element_score(space, position_address(space, at))  # it may be -0


@linked(int64(SPACE, int64, int64))
def cursor_next(space, root, at):  # type: ignore[no-untyped-def]
    """The cursor behind this one; 0 behind the last."""
    return spot_next(space, at) if kind_of(space, root) == CHAIN else position_next(space, at)


@linked(int64(SPACE, int64, int64))
def cursor_previous(space, root, at):  # type: ignore[no-untyped-def]
    """The cursor in front of this one; 0 in front of the first."""
    return spot_previous(space, root, at) if kind_of(space, root) == CHAIN else position_previous(space, at)


@kernel
def reply_score(context, word):  # type: ignore[no-untyped-def]
    """A score; in RESP2 a bulk string that spells it."""
    reply_double(context, double_of(word))


@kernel
def reply_header(context, count, with_scores):  # type: ignore[no-untyped-def]
    """The header of an array of members; with their scores, RESP3 has an array of two for each."""
    reply_array(context, 2 * count if with_scores and context.call[PROTOCOL] == 2 else count)


@linked(void(CONTEXT, int64, int64, int64))
def reply_scored(context, element, word, with_score):  # type: ignore[no-untyped-def]
    """An item of such an array."""
    if with_score and context.call[PROTOCOL] == 3:
        reply_array(context, 2)
    reply_key(context, element)
    if with_score:
        reply_score(context, word)


@kernel
def _item(context, start, limit, element, word, with_score):  # type: ignore[no-untyped-def]
    # Reply a member, to an array that began at `start`: the limit from now on, below zero if the read goes aside.
    if with_score:
        reply_scored(context, element, word if word != 0 else element_score(context.space, element), 1)  # it may be -0
    else:
        reply_key(context, element)
    return limit if reply_length(context) < limit else reply_goes_on(context, start)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _reply_spots(context, root, rank, count, reverse, with_scores, start):  # type: ignore[no-untyped-def]
    """Members of a chain: as reply_members, whose reply began at `start`."""
    space, limit = context.space, reply_limit(context, start)
    at = cursor_at(space, root, rank)
    for _ in range(count):
        if is_given_up(context):
            break
        limit = _item(context, start, limit, spot_element(space, at), 0, with_scores)
        if limit < 0:
            return BLOCKS
        at = spot_previous(space, root, at) if reverse else spot_next(space, at)
    return SERVED


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _reply_leaves(context, root, rank, count, reverse, with_scores, start):  # type: ignore[no-untyped-def]
    """Members of a tree, a leaf at a time: as reply_members, whose reply began at `start`."""
    space, limit = context.space, reply_limit(context, start)
    memory, step = space.mem.bytes, -1 if reverse else 1
    at = tree_seek(space, root, rank, 0)
    while count > 0:
        leaf, place, here = position_run(space, at, reverse)
        here = min(here, count)
        for _ in range(here):
            if is_given_up(context):
                return SERVED
            word = bytes64(memory, leaf + WORDS + 8 * place)
            limit = _item(context, start, limit, bytes64(memory, leaf + ADDRESSES + 8 * place), word, with_scores)
            if limit < 0:
                return BLOCKS
            place += step
        count -= here
        at += step * (here - 1)
        at = position_previous(space, at) if reverse else position_next(space, at)
    return SERVED


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def reply_members(context, root, rank, count, reverse, with_scores):  # type: ignore[no-untyped-def]
    """An array of `count` members from this rank on, or in reverse from this rank down; BLOCKS if it goes aside."""
    start = reply_length(context)
    reply_header(context, count, with_scores)
    if kind_of(context.space, root) == CHAIN:
        return _reply_spots(context, root, rank, count, reverse, with_scores, start)
    return _reply_leaves(context, root, rank, count, reverse, with_scores, start)
