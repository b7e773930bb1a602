"""FLUSHALL and FLUSHDB in constant time, and the work they leave for later.

FLUSHALL replaces the whole address space by an empty page table.  The old tree is released in bounded steps, like a
snapshot's.  FLUSHDB does the same when no other database has keys.  Otherwise it detaches the database's two index
regions and gives the database fresh ones; the entries of the old ones are freed a few each turn.  The list of detached
regions lies in the address space.  So a snapshot taken meanwhile contains it, and a server that restarts from that
snapshot goes on with the work.  layout.py describes the records of the list.

`background_step` does a little of all work that waits: it releases old trees, detached regions, freed collections (the
grave) and long freed values, drops names that were left (leftnames.py), shrinks tables that have too many buckets for
their keys, and returns free frames to the system (mmcore/giveback.py).

A frame of a tree that is released may have been charged to any store.  Each comes off the account that paid for it.
"""

from kvstore.effects.door import emptied
from kvstore.effects.events import ALL_DATABASES
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import GIVE_ALL, GIVE_CREDIT, RELEASE_ADDRESS, RELEASE_COUNT, RELEASE_FIRST
from kvstore.lifetimes.shard import LAZYFREED_OBJECTS
from kvstore.lifetimes.sizes import RELEASES_MAX
from kvstore.lifetimes.store import (
    COMBINED_ROOT_PLUS_1,
    COMBINING_ADDRESS,
    COPY_NUMBER,
    COPY_OWNER,
    COPY_ROOT,
    COPY_STALE,
    FROZEN_ROOTS,
)
from kvstore.store.databases import TIMES, db_load, db_store, keyspace_init
from kvstore.store.entries import entry_free
from kvstore.store.index import BUCKETS_MIN, PAGE_BUCKETS
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_FLUSHING,
    CONTROL_GRAVE,
    CONTROL_REGIONS,
    DATABASES,
    DB_DATED,
    DB_DEADLINE_BUCKETS,
    DB_DEADLINE_REGION,
    DB_DEADLINES,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DB_LEFT,
    INDEX_BASE,
    INDEX_REGIONS,
    INDEX_STRIDE,
    RECORD_DEADLINES,
    RECORD_KEY_BUCKETS,
    RECORD_KEY_REGION,
    RECORD_NEXT,
    RECORD_REGION_SHIFT,
    RECORD_SIZE,
)
from kvstore.store.leftnames import drop_left_names
from kvstore.store.membership import shrink
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.collection import root_free
from kvstore.structures.grave import dig
from kvstore.system.libc import free, words_at
from mmcore.frames import has_frames
from mmcore.giveback import give_back, resident_free
from mmcore.heap import heap_alloc, heap_free, heap_reclaim_step
from mmcore.jit import int64, kernel, linked, view, void
from mmcore.mapping import reset, unmap_pages
from mmcore.mmu import load64, store64
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from mmcore.state import FREE_COUNT, TOTAL

KEEP_FRAMES, KEEP_SHIFT = 2048, 4  # 8 MiB, or a sixteenth of what is in use
GIVE_LEAST = 2048  # frames a tick
GIVE_PER_TURN = 256  # frames, or as much work: some 100 us
FRAMES_TO_FLUSH = 64  # that an emptied database needs at once, or one step of the work left for later


@view
def _release_cursor(context, i):  # type: ignore[no-untyped-def]
    return words_at(context.pool[RELEASE_ADDRESS] + (i % RELEASES_MAX) * CURSOR_SIZE * 8, CURSOR_SIZE)


@linked(int64(CONTEXT, int64))
def _release_first(context, budget):  # type: ignore[no-untyped-def]
    """Release about `budget` frames of the tree that has waited for longest; returns how many."""
    pool = context.pool
    cursor = _release_cursor(context, pool[RELEASE_FIRST])
    done = release_step(context.space.mem, cursor, budget)
    if cursor[0] == RELEASED:
        pool[RELEASE_FIRST] += 1
        pool[RELEASE_COUNT] -= 1
    return done


@linked(void(CONTEXT, int64))
def release_root(context, root):  # type: ignore[no-untyped-def]
    """Take over the root of a tree that is no longer read, and release it between turns."""
    pool = context.pool
    if pool[RELEASE_COUNT] == RELEASES_MAX:  # flushes come faster than trees can be released: release one now
        while pool[RELEASE_COUNT] == RELEASES_MAX:
            _release_first(context, 1 << 20)
    release_begin(_release_cursor(context, pool[RELEASE_FIRST] + pool[RELEASE_COUNT]), root)
    pool[RELEASE_COUNT] += 1


@linked(void(CONTEXT))
def release_copied(context):  # type: ignore[no-untyped-def]
    """Hand over the frozen root of a COPY that has ended, or was given up; see copying.py.

    Of a BITOP in steps, also what it has made so far.
    """
    store = context.store
    if store[COMBINED_ROOT_PLUS_1] != 0:
        release_root(context, store[COMBINED_ROOT_PLUS_1] - 1)
        free(store[COMBINING_ADDRESS])
        store[COMBINED_ROOT_PLUS_1] = store[COMBINING_ADDRESS] = 0
    if store[COPY_ROOT] >= 0:
        release_root(context, store[COPY_ROOT])
        store[COPY_ROOT] = -1
        store[FROZEN_ROOTS] -= 1


