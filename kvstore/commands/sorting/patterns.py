"""Patterns of BY and GET: keys, or fields of hashes, whose names an element completes.

    #               the element itself
    weight_*        the string at that key, with the element in place of the first asterisk
    object_*->name  that field of the hash at that key; an arrow counts behind the asterisk, with something behind it

A pattern without an asterisk names nothing.  As in C, a zero byte ends the search for an asterisk and an arrow.

    PATTERN words at `found_by(context)`

    WORD       DESCRIPTION
    REFERENCE  of what was found (texts.py)
    LENGTH     NO_TEXT if nothing was
    ROOM       address of malloc'd memory for a key, 0 for none; `patterns_end` frees it
    CAPACITY   of that [bytes]
"""

from kvstore.commands.hashes.value import live_find
from kvstore.commands.sorting.texts import LENGTH, NO_TEXT, REFERENCE, copy_text
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.entries import HASH, STRING, entry_length, entry_root, entry_type, entry_value
from kvstore.store.lookup import lookup_read
from kvstore.structures.element import element_payload, element_payload_length
from kvstore.system.libc import bytes_at, free, realloc, words_at
from kvstore.wire.arguments import arg_address, arg_length, argument
from mmcore.jit import copy_bytes, int64, kernel, linked, view, void

ROOM, CAPACITY = 2, 3
_WORDS = 4
_PLACE = 96  # among the words of the scratch memory
_ASTERISK, _MINUS, _GREATER, _HASH_SIGN = b"*->#"
_ROOM_MIN = 256


@view
def found_by(context):  # type: ignore[no-untyped-def]
    """The text that the last pattern has found, int64[_WORDS]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, _WORDS)


@linked(void(CONTEXT))
def patterns_begin(context):  # type: ignore[no-untyped-def]
    """Begin without memory for keys."""
    found = found_by(context)
    found[ROOM] = found[CAPACITY] = 0


@linked(void(CONTEXT))
def patterns_end(context):  # type: ignore[no-untyped-def]
    """Free the memory for keys."""
    free(found_by(context)[ROOM])
    patterns_begin(context)


@linked(int64(CONTEXT, int64))
def asterisk_in(context, i):  # type: ignore[no-untyped-def]
    """The place of the asterisk in the pattern that argument i is; -1 without one."""
    address, size = argument(context, i)
    text = bytes_at(address, size)
    for at in range(size):
        if text[at] == _ASTERISK:
            return at
        if text[at] == 0:
            break
    return -1


@linked(int64(CONTEXT, int64, int64))
def _arrow_in(context, i, start):  # type: ignore[no-untyped-def]
    """The place of the arrow from a place of a pattern on; the pattern's length without one."""
    address, size = argument(context, i)
    text, at = bytes_at(address, size), start
    while at + 2 < size and text[at] != 0:
        if text[at] == _MINUS and text[at + 1] == _GREATER:
            return size if text[at + 2] == 0 else at
        at += 1
    return size


@kernel
def is_element(context, i):  # type: ignore[no-untyped-def]
    """Whether the pattern in argument i is the element itself."""
    address, size = argument(context, i)
    return size == 1 and bytes_at(address, 1)[0] == _HASH_SIGN


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _complete(context, i, reference, k, asterisk, arrow):  # type: ignore[no-untyped-def]
    """Write the key that a text of k bytes makes of a pattern to ROOM: its length, or -1 without memory."""
    found, address = found_by(context), arg_address(context, i)
    behind = arrow - asterisk - 1
    size = asterisk + k + behind
    if size > found[CAPACITY]:
        capacity = max(2 * size, _ROOM_MIN)
        room = realloc(found[ROOM], capacity)
        if room == 0:
            return -1
        found[ROOM], found[CAPACITY] = room, capacity
    pattern, key = bytes_at(address, arg_length(context, i)), bytes_at(found[ROOM], found[CAPACITY])
    copy_bytes(key, 0, pattern, 0, asterisk)
    copy_text(context, reference, k, found[ROOM] + asterisk)
    copy_bytes(key, asterisk + k, pattern, asterisk + 1, behind)
    return size


@kernel
def _take(found, reference, k):  # type: ignore[no-untyped-def]
    found[REFERENCE], found[LENGTH] = reference, k


@linked(int64(CONTEXT, int64, int64, int64))
def find_by(context, i, reference, k):  # type: ignore[no-untyped-def]
    """Find what a text of k bytes makes of the pattern in argument i: 1, or 0 without memory.  See `found_by`."""
    found = found_by(context)
    _take(found, reference, k)
    if is_element(context, i):
        return 1
    found[LENGTH] = NO_TEXT
    asterisk = asterisk_in(context, i)
    if asterisk < 0:
        return 1
    arrow = _arrow_in(context, i, asterisk + 1)
    size = _complete(context, i, reference, k, asterisk, arrow)
    if size < 0:
        return 0
    entry, length = lookup_read(context, found[ROOM], size), arg_length(context, i)
    if entry == 0:
        return 1
    if arrow == length:
        if entry_type(context, entry) == STRING:
            _take(found, entry_value(context, entry), entry_length(context, entry))
    elif entry_type(context, entry) == HASH:
        field = arg_address(context, i) + arrow + 2
        element = live_find(context, entry_root(context, entry), field, length - arrow - 2)
        if element != 0:
            _take(found, element_payload(context.space, element), element_payload_length(context.space, element))
    return 1
