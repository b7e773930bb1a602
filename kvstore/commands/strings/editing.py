"""APPEND and SETRANGE: commands that write a part of a value."""

from kvstore.commands.strings.getting import is_refused, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import APPEND, SETRANGE
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import HANDLER
from kvstore.lifetimes.shard import PROTO_MAX_BULK_LEN
from kvstore.store.entries import NO_DEADLINE, entry_length
from kvstore.store.growing import bytes_to_grow, grow_value
from kvstore.store.lookup import key_hash, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.store.values import resize_value, set_value_room
from kvstore.wire.arguments import INT64_MAX, arg_length, arg_offset, argument, integer_argument, query
from kvstore.wire.errors import NOT_INTEGER, OFFSET_RANGE, TOO_LONG
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.heap import heap_repay_zeros
from mmcore.jit import kernel, linked
from mmcore.mmu import copy_in


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
    heap_repay_zeros(context.space, room, before, added)
    copy_in(context.space, room + before, query(context), arg_offset(context, 2), added)
    changed(context, call[DB], key, key_size, hash_, APPEND, 1)
    reply_integer(context, before + added)
    return 0


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
    size = bytes_to_grow(key_size, before, length) + count
    if not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, size):
        return 0
    room = grow_value(context, call[DB], key, key_size, slot, hash_, length, count)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    heap_repay_zeros(context.space, room, offset, count)
    copy_in(context.space, room + offset, query(context), arg_offset(context, 3), count)
    changed(context, call[DB], key, key_size, hash_, SETRANGE, 1)
    reply_integer(context, length)
    return 0
