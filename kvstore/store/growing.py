"""Strings that grow by zeros: SETRANGE, SETBIT and BITFIELD write behind the end of a value, and zeros fill the gap.

A gap of less than SPARSE_MIN bytes is filled with zeros.  The pages of a longer one are borrowed: each is one page of
zeros, which the first write to it copies (heap_extend in mmcore/heap.py).  So a bitmap of 512 MiB with one bit set is
made in some microseconds, and takes one page and a few tables.

Borrowed frames count as used: see store/reserve.py.  A sparse value that is written later needs those frames.  An image
has the page of zeros once, and says where it is repeated: a sparse value is sparse after a restart too.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.store.entries import (
    LARGE,
    NO_DEADLINE,
    RAW,
    entry_alloc_around,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_set_flags,
    entry_set_length,
    entry_set_value,
    entry_value,
)
from kvstore.store.index import entry_of
from kvstore.store.lookup import find_slot
from kvstore.store.values import give_entry, resize_value, set_value_room
from mmcore.heap import heap_alloc, heap_extend, heap_free, heap_repay_zeros
from mmcore.jit import fill_bytes, int64, kernel, linked
from mmcore.mmu import copy_within, load64, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

SPARSE_MIN = 1 << 18  # [bytes] of a gap whose pages are borrowed; a shorter one is cleared faster than it is shared
_FIRST = 2 * PAGE_SIZE  # [bytes] of an allocation before it is extended


@kernel
def bytes_to_grow(key_size, before, length):  # type: ignore[no-untyped-def]
    """Bytes that growing a value from `before` to `length` bytes may allocate: for `reserve_value`."""
    return key_size + min(before, 1 << 16) + max(0, length - before)


@kernel
def _clear(context, room, before, length):  # type: ignore[no-untyped-def]
    # Zero what the value at `room` has gained, up to the page's end: the pages behind it are fresh.  A value at the
    # start of a page may be a short one, whose page is not.
    here = min(length - before, PAGE_SIZE - (room + before & PAGE_MASK))
    if here > 0:
        heap_repay_zeros(context.space, room, before, here)
        pa = write_address(context.space, room + before)
        assert pa >= 0, "no frame was reserved for zeros"
        fill_bytes(context.space.mem.bytes, pa, 0, here)


@kernel
def mark_raw(context, entry):  # type: ignore[no-untyped-def]
    """Note that the value was edited in place."""
    flags = entry_flags(context, entry)
    if flags & RAW == 0:
        entry_set_flags(context, entry, flags | RAW)


@linked(int64(CONTEXT, int64, int64, int64))
def _sparse_entry(context, count, length, deadline):  # type: ignore[no-untyped-def]
    """An entry for a key of `count` bytes, not written yet, and `length` bytes of borrowed zeros; 0 without frames."""
    space = context.space
    value = heap_alloc(space, _FIRST)
    if value == 0:
        return 0
    extended = heap_extend(space, value, _FIRST, length)
    entry = entry_alloc_around(context, count, length, deadline, extended) if extended != 0 else 0
    if entry == 0:
        code = heap_free(space, value if extended == 0 else extended, _FIRST if extended == 0 else length)
        assert code == 0, "no frame was reserved for a release"
        return 0
    entry_set_flags(context, entry, entry_flags(context, entry) | RAW)
    return entry


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _sparse_value(context, db, key, count, slot, hash_, length):  # type: ignore[no-untyped-def]
    """grow_value by so much that pages are borrowed."""
    space = context.space
    old = entry_of(load64(space, slot)) if slot != 0 else 0
    before = entry_length(context, old) if slot != 0 else 0
    if slot != 0 and entry_flags(context, old) & LARGE:
        moved = heap_extend(space, entry_value(context, old), before, length)
        if moved != 0:
            entry_set_value(context, old, moved)
            entry_set_length(context, old, length)
            mark_raw(context, old)
            if before & PAGE_MASK != 0:
                _clear(context, moved, before, length)
        return moved
    deadline = entry_deadline(context, old) if slot != 0 else NO_DEADLINE
    entry = _sparse_entry(context, count, length, deadline)
    if entry == 0:
        return 0
    if before > 0:
        copy_within(space, entry_value(context, entry), entry_value(context, old), before)
    give_entry(context, db, key, count, slot, hash_, entry, deadline)
    return entry_value(context, entry)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def grow_value(context, db, key, count, slot, hash_, length, to_write):  # type: ignore[no-untyped-def]
    """Make the string at a key, whose slot is given, or 0, `length` bytes long by zeros at its end; it is raw then.

    Returns the value's address; or 0, with nothing changed, when frames ran out.  The caller has reserved
    `bytes_to_grow`, and tells `heap_repay_zeros` of the `to_write` bytes that it will write.
    """
    before = 0
    if slot != 0:
        entry = entry_of(load64(context.space, slot))
        before = entry_length(context, entry)
        if length <= before:
            mark_raw(context, entry)
            return entry_value(context, entry)
    if length - before - to_write >= SPARSE_MIN:
        return _sparse_value(context, db, key, count, slot, hash_, length)
    if slot != 0:
        room = resize_value(context, db, slot, hash_, length)
    else:
        room = set_value_room(context, db, key, count, 0, hash_, length, NO_DEADLINE)
        if room != 0:
            mark_raw(context, entry_of(load64(context.space, find_slot(context, db, key, count, hash_))))
    if room != 0:
        _clear(context, room, before, length)
    return room
