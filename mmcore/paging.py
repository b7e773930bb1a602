"""x86-64 four-level paging: the format of an entry and the fields of an address.

The names are those of the Intel SDM (volume 3A, 4-level paging).  An entry (PML4E, PDPTE, PDE or PTE) is one uint64:

    63   51                        12  11   9   8   7   6   5   4     3     2     1     0
    XD | physical address of a frame | AVL   | G | PS | D | A | PCD | PWT | U/S | R/W | P

A virtual address is canonical and in the lower half, so it has 47 bits.  It consists of four 9-bit indices and an
offset:

    47    39 38      30 29    21 20    12 11      0
    PML4     PDPT       PD       PT       offset

Levels are numbered 4 = PML4, 3 = PDPT, 2 = PD, 1 = PT; level 0 is the page itself.  A PDE with PS set maps a huge page
without a PT.  A huge page is an aligned run of 512 frames; the PDE points at the first one, the head.  Entries are
uint64; addresses, frame numbers, indices and counts are int64.  Only the functions below convert between the two.
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
RW = uint64(1 << 1)  # R/W: this entry allows writes to everything below it
US = uint64(1 << 2)  # user
PWT = uint64(1 << 3)  # page-level write-through
PCD = uint64(1 << 4)  # page-level cache disable
A = uint64(1 << 5)  # accessed
D = uint64(1 << 6)  # dirty
PS = uint64(1 << 7)  # in a PDE: maps a 2 MiB page
G = uint64(1 << 8)  # global
COW = uint64(1 << 9)  # AVL: copy-on-write; a store that finds R/W clear here breaks the sharing instead of failing
WHOLE = uint64(1 << 10)  # AVL, in a PDE: every page below came to this address in the epoch of the PT's stamp
XD = uint64(1 << 63)  # execute disable
ADDRESS = uint64(0x000F_FFFF_FFFF_F000)  # the bits of the frame's physical address

NO_ENTRY = uint64(0)  # not present
MAPPING = P | RW | US | COW  # flags of a fresh entry, whether it maps a page or points at a table
WRITE_PROTECT = ~RW
HUGE = P | PS  # both set: the entry maps a huge page; P alone: it points at a table or, in a PT, at a page
READY = RW | D  # required in the last entry, and RW in its whole path, before the TLB may serve writes
TRACES = A | D  # the flags that the processor sets in the last entry when it writes
_FLAGS = ~ADDRESS
_SHIFT = uint64(PAGE_SHIFT)
_FRAME = (1 << 40) - 1  # the bits of a frame's number
_INDEX = 2 * ENTRY_COUNT - 1  # the bits of an index in a table, and of its end


@kernel
def table_index(va, level):  # type: ignore[no-untyped-def]
    """Index of va's entry in its table of `level`."""
    return (va >> (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))) & (ENTRY_COUNT - 1)


@kernel
def slot_of(table, va, level):  # type: ignore[no-untyped-def]
    """Index in `entries` of va's entry; frame `table` is its table of `level`."""
    return (table << ENTRY_SHIFT) + table_index(va, level)


@kernel
def slot_at(table, index):  # type: ignore[no-untyped-def]
    """Index in `entries` of entry `index` of frame `table`; ENTRY_COUNT gives the end of the table.

    The masks change nothing.  They tell the compiler that the result is not negative, so that it uses vectors.
    """
    return ((table & _FRAME) << ENTRY_SHIFT) + (index & _INDEX)


@kernel
def table_of(slot):  # type: ignore[no-untyped-def]
    """The frame of the table that contains `slot`; inverse of slot_of."""
    return slot >> ENTRY_SHIFT


@kernel
def span(level):  # type: ignore[no-untyped-def]
    """Bytes of virtual address space that one entry of a table of `level` maps."""
    return 1 << (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))


@kernel
def frame_of(entry):  # type: ignore[no-untyped-def]
    """The number of the frame that an entry points at."""
    return int64((entry & ADDRESS) >> _SHIFT)


@kernel
def entry_for(frame, flags):  # type: ignore[no-untyped-def]
    """The entry that points at `frame` with `flags`; inverse of frame_of."""
    return (uint64(frame) << _SHIFT) | flags


@kernel
def flags_of(entry):  # type: ignore[no-untyped-def]
    """All bits of an entry except the frame's address."""
    return entry & _FLAGS
