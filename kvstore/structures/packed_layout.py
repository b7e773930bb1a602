"""The layout of a packed (packed.py), by its index in mem.bytes, `at`.

A packed lies within one page, so that it is translated once.
"""

from kvstore.structures.kinds import KIND_MASK, PACKED
from mmcore.jit import bytes32, bytes64, copy_bytes, int64, kernel, linked, put32, put64, uint8, void

PACKED_HEADER = 8
END_SIZE = 2
_CAPACITY = 0xFFFF & ~KIND_MASK
_START_PLACE = 4
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
def start_at(memory, at):  # type: ignore[no-untyped-def]
    """Offset of the first item."""
    return bytes32(memory, at + _START_PLACE)


@kernel
def long_size_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes of the item of a long packed."""
    return bytes32(memory, at + _START_PLACE)


@kernel
def offset_at(memory, at, capacity, i):  # type: ignore[no-untyped-def]
    """Offset of item `i`; of the place behind the last one, if `i` is their number."""
    # The word that is read ends with the end of item i - 1.
    return start_at(memory, at) if i == 0 else bytes32(memory, at + capacity - 2 * i - 2) >> 16


@kernel
def put_end(memory, at, capacity, i, end):  # type: ignore[no-untyped-def]
    """Store the end of item `i`."""
    place = at + capacity - 2 * i - 4
    put32(memory, place, bytes32(memory, place) & 0xFFFF | end << 16)


@kernel
def put_header(memory, at, capacity, count, start):  # type: ignore[no-untyped-def]
    """Store the capacity, the number of items, and the offset of the first one, or the size of a long one."""
    put64(memory, at, capacity | PACKED | count << 16 | start << 32)


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
    return PACKED_HEADER + offset_at(memory, at, capacity, count) - start_at(memory, at) + END_SIZE * count


@linked(void(uint8[::1], int64, int64, int64, int64, int64))
def append_items(memory, to, at, i, n, room):  # type: ignore[no-untyped-def]
    """Append `n` items of the packed `at`, from place `i` on, to another one, and then an item of `room` bytes.

    There is room for them behind the items.  With `room` below zero there is no such item; else it is to be written.
    """
    capacity, count, start = capacity_at(memory, to), count_at(memory, to), start_at(memory, to)
    target, old = offset_at(memory, to, capacity, count), capacity_at(memory, at)
    source = offset_at(memory, at, old, i)
    size = offset_at(memory, at, old, i + n) - source
    copy_bytes(memory, to + target, memory, at + source, size)
    place = to + capacity - END_SIZE * (count + n)
    copy_bytes(memory, place, memory, at + old - END_SIZE * (i + n), END_SIZE * n)
    add_to_ends(memory, place, place + END_SIZE * n, target - source)
    count += n
    if room >= 0:
        put_end(memory, to, capacity, count, target + size + room)
        count += 1
    put_header(memory, to, capacity, count, start)


@linked(void(uint8[::1], int64, int64))
def slide(memory, at, start):  # type: ignore[no-untyped-def]
    """Move all items, so that the first one has this offset."""
    capacity, count, old = capacity_at(memory, at), count_at(memory, at), start_at(memory, at)
    size = offset_at(memory, at, capacity, count) - old
    copy_bytes(memory, at + start, memory, at + old, size)
    add_to_ends(memory, at + capacity - END_SIZE * count, at + capacity, start - old)
    put_header(memory, at, capacity, count, start)


@linked(void(uint8[::1], int64, int64, int64, int64, int64))
def splice(memory, at, i, n, m, size):  # type: ignore[no-untyped-def]
    """In the place of `n` items from `i` on put `m`, none or one, of `size` bytes.  There is room for the difference.

    The bytes that old and new item have in common are kept.  Of the items in front and those behind the fewer move.
    """
    capacity, count, start = capacity_at(memory, at), count_at(memory, at), start_at(memory, at)
    first, behind = offset_at(memory, at, capacity, i), offset_at(memory, at, capacity, i + n)
    stop, grow, after = offset_at(memory, at, capacity, count), m * size - (behind - first), count + m - n
    forward, limit = 2 * i < count, capacity - END_SIZE * max(after, count)
    if stop + (0 if forward else grow) > limit or (forward and start - grow < PACKED_HEADER):
        # The free room is on the other side: half of what will be left of it gets to either.
        free = limit - PACKED_HEADER - (stop - start) - grow
        by = PACKED_HEADER + (free >> 1) + (grow if forward else 0) - start
        slide(memory, at, start + by)
        first, behind, stop, start = first + by, behind + by, stop + by, start + by
    ends = at + capacity
    if forward:
        kept = min(behind - first, size) if m > 0 else 0  # of a replaced item, which moves with those in front
        copy_bytes(memory, at + start - grow, memory, at + start, first - start + kept)
        add_to_ends(memory, ends - END_SIZE * i, ends, -grow)
        start, end = start - grow, behind
    else:
        copy_bytes(memory, at + behind + grow, memory, at + behind, stop - behind)
        add_to_ends(memory, ends - END_SIZE * count, ends - END_SIZE * (i + n), grow)
        end = behind + grow
    copy_bytes(memory, ends - END_SIZE * after, memory, ends - END_SIZE * count, END_SIZE * (count - i - n))
    if m > 0:
        put_end(memory, at, capacity, i, end)
    put_header(memory, at, capacity, after, start)
