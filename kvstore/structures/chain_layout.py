"""The layout of a block of a chain (chain.py), by its index in mem.bytes, `at`.

OFFSET          SIZE  DESCRIPTION
0               2     capacity: bytes of the allocation, a multiple of 8; the three low bits hold CHAIN (kinds.py)
2               1     number of elements
3               1     flags: LINKED, MIXED
4               2     shape of each element, if the block is not MIXED: length of the key, length of the payload << 8
6               2     bytes of all elements
8                     the elements, end to end: a key and its payload each
end - 2(i+1)    2     shape of element i, if the block is MIXED; `end` is the capacity, or where the link begins
capacity - 8    8     the next block's address, 0 for none, if the block is LINKED

Elements of one shape cost nothing beside their own bytes, and are found by a multiplication.  Elements of a mixed block
cost two bytes more.  One is found by the sum of the bytes of all shapes in front, because a shape is two lengths: eight
bytes at a time are added, so it takes a dozen steps at most.

A block lies within one page, so that it is translated once.  A byte behind the elements is not theirs: so even what is
empty has an address in the page.
"""

from kvstore.structures.kinds import CHAIN, KIND_MASK
from mmcore.jit import bytes32, bytes64, copy_bytes, int64, kernel, linked, put32, put64, uint8, void

BLOCK_HEADER = 8
SHAPE_SIZE, LINK_SIZE = 2, 8
LENGTH_MAX = 255  # of a key or a payload [bytes]
LINKED, MIXED = 1 << 24, 2 << 24
COUNT_PLACE, SHAPE_PLACE, USED_PLACE = 16, 32, 48
NOTHING, DIFFER = -1, -2  # the shape of no elements, and of elements that have more than one
_CAPACITY = 0xFFFF & ~KIND_MASK
_FOUR = 0x00FF_00FF_00FF_00FF


# --- the header, a word ----------------------------------------------------------------------------------------------


@kernel
def header_of(capacity, flags, count, shape, used):  # type: ignore[no-untyped-def]
    """The header of a block."""
    return capacity | CHAIN | flags | count << COUNT_PLACE | shape << SHAPE_PLACE | used << USED_PLACE


@kernel
def header_capacity(header):  # type: ignore[no-untyped-def]
    """Bytes of the allocation."""
    return header & _CAPACITY


@kernel
def header_count(header):  # type: ignore[no-untyped-def]
    """Number of elements."""
    return header >> COUNT_PLACE & 0xFF


@kernel
def header_shape(header):  # type: ignore[no-untyped-def]
    """The shape of each element of a block that is not mixed."""
    return header >> SHAPE_PLACE & 0xFFFF


@kernel
def header_used(header):  # type: ignore[no-untyped-def]
    """Bytes of all elements."""
    return header >> USED_PLACE


@kernel
def shape_of(k, p):  # type: ignore[no-untyped-def]
    """The shape of an element with a key of k and a payload of p bytes."""
    return k | p << 8


@kernel
def shape_key(shape):  # type: ignore[no-untyped-def]
    """Length of the key."""
    return shape & 0xFF


@kernel
def shape_payload(shape):  # type: ignore[no-untyped-def]
    """Length of the payload."""
    return shape >> 8


@kernel
def shape_size(shape):  # type: ignore[no-untyped-def]
    """Bytes of an element."""
    return (shape & 0xFF) + (shape >> 8)


@kernel
def one_shape(a, b):  # type: ignore[no-untyped-def]
    """The shape of the elements of two groups, whose shapes are given."""
    if a == NOTHING or a == b:
        return b
    return a if b == NOTHING else DIFFER


@kernel
def needed_for(used, count, mixed, linked):  # type: ignore[no-untyped-def]
    """Bytes that a block needs for `count` elements of `used` bytes together."""
    return BLOCK_HEADER + used + 1 + (SHAPE_SIZE * count if mixed else 0) + (LINK_SIZE if linked else 0)


@kernel
def header_needed(header):  # type: ignore[no-untyped-def]
    """Bytes in use."""
    return needed_for(header_used(header), header_count(header), header & MIXED != 0, header & LINKED != 0)


