"""Ints: a sorted set of integers in one allocation of at most INTS_MAX bytes.

OFFSET  SIZE   DESCRIPTION
0       1      INTS (kinds.py) | s << 3, where each integer has 2^s bytes: 2, 4 or 8
1       1      0
2       2      number of integers
4       2      capacity: bytes of the allocation
6       2      base, signed, in units of a quarter of what 2^s bytes tell apart; 0 with 8 bytes
8       2^s    the integers less the base, signed, in ascending order

So 2 bytes hold integers of four neighbouring units of 2^14, and 4 bytes of four units of 2^30, wherever they begin:
numbers that count on, such as identifiers, take 2 bytes where their values alone would take 4.

A stored integer is read as the upper end of a word of 8 bytes, which an arithmetic shift to the right extends by its
sign.  The words of the first ones begin in the header.  So one piece of code serves all sizes, without a branch.

Another base or more bytes are chosen when an integer is added that does not fit the present ones; fewer bytes never.
The base is the highest that reaches down to the least integer: more room is above.  So the base moves by a unit at
least, and three times at most before the integers take more bytes.  Room is kept ahead as in packed.py.

(1) The capacity is what heap_size says, at most INTS_MAX, and holds all integers.
(2) The integers ascend, without duplicates.

A function that needs an allocation, or a copy of a shared page, returns 0 with nothing changed if there are too few
frames.  INTS_FRAMES free frames are always enough.
"""

from kvstore.structures.kinds import INTS, KIND_MASK
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free, heap_size
from mmcore.jit import boolean, bytes64, copy_bytes, int64, kernel, linked, put64, void
from mmcore.mmu import read_address, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

INTS_MAX = 4096
INTS_HEADER = 8
INTS_FRAMES = 2 * HEAP_FRAMES
SHIFT_MIN, SHIFT_MAX = 1, 3
_SHIFT_PLACE, _COUNT_PLACE, _CAPACITY_PLACE, _BASE_PLACE = 3, 16, 32, 48
_BASE_MAX = 1 << 15
assert INTS_MAX <= PAGE_SIZE


@kernel
def _header(shift, base, count, capacity):  # type: ignore[no-untyped-def]
    return INTS | shift << _SHIFT_PLACE | count << _COUNT_PLACE | capacity << _CAPACITY_PLACE | base << _BASE_PLACE


@kernel
def _shift(header):  # type: ignore[no-untyped-def]
    return header >> _SHIFT_PLACE & 3


@kernel
def _count(header):  # type: ignore[no-untyped-def]
    return header >> _COUNT_PLACE & 0xFFFF


@kernel
def _capacity(header):  # type: ignore[no-untyped-def]
    return header >> _CAPACITY_PLACE & 0xFFFF


@kernel
def _base(header):  # type: ignore[no-untyped-def]
    # In units.
    return header >> _BASE_PLACE


@kernel
def _unit_shift(shift):  # type: ignore[no-untyped-def]
    return (8 << shift) - 2


@kernel
def _base_value(header):  # type: ignore[no-untyped-def]
    return _base(header) << _unit_shift(_shift(header))


@kernel
def _reaches(shift, base, value):  # type: ignore[no-untyped-def]
    # Whether 2^shift bytes from this base on hold a value: two units below it, and two from it on.
    return shift == SHIFT_MAX or base - 2 <= value >> _unit_shift(shift) < base + 2


@kernel
def _load(memory, at, shift, i):  # type: ignore[no-untyped-def]
    # Integer i less the base.
    return bytes64(memory, at + ((i + 1) << shift)) >> (64 - (8 << shift))


@kernel
def _store(memory, at, shift, i, value):  # type: ignore[no-untyped-def]
    place, below = at + ((i + 1) << shift), 64 - (8 << shift)
    put64(memory, place, bytes64(memory, place) & ((1 << below) - 1) | value << below)


@kernel
def _place(memory, at, value):  # type: ignore[no-untyped-def]
    # Place of the first integer that is not less than the value, which the present size and base reach or which is
    # less than all or more than all they reach.  Half of the branches on a comparison would be guessed
    # wrong, so there is none: the sign of a difference is a mask.  Halves are subtracted, so that nothing overflows.
    # Steps are in bytes, so even, and bit 0 of the mask does not matter; shifted by 63, it would become a branch again.
    header = bytes64(memory, at)
    shift, base, left = _shift(header), _base(header), _count(header)
    if not _reaches(shift, base, value):
        return int64(0) if value >> _unit_shift(shift) < base else left
    value -= _base_value(header)
    below, place = 64 - (8 << shift), at
    while left > 0:
        half = (left + 1) >> 1
        step = half << shift
        one = bytes64(memory, place + step) >> below
        place += step & ((one >> 1) - (value >> 1) - (~one & value & 1)) >> 62
        left -= half
    return (place - at) >> shift


