"""WATCH: the table of connections that must learn of a change to their watched keys.

A watch is a row of one malloc'd table: connection (-1 for a free row), database, hash of the key, deadline of the key
at that time (EXEC fails when it has passed), whether the key existed, and its places in three lists:

    of its connection    to drop them all
    of its key           to find the watchers of a changed key; doubly linked, because a key may have many watchers
    of both              to find out whether this connection watches this key already

The heads of the second and third kind of list are interleaved in one array: chain c has its heads at 2 * c and
2 * c + 1.  The chains grow by linear hashing, as the index does, so the time to add, find or drop a watch does not
depend on the number of watches.  When no watch is left, all but a small table is freed.

The 64-bit hash stands for the key.  Two keys with the same hash may abort a transaction needlessly, but no change is
missed.  The DIRTY_CAS flag of a connection tells it that a watched key has changed.
"""

from kvstore.lifetimes.connection import DIRTY_CAS, FIELDS, FLAGS, WATCH_SIZE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import CONNECTIONS_ADDRESS
from kvstore.lifetimes.store import (
    LISTENERS,
    WATCH_CAPACITY,
    WATCH_CHAINS,
    WATCH_FREE,
    WATCH_HEADS_ADDRESS,
    WATCH_HEADS_CAPACITY,
    WATCH_TABLE_ADDRESS,
    WATCH_USED,
    WATCHES,
    WATCHING,
)
from kvstore.structures.linear import bucket_number
from kvstore.system.libc import free, realloc, words_at
from mmcore.jit import int64, kernel, linked, view, void

(
    _CONNECTION,
    _DB,
    _HASH,
    _DEADLINE,
    _PRESENT,
    _NEXT_OF_CONNECTION,  # and the next free row
    _NEXT_OF_KEY,
    _BEFORE_OF_KEY,
    _NEXT_OF_BOTH,
    _WIDTH,
) = range(10)
CAPACITY_MIN = 64  # rows, and chains
assert WATCH_SIZE == 8 * (_WIDTH + 2)
CAPACITY_KEPT = 256  # rows that stay when no watch is left
_SPREAD = 0x2545_F491_4F6C_DD1D


@view
def _watches(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[WATCH_TABLE_ADDRESS], context.store[WATCH_CAPACITY] * _WIDTH)


@view
def _heads(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[WATCH_HEADS_ADDRESS], context.store[WATCH_HEADS_CAPACITY] * 2)


@kernel
def _key_hash(db, hash_):  # type: ignore[no-untyped-def]
    return hash_ ^ (db * 0x9E37)


@kernel
def _pair_hash(slot, db, hash_):  # type: ignore[no-untyped-def]
    return _key_hash(db, hash_) ^ (slot * _SPREAD)


@linked(int64(CONTEXT, int64, int64, int64))
def is_watched(context, slot, db, hash_):  # type: ignore[no-untyped-def]
    """Whether the connection in `slot` watches this key already (0 or 1)."""
    chains = context.store[WATCH_CHAINS]
    if chains == 0:
        return 0
    watches = _watches(context)
    at = _heads(context)[2 * bucket_number(_pair_hash(slot, db, hash_), chains) + 1]
    while at >= 0:
        row = at * _WIDTH
        if watches[row + _CONNECTION] == slot and watches[row + _DB] == db and watches[row + _HASH] == hash_:
            return 1
        at = watches[row + _NEXT_OF_BOTH]
    return 0


@kernel
def _push(watches, heads, at, of_key, of_both):  # type: ignore[no-untyped-def]
    # Put a row in front of these two chains.
    row, first = at * _WIDTH, heads[2 * of_key]
    watches[row + _NEXT_OF_KEY], watches[row + _BEFORE_OF_KEY] = first, -1
    if first >= 0:
        watches[first * _WIDTH + _BEFORE_OF_KEY] = at
    heads[2 * of_key] = at
    watches[row + _NEXT_OF_BOTH] = heads[2 * of_both + 1]
    heads[2 * of_both + 1] = at


@kernel
def _take_from_key(watches, heads, at, chain):  # type: ignore[no-untyped-def]
    row = at * _WIDTH
    before, following = watches[row + _BEFORE_OF_KEY], watches[row + _NEXT_OF_KEY]
    if before >= 0:
        watches[before * _WIDTH + _NEXT_OF_KEY] = following
    else:
        heads[2 * chain] = following
    if following >= 0:
        watches[following * _WIDTH + _BEFORE_OF_KEY] = before


@kernel
def _take_from_both(watches, heads, at, chain):  # type: ignore[no-untyped-def]
    following = watches[at * _WIDTH + _NEXT_OF_BOTH]
    here = heads[2 * chain + 1]
    if here == at:
        heads[2 * chain + 1] = following
        return
    while watches[here * _WIDTH + _NEXT_OF_BOTH] != at:
        here = watches[here * _WIDTH + _NEXT_OF_BOTH]
    watches[here * _WIDTH + _NEXT_OF_BOTH] = following


