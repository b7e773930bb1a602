"""check_memory and check_heap: they prove the invariants by walking all structures.

check_memory starts from all roots.  Level by level it collects every table and page, with the number of entries that
point at it, and compares the result with the reference counts, the free lists and the TLBs.  It takes time in
proportion to the frames in use, so it is meant for tests and for debugging.

The invariants, by their numbers in comments and messages:

    1   refcount[f] = present entries, plus roots, that point at f
    2   no guest store changes a frame with refcount > 1; in a shared table, R/W may only be cleared, A only be set
    3   a page is writable iff R/W is set in every entry of its path
    4   pages below a shared table are counted once, by that table; counts move down only when it is copied
    5   copy, then publish, then invalidate; if frames run out, the old mapping stays
    6   after a fork no write translation made before it survives in a TLB
    7   only the owner changes entries, counts and free lists; a reader of a frozen root sees the frozen state
    8   free and reachable frames are disjoint, and together are all frames
    9   a huge page is an aligned run of 512 frames; the refcount of its head is the number of entries, the others' is 1
    10  A is set along the path of every cached translation, D if it may be written; D only in entries that map a page
    14  charges[a] is the number of frames in use that account a pays for; of a closed one less CLOSED

11 to 13 are the heap's.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmcore import paging
from mmcore.charges import CLOSED
from mmcore.errors import CorruptMemory
from mmcore.frames import (
    BLOCK_COUNT,
    BLOCK_EMPTY,
    BLOCK_FREE,
    BLOCK_NEXT,
    BLOCK_PREVIOUS,
    BLOCK_STATE,
    BLOCK_WORDS,
    EMPTY_RUN,
    PARTIAL_OR_NONE,
    USED_RUN,
)
from mmcore.frozen import next_mapping
from mmcore.heap import layout as heap
from mmcore.jit import in_python
from mmcore.mapping import next_mapped
from mmcore.memory import PhysicalMemory
from mmcore.paging import ENTRY_COUNT, PAGE_SHIFT, PAGE_SIZE, ROOT_LEVEL, RUN_FRAMES, span
from mmcore.psc import PSC_WORDS
from mmcore.space import AddressSpace
from mmcore.state import (
    ACCOUNTS,
    CR3,
    EMPTY_COUNT,
    EMPTY_RUNS,
    EPOCH,
    FREE_ACCOUNT,
    FREE_COUNT,
    FRESH,
    FROZEN,
    GENERATION,
    LAST_EPOCH,
    PARTIAL_HEAD,
    PSC_FIRST,
    PSC_MASK,
    RUN_COUNT,
    TOTAL,
    USED_RUNS,
    Space,
)
from mmcore.tlb import GENERATION_ONE, TLB_WORDS
from mmcore.walk import walk

# The bits of entries as NumPy scalars, for operations on whole arrays.
ADDRESS, COW, MAPPING, PS, READY, RW, WHOLE, A, D, P = (
    np.uint64(int(getattr(paging, name)))
    for name in ["ADDRESS", "COW", "MAPPING", "PS", "READY", "RW", "WHOLE", "A", "D", "P"]
)
_span = in_python(span)


def _require(truth: bool, message: str) -> None:
    if not truth:
        raise CorruptMemory(message)


def _first(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[0])


def _chain(mem: Any, head: int, kind: int) -> list[int]:
    """The blocks of a list; all must have state `kind`."""
    chain: list[int] = []
    block, before, limit = int(mem.frames[head]), -1, len(mem.blocks) // BLOCK_WORDS
    while block != -1:
        _require(0 <= block < limit and len(chain) < limit, f"(8) a list of free frames leads to block {block}")
        words = mem.blocks[block * BLOCK_WORDS : (block + 1) * BLOCK_WORDS]
        _require(int(words[BLOCK_PREVIOUS]) == before, f"(8) block {block} is in two lists, or in one twice")
        _require(int(words[BLOCK_STATE]) == kind, f"(8) block {block} does not know its list")
        chain.append(block)
        before, block = block, int(words[BLOCK_NEXT])
    return chain


def _free_in_block(mem: Any, block: int, free: np.ndarray) -> int:
    """Mark the free frames of a partial block in `free`.  Returns how many of them are recorded as holding zeros."""
    words = mem.blocks[block * BLOCK_WORDS : (block + 1) * BLOCK_WORDS]
    frame, count, empty = int(words[BLOCK_FREE]) - 1, 0, 0
    first, end = block * RUN_FRAMES, min((block + 1) * RUN_FRAMES, int(mem.frames[FRESH]))
    while frame != -1:
        _require(first <= frame < end, f"(8) the free list of block {block} leads to frame {frame}")
        _require(not free[frame], f"(8) frame {frame} is free twice")
        free[frame] = True
        word = int(mem.epoch[frame])
        if word & 1:
            empty += 1
            _require(_holds_zeros(mem, frame, 1), f"(8) free frame {frame} is said to hold zeros")
        frame = (word >> 1) - 1
        count += 1
    said = int(words[BLOCK_COUNT])
    _require(count == said and 0 < count < RUN_FRAMES, f"(8) {count} frames of block {block} are free, {said} are said")
    _require(empty == int(words[BLOCK_EMPTY]), f"(8) {empty} free frames of block {block} hold zeros")
    return empty


def _holds_zeros(mem: Any, first: int, count: int) -> bool:
    return not mem.entries[first * ENTRY_COUNT : (first + count) * ENTRY_COUNT].any()


def _free_frames(mem: Any) -> np.ndarray:
    """bool[F]: whether each frame is in a partial block's list, in a free run, or never used."""
    total, fresh = int(mem.frames[TOTAL]), int(mem.frames[FRESH])
    free = np.zeros(total, np.bool_)
    free[fresh:] = True
    partial = _chain(mem, PARTIAL_HEAD, PARTIAL_OR_NONE)
    empty = sum(_free_in_block(mem, block, free) for block in partial)
    used, zeros = _chain(mem, USED_RUNS, USED_RUN), _chain(mem, EMPTY_RUNS, EMPTY_RUN)
    for block in used + zeros:
        run = slice(block * RUN_FRAMES, (block + 1) * RUN_FRAMES)
        _require(run.stop <= fresh, f"(8) no run begins at frame {run.start}")
        _require(not free[run].any(), f"(8) the run at frame {run.start} is free twice")
        free[run] = True
    for block in zeros:
        first = block * RUN_FRAMES
        _require(_holds_zeros(mem, first, RUN_FRAMES), f"(8) the run at frame {first} is said to hold zeros")
    runs, said = len(used) + len(zeros), int(mem.frames[RUN_COUNT])
    _require(runs == said, f"(8) {runs} runs are free, {said} are said to be")
    empty += len(zeros) * RUN_FRAMES
    _require(
        empty == int(mem.frames[EMPTY_COUNT]), f"(8) {empty} free frames hold zeros, {mem.frames[EMPTY_COUNT]} said"
    )
    listed = set(partial) | set(used) | set(zeros)
    described = np.flatnonzero(mem.blocks.reshape(-1, BLOCK_WORDS)[:, : BLOCK_STATE + 1].any(axis=1))
    _require(set(described.tolist()) <= listed, "(8) a block has free frames and is in no list")
    count = int(mem.frames[FREE_COUNT])
    _require(int(free.sum()) == count, f"(8) {int(free.sum())} frames are free, {count} are said to be")
    return free


