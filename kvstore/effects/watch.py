"""WATCH: connections that must learn of a change to their watched keys.

A watch is an interest (connections/interests.py) in a key of a database.  The key's 64-bit hash stands for it: the
topic has no name, so a watched key of megabytes costs as much as a short one.  Two keys with the same hash may abort a
transaction needlessly, but no change is missed.

The word of the interest is what the connection saw: the key's deadline, NO_DEADLINE, or NO_KEY.  EXEC fails when the
deadline has passed; and only a key that existed changes when its database is emptied.  The DIRTY_CAS flag of a
connection tells it that a watched key has changed.
"""

from kvstore.connections.interests import (
    CONNECTION,
    NUMBER,
    WORD,
    hash_of_topic,
    interest_add,
    interest_at,
    interest_count,
    interest_first,
    interest_next,
    interests_end,
    own_first,
    own_next,
    topic_after,
    topic_at,
    topic_find,
    topic_first,
)
from kvstore.connections.table import connection
from kvstore.lifetimes.connection import DIRTY_CAS, FLAGS, WATCH_FIRST
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.listeners import WATCHING
from kvstore.lifetimes.store import LISTENERS, WATCHED_KEYS
from mmcore.jit import int64, kernel, linked, void

NO_DEADLINE, NO_KEY = -1, -2  # as store/lookup.key_deadline answers


@linked(int64(CONTEXT, int64, int64, int64, int64))
def watch_add(context, slot, db, hash_, deadline):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` watch a key: 1; 0 if it does already, or -1 when memory ran out."""
    table = context.store[WATCHED_KEYS]
    interest = interest_add(table, hash_, db, 0, 0, slot, connection(context, slot), WATCH_FIRST)
    if interest < 0:
        return interest + 1
    interest_at(table, interest)[WORD] = deadline
    context.store[LISTENERS] |= WATCHING
    return 1


@linked(void(CONTEXT, int64[::1]))
def unwatch_all(context, row):  # type: ignore[no-untyped-def]
    """Drop every watch of the connection with this row."""
    store = context.store
    if row[WATCH_FIRST] > 0:
        interests_end(store[WATCHED_KEYS], row, WATCH_FIRST)
        if interest_count(store[WATCHED_KEYS]) == 0:
            store[LISTENERS] &= ~WATCHING


@linked(int64(CONTEXT, int64[::1], int64))
def watched_expired(context, row, now_ms):  # type: ignore[no-untyped-def]
    """Whether the deadline of a key that the connection with this row watches has passed since (0 or 1)."""
    table = context.store[WATCHED_KEYS]
    at = own_first(row, WATCH_FIRST)
    while at >= 0:
        if 0 <= interest_at(table, at)[WORD] <= now_ms:
            return 1
        at = own_next(table, at)
    return 0


@linked(void(CONTEXT, int64, int64))
def touch(context, topic, absent):  # type: ignore[no-untyped-def]
    """Tell every connection that watches this key that it changed; if not `absent`, only those that saw it."""
    table = context.store[WATCHED_KEYS]
    at = interest_first(table, topic)
    while at >= 0:
        watch = interest_at(table, at)
        if absent or watch[WORD] != NO_KEY:
            connection(context, watch[CONNECTION])[FLAGS] |= DIRTY_CAS
        at = interest_next(table, at)


@linked(void(CONTEXT, int64, int64))
def touch_watched(context, db, hash_):  # type: ignore[no-untyped-def]
    """Tell every connection that watches the key with this hash that it changed."""
    topic = topic_find(context.store[WATCHED_KEYS], hash_, db, 0, 0)
    if topic >= 0:
        touch(context, topic, 1)


@linked(int64(CONTEXT, int64, int64))
def next_watched(context, db, topic):  # type: ignore[no-untyped-def]
    """The first watched key of `db` (-1: of any) behind `topic` (-1: of all); -1 when there is none."""
    table = context.store[WATCHED_KEYS]
    topic = topic_after(table, topic) if topic >= 0 else topic_first(table)
    while topic >= 0 and db >= 0 and topic_at(table, topic)[NUMBER] != db:
        topic = topic_after(table, topic)
    return topic


@kernel
def watched_hash(context, topic):  # type: ignore[no-untyped-def]
    """Hash of a watched key."""
    return hash_of_topic(context.store[WATCHED_KEYS], topic)


@linked(void(CONTEXT, int64, int64))
def touch_watched_db(context, db, absent):  # type: ignore[no-untyped-def]
    """Tell every connection that watches a key of `db` (-1: of any) that it changed; if not `absent`, and saw it."""
    topic = next_watched(context, db, -1)
    while topic >= 0:
        touch(context, topic, absent)
        topic = next_watched(context, db, topic)
