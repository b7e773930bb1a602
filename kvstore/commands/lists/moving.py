"""LMOVE and RPOPLPUSH; blocking.py has the forms that wait.

The element that moves is not among the arguments, but its size is known before anything is changed: the commands
reserve frames, and then cannot fail.
"""

from kvstore.commands.lists.popping import end_argument, remove_end
from kvstore.commands.lists.value import encoding_grown, note_growth, note_loss, reply_elements, reserve_list
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import LPOP, LPUSH, RPOP, RPUSH
from kvstore.lifetimes.call import DB, REPLY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_new, collection_write
from kvstore.store.entries import LIST, entry_encoding, entry_root, entry_set_encoding, entry_set_root
from kvstore.store.lookup import key_hash, lookup
from kvstore.store.types import COMPACT
from kvstore.structures.listpack import is_listpack_integer
from kvstore.structures.packed import packed_item_size
from kvstore.structures.packed_layout import END_SIZE
from kvstore.structures.sequence import sequence_count, sequence_find
from kvstore.structures.sequence_change import sequence_push, sequence_remove
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import arg_length, argument
from kvstore.wire.resp import reply_null
from mmcore.jit import int64, kernel, linked, void

_MOVING = 2  # a change of either list
_LINE_END = 2  # bytes behind an element in a reply


@kernel
def _counted(element, k):  # type: ignore[no-untyped-def]
    # The bytes that Redis counts when it asks whether the element may make a list large: an integer's are none.
    return 0 if is_listpack_integer(bytes_at(element, k), 0, k) else k


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _rotate(context, entry, from_front, to_front, element, k):  # type: ignore[no-untyped-def]
    """Move an element within a list: it is removed and pushed."""
    space, root, size = context.space, entry_root(context, entry), _counted(element, k)
    count = sequence_count(space, root)
    if count == 1:
        if entry_encoding(context, entry) == COMPACT:
            entry_set_encoding(context, entry, encoding_grown(context, 0, size, 1))
        return
    root = sequence_remove(space, root, 0 if from_front else count - 1, 1)
    assert root != 0, "no frame was reserved for a list"
    entry_set_root(context, entry, root)
    note_growth(context, entry, size, 1)
    root = sequence_push(space, root, to_front, element, k)
    assert root != 0, "no frame was reserved for a list"
    entry_set_root(context, entry, root)


@linked(void(CONTEXT, int64, int64, int64, int64))
def _push_to(context, slot, front, element, k):  # type: ignore[no-untyped-def]
    """Push an element to the list of argument 2, whose slot this is, or which is new, and announce that."""
    key, key_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    entry, size = slot_entry(context, slot), _counted(element, k)
    if slot != 0:
        note_growth(context, entry, size, 1)
    root = sequence_push(context.space, entry_root(context, entry) if slot != 0 else 0, front, element, k)
    assert root != 0, "no frame was reserved for a list"
    if slot != 0:
        entry_set_root(context, entry, root)
    else:
        collection_new(context, key, key_size, hash_, LIST, encoding_grown(context, 0, size, 1), root)
    changed(context, context.call[DB], key, key_size, hash_, LPUSH if front else RPUSH, 0)


@linked(int64(CONTEXT, int64, int64))
def move(context, from_front, to_front):  # type: ignore[no-untyped-def]
    """From an end of one list to an end of another: 1, or 0 with nothing replied without the first list."""
    space, call = context.space, context.call
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 1
    if slot == 0:
        return 0
    other, other_size = argument(context, 2)
    other_slot = collection_write(context, other, other_size, key_hash(context, other, other_size), LIST)
    if other_slot < 0:
        return 1
    # The destination may have been due, and its deletion may have moved the slots.
    slot = lookup(context, call[DB], key, key_size, hash_)
    assert slot != 0, "a list is gone before it was changed"
    entry = slot_entry(context, slot)
    root = entry_root(context, entry)
    rank = 0 if from_front else sequence_count(space, root) - 1
    _, packed, first = sequence_find(space, root, rank)
    k = packed_item_size(space, packed, rank - first)
    if not reserve_list(context, root, 2, arg_length(context, 2) + 2 * (k + END_SIZE), _MOVING):
        return 1
    reply_elements(context, root, rank, 1, 1, 0, NEVER)
    # The reply holds the element, so that it stays where it is while the lists change.
    element = call[REPLY_ADDRESS] + call[REPLY_LENGTH] - _LINE_END - k
    if slot == other_slot:
        _rotate(context, entry, from_front, to_front, element, k)
        changed(context, call[DB], key, key_size, hash_, LPUSH if to_front else RPUSH, 0)
        changed(context, call[DB], key, key_size, hash_, LPOP if from_front else RPOP, 1)
        note_loss(context, entry, entry_root(context, entry))
        return 1
    _push_to(context, other_slot, to_front, element, k)
    slot = lookup(context, call[DB], key, key_size, hash_)  # a new key may have moved the slots
    assert slot != 0, "a list is gone while it was changed"
    entry = slot_entry(context, slot)
    remove_end(context, entry, entry_root(context, entry), key, key_size, hash_, from_front, 1)
    return 1


@linked(HANDLER)
def lmove(context):  # type: ignore[no-untyped-def]
    """LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>"""
    from_front = end_argument(context, 3)
    if from_front < 0:
        return 0
    to_front = end_argument(context, 4)
    if to_front >= 0 and move(context, from_front, to_front) == 0:
        reply_null(context)
    return 0


@linked(HANDLER)
def rpoplpush(context):  # type: ignore[no-untyped-def]
    """RPOPLPUSH source destination"""
    if move(context, 0, 1) == 0:
        reply_null(context)
    return 0
