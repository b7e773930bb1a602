"""The keyspace: sixteen databases of entries, found by their keys.

A database is a descriptor in the control block (layout.py) and two indices: of all its entries, and of those with a
deadline, which active expiry walks.  An entry that is moved to another allocation is pointed at anew in both.

Who looks up a key first meets its deadline: an entry whose time has come is deleted then and there.  Every change of a
key goes through `touched`: it counts, and tells those who WATCH the key.

Commands that write reserve frames first (reserve.py), so nothing below can run out of them half-way.
"""

from kvstore.arguments import arg_length, arg_offset, query
from kvstore.entries import (
    EDITED,
    EXPIRY,
    HEADER,
    LARGE,
    RAW,
    entry_alloc,
    entry_deadline,
    entry_flags,
    entry_free,
    entry_key_length,
    entry_length,
    entry_set_deadline,
    entry_set_flags,
    entry_set_length,
    entry_set_value,
    entry_size,
    entry_touch,
    entry_value,
    is_large,
)
from kvstore.errors import OUT_OF_FRAMES
from kvstore.hash import hash_bytes
from kvstore.index import (
    ADDRESS,
    BUCKET_SIZE,
    BUCKETS_MIN,
    LINK,
    LOAD_MAX,
    PAGE_BUCKETS,
    SLOTS,
    entry_of,
    index_find,
    index_find_entry,
    index_has_hash,
    index_merge,
    index_put,
    index_remove,
    index_split,
    next_overflow,
    slot_word,
)
from kvstore.layout import (
    CONTROL_BASE,
    CONTROL_MAGIC,
    CONTROL_REGIONS,
    CONTROL_SEED,
    DATABASES,
    DB_DEADLINE_BUCKETS,
    DB_DEADLINE_REGION,
    DB_DEADLINES,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    INDEX_BASE,
    INDEX_STRIDE,
)
from kvstore.resp import reply_error
from kvstore.state import (
    DB,
    DIRTY,
    EXPIRED_KEYS,
    HASH_SEED,
    KEYSPACE_HITS,
    KEYSPACE_MISSES,
    MAXMEMORY,
    NOW_MS,
    RANDOM,
    SNAPSHOT_ALIVE,
    STORE,
    WATCHES,
    Store,
)
from kvstore.watch import touch_watched
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap import heap_init, heap_resize, heap_size, heap_used
from mmcore.jit import bytes64, fill_bytes, int64, kernel, linked, put64, void
from mmcore.mmu import copy_in, copy_within, load64, read_address, store64, write_address

FRAMES_TO_REMOVE = 128  # that must be free for a removal
FRAMES_TO_SHRINK = 64  # for a merge, which can wait
NO_DEADLINE = -1
CHAIN_MAX = 4  # buckets of a chain that random_entry looks into; longer ones there are none, by chance
KEYS, TIMES = 0, 1  # a database's two tables, and what of a descriptor is theirs
assert DB_DEADLINES == DB_KEYS + 8 and DB_DEADLINE_BUCKETS == DB_KEY_BUCKETS + 8
assert DB_DEADLINE_REGION == DB_KEY_REGION + 8

# ------------------------------------------------------------------------------------------------- the control block


@linked(int64(STORE))
def keyspace_init(store):  # type: ignore[no-untyped-def]
    """Make an empty store in an empty address space: 0 or NO_FRAME."""
    space = store.space
    if heap_init(space) != 0:
        return NO_FRAME
    if store.server[HASH_SEED] == 0:  # a store that is emptied keeps its seed, for watches know keys by their hash
        store.server[HASH_SEED] = next_random(store) ^ (next_random(store) << 32)
    pa = write_address(space, CONTROL_BASE)
    memory = space.mem.bytes
    fill_bytes(memory, pa, 0, DESCRIPTORS - CONTROL_BASE + DATABASES * DESCRIPTOR_SIZE)
    put64(memory, pa, CONTROL_MAGIC)
    put64(memory, pa + CONTROL_SEED, store.server[HASH_SEED])
    put64(memory, pa + CONTROL_REGIONS, (1 << (2 * DATABASES)) - 1)
    for db in range(DATABASES):
        at = pa + DESCRIPTORS - CONTROL_BASE + db * DESCRIPTOR_SIZE
        put64(memory, at + DB_KEY_REGION, 2 * db)
        put64(memory, at + DB_DEADLINE_REGION, 2 * db + 1)
    return 0


