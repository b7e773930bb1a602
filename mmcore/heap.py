"""The heap: an allocator inside the address space; its own data structures are in the space, too.

    va                      contents
    0x1000_0000             the control page: the first half is the heap's, the rest from OWNER_BASE on the owner's
    0x2010_0000             metadata of slab pages, SLOT_SIZE bytes each, by page number
    0x18_0000_0000          metadata of large pages, the same
    PML4 entry 1 .. 15      slab pages
    PML4 entry 16 .. 63     large pages

From PML4 entry 64 on, the address space belongs to the owner.

Small allocations: up to a page.  A slab page holds objects of one size class.  No object straddles a page, so each is
one contiguous piece of physical memory.  The class sizes are the multiples of 8 up to 128, the multiples of 16 up to
512, then the largest multiples of 8 of which 7, 6, .. 1 fit a page.  So an allocation is at a multiple of 8; one of 64
bytes is at a multiple of 64.  Each class has an unordered list of the pages with room.  A page that becomes empty is
unmapped, unless it is the only one with room.

Defragmentation.  When many objects have been freed at random, many pages are nearly empty.  The heap cannot move an
object, because it does not know who points at it.  But it chooses pages to be emptied, and the owner moves what lies on
them.  A chosen page is *leaving*: it goes from the list of its class to the list of leaving pages, so nothing new is
put on it.

    heap_choose_step    marks the pages that should leave, some at a time
    heap_should_move    whether an object lies on a leaving page
    heap_move           moves such an object; the owner then corrects the addresses that it keeps
    heap_return_step    at the end, pages that were not emptied go back to the lists of their classes

A page leaves if it is half empty, or clearly below the average of its class, and if the pages that stay have room for
all objects of the class, and 1/16 more.  An average alone would not do: if every page of a class has one object, none
is below the average.  A move never maps a page.

Large allocations: whole pages, virtually contiguous.  Each has a range whose length is a power of two of pages; only
the pages needed are mapped.  Virtual address space is plentiful: a new range is cut off behind those used so far, and
freed ranges are reused by order.  An allocation that outgrows its range moves to a larger one: its page-table entries
move, and no byte is copied.  A freed range of more than QUEUE_PAGES pages is not unmapped at once but queued;
heap_reclaim_step unmaps it piece by piece.

A range of 2 MiB and more begins at a multiple of 2 MiB, so its page tables can be moved and shared whole.  What is
skipped for that becomes free ranges.

heap_share makes a second allocation with the same contents, copy-on-write.  It borrows its pages: later writes to it or
to its origin may need a frame for each, and so does a copy of the space that shares nothing.  BORROWED counts these
pages, for an owner that wants to be sure of these frames.  A page that was written since still counts: the whole
allocation counts until it is freed, or said to be written whole (heap_repay).  heap_settle ends all debts.

A metadata page is mapped when the first page that it describes is used.  It is never unmapped.

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

Frames.  Every write here may hit a page that is shared with a snapshot, and so need copies.  If there are too few
frames for them, heap_alloc and heap_resize return 0 and heap_free returns NO_FRAME, with nothing changed.  HEAP_FRAMES
free frames are always enough for one call, in addition to the pages that a large allocation maps.

(11) A slab page with room is in the list of its class, or in the list of leaving pages if it is leaving.  Other slab
     pages are in no list but that of free ones.
(12) Nothing is put on a leaving page.  What lies on it can be used and freed like anything else, and when it is empty,
     it is unmapped.
(13) The counts of the control page are exact: slab pages, leaving pages and objects of each class, and bytes.
"""

from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.graft import graft
from mmcore.jit import bytes64, constant, int64, kernel, linked, put64, void
from mmcore.mapping import map_pages, remap_pages, unmap_pages
from mmcore.mmu import copy_within, load64, read_address, store64, write_address
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from mmcore.share import share_pages
from mmcore.state import SPACE

CONTROL = 0x1000_0000
OWNER_BASE = CONTROL + 0x800
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
ADOPT_MIN = 1 << 20  # more bytes than this have a range that begins at a multiple of 2 MiB
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
MOVE_FRAMES = 2 * HEAP_FRAMES  # heap_move allocates and frees
QUEUE_PAGES = 64
LIVE, FREE, QUEUED = 1, 2, 3  # states of a range
SPARE_SHIFT = 4  # the pages that stay have room for a sixteenth more than what there is
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
        return _CLASS_SIZES[class_of(size)]
    return pages_of(size) << PAGE_SHIFT


