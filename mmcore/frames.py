"""Frames: allocation, counting and release of physical memory, one by one and in runs for huge pages.

    0 ..... FRESH ....................... TOTAL
    used or free again    | never used, hold zeros

The free list runs through the `epoch` words of free frames, which have no stamp.  Frames never used are handed out in
ascending order when the list is empty, so that nothing is touched up front and neighbours in a fresh mapping are
neighbours in memory.

A run is RUN_FRAMES frames, aligned: what a huge page is made of.  Free runs have a list of their own, through the
epoch of their first frame, the head; the epoch of the second says whether the run was never used and holds zeros.  A
run comes from the frames never used, or from a huge page that was freed; when there is none left of either, all free
frames are sorted anew, in O(F), and those that make whole runs are taken together.  A single frame is taken out of a
run, which is broken up then, only when there are no others.

(1) refcount[f] = present entries plus roots that point at f.
(8) free and reachable frames are disjoint, and together are all frames.
(9) Of a huge page the head counts the entries that point at it, and each other frame counts one: the page.

With POISON set a freed frame is filled with POISON_BYTE, which makes an entry read from it point out of memory.
"""

from numba import boolean, int64, void

from mmcore.errors import NO_FRAME
from mmcore.jit import copy_bytes, fill_bytes, kernel, linked
from mmcore.paging import HUGE_SIZE, PAGE_SHIFT, PAGE_SIZE, RUN_FRAMES
from mmcore.state import FREE_COUNT, FREE_HEAD, FRESH, MEMORY, POISON, RUN_COUNT, RUN_HEAD, TOTAL

POISON_BYTE = 0xDB
USED, UNUSED = 0, 1  # epoch of a free run's second frame


@kernel
def has_frames(space, count):  # type: ignore[no-untyped-def]
    """Whether `count` frames are free."""
    return space.mem.frames[FREE_COUNT] >= count


@kernel
def frames_free(space):  # type: ignore[no-untyped-def]
    """How many frames are free."""
    return space.mem.frames[FREE_COUNT]


@kernel
def _push_frame(mem, frame):  # type: ignore[no-untyped-def]
    mem.epoch[frame] = mem.frames[FREE_HEAD]
    mem.frames[FREE_HEAD] = frame


@kernel
def _push_run(mem, head, state):  # type: ignore[no-untyped-def]
    mem.epoch[head] = mem.frames[RUN_HEAD]
    mem.epoch[head + 1] = state
    mem.frames[RUN_HEAD] = head
    mem.frames[RUN_COUNT] += 1


@kernel
def _pop_run(mem):  # type: ignore[no-untyped-def]
    # The head of a free run, or -1.
    head = mem.frames[RUN_HEAD]
    if head >= 0:
        mem.frames[RUN_HEAD] = mem.epoch[head]
        mem.frames[RUN_COUNT] -= 1
    return head


@linked(int64(MEMORY))
def break_run(mem):  # type: ignore[no-untyped-def]
    """Take one frame out of a free run, the others to the free list; returns it, or NO_FRAME without a run."""
    head = _pop_run(mem)
    if head < 0:
        return NO_FRAME
    for frame in range(head + RUN_FRAMES - 1, head, -1):
        _push_frame(mem, frame)
    return head


@kernel
def frame_alloc(mem, stamp):  # type: ignore[no-untyped-def]
    """A frame with any contents, refcount 1 and `stamp`; NO_FRAME when there is none."""
    registers = mem.frames
    frame = registers[FREE_HEAD]
    if frame >= 0:
        registers[FREE_HEAD] = mem.epoch[frame]
    elif registers[FRESH] < registers[TOTAL]:
        frame = registers[FRESH]
        registers[FRESH] = frame + 1
    else:
        frame = break_run(mem)
        if frame < 0:
            return NO_FRAME
    assert mem.refcount[frame] == 0, "a frame in use was on the free list"
    registers[FREE_COUNT] -= 1
    mem.refcount[frame] = 1
    mem.epoch[frame] = stamp
    return frame


