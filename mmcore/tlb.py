"""The TLB: direct-mapped, in software, with tags for reading and for writing apart.

An entry is TLB_WORDS int64 words.  Which one is the page's number modulo the entries, after folding in what 16 GiB
region it is in: the first pages of regions, which are often in use together, would all share entry 0 otherwise.

    0  read tag     generation << 36 | vpn: the page may be read at the address below
    1  write tag    the same, may be written
    2  pa           of the page's first byte
    3  -

(6) After a fork no translation made before it may serve a write, and a translation serves the space it was made for
alone.  A tag carries the generation that its space had, as a PCID does.  All spaces of a processor get their
generations from one counter, so raising a space's generation forgets its translations at once.  When the generations
have run out, after 2^26 forks, the entries are swept and every space is given a new one.
"""

from mmcore.jit import int64, kernel, linked
from mmcore.paging import PAGE_MASK, PAGE_SHIFT
from mmcore.state import CPU_REGISTERS, GENERATION, LAST_GENERATION, SPACE

TLB_WORDS = 4
TLB_ENTRIES = 4096  # by default: reach 16 MiB, size 128 KiB, half of a common L2 cache
GENERATION_ONE = 1 << 36  # a vpn takes 35 bits
GENERATION_LIMIT = 1 << 62
NO_TAG = 0  # generations start at one


@kernel
def tlb_index(space, vpn):  # type: ignore[no-untyped-def]
    """Where in `tlb` the entry for a page is."""
    return TLB_WORDS * ((vpn ^ (vpn >> 22)) & (space.tlb.size // TLB_WORDS - 1))


@kernel
def tlb_fill(space, va, frame, writable):  # type: ignore[no-untyped-def]
    """Remember that va's page is in `frame`, and whether it may be written; returns va's physical address."""
    vpn = va >> PAGE_SHIFT
    index = tlb_index(space, vpn)
    tag = space.cpu[GENERATION] | vpn
    pa = frame << PAGE_SHIFT
    space.tlb[index] = tag
    space.tlb[index + 1] = tag if writable else NO_TAG
    space.tlb[index + 2] = pa
    return pa | (va & PAGE_MASK)


@kernel
def invlpg(space, va):  # type: ignore[no-untyped-def]
    """Forget va's page."""
    index = tlb_index(space, va >> PAGE_SHIFT)
    space.tlb[index] = NO_TAG
    space.tlb[index + 1] = NO_TAG


@linked(int64(SPACE))
def _renumber(space):  # type: ignore[no-untyped-def]
    """Begin anew with the generations: forget all translations of all spaces; returns the last one that is given."""
    for i in range(space.tlb.size):
        space.tlb[i] = NO_TAG
    for i in range(space.psc.size):
        space.psc[i] = NO_TAG
    last = 0
    for row in range(0, space.spaces.size, CPU_REGISTERS):
        if space.spaces[row + GENERATION] != 0:
            last += GENERATION_ONE
            space.spaces[row + GENERATION] = last
    return last


@kernel
def tlb_flush(space):  # type: ignore[no-untyped-def]
    """Forget everything of this space, in the paging-structure caches too, in O(1)."""
    generation = space.processor[LAST_GENERATION] + GENERATION_ONE
    if generation >= GENERATION_LIMIT:
        generation = _renumber(space) + GENERATION_ONE
    space.processor[LAST_GENERATION] = generation
    space.cpu[GENERATION] = generation
