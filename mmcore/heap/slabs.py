"""Small allocations, of up to a page: slab pages, each with objects of one size class.

No object straddles a page, so each is one contiguous piece of physical memory.  The class sizes are the multiples of 8
up to 128, the multiples of 16 up to 512, then the largest multiples of 8 of which 7, 6, .. 1 fit a page.  So an
allocation is at a multiple of 8; one of 64 bytes is at a multiple of 64.  Each class has an unordered list of the pages
with room.  A page that becomes empty is unmapped, unless it is the only one with room.

Word 0 of a page's metadata: class | LEAVING | in use << 16 | fresh << 32 | free << 48.

(11) A slab page with room is in the list of its class, or in the list of leaving pages if it is leaving (leaving.py).
     Other slab pages are in no list but that of free ones.
"""

from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap.layout import (
    CLASS_LEAVING,
    CLASS_OBJECTS,
    CLASS_PAGES,
    CONTROL,
    HEAP_FRAMES,
    LEAVERS,
    LEAVING,
    PARTIAL,
    SLAB_BASE,
    SLAB_FREE,
    SLAB_FRESH,
    SLAB_META,
    SLAB_PAGES,
    SLAB_PAGES_MAX,
    SLOT_SHIFT,
    UNIT_SHIFT,
    USED,
    class_of,
    class_size,
    control_add,
)
from mmcore.jit import bytes64, int64, kernel, linked, put64
from mmcore.mapping import map_pages, unmap_pages
from mmcore.mmu import load64, store64, write_address
from mmcore.paging import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from mmcore.state import SPACE


@kernel
def heap_has_room(space, size):  # type: ignore[no-untyped-def]
    """Whether a slab page has room for `size` bytes, at most SMALL_MAX; heap_alloc then maps no page."""
    return load64(space, CONTROL + PARTIAL + 8 * class_of(size)) != 0


@kernel
def slab_va(page):  # type: ignore[no-untyped-def]
    return SLAB_BASE + (page << PAGE_SHIFT)


@kernel
def slab_meta(page):  # type: ignore[no-untyped-def]
    return SLAB_META + (page << SLOT_SHIFT)


@kernel
def part(word, shift):  # type: ignore[no-untyped-def]
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
def _previous(links):  # type: ignore[no-untyped-def]
    return links & 0xFFFF_FFFF


@kernel
def _next(links):  # type: ignore[no-untyped-def]
    return (links >> 32) & 0xFFFF_FFFF


@linked(int64(SPACE, int64, int64))
def slab_link(space, kind, page):  # type: ignore[no-untyped-def]
    """Insert a page at the front of the list of its kind.  Returns 0, or NO_FRAME with nothing changed."""
    control = write_address(space, CONTROL)
    meta = write_address(space, slab_meta(page))
    if control < 0 or meta < 0:
        return NO_FRAME
    memory = space.mem.bytes
    head = control + _list_of(kind)
    first = bytes64(memory, head)
    if first != 0:
        neighbour = write_address(space, slab_meta(first - 1))
        if neighbour < 0:
            return NO_FRAME
        links = bytes64(memory, neighbour + 8)
        put64(memory, neighbour + 8, _next(links) << 32 | (page + 1))
    put64(memory, meta + 8, first << 32)
    put64(memory, head, page + 1)
    return 0


@linked(int64(SPACE, int64, int64))
def slab_unlink(space, kind, page):  # type: ignore[no-untyped-def]
    """Remove a page from the list of its kind.  Returns 0, or NO_FRAME with nothing changed."""
    control = write_address(space, CONTROL)
    meta = write_address(space, slab_meta(page))
    if control < 0 or meta < 0:
        return NO_FRAME
    memory = space.mem.bytes
    links = bytes64(memory, meta + 8)
    previous, following = _previous(links), _next(links)
    before = after = 0
    if previous != 0:
        before = write_address(space, slab_meta(previous - 1))
    if following != 0:
        after = write_address(space, slab_meta(following - 1))
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
        store64(space, CONTROL + SLAB_FREE, _next(load64(space, slab_meta(page) + 8)))
    else:
        page = load64(space, CONTROL + SLAB_FRESH)
        assert page < SLAB_PAGES_MAX, "out of addresses for slabs"
        if slab_meta(page) & PAGE_MASK == 0:
            code = map_pages(space, slab_meta(page), 1)
            assert code == 0, "a page of the heap was mapped already"
        store64(space, CONTROL + SLAB_FRESH, page + 1)
    code = map_pages(space, slab_va(page), 1)
    assert code == 0, "a page of the heap was mapped already"
    store64(space, slab_meta(page), _pack(group, 0, 0, 0))
    code = slab_link(space, group, page)
    assert code == 0, "no frames were reserved for the heap"
    control_add(space, SLAB_PAGES, 1)
    control_add(space, CLASS_PAGES + 8 * group, 1)
    return page


