"""Defragmentation of a store: what lies on nearly empty slab pages moves to others, in steps between turns.

A cycle has three states, whose position the store's registers hold:

    CHOOSING    the heap chooses the pages that are to be emptied (leaving pages, mmcore/heap/leaving.py)
    WALKING     a walk over all tables of all databases moves what lies on them: entries with their long values and
                their roots, the parts of great values (structures/evacuate.py), and overflow buckets; then
                the agendas of dated hashes, one of each database (dated.py)
    RETURNING   pages that could not be emptied are used again

The walk goes through the kinds of roots, so it knows no type.

Position.  A table, the cursor of a scan of it (linear.py), and within a bucket an entry and a position in its value.
The entry is only a hint: if the bucket's chain does not hold it any more, the walk goes on with the next bucket.  The
same holds for the root of an agenda.  So between two steps anything may happen to the store, even FLUSHALL.  A part
that is missed stays where it is until the next cycle.

Nothing that clients see changes.  No command keeps an address of the space from one turn to the next, and the walk
runs between turns only.  Data that wait to be freed (detached indices, the grave, queued ranges) are not moved.

While a frozen root exists, or one that waits for its release, nothing is done: every move would copy pages and tables
that the root shares, and so cost more memory than it saves.  The cycle goes on afterwards.

Fragmentation is exact: the bytes of mapped slab pages over those of the live allocations on them.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import RELEASE_COUNT
from kvstore.lifetimes.shard import (
    DEFRAG_HITS,
    DEFRAG_KEY_HITS,
    DEFRAG_KEY_MISSES,
    DEFRAG_MAX_SCAN_FIELDS,
    DEFRAG_MISSES,
    SCRATCH_ADDRESS,
    TIMER_MS,
)
from kvstore.lifetimes.store import (
    DEFRAG_AT,
    DEFRAG_CURSOR,
    DEFRAG_ENTRY,
    DEFRAG_GROUP,
    DEFRAG_KEY_MOVED,
    DEFRAG_PAGES,
    DEFRAG_POSITION,
    DEFRAG_REST_MS,
    DEFRAG_STATE,
    HASH_SEED,
    READ_ONLY,
)
from kvstore.store.copies import is_shared
from kvstore.store.databases import KEYS, db_load, db_store
from kvstore.store.entries import (
    EXPIRY,
    LARGE,
    TYPE_MASK,
    entry_flags,
    entry_hash,
    entry_key_length,
    entry_length,
    entry_root,
    entry_set_root,
    entry_set_value,
    entry_size,
    entry_value,
)
from kvstore.store.layout import (
    DATABASES,
    DB_DATED,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    INDEX_BASE,
    INDEX_STRIDE,
)
from kvstore.store.membership import deadline_slot
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.evacuate import (
    LOOKED,
    MOVED,
    TALLY_WORDS,
    move_part,
    move_pointed,
    overflow_evacuate,
    record_evacuate,
    root_evacuate,
    should_move,
)
from kvstore.structures.evacuate_groups import group_evacuate
from kvstore.structures.kinds import RECORD, STREAM, kind_of
from kvstore.structures.linear import scan_bucket, scan_next
from kvstore.structures.stream import GROUPS, NODES
from kvstore.structures.tree import position_address, tree_seek
from kvstore.system.libc import words_at
from mmcore.heap import heap_choose_step, heap_leaving, heap_return_step, heap_slab_pages, heap_slab_used
from mmcore.jit import int64, kernel, linked, view, void
from mmcore.mmu import load64, store64
from mmcore.paging import PAGE_SIZE

RESTING, CHOOSING, WALKING, RETURNING = range(4)
TABLES = 2 * DATABASES
AGENDAS = TABLES + DATABASES  # the walk ends there
PAGES_PER_PART = 8  # slab pages whose metadata take about as long to look at as one part
REST_MS, LONG_REST_MS = 1_000, 10_000  # after a cycle; after one that saved nothing
_OVER = -1


@linked(int64(CONTEXT))
def wasted_bytes(context):  # type: ignore[no-untyped-def]
    """Bytes of mapped slab pages in which no live allocation lies."""
    return heap_slab_pages(context.space) * PAGE_SIZE - heap_slab_used(context.space)


@linked(int64(CONTEXT))
def fragmentation(context):  # type: ignore[no-untyped-def]
    """Those bytes in percent of the bytes of live allocations on slab pages."""
    return 100 * wasted_bytes(context) // max(heap_slab_used(context.space), 1)


@kernel
def may_move(context):  # type: ignore[no-untyped-def]
    """Whether nothing shares pages with the store."""
    store = context.store
    return is_shared(context) | store[READ_ONLY] | context.pool[RELEASE_COUNT] == 0


@view
def _tally(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS], TALLY_WORDS)


@linked(void(CONTEXT))
def defrag_begin(context):  # type: ignore[no-untyped-def]
    """Begin a cycle."""
    store = context.store
    store[DEFRAG_STATE], store[DEFRAG_AT] = CHOOSING, 0
    store[DEFRAG_PAGES] = heap_slab_pages(context.space)


@linked(void(CONTEXT))
def defrag_abandon(context):  # type: ignore[no-untyped-def]
    """End the cycle early; pages that are leaving, if only in an image that was loaded, are still to be returned."""
    context.store[DEFRAG_STATE] = RETURNING


@kernel
def _walk_from(context, table):  # type: ignore[no-untyped-def]
    # Stand before the first bucket of a table.
    store = context.store
    store[DEFRAG_AT], store[DEFRAG_CURSOR], store[DEFRAG_ENTRY] = table, 0, 0


@linked(int64(CONTEXT, int64, int64, int64))
def _move_entry(context, db, slot, entry):  # type: ignore[no-untyped-def]
    """Move an entry, its long value and its root; returns the entry's address."""
    space, tally = context.space, _tally(context)
    flags = entry_flags(context, entry)
    if should_move(space, entry, tally):
        size = entry_size(entry_key_length(context, entry), entry_length(context, entry), flags)
        timed = 0
        if flags & EXPIRY:
            timed = deadline_slot(context, db, entry_hash(context, entry, context.store[HASH_SEED]), entry)
        moved = move_pointed(space, slot, entry, size, tally)
        if timed != 0 and moved != entry:
            store64(space, timed, load64(space, timed) - entry + moved)
        entry = moved
    if flags & LARGE:
        value = entry_value(context, entry)
        if should_move(space, value, tally):
            moved = move_part(space, value, entry_length(context, entry), tally)
            if moved != value:
                entry_set_value(context, entry, moved)
    elif flags & TYPE_MASK:
        entry_set_root(context, entry, root_evacuate(space, entry_root(context, entry), tally))
    return entry