@linked(int64(CONTEXT))
def _add_chain(context):  # type: ignore[no-untyped-def]
    """Split one chain in two, or make the first ones: 0, or -1 when memory ran out, which only makes chains longer."""
    store = context.store
    chains = store[WATCH_CHAINS]
    if chains == store[WATCH_HEADS_CAPACITY]:
        capacity = max(CAPACITY_MIN, 2 * chains)
        address = realloc(store[WATCH_HEADS_ADDRESS], capacity * 2 * 8)
        if address == 0:
            return -1
        store[WATCH_HEADS_ADDRESS], store[WATCH_HEADS_CAPACITY] = address, capacity
    heads = _heads(context)
    if chains == 0:
        for i in range(2 * CAPACITY_MIN):
            heads[i] = -1
        store[WATCH_CHAINS] = CAPACITY_MIN
        return 0
    watches = _watches(context)
    heads[2 * chains] = heads[2 * chains + 1] = -1
    store[WATCH_CHAINS] = chains + 1
    half = 1
    while 2 * half <= chains:
        half *= 2
    first = chains - half  # this chain holds the rows that belong to the new one
    at = heads[2 * first]
    while at >= 0:
        row = at * _WIDTH
        following = watches[row + _NEXT_OF_KEY]
        if bucket_number(_key_hash(watches[row + _DB], watches[row + _HASH]), chains + 1) == chains:
            _take_from_key(watches, heads, at, first)
            head = heads[2 * chains]
            watches[row + _NEXT_OF_KEY], watches[row + _BEFORE_OF_KEY] = head, -1
            if head >= 0:
                watches[head * _WIDTH + _BEFORE_OF_KEY] = at
            heads[2 * chains] = at
        at = following
    at, stay = heads[2 * first + 1], -1
    while at >= 0:
        row = at * _WIDTH
        following = watches[row + _NEXT_OF_BOTH]
        hash_ = _pair_hash(watches[row + _CONNECTION], watches[row + _DB], watches[row + _HASH])
        if bucket_number(hash_, chains + 1) == chains:
            watches[row + _NEXT_OF_BOTH] = heads[2 * chains + 1]
            heads[2 * chains + 1] = at
        else:
            watches[row + _NEXT_OF_BOTH] = stay
            stay = at
        at = following
    heads[2 * first + 1] = stay
    return 0


@kernel
def _take_row(context):  # type: ignore[no-untyped-def]
    # A free row, or -1 when memory ran out.
    store = context.store
    at = store[WATCH_FREE]
    if at >= 0:
        store[WATCH_FREE] = _watches(context)[at * _WIDTH + _NEXT_OF_CONNECTION]
        return at
    if store[WATCH_USED] == store[WATCH_CAPACITY]:
        capacity = max(CAPACITY_MIN, 2 * store[WATCH_CAPACITY])
        address = realloc(store[WATCH_TABLE_ADDRESS], capacity * _WIDTH * 8)
        if address == 0:
            return -1
        store[WATCH_TABLE_ADDRESS], store[WATCH_CAPACITY] = address, capacity
    store[WATCH_USED] += 1
    return store[WATCH_USED] - 1


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def watch_add(context, slot, first, db, hash_, deadline, present):  # type: ignore[no-untyped-def]
    """Add a watch before `first`; returns the connection's new first watch, or -1 when memory ran out."""
    store = context.store
    if store[WATCHES] >= store[WATCH_CHAINS] and _add_chain(context) != 0 and store[WATCH_CHAINS] == 0:
        return -1
    at = _take_row(context)
    if at < 0:
        return -1
    watches, chains = _watches(context), store[WATCH_CHAINS]
    row = at * _WIDTH
    watches[row + _CONNECTION] = slot
    watches[row + _DB] = db
    watches[row + _HASH] = hash_
    watches[row + _DEADLINE] = deadline
    watches[row + _PRESENT] = present
    watches[row + _NEXT_OF_CONNECTION] = first
    of_key = bucket_number(_key_hash(db, hash_), chains)
    _push(watches, _heads(context), at, of_key, bucket_number(_pair_hash(slot, db, hash_), chains))
    store[WATCHES] += 1
    store[LISTENERS] |= WATCHING
    return at


@kernel
def _give_back(context):  # type: ignore[no-untyped-def]
    # No watch is left: start afresh with a small table.
    store = context.store
    store[WATCH_FREE], store[WATCH_USED] = -1, 0
    if store[WATCH_CAPACITY] > CAPACITY_KEPT:
        free(store[WATCH_TABLE_ADDRESS])
        free(store[WATCH_HEADS_ADDRESS])
        store[WATCH_TABLE_ADDRESS] = store[WATCH_CAPACITY] = 0
        store[WATCH_HEADS_ADDRESS] = store[WATCH_HEADS_CAPACITY] = store[WATCH_CHAINS] = 0


