"""x86-64 four-level paging: the format of an entry and the fields of an address.

Names are the Intel SDM's (volume 3A, 4-level paging).  An entry (PML4E, PDPTE, PDE or PTE) is one uint64:

    63   51                        12  11   9   8   7   6   5   4     3     2     1     0
    XD | physical address of a frame | AVL   | G | PS | D | A | PCD | PWT | U/S | R/W | P

A virtual address is canonical and in the lower half, so 47 bits; it is four 9-bit indices and an offset:

    47    39 38      30 29    21 20    12 11      0
    PML4     PDPT       PD       PT       offset

Levels are numbered 4 = PML4, 3 = PDPT, 2 = PD, 1 = PT; level 0 is the page itself.  A PDE with PS maps a huge page:
an aligned run of 512 frames, of which it holds the first, the head; there is no PT then.  Entries are uint64;
addresses, frame numbers, indices and counts are int64; the two kinds meet only in the functions below.
"""

from mmcore.jit import int64, kernel, uint64

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  # [bytes]
PAGE_MASK = PAGE_SIZE - 1
ENTRY_COUNT = 512  # entries in a table
ENTRY_SHIFT = 9
ROOT_LEVEL = 4
PT_SPAN = PAGE_SIZE << ENTRY_SHIFT  # bytes that one PT maps: 2 MiB
HUGE_SIZE = PT_SPAN  # bytes of a huge page
HUGE_MASK = HUGE_SIZE - 1
RUN_FRAMES = ENTRY_COUNT  # frames of a huge page
VA_LIMIT = 1 << 47  # first address beyond the lower canonical half
assert ENTRY_COUNT * 8 == PAGE_SIZE and 1 << ENTRY_SHIFT == ENTRY_COUNT

P = uint64(1 << 0)  # present
RW = uint64(1 << 1)  # R/W: what is below may be written, as far as this entry says
US = uint64(1 << 2)  # user
PWT = uint64(1 << 3)  # page-level write-through
PCD = uint64(1 << 4)  # page-level cache disable
A = uint64(1 << 5)  # accessed
D = uint64(1 << 6)  # dirty
PS = uint64(1 << 7)  # in a PDE: maps a 2 MiB page
G = uint64(1 << 8)  # global
COW = uint64(1 << 9)  # AVL: a store that meets this entry without R/W breaks the sharing, it is not refused
XD = uint64(1 << 63)  # execute disable
ADDRESS = uint64(0x000F_FFFF_FFFF_F000)  # where the frame's address stands

NO_ENTRY = uint64(0)  # not present
MAPPING = P | RW | US | COW  # flags of a fresh mapping, of a page and of a table alike
WRITE_PROTECT = ~RW
HUGE = P | PS  # what an entry has that maps a huge page; P alone: it leads to a table, or maps a page in a PT
READY = RW | D  # what an entry, and RW what its path, has before the TLB may serve writes
TRACES = A | D  # what the processor leaves in an entry that it has written through
_FLAGS = ~ADDRESS
_SHIFT = uint64(PAGE_SHIFT)


@kernel
def table_index(va, level):  # type: ignore[no-untyped-def]
    """Index of va's entry in its table of `level`."""
    return (va >> (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))) & (ENTRY_COUNT - 1)


@kernel
def slot_of(table, va, level):  # type: ignore[no-untyped-def]
    """Where in `entries` va's entry is, in the table of `level` that is frame `table`."""
    return (table << ENTRY_SHIFT) + table_index(va, level)


@kernel
def table_of(slot):  # type: ignore[no-untyped-def]
    """The frame of the table that `slot` is in; inverse of slot_of."""
    return slot >> ENTRY_SHIFT


@kernel
def span(level):  # type: ignore[no-untyped-def]
    """Bytes of virtual space that one entry of a table of `level` stands for."""
    return 1 << (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))


@kernel
def frame_of(entry):  # type: ignore[no-untyped-def]
    """Number of the frame that an entry points at."""
    return int64((entry & ADDRESS) >> _SHIFT)


@kernel
def entry_for(frame, flags):  # type: ignore[no-untyped-def]
    """The entry that points at `frame` with `flags`; inverse of frame_of."""
    return (uint64(frame) << _SHIFT) | flags


@kernel
def flags_of(entry):  # type: ignore[no-untyped-def]
    """All of an entry but the frame's address."""
    return entry & _FLAGS
