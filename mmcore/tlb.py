"""The TLB: direct-mapped, in software, with separate tags for reading and for writing.

An entry is TLB_WORDS int64 words.  Its index is the page number modulo the number of entries, after the number of the
16 GiB region is folded in.  Otherwise the first pages of all regions, often used together, would share entry 0.

    0  read tag     generation << 36 | vpn: the page may be read at the address below
    1  write tag    the same: the page may be written
    2  pa           of the page's first byte
    3  -

(6) After a fork, no translation made before it may serve a write.  A translation serves only the space it was made for.
A tag contains the generation that its space had at the time, in the role of a PCID.  All spaces of a processor get
their generations from one counter, so a new generation invalidates all translations of a space at once.  When the
generations run out, after 2^26 forks, all entries are cleared and every space gets a new generation.
"""

from mmcore.jit import int64, kernel, linked
from mmcore.paging import PAGE_MASK, PAGE_SHIFT
from mmcore.state import CPU_REGISTERS, GENERATION, LAST_GENERATION, SPACE

TLB_WORDS = 4
TLB_ENTRIES = 4096  # default: it maps 16 MiB and takes 128 KiB, half of a common L2 cache
GENERATION_ONE = 1 << 36  # a vpn takes 35 bits
GENERATION_LIMIT = 1 << 62
NO_TAG = 0  # generations start at one


@kernel
def tlb_index(space, vpn):  # type: ignore[no-untyped-def]
    """The index in `tlb` of the entry for a page."""
    return TLB_WORDS * ((vpn ^ (vpn >> 22)) & (space.tlb.size // TLB_WORDS - 1))


@kernel
def tlb_fill(space, va, frame, writable):  # type: ignore[no-untyped-def]
    """Remember that `frame` holds va's page, and whether the page is writable.  Returns va's physical address."""
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
    """Invalidate the translation of va's page."""
    index = tlb_index(space, va >> PAGE_SHIFT)
    space.tlb[index] = NO_TAG
    space.tlb[index + 1] = NO_TAG


@linked(int64(SPACE))
def _renumber(space):  # type: ignore[no-untyped-def]
    """Restart the generations: forget all translations, and renumber all spaces.  Returns the last generation given."""
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
def next_generation(space):  # type: ignore[no-untyped-def]
    """A generation that no space of this processor has had since the last time that all were renumbered."""
    generation = space.processor[LAST_GENERATION] + GENERATION_ONE
    if generation >= GENERATION_LIMIT:
        generation = _renumber(space) + GENERATION_ONE
    space.processor[LAST_GENERATION] = generation
    return generation


@kernel
def tlb_flush(space):  # type: ignore[no-untyped-def]
    """Invalidate all translations of this space, including the paging-structure caches, in O(1)."""
    space.cpu[GENERATION] = next_generation(space)
