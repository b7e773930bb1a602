"""The one door through which every change of a store is told.

    changed(context, db, key, size, hash, event, counts)     a key was changed, or came, or went
    emptied(context, db)                                      a database lost all its keys, or all databases did
    swapped(context, db, other)                               two databases changed places

Behind it stand, each by itself,

    the dirty counter     `counts` is what the change adds to it: Redis counts a renaming once, an expiry not at all
    WATCH                 watch.py
    keyspace events       journal.py, as yet the only listener

No command, expiry, flush or SWAPDB goes round the door.  Nobody listens mostly, so the common case is one comparison.
"""

from kvstore.effects.events import ALL_DATABASES, EMPTIED, SWAPPED
from kvstore.effects.journal import journal_put
from kvstore.effects.watch import touch_watched, touch_watched_db
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import DIRTY, JOURNAL_ADDRESS, WATCHES
from mmcore.jit import int64, kernel, linked, void


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _tell(context, db, key, size, hash_, event):  # type: ignore[no-untyped-def]
    store = context.store
    if store[WATCHES] > 0:
        touch_watched(context, db, hash_)
    if store[JOURNAL_ADDRESS] != 0:
        journal_put(context, event, db, key, size)


@kernel
def is_heard(context):  # type: ignore[no-untyped-def]
    """Whether anybody listens: then whoever tells of a change needs the key."""
    return context.store[WATCHES] > 0 or context.store[JOURNAL_ADDRESS] != 0


@kernel
def changed(context, db, key, size, hash_, event, counts):  # type: ignore[no-untyped-def]
    """Tell of a change of the key that is `size` bytes at `key`."""
    context.store[DIRTY] += counts
    if is_heard(context):
        _tell(context, db, key, size, hash_, event)


@linked(void(CONTEXT, int64, int64))
def emptied(context, db, counts):  # type: ignore[no-untyped-def]
    """Tell that `db`, or ALL_DATABASES, is about to lose its keys."""
    store = context.store
    store[DIRTY] += counts
    if store[WATCHES] > 0:
        touch_watched_db(context, db)
    if store[JOURNAL_ADDRESS] != 0:
        journal_put(context, EMPTIED, db, 0, 0)


@linked(void(CONTEXT, int64, int64))
def swapped(context, db, other):  # type: ignore[no-untyped-def]
    """Tell that two databases have changed places.  Their watches are the caller's, who knows which keys are there."""
    store = context.store
    store[DIRTY] += 1
    if store[JOURNAL_ADDRESS] != 0:
        journal_put(context, SWAPPED, db, 0, other)


assert ALL_DATABASES == -1  # as touch_watched_db takes it