@linked(int64(STORE))
def keyspace_open(store):  # type: ignore[no-untyped-def]
    """Take over a store that is in the address space: 0, or -1 when it is none of this layout."""
    if load64(store.space, CONTROL_BASE) != CONTROL_MAGIC:
        return -1
    store.server[HASH_SEED] = load64(store.space, CONTROL_BASE + CONTROL_SEED)
    return 0


@kernel
def db_load(store, db, field):  # type: ignore[no-untyped-def]
    """A field of a database's descriptor."""
    return load64(store.space, DESCRIPTORS + db * DESCRIPTOR_SIZE + field)


@kernel
def db_store(store, db, field, value):  # type: ignore[no-untyped-def]
    """Set a field of a database's descriptor."""
    store64(store.space, DESCRIPTORS + db * DESCRIPTOR_SIZE + field, value)


@kernel
def key_base(store, db):  # type: ignore[no-untyped-def]
    """Address of the first bucket of a database's keys."""
    return INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_KEY_REGION)


@kernel
def deadline_base(store, db):  # type: ignore[no-untyped-def]
    """Address of the first bucket of a database's deadlines."""
    return INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_DEADLINE_REGION)


@linked(int64(STORE))
def index_pages(store):  # type: ignore[no-untyped-def]
    """Pages of all indices together."""
    pa = read_address(store.space, DESCRIPTORS)
    pages = 0
    for db in range(DATABASES):
        at = pa + db * DESCRIPTOR_SIZE
        pages += (bytes64(store.space.mem.bytes, at + DB_KEY_BUCKETS) + PAGE_BUCKETS - 1) // PAGE_BUCKETS
        pages += (bytes64(store.space.mem.bytes, at + DB_DEADLINE_BUCKETS) + PAGE_BUCKETS - 1) // PAGE_BUCKETS
    return pages


@linked(int64(STORE))
def memory_used(store):  # type: ignore[no-untyped-def]
    """What the store takes: entries and indices [bytes]."""
    return heap_used(store.space) + index_pages(store) * 4096


@linked(int64(STORE))
def memory_exceeded(store):  # type: ignore[no-untyped-def]
    """Whether the store takes more than maxmemory allows (0 or 1)."""
    limit = store.server[MAXMEMORY]
    return 1 if limit > 0 and memory_used(store) > limit else 0


@kernel
def next_random(store):  # type: ignore[no-untyped-def]
    """A random number below 2^62 (xorshift)."""
    state = store.server[RANDOM]
    state ^= state << 13
    state ^= (state >> 7) & 0x01FF_FFFF_FFFF_FFFF
    state ^= state << 17
    store.server[RANDOM] = state
    return state & 0x3FFF_FFFF_FFFF_FFFF


# ---------------------------------------------------------------------------------------------------------- changes


@kernel
def touched(store, db, hash_):  # type: ignore[no-untyped-def]
    """A key was changed: count it, and tell who watches it."""
    store.server[DIRTY] += 1
    if store.server[WATCHES] > 0:
        touch_watched(store, db, hash_)


@linked(int64(STORE, int64))
def key_hash(store, i):  # type: ignore[no-untyped-def]
    """Hash of the key that argument i is."""
    return hash_bytes(query(store), arg_offset(store, i), arg_length(store, i), store.server[HASH_SEED])


@kernel
def find_slot(store, db, i, hash_):  # type: ignore[no-untyped-def]
    """Slot of the key that argument i is, or 0, whatever its deadline."""
    pa, memory = read_address(store.space, DESCRIPTORS + db * DESCRIPTOR_SIZE), store.space.mem.bytes
    base = INDEX_BASE + INDEX_STRIDE * bytes64(memory, pa + DB_KEY_REGION)
    buckets = bytes64(memory, pa + DB_KEY_BUCKETS)
    return index_find(store, base, buckets, hash_, arg_offset(store, i), arg_length(store, i))