def _frames_of(entries: np.ndarray) -> np.ndarray:
    return ((entries & ADDRESS) >> np.uint64(PAGE_SHIFT)).astype(np.int64)


def _check_flags(entries: np.ndarray, level: int, where: str) -> None:
    flags = entries & ~ADDRESS
    optional = RW | A
    if level == 1:
        optional |= D
    elif level == 2:
        _require(bool((flags & (PS | D) != D).all()), f"(10) {where} leads to a table and has D")
        _require(bool((flags & (PS | WHOLE) != PS | WHOLE).all()), f"{where} maps a huge page and has WHOLE")
        optional |= D | PS | WHOLE
    _require(bool(((flags | optional) == MAPPING | optional).all()), f"{where} has odd flags")
    _require(bool((flags & COW != 0).all()), f"{where} may never be written")


class _Tree:
    """The tables and pages of the trees at some roots, collected level by level."""

    def __init__(self, mem: Any, roots: list[int], whole: bool) -> None:
        self.mem = mem
        self.whole = whole  # no tree is being released, so no table may be empty
        self.total = int(mem.frames[TOTAL])
        self.references = np.bincount(np.array(roots, np.int64), minlength=self.total)
        self.level_of = np.full(self.total, -1)
        self.writable = np.zeros(self.total, np.bool_)  # whether R/W is set all the way to this table
        tables = np.unique(np.array(roots, np.int64))
        self.writable[tables] = True
        for level in range(ROOT_LEVEL, 0, -1):
            tables = self._descend(tables, level)

    def _settle(self, frames: np.ndarray, level: int, what: str) -> None:
        _require(bool((self.level_of[frames] == -1).all()), f"a frame is {what} and something else")
        self.level_of[frames] = level

    def _descend(self, tables: np.ndarray, level: int) -> np.ndarray:
        # Process the entries of all tables of a level; returns the tables that they point at.
        mem = self.mem
        self._settle(tables, level, f"a table of level {level}")
        content = mem.entries.reshape(self.total, ENTRY_COUNT)[tables]
        filled = content.any(axis=1)
        _require(not self.whole or level == ROOT_LEVEL or bool(filled.all()), f"a table of level {level} is empty")
        if not filled.all():  # of many roots most may be empty
            tables, content = tables[filled], content[filled]
        present = (content & P) != 0
        where = "a PTE" if level == 1 else f"an entry of level {level}"
        _require(bool((content[~present] == 0).all()), f"{where} is not present and not empty")
        entries = content[present]
        _check_flags(entries, level, where)
        targets = _frames_of(entries)
        _require(bool((targets < int(mem.frames[FRESH])).all()), f"{where} points beyond the frames in use")
        self.references += np.bincount(targets, minlength=self.total)
        self._check_rights(tables, content, present, where)
        if level > 1:
            source = np.repeat(tables, ENTRY_COUNT).reshape(content.shape)[present]
            older = mem.epoch[source] < mem.epoch[targets]
            older &= entries & PS == 0  # a moved huge page may be stamped later than the tables of its other sharers
            _require(not older.any(), f"a table of level {level} was stamped before one below it")
        if level == 1:
            self._settle(np.unique(targets), 0, "a page")
        huge = (entries & PS) != 0
        self._take_huge(np.unique(targets[huge]))
        return np.unique(targets[~huge])

    def _check_rights(self, tables: np.ndarray, content: np.ndarray, present: np.ndarray, where: str) -> None:
        # (3) If R/W is set in the whole path, no other path leads to the frame.
        rights = present & (content & RW != 0) & self.writable[tables][:, None]
        owned = _frames_of(content[rights])
        shared = self.mem.refcount[owned] > 1
        _require(not shared.any(), f"(2) {where} lets frame {owned[shared][:1]} be written, which is shared")
        self.writable[owned] = True

    def _take_huge(self, heads: np.ndarray) -> None:
        _require(bool((heads % RUN_FRAMES == 0).all()), "(9) a huge page is not aligned")
        frames = heads[:, None] + np.arange(RUN_FRAMES)
        _require(bool((self.references[frames[:, 1:]] == 0).all()), "(9) a frame of a huge page is something else too")
        self.references[frames[:, 1:]] = 1
        self._settle(frames.ravel(), 0, "a page of 2 MiB")