@linked(int64(CONTEXT, int64, int64))
def _move_stream(context, root, budget):  # type: ignore[no-untyped-def]
    """Go on with the nodes of a stream, its groups, and what lies below each of them; returns the next position."""
    space, store, tally = context.space, context.store, _tally(context)
    groups, position, end = load64(space, root + GROUPS), store[DEFRAG_POSITION], tally[LOOKED] + budget
    while tally[LOOKED] < end:
        left, part = end - tally[LOOKED], store[DEFRAG_GROUP]
        if part < 2:
            record = load64(space, root + NODES) if part == 0 else groups
            at = record_evacuate(space, record, store[HASH_SEED], position, left, tally) if record != 0 else _OVER
        else:
            where = tree_seek(space, groups, part - 2, 0) if groups != 0 else int64(0)
            if where == 0:
                return _OVER
            room = context.shard[SCRATCH_ADDRESS] + 8 * TALLY_WORDS
            at = group_evacuate(space, position_address(space, where), position, left, room, tally)
        position = at
        if at == _OVER:
            store[DEFRAG_GROUP], position = part + 1, int64(0)
            end -= 1
    return position


@kernel
def _move_parts(context, entry, budget):  # type: ignore[no-untyped-def]
    # Go on with the parts of an entry's value; returns the next position.
    store = context.store
    if entry_flags(context, entry) & TYPE_MASK == 0:
        return _OVER
    root = entry_root(context, entry)
    budget = min(budget, context.shard[DEFRAG_MAX_SCAN_FIELDS])
    if kind_of(context.space, root) == STREAM:
        return _move_stream(context, root, budget)
    if kind_of(context.space, root) != RECORD:
        return _OVER
    return record_evacuate(context.space, root, store[HASH_SEED], store[DEFRAG_POSITION], budget, _tally(context))


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _visit(context, db, slot, entry, budget):  # type: ignore[no-untyped-def]
    """Move an entry and parts of its value, or go on with the parts.  Whether that was all (0 or 1)."""
    shard, store, tally = context.shard, context.store, _tally(context)
    moved = tally[MOVED]
    if store[DEFRAG_ENTRY] == 0:
        entry = _move_entry(context, db, slot, entry)
        store[DEFRAG_ENTRY], store[DEFRAG_POSITION], store[DEFRAG_GROUP], store[DEFRAG_KEY_MOVED] = entry, 0, 0, 0
    position = _move_parts(context, entry, budget)
    store[DEFRAG_KEY_MOVED] |= int64(tally[MOVED] != moved)
    if position != _OVER:
        store[DEFRAG_POSITION] = position
        return 0
    store[DEFRAG_ENTRY] = 0
    shard[DEFRAG_KEY_HITS] += store[DEFRAG_KEY_MOVED]
    shard[DEFRAG_KEY_MISSES] += 1 - store[DEFRAG_KEY_MOVED]
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def _walk_bucket(context, db, bucket, budget):  # type: ignore[no-untyped-def]
    """Visit the entries of a bucket of keys and its overflow buckets.  Whether that was all (0 or 1)."""
    space, store, tally = context.space, context.store, _tally(context)
    end, resumed = tally[LOOKED] + budget, store[DEFRAG_ENTRY]
    while bucket != 0:
        for i in range(SLOTS):
            entry = bucket_element(space, bucket, i)
            if entry == 0 or (resumed != 0 and entry != resumed):
                continue
            resumed = 0
            if _visit(context, db, bucket + 8 * i, entry, max(1, end - tally[LOOKED])) == 0:
                return 0
        bucket = next_overflow(space, bucket)
    store[DEFRAG_ENTRY] = 0
    return 1