@kernel
def has_hash(store, db, hash_):  # type: ignore[no-untyped-def]
    """Whether some key of `db` has this hash (0 or 1)."""
    return index_has_hash(
        store, key_base(store, db), db_load(store, db, DB_KEY_BUCKETS), hash_, store.server[HASH_SEED]
    )


@linked(void(STORE, int64, int64))
def grow(store, db, which):  # type: ignore[no-untyped-def]
    """Split one bucket of a table, or make its first ones, where one more entry asks for it."""
    count = db_load(store, db, DB_KEYS + 8 * which)
    buckets = db_load(store, db, DB_KEY_BUCKETS + 8 * which)
    if count >= LOAD_MAX * buckets:
        base = INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_KEY_REGION + 8 * which)
        db_store(store, db, DB_KEY_BUCKETS + 8 * which, index_split(store, base, buckets, store.server[HASH_SEED]))


@linked(int64(STORE, int64, int64))
def shrink(store, db, which):  # type: ignore[no-untyped-def]
    """Merge two buckets of a table where its load asks for it; returns how many merges that were.

    A snapshot's life is waited for, unless the table has become so empty that to draw from it takes too long.  Then two
    merges for each key removed keep it from becoming emptier.
    """
    count = db_load(store, db, DB_KEYS + 8 * which)
    buckets = db_load(store, db, DB_KEY_BUCKETS + 8 * which)
    sparse = 2 * count < buckets
    if buckets <= BUCKETS_MIN or 2 * count >= 3 * buckets or (store.server[SNAPSHOT_ALIVE] and not sparse):
        return 0
    if not has_frames(store.space, FRAMES_TO_SHRINK):
        return 0
    base = INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_KEY_REGION + 8 * which)
    left = index_merge(store, base, buckets)
    if sparse:
        left = index_merge(store, base, left)
    db_store(store, db, DB_KEY_BUCKETS + 8 * which, left)
    return buckets - left


@kernel
def _add(store, db, which, hash_, entry):  # type: ignore[no-untyped-def]
    grow(store, db, which)
    base = INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_KEY_REGION + 8 * which)
    code = index_put(store, base, db_load(store, db, DB_KEY_BUCKETS + 8 * which), hash_, entry)
    assert code == 0, "no frame was reserved for an overflow bucket"
    db_store(store, db, DB_KEYS + 8 * which, db_load(store, db, DB_KEYS + 8 * which) + 1)


@kernel
def _remove(store, db, which, hash_, slot):  # type: ignore[no-untyped-def]
    base = INDEX_BASE + INDEX_STRIDE * db_load(store, db, DB_KEY_REGION + 8 * which)
    index_remove(store, base, db_load(store, db, DB_KEY_BUCKETS + 8 * which), hash_, slot)
    db_store(store, db, DB_KEYS + 8 * which, db_load(store, db, DB_KEYS + 8 * which) - 1)


@linked(void(STORE, int64, int64, int64))
def _add_deadline(store, db, hash_, entry):  # type: ignore[no-untyped-def]
    _add(store, db, TIMES, hash_, entry)


@kernel
def _deadline_slot(store, db, hash_, entry):  # type: ignore[no-untyped-def]
    slot = index_find_entry(store, deadline_base(store, db), db_load(store, db, DB_DEADLINE_BUCKETS), hash_, entry)
    assert slot != 0, "an entry with a deadline is missing from their index"
    return slot


@linked(void(STORE, int64, int64, int64))
def _remove_deadline(store, db, hash_, entry):  # type: ignore[no-untyped-def]
    _remove(store, db, TIMES, hash_, _deadline_slot(store, db, hash_, entry))


@linked(void(STORE, int64, int64, int64, int64))
def add_entry(store, db, hash_, entry, deadline):  # type: ignore[no-untyped-def]
    """Enter a new entry into its database."""
    _add(store, db, KEYS, hash_, entry)
    if deadline != NO_DEADLINE:
        _add_deadline(store, db, hash_, entry)


