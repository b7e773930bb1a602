"""The path to a page: the entries that the processor reads to translate one address.

    PML4E    2 -> frame 7, count 1: P R/W U/S A COW
    PDPTE    0 -> frame 8, count 1: P R/W U/S A COW
    PDE      5 -> frame 9, count 2: P U/S A COW
    PTE     17 -> frame 102, count 1: P R/W U/S A D COW

This module is for inspection only; walk.py does the translation.
"""

from dataclasses import dataclass

from mmcore.errors import NonCanonical
from mmcore.jit import in_python
from mmcore.paging import (
    COW,
    ENTRY_COUNT,
    HUGE,
    PCD,
    PS,
    PWT,
    ROOT_LEVEL,
    RW,
    US,
    VA_LIMIT,
    WHOLE,
    XD,
    A,
    D,
    G,
    P,
    frame_of,
    table_index,
)
from mmcore.space import AddressSpace

_NAMES = {4: "PML4E", 3: "PDPTE", 2: "PDE", 1: "PTE"}
_FLAGS = {"P": P, "R/W": RW, "U/S": US, "PWT": PWT, "PCD": PCD, "A": A, "D": D, "PS": PS, "G": G, "COW": COW}
_FLAGS |= {"WHOLE": WHOLE, "XD": XD}


@dataclass(frozen=True)
class PathEntry:
    """A present entry of a page table, and the state of the frame that it points at."""

    level: int  # of the table that contains it: 4 PML4, 3 PDPT, 2 PD, 1 PT
    table: int  # the frame of that table
    index: int  # of the entry in that table: 0 to 511
    entry: int  # all 64 bits
    frame: int  # the entry's target: a table, a page, or the first frame of a huge page
    refcount: int  # present entries, and roots, that point at that frame
    epoch: int  # the epoch of that frame's last change

    @property
    def name(self) -> str:
        """The SDM's name for an entry of this level."""
        return _NAMES[self.level]

    @property
    def flags(self) -> tuple[str, ...]:
        """The SDM's names of the bits that are set; COW and WHOLE are software bits."""
        return tuple(name for name, bit in _FLAGS.items() if self.entry & int(bit))

    def __str__(self) -> str:
        flags = " ".join(self.flags)
        return f"{self.name:5} {self.index:4} -> frame {self.frame}, count {self.refcount}: {flags}"


_frame_of, _table_index = in_python(frame_of), in_python(table_index)


def path_of(space: AddressSpace, address: int) -> list[PathEntry]:
    """The entries that lead to `address`, from the PML4E down.

    There are four for a page of 4 KiB and three for a huge page.  There are fewer, or none, if `address` is not mapped.
    Changes nothing, neither A nor the TLB.  Raises NonCanonical, DeadSpace, ClosedMemory.
    """
    if not 0 <= address < VA_LIMIT:
        raise NonCanonical(address)
    mem = space.state.mem
    table, path = space.root, []
    for level in range(ROOT_LEVEL, 0, -1):
        index = int(_table_index(address, level))
        entry = mem.entries[table * ENTRY_COUNT + index]
        if not entry & P:
            break
        frame = int(_frame_of(entry))
        path.append(PathEntry(level, table, index, int(entry), frame, int(mem.refcount[frame]), int(mem.epoch[frame])))
        if entry & HUGE == HUGE:
            break
        table = frame
    return path
