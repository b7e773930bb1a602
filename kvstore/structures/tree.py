"""A counted B+-tree of items, each a word and an address; its root and its levels are in a record.

In an ordered tree, items are elements.  They are ordered by their words, as signed integers, and where words are equal
by the elements' keys.  Each item has weight 1, so a rank is a number of elements.  In a tree of packeds, the word of an
item is its weight: the number of elements in that packed.  The caller decides on the order of the items, and a rank is
again a number of elements.  The argument `weights` is 0 for the former and 1 for the latter.

    leaf, 1024 bytes                                inner node, 2048 bytes
    0     8     previous leaf | items << 48         0     8     children << 48
    8     8     next leaf | LEVEL << 48             8     8     LEVEL << 48
    16    504   words                               16    504   words of the children's first items
    520   504   addresses                           520   504   addresses of these
                                                    1024  504   children
                                                    1528  504   weights of the children
    LEVEL is 1 for a leaf, and one more at each level above; in a tree of packeds, WEIGHTED is added

Each field of a node is an array of its own, because a search compares the words of a whole node without a branch, and a
rank is a sum of weights.  A node never straddles two pages, so it is translated once.  Elements are compared only where
words are equal.

An insertion descends once and splits each full node on its way, so that a parent always has room for another child.
A removal descends once and joins each small node on its way with a neighbour, or gives it some of the neighbour's, so
that a parent can always lose a child.  A node is split near its end when the insertion is at the end of the tree, and
near its front at the front of the tree: items that come in order leave full nodes.

A position is a leaf's address << 6 | place; 0 is none.  It is valid until the tree changes.

Invariants, which check_tree proves
 1. All leaves are at the same depth, which the record's levels tell, and each node says its level.
 2. A node has at least LEAST items or children, except for the root and the first and the last node of a level.  These
    have at least one, and a root that is not a leaf has two.
 3. The weight of a child is the sum of the weights below it.  No weight is less than 1.
 4. In an ordered tree, the word and the address of a child are those of the first item below it.
 5. In an ordered tree, items ascend.
 6. The leaves are linked in both directions, in order.

While a tree is dropped, only the counts and the children of its nodes are maintained.
"""

from typing import Any

from kvstore.structures.element import element_compare, element_compare_two
from kvstore.structures.packed import packed_free
from kvstore.structures.record import LEVELS, OWNS_PACKEDS, TREE, record_owns
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free
from mmcore.jit import bytes64, copy_bytes, int64, kernel, linked, put64, uint8, void, zeros
from mmcore.mmu import copy_out, load64, read_address, store64, write_address
from mmcore.paging import PAGE_SIZE
from mmcore.state import SPACE

FULL = 63  # items of a leaf, or children of an inner node
LEAST = 28
JOINED = 58  # two nodes with no more than this become one; otherwise each gets half, which is more than LEAST
LEAF_SIZE, INNER_SIZE = 1024, 2048
ARRAY = 8 * FULL
COUNT_WORD, LEVEL_WORD = 0, 8
WORDS = 16
ADDRESSES, CHILDREN, WEIGHTS = WORDS + ARRAY, WORDS + 2 * ARRAY, WORDS + 3 * ARRAY
ADDRESS_BITS = 48
ADDRESS = (1 << ADDRESS_BITS) - 1
WEIGHTED = 0x100
LEVELS_MAX = 10
PLACE_BITS = 6
PLACE = (1 << PLACE_BITS) - 1
COPY_FRAMES = 4  # a first write to a shared page copies it, and at most three tables
LEVEL_FRAMES = HEAP_FRAMES + 4 * COPY_FRAMES  # a node that is allocated or freed, and up to four that are written
TREE_FRAMES = (LEVELS_MAX + 2) * LEVEL_FRAMES  # enough for any change of any tree; tree_frames says it of one tree
assert ADDRESSES + ARRAY == LEAF_SIZE and WEIGHTS + ARRAY <= INNER_SIZE
assert FULL - FULL // 2 > LEAST and JOINED // 2 + 1 > LEAST and JOINED <= FULL


