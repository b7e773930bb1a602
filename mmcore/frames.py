"""Frames: allocation, reference counts and release of physical memory, as single frames and as runs for huge pages.

    0 ..... FRESH ....................... TOTAL
    used or free again    | never used, hold zeros

A block is an aligned group of RUN_FRAMES frames, the size of a huge page.  Each block has its own list of free frames.
Successive allocations therefore get neighbouring frames, and a block whose frames are all free is detected at once.
Such a block is called a run.  It moves from the list of partial blocks to one of two lists of runs: used runs have
arbitrary contents; empty runs hold zeros because they were given back to the system (giveback.py) or never used.

    words of a block, at BLOCK_WORDS * number

    BLOCK_FREE      first free frame of a partial block + 1, 0 for none
    BLOCK_COUNT     frames in that list
    BLOCK_EMPTY     the number of those that hold zeros
    BLOCK_STATE     PARTIAL_OR_NONE, USED_RUN or EMPTY_RUN
    BLOCK_PREVIOUS  the block before it in its list, or -1
    BLOCK_NEXT      the block after it, or -1
    BLOCK_SPLIT     not 0: a part of it was given back, so that it is no huge page for the system any more

    epoch of a free frame in a partial block:  (the next one + 1) << 1 | whether it holds zeros

A single frame comes from the first partial block.  If there is none, a run is opened; if there is no run either, the
frame comes from those never used, in ascending order.  Memory that the system has already provided is thus used first,
and neighbouring pages of a fresh mapping are neighbours in physical memory.

(1) refcount[f] = present entries plus roots that point at f.
(8) free and reachable frames are disjoint, and together are all frames.
(9) The refcount of a huge page's head is the number of entries that point at it; each other frame of it has refcount 1.

With POISON set, a freed frame is filled with POISON_BYTE.  An entry read from such a frame points outside of memory.
"""

from mmcore.charges import charge, uncharge
from mmcore.errors import NO_FRAME
from mmcore.jit import boolean, copy_bytes, fill_bytes, int64, kernel, linked, void
from mmcore.paging import HUGE_SIZE, PAGE_SHIFT, PAGE_SIZE, RUN_FRAMES
from mmcore.state import (
    EMPTY_COUNT,
    EMPTY_RUNS,
    FREE_COUNT,
    FRESH,
    MEMORY,
    PARTIAL_HEAD,
    POISON,
    RUN_COUNT,
    TOTAL,
    USED_RUNS,
)

POISON_BYTE = 0xDB
BLOCK_SHIFT = 9
assert 1 << BLOCK_SHIFT == RUN_FRAMES
BLOCK_FREE, BLOCK_COUNT, BLOCK_EMPTY, BLOCK_STATE, BLOCK_PREVIOUS, BLOCK_NEXT, BLOCK_SPLIT = range(7)
BLOCK_WORDS = 8
PARTIAL_OR_NONE, USED_RUN, EMPTY_RUN = 0, 1, 2


@kernel
def has_frames(space, count):  # type: ignore[no-untyped-def]
    """Whether `count` frames are free."""
    return space.mem.frames[FREE_COUNT] >= count


@kernel
def frames_free(space):  # type: ignore[no-untyped-def]
    """How many frames are free."""
    return space.mem.frames[FREE_COUNT]


# --- lists of blocks -----------------------------------------------------------------------------------------------


@kernel
def _word(block, field):  # type: ignore[no-untyped-def]
    return block * BLOCK_WORDS + field


@linked(void(MEMORY, int64, int64))
def link_block(mem, head, block):  # type: ignore[no-untyped-def]
    """Insert a block at the front of the list whose head is register `head`."""
    first = mem.frames[head]
    mem.blocks[_word(block, BLOCK_PREVIOUS)] = -1
    mem.blocks[_word(block, BLOCK_NEXT)] = first
    if first >= 0:
        mem.blocks[_word(first, BLOCK_PREVIOUS)] = block
    mem.frames[head] = block


