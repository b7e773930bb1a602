"""The page walk: from cr3 down four levels, as the processor does it, changing nothing."""

from mmcore.errors import NOT_PRESENT
from mmcore.jit import kernel
from mmcore.paging import NO_ENTRY, ROOT_LEVEL, RW, VA_LIMIT, P, frame_of, slot_of


@kernel
def walk(mem, cr3, va, level):  # type: ignore[no-untyped-def]
    """Frame of the table of `level` (0: of the page) that serves `va` in the tree at `cr3`, or NOT_PRESENT."""
    frame = cr3
    if va < 0 or va >= VA_LIMIT:
        return NOT_PRESENT
    for above in range(ROOT_LEVEL, level, -1):
        entry = mem.entries[slot_of(frame, va, above)]
        if not entry & P:
            return NOT_PRESENT
        frame = frame_of(entry)
    return frame


@kernel
def walk_page(mem, cr3, va):  # type: ignore[no-untyped-def]
    """(frame of va's page or NOT_PRESENT, whether R/W is set in every entry of its path)."""
    frame = cr3
    if va < 0 or va >= VA_LIMIT:
        return NOT_PRESENT, False
    rights = RW
    for above in range(ROOT_LEVEL, 0, -1):
        entry = mem.entries[slot_of(frame, va, above)]
        if not entry & P:
            return NOT_PRESENT, False
        rights &= entry
        frame = frame_of(entry)
    return frame, rights != NO_ENTRY