@linked(void(STORE, int64, int64, int64))
def unlink_entry(store, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Take an entry out of its database; the entry itself stays.  Other slots may be moved."""
    entry = entry_of(load64(store.space, slot))
    if entry_flags(store, entry) & EXPIRY:
        _remove_deadline(store, db, hash_, entry)
        shrink(store, db, TIMES)
    _remove(store, db, KEYS, hash_, slot)
    shrink(store, db, KEYS)


@linked(void(STORE, int64, int64, int64))
def delete_entry(store, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the entry that a slot points at.  Other slots may be moved."""
    entry = entry_of(load64(store.space, slot))
    unlink_entry(store, db, slot, hash_)
    entry_free(store, entry)


@kernel
def _count_expired(store, db, hash_):  # type: ignore[no-untyped-def]
    store.server[EXPIRED_KEYS] += 1
    if store.server[WATCHES] > 0:
        touch_watched(store, db, hash_)


@linked(void(STORE, int64, int64, int64))
def delete_expired(store, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the entry that a slot points at, whose time has come: no change that a save point counts."""
    delete_entry(store, db, slot, hash_)
    _count_expired(store, db, hash_)


@linked(void(STORE, int64, int64, int64, int64))
def delete_met(store, db, time_slot, hash_, entry):  # type: ignore[no-untyped-def]
    """As delete_expired, by the entry's slot among the deadlines; the tables are the caller's to shrink."""
    slot = index_find_entry(store, key_base(store, db), db_load(store, db, DB_KEY_BUCKETS), hash_, entry)
    assert slot != 0, "an entry with a deadline is not among the keys"
    _remove(store, db, TIMES, hash_, time_slot)
    _remove(store, db, KEYS, hash_, slot)
    entry_free(store, entry)
    _count_expired(store, db, hash_)


@linked(int64(STORE, int64, int64, int64))
def expire_if_due(store, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the slot's entry if its time has come (1), or say that it stays (0)."""
    deadline = entry_deadline(store, entry_of(load64(store.space, slot)))
    if deadline == NO_DEADLINE or deadline > store.server[NOW_MS]:
        return 0
    if not has_frames(store.space, FRAMES_TO_REMOVE):
        return 1  # it is not there for anybody, and will be deleted when there is room to
    delete_expired(store, db, slot, hash_)
    return 1


@linked(int64(STORE, int64, int64, int64))
def lookup(store, db, i, hash_):  # type: ignore[no-untyped-def]
    """Slot of the live key that argument i is, or 0.  Nothing is counted as a use."""
    slot = find_slot(store, db, i, hash_)
    if slot != 0 and entry_flags(store, entry_of(load64(store.space, slot))) & EXPIRY:
        if expire_if_due(store, db, slot, hash_):
            return 0
    return slot


@linked(int64(STORE, int64))
def lookup_write(store, i):  # type: ignore[no-untyped-def]
    """Slot of the key that argument i is in the selected database, to be changed; 0 when there is none."""
    slot = lookup(store, store.server[DB], i, key_hash(store, i))
    if slot != 0:
        entry_touch(store, entry_of(load64(store.space, slot)))
    return slot


@kernel
def count_lookup(store, found):  # type: ignore[no-untyped-def]
    """Count a hit or a miss."""
    if found:
        store.server[KEYSPACE_HITS] += 1
    else:
        store.server[KEYSPACE_MISSES] += 1


@linked(int64(STORE, int64))
def lookup_peek(store, i):  # type: ignore[no-untyped-def]
    """The entry of the key that argument i is in the selected database, counted as a hit but no use; or 0, a miss."""
    slot = lookup(store, store.server[DB], i, key_hash(store, i))
    count_lookup(store, slot != 0)
    return entry_of(load64(store.space, slot)) if slot != 0 else 0


@linked(int64(STORE, int64))
def lookup_read(store, i):  # type: ignore[no-untyped-def]
    """As lookup_peek, and it is a use."""
    entry = lookup_peek(store, i)
    if entry != 0:
        entry_touch(store, entry)
    return entry


@linked(int64(STORE, int64, int64))
def key_deadline(store, i, hash_):  # type: ignore[no-untyped-def]
    """Deadline [Unix ms] of the key that argument i is; -1 without one, -2 without the key."""
    slot = lookup(store, store.server[DB], i, hash_)
    return -2 if slot == 0 else entry_deadline(store, entry_of(load64(store.space, slot)))


# ------------------------------------------------------------------------------------------------------------ values


@linked(void(STORE, int64, int64, int64, int64, int64))
def _point_anew(store, db, slot, hash_, old, new):  # type: ignore[no-untyped-def]
    # The entry moved from `old` to `new`: both indices follow.
    had, has = entry_flags(store, old) & EXPIRY, entry_flags(store, new) & EXPIRY
    if had and has:
        store64(store.space, _deadline_slot(store, db, hash_, old), slot_word(hash_, new))
    elif had:
        _remove_deadline(store, db, hash_, old)
    elif has:
        _add_deadline(store, db, hash_, new)
    store64(store.space, slot, slot_word(hash_, new))


@linked(int64(STORE, int64, int64, int64, int64, int64, int64))
def set_value_room(store, db, i, slot, hash_, length, deadline):  # type: ignore[no-untyped-def]
    """Give the key that argument i is a value of `length` bytes, to be written by the caller, and this deadline.

    `slot` is the key's, or 0 for a new one.  Returns the address of the value's room; 0 when frames ran out, and then
    nothing was changed.  The old value is gone.
    """
    space = store.space
    count = arg_length(store, i)
    if slot != 0:
        old = entry_of(load64(space, slot))
        flags = entry_flags(store, old)
        same_form = (flags & EXPIRY != 0) == (deadline != NO_DEADLINE)
        if same_form and is_large(count, length, flags & EXPIRY) == (flags & LARGE != 0):
            before, after = entry_length(store, old), length
            if flags & LARGE == 0:
                before, after = entry_size(count, before, flags), entry_size(count, length, flags)
            if heap_size(before) == heap_size(after):
                entry_set_length(store, old, length)
                entry_set_flags(store, old, flags & ~EDITED)
                if deadline != NO_DEADLINE:
                    entry_set_deadline(store, old, deadline)
                return entry_value(store, old)
    entry = entry_alloc(store, count, length, deadline)
    if entry == 0:
        return 0
    copy_in(space, entry + HEADER, query(store), arg_offset(store, i), count)
    if slot == 0:
        add_entry(store, db, hash_, entry, deadline)
    else:
        _point_anew(store, db, slot, hash_, old, entry)
        entry_free(store, old)
    return entry_value(store, entry)


@linked(int64(STORE, int64, int64, int64, int64))
def set_value(store, i, slot, j, deadline):  # type: ignore[no-untyped-def]
    """Set the key that argument i is to argument j, in the selected database: 1, or 0 with an -OOM reply."""
    db, hash_ = store.server[DB], key_hash(store, i)
    room = set_value_room(store, db, i, slot, hash_, arg_length(store, j), deadline)
    if room == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    copy_in(store.space, room, query(store), arg_offset(store, j), arg_length(store, j))
    touched(store, db, hash_)
    return 1


@linked(int64(STORE, int64, int64, int64, int64))
def change_deadline(store, db, slot, hash_, deadline):  # type: ignore[no-untyped-def]
    """Give the slot's entry this deadline, or none (NO_DEADLINE): 1, or 0 when frames ran out.

    A short entry moves to an allocation with or without room for it; a LARGE one has that room.
    """
    space = store.space
    old = entry_of(load64(space, slot))
    flags = entry_flags(store, old)
    had, has = flags & EXPIRY != 0, deadline != NO_DEADLINE
    if had and has:
        entry_set_deadline(store, old, deadline)
    elif had != has and flags & LARGE:
        if has:
            entry_set_deadline(store, old, deadline)
            _add_deadline(store, db, hash_, old)
        else:
            _remove_deadline(store, db, hash_, old)
        entry_set_flags(store, old, flags ^ EXPIRY)
    elif had != has:
        count, length = entry_key_length(store, old), entry_length(store, old)
        new = entry_alloc(store, count, length, deadline)
        if new == 0:
            return 0
        copy_within(space, new + HEADER, old + HEADER, count)
        copy_within(space, entry_value(store, new), entry_value(store, old), length)
        entry_set_flags(store, new, entry_flags(store, new) | (flags & EDITED))
        _point_anew(store, db, slot, hash_, old, new)
        entry_free(store, old)
    return 1


@linked(int64(STORE, int64, int64, int64, int64))
def resize_value(store, db, slot, hash_, length):  # type: ignore[no-untyped-def]
    """Give the slot's value another length, keeping what it holds up to there; the rest is the caller's to write.

    Returns the value's address, or 0 when frames ran out, and then nothing was changed.
    """
    space = store.space
    old = entry_of(load64(space, slot))
    flags = entry_flags(store, old)
    count, before = entry_key_length(store, old), entry_length(store, old)
    if flags & LARGE:
        moved = heap_resize(space, entry_value(store, old), before, length)
        if moved == 0:
            return 0
        entry_set_value(store, old, moved)
        entry_set_length(store, old, length)
        entry_set_flags(store, old, flags | RAW)
        return moved
    if not is_large(count, length, flags):
        moved = heap_resize(space, old, entry_size(count, before, flags), entry_size(count, length, flags))
        if moved == 0:
            return 0
        entry_set_length(store, moved, length)
        entry_set_flags(store, moved, flags | RAW)
        if moved != old:
            if flags & EXPIRY:
                store64(space, _deadline_slot(store, db, hash_, old), slot_word(hash_, moved))
            store64(space, slot, slot_word(hash_, moved))
        return entry_value(store, moved)
    new = entry_alloc(store, count, length, entry_deadline(store, old))
    if new == 0:
        return 0
    copy_within(space, new + HEADER, old + HEADER, count)
    copy_within(space, entry_value(store, new), entry_value(store, old), min(before, length))
    entry_set_flags(store, new, entry_flags(store, new) | RAW)
    _point_anew(store, db, slot, hash_, old, new)
    entry_free(store, old)
    return entry_value(store, new)


@kernel
def scan_entry(store, bucket, i):  # type: ignore[no-untyped-def]
    """The entry in slot i of a bucket, or 0."""
    word = load64(store.space, bucket + 8 * i)
    return 0 if word & LINK else word & ADDRESS


@linked(int64(STORE, int64, int64))
def random_entry(store, base, buckets):  # type: ignore[no-untyped-def]
    """An entry of a table that is not empty, all with the same chance."""
    while True:
        bucket = base + BUCKET_SIZE * (next_random(store) % buckets)
        # A place is a bucket, how far along its chain, and a slot; most are not there, and another is drawn.
        for _ in range(next_random(store) % CHAIN_MAX):
            if bucket != 0:
                bucket = next_overflow(store, bucket)
        entry = scan_entry(store, bucket, next_random(store) % SLOTS) if bucket != 0 else 0
        if entry != 0:
            return entry


# ------------------------------------------------------------------------------------------------------- for Python


def database_sizes(store: Store) -> list[tuple[int, int, int]]:
    """For each database: keys, keys with a deadline, their average time to live [ms], by a sample."""
    return [
        (int(keys_of(store, db)), int(deadlines_of(store, db)), int(average_ttl_ms(store, db)))
        for db in range(DATABASES)
    ]


@linked(int64(STORE, int64))
def keys_of(store, db):  # type: ignore[no-untyped-def]
    """Keys of a database."""
    return db_load(store, db, DB_KEYS)


@linked(int64(STORE, int64))
def deadlines_of(store, db):  # type: ignore[no-untyped-def]
    """Keys of a database that have a deadline."""
    return db_load(store, db, DB_DEADLINES)


@linked(int64(STORE, int64))
def average_ttl_ms(store, db):  # type: ignore[no-untyped-def]
    """Average time to live of up to 20 keys drawn at random from those with a deadline [ms]."""
    buckets, total = db_load(store, db, DB_DEADLINE_BUCKETS), 0
    if db_load(store, db, DB_DEADLINES) == 0:
        return 0
    for _ in range(20):
        entry = random_entry(store, deadline_base(store, db), buckets)
        total += max(0, entry_deadline(store, entry) - store.server[NOW_MS])
    return total // 20
