"""HSET, HMSET, HSETNX, HDEL.  All are bounded by their arguments: they reserve frames, and then cannot fail."""

from kvstore.commands.hashes.value import conversion, field_discard, field_set, live_find, make_wide
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import HDEL, HSET
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import HASH_MAX_LISTPACK_ENTRIES
from kvstore.store.collections import collection_gone, collection_new, collection_write
from kvstore.store.dated import agenda_of
from kvstore.store.entries import HASH, entry_root
from kvstore.store.fields import refresh_field, tell_fields_expired
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements, reserve_removal_of
from kvstore.store.types import COMPACT
from kvstore.structures.chain import CHAIN_MAX
from kvstore.structures.chain_change import chain_new
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_size
from kvstore.wire.arguments import arg_length, argument
from kvstore.wire.errors import HMSET_ARITY, HSET_ARITY
from kvstore.wire.resp import reply_error, reply_integer, reply_ok
from mmcore.jit import int64, kernel, linked, void


@linked(int64(CONTEXT, int64, int64, int64, int64))
def hash_for_writing(context, slot, key, key_size, hash_):  # type: ignore[no-untyped-def]
    """The entry of a hash to be changed: the slot's, or a new one without fields.  Frames were reserved."""
    if slot != 0:
        return slot_entry(context, slot)
    root = chain_new(context.space)
    assert root != 0, "no frame was reserved for a chain"
    return collection_new(context, key, key_size, hash_, HASH, COMPACT, root)


@kernel
def changes_of(context, slot, fields):  # type: ignore[no-untyped-def]
    """Changes that so many fields of a slot's hash make: two for each, if fields of it have deadlines."""
    return 2 * fields if agenda_of(context, entry_root(context, slot_entry(context, slot))) != 0 else fields


@linked(int64(CONTEXT, int64, int64, int64))
def reserve_fields(context, slot, fields, size):  # type: ignore[no-untyped-def]
    """Whether a hash may get so many fields of `size` bytes with their values; else it replies -OOM."""
    moved = 0
    if slot != 0:
        moved = conversion(context, entry_root(context, slot_entry(context, slot)))
        fields = changes_of(context, slot, fields)
    return reserve_elements(context, fields + moved, size + (2 * CHAIN_MAX if moved > 0 else 0))


@linked(void(CONTEXT, int64, int64, int64, int64))
def set_live(context, entry, hash_, value, v):  # type: ignore[no-untyped-def]
    """Set the field in argument 2 of the hash in argument 1, which keeps a deadline that has not passed."""
    key, key_size = argument(context, 1)
    field, k = argument(context, 2)
    expired = refresh_field(context, context.call[DB], entry, field, k, 1)
    tell_fields_expired(context, context.call[DB], key, key_size, hash_, expired)
    field_set(context, entry, field, k, value, v)


@linked(int64(CONTEXT, int64))
def _set_fields(context, arity_error):  # type: ignore[no-untyped-def]
    """HSET and HMSET: the number of new fields; -1 with an error replied."""
    argc = context.call[ARGC]
    if argc % 2 == 1:
        reply_error(context, arity_error)
        return -1
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot < 0:
        return -1
    size = key_size
    for i in range(2, argc, 2):
        size += element_size(arg_length(context, i), arg_length(context, i + 1))
    if not reserve_fields(context, slot, argc // 2 - 1, size):
        return -1
    entry, created, expired = hash_for_writing(context, slot, key, key_size, hash_), 0, 0
    for i in range(2, argc, 2):
        field, k = argument(context, i)
        value, v = argument(context, i + 1)
        expired += refresh_field(context, context.call[DB], entry, field, k, 0)
        created += field_set(context, entry, field, k, value, v)
    tell_fields_expired(context, context.call[DB], key, key_size, hash_, expired)
    if argc // 2 - 1 > context.shard[HASH_MAX_LISTPACK_ENTRIES]:
        make_wide(context, entry)  # as Redis does, which takes the fields for different ones
    changed(context, context.call[DB], key, key_size, hash_, HSET, argc // 2 - 1)
    return created


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64))
def tell_lost(context, key, key_size, hash_, removed, expired, left):  # type: ignore[no-untyped-def]
    """Announce that fields were removed and others expired; with 0 left the key goes."""
    tell_fields_expired(context, context.call[DB], key, key_size, hash_, expired)
    if removed > 0:
        changed(context, context.call[DB], key, key_size, hash_, HDEL, removed)
    if left == 0:
        collection_gone(context, key, key_size, hash_)


@linked(HANDLER)
def hset(context):  # type: ignore[no-untyped-def]
    """HSET key field value [field value ...]"""
    created = _set_fields(context, HSET_ARITY)
    if created >= 0:
        reply_integer(context, created)
    return 0


@linked(HANDLER)
def hmset(context):  # type: ignore[no-untyped-def]
    """HMSET key field value [field value ...]"""
    if _set_fields(context, HMSET_ARITY) >= 0:
        reply_ok(context)
    return 0


@linked(HANDLER)
def hsetnx(context):  # type: ignore[no-untyped-def]
    """HSETNX key field value"""
    key, key_size = argument(context, 1)
    field, k = argument(context, 2)
    value, v = argument(context, 3)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot < 0:
        return 0
    if slot != 0 and live_find(context, entry_root(context, slot_entry(context, slot)), field, k) != 0:
        reply_integer(context, 0)
        return 0
    if not reserve_fields(context, slot, 1, key_size + element_size(k, v)):
        return 0
    set_live(context, hash_for_writing(context, slot, key, key_size, hash_), hash_, value, v)
    changed(context, context.call[DB], key, key_size, hash_, HSET, 1)
    reply_integer(context, 1)
    return 0


@linked(HANDLER)
def hdel(context):  # type: ignore[no-untyped-def]
    """HDEL key field [field ...]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    if not reserve_removal_of(context, changes_of(context, slot, context.call[ARGC] - 2)):
        return 0
    entry, removed, left, expired = slot_entry(context, slot), 0, 1, 0
    for i in range(2, context.call[ARGC]):
        field, k = argument(context, i)
        expired += refresh_field(context, context.call[DB], entry, field, k, 1)
        removed += field_discard(context, context.call[DB], entry, field, k)
        if removed + expired > 0:
            left = root_count(context.space, entry_root(context, entry))
            if left == 0:
                break
    tell_lost(context, key, key_size, hash_, removed, expired, left)
    reply_integer(context, removed)
    return 0
