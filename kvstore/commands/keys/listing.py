"""KEYS and SCAN: keys by pattern.  Only KEYS looks at every key at once, as it must."""

from kvstore.lifetimes.call import ARGC, DB, QUERY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import HEADER, NO_DEADLINE, entry_deadline, entry_key_length, entry_type
from kvstore.store.layout import DB_KEY_BUCKETS
from kvstore.store.types import type_named
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.linear import scan_bucket, scan_next
from kvstore.wire.arguments import INT64_MAX, arg_length, arg_offset, integer_argument, pack, query, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import INVALID_CURSOR, NOT_INTEGER, OUT_OF_PATTERN, SYNTAX
from kvstore.wire.glob import glob_close, glob_least, glob_match, glob_open
from kvstore.wire.resp import reply_array, reply_bulk_integer, reply_bulk_memory, reply_error, reply_room
from mmcore.jit import copy_bytes, int64, kernel, linked, void

_MATCH, _COUNT, _TYPE = pack(b"MATCH"), pack(b"COUNT"), pack(b"TYPE")


_CURSOR_TENTH = ((1 << 64) - 1) // 10


SCAN_EFFORT = 10  # at most so many buckets for each key of COUNT


@kernel
def is_due(context, entry):  # type: ignore[no-untyped-def]
    deadline = entry_deadline(context, entry)
    return deadline != NO_DEADLINE and deadline <= context.shard[NOW_MS]


@kernel
def _open_pattern(context, i):  # type: ignore[no-untyped-def]
    # (whether it could be opened, the open pattern of argument i; 0 for a pattern that every key matches).
    length, offset = arg_length(context, i), arg_offset(context, i)
    if length == 1 and query(context)[offset] == 42:
        return True, 0
    program = glob_open(context.call[QUERY_ADDRESS] + offset, length, 0)
    return program != 0, program


@linked(int64(CONTEXT, int64, int64))
def reply_if_match(context, entry, pattern):  # type: ignore[no-untyped-def]
    """Append the entry's key if it is alive and matches an open pattern (0: any): 1 or 0; -1 when memory ran out."""
    count = entry_key_length(context, entry)
    if is_due(context, entry) or (pattern != 0 and count < glob_least(pattern)):
        return 0
    start = context.call[REPLY_LENGTH]
    reply_bulk_memory(context, entry + HEADER, count)
    if pattern == 0:
        return 1
    matches = glob_match(pattern, reply_room(context, 0), context.call[REPLY_LENGTH] - 2 - count, count)
    if matches != 1:
        context.call[REPLY_LENGTH] = start
    return matches


@linked(HANDLER)
def keys(context):  # type: ignore[no-untyped-def]
    """KEYS pattern"""
    base, buckets = key_base(context, context.call[DB]), db_load(context, context.call[DB], DB_KEY_BUCKETS)
    outer = context.call[REPLY_LENGTH]
    enough, pattern = _open_pattern(context, 1)
    start, found = begin_array(context), 0
    for number in range(buckets):
        bucket = base + BUCKET_SIZE * number
        while bucket != 0 and enough:
            for i in range(SLOTS):
                entry = bucket_element(context.space, bucket, i)
                if entry != 0:
                    matches = reply_if_match(context, entry, pattern)
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


@kernel
def _cursor(text, start, count):  # type: ignore[no-untyped-def]
    # (whether these bytes are a cursor, its place).  Accepts numbers as strtoul does, signs included, but no leading
    # white space.
    at, end = start, start + count
    if at < end and (text[at] == 43 or text[at] == 45):
        at += 1
        if at == end:
            return False, 0
    negative = count > 0 and text[start] == 45
    value = 0
    while at < end:
        digit = int64(text[at]) - 48
        full = value < 0 or value > _CURSOR_TENTH or (value == _CURSOR_TENTH and digit > 5)
        if digit < 0 or digit > 9 or full:
            return False, 0
        value = 10 * value + digit  # negative from 2^63 on, but its low bits are right
        at += 1
    if negative:
        value = -value
    return True, value & 0xFFFF_FFFF


@linked(void(CONTEXT, int64, int64))
def _wrap(context, start, cursor):  # type: ignore[no-untyped-def]
    # Turn the bytes appended since `start` into the second element of an array whose first element is the cursor.
    room = 4 + 32
    reply_room(context, room)
    length = context.call[REPLY_LENGTH] - start
    out = reply_room(context, room)
    copy_bytes(out, start + room, out, start, length)
    context.call[REPLY_LENGTH] = start
    reply_array(context, 2)
    reply_bulk_integer(context, cursor)
    out = reply_room(context, room)
    copy_bytes(out, context.call[REPLY_LENGTH], out, start + room, length)
    context.call[REPLY_LENGTH] += length


@linked(HANDLER)
def scan(context):  # type: ignore[no-untyped-def]
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]"""
    call = context.call
    valid, cursor = _cursor(query(context), arg_offset(context, 1), arg_length(context, 1))
    if not valid:
        reply_error(context, INVALID_CURSOR)
        return 0
    count, at_pattern, wanted, any_type = 10, 0, -1, True
    i = 2
    while i < call[ARGC]:
        option = word(context, i)
        if i + 1 >= call[ARGC]:
            reply_error(context, SYNTAX)
            return 0
        if option == _COUNT:
            valid, count = integer_argument(context, i + 1)
            if not valid:
                reply_error(context, NOT_INTEGER)
                return 0
            if count < 1:
                reply_error(context, SYNTAX)
                return 0
        elif option == _MATCH:
            at_pattern = i + 1
        elif option == _TYPE:
            wanted, any_type = type_named(word(context, i + 1)), False
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 2
    base, buckets = key_base(context, call[DB]), db_load(context, call[DB], DB_KEY_BUCKETS)
    outer = call[REPLY_LENGTH]
    enough, pattern = _open_pattern(context, at_pattern) if at_pattern != 0 else (True, 0)
    start, found, looked, emitted = begin_array(context), 0, 0, 0
    effort = SCAN_EFFORT * min(count, INT64_MAX // SCAN_EFFORT)
    while buckets > 0 and enough:
        bucket = base + BUCKET_SIZE * scan_bucket(cursor, buckets)
        while bucket != 0:
            for j in range(SLOTS):
                entry = bucket_element(context.space, bucket, j)
                if entry != 0:
                    emitted += 1
                    if any_type or entry_type(context, entry) == wanted:
                        matches = reply_if_match(context, entry, pattern)
                        found += matches
                        enough = enough and matches >= 0
            bucket = next_overflow(context.space, bucket)
        cursor = scan_next(cursor, buckets)
        looked += 1
        if cursor == 0 or emitted >= count or looked >= effort:
            break
    glob_close(pattern)
    if buckets == 0:
        cursor = 0
    if enough:
        end_array(context, start, found)
        _wrap(context, outer, cursor)
    else:
        call[REPLY_LENGTH] = outer
        reply_error(context, OUT_OF_PATTERN)
    return 0
