"""Upkeep: the server's work beside its clients' commands, and the share of its one thread's time for that work.

Two kinds of work wait: deleting due keys (expire.py), and releasing memory in steps (flush.py).  Neither may stop the
clients, and no client may make either fall behind for good.  So the loop calls `upkeep` once a turn, and in a long turn
also between two connections.  The time that upkeep takes depends on the amount of waiting work.

Active expiry is *calm* while less than PRESSED of the deadlines it looked at lately were due.  Then it looks at
CALM_BUCKETS_PER_MS, and at no deadline twice a tick.  The loop wakes for that every PROBE_MS if keys have expired
lately, and else with the tick.  Expiry is pressed from PRESSED on:

    after a turn that served no client   IDLE_SLICE_US, and the loop does not sleep: idle time costs nothing
    after any other turn                 a share of the time that serving took: PRESSED_GAIN times the due share of the
                                         deadlines, up to a half; the due share itself when it is more than a half; at
                                         most SHARE_MAX

So expiry takes most of the time when nearly all keys are overdue.  That slows down the clients that cause it, and
bounds the share of dead keys.  A slice is at most SLICE_MAX_US long, so that no client waits for long at once.

Releasing memory gets one step a turn, and goes on for up to a quarter of the time that serving took.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    ACTIVE_EXPIRE_ENABLED,
    CYCLES_PER_MS,
    EXPIRE_CALM,
    EXPIRE_CREDIT,
    EXPIRE_CYCLES,
    EXPIRE_LIVELY_MS,
    EXPIRE_PLANNED_MS,
    EXPIRE_TIME_CAPS,
    EXPIRED_KEYS,
    TICK_MS,
    TIMER_MS,
    UPKEEP_CYCLES,
)
from kvstore.lifetimes.store import EXPIRED_STALE_PERC
from kvstore.observe.latency import EXPIRE_EVENT, latency_sample
from kvstore.store.expire import ALL, deadline_buckets, expire_step
from kvstore.store.flush import background_step
from kvstore.system.libc import cycles
from mmcore.jit import int64, kernel, linked, void

PRESSED = ALL // 100
PRESSED_GAIN = 5
SHARE_MAX = 800  # [1/1000] of the time
CALM_BUCKETS_PER_MS = 20
CALM_SLICE, CALM_IDLE_SLICE = 32, 256  # buckets, in a turn that served a client and in one that did not
PROBE_MS, LIVELY_MS = 10, 1_000  # time between two looks, and how long it looks that often after a key expired
STEP = 8  # buckets between two looks at the counter
IDLE_SLICE_US, SLICE_MIN_US, SLICE_MAX_US = 200, 20, 5_000
LONG_TURN_US = 1_000  # a longer turn is interrupted for upkeep between two connections
BACKGROUND_PAGES = 64


@kernel
def _cycles_of(context, us):  # type: ignore[no-untyped-def]
    return us * context.shard[CYCLES_PER_MS] // 1000


@linked(int64(int64))
def expiry_share(stale):  # type: ignore[no-untyped-def]
    """Share of all time for active expiry [1/1000] when `stale` of the deadlines were due [1/1000 %]."""
    due = 1000 * stale // ALL
    return min(max(min(PRESSED_GAIN * due, 500), due), SHARE_MAX)


@linked(int64(CONTEXT, int64, int64))
def expiry_slice(context, served, idle):  # type: ignore[no-untyped-def]
    """Cycles for active expiry after serving has taken `served` cycles; 0 for none yet."""
    shard, store = context.shard, context.store
    if idle:
        return _cycles_of(context, IDLE_SLICE_US)
    share = expiry_share(store[EXPIRED_STALE_PERC])
    longest = _cycles_of(context, SLICE_MAX_US)
    shard[EXPIRE_CREDIT] = min(shard[EXPIRE_CREDIT] + min(served, 4 * longest) * share // (1000 - share), longest)
    if shard[EXPIRE_CREDIT] < _cycles_of(context, SLICE_MIN_US):
        return 0
    credit = shard[EXPIRE_CREDIT]
    shard[EXPIRE_CREDIT] = 0
    return credit


@kernel
def _note(context, deleted):  # type: ignore[no-untyped-def]
    if deleted > 0:
        context.shard[EXPIRE_LIVELY_MS] = context.shard[TIMER_MS] + LIVELY_MS


@linked(int64(CONTEXT, int64))
def _expire_for(context, budget):  # type: ignore[no-untyped-def]
    """Expire for about `budget` cycles, or until it is calm."""
    shard, store = context.shard, context.store
    began, expired = cycles(), shard[EXPIRED_KEYS]
    while store[EXPIRED_STALE_PERC] >= PRESSED and expire_step(context, STEP) > 0:
        if cycles() - began >= budget:
            shard[EXPIRE_TIME_CAPS] += 1
            break
    took = cycles() - began
    shard[EXPIRE_CYCLES] += took
    latency_sample(context, EXPIRE_EVENT, took // shard[CYCLES_PER_MS])
    _note(context, shard[EXPIRED_KEYS] - expired)
    return took


@linked(int64(CONTEXT, int64))
def _expire_calmly(context, idle):  # type: ignore[no-untyped-def]
    """A slice of the calm walk; returns how many more buckets it may look at."""
    shard = context.shard
    began, expired = cycles(), shard[EXPIRED_KEYS]
    budget = min(shard[EXPIRE_CALM], CALM_IDLE_SLICE if idle else CALM_SLICE)
    shard[EXPIRE_CALM] = shard[EXPIRE_CALM] - budget if expire_step(context, budget) > 0 else 0
    took = cycles() - began
    shard[EXPIRE_CYCLES] += took
    latency_sample(context, EXPIRE_EVENT, took // shard[CYCLES_PER_MS])
    _note(context, shard[EXPIRED_KEYS] - expired)
    return shard[EXPIRE_CALM]


@linked(void(CONTEXT))
def plan_expiry(context):  # type: ignore[no-untyped-def]
    """Grant the calm walk buckets for the time that has passed: at most a tick's worth, and at most a round."""
    shard = context.shard
    passed = shard[TIMER_MS] - shard[EXPIRE_PLANNED_MS]
    if passed >= PROBE_MS or passed >= shard[TICK_MS]:
        shard[EXPIRE_PLANNED_MS] = shard[TIMER_MS]
        granted = CALM_BUCKETS_PER_MS * min(passed, shard[TICK_MS])
        shard[EXPIRE_CALM] = min(shard[EXPIRE_CALM] + granted, deadline_buckets(context))


