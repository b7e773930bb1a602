"""Finding an item of a tree by its word and key, or by its rank, and going on from there.

A position is a leaf's address << 6 | place; 0 is none.  It is valid until the tree changes.  Elements are compared only
where words are equal.
"""

from kvstore.structures.element import element_compare, element_compare_two
from kvstore.structures.record import LEVELS, TREE
from kvstore.structures.tree.nodes import (
    ADDRESS,
    ADDRESS_BITS,
    ADDRESSES,
    CHILDREN,
    LEVEL_WORD,
    PLACE,
    PLACE_BITS,
    WEIGHTED,
    WEIGHTS,
    WORDS,
    node_at,
    node_count,
    node_read,
    node_sum,
    node_weight,
)
from mmcore.jit import bytes64, int64, kernel, linked
from mmcore.mmu import load64
from mmcore.state import SPACE

STRIDE = 8  # weights that are added before they are compared with a rank: a cache line of them


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def tree_before(space, node, word, element, key, k, after):  # type: ignore[no-untyped-def]
    """How many items of the node at this index come before an item.

    The item has a word and the key of `element`, or the `k` bytes at `key` if that is 0.  With `after`, an equal item
    counts, too.
    """
    memory = space.mem.bytes
    low, same = 0, 0
    for i in range(node_count(memory, node)):
        here = bytes64(memory, node + WORDS + 8 * i)
        low += int64(here < word)
        same += int64(here == word)
    high = low + same
    while low < high:
        middle = (low + high) >> 1
        address = node_at(memory, node, ADDRESSES, middle)
        if element == 0:
            order = element_compare(space, address, key, k)
        elif address == element:
            order = 0
        else:
            order = element_compare_two(space, address, element)
        if order < after:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def holder_of_rank(memory, node, rank, field):  # type: ignore[no-untyped-def]
    """The place that holds a rank, and what is left of the rank there.  Place `count` where the rank is beyond."""
    place, count = 0, node_count(memory, node)
    while place + STRIDE <= count:
        weight = node_sum(memory, node, field, place, STRIDE)
        if rank < weight:
            break
        rank -= weight
        place += STRIDE
    while place < count:
        weight = node_at(memory, node, field, place)
        if rank < weight:
            break
        rank -= weight
        place += 1
    return place, rank


@kernel
def child_holding(space, node, ordered, rank, word, element):  # type: ignore[no-untyped-def]
    """The place of the child that holds an item of an ordered tree, or a rank, and what is left of that."""
    if ordered:
        return max(tree_before(space, node, word, element, 0, 0, 1) - 1, 0), int64(0)
    place, rank = holder_of_rank(space.mem.bytes, node, rank, WEIGHTS)
    assert place < node_count(space.mem.bytes, node), "a rank beyond the tree"
    return place, rank


@kernel
def tree_find(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """The position of the item that holds a rank, and what is left of the rank there; position 0 beyond the last."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    if level == 0 or rank < 0:
        return int64(0), int64(0)
    pa = node_read(space, node)
    while level > 1:
        place, rank = holder_of_rank(memory, pa, rank, WEIGHTS)
        if place == node_count(memory, pa):
            return int64(0), int64(0)
        node = node_at(memory, pa, CHILDREN, place)
        pa = node_read(space, node)
        level -= 1
    if weights:
        place, rank = holder_of_rank(memory, pa, rank, WORDS)
    else:
        place, rank = rank, int64(0)
    if place >= node_count(memory, pa):
        return int64(0), int64(0)
    return node << PLACE_BITS | place, rank


@linked(int64(SPACE, int64))
def tree_weight(space, record):  # type: ignore[no-untyped-def]
    """The weight of all items."""
    level = load64(space, record + LEVELS)
    if level == 0:
        return 0
    memory, root = space.mem.bytes, node_read(space, load64(space, record + TREE))
    weights = (bytes64(memory, root + LEVEL_WORD) >> ADDRESS_BITS) & WEIGHTED != 0
    return node_weight(memory, level, root, 0, node_count(memory, root), weights)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def tree_rank(space, record, word, key, k, after):  # type: ignore[no-untyped-def]
    """Number of items of an ordered tree before a word and a key in the process; with `after`, or equal to them."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    rank = 0
    while level > 1:
        pa = node_read(space, node)
        place = max(tree_before(space, pa, word, 0, key, k, after) - 1, 0)
        rank += node_sum(memory, pa, WEIGHTS, 0, place)
        node = node_at(memory, pa, CHILDREN, place)
        level -= 1
    return rank + tree_before(space, node_read(space, node), word, 0, key, k, after) if level == 1 else 0


@linked(int64(SPACE, int64, int64, int64))
def tree_rank_word(space, record, word, after):  # type: ignore[no-untyped-def]
    """Number of items of an ordered tree with a smaller word; with `after`, or an equal one."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    rank = 0
    while level > 0:
        pa = node_read(space, node)
        place = 0
        for i in range(node_count(memory, pa)):
            here = bytes64(memory, pa + WORDS + 8 * i)
            place += int64(here < word) + (int64(here == word) & after)
        if level == 1:
            return rank + place
        place = max(place - 1, 0)
        rank += node_sum(memory, pa, WEIGHTS, 0, place)
        node = node_at(memory, pa, CHILDREN, place)
        level -= 1
    return 0


@linked(int64(SPACE, int64, int64, int64))
def tree_seek(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """The position of the item that holds a rank; 0 beyond the last one."""
    position, _ = tree_find(space, record, rank, weights)
    return position


@linked(int64(SPACE, int64, int64, int64))
def tree_seek_start(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """The rank of the first element of the item that holds a rank, which is in the tree."""
    position, rest = tree_find(space, record, rank, weights)
    assert position != 0, "a rank beyond the tree"
    return rank - rest


@kernel
def position_word(space, position):  # type: ignore[no-untyped-def]
    """The word of the item."""
    return load64(space, (position >> PLACE_BITS) + WORDS + 8 * (position & PLACE))


@kernel
def position_address(space, position):  # type: ignore[no-untyped-def]
    """The address of the item."""
    return load64(space, (position >> PLACE_BITS) + ADDRESSES + 8 * (position & PLACE))


@kernel
def position_run(space, position, reverse):  # type: ignore[no-untyped-def]
    """(index in mem.bytes of the position's leaf, place there, items of the leaf from this one on, or back).

    A reader of many items translates a leaf once, and not each item.
    """
    leaf, place = node_read(space, position >> PLACE_BITS), position & PLACE
    return leaf, place, place + 1 if reverse else node_count(space.mem.bytes, leaf) - place


@kernel
def position_next(space, position):  # type: ignore[no-untyped-def]
    """The position behind this one; 0 behind the last."""
    leaf, place = position >> PLACE_BITS, (position & PLACE) + 1
    if place < load64(space, leaf) >> ADDRESS_BITS:
        return leaf << PLACE_BITS | place
    return (load64(space, leaf + LEVEL_WORD) & ADDRESS) << PLACE_BITS


@kernel
def position_previous(space, position):  # type: ignore[no-untyped-def]
    """The position in front of this one; 0 in front of the first."""
    leaf, place = position >> PLACE_BITS, position & PLACE
    if place > 0:
        return leaf << PLACE_BITS | (place - 1)
    leaf = load64(space, leaf) & ADDRESS
    if leaf == 0:
        return int64(0)
    return leaf << PLACE_BITS | ((load64(space, leaf) >> ADDRESS_BITS) - 1)
