"""How much time do the TLB and the paging-structure caches of the machine save?

Method.  A space, of which every page has been written, is read one word at a time: at random over all of it, and over
1 MiB, where the TLB serves everything.  Each address depends on the previous read, so that reads do not overlap.
Compiled code reads the clock before and after `reads` of them.  The configurations differ only in the sizes of the
caches, and take turns within each round.  The table shows medians over the rounds, the median of the rounds' ratios to
the machine without paging-structure caches, and the share of accesses and walks that the caches served.  "no
translation" reads the same places of a plain array, with the same arithmetic of addresses.

Units: ns per read.

Sources of error: too few reads to warm the caches up; page tables that fit a cache of the processor here, but would not
in a larger space (the sizes are a parameter).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.reporting.report import Report, Say, median, say
from bench.rig.machine import ADDRESS, GIB, new_clock, now, written
from mmcore import AddressSpace, Caches
from mmcore.jit import build, bytes64, int64, kernel, linked, uint8
from mmcore.mmu import load64
from mmcore.state import SPACE

SIZES_GIB = (0.125, 1.0, 4.0)
SMOKE: dict[str, Any] = {"sizes_gib": (1 / 16,), "rounds": 2, "reads": 20_000}
READS = 500_000
LOCAL = 1 << 20  # bytes that any TLB here can map
LONE = "none"  # the configuration that the others are compared with

CONFIGURATIONS = {
    LONE: Caches(pml4=0, pdpte=0, pde=0),
    "PML4 cache 16": Caches(pml4=16, pdpte=0, pde=0),
    "PDPTE cache 16": Caches(pml4=0, pdpte=16, pde=0),
    "PDE cache 64": Caches(pml4=0, pdpte=0, pde=64),
    "PDE cache 512": Caches(pml4=0, pdpte=0, pde=512),
    "PDE cache 4096": Caches(pml4=0, pdpte=0, pde=4096),
    "PDPTE cache 16, PDE cache 512": Caches(pml4=0, pdpte=16, pde=512),
    "PML4 cache 16, PDPTE cache 16, PDE cache 512": Caches(pml4=16, pdpte=16, pde=512),
    "none, and a TLB of 1024": Caches(1024, pml4=0, pdpte=0, pde=0),
    "none, and a TLB of 16384": Caches(16384, pml4=0, pdpte=0, pde=0),
}


@kernel
def _next(seed):  # type: ignore[no-untyped-def]
    # A linear congruential generator (Knuth's MMIX); only its upper bits are good enough.
    return seed * 6364136223846793005 + 1442695040888963407


@linked(int64(SPACE, int64, int64, int64, int64[::1]))
def random_reads(space, va, mask, reads, clock):  # type: ignore[no-untyped-def]
    """Read `reads` words at va + (random & mask).  Returns the nanoseconds."""
    seed, total = 1, 0
    before = now(clock)
    for _ in range(reads):
        seed = _next(seed + total)
        total = load64(space, va + ((seed >> 20) & mask & -8))
    after = now(clock)
    return after - before if total >= 0 else -1  # so that the reads are not left out


@linked(int64(uint8[::1], int64, int64, int64[::1]))
def plain_reads(array, mask, reads, clock):  # type: ignore[no-untyped-def]
    """The same for array[random & mask]."""
    seed, total = 1, 0
    before = now(clock)
    for _ in range(reads):
        seed = _next(seed + total)
        total = bytes64(array, (seed >> 20) & mask & -8)
    after = now(clock)
    return after - before if total >= 0 else -1  # so that the reads are not left out


@dataclass
class Measured:
    """The results of one configuration: ns per read in each round, and shares served by caches in the last round."""

    random: list[float]
    local: list[float]
    tlb: float = 0.0
    walks: float = 0.0


def _measure(space: AddressSpace, size: int, reads: int, into: Measured) -> None:
    clock = new_clock()
    before = space.counters
    into.random.append(int(random_reads(space.state, ADDRESS, size - 1, reads, clock)) / reads)
    served = {name: count - before[name] for name, count in space.counters.items()}
    into.tlb = served["tlb_hits"] / reads
    walks = served["tlb_misses"] or 1
    into.walks = sum(served[f"{name}_cache_hits"] for name in ("pde", "pdpte", "pml4")) / walks
    random_reads(space.state, ADDRESS, LOCAL - 1, LOCAL // 8, clock)
    into.local.append(int(random_reads(space.state, ADDRESS, LOCAL - 1, reads, clock)) / reads)


def measure(size: int, reads: int, rounds: int) -> dict[str, Measured]:
    """The results by configuration; `size` is a power of two [bytes]."""
    found = {name: Measured([], []) for name in ("no translation", *CONFIGURATIONS)}
    with written(size) as space:
        memory, root, epoch = space.memory, space.root, space.epoch
        # All configurations use the same tree, which they only read.
        spaces = {name: AddressSpace.of_root(memory, root, epoch, caches=c) for name, c in CONFIGURATIONS.items()}
        for _ in range(rounds):
            plain = found["no translation"]
            plain.random.append(int(plain_reads(memory.state.bytes, size - 1, reads, new_clock())) / reads)
            plain.local.append(int(plain_reads(memory.state.bytes, LOCAL - 1, reads, new_clock())) / reads)
            for name, one in spaces.items():
                _measure(one, size, reads, found[name])
    return found


def run(sizes_gib: Sequence[float] = SIZES_GIB, rounds: int = 15, reads: int = READS, progress: Say = say) -> Report:
    """Measure every configuration."""
    report = Report(
        "translation",
        "What do the TLB and the paging-structure caches of the machine save?",
        [
            f"{reads:,} reads of 8 bytes a round, {rounds} rounds; medians, in ns per read; the TLB has 4096 entries",
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
            f"{size / GIB:g} GiB [ns per read]",
            "caches of tables",
            "random",
            "over none",
            "local",
            "TLB hits [%]",
            "walks cut short [%]",
        )
        for name, one in found.items():
            over = median(a / b for a, b in zip(one.random, found[LONE].random, strict=True))
            table.add(name, median(one.random), over, median(one.local), 100 * one.tlb, 100 * one.walks)
    return report
