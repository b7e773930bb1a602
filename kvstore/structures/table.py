"""A hash table of elements: linear hashing over buckets (buckets.py, linear.py), in one heap allocation that grows.

The record (record.py) has the number of elements, the number of buckets and the address of the first one.  A slot
points at an element; the hash is that of the element's key.

    buckets     allocation
    1 .. 64     64 bytes times the next power of two
    65 ..       as many whole pages as they need

A table of LOAD_MAX elements a bucket gets one more bucket for each element that is added: bucket N, which takes its
share of bucket N - 2^(k-1).  That is one bucket's work, however large the table is.  The allocation grows by a page for
every 64 splits.  Where its range is full, its pages move to a larger one, and no byte is copied
(mmcore/heap/ranges.py).  A removal from a table of less than LOAD_MIN elements a bucket undoes the last split.

Scan.  Cursors visit buckets in the order of their reversed numbers (linear.py), so a scan meets every element that
exists throughout, however the table grows and shrinks meanwhile.

(1) Each element is in the bucket that its hash belongs to, or in an overflow bucket of it, once, with the tag of its
    hash.
(2) The record counts the elements.
(3) Only the last slot of a bucket has a link, and then all its slots are in use or were.
(4) An overflow bucket has at least two words.

A function that changes a table returns NO_FRAME with nothing changed if less than TABLE_FRAMES frames are free.
"""

from kvstore.structures.buckets import (
    ADDRESS,
    BUCKET_SIZE,
    LAST,
    LINK,
    SLOTS,
    TAG_SHIFT,
    bucket_compact,
    bucket_element,
    bucket_put,
    first_slot,
    next_overflow,
    points_at,
    slot_word,
    slots_with_tag,
)
from kvstore.structures.element import HEADER_MAX, SHORT_MAX, element_free, element_hash, element_is
from kvstore.structures.linear import bucket_mask, bucket_number
from kvstore.structures.record import BASE, BUCKETS, COUNT, OWNS_ELEMENTS, record_add_count, record_owns
from kvstore.system.libc import bytes_at
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap import heap_alloc, heap_free, heap_resize
from mmcore.jit import bytes64, equal_bytes, fill_bytes, int64, kernel, linked, prefetch, put64, void
from mmcore.mmu import load64, read_address, store64, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

LOAD_MAX, LOAD_MIN = 5, 3  # elements a bucket
PAGE_BUCKETS = PAGE_SIZE // BUCKET_SIZE
BUCKETS_MAX = 1 << 31
# Buckets of a chain that a random draw looks into.  They hold 36 elements.  The fullest buckets, which are next to be
# split, have ten elements on average, and less than one in 10^10 of them has more than 36.
CHAIN_MAX = 5
DRAWS = 12  # places that a random draw looks at
TABLE_FRAMES = 160  # for any one change: an allocation that grows, overflow buckets, copies of shared pages and tables


@kernel
def table_room(buckets):  # type: ignore[no-untyped-def]
    """Size of the allocation for so many buckets [bytes]."""
    if buckets <= PAGE_BUCKETS:
        return BUCKET_SIZE * (bucket_mask(buckets) + 1)
    return (BUCKET_SIZE * buckets + PAGE_SIZE - 1) & -PAGE_SIZE


@kernel
def table_bucket(space, record, number):  # type: ignore[no-untyped-def]
    """The address of a bucket by its number."""
    return load64(space, record + BASE) + BUCKET_SIZE * number


@kernel
def table_at(space, slot):  # type: ignore[no-untyped-def]
    """The element that a slot points at."""
    return load64(space, slot) & ADDRESS


@kernel
def _has_key(space, element, key, k):  # type: ignore[no-untyped-def]
    # element_is, without a call for a short key in one page.
    if k > SHORT_MAX or (element & PAGE_MASK) + HEADER_MAX + k > PAGE_SIZE:
        return element_is(space, element, key, k)
    memory = space.mem.bytes
    pa = read_address(space, element)
    if memory[pa] != k:
        return False
    return equal_bytes(memory, pa + (2 if memory[pa + 1] <= SHORT_MAX else 5), bytes_at(key, k), 0, k)


@linked(int64(SPACE, int64, int64, int64, int64))
def table_find(space, record, hash_, key, k):  # type: ignore[no-untyped-def]
    """The address of the slot of the element whose key is the `k` bytes at `key`; 0 without one."""
    pa, memory = read_address(space, record), space.mem.bytes
    buckets = bytes64(memory, pa + BUCKETS)
    if buckets == 0:
        return 0
    bucket = bytes64(memory, pa + BASE) + BUCKET_SIZE * bucket_number(hash_, buckets)
    tag = hash_ >> TAG_SHIFT
    while True:
        pa = read_address(space, bucket)
        found = slots_with_tag(memory, pa, tag)
        while found != 0:
            slot = first_slot(found)
            element = points_at(bytes64(memory, pa + slot))
            if element != 0 and _has_key(space, element, key, k):
                return bucket + slot
            found &= found - 1
        word = bytes64(memory, pa + LAST)
        if word & LINK == 0:
            return 0
        bucket = word & ADDRESS


