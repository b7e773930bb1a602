"""A packed: a sequence of items in one allocation of at most PACKED_MAX bytes.

OFFSET              SIZE  DESCRIPTION
0                   2     capacity: bytes of the allocation, a multiple of 8; the three low bits hold PACKED (kinds.py)
2                   2     number of items
4                         the items, end to end
capacity - 2(i+1)   2     end of item i, as an offset from the packed's start

The ends grow downwards from the end of the allocation, the items upwards from its begin.  So an item is found without
a walk over those before it, and an item is put in by two memory moves, one of items and one of ends.

An item has at least one byte.  What is in it is the caller's affair; usually it is an element (element.py).

Capacity.  A packed that is full moves to an allocation with an eighth more than it needs, so that a series of appends
does not copy it each time.  It moves to a smaller one when it would fit there with a quarter to spare.

(1) The capacity is what heap_size says, at least CAPACITY_MIN and at most PACKED_MAX.
(2) The ends rise: each item has at least one byte, and the first one starts behind the header.
(3) Items and ends do not overlap.
(4) The allocation lies within one page.

A function that needs an allocation, or a copy of a shared page, returns 0 with nothing changed if there are too few
frames.  PACKED_FRAMES free frames are always enough.  A packed that was returned by a function that changes it can be
written without a fault until the next fork.
"""

from kvstore.structures.kinds import KIND_MASK, PACKED
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free, heap_size
from mmcore.jit import boolean, bytes32, bytes64, copy_bytes, int64, kernel, linked, put32, put64, void
from mmcore.mmu import read_address, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

PACKED_MAX = 4096
PACKED_HEADER = 4
END_SIZE = 2
CAPACITY_MIN = 16  # ends are changed in words of 8 bytes, which must not begin before the packed
PACKED_FRAMES = 3 * HEAP_FRAMES  # one allocation and two that are freed; a copied page needs fewer than either
_CAPACITY = 0xFFFF & ~KIND_MASK
_FOUR = 0x0001_0001_0001_0001  # four ends in one word
assert PACKED_MAX <= PAGE_SIZE


# --- in physical memory: `at` is the packed's index in mem.bytes -----------------------------------------------------


@kernel
def _capacity(memory, at):  # type: ignore[no-untyped-def]
    return bytes32(memory, at) & _CAPACITY


@kernel
def _count(memory, at):  # type: ignore[no-untyped-def]
    return bytes32(memory, at) >> 16


@kernel
def _start(memory, at, capacity, i):  # type: ignore[no-untyped-def]
    # Offset of item i; behind the last item, the end of all.  The word that is read ends with the end of item i - 1.
    return PACKED_HEADER if i == 0 else bytes32(memory, at + capacity - 2 * i - 2) >> 16


@kernel
def _put_end(memory, at, capacity, i, end):  # type: ignore[no-untyped-def]
    place = at + capacity - 2 * i - 4
    put32(memory, place, bytes32(memory, place) & 0xFFFF | end << 16)


@kernel
def _put_header(memory, at, capacity, count):  # type: ignore[no-untyped-def]
    put32(memory, at, capacity | PACKED | count << 16)


@kernel
def _add_to_ends(memory, place, stop, by):  # type: ignore[no-untyped-def]
    # Change the ends in [place, stop) by the same number.  Four at a time: no end carries into the next one.
    words = by * _FOUR
    while stop - place >= 8:
        put64(memory, place, bytes64(memory, place) + words)
        place += 8
    if place < stop:  # the last ones are the upper part of a word
        put64(memory, stop - 8, bytes64(memory, stop - 8) + (words << (64 - 8 * (stop - place))))


@kernel
def _needed(memory, at):  # type: ignore[no-untyped-def]
    # Bytes in use.
    capacity, count = _capacity(memory, at), _count(memory, at)
    return _start(memory, at, capacity, count) + END_SIZE * count


@kernel
def _splice(memory, to, capacity, at, i, n, m, size):  # type: ignore[no-untyped-def]
    # In the place of n items from i on there are to be m, none or one, of `size` bytes.  The result is written to `to`,
    # which is another allocation or the same.  The bytes that old and new item have in common are kept.
    old, count = _capacity(memory, at), _count(memory, at)
    start, source = _start(memory, at, old, i), _start(memory, at, old, i + n)
    stop, target = _start(memory, at, old, count), start + m * size
    if to != at:
        copy_bytes(memory, to + PACKED_HEADER, memory, at + PACKED_HEADER, min(source, target) - PACKED_HEADER)
        copy_bytes(memory, to + capacity - 2 * i, memory, at + old - 2 * i, 2 * i)
    behind = count - i - n
    if behind > 0:
        place = to + capacity - 2 * (count + m - n)
        copy_bytes(memory, to + target, memory, at + source, stop - source)
        copy_bytes(memory, place, memory, at + old - 2 * count, 2 * behind)
        _add_to_ends(memory, place, place + 2 * behind, target - source)
    if m > 0:
        _put_end(memory, to, capacity, i, target)
    _put_header(memory, to, capacity, count + m - n)


