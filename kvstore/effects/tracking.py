"""Tracking: connections that hold keys in a cache are told when these change (CLIENT TRACKING).

A connection tracks in one of two ways:

    by reading      the keys of its read-only commands are remembered, missing ones too, until they change: it is told
                    once, and then has to read the key again.  With OPTIN only the keys of a command that follows CLIENT
                    CACHING YES are remembered, with OPTOUT all but those of one that follows CLIENT CACHING NO
    by prefix       (BCAST) nothing is remembered: see broadcasts.py

Keys are tracked by name, whatever their database, so a swap of databases concerns all keys, as a flush does.  With
NOLOOP a connection is not told of its own changes.  An expiry is nobody's change.

No cache may be stale: where memory runs out for an interest, or there are more keys than TRACKING_KEYS_MAX, the
connection is told at once that the key is not valid.  Within a transaction that may be undone, what is read waits with
the effects (pending.py), because an interest must not end by a change that came before it.
"""

from kvstore.connections.interests import CONNECTION as INTERESTED
from kvstore.connections.interests import (
    NAME,
    SIZE,
    TOPIC,
    interest_add,
    interest_at,
    interest_end,
    interest_first,
    interest_next,
    interests_clear,
    interests_end,
    own_first,
    own_next,
    topic_at,
    topic_count,
    topic_find,
    topic_first,
)
from kvstore.connections.table import connection
from kvstore.effects.broadcasts import collect
from kvstore.effects.events import EVICTED, EXPIRED, READ
from kvstore.effects.invalidations import KEY, NULL, invalidation_begin, invalidation_tell
from kvstore.effects.pending import pending_put
from kvstore.lifetimes.call import CONNECTION
from kvstore.lifetimes.connection import (
    CONTEXT_OF,
    FLAGS,
    ID,
    IN_USE,
    PREFIXES_FIRST,
    REDIRECT,
    REDIRECT_SLOT,
    TRACKED_COUNT,
    TRACKED_FIRST,
    TRACKING,
    TRACKING_BCAST,
    TRACKING_BROKEN,
    TRACKING_CACHING,
    TRACKING_NOLOOP,
    TRACKING_OPTIN,
    TRACKING_OPTOUT,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.listeners import TRACKED
from kvstore.lifetimes.shard import CONNECTION_SLOTS, SCRATCH_ADDRESS, TRACKING_CLIENTS, TRACKING_KEYS_MAX
from kvstore.lifetimes.store import CONTEXT_ADDRESS, HASH_SEED, LISTENERS, PREFIXES, TRACKED_KEYS, TRACKERS, UNDO_ROOT
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import argument
from kvstore.wire.keyplaces import RUN_END, RUN_FIRST, RUN_STEP, RUN_WORDS, key_run, keys_known
from mmcore.jit import int64, linked, void

_MODES = TRACKING_BCAST | TRACKING_OPTIN | TRACKING_OPTOUT | TRACKING_NOLOOP | TRACKING_BROKEN
_TRIMMED = 100  # keys that a read gives up beside as many as it adds, while there are too many
END_STEP = 4096  # interests that end in one step when a connection is closed
TRIMMED_BY_TIMER = 1 << 14


# ------------------------------------------------------------------------------------------------ beginning and ending


@linked(void(CONTEXT, int64, int64, int64, int64))
def tracking_on(context, slot, modes, redirect, redirect_slot):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` track in these modes; `redirect`: the id of the one that is told, 0 for itself."""
    row = connection(context, slot)
    if row[FLAGS] & TRACKING == 0:
        context.shard[TRACKING_CLIENTS] += 1
        context.store[TRACKERS] += 1
        context.store[LISTENERS] |= TRACKED
    row[FLAGS] = (row[FLAGS] & ~_MODES) | TRACKING | modes
    row[REDIRECT], row[REDIRECT_SLOT] = redirect, redirect_slot


@linked(int64(CONTEXT, int64))
def tracking_ended(context, slot):  # type: ignore[no-untyped-def]
    """End up to END_STEP of the connection's interests; whether that were all (0 or 1)."""
    row = connection(context, slot)
    for _ in range(min(row[TRACKED_COUNT], END_STEP)):
        interest_end(context.store[TRACKED_KEYS], own_first(row, TRACKED_FIRST), row, TRACKED_FIRST)
    return 1 if row[TRACKED_COUNT] == 0 else 0


@linked(void(CONTEXT, int64))
def tracking_off(context, slot):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` track no longer."""
    row = connection(context, slot)
    if row[FLAGS] & TRACKING == 0:
        return
    interests_end(context.store[TRACKED_KEYS], row, TRACKED_FIRST)
    interests_end(context.store[PREFIXES], row, PREFIXES_FIRST)
    row[FLAGS] &= ~(TRACKING | TRACKING_CACHING | _MODES)
    row[REDIRECT] = row[REDIRECT_SLOT] = 0
    context.shard[TRACKING_CLIENTS] -= 1
    context.store[TRACKERS] -= 1
    if context.store[TRACKERS] == 0:
        context.store[LISTENERS] &= ~TRACKED


@linked(int64(CONTEXT, int64, int64, int64))
def prefix_add(context, slot, prefix, size):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` track keys with this prefix, too: 1, or 0 when memory ran out."""
    hash_ = hash_bytes(bytes_at(prefix, size), 0, size, context.store[HASH_SEED])
    row = connection(context, slot)
    added = interest_add(context.store[PREFIXES], hash_, 0, prefix, size, slot, row, PREFIXES_FIRST)
    return 1 if added != -2 else 0


@linked(int64(CONTEXT, int64, int64[::1]))
def prefix_next(context, interest, found):  # type: ignore[no-untyped-def]
    """The address and size of the prefix that this interest of a connection is in; returns the next one, or -1."""
    table = context.store[PREFIXES]
    topic = topic_at(table, interest_at(table, interest)[TOPIC])
    found[0], found[1] = topic[NAME], topic[SIZE]
    return own_next(table, interest)


# ------------------------------------------------------------------------------------------------------------- changes


@linked(void(CONTEXT, int64, int64))
def _forget(context, topic, changer):  # type: ignore[no-untyped-def]
    """Tell all who have read a key that it is not valid, and forget them; `changer`: who changed it, -1 for nobody."""
    table = context.store[TRACKED_KEYS]
    key = topic_at(table, topic)
    invalidation_begin(context, KEY, key[NAME], key[SIZE], -1)
    at = interest_first(table, topic)
    while at >= 0:
        following, slot = interest_next(table, at), interest_at(table, at)[INTERESTED]
        row = connection(context, slot)
        if slot != changer or row[FLAGS] & TRACKING_NOLOOP == 0:
            invalidation_tell(context, slot)
        interest_end(table, at, row, TRACKED_FIRST)  # the last one takes the topic with it
        at = following


@linked(void(CONTEXT, int64, int64, int64, int64))
def tracking_changed(context, event, key, size, hash_):  # type: ignore[no-untyped-def]
    """A key was changed by the command at hand, or has expired."""
    store = context.store
    changer = -1 if event == EXPIRED or event == EVICTED else context.call[CONNECTION]
    topic = topic_find(store[TRACKED_KEYS], hash_, 0, key, size)
    if topic >= 0:
        _forget(context, topic, changer)
    if topic_count(store[PREFIXES]) > 0:
        collect(context, key, size, hash_, connection(context, changer)[ID] if changer >= 0 else 0)


@linked(void(CONTEXT))
def tracking_emptied(context):  # type: ignore[no-untyped-def]
    """Keys of any name may have changed: tell all tracking connections that nothing is valid."""
    invalidation_begin(context, NULL, 0, 0, -1)
    own = context.store[CONTEXT_ADDRESS]
    for slot in range(context.shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & (IN_USE | TRACKING) == IN_USE | TRACKING and row[CONTEXT_OF] == own:
            row[TRACKED_FIRST] = row[TRACKED_COUNT] = 0
            invalidation_tell(context, slot)
    interests_clear(context.store[TRACKED_KEYS])


# --------------------------------------------------------------------------------------------------------------- reads


@linked(void(CONTEXT, int64))
def trim_tracked(context, count):  # type: ignore[no-untyped-def]
    """Forget up to `count` keys, those first that were read first, while there are too many."""
    table, most = context.store[TRACKED_KEYS], context.shard[TRACKING_KEYS_MAX]
    while most > 0 and topic_count(table) > most and count > 0:
        _forget(context, topic_first(table), -1)
        count -= 1


@linked(void(CONTEXT, int64, int64, int64, int64))
def remember_key(context, slot, key, size, hash_):  # type: ignore[no-untyped-def]
    """The connection in `slot` has read a key."""
    row = connection(context, slot)
    if row[FLAGS] & (TRACKING | TRACKING_BCAST) != TRACKING:  # turned off by a later command of its transaction
        return
    if interest_add(context.store[TRACKED_KEYS], hash_, 0, key, size, slot, row, TRACKED_FIRST) == -2:
        invalidation_begin(context, KEY, key, size, -1)
        invalidation_tell(context, slot)


@linked(void(CONTEXT, int64[::1], int64))
def remember_keys(context, row, command):  # type: ignore[no-untyped-def]
    """The read-only command at hand, in row `command` of the table, has been run for the tracking connection `row`."""
    slot, store, flags = context.call[CONNECTION], context.store, row[FLAGS]
    if flags & TRACKING_BCAST or (flags & TRACKING_OPTIN and flags & TRACKING_CACHING == 0):
        return
    if flags & TRACKING_OPTOUT and flags & TRACKING_CACHING:
        return
    run = words_at(context.shard[SCRATCH_ADDRESS], RUN_WORDS)
    if keys_known(context, command, run) == 0:
        return
    number, count = 0, 0
    while key_run(context, command, number, run) == 1:
        for i in range(run[RUN_FIRST], run[RUN_END], run[RUN_STEP]):
            key, size = argument(context, i)
            hash_ = hash_bytes(bytes_at(key, size), 0, size, store[HASH_SEED])
            if store[UNDO_ROOT] >= 0:
                pending_put(context, READ, slot, key, size, hash_)
            else:
                remember_key(context, slot, key, size, hash_)
            count += 1
        number += 1
    trim_tracked(context, count + _TRIMMED)
