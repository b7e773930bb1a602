"""Spaces that a kernel opens and closes: a record in the caller's memory, and a row of the processor's registers.

Python makes a space with AddressSpace.  A program that forks thousands of times a second does so in kernels:

    root = fork(space, CONSTANT)
    space_open(space, source, record, root, 0)      `source` is the record of `space`; the new one is space_at(record)
    ...
    root = space_close(space_at(record))            the caller releases the root

A record is SPACE_WORDS words, as mmcore/jit/records.py lays them out.  The new space has the memory, the TLB and the
processor of the one that it is opened beside.

A row of the processor's registers is free while its generation is 0.  The search for one begins where the last one
ended.  So opening a space takes constant time, unless nearly all rows are in use.
"""

from mmcore.errors import NO_SPACE
from mmcore.jit import int64, linked
from mmcore.state import CPU_REGISTERS, CR3, EPOCH, FROZEN, GENERATION, NEXT_ROW, SPACE
from mmcore.tlb import next_generation

SPACE_WORDS = SPACE.words
_SPACES, _CPU = SPACE.offset("spaces"), SPACE.offset("cpu")


@linked(int64(SPACE))
def _free_row(space):  # type: ignore[no-untyped-def]
    """A row of `spaces` that is not in use, NO_SPACE if there is none."""
    rows = space.spaces.size // CPU_REGISTERS
    row = space.processor[NEXT_ROW]
    for _ in range(rows):
        if row >= rows:
            row = 0
        if space.spaces[row * CPU_REGISTERS + GENERATION] == 0:
            space.processor[NEXT_ROW] = row + 1
            return row
        row += 1
    return NO_SPACE


@linked(int64(SPACE, int64[::1], int64[::1], int64, int64))
def space_open(space, source, record, root, frozen):  # type: ignore[no-untyped-def]
    """Make a space of a root that a fork of `space` has just returned: 0, or NO_SPACE with nothing changed.

    source: the record of `space`, int64[SPACE_WORDS].  record: the new one, likewise; it is written.
    frozen: the space will only be read, and no entry of its tables changes.  The space owns the root.
    """
    row = _free_row(space)
    if row < 0:
        return NO_SPACE
    first = row * CPU_REGISTERS
    for i in range(CPU_REGISTERS):
        space.spaces[first + i] = 0
    space.spaces[first + CR3], space.spaces[first + EPOCH] = root, space.cpu[EPOCH]
    space.spaces[first + FROZEN] = frozen
    for i in range(SPACE_WORDS):
        record[i] = source[i]
    record[_CPU], record[_CPU + 1] = source[_SPACES] + 8 * first, CPU_REGISTERS
    space.spaces[first + GENERATION] = next_generation(space)
    return 0


@linked(int64(SPACE))
def space_close(space):  # type: ignore[no-untyped-def]
    """The end of a space that space_open made.  Returns its root, which belongs to the caller now."""
    space.cpu[GENERATION] = 0  # another space may have its row now; no generation is given twice
    return space.cpu[CR3]
