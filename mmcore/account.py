"""Accounting, as an operating system gives it: what a space takes, and how much of that is its own.

The words are those of /proc/PID/smaps (Linux, proc(5)).  A page is shared when more than one path leads to it: when it,
or a table on the way, has a count above one.  A space's part of a page, for its Pss, is one divided by all counts on
the way: each frame is split evenly among what points at it, so the parts of all spaces add up to the frames in use.

Only reads, level by level; takes time in proportion to what is mapped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mmcore.paging import ADDRESS, ENTRY_COUNT, PAGE_SHIFT, PAGE_SIZE, PS, PT_SPAN, ROOT_LEVEL, RUN_FRAMES, A, D, span
from mmcore.state import Memory

_TABLES_AT_ONCE = 1024


class RegionState(IntEnum):
    """What became of a region of 2 MiB."""

    UNTOUCHED = 0  # nothing is mapped
    SHARED_TABLE = 1  # still reached through a table that others share
    COPIED_TABLE = 2  # the way there is this space's own, its pages are all shared
    PAGES_COPIED = 3  # there are pages of its own


REGION = np.dtype(
    [
        ("address", np.int64),
        ("state", np.int64),  # a RegionState
        ("pages", np.int64),  # mapped
        ("private", np.int64),  # of those, pages that no other path leads to
        ("huge", np.bool_),  # one huge page
    ]
)


@dataclass(frozen=True)
class Usage:
    """What a space takes [bytes; tables: frames]."""

    rss: int  # mapped
    pss: float  # of that, this space's part
    shared_clean: int
    shared_dirty: int
    private_clean: int
    private_dirty: int
    referenced: int  # has been read or written
    anon_huge_pages: int
    tables_shared: int
    tables_private: int
    tables_part: float  # the space's part of the tables


@dataclass(frozen=True)
class _Entries:
    """Present entries of one level, in the order of addresses."""

    address: np.ndarray  # int64[E]: what the entry maps begins there
    frame: np.ndarray  # int64[E]
    flags: np.ndarray  # uint64[E]: the entry itself
    part: np.ndarray  # float64[E]: this space's part of the frame; 1: it is private

    def where(self, mask: np.ndarray) -> "_Entries":
        return _Entries(self.address[mask], self.frame[mask], self.flags[mask], self.part[mask])

    @property
    def huge(self) -> np.ndarray:
        return (self.flags & PS) != 0


def _below(mem: Memory, tables: _Entries, level: int) -> _Entries:
    """The entries in tables of `level`."""
    content = mem.entries.reshape(-1, ENTRY_COUNT)[tables.frame]
    row, column = np.nonzero(content)
    flags = content[row, column]
    frame = ((flags & ADDRESS) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
    address = tables.address[row] + column * int(span(level))
    return _Entries(address, frame, flags, tables.part[row] / mem.refcount[frame])


def _tables(mem: Memory, root: int) -> Iterator[tuple[int, _Entries]]:
    """(level, what points at its tables) from the root down; of level 1 with the huge pages among them."""
    one = np.zeros(1, np.int64)
    tables = _Entries(one, one + root, one.astype(np.uint64), 1.0 / mem.refcount[one + root])
    for level in range(ROOT_LEVEL, 0, -1):
        yield level, tables
        if level > 1:
            tables = _below(mem, tables, level)


def _pages(mem: Memory, tables: _Entries) -> Iterator[tuple[_Entries, _Entries]]:
    """(some of the entries that point at PTs, the PTEs in these)."""
    for first in range(0, tables.frame.size, _TABLES_AT_ONCE):
        some = tables.where(np.arange(first, min(first + _TABLES_AT_ONCE, tables.frame.size)))
        yield some, _below(mem, some, 1)


def usage(mem: Memory, root: int) -> Usage:
    """What the tree at `root` takes."""
    sizes = dict.fromkeys(("rss", "shared_clean", "shared_dirty", "private_clean", "private_dirty", "referenced"), 0)
    pss = tables_part = 0.0
    tables_shared = tables_private = huge_pages = 0

    def add(pages: _Entries, size: int) -> None:
        nonlocal pss
        private, dirty = pages.part == 1, (pages.flags & D) != 0
        pss += float(pages.part.sum()) * size
        sizes["rss"] += pages.frame.size * size
        sizes["referenced"] += int(((pages.flags & A) != 0).sum()) * size
        for name, mask in (("shared", ~private), ("private", private)):
            sizes[f"{name}_dirty"] += int((mask & dirty).sum()) * size
            sizes[f"{name}_clean"] += int((mask & ~dirty).sum()) * size

    for level, entries in _tables(mem, root):
        tables = entries
        if level == 1:
            huge = entries.where(entries.huge)
            huge_pages = huge.frame.size
            add(huge, PT_SPAN)
            tables = entries.where(~entries.huge)
            for _, pages in _pages(mem, tables):
                add(pages, PAGE_SIZE)
        private = int((tables.part == 1).sum())
        tables_private += private
        tables_shared += tables.frame.size - private
        tables_part += float(tables.part.sum())
    return Usage(
        pss=pss,
        anon_huge_pages=huge_pages * PT_SPAN,
        tables_shared=tables_shared,
        tables_private=tables_private,
        tables_part=tables_part,
        **sizes,
    )


def regions(mem: Memory, root: int) -> np.ndarray:
    """REGION[R]: the regions of 2 MiB in which the tree at `root` maps something, in the order of addresses."""
    parts = {level: entries for level, entries in _tables(mem, root) if level <= 2}
    entries = parts[1]
    found = np.zeros(entries.frame.size, REGION)
    found["address"] = entries.address
    found["huge"] = entries.huge
    found["pages"][entries.huge] = RUN_FRAMES
    found["private"][entries.huge] = np.where(entries.part[entries.huge] == 1, RUN_FRAMES, 0)
    pts = np.flatnonzero(~entries.huge)
    at = 0
    for some, pages in _pages(mem, entries.where(pts)):
        rows = pts[at : at + some.frame.size]
        at += some.frame.size
        index = np.searchsorted(some.address, pages.address & -PT_SPAN)
        found["pages"][rows] = np.bincount(index, minlength=rows.size)
        found["private"][rows] = np.bincount(index[pages.part == 1], minlength=rows.size)
    # The last table on the way to a huge page is the PD.
    pd_of = np.searchsorted(parts[2].address, entries.address, side="right") - 1
    table_part = np.where(entries.huge, parts[2].part[pd_of], entries.part)
    found["state"] = np.where(
        table_part < 1,
        RegionState.SHARED_TABLE,
        np.where(found["private"] == 0, RegionState.COPIED_TABLE, RegionState.PAGES_COPIED),
    )
    return found
