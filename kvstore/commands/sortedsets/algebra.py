"""ZUNION, ZINTER, ZDIFF, their STORE forms, and ZINTERCARD.

The result is gathered outside the address space (gathered.py), sorted, and then replied or stored.

    OPTIONS words at `options_at_hand(context)`

    WORD       DESCRIPTION
    WITHSCORES 1 with the option
    AGGREGATE  SUM, LOWEST or HIGHEST
    LIMIT      of ZINTERCARD, 0 without one
"""

from kvstore.commands.sortedsets.gathered import ADDRESS as ROW_ADDRESS
from kvstore.commands.sortedsets.gathered import (
    COUNT,
    gather_begin,
    gather_end,
    gather_put,
    gather_sort,
    gathered,
    gathered_row,
)
from kvstore.commands.sortedsets.gathered import LENGTH as ROW_LENGTH
from kvstore.commands.sortedsets.gathered import SCORE as ROW_SCORE
from kvstore.commands.sortedsets.order import reply_header, reply_score
from kvstore.commands.sortedsets.sources import (
    ADDRESS,
    LENGTH,
    ROOT,
    SCORE,
    SCORED,
    SIZE,
    SOURCE,
    WEIGHT,
    find_sources,
    member_at_hand,
    sort_sources,
    source_at,
    source_begin,
    source_next,
    source_score,
)
from kvstore.commands.sortedsets.storing import store_gathered
from kvstore.effects.events import ZDIFFSTORE, ZINTERSTORE, ZUNIONSTORE
from kvstore.lifetimes.call import ARGC, PROTOCOL
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.leaving import reply_leaves
from kvstore.store.lookup import key_hash
from kvstore.store.scores import score_word
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.arguments import integer_argument, is_word, pack, word
from kvstore.wire.doubles import bits_of_double, double_argument, double_of, double_of_bits
from kvstore.wire.errors import (
    LIMIT_NEGATIVE,
    NO_KEYS_ZDIFF,
    NO_KEYS_ZDIFFSTORE,
    NO_KEYS_ZINTER,
    NO_KEYS_ZINTERCARD,
    NO_KEYS_ZINTERSTORE,
    NO_KEYS_ZUNION,
    NO_KEYS_ZUNIONSTORE,
    NOT_INTEGER,
    OUT_OF_RESULT,
    SYNTAX,
    WEIGHT_NOT_FLOAT,
)
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_integer
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, equal_bytes, int64, kernel, linked, view, void

UNION, INTER, DIFF = range(3)
REPLIED, STORED, COUNTED = range(3)  # what becomes of the result
SUM, LOWEST, HIGHEST = range(3)
WITHSCORES, AGGREGATE, LIMIT = range(3)
OPTIONS = 3
_STATE = 48  # place of the options among the words of the scratch memory
_WITHSCORES, _AGGREGATE = constant(b"WITHSCORES"), constant(b"AGGREGATE")
_WEIGHTS_WORD, _LIMIT_WORD = pack(b"WEIGHTS"), pack(b"LIMIT")
_SUM_WORD, _MIN_WORD, _MAX_WORD = pack(b"SUM"), pack(b"MIN"), pack(b"MAX")