@kernel
def _value(memory, at, header, i):  # type: ignore[no-untyped-def]
    return _load(memory, at, _shift(header), i) + _base_value(header)


@kernel
def _is_at(memory, at, i, value):  # type: ignore[no-untyped-def]
    header = bytes64(memory, at)
    return i < _count(header) and _value(memory, at, header, i) == value


@kernel
def _shape(memory, at, value):  # type: ignore[no-untyped-def]
    # (shift, base) that hold the integers and one more, whose value is given.
    header = bytes64(memory, at)
    shift, base, count = _shift(header), _base(header), _count(header)
    if _reaches(shift, base, value):
        return shift, base
    least, most = value, value
    if count > 0:
        least = min(least, _value(memory, at, header, 0))
        most = max(most, _value(memory, at, header, count - 1))
    while shift < SHIFT_MAX:
        base = (least >> _unit_shift(shift)) + 2
        if -_BASE_MAX <= base < _BASE_MAX and _reaches(shift, base, most):
            return shift, base
        shift += 1
    return shift, int64(0)


@kernel
def ints_capacity(space, va):  # type: ignore[no-untyped-def]
    """Bytes of the allocation."""
    return _capacity(bytes64(space.mem.bytes, read_address(space, va)))


@kernel
def ints_count(space, va):  # type: ignore[no-untyped-def]
    """Number of integers."""
    return _count(bytes64(space.mem.bytes, read_address(space, va)))


@kernel
def ints_at(space, va, i):  # type: ignore[no-untyped-def]
    """The integer at place `i`."""
    at = read_address(space, va)
    return _value(space.mem.bytes, at, bytes64(space.mem.bytes, at), i)


@linked(int64(SPACE, int64, int64))
def ints_find(space, va, value):  # type: ignore[no-untyped-def]
    """The place of a value; -1 - the place where it would be, if it is not there."""
    at = read_address(space, va)
    i = _place(space.mem.bytes, at, value)
    return i if _is_at(space.mem.bytes, at, i, value) else -1 - i


@kernel
def _needed(shift, count):  # type: ignore[no-untyped-def]
    return INTS_HEADER + (count << shift)


@kernel
def ints_fits(space, va, value):  # type: ignore[no-untyped-def]
    """Whether there is room for one more integer."""
    at, memory = read_address(space, va), space.mem.bytes
    shift, _ = _shape(memory, at, value)
    return _needed(shift, _count(bytes64(memory, at)) + 1) <= INTS_MAX


@kernel
def _capacity_for(needed):  # type: ignore[no-untyped-def]
    return heap_size(min(INTS_MAX, needed + (needed >> 3)))


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def _move(space, va, shift, base, i, change):  # type: ignore[no-untyped-def]
    """To a new allocation with integers of 2^shift bytes and this base.

    At place `i` one is left out (change -1), or room for one is left (change 1).  Returns the new address, or 0 with
    nothing changed when frames ran out.
    """
    if not has_frames(space, INTS_FRAMES):
        return 0
    header = bytes64(space.mem.bytes, read_address(space, va))
    count = _count(header)
    capacity = _capacity_for(_needed(shift, count + change))
    moved = heap_alloc(space, capacity)
    assert moved != 0, "no frames were reserved for integers"
    to, at, memory = write_address(space, moved), read_address(space, va), space.mem.bytes
    put64(memory, to, _header(shift, base, count + change, capacity))
    behind = i if change > 0 else i + 1  # the first integer behind the place
    if shift == _shift(header) and base == _base(header):
        copy_bytes(memory, to + INTS_HEADER, memory, at + INTS_HEADER, i << shift)
        target, source = _needed(shift, behind + change), _needed(shift, behind)
        copy_bytes(memory, to + target, memory, at + source, (count - behind) << shift)
    else:
        less = base << _unit_shift(shift)
        for j in range(i):
            _store(memory, to, shift, j, _value(memory, at, header, j) - less)
        for j in range(behind, count):
            _store(memory, to, shift, j + change, _value(memory, at, header, j) - less)
    code = heap_free(space, va, _capacity(header))
    assert code == 0, "no frames were reserved for integers"
    return moved


