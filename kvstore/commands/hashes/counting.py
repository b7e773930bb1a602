"""HINCRBY and HINCRBYFLOAT: a field whose value is a number.  Bounded by their arguments."""

from kvstore.commands.hashes.value import live_find
from kvstore.commands.hashes.writing import hash_for_writing, reserve_fields, set_live
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import HINCRBY, HINCRBYFLOAT
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import DECIMAL_ADDRESS, SCRATCH_ADDRESS
from kvstore.lifetimes.sizes import RESULT_MAX, TEXT_MAX
from kvstore.store.collections import OTHER_TYPE, collection_write
from kvstore.store.entries import HASH, entry_root
from kvstore.store.lookup import key_hash
from kvstore.structures.element import element_payload, element_payload_length, element_size
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
from kvstore.wire.errors import (
    HASH_NOT_FLOAT,
    HASH_NOT_INTEGER,
    NAN_OR_INFINITY,
    NAN_OR_INFINITY_VALUE,
    NOT_FLOAT,
    NOT_INTEGER,
    OVERFLOW,
)
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_bulk, reply_error, reply_integer
from mmcore.jit import int64, linked
from mmcore.mmu import copy_out


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _store_number(context, slot, hash_, text, count, event):  # type: ignore[no-untyped-def]
    """Set the field in argument 2 to the text of a number: 1, or 0 with an error replied."""
    key, key_size = argument(context, 1)
    _, k = argument(context, 2)
    if not reserve_fields(context, slot, 1, key_size + element_size(k, count)):
        return 0
    set_live(context, hash_for_writing(context, slot, key, key_size, hash_), hash_, text, count)
    changed(context, context.call[DB], key, key_size, hash_, event, 1)
    return 1


@linked(HANDLER)
def hincrby(context):  # type: ignore[no-untyped-def]
    """HINCRBY key field increment"""
    space, digits = context.space, bytes_at(context.shard[SCRATCH_ADDRESS], 32)
    key, key_size = argument(context, 1)
    field, k = argument(context, 2)
    valid, by = integer_argument(context, 3)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    element, value = 0, 0
    if slot != 0:
        element = live_find(context, entry_root(context, slot_entry(context, slot)), field, k)
    if element != 0:
        count = element_payload_length(space, element)
        valid = count <= 20
        if valid:
            copy_out(space, element_payload(space, element), digits, 0, count)
            valid, value = parse_integer(digits, 0, count)
        if not valid:
            reply_error(context, HASH_NOT_INTEGER)
            return 0
    if (by < 0 and value < INT64_MIN - by) or (by > 0 and value > INT64_MAX - by):
        reply_error(context, OVERFLOW)
        return 0
    value += by
    count = put_decimal(digits, 0, value)
    if _store_number(context, slot, hash_, context.shard[SCRATCH_ADDRESS], count, HINCRBY):
        reply_integer(context, value)
    return 0


@linked(HANDLER)
def hincrbyfloat(context):  # type: ignore[no-untyped-def]
    """HINCRBYFLOAT key field increment"""
    space, first = context.space, context.shard[DECIMAL_ADDRESS]
    second, result = first + TEXT_MAX, first + 2 * TEXT_MAX
    key, key_size = argument(context, 1)
    field, k = argument(context, 2)
    if not number_text(query(context), arg_offset(context, 3), arg_length(context, 3), second):
        reply_error(context, NOT_FLOAT)
        return 0
    bytes_at(first, 2)[0] = 48
    bytes_at(first, 2)[1] = 0
    if print_sum(first, second, result) < 0:
        reply_error(context, NAN_OR_INFINITY_VALUE)
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    element = 0
    if slot != 0:
        element = live_find(context, entry_root(context, slot_entry(context, slot)), field, k)
    if element != 0:
        count, old = element_payload_length(space, element), bytes_at(result, RESULT_MAX)
        valid = count < TEXT_MAX
        if valid:
            copy_out(space, element_payload(space, element), old, 0, count)
            valid = number_text(old, 0, count, first)
        if not valid:
            reply_error(context, HASH_NOT_FLOAT)
            return 0
    count = print_sum(first, second, result)
    if count < 0:
        reply_error(context, NAN_OR_INFINITY)
        return 0
    if _store_number(context, slot, hash_, result, count, HINCRBYFLOAT):
        reply_bulk(context, bytes_at(result, RESULT_MAX), 0, count)
    return 0
