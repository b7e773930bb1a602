"""RENAME, MOVE and SWAPDB.  They never copy a long or a great value."""

from kvstore.commands.connection.hot import database_argument, is_int32
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed, noticed
from kvstore.effects.events import MOVE_FROM, MOVE_TO, NEW, RENAME_FROM, RENAME_TO
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.clocks import clock_of, clock_set, clock_touch
from kvstore.store.dated import bytes_to_note
from kvstore.store.entries import (
    LARGE,
    TYPE_MASK,
    VALUE_FORM,
    entry_alloc,
    entry_alloc_around,
    entry_deadline,
    entry_flags,
    entry_free,
    entry_free_around,
    entry_length,
    entry_root,
    entry_set_flags,
    entry_set_root,
    entry_value,
    header_size,
)
from kvstore.store.layout import DATABASES
from kvstore.store.lookup import key_hash, lookup
from kvstore.store.membership import add_entry, delete_entry, unlink_entry
from kvstore.store.reserve import reserve_change, reserve_removal
from kvstore.store.swapping import swap_databases
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument
from kvstore.wire.errors import DB_INDEX, FIRST_DB, NO_KEY, SAME_OBJECT, SECOND_DB
from kvstore.wire.resp import reply_error, reply_integer, reply_ok, reply_out_of_frames
from mmcore.jit import int64, linked
from mmcore.mmu import copy_in, copy_within


@linked(int64(CONTEXT, int64, int64, int64))
def _renamed(context, entry, key, count):  # type: ignore[no-untyped-def]
    """An entry with this key around the value of `entry`, or with a copy of a short value; 0 when frames ran out."""
    flags, length, deadline = entry_flags(context, entry), entry_length(context, entry), entry_deadline(context, entry)
    if flags & LARGE:
        new = entry_alloc_around(context, count, length, deadline, entry_value(context, entry))
    else:
        new = entry_alloc(context, count, length, deadline)
    if new == 0:
        return 0
    copy_in(context.space, new + header_size(count), bytes_at(key, count), 0, count)
    if flags & TYPE_MASK:
        entry_set_root(context, new, entry_root(context, entry))
    elif flags & LARGE == 0:
        copy_within(context.space, entry_value(context, new), entry_value(context, entry), length)
    entry_set_flags(context, new, entry_flags(context, new) | (flags & VALUE_FORM))
    return new


@linked(int64(CONTEXT, int64))
def _rename(context, only_new):  # type: ignore[no-untyped-def]
    call = context.call
    key, key_size = argument(context, 1)
    new_key, new_size = argument(context, 2)
    if not reserve_change(context, 2, new_size + 4096 + bytes_to_note(context, call[DB], new_size)):
        return 0
    db, source_hash, target_hash = (call[DB], key_hash(context, key, key_size), key_hash(context, new_key, new_size))
    slot = lookup(context, db, key, key_size, source_hash)
    if slot == 0:
        reply_error(context, NO_KEY)
        return 0
    same = source_hash == target_hash and lookup(context, db, new_key, new_size, target_hash) == slot
    target = slot if same else lookup(context, db, new_key, new_size, target_hash)
    if same or (only_new and target != 0):
        if only_new:
            reply_integer(context, 0)
        else:
            reply_ok(context)
        return 0
    # The lookup of the target may have deleted it as expired, and merged buckets.
    slot = lookup(context, db, key, key_size, source_hash)
    entry = slot_entry(context, slot)
    new = _renamed(context, entry, new_key, new_size)
    if new == 0:
        reply_out_of_frames(context)
        return 0
    clock_touch(context, db, source_hash)
    clock = clock_of(context, db, source_hash)
    if target != 0:
        delete_entry(context, db, target, target_hash)
        slot = lookup(context, db, key, key_size, source_hash)
    unlink_entry(context, db, slot, source_hash)
    if entry_flags(context, entry) & (LARGE | TYPE_MASK):
        entry_free_around(context, entry)
    else:
        entry_free(context, entry)
    add_entry(context, db, target_hash, new, entry_deadline(context, new))
    clock_set(context, db, target_hash, clock)
    noticed(context, db, new_key, new_size, target_hash, NEW)
    changed(context, db, key, key_size, source_hash, RENAME_FROM, 0)
    changed(context, db, new_key, new_size, target_hash, RENAME_TO, 1)
    if only_new:
        reply_integer(context, 1)
    else:
        reply_ok(context)
    return 0


@linked(HANDLER)
def rename(context):  # type: ignore[no-untyped-def]
    """RENAME key newkey"""
    return _rename(context, 0)


@linked(HANDLER)
def renamenx(context):  # type: ignore[no-untyped-def]
    """RENAMENX key newkey"""
    return _rename(context, 1)


@linked(HANDLER)
def move(context):  # type: ignore[no-untyped-def]
    """MOVE key db"""
    db = context.call[DB]
    key, key_size = argument(context, 1)
    target = database_argument(context, 2)
    if target < 0:
        return 0
    if target == db:
        reply_error(context, SAME_OBJECT)
        return 0
    if not reserve_change(context, 2, bytes_to_note(context, db, key_size)):
        return 0
    hash_ = key_hash(context, key, key_size)
    if lookup(context, db, key, key_size, hash_) == 0 or lookup(context, target, key, key_size, hash_) != 0:
        reply_integer(context, 0)
        return 0
    slot = lookup(context, db, key, key_size, hash_)
    entry = slot_entry(context, slot)
    clock_touch(context, db, hash_)
    clock = clock_of(context, db, hash_)
    unlink_entry(context, db, slot, hash_)
    add_entry(context, target, hash_, entry, entry_deadline(context, entry))
    clock_set(context, target, hash_, clock)
    noticed(context, target, key, key_size, hash_, NEW)
    changed(context, db, key, key_size, hash_, MOVE_FROM, 0)
    changed(context, target, key, key_size, hash_, MOVE_TO, 1)
    reply_integer(context, 1)
    return 0


@linked(HANDLER)
def swapdb(context):  # type: ignore[no-untyped-def]
    """SWAPDB index1 index2"""
    valid, first = integer_argument(context, 1)
    if not valid or not is_int32(first):
        reply_error(context, FIRST_DB)
        return 0
    valid, second = integer_argument(context, 2)
    if not valid or not is_int32(second):
        reply_error(context, SECOND_DB)
        return 0
    if first < 0 or first >= DATABASES or second < 0 or second >= DATABASES:
        reply_error(context, DB_INDEX)
        return 0
    if not reserve_removal(context, 1):
        return 0
    swap_databases(context, first, second)
    reply_ok(context)
    return 0
