"""Pages that are filled outside of any space, and moved into one when they are complete.

A sapling is a tree of page tables that belongs to no space: nothing translates through it, and a fork or a reset of a
space does not touch it.  Its pages lie from address 0 on.  Its owner grows it, fills the frames, and either grafts it,
which moves whole page tables into a space, or releases it like any other root (release.py).
"""

from mmcore.fault import own_path
from mmcore.frames import frame_alloc_zeroed
from mmcore.jit import int64, linked, void
from mmcore.mapping import map_pages
from mmcore.paging import NO_ENTRY, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PT_SPAN, WHOLE, frame_of, slot_of
from mmcore.state import CR3, EPOCH, SPACE
from mmcore.tables import set_entry
from mmcore.walk import walk


@linked(int64(SPACE))
def sapling_new(space):  # type: ignore[no-untyped-def]
    """The root of an empty sapling on the space's memory, or NO_FRAME."""
    return frame_alloc_zeroed(space.mem, space.cpu[EPOCH])


@linked(int64(SPACE, int64, int64, int64))
def sapling_grow(space, root, first, count):  # type: ignore[no-untyped-def]
    """Add `count` pages of zeros to a sapling that has `first` pages.  Returns 0, or NO_FRAME with nothing changed."""
    kept = space.cpu[CR3]
    space.cpu[CR3] = root  # map_pages neither uses nor fills a cache
    code = map_pages(space, first * PAGE_SIZE, count)
    space.cpu[CR3] = kept
    return code


@linked(int64(SPACE, int64, int64, int64))
def sapling_piece(space, root, at, limit):  # type: ignore[no-untyped-def]
    """How many bytes from `at` on, at most `limit`, are neighbours in physical memory; all of them are mapped."""
    first = walk(space.mem, root, at, 0)
    size = PAGE_SIZE - (at & PAGE_MASK)
    while size < limit and walk(space.mem, root, at + size, 0) == first + ((at + size) >> PAGE_SHIFT) - (
        at >> PAGE_SHIFT
    ):
        size += PAGE_SIZE
    return min(size, limit)


@linked(int64(SPACE, int64, int64))
def sapling_address(space, root, at):  # type: ignore[no-untyped-def]
    """The index in mem.bytes of a sapling's byte."""
    return walk(space.mem, root, at, 0) << PAGE_SHIFT | (at & PAGE_MASK)


@linked(void(SPACE, int64, int64, int64))
def graft(space, root, count, va):  # type: ignore[no-untyped-def]
    """Move the `count` pages of a sapling to `va`, a multiple of 2 MiB.  Its root, and empty tables, are left.

    No page is mapped in any 2 MiB that the pages touch there.  The frames for tables above PTs must be free.
    """
    mem = space.mem
    for at in range(0, count * PAGE_SIZE, PT_SPAN):
        source = slot_of(walk(mem, root, at, 2), at, 2)
        target = slot_of(own_path(space, va + at, 2), va + at, 2)
        entry = mem.entries[source]
        assert mem.entries[target] == NO_ENTRY, "a page table stands where one is grafted"
        mem.epoch[frame_of(entry)] = space.cpu[EPOCH]
        set_entry(mem, source, NO_ENTRY)
        set_entry(mem, target, entry | WHOLE)