@kernel
def table_prefetch(space, record, hash_):  # type: ignore[no-untyped-def]
    """Prefetch the line of the bucket of a hash, of which the table has some; returns its index in mem.bytes."""
    pa, memory = read_address(space, record), space.mem.bytes
    number = bucket_number(hash_, bytes64(memory, pa + BUCKETS))
    pa = read_address(space, bytes64(memory, pa + BASE) + BUCKET_SIZE * number)
    prefetch(memory, pa)
    return pa


@kernel
def table_prefetch_element(space, pa, hash_):  # type: ignore[no-untyped-def]
    """Prefetch the first line of an element whose tag in that bucket matches this hash; it may have another key."""
    memory = space.mem.bytes
    found = slots_with_tag(memory, pa, hash_ >> TAG_SHIFT)
    element = points_at(bytes64(memory, pa + first_slot(found))) if found != 0 else 0
    if element != 0:
        prefetch(memory, read_address(space, element))


@linked(int64(SPACE, int64, int64))
def _resize(space, record, buckets):  # type: ignore[no-untyped-def]
    """Give the allocation room for this number of buckets: 0, or NO_FRAME with nothing changed."""
    had = load64(space, record + BUCKETS)
    if had == 0 or buckets == 0:
        base = heap_alloc(space, table_room(buckets)) if had == 0 else 0
        if had == 0 and base == 0:
            return NO_FRAME
        if had != 0:
            code = heap_free(space, load64(space, record + BASE), table_room(had))
            assert code == 0, "no frame was reserved for the buckets of a table"
        store64(space, record + BASE, base)
    elif table_room(had) != table_room(buckets):
        base = heap_resize(space, load64(space, record + BASE), table_room(had), table_room(buckets))
        if base == 0:
            return NO_FRAME
        store64(space, record + BASE, base)
    store64(space, record + BUCKETS, buckets)
    return 0


@kernel
def _clear(space, bucket):  # type: ignore[no-untyped-def]
    pa = write_address(space, bucket)
    assert pa >= 0, "no frame was reserved for a bucket"
    fill_bytes(space.mem.bytes, pa, 0, BUCKET_SIZE)


@linked(int64(SPACE, int64, int64))
def _split(space, record, seed):  # type: ignore[no-untyped-def]
    """Add a bucket, and move to it the elements that belong there: 0, or NO_FRAME with nothing changed."""
    memory, buckets = space.mem.bytes, load64(space, record + BUCKETS)
    if _resize(space, record, buckets + 1) != 0:
        return NO_FRAME
    new = table_bucket(space, record, buckets)
    _clear(space, new)
    if buckets == 0:
        return 0
    first = table_bucket(space, record, buckets - ((bucket_mask(buckets + 1) + 1) >> 1))
    bucket = first
    while bucket != 0:
        pa = write_address(space, bucket)  # valid until the next fork; writes elsewhere do not change it
        assert pa >= 0, "no frame was reserved for a split"
        for i in range(SLOTS):
            word = bytes64(memory, pa + 8 * i)
            if word == 0 or word & LINK:
                continue
            if bucket_number(element_hash(space, word & ADDRESS, seed), buckets + 1) == buckets:
                code = bucket_put(space, new, word)
                assert code == 0, "no frame was reserved for a split"
                put64(memory, pa + 8 * i, 0)
        word = bytes64(memory, pa + LAST)
        bucket = word & ADDRESS if word & LINK else 0
    bucket_compact(space, first)
    return 0


@linked(int64(SPACE, int64))
def _merge(space, record):  # type: ignore[no-untyped-def]
    """Remove the last bucket, whose elements go where they came from."""
    memory, buckets = space.mem.bytes, load64(space, record + BUCKETS)
    last = buckets - 1
    target = table_bucket(space, record, last - ((bucket_mask(buckets) + 1) >> 1))
    first = bucket = table_bucket(space, record, last)
    while bucket != 0:
        pa = read_address(space, bucket)
        following = next_overflow(space, bucket)
        for i in range(SLOTS):
            word = bytes64(memory, pa + 8 * i)
            if word != 0 and word & LINK == 0:
                code = bucket_put(space, target, word)
                assert code == 0, "no frame was reserved for a merge"
        if bucket != first:
            code = heap_free(space, bucket, BUCKET_SIZE)
            assert code == 0, "no frame was reserved for a release"
        bucket = following
    code = _resize(space, record, last)
    assert code == 0, "no frame was reserved for a merge"
    return last


