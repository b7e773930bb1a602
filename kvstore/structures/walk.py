"""A walk over the elements of a chain or of a record with a hash table.

    walk_begin(space, root, walk)        walk: int64[WALK_WORDS], of the caller
    va = walk_next(space, walk)          the next element, 0 at the end

The elements of a hash table come in the order of its buckets, those of a chain in their own order.  INTS and
lists have no elements: ints.py reads numbers by place, and sequence.py goes from packed to packed.  The collection must
not change during a walk.

    WORD  DESCRIPTION
    0     root
    1     kind of the walk: BLOCKS of a chain, or TABLE
    2     the block or the bucket that the walk stands in, 0 at the end
    3     the next element or slot there
    4     BLOCKS: offset of the next element; TABLE: number of the next bucket
"""

from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.chain_layout import (
    BLOCK_HEADER,
    header_count,
    next_of,
    shape_at,
    shape_key,
    shape_payload,
    shape_size,
)
from kvstore.structures.element import element_reference
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.record import BASE, BUCKETS
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.mmu import load64, read_address
from mmcore.state import SPACE

WALK_WORDS = 5
_ROOT, _KIND, _HERE, _PLACE, _NEXT = range(5)
BLOCKS, TABLE = range(2)


@linked(void(SPACE, int64, int64[::1]))
def walk_begin(space, root, walk):  # type: ignore[no-untyped-def]
    """Stand before the first element."""
    walk[_ROOT], walk[_PLACE] = root, 0
    if kind_of(space, root) == CHAIN:
        walk[_KIND], walk[_HERE], walk[_NEXT] = BLOCKS, root, BLOCK_HEADER
    else:
        walk[_KIND], walk[_NEXT] = TABLE, 1
        walk[_HERE] = load64(space, root + BASE) if load64(space, root + BUCKETS) != 0 else 0


@kernel
def _next_of_chain(space, walk):  # type: ignore[no-untyped-def]
    memory = space.mem.bytes
    while walk[_HERE] != 0:
        at, place, offset = read_address(space, walk[_HERE]), walk[_PLACE], walk[_NEXT]
        header = bytes64(memory, at)
        if place < header_count(header):
            shape = shape_at(memory, at, header, place)
            walk[_PLACE], walk[_NEXT] = place + 1, offset + shape_size(shape)
            return element_reference(walk[_HERE] + offset, shape_key(shape), shape_payload(shape))
        walk[_HERE], walk[_PLACE], walk[_NEXT] = next_of(memory, at, header), 0, BLOCK_HEADER
    return 0


@kernel
def _next_of_table(space, walk):  # type: ignore[no-untyped-def]
    root = walk[_ROOT]
    while walk[_HERE] != 0:
        while walk[_PLACE] < SLOTS:
            element = bucket_element(space, walk[_HERE], walk[_PLACE])
            walk[_PLACE] += 1
            if element != 0:
                return element
        walk[_HERE], walk[_PLACE] = next_overflow(space, walk[_HERE]), 0
        if walk[_HERE] == 0 and walk[_NEXT] < load64(space, root + BUCKETS):
            walk[_HERE] = load64(space, root + BASE) + BUCKET_SIZE * walk[_NEXT]
            walk[_NEXT] += 1
    return 0


@linked(int64(SPACE, int64[::1]))
def walk_next(space, walk):  # type: ignore[no-untyped-def]
    """The next element, 0 behind the last."""
    return _next_of_table(space, walk) if walk[_KIND] == TABLE else _next_of_chain(space, walk)
