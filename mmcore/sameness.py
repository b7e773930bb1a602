"""The pages that two trees have in common: one frame at the same address of both.  Such pages hold the same bytes.

After a fork the trees share everything.  A later write copies a page and the tables above it, on one side.  So two
ranges are compared from the top down, and the first table in common ends the comparison for all that it maps.

A cache, int64[SAMENESS_WORDS], keeps what is known of the ranges of 2 MiB that were asked about: a bit for each page.
Then a question costs two loads, both in a few lines of the processor's cache.  The cache is for one pair of trees,
whose tables must not change meanwhile.

    WORD    DESCRIPTION of an entry
    0       number of the range, plus 1; 0 for an empty entry
    1       pages of it that differ
    2 .. 9  a bit for each page: 1 if it differs
"""

from mmcore.jit import int64, kernel, linked, void
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, HUGE, PAGE_SHIFT, PT_SPAN, ROOT_LEVEL, P, frame_of, slot_of
from mmcore.state import MEMORY
from mmcore.walk import walk

_ENTRIES = 512
_DIFFERING, _BITS = 1, 2
_WORDS = _BITS + ENTRY_COUNT // 64
SAMENESS_WORDS = _WORDS * _ENTRIES
_SPAN_SHIFT = PT_SPAN.bit_length() - 1
_REGION_SHIFT = 13  # ranges of 16 GiB are folded in, as in tlb.py


@kernel
def _note_different(cache, at, index):  # type: ignore[no-untyped-def]
    cache[at + _DIFFERING] += 1
    cache[at + _BITS + (index >> 6)] |= 1 << (index & 63)


@linked(void(MEMORY, int64, int64, int64[::1], int64, int64))
def _fill(mem, one, other, cache, at, number):  # type: ignore[no-untyped-def]
    """Compare the range of this number in the trees at `one` and `other`, for the entry at `at`."""
    first, second, va = one, other, number << _SPAN_SHIFT
    cache[at] = number + 1
    for i in range(1, _WORDS):
        cache[at + i] = 0
    for level in range(ROOT_LEVEL, 1, -1):
        if one == other:
            return
        here, there = mem.entries[slot_of(one, va, level)], mem.entries[slot_of(other, va, level)]
        if here & HUGE != P or there & HUGE != P:  # a huge page, or none
            for index in range(ENTRY_COUNT):
                page = va + (index << PAGE_SHIFT)
                if walk(mem, first, page, 0) != walk(mem, second, page, 0):
                    _note_different(cache, at, index)
            return
        one, other = frame_of(here), frame_of(there)
    if one != other:
        for index in range(ENTRY_COUNT):
            here, there = mem.entries[(one << ENTRY_SHIFT) + index], mem.entries[(other << ENTRY_SHIFT) + index]
            if frame_of(here) != frame_of(there):
                _note_different(cache, at, index)


@kernel
def _entry(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    number = va >> _SPAN_SHIFT
    at = _WORDS * ((number ^ number >> _REGION_SHIFT) & (_ENTRIES - 1))
    if cache[at] != number + 1:
        _fill(mem, one, other, cache, at, number)
    return at


@kernel
def is_same_page(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    """Whether va's page is the same in the trees at `one` and `other`."""
    index = va >> PAGE_SHIFT & (ENTRY_COUNT - 1)
    return cache[_entry(mem, one, other, cache, va) + _BITS + (index >> 6)] >> (index & 63) & 1 == 0


@kernel
def same_until(mem, one, other, cache, va):  # type: ignore[no-untyped-def]
    """The address up to which the bytes from `va` on are known to be the same; `va` if its page is not."""
    if cache[_entry(mem, one, other, cache, va) + _DIFFERING] == 0:
        return (va & -PT_SPAN) + PT_SPAN
    return ((va >> PAGE_SHIFT) + 1) << PAGE_SHIFT if is_same_page(mem, one, other, cache, va) else va


@kernel
def sameness_clear(cache):  # type: ignore[no-untyped-def]
    """Empty the cache."""
    for at in range(0, SAMENESS_WORDS, _WORDS):
        cache[at] = 0
