"""GET, MGET, STRLEN, GETRANGE."""

from kvstore.effects.events import CLASS_OF, KEYMISS
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import KEYSPACE_HITS, KEYSPACE_MISSES
from kvstore.lifetimes.store import NOTIFY
from kvstore.store.aside import goes_aside, reader_looks_up
from kvstore.store.entries import EXPIRY, HEADER, LARGE, LONG_KEY, TYPE_MASK, entry_flags, entry_length, entry_value
from kvstore.store.index import entry_of
from kvstore.store.leaving import reply_goes_on, reply_limit, reply_long
from kvstore.store.lookup import lookup_read
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument
from kvstore.wire.errors import NOT_INTEGER, WRONG_TYPE
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_empty_bulk,
    reply_error,
    reply_integer,
    reply_length,
    reply_null,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import bytes32, int64, kernel, linked
from mmcore.mmu import compare, load64, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

COPIED_PER_FIELD = 10  # log2 of the bytes that are copied in the time that a field of a hash takes (store/aside.py)


@linked(int64(CONTEXT, int64, int64))
def reply_value(context, entry, reads):  # type: ignore[no-untyped-def]
    """The value of an entry, or null for none; an error for one that is not a string.

    Returns BLOCKS if the command `reads` and has done nothing else, and goes aside to copy a very long value.
    """
    if entry == 0:
        reply_null(context)
        return SERVED
    memory = context.space.mem.bytes
    pa = read_address(context.space, entry)
    flags, length = bytes32(memory, pa), bytes32(memory, pa + 4)
    if flags & TYPE_MASK:
        reply_error(context, WRONG_TYPE)
        return SERVED
    at = HEADER + (flags & LONG_KEY)  # beyond the page for a long key
    if flags & EXPIRY:
        at += 8
    if flags & LARGE == 0 and (entry & PAGE_MASK) + at + length <= PAGE_SIZE:
        reply_bulk(context, memory, pa + at, length)
    elif reads and goes_aside(context, length >> COPIED_PER_FIELD):
        return BLOCKS
    else:
        reply_long(context, entry_value(context, entry), length)
    return SERVED


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
    return reply_value(context, lookup_read(context, key, key_size), 1)


@linked(HANDLER)
def mget(context):  # type: ignore[no-untyped-def]
    """MGET key [key ...]"""
    shard, count, start = context.shard, context.call[ARGC] - 1, reply_length(context)
    hits, misses = shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES]
    silent = context.store[NOTIFY] & CLASS_OF[KEYMISS] == 0
    if silent and goes_aside(context, count):
        reader_looks_up(context)
        return BLOCKS
    limit = reply_limit(context, start) if silent else NEVER
    reply_array(context, count)
    for i in range(1, count + 1):
        key, key_size = argument(context, i)
        entry = lookup_read(context, key, key_size)
        if entry != 0 and entry_flags(context, entry) & TYPE_MASK:
            entry = 0  # MGET knows no error
        reply_value(context, entry, 0)
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES] = hits, misses
                reader_looks_up(context)
                return BLOCKS
        if is_given_up(context):
            break
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
    elif goes_aside(context, (end - start + 1) >> COPIED_PER_FIELD):
        return BLOCKS
    else:
        reply_long(context, entry_value(context, entry) + start, end - start + 1)
    return 0
