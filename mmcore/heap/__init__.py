"""The heap: an allocator inside the address space; its own data structures are in the space, too.

    layout      where everything lies, the control page, the size classes
    slabs       allocations of up to a page
    leaving     slab pages that are being emptied
    ranges      larger allocations
    allocator   both kinds: heap_alloc, heap_free, heap_resize

(13) The counts of the control page are exact: slab pages, leaving pages and objects of each class, and bytes.
"""

from mmcore.heap.allocator import heap_alloc, heap_free, heap_init, heap_resize
from mmcore.heap.layout import (
    CLASS_SIZES,
    CONTROL,
    HEAP_END,
    HEAP_FRAMES,
    HEAP_MAGIC,
    LARGE_BASE,
    OWNER_BASE,
    SIZE_MAX,
    SLAB_BASE,
    SMALL_MAX,
    ZEROS,
    heap_size,
    heap_slab_pages,
    heap_slab_used,
    heap_used,
)
from mmcore.heap.leaving import heap_choose_step, heap_leaving, heap_move, heap_return_step, heap_should_move
from mmcore.heap.ranges import (
    ADOPT_MIN,
    heap_adopt,
    heap_borrowed,
    heap_extend,
    heap_reclaim_step,
    heap_repay,
    heap_repay_zeros,
    heap_settle,
    heap_share,
)
from mmcore.heap.slabs import heap_has_room

__all__ = [
    "ADOPT_MIN",
    "CLASS_SIZES",
    "CONTROL",
    "HEAP_END",
    "HEAP_FRAMES",
    "HEAP_MAGIC",
    "LARGE_BASE",
    "OWNER_BASE",
    "SIZE_MAX",
    "SLAB_BASE",
    "SMALL_MAX",
    "ZEROS",
    "heap_adopt",
    "heap_alloc",
    "heap_borrowed",
    "heap_choose_step",
    "heap_extend",
    "heap_free",
    "heap_has_room",
    "heap_init",
    "heap_leaving",
    "heap_move",
    "heap_reclaim_step",
    "heap_repay",
    "heap_repay_zeros",
    "heap_resize",
    "heap_return_step",
    "heap_settle",
    "heap_share",
    "heap_should_move",
    "heap_size",
    "heap_slab_pages",
    "heap_slab_used",
    "heap_used",
]
