"""Active expiry: a walk through the indices of deadlines, some buckets a turn of the loop.

The place it has reached is a database and a bucket number, in the registers; when a database's buckets are through,
the next database is taken.  An entry that is not due is passed by, so no sampling is needed and none is left
over: every deadline is met once a round.  The loop gives it credit every tick, so what a round costs per second is
bounded; lookups, which delete what they meet, make up for its lateness.
"""

from numba import int64

from kvstore.entries import entry_deadline, entry_hash
from kvstore.index import BUCKET_SIZE, SLOTS, index_find_entry, next_overflow
from kvstore.keyspace import (
    FRAMES_TO_REMOVE,
    db_load,
    deadline_base,
    delete_expired,
    key_base,
    scan_entry,
)
from kvstore.layout import DATABASES, DB_DEADLINE_BUCKETS, DB_DEADLINES, DB_KEY_BUCKETS
from kvstore.state import EXPIRE_BUCKET, EXPIRE_DB, HASH_SEED, NOW_MS, STORE
from mmcore.frames import has_frames
from mmcore.jit import linked


@linked(int64(STORE, int64, int64))
def _expire_one(store, db, number):  # type: ignore[no-untyped-def]
    # Delete one entry that is due in a bucket or its overflow, if there is any: 1 or 0.  One at a time, because a
    # deletion may merge buckets and give overflow buckets back.
    bucket = deadline_base(store, db) + BUCKET_SIZE * number
    while bucket != 0:
        for i in range(SLOTS):
            entry = scan_entry(store, bucket, i)
            if entry == 0 or entry_deadline(store, entry) > store.server[NOW_MS]:
                continue
            if not has_frames(store.space, FRAMES_TO_REMOVE):
                return 0
            hash_ = entry_hash(store, entry, store.server[HASH_SEED])
            slot = index_find_entry(store, key_base(store, db), db_load(store, db, DB_KEY_BUCKETS), hash_, entry)
            assert slot != 0, "an entry with a deadline is not among the keys"
            delete_expired(store, db, slot, hash_)
            return 1
        bucket = next_overflow(store, bucket)
    return 0


@linked(int64(STORE, int64))
def expire_step(store, budget):  # type: ignore[no-untyped-def]
    """Look at `budget` buckets of deadlines; returns how many were looked at, 0 when no key has a deadline."""
    server = store.server
    looked = 0
    for _ in range(DATABASES):
        db = server[EXPIRE_DB]
        if db_load(store, db, DB_DEADLINES) > 0:
            at = server[EXPIRE_BUCKET]
            while looked < budget and at < db_load(store, db, DB_DEADLINE_BUCKETS):
                looked += 1
                if _expire_one(store, db, at) == 0:
                    at += 1
            server[EXPIRE_BUCKET] = at
            if looked >= budget:
                return looked
        server[EXPIRE_DB] = (db + 1) % DATABASES
        server[EXPIRE_BUCKET] = 0
    return looked
