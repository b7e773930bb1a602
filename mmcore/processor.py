"""A processor: its TLB, its paging-structure caches, its counters, and registers for the spaces that it works on.

    processor = Processor(Caches(tlb=64), spaces=2)
    space = AddressSpace(memory, processor=processor)

A space without one given gets its own.  tlb.py and psc.py keep the caches coherent; this module only lays them out.
"""

from dataclasses import dataclass

from mmcore.errors import MachineError, TooManySpaces
from mmcore.jit import Array, int64, zeros
from mmcore.psc import PSC_ENTRIES, PSC_WORDS
from mmcore.state import COUNTERS, CPU_REGISTERS, GENERATION, PROCESSOR_REGISTERS, PSC_FIRST, PSC_MASK
from mmcore.tlb import TLB_ENTRIES, TLB_WORDS

SPACES_MAX = 1024  # default limit of the spaces of a processor


@dataclass(frozen=True, slots=True)
class Caches:
    """The sizes of the translation caches, in entries.  Each is a power of two; 0 omits a cache other than the TLB.

    See tlb.py and psc.py; `AddressSpace.counters` has their hits and misses.
    """

    tlb: int = TLB_ENTRIES
    pml4: int = PSC_ENTRIES[0]
    pdpte: int = PSC_ENTRIES[1]
    pde: int = PSC_ENTRIES[2]

    def __post_init__(self) -> None:
        for name, least in (("tlb", 1), ("pml4", 0), ("pdpte", 0), ("pde", 0)):
            count = getattr(self, name)
            if count < least or count & (count - 1):
                raise MachineError(f"{name}: {count} entries, not a power of two")


DEFAULT_CACHES = Caches()


class Processor:
    """The translation hardware: a TLB, paging-structure caches, and counters.

    It may work on up to `spaces` address spaces, on all memories of its thread.  Generations keep their translations
    apart (see tlb.py).
    """

    def __init__(self, caches: Caches = DEFAULT_CACHES, spaces: int = SPACES_MAX) -> None:
        self.caches = caches
        self.registers = zeros(int64, PROCESSOR_REGISTERS)
        first = 0
        for level, entries in ((2, caches.pde), (3, caches.pdpte), (4, caches.pml4)):
            self.registers[PSC_FIRST + level], self.registers[PSC_MASK + level] = first, entries - 1
            first += PSC_WORDS * entries
        self.tlb, self.psc = zeros(int64, TLB_WORDS * caches.tlb), zeros(int64, max(first, 1))
        self.spaces = zeros(int64, CPU_REGISTERS * spaces)

    def take(self) -> Array:
        """Registers for one more space; they are taken once the space has a generation.  Raises TooManySpaces."""
        for row in range(0, len(self.spaces), CPU_REGISTERS):
            if self.spaces[row + GENERATION] == 0:
                cpu = self.spaces[row : row + CPU_REGISTERS]
                cpu[:] = zeros(int64, CPU_REGISTERS)
                return cpu
        raise TooManySpaces(len(self.spaces) // CPU_REGISTERS)

    @property
    def counters(self) -> dict[str, int]:
        """All counts since its creation, by the names of state.COUNTERS.  They are exact and the same in every run."""
        return {name: int(self.registers[register]) for name, register in COUNTERS.items()}
