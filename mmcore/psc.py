"""Paging-structure caches: they let a walk begin below cr3.

Each level above the PT has a cache of entries that point at tables (PML4 cache, PDPTE cache, PDE cache: Intel SDM
volume 3A, "Caching Translation Information"; Barr, Cox, Rixner, "Translation caching: skip, don't walk (the page
table)", ISCA 2010).  A walk first tries the cache that leads furthest down.  Each cache is direct-mapped; its number of
entries is a power of two, or zero.  An entry is two int64 words:

    0  tag      generation | va >> the bits that such an entry maps
    1  value    the table's address, and in bit 0 whether R/W is set in all entries up to this one

The generation is the TLB's, so flushing the TLB also flushes these caches (6).  An entry is cached only if A is set in
the whole path (10).  Every change of a cached entry must be followed by `psc_forget`, which forgets all levels of the
path that changed.  Cached entries below the changed entry on other paths stay valid, because a copy of a table points
at the same children.
"""

from mmcore.jit import kernel
from mmcore.paging import ENTRY_SHIFT, PAGE_SHIFT, ROOT_LEVEL
from mmcore.state import CR3, GENERATION, PSC_FIRST, PSC_HITS, PSC_MASK, PSC_MISSES

PSC_ENTRIES = (
    0,
    16,
    512,
)  # default sizes of the PML4, PDPTE and PDE cache: those that pay in bench/paging/translation.py
PSC_WORDS = 2
_LOWEST = 2  # the level whose entries point at PTs
_FOLD = 34  # as in the TLB: otherwise the first tables of all 16 GiB regions would share an entry


@kernel
def _psc_number(va, level):  # type: ignore[no-untyped-def]
    # The number of va's entry of this level, counted from address 0.
    return va >> (PAGE_SHIFT + ENTRY_SHIFT * (level - 1))


@kernel
def _psc_slot(space, va, level):  # type: ignore[no-untyped-def]
    # The index in `psc` of the entry for va.
    number = _psc_number(va, level) ^ (va >> _FOLD)
    return space.processor[PSC_FIRST + level] + PSC_WORDS * (number & space.processor[PSC_MASK + level])


@kernel
def psc_lookup(space, va):  # type: ignore[no-untyped-def]
    """(the table where va's walk may begin, its level, 1 if R/W is set in all entries above it)."""
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
    """Remember the table that va's entry of `level` points at, and whether R/W is set in the whole path to it (1)."""
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