@view
def options_at_hand(context):  # type: ignore[no-untyped-def]
    """The options of the command at hand, int64[OPTIONS]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _STATE, OPTIONS)


@linked(int64(CONTEXT, int64, int64, int64))
def _read_weights(context, sources, count, first):  # type: ignore[no-untyped-def]
    """Read the weights from argument `first` on: 1, or 0 with an error replied."""
    for i in range(count):
        valid, weight = double_argument(context, first + i)
        if not valid:
            reply_error(context, WEIGHT_NOT_FLOAT)
            return 0
        source_at(sources, i)[WEIGHT] = bits_of_double(weight)
    return 1


@linked(int64(CONTEXT, int64))
def _read_aggregate(context, i):  # type: ignore[no-untyped-def]
    name = word(context, i)
    if name != _SUM_WORD and name != _MIN_WORD and name != _MAX_WORD:
        reply_error(context, SYNTAX)
        return 0
    options_at_hand(context)[AGGREGATE] = SUM if name == _SUM_WORD else LOWEST if name == _MIN_WORD else HIGHEST
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _read_options(context, sources, count, i, operation, purpose):  # type: ignore[no-untyped-def]
    """Read the options from argument i on: 1, or 0 with an error replied."""
    options, argc = options_at_hand(context), context.call[ARGC]
    options[WITHSCORES], options[AGGREGATE], options[LIMIT] = 0, SUM, 0
    weighed = operation != DIFF and purpose != COUNTED
    while i < argc:
        left = argc - i
        if weighed and left >= count + 1 and word(context, i) == _WEIGHTS_WORD:
            if not _read_weights(context, sources, count, i + 1):
                return 0
            i += count + 1
        elif weighed and left >= 2 and is_word(context, i, _AGGREGATE):
            if not _read_aggregate(context, i + 1):
                return 0
            i += 2
        elif purpose == REPLIED and is_word(context, i, _WITHSCORES):
            options[WITHSCORES] = 1
            i += 1
        elif purpose == COUNTED and left >= 2 and word(context, i) == _LIMIT_WORD:
            valid, options[LIMIT] = integer_argument(context, i + 1)
            if not valid or options[LIMIT] < 0:
                reply_error(context, LIMIT_NEGATIVE)
                return 0
            i += 2
        else:
            reply_error(context, SYNTAX)
            return 0
    return 1


@kernel
def _weighed(bits, weight):  # type: ignore[no-untyped-def]
    # A score times a weight, as Redis has it for the first input of a member: 0 for infinity times 0.
    score = double_of_bits(bits) * double_of_bits(weight)
    return score if score == score else 0.0


@kernel
def _aggregate(context, score, other):  # type: ignore[no-untyped-def]
    how = options_at_hand(context)[AGGREGATE]
    if how == SUM:
        total = score + other
        return total if total == total else 0.0
    if how == LOWEST:
        return other if other < score else score
    return other if other > score else score


@linked(int64(CONTEXT, int64, int64, int64))
def _in_all(context, sources, count, hash_):  # type: ignore[no-untyped-def]
    """Whether all inputs have the member at hand; its score becomes the aggregate."""
    member, first = member_at_hand(context), source_at(sources, 0)
    mine = double_of_bits(member[SCORE])
    score = _weighed(member[SCORE], first[WEIGHT])
    for i in range(1, count):
        source, value = source_at(sources, i), mine
        if source[ROOT] != first[ROOT]:
            bits = source_score(context, source[ROOT], source[SCORED], hash_, member[ADDRESS], member[LENGTH])
            if bits == -1:
                return 0
            value = double_of_bits(bits)
        score = _aggregate(context, score, value * double_of_bits(source[WEIGHT]))
    member[SCORE] = bits_of_double(score)
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def _in_another(context, sources, count, hash_):  # type: ignore[no-untyped-def]
    """Whether an input behind the first has the member at hand."""
    member = member_at_hand(context)
    for i in range(1, count):
        source = source_at(sources, i)
        if source[ROOT] == source_at(sources, 0)[ROOT]:
            return 1
        if source_score(context, source[ROOT], source[SCORED], hash_, member[ADDRESS], member[LENGTH]) != -1:
            return 1
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _gather_of_first(context, sources, count, operation):  # type: ignore[no-untyped-def]
    """Gather the members of the first input that all others have, or none: how many, or -1 without memory."""
    first, member = source_at(sources, 0), member_at_hand(context)
    limit, found = options_at_hand(context)[LIMIT], 0
    if first[ROOT] == 0:
        return 0
    source_begin(context, first[ROOT])
    while True:
        more = source_next(context, first[ROOT], first[SCORED])
        if more <= 0:
            return more if more < 0 else found
        hash_ = key_hash(context, member[ADDRESS], member[LENGTH])
        if operation == INTER:
            taken = _in_all(context, sources, count, hash_)
        else:
            taken = 1 - _in_another(context, sources, count, hash_)
        if taken:
            gather_put(context, score_word(double_of_bits(member[SCORE])), member[ADDRESS], member[LENGTH])
            found += 1
            if found == limit:
                return found


@kernel
def _place_of(context, slots, mask, hash_):  # type: ignore[no-untyped-def]
    # The place in a table of rows (number + 1) that the member at hand has, or would have.
    member = member_at_hand(context)
    address, k = member[ADDRESS], member[LENGTH]
    text, place = bytes_at(address, k), hash_ & mask
    while slots[place] != 0:
        row = gathered_row(context, slots[place] - 1)
        if row[ROW_LENGTH] == k and equal_bytes(bytes_at(row[ROW_ADDRESS], k), 0, text, 0, k):
            break
        place = (place + 1) & mask
    return place


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _gather_union(context, sources, count, address, mask):  # type: ignore[no-untyped-def]
    """Gather the members of all inputs, each once: 1, or -1 without memory.  At an address is a table of their rows."""
    slots, member = words_at(address, mask + 1), member_at_hand(context)
    for i in range(mask + 1):
        slots[i] = 0
    for i in range(count):
        source = source_at(sources, i)
        if source[ROOT] == 0:
            continue
        source_begin(context, source[ROOT])
        more = source_next(context, source[ROOT], source[SCORED])
        while more > 0:
            score = _weighed(member[SCORE], source[WEIGHT])
            place = _place_of(context, slots, mask, key_hash(context, member[ADDRESS], member[LENGTH]))
            if slots[place] == 0:
                gather_put(context, score_word(score), member[ADDRESS], member[LENGTH])
                slots[place] = gathered(context)[COUNT]
            else:
                row = gathered_row(context, slots[place] - 1)
                row[ROW_SCORE] = score_word(_aggregate(context, double_of(row[ROW_SCORE]), score))
            more = source_next(context, source[ROOT], source[SCORED])
        if more < 0:
            return -1
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def _gather(context, sources, count, operation):  # type: ignore[no-untyped-def]
    """Gather the result: 1, or 0 without memory."""
    room = 0
    if operation != UNION:
        if not gather_begin(context, source_at(sources, 0)[SIZE]):
            return 0
        return int64(_gather_of_first(context, sources, count, operation) >= 0)
    for i in range(count):
        room += source_at(sources, i)[SIZE]
    if not gather_begin(context, room):
        return 0
    mask = 15
    while mask < 2 * room:
        mask = 2 * mask + 1
    address = malloc(8 * (mask + 1))
    if address == 0:
        return 0
    done = _gather_union(context, sources, count, address, mask)
    free(address)
    return int64(done > 0)


@linked(void(CONTEXT))
def _reply_gathered(context):  # type: ignore[no-untyped-def]
    """The rows, in order."""
    with_scores, count = options_at_hand(context)[WITHSCORES], gathered(context)[COUNT]
    reply_header(context, count, with_scores)
    for i in range(count):
        if is_given_up(context):
            break
        row = gathered_row(context, i)
        if with_scores and context.call[PROTOCOL] == 3:
            reply_array(context, 2)
        reply_bulk(context, bytes_at(row[ROW_ADDRESS], row[ROW_LENGTH]), 0, row[ROW_LENGTH])
        if with_scores:
            reply_score(context, row[ROW_SCORE])
        reply_leaves(context)


@linked(int64(int64, int64, int64))
def _work(sources, count, operation):  # type: ignore[no-untyped-def]
    """Members that an operation may have to look at."""
    work = 0
    if operation == INTER:  # the smallest comes first
        return count * source_at(sources, 0)[SIZE]
    for i in range(count):
        work += source_at(sources, i)[SIZE]
    return work


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _answer(context, sources, count, first, operation, purpose, event):  # type: ignore[no-untyped-def]
    """Reply, or go aside."""
    if not find_sources(context, sources, first, count):
        return SERVED
    if not _read_options(context, sources, count, first + count, operation, purpose):
        return SERVED
    if operation != DIFF:
        sort_sources(sources, count)
    if purpose != STORED and goes_aside(context, 2 * _work(sources, count, operation)):
        return BLOCKS
    if not _gather(context, sources, count, operation) or (purpose != COUNTED and not gather_sort(context)):
        reply_error(context, OUT_OF_RESULT)
    elif purpose == COUNTED:
        reply_integer(context, gathered(context)[COUNT])
    elif purpose == REPLIED:
        _reply_gathered(context)
    else:
        store_gathered(context, 1, event)
    gather_end(context)
    return SERVED


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _combine(context, operation, purpose, no_keys, event):  # type: ignore[no-untyped-def]
    """Serve one of the commands below."""
    at = 2 if purpose == STORED else 1
    valid, count = integer_argument(context, at)
    if not valid:
        reply_error(context, NOT_INTEGER)
    elif count < 1:
        reply_error(context, no_keys)
    elif count > context.call[ARGC] - at - 1:
        reply_error(context, SYNTAX)
    else:
        sources = malloc(8 * SOURCE * count)
        if sources == 0:
            reply_error(context, OUT_OF_RESULT)
        else:
            code = _answer(context, sources, count, at + 1, operation, purpose, event)
            free(sources)
            return code
    return SERVED


@linked(HANDLER)
def zunion(context):  # type: ignore[no-untyped-def]
    """ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]"""
    return _combine(context, UNION, REPLIED, NO_KEYS_ZUNION, 0)


@linked(HANDLER)
def zinter(context):  # type: ignore[no-untyped-def]
    """ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]"""
    return _combine(context, INTER, REPLIED, NO_KEYS_ZINTER, 0)


@linked(HANDLER)
def zdiff(context):  # type: ignore[no-untyped-def]
    """ZDIFF numkeys key [key ...] [WITHSCORES]"""
    return _combine(context, DIFF, REPLIED, NO_KEYS_ZDIFF, 0)


@linked(HANDLER)
def zintercard(context):  # type: ignore[no-untyped-def]
    """ZINTERCARD numkeys key [key ...] [LIMIT limit]"""
    return _combine(context, INTER, COUNTED, NO_KEYS_ZINTERCARD, 0)


@linked(HANDLER)
def zunionstore(context):  # type: ignore[no-untyped-def]
    """ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]"""
    return _combine(context, UNION, STORED, NO_KEYS_ZUNIONSTORE, ZUNIONSTORE)


@linked(HANDLER)
def zinterstore(context):  # type: ignore[no-untyped-def]
    """ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]"""
    return _combine(context, INTER, STORED, NO_KEYS_ZINTERSTORE, ZINTERSTORE)


@linked(HANDLER)
def zdiffstore(context):  # type: ignore[no-untyped-def]
    """ZDIFFSTORE destination numkeys key [key ...]"""
    return _combine(context, DIFF, STORED, NO_KEYS_ZDIFFSTORE, ZDIFFSTORE)
