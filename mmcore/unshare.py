"""Unsharing ahead: copy shared tables before a writer needs them.

After a fork, the first write below each shared table waits for a copy of that table, at every level.  An owner with
time to spare makes these copies itself, in steps.  The steps walk over the space from low to high addresses; each fork
restarts the walk.  The idea comes from Async-fork (Pang et al., VLDB 2023).  Pages stay shared.
"""

from mmcore.errors import NO_FRAME
from mmcore.fault import own_path
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked
from mmcore.mapping import tables_to_own
from mmcore.paging import HUGE, NO_ENTRY, PT_SPAN, ROOT_LEVEL, RW, VA_LIMIT, frame_of, slot_of, span
from mmcore.state import CR3, SPACE, TABLES_COPIED, TABLES_REUSED, TABLES_UNSHARED, UNSHARED_TO

_LOOKS_PER_COPY = 64  # this many walks cost about as much as one copy of a table


@kernel
def _look(space, va):  # type: ignore[no-untyped-def]
    # (the level down to which va's path has to be made private, or 0; the end of the block to which this applies)
    frame = space.cpu[CR3]
    lowest = 0
    rights = RW
    for level in range(ROOT_LEVEL, 1, -1):
        entry = space.mem.entries[slot_of(frame, va, level)]
        if entry == NO_ENTRY:
            return 0, (va & -span(level)) + span(level)
        if entry & HUGE == HUGE:
            # A huge page has no PT: the tables of this path end here.
            break
        rights &= entry
        frame = frame_of(entry)
        lowest = level - 1
    end = (va & -PT_SPAN) + PT_SPAN
    return (0 if rights & RW else lowest), end


@linked(int64(SPACE, int64))
def unshare_step(space, budget):  # type: ignore[no-untyped-def]
    """Make about `budget` shared tables private, starting where the last step ended.

    Returns the work done, in copies of tables; 0 once the end of the space is reached.  Returns NO_FRAME if there is no
    frame for the next copy.
    """
    copied = space.processor[TABLES_COPIED] + space.processor[TABLES_REUSED]
    looks = 0
    done = 0
    while done < budget and space.cpu[UNSHARED_TO] < VA_LIMIT:
        va = space.cpu[UNSHARED_TO]
        level, end = _look(space, va)
        if level > 0:
            if not has_frames(space, tables_to_own(space, va, end, level)):
                return NO_FRAME
            own_path(space, va, level)
        space.cpu[UNSHARED_TO] = end
        looks += 1
        made = space.processor[TABLES_COPIED] + space.processor[TABLES_REUSED] - copied
        done = made + looks // _LOOKS_PER_COPY
    space.processor[TABLES_UNSHARED] += space.processor[TABLES_COPIED] + space.processor[TABLES_REUSED] - copied
    return done
