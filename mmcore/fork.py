"""Fork: one algorithm, whose one parameter is the level at which sharing begins.

Tables above that level are copied now.  What stands at it is shared: its reference count goes up, and R/W is cleared
in the entry that points at it, in parent and child, so that the first write through it comes to the fault handler.

    mode        copied at fork         shared         cost at fork
    CLASSIC     PML4, PDPT, PD, PT     pages          an entry and a count per page
    ON_DEMAND   PML4, PDPT, PD         page tables    an entry and a count per 2 MiB (Zhao, Gong, Fonseca, EuroSys 2021)
    CONSTANT    PML4                   PDPTs          the PML4, whatever the size

A huge page is shared where it is met: a count, and R/W cleared in both PDEs.  On demand, a PD that begins with one is
shared whole, for it is then what a page table is elsewhere: the last level of tables.

(6) No write translation made before a fork survives it: the parent's TLB is flushed, by its generation.

A fork ends the epoch: parent and child go on in a new one, which no other space of this memory has had.  Copied
tables keep the stamp of what they are copied from, since nothing in them has changed.
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
    """Tables of the space that a fork copies which shares from level `shared` on."""
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
    # A table at which sharing begins is written entry by entry; of one above it only the children are.
    copy = frame_alloc(mem, mem.epoch[source])
    if level - 1 > shared:
        frame_copy(mem, copy, source)
    return copy


@linked(int64(SPACE, int64))
def fork(space, mode):  # type: ignore[no-untyped-def]
    """The PML4's frame of a copy of the space; NO_FRAME, with nothing changed, when its tables do not fit.

    The copy belongs to the caller, as a root to make a space of, or to read and hand to release_step.
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
