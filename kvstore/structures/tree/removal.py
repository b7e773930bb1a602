"""Removing an item of a tree, and dropping a whole tree in steps.

A removal descends once and joins each small node on its way with a neighbour, or gives it some of the neighbour's, so
that a parent can always lose a child.  While a tree is dropped, only the counts and the children of its nodes are
maintained.
"""

from kvstore.structures.element import element_free, element_payload, load_word
from kvstore.structures.packed import packed_free
from kvstore.structures.record import BELOW, LEVELS, LINK, OWNS_BELOW, OWNS_ITEMS, OWNS_PACKEDS, TREE, record_owns
from kvstore.structures.tree.nodes import (
    ADDRESSES,
    CHILDREN,
    COUNT_WORD,
    JOINED,
    LEAST,
    LEVEL_FRAMES,
    LEVEL_WORD,
    WEIGHTS,
    WORDS,
    node_add,
    node_at,
    node_count,
    node_free,
    node_link,
    node_move,
    node_put,
    node_read,
    node_set_count,
    node_set_link,
    node_weight,
    node_write,
    tree_frames,
)
from kvstore.structures.tree.search import child_holding, holder_of_rank, position_word, tree_before, tree_seek
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE


@linked(void(SPACE, int64, int64, int64, int64))
def _balance(space, parent, left, level, weights):  # type: ignore[no-untyped-def]
    """Join the children at places `left` and `left` + 1 of the node at index `parent`, or let each have half."""
    memory = space.mem.bytes
    right = left + 1
    node, other = node_at(memory, parent, CHILDREN, left), node_at(memory, parent, CHILDREN, right)
    a, b = node_write(space, node), node_write(space, other)
    mine, others = node_count(memory, a), node_count(memory, b)
    total = mine + others
    if total > JOINED:
        half = total >> 1
        if mine < half:
            count = half - mine
            weight = node_weight(memory, level, b, 0, count, weights)
            node_move(memory, level, a, mine, b, 0, count)
            node_move(memory, level, b, 0, b, count, others - count)
        else:
            count = mine - half
            weight = -node_weight(memory, level, a, half, count, weights)
            node_move(memory, level, b, count, b, 0, others)
            node_move(memory, level, b, 0, a, half, count)
        node_set_count(memory, a, half)
        node_set_count(memory, b, total - half)
        node_add(memory, parent, WEIGHTS, left, weight)
        node_add(memory, parent, WEIGHTS, right, -weight)
        node_put(memory, parent, WORDS, right, node_at(memory, b, WORDS, 0))
        node_put(memory, parent, ADDRESSES, right, node_at(memory, b, ADDRESSES, 0))
        return
    node_move(memory, level, a, mine, b, 0, others)
    node_set_count(memory, a, total)
    if level == 1:
        following = node_link(memory, b, LEVEL_WORD)
        node_set_link(memory, a, LEVEL_WORD, following)
        if following != 0:
            node_set_link(memory, node_write(space, following), COUNT_WORD, node)
    children = node_count(memory, parent)
    node_add(memory, parent, WEIGHTS, left, node_at(memory, parent, WEIGHTS, right))
    node_move(memory, 2, parent, right, parent, right + 1, children - right - 1)
    node_set_count(memory, parent, children - 1)
    node_free(space, other, level)


@kernel
def _replace_first(space, record, ordered, rank, word, element, leaf):  # type: ignore[no-untyped-def]
    # The element was the first of the leaf at this index, and is no more: correct the nodes above that name it.  Their
    # separators still lead to its place, and its rank is now that of the element behind it.
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    while level > 1:
        pa = node_write(space, node)
        place, rank = child_holding(space, pa, ordered, rank, word, element)
        if node_at(memory, pa, ADDRESSES, place) == element:
            node_put(memory, pa, WORDS, place, node_at(memory, leaf, WORDS, 0))
            node_put(memory, pa, ADDRESSES, place, node_at(memory, leaf, ADDRESSES, 0))
        node = node_at(memory, pa, CHILDREN, place)
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
        pa = node_write(space, node)
        place, below = child_holding(space, pa, ordered, rest, word, element)
        if node_count(memory, node_read(space, node_at(memory, pa, CHILDREN, place))) <= LEAST:
            _balance(space, pa, max(place - 1, 0), level - 1, weights)
            if node_count(memory, pa) == 1:
                assert node == root, "a node that has lost all children but one"
                child = node_at(memory, pa, CHILDREN, 0)
                node_free(space, node, level)
                level -= 1
                node = root = child
                store64(space, record + TREE, root)
                store64(space, record + LEVELS, level)
                continue
            place, below = child_holding(space, pa, ordered, rest, word, element)
        node_add(memory, pa, WEIGHTS, place, -by)
        node, rest = node_at(memory, pa, CHILDREN, place), below
        level -= 1
    pa = node_write(space, node)
    count = node_count(memory, pa)
    if ordered:
        place = tree_before(space, pa, word, element, 0, 0, 0)
    elif weights:
        place, rest = holder_of_rank(memory, pa, rest, WORDS)
    else:
        place = rest
    assert place < count, "an item that is not in the tree"
    removed = node_at(memory, pa, ADDRESSES, place)
    assert not ordered or removed == element, "an element that is not in the tree"
    node_move(memory, 1, pa, place, pa, place + 1, count - place - 1)
    node_set_count(memory, pa, count - 1)
    if count == 1:
        assert node == root, "a leaf that has lost all its items"
        node_free(space, node, 1)
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


@linked(void(SPACE, int64, int64))
def _item_drop(space, record, item):  # type: ignore[no-untyped-def]
    """Free what an item names and the record owns.  Records below it get behind this one in the grave (grave.py)."""
    if record_owns(space, record, OWNS_PACKEDS):
        code = packed_free(space, item)
    else:
        for i in range(BELOW if record_owns(space, record, OWNS_BELOW) else 0):
            below = load_word(space, element_payload(space, item) + 8 * i)
            if below != 0:
                store64(space, below + LINK, load64(space, record + LINK))
                store64(space, record + LINK, below)
        code = element_free(space, item)
    assert code == 0, "no frames were reserved for the heap"


@linked(int64(SPACE, int64, int64))
def tree_drop_step(space, record, budget):  # type: ignore[no-untyped-def]
    """Free up to `budget` nodes, and items if the record owns them, the last ones first.

    Returns how many; 0 when the tree is gone, or there are too few frames to free anything.
    """
    memory = space.mem.bytes
    owned, done = record_owns(space, record, OWNS_PACKEDS | OWNS_ITEMS), 0
    while done < budget and load64(space, record + TREE) != 0 and has_frames(space, LEVEL_FRAMES):
        node, level = load64(space, record + TREE), load64(space, record + LEVELS)
        parent = int64(0)
        pa = node_read(space, node)
        while level > 1 and node_count(memory, pa) > 0:
            parent, node = node, node_at(memory, pa, CHILDREN, node_count(memory, pa) - 1)
            pa = node_read(space, node)
            level -= 1
        count = node_count(memory, pa)
        if level == 1 and owned and count > 0:
            _item_drop(space, record, node_at(memory, pa, ADDRESSES, count - 1))
            node_set_count(memory, node_write(space, node), count - 1)
        else:
            node_free(space, node, level)
            if parent != 0:
                pa = node_write(space, parent)
                node_set_count(memory, pa, node_count(memory, pa) - 1)
            else:
                store64(space, record + TREE, 0)
                store64(space, record + LEVELS, 0)
        done += 1
    return done