@linked(void(MEMORY, int64, int64))
def unlink_block(mem, head, block):  # type: ignore[no-untyped-def]
    """Remove a block from that list."""
    before, behind = mem.blocks[_word(block, BLOCK_PREVIOUS)], mem.blocks[_word(block, BLOCK_NEXT)]
    if before >= 0:
        mem.blocks[_word(before, BLOCK_NEXT)] = behind
    else:
        mem.frames[head] = behind
    if behind >= 0:
        mem.blocks[_word(behind, BLOCK_PREVIOUS)] = before


@linked(void(MEMORY, int64))
def add_used_run(mem, block):  # type: ignore[no-untyped-def]
    """Enter a block as a used run; all of its frames are free, and it is in no list."""
    mem.blocks[_word(block, BLOCK_STATE)] = USED_RUN
    link_block(mem, USED_RUNS, block)
    mem.frames[RUN_COUNT] += 1


@linked(void(MEMORY, int64))
def add_empty_run(mem, block):  # type: ignore[no-untyped-def]
    """As add_used_run, but for a run that holds zeros.

    It becomes the second of its list: the populator has already populated the first, which is to be used next.
    """
    mem.blocks[_word(block, BLOCK_STATE)] = EMPTY_RUN
    first = mem.frames[EMPTY_RUNS]
    if first < 0:
        link_block(mem, EMPTY_RUNS, block)
    else:
        behind = mem.blocks[_word(first, BLOCK_NEXT)]
        mem.blocks[_word(block, BLOCK_PREVIOUS)] = first
        mem.blocks[_word(block, BLOCK_NEXT)] = behind
        mem.blocks[_word(first, BLOCK_NEXT)] = block
        if behind >= 0:
            mem.blocks[_word(behind, BLOCK_PREVIOUS)] = block
    mem.frames[RUN_COUNT] += 1
    mem.frames[EMPTY_COUNT] += RUN_FRAMES


@linked(int64(MEMORY, int64))
def take_run(mem, zeros):  # type: ignore[no-untyped-def]
    """Remove a free run from its list, preferably an empty (zeros: 1) or a used one (0).  Returns its block, or -1.

    The block's state still tells which kind it was.
    """
    registers = mem.frames
    if registers[RUN_COUNT] == 0:
        return -1
    empty = registers[USED_RUNS] < 0 or (zeros != 0 and registers[EMPTY_RUNS] >= 0)
    head = EMPTY_RUNS if empty else USED_RUNS
    block = registers[head]
    unlink_block(mem, head, block)
    registers[RUN_COUNT] -= 1
    if empty:
        registers[EMPTY_COUNT] -= RUN_FRAMES
    return block


@linked(int64(MEMORY))
def open_run(mem):  # type: ignore[no-untyped-def]
    """Turn a free run into the first partial block.  Returns the block, or -1 if there is no run.

    From now on its contents count as arbitrary: the first touch may make the system provide all of its frames.
    """
    block = take_run(mem, 0)
    if block >= 0:
        first = block << BLOCK_SHIFT
        for frame in range(first, first + RUN_FRAMES - 1):
            mem.epoch[frame] = (frame + 2) << 1
        mem.epoch[first + RUN_FRAMES - 1] = 0
        mem.blocks[_word(block, BLOCK_FREE)] = first + 1
        mem.blocks[_word(block, BLOCK_COUNT)] = RUN_FRAMES
        mem.blocks[_word(block, BLOCK_EMPTY)] = 0
        mem.blocks[_word(block, BLOCK_STATE)] = PARTIAL_OR_NONE
        link_block(mem, PARTIAL_HEAD, block)
    return block


@linked(void(MEMORY, int64))
def close_run(mem, block):  # type: ignore[no-untyped-def]
    """Turn a partial block into a run after its last frame was freed."""
    unlink_block(mem, PARTIAL_HEAD, block)
    empty = mem.blocks[_word(block, BLOCK_EMPTY)]
    mem.frames[EMPTY_COUNT] -= empty
    for field in (BLOCK_FREE, BLOCK_COUNT, BLOCK_EMPTY):
        mem.blocks[_word(block, field)] = 0
    if empty == RUN_FRAMES:
        add_empty_run(mem, block)
    else:
        add_used_run(mem, block)


