"""The index: linear hashing over cache lines, in the address space.

A bucket is a cache line of slots (kvstore/structures/buckets.py), at base + 64 * number; virtual memory is its
directory.  A slot points at an entry.  Chains of overflow buckets stay short because the table grows.

Growth (Litwin, "Linear hashing", VLDB 1980).  With N buckets, a hash belongs to bucket h mod 2^k, where 2^k is the next
power of two >= N; or to h mod 2^(k-1) if that bucket does not exist yet.  The table splits a bucket when there are
LOAD_MAX entries a bucket.  A split adds bucket N and moves to it the entries of bucket N - 2^(k-1) that now belong
there.  That is one bucket's work, however large the table is.  A merge undoes the last split.  Bucket pages are mapped
and unmapped on the way.

Scan.  Cursors visit the buckets in the order of their reversed binary numbers, as in Redis.  The two halves of a split
bucket then follow each other in its place, and a bucket that is merged into another came before it.  So the scan meets
every entry that exists throughout.

The functions take the table as (base, buckets), which databases.py keeps.  A function that lacks frames returns
NO_FRAME or does nothing.  Functions that write assert instead, because their callers have reserved frames.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.store.entries import entry_hash, entry_is
from kvstore.structures.buckets import (
    ADDRESS,
    BUCKET_SIZE,
    LAST,
    LINE,
    LINK,
    SLOTS,
    TAG_SHIFT,
    bucket_compact,
    bucket_put,
    first_slot,
    next_overflow,
    points_at,
    slot_word,
    slots_with_tag,
)
from kvstore.structures.linear import bucket_mask, bucket_number
from mmcore.heap import heap_free
from mmcore.jit import bytes64, fill_bytes, int64, kernel, linked, prefetch, put64
from mmcore.mapping import map_pages, unmap_pages
from mmcore.mmu import load64, read_address, store64, write_address

PAGE_BUCKETS = 4096 // BUCKET_SIZE
BUCKETS_MIN = PAGE_BUCKETS  # of a table that is not empty
BUCKETS_MAX = 1 << 28  # what a region has room for
LOAD_MAX = 6  # entries a bucket: then one is split for each that is added


@kernel
def entry_of(word):  # type: ignore[no-untyped-def]
    """The entry that a slot's word points at."""
    return word & ADDRESS


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def index_find(context, base, buckets, hash_, key, count):  # type: ignore[no-untyped-def]
    """Address of the slot of the key that is `count` bytes at `key`; 0 when there is none."""
    if buckets == 0:
        return 0
    space = context.space
    memory = space.mem.bytes
    bucket = base + BUCKET_SIZE * bucket_number(hash_, buckets)
    tag = hash_ >> TAG_SHIFT
    while True:
        pa = read_address(space, bucket)
        found = slots_with_tag(memory, pa, tag)
        while found != 0:
            slot = first_slot(found)
            entry = points_at(bytes64(memory, pa + slot))
            if entry != 0 and entry_is(context, entry, key, count):
                return bucket + slot
            found &= found - 1
        word = bytes64(memory, pa + LAST)
        if word & LINK == 0:
            return 0
        bucket = word & ADDRESS


@kernel
def index_prefetch(context, base, buckets, hash_):  # type: ignore[no-untyped-def]
    """Prefetch the line of the bucket that a hash belongs to.  The table has buckets."""
    prefetch(context.space.mem.bytes, read_address(context.space, base + BUCKET_SIZE * bucket_number(hash_, buckets)))


@linked(int64(CONTEXT, int64, int64, int64))
def index_prefetch_entry(context, base, buckets, hash_):  # type: ignore[no-untyped-def]
    """Prefetch the first lines of an entry whose tag in the bucket matches this hash: its address, or 0 without one.

    The entry may have another key.
    """
    memory = context.space.mem.bytes
    pa = read_address(context.space, base + BUCKET_SIZE * bucket_number(hash_, buckets))
    found = slots_with_tag(memory, pa, hash_ >> TAG_SHIFT)
    entry = points_at(bytes64(memory, pa + first_slot(found))) if found != 0 else 0
    if entry != 0:
        pa = read_address(context.space, entry)
        prefetch(memory, pa)
        prefetch(memory, pa + LINE)
    return entry


@linked(int64(CONTEXT, int64, int64, int64, int64))
def index_find_entry(context, base, buckets, hash_, entry):  # type: ignore[no-untyped-def]
    """Address of the slot that points at this entry, whose key has this hash; 0 when there is none."""
    if buckets == 0:
        return 0
    memory = context.space.mem.bytes
    bucket = base + BUCKET_SIZE * bucket_number(hash_, buckets)
    while True:
        pa = read_address(context.space, bucket)
        for i in range(SLOTS):
            word = bytes64(memory, pa + 8 * i)
            if word & ADDRESS == entry and word & LINK == 0:
                return bucket + 8 * i
        word = bytes64(memory, pa + LAST)
        if word & LINK == 0:
            return 0
        bucket = word & ADDRESS


