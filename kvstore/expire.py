"""Active expiry: a walk through the indices of deadlines, some buckets at a time.

The place it has reached is a database and a bucket number, in the registers; when a database's buckets are through,
the next database is taken.  The walk looks at every deadline and passes by what is not due, so a round of it misses
nothing, and no sample has to be drawn.

Of the deadlines it looked at lately it knows how many were due (EXPIRED_STALE_PERC, an average that forgets: each
deadline looked at weighs 1/WINDOW).  That tells how far behind it is, and upkeep.py gives it time by that.
"""

from kvstore.entries import entry_deadline, entry_hash
from kvstore.index import ADDRESS, BUCKET_SIZE, LAST, LINK, SLOTS, next_overflow
from kvstore.keyspace import FRAMES_TO_REMOVE, KEYS, TIMES, db_load, deadline_base, delete_met, memory_exceeded, shrink
from kvstore.layout import DATABASES, DB_DEADLINE_BUCKETS, DB_DEADLINES
from kvstore.state import (
    ACTIVE_EXPIRE_ENABLED,
    DEADLINES_MET,
    EXPIRE_BUCKET,
    EXPIRE_DB,
    EXPIRED_STALE_PERC,
    HASH_SEED,
    NOW_MS,
    STORE,
)
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked, prefetch
from mmcore.mmu import load64, read_address

WINDOW = 256  # deadlines
ALL = 100_000  # EXPIRED_STALE_PERC when everything is due [1/1000 %]
BUCKETS_FOR_ROOM = 16  # looked at for a write that there is no memory for


@kernel
def _prefetch_entries(store, bucket):  # type: ignore[no-untyped-def]
    # Ask for the lines that hold the deadlines of a bucket: they are all over the heap.
    memory = store.space.mem.bytes
    for i in range(SLOTS):
        word = load64(store.space, bucket + 8 * i)
        if word != 0 and word & LINK == 0:
            prefetch(memory, read_address(store.space, word & ADDRESS))


@kernel
def _due_slot(store, bucket, i):  # type: ignore[no-untyped-def]
    # (whether slot i of a bucket has an entry, the entry if it is due or 0).
    word = load64(store.space, bucket + 8 * i)
    if word == 0 or word & LINK:
        return False, 0
    entry = word & ADDRESS
    return True, entry if entry_deadline(store, entry) <= store.server[NOW_MS] else 0


@linked(int64(STORE, int64, int64))
def _expire_bucket(store, db, number):  # type: ignore[no-untyped-def]
    """Delete what is due in a bucket of deadlines and its overflow; returns how many that were."""
    server = store.server
    first = deadline_base(store, db) + BUCKET_SIZE * number
    bucket, deleted, alive, short = first, 0, 0, False
    while bucket != 0:
        _prefetch_entries(store, bucket)
        moved = False
        for i in range(SLOTS):
            here, entry = _due_slot(store, bucket, i)
            if entry == 0 or short:
                alive += here
                continue
            if not has_frames(store.space, FRAMES_TO_REMOVE):
                short = True
                alive += 1
                continue
            moved = load64(store.space, first + LAST) & LINK != 0
            delete_met(store, db, bucket + 8 * i, entry_hash(store, entry, server[HASH_SEED]), entry)
            deleted += 1
            if moved:
                break
        if moved:  # a deletion may draw entries forward and give overflow buckets back: begin again
            bucket, alive = first, 0
        else:
            bucket = next_overflow(store, bucket)
    for _ in range(deleted):
        shrink(store, db, TIMES)
        shrink(store, db, KEYS)
    met = min(alive + deleted, WINDOW)
    server[DEADLINES_MET] += alive + deleted
    stale = server[EXPIRED_STALE_PERC]
    server[EXPIRED_STALE_PERC] = stale + (min(deleted, WINDOW) * ALL - met * stale) // WINDOW
    return deleted


@linked(int64(STORE, int64))
def expire_step(store, budget):  # type: ignore[no-untyped-def]
    """Look at `budget` buckets of deadlines; returns how many were looked at, 0 when no key has a deadline."""
    server = store.server
    looked = 0
    for _ in range(DATABASES + 1):
        db = server[EXPIRE_DB]
        if db_load(store, db, DB_DEADLINES) > 0:
            at = server[EXPIRE_BUCKET]
            while looked < budget and at < db_load(store, db, DB_DEADLINE_BUCKETS):
                _expire_bucket(store, db, at)
                looked += 1
                at += 1
            server[EXPIRE_BUCKET] = at
            if looked >= budget:
                return looked
        server[EXPIRE_DB] = (db + 1) % DATABASES
        server[EXPIRE_BUCKET] = 0
    if looked == 0:
        server[EXPIRED_STALE_PERC] = 0
    return looked


@linked(int64(STORE))
def deadline_buckets(store):  # type: ignore[no-untyped-def]
    """Buckets of deadlines in all databases: those of a round."""
    buckets = 0
    for db in range(DATABASES):
        if db_load(store, db, DB_DEADLINES) > 0:
            buckets += db_load(store, db, DB_DEADLINE_BUCKETS)
    return buckets


@linked(int64(STORE))
def make_room(store):  # type: ignore[no-untyped-def]
    """Whether what is due, as far as a few buckets tell, makes room for a write beyond maxmemory (0 or 1)."""
    if store.server[ACTIVE_EXPIRE_ENABLED] == 0 or expire_step(store, BUCKETS_FOR_ROOM) == 0:
        return 0
    return 1 - memory_exceeded(store)
