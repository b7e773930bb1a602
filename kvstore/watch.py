"""WATCH: which connections must hear of a change to which keys.

A watch is a row of one malloc'd table: connection (-1 for a free row), database, hash of the key, deadline that the
key had (EXEC fails when it has passed), whether the key was there, and two links: the next watch of the same connection
and the next in the same chain.  Chains hang from a fixed array of heads, by database and hash.  The 64-bit hash stands
for the key: two keys that shared one would abort a transaction once too often, never once too seldom.

A connection is told by its DIRTY_CAS flag; the flags' place in its row is passed in, for connections.py builds on this
module.
"""

from numba import int64, void

from kvstore.libc import realloc, words_at
from kvstore.state import (
    CONNECTIONS_ADDRESS,
    STORE,
    WATCH_CAPACITY,
    WATCH_FREE,
    WATCH_HEADS_ADDRESS,
    WATCH_TABLE_ADDRESS,
    WATCHES,
)
from mmcore.jit import kernel, linked, view

WATCH_HEADS = 4096  # chains; int64[WATCH_HEADS] at WATCH_HEADS_ADDRESS, -1 for an empty one
_CONNECTION, _DB, _HASH, _DEADLINE, _PRESENT, _NEXT_OF_CONNECTION, _NEXT_IN_CHAIN, _WIDTH = range(8)


@view
def _watches(store):  # type: ignore[no-untyped-def]
    return words_at(store.server[WATCH_TABLE_ADDRESS], store.server[WATCH_CAPACITY] * _WIDTH)


@view
def _heads(store):  # type: ignore[no-untyped-def]
    return words_at(store.server[WATCH_HEADS_ADDRESS], WATCH_HEADS)


@kernel
def _chain(db, hash_):  # type: ignore[no-untyped-def]
    return (hash_ ^ (db * 0x9E37)) & (WATCH_HEADS - 1)


@linked(int64(STORE, int64, int64, int64))
def is_watched(store, first, db, hash_):  # type: ignore[no-untyped-def]
    """Whether the connection whose watches begin at `first` watches this key already (0 or 1)."""
    watches = _watches(store)
    at = first
    while at >= 0:
        row = at * _WIDTH
        if watches[row + _DB] == db and watches[row + _HASH] == hash_:
            return 1
        at = watches[row + _NEXT_OF_CONNECTION]
    return 0


@linked(int64(STORE, int64, int64, int64, int64, int64, int64))
def watch_add(store, slot, first, db, hash_, deadline, present):  # type: ignore[no-untyped-def]
    """Add a watch in front of `first`; returns the connection's new first watch, or -1 when memory ran out."""
    server = store.server
    if server[WATCH_FREE] < 0:
        before = server[WATCH_CAPACITY]
        capacity = max(64, 2 * before)
        address = realloc(server[WATCH_TABLE_ADDRESS], capacity * _WIDTH * 8)
        if address == 0:
            return -1
        server[WATCH_TABLE_ADDRESS] = address
        server[WATCH_CAPACITY] = capacity
        fresh = _watches(store)
        for i in range(before, capacity):
            fresh[i * _WIDTH + _CONNECTION] = -1
            fresh[i * _WIDTH + _NEXT_IN_CHAIN] = i + 1 if i + 1 < capacity else -1
        server[WATCH_FREE] = before
    watches, heads = _watches(store), _heads(store)
    at = server[WATCH_FREE]
    row = at * _WIDTH
    server[WATCH_FREE] = watches[row + _NEXT_IN_CHAIN]
    watches[row + _CONNECTION] = slot
    watches[row + _DB] = db
    watches[row + _HASH] = hash_
    watches[row + _DEADLINE] = deadline
    watches[row + _PRESENT] = present
    watches[row + _NEXT_OF_CONNECTION] = first
    watches[row + _NEXT_IN_CHAIN] = heads[_chain(db, hash_)]
    heads[_chain(db, hash_)] = at
    server[WATCHES] += 1
    return at


