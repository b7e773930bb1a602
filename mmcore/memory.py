"""Physical memory for Python: reserved from the system, counted, given back.

    with PhysicalMemory(1 << 30) as memory:
        memory.frames_total, memory.frames_free, memory.frames_kept
        memory.give_back()

The object owns the mapping and the arrays that kernels take (`state`).  Spaces on it are made by space.py.  One thread
owns a memory and all spaces on it (see state.py).
"""

import mmap
from operator import index
from types import TracebackType
from typing import Self

from mmcore.errors import ClosedMemory, MachineError, MemoryTooSmall
from mmcore.frames import BLOCK_WORDS
from mmcore.giveback import give_back, resident_free
from mmcore.jit import anonymous, int32, int64, over, uint8, uint64, zeros
from mmcore.paging import PAGE_SIZE, ROOT_LEVEL, RUN_FRAMES
from mmcore.state import (
    ACCOUNTS,
    EMPTY_RUNS,
    FRAMES_REGISTERS,
    FREE_ACCOUNT,
    FREE_COUNT,
    PARTIAL_HEAD,
    POISON,
    RETURNED,
    TOTAL,
    USED_RUNS,
    Memory,
)

FRAMES_MIN = ROOT_LEVEL + 1  # one page and the tables above it
_GIVE_STEP = 1 << 16  # frames


class PhysicalMemory:
    """`size` bytes of physical memory.  All of it is reserved; the system provides it only as it is used.

    `size` is rounded down to whole frames of 4 KiB.  As a context manager, it closes the memory at the end.  Raises
    MemoryTooSmall below five frames, the need of one page and its tables; MachineError for a mapping of another size;
    OSError if the system refuses.

    huge_pages: let the system back it with huge pages where it can (MADV_HUGEPAGE).
    poison: fill freed frames with a pattern, so that a read of a freed frame is noticed.
    mapping: private anonymous memory of that size to use instead, with the madvise settings that it has.  It holds
        zeros, except in frames that adopt_runs will take.
    """

    def __init__(
        self, size: int, *, huge_pages: bool = True, poison: bool = False, mapping: mmap.mmap | None = None
    ) -> None:
        count = index(size) // PAGE_SIZE
        if count < FRAMES_MIN:
            raise MemoryTooSmall(size, FRAMES_MIN * PAGE_SIZE)
        if mapping is None:
            # Of whole huge pages, so that it begins at one: since Linux 6.7.
            mapping = anonymous(-(-count // RUN_FRAMES) * RUN_FRAMES * PAGE_SIZE)
            if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
                mapping.madvise(mmap.MADV_HUGEPAGE)
        elif len(mapping) != count * PAGE_SIZE:
            raise MachineError(f"a mapping of {len(mapping)} bytes for a memory of {count * PAGE_SIZE}")
        self._mapping = mapping
        registers = zeros(int64, FRAMES_REGISTERS)
        for list_head in (PARTIAL_HEAD, USED_RUNS, EMPTY_RUNS):
            registers[list_head] = -1
        registers[FREE_COUNT] = registers[TOTAL] = count
        registers[POISON] = poison
        registers[ACCOUNTS] = registers[FREE_ACCOUNT] = 1
        blocks = BLOCK_WORDS * -(-count // RUN_FRAMES)
        frames = memoryview(mapping)[: count * PAGE_SIZE]
        self._state: Memory | None = Memory(
            over(frames, uint8),
            over(frames, uint64),
            zeros(int32, count),
            zeros(int32, count),
            zeros(int64, count),
            zeros(int64, count + 2),
            zeros(int64, blocks),
            registers,
        )

    @property
    def state(self) -> Memory:
        """The argument that kernels take; see state.Memory.  Raises ClosedMemory."""
        if self._state is None:
            raise ClosedMemory("the physical memory was closed")
        return self._state

    @property
    def frames_total(self) -> int:
        """The number of frames."""
        return int(self.state.frames[TOTAL])

    @property
    def frames_free(self) -> int:
        """The number of frames that are neither a page nor a table of any space."""
        return int(self.state.frames[FREE_COUNT])

    @property
    def frames_kept(self) -> int:
        """The number of free frames that were used before and not given back to the system since; see give_back."""
        return int(resident_free(self.state))

    def give_back(self, keep: int = 0) -> int:
        """Give the memory of free frames back to the system, except for `keep` frames.  Returns how many it gave back.

        The system provides the memory again as the frames are used.  Raises OSError if the system does not accept it.
        """
        mem = self.state
        before = int(mem.frames[RETURNED])
        while (surplus := self.frames_kept - keep) > 0:
            if give_back(mem, min(surplus, _GIVE_STEP)) < 0:
                raise OSError("the system takes no memory back")
        return int(mem.frames[RETURNED]) - before

    @property
    def size(self) -> int:
        """The size of all frames [bytes]."""
        return self.frames_total * PAGE_SIZE

    def close(self) -> None:
        """Give the memory back to the system.  Spaces on it must not be used any more."""
        if self._state is None:
            return
        self._state = None
        # Arrays over the mapping may still exist.  They keep its addresses valid, but not its contents.
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._state is None:
            return "<PhysicalMemory closed>"
        return f"<PhysicalMemory {self.frames_free} of {self.frames_total} frames free>"
