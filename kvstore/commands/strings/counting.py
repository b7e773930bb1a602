"""INCR and its family: commands on a value that is a number."""

from kvstore.commands.strings.getting import is_refused, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import INCRBY, INCRBYFLOAT
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import DECIMAL_ADDRESS, SCRATCH_ADDRESS
from kvstore.lifetimes.sizes import RESULT_MAX, TEXT_MAX
from kvstore.store.entries import (
    NO_DEADLINE,
    TEXT,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_set_flags,
    entry_value,
)
from kvstore.store.lookup import key_hash, lookup, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.store.values import set_value_room
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import (
    INT64_MAX,
    INT64_MIN,
    arg_length,
    arg_offset,
    argument,
    integer_argument,
    parse_integer,
    query,
)
from kvstore.wire.decimal import number_text, print_sum
from kvstore.wire.errors import DECR_MIN, NAN_OR_INFINITY, NOT_FLOAT, NOT_INTEGER, OVERFLOW
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_bulk, reply_error, reply_integer, reply_out_of_frames
from mmcore.jit import int64, linked
from mmcore.mmu import copy_in, copy_out


@linked(int64(CONTEXT, int64))
def increment(context, by):  # type: ignore[no-untyped-def]
    """Add to the integer that key argument 1 holds, and reply with the sum."""
    call, shard = context.call, context.shard
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    value, deadline = 0, NO_DEADLINE
    digits = bytes_at(shard[SCRATCH_ADDRESS], 32)
    if slot != 0:
        entry = slot_entry(context, slot)
        count = entry_length(context, entry)
        valid = count <= 20
        if valid:
            copy_out(context.space, entry_value(context, entry), digits, 0, count)
            valid, value = parse_integer(digits, 0, count)
        if not valid:
            reply_error(context, NOT_INTEGER)
            return 0
        deadline = entry_deadline(context, entry)
    if (by < 0 and value < INT64_MIN - by) or (by > 0 and value > INT64_MAX - by):
        reply_error(context, OVERFLOW)
        return 0
    value += by
    count = put_decimal(digits, 0, value)
    if not reserve_value(context, key, key_size, hash_, count, AS_BEFORE, key_size + count):
        return 0
    room = set_value_room(context, call[DB], key, key_size, slot, hash_, count, deadline)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    copy_in(context.space, room, digits, 0, count)
    changed(context, call[DB], key, key_size, hash_, INCRBY, 1)
    reply_integer(context, value)
    return 0


@linked(HANDLER)
def incr(context):  # type: ignore[no-untyped-def]
    """INCR key"""
    return increment(context, 1)


@linked(HANDLER)
def decr(context):  # type: ignore[no-untyped-def]
    """DECR key"""
    return increment(context, -1)


@linked(HANDLER)
def incrby(context):  # type: ignore[no-untyped-def]
    """INCRBY key increment"""
    valid, by = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    return increment(context, by)


@linked(HANDLER)
def decrby(context):  # type: ignore[no-untyped-def]
    """DECRBY key decrement"""
    valid, by = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    if by == INT64_MIN:
        reply_error(context, DECR_MIN)
        return 0
    return increment(context, -by)


@linked(HANDLER)
def incrbyfloat(context):  # type: ignore[no-untyped-def]
    """INCRBYFLOAT key increment"""
    call, shard = context.call, context.shard
    key, key_size = argument(context, 1)
    first = shard[DECIMAL_ADDRESS]
    second, result = first + TEXT_MAX, first + 2 * TEXT_MAX
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    deadline = NO_DEADLINE
    bytes_at(first, 2)[0] = 48
    bytes_at(first, 2)[1] = 0
    if slot != 0:
        entry = slot_entry(context, slot)
        count = entry_length(context, entry)
        old = bytes_at(result, RESULT_MAX)
        valid = count < TEXT_MAX
        if valid:
            copy_out(context.space, entry_value(context, entry), old, 0, count)
            valid = number_text(old, 0, count, first)
        if not valid:
            reply_error(context, NOT_FLOAT)
            return 0
        deadline = entry_deadline(context, entry)
    if not number_text(query(context), arg_offset(context, 2), arg_length(context, 2), second):
        reply_error(context, NOT_FLOAT)
        return 0
    count = print_sum(first, second, result)
    if count < 0:
        reply_error(context, NAN_OR_INFINITY)
        return 0
    if not reserve_value(context, key, key_size, hash_, count, AS_BEFORE, key_size + count):
        return 0
    text = bytes_at(result, RESULT_MAX)
    room = set_value_room(context, call[DB], key, key_size, slot, hash_, count, deadline)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    copy_in(context.space, room, text, 0, count)
    entry = slot_entry(context, lookup(context, call[DB], key, key_size, hash_))
    entry_set_flags(context, entry, entry_flags(context, entry) | TEXT)
    changed(context, call[DB], key, key_size, hash_, INCRBYFLOAT, 1)
    reply_bulk(context, text, 0, count)
    return 0
