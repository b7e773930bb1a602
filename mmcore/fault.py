"""The fault handler: what a write does when it meets an entry without R/W.

One rule for every level.  Walking down from cr3, at an entry that lacks R/W look at what it points to:

    refcount 1    nobody shares it any more: set R/W
    more          copy it, publish the copy, lower the old count; the children of a copied table are counted once
                  more each, and write-protected in both copies, so the rule meets them one level down

(3) A page is writable iff R/W is set in every entry of its path.
(4) Pages below a shared table are counted once, by that table; counts move down only when the table is copied.
(5) Copy, then publish, then invalidate.  The frames that the whole path takes are counted before anything changes:
    when they are not there the old mapping stands, untouched.

Epochs.  Every fork ends an epoch by taking R/W from some entry of every path, so the first write to each page after
it comes here, and every frame of the path is stamped with the epoch under way.  Where a table gets its R/W back
without a copy its children may still have theirs from before the fork: a table stamped earlier takes R/W from its
children first, or their next writes would go unstamped.  Hence a table's stamp is never older than that of a table
below it.
"""

from numba import int64

from mmcore.errors import NO_FRAME, NOT_PRESENT
from mmcore.frames import frame_alloc, frame_alloc_zeroed, frame_copy, has_frames
from mmcore.jit import kernel, linked
from mmcore.paging import COW, MAPPING, NO_ENTRY, ROOT_LEVEL, RW, P, entry_for, frame_of, slot_of
from mmcore.state import (
    CR3,
    EPOCH,
    PAGES_COPIED,
    PAGES_REUSED,
    SPACE,
    TABLES_COPIED,
    TABLES_MADE,
    TABLES_REUSED,
    WRITE_FAULTS,
)
from mmcore.tables import protect_children, set_entry, share_children


@kernel
def break_sharing(space, slot, level):  # type: ignore[no-untyped-def]
    """Make what the entry at `slot`, in a private table of `level`, points to private; returns its frame.

    The frame that a copy takes must be free.
    """
    mem = space.mem
    entry = mem.entries[slot]
    assert entry & COW != NO_ENTRY, "a write to a mapping that allows none"
    frame = frame_of(entry)
    if mem.refcount[frame] > 1:
        copy = frame_alloc(mem, space.cpu[EPOCH])
        assert copy >= 0, "frames for a copy were not reserved"
        if level > 1:
            share_children(mem, frame, copy)
            space.cpu[TABLES_COPIED] += 1
        else:
            frame_copy(mem, copy, frame)
            space.cpu[PAGES_COPIED] += 1
        set_entry(mem, slot, entry_for(copy, MAPPING))
        mem.refcount[frame] -= 1
        return copy
    if level > 1:
        if mem.epoch[frame] < space.cpu[EPOCH]:
            protect_children(mem, frame)
        space.cpu[TABLES_REUSED] += 1
    else:
        space.cpu[PAGES_REUSED] += 1
    set_entry(mem, slot, entry | RW)
    return frame


@linked(int64(SPACE, int64, int64))
def own_path(space, va, level):  # type: ignore[no-untyped-def]
    """Make all tables of va's path down to `level` (0: and the page) private, stamp them, and make missing tables.

    Returns the frame at `level`, or NOT_PRESENT for a missing page.  The frames for it must be free.
    """
    mem = space.mem
    stamp = space.cpu[EPOCH]
    frame = space.cpu[CR3]
    mem.epoch[frame] = stamp
    for above in range(ROOT_LEVEL, level, -1):
        slot = slot_of(frame, va, above)
        entry = mem.entries[slot]
        if entry & RW:
            frame = frame_of(entry)
            assert mem.refcount[frame] == 1, "a shared frame is writable"
        elif entry & P:
            frame = break_sharing(space, slot, above)
        else:
            if above == 1:
                return NOT_PRESENT
            frame = frame_alloc_zeroed(mem, stamp)
            assert frame >= 0, "frames for a table were not reserved"
            set_entry(mem, slot, entry_for(frame, MAPPING))
            space.cpu[TABLES_MADE] += 1
        mem.epoch[frame] = stamp
    return frame


@linked(int64(SPACE, int64))
def write_fault(space, va):  # type: ignore[no-untyped-def]
    """Make va's page, which is mapped, writable; returns its frame, or NO_FRAME with nothing changed."""
    mem = space.mem
    frame = space.cpu[CR3]
    copies = 0
    for above in range(ROOT_LEVEL, 0, -1):
        frame = frame_of(mem.entries[slot_of(frame, va, above)])
        # Copying a table makes everything below it shared.
        if copies > 0 or mem.refcount[frame] > 1:
            copies += 1
    if not has_frames(space, copies):
        return NO_FRAME
    space.cpu[WRITE_FAULTS] += 1
    return own_path(space, va, 0)