# --- single frames -------------------------------------------------------------------------------------------------


@kernel
def push_frame(mem, frame, zeros):  # type: ignore[no-untyped-def]
    """Enter a free frame in its block; `zeros` is 1 if it holds zeros.  The caller updates FREE_COUNT."""
    block = frame >> BLOCK_SHIFT
    at = block * BLOCK_WORDS
    blocks = mem.blocks
    mem.epoch[frame] = blocks[at + BLOCK_FREE] << 1 | zeros
    blocks[at + BLOCK_FREE] = frame + 1
    count = blocks[at + BLOCK_COUNT] + 1
    blocks[at + BLOCK_COUNT] = count
    if zeros != 0:
        blocks[at + BLOCK_EMPTY] += 1
        mem.frames[EMPTY_COUNT] += 1
    if count == 1:
        link_block(mem, PARTIAL_HEAD, block)
    elif count == RUN_FRAMES:
        close_run(mem, block)


@kernel
def frame_alloc(mem, stamp):  # type: ignore[no-untyped-def]
    """Allocate a frame of arbitrary contents with refcount 1 and epoch `stamp`.  NO_FRAME if none is free."""
    registers, blocks = mem.frames, mem.blocks
    block = registers[PARTIAL_HEAD]
    if block < 0 and registers[RUN_COUNT] > 0:
        block = open_run(mem)
    if block >= 0:
        at = block * BLOCK_WORDS
        frame = blocks[at + BLOCK_FREE] - 1
        word = mem.epoch[frame]
        blocks[at + BLOCK_FREE] = word >> 1
        blocks[at + BLOCK_EMPTY] -= word & 1
        registers[EMPTY_COUNT] -= word & 1
        count = blocks[at + BLOCK_COUNT] - 1
        blocks[at + BLOCK_COUNT] = count
        if count == 0:
            unlink_block(mem, PARTIAL_HEAD, block)
    elif registers[FRESH] < registers[TOTAL]:
        frame = registers[FRESH]
        registers[FRESH] = frame + 1
    else:
        return NO_FRAME
    assert mem.refcount[frame] == 0, "a frame in use was among the free ones"
    registers[FREE_COUNT] -= 1
    mem.refcount[frame] = 1
    mem.epoch[frame] = stamp
    charge(mem, frame)
    return frame


@kernel
def _next_holds_zeros(mem):  # type: ignore[no-untyped-def]
    # Whether the next frame that frame_alloc returns holds zeros.
    block = mem.frames[PARTIAL_HEAD]
    if block >= 0:
        return mem.epoch[mem.blocks[_word(block, BLOCK_FREE)] - 1] & 1 != 0
    return mem.frames[RUN_COUNT] == 0


@kernel
def frame_alloc_zeroed(mem, stamp):  # type: ignore[no-untyped-def]
    """As frame_alloc, but the frame is filled with zeros."""
    zeros = _next_holds_zeros(mem)
    frame = frame_alloc(mem, stamp)
    if not zeros and frame >= 0:
        fill_bytes(mem.bytes, frame << PAGE_SHIFT, 0, PAGE_SIZE)
    return frame


@kernel
def frame_copy(mem, target, source):  # type: ignore[no-untyped-def]
    """Copy one frame's contents to another."""
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)


@kernel
def frame_drop(mem, frame):  # type: ignore[no-untyped-def]
    """Drop one reference to `frame`; dropping the last one frees it."""
    count = mem.refcount[frame] - 1
    assert count >= 0, "a free frame was dropped"
    mem.refcount[frame] = count
    if count == 0:
        if mem.frames[POISON] != 0:
            fill_bytes(mem.bytes, frame << PAGE_SHIFT, POISON_BYTE, PAGE_SIZE)
        push_frame(mem, frame, 0)
        mem.frames[FREE_COUNT] += 1
        uncharge(mem, frame, 1)


