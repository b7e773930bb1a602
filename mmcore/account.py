"""Memory accounting as an operating system does it: how much memory a space uses, and how much of that is private.

The terms are those of /proc/PID/smaps (Linux, proc(5)).  A page is shared if more than one path leads to it, that is,
if the page or a table on its path has a count above one.  A space's part of a page, for its Pss, is one divided by the
product of all counts on the path.  Each frame is thus split evenly among the entries that point at it, and the parts of
all spaces add up to the frames in use.  (Linux splits a page evenly among the processes that map it.  Both definitions
agree until forks of different modes are combined: here a shared table is first split among its sharers, and each of
these splits its part.)

A map of a space lists its regions.  A region is the 2 MiB that one PDE maps.

    UNTOUCHED       nothing is mapped, so there is no table: address space that was set aside and never used
    SHARED_TABLE    its PT, or a table above, is shared: no write since an on-demand or a constant fork
    COPIED_TABLE    its tables are private, but all its pages are shared: after a classic fork, or unsharing ahead
    PAGES_COPIED    it has private pages: copied, left over after all other sharers copied them, or never shared

These functions only read, level by level.  They read a page table once, however often it is mapped: the time is
proportional to the number of tables and PDEs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np

from mmcore import paging
from mmcore.jit import in_python
from mmcore.paging import ENTRY_COUNT, PAGE_SHIFT, PAGE_SIZE, PT_SPAN, ROOT_LEVEL, RUN_FRAMES
from mmcore.state import Memory

_TABLES_AT_ONCE = 1024
ADDRESS, PS, A, D = (np.uint64(int(bits)) for bits in (paging.ADDRESS, paging.PS, paging.A, paging.D))
_span = in_python(paging.span)


class RegionState(IntEnum):
    """The state of a region of 2 MiB; see the module's note."""

    UNTOUCHED = 0  # nothing is mapped
    SHARED_TABLE = 1  # a table on its path is shared
    COPIED_TABLE = 2  # all tables on its path are private, all its pages are shared
    PAGES_COPIED = 3  # it has private pages


REGION = np.dtype(
    [
        ("address", np.int64),  # of the region's first byte
        ("state", np.int64),  # a RegionState
        ("pages", np.int64),  # mapped pages, at most 512
        ("private", np.int64),  # mapped pages that no other path leads to
        ("dirty", np.int64),  # mapped pages with D set: they were written
        ("referenced", np.int64),  # mapped pages with A set: they were read or written
        ("huge", np.bool_),  # whether it is one huge page
    ]
)


@dataclass(frozen=True)
class Usage:
    """The memory use of a space [bytes; tables: frames of 4 KiB].  str() gives the lines of smaps [kB]."""

    rss: int  # mapped
    pss: float  # this space's part of that
    shared_clean: int  # shared_clean + shared_dirty + private_clean + private_dirty == rss
    shared_dirty: int
    private_clean: int  # private_clean + private_dirty is the memory that the exit of this space would free
    private_dirty: int
    referenced: int  # has been read or written
    anon_huge_pages: int
    tables_shared: int  # of all four levels, the PML4 included
    tables_private: int
    tables_part: float  # the space's part of the tables

    def __str__(self) -> str:
        lines = []
        for field in fields(self):
            value = getattr(self, field.name) * (PAGE_SIZE if field.name.startswith("tables") else 1)
            name = "AnonHugePages" if field.name == "anon_huge_pages" else field.name.title()
            lines.append(f"{name + ':':16}{int(value) >> 10:9} kB")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Entries:
    """Present entries of one level, in the order of addresses."""

    address: np.ndarray  # int64[E]: the first address that the entry maps
    frame: np.ndarray  # int64[E]
    flags: np.ndarray  # uint64[E]: the entry itself
    part: np.ndarray  # float64[E]: this space's part of the frame; 1: it is private

    @property
    def huge(self) -> np.ndarray:
        huge: np.ndarray = (self.flags & PS) != 0
        return huge


# The contents of a 2 MiB region: of a page table by itself, or as seen by one space.
_TALLY = np.dtype(
    [(name, np.int64) for name in ("pages", "dirty", "referenced", "private", "private_dirty")] + [("part", np.float64)]
)


def _below(mem: Any, tables: _Entries, level: int) -> _Entries:
    """The entries in tables of `level`."""
    content = mem.entries.reshape(-1, ENTRY_COUNT)[tables.frame]
    row, column = np.nonzero(content)
    flags = content[row, column]
    frame = _frames_of(flags)
    address = tables.address[row] + column * _span(level)
    return _Entries(address, frame, flags, tables.part[row] / mem.refcount[frame])


