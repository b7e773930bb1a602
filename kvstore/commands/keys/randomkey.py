"""RANDOMKEY."""

from kvstore.commands.keys.listing import is_due
from kvstore.lifetimes.call import DB, DEPTH
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER
from kvstore.lifetimes.store import HASH_SEED, READ_ONLY
from kvstore.store.databases import FRAMES_TO_REMOVE, db_load, key_base
from kvstore.store.entries import entry_hash, entry_key, entry_key_length
from kvstore.store.index import index_find_entry
from kvstore.store.layout import DB_KEY_BUCKETS, DB_KEYS
from kvstore.store.lookup import expire_if_due
from kvstore.store.sampling import random_entry
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.system.random import next_random
from kvstore.wire.resp import reply_bulk_memory, reply_null
from mmcore.frames import has_frames
from mmcore.jit import int64, linked

RANDOM_TRIES = 500  # due keys that RANDOMKEY may draw and delete before it searches for a live one
RANDOM_BUCKETS = 4096  # that this search looks at in a turn


@linked(int64(CONTEXT, int64))
def _live_entry(context, budget):  # type: ignore[no-untyped-def]
    """A live entry of the first bucket that has one, from a random bucket on; 0 when `budget` buckets have none."""
    call = context.call
    base, buckets = key_base(context, call[DB]), db_load(context, call[DB], DB_KEY_BUCKETS)
    number = next_random(context) % buckets
    for _ in range(min(budget, buckets)):
        bucket, chosen, live = base + BUCKET_SIZE * number, 0, 0
        while bucket != 0:
            for i in range(SLOTS):
                entry = bucket_element(context.space, bucket, i)
                if entry != 0 and not is_due(context, entry):
                    live += 1
                    if next_random(context) % live == 0:
                        chosen = entry
            bucket = next_overflow(context.space, bucket)
        if chosen != 0:
            return chosen
        number = number + 1 if number + 1 < buckets else 0
    return 0


@linked(HANDLER)
def randomkey(context):  # type: ignore[no-untyped-def]
    """RANDOMKEY

    It draws keys, and deletes those that are due.  If nearly all keys are due, it searches for a live key, some buckets
    each turn.  So it finds a live key, and no client waits until all due keys are deleted.
    """
    call, store = context.call, context.store
    db = call[DB]
    for _ in range(RANDOM_TRIES):
        if db_load(context, db, DB_KEYS) == 0:
            reply_null(context)
            return 0
        base, buckets = key_base(context, db), db_load(context, db, DB_KEY_BUCKETS)
        entry = random_entry(context, base, buckets)
        if not is_due(context, entry):
            reply_bulk_memory(context, entry_key(context, entry), entry_key_length(context, entry))
            return 0
        hash_ = entry_hash(context, entry, store[HASH_SEED])
        expire_if_due(context, db, index_find_entry(context, base, buckets, hash_, entry), hash_)
    buckets = db_load(context, db, DB_KEY_BUCKETS)
    # If no due key can be deleted meanwhile, another turn would find the same keys as this one.
    at_once = call[DEPTH] != 0 or store[READ_ONLY] or not has_frames(context.space, FRAMES_TO_REMOVE)
    entry = _live_entry(context, buckets if at_once else RANDOM_BUCKETS) if buckets > 0 else 0
    if entry != 0:
        reply_bulk_memory(context, entry_key(context, entry), entry_key_length(context, entry))
    elif at_once or buckets <= RANDOM_BUCKETS:
        reply_null(context)
    else:
        return AGAIN
    return 0