@linked(int64(CONTEXT, int64))
def upkeep(context, idle):  # type: ignore[no-untyped-def]
    """Upkeep at the end of a turn, which served no client if `idle`; returns how long the rest can wait [ms]."""
    shard, store = context.shard, context.store
    served = cycles() - shard[UPKEEP_CYCLES]
    rest_ms = shard[TICK_MS]
    if shard[ACTIVE_EXPIRE_ENABLED]:
        plan_expiry(context)
        if shard[EXPIRE_CALM] > 0 and _expire_calmly(context, idle) > 0:
            rest_ms = 0
        if store[EXPIRED_STALE_PERC] >= PRESSED:
            budget = expiry_slice(context, served, idle)
            if budget > 0:
                _expire_for(context, budget)
            if store[EXPIRED_STALE_PERC] >= PRESSED:
                rest_ms = 0
        if shard[EXPIRE_LIVELY_MS] > shard[TIMER_MS]:
            rest_ms = min(rest_ms, PROBE_MS)
    if background_step(context, BACKGROUND_PAGES) > 0:
        rest_ms = 0
        began = cycles()
        while cycles() - began < served >> 2 and background_step(context, BACKGROUND_PAGES) > 0:
            pass
    shard[UPKEEP_CYCLES] = cycles()
    return rest_ms


@linked(int64(CONTEXT))
def upkeep_between(context):  # type: ignore[no-untyped-def]
    """Between two connections of a long turn: give expiry its share while it is pressed."""
    shard = context.shard
    served = cycles() - shard[UPKEEP_CYCLES]
    if served < _cycles_of(context, LONG_TURN_US) or shard[ACTIVE_EXPIRE_ENABLED] == 0:
        return 0
    budget = expiry_slice(context, served, 0)
    took = _expire_for(context, budget) if budget > 0 else 0
    shard[UPKEEP_CYCLES] = cycles()
    return took
