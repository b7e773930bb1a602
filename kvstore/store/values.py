"""Giving a key a value or a deadline.  When an entry moves to another allocation, both indices are updated."""

from kvstore.effects.door import changed, noticed
from kvstore.effects.events import NEW, SET
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.store.bodies import adopt_body, is_body
from kvstore.store.dated import forget_dated, is_dated
from kvstore.store.entries import (
    EDITED,
    EXPIRY,
    LARGE,
    NO_DEADLINE,
    RAW,
    TYPE_MASK,
    VALUE_FORM,
    entry_alloc,
    entry_alloc_around,
    entry_deadline,
    entry_flags,
    entry_free,
    entry_free_around,
    entry_key,
    entry_key_length,
    entry_length,
    entry_set_deadline,
    entry_set_flags,
    entry_set_length,
    entry_set_value,
    entry_size,
    entry_value,
    header_size,
    is_large,
)
from kvstore.store.index import entry_of
from kvstore.store.membership import add_deadline, add_entry, deadline_slot, remove_deadline
from kvstore.structures.buckets import slot_word
from kvstore.system.libc import bytes_at
from kvstore.wire.resp import reply_out_of_frames
from mmcore.heap import heap_free, heap_repay, heap_resize, heap_size
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import copy_in, copy_within, load64, store64


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _point_anew(context, db, slot, hash_, old, new):  # type: ignore[no-untyped-def]
    # The entry moved from `old` to `new`: update both indices.
    had, has = entry_flags(context, old) & EXPIRY, entry_flags(context, new) & EXPIRY
    if had and has:
        store64(context.space, deadline_slot(context, db, hash_, old), slot_word(hash_, new))
    elif had:
        remove_deadline(context, db, hash_, old)
    elif has:
        add_deadline(context, db, hash_, new)
    store64(context.space, slot, slot_word(hash_, new))