# --- questions -------------------------------------------------------------------------------------------------------


@kernel
def packed_capacity(space, va):  # type: ignore[no-untyped-def]
    """Bytes of the allocation."""
    return _capacity(space.mem.bytes, read_address(space, va))


@kernel
def packed_count(space, va):  # type: ignore[no-untyped-def]
    """Number of items."""
    return _count(space.mem.bytes, read_address(space, va))


@kernel
def packed_item(space, va, i):  # type: ignore[no-untyped-def]
    """Address of item `i`; of the place behind the last one, if `i` is their number."""
    at = read_address(space, va)
    return va + _start(space.mem.bytes, at, _capacity(space.mem.bytes, at), i)


@kernel
def packed_item_size(space, va, i):  # type: ignore[no-untyped-def]
    """Bytes of item `i`."""
    at = read_address(space, va)
    capacity = _capacity(space.mem.bytes, at)
    return _start(space.mem.bytes, at, capacity, i + 1) - _start(space.mem.bytes, at, capacity, i)


@kernel
def packed_used(space, va):  # type: ignore[no-untyped-def]
    """Bytes of all items."""
    at = read_address(space, va)
    capacity, count = _capacity(space.mem.bytes, at), _count(space.mem.bytes, at)
    return _start(space.mem.bytes, at, capacity, count) - PACKED_HEADER


@kernel
def packed_needed(used, count):  # type: ignore[no-untyped-def]
    """Bytes that a packed needs for `count` items of `used` bytes together."""
    return PACKED_HEADER + used + END_SIZE * count


@kernel
def packed_fits(space, va, size):  # type: ignore[no-untyped-def]
    """Whether one more item of `size` bytes fits a packed."""
    return _needed(space.mem.bytes, read_address(space, va)) + END_SIZE + size <= PACKED_MAX


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
    """_splice into a new allocation; the old one is freed.  0 with nothing changed when frames ran out."""
    if not has_frames(space, PACKED_FRAMES):
        return 0
    moved = _alloc(space, capacity)
    to, at, memory = write_address(space, moved), read_address(space, va), space.mem.bytes
    _splice(memory, to, capacity, at, i, n, m, size)
    _free(space, va, _capacity(memory, at))
    return moved


@linked(int64(SPACE, int64))
def packed_new(space, size):  # type: ignore[no-untyped-def]
    """An empty packed with room for one item of `size` bytes; 0 with nothing changed when frames ran out."""
    assert size <= PACKED_MAX - PACKED_HEADER - END_SIZE, "an item is too large for a packed"
    if not has_frames(space, PACKED_FRAMES):
        return 0
    capacity = heap_size(max(CAPACITY_MIN, packed_needed(size, 1)))
    va = _alloc(space, capacity)
    _put_header(space.mem.bytes, write_address(space, va), capacity, 0)
    return va


@linked(int64(SPACE, int64))
def packed_free(space, va):  # type: ignore[no-untyped-def]
    """Free a packed with its items: 0, or NO_FRAME with nothing changed."""
    return heap_free(space, va, packed_capacity(space, va))


@linked(int64(SPACE, int64))
def packed_copy(space, va):  # type: ignore[no-untyped-def]
    """A copy, in no larger an allocation than it needs; 0 with nothing changed when frames ran out."""
    if not has_frames(space, PACKED_FRAMES):
        return 0
    capacity = heap_size(max(CAPACITY_MIN, _needed(space.mem.bytes, read_address(space, va))))
    copy = _alloc(space, capacity)
    to, at, memory = write_address(space, copy), read_address(space, va), space.mem.bytes
    _splice(memory, to, capacity, at, _count(memory, at), 0, 0, 0)
    return copy