@linked(int64(CONTEXT, int64, int64, int64, int64))
def index_has_hash(context, base, buckets, hash_, seed):  # type: ignore[no-untyped-def]
    """Whether some entry's key has this hash (0 or 1)."""
    if buckets == 0:
        return 0
    bucket = base + BUCKET_SIZE * bucket_number(hash_, buckets)
    while bucket != 0:
        for i in range(SLOTS):
            word = load64(context.space, bucket + 8 * i)
            if word >> TAG_SHIFT == hash_ >> TAG_SHIFT and word != 0 and word & LINK == 0:
                if entry_hash(context, entry_of(word), seed) == hash_:
                    return 1
        bucket = next_overflow(context.space, bucket)
    return 0


@kernel
def index_put(context, base, buckets, hash_, entry):  # type: ignore[no-untyped-def]
    """Add an entry to a table that has buckets: 0, or NO_FRAME with nothing changed."""
    return bucket_put(context.space, base + BUCKET_SIZE * bucket_number(hash_, buckets), slot_word(hash_, entry))


@kernel
def index_remove(context, base, buckets, hash_, slot):  # type: ignore[no-untyped-def]
    """Empty the slot of an entry whose key has this hash.  Other entries of the bucket may move to other slots."""
    store64(context.space, slot, 0)
    bucket = base + BUCKET_SIZE * bucket_number(hash_, buckets)
    if load64(context.space, bucket + LAST) & LINK:
        bucket_compact(context.space, bucket)


@linked(int64(CONTEXT, int64, int64, int64))
def index_split(context, base, buckets, seed):  # type: ignore[no-untyped-def]
    """Add a bucket; returns the new number of buckets, or the old one when there is no frame or no room for it."""
    space = context.space
    memory = space.mem.bytes
    if buckets >= BUCKETS_MAX:
        return buckets
    if buckets == 0:
        return BUCKETS_MIN if map_pages(space, base, 1) == 0 else 0
    new = base + BUCKET_SIZE * buckets
    if buckets % PAGE_BUCKETS == 0 and map_pages(space, new, 1) != 0:
        return buckets
    first = base + BUCKET_SIZE * (buckets - ((bucket_mask(buckets + 1) + 1) >> 1))
    bucket = first
    while bucket != 0:
        pa = write_address(space, bucket)  # valid until the next fork; writes elsewhere do not change it
        assert pa >= 0, "no frame was reserved for a split"
        for i in range(SLOTS):
            word = bytes64(memory, pa + 8 * i)
            if word == 0 or word & LINK:
                continue
            if bucket_number(entry_hash(context, word & ADDRESS, seed), buckets + 1) == buckets:
                code = bucket_put(context.space, new, word)
                assert code == 0, "no frame was reserved for a split"
                put64(memory, pa + 8 * i, 0)
        word = bytes64(memory, pa + LAST)
        bucket = word & ADDRESS if word & LINK else 0
    bucket_compact(context.space, first)
    return buckets + 1


@linked(int64(CONTEXT, int64, int64))
def index_merge(context, base, buckets):  # type: ignore[no-untyped-def]
    """Remove the last bucket; returns the new number of buckets.  A table keeps BUCKETS_MIN."""
    space = context.space
    memory = space.mem.bytes
    if buckets <= BUCKETS_MIN:
        return buckets
    last = buckets - 1
    bucket = base + BUCKET_SIZE * last
    target = base + BUCKET_SIZE * (last - ((bucket_mask(buckets) + 1) >> 1))
    while bucket != 0:
        pa = write_address(space, bucket)
        assert pa >= 0, "no frame was reserved for a merge"
        for i in range(SLOTS):
            word = bytes64(memory, pa + 8 * i)
            if word != 0 and word & LINK == 0:
                code = bucket_put(context.space, target, word)
                assert code == 0, "no frame was reserved for a merge"
        word = bytes64(memory, pa + LAST)
        if bucket == base + BUCKET_SIZE * last:
            fill_bytes(memory, pa, 0, BUCKET_SIZE)
        else:
            code = heap_free(space, bucket, BUCKET_SIZE)
            assert code == 0, "no frame was reserved for a release"
        bucket = word & ADDRESS if word & LINK else 0
    if last % PAGE_BUCKETS == 0:
        code = unmap_pages(space, base + BUCKET_SIZE * last, 1)
        assert code == 0, "no frame was reserved for a release"
    return last
