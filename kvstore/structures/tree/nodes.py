"""The nodes of a tree: their form, and the smallest steps on one of them.

    leaf, 1024 bytes                                inner node, 2048 bytes
    0     8     previous leaf | items << 48         0     8     children << 48
    8     8     next leaf | LEVEL << 48             8     8     LEVEL << 48
    16    504   words                               16    504   words of the children's first items
    520   504   addresses                           520   504   addresses of these
                                                    1024  504   children
                                                    1528  504   weights of the children
    LEVEL is 1 for a leaf, and one more at each level above; in a tree of packeds, WEIGHTED is added

Each field of a node is an array of its own, because a search compares the words of a whole node without a branch, and a
rank is a sum of weights.  A node never straddles two pages, so it is translated once: the functions here take its index
in mem.bytes.
"""

from kvstore.structures.record import LEVELS
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free
from mmcore.jit import bytes64, copy_bytes, int64, kernel, linked, put64
from mmcore.mmu import load64, read_address, store64, write_address
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


@kernel
def node_count(memory, node):  # type: ignore[no-untyped-def]
    """Items of a leaf, or children of an inner node."""
    return bytes64(memory, node) >> ADDRESS_BITS


@kernel
def node_set_count(memory, node, count):  # type: ignore[no-untyped-def]
    """Store that count."""
    put64(memory, node, (bytes64(memory, node) & ADDRESS) | count << ADDRESS_BITS)


@kernel
def node_link(memory, node, word):  # type: ignore[no-untyped-def]
    """The previous leaf in COUNT_WORD, the next in LEVEL_WORD."""
    return bytes64(memory, node + word) & ADDRESS


@kernel
def node_set_link(memory, node, word, leaf):  # type: ignore[no-untyped-def]
    """Store a leaf's neighbour, likewise."""
    put64(memory, node + word, (bytes64(memory, node + word) & ~ADDRESS) | leaf)


@kernel
def node_at(memory, node, field, place):  # type: ignore[no-untyped-def]
    """The word of an array (WORDS, ADDRESSES, CHILDREN or WEIGHTS) at a place."""
    return bytes64(memory, node + field + 8 * place)


@kernel
def node_put(memory, node, field, place, value):  # type: ignore[no-untyped-def]
    """Store it."""
    put64(memory, node + field + 8 * place, value)


@kernel
def node_add(memory, node, field, place, by):  # type: ignore[no-untyped-def]
    """Add to it."""
    put64(memory, node + field + 8 * place, bytes64(memory, node + field + 8 * place) + by)


@kernel
def _end_of_fields(level):  # type: ignore[no-untyped-def]
    # A leaf has two arrays, an inner node has four.
    return CHILDREN if level == 1 else WEIGHTS + ARRAY


@kernel
def node_move(memory, level, target, to, source, of, count):  # type: ignore[no-untyped-def]
    """Move `count` items or children from place `of` of a node to place `to` of another, or of the same."""
    for field in range(WORDS, _end_of_fields(level), ARRAY):
        copy_bytes(memory, target + field + 8 * to, memory, source + field + 8 * of, 8 * count)


@kernel
def node_sum(memory, node, field, start, count):  # type: ignore[no-untyped-def]
    """The sum of `count` words of an array."""
    total = 0
    for i in range(start, start + count):
        total += bytes64(memory, node + field + 8 * i)
    return total


@kernel
def node_weight(memory, level, node, start, count, weights):  # type: ignore[no-untyped-def]
    """The weight of `count` items or children."""
    if level > 1:
        return node_sum(memory, node, WEIGHTS, start, count)
    return node_sum(memory, node, WORDS, start, count) if weights else count


@kernel
def node_size(level):  # type: ignore[no-untyped-def]
    """Bytes of a node."""
    return LEAF_SIZE if level == 1 else INNER_SIZE


@linked(int64(SPACE, int64, int64))
def node_new(space, level, weights):  # type: ignore[no-untyped-def]
    """An empty node, for which frames have been reserved."""
    node = heap_alloc(space, node_size(level))
    assert node != 0, "no frames were reserved for a node"
    store64(space, node + COUNT_WORD, 0)
    store64(space, node + LEVEL_WORD, (level | WEIGHTED * weights) << ADDRESS_BITS)
    return node


@kernel
def node_free(space, node, level):  # type: ignore[no-untyped-def]
    """Free a node, for which frames have been reserved."""
    code = heap_free(space, node, node_size(level))
    assert code == 0, "no frames were reserved for the heap"


@kernel
def node_read(space, node):  # type: ignore[no-untyped-def]
    """The index of a node in mem.bytes, for reading."""
    pa = read_address(space, node)
    assert pa >= 0, "a node is not mapped"
    return pa


@kernel
def node_write(space, node):  # type: ignore[no-untyped-def]
    """The same for writing; the node may be copied."""
    pa = write_address(space, node)
    assert pa >= 0, "no frame was reserved for a node"
    return pa


@kernel
def tree_frames(space, record):  # type: ignore[no-untyped-def]
    """Frames that are enough for one insertion or removal."""
    return (load64(space, record + LEVELS) + 2) * LEVEL_FRAMES
