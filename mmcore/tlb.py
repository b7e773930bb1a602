"""The TLB: direct-mapped, in software, with tags for reading and for writing apart.

An entry is TLB_WORDS int64 words.  Which one is the page's number modulo the entries, after folding in what 16 GiB
region it is in: the first pages of regions, which are often in use together, would all share entry 0 otherwise.

    0  read tag     generation << 36 | vpn: the page may be read at the address below
    1  write tag    the same, may be written
    2  pa           of the page's first byte
    3  -

(6) After a fork no translation made before it may serve a write.  A tag carries the generation it was made in, so
raising the space's generation forgets all of them at once; the entries themselves are swept only when the
generations have run out, after 2^26 forks.
"""

from mmcore.jit import kernel
from mmcore.paging import PAGE_MASK, PAGE_SHIFT
from mmcore.state import GENERATION

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


@kernel
def tlb_flush(space):  # type: ignore[no-untyped-def]
    """Forget everything, the paging-structure caches too, in O(1)."""
    generation = space.cpu[GENERATION] + GENERATION_ONE
    if generation >= GENERATION_LIMIT:
        generation = GENERATION_ONE
        for i in range(space.tlb.size):
            space.tlb[i] = NO_TAG
        for i in range(space.psc.size):
            space.psc[i] = NO_TAG
    space.cpu[GENERATION] = generation