# --- nodes, by their index in mem.bytes ----------------------------------------------------------------------------


@kernel
def _count(memory, node):  # type: ignore[no-untyped-def]
    return bytes64(memory, node) >> ADDRESS_BITS


@kernel
def _set_count(memory, node, count):  # type: ignore[no-untyped-def]
    put64(memory, node, (bytes64(memory, node) & ADDRESS) | count << ADDRESS_BITS)


@kernel
def _link_of(memory, node, word):  # type: ignore[no-untyped-def]
    # The previous leaf in COUNT_WORD, the next in LEVEL_WORD.
    return bytes64(memory, node + word) & ADDRESS


@kernel
def _set_link(memory, node, word, leaf):  # type: ignore[no-untyped-def]
    put64(memory, node + word, (bytes64(memory, node + word) & ~ADDRESS) | leaf)


@kernel
def _at(memory, node, field, place):  # type: ignore[no-untyped-def]
    return bytes64(memory, node + field + 8 * place)


@kernel
def _put(memory, node, field, place, value):  # type: ignore[no-untyped-def]
    put64(memory, node + field + 8 * place, value)


@kernel
def _add(memory, node, field, place, by):  # type: ignore[no-untyped-def]
    put64(memory, node + field + 8 * place, bytes64(memory, node + field + 8 * place) + by)


@kernel
def _end_of_fields(level):  # type: ignore[no-untyped-def]
    # A leaf has two arrays, an inner node has four.
    return CHILDREN if level == 1 else WEIGHTS + ARRAY


@kernel
def _move(memory, level, target, to, source, of, count):  # type: ignore[no-untyped-def]
    # Move `count` items or children from place `of` of a node to place `to` of another, or of the same.
    for field in range(WORDS, _end_of_fields(level), ARRAY):
        copy_bytes(memory, target + field + 8 * to, memory, source + field + 8 * of, 8 * count)


@kernel
def _sum(memory, node, field, start, count):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(start, start + count):
        total += bytes64(memory, node + field + 8 * i)
    return total


@kernel
def _weight(memory, level, node, start, count, weights):  # type: ignore[no-untyped-def]
    # The weight of `count` items or children.
    if level > 1:
        return _sum(memory, node, WEIGHTS, start, count)
    return _sum(memory, node, WORDS, start, count) if weights else count


@kernel
def _node_size(level):  # type: ignore[no-untyped-def]
    return LEAF_SIZE if level == 1 else INNER_SIZE


@linked(int64(SPACE, int64, int64))
def _node_new(space, level, weights):  # type: ignore[no-untyped-def]
    """An empty node, for which frames have been reserved."""
    node = heap_alloc(space, _node_size(level))
    assert node != 0, "no frames were reserved for a node"
    store64(space, node + COUNT_WORD, 0)
    store64(space, node + LEVEL_WORD, (level | WEIGHTED * weights) << ADDRESS_BITS)
    return node


@kernel
def _node_free(space, node, level):  # type: ignore[no-untyped-def]
    code = heap_free(space, node, _node_size(level))
    assert code == 0, "no frames were reserved for the heap"


@kernel
def _read(space, node):  # type: ignore[no-untyped-def]
    pa = read_address(space, node)
    assert pa >= 0, "a node is not mapped"
    return pa


@kernel
def _write(space, node):  # type: ignore[no-untyped-def]
    pa = write_address(space, node)
    assert pa >= 0, "no frame was reserved for a node"
    return pa


@kernel
def tree_frames(space, record):  # type: ignore[no-untyped-def]
    """Frames that are enough for one insertion or removal."""
    return (load64(space, record + LEVELS) + 2) * LEVEL_FRAMES


