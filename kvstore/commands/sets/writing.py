"""SADD, SREM, SMOVE, SPOP.

SADD and SMOVE are bounded by their arguments, SREM and SPOP remove: all reserve frames, and then cannot fail.
"""

from kvstore.commands.sets.popping import pop_one, pop_some
from kvstore.commands.sets.reading import reply_members
from kvstore.commands.sets.value import (
    CONVERSION_BYTES,
    ENCODING,
    ROOT,
    draft_load,
    draft_new,
    draft_of,
    draft_store,
    reserve_members,
    reshape,
    set_add,
    set_has,
    set_remove,
)
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import SADD, SPOP, SREM
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import SET_MAX_INTSET_ENTRIES, SET_MAX_LISTPACK_ENTRIES
from kvstore.store.collections import collection_gone, collection_lost, collection_new, collection_write
from kvstore.store.entries import SET, entry_root, entry_type
from kvstore.store.lookup import key_hash, lookup_write
from kvstore.store.reserve import BYTES_PER_CHANGE, reserve_change, reserve_removal, reserve_removal_of
from kvstore.store.types import COMPACT, INTSET, WIDE
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_size
from kvstore.structures.kinds import RECORD, kind_of
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import arg_length, argument, integer_argument, parse_integer
from kvstore.wire.errors import NOT_POSITIVE, OUT_OF_DRAWS, SYNTAX, WRONG_TYPE
from kvstore.wire.resp import reply_error, reply_integer, reply_null, reply_set
from mmcore.jit import int64, kernel, linked, void


@kernel
def _first_encoding(context, member, k, members):  # type: ignore[no-untyped-def]
    # The encoding in which Redis begins a set that gets so many members, the first of them these k bytes.
    valid, _ = parse_integer(bytes_at(member, k), 0, k)
    if valid and members <= context.shard[SET_MAX_INTSET_ENTRIES]:
        return INTSET
    return COMPACT if members <= context.shard[SET_MAX_LISTPACK_ENTRIES] else WIDE


@linked(void(CONTEXT, int64))
def _widen_for(context, members):  # type: ignore[no-untyped-def]
    """Do as Redis, which takes the members to be added, counted twice or not, for the size of the set."""
    shard, encoding = context.shard, draft_of(context)[ENCODING]
    if (encoding == COMPACT and members > shard[SET_MAX_LISTPACK_ENTRIES]) or (
        encoding == INTSET and members > shard[SET_MAX_INTSET_ENTRIES]
    ):
        reshape(context, WIDE)


@linked(HANDLER)
def sadd(context):  # type: ignore[no-untyped-def]
    """SADD key member [member ...]"""
    key, key_size = argument(context, 1)
    hash_, argc = key_hash(context, key, key_size), context.call[ARGC]
    slot = collection_write(context, key, key_size, hash_, SET)
    if slot < 0:
        return 0
    entry, size, added = slot_entry(context, slot), key_size, 0
    for i in range(2, argc):
        size += element_size(arg_length(context, i), 0)
    if not reserve_members(context, entry_root(context, entry) if entry != 0 else 0, argc - 2, size):
        return 0
    if entry == 0:
        member, k = argument(context, 2)
        draft_new(context, _first_encoding(context, member, k, argc - 2))
    else:
        draft_load(context, entry)
        _widen_for(context, argc - 2)
    for i in range(2, argc):
        member, k = argument(context, i)
        added += set_add(context, member, k)
    if entry == 0:
        draft = draft_of(context)
        collection_new(context, key, key_size, hash_, SET, draft[ENCODING], draft[ROOT])
    else:
        draft_store(context, entry)
    if added > 0:
        changed(context, context.call[DB], key, key_size, hash_, SADD, added)
    reply_integer(context, added)
    return 0


