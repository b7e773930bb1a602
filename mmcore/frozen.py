"""Reading a frozen tree: another thread reads the root that a fork returned, while the owner continues.

(7) These kernels only read.  They read frames reachable from the root, through entries in which only R/W and A change.
By (2) nobody writes to those frames while the root holds its reference.  The kernels use no TLB, no count and no GIL.
Afterwards the owner gets the root back and releases it.

A thread may also read through a space that is FROZEN, by mmu.py, if the space has a processor of its own: then a
translation writes only to that processor's TLB and caches, and sets neither A nor D.

A page has changed since an epoch if its stamp is later, or that of its PT if the PDE has WHOLE.  The owner stamps only
private frames, except for pages that it moves or shares.  A reader may therefore report a page that was only moved in
another space, or shared with another address, but it never misses a changed page.
"""

from mmcore.errors import HUGE_PAGE, NOT_PRESENT
from mmcore.jit import copy_bytes, int64, kernel, linked, uint8, void
from mmcore.paging import (
    ENTRY_COUNT,
    HUGE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PT_SPAN,
    ROOT_LEVEL,
    VA_LIMIT,
    WHOLE,
    P,
    frame_of,
    slot_of,
    span,
)
from mmcore.state import MEMORY
from mmcore.walk import walk

_PASS, _TAKE, _LOOK, _LOOK_AT_ALL = 0, 1, 2, 3
_EVER = -1  # before all epochs


@kernel
def _later(mem, frame, since):  # type: ignore[no-untyped-def]
    return since < 0 or mem.epoch[frame] > since


@kernel
def _absent_after(mem, slot):  # type: ignore[no-untyped-def]
    # How many of the following entries in the same table are not present.  Mapped pages lie far apart, and one descent
    # for each absent entry would take longer than the rest of the walk.
    last, first = slot | (ENTRY_COUNT - 1), slot
    while slot < last and not mem.entries[slot + 1] & P:
        slot += 1
    return slot - first


@kernel
def _descend(mem, root, since, va):  # type: ignore[no-untyped-def]
    # (what to do, the PT to look through, the end of the addresses to which this applies)
    frame, end = root, va
    for level in range(ROOT_LEVEL, 1, -1):
        slot = slot_of(frame, va, level)
        entry = mem.entries[slot]
        frame = frame_of(entry)
        end = (va & -span(level)) + span(level)
        if not entry & P:
            return _PASS, frame, end + span(level) * _absent_after(mem, slot)
        if not _later(mem, frame, since):
            return _PASS, frame, end
        if entry & HUGE == HUGE:
            return _TAKE, frame, end
    return _LOOK_AT_ALL if entry & WHOLE else _LOOK, frame, end


@linked(int64(MEMORY, int64, int64, int64, int64, int64[::1]))
def next_changed(mem, root, since, va, limit, out):  # type: ignore[no-untyped-def]
    """Find the next run of consecutive pages at or after `va` that are stamped later than epoch `since`.

    out[0] is its first address, out[1] its number of pages, at most `limit`; the next call continues a longer run.
    Returns out[1], which is 0 if there is none.  A table stamped `since` or earlier is skipped with all below it.
    """
    out[0] = VA_LIMIT
    out[1] = 0
    while va < VA_LIMIT and out[1] < limit:
        what, pt, end = _descend(mem, root, since, va)
        if what == _PASS:
            if out[1] > 0:
                break
            va = end
        elif what == _TAKE:
            pages = min((end - va) >> PAGE_SHIFT, limit - out[1])
            if out[1] == 0:
                out[0] = va
            out[1] += pages
            va += pages * PAGE_SIZE
        from_ = _EVER if what == _LOOK_AT_ALL else since
        while va < end and out[1] < limit:
            entry = mem.entries[slot_of(pt, va, 1)]
            if entry & P and _later(mem, frame_of(entry), from_):
                if out[1] == 0:
                    out[0] = va
                out[1] += 1
            elif out[1] > 0:
                return out[1]
            va += PAGE_SIZE
    return out[1]


@linked(int64(MEMORY, int64, int64, int64, int64[::1]))
def next_run(mem, root, va, limit, out):  # type: ignore[no-untyped-def]
    """As next_changed, but for all mapped pages."""
    return next_changed(mem, root, _EVER, va, limit, out)


@linked(int64(MEMORY, int64, int64, int64, int64, int64))
def next_mapping(mem, root, va, end, frame, wanted):  # type: ignore[no-untyped-def]
    """The first page in [va, end) that maps `frame`, or does not if `wanted` is 0; `end` if there is none.

    All of [va, end) is mapped.  A huge page does not count as mapping a single frame.
    """
    while va < end:
        pt = walk(mem, root, va, 1)
        stop = min(end, (va & -PT_SPAN) + PT_SPAN)
        if pt == HUGE_PAGE:
            if wanted == 0:
                return va
            va = stop
        while va < stop:
            if (frame_of(mem.entries[slot_of(pt, va, 1)]) == frame) == (wanted != 0):
                return va
            va += PAGE_SIZE
    return end


@kernel
def _frames_from(mem, root, va, end):  # type: ignore[no-untyped-def]
    # (frame of the page at `va`, how many pages from there on lie in it and the frames behind it); 0 pages if the page
    # is not mapped.
    pt = walk(mem, root, va, 1)
    if pt == HUGE_PAGE:
        stop = min(end, (va & -PT_SPAN) + PT_SPAN)
        return walk(mem, root, va, 0), (stop - va) >> PAGE_SHIFT
    if pt < 0:
        return int64(0), int64(0)
    entry = mem.entries[slot_of(pt, va, 1)]
    return frame_of(entry), int64(1) if entry & P else int64(0)


@linked(int64(MEMORY, int64, int64, int64, uint8[::1], int64))
def gather(mem, root, va, pages, out, offset):  # type: ignore[no-untyped-def]
    """Copy `pages` pages from `va` on to out[offset:].  Returns `pages`, or NOT_PRESENT if one is not mapped."""
    end = va + pages * PAGE_SIZE
    while va < end:
        frame, count = _frames_from(mem, root, va, end)
        if count == 0:
            return NOT_PRESENT
        copy_bytes(out, offset, mem.bytes, frame << PAGE_SHIFT, count << PAGE_SHIFT)
        offset += count << PAGE_SHIFT
        va += count << PAGE_SHIFT
    return pages


@linked(int64(MEMORY, int64, int64, int64, int64[::1], int64))
def list_frames(mem, root, va, pages, out, at):  # type: ignore[no-untyped-def]
    """Put the frames of `pages` pages from `va` on into out[at:].  Returns `pages`, or NOT_PRESENT as `gather`."""
    end = va + pages * PAGE_SIZE
    while va < end:
        frame, count = _frames_from(mem, root, va, end)
        if count == 0:
            return NOT_PRESENT
        for i in range(count):
            out[at + i] = frame + i
        at += count
        va += count << PAGE_SHIFT
    return pages


@linked(void(MEMORY, int64[::1], int64, int64, uint8[::1], int64))
def copy_frames(mem, frames, first, count, out, offset):  # type: ignore[no-untyped-def]
    """Copy the frames frames[first : first + count] to out[offset:].

    It follows no entry.  So it is safe even after the root was released; it then copies bytes that mean nothing.
    """
    for number in range(first, first + count):
        copy_bytes(out, offset, mem.bytes, frames[number] << PAGE_SHIFT, PAGE_SIZE)
        offset += PAGE_SIZE
