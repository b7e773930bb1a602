"""The fault handler: it runs when a write finds an entry without R/W.

One rule applies at every level.  The handler walks down from cr3.  At an entry without R/W, it looks at the frame that
the entry points at:

    refcount 1    nobody shares it any more: set R/W
    more          copy it, publish the copy, lower the old count; each child of a copied table gains one reference and
                  is write-protected in both copies, so the same rule applies to it one level down

A huge page is a page of 2 MiB: its copy needs a run.

(3) A page is writable iff R/W is set in every entry of its path.
(4) Pages below a shared table are counted once, by that table; counts move down only when the table is copied.
(5) Copy, then publish, then invalidate.  The handler counts the frames that the whole path needs before it changes
    anything.  If too few are free, the old mapping stays as it was.

(10) A is set in every entry that a translation went through, D in the entry that maps a written page.  The TLB serves
    writes only to pages with D.  A copied table or page keeps the A and D of the original.

Epochs.  Every fork ends an epoch: it clears R/W in some entry of every path.  The first write to each page after the
fork therefore faults, and the handler stamps every frame of the path with the current epoch.  When a table gets R/W
back without a copy, its children may still have R/W from before the fork, and writes through them would go unstamped.
So the handler first clears R/W in the children of a table that was stamped in an earlier epoch.  Hence the stamp of a
table is never older than that of a table below it.

A whole PT that is moved or shared within a space (mapping.py, share.py) brings 512 pages to an address at once.  Their
PDE gets WHOLE, and the PT is stamped: the pages count as changed in the epoch of that stamp.  Before the PT is stamped
in a later epoch, own_path gives the pages the old stamp and clears WHOLE.
"""

from mmcore.errors import NO_FRAME, NOT_PRESENT
from mmcore.frames import (
    frame_alloc,
    frame_alloc_zeroed,
    frame_copy,
    has_frames,
    reserve,
    run_alloc,
    run_copy,
    run_drop,
)
from mmcore.jit import int64, kernel, linked, void
from mmcore.paging import (
    COW,
    ENTRY_COUNT,
    HUGE,
    MAPPING,
    NO_ENTRY,
    PS,
    ROOT_LEVEL,
    RW,
    TRACES,
    WHOLE,
    WRITE_PROTECT,
    A,
    P,
    entry_for,
    flags_of,
    frame_of,
    slot_of,
    table_index,
)
from mmcore.psc import psc_forget
from mmcore.state import (
    CR3,
    EPOCH,
    HUGE_COPIED,
    HUGE_REUSED,
    HUGE_SPLIT,
    MEMORY,
    PAGES_COPIED,
    PAGES_REUSED,
    SPACE,
    TABLES_COPIED,
    TABLES_MADE,
    TABLES_REUSED,
    WRITE_FAULTS,
)
from mmcore.tables import protect_children, set_entry, share_children
from mmcore.tlb import tlb_flush


@kernel
def _break_table(space, slot):  # type: ignore[no-untyped-def]
    # break_sharing of a table.
    mem = space.mem
    entry = mem.entries[slot]
    frame = frame_of(entry)
    if mem.refcount[frame] == 1:
        if mem.epoch[frame] < space.cpu[EPOCH]:
            protect_children(mem, frame)
        space.processor[TABLES_REUSED] += 1
        set_entry(mem, slot, entry | RW)
        return frame
    copy = frame_alloc(mem, space.cpu[EPOCH])
    assert copy >= 0, "frames for a copy were not reserved"
    share_children(mem, frame, copy)
    space.processor[TABLES_COPIED] += 1
    set_entry(mem, slot, entry_for(copy, flags_of(entry) | RW))
    mem.refcount[frame] -= 1
    return copy


@kernel
def _break_page(space, slot):  # type: ignore[no-untyped-def]
    # break_sharing of a page.
    mem = space.mem
    entry = mem.entries[slot]
    frame = frame_of(entry)
    flags = flags_of(entry) | RW
    if mem.refcount[frame] == 1:
        space.processor[PAGES_REUSED] += 1
        set_entry(mem, slot, entry_for(frame, flags))
        return frame
    copy = frame_alloc(mem, space.cpu[EPOCH])
    assert copy >= 0, "frames for a copy were not reserved"
    frame_copy(mem, copy, frame)
    space.processor[PAGES_COPIED] += 1
    set_entry(mem, slot, entry_for(copy, flags))
    mem.refcount[frame] -= 1
    return copy


@linked(int64(SPACE, int64))
def break_huge(space, slot):  # type: ignore[no-untyped-def]
    """break_sharing of a huge page; the run for a copy is reserved."""
    mem = space.mem
    entry = mem.entries[slot]
    head = frame_of(entry)
    flags = flags_of(entry) | RW
    if mem.refcount[head] == 1:
        space.processor[HUGE_REUSED] += 1
        set_entry(mem, slot, entry_for(head, flags))
        return head
    copy = run_alloc(mem, space.cpu[EPOCH], 0)
    run_copy(mem, copy, head)
    space.processor[HUGE_COPIED] += 1
    set_entry(mem, slot, entry_for(copy, flags))
    run_drop(mem, head)
    tlb_flush(space)  # it may have translations for any of the 512 pages
    return copy


