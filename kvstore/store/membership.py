"""Adding entries to a database's two indices, and removing them.

A database has an index of all its entries, and one of those with a deadline, which active expiry walks.  Each addition
may split a bucket, and each removal may merge two.

Commands that write reserve frames first (reserve.py), so no function here runs out of frames half-way.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clocks import clock_begin
from kvstore.store.copies import is_shared
from kvstore.store.databases import KEYS, TIMES, db_load, db_store, deadline_base, key_base
from kvstore.store.dated import forget_dated, is_dated, note_dated
from kvstore.store.entries import EXPIRY, NO_DEADLINE, entry_flags, entry_free
from kvstore.store.index import (
    BUCKETS_MIN,
    LOAD_MAX,
    entry_of,
    index_find_entry,
    index_has_hash,
    index_merge,
    index_put,
    index_remove,
    index_split,
)
from kvstore.store.layout import DB_DEADLINE_BUCKETS, DB_KEY_BUCKETS, DB_KEY_REGION, DB_KEYS, INDEX_BASE, INDEX_STRIDE
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64

FRAMES_TO_SHRINK = 64  # for a merge, which can wait


@kernel
def has_hash(context, db, hash_):  # type: ignore[no-untyped-def]
    """Whether some key of `db` has this hash (0 or 1)."""
    return index_has_hash(
        context, key_base(context, db), db_load(context, db, DB_KEY_BUCKETS), hash_, context.store[HASH_SEED]
    )


@linked(void(CONTEXT, int64, int64))
def grow(context, db, which):  # type: ignore[no-untyped-def]
    """Split one bucket of a table, or make its first ones, if one more entry needs it."""
    count = db_load(context, db, DB_KEYS + 8 * which)
    buckets = db_load(context, db, DB_KEY_BUCKETS + 8 * which)
    if count >= LOAD_MAX * buckets:
        base = INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION + 8 * which)
        db_store(context, db, DB_KEY_BUCKETS + 8 * which, index_split(context, base, buckets, context.store[HASH_SEED]))


@linked(int64(CONTEXT, int64, int64))
def shrink(context, db, which):  # type: ignore[no-untyped-def]
    """Merge two buckets of a table if its load is low enough; returns the number of merges.

    Merges wait until a snapshot has ended, unless the table is so empty that random draws from it take too long.  In
    that case two merges for each removed key keep it from becoming emptier.
    """
    count = db_load(context, db, DB_KEYS + 8 * which)
    buckets = db_load(context, db, DB_KEY_BUCKETS + 8 * which)
    sparse = 2 * count < buckets
    if buckets <= BUCKETS_MIN or 2 * count >= 3 * buckets or (is_shared(context) and not sparse):
        return 0
    if not has_frames(context.space, FRAMES_TO_SHRINK):
        return 0
    base = INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION + 8 * which)
    left = index_merge(context, base, buckets)
    if sparse:
        left = index_merge(context, base, left)
    db_store(context, db, DB_KEY_BUCKETS + 8 * which, left)
    return buckets - left


@kernel
def _add(context, db, which, hash_, entry):  # type: ignore[no-untyped-def]
    grow(context, db, which)
    base = INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION + 8 * which)
    code = index_put(context, base, db_load(context, db, DB_KEY_BUCKETS + 8 * which), hash_, entry)
    assert code == 0, "no frame was reserved for an overflow bucket"
    db_store(context, db, DB_KEYS + 8 * which, db_load(context, db, DB_KEYS + 8 * which) + 1)


@kernel
def remove_slot(context, db, which, hash_, slot):  # type: ignore[no-untyped-def]
    base = INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION + 8 * which)
    index_remove(context, base, db_load(context, db, DB_KEY_BUCKETS + 8 * which), hash_, slot)
    db_store(context, db, DB_KEYS + 8 * which, db_load(context, db, DB_KEYS + 8 * which) - 1)


@linked(void(CONTEXT, int64, int64, int64))
def add_deadline(context, db, hash_, entry):  # type: ignore[no-untyped-def]
    _add(context, db, TIMES, hash_, entry)


@kernel
def deadline_slot(context, db, hash_, entry):  # type: ignore[no-untyped-def]
    slot = index_find_entry(
        context, deadline_base(context, db), db_load(context, db, DB_DEADLINE_BUCKETS), hash_, entry
    )
    assert slot != 0, "an entry with a deadline is missing from their index"
    return slot


@linked(void(CONTEXT, int64, int64, int64))
def remove_deadline(context, db, hash_, entry):  # type: ignore[no-untyped-def]
    remove_slot(context, db, TIMES, hash_, deadline_slot(context, db, hash_, entry))


@linked(void(CONTEXT, int64, int64, int64, int64))
def add_entry(context, db, hash_, entry, deadline):  # type: ignore[no-untyped-def]
    """Add a new entry to its database.  Its key counts as used now."""
    _add(context, db, KEYS, hash_, entry)
    clock_begin(context, db, hash_)
    if deadline != NO_DEADLINE:
        add_deadline(context, db, hash_, entry)
    if is_dated(context, entry):
        note_dated(context, db, entry, 1)


@linked(void(CONTEXT, int64, int64, int64))
def unlink_entry(context, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Remove an entry from its database without freeing it.  Other entries may move to other slots."""
    entry = entry_of(load64(context.space, slot))
    if entry_flags(context, entry) & EXPIRY:
        remove_deadline(context, db, hash_, entry)
        shrink(context, db, TIMES)
    if is_dated(context, entry):
        forget_dated(context, db, entry)
    remove_slot(context, db, KEYS, hash_, slot)
    shrink(context, db, KEYS)


@linked(void(CONTEXT, int64, int64, int64))
def delete_entry(context, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the entry that a slot points at.  Other entries may move to other slots."""
    entry = entry_of(load64(context.space, slot))
    unlink_entry(context, db, slot, hash_)
    entry_free(context, entry)
