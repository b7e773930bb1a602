"""Giving memory back: the contents of free frames go to the system, their numbers stay.

A free frame may hold anything, so its contents may vanish at any time; only somebody who takes the frame meanwhile must
not lose what he writes.  So the owner does this himself, a bounded piece at a time: a thread would have to be kept from
the very frames that the owner takes next.  What was given back holds zeros, and is taken from the system anew by the
first touch, which is a page fault.

First go whole runs, which are huge pages to the system too: one call for 2 MiB.  Then what is free in partial blocks,
one call for each piece between two frames in use.  Frames that were given back are remembered as such (frames.py), so
none is given back twice, and `resident_free` is exact, but for what the system joins to huge pages by itself; against
that see populate.py.

How much to keep is a policy, and the caller's.
"""

import ctypes

from mmcore.frames import (
    BLOCK_COUNT,
    BLOCK_EMPTY,
    BLOCK_SHIFT,
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
CALL_WORTH = 8  # frames that a call of the system costs about as much as
_BLOCKS_PER_STEP = 256  # that a step looks at, at most
_MADV_DONTNEED = 4

if DISABLED:

    def _madvise(address: int, length: int, advice: int) -> int:
        code: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(int(address)), ctypes.c_size_t(int(length)), int(advice))
        return code

else:
    _madvise = external("madvise", int32(int64, int64, int32))  # type: ignore[assignment]


@linked(int64(MEMORY))
def resident_free(mem):  # type: ignore[no-untyped-def]
    """Frames that are free and were used before, and not given back since."""
    registers = mem.frames
    return registers[FREE_COUNT] - (registers[TOTAL] - registers[FRESH]) - registers[EMPTY_COUNT]


@kernel
def _return_frames(mem, first, count):  # type: ignore[no-untyped-def]
    # Whether the system took these frames, which are free, back.
    address = int64(mem.bytes.ctypes.data) + (first << PAGE_SHIFT)
    if _madvise(address, count << PAGE_SHIFT, int32(_MADV_DONTNEED)) != 0:
        return False
    mem.frames[RETURNED] += count
    mem.frames[RETURNS] += 1
    return True


@linked(int64(MEMORY, int64))
def _return_pieces(mem, block):  # type: ignore[no-untyped-def]
    """Give back what a partial block has free: the work that was, in frames, or REFUSED."""
    at, first = block * BLOCK_WORDS, block << BLOCK_SHIFT
    end = min(first + RUN_FRAMES, mem.frames[FRESH])
    work, frame = 0, first
    while frame < end:
        begin = frame
        while frame < end and mem.refcount[frame] == 0 and mem.epoch[frame] & 1 == 0:
            frame += 1
        count = frame - begin
        if count > 0:
            if not _return_frames(mem, begin, count):
                return REFUSED
            for given in range(begin, frame):
                mem.epoch[given] |= 1
            mem.blocks[at + BLOCK_EMPTY] += count
            mem.frames[EMPTY_COUNT] += count
            work += count + CALL_WORTH
        frame += 1
    return work


@linked(int64(MEMORY, int64))
def give_back(mem, budget):  # type: ignore[no-untyped-def]
    """Give back about `budget` free frames, at most a run more, or nearly that work in calls of the system.

    Returns the work done, in frames, which may be 0 where it came by nothing but frames in use; or REFUSED, when the
    system does not take them.
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
        registers[GIVE_HAND] = block + 1
        at = block * BLOCK_WORDS
        if mem.blocks[at + BLOCK_COUNT] > mem.blocks[at + BLOCK_EMPTY]:
            done = _return_pieces(mem, block)
            if done < 0:
                return REFUSED
            work += done
    return work