@linked(int64(SPACE))
def ints_new(space):  # type: ignore[no-untyped-def]
    """An empty set of integers; 0 with nothing changed when frames ran out."""
    if not has_frames(space, INTS_FRAMES):
        return 0
    capacity = heap_size(_needed(SHIFT_MIN, 4))
    va = heap_alloc(space, capacity)
    assert va != 0, "no frames were reserved for integers"
    put64(space.mem.bytes, write_address(space, va), _header(SHIFT_MIN, 0, 0, capacity))
    return va


@linked(int64(SPACE, int64))
def ints_free(space, va):  # type: ignore[no-untyped-def]
    """Free a set of integers: 0, or NO_FRAME with nothing changed."""
    return heap_free(space, va, ints_capacity(space, va))


@linked(int64(SPACE, int64))
def ints_copy(space, va):  # type: ignore[no-untyped-def]
    """A copy, in no larger an allocation than it needs; 0 with nothing changed when frames ran out."""
    if not has_frames(space, INTS_FRAMES):
        return 0
    header = bytes64(space.mem.bytes, read_address(space, va))
    shift, count = _shift(header), _count(header)
    needed = _needed(shift, count)
    capacity = heap_size(needed)
    copy = heap_alloc(space, capacity)
    assert copy != 0, "no frames were reserved for integers"
    to, at, memory = write_address(space, copy), read_address(space, va), space.mem.bytes
    copy_bytes(memory, to, memory, at, needed)
    put64(memory, to, _header(shift, _base(header), count, capacity))
    return copy


@linked(int64(SPACE, int64, int64))
def ints_insert(space, va, value):  # type: ignore[no-untyped-def]
    """Add a value, which has room (ints_fits); nothing happens if it is there.

    Returns the new address, or 0 with nothing changed when frames ran out.
    """
    at, memory = read_address(space, va), space.mem.bytes
    i = _place(memory, at, value)
    if _is_at(memory, at, i, value):
        return va
    header = bytes64(memory, at)
    count, capacity = _count(header), _capacity(header)
    shift, base = _shape(memory, at, value)
    needed = _needed(shift, count + 1)
    assert needed <= INTS_MAX, "no room for an integer"
    if shift != _shift(header) or base != _base(header) or needed > capacity:
        va = _move(space, va, shift, base, i, 1)
        if va == 0:
            return 0
        at = write_address(space, va)
    else:
        at = write_address(space, va)
        if at < 0:
            return 0
        start = at + _needed(shift, i)
        copy_bytes(memory, start + (1 << shift), memory, start, (count - i) << shift)
        put64(memory, at, _header(shift, base, count + 1, capacity))
    _store(memory, at, shift, i, value - (base << _unit_shift(shift)))
    return va


@linked(int64(SPACE, int64, int64))
def ints_remove(space, va, i):  # type: ignore[no-untyped-def]
    """Remove the integer at place `i`.  The new address, or 0 with nothing changed when frames ran out."""
    at, memory = read_address(space, va), space.mem.bytes
    header = bytes64(memory, at)
    shift, count, capacity = _shift(header), _count(header), _capacity(header)
    assert 0 <= i < count, "an integer to be removed is not there"
    needed = _needed(shift, count - 1)
    if heap_size(min(INTS_MAX, needed + (needed >> 2) + 8)) < capacity and has_frames(space, INTS_FRAMES):
        return _move(space, va, shift, _base(header), i, -1)
    at = write_address(space, va)
    if at < 0:
        return 0
    start = at + _needed(shift, i)
    copy_bytes(memory, start, memory, start + (1 << shift), (count - i - 1) << shift)
    put64(memory, at, _header(shift, _base(header), count - 1, capacity))
    return va


@linked(boolean(SPACE, int64))
def _is_ascending(space, va):  # type: ignore[no-untyped-def]
    for i in range(1, ints_count(space, va)):
        if ints_at(space, va, i - 1) >= ints_at(space, va, i):
            return False
    return True


@linked(void(SPACE, int64))
def check_ints(space, va):  # type: ignore[no-untyped-def]
    """Assert the invariants."""
    header = bytes64(space.mem.bytes, read_address(space, va))
    shift, count, capacity = _shift(header), _count(header), _capacity(header)
    assert header & KIND_MASK == INTS and SHIFT_MIN <= shift <= SHIFT_MAX, "(1) the kind of a set of integers"
    assert capacity <= INTS_MAX and heap_size(capacity) == capacity, "(1) the capacity of a set of integers"
    assert (va & PAGE_MASK) + capacity <= PAGE_SIZE, "(1) a set of integers straddles two pages"
    assert _needed(shift, count) <= capacity, "(1) integers outside the allocation"
    assert _is_ascending(space, va), "(2) integers do not ascend"
