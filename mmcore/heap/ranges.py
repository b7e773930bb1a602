"""Large allocations: ranges of whole pages, virtually contiguous.

Each has a range whose length is a power of two of pages; only the pages needed are mapped.  Virtual address space is
plentiful: a new range is cut off behind those used so far, and freed ranges are reused by order.  An allocation that
outgrows its range moves to a larger one: its page-table entries move, and no byte is copied.  A freed range of more
than QUEUE_PAGES pages is not unmapped at once but queued; heap_reclaim_step unmaps it piece by piece.

A range of 2 MiB and more begins at a multiple of 2 MiB, so its page tables can be moved and shared whole.  The space
that is skipped for that becomes free ranges.

heap_share makes a second allocation with the same contents, copy-on-write.  It borrows its pages: later writes to it or
to its origin may need a frame for each, and so does a copy of the space that shares nothing.  BORROWED counts these
pages, for an owner that wants to be sure of these frames.  A page that was written since still counts: the whole
allocation counts until it is freed, or said to be written whole (heap_repay).  In a space that was read from an image,
only the page of zeros is shared: heap_settle ends all other debts.

heap_extend gives an allocation zeros at its end that it borrows, too: each page is one page of zeros, which the first
write to it copies.  Before a write, heap_repay_zeros takes such pages off the debt.  So a sparse allocation has the
frames that were written, and its debt is exactly what it has not.

Word 0 of a range's metadata: order | mapped pages << 8 | state << 56.
"""

from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.graft import graft
from mmcore.heap.layout import (
    BORROWED,
    CONTROL,
    ERA,
    ERA_SHIFT,
    FREE,
    HEAP_FRAMES,
    LARGE_BASE,
    LARGE_FRESH,
    LARGE_META,
    LARGE_PAGES_MAX,
    LARGE_USED,
    LIVE,
    QUEUE,
    QUEUED,
    RANGES,
    SIZE_MAX,
    SLOT_SHIFT,
    USED,
    ZEROS,
    control_add,
    order_of,
    pages_of,
)
from mmcore.jit import int64, kernel, linked, void
from mmcore.mapping import map_pages, remap_pages, unmap_pages
from mmcore.mmu import load64, read_address, store64, write_address
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from mmcore.share import share_pages, share_repeated
from mmcore.state import CR3, SPACE
from mmcore.walk import walk

ADOPT_MIN = 1 << 20  # more bytes than this have a range that begins at a multiple of 2 MiB
QUEUE_PAGES = 64


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
    control_add(space, USED, change)
    control_add(space, LARGE_USED, change)


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
def large_alloc(space, size):  # type: ignore[no-untyped-def]
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
def large_free(space, va, size):  # type: ignore[no-untyped-def]
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


@linked(void(SPACE, int64, int64))
def _borrow_zeros(space, va, pages):  # type: ignore[no-untyped-def]
    """Map the page of zeros at each of the `pages` pages from `va` on; the frames for tables are reserved."""
    if read_address(space, ZEROS) < 0:
        code = map_pages(space, ZEROS, 1)
        assert code == 0, "no frames were reserved for the heap"
    share_repeated(space, ZEROS, va, pages)


@linked(int64(SPACE, int64, int64, int64, int64))
def _large_move(space, page, before, after, zeros):  # type: ignore[no-untyped-def]
    """Move the `before` pages of a range to a range for `after` pages.  Returns its va, or 0 with nothing changed.

    If `zeros` is 1, the pages that it gains are borrowed.
    """
    # Shared tables of the old range are copied, and tables for the new range are made; pages are not copied.
    gained = max(0, after - before) if zeros != 0 else 0
    frames = after - before - gained + _tables(before) + _tables(after) + _tables(gained) + HEAP_FRAMES
    if after << PAGE_SHIFT > SIZE_MAX or not has_frames(space, frames):
        return 0
    order = order_of(after)
    moved = _take_range(space, order)
    code = remap_pages(space, _large_va(page), before, _large_va(moved), after - gained, 0)
    assert code == 0, "a page of the heap was mapped already, or no frames were reserved for it"
    if gained > 0:
        _borrow_zeros(space, _large_va(moved + before), gained)
    borrowed = _borrowed(space, page) + gained
    _set_borrowed(space, page, 0)
    _describe(space, moved, order, after, borrowed)
    order = _range_order(load64(space, _large_meta(page)))
    _push_range(space, page, order, 0, FREE, CONTROL + RANGES + 8 * order)
    _add_used(space, -(before << PAGE_SHIFT))
    return _large_va(moved)