@linked(int64(SPACE, int64, int64, int64, int64))
def table_add(space, record, seed, hash_, element):  # type: ignore[no-untyped-def]
    """Add an element whose key, with this hash, the table does not have: 0, or NO_FRAME with nothing changed."""
    if not has_frames(space, TABLE_FRAMES):
        return NO_FRAME
    buckets = load64(space, record + BUCKETS)
    if load64(space, record + COUNT) >= LOAD_MAX * buckets and buckets < BUCKETS_MAX:
        code = _split(space, record, seed)
        assert code == 0, "no frame was reserved for a split"
        buckets += 1
    code = bucket_put(space, table_bucket(space, record, bucket_number(hash_, buckets)), slot_word(hash_, element))
    assert code == 0, "no frame was reserved for an overflow bucket"
    record_add_count(space, record, 1)
    return 0


@linked(int64(SPACE, int64, int64))
def table_replace(space, slot, element):  # type: ignore[no-untyped-def]
    """Let a slot point at another element with the same key: 0, or NO_FRAME with nothing changed."""
    if write_address(space, slot) < 0:
        return NO_FRAME
    store64(space, slot, load64(space, slot) & ~ADDRESS | element)
    return 0


@linked(int64(SPACE, int64, int64, int64))
def table_remove(space, record, hash_, slot):  # type: ignore[no-untyped-def]
    """Empty a slot, whose key has this hash, without freeing the element: 0, or NO_FRAME with nothing changed.

    Other elements may move to other slots.
    """
    if not has_frames(space, TABLE_FRAMES):
        return NO_FRAME
    buckets = load64(space, record + BUCKETS)
    store64(space, slot, 0)
    bucket = table_bucket(space, record, bucket_number(hash_, buckets))
    if load64(space, bucket + LAST) & LINK:
        bucket_compact(space, bucket)
    record_add_count(space, record, -1)
    if buckets > 1 and load64(space, record + COUNT) < LOAD_MIN * buckets:
        _merge(space, record)
    return 0


@linked(void(SPACE, int64, int64, int64))
def table_drop(space, record, hash_, slot):  # type: ignore[no-untyped-def]
    """Remove the element of a slot, whose key has this hash, and free it.  Frames were reserved."""
    element = table_at(space, slot)
    code = table_remove(space, record, hash_, slot)
    assert code == 0, "no frame was reserved for a table"
    code = element_free(space, element)
    assert code == 0, "no frame was reserved for a release"


@kernel
def _random_place(random, i, places):  # type: ignore[no-untyped-def]
    # The i-th of the places that 62 random bits name, mixed as SplitMix64 does.
    bits = random + (i + 1) * 0x1E37_79B9_7F4A_7C15
    bits = (bits ^ (bits >> 30 & 0x3_FFFF_FFFF)) * 0x3F58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27 & 0x1F_FFFF_FFFF)) * 0x14D0_49BB_1331_11EB
    return ((bits ^ (bits >> 31 & 0x1_FFFF_FFFF)) & 0x3FFF_FFFF_FFFF_FFFF) % places


@linked(int64(SPACE, int64, int64))
def table_random(space, record, random):  # type: ignore[no-untyped-def]
    """The first element at one of the DRAWS places that 62 random bits name, or 0 without any: the caller draws again.

    A place is a bucket, a position in its chain, and a slot, so all elements have the same chance (but see CHAIN_MAX).
    One place in ten has an element, and each is somewhere else in memory: so their lines are fetched together.
    """
    places = load64(space, record + BUCKETS) * CHAIN_MAX * SLOTS
    for i in range(DRAWS):
        bucket = table_bucket(space, record, _random_place(random, i, places) // (CHAIN_MAX * SLOTS))
        prefetch(space.mem.bytes, read_address(space, bucket))
    for i in range(DRAWS):
        place = _random_place(random, i, places)
        bucket = table_bucket(space, record, place // (CHAIN_MAX * SLOTS))
        for _ in range(place // SLOTS % CHAIN_MAX):
            if bucket != 0:
                bucket = next_overflow(space, bucket)
        element = bucket_element(space, bucket, place % SLOTS) if bucket != 0 else 0
        if element != 0:
            return element
    return 0


@linked(int64(SPACE, int64, int64))
def table_drop_step(space, record, budget):  # type: ignore[no-untyped-def]
    """Free the last buckets, and their elements if the record owns them: about `budget` of them.

    Returns the work done; 0 when the table is gone, or when frames are short.
    """
    done, owned = 0, record_owns(space, record, OWNS_ELEMENTS)
    while done < budget and has_frames(space, TABLE_FRAMES):
        buckets = load64(space, record + BUCKETS)
        if buckets == 0:
            break
        first = bucket = table_bucket(space, record, buckets - 1)
        while bucket != 0:
            following = next_overflow(space, bucket)
            for i in range(SLOTS):
                element = bucket_element(space, bucket, i)
                if element != 0:
                    record_add_count(space, record, -1)
                    if owned:
                        code = element_free(space, element)
                        assert code == 0, "no frame was reserved for a release"
                    done += 1
            if bucket != first:
                code = heap_free(space, bucket, BUCKET_SIZE)
                assert code == 0, "no frame was reserved for a release"
            bucket = following
        code = _resize(space, record, buckets - 1)
        assert code == 0, "no frame was reserved for a release"
        done += 1
    return done
