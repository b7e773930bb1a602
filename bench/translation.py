"""What do the TLB and the paging-structure caches of the machine save?

Method.  An AddressSpace with one mapping, every page of which has been written, is read a word at a time: at random
over all of it, and at random over 1 MiB, where the TLB serves everything.  The clock is read by compiled code before
and after `reads` of them.  Configurations differ only in the sizes of the caches and are measured in turn within each
round; the median over the rounds is shown, beside the share of accesses and of walks that the caches served.  "no
translation" reads the same places of a plain array, with the arithmetic of the addresses.

Units: ns per read.

What would make it wrong: fewer reads than the caches take to warm up; page tables that fit a cache of the processor
here and not in a larger space (the sizes are a parameter).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import int64, uint8

from bench.report import Report, Say, median, say
from kvstore.libc import CLOCK_MONOTONIC, clock_gettime, words_at
from mmcore import AddressSpace, Caches, PhysicalMemory
from mmcore.jit import build, bytes64, kernel, linked
from mmcore.mmu import load64, store8
from mmcore.paging import PAGE_SIZE
from mmcore.state import SPACE

ADDRESS = 1 << 40
GIB = 1 << 30
SIZES_GIB = (1.0, 4.0)
READS = 4_000_000
LOCAL = 1 << 20  # bytes that any TLB here reaches

CONFIGURATIONS = {
    "TLB 4096, no cache of tables": Caches(4096, 0, 0, 0),
    "TLB 4096, PDE cache 16": Caches(4096, 0, 0, 16),
    "TLB 4096, PDE cache 64": Caches(4096, 0, 0, 64),
    "TLB 4096, PDE cache 512": Caches(4096, 0, 0, 512),
    "TLB 4096, PDE cache 4096": Caches(4096, 0, 0, 4096),
    "TLB 4096, PDPTE cache 16": Caches(4096, 0, 16, 0),
    "TLB 4096, PML4 cache 16": Caches(4096, 16, 0, 0),
    "TLB 4096, all three, 16 16 512": Caches(4096, 16, 16, 512),
    "TLB 1024, no cache of tables": Caches(1024, 0, 0, 0),
    "TLB 16384, no cache of tables": Caches(16384, 0, 0, 0),
    "TLB 65536, no cache of tables": Caches(65536, 0, 0, 0),
}


@kernel
def _now(clock):  # type: ignore[no-untyped-def]
    clock_gettime(CLOCK_MONOTONIC, clock[0])
    return words_at(clock[0], 2)[0] * 1_000_000_000 + words_at(clock[0], 2)[1]


@kernel
def _next(seed):  # type: ignore[no-untyped-def]
    # A linear congruential generator (Knuth's MMIX); its upper bits are good.
    return seed * 6364136223846793005 + 1442695040888963407


@linked(int64(SPACE, int64, int64, int64, int64[::1]))
def random_reads(space, va, mask, reads, clock):  # type: ignore[no-untyped-def]
    """Read `reads` words at va + (random & mask); returns the nanoseconds.  clock[1] gets what was read, summed."""
    seed, total = 1, 0
    before = _now(clock)
    for _ in range(reads):
        seed = _next(seed + total)
        total = load64(space, va + ((seed >> 20) & mask & -8))
    after = _now(clock)
    clock[1] = total
    return after - before


@linked(int64(uint8[::1], int64, int64, int64[::1]))
def plain_reads(array, mask, reads, clock):  # type: ignore[no-untyped-def]
    """The same of array[random & mask]."""
    seed, total = 1, 0
    before = _now(clock)
    for _ in range(reads):
        seed = _next(seed + total)
        total = bytes64(array, (seed >> 20) & mask & -8)
    after = _now(clock)
    clock[1] = total
    return after - before


@linked(int64(SPACE, int64, int64))
def touch_pages(space, va, pages):  # type: ignore[no-untyped-def]
    """Write a byte to each of these pages."""
    for i in range(pages):
        store8(space, va + i * PAGE_SIZE, 1 + (i & 0x7F))
    return pages


@dataclass
class Measured:
    """Of one configuration: ns per read in each round, and shares of what was served by caches in the last one."""

    random: list[float]
    local: list[float]
    tlb: float = 0.0
    walks: float = 0.0


def _clock() -> np.ndarray:
    clock = np.zeros(4, np.int64)
    clock[0] = clock[2:].ctypes.data
    return clock


def _measure(space: AddressSpace, size: int, reads: int, into: Measured) -> None:
    clock = _clock()
    before = space.counters
    into.random.append(int(random_reads(space.state, ADDRESS, size - 1, reads, clock)) / reads)
    served = {name: count - before[name] for name, count in space.counters.items()}
    into.tlb = served["tlb_hits"] / reads
    walks = served["tlb_misses"] or 1
    into.walks = sum(served[f"{name}_cache_hits"] for name in ("pde", "pdpte", "pml4")) / walks
    random_reads(space.state, ADDRESS, LOCAL - 1, LOCAL // 8, clock)
    into.local.append(int(random_reads(space.state, ADDRESS, LOCAL - 1, reads, clock)) / reads)


def measure(size: int, reads: int, rounds: int) -> dict[str, Measured]:
    """By configuration; `size` is a power of two [bytes]."""
    found = {name: Measured([], []) for name in ("no translation", *CONFIGURATIONS)}
    with PhysicalMemory(size + size // 64 + (4 << 20)) as memory:
        space = AddressSpace(memory)
        space.map(ADDRESS, size)
        touch_pages(space.state, ADDRESS, size // PAGE_SIZE)
        root, epoch = space.root, space.epoch
        spaces = {name: AddressSpace.of_root(memory, root, epoch, caches=c) for name, c in CONFIGURATIONS.items()}
        for _ in range(rounds):
            plain = found["no translation"]
            plain.random.append(int(plain_reads(memory.state.bytes, size - 1, reads, _clock())) / reads)
            plain.local.append(int(plain_reads(memory.state.bytes, LOCAL - 1, reads, _clock())) / reads)
            for name, one in spaces.items():
                _measure(one, size, reads, found[name])
    return found


def run(sizes_gib: Sequence[float] = SIZES_GIB, rounds: int = 7, reads: int = READS, progress: Say = say) -> Report:
    """Measure every configuration."""
    report = Report(
        "translation",
        "What do the TLB and the paging-structure caches of the machine save?",
        [
            f"{reads:,} reads of 8 bytes a round, {rounds} rounds; medians, in ns per read",
            "random: over the whole mapping; local: within 1 MiB, all of it served by the TLB",
        ],
        {"sizes_gib": list(sizes_gib), "rounds": rounds, "reads": reads},
    )
    build()
    for gib in sizes_gib:
        size = 1 << int(gib * GIB).bit_length() - 1
        progress(f"translation, {gib:g} GiB")
        found = measure(size, reads, rounds)
        table = report.table(
            f"{size / GIB:g} GiB [ns per read]", "caches", "random", "local", "TLB hits [%]", "walks cut short [%]"
        )
        for name, one in found.items():
            table.add(name, median(one.random), median(one.local), 100 * one.tlb, 100 * one.walks)
    return report