@linked(int64(SPACE))
def heap_init(space):  # type: ignore[no-untyped-def]
    """Create the heap of an empty space.  Returns 0, or NO_FRAME."""
    code = map_pages(space, CONTROL, 1)
    if code == 0:
        store64(space, CONTROL, HEAP_MAGIC)
    return code


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
def heap_has_room(space, size):  # type: ignore[no-untyped-def]
    """Whether a slab page has room for `size` bytes, at most SMALL_MAX; heap_alloc then maps no page."""
    return load64(space, CONTROL + PARTIAL + 8 * class_of(size)) != 0


# --- slabs ---------------------------------------------------------------------------------------------------------
#
# Word 0 of a page's metadata: class | LEAVING | in use << 16 | fresh << 32 | free << 48.


@kernel
def _slab_va(page):  # type: ignore[no-untyped-def]
    return SLAB_BASE + (page << PAGE_SHIFT)


@kernel
def _slab_meta(page):  # type: ignore[no-untyped-def]
    return SLAB_META + (page << SLOT_SHIFT)


@kernel
def _part(word, shift):  # type: ignore[no-untyped-def]
    return (word >> shift) & 0xFFFF


@kernel
def _pack(kind, used, fresh, free):  # type: ignore[no-untyped-def]
    # `kind`: the class, and LEAVING or not.
    return kind | used << 16 | fresh << 32 | free << 48


@kernel
def _list_of(kind):  # type: ignore[no-untyped-def]
    # Where the control page has the head of the list for pages of this kind with room.
    return LEAVERS if kind & LEAVING else PARTIAL + 8 * kind


@kernel
def _count(space, place, change):  # type: ignore[no-untyped-def]
    # Change a count of the control page.
    store64(space, CONTROL + place, load64(space, CONTROL + place) + change)


@kernel
def _previous(links):  # type: ignore[no-untyped-def]
    return links & 0xFFFF_FFFF


@kernel
def _next(links):  # type: ignore[no-untyped-def]
    return (links >> 32) & 0xFFFF_FFFF


@linked(int64(SPACE, int64, int64))
def _link(space, kind, page):  # type: ignore[no-untyped-def]
    """Insert a page at the front of the list of its kind.  Returns 0, or NO_FRAME with nothing changed."""
    control = write_address(space, CONTROL)
    meta = write_address(space, _slab_meta(page))
    if control < 0 or meta < 0:
        return NO_FRAME
    memory = space.mem.bytes
    head = control + _list_of(kind)
    first = bytes64(memory, head)
    if first != 0:
        neighbour = write_address(space, _slab_meta(first - 1))
        if neighbour < 0:
            return NO_FRAME
        links = bytes64(memory, neighbour + 8)
        put64(memory, neighbour + 8, _next(links) << 32 | (page + 1))
    put64(memory, meta + 8, first << 32)
    put64(memory, head, page + 1)
    return 0


@linked(int64(SPACE, int64, int64))
def _unlink(space, kind, page):  # type: ignore[no-untyped-def]
    """Remove a page from the list of its kind.  Returns 0, or NO_FRAME with nothing changed."""
    control = write_address(space, CONTROL)
    meta = write_address(space, _slab_meta(page))
    if control < 0 or meta < 0:
        return NO_FRAME
    memory = space.mem.bytes
    links = bytes64(memory, meta + 8)
    previous, following = _previous(links), _next(links)
    before = after = 0
    if previous != 0:
        before = write_address(space, _slab_meta(previous - 1))
    if following != 0:
        after = write_address(space, _slab_meta(following - 1))
    if before < 0 or after < 0:
        return NO_FRAME
    if previous == 0:
        put64(memory, control + _list_of(kind), following)
    else:
        put64(memory, before + 8, following << 32 | _previous(bytes64(memory, before + 8)))
    if following != 0:
        put64(memory, after + 8, _next(bytes64(memory, after + 8)) << 32 | previous)
    put64(memory, meta + 8, 0)
    return 0


