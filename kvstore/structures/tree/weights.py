"""Changing the weight of an item of a tree of packeds: the sums above it change with it."""

from kvstore.structures.record import LEVELS, TREE
from kvstore.structures.tree.nodes import (
    ADDRESSES,
    CHILDREN,
    COPY_FRAMES,
    WEIGHTS,
    WORDS,
    node_add,
    node_at,
    node_count,
    node_put,
    node_read,
    node_write,
)
from kvstore.structures.tree.search import holder_of_rank
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.jit import int64, linked
from mmcore.mmu import load64
from mmcore.state import SPACE


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
        pa = node_read(space, node)
        place, rank = holder_of_rank(memory, pa, rank, WEIGHTS)
        assert place < node_count(memory, pa), "a rank beyond the tree"
        if by != 0:
            node_add(memory, node_write(space, node), WEIGHTS, place, by)
        # The write may have copied the node.
        node = node_at(memory, node_read(space, node), CHILDREN, place)
        level -= 1
    assert level == 1, "a rank in an empty tree"
    pa = node_write(space, node)
    place, rank = holder_of_rank(memory, pa, rank, WORDS)
    assert place < node_count(memory, pa), "a rank beyond the tree"
    node_add(memory, pa, WORDS, place, by)
    assert node_at(memory, pa, WORDS, place) > 0, "an item without weight"
    if address != 0:
        node_put(memory, pa, ADDRESSES, place, address)
    return 0
