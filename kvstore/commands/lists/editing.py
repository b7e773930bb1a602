"""LSET, LINSERT, LREM, LTRIM: commands that change a list within.

LSET and LINSERT are bounded by their arguments.  The others remove no more than the list has.
"""

from kvstore.commands.lists.reading import from_start
from kvstore.commands.lists.value import note_growth, note_loss, reserve_list, reserve_loss
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import LINSERT, LREM, LSET, LTRIM
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_gone, collection_write
from kvstore.store.entries import LIST, entry_root, entry_set_root
from kvstore.store.lookup import key_hash
from kvstore.structures.packed_layout import END_SIZE
from kvstore.structures.sequence import sequence_count, sequence_match, sequence_run
from kvstore.structures.sequence_change import sequence_insert, sequence_remove, sequence_replace
from kvstore.wire.arguments import INT64_MAX, INT64_MIN, argument, integer_argument, pack, word
from kvstore.wire.errors import LONG_RANGE, NO_KEY, NOT_INTEGER, OUT_OF_RANGE, SYNTAX
from kvstore.wire.resp import reply_error, reply_integer, reply_ok
from mmcore.jit import int64, linked

_BEFORE, _AFTER = pack(b"BEFORE"), pack(b"AFTER")
_REPLACING = 2  # changes of a sequence that a replacement takes: the new element is inserted, the old one removed


@linked(HANDLER)
def lset(context):  # type: ignore[no-untyped-def]
    """LSET key index element"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0:
        reply_error(context, NO_KEY)
        return 0
    valid, rank = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    element, k = argument(context, 3)
    entry = slot_entry(context, slot)
    root = entry_root(context, entry)
    if not reserve_list(context, root, 1, k + END_SIZE, _REPLACING):
        return 0
    note_growth(context, entry, k, 1)
    count = sequence_count(context.space, root)
    if rank < 0:
        rank += count
    if rank < 0 or rank >= count:
        reply_error(context, OUT_OF_RANGE)
        return 0
    root = sequence_replace(context.space, root, rank, element, k)
    assert root != 0, "no frame was reserved for a list"
    entry_set_root(context, entry, root)
    note_loss(context, entry, root)
    changed(context, context.call[DB], key, key_size, hash_, LSET, 1)
    reply_ok(context)
    return 0


@linked(HANDLER)
def linsert(context):  # type: ignore[no-untyped-def]
    """LINSERT key <BEFORE | AFTER> pivot element"""
    name = word(context, 2)
    if name != _BEFORE and name != _AFTER:
        reply_error(context, SYNTAX)
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    pivot, pivot_size = argument(context, 3)
    element, k = argument(context, 4)
    entry = slot_entry(context, slot)
    root = entry_root(context, entry)
    if not reserve_list(context, root, 1, k + END_SIZE, 1):
        return 0
    note_growth(context, entry, k, 1)  # as in Redis, even if there is no such pivot
    rank = sequence_match(context.space, root, 0, 1, INT64_MAX, pivot, pivot_size)
    if rank < 0:
        reply_integer(context, -1)
        return 0
    root = sequence_insert(context.space, root, rank + int64(name == _AFTER), element, k)
    assert root != 0, "no frame was reserved for a list"
    entry_set_root(context, entry, root)
    changed(context, context.call[DB], key, key_size, hash_, LINSERT, 1)
    reply_integer(context, sequence_count(context.space, root))
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _remove_equal(context, entry, most, step):  # type: ignore[no-untyped-def]
    """Remove up to `most` elements that equal argument 3, from either end.  Returns how many.

    If all elements are equal and to be removed, they are counted, but the last ones stay.
    """
    space, root, removed = context.space, entry_root(context, entry), 0
    element, k = argument(context, 3)
    rank = 0 if step > 0 else sequence_count(space, root) - 1
    while removed < most:
        rank = sequence_match(space, root, rank, step, INT64_MAX, element, k)
        if rank < 0:
            break
        n = sequence_run(space, root, rank, most - removed, element, k) if step > 0 else 1
        removed += n
        if n == sequence_count(space, root):
            break
        root = sequence_remove(space, root, rank, n)
        assert root != 0, "no frame was reserved for a list"
        if step < 0:
            rank -= 1
    entry_set_root(context, entry, root)
    return removed


@linked(HANDLER)
def lrem(context):  # type: ignore[no-untyped-def]
    """LREM key count element"""
    valid, n = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    if n == INT64_MIN:
        reply_error(context, LONG_RANGE)
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    entry = slot_entry(context, slot)
    root = entry_root(context, entry)
    count = sequence_count(context.space, root)
    if not reserve_loss(context, root, count):
        return 0
    removed = _remove_equal(context, entry, abs(n) if n != 0 else INT64_MAX, 1 if n >= 0 else -1)
    if removed > 0:
        changed(context, context.call[DB], key, key_size, hash_, LREM, removed)
        if removed == count:
            collection_gone(context, key, key_size, hash_)
        else:
            note_loss(context, entry, entry_root(context, entry))
    reply_integer(context, removed)
    return 0


@linked(HANDLER)
def ltrim(context):  # type: ignore[no-untyped-def]
    """LTRIM key start stop"""
    valid, start = integer_argument(context, 2)
    also_valid, stop = integer_argument(context, 3)
    if not valid or not also_valid:
        reply_error(context, NOT_INTEGER)
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0:
        reply_ok(context)
        return 0
    space, entry = context.space, slot_entry(context, slot)
    root = entry_root(context, entry)
    count = sequence_count(space, root)
    start, stop = min(from_start(start, count), count), min(max(stop if stop >= 0 else stop + count, -1), count - 1)
    kept = max(stop - start + 1, 0)
    if kept < count and not reserve_loss(context, root, count - kept):
        return 0
    changed(context, context.call[DB], key, key_size, hash_, LTRIM, count - kept)
    if kept == 0:
        collection_gone(context, key, key_size, hash_)
    else:
        if stop + 1 < count:
            root = sequence_remove(space, root, stop + 1, count - stop - 1)
            assert root != 0, "no frame was reserved for a list"
        if start > 0:
            root = sequence_remove(space, root, 0, start)
            assert root != 0, "no frame was reserved for a list"
        entry_set_root(context, entry, root)
        note_loss(context, entry, root)
    reply_ok(context)
    return 0