@linked(int64(SPACE, int64, int64, int64, int64))
def large_resize(space, va, old, new, zeros):  # type: ignore[no-untyped-def]
    """heap_resize for two large sizes, in place if the range has room; if `zeros` is 1, new pages are borrowed."""
    before, after = pages_of(old), pages_of(new)
    page = (va - LARGE_BASE) >> PAGE_SHIFT
    word = load64(space, _large_meta(page))
    order = _range_order(word)
    assert _range_state(word) == LIVE and _range_pages(word) == before, "resized what was not allocated"
    if after > 1 << order:
        return _large_move(space, page, before, after, zeros)
    grown = max(0, after - before)
    gained = grown if zeros != 0 else 0
    if not has_frames(space, grown - gained + _tables(grown) + _tables(gained) + HEAP_FRAMES):
        return 0
    code = 0
    if gained > 0:
        _borrow_zeros(space, va + (before << PAGE_SHIFT), gained)
    elif after > before:
        code = map_pages(space, va + (before << PAGE_SHIFT), grown)
    elif after < before:
        code = unmap_pages(space, va + (after << PAGE_SHIFT), before - after)
    assert code == 0, "a page of the heap was mapped already, or no frames were reserved for it"
    store64(space, _large_meta(page), _range_word(order, after, LIVE))
    _set_borrowed(space, page, min(after, _borrowed(space, page) + gained))
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


@linked(int64(SPACE, int64, int64, int64))
def heap_extend(space, va, old, new):  # type: ignore[no-untyped-def]
    """heap_resize of a large allocation to a larger size, by zeros that it borrows: they take tables, but no page."""
    return large_resize(space, va, old, new, 1)


@linked(void(SPACE, int64, int64, int64))
def heap_repay_zeros(space, va, first, count):  # type: ignore[no-untyped-def]
    """The `count` bytes from `first` on of the allocation at `va` will be written now: their zeros are owed no more."""
    if va < LARGE_BASE or heap_borrowed(space) == 0:
        return
    zeros, page = walk(space.mem, space.cpu[CR3], ZEROS, 0), (va - LARGE_BASE) >> PAGE_SHIFT
    at, repaid = (va + first) & ~PAGE_MASK, 0
    while at < va + first + count:
        if walk(space.mem, space.cpu[CR3], at, 0) == zeros:
            repaid += 1
        at += PAGE_SIZE
    owed = _borrowed(space, page)
    _set_borrowed(space, page, owed - min(owed, repaid))


@kernel
def _zeros_in(space, va, pages, zeros):  # type: ignore[no-untyped-def]
    # How many of the pages from `va` on are the page of zeros.
    found = 0
    for page in range(pages):
        if walk(space.mem, space.cpu[CR3], va + (page << PAGE_SHIFT), 0) == zeros:
            found += 1
    return found


@linked(void(SPACE))
def heap_settle(space):  # type: ignore[no-untyped-def]
    """No two addresses of the space share a page, except the page of zeros: allocations have borrowed only that."""
    if heap_borrowed(space) == 0:
        return
    zeros = walk(space.mem, space.cpu[CR3], ZEROS, 0)
    if zeros < 0:  # all debts end at once
        store64(space, CONTROL + BORROWED, 0)
        store64(space, CONTROL + ERA, (load64(space, CONTROL + ERA) + 1) & 0x7FFF_FFFF)
        return
    page, fresh = 0, load64(space, CONTROL + LARGE_FRESH)
    while page < fresh:
        word = load64(space, _large_meta(page))
        if _range_state(word) == LIVE and _borrowed(space, page) != 0:
            _set_borrowed(space, page, _zeros_in(space, _large_va(page), _range_pages(word), zeros))
        page += 1 << _range_order(word)