@linked(void(CONTEXT, int64, int64))
def _walk_agenda(context, db, budget):  # type: ignore[no-untyped-def]
    """Move the agenda of a database, or go on with its parts; then stand before the next one."""
    space, store, tally, position = context.space, context.store, _tally(context), _OVER
    root = db_load(context, db, DB_DATED)
    if root != 0 and store[DEFRAG_ENTRY] == 0:
        moved = root_evacuate(space, root, tally)
        if moved != root:
            db_store(context, db, DB_DATED, moved)
        root = store[DEFRAG_ENTRY] = moved
        store[DEFRAG_POSITION] = 0
    if root != 0 and root == store[DEFRAG_ENTRY] and kind_of(space, root) == RECORD:
        position = record_evacuate(space, root, store[HASH_SEED], store[DEFRAG_POSITION], budget, tally)
    if position == _OVER:
        _walk_from(context, store[DEFRAG_AT] + 1)
    else:
        store[DEFRAG_POSITION] = position


@linked(void(CONTEXT, int64))
def _walk(context, budget):  # type: ignore[no-untyped-def]
    """Go on with the walk for about `budget` parts."""
    space, store, tally = context.space, context.store, _tally(context)
    end = tally[LOOKED] + budget
    while tally[LOOKED] < end and store[DEFRAG_AT] < AGENDAS and heap_leaving(space):
        if store[DEFRAG_AT] >= TABLES:
            _walk_agenda(context, store[DEFRAG_AT] - TABLES, end - tally[LOOKED])
            continue
        db, which = store[DEFRAG_AT] >> 1, store[DEFRAG_AT] & 1
        buckets = db_load(context, db, DB_KEY_BUCKETS + 8 * which)
        if buckets == 0 or db_load(context, db, DB_KEYS + 8 * which) == 0:
            _walk_from(context, store[DEFRAG_AT] + 1)
            continue
        base = INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION + 8 * which)
        bucket = base + BUCKET_SIZE * scan_bucket(store[DEFRAG_CURSOR], buckets)
        link = bucket if store[DEFRAG_ENTRY] == 0 else 0
        while link != 0:
            overflow_evacuate(space, link, tally)
            link = next_overflow(space, link)
        end -= 1  # an empty bucket is work, too
        if which == KEYS and _walk_bucket(context, db, bucket, end - tally[LOOKED]) == 0:
            break
        store[DEFRAG_CURSOR] = scan_next(store[DEFRAG_CURSOR], buckets)
        if store[DEFRAG_CURSOR] == 0:
            _walk_from(context, store[DEFRAG_AT] + 1)


@kernel
def _rest(context):  # type: ignore[no-untyped-def]
    store = context.store
    store[DEFRAG_STATE] = RESTING
    saved = heap_slab_pages(context.space) < store[DEFRAG_PAGES]
    store[DEFRAG_REST_MS] = context.shard[TIMER_MS] + (REST_MS if saved else LONG_REST_MS)


@linked(int64(CONTEXT, int64))
def defrag_step(context, budget):  # type: ignore[no-untyped-def]
    """Go on with the cycle for about `budget` parts; returns whether it goes on (0 or 1).

    Frames may be so short that nothing can be moved.  Then the cycle ends without effect.
    """
    shard, store, space = context.shard, context.store, context.space
    state = store[DEFRAG_STATE]
    if state == CHOOSING:
        page = heap_choose_step(space, store[DEFRAG_AT], PAGES_PER_PART * budget)
        if page == store[DEFRAG_AT]:
            defrag_abandon(context)
        elif page >= 0:
            store[DEFRAG_AT] = page
        else:
            store[DEFRAG_STATE] = WALKING
            _walk_from(context, 0)
    elif state == WALKING:
        tally = _tally(context)
        tally[LOOKED] = tally[MOVED] = 0
        _walk(context, budget)
        shard[DEFRAG_HITS] += tally[MOVED]
        shard[DEFRAG_MISSES] += tally[LOOKED] - tally[MOVED]
        if store[DEFRAG_AT] == AGENDAS or not heap_leaving(space):
            store[DEFRAG_STATE] = RETURNING
    elif state == RETURNING:
        if heap_return_step(space, budget) == 0 or not heap_leaving(space):
            _rest(context)
    return int64(store[DEFRAG_STATE] != RESTING)