@linked(int64(SPACE, int64))
def _slab_new(space, group):  # type: ignore[no-untyped-def]
    """Add a fresh page to class `group`, which has none with room.  Its number, or NO_FRAME with nothing changed."""
    if not has_frames(space, HEAP_FRAMES):
        return NO_FRAME
    page = load64(space, CONTROL + SLAB_FREE) - 1
    if page >= 0:
        store64(space, CONTROL + SLAB_FREE, _next(load64(space, _slab_meta(page) + 8)))
    else:
        page = load64(space, CONTROL + SLAB_FRESH)
        assert page < SLAB_PAGES_MAX, "out of addresses for slabs"
        if _slab_meta(page) & PAGE_MASK == 0:
            code = map_pages(space, _slab_meta(page), 1)
            assert code == 0, "a page of the heap was mapped already"
        store64(space, CONTROL + SLAB_FRESH, page + 1)
    code = map_pages(space, _slab_va(page), 1)
    assert code == 0, "a page of the heap was mapped already"
    store64(space, _slab_meta(page), _pack(group, 0, 0, 0))
    code = _link(space, group, page)
    assert code == 0, "no frames were reserved for the heap"
    _count(space, SLAB_PAGES, 1)
    _count(space, CLASS_PAGES + 8 * group, 1)
    return page