# --- searches ------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _before(space, node, word, element, key, k, after):  # type: ignore[no-untyped-def]
    """How many items of the node at this index come before an item.

    The item has a word and the key of `element`, or the `k` bytes at `key` if that is 0.  With `after`, an equal item
    counts, too.
    """
    memory = space.mem.bytes
    low, same = 0, 0
    for i in range(_count(memory, node)):
        here = bytes64(memory, node + WORDS + 8 * i)
        low += int64(here < word)
        same += int64(here == word)
    high = low + same
    while low < high:
        middle = (low + high) >> 1
        address = _at(memory, node, ADDRESSES, middle)
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
def _holder(memory, node, rank, field):  # type: ignore[no-untyped-def]
    # The place that holds a rank, and what is left of the rank there.  Place `count` where the rank is beyond.
    place, count = 0, _count(memory, node)
    while place < count:
        weight = _at(memory, node, field, place)
        if rank < weight:
            break
        rank -= weight
        place += 1
    return place, rank


@kernel
def _child_holding(space, node, ordered, rank, word, element):  # type: ignore[no-untyped-def]
    # The place of the child that holds an item of an ordered tree, or a rank, and what is left of that.
    if ordered:
        return max(_before(space, node, word, element, 0, 0, 1) - 1, 0), int64(0)
    place, rank = _holder(space.mem.bytes, node, rank, WEIGHTS)
    assert place < _count(space.mem.bytes, node), "a rank beyond the tree"
    return place, rank


@kernel
def _seek(space, record, rank, weights):  # type: ignore[no-untyped-def]
    # The leaf, the place, and what is left of the rank there.  Leaf 0 where the rank is beyond.
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    if level == 0 or rank < 0:
        return int64(0), int64(0), int64(0)
    pa = _read(space, node)
    while level > 1:
        place, rank = _holder(memory, pa, rank, WEIGHTS)
        if place == _count(memory, pa):
            return int64(0), int64(0), int64(0)
        node = _at(memory, pa, CHILDREN, place)
        pa = _read(space, node)
        level -= 1
    if weights:
        place, rank = _holder(memory, pa, rank, WORDS)
    else:
        place, rank = rank, int64(0)
    if place >= _count(memory, pa):
        return int64(0), int64(0), int64(0)
    return node, place, rank


@linked(int64(SPACE, int64))
def tree_weight(space, record):  # type: ignore[no-untyped-def]
    """The weight of all items."""
    level = load64(space, record + LEVELS)
    if level == 0:
        return 0
    memory, root = space.mem.bytes, _read(space, load64(space, record + TREE))
    weights = (bytes64(memory, root + LEVEL_WORD) >> ADDRESS_BITS) & WEIGHTED != 0
    return _weight(memory, level, root, 0, _count(memory, root), weights)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def tree_rank(space, record, word, key, k, after):  # type: ignore[no-untyped-def]
    """Number of items of an ordered tree before a word and a key in the process; with `after`, or equal to them."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    rank = 0
    while level > 1:
        pa = _read(space, node)
        place = max(_before(space, pa, word, 0, key, k, after) - 1, 0)
        rank += _sum(memory, pa, WEIGHTS, 0, place)
        node = _at(memory, pa, CHILDREN, place)
        level -= 1
    return rank + _before(space, _read(space, node), word, 0, key, k, after) if level == 1 else 0


@linked(int64(SPACE, int64, int64, int64))
def tree_rank_word(space, record, word, after):  # type: ignore[no-untyped-def]
    """Number of items of an ordered tree with a smaller word; with `after`, or an equal one."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    rank = 0
    while level > 0:
        pa = _read(space, node)
        place = 0
        for i in range(_count(memory, pa)):
            here = bytes64(memory, pa + WORDS + 8 * i)
            place += int64(here < word) + (int64(here == word) & after)
        if level == 1:
            return rank + place
        place = max(place - 1, 0)
        rank += _sum(memory, pa, WEIGHTS, 0, place)
        node = _at(memory, pa, CHILDREN, place)
        level -= 1
    return 0


