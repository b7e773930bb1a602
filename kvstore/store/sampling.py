"""Drawing entries at random, and estimates from such samples."""

from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.databases import db_load, deadline_base
from kvstore.store.entries import entry_deadline
from kvstore.store.layout import DATABASES, DB_DEADLINE_BUCKETS, DB_DEADLINES, DB_KEYS
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.system.random import next_random
from mmcore.jit import int64, linked

CHAIN_MAX = 4  # buckets of a chain that random_entry looks into; the hash makes longer chains too rare to matter


@linked(int64(CONTEXT, int64, int64))
def random_entry(context, base, buckets):  # type: ignore[no-untyped-def]
    """A random entry of a table that is not empty; all entries have the same chance."""
    while True:
        bucket = base + BUCKET_SIZE * (next_random(context) % buckets)
        # A place is a bucket, a position in its chain, and a slot.  Most places do not exist; then draw another.
        for _ in range(next_random(context) % CHAIN_MAX):
            if bucket != 0:
                bucket = next_overflow(context.space, bucket)
        entry = bucket_element(context.space, bucket, next_random(context) % SLOTS) if bucket != 0 else 0
        if entry != 0:
            return entry


@linked(int64(CONTEXT, int64))
def keys_of(context, db):  # type: ignore[no-untyped-def]
    """Keys of a database."""
    return db_load(context, db, DB_KEYS)


@linked(int64(CONTEXT, int64))
def deadlines_of(context, db):  # type: ignore[no-untyped-def]
    """Keys of a database that have a deadline."""
    return db_load(context, db, DB_DEADLINES)


@linked(int64(CONTEXT, int64))
def average_ttl_ms(context, db):  # type: ignore[no-untyped-def]
    """Average time to live of up to 20 keys drawn at random from those with a deadline [ms]."""
    buckets, total = db_load(context, db, DB_DEADLINE_BUCKETS), 0
    if db_load(context, db, DB_DEADLINES) == 0:
        return 0
    for _ in range(20):
        entry = random_entry(context, deadline_base(context, db), buckets)
        total += max(0, entry_deadline(context, entry) - context.shard[NOW_MS])
    return total // 20


def database_sizes(context: Context) -> list[tuple[int, int, int]]:
    """For each database: keys, keys with a deadline, their average time to live [ms], estimated from a sample."""
    return [
        (int(keys_of(context, db)), int(deadlines_of(context, db)), int(average_ttl_ms(context, db)))
        for db in range(DATABASES)
    ]
