"""A packed: a sequence of items in one allocation of at most PACKED_MAX bytes.

OFFSET              SIZE  DESCRIPTION
0                   2     capacity: bytes of the allocation, a multiple of 8; the three low bits hold PACKED (kinds.py)
2                   2     number of items
4                   2     start: offset of the first item
6                   2     0
start                     the items, end to end
capacity - 2(i+1)   2     end of item i, as an offset from the packed's begin

The ends grow downwards from the end of the allocation.  So an item is found without a walk over those before it, and an
item is put in by two memory moves, one of items and one of ends.  The contents of an item are the caller's affair; it
may be empty.

The free room lies on both sides of the items.  So an item is put in front of the first, or taken away there, without a
move of items, as often as at the end: packeds are the ends of lists, which are used as queues and as stacks.  Where the
room is on the wrong side, all items slide to the middle of it.

A long packed has capacity 0 in its header, and one item, which is too large for PACKED_MAX.  Its size stands in the
place of the start, in four bytes, and the item behind the header, in a run of pages.  A long packed has no room for
another item, and is never changed: only counted, read, copied and freed.

Capacity.  A packed that is full moves to an allocation with an eighth more than it needs, so that a series of
insertions does not copy it each time.  It moves to a smaller one when it would fit there with a quarter to spare.

(1) The capacity is what heap_size says, at least CAPACITY_MIN and at most PACKED_MAX.
(2) The ends do not fall, and the first item starts behind the header.
(3) Items and ends do not overlap.
(4) The allocation lies within one page, if the packed is not long.

A function that needs an allocation, or a copy of a shared page, returns 0 with nothing changed if there are too few
frames.  PACKED_FRAMES free frames are always enough.  A packed that was returned by a function that changes it can be
written without a fault until the next fork.
"""

from kvstore.structures.kinds import KIND_MASK, PACKED
from kvstore.structures.packed_layout import (
    END_SIZE,
    PACKED_HEADER,
    append_items,
    capacity_at,
    count_at,
    long_size_at,
    needed_at,
    offset_at,
    put_header,
    slide,
    splice,
    start_at,
)
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free, heap_size
from mmcore.jit import boolean, bytes32, copy_bytes, int64, kernel, linked, prefetch, void
from mmcore.mmu import copy_across, read_address, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

PACKED_MAX = 4096
CAPACITY_MIN = 16  # ends are changed in words of 8 bytes, which must not begin before the packed
PACKED_FRAMES = 3 * HEAP_FRAMES  # one allocation and two that are freed; a copied page needs fewer than either
assert PACKED_MAX <= PAGE_SIZE


# --- questions -------------------------------------------------------------------------------------------------------


@kernel
def packed_is_long(space, va):  # type: ignore[no-untyped-def]
    """Whether it is a long packed."""
    return capacity_at(space.mem.bytes, read_address(space, va)) == 0


@linked(int64(SPACE, int64))
def packed_capacity(space, va):  # type: ignore[no-untyped-def]
    """Bytes of the allocation."""
    at, memory = read_address(space, va), space.mem.bytes
    capacity = capacity_at(memory, at)
    return capacity if capacity != 0 else heap_size(PACKED_HEADER + long_size_at(memory, at))


@kernel
def packed_count(space, va):  # type: ignore[no-untyped-def]
    """Number of items."""
    return count_at(space.mem.bytes, read_address(space, va))


@kernel
def packed_item(space, va, i):  # type: ignore[no-untyped-def]
    """Address of item `i`; of the place behind the last one, if `i` is their number."""
    at = read_address(space, va)
    capacity = capacity_at(space.mem.bytes, at)
    return va + (offset_at(space.mem.bytes, at, capacity, i) if capacity != 0 else PACKED_HEADER)


@kernel
def packed_item_size(space, va, i):  # type: ignore[no-untyped-def]
    """Bytes of item `i`."""
    at = read_address(space, va)
    capacity = capacity_at(space.mem.bytes, at)
    if capacity == 0:
        return long_size_at(space.mem.bytes, at)
    return offset_at(space.mem.bytes, at, capacity, i + 1) - offset_at(space.mem.bytes, at, capacity, i)


