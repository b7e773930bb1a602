"""A chain: a few hundred elements at most, in a given order, in blocks that are linked.

    root ─► block ─► block ─► block          each of at most BLOCK_MAX bytes, in one page (chain_layout.py)

Small hashes, sets and sorted sets are chains.  One allocation for all would take a page for 2,100 bytes: between a
quarter of a page and a whole one the heap has three sizes of allocations only.  Below, its sizes are close together.
So a chain that is longer is made of several blocks, each little larger than what is in it.

The root is the first block; the others are found through it, five at most.  There is no count of all elements, and no
directory: it would be a second page to write for each element that is added.  So a write dirties one page, and the
pages of a new block and of what points at it where a block is full or far too large.

An element has a key and a payload of at most LENGTH_MAX bytes each, and ELEMENT_MAX together.  It is given by a
reference (element.py), and found by its place, or by a spot: the address of a block and the place in it.

(1) The capacity is what heap_size says, at least CAPACITY_MIN and at most BLOCK_MAX.
(2) The count of a block is at most COUNT_MAX, and 0 only in a chain without elements.  Its elements have the lengths
    that their shapes say, and the bytes that the header says together.
(3) Elements, shapes and link do not overlap, and there is room for a link even in a block that has none.
(4) A chain has at most BLOCKS_MAX blocks, and each lies within one page.

Here is what reads a chain; chain_change.py changes it.
"""

from kvstore.structures.chain_layout import (
    BLOCK_HEADER,
    LENGTH_MAX,
    LINK_SIZE,
    LINKED,
    MIXED,
    SHAPE_SIZE,
    header_capacity,
    header_count,
    header_needed,
    header_shape,
    header_used,
    next_of,
    offset_of,
    shape_at,
    shape_key,
    shape_payload,
    shape_size,
)
from kvstore.structures.element import element_reference
from kvstore.structures.kinds import CHAIN, KIND_MASK
from mmcore.heap import CLASS_SIZES, heap_size
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

BLOCK_MAX = 1024  # a quarter of a page
CAPACITY_MIN = 16
COUNT_MAX = 128  # elements of a block: one that becomes mixed then fits two
ELEMENT_MAX = 320  # [bytes]: two halves of a block and such an element fit a block each, however it is divided
CHAIN_MAX = 4096  # bytes of all elements and of a shape for each
BLOCKS_MAX = 6
SPOT_SHIFT = 48
_ADDRESS = (1 << SPOT_SHIFT) - 1
assert BLOCK_MAX in CLASS_SIZES


# --- questions -------------------------------------------------------------------------------------------------------


@kernel
def _header(space, block):  # type: ignore[no-untyped-def]
    return bytes64(space.mem.bytes, read_address(space, block))


@kernel
def block_limit(header):  # type: ignore[no-untyped-def]
    """Bytes that a block with this header may need where it is; (3) demands room for a link."""
    return min(header_capacity(header), BLOCK_MAX if header & LINKED else BLOCK_MAX - LINK_SIZE)


@kernel
def block_next(space, block):  # type: ignore[no-untyped-def]
    """The block behind, 0 for none."""
    at = read_address(space, block)
    return next_of(space.mem.bytes, at, bytes64(space.mem.bytes, at))


@kernel
def block_count(space, block):  # type: ignore[no-untyped-def]
    """Elements of a block."""
    return header_count(_header(space, block))


@kernel
def block_capacity(space, block):  # type: ignore[no-untyped-def]
    """Bytes of the allocation of a block."""
    return header_capacity(_header(space, block))


@kernel
def block_element(space, block, i):  # type: ignore[no-untyped-def]
    """Element `i` of a block."""
    at, memory = read_address(space, block), space.mem.bytes
    header = bytes64(memory, at)
    shape = shape_at(memory, at, header, i)
    return element_reference(block + offset_of(memory, at, header, i), shape_key(shape), shape_payload(shape))


@linked(int64(SPACE, int64, int64))
def block_before(space, root, block):  # type: ignore[no-untyped-def]
    """The block in front of a block, 0 in front of the root."""
    before = 0
    while root != block:
        before = root
        root = block_next(space, root)
    return before


@linked(int64(SPACE, int64))
def chain_count(space, root):  # type: ignore[no-untyped-def]
    """Number of elements."""
    count = 0
    while root != 0:
        at = read_address(space, root)
        header = bytes64(space.mem.bytes, at)
        count += header_count(header)
        root = next_of(space.mem.bytes, at, header)
    return count


@linked(int64(SPACE, int64, int64))
def chain_spot(space, root, place):  # type: ignore[no-untyped-def]
    """The spot of the element at a place; behind the last element, if the place is their number."""
    while True:
        at = read_address(space, root)
        header = bytes64(space.mem.bytes, at)
        following = next_of(space.mem.bytes, at, header)
        if place < header_count(header) or following == 0:
            return root | place << SPOT_SHIFT
        place -= header_count(header)
        root = following


