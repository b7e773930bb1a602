"""A counted B+-tree of items, each a word and an address; its root and its levels are in a record.

In an ordered tree, items are elements.  They are ordered by their words, as signed integers, and where words are equal
by the elements' keys.  Each item has weight 1, so a rank is a number of elements.  In a tree of packeds, the word of an
item is its weight: the number of elements in that packed.  The caller decides on the order of the items, and a rank is
again a number of elements.  The argument `weights` is 0 for the former and 1 for the latter.

    nodes       their form              removal     of an item, and of a whole tree
    search      by word, by rank        weights     of an item changed
    cut         in two
    insertion                           check       the invariants, proved

Invariants, which check_tree proves
 1. All leaves are at the same depth, which the record's levels tell, and each node says its level.
 2. A node has at least LEAST items or children, except for the root and the first and the last node of a level.  These
    have at least one, and a root that is not a leaf has two.
 3. The weight of a child is the sum of the weights below it.  No weight is less than 1.
 4. In an ordered tree, the word and the address of a child are those of the first item below it.
 5. In an ordered tree, items ascend.
 6. The leaves are linked in both directions, in order.
"""

from kvstore.structures.tree.check import check_tree
from kvstore.structures.tree.cut import tree_cut
from kvstore.structures.tree.insertion import tree_insert, tree_insert_at
from kvstore.structures.tree.nodes import (
    ADDRESS,
    ADDRESS_BITS,
    ADDRESSES,
    CHILDREN,
    COPY_FRAMES,
    COUNT_WORD,
    FULL,
    INNER_SIZE,
    LEAF_SIZE,
    LEAST,
    LEVEL_FRAMES,
    LEVEL_WORD,
    LEVELS_MAX,
    TREE_FRAMES,
    WEIGHTS,
    WORDS,
    tree_frames,
)
from kvstore.structures.tree.removal import tree_drop_step, tree_remove, tree_remove_at
from kvstore.structures.tree.search import (
    position_address,
    position_next,
    position_previous,
    position_run,
    position_word,
    tree_find,
    tree_rank,
    tree_rank_word,
    tree_seek,
    tree_seek_start,
    tree_weight,
)
from kvstore.structures.tree.weights import tree_add_weight

__all__ = [
    "ADDRESS",
    "ADDRESSES",
    "ADDRESS_BITS",
    "CHILDREN",
    "COPY_FRAMES",
    "COUNT_WORD",
    "FULL",
    "INNER_SIZE",
    "LEAF_SIZE",
    "LEAST",
    "LEVELS_MAX",
    "LEVEL_FRAMES",
    "LEVEL_WORD",
    "TREE_FRAMES",
    "WEIGHTS",
    "WORDS",
    "check_tree",
    "position_address",
    "position_next",
    "position_previous",
    "position_run",
    "position_word",
    "tree_add_weight",
    "tree_cut",
    "tree_drop_step",
    "tree_find",
    "tree_frames",
    "tree_insert",
    "tree_insert_at",
    "tree_rank",
    "tree_rank_word",
    "tree_remove",
    "tree_remove_at",
    "tree_seek",
    "tree_seek_start",
    "tree_weight",
]
