"""Finding a key.  A lookup checks the deadline first and deletes an expired key.

A key is passed as `count` bytes at an address of the process.  So it may be an argument of the current command, or lie
in another call's buffer or in Python's memory.
"""

from kvstore.effects.door import changed, is_heard, noticed
from kvstore.effects.events import EXPIRED, KEYMISS
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import COMMANDS_PROCESSED, DUE_HIDDEN, EXPIRED_KEYS, KEYSPACE_HITS, KEYSPACE_MISSES, NOW_MS
from kvstore.lifetimes.store import HASH_SEED, READ_ONLY
from kvstore.store.clocks import clock_touch
from kvstore.store.databases import FRAMES_TO_REMOVE, KEYS, TIMES, db_load, key_base
from kvstore.store.dated import forget_dated, is_dated
from kvstore.store.entries import (
    EXPIRY,
    NO_DEADLINE,
    entry_deadline,
    entry_flags,
    entry_free,
    entry_key,
    entry_key_length,
)
from kvstore.store.index import entry_of, index_find, index_find_entry
from kvstore.store.layout import DB_KEY_BUCKETS, DB_KEY_REGION, DESCRIPTOR_SIZE, DESCRIPTORS, INDEX_BASE, INDEX_STRIDE
from kvstore.store.membership import delete_entry, remove_slot
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at, free, malloc
from mmcore.frames import has_frames
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.mmu import copy_out, load64, read_address


@linked(int64(CONTEXT, int64, int64))
def key_hash(context, key, count):  # type: ignore[no-untyped-def]
    """Hash of a key of `count` bytes at `key`."""
    return hash_bytes(bytes_at(key, count), 0, count, context.store[HASH_SEED])


@kernel
def find_slot(context, db, key, count, hash_):  # type: ignore[no-untyped-def]
    """Slot of a key of `db`, or 0; ignores the deadline."""
    pa, memory = read_address(context.space, DESCRIPTORS + db * DESCRIPTOR_SIZE), context.space.mem.bytes
    base = INDEX_BASE + INDEX_STRIDE * bytes64(memory, pa + DB_KEY_REGION)
    buckets = bytes64(memory, pa + DB_KEY_BUCKETS)
    return index_find(context, base, buckets, hash_, key, count)


@linked(void(CONTEXT, int64, int64, int64, int64))
def tell_gone(context, db, entry, hash_, event):  # type: ignore[no-untyped-def]
    """Announce that an entry of `db`, which still exists, goes without a command: EXPIRED or EVICTED."""
    if not is_heard(context):
        return
    count = entry_key_length(context, entry)
    key = malloc(max(count, 1))
    assert key != 0, "out of memory for a key that goes"
    copy_out(context.space, entry_key(context, entry), bytes_at(key, count), 0, count)
    changed(context, db, key, count, hash_, event, 0)
    free(key)


@kernel
def tell_expired(context, db, entry, hash_):  # type: ignore[no-untyped-def]
    """Count an entry of `db` that is due, and announce its expiry.  The entry still exists."""
    context.shard[EXPIRED_KEYS] += 1
    tell_gone(context, db, entry, hash_, EXPIRED)


@linked(void(CONTEXT, int64, int64, int64))
def delete_expired(context, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the due entry that a slot points at.  Save points do not count this as a change."""
    tell_expired(context, db, entry_of(load64(context.space, slot)), hash_)
    delete_entry(context, db, slot, hash_)


@linked(void(CONTEXT, int64, int64, int64, int64))
def delete_met(context, db, time_slot, hash_, entry):  # type: ignore[no-untyped-def]
    """Like delete_expired, by the entry's slot in the index of deadlines; the caller shrinks the tables."""
    slot = index_find_entry(context, key_base(context, db), db_load(context, db, DB_KEY_BUCKETS), hash_, entry)
    assert slot != 0, "an entry with a deadline is not among the keys"
    tell_expired(context, db, entry, hash_)
    if is_dated(context, entry):
        forget_dated(context, db, entry)
    remove_slot(context, db, TIMES, hash_, time_slot)
    remove_slot(context, db, KEYS, hash_, slot)
    entry_free(context, entry)


@linked(int64(CONTEXT, int64, int64, int64))
def expire_if_due(context, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the slot's entry if it is due; returns 1 if it was due, else 0.

    A read-only store, or one short of frames, keeps the entry, but still hides it.  In the latter case the command must
    get no frames later (reserve.py): it would add a key that is there.
    """
    deadline = entry_deadline(context, entry_of(load64(context.space, slot)))
    if deadline == NO_DEADLINE or deadline > context.shard[NOW_MS]:
        return 0
    if context.store[READ_ONLY] == 0:
        if has_frames(context.space, FRAMES_TO_REMOVE):
            delete_expired(context, db, slot, hash_)
        else:
            context.shard[DUE_HIDDEN] = context.shard[COMMANDS_PROCESSED] + 1
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def lookup(context, db, key, count, hash_):  # type: ignore[no-untyped-def]
    """Slot of a live key of `db`, or 0.  Notes no use."""
    slot = find_slot(context, db, key, count, hash_)
    if slot != 0 and entry_flags(context, entry_of(load64(context.space, slot))) & EXPIRY:
        if expire_if_due(context, db, slot, hash_):
            return 0
    return slot


@linked(int64(CONTEXT, int64, int64, int64))
def lookup_write(context, key, count, hash_):  # type: ignore[no-untyped-def]
    """Slot of a key of the selected database, to be changed; 0 when there is none."""
    slot = lookup(context, context.call[DB], key, count, hash_)
    if slot != 0:
        clock_touch(context, context.call[DB], hash_)
    return slot


@kernel
def count_lookup(context, found):  # type: ignore[no-untyped-def]
    """Count a hit or a miss."""
    if found:
        context.shard[KEYSPACE_HITS] += 1
    else:
        context.shard[KEYSPACE_MISSES] += 1


@kernel
def note_lookup(context, found, key, count, hash_):  # type: ignore[no-untyped-def]
    """Count a hit, or count and announce a miss, of a key of the selected database."""
    count_lookup(context, found)
    if not found:
        noticed(context, context.call[DB], key, count, hash_, KEYMISS)


@linked(int64(CONTEXT, int64, int64))
def lookup_peek(context, key, count):  # type: ignore[no-untyped-def]
    """The entry of a key of the selected database, or 0.  Notes a hit or a miss, but no use."""
    hash_ = key_hash(context, key, count)
    slot = lookup(context, context.call[DB], key, count, hash_)
    note_lookup(context, slot != 0, key, count, hash_)
    return entry_of(load64(context.space, slot)) if slot != 0 else 0


@linked(int64(CONTEXT, int64, int64))
def lookup_read(context, key, count):  # type: ignore[no-untyped-def]
    """Like lookup_peek, but notes a use."""
    hash_ = key_hash(context, key, count)
    slot = lookup(context, context.call[DB], key, count, hash_)
    note_lookup(context, slot != 0, key, count, hash_)
    if slot == 0:
        return 0
    clock_touch(context, context.call[DB], hash_)
    return entry_of(load64(context.space, slot))


@linked(int64(CONTEXT, int64, int64, int64))
def key_deadline(context, key, count, hash_):  # type: ignore[no-untyped-def]
    """Deadline [Unix ms] of a key of the selected database; -1 without one, -2 without the key."""
    slot = lookup(context, context.call[DB], key, count, hash_)
    return -2 if slot == 0 else entry_deadline(context, entry_of(load64(context.space, slot)))
