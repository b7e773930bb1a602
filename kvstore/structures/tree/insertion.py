"""Inserting an item into a tree.

An insertion descends once and splits each full node on its way, so that a parent always has room for another child.  A
node is split near its end when the insertion is at the end of the tree, and near its front at the front of the tree:
items that come in order leave full nodes.
"""

from kvstore.structures.record import LEVELS, TREE
from kvstore.structures.tree.nodes import (
    ADDRESSES,
    CHILDREN,
    COUNT_WORD,
    FULL,
    LEVEL_WORD,
    LEVELS_MAX,
    WEIGHTS,
    WORDS,
    node_add,
    node_at,
    node_count,
    node_link,
    node_move,
    node_new,
    node_put,
    node_read,
    node_set_count,
    node_set_link,
    node_weight,
    node_write,
    tree_frames,
)
from kvstore.structures.tree.search import holder_of_rank, tree_before
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load64, store64
from mmcore.state import SPACE


@kernel
def _grow(space, record, weights):  # type: ignore[no-untyped-def]
    # A new root above the old one.  Returns its index.
    memory = space.mem.bytes
    old, level = load64(space, record + TREE), load64(space, record + LEVELS)
    assert level < LEVELS_MAX, "a tree with too many levels"
    root = node_new(space, level + 1, weights)
    pa, child = node_write(space, root), node_read(space, old)
    node_set_count(memory, pa, 1)
    node_put(memory, pa, WORDS, 0, node_at(memory, child, WORDS, 0))
    node_put(memory, pa, ADDRESSES, 0, node_at(memory, child, ADDRESSES, 0))
    node_put(memory, pa, CHILDREN, 0, old)
    node_put(memory, pa, WEIGHTS, 0, node_weight(memory, level, child, 0, node_count(memory, child), weights))
    store64(space, record + TREE, root)
    store64(space, record + LEVELS, level + 1)
    return pa


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _split(space, parent, spot, node, level, at, weights):  # type: ignore[no-untyped-def]
    """Move what a full node holds from place `at` on to a new node, the parent's child behind it: its address.

    `parent` is an index; the node is its child at place `spot`.
    """
    memory = space.mem.bytes
    right = node_new(space, level, weights)
    left_pa, right_pa = node_write(space, node), node_write(space, right)
    count = node_count(memory, left_pa) - at
    node_move(memory, level, right_pa, 0, left_pa, at, count)
    node_set_count(memory, left_pa, at)
    node_set_count(memory, right_pa, count)
    if level == 1:
        following = node_link(memory, left_pa, LEVEL_WORD)
        node_set_link(memory, right_pa, COUNT_WORD, node)
        node_set_link(memory, right_pa, LEVEL_WORD, following)
        node_set_link(memory, left_pa, LEVEL_WORD, right)
        if following != 0:
            node_set_link(memory, node_write(space, following), COUNT_WORD, right)
    children, weight = node_count(memory, parent), node_weight(memory, level, right_pa, 0, count, weights)
    node_move(memory, 2, parent, spot + 2, parent, spot + 1, children - spot - 1)
    node_put(memory, parent, WORDS, spot + 1, node_at(memory, right_pa, WORDS, 0))
    node_put(memory, parent, ADDRESSES, spot + 1, node_at(memory, right_pa, ADDRESSES, 0))
    node_put(memory, parent, CHILDREN, spot + 1, right)
    node_put(memory, parent, WEIGHTS, spot + 1, weight)
    node_add(memory, parent, WEIGHTS, spot, -weight)
    node_set_count(memory, parent, children + 1)
    return right


@kernel
def _insertion_place(space, node, level, ordered, rank, word, element, weights):  # type: ignore[no-untyped-def]
    # The place of the new item in a leaf, or of the child that it goes to; and what is left of the rank there.
    # Place -1 of an inner node is in front of the first child.  Between two children an item goes to the end of the
    # first one, so that no child gets another first item.
    memory = space.mem.bytes
    if ordered:
        return tree_before(space, node, word, element, 0, 0, 1) - int64(level > 1), int64(0)
    if level == 1 and not weights:
        assert rank <= node_count(memory, node), "a rank beyond the tree"
        return rank, int64(0)
    if level == 1:
        place, rest = holder_of_rank(memory, node, rank, WORDS)
        assert rest == 0, "an item is inserted into the middle of another"
        return place, rest
    if rank == 0:
        return int64(-1), int64(0)
    place, rest = holder_of_rank(memory, node, rank - 1, WEIGHTS)
    assert place < node_count(memory, node), "a rank beyond the tree"
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
        store64(space, record + TREE, node_new(space, 1, weights))
        store64(space, record + LEVELS, 1)
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    parent, spot = -1, 0
    last = True  # whether the node is the last one of its level
    while True:
        pa = node_write(space, node)
        count, leaf = node_count(memory, pa), int64(level == 1)
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
                node, pa, place, spot = right, node_write(space, right), place - at, spot + 1
        if parent >= 0:
            node_add(memory, parent, WEIGHTS, spot, by)
            if first and not weights:
                node_put(memory, parent, WORDS, spot, word)
                node_put(memory, parent, ADDRESSES, spot, address)
        if level == 1:
            break
        node, parent, spot = node_at(memory, pa, CHILDREN, place), pa, place
        level -= 1
    count = node_count(memory, pa)
    node_move(memory, 1, pa, place + 1, pa, place, count - place)
    node_put(memory, pa, WORDS, place, word)
    node_put(memory, pa, ADDRESSES, place, address)
    node_set_count(memory, pa, count + 1)
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