@linked(void(MEMORY, int64))
def pass_over(mem, first):  # type: ignore[no-untyped-def]
    """Advance FRESH to `first`; the frames passed over become free frames that hold zeros."""
    for frame in range(first - 1, mem.frames[FRESH] - 1, -1):
        push_frame(mem, frame, 1)
    mem.frames[FRESH] = first


# --- runs ----------------------------------------------------------------------------------------------------------


@kernel
def _fresh_run(mem):  # type: ignore[no-untyped-def]
    # Make a free run of frames never used; returns whether that was possible.
    first = (mem.frames[FRESH] + RUN_FRAMES - 1) & -RUN_FRAMES
    if first + RUN_FRAMES > mem.frames[TOTAL]:
        return False
    pass_over(mem, first)
    mem.frames[FRESH] = first + RUN_FRAMES
    add_empty_run(mem, first >> BLOCK_SHIFT)
    return True


@linked(boolean(MEMORY, int64, int64))
def reserve(mem, runs, frames):  # type: ignore[no-untyped-def]
    """Whether `runs` free runs, and in addition `frames` single frames, can be allocated in any order.

    On success the runs are in their lists, and that many single frames can be allocated without opening one of them.
    Reserving allocates nothing: all of these frames stay free.
    """
    registers = mem.frames
    if registers[FREE_COUNT] < runs * RUN_FRAMES + frames:
        return False
    while registers[RUN_COUNT] < runs and _fresh_run(mem):
        pass
    if registers[RUN_COUNT] < runs:
        return False
    fresh = registers[TOTAL] - registers[FRESH]
    beside = registers[FREE_COUNT] - fresh - runs * RUN_FRAMES
    if beside < frames:
        pass_over(mem, registers[FRESH] + frames - beside)
    return True


@linked(int64(MEMORY, int64, int64))
def run_alloc(mem, stamp, zeroed):  # type: ignore[no-untyped-def]
    """Allocate a reserved run with refcount 1 and epoch `stamp`, zero-filled if `zeroed` is 1.  Returns its head."""
    block = take_run(mem, zeroed)
    assert block >= 0, "a run was not reserved"
    head = block << BLOCK_SHIFT
    if zeroed != 0 and mem.blocks[_word(block, BLOCK_STATE)] != EMPTY_RUN:
        fill_bytes(mem.bytes, head << PAGE_SHIFT, 0, HUGE_SIZE)
    mem.blocks[_word(block, BLOCK_STATE)] = PARTIAL_OR_NONE
    for frame in range(head, head + RUN_FRAMES):
        assert mem.refcount[frame] == 0, "a frame in use was in a free run"
        mem.refcount[frame] = 1
        mem.epoch[frame] = stamp
        charge(mem, frame)
    mem.frames[FREE_COUNT] -= RUN_FRAMES
    return head


@kernel
def run_copy(mem, target, source):  # type: ignore[no-untyped-def]
    """Copy one run's contents to another."""
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, HUGE_SIZE)


@linked(void(MEMORY, int64))
def run_drop(mem, head):  # type: ignore[no-untyped-def]
    """Drop one reference to a huge page; dropping the last one frees its run."""
    count = mem.refcount[head] - 1
    assert count >= 0, "a free run was dropped"
    mem.refcount[head] = count
    if count > 0:
        return
    if mem.frames[POISON] != 0:
        fill_bytes(mem.bytes, head << PAGE_SHIFT, POISON_BYTE, HUGE_SIZE)
    for frame in range(head + 1, head + RUN_FRAMES):
        mem.refcount[frame] = 0
    add_used_run(mem, head >> BLOCK_SHIFT)
    mem.frames[FREE_COUNT] += RUN_FRAMES
    uncharge(mem, head, RUN_FRAMES)
