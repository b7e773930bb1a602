"""SCARD, SISMEMBER, SMISMEMBER, SMEMBERS."""

from kvstore.commands.elements import reply_key
from kvstore.commands.sets.members import KEY, SIZE, members_begin, members_next, members_of
from kvstore.commands.sets.value import set_has
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import SET, entry_root
from kvstore.store.leaving import reply_goes_on, reply_leaves, reply_limit
from kvstore.structures.collection import root_count
from kvstore.structures.ints import ints_at
from kvstore.structures.kinds import INTS, kind_of
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_bulk_integer,
    reply_integer,
    reply_length,
    reply_set,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, void


@kernel
def reply_member(context):  # type: ignore[no-untyped-def]
    """The member at hand of a walk (members.py)."""
    members = members_of(context)
    reply_bulk(context, bytes_at(members[KEY], members[SIZE]), 0, members[SIZE])


@linked(int64(CONTEXT, int64, int64))
def reply_members(context, root, limit):  # type: ignore[no-untyped-def]
    """All members of a set; returns BLOCKS if the read goes aside when it reaches `limit`, else SERVED."""
    start = reply_length(context)
    reply_set(context, root_count(context.space, root))
    members_begin(context, root)
    while members_next(context):
        reply_member(context)
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return BLOCKS
    return SERVED


@linked(void(CONTEXT, int64, int64))
def reply_drawn(context, root, drawn):  # type: ignore[no-untyped-def]
    """A member that was drawn (kvstore/commands/drawing.py): an element, or a place in INTS."""
    space = context.space
    if kind_of(space, root) == INTS:
        reply_bulk_integer(context, ints_at(space, root, drawn))
    else:
        reply_key(context, drawn)


@linked(HANDLER)
def scard(context):  # type: ignore[no-untyped-def]
    """SCARD key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, SET)
    if entry != OTHER_TYPE:
        reply_integer(context, root_count(context.space, entry_root(context, entry)) if entry != 0 else 0)
    return 0


@linked(HANDLER)
def sismember(context):  # type: ignore[no-untyped-def]
    """SISMEMBER key member"""
    key, key_size = argument(context, 1)
    member, k = argument(context, 2)
    entry = collection_read(context, key, key_size, SET)
    if entry != OTHER_TYPE:
        reply_integer(context, set_has(context, entry_root(context, entry), member, k) if entry != 0 else 0)
    return 0


@linked(HANDLER)
def smismember(context):  # type: ignore[no-untyped-def]
    """SMISMEMBER key member [member ...]"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, SET)
    if entry == OTHER_TYPE:
        return 0
    root = entry_root(context, entry) if entry != 0 else 0
    if goes_aside(context, context.call[ARGC] - 2):
        return BLOCKS
    reply_array(context, context.call[ARGC] - 2)
    for i in range(2, context.call[ARGC]):
        member, k = argument(context, i)
        reply_integer(context, set_has(context, root, member, k) if root != 0 else 0)
        reply_leaves(context)
        if is_given_up(context):
            break
    return 0


@linked(HANDLER)
def smembers(context):  # type: ignore[no-untyped-def]
    """SMEMBERS key"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, SET)
    if entry == 0:
        reply_set(context, 0)
    elif entry != OTHER_TYPE:
        if goes_aside(context, root_count(context.space, entry_root(context, entry))):
            return BLOCKS
        return reply_members(context, entry_root(context, entry), reply_limit(context, reply_length(context)))
    return 0