def _walk(mem: Any, root: int, va: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(frames of the pages at these addresses, -1 for none; the flags set in the whole path; D is the last entry's)."""
    table, frame = np.full(va.size, root), np.full(va.size, -1)
    flags, left = np.full(va.size, ~np.uint64(0)), np.full(va.size, True)
    for level in range(ROOT_LEVEL, 0, -1):
        entry = mem.entries[table * ENTRY_COUNT + va // _span(level) % ENTRY_COUNT]
        flags = np.where(left, (flags | D) & entry, flags)
        left &= entry != 0
        table = _frames_of(entry)
        last = left & ((entry & PS) != 0) if level == 2 else left if level == 1 else np.full(va.size, False)
        frame[last] = table[last] + (va[last] // PAGE_SIZE % ENTRY_COUNT if level == 2 else 0)
        left &= ~last
    return frame, flags


def _check_tlb(mem: Any, space: Space) -> None:
    tags = np.asarray(space.tlb).reshape(-1, TLB_WORDS)
    generation = int(space.cpu[GENERATION])
    vpn_mask = GENERATION_ONE - 1
    for column, right in ((0, "read"), (1, "write")):
        held = tags[(tags[:, column] & ~vpn_mask) == generation]
        addresses = (held[:, column] & vpn_mask) << PAGE_SHIFT
        frames, flags = _walk(mem, int(space.cpu[CR3]), addresses)
        for wrong, what in (
            (frames << PAGE_SHIFT != held[:, 2], f"(6) the TLB has another frame for {right}s of"),
            (
                np.full(addresses.size, not space.cpu[FROZEN]) & (flags & A == 0),
                "(10) of whose path some entry has no A, the TLB has",
            ),
            ((flags & READY != READY) & (column == 1), "(6) the TLB lets be written, but not its path,"),
        ):
            _require(not wrong.any(), f"{what} {addresses[_first(wrong)] if wrong.any() else 0:#x}")


def _check_psc(mem: Any, space: Space) -> None:
    generation, mask = int(space.cpu[GENERATION]), GENERATION_ONE - 1
    for level in range(2, ROOT_LEVEL + 1):
        first, count = int(space.processor[PSC_FIRST + level]), int(space.processor[PSC_MASK + level]) + 1
        cache = np.asarray(space.psc)[first : first + PSC_WORDS * count].reshape(-1, PSC_WORDS)
        for tag, value in cache[(cache[:, 0] & ~mask) == generation].tolist():
            va = (tag & mask) * _span(level)
            table, flags = int(space.cpu[CR3]), ~np.uint64(0)
            for above in range(ROOT_LEVEL, level - 1, -1):
                entry = mem.entries[table * ENTRY_COUNT + va // _span(above) % ENTRY_COUNT]
                table, flags = int(entry & ADDRESS) >> PAGE_SHIFT, flags & entry
            _require(table == value >> PAGE_SHIFT, f"(6) the cache of level {level} has another table for {va:#x}")
            _require(bool(flags & A), f"(10) the cache of level {level} has {va:#x}, whose path has no A")
            _require(bool(flags & RW or not value & 1), f"(6) the cache of level {level} lets {va:#x} be written")


def _check_charges(mem: Any, used: np.ndarray) -> None:
    given = int(mem.frames[ACCOUNTS])
    payers = mem.payer[used]
    _require(bool(((payers >= 0) & (payers < given)).all()), "(14) a frame is charged to no account")
    charged = np.bincount(payers, minlength=given)
    free, account = set(), int(mem.frames[FREE_ACCOUNT])
    while account != given:
        _require(0 <= account < given and account not in free, "(14) the free numbers of accounts are no list")
        free.add(account)
        account = ~int(mem.charges[account])
    for account, count in enumerate(mem.charges[:given].tolist()):
        if account in free:
            _require(charged[account] == 0, f"(14) frames are charged to account {account}, which is free")
            continue
        said = count + CLOSED if count < 0 else count
        pays = int(charged[account])
        _require(said == pays, f"(14) account {account} pays for {pays} frames, {said} are said")
        _require(count >= 0 or said > 0, f"(14) account {account} is closed and has no frame, but is not free")


def check_memory(memory: PhysicalMemory, spaces: Iterable[AddressSpace], roots: Iterable[int] = ()) -> None:
    """Prove invariants 1, 2, 3, 4, 6, 8, 9, 10 and 14, or raise CorruptMemory with the first violation.

    spaces: all live spaces on the memory; dead ones are skipped.
    roots: all other roots that are being read or released (the first word of a release cursor).
    """
    mem = memory.state.arrays
    states = [space.state for space in spaces if space.alive]
    others = [int(root) for root in roots if root >= 0]
    all_roots = [int(state.cpu[CR3]) for state in states] + others
    free = _free_frames(mem)
    references = _Tree(mem, all_roots, not others).references
    wrong = references != mem.refcount
    if wrong.any():
        frame = _first(wrong)
        raise CorruptMemory(f"(1) frame {frame} has count {mem.refcount[frame]} and {references[frame]} references")
    both = free & (references > 0)
    _require(not both.any(), f"(8) frame {_first(both) if both.any() else 0} is free and reachable")
    lost = ~free & (references == 0)
    _require(not lost.any(), f"(8) frame {_first(lost) if lost.any() else 0} is neither free nor reachable")
    _check_charges(mem, ~free)
    last = int(mem.frames[LAST_EPOCH])
    late = ~free & (mem.epoch > last)
    _require(not late.any(), "a frame is stamped with an epoch to come")
    for state in states:
        _require(int(state.cpu[EPOCH]) <= last, "a space lives in an epoch to come")
        _check_tlb(mem, state)
        _check_psc(mem, state)


class _HeapReader:
    """Reads the heap's own data structures through its space."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self._pages: dict[int, memoryview] = {}  # in words; many descriptions share a page

    def words(self, address: int, count: int) -> list[int]:
        first, end = address // PAGE_SIZE, (address + 8 * count - 1) // PAGE_SIZE
        if first != end or address % 8:
            return memoryview(self.space.read(address, 8 * count)).cast("q").tolist()
        page = self._pages.get(first)
        if page is None:
            page = self._pages[first] = memoryview(self.space.read(first * PAGE_SIZE, PAGE_SIZE)).cast("q")
        start = address % PAGE_SIZE // 8
        return page[start : start + count].tolist()

    def metadata(self, base: int, page: int) -> tuple[int, int]:
        first, second = self.words(base + page * heap.SLOT_SIZE, 2)
        return first, second & 0xFFFF_FFFF_FFFF_FFFF

    def chain(self, first: int, base: int, shift: int, limit: int) -> list[int]:
        """The page numbers of a list; its link is in the second word of metadata, from bit `shift` on."""
        pages: list[int] = []
        while first != 0:
            _require(0 < first <= limit and len(pages) < limit, f"a list of the heap leads to page {first - 1}")
            pages.append(first - 1)
            first = (self.metadata(base, first - 1)[1] >> shift) & 0xFFFF_FFFF
        return pages


def _check_slabs(reader: _HeapReader, fresh: int, free_head: int) -> int:
    free = set(reader.chain(free_head, heap.SLAB_META, 32, fresh))
    classes = len(heap.CLASS_SIZES)
    heads = reader.words(heap.CONTROL + heap.PARTIAL, classes)
    listed: dict[int, int] = {}
    for group, head in [*enumerate(heads), (heap.LEAVING, *reader.words(heap.CONTROL + heap.LEAVERS, 1))]:
        before = 0
        for page in reader.chain(head, heap.SLAB_META, 32, fresh):
            _require(page not in listed and page not in free, f"slab page {page} is in two lists")
            listed[page] = group
            back = reader.metadata(heap.SLAB_META, page)[1] & 0xFFFF_FFFF
            _require(back == before, f"slab page {page}: its link back")
            before = page + 1
    used = 0
    pages, leaving, objects = ([0] * classes for _ in range(3))
    for page in range(fresh):
        word, links = reader.metadata(heap.SLAB_META, page)
        address = heap.SLAB_BASE + page * PAGE_SIZE
        mapped = reader.space.mapped(address, PAGE_SIZE)
        _require(mapped == (page not in free), f"slab page {page} is {'mapped' if mapped else 'not mapped'}")
        if page in free:
            _require(word == 0 and links & 0xFFFF_FFFF == 0, f"slab page {page} is free but described")
            continue
        kind, count, carved, first = (word >> shift & 0xFFFF for shift in (0, 16, 32, 48))
        group = kind & ~heap.LEAVING
        _require(group < classes, f"slab page {page} is of class {group}")
        size = heap.CLASS_SIZES[group]
        pages[group] += 1
        leaving[group] += kind != group
        objects[group] += count
        content = reader.words(address, PAGE_SIZE // 8)
        spare: set[int] = set()
        while first != 0:
            offset = (first - 1) * heap.UNIT
            sound = offset % size == 0 and first - 1 < carved and offset not in spare
            _require(sound, f"slab page {page}: its free list")
            spare.add(offset)
            first = content[offset // 8]
        _require(count + len(spare) == carved * heap.UNIT // size, f"slab page {page} counts {count} objects in use")
        room = bool(spare) or carved * heap.UNIT + size <= PAGE_SIZE
        _require(room == (page in listed), f"slab page {page} has {'' if room else 'no '}room, its list says otherwise")
        _require(
            not room or listed[page] == (group if kind == group else heap.LEAVING),
            f"slab page {page} is in another class's list",
        )
        _require(room or kind == group, f"slab page {page} is leaving and full")
        used += count * size
    for place, counts in ((heap.CLASS_PAGES, pages), (heap.CLASS_LEAVING, leaving), (heap.CLASS_OBJECTS, objects)):
        _require(reader.words(heap.CONTROL + place, classes) == counts, f"the counts by class at {place}")
    _require(reader.words(heap.CONTROL + heap.SLAB_PAGES, 1) == [sum(pages)], "the number of slab pages")
    return used


def _check_ranges(reader: _HeapReader, fresh: int, queue_head: int) -> int:
    heads = reader.words(heap.CONTROL + heap.RANGES, heap.ORDER_MAX + 1)
    listed = dict.fromkeys(reader.chain(queue_head, heap.LARGE_META, 0, fresh), heap.QUEUED)
    for order, head in enumerate(heads):
        for page in reader.chain(head, heap.LARGE_META, 0, fresh):
            _require(page not in listed, f"large range {page} is in two lists")
            _require(reader.metadata(heap.LARGE_META, page)[0] & 0xFF == order, f"large range {page}: its order")
            listed[page] = heap.FREE
    used = page = ranges = owed = 0
    borrowed, era = reader.words(heap.CONTROL + heap.BORROWED, 2)
    while page < fresh:
        word, _ = reader.metadata(heap.LARGE_META, page)
        order, pages, state = word & 0xFF, word >> 8 & 0xFFFF_FFFF_FFFF, word >> 56
        address = heap.LARGE_BASE + page * PAGE_SIZE
        _require(state in (heap.LIVE, heap.FREE, heap.QUEUED), f"large range {page} is in state {state}")
        _require(listed.get(page, heap.LIVE) == state, f"large range {page}: its list does not know its state")
        _require(pages <= 1 << order and (state != heap.FREE or pages == 0), f"large range {page} has {pages} pages")
        _require(pages == 0 or reader.space.mapped(address, pages * PAGE_SIZE), f"large range {page} has holes")
        end = address + (PAGE_SIZE << order)
        tail = address + pages * PAGE_SIZE
        _require(int(next_mapped(reader.space.state, tail, end)) == end, f"large range {page} has too many pages")
        ranges += page in listed
        if state == heap.LIVE:
            used += pages * PAGE_SIZE
            debt = reader.metadata(heap.LARGE_META, page)[1]
            lent = _count_zeros(reader.space, address, tail)
            known = debt % (1 << heap.ERA_SHIFT) if debt >> heap.ERA_SHIFT == era else 0
            _require(lent <= known, f"large range {page} has {lent} pages of zeros and owes {known}")
            if debt >> heap.ERA_SHIFT == era:
                _require(debt % (1 << heap.ERA_SHIFT) <= pages, f"large range {page} has borrowed too many pages")
                owed += debt % (1 << heap.ERA_SHIFT)
        page += 1 << order
    _require(page == fresh and ranges == len(listed), "the large ranges do not fill their region")
    _require(owed == borrowed, f"{owed} pages are borrowed, {borrowed} are said to be")
    return used


def _count_zeros(space: AddressSpace, va: int, end: int) -> int:
    # How many pages of [va, end) are the heap's page of zeros.
    mem, root, found = space.state.mem, int(space.state.cpu[CR3]), 0
    zeros = int(walk(mem, root, heap.ZEROS, 0))
    while zeros >= 0 and va < end:
        first = int(next_mapping(mem, root, va, end, zeros, 1))
        va = int(next_mapping(mem, root, first, end, zeros, 0))
        found += (va - first) // PAGE_SIZE
    return found


def check_heap(space: AddressSpace) -> int:
    """Prove that the heap's lists, counts and mappings agree, or raise CorruptMemory.  Returns the bytes in use."""
    reader = _HeapReader(space)
    magic, used, slab_fresh, slab_free, large_fresh, queue = reader.words(heap.CONTROL, 6)
    _require(magic == heap.HEAP_MAGIC, "there is no heap")
    large = _check_ranges(reader, large_fresh, queue)
    found = _check_slabs(reader, slab_fresh, slab_free) + large
    _require(reader.words(heap.CONTROL + heap.LARGE_USED, 1) == [large], "the bytes in large allocations")
    _require(found == used, f"{found} bytes of the heap are in use, {used} are said to be")
    return used
