"""check_memory: proof, by walking everything, that the machine's invariants hold.

From all roots it collects every table and page with the number of entries that point at them, level by level, and
compares with the counts, the free list and the TLBs.  It takes time in proportion to the frames in use: a test's
tool, and the last resort of a debugging session.
"""

from collections.abc import Iterable

import numpy as np

from mmcore.errors import CorruptMemory
from mmcore.paging import ADDRESS, COW, ENTRY_COUNT, MAPPING, PAGE_SHIFT, ROOT_LEVEL, RW, P
from mmcore.space import AddressSpace, PhysicalMemory
from mmcore.state import CR3, EPOCH, FREE_COUNT, FREE_HEAD, FRESH, GENERATION, LAST_EPOCH, TOTAL, Memory, Space
from mmcore.walk import walk_page


def _require(truth: bool, message: str) -> None:
    if not truth:
        raise CorruptMemory(message)


def _first(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[0])


def _free_frames(mem: Memory) -> np.ndarray:
    """bool[F]: on the free list or never used."""
    total, fresh = int(mem.frames[TOTAL]), int(mem.frames[FRESH])
    free = np.zeros(total, np.bool_)
    free[fresh:] = True
    frame = int(mem.frames[FREE_HEAD])
    while frame != -1:
        _require(0 <= frame < fresh, f"(8) the free list leads to frame {frame}, which was never used")
        _require(not free[frame], f"(8) frame {frame} is on the free list twice")
        free[frame] = True
        frame = int(mem.epoch[frame])
    count = int(mem.frames[FREE_COUNT])
    _require(int(free.sum()) == count, f"(8) {int(free.sum())} frames are free, {count} are said to be")
    return free


def _count_references(mem: Memory, roots: list[int]) -> np.ndarray:
    """int64[F]: entries and roots that point at each frame.  Also checks the entries and the rights they give."""
    total = int(mem.frames[TOTAL])
    references = np.bincount(np.array(roots, np.int64), minlength=total)
    level_of = np.full(total, -1)
    entries = mem.entries.reshape(total, ENTRY_COUNT)
    tables = np.unique(np.array(roots, np.int64))
    writable = np.zeros(total, np.bool_)  # whether R/W is set all the way to this table
    writable[tables] = True
    for level in range(ROOT_LEVEL, 0, -1):
        _require(bool((level_of[tables] == -1).all()), f"a frame is a table of level {level} and something else")
        level_of[tables] = level
        content = entries[tables]
        present = (content & P) != 0
        where = "a PTE" if level == 1 else f"an entry of level {level}"
        _require(bool((content[~present] == 0).all()), f"{where} is not present and not empty")
        flags = content[present] & ~ADDRESS
        _require(bool(((flags | RW) == MAPPING).all()), f"{where} has odd flags")
        _require(bool((flags & COW != 0).all()), f"{where} may never be written")
        targets = ((content[present] & ADDRESS) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        _require(bool((targets < int(mem.frames[FRESH])).all()), f"{where} points beyond the frames in use")
        references += np.bincount(targets, minlength=total)
        # (3) R/W on the whole path means that the frame is this path's alone.
        rights = present & (content & RW != 0) & writable[tables][:, None]
        owned = ((content[rights] & ADDRESS) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        shared = mem.refcount[owned] > 1
        _require(not shared.any(), f"(2) {where} lets frame {owned[shared][:1]} be written, which is shared")
        writable[owned] = True
        if level > 1:
            source = np.repeat(tables, ENTRY_COUNT).reshape(content.shape)[present]
            older = mem.epoch[source] < mem.epoch[targets]
            _require(not older.any(), f"a table of level {level} was stamped before one below it")
        tables = np.unique(targets)
    _require(bool((level_of[tables] == -1).all()), "a frame is a page and a table")
    return references


def _check_tlb(space: Space) -> None:
    tags = space.tlb.reshape(-1, 4)
    generation = int(space.cpu[GENERATION])
    vpn_mask = (1 << 36) - 1
    for column, right in ((0, "read"), (1, "write")):
        for entry in tags[(tags[:, column] & ~vpn_mask) == generation]:
            va = (int(entry[column]) & vpn_mask) << PAGE_SHIFT
            frame, writable = walk_page(space.mem, space.cpu[CR3], va)
            _require(frame << PAGE_SHIFT == entry[2], f"(6) the TLB has another frame for {right}s of {va:#x}")
            _require(column == 0 or bool(writable), f"(6) the TLB lets {va:#x} be written, its path does not")


def check_memory(memory: PhysicalMemory, spaces: Iterable[AddressSpace], roots: Iterable[int] = ()) -> None:
    """Prove invariants 1, 2, 3, 4 and 8 and the TLBs, or raise CorruptMemory naming what is wrong.

    spaces: all live spaces on the memory; dead ones are passed over.
    roots: roots beside them, being read or released (a release cursor's first word).
    """
    mem = memory.state
    states = [space.state for space in spaces if space.alive]
    all_roots = [int(state.cpu[CR3]) for state in states] + [int(root) for root in roots if root >= 0]
    free = _free_frames(mem)
    references = _count_references(mem, all_roots)
    wrong = references != mem.refcount
    if wrong.any():
        frame = _first(wrong)
        raise CorruptMemory(f"(1) frame {frame} has count {mem.refcount[frame]} and {references[frame]} references")
    both = free & (references > 0)
    _require(not both.any(), f"(8) frame {_first(both) if both.any() else 0} is free and reachable")
    lost = ~free & (references == 0)
    _require(not lost.any(), f"(8) frame {_first(lost) if lost.any() else 0} is neither free nor reachable")
    last = int(mem.frames[LAST_EPOCH])
    late = ~free & (mem.epoch > last)
    _require(not late.any(), "a frame is stamped with an epoch to come")
    for state in states:
        _require(int(state.cpu[EPOCH]) <= last, "a space lives in an epoch to come")
        _check_tlb(state)