@linked(int64(SPACE, int64, int64))
def slab_release(space, kind, page):  # type: ignore[no-untyped-def]
    """Unmap an empty page.  If there are too few frames for that, it stays in its list."""
    if not has_frames(space, HEAP_FRAMES):
        return NO_FRAME
    code = slab_unlink(space, kind, page)
    assert code == 0, "no frames were reserved for the heap"
    group = kind & ~LEAVING
    control_add(space, SLAB_PAGES, -1)
    control_add(space, CLASS_PAGES + 8 * group, -1)
    if kind & LEAVING:
        control_add(space, CLASS_LEAVING + 8 * group, -1)
    code = unmap_pages(space, slab_va(page), 1)
    assert code == 0, "no frames were reserved for the heap"
    store64(space, slab_meta(page), 0)
    store64(space, slab_meta(page) + 8, load64(space, CONTROL + SLAB_FREE) << 32)
    store64(space, CONTROL + SLAB_FREE, page + 1)
    return 0


@kernel
def slab_alloc(space, group):  # type: ignore[no-untyped-def]
    size = class_size(group)
    control = write_address(space, CONTROL)
    if control < 0:
        return 0
    memory = space.mem.bytes
    page = bytes64(memory, control + PARTIAL + 8 * group) - 1
    if page < 0:
        page = _slab_new(space, group)
        if page < 0:
            return 0
    meta = write_address(space, slab_meta(page))
    base = write_address(space, slab_va(page))
    if meta < 0 or base < 0:
        return 0
    word = bytes64(memory, meta)
    used, fresh, free = part(word, 16), part(word, 32), part(word, 48)
    if free != 0:
        offset = (free - 1) << UNIT_SHIFT
        free = bytes64(memory, base + offset)
    else:
        offset = fresh << UNIT_SHIFT
        fresh += size >> UNIT_SHIFT
    if free == 0 and (fresh << UNIT_SHIFT) + size > PAGE_SIZE and slab_unlink(space, group, page) < 0:
        return 0
    put64(memory, meta, _pack(group, used + 1, fresh, free))
    put64(memory, control + USED, bytes64(memory, control + USED) + size)
    objects = control + CLASS_OBJECTS + 8 * group
    put64(memory, objects, bytes64(memory, objects) + 1)
    return slab_va(page) + offset


@kernel
def slab_free(space, va, group):  # type: ignore[no-untyped-def]
    size = class_size(group)
    page = (va - SLAB_BASE) >> PAGE_SHIFT
    offset = va & PAGE_MASK
    control = write_address(space, CONTROL)
    meta = write_address(space, slab_meta(page))
    base = write_address(space, slab_va(page))
    if control < 0 or meta < 0 or base < 0:
        return NO_FRAME
    memory = space.mem.bytes
    word = bytes64(memory, meta)
    used, fresh, free = part(word, 16), part(word, 32), part(word, 48)
    kind = part(word, 0)
    assert kind & ~LEAVING == group and used > 0 and offset >> UNIT_SHIFT < fresh, "freed what was not allocated"
    if free == 0 and (fresh << UNIT_SHIFT) + size > PAGE_SIZE and slab_link(space, kind, page) < 0:
        return NO_FRAME
    put64(memory, base + offset, free)
    put64(memory, meta, _pack(kind, used - 1, fresh, (offset >> UNIT_SHIFT) + 1))
    put64(memory, control + USED, bytes64(memory, control + USED) - size)
    objects = control + CLASS_OBJECTS + 8 * group
    put64(memory, objects, bytes64(memory, objects) - 1)
    if used == 1 and (bytes64(memory, meta + 8) != 0 or kind & LEAVING):
        slab_release(space, kind, page)
    return 0
