"""Active expiry: a walk through the indices of deadlines, some buckets at a time.

The registers hold its position: a database and a bucket number.  After a database's last bucket the walk goes on with
the next database.  It looks at every deadline and skips those that are not due, so a round misses nothing, and needs no
sampling.

EXPIRED_STALE_PERC is the share of the deadlines looked at lately that were due.  It is a moving average, in which each
deadline weighs 1/WINDOW.  It shows how far behind the walk is, and upkeep.py grants it time accordingly.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import ACTIVE_EXPIRE_ENABLED, NOW_MS
from kvstore.lifetimes.store import DEADLINES_MET, EXPIRE_BUCKET, EXPIRE_DB, EXPIRED_STALE_PERC, HASH_SEED
from kvstore.store.databases import FRAMES_TO_REMOVE, KEYS, TIMES, db_load, deadline_base, memory_exceeded
from kvstore.store.entries import entry_deadline, entry_hash
from kvstore.store.layout import DATABASES, DB_DEADLINE_BUCKETS, DB_DEADLINES
from kvstore.store.lookup import delete_met
from kvstore.store.membership import shrink
from kvstore.structures.buckets import ADDRESS, BUCKET_SIZE, LAST, LINK, SLOTS, next_overflow
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked, prefetch
from mmcore.mmu import load64, read_address

WINDOW = 256  # deadlines
ALL = 100_000  # EXPIRED_STALE_PERC when everything is due [1/1000 %]
BUCKETS_FOR_ROOM = 16  # visited for a write that has no memory


@kernel
def _prefetch_entries(context, bucket):  # type: ignore[no-untyped-def]
    # Prefetch the lines that hold the deadlines of a bucket: they are scattered over the heap.
    memory = context.space.mem.bytes
    for i in range(SLOTS):
        word = load64(context.space, bucket + 8 * i)
        if word != 0 and word & LINK == 0:
            prefetch(memory, read_address(context.space, word & ADDRESS))


@kernel
def _due_slot(context, bucket, i):  # type: ignore[no-untyped-def]
    # (whether slot i of a bucket has an entry, the entry if it is due or 0).
    word = load64(context.space, bucket + 8 * i)
    if word == 0 or word & LINK:
        return False, 0
    entry = word & ADDRESS
    return True, entry if entry_deadline(context, entry) <= context.shard[NOW_MS] else 0


@linked(int64(CONTEXT, int64, int64))
def _expire_bucket(context, db, number):  # type: ignore[no-untyped-def]
    """Delete the due entries of a bucket of deadlines and its overflow; returns how many were deleted."""
    store = context.store
    first = deadline_base(context, db) + BUCKET_SIZE * number
    bucket, deleted, alive, short = first, 0, 0, False
    while bucket != 0:
        _prefetch_entries(context, bucket)
        moved = False
        for i in range(SLOTS):
            here, entry = _due_slot(context, bucket, i)
            if entry == 0 or short:
                alive += here
                continue
            if not has_frames(context.space, FRAMES_TO_REMOVE):
                short = True
                alive += 1
                continue
            moved = load64(context.space, first + LAST) & LINK != 0
            delete_met(context, db, bucket + 8 * i, entry_hash(context, entry, store[HASH_SEED]), entry)
            deleted += 1
            if moved:
                break
        if moved:  # a deletion may move entries forward and free overflow buckets: begin again
            bucket, alive = first, 0
        else:
            bucket = next_overflow(context.space, bucket)
    for _ in range(deleted):
        shrink(context, db, TIMES)
        shrink(context, db, KEYS)
    met = min(alive + deleted, WINDOW)
    store[DEADLINES_MET] += alive + deleted
    stale = store[EXPIRED_STALE_PERC]
    store[EXPIRED_STALE_PERC] = stale + (min(deleted, WINDOW) * ALL - met * stale) // WINDOW
    return deleted


@linked(int64(CONTEXT, int64))
def expire_step(context, budget):  # type: ignore[no-untyped-def]
    """Visit `budget` buckets of deadlines; returns how many were visited, 0 when no key has a deadline."""
    store = context.store
    looked = 0
    for _ in range(DATABASES + 1):
        db = store[EXPIRE_DB]
        if db_load(context, db, DB_DEADLINES) > 0:
            at = store[EXPIRE_BUCKET]
            while looked < budget and at < db_load(context, db, DB_DEADLINE_BUCKETS):
                _expire_bucket(context, db, at)
                looked += 1
                at += 1
            store[EXPIRE_BUCKET] = at
            if looked >= budget:
                return looked
        store[EXPIRE_DB] = (db + 1) % DATABASES
        store[EXPIRE_BUCKET] = 0
    if looked == 0:
        store[EXPIRED_STALE_PERC] = 0
    return looked


@linked(int64(CONTEXT))
def deadline_buckets(context):  # type: ignore[no-untyped-def]
    """Buckets of deadlines in all databases: the length of a round."""
    buckets = 0
    for db in range(DATABASES):
        if db_load(context, db, DB_DEADLINES) > 0:
            buckets += db_load(context, db, DB_DEADLINE_BUCKETS)
    return buckets


@linked(int64(CONTEXT))
def make_room(context):  # type: ignore[no-untyped-def]
    """Delete due keys of a few buckets for a write beyond maxmemory; returns whether it fits now (0 or 1)."""
    if context.shard[ACTIVE_EXPIRE_ENABLED] == 0 or expire_step(context, BUCKETS_FOR_ROOM) == 0:
        return 0
    return 1 - memory_exceeded(context)