@linked(int64(CONTEXT))
def flush_all(context):  # type: ignore[no-untyped-def]
    """Empty every database: 1, or 0 when there are no frames for an empty store."""
    keys = 0
    for db in range(DATABASES):
        keys += db_load(context, db, DB_KEYS)
    if not has_frames(context.space, FRAMES_TO_FLUSH):
        return 0
    emptied(context, ALL_DATABASES, max(keys, 1))
    context.store[COPY_STALE] = 1
    old = reset(context.space)
    code = keyspace_init(context)
    assert code == 0, "no frame was reserved for an empty store"
    release_root(context, old)
    return 1


@kernel
def _free_region(context):  # type: ignore[no-untyped-def]
    # Take an index region that is not in use.  There are more of them than databases and queue records can hold.
    used = load64(context.space, CONTROL_BASE + CONTROL_REGIONS)
    for region in range(INDEX_REGIONS):
        if used & (1 << region) == 0:
            store64(context.space, CONTROL_BASE + CONTROL_REGIONS, used | (1 << region))
            return region
    return -1


@kernel
def _regions_left(context):  # type: ignore[no-untyped-def]
    used, left = load64(context.space, CONTROL_BASE + CONTROL_REGIONS), 0
    for region in range(INDEX_REGIONS):
        if used & (1 << region) == 0:
            left += 1
    return left


@kernel
def _drop_last_bucket(context, region, buckets, entries_too):  # type: ignore[no-untyped-def]
    # Free the last bucket of a detached table: its overflow, its entries if they are to go, and its page if it was the
    # page's first bucket.
    space = context.space
    first = INDEX_BASE + INDEX_STRIDE * region + BUCKET_SIZE * (buckets - 1)
    bucket = first
    while bucket != 0:
        following = next_overflow(context.space, bucket)
        if entries_too:
            for i in range(SLOTS):
                entry = bucket_element(context.space, bucket, i)
                if entry != 0:
                    entry_free(context, entry)
                    context.shard[LAZYFREED_OBJECTS] += 1
        if bucket != first:
            code = heap_free(space, bucket, BUCKET_SIZE)
            assert code == 0, "no frame was reserved for a release"
        bucket = following
    if (buckets - 1) % PAGE_BUCKETS == 0:
        code = unmap_pages(space, first, 1)
        assert code == 0, "no frame was reserved for a release"


@linked(int64(CONTEXT, int64))
def _flush_step(context, budget):  # type: ignore[no-untyped-def]
    """Free up to `budget` buckets of the regions detached last; returns how many were freed."""
    space = context.space
    done = 0
    while done < budget:
        record = load64(space, CONTROL_BASE + CONTROL_FLUSHING)
        if record == 0 or not has_frames(space, FRAMES_TO_FLUSH):
            break
        keys, word = load64(space, record + RECORD_KEY_BUCKETS), load64(space, record + RECORD_DEADLINES)
        region, deadlines = word >> RECORD_REGION_SHIFT, word & ((1 << RECORD_REGION_SHIFT) - 1)
        # The deadlines go first: their index points at entries that the index of keys still owns.
        if deadlines > 0:
            _drop_last_bucket(context, region, deadlines, False)
            store64(space, record + RECORD_DEADLINES, word - 1)
        elif keys > 0:
            _drop_last_bucket(context, load64(space, record + RECORD_KEY_REGION), keys, True)
            store64(space, record + RECORD_KEY_BUCKETS, keys - 1)
        else:
            used = load64(space, CONTROL_BASE + CONTROL_REGIONS)
            used &= ~((1 << load64(space, record + RECORD_KEY_REGION)) | (1 << region))
            store64(space, CONTROL_BASE + CONTROL_REGIONS, used)
            store64(space, CONTROL_BASE + CONTROL_FLUSHING, load64(space, record + RECORD_NEXT))
            code = heap_free(space, record, RECORD_SIZE)
            assert code == 0, "no frame was reserved for a release"
        done += 1
    return done


@kernel
def _drop_dated(context, db):  # type: ignore[no-untyped-def]
    # Forget the names of hashes with deadlines, and those that were left.
    if db_load(context, db, DB_DATED) != 0:
        root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, db_load(context, db, DB_DATED))
        db_store(context, db, DB_DATED, 0)
        db_store(context, db, DB_LEFT, 0)


