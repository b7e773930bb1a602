"""Frames: allocation, counting and release of physical memory.

    0 ..... FRESH ....................... TOTAL
    used or on the free list | never used, hold zeros

The free list runs through the `epoch` words of free frames, which have no stamp.  Frames never used are handed out in
ascending order when the list is empty, so that nothing is touched up front and neighbours in a fresh mapping are
neighbours in memory.

(1) refcount[f] = present entries plus roots that point at f.
(8) free and reachable frames are disjoint, and together are all frames.

With POISON set a freed frame is filled with POISON_BYTE, which makes an entry read from it point out of memory.
"""

from mmcore.errors import NO_FRAME
from mmcore.jit import copy_bytes, fill_bytes, kernel
from mmcore.paging import PAGE_SHIFT, PAGE_SIZE
from mmcore.state import FREE_COUNT, FREE_HEAD, FRESH, POISON, TOTAL

POISON_BYTE = 0xDB


@kernel
def has_frames(space, count):  # type: ignore[no-untyped-def]
    """Whether `count` frames are free."""
    return space.mem.frames[FREE_COUNT] >= count


@kernel
def frames_free(space):  # type: ignore[no-untyped-def]
    """How many frames are free."""
    return space.mem.frames[FREE_COUNT]


@kernel
def frame_alloc(mem, stamp):  # type: ignore[no-untyped-def]
    """A frame with any contents, refcount 1 and `stamp`; NO_FRAME when there is none."""
    registers = mem.frames
    frame = registers[FREE_HEAD]
    if frame >= 0:
        registers[FREE_HEAD] = mem.epoch[frame]
    else:
        frame = registers[FRESH]
        if frame >= registers[TOTAL]:
            return NO_FRAME
        registers[FRESH] = frame + 1
    assert mem.refcount[frame] == 0, "a frame in use was on the free list"
    registers[FREE_COUNT] -= 1
    mem.refcount[frame] = 1
    mem.epoch[frame] = stamp
    return frame


@kernel
def frame_alloc_zeroed(mem, stamp):  # type: ignore[no-untyped-def]
    """As frame_alloc, filled with zeros."""
    used_before = mem.frames[FREE_HEAD] >= 0
    frame = frame_alloc(mem, stamp)
    if used_before:
        fill_bytes(mem.bytes, frame << PAGE_SHIFT, 0, PAGE_SIZE)
    return frame


@kernel
def frame_copy(mem, target, source):  # type: ignore[no-untyped-def]
    """Copy one frame's contents to another."""
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)


@kernel
def frame_drop(mem, frame):  # type: ignore[no-untyped-def]
    """One reference less to `frame`; the last one frees it."""
    count = mem.refcount[frame] - 1
    assert count >= 0, "a free frame was dropped"
    mem.refcount[frame] = count
    if count == 0:
        if mem.frames[POISON] != 0:
            fill_bytes(mem.bytes, frame << PAGE_SHIFT, POISON_BYTE, PAGE_SIZE)
        mem.epoch[frame] = mem.frames[FREE_HEAD]
        mem.frames[FREE_HEAD] = frame
        mem.frames[FREE_COUNT] += 1
