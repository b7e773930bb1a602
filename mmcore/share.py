"""Sharing within a space: the pages of one range appear in a second range too, copy-on-write, as a fork shares a space.

Where both ranges are aligned alike, whole page tables and huge pages are shared by one entry of a PD each.  Other pages
are shared one by one.  A page or a table that a space reaches twice is an ordinary shared one: it has a count of two,
and no entry that points at it has R/W.  So the rules of fault.py hold as they stand: the first write through either
address copies, and the last sharer takes what is left.

One page can so stand for a whole range of zeros: `share_repeated` maps it again and again, first for as many pages as
one table holds, then that table.  512 MiB take two tables and no page.

The pages of the second range count as changed.  A PT is stamped for that, so it has to be private or stamped in this
epoch already: one that an older fork shares is copied first.
"""

from mmcore.errors import ALREADY_MAPPED, HUGE_PAGE, NO_FRAME
from mmcore.fault import own_path, own_table
from mmcore.jit import int64, kernel, linked, void
from mmcore.mapping import can_have, next_mapped, to_move, whole_block
from mmcore.paging import ENTRY_COUNT, HUGE_MASK, HUGE_SIZE, PAGE_SIZE, WHOLE, frame_of, slot_of
from mmcore.state import CR3, EPOCH, PAGES_MAPPED, SPACE
from mmcore.tables import set_entry, share_entry
from mmcore.tlb import tlb_flush
from mmcore.walk import walk


@linked(void(SPACE, int64, int64))
def _share_entry(space, source, target):  # type: ignore[no-untyped-def]
    """Share the page or huge page that the entry at `source` maps; both entries are in private tables."""
    mem = space.mem
    share_entry(mem, source, target)
    frame = frame_of(mem.entries[target])
    mem.epoch[frame] = max(mem.epoch[frame], space.cpu[EPOCH])


@kernel
def _share_table(space, old, new):  # type: ignore[no-untyped-def]
    # Share the PT of the 2 MiB at `old` with `new`, where none is.
    mem = space.mem
    source = slot_of(own_path(space, old, 2), old, 2)
    if mem.epoch[frame_of(mem.entries[source])] < space.cpu[EPOCH]:
        own_path(space, old, 1)  # stamps it
    target = slot_of(own_path(space, new, 2), new, 2)
    share_entry(mem, source, target)
    set_entry(mem, target, mem.entries[target] | WHOLE)


@linked(int64(SPACE, int64, int64, int64))
def share_pages(space, old, count, new):  # type: ignore[no-untyped-def]
    """Map the `count` pages at `old` at `new`, too.  0, or ALREADY_MAPPED or NO_FRAME with nothing changed.

    All of `old` is mapped, and the ranges are disjoint.  A shared huge page is copied if only a part of it is shared.
    """
    mem = space.mem
    end = old + count * PAGE_SIZE
    if next_mapped(space, new, new + count * PAGE_SIZE) != new + count * PAGE_SIZE:
        return ALREADY_MAPPED
    frames, runs = to_move(space, old, end, new)
    if not can_have(space, frames, runs):
        return NO_FRAME
    while old < end:
        whole = whole_block(old, end) and new & HUGE_MASK == 0
        if whole and walk(mem, space.cpu[CR3], old, 1) == HUGE_PAGE:
            source = slot_of(own_path(space, old, 2), old, 2)
            _share_entry(space, source, slot_of(own_path(space, new, 2), new, 2))
        elif whole:
            _share_table(space, old, new)
        else:
            source = slot_of(own_table(space, old), old, 1)
            _share_entry(space, source, slot_of(own_path(space, new, 1), new, 1))
        shared = HUGE_SIZE if whole else PAGE_SIZE
        old += shared
        new += shared
    space.processor[PAGES_MAPPED] += count
    tlb_flush(space)  # (6) what allowed writes before does so no more
    return 0


@kernel
def _repeat(space, page, va, count):  # type: ignore[no-untyped-def]
    # Map the page at `page` at the `count` pages from `va` on, by sharing what has been mapped so far.
    done = 0
    while done < count:
        more = min(max(done, 1), count - done)
        code = share_pages(space, va if done > 0 else page, more, va + done * PAGE_SIZE)
        assert code == 0, "no frames were reserved for pages that repeat one, or a page was mapped already"
        done += more


@linked(void(SPACE, int64, int64, int64))
def share_repeated(space, page, va, count):  # type: ignore[no-untyped-def]
    """Map the page at `page` again at each of the `count` pages from `va` on, where none is mapped.

    The caller has made sure of free frames: one for each table that [va, va + count pages) needs, and as many again.
    """
    end = va + count * PAGE_SIZE
    block = (va + HUGE_MASK) & -HUGE_SIZE
    tables = max(0, end - block) // HUGE_SIZE
    if tables == 0:
        block = end
    _repeat(space, page, va, (block - va) // PAGE_SIZE)
    if tables > 0:
        _repeat(space, page, block, ENTRY_COUNT)
        done = 1
        while done < tables:
            more = min(done, tables - done)
            code = share_pages(space, block, more * ENTRY_COUNT, block + done * HUGE_SIZE)
            assert code == 0, "no frames were reserved for tables that repeat one, or a page was mapped already"
            done += more
        block += tables * HUGE_SIZE
        _repeat(space, page, block, (end - block) // PAGE_SIZE)
