"""Work in steps waits for memory that the system has not provided yet.

The first touch of such memory makes the system find and clear a huge page, which can take milliseconds.  A command that
takes much memory at once, and does so over several turns, lets the populator touch it instead (mmcore/populate.py).  It
waits for POPULATE_MS at most: the populator, too, may wait for a processor.

If all connections that want a turn wait for memory, the loop sleeps for a millisecond (TURNS_RESTING), and leaves the
processor to the populator.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import POPULATOR_ADDRESS
from kvstore.lifetimes.shard import TIMER_MS
from kvstore.system.libc import words_at
from mmcore.jit import int64, linked
from mmcore.populate import CONTROL_SIZE, is_populated, populate_now

POPULATE_MS = 50


@linked(int64(CONTEXT, int64, int64))
def wait_for_fresh(context, pages, since_ms):  # type: ignore[no-untyped-def]
    """Whether a step that takes so many pages, a run at most, is to wait: 0 for no, else since when.

    since_ms: what the last call for this step returned, at first 0.
    """
    address, now_ms = context.pool[POPULATOR_ADDRESS], context.shard[TIMER_MS]
    if address == 0:
        return 0
    control = words_at(address, CONTROL_SIZE)
    if is_populated(context.space.mem, control, pages):
        return 0
    if since_ms == 0:
        populate_now(control)
        return now_ms
    return since_ms if now_ms - since_ms < POPULATE_MS else 0
