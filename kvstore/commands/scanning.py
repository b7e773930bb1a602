"""The parts that SCAN, HSCAN, SSCAN and ZSCAN share: cursors, options, and the reply of a cursor with an array.

    SCAN_OPTIONS words at `scan_state(context)`, which `scan_options` fills:

    WORD     DESCRIPTION
    COUNT    about so many elements in one call
    PATTERN  number of the argument with the pattern, 0 without one
    TYPE     number of the argument with a type, 0 without one
    KEYS     1 with NOVALUES

A scan of a table visits buckets in the order of their reversed numbers (structures/linear.py).  It goes on until COUNT
elements were met, and visits at most SCAN_EFFORT buckets for each of COUNT.
"""

from kvstore.commands.elements import reply_payload
from kvstore.lifetimes.call import ARGC, QUERY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.context import BLOCKS, CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import HASH, entry_encoding, entry_root
from kvstore.store.fields import fields_hidden, is_element_due
from kvstore.store.scores import element_score
from kvstore.store.types import WIDE
from kvstore.structures.buckets import SLOTS, bucket_element, next_overflow
from kvstore.structures.chain import chain_element
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.ints import ints_at
from kvstore.structures.kinds import INTS, RECORD, kind_of
from kvstore.structures.linear import scan_bucket, scan_next
from kvstore.structures.record import BUCKETS
from kvstore.structures.table import table_bucket
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import INT64_MAX, arg_length, arg_offset, argument, integer_argument, pack, query, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.doubles import DOUBLE_MAX, double_of, put_double, put_double17
from kvstore.wire.errors import INVALID_CURSOR, NOT_INTEGER, OUT_OF_PATTERN, SYNTAX
from kvstore.wire.glob import glob_close, glob_least, glob_match, glob_open
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_bulk_integer,
    reply_bulk_memory,
    reply_empty_array,
    reply_error,
    reply_room,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import copy_bytes, int64, kernel, linked, view, void
from mmcore.mmu import load64

COUNT, PATTERN, TYPE, KEYS = range(4)
SCAN_OPTIONS = 4
KEY, VALUE, SCORE, LONG_SCORE = range(4)
SCAN_EFFORT = 10  # at most so many buckets for each key of COUNT
COUNT_DEFAULT = 10
_STATE = SCRATCH_WORDS - SCAN_OPTIONS
_MATCH_WORD, _COUNT_WORD, _TYPE_WORD, _NOVALUES_WORD = (pack(w) for w in (b"MATCH", b"COUNT", b"TYPE", b"NOVALUES"))
_CURSOR_TENTH = ((1 << 64) - 1) // 10


@kernel
def scan_cursor(context, i):  # type: ignore[no-untyped-def]
    """(whether argument i is a cursor, its place).

    Accepts numbers as strtoul does, signs included, but no leading white space.
    """
    text, start, count = query(context), arg_offset(context, i), arg_length(context, i)
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


@kernel
def refuse_cursor(context):  # type: ignore[no-untyped-def]
    """-ERR invalid cursor"""
    reply_error(context, INVALID_CURSOR)


