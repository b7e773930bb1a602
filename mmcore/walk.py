"""The page walk: down four levels from cr3, as the processor does it.  It changes no entry."""

from mmcore.errors import HUGE_PAGE, NOT_PRESENT
from mmcore.jit import kernel
from mmcore.paging import HUGE, NO_ENTRY, ROOT_LEVEL, RW, VA_LIMIT, A, D, P, frame_of, slot_of, table_index
from mmcore.psc import psc_fill, psc_lookup


@kernel
def walk(mem, cr3, va, level):  # type: ignore[no-untyped-def]
    """The frame of va's table of `level` (0: of its page) in the tree at `cr3`, or NOT_PRESENT.

    Returns HUGE_PAGE if a huge page takes the place of the wanted PT.  At level 0, va's 4 KiB within a huge page have a
    frame like any other page.
    """
    frame = cr3
    if va < 0 or va >= VA_LIMIT:
        return NOT_PRESENT
    for above in range(ROOT_LEVEL, level, -1):
        entry = mem.entries[slot_of(frame, va, above)]
        frame = frame_of(entry)
        if entry & HUGE != P:
            if entry == NO_ENTRY:
                return NOT_PRESENT
            return frame + table_index(va, 1) if level == 0 else HUGE_PAGE
    return frame


@kernel
def translate(space, va):  # type: ignore[no-untyped-def]
    """(frame of va's page or NOT_PRESENT, the flags set in every entry of its path; D is that of the last entry).

    The walk starts at the lowest table that the paging-structure caches know, and fills them on its way.
    """
    if va < 0 or va >= VA_LIMIT:
        return NOT_PRESENT, NO_ENTRY
    frame, level, writable = psc_lookup(space, va)
    flags = ~NO_ENTRY if writable else ~RW
    while level > 0:
        entry = space.mem.entries[slot_of(frame, va, level)]
        frame = frame_of(entry)
        if entry & HUGE != P:
            if entry == NO_ENTRY:
                return NOT_PRESENT, NO_ENTRY
            return frame + table_index(va, 1), (flags | D) & entry
        flags = (flags | D) & entry
        if level > 1 and flags & A:
            psc_fill(space, va, level, frame, flags & RW != 0)
        level -= 1
    return frame, flags


@kernel
def huge_at(mem, cr3, va):  # type: ignore[no-untyped-def]
    """(whether a huge page serves `va`, whether more than one path leads to it)."""
    frame = cr3
    shared = False
    for above in range(ROOT_LEVEL, 1, -1):
        entry = mem.entries[slot_of(frame, va, above)]
        if entry == NO_ENTRY:
            break
        frame = frame_of(entry)
        shared = shared or mem.refcount[frame] > 1
        if entry & HUGE == HUGE:
            return True, shared
    return False, False