@linked(void(CONTEXT, int64[::1], int64, int64))
def unwatch_all(context, connection, first_field, count_field):  # type: ignore[no-untyped-def]
    """Drop every watch of the connection with this row."""
    if connection[first_field] < 0:
        return
    store = context.store
    watches, heads, chains = _watches(context), _heads(context), store[WATCH_CHAINS]
    at = connection[first_field]
    while at >= 0:
        row = at * _WIDTH
        slot, db, hash_ = watches[row + _CONNECTION], watches[row + _DB], watches[row + _HASH]
        _take_from_key(watches, heads, at, bucket_number(_key_hash(db, hash_), chains))
        _take_from_both(watches, heads, at, bucket_number(_pair_hash(slot, db, hash_), chains))
        following = watches[row + _NEXT_OF_CONNECTION]
        watches[row + _CONNECTION] = -1
        watches[row + _NEXT_OF_CONNECTION] = store[WATCH_FREE]
        store[WATCH_FREE] = at
        store[WATCHES] -= 1
        at = following
    connection[first_field] = -1
    connection[count_field] = 0
    if store[WATCHES] == 0:
        store[LISTENERS] &= ~WATCHING
        _give_back(context)


@linked(int64(CONTEXT, int64, int64))
def watched_expired(context, first, now_ms):  # type: ignore[no-untyped-def]
    """Whether the deadline of a key watched from `first` on has passed since (0 or 1)."""
    watches = _watches(context)
    at = first
    while at >= 0:
        deadline = watches[at * _WIDTH + _DEADLINE]
        if deadline != 0 and deadline <= now_ms:
            return 1
        at = watches[at * _WIDTH + _NEXT_OF_CONNECTION]
    return 0


@kernel
def _flag(context, slot):  # type: ignore[no-untyped-def]
    row = words_at(context.shard[CONNECTIONS_ADDRESS] + slot * FIELDS * 8, FIELDS)
    row[FLAGS] |= DIRTY_CAS


@kernel
def chain_length(context, chain, which):  # type: ignore[no-untyped-def]
    """Rows in a chain of keys (0) or of pairs of a connection and a key (1)."""
    watches, length = _watches(context), 0
    at = _heads(context)[2 * chain + which]
    while at >= 0:
        length += 1
        at = watches[at * _WIDTH + (_NEXT_OF_BOTH if which else _NEXT_OF_KEY)]
    return length


@linked(void(CONTEXT, int64, int64))
def touch_watched(context, db, hash_):  # type: ignore[no-untyped-def]
    """Tell every connection that watches this key that it changed.  Requires that there are watches."""
    watches = _watches(context)
    at = _heads(context)[2 * bucket_number(_key_hash(db, hash_), context.store[WATCH_CHAINS])]
    while at >= 0:
        row = at * _WIDTH
        if watches[row + _DB] == db and watches[row + _HASH] == hash_:
            _flag(context, watches[row + _CONNECTION])
        at = watches[row + _NEXT_OF_KEY]


@linked(int64(CONTEXT, int64, int64))
def next_watch(context, db, at):  # type: ignore[no-untyped-def]
    """The first watch, from number `at` on, of a key of `db` (-1: of any); -1 when there is none."""
    watches = _watches(context)
    while at < context.store[WATCH_USED] and context.store[WATCHES] > 0:
        row = at * _WIDTH
        if watches[row + _CONNECTION] >= 0 and (db < 0 or watches[row + _DB] == db):
            return at
        at += 1
    return -1


@kernel
def watch_hash(context, at):  # type: ignore[no-untyped-def]
    """Hash of the watched key."""
    return _watches(context)[at * _WIDTH + _HASH]


@kernel
def touch_watch(context, at):  # type: ignore[no-untyped-def]
    """Tell the connection that owns this watch that the key changed."""
    _flag(context, _watches(context)[at * _WIDTH + _CONNECTION])


@linked(void(CONTEXT, int64))
def touch_watched_db(context, db):  # type: ignore[no-untyped-def]
    """Tell every connection that watches a key which existed in `db` (-1: in any) that it changed."""
    watches = _watches(context)
    at = next_watch(context, db, 0)
    while at >= 0:
        if watches[at * _WIDTH + _PRESENT] != 0:
            touch_watch(context, at)
        at = next_watch(context, db, at + 1)


@linked(void(CONTEXT, int64))
def touch_all_watched(context, db):  # type: ignore[no-untyped-def]
    """Tell every connection that watches a key of `db`, whether it exists or not, that it changed."""
    at = next_watch(context, db, 0)
    while at >= 0:
        touch_watch(context, at)
        at = next_watch(context, db, at + 1)
