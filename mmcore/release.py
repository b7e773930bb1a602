"""Release of a whole tree, in steps whose length the caller bounds.

A cursor, int64[CURSOR_SIZE], records the progress: a stack of (table, index) from the root down.  The walk clears each
entry that it has passed, so between steps the root is a smaller but valid tree.  A table that is still shared only
loses one reference, and its entries are not visited.  A huge page is released at once and counts as _RUN_WORTH frames.

    cursor[0]                     the root; RELEASED when all is done
    cursor[1]                     level of the current table, 0 before the first step
    cursor[2 * level], [... + 1]  table of that level, and index of the next entry to look at

Only the owner of the memory may call it, and only with a root that nobody reads any more.  From Python, `Release` is
a cursor, and `release` goes all the way.
"""

from operator import index
from typing import TYPE_CHECKING

from mmcore.frames import frame_drop, run_drop
from mmcore.jit import Array, int64, kernel, linked, prefetch, void, zeros
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, HUGE, NO_ENTRY, ROOT_LEVEL, P, frame_of, slot_at
from mmcore.state import MEMORY
from mmcore.tables import clear_children, next_child, set_entry

if TYPE_CHECKING:
    from mmcore.memory import PhysicalMemory

RELEASED = -1
CURSOR_SIZE = 16
_SCANNED_PER_FRAME = 64  # empty entries that cost about as much as one frame
_RUN_WORTH = 16  # its 512 counts are neighbours
_AHEAD = 16  # entries: the counts of their pages are scattered in memory, so they are prefetched this far ahead


@linked(void(int64[::1], int64))
def release_begin(cursor, root):  # type: ignore[no-untyped-def]
    """Set a cursor to release the tree at `root`."""
    cursor[0] = root
    cursor[1] = 0


@kernel
def _drop_shared(mem, table, index, end):  # type: ignore[no-untyped-def]
    # Drop the references of a table's entries from `index` on, up to `end` or to the first entry that is absent, maps a
    # huge page or is the last one that points at its frame.  Returns the index of that.
    entries, counts = mem.entries, mem.refcount
    while index < end:
        entry = entries[slot_at(table, index)]
        if entry & HUGE != P:
            break
        child = frame_of(entry)
        count = counts[child]
        if count == 1:
            break
        counts[child] = count - 1
        index += 1
    return index


@kernel
def _free_pages(mem, pt, index, end):  # type: ignore[no-untyped-def]
    # Free the pages of a PT's entries from `index` on, up to `end` or to the first entry that is absent or not the last
    # one that points at its frame.  Returns the index of that.
    while index < end:
        slot = slot_at(pt, index)
        child = frame_of(mem.entries[slot])
        if mem.entries[slot] == NO_ENTRY or mem.refcount[child] > 1:
            break
        if index + _AHEAD < ENTRY_COUNT:
            later = frame_of(mem.entries[slot + _AHEAD])
            prefetch(mem.refcount, later)
            prefetch(mem.epoch, later)
        frame_drop(mem, child)
        index += 1
    return index


@kernel
def _drop_children(mem, table, level, first, limit):  # type: ignore[no-untyped-def]
    # Drop the references of a table's entries from index `first` on, up to `limit` of them, or to an entry on which
    # more than a page depends.  Returns (the index behind the last one, how many).  The entries are not cleared.
    index, dropped = next_child(mem, table, first), 0
    while index < ENTRY_COUNT and dropped < limit:
        end = min(ENTRY_COUNT, index + limit - dropped)
        after = _drop_shared(mem, table, index, end)
        if level == 1:
            after = _free_pages(mem, table, after, end)
        dropped += after - index
        if after == index:
            if mem.entries[slot_at(table, index)] != NO_ENTRY:
                break
            after = next_child(mem, table, index)
        index = after
    return index, dropped


@linked(int64(MEMORY, int64[::1], int64))
def release_step(mem, cursor, budget):  # type: ignore[no-untyped-def]
    """Release about `budget` frames of the cursor's tree; returns how many.  cursor[0] is RELEASED at the end."""
    examined = 0
    if cursor[0] == RELEASED:
        return examined
    if cursor[1] == 0:
        if mem.refcount[cursor[0]] > 1:
            frame_drop(mem, cursor[0])
            cursor[0] = RELEASED
            return 1
        cursor[1] = ROOT_LEVEL
        cursor[2 * ROOT_LEVEL] = cursor[0]
        cursor[2 * ROOT_LEVEL + 1] = 0
    while examined < budget:
        level = cursor[1]
        table, first = cursor[2 * level], cursor[2 * level + 1]
        index, dropped = _drop_children(mem, table, level, first, budget - examined)
        examined += 1 + dropped + (index - first - dropped) // _SCANNED_PER_FRAME
        if index == ENTRY_COUNT:
            if level < ROOT_LEVEL:
                set_entry(mem, (cursor[2 * level + 2] << ENTRY_SHIFT) + cursor[2 * level + 3], NO_ENTRY)
                cursor[2 * level + 3] += 1
            cursor[1] = level + 1
            frame_drop(mem, table)
            if level == ROOT_LEVEL:
                cursor[0] = RELEASED
                break
            continue
        clear_children(mem, table, first, index)
        cursor[2 * level + 1] = index
        # A step that has passed no entry goes down one level, even with a budget of 1.
        if examined >= budget and index > first:
            break
        slot = (table << ENTRY_SHIFT) + index
        child = frame_of(mem.entries[slot])
        if mem.entries[slot] & HUGE == HUGE:
            cursor[2 * level + 1] = index + 1
            set_entry(mem, slot, NO_ENTRY)
            run_drop(mem, child)
            examined += _RUN_WORTH
        else:
            cursor[1] = level - 1
            cursor[2 * level - 2] = child
            cursor[2 * level - 1] = 0
    return examined


@linked(void(MEMORY, int64[::1], int64))
def release_all(mem, cursor, root):  # type: ignore[no-untyped-def]
    """Release the whole tree at `root`."""
    release_begin(cursor, root)
    while cursor[0] != RELEASED:
        release_step(mem, cursor, 1 << 20)


def step_budget(count: int) -> int:
    """Check the budget of a step, which must be at least 1.  Raises ValueError."""
    if index(count) < 1:
        raise ValueError(f"a step of {count}: at least 1")
    return count


class Release:
    """The stepwise release of the tree of a space that has exited.  The root must not be used for anything else."""

    def __init__(self, memory: "PhysicalMemory", root: int) -> None:
        self.memory = memory
        self.cursor: Array = zeros(int64, CURSOR_SIZE)
        release_begin(self.cursor, root)

    @property
    def root(self) -> int:
        """The root of the remaining tree, for check_memory; -1 when nothing remains."""
        return int(self.cursor[0])

    @property
    def done(self) -> bool:
        """Whether all frames have been released."""
        return self.root == RELEASED

    def step(self, frames: int) -> int:
        """Release about `frames` frames.  Returns how many it visited, which is at most a few more."""
        return int(release_step(self.memory.state, self.cursor, step_budget(frames)))

    def finish(self, budget: int = 1 << 20) -> None:
        """Release all remaining frames."""
        while not self.done:
            self.step(budget)


def release(memory: "PhysicalMemory", root: int, budget: int = 1 << 20) -> None:
    """Release the tree at `root`, `budget` frames at a time.  Nobody may read it any more."""
    Release(memory, root).finish(budget)
