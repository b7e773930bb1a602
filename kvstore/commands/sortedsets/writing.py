"""ZADD, ZINCRBY, ZREM.  All are bounded by their arguments: they reserve frames, and then cannot fail."""

from kvstore.commands.sortedsets.order import reply_score
from kvstore.commands.sortedsets.value import (
    member_add,
    member_find,
    member_move,
    member_remove,
    reserve_members,
    zset_for_writing,
)
from kvstore.effects.door import changed
from kvstore.effects.events import ZADD, ZINCR, ZREM
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.collections import collection_lost, collection_write
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.index import entry_of
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.store.scores import WORD_SIZE, element_score, score_word
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_size
from kvstore.system.libc import words_at
from kvstore.wire.arguments import arg_length, argument, pack, word
from kvstore.wire.doubles import bits_of_double, double_argument, double_of, double_of_bits
from kvstore.wire.errors import GT_LT_NX, INCR_PAIR, NOT_FLOAT, SCORE_NAN, SYNTAX, XX_AND_NX
from kvstore.wire.resp import reply_error, reply_integer, reply_null
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64

_NX_WORD, _XX_WORD, _GT_WORD, _LT_WORD = pack(b"NX"), pack(b"XX"), pack(b"GT"), pack(b"LT")
_CH_WORD, _INCR_WORD = pack(b"CH"), pack(b"INCR")
NX, XX, GT, LT, CH, INCR = (1 << i for i in range(6))
ADDED, MOVED, KEPT, SKIPPED, NAN = range(5)  # what became of a member
_FIRST_SHIFT = 8


@linked(int64(CONTEXT, int64))
def _options(context, given):  # type: ignore[no-untyped-def]
    """The options as a sum of the constants above, with `given`; above them, the number of the first score's argument.

    -1 with an error replied for contradictory options, or scores that are not numbers.
    """
    options, first, argc = given, 2, context.call[ARGC]
    while first < argc:
        name, option = word(context, first), 0
        if name == _NX_WORD:
            option = NX
        elif name == _XX_WORD:
            option = XX
        elif name == _GT_WORD:
            option = GT
        elif name == _LT_WORD:
            option = LT
        elif name == _CH_WORD:
            option = CH
        elif name == _INCR_WORD:
            option = INCR
        if option == 0:
            break
        options |= option
        first += 1
    error = -1
    if first == argc or (argc - first) % 2 == 1:
        error = SYNTAX
    elif options & NX and options & XX:
        error = XX_AND_NX
    elif (options & NX and options & (GT | LT)) or (options & GT and options & LT):
        error = GT_LT_NX
    elif options & INCR and argc - first > 2:
        error = INCR_PAIR
    else:
        for i in range(first, argc, 2):
            valid, _ = double_argument(context, i)
            if not valid:
                error = NOT_FLOAT
                break
    if error >= 0:
        reply_error(context, error)
        return -1
    return options | first << _FIRST_SHIFT


@kernel
def _note(context, score):  # type: ignore[no-untyped-def]
    # Keep the score for the reply to INCR: it tells -0 from 0 even where the sorted set does not.
    words_at(context.shard[SCRATCH_ADDRESS], 1)[0] = score_word(score)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _put(context, entry, i, options, bits):  # type: ignore[no-untyped-def]
    """Add the member in argument i, or move it, with the score that has these bits: what became of it."""
    score = double_of_bits(bits)
    member, k = argument(context, i)
    element = member_find(context, entry_root(context, entry), member, k)
    if element == 0:
        if options & XX:
            return SKIPPED
        _note(context, score)
        member_add(context, entry, member, k, score_word(score))
        return ADDED
    if options & NX:
        return SKIPPED
    old = element_score(context.space, element)
    if options & INCR:
        score += double_of(old)
        if score != score:
            return NAN
    if (options & LT and score >= double_of(old)) or (options & GT and score <= double_of(old)):
        return SKIPPED
    _note(context, score)
    if score == double_of(old):
        return KEPT
    member_move(context, entry, member, k, score_word(score))
    return MOVED


@kernel
def _score_bits(context, scores, number, i):  # type: ignore[no-untyped-def]
    # The bits of a score: from those at an address, or of the argument in front of the member's.
    if scores != 0:
        return words_at(scores, number + 1)[number]
    _, score = double_argument(context, i - 1)
    return bits_of_double(score)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _put_all(context, entry, options, first, step, scores):  # type: ignore[no-untyped-def]
    """Add or move the members in every `step`th argument from `first` on, and reply: how many were added or moved."""
    added, moved, outcome = 0, 0, KEPT
    for number, i in enumerate(range(first, context.call[ARGC], step)):
        outcome = _put(context, entry, i, options, _score_bits(context, scores, number, i))
        added += int64(outcome == ADDED)
        moved += int64(outcome == MOVED)
    if outcome == NAN:
        reply_error(context, SCORE_NAN)
    elif options & INCR == 0:
        reply_integer(context, added + moved if options & CH else added)
    elif outcome == SKIPPED:
        reply_null(context)
    else:
        reply_score(context, words_at(context.shard[SCRATCH_ADDRESS], 1)[0])
    return added + moved


@linked(void(CONTEXT, int64, int64, int64, int64))
def add_members(context, options, first, step, scores):  # type: ignore[no-untyped-def]
    """Add or move the members in every `step`th argument from `first` on.

    The bits of their scores are at an address in the process; with 0 each score is the argument in front of a member.
    """
    argc = context.call[ARGC]
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, ZSET)
    if slot < 0:
        return
    if slot == 0 and options & XX:
        if options & INCR:
            reply_null(context)
        else:
            reply_integer(context, 0)
        return
    size, members = key_size, (argc - first + step - 1) // step
    for i in range(first, argc, step):
        size += element_size(arg_length(context, i), WORD_SIZE)
    if not reserve_members(context, slot, members, size):
        return
    entry = zset_for_writing(context, slot, key, key_size, hash_, members)
    changes = _put_all(context, entry, options, first, step, scores)
    if changes > 0:
        changed(context, context.call[DB], key, key_size, hash_, ZINCR if options & INCR else ZADD, changes)


@linked(int64(CONTEXT, int64))
def _add(context, given):  # type: ignore[no-untyped-def]
    """ZADD, and ZINCRBY with INCR given."""
    options = _options(context, given)
    if options >= 0:
        add_members(context, options, (options >> _FIRST_SHIFT) + 1, 2, 0)
    return 0


@linked(HANDLER)
def zadd(context):  # type: ignore[no-untyped-def]
    """ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]"""
    return _add(context, 0)


@linked(HANDLER)
def zincrby(context):  # type: ignore[no-untyped-def]
    """ZINCRBY key increment member"""
    return _add(context, INCR)


@linked(HANDLER)
def zrem(context):  # type: ignore[no-untyped-def]
    """ZREM key member [member ...]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, ZSET)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    if not reserve_removal_of(context, context.call[ARGC] - 2):
        return 0
    entry, removed, left = entry_of(load64(context.space, slot)), 0, 1
    for i in range(2, context.call[ARGC]):
        member, k = argument(context, i)
        if member_remove(context, entry, member, k):
            removed += 1
            left = root_count(context.space, entry_root(context, entry))
            if left == 0:
                break
    collection_lost(context, key, key_size, hash_, ZREM, removed, left)
    reply_integer(context, removed)
    return 0
