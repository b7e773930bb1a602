"""The way to a page, entry by entry: what the processor reads to translate one address.

    PML4E    2 -> frame 7, count 1: P R/W U/S A COW
    PDPTE    0 -> frame 8, count 1: P R/W U/S A COW
    PDE      5 -> frame 9, count 2: P U/S A COW
    PTE     17 -> frame 102, count 1: P R/W U/S A D COW

To be looked at; what translates is walk.py.
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
_FLAGS = {"P": P, "R/W": RW, "U/S": US, "PWT": PWT, "PCD": PCD, "A": A, "D": D, "PS": PS, "G": G, "COW": COW, "XD": XD}


@dataclass(frozen=True)
class PathEntry:
    """A present entry of a page table, and what is known of the frame that it points at."""

    level: int  # of the table it stands in: 4 PML4, 3 PDPT, 2 PD, 1 PT
    table: int  # the frame of that table
    index: int  # of the entry in it: 0 to 511
    entry: int  # all 64 bits
    frame: int  # that it points at: a table, a page, or the first of a huge page
    refcount: int  # present entries, and roots, that point at that frame
    epoch: int  # of that frame's last change

    @property
    def name(self) -> str:
        """The SDM's name of an entry of this level."""
        return _NAMES[self.level]

    @property
    def flags(self) -> tuple[str, ...]:
        """The bits that are set, by the SDM's names; COW is software's own."""
        return tuple(name for name, bit in _FLAGS.items() if self.entry & int(bit))

    def __str__(self) -> str:
        flags = " ".join(self.flags)
        return f"{self.name:5} {self.index:4} -> frame {self.frame}, count {self.refcount}: {flags}"


_frame_of, _table_index = in_python(frame_of), in_python(table_index)


def path_of(space: AddressSpace, address: int) -> list[PathEntry]:
    """The entries that lead to `address`, from the PML4E down.

    Four where a page of 4 KiB is mapped, three where a huge one is, fewer, or none, where nothing is.  Changes nothing,
    A and the TLB included.  Raises NonCanonical, DeadSpace, ClosedMemory.
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
