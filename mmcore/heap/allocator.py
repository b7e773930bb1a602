"""Allocation, release and resizing: small allocations go to slabs, large ones to ranges.

Frames.  Every write of the heap may hit a page that is shared with a snapshot, and so need copies.  If there are too
few frames for them, heap_alloc and heap_resize return 0 and heap_free returns NO_FRAME, with nothing changed.
HEAP_FRAMES free frames are always enough for one call, in addition to the pages that a large allocation maps.
"""

from mmcore.heap.layout import (
    CONTROL,
    HEAP_END,
    HEAP_MAGIC,
    LARGE_BASE,
    SLAB_BASE,
    SMALL_MAX,
    class_of,
    heap_size,
)
from mmcore.heap.ranges import large_alloc, large_free, large_resize
from mmcore.heap.slabs import slab_alloc, slab_free
from mmcore.jit import int64, linked
from mmcore.mapping import map_pages
from mmcore.mmu import copy_within, store64
from mmcore.paging import PAGE_MASK
from mmcore.state import SPACE


@linked(int64(SPACE))
def heap_init(space):  # type: ignore[no-untyped-def]
    """Create the heap of an empty space.  Returns 0, or NO_FRAME."""
    code = map_pages(space, CONTROL, 1)
    if code == 0:
        store64(space, CONTROL, HEAP_MAGIC)
    return code


@linked(int64(SPACE, int64))
def heap_alloc(space, size):  # type: ignore[no-untyped-def]
    """Allocate `size` bytes.  Returns the va, a multiple of 8, or 0 if there are too few frames.

    An allocation of up to a page lies within one page, which is writable without a fault until the next fork.  A large
    allocation holds zeros; the contents of a small one are arbitrary.
    """
    assert size >= 0, "an allocation of a negative size"
    if size <= SMALL_MAX:
        return slab_alloc(space, class_of(size))
    return large_alloc(space, size)


@linked(int64(SPACE, int64, int64))
def heap_free(space, va, size):  # type: ignore[no-untyped-def]
    """Free an allocation of `size` bytes, or of another size of that class.  0, or NO_FRAME with nothing changed."""
    if size <= SMALL_MAX:
        assert SLAB_BASE <= va < LARGE_BASE, "freed what was not allocated"
        return slab_free(space, va, class_of(size))
    assert LARGE_BASE <= va < HEAP_END and va & PAGE_MASK == 0, "freed what was not allocated"
    return large_free(space, va, size)


@linked(int64(SPACE, int64, int64, int64))
def heap_resize(space, va, old, new):  # type: ignore[no-untyped-def]
    """Resize the allocation at `va`, keeping the first min(old, new) bytes.  Returns its va, or 0 with `va` intact.

    Between two large sizes no byte is copied; the pages that a large allocation gains hold zeros.
    """
    if heap_size(old) == heap_size(new):
        return va
    if old > SMALL_MAX and new > SMALL_MAX:
        return large_resize(space, va, old, new, 0)
    moved = heap_alloc(space, new)
    if moved == 0:
        return 0
    copy_within(space, moved, va, min(old, new))
    if heap_free(space, va, old) < 0:
        heap_free(space, moved, new)
        return 0
    return moved
