"""Cutting an ordered tree in two, at a cost that its height decides.

    items before a rank ─► the tree of another record          the others stay

The nodes on the way to the rank are divided, one a level.  Their parts lie at the edge of either tree, where
a node may have a single child.
"""

from kvstore.structures.record import LEVELS, TREE
from kvstore.structures.tree.nodes import (
    ADDRESSES,
    CHILDREN,
    COUNT_WORD,
    LEVEL_WORD,
    PLACE_BITS,
    WEIGHTS,
    WORDS,
    node_add,
    node_at,
    node_count,
    node_free,
    node_link,
    node_move,
    node_new,
    node_put,
    node_read,
    node_set_count,
    node_set_link,
    node_write,
    tree_frames,
)
from kvstore.structures.tree.search import holder_of_rank, position_address, position_word, tree_seek
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.jit import int64, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE


@linked(void(SPACE, int64))
def _flatten(space, record):  # type: ignore[no-untyped-def]
    """Remove roots of a single child."""
    memory = space.mem.bytes
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    while level > 1 and node_count(memory, node_read(space, node)) == 1:
        child = node_at(memory, node_read(space, node), CHILDREN, 0)
        node_free(space, node, level)
        node, level = child, level - 1
    store64(space, record + TREE, node)
    store64(space, record + LEVELS, level)


@linked(void(SPACE, int64, int64, int64))
def _cut_leaf(space, leaf, front, place):  # type: ignore[no-untyped-def]
    """End the links between what is in front of a place of a leaf and what is behind it.

    `front` is a new leaf, which gets the items before the place, or 0 if there are none.
    """
    memory, pa = space.mem.bytes, node_write(space, leaf)
    before, count = node_link(memory, pa, COUNT_WORD), node_count(memory, pa)
    node_set_link(memory, pa, COUNT_WORD, 0)
    if front != 0:
        to = node_write(space, front)
        node_move(memory, 1, to, 0, pa, 0, place)
        node_move(memory, 1, pa, 0, pa, place, count - place)
        node_set_count(memory, to, place)
        node_set_count(memory, pa, count - place)
        node_set_link(memory, to, COUNT_WORD, before)
    if before != 0:
        node_set_link(memory, node_write(space, before), LEVEL_WORD, front)


@linked(int64(SPACE, int64, int64, int64))
def tree_cut(space, record, rank, front):  # type: ignore[no-untyped-def]
    """Move the items before a rank of an ordered tree to the empty tree of another record.

    The rank is neither 0 nor beyond the tree.  Returns 0, or NO_FRAME with nothing changed.
    """
    if not has_frames(space, 2 * tree_frames(space, record)):
        return NO_FRAME
    memory, position = space.mem.bytes, tree_seek(space, record, rank, 0)
    assert position != 0 and rank > 0, "a cut beyond the tree"
    word, address, leaf = position_word(space, position), position_address(space, position), position >> PLACE_BITS
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    pointer = front + TREE  # of the next node of the front
    store64(space, front + LEVELS, level)
    while level > 1 and rank > 0:
        place, rest = holder_of_rank(memory, node_read(space, node), rank, WEIGHTS)
        part, shared = node_new(space, level, 0), int64(rest > 0)
        store64(space, pointer, part)
        to, pa = node_write(space, part), node_write(space, node)
        count = node_count(memory, pa)
        node_move(memory, 2, to, 0, pa, 0, place + shared)
        node_set_count(memory, to, place + shared)
        node_put(memory, to, WEIGHTS, place, rest)
        node_move(memory, 2, pa, 0, pa, place, count - place)
        node_set_count(memory, pa, count - place)
        node_add(memory, pa, WEIGHTS, 0, -rest)
        node_put(memory, pa, WORDS, 0, word)
        node_put(memory, pa, ADDRESSES, 0, address)
        pointer = part + CHILDREN + 8 * place
        node, rank, level = node_at(memory, pa, CHILDREN, 0), rest, level - 1
    part = int64(0)
    if rank > 0:
        part = node_new(space, 1, 0)
        store64(space, pointer, part)
    _cut_leaf(space, leaf, part, rank)
    _flatten(space, record)
    _flatten(space, front)
    return 0
