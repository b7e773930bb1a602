"""The loop leaves a processor that is taken away from it again and again.

Linux prefers to wake a thread on the processor of the one that wakes it, its client, if its own is busy at that moment,
as with a thread of the server's that writes an image.  The two then share one processor, and another may be idle: the
balancer needs tens of milliseconds to notice, and it does not count a client of a real-time policy as load.  Meanwhile
every request waits.

So the loop looks, once a millisecond, how often the system has taken the processor away since the last look.  It is
some times a second as a rule, and dozens of times a millisecond beside a busy client.  With more than SWITCHES a
millisecond it moves: it asks for all processors but its own, and then for all of them again.  If that was of no use,
because the others are busy as well, it stays for REST_MS, and for twice as long each time until REST_MS_MAX.  Each
quiet look halves that again.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CYCLES_PER_MS,
    PLACE_LOOKED,
    PLACE_MOVES,
    PLACE_REST_MS,
    PLACE_STAYS_MS,
    PLACE_SWITCHES,
    SCRATCH_ADDRESS,
    TIMER_MS,
)
from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.system.libc import sched_getaffinity, sched_getcpu, sched_setaffinity, switches, words_at
from mmcore.jit import boolean, int32, int64, kernel, linked, void

SWITCHES = 4  # a millisecond
REST_MS, REST_MS_MAX = 2, 1024
MASK_WORDS = 128  # for 8192 processors
assert MASK_WORDS <= SCRATCH_WORDS


@linked(boolean(int64))
def leave_processor(scratch):  # type: ignore[no-untyped-def]
    """Move the calling thread to another processor that it may use; MASK_WORDS words at `scratch` are overwritten.

    Returns whether there was one.
    """
    here = int64(sched_getcpu())
    if here < 0 or here >> 6 >= MASK_WORDS or sched_getaffinity(int32(0), 8 * MASK_WORDS, scratch) != 0:
        return False
    word = words_at(scratch, MASK_WORDS)
    allowed = word[here >> 6]
    word[here >> 6] = allowed & ~(1 << (here & 63))
    moved = sched_setaffinity(int32(0), 8 * MASK_WORDS, scratch) == 0  # refused where no other is left
    word[here >> 6] = allowed
    if moved:
        sched_setaffinity(int32(0), 8 * MASK_WORDS, scratch)
    return moved


@linked(void(CONTEXT, int64))
def judge_place(context, now):  # type: ignore[no-untyped-def]
    """Move if the processor has been taken away too often since the last look; `now` is the time stamp counter."""
    shard = context.shard
    passed, before = now - shard[PLACE_LOOKED], shard[PLACE_SWITCHES]
    taken = switches(shard[SCRATCH_ADDRESS])
    shard[PLACE_LOOKED], shard[PLACE_SWITCHES] = now, taken
    if (taken - before) * shard[CYCLES_PER_MS] <= SWITCHES * passed:
        shard[PLACE_REST_MS] >>= 1
    elif shard[TIMER_MS] >= shard[PLACE_STAYS_MS]:
        shard[PLACE_MOVES] += int64(leave_processor(shard[SCRATCH_ADDRESS]))
        shard[PLACE_STAYS_MS] = shard[TIMER_MS] + shard[PLACE_REST_MS]
        shard[PLACE_REST_MS] = min(max(2 * shard[PLACE_REST_MS], REST_MS), REST_MS_MAX)


@kernel
def look_after_place(context, now):  # type: ignore[no-untyped-def]
    """Once a turn: judge the place if a millisecond has passed since the last time."""
    if now - context.shard[PLACE_LOOKED] > context.shard[CYCLES_PER_MS]:
        judge_place(context, now)