@kernel
def packed_prefetch(space, va, i, count):  # type: ignore[no-untyped-def]
    """Ask for the cache lines in which item `i` of `count` is found.

    Its end lies in the one line, and the item in another, and each is known only after the line before it has come.  So
    they are guessed: as if the packed were a full one whose items have one size.
    """
    at = read_address(space, va)
    prefetch(space.mem.bytes, at)
    if va & PAGE_MASK == 0:
        ends = END_SIZE * count
        prefetch(space.mem.bytes, at + PACKED_MAX - END_SIZE * (i + 1))
        prefetch(space.mem.bytes, at + PACKED_HEADER + (PACKED_MAX - PACKED_HEADER - ends) * i // count)


@kernel
def packed_used(space, va):  # type: ignore[no-untyped-def]
    """Bytes of all items."""
    at = read_address(space, va)
    capacity, count = capacity_at(space.mem.bytes, at), count_at(space.mem.bytes, at)
    if capacity == 0:
        return long_size_at(space.mem.bytes, at)
    return offset_at(space.mem.bytes, at, capacity, count) - start_at(space.mem.bytes, at)


@kernel
def packed_needed(used, count):  # type: ignore[no-untyped-def]
    """Bytes that a packed needs for `count` items of `used` bytes together."""
    return PACKED_HEADER + used + END_SIZE * count


@kernel
def packed_fits(space, va, size):  # type: ignore[no-untyped-def]
    """Whether one more item of `size` bytes fits a packed."""
    at = read_address(space, va)
    if capacity_at(space.mem.bytes, at) == 0:
        return False
    return needed_at(space.mem.bytes, at) + END_SIZE + size <= PACKED_MAX


@kernel
def is_long_item(size):  # type: ignore[no-untyped-def]
    """Whether an item of `size` bytes is too large for any packed but a long one."""
    return size > PACKED_MAX - PACKED_HEADER - END_SIZE


# --- changes ---------------------------------------------------------------------------------------------------------


@kernel
def _capacity_for(needed):  # type: ignore[no-untyped-def]
    return heap_size(max(CAPACITY_MIN, min(PACKED_MAX, needed + (needed >> 3))))


@kernel
def _pays(needed, capacity):  # type: ignore[no-untyped-def]
    # Whether a smaller allocation would hold it with a quarter to spare.
    return heap_size(max(CAPACITY_MIN, min(PACKED_MAX, needed + (needed >> 2) + 8))) < capacity


@kernel
def _alloc(space, capacity):  # type: ignore[no-untyped-def]
    # Called after has_frames.
    va = heap_alloc(space, capacity)
    assert va != 0, "no frames were reserved for a packed"
    return va


@kernel
def _free(space, va, capacity):  # type: ignore[no-untyped-def]
    # Called after has_frames.
    code = heap_free(space, va, capacity)
    assert code == 0, "no frames were reserved for a packed"


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _move(space, va, i, n, m, size, capacity):  # type: ignore[no-untyped-def]
    """splice into a new allocation; the old one is freed.  0 with nothing changed when frames ran out.

    The free room lies in front if an item is put there, else behind.
    """
    if not has_frames(space, PACKED_FRAMES):
        return 0
    moved = _alloc(space, capacity)
    to, at, memory = write_address(space, moved), read_address(space, va), space.mem.bytes
    old, count, start = capacity_at(memory, at), count_at(memory, at), PACKED_HEADER
    if i == 0 and m > n:
        start += capacity - needed_at(memory, at) - END_SIZE - size
    put_header(memory, to, capacity, 0, start)
    append_items(memory, to, at, 0, i, size if m > 0 else -1)
    if m > 0 and n > 0:
        first = offset_at(memory, at, old, i)
        common = min(size, offset_at(memory, at, old, i + n) - first)
        copy_bytes(memory, to + offset_at(memory, to, capacity, i), memory, at + first, common)
    append_items(memory, to, at, i + n, count - i - n, -1)
    _free(space, va, old)
    return moved


@linked(int64(SPACE, int64))
def packed_new(space, size):  # type: ignore[no-untyped-def]
    """An empty packed with room for one item of `size` bytes; 0 with nothing changed when frames ran out."""
    assert size <= PACKED_MAX - PACKED_HEADER - END_SIZE, "an item is too large for a packed"
    if not has_frames(space, PACKED_FRAMES):
        return 0
    capacity = heap_size(max(CAPACITY_MIN, packed_needed(size, 1)))
    va = _alloc(space, capacity)
    put_header(space.mem.bytes, write_address(space, va), capacity, 0, PACKED_HEADER)
    return va


@kernel
def long_frames(size):  # type: ignore[no-untyped-def]
    """Frames that are enough for a long packed of an item of `size` bytes."""
    return PACKED_FRAMES + (size >> 12) + (size >> 20)


@linked(int64(SPACE, int64))
def packed_new_long(space, size):  # type: ignore[no-untyped-def]
    """A long packed for one item of `size` bytes, which the caller writes; 0 with nothing changed without frames."""
    assert is_long_item(size), "a long packed for a short item"
    if not has_frames(space, long_frames(size)):
        return 0
    va = _alloc(space, PACKED_HEADER + size)
    put_header(space.mem.bytes, write_address(space, va), 0, 1, size)
    return va


@linked(int64(SPACE, SPACE, int64))
def _copy_long(space, source, va):  # type: ignore[no-untyped-def]
    size = long_size_at(source.mem.bytes, read_address(source, va))
    copy = packed_new_long(space, size)
    if copy != 0:
        copy_across(space, copy + PACKED_HEADER, source, va + PACKED_HEADER, size)
    return copy


@linked(int64(SPACE, int64))
def packed_free(space, va):  # type: ignore[no-untyped-def]
    """Free a packed with its items: 0, or NO_FRAME with nothing changed."""
    return heap_free(space, va, packed_capacity(space, va))


@linked(int64(SPACE, SPACE, int64))
def packed_copy(space, source, va):  # type: ignore[no-untyped-def]
    """A copy of a packed of `source`, which is the space itself or another one of its memory.

    It is in no larger an allocation than it needs; 0 with nothing changed when frames ran out.
    """
    if packed_is_long(source, va):
        return _copy_long(space, source, va)
    if not has_frames(space, PACKED_FRAMES):
        return 0
    capacity = heap_size(max(CAPACITY_MIN, needed_at(space.mem.bytes, read_address(source, va))))
    copy = _alloc(space, capacity)
    to, at, memory = write_address(space, copy), read_address(source, va), space.mem.bytes
    put_header(memory, to, capacity, 0, PACKED_HEADER)
    append_items(memory, to, at, 0, count_at(memory, at), -1)
    return copy


@linked(int64(SPACE, int64, int64, int64))
def packed_insert(space, va, i, size):  # type: ignore[no-untyped-def]
    """Make room for an item of `size` bytes at place `i`.  The caller writes it, and has checked that it fits.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    at, memory = read_address(space, va), space.mem.bytes
    needed, capacity = needed_at(memory, at) + END_SIZE + size, capacity_at(memory, at)
    assert 0 <= i <= count_at(memory, at) and size >= 0 and needed <= PACKED_MAX, "no room for an item"
    if needed > capacity:
        return _move(space, va, i, 0, 1, size, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    splice(memory, at, i, 0, 1, size)
    return va


@linked(int64(SPACE, int64, int64, int64))
def packed_remove(space, va, i, n):  # type: ignore[no-untyped-def]
    """Remove `n` items from place `i` on.  The packed's new address, or 0 with nothing changed when frames ran out."""
    at, memory = read_address(space, va), space.mem.bytes
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    assert i >= 0 and n >= 0 and i + n <= count, "items to be removed are not there"
    removed = offset_at(memory, at, capacity, i + n) - offset_at(memory, at, capacity, i)
    needed = needed_at(memory, at) - removed - END_SIZE * n
    if _pays(needed, capacity) and has_frames(space, PACKED_FRAMES):
        return _move(space, va, i, n, 0, 0, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    splice(memory, at, i, n, 0, 0)
    return va


@linked(int64(SPACE, int64, int64, int64))
def packed_resize(space, va, i, size):  # type: ignore[no-untyped-def]
    """Give item `i` another size.  The bytes up to the smaller size are kept.  The caller has checked that it fits.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    at, memory = read_address(space, va), space.mem.bytes
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    assert 0 <= i < count and size >= 0, "an item to be resized is not there"
    old = offset_at(memory, at, capacity, i + 1) - offset_at(memory, at, capacity, i)
    needed = needed_at(memory, at) + size - old
    assert needed <= PACKED_MAX, "no room for an item"
    if needed > capacity or (size < old and _pays(needed, capacity) and has_frames(space, PACKED_FRAMES)):
        return _move(space, va, i, 1, 1, size, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    if size != old:
        splice(memory, at, i, 1, 1, size)
    return va


@linked(int64(SPACE, int64, int64))
def packed_split(space, va, i):  # type: ignore[no-untyped-def]
    """Move the items from place `i` on to a new packed; `va` stays where it is, with its capacity.

    Returns the new packed's address, or 0 with nothing changed when frames ran out.
    """
    if not has_frames(space, PACKED_FRAMES):
        return 0
    at, memory = write_address(space, va), space.mem.bytes
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    assert 0 <= i <= count, "a packed is split beyond its end"
    behind, used = count - i, offset_at(memory, at, capacity, count) - offset_at(memory, at, capacity, i)
    other_capacity = _capacity_for(packed_needed(used, behind))
    other = _alloc(space, other_capacity)
    to = write_address(space, other)
    put_header(memory, to, other_capacity, 0, PACKED_HEADER)
    append_items(memory, to, at, i, behind, -1)
    put_header(memory, at, capacity, i, start_at(memory, at))
    return other


@linked(int64(SPACE, int64, int64))
def packed_append_packed(space, va, other):  # type: ignore[no-untyped-def]
    """Append all items of `other`, which is freed.  The caller has checked that they fit.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    if not has_frames(space, PACKED_FRAMES):
        return 0
    memory, more = space.mem.bytes, needed_at(space.mem.bytes, read_address(space, other)) - PACKED_HEADER
    at = write_address(space, va)
    count, needed = count_at(memory, at), needed_at(memory, at) + more
    assert needed <= PACKED_MAX, "no room for the items of a packed"
    result, capacity = va, capacity_at(memory, at)
    if needed > capacity:
        old, capacity = capacity, _capacity_for(needed)
        result = _alloc(space, capacity)
        to = write_address(space, result)
        put_header(memory, to, capacity, 0, PACKED_HEADER)
        append_items(memory, to, at, 0, count, -1)
        _free(space, va, old)
        at = to
    elif offset_at(memory, at, capacity, count) + END_SIZE * count + more > capacity:
        slide(memory, at, PACKED_HEADER)
    of = read_address(space, other)
    append_items(memory, at, of, 0, count_at(memory, of), -1)
    _free(space, other, capacity_at(memory, of))
    return result


@linked(boolean(SPACE, int64))
def _never_falls(space, va):  # type: ignore[no-untyped-def]
    at, memory = read_address(space, va), space.mem.bytes
    capacity = capacity_at(memory, at)
    for i in range(count_at(memory, at)):
        if offset_at(memory, at, capacity, i) > offset_at(memory, at, capacity, i + 1):
            return False
    return True


@linked(void(SPACE, int64))
def check_packed(space, va):  # type: ignore[no-untyped-def]
    """Assert the invariants."""
    at, memory = read_address(space, va), space.mem.bytes
    assert at >= 0, "(4) a packed is not mapped"
    assert bytes32(memory, at) & KIND_MASK == PACKED, "(1) a packed of another kind"
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    if capacity == 0:
        assert count == 1 and va & PAGE_MASK == 0, "(4) a long packed"
        assert is_long_item(long_size_at(memory, at)), "(1) a long packed of a short item"
        return
    assert CAPACITY_MIN <= capacity <= PACKED_MAX and heap_size(capacity) == capacity, "(1) the capacity of a packed"
    assert (va & PAGE_MASK) + capacity <= PAGE_SIZE, "(4) a packed straddles two pages"
    assert PACKED_HEADER + END_SIZE * count <= capacity, "(3) the ends of a packed overlap its header"
    assert start_at(memory, at) >= PACKED_HEADER, "(2) the first item of a packed overlaps its header"
    assert _never_falls(space, va), "(2) the ends of a packed fall"
    stop = offset_at(memory, at, capacity, count)
    assert stop + END_SIZE * count <= capacity, "(3) the items of a packed overlap its ends"
