"""APPEND and SETRANGE: commands that write a part of a value."""

from kvstore.commands.strings.getting import is_refused, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import APPEND, SETRANGE
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import HANDLER
from kvstore.lifetimes.shard import PROTO_MAX_BULK_LEN
from kvstore.store.entries import NO_DEADLINE, RAW, entry_flags, entry_length, entry_set_flags
from kvstore.store.lookup import key_hash, lookup, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.store.values import resize_value, set_value_room
from kvstore.wire.arguments import INT64_MAX, arg_length, arg_offset, argument, integer_argument, query
from kvstore.wire.errors import NOT_INTEGER, OFFSET_RANGE, TOO_LONG
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.jit import fill_bytes, kernel, linked
from mmcore.mmu import copy_in, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE


@kernel
def _too_long(context, length):  # type: ignore[no-untyped-def]
    if length > context.shard[PROTO_MAX_BULK_LEN]:
        reply_error(context, TOO_LONG)
        return True
    return False


@linked(HANDLER)
def append(context):  # type: ignore[no-untyped-def]
    """APPEND key value"""
    call = context.call
    key, key_size = argument(context, 1)
    added = arg_length(context, 2)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    before = entry_length(context, slot_entry(context, slot)) if slot != 0 else 0
    size = key_size + 2 * min(before, 1 << 16) + added
    length = before + added
    if _too_long(context, length) or not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, size):
        return 0
    if slot == 0:
        room = set_value_room(context, call[DB], key, key_size, 0, hash_, added, NO_DEADLINE)
    else:
        room = resize_value(context, call[DB], slot, hash_, length)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    copy_in(context.space, room + before, query(context), arg_offset(context, 2), added)
    changed(context, call[DB], key, key_size, hash_, APPEND, 1)
    reply_integer(context, before + added)
    return 0


@kernel
def _fill_zero(context, va, count):  # type: ignore[no-untyped-def]
    # Zero the `count` bytes that a value has gained at `va`, up to the page's end: the pages behind it are fresh.
    # A value at the start of a page may be a short one, whose page is not fresh.
    here = min(count, PAGE_SIZE - (va & PAGE_MASK))
    if here > 0:
        pa = write_address(context.space, va)
        assert pa >= 0, "no frame was reserved for zeros"
        fill_bytes(context.space.mem.bytes, pa, 0, here)


@linked(HANDLER)
def setrange(context):  # type: ignore[no-untyped-def]
    """SETRANGE key offset value"""
    call = context.call
    key, key_size = argument(context, 1)
    valid, offset = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    if offset < 0:
        reply_error(context, OFFSET_RANGE)
        return 0
    count = arg_length(context, 3)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    before = entry_length(context, slot_entry(context, slot)) if slot != 0 else 0
    if count == 0:
        reply_integer(context, before)
        return 0
    if offset > INT64_MAX - count or _too_long(context, offset + count):
        if offset > INT64_MAX - count:
            reply_error(context, TOO_LONG)
        return 0
    length = max(before, offset + count)
    size = key_size + min(before, 1 << 16) + length - before + count
    if not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, size):
        return 0
    if slot == 0:
        room = set_value_room(context, call[DB], key, key_size, 0, hash_, length, NO_DEADLINE)
        if room != 0:
            entry = slot_entry(context, lookup(context, call[DB], key, key_size, hash_))
            entry_set_flags(context, entry, entry_flags(context, entry) | RAW)
    else:
        room = resize_value(context, call[DB], slot, hash_, length)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    if offset > before:
        _fill_zero(context, room + before, offset - before)
    copy_in(context.space, room + offset, query(context), arg_offset(context, 3), count)
    changed(context, call[DB], key, key_size, hash_, SETRANGE, 1)
    reply_integer(context, length)
    return 0