@linked(HANDLER)
def srem(context):  # type: ignore[no-untyped-def]
    """SREM key member [member ...]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, SET)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    if not reserve_removal_of(context, context.call[ARGC] - 2):
        return 0
    entry, removed, left = slot_entry(context, slot), 0, 1
    draft_load(context, entry)
    for i in range(2, context.call[ARGC]):
        member, k = argument(context, i)
        if set_remove(context, member, k):
            removed += 1
            left = root_count(context.space, draft_of(context)[ROOT])
            if left == 0:
                break
    if removed > 0:
        draft_store(context, entry)
    collection_lost(context, key, key_size, hash_, SREM, removed, left)
    reply_integer(context, removed)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _reserve_move(context, entry, size):  # type: ignore[no-untyped-def]
    """Whether a member may move to the set of an entry, 0 for a new one, with `size` bytes; else it replies -OOM."""
    moved = 0
    if entry != 0 and kind_of(context.space, entry_root(context, entry)) != RECORD:
        moved = root_count(context.space, entry_root(context, entry))
    return reserve_change(context, moved + 4, size + CONVERSION_BYTES + BYTES_PER_CHANGE)


@linked(void(CONTEXT, int64, int64))
def _move_out(context, entry, hash_):  # type: ignore[no-untyped-def]
    """Remove the member in argument 3, which is there, from the set of an entry, whose key is in argument 1."""
    key, key_size = argument(context, 1)
    member, k = argument(context, 3)
    draft_load(context, entry)
    set_remove(context, member, k)
    draft_store(context, entry)
    changed(context, context.call[DB], key, key_size, hash_, SREM, 1)
    if root_count(context.space, draft_of(context)[ROOT]) == 0:
        collection_gone(context, key, key_size, hash_)


@linked(void(CONTEXT, int64, int64))
def _move_in(context, entry, hash_):  # type: ignore[no-untyped-def]
    """Add the member in argument 3 to the set of an entry, or to a new one, whose key is in argument 2."""
    key, key_size = argument(context, 2)
    member, k = argument(context, 3)
    if entry == 0:
        draft_new(context, _first_encoding(context, member, k, 1))
    else:
        draft_load(context, entry)
    added = set_add(context, member, k)
    if entry == 0:
        draft = draft_of(context)
        collection_new(context, key, key_size, hash_, SET, draft[ENCODING], draft[ROOT])
    else:
        draft_store(context, entry)
    if added:
        changed(context, context.call[DB], key, key_size, hash_, SADD, 1)


@linked(HANDLER)
def smove(context):  # type: ignore[no-untyped-def]
    """SMOVE source destination member"""
    source, source_size = argument(context, 1)
    target, target_size = argument(context, 2)
    member, k = argument(context, 3)
    source_hash, target_hash = key_hash(context, source, source_size), key_hash(context, target, target_size)
    # An entry stays where it is, while its slot may move in the next lookup.
    entry = slot_entry(context, lookup_write(context, source, source_size, source_hash))
    target_entry = slot_entry(context, lookup_write(context, target, target_size, target_hash))
    if entry == 0:
        reply_integer(context, 0)
        return 0
    if entry_type(context, entry) != SET or (target_entry != 0 and entry_type(context, target_entry) != SET):
        reply_error(context, WRONG_TYPE)
        return 0
    has = set_has(context, entry_root(context, entry), member, k)
    if has and entry != target_entry:
        if not _reserve_move(context, target_entry, target_size + element_size(k, 0)):
            return 0
        _move_out(context, entry, source_hash)
        _move_in(context, target_entry, target_hash)
    reply_integer(context, has)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _pop_all(context, entry, hash_):  # type: ignore[no-untyped-def]
    """Reply with all members of the set in argument 1, and delete it."""
    if not reserve_removal(context, 1):
        return 0
    key, key_size = argument(context, 1)
    root = entry_root(context, entry)
    reply_members(context, root, NEVER)
    changed(context, context.call[DB], key, key_size, hash_, SPOP, root_count(context.space, root))
    collection_gone(context, key, key_size, hash_)
    return 0


@linked(HANDLER)
def spop(context):  # type: ignore[no-untyped-def]
    """SPOP key [count]"""
    argc, count = context.call[ARGC], 1
    if argc > 3:
        reply_error(context, SYNTAX)
        return 0
    if argc == 3:
        valid, count = integer_argument(context, 2)
        if not valid or count < 0:
            reply_error(context, NOT_POSITIVE)
            return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, SET)
    if slot < 0:
        return 0
    if slot == 0 or count == 0:
        if argc == 3:
            reply_set(context, 0)
        else:
            reply_null(context)
        return 0
    entry = slot_entry(context, slot)
    size = root_count(context.space, entry_root(context, entry))
    if argc == 3 and count >= size:
        return _pop_all(context, entry, hash_)
    if not reserve_removal_of(context, count):
        return 0
    draft_load(context, entry)
    if argc == 2:
        pop_one(context)
    elif not pop_some(context, count):
        reply_error(context, OUT_OF_DRAWS)
        return 0
    draft_store(context, entry)
    changed(context, context.call[DB], key, key_size, hash_, SPOP, count)
    if size == count:
        collection_gone(context, key, key_size, hash_)
    return 0
