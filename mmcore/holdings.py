"""How much of a tree is its own: the pages and tables of a root, shared and private, in one kernel.

account.py tells more, in the same terms, but needs NumPy.  A program without it counts with this kernel.  A page or a
table is private if its count and all counts on the path to it are 1: those are what the release of the root would free.
The time is proportional to the tables that the root reaches, and to the pages below them.
"""

from typing import NamedTuple

from mmcore.jit import int64, kernel, linked, void, zeros
from mmcore.paging import ENTRY_COUNT, ENTRY_SHIFT, HUGE, PAGE_SIZE, ROOT_LEVEL, RUN_FRAMES, frame_of
from mmcore.state import MEMORY, Memory
from mmcore.tables import next_child

PAGES, PRIVATE_PAGES, TABLES, PRIVATE_TABLES, HELD_WORDS = range(5)


@kernel
def _page(mem, entry, alone, out):  # type: ignore[no-untyped-def]
    pages = RUN_FRAMES if entry & HUGE == HUGE else 1
    out[PAGES] += pages
    if alone and mem.refcount[frame_of(entry)] == 1:
        out[PRIVATE_PAGES] += pages


@linked(void(MEMORY, int64, int64[::1], int64[::1]))
def count_held(mem, root, stack, out):  # type: ignore[no-untyped-def]
    """Count what the tree at `root` holds.

    out: int64[HELD_WORDS], pages, private ones, tables, private ones; those of the root itself included.
    stack: int64[3 * (ROOT_LEVEL + 1)], scratch space: table, next index, and whether all counts above are 1, by level.
    """
    for i in range(HELD_WORDS):
        out[i] = 0
    level = ROOT_LEVEL
    stack[3 * level], stack[3 * level + 1] = root, 0
    stack[3 * level + 2] = 1 if mem.refcount[root] == 1 else 0
    out[TABLES], out[PRIVATE_TABLES] = 1, stack[3 * level + 2]
    while level <= ROOT_LEVEL:
        table, alone = stack[3 * level], stack[3 * level + 2]
        index = next_child(mem, table, stack[3 * level + 1])
        if index == ENTRY_COUNT:
            level += 1
            continue
        stack[3 * level + 1] = index + 1
        entry = mem.entries[(table << ENTRY_SHIFT) + index]
        if level == 1 or entry & HUGE == HUGE:
            _page(mem, entry, alone, out)
            continue
        child = frame_of(entry)
        level -= 1
        stack[3 * level], stack[3 * level + 1] = child, 0
        stack[3 * level + 2] = 1 if alone != 0 and mem.refcount[child] == 1 else 0
        out[TABLES] += 1
        out[PRIVATE_TABLES] += stack[3 * level + 2]


class Held(NamedTuple):
    """The memory that a root holds, as smaps names it (Linux, proc(5))."""

    rss: int  # [bytes]; shared + private
    shared: int
    private: int
    tables_shared: int  # frames
    tables_private: int


def held(memory: Memory, root: int) -> Held:
    """The memory that the tree at `root` holds."""
    out = zeros(int64, HELD_WORDS)
    count_held(memory, root, zeros(int64, 3 * (ROOT_LEVEL + 1)), out)
    pages, private, tables, own = (int(word) for word in out[:HELD_WORDS])
    return Held(pages * PAGE_SIZE, (pages - private) * PAGE_SIZE, private * PAGE_SIZE, tables - own, own)