@kernel
def break_sharing(space, slot, level):  # type: ignore[no-untyped-def]
    """Make the target of the entry at `slot`, which is in a private table of `level`, private.  Returns its frame.

    The frames that a copy needs must be free.
    """
    entry = space.mem.entries[slot]
    assert entry & COW != NO_ENTRY, "a write to a mapping that allows none"
    if level == 1:
        return _break_page(space, slot)
    if entry & PS:
        return break_huge(space, slot)
    return _break_table(space, slot)


@linked(void(MEMORY, int64))
def stamp_pages(mem, slot):  # type: ignore[no-untyped-def]
    """Give the pages below the PDE at `slot`, in a private table, the stamp of their PT, and clear WHOLE."""
    entry = mem.entries[slot]
    stamp, first = mem.epoch[frame_of(entry)], slot_of(frame_of(entry), 0, 1)
    for child in range(first, first + ENTRY_COUNT):
        if mem.entries[child] & P:
            page = frame_of(mem.entries[child])
            mem.epoch[page] = max(mem.epoch[page], stamp)
    set_entry(mem, slot, entry & ~WHOLE)


@linked(int64(SPACE, int64, int64))
def own_path(space, va, level):  # type: ignore[no-untyped-def]
    """Make all tables of va's path down to `level` (0: and the page) private, stamp them, and create missing tables.

    Returns the frame at `level`, or NOT_PRESENT for a missing page.  The frames that this needs must be free.  A huge
    page counts as level 0; own_path creates no PT in its place (see own_table).
    """
    mem = space.mem
    stamp = space.cpu[EPOCH]
    frame = space.cpu[CR3]
    mem.epoch[frame] = stamp
    forget = False
    for above in range(ROOT_LEVEL, level, -1):
        slot = slot_of(frame, va, above)
        entry = mem.entries[slot]
        if entry & WHOLE and mem.epoch[frame_of(entry)] < stamp:
            stamp_pages(mem, slot)
            entry = mem.entries[slot]
        if entry & RW:
            frame = frame_of(entry)
            assert mem.refcount[frame] == 1, "a shared frame is writable"
        elif entry & P:
            frame = break_sharing(space, slot, above)
            forget = True
        else:
            if above == 1:
                return NOT_PRESENT
            frame = frame_alloc_zeroed(mem, stamp)
            assert frame >= 0, "frames for a table were not reserved"
            set_entry(mem, slot, entry_for(frame, MAPPING))
            space.processor[TABLES_MADE] += 1
        mem.epoch[frame] = stamp
        if entry & HUGE == HUGE:
            assert level == 0, "a huge page stands where a PT is wanted"
            frame += table_index(va, 1)
            break
    if forget:
        psc_forget(space, va)
    return frame


@linked(int64(SPACE, int64))
def own_table(space, va):  # type: ignore[no-untyped-def]
    """own_path down to va's PT; a huge page in its place is split into pages of 4 KiB.

    A shared huge page is copied first, all 2 MiB of it; the other sharers keep the original whole.  The pages keep the
    stamp of the huge page.  If that is from an earlier epoch, the next write to each of them must fault.
    """
    mem = space.mem
    slot = slot_of(own_path(space, va, 2), va, 2)
    entry = mem.entries[slot]
    if entry & HUGE != HUGE:
        return own_path(space, va, 1)
    stamp = mem.epoch[frame_of(entry)]
    own_path(space, va, 0)
    head = frame_of(mem.entries[slot])
    pt = frame_alloc(mem, space.cpu[EPOCH])
    assert pt >= 0, "a frame for a table was not reserved"
    flags = flags_of(mem.entries[slot]) & ~PS
    if stamp < space.cpu[EPOCH]:
        flags &= WRITE_PROTECT
    for i in range(ENTRY_COUNT):
        mem.epoch[head + i] = stamp
        set_entry(mem, slot_of(pt, 0, 1) + i, entry_for(head + i, flags))
    set_entry(mem, slot, entry_for(pt, MAPPING | (entry & A)))
    space.processor[HUGE_SPLIT] += 1
    return pt


@linked(void(SPACE, int64, int64))
def mark_used(space, va, written):  # type: ignore[no-untyped-def]
    """Set A in every entry of va's path and, if `written` is 1, D in the last one, as the processor does."""
    mem = space.mem
    frame = space.cpu[CR3]
    for above in range(ROOT_LEVEL, 0, -1):
        slot = slot_of(frame, va, above)
        entry = mem.entries[slot]
        last = above == 1 or entry & HUGE == HUGE
        marked = entry | (TRACES if last and written != 0 else A)
        if marked != entry:
            set_entry(mem, slot, marked)
        if last:
            break
        frame = frame_of(entry)


@linked(int64(SPACE, int64))
def write_fault(space, va):  # type: ignore[no-untyped-def]
    """Make va's mapped page writable.  Returns its frame, or NO_FRAME with nothing changed."""
    mem = space.mem
    frame = space.cpu[CR3]
    copies = 0
    huge = False
    for above in range(ROOT_LEVEL, 0, -1):
        if not huge:
            entry = mem.entries[slot_of(frame, va, above)]
            frame = frame_of(entry)
            # Copying a table makes everything below it shared.
            if copies > 0 or mem.refcount[frame] > 1:
                copies += 1
            huge = entry & HUGE == HUGE
    if huge and copies > 0:
        if not reserve(mem, 1, copies - 1):
            return NO_FRAME
    elif not has_frames(space, copies):
        return NO_FRAME
    space.processor[WRITE_FAULTS] += 1
    return own_path(space, va, 0)
