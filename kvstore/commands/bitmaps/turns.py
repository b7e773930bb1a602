"""BITOP of great strings: in steps, one a turn, as COPY of a great value (store/copying.py).

The store is forked, and the sources are read from the frozen root.  So the others go on, and may change the sources;
the result is that of the strings as they were at the fork.  It grows in a sapling (mmcore/graft.py), which belongs to
no store: no image and no transaction has the half of a result.  When it is complete, the sapling's page tables move
into the heap, and the destination is looked up.  A result that is too short for that is copied.

A BITOP in steps takes COPY's place.  So one of either is under way at a time, and others that are great wait; FLUSHALL,
FLUSHDB and SWAPDB let it begin again; and the root, the sapling and the record of the work are given back when the
connection is closed or the command refused (`release_copied` in store/flush.py).  It does not wait for memory that the
system has not provided yet, as COPY does: a step needs half a huge page at most, and a wait for each costs more.
"""

from kvstore.commands.bitmaps.combining import DONE, LENGTH, PAGES, combine_page, work_words
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import COMBINED_ROOT_PLUS_1, COMBINING_ADDRESS, COPY_READER_ADDRESS, COPY_ROOT
from kvstore.store.copying import copy_end, copy_fork
from kvstore.store.entries import NO_DEADLINE, entry_alloc, entry_alloc_around, entry_value
from kvstore.store.reserve import reserve
from kvstore.system.libc import words_at
from kvstore.wire.resp import reply_out_of_frames
from mmcore.graft import sapling_address, sapling_grow, sapling_new
from mmcore.heap import ADOPT_MIN, heap_adopt, heap_free
from mmcore.jit import int64, linked, view
from mmcore.mapping import load_cr3
from mmcore.mmu import copy_in
from mmcore.paging import PAGE_SHIFT, PAGE_SIZE
from mmcore.state import space_at

GREAT_WORK = 1 << 20  # [bytes] of the sources and the result: more is done in steps
STEP_WORK = 1 << 20  # [bytes] of a turn: some 0.2 ms
WORK_PER_ARGUMENT = 64  # [bytes] more: each turn reads the command again, so a step grows with its length
GROW_PAGES = 64  # that the sapling is given at once
COMBINED, MORE, REFUSED = 0, 1, 2


@view
def _work(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[COMBINING_ADDRESS], work_words(context.call[ARGC]))


@linked(int64(CONTEXT, int64, int64))
def turns_begin(context, address, begins):  # type: ignore[no-untyped-def]
    """Begin the work at `address`, malloc'd, which is taken over: 1, or 0 with nothing changed when frames ran out."""
    if copy_fork(context, begins) == 0:
        return 0
    root = sapling_new(context.space)
    if root < 0:
        copy_end(context)
        return 0
    context.store[COMBINED_ROOT_PLUS_1], context.store[COMBINING_ADDRESS] = root + 1, address
    return 1


@linked(int64(CONTEXT, int64[::1]))
def _grow(context, work):  # type: ignore[no-untyped-def]
    """Give the result some pages more: 1, or 0 with an error reply."""
    pages = min(GROW_PAGES, ((work[LENGTH] + PAGE_SIZE - 1) >> PAGE_SHIFT) - work[PAGES])
    if not reserve(context, 2, pages << PAGE_SHIFT):
        return 0
    if sapling_grow(context.space, context.store[COMBINED_ROOT_PLUS_1] - 1, work[PAGES], pages) != 0:
        reply_out_of_frames(context)
        return 0
    work[PAGES] += pages
    return 1


@linked(int64(CONTEXT))
def turns_step(context):  # type: ignore[no-untyped-def]
    """A step of the work under way, which is this connection's: COMBINED, MORE, or REFUSED with an error reply."""
    space, store, work = context.space, context.store, _work(context)
    root, reader = store[COMBINED_ROOT_PLUS_1] - 1, space_at(store[COPY_READER_ADDRESS])
    load_cr3(reader, store[COPY_ROOT])
    budget = STEP_WORK + WORK_PER_ARGUMENT * context.call[ARGC]
    while work[DONE] < work[LENGTH]:
        if budget <= 0:
            return MORE
        if work[DONE] == work[PAGES] << PAGE_SHIFT and not _grow(context, work):
            return REFUSED
        size = min(PAGE_SIZE, work[LENGTH] - work[DONE])
        budget = combine_page(reader, work, sapling_address(space, root, work[DONE]), size, budget)
    return COMBINED


@linked(int64(CONTEXT, int64))
def turns_entry(context, key_size):  # type: ignore[no-untyped-def]
    """An entry, whose key is not written yet, with the result, which is complete; 0 when frames ran out."""
    space, root, length = context.space, context.store[COMBINED_ROOT_PLUS_1] - 1, _work(context)[LENGTH]
    if length > ADOPT_MIN:
        value = heap_adopt(space, root, length)
        entry = entry_alloc_around(context, key_size, length, NO_DEADLINE, value) if value != 0 else int64(0)
        if value != 0 and entry == 0:
            code = heap_free(space, value, length)
            assert code == 0, "no frame was reserved for a release"
        return entry
    entry = entry_alloc(context, key_size, length, NO_DEADLINE)
    if entry != 0:
        value = entry_value(context, entry)
        for at in range(0, length, PAGE_SIZE):
            copy_in(space, value + at, space.mem.bytes, sapling_address(space, root, at), min(PAGE_SIZE, length - at))
    return entry