@view
def scan_state(context):  # type: ignore[no-untyped-def]
    """The options of the scan at hand, int64[SCAN_OPTIONS]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _STATE, SCAN_OPTIONS)


@linked(int64(CONTEXT, int64, int64, int64))
def scan_options(context, first, may_type, may_keys):  # type: ignore[no-untyped-def]
    """Read the options from argument `first` on: 1, or 0 with an error replied.

    TYPE is an option only with `may_type`, NOVALUES only with `may_keys`.
    """
    state = scan_state(context)
    state[COUNT], state[PATTERN], state[TYPE], state[KEYS] = COUNT_DEFAULT, 0, 0, 0
    i, argc = first, context.call[ARGC]
    while i < argc:
        option = word(context, i)
        if may_keys and option == _NOVALUES_WORD:
            state[KEYS] = 1
            i += 1
            continue
        if i + 1 >= argc:
            reply_error(context, SYNTAX)
            return 0
        if option == _COUNT_WORD:
            valid, count = integer_argument(context, i + 1)
            if not valid or count < 1:
                reply_error(context, NOT_INTEGER if not valid else SYNTAX)
                return 0
            state[COUNT] = count
        elif option == _MATCH_WORD:
            state[PATTERN] = i + 1
        elif may_type and option == _TYPE_WORD:
            state[TYPE] = i + 1
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 2
    return 1


@kernel
def scan_effort(count):  # type: ignore[no-untyped-def]
    """The most buckets that a call with this COUNT may visit."""
    return SCAN_EFFORT * min(count, INT64_MAX // SCAN_EFFORT)


@kernel
def open_pattern(context, i):  # type: ignore[no-untyped-def]
    """(whether it could be opened, the open pattern of argument i; 0 for none or for one that everything matches)."""
    if i == 0:
        return True, 0
    length, offset = arg_length(context, i), arg_offset(context, i)
    if length == 1 and query(context)[offset] == 42:
        return True, 0
    program = glob_open(context.call[QUERY_ADDRESS] + offset, length, 0)
    return program != 0, program


@linked(int64(CONTEXT, int64, int64, int64))
def reply_if_match(context, va, count, pattern):  # type: ignore[no-untyped-def]
    """Append the `count` bytes at `va` if they match an open pattern (0: any): 1 or 0; -1 when memory ran out."""
    if pattern != 0 and count < glob_least(pattern):
        return 0
    start = context.call[REPLY_LENGTH]
    reply_bulk_memory(context, va, count)
    if pattern == 0:
        return 1
    matches = glob_match(pattern, reply_room(context, 0), context.call[REPLY_LENGTH] - 2 - count, count)
    if matches != 1:
        context.call[REPLY_LENGTH] = start
    return matches


@kernel
def reply_key_if_match(context, element, pattern):  # type: ignore[no-untyped-def]
    """Like reply_if_match, for the key of an element."""
    space = context.space
    return reply_if_match(context, element_key(space, element), element_key_length(space, element), pattern)


@linked(void(CONTEXT, int64, int64))
def wrap_scan(context, start, cursor):  # type: ignore[no-untyped-def]
    """Turn the bytes appended since `start` into the second element of an array whose first element is the cursor."""
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


@linked(void(CONTEXT, int64, int64))
def _reply_part(context, element, part):  # type: ignore[no-untyped-def]
    """The value or the score of an element, as a bulk string in both protocols.

    Redis scans a large sorted set with the scores in seventeen digits.
    """
    if part == VALUE:
        reply_payload(context, element)
        return
    text, score = bytes_at(context.shard[SCRATCH_ADDRESS], DOUBLE_MAX), double_of(element_score(context.space, element))
    reply_bulk(context, text, 0, put_double17(text, 0, score) if part == LONG_SCORE else put_double(text, 0, score))


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _scan_table(context, root, cursor, part, hides):  # type: ignore[no-untyped-def]
    """Reply with elements from a cursor on; returns the next cursor, -1 when memory ran out.

    hides: whether fields of a hash are due, and are not shown.
    """
    space, state = context.space, scan_state(context)
    count, buckets = state[COUNT], load64(space, root + BUCKETS)
    enough, pattern = open_pattern(context, state[PATTERN])
    start, found, looked, met = begin_array(context), 0, 0, 0
    while enough:
        bucket = table_bucket(space, root, scan_bucket(cursor, buckets))
        while bucket != 0:
            for i in range(SLOTS):
                element = bucket_element(space, bucket, i)
                if element != 0:
                    met += 1
                    if hides and is_element_due(context, root, element):
                        continue
                    matches = reply_key_if_match(context, element, pattern)
                    enough = enough and matches >= 0
                    if matches > 0:
                        found += 1
                        if part != KEY:
                            found += 1
                            _reply_part(context, element, part)
            bucket = next_overflow(space, bucket)
        cursor = scan_next(cursor, buckets)
        looked += 1
        if cursor == 0 or met >= count or looked >= scan_effort(count) or is_given_up(context):
            break
    glob_close(pattern)
    end_array(context, start, found)
    return cursor if enough else -1


@linked(int64(CONTEXT, int64, int64))
def _scan_whole(context, root, part):  # type: ignore[no-untyped-def]
    """Reply with all elements of a small collection: 0, or -1 when memory ran out."""
    space = context.space
    enough, pattern = open_pattern(context, scan_state(context)[PATTERN])
    start, found, i, ints = begin_array(context), 0, 0, kind_of(space, root) == INTS
    while enough and i < root_count(space, root):
        if ints:
            text = bytes_at(context.shard[SCRATCH_ADDRESS], DOUBLE_MAX)
            size = put_decimal(text, 0, ints_at(space, root, i))
            matches = glob_match(pattern, text, 0, size) if pattern != 0 else 1
            if matches > 0:
                reply_bulk(context, text, 0, size)
        else:
            matches = reply_key_if_match(context, chain_element(space, root, i), pattern)
        enough = matches >= 0
        if matches > 0:
            found += 1
            if part != KEY:
                found += 1
                _reply_part(context, chain_element(space, root, i), part)
        i += 1
    glob_close(pattern)
    end_array(context, start, found)
    return 0 if enough else -1


@linked(int64(CONTEXT, int64, int64))
def scan_collection(context, type_, part):  # type: ignore[no-untyped-def]
    """Serve HSCAN, SSCAN or ZSCAN; `part` is what follows each key: KEY for nothing, VALUE or SCORE."""
    call = context.call
    valid, cursor = scan_cursor(context, 2)
    if not valid:
        refuse_cursor(context)
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, type_)
    if entry == OTHER_TYPE:
        return 0
    outer = call[REPLY_LENGTH]
    if entry == 0:
        reply_empty_array(context)
        wrap_scan(context, outer, 0)
        return 0
    if not scan_options(context, 3, 0, 1 if part == VALUE else 0):
        return 0
    if scan_state(context)[KEYS]:
        part = KEY
    elif part == SCORE and entry_encoding(context, entry) == WIDE:
        part = LONG_SCORE
    root = entry_root(context, entry)
    if goes_aside(context, min(scan_state(context)[COUNT], root_count(context.space, root))):
        return BLOCKS
    if kind_of(context.space, root) == RECORD:
        hides = int64(type_ == HASH and fields_hidden(context, root) > 0)
        following = _scan_table(context, root, cursor, part, hides)
    else:
        following = _scan_whole(context, root, part)
    if following < 0:
        call[REPLY_LENGTH] = outer
        reply_error(context, OUT_OF_PATTERN)
    else:
        wrap_scan(context, outer, following)
    return 0
