"""Reading a frozen tree: the root that a fork handed out, read by another thread while the owner goes on.

(7) These kernels only read: frames reachable from the root, through entries of which nothing but R/W changes.  By (2)
nobody writes to those frames while the root holds its reference.  They use no TLB, no count and no GIL.  Afterwards
the root goes back to the owner, who releases it.
"""

from numba import int64, uint8

from mmcore.errors import NOT_PRESENT
from mmcore.jit import copy_bytes, linked
from mmcore.paging import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PT_SPAN,
    ROOT_LEVEL,
    VA_LIMIT,
    P,
    frame_of,
    slot_of,
    span,
)
from mmcore.state import MEMORY
from mmcore.walk import walk


@linked(int64(MEMORY, int64, int64, int64, int64[::1]))
def next_run(mem, root, va, limit, out):  # type: ignore[no-untyped-def]
    """The next run of consecutive mapped pages at or after `va`: out[0] its first address, out[1] its pages.

    At most `limit` pages; a longer run goes on in the next one.  Returns out[1], which is 0 when there is none.
    """
    out[0] = VA_LIMIT
    out[1] = 0
    while va < VA_LIMIT and out[1] < limit:
        table, level = root, ROOT_LEVEL
        present = True
        while present and level > 1:
            entry = mem.entries[slot_of(table, va, level)]
            present = entry & P != 0
            if present:
                table = frame_of(entry)
                level -= 1
        if not present:
            if out[1] > 0:
                break
            va = (va & -span(level)) + span(level)
            continue
        stop = (va & -PT_SPAN) + PT_SPAN
        while va < stop and out[1] < limit:
            if mem.entries[slot_of(table, va, 1)] & P:
                if out[1] == 0:
                    out[0] = va
                out[1] += 1
            elif out[1] > 0:
                return out[1]
            va += PAGE_SIZE
    return out[1]


@linked(int64(MEMORY, int64, int64, int64, uint8[::1], int64))
def gather(mem, root, va, pages, out, offset):  # type: ignore[no-untyped-def]
    """Copy `pages` pages from `va` on to out[offset:]; returns `pages`, or NOT_PRESENT at one that is not mapped."""
    end = va + pages * PAGE_SIZE
    while va < end:
        pt = walk(mem, root, va, 1)
        if pt < 0:
            return NOT_PRESENT
        stop = min(end, (va & -PT_SPAN) + PT_SPAN)
        while va < stop:
            entry = mem.entries[slot_of(pt, va, 1)]
            if not entry & P:
                return NOT_PRESENT
            copy_bytes(out, offset, mem.bytes, frame_of(entry) << PAGE_SHIFT, PAGE_SIZE)
            offset += PAGE_SIZE
            va += PAGE_SIZE
    return pages