def _tables(mem: Any, root: int) -> Iterator[_Entries]:
    """The entries that point at tables of level 4, 3, 2, 1 in turn; level 1 includes the entries of huge pages."""
    one = np.zeros(1, np.int64)
    tables = _Entries(one, one + root, one.astype(np.uint64), 1.0 / mem.refcount[one + root])
    yield tables
    for level in range(ROOT_LEVEL, 1, -1):
        tables = _below(mem, tables, level)
        yield tables


def _frames_of(entries: np.ndarray) -> np.ndarray:
    return ((entries & ADDRESS) >> np.uint64(PAGE_SHIFT)).astype(np.int64)


def _tally_tables(mem: Any, frames: np.ndarray) -> np.ndarray:
    """_TALLY of each of these page tables, as seen by a space that does not share it."""
    distinct, index = np.unique(frames, return_inverse=True)
    found = np.zeros(distinct.size, _TALLY)
    for first in range(0, distinct.size, _TABLES_AT_ONCE):
        rows = slice(first, first + _TABLES_AT_ONCE)
        entries = mem.entries.reshape(-1, ENTRY_COUNT)[distinct[rows]]
        present, dirty = entries != 0, (entries & D) != 0
        count = mem.refcount[_frames_of(entries)]
        private = present & (count == 1)
        found["part"][rows] = np.divide(1.0, count, out=np.zeros(count.shape), where=present).sum(axis=1)
        masks = {"pages": present, "dirty": dirty, "referenced": (entries & A) != 0}
        masks |= {"private": private, "private_dirty": private & dirty}
        for name, mask in masks.items():
            found[name][rows] = mask.sum(axis=1)
    return found[index]


def _tally(mem: Any, entries: _Entries) -> np.ndarray:
    """_TALLY[E]: the pages that the space maps through each entry of its PDs, a page table or a huge page."""
    found = np.zeros(entries.frame.size, _TALLY)
    huge = entries.huge
    found[~huge] = _tally_tables(mem, entries.frame[~huge])
    flags = entries.flags[huge]
    found["pages"][huge] = found["private"][huge] = found["part"][huge] = RUN_FRAMES
    found["dirty"][huge] = found["private_dirty"][huge] = RUN_FRAMES * ((flags & D) != 0)
    found["referenced"][huge] = RUN_FRAMES * ((flags & A) != 0)
    found["part"] *= entries.part
    for name in ("private", "private_dirty"):
        found[name][entries.part < 1] = 0
    return found


def usage(memory: Memory, root: int) -> Usage:
    """The memory use of the tree at `root`."""
    mem = memory.arrays
    levels = list(_tables(mem, root))
    entries = levels[-1]
    tables = np.concatenate([*(upper.part for upper in levels[:-1]), entries.part[~entries.huge]])
    private_tables = int((tables == 1).sum())
    tally = _tally(mem, entries)
    pages, dirty, referenced, private, private_dirty = (
        int(tally[name].sum()) * PAGE_SIZE for name in ("pages", "dirty", "referenced", "private", "private_dirty")
    )
    return Usage(
        rss=pages,
        pss=float(tally["part"].sum()) * PAGE_SIZE,
        shared_clean=pages - private - (dirty - private_dirty),
        shared_dirty=dirty - private_dirty,
        private_clean=private - private_dirty,
        private_dirty=private_dirty,
        referenced=referenced,
        anon_huge_pages=int(entries.huge.sum()) * PT_SPAN,
        tables_shared=tables.size - private_tables,
        tables_private=private_tables,
        tables_part=float(tables.sum()),
    )


def regions(memory: Memory, root: int) -> np.ndarray:
    """REGION[R]: the regions of 2 MiB in which the tree at `root` maps something, in the order of addresses."""
    mem = memory.arrays
    *_, pds, entries = _tables(mem, root)
    tally = _tally(mem, entries)
    found = np.zeros(entries.frame.size, REGION)
    found["address"], found["huge"] = entries.address, entries.huge
    for name in ("pages", "private", "dirty", "referenced"):
        found[name] = tally[name]
    # The last table on the path to a huge page is the PD.
    pd_of = np.searchsorted(pds.address, entries.address, side="right") - 1
    table_part = np.where(entries.huge, pds.part[pd_of], entries.part)
    own = np.where(found["private"] > 0, RegionState.PAGES_COPIED, RegionState.COPIED_TABLE)
    found["state"] = np.where(table_part < 1, RegionState.SHARED_TABLE, own)
    return found


def regions_within(mem: Memory, root: int, first: int, end: int) -> np.ndarray:
    """REGION[(end - first) / 2 MiB]: every region of [first, end), untouched ones too; both are multiples of 2 MiB."""
    found = np.zeros((end - first) // PT_SPAN, REGION)
    found["address"] = np.arange(first, end, PT_SPAN)
    mapped = regions(mem, root)
    mapped = mapped[(mapped["address"] >= first) & (mapped["address"] < end)]
    found[(mapped["address"] - first) // PT_SPAN] = mapped
    return found
