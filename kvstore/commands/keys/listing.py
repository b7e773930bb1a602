"""KEYS and SCAN: keys by pattern.  Only KEYS looks at every key at once, as it must."""

from kvstore.commands.scanning import (
    COUNT,
    PATTERN,
    TYPE,
    open_pattern,
    refuse_cursor,
    reply_if_match,
    scan_cursor,
    scan_effort,
    scan_options,
    scan_state,
    wrap_scan,
)
from kvstore.lifetimes.call import DB, REPLY_LENGTH
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.aside import goes_aside
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import NO_DEADLINE, entry_deadline, entry_key, entry_key_length, entry_type
from kvstore.store.layout import DB_KEY_BUCKETS, DB_KEYS
from kvstore.store.types import type_named
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.linear import scan_bucket, scan_next
from kvstore.wire.arguments import word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import OUT_OF_PATTERN
from kvstore.wire.glob import glob_close
from kvstore.wire.resp import reply_error
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked


@kernel
def is_due(context, entry):  # type: ignore[no-untyped-def]
    deadline = entry_deadline(context, entry)
    return deadline != NO_DEADLINE and deadline <= context.shard[NOW_MS]


@linked(int64(CONTEXT, int64, int64))
def _reply_live(context, entry, pattern):  # type: ignore[no-untyped-def]
    """Append the entry's key if it is alive and matches an open pattern (0: any): 1 or 0; -1 when memory ran out."""
    if is_due(context, entry):
        return 0
    return reply_if_match(context, entry_key(context, entry), entry_key_length(context, entry), pattern)


@linked(HANDLER)
def keys(context):  # type: ignore[no-untyped-def]
    """KEYS pattern"""
    base, buckets = key_base(context, context.call[DB]), db_load(context, context.call[DB], DB_KEY_BUCKETS)
    if goes_aside(context, db_load(context, context.call[DB], DB_KEYS)):
        return BLOCKS
    outer = context.call[REPLY_LENGTH]
    enough, pattern = open_pattern(context, 1)
    start, found = begin_array(context), 0
    for number in range(buckets):
        if is_given_up(context):
            break
        bucket = base + BUCKET_SIZE * number
        while bucket != 0 and enough:
            for i in range(SLOTS):
                entry = bucket_element(context.space, bucket, i)
                if entry != 0:
                    matches = _reply_live(context, entry, pattern)
                    found += matches
                    enough = enough and matches >= 0
            bucket = next_overflow(context.space, bucket)
    glob_close(pattern)
    if enough:
        end_array(context, start, found)
    else:
        context.call[REPLY_LENGTH] = outer
        reply_error(context, OUT_OF_PATTERN)
    return 0


@linked(HANDLER)
def scan(context):  # type: ignore[no-untyped-def]
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]"""
    call = context.call
    valid, cursor = scan_cursor(context, 1)
    if not valid:
        refuse_cursor(context)
    if not valid or not scan_options(context, 2, 1, 0):
        return 0
    options = scan_state(context)
    count, any_type = options[COUNT], options[TYPE] == 0
    wanted = -1 if any_type else type_named(word(context, options[TYPE]))
    base, buckets = key_base(context, call[DB]), db_load(context, call[DB], DB_KEY_BUCKETS)
    if goes_aside(context, min(count, db_load(context, call[DB], DB_KEYS))):
        return BLOCKS
    outer = call[REPLY_LENGTH]
    enough, pattern = open_pattern(context, options[PATTERN])
    start, found, looked, emitted = begin_array(context), 0, 0, 0
    while buckets > 0 and enough:
        bucket = base + BUCKET_SIZE * scan_bucket(cursor, buckets)
        while bucket != 0:
            for j in range(SLOTS):
                entry = bucket_element(context.space, bucket, j)
                if entry != 0:
                    emitted += 1
                    if any_type or entry_type(context, entry) == wanted:
                        matches = _reply_live(context, entry, pattern)
                        found += matches
                        enough = enough and matches >= 0
            bucket = next_overflow(context.space, bucket)
        cursor = scan_next(cursor, buckets)
        looked += 1
        if cursor == 0 or emitted >= count or looked >= scan_effort(count) or is_given_up(context):
            break
    glob_close(pattern)
    if enough:
        end_array(context, start, found)
        wrap_scan(context, outer, cursor if buckets > 0 else 0)
    else:
        call[REPLY_LENGTH] = outer
        reply_error(context, OUT_OF_PATTERN)
    return 0
