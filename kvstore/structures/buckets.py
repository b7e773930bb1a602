"""Buckets: cache lines of slots, of which hash tables are made.

    8 slots of 8 bytes:   tag (16 bits of the hash) << 48 | address of what the slot points at
                          0 for an empty slot
                          in the last slot only:  address of an overflow bucket | LINK

Addresses are multiples of 8, so their low bits are free.  A full bucket moves the word in its last slot to an overflow
bucket from the heap and puts a link in that slot.  The heap places objects of 64 bytes at multiples of 64, so an
overflow bucket is one cache line, too.  A bucket and its overflow buckets are a chain.

The keyspace's index (kvstore/store/index.py) and the hash tables of values (table.py) share what is here.
"""

from mmcore.errors import NO_FRAME
from mmcore.heap import heap_alloc, heap_free
from mmcore.jit import bytes64, constant, fill_bytes, int64, kernel, linked, put64, void
from mmcore.mmu import load64, read_address, store64, write_address
from mmcore.state import SPACE

BUCKET_SIZE = 64
LINE = 64  # of the cache [bytes]
SLOTS = 8
LINK = 1
ADDRESS = 0xFFFF_FFFF_FFF8
TAG_SHIFT = 48
LAST = 8 * (SLOTS - 1)
_FIRST = constant(bytes((i & -i).bit_length() - 1 if i else 0 for i in range(1 << SLOTS)))  # the lowest bit of a number


@kernel
def slot_word(hash_, address):  # type: ignore[no-untyped-def]
    """The word that a slot holds for something at `address` whose key has this hash."""
    return ((hash_ >> TAG_SHIFT) << TAG_SHIFT) | address


@kernel
def slots_with_tag(memory, pa, tag):  # type: ignore[no-untyped-def]
    """The slots of the bucket at `pa` that have this tag, a bit each.  Empty slots and links count for tag 0.

    A branch for the slot with the tag would be unpredictable, so all slots are compared, without a branch.
    """
    found = 0
    for i in range(SLOTS):
        found |= int64(bytes64(memory, pa + 8 * i) >> TAG_SHIFT == tag) << i
    return found


@kernel
def first_slot(found):  # type: ignore[no-untyped-def]
    """The offset in its bucket of the first of such slots, of which there is one."""
    return 8 * int64(_FIRST[found])


@kernel
def points_at(word):  # type: ignore[no-untyped-def]
    """The address that the word of a slot holds; 0 if the slot is empty or a link."""
    return 0 if word & LINK else word & ADDRESS


@kernel
def bucket_element(space, bucket, i):  # type: ignore[no-untyped-def]
    """The address that slot i of a bucket holds, 0 for an empty slot or a link."""
    return points_at(load64(space, bucket + 8 * i))


@kernel
def next_overflow(space, bucket):  # type: ignore[no-untyped-def]
    """The overflow bucket behind a bucket, or 0."""
    word = load64(space, bucket + LAST)
    return word & ADDRESS if word & LINK else 0


@linked(int64(SPACE, int64, int64))
def bucket_put(space, bucket, word):  # type: ignore[no-untyped-def]
    """Put a word into a chain: 0, or NO_FRAME with nothing changed."""
    memory = space.mem.bytes
    while True:
        pa = read_address(space, bucket)
        for i in range(SLOTS):
            if bytes64(memory, pa + 8 * i) == 0:
                store64(space, bucket + 8 * i, word)
                return 0
        last = bytes64(memory, pa + LAST)
        if last & LINK == 0:
            break
        bucket = last & ADDRESS
    overflow = heap_alloc(space, BUCKET_SIZE)
    if overflow == 0:
        return NO_FRAME
    pa = write_address(space, overflow)
    assert pa >= 0, "no frame was reserved for an overflow bucket"
    fill_bytes(memory, pa, 0, BUCKET_SIZE)
    put64(memory, pa, last)
    put64(memory, pa + 8, word)
    store64(space, bucket + LAST, overflow | LINK)
    return 0


@linked(void(SPACE, int64))
def bucket_compact(space, bucket):  # type: ignore[no-untyped-def]
    """Move words of a chain forward, and free overflow buckets that have one word left."""
    while True:
        link = load64(space, bucket + LAST)
        if link & LINK == 0:
            return
        overflow = link & ADDRESS
        left, last, target = 0, 0, 0
        for i in range(SLOTS):
            word = load64(space, overflow + 8 * i)
            if word == 0:
                continue
            if word & LINK == 0:
                while target < SLOTS - 1 and load64(space, bucket + 8 * target) != 0:
                    target += 1
                if target < SLOTS - 1:
                    store64(space, bucket + 8 * target, word)
                    store64(space, overflow + 8 * i, 0)
                    continue
            left += 1
            last = word
        if left > 1:
            bucket = overflow
            continue
        # One word is left, a word or a further link.  It fits in the last slot of the first bucket.
        store64(space, bucket + LAST, last)
        code = heap_free(space, overflow, BUCKET_SIZE)
        assert code == 0, "no frame was reserved for a release"