@linked(void(STORE, int64[::1], int64, int64))
def unwatch_all(store, connection, first_field, count_field):  # type: ignore[no-untyped-def]
    """Drop every watch of the connection with this row."""
    if connection[first_field] < 0:
        return
    server = store.server
    watches, heads = _watches(store), _heads(store)
    at = connection[first_field]
    while at >= 0:
        row = at * _WIDTH
        chain = _chain(watches[row + _DB], watches[row + _HASH])
        if heads[chain] == at:
            heads[chain] = watches[row + _NEXT_IN_CHAIN]
        else:
            before = heads[chain]
            while watches[before * _WIDTH + _NEXT_IN_CHAIN] != at:
                before = watches[before * _WIDTH + _NEXT_IN_CHAIN]
            watches[before * _WIDTH + _NEXT_IN_CHAIN] = watches[row + _NEXT_IN_CHAIN]
        watches[row + _CONNECTION] = -1
        watches[row + _NEXT_IN_CHAIN] = server[WATCH_FREE]
        server[WATCH_FREE] = at
        server[WATCHES] -= 1
        at = watches[row + _NEXT_OF_CONNECTION]
    connection[first_field] = -1
    connection[count_field] = 0


@linked(int64(STORE, int64, int64))
def watched_expired(store, first, now_ms):  # type: ignore[no-untyped-def]
    """Whether the deadline of a key watched from `first` on has passed since (0 or 1)."""
    watches = _watches(store)
    at = first
    while at >= 0:
        deadline = watches[at * _WIDTH + _DEADLINE]
        if deadline != 0 and deadline <= now_ms:
            return 1
        at = watches[at * _WIDTH + _NEXT_OF_CONNECTION]
    return 0


@kernel
def _flag(store, slot):  # type: ignore[no-untyped-def]
    # FLAGS is field 2 of a row of ROW_WORDS words and DIRTY_CAS its bit 4: connections.py asserts both.
    row = words_at(store.server[CONNECTIONS_ADDRESS] + slot * ROW_WORDS * 8, ROW_WORDS)
    row[ROW_FLAGS] |= ROW_DIRTY_CAS


ROW_WORDS, ROW_FLAGS, ROW_DIRTY_CAS = 44, 2, 1 << 4


@linked(void(STORE, int64, int64))
def touch_watched(store, db, hash_):  # type: ignore[no-untyped-def]
    """Tell every connection that watches this key that it changed."""
    watches = _watches(store)
    at = _heads(store)[_chain(db, hash_)]
    while at >= 0:
        row = at * _WIDTH
        if watches[row + _DB] == db and watches[row + _HASH] == hash_:
            _flag(store, watches[row + _CONNECTION])
        at = watches[row + _NEXT_IN_CHAIN]


@linked(int64(STORE, int64, int64))
def next_watch(store, db, at):  # type: ignore[no-untyped-def]
    """The first watch, from number `at` on, of a key of `db` (-1: of any); -1 when there is none."""
    watches = _watches(store)
    while at < store.server[WATCH_CAPACITY] and store.server[WATCHES] > 0:
        row = at * _WIDTH
        if watches[row + _CONNECTION] >= 0 and (db < 0 or watches[row + _DB] == db):
            return at
        at += 1
    return -1


@kernel
def watch_hash(store, at):  # type: ignore[no-untyped-def]
    """Hash of the key that is watched."""
    return _watches(store)[at * _WIDTH + _HASH]


@kernel
def touch_watch(store, at):  # type: ignore[no-untyped-def]
    """Tell the connection whose watch this is that the key changed."""
    _flag(store, _watches(store)[at * _WIDTH + _CONNECTION])


@linked(void(STORE, int64))
def touch_watched_db(store, db):  # type: ignore[no-untyped-def]
    """Tell every connection that watches a key that was there in `db` (-1: in any) that it changed."""
    watches = _watches(store)
    at = next_watch(store, db, 0)
    while at >= 0:
        if watches[at * _WIDTH + _PRESENT] != 0:
            touch_watch(store, at)
        at = next_watch(store, db, at + 1)
