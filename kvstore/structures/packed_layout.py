"""The layout of a packed (packed.py), by its index in mem.bytes, `at`.

A packed lies within one page, so that it is translated once.
"""

from kvstore.structures.kinds import KIND_MASK, PACKED
from mmcore.jit import bytes32, bytes64, copy_bytes, kernel, put32, put64

PACKED_HEADER = 4
LONG_HEADER = 8  # of a long packed
END_SIZE = 2
_CAPACITY = 0xFFFF & ~KIND_MASK
_FOUR = 0x0001_0001_0001_0001  # four ends in one word


@kernel
def capacity_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes of the allocation; 0 for a long packed."""
    return bytes32(memory, at) & _CAPACITY


@kernel
def count_at(memory, at):  # type: ignore[no-untyped-def]
    """Number of items."""
    return bytes32(memory, at) >> 16


@kernel
def long_size_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes of the item of a long packed."""
    return bytes32(memory, at + PACKED_HEADER)


@kernel
def offset_at(memory, at, capacity, i):  # type: ignore[no-untyped-def]
    """Offset of item `i`; of the place behind the last one, if `i` is their number."""
    # The word that is read ends with the end of item i - 1.
    return PACKED_HEADER if i == 0 else bytes32(memory, at + capacity - 2 * i - 2) >> 16


@kernel
def put_end(memory, at, capacity, i, end):  # type: ignore[no-untyped-def]
    """Store the end of item `i`."""
    place = at + capacity - 2 * i - 4
    put32(memory, place, bytes32(memory, place) & 0xFFFF | end << 16)


@kernel
def put_header(memory, at, capacity, count):  # type: ignore[no-untyped-def]
    """Store the capacity and the number of items."""
    put32(memory, at, capacity | PACKED | count << 16)


@kernel
def add_to_ends(memory, place, stop, by):  # type: ignore[no-untyped-def]
    """Change the ends in [place, stop) by the same number.  Four at a time: no end carries into the next one."""
    words = by * _FOUR
    while stop - place >= 8:
        put64(memory, place, bytes64(memory, place) + words)
        place += 8
    if place < stop:  # the last ones are the upper part of a word
        put64(memory, stop - 8, bytes64(memory, stop - 8) + (words << (64 - 8 * (stop - place))))


@kernel
def needed_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes in use."""
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    return offset_at(memory, at, capacity, count) + END_SIZE * count


@kernel
def splice(memory, to, capacity, at, i, n, m, size):  # type: ignore[no-untyped-def]
    """In the place of `n` items from `i` on put `m`, none or one, of `size` bytes.

    The result is written to `to`, which is another allocation or the same.  The bytes that old and new item have in
    common are kept.
    """
    old, count = capacity_at(memory, at), count_at(memory, at)
    start, source = offset_at(memory, at, old, i), offset_at(memory, at, old, i + n)
    stop, target = offset_at(memory, at, old, count), start + m * size
    if to != at:
        copy_bytes(memory, to + PACKED_HEADER, memory, at + PACKED_HEADER, min(source, target) - PACKED_HEADER)
        copy_bytes(memory, to + capacity - 2 * i, memory, at + old - 2 * i, 2 * i)
    behind = count - i - n
    if behind > 0:
        place = to + capacity - 2 * (count + m - n)
        copy_bytes(memory, to + target, memory, at + source, stop - source)
        copy_bytes(memory, place, memory, at + old - 2 * count, 2 * behind)
        add_to_ends(memory, place, place + 2 * behind, target - source)
    if m > 0:
        put_end(memory, to, capacity, i, target)
    put_header(memory, to, capacity, count + m - n)
