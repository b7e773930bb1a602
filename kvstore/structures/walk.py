"""A walk over the elements of a packed or of a record with a hash table.

    walk_begin(space, root, walk)        walk: int64[WALK_WORDS], of the caller
    va = walk_next(space, walk)          the next element, 0 at the end

The elements of a hash table come in the order of its buckets, those of a packed in their own order.  INTS have no
elements; ints.py reads them by place.  Nor has a list: sequence.py goes from packed to packed.  The collection must not
change during a walk.

    WORD  DESCRIPTION
    0     root
    1     kind of the walk: ITEMS of one packed, or TABLE
    2     the packed or the bucket that the walk stands in, 0 at the end
    3     the next item or slot there
    4     TABLE: number of the next bucket
"""

from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.packed import packed_count, packed_item
from kvstore.structures.record import BASE, BUCKETS
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64
from mmcore.state import SPACE

WALK_WORDS = 5
_ROOT, _KIND, _HERE, _PLACE, _NEXT = range(5)
ITEMS, TABLE = range(2)


@linked(void(SPACE, int64, int64[::1]))
def walk_begin(space, root, walk):  # type: ignore[no-untyped-def]
    """Stand before the first element."""
    walk[_ROOT], walk[_PLACE], walk[_NEXT] = root, 0, 0
    if kind_of(space, root) == PACKED:
        walk[_KIND], walk[_HERE] = ITEMS, root
    else:
        walk[_KIND], walk[_NEXT] = TABLE, 1
        walk[_HERE] = load64(space, root + BASE) if load64(space, root + BUCKETS) != 0 else 0


@kernel
def _next_item(space, walk):  # type: ignore[no-untyped-def]
    here = walk[_HERE]
    if here != 0 and walk[_PLACE] < packed_count(space, here):
        walk[_PLACE] += 1
        return packed_item(space, here, walk[_PLACE] - 1)
    walk[_HERE] = 0
    return 0


@kernel
def _next_element(space, walk):  # type: ignore[no-untyped-def]
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
    return _next_element(space, walk) if walk[_KIND] == TABLE else _next_item(space, walk)
