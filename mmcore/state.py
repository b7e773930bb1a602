"""The arguments of kernels: the state of a physical memory, and of an address space on it.

Both are records of arrays (see records.py).  They cost nothing inside kernels and work the same without the compiler.
Scalars that change are registers: named words of one int64 array.

Only the owner thread writes `entries`, `refcount`, `payer`, `epoch`, `charges`, `frames` and the arrays of its
processor.  Other threads may only read frames reachable from a frozen root (see frozen.py).
"""

from dataclasses import dataclass

from mmcore.jit import Array, Plain, Record, int32, int64, intrinsic, state_type, uint8, uint64


@dataclass(frozen=True, slots=True, eq=False)
class Memory(Record):
    """Physical memory of F frames; first argument of the kernels that work on frames and tables."""

    bytes: Array  # uint8[F * PAGE_SIZE]     the frames' contents
    entries: Array  # uint64[F * ENTRY_COUNT]  the same storage, as table entries
    refcount: Array  # int32[F]                 present entries, and roots, that point at the frame
    payer: Array  # int32[F]                 in use: the account that the frame is charged to, see charges.py
    epoch: Array  # int64[F]                 in use: the epoch of its last change; free: see frames.py
    charges: Array  # int64[F + 2]             frames charged to each account
    blocks: Array  # int64[BLOCK_WORDS * B]   free frames by block of RUN_FRAMES, see frames.py
    frames: Array  # int64[FRAMES_REGISTERS]  registers, below


@dataclass(frozen=True, slots=True, eq=False)
class Space(Record):
    """An address space; first argument of nearly everything else."""

    mem: Memory
    # The processor's arrays; a processor may work on several spaces in turn.
    tlb: Array  # int64[TLB_WORDS * entries]   see tlb.py
    psc: Array  # int64[PSC_WORDS * entries]  paging-structure caches, see psc.py
    processor: Array  # int64[PROCESSOR_REGISTERS]  its registers, below
    spaces: Array  # int64[CPU_REGISTERS * n]  the registers of all spaces that it works on
    cpu: Array  # int64[CPU_REGISTERS]     the space's registers, below: a row of `spaces`


MEMORY = state_type(Memory, Plain(uint8), Plain(uint64), *[Plain(int32)] * 2, *[Plain(int64)] * 4)
SPACE = state_type(Space, MEMORY, *[Plain(int64)] * 5)


@intrinsic
def space_at(typingctx, address):  # type: ignore[no-untyped-def]
    """In kernels, the space whose record lies at an address of the process.  The maker of the record keeps it alive."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return SPACE(int64), codegen


(
    FREE_COUNT,  # number of free frames: in partial blocks, in free runs, and never used
    FRESH,  # first frame never used; all frames from here on were never used and hold zeros
    TOTAL,  # number of frames
    POISON,  # not 0: fill freed frames with POISON_BYTE
    LAST_EPOCH,  # the newest epoch that any space was given
    PARTIAL_HEAD,  # first block with some but not all frames free, or -1
    USED_RUNS,  # first free run with arbitrary contents, or -1
    EMPTY_RUNS,  # first free run that holds zeros, or -1
    RUN_COUNT,  # number of free runs of both kinds
    EMPTY_COUNT,  # free frames below FRESH that hold zeros: given back to the system, or passed over
    GIVE_HAND,  # block at which give_back continues
    RETURNED,  # frames given back to the system since the start
    RETURNS,  # system calls made for that
    CHARGED,  # the account that frames taken now are charged to
    ACCOUNTS,  # numbers of accounts given so far
    FREE_ACCOUNT,  # the first free one of them, or ACCOUNTS
    FORK_STACK,  # scratch space of fork, FORK_STACK_SIZE words
) = range(17)
FORK_STACK_SIZE = 15
FRAMES_REGISTERS = 32
assert FORK_STACK + FORK_STACK_SIZE <= FRAMES_REGISTERS

(
    CR3,  # frame of the PML4
    GENERATION,  # in the tags of its translations, shifted to its place in a tag; 0 in a row without a space
    EPOCH,  # the current epoch; each fork ends one
    UNSHARED_TO,  # address at which unshare_step continues
    FROZEN,  # not 0: the space is never written, and no entry of its tables changes, not even A or D
) = range(5)
CPU_REGISTERS = 8  # a cache line

(
    LAST_GENERATION,  # the newest generation that any space was given
    # counters, in the order of COUNTERS
    TLB_HITS,
    TLB_MISSES,
    WRITE_FAULTS,  # writes that found an entry without R/W
    TABLES_COPIED,
    PAGES_COPIED,
    TABLES_REUSED,  # no longer shared when written: R/W was set again without a copy
    PAGES_REUSED,
    PAGES_MAPPED,
    PAGES_UNMAPPED,
    TABLES_MADE,  # created empty for a mapping
    TABLES_DROPPED,  # whole shared tables that an unmapping dropped without a copy
    FORKS,
    FORK_TABLES,  # tables copied by forks
    HUGE_COPIED,
    HUGE_REUSED,
    HUGE_SPLIT,  # into pages and a PT
    TABLES_UNSHARED,  # copied or reused ahead of a write
    NEXT_ROW,  # where spaces.py begins to look for a free row of `spaces`
) = range(19)
# One word for each level, 2 to 4, of the paging-structure caches: its start in `psc`, its size less one, hits, misses.
PSC_FIRST, PSC_MASK, PSC_HITS, PSC_MISSES = range(19, 31, 3)
PROCESSOR_REGISTERS = 40
COUNTERS = {
    "tlb_hits": TLB_HITS,
    "tlb_misses": TLB_MISSES,
    "write_faults": WRITE_FAULTS,
    "tables_copied": TABLES_COPIED,
    "pages_copied": PAGES_COPIED,
    "tables_reused": TABLES_REUSED,
    "pages_reused": PAGES_REUSED,
    "pages_mapped": PAGES_MAPPED,
    "pages_unmapped": PAGES_UNMAPPED,
    "tables_made": TABLES_MADE,
    "tables_dropped": TABLES_DROPPED,
    "forks": FORKS,
    "fork_tables": FORK_TABLES,
    "huge_copied": HUGE_COPIED,
    "huge_reused": HUGE_REUSED,
    "huge_split": HUGE_SPLIT,
    "tables_unshared": TABLES_UNSHARED,
    "pde_cache_hits": PSC_HITS + 2,
    "pde_cache_misses": PSC_MISSES + 2,
    "pdpte_cache_hits": PSC_HITS + 3,
    "pdpte_cache_misses": PSC_MISSES + 3,
    "pml4_cache_hits": PSC_HITS + 4,
    "pml4_cache_misses": PSC_MISSES + 4,
}
