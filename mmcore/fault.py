"""The fault handler: what a write does when it meets an entry without R/W.

One rule for every level.  Walking down from cr3, at an entry that lacks R/W look at what it points to:

    refcount 1    nobody shares it any more: set R/W
    more          copy it, publish the copy, lower the old count; the children of a copied table are counted once
                  more each, and write-protected in both copies, so the rule meets them one level down

A huge page is a page of 2 MiB: its copy takes a run.

(3) A page is writable iff R/W is set in every entry of its path.
(4) Pages below a shared table are counted once, by that table; counts move down only when the table is copied.
(5) Copy, then publish, then invalidate.  The frames that the whole path takes are counted before anything changes:
    when they are not there the old mapping stands, untouched.

(10) A is set in every entry that a translation went through, D in the one that maps a page that was written.  The
    TLB serves writes only to pages with D.  A copied table or page keeps the A and D of what it is copied from.

Epochs.  Every fork ends an epoch by taking R/W from some entry of every path, so the first write to each page after
it comes here, and every frame of the path is stamped with the epoch under way.  Where a table gets its R/W back
without a copy its children may still have theirs from before the fork: a table stamped earlier takes R/W from its
children first, or their next writes would go unstamped.  Hence a table's stamp is never older than that of a table
below it.
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
    """Make what the entry at `slot`, in a private table of `level`, points to private; returns its frame.

    The frames that a copy takes must be free.
    """
    entry = space.mem.entries[slot]
    assert entry & COW != NO_ENTRY, "a write to a mapping that allows none"
    if level == 1:
        return _break_page(space, slot)
    if entry & PS:
        return break_huge(space, slot)
    return _break_table(space, slot)


@linked(int64(SPACE, int64, int64))
def own_path(space, va, level):  # type: ignore[no-untyped-def]
    """Make all tables of va's path down to `level` (0: and the page) private, stamp them, and make missing tables.

    Returns the frame at `level`, or NOT_PRESENT for a missing page.  The frames for it must be free.  A huge page is
    at level 0; no PT is made where one stands (see own_table).
    """
    mem = space.mem
    stamp = space.cpu[EPOCH]
    frame = space.cpu[CR3]
    mem.epoch[frame] = stamp
    forget = False
    for above in range(ROOT_LEVEL, level, -1):
        slot = slot_of(frame, va, above)
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
    """own_path down to va's PT, where a huge page may stand: that is split into the pages it is made of.

    It has to be private first, which is a copy of 2 MiB when it is shared: the other sharers go on having it whole.
    Its pages keep its stamp; where that is of an earlier epoch the next write to each has to fault.
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
    """Set A in every entry of va's path, and D in the last one when it was written (1), as the processor does."""
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
    """Make va's page, which is mapped, writable; returns its frame, or NO_FRAME with nothing changed."""
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
