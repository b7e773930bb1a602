"""Mapping: which pages an address space has.

Ranges are page-aligned, not empty and within the lower canonical half; space.py checks this for callers from outside.
Every kernel here counts the frames it will need, including tables and copies of shared tables, before it changes
anything: NO_FRAME means that nothing has changed.

A table is made private before one of its entries changes.  If an unmapping covers a whole shared table, the space drops
its reference without a copy.  A table that becomes empty is freed.  A huge page is unmapped or moved whole.  It is
split into pages first (fault.own_table) if only a part of it goes, or if its new address cannot hold a huge page.
A page table that moves whole, between addresses aligned alike, moves by one entry of a PD (see WHOLE in fault.py).
"""

from mmcore.errors import ALREADY_MAPPED, HUGE_PAGE, NO_FRAME
from mmcore.fault import own_path, own_table
from mmcore.frames import frame_alloc_zeroed, frame_drop, has_frames, reserve, run_alloc, run_drop
from mmcore.jit import int64, kernel, linked
from mmcore.paging import (
    ENTRY_COUNT,
    HUGE,
    HUGE_MASK,
    HUGE_SIZE,
    MAPPING,
    NO_ENTRY,
    PAGE_SIZE,
    PS,
    PT_SPAN,
    ROOT_LEVEL,
    RUN_FRAMES,
    WHOLE,
    P,
    entry_for,
    frame_of,
    slot_of,
    span,
    table_index,
)
from mmcore.psc import psc_forget
from mmcore.state import CR3, EPOCH, PAGES_MAPPED, PAGES_UNMAPPED, SPACE, TABLES_DROPPED
from mmcore.tables import next_child, set_entry
from mmcore.tlb import invlpg, tlb_flush
from mmcore.walk import huge_at, walk

_FLUSH_PAGES = 512  # from this many pages on, unmapping flushes the whole TLB


@kernel
def block_end(va, end):  # type: ignore[no-untyped-def]
    """The end of va's 2 MiB block, or the end of the range if that comes first."""
    return min(end, (va & -PT_SPAN) + PT_SPAN)


@kernel
def whole_block(va, end):  # type: ignore[no-untyped-def]
    """Whether va's 2 MiB block begins at `va` and ends within the range."""
    return va & HUGE_MASK == 0 and va + HUGE_SIZE <= end


@linked(int64(SPACE, int64, int64))
def next_mapped(space, va, end):  # type: ignore[no-untyped-def]
    """The first mapped page of [va, end), or `end`."""
    mem = space.mem
    while va < end:
        table, level = space.cpu[CR3], ROOT_LEVEL
        while True:
            entry = mem.entries[slot_of(table, va, level)]
            if not entry & P:
                va = min(end, (va & -span(level)) + span(level))
                break
            if level == 1 or entry & HUGE == HUGE:
                return va
            table = frame_of(entry)
            level -= 1
    return end


@linked(int64(SPACE, int64, int64))
def next_unmapped(space, va, end):  # type: ignore[no-untyped-def]
    """The first page of [va, end) that is not mapped, or `end`."""
    mem = space.mem
    while va < end:
        pt = walk(mem, space.cpu[CR3], va, 1)
        stop = block_end(va, end)
        if pt == HUGE_PAGE:
            va = stop
        elif pt < 0:
            return va
        while va < stop:
            if not mem.entries[slot_of(pt, va, 1)] & P:
                return va
            va += PAGE_SIZE
    return end


@linked(int64(SPACE, int64, int64, int64))
def tables_to_own(space, va, end, level):  # type: ignore[no-untyped-def]
    """Frames that own_path down to `level` needs for all of [va, end): missing tables, and copies of shared ones."""
    mem = space.mem
    start = va
    frames = 0
    while va < end:
        frame = space.cpu[CR3]
        taking = False  # everything below a missing table is missing, everything below a shared one is shared
        present = True
        for above in range(ROOT_LEVEL, level, -1):
            if present:
                entry = mem.entries[slot_of(frame, va, above)]
                if entry & HUGE == HUGE:
                    break
                present = entry & P != NO_ENTRY
                frame = frame_of(entry)
                if not present or mem.refcount[frame] > 1:
                    taking = True
            # Count each table once, at the first address of the range that it maps.
            if taking and (va == start or va & (span(above) - 1) == 0):
                frames += 1
        va = block_end(va, end)
    return frames