# --- places ----------------------------------------------------------------------------------------------------------


@kernel
def end_of(at, header):  # type: ignore[no-untyped-def]
    """Where the shapes end, which grow downwards."""
    return at + header_capacity(header) - (LINK_SIZE if header & LINKED else 0)


@kernel
def next_of(memory, at, header):  # type: ignore[no-untyped-def]
    """Address of the next block, 0 for none."""
    return bytes64(memory, at + header_capacity(header) - LINK_SIZE) if header & LINKED else int64(0)


@linked(int64(uint8[::1], int64, int64))
def _sum(memory, place, stop):  # type: ignore[no-untyped-def]
    """The sum of the bytes in [place, stop), an even number of them with at least 8 in front of `stop`."""
    total = 0
    while place + 8 <= stop:
        word = bytes64(memory, place)
        total += (word & _FOUR) + (word >> 8 & _FOUR)
        place += 8
    if place < stop:  # the last ones are the upper part of a word
        rest = 8 * (stop - place)
        word = bytes64(memory, stop - 8) >> (64 - rest) & ((1 << rest) - 1)
        total += (word & _FOUR) + (word >> 8 & _FOUR)
    total = (total & 0xFFFF_0000_FFFF) + (total >> 16 & 0xFFFF_0000_FFFF)
    return (total & 0xFFFF_FFFF) + (total >> 32)


@kernel
def offset_of(memory, at, header, i):  # type: ignore[no-untyped-def]
    """Offset of element `i`; of the place behind the last one, if `i` is their number."""
    if header & MIXED:
        end = end_of(at, header)
        return BLOCK_HEADER + _sum(memory, end - SHAPE_SIZE * i, end)
    return BLOCK_HEADER + i * shape_size(header_shape(header))


@kernel
def shape_at(memory, at, header, i):  # type: ignore[no-untyped-def]
    """The shape of element `i`."""
    # The word that is read ends with the shape.
    return bytes32(memory, end_of(at, header) - SHAPE_SIZE * i - 4) >> 16 if header & MIXED else header_shape(header)


@kernel
def _put_shape(memory, end, i, shape):  # type: ignore[no-untyped-def]
    place = end - SHAPE_SIZE * i - 4
    put32(memory, place, bytes32(memory, place) & 0xFFFF | shape << 16)


@linked(int64(uint8[::1], int64, int64, int64))
def shape_among(memory, at, i, n):  # type: ignore[no-untyped-def]
    """The shape of `n` elements from place `i` on: DIFFER if they have more than one, NOTHING if there are none."""
    if n <= 0:
        return NOTHING
    header = bytes64(memory, at)
    shape = shape_at(memory, at, header, i)
    if header & MIXED:
        for j in range(i + 1, i + n):
            if shape_at(memory, at, header, j) != shape:
                return DIFFER
    return shape


# --- changes in place: the block has room ----------------------------------------------------------------------------


@linked(void(uint8[::1], int64, int64, int64))
def make_gap(memory, at, i, shape):  # type: ignore[no-untyped-def]
    """Make room for an element at place `i`.  A block that is not mixed has only elements of this shape, or none."""
    header = bytes64(memory, at)
    count, used, size = header_count(header), header_used(header), shape_size(shape)
    start = at + offset_of(memory, at, header, i)
    copy_bytes(memory, start + size, memory, start, at + BLOCK_HEADER + used - start)
    if header & MIXED:
        end = end_of(at, header)
        place = end - SHAPE_SIZE * count
        copy_bytes(memory, place - SHAPE_SIZE, memory, place, SHAPE_SIZE * (count - i))
        _put_shape(memory, end, i, shape)
        shape = 0
    put64(memory, at, header_of(header_capacity(header), header & (LINKED | MIXED), count + 1, shape, used + size))