@kernel
def spot_block(spot):  # type: ignore[no-untyped-def]
    """The block of a spot."""
    return spot & _ADDRESS


@kernel
def spot_place(spot):  # type: ignore[no-untyped-def]
    """The place in its block."""
    return spot >> SPOT_SHIFT


@kernel
def spot_element(space, spot):  # type: ignore[no-untyped-def]
    """The element at a spot."""
    return block_element(space, spot_block(spot), spot_place(spot))


@kernel
def chain_first(space, root):  # type: ignore[no-untyped-def]
    """The spot of the first element, 0 without one."""
    return int64(root) if block_count(space, root) > 0 else int64(0)


@kernel
def spot_next(space, spot):  # type: ignore[no-untyped-def]
    """The next element's spot, 0 behind the last.  A block that has one in front of it is not empty."""
    block, place = spot_block(spot), spot_place(spot) + 1
    return block | place << SPOT_SHIFT if place < block_count(space, block) else block_next(space, block)


@linked(int64(SPACE, int64, int64))
def spot_previous(space, root, spot):  # type: ignore[no-untyped-def]
    """The spot of the element in front; 0 before the first."""
    if spot_place(spot) > 0:
        return spot - (1 << SPOT_SHIFT)
    block = block_before(space, root, spot_block(spot))
    return block | (block_count(space, block) - 1) << SPOT_SHIFT if block != 0 else 0


@linked(int64(SPACE, int64, int64))
def chain_element(space, root, place):  # type: ignore[no-untyped-def]
    """The element at a place."""
    return spot_element(space, chain_spot(space, root, place))


@linked(int64(SPACE, int64))
def chain_memory(space, root):  # type: ignore[no-untyped-def]
    """Bytes of the allocations of all blocks."""
    size = 0
    while root != 0:
        size += block_capacity(space, root)
        root = block_next(space, root)
    return size


@linked(int64(SPACE, int64, int64, int64))
def chain_fits(space, root, k, p):  # type: ignore[no-untyped-def]
    """Whether a chain (0: a new one) may get an element with a key of k and a payload of p bytes, or one for another.

    Several elements must be asked for one by one.
    """
    if max(k, p) > LENGTH_MAX or k + p > ELEMENT_MAX:
        return 0
    blocks, weight = 0, k + p + SHAPE_SIZE
    while root != 0:
        at = read_address(space, root)
        header = bytes64(space.mem.bytes, at)
        weight += header_used(header) + SHAPE_SIZE * header_count(header)
        blocks += 1
        root = next_of(space.mem.bytes, at, header)
    return int64(blocks < BLOCKS_MAX and weight <= CHAIN_MAX)


@linked(int64(SPACE, int64, int64))
def chain_payload(space, root, place):  # type: ignore[no-untyped-def]
    """The length that all payloads have in the block where an element would be inserted; 0 if they differ."""
    header = _header(space, spot_block(chain_spot(space, root, place)))
    return shape_payload(header_shape(header)) if header & MIXED == 0 and header_count(header) > 0 else 0


# --- the proof -------------------------------------------------------------------------------------------------------


@linked(void(SPACE, int64))
def _check_block(space, block):  # type: ignore[no-untyped-def]
    at, memory = read_address(space, block), space.mem.bytes
    assert at >= 0, "(4) a block is not mapped"
    header = bytes64(memory, at)
    capacity, count = header_capacity(header), header_count(header)
    assert header & KIND_MASK == CHAIN and header & ~(LINKED | MIXED) & 0xFF00_0000 == 0, "(1) the kind of a block"
    assert CAPACITY_MIN <= capacity <= BLOCK_MAX and heap_size(capacity) == capacity, "(1) the capacity of a block"
    assert (block & PAGE_MASK) + capacity <= PAGE_SIZE, "(4) a block straddles two pages"
    assert count <= COUNT_MAX, "(2) the number of elements of a block"
    assert header_needed(header) <= block_limit(header), "(3) elements, shapes and link overlap"
    used = 0
    for i in range(count):
        shape = shape_at(memory, at, header, i)
        assert offset_of(memory, at, header, i) == BLOCK_HEADER + used, "(2) the place of an element"
        assert shape_size(shape) <= ELEMENT_MAX, "(2) the length of an element"
        used += shape_size(shape)
    assert used == header_used(header), "(2) the bytes of a block's elements"


@linked(void(SPACE, int64))
def check_chain(space, root):  # type: ignore[no-untyped-def]
    """Assert the invariants."""
    block, blocks = root, 0
    while block != 0:
        _check_block(space, block)
        blocks += 1
        assert blocks <= BLOCKS_MAX, "(4) the number of blocks"
        following = block_next(space, block)
        assert block_count(space, block) > 0 or (block == root and following == 0), "(2) a block without elements"
        block = following