@kernel
def frame_alloc_zeroed(mem, stamp):  # type: ignore[no-untyped-def]
    """As frame_alloc, filled with zeros."""
    fresh = mem.frames[FRESH]
    frame = frame_alloc(mem, stamp)
    if frame != fresh and frame >= 0:
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
        _push_frame(mem, frame)
        mem.frames[FREE_COUNT] += 1


# --- runs ----------------------------------------------------------------------------------------------------------


@kernel
def _whole_run(mem, first):  # type: ignore[no-untyped-def]
    # Whether all frames of the run that begins at `first` are there and free.
    if first + RUN_FRAMES > mem.frames[TOTAL]:
        return False
    used = 0
    for frame in range(first, first + RUN_FRAMES):
        used |= mem.refcount[frame]
    return used == 0


@linked(void(MEMORY))
def sort_free(mem):  # type: ignore[no-untyped-def]
    """Sort all free frames: whole runs to the list of runs, the others to the free list, both ascending."""
    registers = mem.frames
    registers[FREE_HEAD] = -1
    registers[RUN_HEAD] = -1
    registers[RUN_COUNT] = 0
    registers[FRESH] = registers[TOTAL]
    for first in range((registers[TOTAL] - 1) & -RUN_FRAMES, -1, -RUN_FRAMES):
        if _whole_run(mem, first):
            _push_run(mem, first, USED)
            continue
        for frame in range(min(first + RUN_FRAMES, registers[TOTAL]) - 1, first - 1, -1):
            if mem.refcount[frame] == 0:
                _push_frame(mem, frame)


@kernel
def _fresh_run(mem):  # type: ignore[no-untyped-def]
    # Make a free run of frames never used; whether there was one.
    first = (mem.frames[FRESH] + RUN_FRAMES - 1) & -RUN_FRAMES
    if first + RUN_FRAMES > mem.frames[TOTAL]:
        return False
    for frame in range(first - 1, mem.frames[FRESH] - 1, -1):
        _push_frame(mem, frame)
    mem.frames[FRESH] = first + RUN_FRAMES
    _push_run(mem, first, UNUSED)
    return True


@linked(boolean(MEMORY, int64, int64))
def reserve(mem, runs, frames):  # type: ignore[no-untyped-def]
    """Whether `runs` free runs and `frames` single frames beside them can be had, in any order.

    Afterwards the runs are on their list.  What is free stays free.
    """
    if mem.frames[FREE_COUNT] < runs * RUN_FRAMES + frames:
        return False
    while mem.frames[RUN_COUNT] < runs and _fresh_run(mem):
        pass
    if mem.frames[RUN_COUNT] < runs:
        sort_free(mem)
    return mem.frames[RUN_COUNT] >= runs


@linked(int64(MEMORY, int64, int64))
def run_alloc(mem, stamp, zeroed):  # type: ignore[no-untyped-def]
    """The head of a run, which must be reserved: refcount 1 and `stamp`, any contents or (zeroed: 1) zeros."""
    head = _pop_run(mem)
    assert head >= 0, "a run was not reserved"
    if zeroed != 0 and mem.epoch[head + 1] != UNUSED:
        fill_bytes(mem.bytes, head << PAGE_SHIFT, 0, HUGE_SIZE)
    for frame in range(head, head + RUN_FRAMES):
        assert mem.refcount[frame] == 0, "a frame in use was in a free run"
        mem.refcount[frame] = 1
        mem.epoch[frame] = stamp
    mem.frames[FREE_COUNT] -= RUN_FRAMES
    return head


@kernel
def run_copy(mem, target, source):  # type: ignore[no-untyped-def]
    """Copy one run's contents to another."""
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, HUGE_SIZE)


@linked(void(MEMORY, int64))
def run_drop(mem, head):  # type: ignore[no-untyped-def]
    """One reference less to a huge page; the last one frees its run."""
    count = mem.refcount[head] - 1
    assert count >= 0, "a free run was dropped"
    mem.refcount[head] = count
    if count > 0:
        return
    if mem.frames[POISON] != 0:
        fill_bytes(mem.bytes, head << PAGE_SHIFT, POISON_BYTE, HUGE_SIZE)
    for frame in range(head + 1, head + RUN_FRAMES):
        mem.refcount[frame] = 0
    _push_run(mem, head, USED)
    mem.frames[FREE_COUNT] += RUN_FRAMES