@linked(int64(SPACE, int64, int64, int64))
def packed_insert(space, va, i, size):  # type: ignore[no-untyped-def]
    """Make room for an item of `size` bytes at place `i`.  The caller writes it, and has checked that it fits.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    at, memory = read_address(space, va), space.mem.bytes
    needed, capacity = _needed(memory, at) + END_SIZE + size, _capacity(memory, at)
    assert 0 <= i <= _count(memory, at) and size > 0 and needed <= PACKED_MAX, "no room for an item"
    if needed > capacity:
        return _move(space, va, i, 0, 1, size, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    _splice(memory, at, capacity, at, i, 0, 1, size)
    return va


@linked(int64(SPACE, int64, int64, int64))
def packed_remove(space, va, i, n):  # type: ignore[no-untyped-def]
    """Remove `n` items from place `i` on.  The packed's new address, or 0 with nothing changed when frames ran out."""
    at, memory = read_address(space, va), space.mem.bytes
    capacity, count = _capacity(memory, at), _count(memory, at)
    assert i >= 0 and n >= 0 and i + n <= count, "items to be removed are not there"
    removed = _start(memory, at, capacity, i + n) - _start(memory, at, capacity, i)
    needed = _needed(memory, at) - removed - END_SIZE * n
    if _pays(needed, capacity) and has_frames(space, PACKED_FRAMES):
        return _move(space, va, i, n, 0, 0, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    _splice(memory, at, capacity, at, i, n, 0, 0)
    return va


@linked(int64(SPACE, int64, int64, int64))
def packed_resize(space, va, i, size):  # type: ignore[no-untyped-def]
    """Give item `i` another size.  The bytes up to the smaller size are kept.  The caller has checked that it fits.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    at, memory = read_address(space, va), space.mem.bytes
    capacity, count = _capacity(memory, at), _count(memory, at)
    assert 0 <= i < count and size > 0, "an item to be resized is not there"
    old = _start(memory, at, capacity, i + 1) - _start(memory, at, capacity, i)
    needed = _needed(memory, at) + size - old
    assert needed <= PACKED_MAX, "no room for an item"
    if needed > capacity or (size < old and _pays(needed, capacity) and has_frames(space, PACKED_FRAMES)):
        return _move(space, va, i, 1, 1, size, _capacity_for(needed))
    at = write_address(space, va)
    if at < 0:
        return 0
    if size != old:
        _splice(memory, at, capacity, at, i, 1, 1, size)
    return va


@linked(int64(SPACE, int64, int64))
def packed_split(space, va, i):  # type: ignore[no-untyped-def]
    """Move the items from place `i` on to a new packed; `va` stays where it is, with its capacity.

    Returns the new packed's address, or 0 with nothing changed when frames ran out.
    """
    if not has_frames(space, PACKED_FRAMES):
        return 0
    at, memory = write_address(space, va), space.mem.bytes
    capacity, count = _capacity(memory, at), _count(memory, at)
    assert 0 <= i <= count, "a packed is split beyond its end"
    start = _start(memory, at, capacity, i)
    behind, used = count - i, _start(memory, at, capacity, count) - start
    other_capacity = _capacity_for(packed_needed(used, behind))
    other = _alloc(space, other_capacity)
    to = write_address(space, other)
    copy_bytes(memory, to + PACKED_HEADER, memory, at + start, used)
    place = to + other_capacity - 2 * behind
    copy_bytes(memory, place, memory, at + capacity - 2 * count, 2 * behind)
    _add_to_ends(memory, place, to + other_capacity, PACKED_HEADER - start)
    _put_header(memory, to, other_capacity, behind)
    _put_header(memory, at, capacity, i)
    return other


@linked(int64(SPACE, int64, int64))
def packed_append_packed(space, va, other):  # type: ignore[no-untyped-def]
    """Append all items of `other`, which is freed.  The caller has checked that they fit.

    Returns the packed's new address, or 0 with nothing changed when frames ran out.
    """
    if not has_frames(space, PACKED_FRAMES):
        return 0
    memory, more = space.mem.bytes, _needed(space.mem.bytes, read_address(space, other)) - PACKED_HEADER
    at = write_address(space, va)
    count, needed = _count(memory, at), _needed(memory, at) + more
    assert needed <= PACKED_MAX, "no room for the items of a packed"
    result, capacity = va, _capacity(memory, at)
    if needed > capacity:
        old, capacity = capacity, _capacity_for(needed)
        result = _alloc(space, capacity)
        to = write_address(space, result)
        _splice(memory, to, capacity, at, count, 0, 0, 0)
        _free(space, va, old)
        at = to
    of = read_address(space, other)
    behind, other_capacity = _count(memory, of), _capacity(memory, of)
    stop, place = _start(memory, at, capacity, count), at + capacity - 2 * (count + behind)
    copy_bytes(memory, at + stop, memory, of + PACKED_HEADER, more - END_SIZE * behind)
    copy_bytes(memory, place, memory, of + other_capacity - 2 * behind, 2 * behind)
    _add_to_ends(memory, place, place + 2 * behind, stop - PACKED_HEADER)
    _put_header(memory, at, capacity, count + behind)
    _free(space, other, other_capacity)
    return result


@linked(boolean(SPACE, int64))
def _is_rising(space, va):  # type: ignore[no-untyped-def]
    at, memory = read_address(space, va), space.mem.bytes
    capacity = _capacity(memory, at)
    for i in range(_count(memory, at)):
        if _start(memory, at, capacity, i) >= _start(memory, at, capacity, i + 1):
            return False
    return True


@linked(void(SPACE, int64))
def check_packed(space, va):  # type: ignore[no-untyped-def]
    """Assert the invariants."""
    at, memory = read_address(space, va), space.mem.bytes
    assert at >= 0, "(4) a packed is not mapped"
    assert bytes32(memory, at) & KIND_MASK == PACKED, "(1) a packed of another kind"
    capacity, count = _capacity(memory, at), _count(memory, at)
    assert CAPACITY_MIN <= capacity <= PACKED_MAX and heap_size(capacity) == capacity, "(1) the capacity of a packed"
    assert (va & PAGE_MASK) + capacity <= PAGE_SIZE, "(4) a packed straddles two pages"
    assert PACKED_HEADER + END_SIZE * count <= capacity, "(3) the ends of a packed overlap its header"
    assert _is_rising(space, va), "(2) the ends of a packed do not rise"
    assert _needed(memory, at) <= capacity, "(3) the items of a packed overlap its ends"
