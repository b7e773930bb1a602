"""Paging-structure caches: where a walk may begin instead of at cr3.

Of each level above the PT there is a cache of entries that point at tables (PML4 cache, PDPTE cache, PDE cache: Intel
SDM volume 3A, "Caching Translation Information"; Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page
table)", ISCA 2010).  A walk looks in the one that leads furthest down first.  Each is direct-mapped, of a power of two
entries, or of none; an entry is two int64 words:

    0  tag      generation | va >> the bits that such an entry maps
    1  value    the table's address, and in bit 0 whether R/W is set in all entries up to this one

A generation is the TLB's, so what empties the TLB empties these (6).  An entry is kept only where A is set in all of
the path (10), and where one changes that is kept here, `psc_forget` has to follow.  What is kept of the levels below a
changed entry still holds, for copies of a table point at the same children: but for the path that the change was made
for, and of that all levels are forgotten.
"""

from mmcore.jit import kernel
from mmcore.paging import ENTRY_SHIFT, PAGE_SHIFT, ROOT_LEVEL
from mmcore.state import CR3, GENERATION, PSC_FIRST, PSC_HITS, PSC_MASK, PSC_MISSES

PSC_ENTRIES = (0, 16, 512)  # of the PML4, PDPTE and PDE cache, by default: what pays in bench/translation.py
PSC_WORDS = 2
_LOWEST = 2  # the level whose entries point at PTs
_FOLD = 34  # as in the TLB: the first tables of 16 GiB regions would share an entry


@kernel
def _psc_number(va, level):  # type: ignore[no-untyped-def]
    # Which entry of its level serves `va`, counted from address 0.
    return va >> (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))


@kernel
def _psc_slot(space, va, level):  # type: ignore[no-untyped-def]
    # Where in `psc` the entry for va is.
    number = _psc_number(va, level) ^ (va >> _FOLD)
    return space.processor[PSC_FIRST + level] + PSC_WORDS * (number & space.processor[PSC_MASK + level])


@kernel
def psc_lookup(space, va):  # type: ignore[no-untyped-def]
    """(the table where va's walk may begin, its level, 1 where R/W is set in all entries above it)."""
    for level in range(_LOWEST, ROOT_LEVEL + 1):
        if space.processor[PSC_MASK + level] >= 0:
            slot = _psc_slot(space, va, level)
            if space.psc[slot] == space.cpu[GENERATION] | _psc_number(va, level):
                space.processor[PSC_HITS + level] += 1
                value = space.psc[slot + 1]
                return value >> PAGE_SHIFT, level - 1, value & 1
            space.processor[PSC_MISSES + level] += 1
    return space.cpu[CR3], ROOT_LEVEL, 1


@kernel
def psc_fill(space, va, level, table, writable):  # type: ignore[no-untyped-def]
    """Remember the table that va's entry of `level` points at, and whether R/W is set (1) all the way to it."""
    if space.processor[PSC_MASK + level] >= 0:
        slot = _psc_slot(space, va, level)
        space.psc[slot] = space.cpu[GENERATION] | _psc_number(va, level)
        space.psc[slot + 1] = table << PAGE_SHIFT | writable


@kernel
def psc_forget(space, va):  # type: ignore[no-untyped-def]
    """Forget the entries on va's path."""
    for level in range(_LOWEST, ROOT_LEVEL + 1):
        if space.processor[PSC_MASK + level] >= 0:
            space.psc[_psc_slot(space, va, level)] = 0