@linked(void(uint8[::1], int64, int64, int64))
def close_gap(memory, at, i, n):  # type: ignore[no-untyped-def]
    """Remove `n` elements from place `i` on."""
    header = bytes64(memory, at)
    count, used = header_count(header), header_used(header)
    start, stop = at + offset_of(memory, at, header, i), at + offset_of(memory, at, header, i + n)
    copy_bytes(memory, start, memory, stop, at + BLOCK_HEADER + used - stop)
    if header & MIXED:
        place = end_of(at, header) - SHAPE_SIZE * count
        copy_bytes(memory, place + SHAPE_SIZE * n, memory, place, SHAPE_SIZE * (count - i - n))
    flags, used = header & (LINKED | MIXED), used - (stop - start)
    put64(memory, at, header_of(header_capacity(header), flags, count - n, header_shape(header), used))


@linked(void(uint8[::1], int64, int64, int64))
def fit_payload(memory, at, i, p):  # type: ignore[no-untyped-def]
    """Give the payload of element `i` of a mixed block another length; its bytes are to be written."""
    header = bytes64(memory, at)
    shape, used = shape_at(memory, at, header, i), header_used(header)
    payload = at + offset_of(memory, at, header, i) + shape_key(shape)
    behind = payload + shape_payload(shape)
    copy_bytes(memory, payload + p, memory, behind, at + BLOCK_HEADER + used - behind)
    _put_shape(memory, end_of(at, header), i, shape_of(shape_key(shape), p))
    flags, used = header & (LINKED | MIXED), used + p - shape_payload(shape)
    put64(memory, at, header_of(header_capacity(header), flags, header_count(header), 0, used))


@linked(void(uint8[::1], int64, int64))
def put_next(memory, at, address):  # type: ignore[no-untyped-def]
    """Store the address of the next block.  A block that is not LINKED has room for it, and becomes LINKED."""
    header = bytes64(memory, at)
    capacity = header_capacity(header)
    if header & LINKED == 0:
        size = SHAPE_SIZE * header_count(header) if header & MIXED else 0
        place = at + capacity - size
        copy_bytes(memory, place - LINK_SIZE, memory, place, size)
        put64(memory, at, header | LINKED)
    put64(memory, at + capacity - LINK_SIZE, address)


# --- making a block --------------------------------------------------------------------------------------------------


@kernel
def _grown(memory, at, header, count, shape, used):  # type: ignore[no-untyped-def]
    # Note that elements were appended; `shape` is that of all, if the block is not mixed.
    flags = header & (LINKED | MIXED)
    put64(memory, at, header_of(header_capacity(header), flags, count, 0 if flags & MIXED else shape, used))


@linked(void(uint8[::1], int64, int64, int64, int64))
def append_some(memory, to, at, i, n):  # type: ignore[no-untyped-def]
    """Append the `n` elements from place `i` of the block `at` on to the block `to`, which can hold their shapes."""
    if n <= 0:
        return
    header, source = bytes64(memory, to), bytes64(memory, at)
    count, used = header_count(header), header_used(header)
    start = offset_of(memory, at, source, i)
    size = offset_of(memory, at, source, i + n) - start
    copy_bytes(memory, to + BLOCK_HEADER + used, memory, at + start, size)
    if header & MIXED:
        end = end_of(to, header)
        if source & MIXED:
            place = end_of(at, source) - SHAPE_SIZE * (i + n)
            copy_bytes(memory, end - SHAPE_SIZE * (count + n), memory, place, SHAPE_SIZE * n)
        else:
            for j in range(count, count + n):
                _put_shape(memory, end, j, header_shape(source))
    _grown(memory, to, header, count + n, shape_at(memory, at, source, i), used + size)


@linked(void(uint8[::1], int64, int64, int64, int64))
def append_room(memory, to, shape, start, size):  # type: ignore[no-untyped-def]
    """Append room for an element to the block `to`, which can hold its shape; `size` bytes from `start` begin it."""
    header = bytes64(memory, to)
    count, used = header_count(header), header_used(header)
    copy_bytes(memory, to + BLOCK_HEADER + used, memory, start, min(size, shape_size(shape)))
    if header & MIXED:
        _put_shape(memory, end_of(to, header), count, shape)
    _grown(memory, to, header, count + 1, shape, used + shape_size(shape))