@kernel
def _give(context, db, key, count, slot, hash_, entry, deadline):  # type: ignore[no-untyped-def]
    # Give a key an entry that has everything but its key, in the place of the old one.
    copy_in(context.space, entry + header_size(count), bytes_at(key, count), 0, count)
    if slot == 0:
        add_entry(context, db, hash_, entry, deadline)
        noticed(context, db, key, count, hash_, NEW)
    else:
        old = entry_of(load64(context.space, slot))
        if is_dated(context, old):
            forget_dated(context, db, old)
        _point_anew(context, db, slot, hash_, old, entry)
        entry_free(context, old)


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def give_entry(context, db, key, count, slot, hash_, entry, deadline):  # type: ignore[no-untyped-def]
    """Give a key, whose slot is given, or 0, an entry that has everything but its key; the old one is freed."""
    _give(context, db, key, count, slot, hash_, entry, deadline)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def set_value_room(context, db, key, count, slot, hash_, length, deadline):  # type: ignore[no-untyped-def]
    """Give a key this deadline and room for a value of `length` bytes, which the caller writes.

    `slot` is the key's, or 0 for a new one.  Returns the address of the room for the value; or 0, with nothing changed,
    when frames ran out.  The old value is gone.
    """
    space = context.space
    if slot != 0:
        old = entry_of(load64(space, slot))
        flags = entry_flags(context, old)
        same_form = flags & TYPE_MASK == 0 and (flags & EXPIRY != 0) == (deadline != NO_DEADLINE)
        if same_form and is_large(count, length, flags & EXPIRY) == (flags & LARGE != 0):
            before, after = entry_length(context, old), length
            if flags & LARGE == 0:
                before, after = entry_size(count, before, flags), entry_size(count, length, flags)
            if heap_size(before) == heap_size(after):
                entry_set_length(context, old, length)
                entry_set_flags(context, old, flags & ~EDITED)
                if deadline != NO_DEADLINE:
                    entry_set_deadline(context, old, deadline)
                return entry_value(context, old)
    entry = entry_alloc(context, count, length, deadline)
    if entry == 0:
        return 0
    _give(context, db, key, count, slot, hash_, entry, deadline)
    return entry_value(context, entry)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def _set_body(context, db, key, count, slot, hash_, length, deadline):  # type: ignore[no-untyped-def]
    """Like set_value_room, but the value is the call's body, which is complete."""
    value = adopt_body(context, length)
    if value == 0:
        return 0
    entry = entry_alloc_around(context, count, length, deadline, value)
    if entry == 0:
        code = heap_free(context.space, value, length)
        assert code == 0, "no frame was reserved for a release"
        return 0
    _give(context, db, key, count, slot, hash_, entry, deadline)
    return value


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def set_value(context, key, count, slot, hash_, value, length, deadline):  # type: ignore[no-untyped-def]
    """Set a key of the selected database to `length` bytes at `value`: 1, or 0 with an -OOM reply."""
    db = context.call[DB]
    body = is_body(context, value)
    if body:
        room = _set_body(context, db, key, count, slot, hash_, length, deadline)
    else:
        room = set_value_room(context, db, key, count, slot, hash_, length, deadline)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    if not body:
        copy_in(context.space, room, bytes_at(value, length), 0, length)
        if is_large(count, length, EXPIRY if deadline != NO_DEADLINE else 0):
            heap_repay(context.space, room)
    changed(context, db, key, count, hash_, SET, 1)
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def change_deadline(context, db, slot, hash_, deadline):  # type: ignore[no-untyped-def]
    """Give the slot's entry this deadline, or none (NO_DEADLINE): 1, or 0 when frames ran out.

    A short entry moves to an allocation with or without room for a deadline; a LARGE one always has that room.
    """
    space = context.space
    old = entry_of(load64(space, slot))
    flags = entry_flags(context, old)
    had, has = flags & EXPIRY != 0, deadline != NO_DEADLINE
    if had and has:
        entry_set_deadline(context, old, deadline)
    elif had != has and flags & LARGE:
        if has:
            entry_set_deadline(context, old, deadline)
            add_deadline(context, db, hash_, old)
        else:
            remove_deadline(context, db, hash_, old)
        entry_set_flags(context, old, flags ^ EXPIRY)
    elif had != has:
        count, length = entry_key_length(context, old), entry_length(context, old)
        new = entry_alloc(context, count, length, deadline)
        if new == 0:
            return 0
        copy_within(space, entry_key(context, new), entry_key(context, old), count)
        copy_within(space, entry_value(context, new), entry_value(context, old), length)
        entry_set_flags(context, new, entry_flags(context, new) | (flags & VALUE_FORM))
        _point_anew(context, db, slot, hash_, old, new)
        if flags & TYPE_MASK:
            entry_free_around(context, old)
        else:
            entry_free(context, old)
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def resize_value(context, db, slot, hash_, length):  # type: ignore[no-untyped-def]
    """Change the length of the slot's value, keeping its bytes up to there; the caller writes the rest.

    Returns the value's address; or 0, with nothing changed, when frames ran out.
    """
    space = context.space
    old = entry_of(load64(space, slot))
    flags = entry_flags(context, old)
    count, before = entry_key_length(context, old), entry_length(context, old)
    if flags & LARGE:
        moved = heap_resize(space, entry_value(context, old), before, length)
        if moved == 0:
            return 0
        entry_set_value(context, old, moved)
        entry_set_length(context, old, length)
        entry_set_flags(context, old, flags | RAW)
        return moved
    if not is_large(count, length, flags):
        moved = heap_resize(space, old, entry_size(count, before, flags), entry_size(count, length, flags))
        if moved == 0:
            return 0
        entry_set_length(context, moved, length)
        entry_set_flags(context, moved, flags | RAW)
        if moved != old:
            if flags & EXPIRY:
                store64(space, deadline_slot(context, db, hash_, old), slot_word(hash_, moved))
            store64(space, slot, slot_word(hash_, moved))
        return entry_value(context, moved)
    new = entry_alloc(context, count, length, entry_deadline(context, old))
    if new == 0:
        return 0
    copy_within(space, entry_key(context, new), entry_key(context, old), count)
    copy_within(space, entry_value(context, new), entry_value(context, old), min(before, length))
    entry_set_flags(context, new, entry_flags(context, new) | RAW)
    _point_anew(context, db, slot, hash_, old, new)
    entry_free(context, old)
    return entry_value(context, new)
