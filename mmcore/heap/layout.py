"""The heap's layout: where it lies in the address space, its control page, the size classes.

    va                      contents
    0x1000_0000             the control page: the first half is the heap's, the rest from OWNER_BASE on the owner's
    0x1000_1000             the page of zeros, once an allocation has borrowed it; nobody writes it
    0x2010_0000             metadata of slab pages, SLOT_SIZE bytes each, by page number
    0x18_0000_0000          metadata of large pages, the same
    PML4 entry 1 .. 15      slab pages
    PML4 entry 16 .. 63     large pages

From PML4 entry 64 on, the address space belongs to the owner.

Control page (little endian)

    OFFSET  SIZE   DESCRIPTION
    0       8      HEAP_MAGIC
    8       8      bytes in live allocations, as heap_size counts them
    16      8      slab pages ever used
    24      8      first free slab page, linked through their metadata   (links are page number + 1, 0 is none)
    32      8      large pages ever used
    40      8      first range queued to be unmapped
    48      8      slab pages that are mapped
    56      8      bytes in live large allocations
    64      47*8   first slab page with room, by class
    448     8      first leaving slab page
    456     8      pages borrowed by live allocations
    464     8      era: debts of earlier ones are settled
    512     32*8   first free range, by order
    768     47*8   slab pages, by class
    1144    47*8   leaving ones among them
    1520    47*8   objects in use

Metadata of a slab page                          of a large range, at its first page

    0  2  class, and LEAVING                     0  8  order | mapped pages << 8 | state << 56
    2  2  objects in use                         8  8  next range in the free list or the queue
    4  2  offset/8 of the first never used                if live: pages borrowed | era << 32
    6  2  offset/8 + 1 of the first free         The first 8 bytes of a free object hold
    8  4  previous page of its list              offset/8 + 1 of the next one.
    12 4  next page of its list, or next free page

A metadata page is mapped when the first page that it describes is used.  It is never unmapped.
"""

from mmcore.jit import constant, int64, kernel
from mmcore.mmu import load64, store64
from mmcore.paging import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

CONTROL = 0x1000_0000
OWNER_BASE = CONTROL + 0x800
ZEROS = CONTROL + 0x1000
SLAB_META = 0x2010_0000  # its first page and the control page have different TLB entries
LARGE_META = 0x18_0000_0000
SLAB_BASE = 1 << 39
LARGE_BASE = 16 << 39
HEAP_END = 64 << 39
HEAP_MAGIC = 0x6865_6170_0003

SLOT_SHIFT = 4
SLOT_SIZE = 1 << SLOT_SHIFT
SLAB_PAGES_MAX = (LARGE_BASE - SLAB_BASE) >> PAGE_SHIFT
LARGE_PAGES_MAX = (HEAP_END - LARGE_BASE) >> PAGE_SHIFT
assert SLAB_META + SLAB_PAGES_MAX * SLOT_SIZE <= LARGE_META
assert LARGE_META + LARGE_PAGES_MAX * SLOT_SIZE <= SLAB_BASE
assert SLAB_PAGES_MAX < 1 << 32

USED, SLAB_FRESH, SLAB_FREE, LARGE_FRESH, QUEUE, SLAB_PAGES, LARGE_USED = range(8, 64, 8)
PARTIAL, LEAVERS, BORROWED, ERA, RANGES = 64, 448, 456, 464, 512
ERA_SHIFT = 32
CLASS_PAGES, CLASS_LEAVING, CLASS_OBJECTS = 768, 1144, 1520
LEAVING = 0x100  # beside the class of a page
SMALL_MAX = PAGE_SIZE
UNIT_SHIFT = 3
UNIT = 1 << UNIT_SHIFT  # every size and every offset in a slab page is a multiple of this
FINE_MAX = 128  # up to this size there is a class for each unit
MIDDLE_MAX = 512  # up to this size, for each two units
CLASS_SIZES = (
    *range(UNIT, FINE_MAX + 1, UNIT),
    *range(FINE_MAX + 2 * UNIT, MIDDLE_MAX + 1, 2 * UNIT),
    *(PAGE_SIZE // k & -UNIT for k in range(7, 0, -1)),
)
ORDER_MAX = 31
SIZE_MAX = PAGE_SIZE << (ORDER_MAX - 5)  # the largest allocation [bytes]
HEAP_FRAMES = 32
LIVE, FREE, QUEUED = 1, 2, 3  # states of a range
assert len(CLASS_SIZES) < LEAVING
assert PARTIAL + 8 * len(CLASS_SIZES) <= LEAVERS and RANGES + 8 * (ORDER_MAX + 1) <= CLASS_PAGES
assert CLASS_PAGES + 8 * len(CLASS_SIZES) <= CLASS_LEAVING and CLASS_LEAVING + 8 * len(CLASS_SIZES) <= CLASS_OBJECTS
assert CONTROL + CLASS_OBJECTS + 8 * len(CLASS_SIZES) <= OWNER_BASE

_CLASS_SIZES = constant(CLASS_SIZES, int64)
_CLASS_OF = constant([sum(one < size for one in CLASS_SIZES) for size in range(0, PAGE_SIZE + 1, UNIT)])


@kernel
def class_of(size):  # type: ignore[no-untyped-def]
    """The class of an allocation of `size` bytes, at most SMALL_MAX."""
    return int64(_CLASS_OF[(size + UNIT - 1) >> UNIT_SHIFT])


@kernel
def class_size(group):  # type: ignore[no-untyped-def]
    """Bytes of an object of a class."""
    return _CLASS_SIZES[group]


@kernel
def pages_of(size):  # type: ignore[no-untyped-def]
    """The number of whole pages for `size` bytes."""
    return (size + PAGE_MASK) >> PAGE_SHIFT


@kernel
def order_of(pages):  # type: ignore[no-untyped-def]
    """The order of the range for `pages` pages: the smallest one with 2^order >= pages."""
    order = 0
    while 1 << order < pages:
        order += 1
    return order


@kernel
def heap_size(size):  # type: ignore[no-untyped-def]
    """The bytes that an allocation of `size` bytes actually uses."""
    if size <= SMALL_MAX:
        return class_size(class_of(size))
    return pages_of(size) << PAGE_SHIFT


@kernel
def heap_used(space):  # type: ignore[no-untyped-def]
    """Bytes in live allocations, as heap_size counts them."""
    return load64(space, CONTROL + USED)


@kernel
def heap_slab_pages(space):  # type: ignore[no-untyped-def]
    """Slab pages that are mapped."""
    return load64(space, CONTROL + SLAB_PAGES)


@kernel
def heap_slab_used(space):  # type: ignore[no-untyped-def]
    """Bytes in live allocations on slab pages."""
    return load64(space, CONTROL + USED) - load64(space, CONTROL + LARGE_USED)


@kernel
def control_add(space, place, change):  # type: ignore[no-untyped-def]
    """Change a count of the control page."""
    store64(space, CONTROL + place, load64(space, CONTROL + place) + change)
