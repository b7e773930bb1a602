"""GET, MGET, STRLEN, GETRANGE."""

from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.entries import EXPIRY, HEADER, LARGE, LONG_KEY, TYPE_MASK, entry_flags, entry_length, entry_value
from kvstore.store.index import entry_of
from kvstore.store.lookup import lookup_read
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument
from kvstore.wire.errors import NOT_INTEGER, WRONG_TYPE
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_bulk_memory,
    reply_empty_bulk,
    reply_error,
    reply_integer,
    reply_null,
)
from mmcore.jit import bytes32, int64, kernel, linked, void
from mmcore.mmu import compare, load64, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE


@linked(void(CONTEXT, int64))
def reply_value(context, entry):  # type: ignore[no-untyped-def]
    """The value of an entry, or null for none; an error for one that is not a string."""
    if entry == 0:
        reply_null(context)
        return
    memory = context.space.mem.bytes
    pa = read_address(context.space, entry)
    flags, length = bytes32(memory, pa), bytes32(memory, pa + 4)
    if flags & TYPE_MASK:
        reply_error(context, WRONG_TYPE)
        return
    at = HEADER + (flags & LONG_KEY)  # beyond the page for a long key
    if flags & EXPIRY:
        at += 8
    if flags & LARGE == 0 and (entry & PAGE_MASK) + at + length <= PAGE_SIZE:
        reply_bulk(context, memory, pa + at, length)
    else:
        reply_bulk_memory(context, entry_value(context, entry), length)


@kernel
def slot_entry(context, slot):  # type: ignore[no-untyped-def]
    """The entry that a slot points at; 0 for slot 0."""
    return entry_of(load64(context.space, slot)) if slot != 0 else 0


@kernel
def is_refused(context, entry):  # type: ignore[no-untyped-def]
    """Whether the entry, if there is one, is not a string; then it replies -WRONGTYPE."""
    if entry == 0 or entry_flags(context, entry) & TYPE_MASK == 0:
        return False
    reply_error(context, WRONG_TYPE)
    return True


@kernel
def has_value(context, entry, value, size):  # type: ignore[no-untyped-def]
    """Whether the value of an entry, which is a string, is the `size` bytes at `value` in the process."""
    if entry_length(context, entry) != size:
        return False
    return compare(context.space, entry_value(context, entry), bytes_at(value, size), 0, size)


@linked(HANDLER)
def get(context):  # type: ignore[no-untyped-def]
    """GET key"""
    key, key_size = argument(context, 1)
    reply_value(context, lookup_read(context, key, key_size))
    return 0


@linked(HANDLER)
def mget(context):  # type: ignore[no-untyped-def]
    """MGET key [key ...]"""
    reply_array(context, context.call[ARGC] - 1)
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        entry = lookup_read(context, key, key_size)
        if entry != 0 and entry_flags(context, entry) & TYPE_MASK:
            entry = 0  # MGET knows no error
        reply_value(context, entry)
    return 0


@linked(HANDLER)
def strlen(context):  # type: ignore[no-untyped-def]
    """STRLEN key"""
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if not is_refused(context, entry):
        reply_integer(context, entry_length(context, entry) if entry != 0 else 0)
    return 0


@linked(HANDLER)
def getrange(context):  # type: ignore[no-untyped-def]
    """GETRANGE key start end"""
    key, key_size = argument(context, 1)
    valid, start = integer_argument(context, 2)
    also_valid, end = integer_argument(context, 3)
    if not valid or not also_valid:
        reply_error(context, NOT_INTEGER)
        return 0
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    length = entry_length(context, entry) if entry != 0 else 0
    if start < 0 and end < 0 and start > end:
        length = 0
    if start < 0:
        start = max(0, start + length)
    if end < 0:
        end = max(0, end + length)
    end = min(end, length - 1)
    if start > end or length == 0:
        reply_empty_bulk(context)
    else:
        reply_bulk_memory(context, entry_value(context, entry) + start, end - start + 1)
    return 0