@linked(int64(SPACE, int64, int64, int64))
def tree_seek(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """The position of the item that holds a rank; 0 beyond the last one."""
    leaf, place, _ = _seek(space, record, rank, weights)
    return leaf << PLACE_BITS | place


@linked(int64(SPACE, int64, int64, int64))
def tree_seek_start(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """The rank of the first element of the item that holds a rank, which is in the tree."""
    leaf, _, rest = _seek(space, record, rank, weights)
    assert leaf != 0, "a rank beyond the tree"
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


# --- insertion -----------------------------------------------------------------------------------------------------


@kernel
def _grow(space, record, weights):  # type: ignore[no-untyped-def]
    # A new root above the old one.  Returns its index.
    memory = space.mem.bytes
    old, level = load64(space, record + TREE), load64(space, record + LEVELS)
    assert level < LEVELS_MAX, "a tree with too many levels"
    root = _node_new(space, level + 1, weights)
    pa, child = _write(space, root), _read(space, old)
    _set_count(memory, pa, 1)
    _put(memory, pa, WORDS, 0, _at(memory, child, WORDS, 0))
    _put(memory, pa, ADDRESSES, 0, _at(memory, child, ADDRESSES, 0))
    _put(memory, pa, CHILDREN, 0, old)
    _put(memory, pa, WEIGHTS, 0, _weight(memory, level, child, 0, _count(memory, child), weights))
    store64(space, record + TREE, root)
    store64(space, record + LEVELS, level + 1)
    return pa


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _split(space, parent, spot, node, level, at, weights):  # type: ignore[no-untyped-def]
    """Move what a full node holds from place `at` on to a new node, the parent's child behind it: its address.

    `parent` is an index; the node is its child at place `spot`.
    """
    memory = space.mem.bytes
    right = _node_new(space, level, weights)
    left_pa, right_pa = _write(space, node), _write(space, right)
    count = _count(memory, left_pa) - at
    _move(memory, level, right_pa, 0, left_pa, at, count)
    _set_count(memory, left_pa, at)
    _set_count(memory, right_pa, count)
    if level == 1:
        following = _link_of(memory, left_pa, LEVEL_WORD)
        _set_link(memory, right_pa, COUNT_WORD, node)
        _set_link(memory, right_pa, LEVEL_WORD, following)
        _set_link(memory, left_pa, LEVEL_WORD, right)
        if following != 0:
            _set_link(memory, _write(space, following), COUNT_WORD, right)
    children, weight = _count(memory, parent), _weight(memory, level, right_pa, 0, count, weights)
    _move(memory, 2, parent, spot + 2, parent, spot + 1, children - spot - 1)
    _put(memory, parent, WORDS, spot + 1, _at(memory, right_pa, WORDS, 0))
    _put(memory, parent, ADDRESSES, spot + 1, _at(memory, right_pa, ADDRESSES, 0))
    _put(memory, parent, CHILDREN, spot + 1, right)
    _put(memory, parent, WEIGHTS, spot + 1, weight)
    _add(memory, parent, WEIGHTS, spot, -weight)
    _set_count(memory, parent, children + 1)
    return right


@kernel
def _insertion_place(space, node, level, ordered, rank, word, element, weights):  # type: ignore[no-untyped-def]
    # The place of the new item in a leaf, or of the child that it goes to; and what is left of the rank there.
    # Place -1 of an inner node is in front of the first child.  Between two children an item goes to the end of the
    # first one, so that no child gets another first item.
    memory = space.mem.bytes
    if ordered:
        return _before(space, node, word, element, 0, 0, 1) - int64(level > 1), int64(0)
    if level == 1 and not weights:
        assert rank <= _count(memory, node), "a rank beyond the tree"
        return rank, int64(0)
    if level == 1:
        place, rest = _holder(memory, node, rank, WORDS)
        assert rest == 0, "an item is inserted into the middle of another"
        return place, rest
    if rank == 0:
        return int64(-1), int64(0)
    place, rest = _holder(memory, node, rank - 1, WEIGHTS)
    assert place < _count(memory, node), "a rank beyond the tree"
    return place, rest + 1


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _insert(space, record, ordered, rank, word, address, weights):  # type: ignore[no-untyped-def]
    """Insert an item in order, or at a rank: 0, or NO_FRAME with nothing changed."""
    if not has_frames(space, tree_frames(space, record)):
        return NO_FRAME
    memory = space.mem.bytes
    by = word if weights else 1
    assert by > 0, "an item without weight"
    if load64(space, record + LEVELS) == 0:
        store64(space, record + TREE, _node_new(space, 1, weights))
        store64(space, record + LEVELS, 1)
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    parent, spot = -1, 0
    last = True  # whether the node is the last one of its level
    while True:
        pa = _write(space, node)
        count, leaf = _count(memory, pa), int64(level == 1)
        place, rank = _insertion_place(space, pa, level, ordered, rank, word, address, weights)
        first = place < leaf  # whether the item will be the first one of the tree
        place = max(place, 0)
        last = last and place >= count - 1 + leaf
        if count == FULL:
            if parent < 0:
                parent = _grow(space, record, weights)
            at = 1 if first else FULL - 1 if last else (FULL + 1) >> 1
            right = _split(space, parent, spot, node, level, at, weights)
            if place >= at + leaf:
                node, pa, place, spot = right, _write(space, right), place - at, spot + 1
        if parent >= 0:
            _add(memory, parent, WEIGHTS, spot, by)
            if first and not weights:
                _put(memory, parent, WORDS, spot, word)
                _put(memory, parent, ADDRESSES, spot, address)
        if level == 1:
            break
        node, parent, spot = _at(memory, pa, CHILDREN, place), pa, place
        level -= 1
    count = _count(memory, pa)
    _move(memory, 1, pa, place + 1, pa, place, count - place)
    _put(memory, pa, WORDS, place, word)
    _put(memory, pa, ADDRESSES, place, address)
    _set_count(memory, pa, count + 1)
    return 0


@linked(int64(SPACE, int64, int64, int64))
def tree_insert(space, record, word, element):  # type: ignore[no-untyped-def]
    """Insert an element into an ordered tree that has no equal one: 0, or NO_FRAME with nothing changed."""
    return _insert(space, record, 1, 0, word, element, 0)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def tree_insert_at(space, record, rank, word, address, weights):  # type: ignore[no-untyped-def]
    """Insert an item whose first element gets this rank: 0, or NO_FRAME with nothing changed.

    The rank is one between two items, or in front of the first, or behind the last.
    """
    return _insert(space, record, 0, rank, word, address, weights)


# --- removal -------------------------------------------------------------------------------------------------------


@linked(void(SPACE, int64, int64, int64, int64))
def _balance(space, parent, left, level, weights):  # type: ignore[no-untyped-def]
    """Join the children at places `left` and `left` + 1 of the node at index `parent`, or let each have half."""
    memory = space.mem.bytes
    right = left + 1
    node, other = _at(memory, parent, CHILDREN, left), _at(memory, parent, CHILDREN, right)
    a, b = _write(space, node), _write(space, other)
    mine, others = _count(memory, a), _count(memory, b)
    total = mine + others
    if total > JOINED:
        half = total >> 1
        if mine < half:
            count = half - mine
            weight = _weight(memory, level, b, 0, count, weights)
            _move(memory, level, a, mine, b, 0, count)
            _move(memory, level, b, 0, b, count, others - count)
        else:
            count = mine - half
            weight = -_weight(memory, level, a, half, count, weights)
            _move(memory, level, b, count, b, 0, others)
            _move(memory, level, b, 0, a, half, count)
        _set_count(memory, a, half)
        _set_count(memory, b, total - half)
        _add(memory, parent, WEIGHTS, left, weight)
        _add(memory, parent, WEIGHTS, right, -weight)
        _put(memory, parent, WORDS, right, _at(memory, b, WORDS, 0))
        _put(memory, parent, ADDRESSES, right, _at(memory, b, ADDRESSES, 0))
        return
    _move(memory, level, a, mine, b, 0, others)
    _set_count(memory, a, total)
    if level == 1:
        following = _link_of(memory, b, LEVEL_WORD)
        _set_link(memory, a, LEVEL_WORD, following)
        if following != 0:
            _set_link(memory, _write(space, following), COUNT_WORD, node)
    children = _count(memory, parent)
    _add(memory, parent, WEIGHTS, left, _at(memory, parent, WEIGHTS, right))
    _move(memory, 2, parent, right, parent, right + 1, children - right - 1)
    _set_count(memory, parent, children - 1)
    _node_free(space, other, level)


@kernel
def _replace_first(space, record, ordered, rank, word, element, leaf):  # type: ignore[no-untyped-def]
    # The element was the first of the leaf at this index, and is no more: correct the nodes above that name it.  Their
    # separators still lead to its place, and its rank is now that of the element behind it.
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    while level > 1:
        pa = _write(space, node)
        place, rank = _child_holding(space, pa, ordered, rank, word, element)
        if _at(memory, pa, ADDRESSES, place) == element:
            _put(memory, pa, WORDS, place, _at(memory, leaf, WORDS, 0))
            _put(memory, pa, ADDRESSES, place, _at(memory, leaf, ADDRESSES, 0))
        node = _at(memory, pa, CHILDREN, place)
        level -= 1


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _remove(space, record, ordered, rank, word, element, weights):  # type: ignore[no-untyped-def]
    """Remove an element of an ordered tree, or the item that holds a rank: 0, or NO_FRAME with nothing changed.

    In a tree of packeds, `word` is the item's.
    """
    if not has_frames(space, tree_frames(space, record)):
        return NO_FRAME
    memory = space.mem.bytes
    root, levels = load64(space, record + TREE), load64(space, record + LEVELS)
    assert levels > 0, "a removal from an empty tree"
    by = word if weights else 1
    node, level, rest = root, levels, rank
    while level > 1:
        pa = _write(space, node)
        place, below = _child_holding(space, pa, ordered, rest, word, element)
        if _count(memory, _read(space, _at(memory, pa, CHILDREN, place))) <= LEAST:
            _balance(space, pa, max(place - 1, 0), level - 1, weights)
            if _count(memory, pa) == 1:
                assert node == root, "a node that has lost all children but one"
                child = _at(memory, pa, CHILDREN, 0)
                _node_free(space, node, level)
                level -= 1
                node = root = child
                store64(space, record + TREE, root)
                store64(space, record + LEVELS, level)
                continue
            place, below = _child_holding(space, pa, ordered, rest, word, element)
        _add(memory, pa, WEIGHTS, place, -by)
        node, rest = _at(memory, pa, CHILDREN, place), below
        level -= 1
    pa = _write(space, node)
    count = _count(memory, pa)
    if ordered:
        place = _before(space, pa, word, element, 0, 0, 0)
    elif weights:
        place, rest = _holder(memory, pa, rest, WORDS)
    else:
        place = rest
    assert place < count, "an item that is not in the tree"
    removed = _at(memory, pa, ADDRESSES, place)
    assert not ordered or removed == element, "an element that is not in the tree"
    _move(memory, 1, pa, place, pa, place + 1, count - place - 1)
    _set_count(memory, pa, count - 1)
    if count == 1:
        assert node == root, "a leaf that has lost all its items"
        _node_free(space, node, 1)
        store64(space, record + TREE, 0)
        store64(space, record + LEVELS, 0)
    elif place == 0 and not weights:
        _replace_first(space, record, ordered, rank, word, removed, pa)
    return 0


@linked(int64(SPACE, int64, int64, int64))
def tree_remove(space, record, word, element):  # type: ignore[no-untyped-def]
    """Remove an element of an ordered tree, which is not freed: 0, or NO_FRAME with nothing changed."""
    return _remove(space, record, 1, 0, word, element, 0)


@linked(int64(SPACE, int64, int64, int64))
def tree_remove_at(space, record, rank, weights):  # type: ignore[no-untyped-def]
    """Remove the item that holds a rank; its address is not freed: 0, or NO_FRAME with nothing changed."""
    position = tree_seek(space, record, rank, weights)
    assert position != 0, "a rank beyond the tree"
    return _remove(space, record, 0, rank, position_word(space, position), 0, weights)


# --- changes of an item --------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64, int64))
def tree_add_weight(space, record, rank, by, address):  # type: ignore[no-untyped-def]
    """Change the weight of the packed that holds a rank, and its address unless that is 0.

    Returns 0, or NO_FRAME with nothing changed.
    """
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    if not has_frames(space, level * COPY_FRAMES):
        return NO_FRAME
    while level > 1:
        pa = _read(space, node)
        place, rank = _holder(memory, pa, rank, WEIGHTS)
        assert place < _count(memory, pa), "a rank beyond the tree"
        if by != 0:
            _add(memory, _write(space, node), WEIGHTS, place, by)
        # The write may have copied the node.
        node = _at(memory, _read(space, node), CHILDREN, place)
        level -= 1
    assert level == 1, "a rank in an empty tree"
    pa = _write(space, node)
    place, rank = _holder(memory, pa, rank, WORDS)
    assert place < _count(memory, pa), "a rank beyond the tree"
    _add(memory, pa, WORDS, place, by)
    assert _at(memory, pa, WORDS, place) > 0, "an item without weight"
    if address != 0:
        _put(memory, pa, ADDRESSES, place, address)
    return 0


# --- the end of a tree ---------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64))
def tree_drop_step(space, record, budget):  # type: ignore[no-untyped-def]
    """Free up to `budget` nodes, and packeds if the record owns them, the last ones first.

    Returns how many; 0 when the tree is gone, or there are too few frames to free anything.
    """
    memory = space.mem.bytes
    owned, done = record_owns(space, record, OWNS_PACKEDS), 0
    while done < budget and load64(space, record + TREE) != 0 and has_frames(space, LEVEL_FRAMES):
        node, level = load64(space, record + TREE), load64(space, record + LEVELS)
        parent = int64(0)
        pa = _read(space, node)
        while level > 1 and _count(memory, pa) > 0:
            parent, node = node, _at(memory, pa, CHILDREN, _count(memory, pa) - 1)
            pa = _read(space, node)
            level -= 1
        count = _count(memory, pa)
        if level == 1 and owned and count > 0:
            code = packed_free(space, _at(memory, pa, ADDRESSES, count - 1))
            assert code == 0, "no frames were reserved for the heap"
            _set_count(memory, _write(space, node), count - 1)
        else:
            _node_free(space, node, level)
            if parent != 0:
                pa = _write(space, parent)
                _set_count(memory, pa, _count(memory, pa) - 1)
            else:
                store64(space, record + TREE, 0)
                store64(space, record + LEVELS, 0)
        done += 1
    return done


# --- the proof -----------------------------------------------------------------------------------------------------


class _Checker:
    """Walks a tree; `leaves` and `items` collect what is met."""

    def __init__(self, space: Any, weights: int, levels: int) -> None:
        self.space, self.weights, self.levels = space, weights, levels
        self.leaves: list[tuple[int, int, int]] = []  # (leaf, previous, next)
        self.items: list[tuple[int, int]] = []  # (word, address)
        self._pages: dict[int, bytes] = {}  # which many small elements share

    def words(self, va: int, count: int) -> list[int]:
        data = self.read(va, 8 * count)
        return [int.from_bytes(data[i : i + 8], "little", signed=True) for i in range(0, len(data), 8)]

    def read(self, va: int, count: int) -> bytes:
        start = va % PAGE_SIZE
        if start + count > PAGE_SIZE:
            return self._copy(va, count)
        page = self._pages.get(va - start)
        if page is None:
            page = self._pages[va - start] = self._copy(va - start, PAGE_SIZE)
        return page[start : start + count]

    def _copy(self, va: int, count: int) -> bytes:
        data = zeros(uint8, count)
        copy_out(self.space, va, data, 0, count)
        return bytes(data)

    def key(self, element: int) -> bytes:
        """The key of an element, read without its module's kernels."""
        at, lengths = element, []
        for _ in range(2):
            size = 1 if self.read(at, 1)[0] < 0x80 else 4
            lengths.append(int.from_bytes(self.read(at, size), "big") & (0x7F if size == 1 else 0x7FFF_FFFF))
            at += size
        return self.read(at, lengths[0])

    def node(self, va: int, level: int, first: bool, last: bool) -> tuple[int, tuple[int, int]]:
        """Check the subtree of a node.  Returns its weight and its first item."""
        where = f"node {va:#x} of level {level}"
        node = self.words(va, _node_size_of(level) // 8)
        count, said = node[0] >> ADDRESS_BITS, node[1] >> ADDRESS_BITS
        _require(said == level | WEIGHTED * self.weights, f"1: {where} says {said:#x}")
        root, edge = level == self.levels, first or last
        least = (1 if level == 1 else 2) if root else 1 if edge else LEAST
        _require(least <= count <= FULL, f"2: {where} holds {count}")
        # A leaf has no children and weights.
        words, addresses, children, weights = (node[(WORDS + ARRAY * i) // 8 :][:count] for i in range(4))
        if level == 1:
            self.leaves.append((va, node[0] & ADDRESS, node[1] & ADDRESS))
            self.items += zip(words, addresses, strict=True)
            _require(not self.weights or min(words) > 0, f"3: {where} has an item without weight")
            return (sum(words) if self.weights else count), (words[0], addresses[0])
        for i, child in enumerate(children):
            weight, item = self.node(child, level - 1, first and i == 0, last and i == count - 1)
            _require(weight == weights[i], f"3: {where}, child {i}: weight {weights[i]}, and {weight} below")
            if not self.weights:
                _require(item == (words[i], addresses[i]), f"4: {where}, child {i}: not the first item below")
        return sum(weights), (words[0], addresses[0])


def _node_size_of(level: int) -> int:
    return LEAF_SIZE if level == 1 else INNER_SIZE


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def check_tree(space: Any, record: int, weights: int) -> list[tuple[int, int]]:
    """Prove the invariants of a tree: AssertionError says which one fails.  Returns the items, (word, address)."""
    checker = _Checker(space, weights, 0)
    root, levels = checker.words(record + TREE, 2)
    _require((root == 0) == (levels == 0), f"1: root {root:#x} with {levels} levels")
    if root == 0:
        return []
    checker.levels = levels
    checker.node(root, levels, True, True)
    leaves = [leaf for leaf, _, _ in checker.leaves]
    for (leaf, previous, following), before, behind in zip(
        checker.leaves, [0, *leaves], [*leaves[1:], 0], strict=False
    ):
        _require(
            (previous, following) == (before, behind), f"6: leaf {leaf:#x} is linked to {previous:#x}, {following:#x}"
        )
    if not weights:
        keys: dict[int, bytes] = {}
        for (word, element), (other, behind) in zip(checker.items, checker.items[1:], strict=False):
            if word == other:
                for each in (element, behind):
                    keys.setdefault(each, checker.key(each))
            ascending = word < other or (word == other and keys[element] < keys[behind])
            _require(ascending, f"5: the item of word {word} and the one behind it do not ascend")
    return checker.items
