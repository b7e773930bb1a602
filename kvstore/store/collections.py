"""Values with a root: finding, making, replacing and removing the key of a list, set, sorted set or hash.

    entry = collection_read(context, key, size, HASH)          0 without the key, -1 with -WRONGTYPE replied
    slot = collection_write(context, key, size, hash, HASH)    the same, for a command that changes the value
    i, slot, hash = collection_first(context, i, keys, HASH)   the same, for the first key of several that exists
    entry = collection_new(context, key, size, hash, HASH, encoding, root)
    collection_lost(context, key, size, hash, event, removed, left)    elements were removed, and with the last the key
    collection_gone(context, key, size, hash)                  its last element was removed, so the key goes, too
    collection_publish(context, ...)                           a value that was built aside replaces what the key held

A root may move when its value changes.  `entry_set_root` notes the new one.

A command reserves frames first: `reserve_elements` to add elements, `reserve_removal_of` to remove some (reserve.py).
"""

from kvstore.effects.door import changed, noticed
from kvstore.effects.events import DEL, NEW
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import LONG_ADDRESS, LONG_CAPACITY
from kvstore.store.entries import (
    ENCODING_SHIFT,
    NO_DEADLINE,
    ROOT_SIZE,
    TYPE_SHIFT,
    entry_alloc,
    entry_flags,
    entry_set_flags,
    entry_set_root,
    entry_type,
    header_size,
)
from kvstore.store.index import entry_of
from kvstore.store.lookup import find_slot, key_hash, lookup, lookup_read, lookup_write
from kvstore.store.membership import add_entry, delete_entry
from kvstore.structures.element import pin
from kvstore.system.libc import bytes_at, realloc
from kvstore.wire.arguments import argument
from kvstore.wire.errors import WRONG_TYPE
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import copy_in, copy_out, load64

OTHER_TYPE = -1


@linked(int64(CONTEXT, int64, int64, int64))
def collection_read(context, key, size, type_):  # type: ignore[no-untyped-def]
    """The entry of a key of the selected database; 0 without one, OTHER_TYPE with -WRONGTYPE replied."""
    entry = lookup_read(context, key, size)
    if entry != 0 and entry_type(context, entry) != type_:
        reply_error(context, WRONG_TYPE)
        return OTHER_TYPE
    return entry


@linked(int64(CONTEXT, int64, int64, int64, int64))
def collection_write(context, key, size, hash_, type_):  # type: ignore[no-untyped-def]
    """The slot of a key that will be changed; 0 without one, OTHER_TYPE with -WRONGTYPE replied."""
    slot = lookup_write(context, key, size, hash_)
    if slot != 0 and entry_type(context, entry_of(load64(context.space, slot))) != type_:
        reply_error(context, WRONG_TYPE)
        return OTHER_TYPE
    return slot


@kernel
def collection_first(context, first, keys, type_):  # type: ignore[no-untyped-def]
    """(i, slot, hash) of the first key that exists among `keys` arguments from `first` on, to be changed.

    The slot is 0 if there is none, and OTHER_TYPE with -WRONGTYPE replied if a key before it has another type.
    """
    i, slot, hash_ = first, 0, 0
    while i < first + keys:
        key, size = argument(context, i)
        hash_ = key_hash(context, key, size)
        slot = collection_write(context, key, size, hash_, type_)
        if slot != 0:
            break
        i += 1
    return i, slot, hash_


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _add(context, key, size, hash_, type_, encoding, root):  # type: ignore[no-untyped-def]
    """A new entry with this root.  Frames were reserved."""
    entry = entry_alloc(context, size, ROOT_SIZE, NO_DEADLINE)
    assert entry != 0, "no frame was reserved for an entry"
    copy_in(context.space, entry + header_size(size), bytes_at(key, size), 0, size)
    entry_set_flags(context, entry, entry_flags(context, entry) | type_ << TYPE_SHIFT | encoding << ENCODING_SHIFT)
    entry_set_root(context, entry, root)
    add_entry(context, context.call[DB], hash_, entry, NO_DEADLINE)
    return entry


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def collection_new(context, key, size, hash_, type_, encoding, root):  # type: ignore[no-untyped-def]
    """The new entry of a key that does not exist, with this root.  Frames were reserved."""
    noticed(context, context.call[DB], key, size, hash_, NEW)
    return _add(context, key, size, hash_, type_, encoding, root)


@linked(void(CONTEXT, int64, int64, int64))
def collection_gone(context, key, size, hash_):  # type: ignore[no-untyped-def]
    """Delete a key whose value has no elements left, and announce that.  Its root has been freed or is empty."""
    slot = lookup(context, context.call[DB], key, size, hash_)
    assert slot != 0, "a key without elements is missing"
    delete_entry(context, context.call[DB], slot, hash_)
    changed(context, context.call[DB], key, size, hash_, DEL, 0)


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64))
def collection_lost(context, key, size, hash_, event, removed, left):  # type: ignore[no-untyped-def]
    """Announce that `removed` elements were removed from a key's value and `left` remain; with 0 left the key goes."""
    if removed > 0:
        changed(context, context.call[DB], key, size, hash_, event, removed)
        if left == 0:
            collection_gone(context, key, size, hash_)


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def collection_publish(context, key, size, hash_, type_, encoding, root, event):  # type: ignore[no-untyped-def]
    """Give a key a value that was built aside, in place of what it held, and announce `event`.

    With root 0 the result is empty: a key that exists is deleted, even one that is due.  Frames were reserved.
    """
    db = context.call[DB]
    slot = find_slot(context, db, key, size, hash_) if root == 0 else lookup(context, db, key, size, hash_)
    if slot != 0:
        delete_entry(context, db, slot, hash_)
    if root == 0 and slot != 0:
        changed(context, db, key, size, hash_, DEL, 1)
    if root != 0:
        if slot == 0:
            noticed(context, db, key, size, hash_, NEW)
        _add(context, key, size, hash_, type_, encoding, root)
        changed(context, db, key, size, hash_, event, 1)


@linked(int64(CONTEXT, int64, int64))
def held(context, va, count):  # type: ignore[no-untyped-def]
    """Address in the process of the `count` bytes at `va` of the space, to be passed on as a key.

    Bytes across pages are copied to memory of the shard.  The address is valid until the bytes change, or until the
    next call of `held`.
    """
    address = pin(context.space, va, count)
    if address != 0:
        return address
    shard = context.shard
    if count > shard[LONG_CAPACITY]:
        address = realloc(shard[LONG_ADDRESS], count)
        assert address != 0, "out of memory for a long key"
        shard[LONG_ADDRESS], shard[LONG_CAPACITY] = address, count
    copy_out(context.space, va, bytes_at(shard[LONG_ADDRESS], count), 0, count)
    return shard[LONG_ADDRESS]