@kernel
def can_have(space, frames, runs):  # type: ignore[no-untyped-def]
    """Whether `runs` runs and, in addition, `frames` frames are available."""
    return has_frames(space, frames) if runs == 0 else reserve(space.mem, runs, frames)


@kernel
def _to_map(space, va, end, huge):  # type: ignore[no-untyped-def]
    # (frames, runs) that mapping [va, end) needs; tables are not counted if the pages alone are too many.
    count = (end - va) // PAGE_SIZE
    tables = tables_to_own(space, va, end, 1 + huge) if has_frames(space, count) else 0
    return (tables, count // RUN_FRAMES) if huge != 0 else (count + tables, 0)


@linked(int64(SPACE, int64, int64))
def map_pages(space, va, count):  # type: ignore[no-untyped-def]
    """Map `count` pages of zeros at `va`.  Returns 0, or ALREADY_MAPPED or NO_FRAME with nothing changed.

    Frames never used before are assigned in the order of the pages.
    """
    mem = space.mem
    end = va + count * PAGE_SIZE
    if next_mapped(space, va, end) != end:
        return ALREADY_MAPPED
    frames, runs = _to_map(space, va, end, 0)
    if not can_have(space, frames, runs):
        return NO_FRAME
    # Allocate all tables first, so that the frames of the pages are contiguous.
    block = va
    while block < end:
        own_path(space, block, 1)
        block = block_end(block, end)
    while va < end:
        pt = walk(mem, space.cpu[CR3], va, 1)
        stop = block_end(va, end)
        while va < stop:
            frame = frame_alloc_zeroed(mem, space.cpu[EPOCH])
            set_entry(mem, slot_of(pt, va, 1), entry_for(frame, MAPPING))
            va += PAGE_SIZE
    space.processor[PAGES_MAPPED] += count
    return 0


@linked(int64(SPACE, int64, int64))
def map_huge(space, va, count):  # type: ignore[no-untyped-def]
    """Map `count` huge pages of zeros at `va`.  Returns 0, or ALREADY_MAPPED or NO_FRAME with nothing changed."""
    mem = space.mem
    end = va + count * HUGE_SIZE
    if next_mapped(space, va, end) != end:
        return ALREADY_MAPPED
    frames, runs = _to_map(space, va, end, 1)
    if not can_have(space, frames, runs):
        return NO_FRAME
    while va < end:
        head = run_alloc(mem, space.cpu[EPOCH], 1)
        set_entry(mem, slot_of(own_path(space, va, 2), va, 2), entry_for(head, MAPPING | PS))
        va += HUGE_SIZE
    space.processor[PAGES_MAPPED] += count * RUN_FRAMES
    return 0


@kernel
def _tables_to_cut(space, va, end):  # type: ignore[no-untyped-def]
    """Frames that unmapping [va, end) needs: copies of shared tables that stay in part, at the range's two edges."""
    mem = space.mem
    frames = 0
    last = end - PAGE_SIZE
    for edge in range(2):
        page = va if edge == 0 else last
        table = space.cpu[CR3]
        shared = False
        for level in range(ROOT_LEVEL, 1, -1):
            start = page & -span(level)
            entry = mem.entries[slot_of(table, page, level)]
            if not entry & P or (start >= va and start + span(level) <= end):
                break
            table = frame_of(entry)
            shared = shared or mem.refcount[table] > 1
            if entry & HUGE == HUGE:
                break
            if shared and (edge == 0 or start > va):
                frames += 1
    return frames


@kernel
def _splits(space, va, end, block):  # type: ignore[no-untyped-def]
    # (whether unmapping [va, end) splits the huge page at `block`, whether it copies that page first)
    huge, shared = huge_at(space.mem, space.cpu[CR3], block)
    split = huge and not (va <= block and block + HUGE_SIZE <= end)
    return int64(split), int64(split and shared)


@kernel
def _to_cut(space, va, end):  # type: ignore[no-untyped-def]
    # (frames, runs) that unmapping [va, end) needs.
    first, last = va & -HUGE_SIZE, (end - 1) & -HUGE_SIZE
    tables, runs = _splits(space, va, end, first)
    if last != first:
        more_tables, more_runs = _splits(space, va, end, last)
        tables += more_tables
        runs += more_runs
    return tables + _tables_to_cut(space, va, end), runs


@linked(int64(SPACE, int64))
def prune(space, va):  # type: ignore[no-untyped-def]
    """Free va's PT if it is empty, then likewise the tables above it.  They must be private.  Returns how many."""
    mem = space.mem
    freed = 0
    for level in range(1, ROOT_LEVEL):
        table = walk(mem, space.cpu[CR3], va, level)
        if table >= 0:
            if next_child(mem, table, 0) < ENTRY_COUNT:
                break
            parent = walk(mem, space.cpu[CR3], va, level + 1)
            set_entry(mem, slot_of(parent, va, level + 1), NO_ENTRY)
            frame_drop(mem, table)
            freed += 1
    if freed > 0:
        psc_forget(space, va)
    return freed


@kernel
def _cut_block(space, va, end):  # type: ignore[no-untyped-def]
    """Unmap from `va` to the end of its PT, whole shared table, huge page or hole; returns that end."""
    mem = space.mem
    table = space.cpu[CR3]
    shared = False
    for level in range(ROOT_LEVEL, 1, -1):
        entry = mem.entries[slot_of(table, va, level)]
        stop = (va & -span(level)) + span(level)
        if not entry & P:
            return min(stop, end)
        table = frame_of(entry)
        shared = shared or mem.refcount[table] > 1
        huge = entry & HUGE == HUGE
        if (shared or huge) and va & (span(level) - 1) == 0 and stop <= end:
            set_entry(mem, slot_of(own_path(space, va, level), va, level), NO_ENTRY)
            if huge:
                run_drop(mem, table)
                space.processor[PAGES_UNMAPPED] += RUN_FRAMES
            else:
                frame_drop(mem, table)
                space.processor[TABLES_DROPPED] += 1
            prune(space, va)
            return stop
    table = own_table(space, va)
    stop = block_end(va, end)
    page = va
    while page < stop:
        slot = slot_of(table, page, 1)
        entry = mem.entries[slot]
        if entry & P:
            set_entry(mem, slot, NO_ENTRY)
            frame_drop(mem, frame_of(entry))
            invlpg(space, page)
            space.processor[PAGES_UNMAPPED] += 1
        page += PAGE_SIZE
    prune(space, va)
    return stop


@linked(int64(SPACE, int64, int64))
def unmap_pages(space, va, count):  # type: ignore[no-untyped-def]
    """Unmap the mapped ones of the `count` pages at `va`.  Returns 0, or NO_FRAME with nothing changed."""
    end = va + count * PAGE_SIZE
    frames, runs = _to_cut(space, va, end)
    if not can_have(space, frames, runs):
        return NO_FRAME
    while va < end:
        va = _cut_block(space, va, end)
    if count >= _FLUSH_PAGES:
        tlb_flush(space)
    return 0


@kernel
def to_move(space, old, end, new):  # type: ignore[no-untyped-def]
    """(frames, runs) that moving or sharing [old, end) needs; a table that serves both ranges may be counted twice."""
    tables = tables_to_own(space, old, end, 1) + tables_to_own(space, new, new + end - old, 1)
    runs = 0
    block = old
    while block < end:
        huge, shared = huge_at(space.mem, space.cpu[CR3], block)
        if huge and not (whole_block(block, end) and (old ^ new) & HUGE_MASK == 0):
            tables += 1
            runs += int64(shared)
        block = block_end(block, end)
    return tables, runs


@kernel
def _reserve_to_remap(space, old, count, new, new_count, huge):  # type: ignore[no-untyped-def]
    # Whether the frames that remap_pages needs are available; a huge page that is kept in part is counted twice.
    kept = min(count, new_count) * PAGE_SIZE
    frames, runs = to_move(space, old, old + kept, new)
    if count > new_count:
        more_frames, more_runs = _to_cut(space, old + kept, old + count * PAGE_SIZE)
    else:
        more_frames, more_runs = _to_map(space, new + kept, new + new_count * PAGE_SIZE, huge)
    return can_have(space, frames + more_frames, runs + more_runs)


@kernel
def _move_entry(space, source, target):  # type: ignore[no-untyped-def]
    mem = space.mem
    entry = mem.entries[source]
    set_entry(mem, source, NO_ENTRY)
    set_entry(mem, target, entry)
    # The contents at `target` have changed.  Another space that shares the frame may have given it a later stamp.
    frame = frame_of(entry)
    mem.epoch[frame] = max(mem.epoch[frame], space.cpu[EPOCH])


@kernel
def _move_table(space, old, new):  # type: ignore[no-untyped-def]
    # Move the PT of the 2 MiB at `old` to `new`, where none is.
    mem = space.mem
    own_path(space, old, 1)  # stamps it
    source = slot_of(own_path(space, old, 2), old, 2)
    target = slot_of(own_path(space, new, 2), new, 2)
    entry = mem.entries[source]
    set_entry(mem, source, NO_ENTRY)
    set_entry(mem, target, entry | WHOLE)


@kernel
def _move_pages(space, old, end, new):  # type: ignore[no-untyped-def]
    # Move the pages of [old, end) to `new`; the frames are reserved.
    mem = space.mem
    first = old
    while old < end:
        whole = whole_block(old, end) and new & HUGE_MASK == 0
        if whole and walk(mem, space.cpu[CR3], old, 1) == HUGE_PAGE:
            source = slot_of(own_path(space, old, 2), old, 2)
            _move_entry(space, source, slot_of(own_path(space, new, 2), new, 2))
            moved = HUGE_SIZE
        elif whole:
            _move_table(space, old, new)
            moved = PT_SPAN
        else:
            source = slot_of(own_table(space, old), old, 1)
            _move_entry(space, source, slot_of(own_path(space, new, 1), new, 1))
            invlpg(space, old)
            moved = PAGE_SIZE
        old += moved
        new += moved
        if table_index(old, 1) == 0 or old == end:
            prune(space, old - PAGE_SIZE)
    if end - first >= HUGE_SIZE:
        tlb_flush(space)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def remap_pages(space, old, count, new, new_count, huge):  # type: ignore[no-untyped-def]
    """Move the entries of `count` pages from `old` to `new`.  0, or ALREADY_MAPPED or NO_FRAME with nothing changed.

    Afterwards `new_count` pages are mapped at `new`: surplus pages are unmapped, missing ones are zeros (huge: 1 for
    huge pages).  All of `old` is mapped, and the ranges are disjoint.  Only a shared huge page to be split is copied.
    """
    end = new + new_count * PAGE_SIZE
    if next_mapped(space, new, end) != end:
        return ALREADY_MAPPED
    if not _reserve_to_remap(space, old, count, new, new_count, huge):
        return NO_FRAME
    code = 0
    if count > new_count:
        code = unmap_pages(space, old + new_count * PAGE_SIZE, count - new_count)
    elif new_count > count and huge != 0:
        code = map_huge(space, new + count * PAGE_SIZE, (new_count - count) // RUN_FRAMES)
    elif new_count > count:
        code = map_pages(space, new + count * PAGE_SIZE, new_count - count)
    assert code == 0, "frames for a remapping were not reserved"
    _move_pages(space, old, old + min(count, new_count) * PAGE_SIZE, new)
    return 0


@linked(int64(SPACE, int64))
def load_cr3(space, root):  # type: ignore[no-untyped-def]
    """Make `root` the root of the space, in O(1).  Returns the old root, whose reference now belongs to the caller."""
    old = space.cpu[CR3]
    space.cpu[CR3] = root
    tlb_flush(space)
    return old


@linked(int64(SPACE))
def reset(space):  # type: ignore[no-untyped-def]
    """Empty the space in O(1).  Returns the old root, for release_step, or NO_FRAME with nothing changed."""
    root = frame_alloc_zeroed(space.mem, space.cpu[EPOCH])
    if root < 0:
        return NO_FRAME
    return load_cr3(space, root)


@linked(int64(SPACE, int64, int64, int64[::1]))
def frames_of_run(space, va, pages, out):  # type: ignore[no-untyped-def]
    """Write the frames of `pages` pages from `va` on to `out`, up to the first unmapped page.  Returns how many."""
    mem = space.mem
    count = 0
    end = va + pages * PAGE_SIZE
    while va < end:
        frame = walk(mem, space.cpu[CR3], va, 0)
        if frame < 0:
            break
        out[count] = frame
        count += 1
        va += PAGE_SIZE
    return count
