"""Which pages two trees have in common: one frame at the same address of both.  Such pages hold the same bytes.

After a fork the trees share everything.  A later write copies a page and the tables above it, on one side.  So two
addresses are compared from the top down, and the first table in common ends the comparison for all that it maps.

A cache, int64[SAMENESS_WORDS], keeps the two PTs of the ranges of 2 MiB that were asked about: then a page costs a few
loads, or none if the PTs are the same.  It is for one pair of trees, whose tables must not change meanwhile.

    WORD  DESCRIPTION of an entry
    0     number of the range, plus 1; 0 for an empty entry
    1, 2  the PTs in the two trees; _APART if one has no PT there: then each page is looked for anew
"""

from mmcore.jit import int64, kernel, linked, void
from mmcore.paging import HUGE, PAGE_SHIFT, PT_SPAN, ROOT_LEVEL, P, frame_of, slot_of
from mmcore.state import MEMORY
from mmcore.walk import walk

_ENTRIES = 1024
_WORDS = 3
SAMENESS_WORDS = _WORDS * _ENTRIES
_SPAN_SHIFT = PT_SPAN.bit_length() - 1
_REGION_SHIFT = 13  # ranges of 16 GiB are folded in, as in tlb.py
_APART = -1


@linked(void(MEMORY, int64, int64, int64[::1], int64, int64))
def _fill(mem, one, other, cache, at, va):  # type: ignore[no-untyped-def]
    """Find the PTs of va's range in the trees at `one` and `other`."""
    cache[at] = (va >> _SPAN_SHIFT) + 1
    for level in range(ROOT_LEVEL, 1, -1):
        if one == other:
            break
        first, second = mem.entries[slot_of(one, va, level)], mem.entries[slot_of(other, va, level)]
        if first & HUGE != P or second & HUGE != P:
            cache[at + 1] = cache[at + 2] = _APART
            return
        one, other = frame_of(first), frame_of(second)
    cache[at + 1], cache[at + 2] = one, other


@kernel
def _entry(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    number = va >> _SPAN_SHIFT
    at = _WORDS * ((number ^ number >> _REGION_SHIFT) & (_ENTRIES - 1))
    if cache[at] != number + 1:
        _fill(mem, one, other, cache, at, va)
    return at


@kernel
def is_same_page(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    """Whether va's page is the same in the trees at `one` and `other`."""
    at = _entry(mem, one, other, cache, va)
    first, second = cache[at + 1], cache[at + 2]
    if first == _APART:
        return walk(mem, one, va, 0) == walk(mem, other, va, 0)
    if first == second:
        return True
    return frame_of(mem.entries[slot_of(first, va, 1)]) == frame_of(mem.entries[slot_of(second, va, 1)])


@kernel
def same_until(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    """The address up to which the bytes from `va` on are known to be the same; `va` if its page is not."""
    at = _entry(mem, one, other, cache, va)
    if cache[at + 1] == cache[at + 2] and cache[at + 1] != _APART:
        return (va & -PT_SPAN) + PT_SPAN
    return ((va >> PAGE_SHIFT) + 1) << PAGE_SHIFT if is_same_page(mem, one, other, cache, va) else va
