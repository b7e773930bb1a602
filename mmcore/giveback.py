"""Giving memory back: the operating system reclaims the memory of free frames; the frames stay in the free lists.

The contents of a free frame are arbitrary, so they may vanish at any time.  But if the owner allocated a frame during
the call, it would lose its writes.  So the owner itself gives memory back, in bounded steps: another thread would need
a lock against the very frames that the owner allocates next.  A frame that was given back holds zeros.  The first touch
takes it from the system again, which is a page fault.

Whole runs go first: to the system, too, they are huge pages, so one call returns 2 MiB.  Free frames of partial blocks
follow, with one call for each piece between two frames in use.  frames.py marks the frames that were given back, so no
frame is given back twice.  `resident_free` is exact except for frames that the system itself joins into huge pages;
populate.py guards against that.

The caller decides how much to keep.
"""

import ctypes

from mmcore.frames import (
    BLOCK_COUNT,
    BLOCK_EMPTY,
    BLOCK_SHIFT,
    BLOCK_SPLIT,
    BLOCK_WORDS,
    add_empty_run,
    add_used_run,
    take_run,
)
from mmcore.jit import DISABLED, external, int32, int64, kernel, linked
from mmcore.paging import PAGE_SHIFT, RUN_FRAMES
from mmcore.state import (
    EMPTY_COUNT,
    FREE_COUNT,
    FRESH,
    GIVE_HAND,
    MEMORY,
    RETURNED,
    RETURNS,
    TOTAL,
    USED_RUNS,
)

REFUSED = -1
CALL_WORTH = 8  # a system call costs about as much as this many frames
_BLOCKS_PER_STEP = 256  # the most blocks that a step looks at
_MADV_DONTNEED = 4

if DISABLED:

    def _madvise(address: int, length: int, advice: int) -> int:
        code: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(int(address)), ctypes.c_size_t(int(length)), int(advice))
        return code

else:
    _madvise = external("madvise", int32(int64, int64, int32))  # type: ignore[assignment]


@linked(int64(MEMORY))
def resident_free(mem):  # type: ignore[no-untyped-def]
    """The number of free frames that were used before and have not been given back since."""
    registers = mem.frames
    return registers[FREE_COUNT] - (registers[TOTAL] - registers[FRESH]) - registers[EMPTY_COUNT]


@kernel
def _return_frames(mem, first, count):  # type: ignore[no-untyped-def]
    # Give these free frames back; returns whether the system accepted them.
    address = int64(mem.bytes.ctypes.data) + (first << PAGE_SHIFT)
    if _madvise(address, count << PAGE_SHIFT, int32(_MADV_DONTNEED)) != 0:
        return False
    mem.frames[RETURNED] += count
    mem.frames[RETURNS] += 1
    return True


@linked(int64(MEMORY, int64, int64))
def _return_pieces(mem, block, budget):  # type: ignore[no-untyped-def]
    """Give back free frames of a partial block until the budget is used.  The work done, in frames, or REFUSED."""
    at, first = block * BLOCK_WORDS, block << BLOCK_SHIFT
    end = min(first + RUN_FRAMES, mem.frames[FRESH])
    work, frame = 0, first
    while frame < end and work < budget:
        begin = frame
        while frame < end and mem.refcount[frame] == 0 and mem.epoch[frame] & 1 == 0:
            frame += 1
        count = frame - begin
        if count > 0:
            if not _return_frames(mem, begin, count):
                return REFUSED
            for given in range(begin, frame):
                mem.epoch[given] |= 1
            mem.blocks[at + BLOCK_SPLIT] = 1
            mem.blocks[at + BLOCK_EMPTY] += count
            mem.frames[EMPTY_COUNT] += count
            work += count + CALL_WORTH
        frame += 1
    return work


@linked(int64(MEMORY, int64))
def give_back(mem, budget):  # type: ignore[no-untyped-def]
    """Give back about `budget` free frames, at most a run or a piece more; system calls count as work, too.

    Returns the work done, in frames.  That may be 0 if the step met only frames in use.  Returns REFUSED if the system
    does not accept the memory.
    """
    registers, work = mem.frames, 0
    while work < budget and registers[USED_RUNS] >= 0:
        block = take_run(mem, 0)
        if not _return_frames(mem, block << BLOCK_SHIFT, RUN_FRAMES):
            add_used_run(mem, block)
            return REFUSED
        add_empty_run(mem, block)
        work += RUN_FRAMES
    blocks = (registers[FRESH] + RUN_FRAMES - 1) >> BLOCK_SHIFT
    for _ in range(min(blocks, _BLOCKS_PER_STEP)):
        if work >= budget:
            break
        block = registers[GIVE_HAND] if registers[GIVE_HAND] < blocks else 0
        at = block * BLOCK_WORDS
        if mem.blocks[at + BLOCK_COUNT] > mem.blocks[at + BLOCK_EMPTY]:
            done = _return_pieces(mem, block, budget - work)
            if done < 0:
                return REFUSED
            work += done
        finished = mem.blocks[at + BLOCK_COUNT] <= mem.blocks[at + BLOCK_EMPTY]
        registers[GIVE_HAND] = block + int64(finished)
    return work
