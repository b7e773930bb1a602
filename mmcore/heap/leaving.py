"""Defragmentation of slab pages: the heap chooses pages to be emptied, and the owner moves what lies on them.

When many objects have been freed at random, many pages are nearly empty.  The heap cannot move an object, because it
does not know who points at it.  A chosen page is *leaving*: it goes from the list of its class to the list of leaving
pages, so nothing new is put on it.

    heap_choose_step    marks the pages that should leave, some at a time
    heap_should_move    whether an object lies on a leaving page
    heap_move           moves such an object; the owner then corrects the addresses that it keeps
    heap_return_step    at the end, pages that were not emptied go back to the lists of their classes

A page leaves if it is half empty, or clearly below the average of its class, and if the pages that stay have room for
all objects of the class, and 1/16 more.  An average alone would not do: if every page of a class has one object, none
is below the average.  A move never maps a page.

(12) Nothing is put on a leaving page.  Its objects can be used and freed like any others, and when it is empty,
     it is unmapped.
"""

from mmcore.frames import has_frames
from mmcore.heap.layout import (
    CLASS_LEAVING,
    CLASS_OBJECTS,
    CLASS_PAGES,
    CONTROL,
    HEAP_FRAMES,
    LARGE_BASE,
    LEAVERS,
    LEAVING,
    PARTIAL,
    SLAB_BASE,
    SLAB_FRESH,
    class_of,
    class_size,
    control_add,
)
from mmcore.heap.slabs import part, slab_alloc, slab_free, slab_link, slab_meta, slab_release, slab_unlink
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import copy_within, load64, store64
from mmcore.paging import PAGE_SHIFT, PAGE_SIZE
from mmcore.state import SPACE

MOVE_FRAMES = 2 * HEAP_FRAMES  # heap_move allocates and frees
SPARE_SHIFT = 4  # the pages that stay have room for a sixteenth more than what there is


@kernel
def _should_leave(space, word):  # type: ignore[no-untyped-def]
    # Whether a page with this word is worth emptying, and the pages that stay have room for what lies on it.
    kind, used = part(word, 0), part(word, 16)
    if used == 0 or kind & LEAVING:
        return False
    room = PAGE_SIZE // class_size(kind)
    pages = load64(space, CONTROL + CLASS_PAGES + 8 * kind)
    objects = load64(space, CONTROL + CLASS_OBJECTS + 8 * kind)
    stay = pages - load64(space, CONTROL + CLASS_LEAVING + 8 * kind) - 1
    if stay * room < objects + (objects >> SPARE_SHIFT):
        return False
    return 2 * used <= room or 8 * used * pages < 7 * objects


@linked(int64(SPACE, int64, int64))
def _turn(space, page, kind):  # type: ignore[no-untyped-def]
    """Make a page that is in a list leave, or take that back: its new kind.  The frames are reserved."""
    word = load64(space, slab_meta(page))
    code = slab_unlink(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    store64(space, slab_meta(page), word ^ LEAVING)
    kind ^= LEAVING
    code = slab_link(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    control_add(space, CLASS_LEAVING + 8 * (kind & ~LEAVING), 1 if kind & LEAVING else -1)
    return kind


@linked(int64(SPACE, int64, int64))
def heap_choose_step(space, page, budget):  # type: ignore[no-untyped-def]
    """Look at up to `budget` slab pages from number `page` on, and let those leave that should.

    Returns the number of the next page to look at, -1 behind the last one.  It stops early if frames are short.
    """
    fresh = load64(space, CONTROL + SLAB_FRESH)
    end = min(fresh, page + budget)
    while page < end and has_frames(space, HEAP_FRAMES):
        word = load64(space, slab_meta(page))
        if _should_leave(space, word):
            _turn(space, page, part(word, 0))
        page += 1
    return page if page < fresh else -1


@kernel
def heap_leaving(space):  # type: ignore[no-untyped-def]
    """Whether pages are leaving."""
    return load64(space, CONTROL + LEAVERS) != 0


@linked(int64(SPACE, int64))
def heap_return_step(space, budget):  # type: ignore[no-untyped-def]
    """Let up to `budget` leaving pages stay; returns how many, 0 if none are leaving or frames are short."""
    done = 0
    while done < budget and has_frames(space, HEAP_FRAMES):
        page = load64(space, CONTROL + LEAVERS) - 1
        if page < 0:
            break
        word = load64(space, slab_meta(page))
        if part(word, 16) == 0:
            slab_release(space, part(word, 0), page)  # its last object was freed when frames were short
        else:
            _turn(space, page, part(word, 0))
        done += 1
    return done


@kernel
def heap_should_move(space, va):  # type: ignore[no-untyped-def]
    """Whether the allocation at `va` lies on a leaving page."""
    if va >= LARGE_BASE:
        return False
    return load64(space, slab_meta((va - SLAB_BASE) >> PAGE_SHIFT)) & LEAVING != 0


@linked(int64(SPACE, int64, int64, int64))
def heap_move(space, va, size, frames):  # type: ignore[no-untyped-def]
    """Move the allocation of `size` bytes at `va` off a leaving page: its new address, where its bytes are now.

    Returns `va` if it stays there: its page is not leaving, or no other page has room, or less than `frames` frames
    would be left for the caller, who has to correct addresses.
    """
    if not heap_should_move(space, va):
        return va
    group = class_of(size)
    if load64(space, CONTROL + PARTIAL + 8 * group) == 0 or not has_frames(space, MOVE_FRAMES + frames):
        return va
    moved = slab_alloc(space, group)
    assert moved != 0, "no frames were reserved for the heap"
    copy_within(space, moved, va, size)
    code = slab_free(space, va, group)
    assert code == 0, "no frames were reserved for the heap"
    return moved
