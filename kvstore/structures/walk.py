"""A walk over the elements of a collection, whatever its root is.

    walk_begin(space, root, walk)        walk: int64[WALK_WORDS], of the caller
    va = walk_next(space, walk)          the next element, 0 at the end

The elements of a hash table come in the order of its buckets, those of a list or a packed in their own order.  INTS
have no elements; ints.py reads them by place.  The collection must not change during a walk.

    WORD  DESCRIPTION
    0     root
    1     kind of the walk: ITEMS of one packed, TABLE, or LIST
    2     the packed or the bucket that the walk stands in, 0 at the end
    3     the next item or slot there
    4     TABLE: number of the next bucket; LIST: position of the next packed in the tree, or one of the ends below
"""

from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.packed import packed_count, packed_item
from kvstore.structures.record import BASE, BUCKETS, HEAD, TAIL, TREE
from kvstore.structures.tree import position_address, position_next, tree_seek
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64
from mmcore.state import SPACE

WALK_WORDS = 5
_ROOT, _KIND, _HERE, _PLACE, _NEXT = range(5)
ITEMS, TABLE, LIST = range(3)
_TO_TREE, _TO_TAIL, _OVER = -1, -2, 0  # for a list, beside a position, which is above zero


@linked(void(SPACE, int64, int64[::1]))
def walk_begin(space, root, walk):  # type: ignore[no-untyped-def]
    """Stand before the first element."""
    walk[_ROOT], walk[_PLACE], walk[_NEXT] = root, 0, 0
    if kind_of(space, root) == PACKED:
        walk[_KIND], walk[_HERE] = ITEMS, root
    elif load64(space, root + BUCKETS) != 0:
        walk[_KIND], walk[_HERE], walk[_NEXT] = TABLE, load64(space, root + BASE), 1
    else:
        walk[_KIND], walk[_HERE], walk[_NEXT] = LIST, load64(space, root + HEAD), _TO_TREE


@kernel
def _next_packed(space, walk):  # type: ignore[no-untyped-def]
    # Go on to the next packed of a list; False behind the last.
    root, position = walk[_ROOT], walk[_NEXT]
    if position == _OVER:
        return False
    if position == _TO_TREE:
        position = tree_seek(space, root, 0, 1) if load64(space, root + TREE) != 0 else 0
        if position == 0:
            position = _TO_TAIL
    if position == _TO_TAIL:
        walk[_HERE], walk[_NEXT] = load64(space, root + TAIL), _OVER
    else:
        walk[_HERE] = position_address(space, position)
        following = position_next(space, position)
        walk[_NEXT] = following if following != 0 else _TO_TAIL
    walk[_PLACE] = 0
    return True


@kernel
def _next_item(space, walk):  # type: ignore[no-untyped-def]
    while True:
        here = walk[_HERE]
        if here != 0 and walk[_PLACE] < packed_count(space, here):
            walk[_PLACE] += 1
            return packed_item(space, here, walk[_PLACE] - 1)
        if walk[_KIND] == ITEMS or not _next_packed(space, walk):
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