@linked(int64(SPACE, int64, int64))
def _slab_release(space, kind, page):  # type: ignore[no-untyped-def]
    """Unmap an empty page.  If there are too few frames for that, it stays in its list."""
    if not has_frames(space, HEAP_FRAMES):
        return NO_FRAME
    code = _unlink(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    group = kind & ~LEAVING
    _count(space, SLAB_PAGES, -1)
    _count(space, CLASS_PAGES + 8 * group, -1)
    if kind & LEAVING:
        _count(space, CLASS_LEAVING + 8 * group, -1)
    code = unmap_pages(space, _slab_va(page), 1)
    assert code == 0, "no frames were reserved for the heap"
    store64(space, _slab_meta(page), 0)
    store64(space, _slab_meta(page) + 8, load64(space, CONTROL + SLAB_FREE) << 32)
    store64(space, CONTROL + SLAB_FREE, page + 1)
    return 0


@kernel
def _slab_alloc(space, group):  # type: ignore[no-untyped-def]
    size = _CLASS_SIZES[group]
    control = write_address(space, CONTROL)
    if control < 0:
        return 0
    memory = space.mem.bytes
    page = bytes64(memory, control + PARTIAL + 8 * group) - 1
    if page < 0:
        page = _slab_new(space, group)
        if page < 0:
            return 0
    meta = write_address(space, _slab_meta(page))
    base = write_address(space, _slab_va(page))
    if meta < 0 or base < 0:
        return 0
    word = bytes64(memory, meta)
    used, fresh, free = _part(word, 16), _part(word, 32), _part(word, 48)
    if free != 0:
        offset = (free - 1) << UNIT_SHIFT
        free = bytes64(memory, base + offset)
    else:
        offset = fresh << UNIT_SHIFT
        fresh += size >> UNIT_SHIFT
    if free == 0 and (fresh << UNIT_SHIFT) + size > PAGE_SIZE and _unlink(space, group, page) < 0:
        return 0
    put64(memory, meta, _pack(group, used + 1, fresh, free))
    put64(memory, control + USED, bytes64(memory, control + USED) + size)
    objects = control + CLASS_OBJECTS + 8 * group
    put64(memory, objects, bytes64(memory, objects) + 1)
    return _slab_va(page) + offset


@kernel
def _slab_free(space, va, group):  # type: ignore[no-untyped-def]
    size = _CLASS_SIZES[group]
    page = (va - SLAB_BASE) >> PAGE_SHIFT
    offset = va & PAGE_MASK
    control = write_address(space, CONTROL)
    meta = write_address(space, _slab_meta(page))
    base = write_address(space, _slab_va(page))
    if control < 0 or meta < 0 or base < 0:
        return NO_FRAME
    memory = space.mem.bytes
    word = bytes64(memory, meta)
    used, fresh, free = _part(word, 16), _part(word, 32), _part(word, 48)
    kind = _part(word, 0)
    assert kind & ~LEAVING == group and used > 0 and offset >> UNIT_SHIFT < fresh, "freed what was not allocated"
    if free == 0 and (fresh << UNIT_SHIFT) + size > PAGE_SIZE and _link(space, kind, page) < 0:
        return NO_FRAME
    put64(memory, base + offset, free)
    put64(memory, meta, _pack(kind, used - 1, fresh, (offset >> UNIT_SHIFT) + 1))
    put64(memory, control + USED, bytes64(memory, control + USED) - size)
    objects = control + CLASS_OBJECTS + 8 * group
    put64(memory, objects, bytes64(memory, objects) - 1)
    if used == 1 and (bytes64(memory, meta + 8) != 0 or kind & LEAVING):
        _slab_release(space, kind, page)
    return 0


# --- leaving pages -------------------------------------------------------------------------------------------------


@kernel
def _should_leave(space, word):  # type: ignore[no-untyped-def]
    # Whether a page with this word is worth emptying, and the pages that stay have room for what lies on it.
    kind, used = _part(word, 0), _part(word, 16)
    if used == 0 or kind & LEAVING:
        return False
    room = PAGE_SIZE // _CLASS_SIZES[kind]
    pages = load64(space, CONTROL + CLASS_PAGES + 8 * kind)
    objects = load64(space, CONTROL + CLASS_OBJECTS + 8 * kind)
    stay = pages - load64(space, CONTROL + CLASS_LEAVING + 8 * kind) - 1
    if stay * room < objects + (objects >> SPARE_SHIFT):
        return False
    return 2 * used <= room or 8 * used * pages < 7 * objects


@linked(int64(SPACE, int64, int64))
def _turn(space, page, kind):  # type: ignore[no-untyped-def]
    """Make a page that is in a list leave, or take that back: its new kind.  The frames are reserved."""
    word = load64(space, _slab_meta(page))
    code = _unlink(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    store64(space, _slab_meta(page), word ^ LEAVING)
    kind ^= LEAVING
    code = _link(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    _count(space, CLASS_LEAVING + 8 * (kind & ~LEAVING), 1 if kind & LEAVING else -1)
    return kind


@linked(int64(SPACE, int64, int64))
def heap_choose_step(space, page, budget):  # type: ignore[no-untyped-def]
    """Look at up to `budget` slab pages from number `page` on, and let those leave that should.

    Returns the number of the next page to look at, -1 behind the last one.  It stops early if frames are short.
    """
    fresh = load64(space, CONTROL + SLAB_FRESH)
    end = min(fresh, page + budget)
    while page < end and has_frames(space, HEAP_FRAMES):
        word = load64(space, _slab_meta(page))
        if _should_leave(space, word):
            _turn(space, page, _part(word, 0))
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
        word = load64(space, _slab_meta(page))
        if _part(word, 16) == 0:
            _slab_release(space, _part(word, 0), page)  # its last object was freed when frames were short
        else:
            _turn(space, page, _part(word, 0))
        done += 1
    return done


@kernel
def heap_should_move(space, va):  # type: ignore[no-untyped-def]
    """Whether the allocation at `va` lies on a leaving page."""
    if va >= LARGE_BASE:
        return False
    return load64(space, _slab_meta((va - SLAB_BASE) >> PAGE_SHIFT)) & LEAVING != 0


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
    moved = _slab_alloc(space, group)
    assert moved != 0, "no frames were reserved for the heap"
    copy_within(space, moved, va, size)
    code = _slab_free(space, va, group)
    assert code == 0, "no frames were reserved for the heap"
    return moved


# --- large ---------------------------------------------------------------------------------------------------------
#
# Word 0 of a range's metadata: order | mapped pages << 8 | state << 56.


@kernel
def _large_va(page):  # type: ignore[no-untyped-def]
    return LARGE_BASE + (page << PAGE_SHIFT)


@kernel
def _large_meta(page):  # type: ignore[no-untyped-def]
    return LARGE_META + (page << SLOT_SHIFT)


@kernel
def _range_word(order, pages, state):  # type: ignore[no-untyped-def]
    return order | pages << 8 | state << 56


@kernel
def _range_order(word):  # type: ignore[no-untyped-def]
    return word & 0xFF


@kernel
def _range_pages(word):  # type: ignore[no-untyped-def]
    return (word >> 8) & 0xFFFF_FFFF_FFFF


@kernel
def _range_state(word):  # type: ignore[no-untyped-def]
    return word >> 56


@kernel
def _add_used(space, change):  # type: ignore[no-untyped-def]
    _count(space, USED, change)
    _count(space, LARGE_USED, change)


@kernel
def _tables(pages):  # type: ignore[no-untyped-def]
    # Tables for `pages` pages in a row, without the two of each level at the edges, which HEAP_FRAMES has room for.
    return (pages >> 9) + (pages >> 18)


@kernel
def _push_range(space, page, order, pages, state, head):  # type: ignore[no-untyped-def]
    store64(space, _large_meta(page), _range_word(order, pages, state))
    store64(space, _large_meta(page) + 8, load64(space, head))
    store64(space, head, page + 1)


@linked(void(SPACE, int64))
def _map_large_meta(space, page):  # type: ignore[no-untyped-def]
    """Map the metadata of the range that begins at `page`, if they are not mapped."""
    if read_address(space, _large_meta(page)) < 0:
        code = map_pages(space, _large_meta(page) & ~PAGE_MASK, 1)
        assert code == 0, "a page of the heap was mapped already"


@linked(int64(SPACE))
def _skip_to_table(space):  # type: ignore[no-untyped-def]
    """Cut free ranges off up to the next multiple of 2 MiB; returns the large page there."""
    page = load64(space, CONTROL + LARGE_FRESH)
    while page & (ENTRY_COUNT - 1) != 0:
        order = 0
        while (page >> order) & 1 == 0:
            order += 1
        _map_large_meta(space, page)
        _push_range(space, page, order, 0, FREE, CONTROL + RANGES + 8 * order)
        page += 1 << order
    return page


@linked(int64(SPACE, int64))
def _take_range(space, order):  # type: ignore[no-untyped-def]
    """A range of this order, with no page mapped, whose metadata the caller writes.  The frames are reserved."""
    head = CONTROL + RANGES + 8 * order
    page = load64(space, head) - 1
    if page >= 0:
        store64(space, head, load64(space, _large_meta(page) + 8))
    else:
        page = _skip_to_table(space) if order >= ENTRY_SHIFT else load64(space, CONTROL + LARGE_FRESH)
        assert page + (1 << order) <= LARGE_PAGES_MAX, "out of addresses for large allocations"
        _map_large_meta(space, page)
        store64(space, CONTROL + LARGE_FRESH, page + (1 << order))
    return page


@kernel
def _describe(space, page, order, pages, borrowed):  # type: ignore[no-untyped-def]
    # Enter a new live range, whose pages are mapped.
    store64(space, _large_meta(page), _range_word(order, pages, LIVE))
    store64(space, _large_meta(page) + 8, borrowed | load64(space, CONTROL + ERA) << ERA_SHIFT)
    if borrowed != 0:
        store64(space, CONTROL + BORROWED, load64(space, CONTROL + BORROWED) + borrowed)
    _add_used(space, pages << PAGE_SHIFT)


@linked(int64(SPACE, int64))
def _large_alloc(space, size):  # type: ignore[no-untyped-def]
    """heap_alloc for more than a page."""
    pages = pages_of(size)
    if size > SIZE_MAX or not has_frames(space, pages + _tables(pages) + HEAP_FRAMES):
        return 0
    order = order_of(pages)
    page = _take_range(space, order)
    code = map_pages(space, _large_va(page), pages)
    assert code == 0, "a page of the heap was mapped already"
    _describe(space, page, order, pages, 0)
    return _large_va(page)


@kernel
def _borrowed(space, page):  # type: ignore[no-untyped-def]
    # Pages that the live range at `page` has borrowed.
    word = load64(space, _large_meta(page) + 8)
    return word & ((1 << ERA_SHIFT) - 1) if word >> ERA_SHIFT == load64(space, CONTROL + ERA) else 0


@kernel
def _set_borrowed(space, page, pages):  # type: ignore[no-untyped-def]
    # Change what the live range at `page` has borrowed.
    change = pages - _borrowed(space, page)
    if change != 0:
        store64(space, CONTROL + BORROWED, load64(space, CONTROL + BORROWED) + change)
        store64(space, _large_meta(page) + 8, pages | load64(space, CONTROL + ERA) << ERA_SHIFT)


@linked(int64(SPACE, int64, int64))
def _large_free(space, va, size):  # type: ignore[no-untyped-def]
    """heap_free for more than a page."""
    pages = pages_of(size)
    page = (va - LARGE_BASE) >> PAGE_SHIFT
    word = load64(space, _large_meta(page))
    order = _range_order(word)
    assert _range_state(word) == LIVE and _range_pages(word) == pages, "freed what was not allocated"
    # Make the metadata and the control page writable first: after that, the stores below cannot fail.
    if write_address(space, _large_meta(page)) < 0 or write_address(space, CONTROL) < 0:
        return NO_FRAME
    if pages > QUEUE_PAGES:
        _set_borrowed(space, page, 0)
        _push_range(space, page, order, pages, QUEUED, CONTROL + QUEUE)
    else:
        if unmap_pages(space, va, pages) < 0:
            return NO_FRAME
        _set_borrowed(space, page, 0)
        _push_range(space, page, order, 0, FREE, CONTROL + RANGES + 8 * order)
    _add_used(space, -(pages << PAGE_SHIFT))
    return 0


@linked(int64(SPACE, int64))
def heap_reclaim_step(space, budget):  # type: ignore[no-untyped-def]
    """Unmap up to `budget` pages of queued ranges.  Returns how many; 0 if none are queued or frames are short."""
    released = 0
    while released < budget:
        page = load64(space, CONTROL + QUEUE) - 1
        if page < 0 or not has_frames(space, HEAP_FRAMES):
            break
        word = load64(space, _large_meta(page))
        order, pages = _range_order(word), _range_pages(word)
        piece = min(pages, budget - released)
        # Unmap from the end, in pieces that do not straddle two page tables.
        end = _large_va(page) + (pages << PAGE_SHIFT)
        piece = min(piece, (((end >> PAGE_SHIFT) - 1) & 511) + 1)
        code = unmap_pages(space, end - (piece << PAGE_SHIFT), piece)
        assert code == 0, "no frames were reserved for the heap"
        released += piece
        if piece < pages:
            store64(space, _large_meta(page), _range_word(order, pages - piece, QUEUED))
        else:
            store64(space, CONTROL + QUEUE, load64(space, _large_meta(page) + 8))
            _push_range(space, page, order, 0, FREE, CONTROL + RANGES + 8 * order)
    return released


@linked(int64(SPACE, int64, int64, int64))
def _large_move(space, page, before, after):  # type: ignore[no-untyped-def]
    """Move the `before` pages of a range to a range for `after` pages.  Returns its va, or 0 with nothing changed."""
    # Shared tables of the old range are copied, and tables for the new range are made; pages are not copied.
    frames = after - before + _tables(before) + _tables(after) + HEAP_FRAMES
    if after << PAGE_SHIFT > SIZE_MAX or not has_frames(space, frames):
        return 0
    order = order_of(after)
    moved = _take_range(space, order)
    code = remap_pages(space, _large_va(page), before, _large_va(moved), after, 0)
    assert code == 0, "a page of the heap was mapped already, or no frames were reserved for it"
    borrowed = _borrowed(space, page)
    _set_borrowed(space, page, 0)
    _describe(space, moved, order, after, borrowed)
    order = _range_order(load64(space, _large_meta(page)))
    _push_range(space, page, order, 0, FREE, CONTROL + RANGES + 8 * order)
    _add_used(space, -(before << PAGE_SHIFT))
    return _large_va(moved)


@linked(int64(SPACE, int64, int64, int64))
def _large_resize(space, va, old, new):  # type: ignore[no-untyped-def]
    """heap_resize for two large sizes, in place if the range has room."""
    before, after = pages_of(old), pages_of(new)
    page = (va - LARGE_BASE) >> PAGE_SHIFT
    word = load64(space, _large_meta(page))
    order = _range_order(word)
    assert _range_state(word) == LIVE and _range_pages(word) == before, "resized what was not allocated"
    if after > 1 << order:
        return _large_move(space, page, before, after)
    grown = max(0, after - before)
    if not has_frames(space, grown + _tables(grown) + HEAP_FRAMES):
        return 0
    if after > before:
        code = map_pages(space, va + (before << PAGE_SHIFT), grown)
    else:
        code = unmap_pages(space, va + (after << PAGE_SHIFT), before - after)
    assert code == 0, "a page of the heap was mapped already, or no frames were reserved for it"
    store64(space, _large_meta(page), _range_word(order, after, LIVE))
    _set_borrowed(space, page, min(after, _borrowed(space, page)))
    _add_used(space, (after - before) << PAGE_SHIFT)
    return va


@linked(int64(SPACE, int64, int64))
def heap_share(space, va, size):  # type: ignore[no-untyped-def]
    """A second allocation with the contents of the one of `size` bytes, more than a page, at `va`, copy-on-write.

    Returns its va, or 0 if there are too few frames.  It takes no page, but two tables for each 2 MiB at worst.
    """
    pages = pages_of(size)
    word = load64(space, _large_meta((va - LARGE_BASE) >> PAGE_SHIFT))
    assert _range_state(word) == LIVE and _range_pages(word) == pages, "shared what was not allocated"
    if not has_frames(space, 2 * _tables(pages) + HEAP_FRAMES):
        return 0
    order = order_of(pages)
    page = _take_range(space, order)
    code = share_pages(space, va, pages, _large_va(page))
    assert code == 0, "a page of the heap was mapped already, or no frames were reserved for it"
    _describe(space, page, order, pages, pages)
    return _large_va(page)


@linked(int64(SPACE, int64, int64))
def heap_adopt(space, root, size):  # type: ignore[no-untyped-def]
    """An allocation made of the pages of a sapling (graft.py), just enough for `size` bytes, more than ADOPT_MIN.

    Returns its va, or 0 with nothing changed if there are too few frames.
    """
    pages = pages_of(size)
    assert ADOPT_MIN < size <= SIZE_MAX, "a sapling of that size cannot be an allocation"
    if not has_frames(space, _tables(pages) + HEAP_FRAMES):
        return 0
    order = order_of(pages)
    page = _take_range(space, order)
    graft(space, root, pages, _large_va(page))
    _describe(space, page, order, pages, 0)
    return _large_va(page)


@kernel
def heap_borrowed(space):  # type: ignore[no-untyped-def]
    """Pages that live allocations have borrowed."""
    return load64(space, CONTROL + BORROWED)


@linked(void(SPACE, int64))
def heap_repay(space, va):  # type: ignore[no-untyped-def]
    """All pages of the allocation at `va` were written: none of them is borrowed any more."""
    if va >= LARGE_BASE and heap_borrowed(space) != 0:
        _set_borrowed(space, (va - LARGE_BASE) >> PAGE_SHIFT, 0)


@linked(void(SPACE))
def heap_settle(space):  # type: ignore[no-untyped-def]
    """No two addresses of the space share a page: no allocation has borrowed anything."""
    if heap_borrowed(space) != 0:
        store64(space, CONTROL + BORROWED, 0)
        store64(space, CONTROL + ERA, (load64(space, CONTROL + ERA) + 1) & 0x7FFF_FFFF)


# --- both ----------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64))
def heap_alloc(space, size):  # type: ignore[no-untyped-def]
    """Allocate `size` bytes.  Returns the va, a multiple of 8, or 0 if there are too few frames.

    An allocation of up to a page lies within one page, which is writable without a fault until the next fork.  A large
    allocation holds zeros; the contents of a small one are arbitrary.
    """
    assert size >= 0, "an allocation of a negative size"
    if size <= SMALL_MAX:
        return _slab_alloc(space, class_of(size))
    return _large_alloc(space, size)


@linked(int64(SPACE, int64, int64))
def heap_free(space, va, size):  # type: ignore[no-untyped-def]
    """Free an allocation of `size` bytes, or of another size of that class.  0, or NO_FRAME with nothing changed."""
    if size <= SMALL_MAX:
        assert SLAB_BASE <= va < LARGE_BASE, "freed what was not allocated"
        return _slab_free(space, va, class_of(size))
    assert LARGE_BASE <= va < HEAP_END and va & PAGE_MASK == 0, "freed what was not allocated"
    return _large_free(space, va, size)


@linked(int64(SPACE, int64, int64, int64))
def heap_resize(space, va, old, new):  # type: ignore[no-untyped-def]
    """Resize the allocation at `va`, keeping the first min(old, new) bytes.  Returns its va, or 0 with `va` intact.

    Between two large sizes no byte is copied; the pages that a large allocation gains hold zeros.
    """
    if heap_size(old) == heap_size(new):
        return va
    if old > SMALL_MAX and new > SMALL_MAX:
        return _large_resize(space, va, old, new)
    moved = heap_alloc(space, new)
    if moved == 0:
        return 0
    copy_within(space, moved, va, min(old, new))
    if heap_free(space, va, old) < 0:
        heap_free(space, moved, new)
        return 0
    return moved
