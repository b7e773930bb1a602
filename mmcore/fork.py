"""Fork: one algorithm with one parameter, the level at which sharing begins.

The fork copies the tables above that level.  Parent and child share the tables or pages at that level: each gains one
reference, and R/W is cleared in both entries that point at it, so that the first write through it faults.

    mode        copied at fork         shared         cost at fork
    CLASSIC     PML4, PDPT, PD, PT     pages          an entry and a count per page
    ON_DEMAND   PML4, PDPT, PD         page tables    an entry and a count per 2 MiB (Zhao, Gong, Fonseca, EuroSys 2021)
    CONSTANT    PML4                   PDPTs          the PML4, whatever the size

A huge page is shared in every mode: it gains one reference, and R/W is cleared in both PDEs.  An on-demand fork shares
a PD whole if its first entry maps a huge page: such a PD is the last level of tables, as a PT is elsewhere.

(6) No write translation made before a fork survives it: a new generation flushes the parent's TLB.

A fork ends the epoch.  Parent and child continue in a new one, which no other space of this memory has had.  Copied
tables keep the stamp of the original, since nothing in them has changed.
"""

from mmcore.errors import NO_FRAME
from mmcore.frames import frame_alloc, frame_copy, has_frames
from mmcore.jit import int64, kernel, linked
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, HUGE, ROOT_LEVEL, RW, entry_for, flags_of, frame_of
from mmcore.state import CR3, EPOCH, FORK_STACK, FORK_TABLES, FORKS, LAST_EPOCH, SPACE, UNSHARED_TO
from mmcore.tables import count_tables_in, next_child, set_entry, share_children, share_entry
from mmcore.tlb import tlb_flush

CLASSIC = 0
ON_DEMAND = 1
CONSTANT = 2
MODES = 3
SHARED_LEVEL = (0, 1, 3)  # by mode, the level that sharing begins at: 0 are pages, 1 PTs, 3 PDPTs


@kernel
def _child(mem, table, index):  # type: ignore[no-untyped-def]
    return frame_of(mem.entries[(table << ENTRY_SHIFT) + index])


@kernel
def _begins_huge(mem, pd):  # type: ignore[no-untyped-def]
    # Whether the first entry of a PD maps a huge page.
    pde = next_child(mem, pd, 0)
    return pde < ENTRY_COUNT and mem.entries[(pd << ENTRY_SHIFT) + pde] & HUGE == HUGE


@kernel
def _copies_pd(mem, pd, shared):  # type: ignore[no-untyped-def]
    # Whether a fork that shares from level `shared` on copies this PD.
    return shared == 0 or (shared == 1 and not _begins_huge(mem, pd))


@linked(int64(SPACE, int64))
def count_tables(space, shared):  # type: ignore[no-untyped-def]
    """The number of tables that a fork copies if it shares from level `shared` on."""
    mem, pml4 = space.mem, space.cpu[CR3]
    tables = 1
    if shared == 3:
        return tables
    pml4e = next_child(mem, pml4, 0)
    while pml4e < ENTRY_COUNT:
        pdpt = _child(mem, pml4, pml4e)
        tables += 1
        pdpte = next_child(mem, pdpt, 0)
        while pdpte < ENTRY_COUNT:
            pd = _child(mem, pdpt, pdpte)
            if _copies_pd(mem, pd, shared):
                tables += 1 + (count_tables_in(mem, pd) if shared == 0 else 0)
            pdpte = next_child(mem, pdpt, pdpte + 1)
        pml4e = next_child(mem, pml4, pml4e + 1)
    return tables


@kernel
def _push(mem, level, source, target):  # type: ignore[no-untyped-def]
    at = FORK_STACK + 3 * level
    mem.frames[at] = source
    mem.frames[at + 1] = target
    mem.frames[at + 2] = 0  # index of the next entry to look at


@kernel
def _table_copy(mem, source, level, shared):  # type: ignore[no-untyped-def]
    # A table whose children are shared is written by share_children; a table above it starts as a copy of the frame.
    copy = frame_alloc(mem, mem.epoch[source])
    if level - 1 > shared:
        frame_copy(mem, copy, source)
    return copy


@linked(int64(SPACE, int64))
def fork(space, mode):  # type: ignore[no-untyped-def]
    """Copy the space.  Returns the copy's PML4 frame, or NO_FRAME with nothing changed if its tables do not fit.

    The caller owns this root: it can make a space of it, or read it and pass it to release_step.
    """
    mem, cpu = space.mem, space.cpu
    shared = SHARED_LEVEL[mode]
    tables = count_tables(space, shared)
    if not has_frames(space, tables):
        return NO_FRAME
    root = _table_copy(mem, cpu[CR3], ROOT_LEVEL, shared)
    _push(mem, ROOT_LEVEL, cpu[CR3], root)
    level = ROOT_LEVEL
    while level <= ROOT_LEVEL:
        at = FORK_STACK + 3 * level
        source, target = mem.frames[at], mem.frames[at + 1]
        if level - 1 == shared:
            share_children(mem, source, target)
            level += 1
            continue
        index = next_child(mem, source, mem.frames[at + 2])
        if index == ENTRY_COUNT:
            level += 1
            continue
        mem.frames[at + 2] = index + 1
        slot, twin = (source << ENTRY_SHIFT) + index, (target << ENTRY_SHIFT) + index
        entry = mem.entries[slot]
        child = frame_of(entry)
        if entry & HUGE == HUGE or (level == 3 and not _copies_pd(mem, child, shared)):
            share_entry(mem, slot, twin)
            continue
        copy = _table_copy(mem, child, level - 1, shared)
        set_entry(mem, twin, entry_for(copy, flags_of(entry) | RW))
        level -= 1
        _push(mem, level, child, copy)
    mem.frames[LAST_EPOCH] += 1
    cpu[EPOCH] = mem.frames[LAST_EPOCH]
    space.processor[FORKS] += 1
    cpu[UNSHARED_TO] = 0
    space.processor[FORK_TABLES] += tables
    tlb_flush(space)
    return root
