"""HGET, HMGET, HGETALL, HKEYS, HVALS, HLEN, HSTRLEN, HEXISTS."""

from kvstore.commands.elements import reply_key, reply_payload
from kvstore.commands.hashes.value import live_find
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import HASH, entry_root
from kvstore.store.fields import fields_hidden, is_element_due
from kvstore.store.leaving import reply_goes_on, reply_limit
from kvstore.structures.collection import root_count
from kvstore.structures.element import (
    element_payload_length,
)
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import words_at
from kvstore.wire.arguments import argument
from kvstore.wire.resp import reply_array, reply_integer, reply_length, reply_map, reply_null
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, void

FIELDS, VALUES = 1, 2  # parts of an element


@linked(void(CONTEXT, int64))
def reply_field_value(context, element):  # type: ignore[no-untyped-def]
    """The value of an element, or null for none."""
    if element == 0:
        reply_null(context)
    else:
        reply_payload(context, element)


@linked(int64(CONTEXT))
def _element_of_arguments(context):  # type: ignore[no-untyped-def]
    """The element of the field in argument 2; 0 without one, OTHER_TYPE with an error replied."""
    key, key_size = argument(context, 1)
    field, k = argument(context, 2)
    entry = collection_read(context, key, key_size, HASH)
    return live_find(context, entry_root(context, entry), field, k) if entry > 0 else entry


@linked(HANDLER)
def hget(context):  # type: ignore[no-untyped-def]
    """HGET key field"""
    element = _element_of_arguments(context)
    if element != OTHER_TYPE:
        reply_field_value(context, element)
    return 0


@linked(HANDLER)
def hstrlen(context):  # type: ignore[no-untyped-def]
    """HSTRLEN key field"""
    element = _element_of_arguments(context)
    if element != OTHER_TYPE:
        reply_integer(context, element_payload_length(context.space, element) if element != 0 else 0)
    return 0


@linked(HANDLER)
def hexists(context):  # type: ignore[no-untyped-def]
    """HEXISTS key field"""
    element = _element_of_arguments(context)
    if element != OTHER_TYPE:
        reply_integer(context, 1 if element != 0 else 0)
    return 0


@linked(HANDLER)
def hmget(context):  # type: ignore[no-untyped-def]
    """HMGET key field [field ...]"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry == OTHER_TYPE:
        return 0
    count, start = context.call[ARGC] - 2, reply_length(context)
    if goes_aside(context, count):
        return BLOCKS
    limit = reply_limit(context, start)
    reply_array(context, count)
    for i in range(2, count + 2):
        field, k = argument(context, i)
        reply_field_value(context, live_find(context, entry_root(context, entry), field, k) if entry != 0 else 0)
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return BLOCKS
        if is_given_up(context):
            break
    return 0


@kernel
def live_count(context, root):  # type: ignore[no-untyped-def]
    """How many fields a hash has whose deadline has not passed."""
    return root_count(context.space, root) - fields_hidden(context, root)


@linked(HANDLER)
def hlen(context):  # type: ignore[no-untyped-def]
    """HLEN key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry != OTHER_TYPE:
        reply_integer(context, live_count(context, entry_root(context, entry)) if entry != 0 else 0)
    return 0


@linked(int64(CONTEXT, int64))
def _reply_all(context, parts):  # type: ignore[no-untyped-def]
    """All fields, all values, or both, as a map."""
    space, element = context.space, 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry == OTHER_TYPE:
        return 0
    count, hidden, root = 0, 0, 0
    if entry != 0:
        root = entry_root(context, entry)
        count, hidden = root_count(space, root), fields_hidden(context, root)
    if goes_aside(context, count):
        return BLOCKS
    count -= hidden
    start = reply_length(context)
    limit = reply_limit(context, start)
    if parts == FIELDS | VALUES:
        reply_map(context, count)
    else:
        reply_array(context, count)
    walk = words_at(context.shard[SCRATCH_ADDRESS], WALK_WORDS)
    if entry != 0:
        walk_begin(space, root, walk)
        element = walk_next(space, walk)
    while element != 0 and not is_given_up(context):
        shown = hidden == 0 or not is_element_due(context, root, element)
        if shown and parts & FIELDS:
            reply_key(context, element)
        if shown and parts & VALUES:
            reply_payload(context, element)
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return BLOCKS
        element = walk_next(space, walk)
    return 0


@linked(HANDLER)
def hgetall(context):  # type: ignore[no-untyped-def]
    """HGETALL key"""
    return _reply_all(context, FIELDS | VALUES)


@linked(HANDLER)
def hkeys(context):  # type: ignore[no-untyped-def]
    """HKEYS key"""
    return _reply_all(context, FIELDS)


@linked(HANDLER)
def hvals(context):  # type: ignore[no-untyped-def]
    """HVALS key"""
    return _reply_all(context, VALUES)
