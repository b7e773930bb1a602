"""Drawing entries at random, and estimates from such samples."""

from typing import NamedTuple

from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.databases import db_load, deadline_base
from kvstore.store.entries import entry_deadline
from kvstore.store.layout import DATABASES, DB_DATED, DB_DEADLINE_BUCKETS, DB_DEADLINES, DB_KEYS, DB_LEFT
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.collection import root_count
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


@linked(int64(CONTEXT, int64))
def dated_of(context, db):  # type: ignore[no-untyped-def]
    """Hashes of a database that have fields with a deadline."""
    names = db_load(context, db, DB_DATED)
    return root_count(context.space, names) - db_load(context, db, DB_LEFT) if names != 0 else int64(0)


class DatabaseSize(NamedTuple):
    """The keys of a database."""

    keys: int
    deadlines: int  # keys that have one
    average_ttl_ms: int  # of these, estimated from a sample
    dated: int  # hashes that have fields with a deadline


def database_sizes(context: Context) -> list[DatabaseSize]:
    """The size of each database."""
    return [
        DatabaseSize(*(int(ask(context, db)) for ask in (keys_of, deadlines_of, average_ttl_ms, dated_of)))
        for db in range(DATABASES)
    ]
