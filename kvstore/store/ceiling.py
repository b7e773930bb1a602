"""A ceiling for the data of the main store while frames are short, so that eviction makes room there, too.

maxmemory may be 0, or more than machine-memory has room for.  Under a policy that evicts, keys go then before commands
are refused for want of frames (reserve.py):

    frames in use   0 ....................... start ........... low ........... in force
                    no ceiling              | the ceiling stays | it falls     | refused

At `start` the ceiling is set to the data that there are: from then on each new key costs old ones.  Deleted ones
leave holes in slab pages, which values of the same size fill, so usually no more frames are taken.  Where the sizes
change, the pages of the old ones become empty late.  So beyond `low` the ceiling falls by a part at each command, as
long as it is met.  It is gone when frames are back.

It is not set, and does not fall, while other roots share pages: an image's, a branch's, one that is being released.
Keys that go then give no frame back.  Commands are refused in the end; so they are when nothing may be evicted, and
when a value has no room between `start` and the frames in force.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import FRAMES_IN_FORCE, RELEASE_COUNT
from kvstore.lifetimes.shard import MAXMEMORY_POLICY
from kvstore.lifetimes.store import CEILING, FRAMES_MAX
from kvstore.store.copies import is_shared
from kvstore.store.databases import memory_used
from kvstore.store.reserve import BYTES_PER_CHANGE, FRAMES_PER_COMMAND, frames_used
from mmcore.jit import int64, linked, void

MARGIN_SHARE = 16  # one part in so many of the frames in force lies behind `start`,
MARGIN_LEAST = 2048  # but at least so many frames: half of it is enough for a command that adds elements;
MARGIN_MOST_SHARE = 4  # and at most one part in so many
FALL_SHIFT = 6
assert FRAMES_PER_COMMAND + (BYTES_PER_CHANGE >> 12) <= MARGIN_LEAST // 2


@linked(void(CONTEXT))
def _follow(context):  # type: ignore[no-untyped-def]
    """Set, lower or remove the ceiling, as the frames in use say."""
    store, in_force = context.store, context.pool[FRAMES_IN_FORCE]
    margin = min(max(in_force // MARGIN_SHARE, MARGIN_LEAST), in_force // MARGIN_MOST_SHARE)
    used = frames_used(context)
    if used <= in_force - margin:
        store[CEILING] = 0
        return
    data = memory_used(context)
    if store[CEILING] == 0:
        store[CEILING] = data
    elif used > in_force - margin // 2 and data <= store[CEILING]:
        store[CEILING] = data - (data >> FALL_SHIFT)


@linked(void(CONTEXT))
def follow_frames(context):  # type: ignore[no-untyped-def]
    """Before a command that may need memory, and between turns: let the ceiling follow the frames in use."""
    if context.shard[MAXMEMORY_POLICY] == 0 or context.store[FRAMES_MAX] != 0:
        context.store[CEILING] = 0
    elif is_shared(context) | context.pool[RELEASE_COUNT] == 0:
        _follow(context)


@linked(int64(CONTEXT))
def above_ceiling(context):  # type: ignore[no-untyped-def]
    """Whether the store has more data than the ceiling allows (0 or 1)."""
    ceiling = context.store[CEILING]
    return 1 if ceiling > 0 and memory_used(context) > ceiling else 0
