"""LLEN, LINDEX, LRANGE, LPOS: commands that read a list."""

from kvstore.commands.lists.value import reply_element, reply_elements
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import LIST, entry_root
from kvstore.store.leaving import reply_limit
from kvstore.store.places import take_place
from kvstore.structures.sequence import sequence_count, sequence_find, sequence_match
from kvstore.wire.arguments import INT64_MAX, INT64_MIN, argument, integer_argument, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import COUNT_NEGATIVE, LONG_RANGE, MAXLEN_NEGATIVE, NOT_INTEGER, RANK_ZERO, SYNTAX
from kvstore.wire.resp import (
    reply_array,
    reply_empty_array,
    reply_error,
    reply_integer,
    reply_length,
    reply_null,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked

_RANK, _COUNT, _MAXLEN = pack(b"RANK"), pack(b"COUNT"), pack(b"MAXLEN")


@linked(HANDLER)
def llen(context):  # type: ignore[no-untyped-def]
    """LLEN key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, LIST)
    if entry != OTHER_TYPE:
        reply_integer(context, sequence_count(context.space, entry_root(context, entry)) if entry != 0 else 0)
    return 0


@linked(HANDLER)
def lindex(context):  # type: ignore[no-untyped-def]
    """LINDEX key index"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, LIST)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0:
        reply_null(context)
        return 0
    valid, rank = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    root = entry_root(context, entry)
    count = sequence_count(context.space, root)
    if rank < 0:
        rank += count
    if rank < 0 or rank >= count:
        reply_null(context)
        return 0
    packed, i = take_place(context, root, rank)
    if packed == 0:
        _, packed, first = sequence_find(context.space, root, rank)
        i = rank - first
    reply_element(context, packed, i)
    return 0


@linked(HANDLER)
def lrange(context):  # type: ignore[no-untyped-def]
    """LRANGE key start stop"""
    key, key_size = argument(context, 1)
    valid, start = integer_argument(context, 2)
    also_valid, stop = integer_argument(context, 3)
    if not valid or not also_valid:
        reply_error(context, NOT_INTEGER)
        return 0
    entry = collection_read(context, key, key_size, LIST)
    if entry == OTHER_TYPE:
        return 0
    count = sequence_count(context.space, entry_root(context, entry)) if entry != 0 else 0
    start, stop = from_start(start, count), min(stop if stop >= 0 else stop + count, count - 1)
    if start > stop:
        reply_empty_array(context)
        return 0
    if goes_aside(context, (stop - start + 1) >> 2):
        return BLOCKS
    count, began = stop - start + 1, reply_length(context)
    limit = reply_limit(context, began)
    reply_array(context, count)
    return reply_elements(context, entry_root(context, entry), start, count, 1, began, limit)


@kernel
def from_start(rank, count):  # type: ignore[no-untyped-def]
    """A rank that may be counted from the end, as one that is not below zero."""
    return rank if rank >= 0 else max(rank + count, 0)


@linked(int64(CONTEXT, int64, int64))
def _number(context, i, error):  # type: ignore[no-untyped-def]
    """The number in argument i, which must not be negative; -1 with this error replied."""
    valid, value = integer_argument(context, i)
    if valid and value >= 0:
        return value
    reply_error(context, error)
    return -1


@linked(int64(CONTEXT, int64))
def _rank_number(context, i):  # type: ignore[no-untyped-def]
    """The rank in argument i; 0 with an error replied."""
    valid, value = integer_argument(context, i)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    if value == INT64_MIN:
        reply_error(context, LONG_RANGE)
        return 0
    if value == 0:
        reply_error(context, RANK_ZERO)
    return value


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _positions(context, entry, rank, most, limit, array):  # type: ignore[no-untyped-def]
    """Reply with the places of the argument's element, or go aside; 0 for `most` and for `limit` is any number."""
    space, root = context.space, entry_root(context, entry)
    element, k = argument(context, 2)
    count, step = sequence_count(space, root), 1 if rank > 0 else -1
    skipped, found = abs(rank) - 1, 0
    left = min(limit, count) if limit > 0 else count
    if goes_aside(context, left >> 4):
        return BLOCKS
    at = 0 if step > 0 else count - 1
    start = begin_array(context) if array else 0
    while left > 0 and not is_given_up(context):
        match = sequence_match(space, root, at, step, left, element, k)
        if match < 0:
            break
        left -= abs(match - at) + 1
        at = match + step
        if skipped > 0:
            skipped -= 1
            continue
        reply_integer(context, match)
        found += 1
        if not array or found == most:
            break
    if array:
        end_array(context, start, found)
    elif found == 0:
        reply_null(context)
    return 0


@linked(HANDLER)
def lpos(context):  # type: ignore[no-untyped-def]
    """LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]"""
    argc, rank, most, limit, i = context.call[ARGC], 1, -1, 0, 3
    while i < argc:
        name = word(context, i)
        if i + 1 >= argc or (name != _RANK and name != _COUNT and name != _MAXLEN):
            reply_error(context, SYNTAX)
            return 0
        if name == _RANK:
            rank = _rank_number(context, i + 1)
        elif name == _COUNT:
            most = _number(context, i + 1, COUNT_NEGATIVE)
        else:
            limit = _number(context, i + 1, MAXLEN_NEGATIVE)
        if rank == 0 or limit < 0 or (name == _COUNT and most < 0):
            return 0
        i += 2
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, LIST)
    if entry == OTHER_TYPE:
        return 0
    if entry != 0:
        return _positions(context, entry, rank, most if most > 0 else INT64_MAX, limit, int64(most >= 0))
    if most >= 0:
        reply_empty_array(context)
    else:
        reply_null(context)
    return 0
