"""The one door: every change of a store is announced through these functions.

    changed(context, db, key, size, hash, event, counts)     a key was changed, or came, or went
    emptied(context, db)                                      a database lost all its keys, or all databases did
    swapped(context, db, other)                               two databases changed places
    replaced(context)                                         the store has other contents: RESTORE, RESET, SWAP
    noticed(context, db, key, size, hash, event)              something that is no change: a notice (events.py)

Each change goes to independent parts:

    the dirty counter     `counts` is what the change adds to it: Redis counts a renaming once, an expiry not at all
    WATCH                 watch.py; unless the event is one of those that do not signal (events.py)
    commands that wait    waiting.py, which marks the keys that clients wait for
    tracking              tracking.py: connections that may hold the key in a cache are told; likewise
    keyspace events       notifications.py, and journal.py for tests
    the changed keys      changes.py, for comparisons of branches

Notices go to the last part only, and only if their class is published.

Within a transaction that may be undone, effects wait (pending.py); `tell_pending` announces them at its end.  Only the
record of changed keys does not wait: a key may be recorded that has not changed.

No command, expiry, flush or SWAPDB bypasses the door.  Each kind of listener has a bit in LISTENERS, which is set while
there is one.  Usually nobody listens, so the common case is one comparison of this word.
"""

from kvstore.effects.changes import note_change, note_whole
from kvstore.effects.events import (
    ALL_DATABASES,
    CLASS_OF,
    EMPTIED,
    NOTICES,
    PUBLISHED,
    READ,
    REPLACED,
    SIGNALS,
    SWAPPED,
)
from kvstore.effects.journal import journal_put
from kvstore.effects.notifications import notify
from kvstore.effects.pending import HEAD, pending_drop, pending_put
from kvstore.effects.publishing import publish
from kvstore.effects.subscriptions import table_of
from kvstore.effects.tracking import remember_key, tracking_changed, tracking_emptied
from kvstore.effects.waiting import mark_waited
from kvstore.effects.watch import touch_watched, touch_watched_db
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.listeners import JOURNALED, NOTIFYING, RECORDED, TRACKED, WAITING, WATCHING
from kvstore.lifetimes.shard import PENDING_ADDRESS, PENDING_LENGTH
from kvstore.lifetimes.store import DIRTY, LISTENERS, NOTIFY, UNDO_ROOT
from kvstore.system.libc import words_at
from mmcore.jit import int64, kernel, linked, void


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _tell_now(context, event, db, key, size, hash_):  # type: ignore[no-untyped-def]
    listeners, change = context.store[LISTENERS], event < NOTICES
    signals = change and (event < 0 or SIGNALS[event] != 0)
    if signals and listeners & WATCHING:
        if event == EMPTIED or event == REPLACED:
            touch_watched_db(context, db, event == REPLACED)
        elif event != SWAPPED:
            touch_watched(context, db, hash_)
    if change and listeners & WAITING:
        mark_waited(context, event, db, key, size, hash_)
    if listeners & JOURNALED:
        journal_put(context, event, db, key, hash_ if event == SWAPPED else size)
    if listeners & RECORDED and (event == EMPTIED or event == SWAPPED):
        note_whole(context, db)
        if event == SWAPPED:
            note_whole(context, hash_)
    if listeners & TRACKED:
        if signals and event >= 0:
            tracking_changed(context, event, key, size, hash_)
        elif event == EMPTIED or event == REPLACED or (event == SWAPPED and db != hash_):
            tracking_emptied(context)
    if listeners & NOTIFYING:
        notify(context, event, db, key, size)


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _tell(context, event, db, key, size, hash_):  # type: ignore[no-untyped-def]
    listeners = context.store[LISTENERS]
    if listeners & RECORDED and 0 <= event < NOTICES:
        note_change(context, db, hash_)
        if listeners == RECORDED:  # the usual case while there are branches
            return
    if context.store[UNDO_ROOT] >= 0:
        pending_put(context, event, db, key, size, hash_)
    else:
        _tell_now(context, event, db, key, size, hash_)


@kernel
def is_heard(context):  # type: ignore[no-untyped-def]
    """Whether anybody listens; only then must the caller of `changed` pass the key."""
    return context.store[LISTENERS] != 0


@kernel
def changed(context, db, key, size, hash_, event, counts):  # type: ignore[no-untyped-def]
    """Announce a change of the key that is `size` bytes at `key`."""
    context.store[DIRTY] += counts
    if is_heard(context):
        _tell(context, event, db, key, size, hash_)


@kernel
def noticed(context, db, key, size, hash_, event):  # type: ignore[no-untyped-def]
    """Announce a notice about the key that is `size` bytes at `key`."""
    if context.store[NOTIFY] & CLASS_OF[event]:
        _tell(context, event, db, key, size, hash_)


@linked(void(CONTEXT, int64, int64))
def emptied(context, db, counts):  # type: ignore[no-untyped-def]
    """Announce that `db`, or ALL_DATABASES, is about to lose its keys."""
    context.store[DIRTY] += counts
    if is_heard(context):
        _tell(context, EMPTIED, db, 0, 0, 0)


@linked(void(CONTEXT))
def replaced(context):  # type: ignore[no-untyped-def]
    """Announce that the store has other contents than before: any key may have come, changed or gone."""
    context.store[DIRTY] += 1
    if is_heard(context):
        _tell_now(context, REPLACED, ALL_DATABASES, 0, 0, 0)


@linked(void(CONTEXT, int64, int64))
def swapped(context, db, other):  # type: ignore[no-untyped-def]
    """Announce that two databases have changed places.

    `swap_databases` tells their watches, because it knows which keys exist.  If the announcement has to wait, all their
    watches are told.
    """
    context.store[DIRTY] += 1
    if is_heard(context):
        _tell(context, SWAPPED, db, 0, 0, other)


@linked(void(CONTEXT))
def tell_pending(context):  # type: ignore[no-untyped-def]
    """Announce the effects that have waited for the end of a transaction, in order."""
    shard = context.shard
    at, end = shard[PENDING_ADDRESS], shard[PENDING_ADDRESS] + shard[PENDING_LENGTH]
    while at < end:
        record = words_at(at, 4)
        size = record[3]
        if record[0] == PUBLISHED:
            name, name_size = at + HEAD, record[2]
            publish(context, table_of(context, record[1]), name, name_size, name + name_size, size - name_size)
        elif record[0] == READ:
            remember_key(context, record[1], at + HEAD, size, record[2])
        else:
            if record[0] == SWAPPED and record[1] != record[2]:
                touch_watched_db(context, record[1], 1)
                touch_watched_db(context, record[2], 1)
            _tell_now(context, record[0], record[1], at + HEAD if record[0] >= 0 else 0, size, record[2])
        at += HEAD + ((size + 7) & ~7)
    pending_drop(context)


assert ALL_DATABASES == -1  # as touch_watched_db takes it