@linked(int64(CONTEXT, int64))
def flush_db(context, db):  # type: ignore[no-untyped-def]
    """Empty one database: 1, or 0 when there are not enough frames."""
    keys = db_load(context, db, DB_KEYS)
    others = 0
    for other in range(DATABASES):
        if other != db:
            others += db_load(context, other, DB_KEYS)
    if keys > 0 and others == 0:
        return flush_all(context)
    if not has_frames(context.space, FRAMES_TO_FLUSH):
        return 0
    _drop_dated(context, db)
    if keys == 0:
        emptied(context, db, 1)
        return 1
    while _regions_left(context) < 2:  # databases are flushed faster than regions are freed: free one now
        if _flush_step(context, 64) == 0:
            return 0
    emptied(context, db, keys)
    context.store[COPY_STALE] = 1
    record = heap_alloc(context.space, RECORD_SIZE)
    assert record != 0, "no frame was reserved for a record"
    space = context.space
    store64(space, record + RECORD_NEXT, load64(space, CONTROL_BASE + CONTROL_FLUSHING))
    store64(space, record + RECORD_KEY_REGION, db_load(context, db, DB_KEY_REGION))
    store64(space, record + RECORD_KEY_BUCKETS, db_load(context, db, DB_KEY_BUCKETS))
    region, buckets = db_load(context, db, DB_DEADLINE_REGION), db_load(context, db, DB_DEADLINE_BUCKETS)
    store64(space, record + RECORD_DEADLINES, region << RECORD_REGION_SHIFT | buckets)
    store64(space, CONTROL_BASE + CONTROL_FLUSHING, record)
    db_store(context, db, DB_KEY_REGION, _free_region(context))
    db_store(context, db, DB_DEADLINE_REGION, _free_region(context))
    db_store(context, db, DB_KEYS, 0)
    db_store(context, db, DB_DEADLINES, 0)
    db_store(context, db, DB_KEY_BUCKETS, 0)
    db_store(context, db, DB_DEADLINE_BUCKETS, 0)
    return 1


@linked(int64(CONTEXT, int64))
def _shrink_step(context, budget):  # type: ignore[no-untyped-def]
    """Merge up to `budget` buckets of tables that are too large; returns how many were merged."""
    done = 0
    for db in range(DATABASES):
        for which in range(TIMES + 1):
            if db_load(context, db, DB_KEY_BUCKETS + 8 * which) > BUCKETS_MIN:
                while done < budget:
                    merges = shrink(context, db, which)
                    if merges == 0:
                        break
                    done += merges
    return done


@linked(int64(CONTEXT, int64))
def release_some(context, budget):  # type: ignore[no-untyped-def]
    """Free about `budget` pages of old trees, detached regions, collections and long values; returns 0 when none wait.

    No live key moves.
    """
    pool, store = context.pool, context.store
    done = 0
    if store[COPY_OWNER] == 0:
        release_copied(context)
    if pool[RELEASE_COUNT] > 0:
        done += _release_first(context, 8 * budget)
    if load64(context.space, CONTROL_BASE + CONTROL_FLUSHING) != 0:
        done += _flush_step(context, budget >> 3)
    if load64(context.space, CONTROL_BASE + CONTROL_GRAVE) != 0:
        builder = store[COPY_NUMBER] if store[COPY_OWNER] != 0 and store[COPY_STALE] == 0 else 0
        done += dig(context.space, CONTROL_BASE + CONTROL_GRAVE, budget, builder)
    return done + heap_reclaim_step(context.space, budget)


# --------------------------------------------------------------------------------------- frames back to the system


@kernel
def _frames_to_keep(context):  # type: ignore[no-untyped-def]
    # Free frames that stay with the process, so that data deleted and written again cause no page faults.
    frames = context.space.mem.frames
    return max(KEEP_FRAMES, (frames[TOTAL] - frames[FREE_COUNT]) >> KEEP_SHIFT)


@linked(void(CONTEXT))
def give_back_credit(context):  # type: ignore[no-untyped-def]
    """Once a tick: let background_step return a part of the surplus of free frames to the system.

    It is only a part, so that memory which comes and goes within a second or so mostly stays with the process.  A small
    surplus is kept.
    """
    keep = _frames_to_keep(context)
    surplus = resident_free(context.space.mem) - keep
    context.pool[GIVE_CREDIT] = min(surplus, max(surplus >> 3, GIVE_LEAST)) if surplus > keep >> 2 else 0


@linked(int64(CONTEXT))
def _give_back_step(context):  # type: ignore[no-untyped-def]
    """Return a turn's worth of frames to the system; returns the work done."""
    pool = context.pool
    work = give_back(context.space.mem, GIVE_PER_TURN)
    if work < 0:  # the system refuses
        pool[GIVE_CREDIT] = pool[GIVE_ALL] = 0
        return 0
    pool[GIVE_CREDIT] = max(0, pool[GIVE_CREDIT] - max(work, 1))
    return max(work, 1)


@linked(int64(CONTEXT, int64))
def background_step(context, budget):  # type: ignore[no-untyped-def]
    """Do about `budget` pages' worth of waiting work; returns 0 when no work waits."""
    pool = context.pool
    done = release_some(context, budget) + drop_left_names(context, budget) + _shrink_step(context, budget >> 1)
    if pool[GIVE_ALL] != 0:
        pool[GIVE_CREDIT] = resident_free(context.space.mem)
        if done == 0 and pool[GIVE_CREDIT] == 0:
            pool[GIVE_ALL] = 0
    if pool[GIVE_CREDIT] > 0:
        done += _give_back_step(context)
    return done
