"""Upkeep: the server's work beside its clients' commands, and the share of its one thread's time for that work.

Deleting due keys (expire.py) and releasing memory in steps (flush.py) are work that waits.  Neither may stop the
clients, and no client may make either fall behind for good.  So the loop calls `upkeep` once a turn, and in a long turn
also between two connections.  The time that upkeep takes depends on the amount of waiting work.

Active expiry is *calm* while less than PRESSED of the deadlines it looked at lately were due.  Then it looks at
CALM_BUCKETS_PER_MS, and at no deadline twice a tick.  The loop wakes for that every PROBE_MS if keys have expired
lately, and else with the tick.  Expiry is pressed from PRESSED on:

    after a turn that served no client   IDLE_SLICE_US, and the loop does not sleep: idle time costs nothing
    after any other turn                 a share of the time that serving took: PRESSED_GAIN times the due share of the
                                         deadlines, up to a half; the due share itself when it is more than a half; at
                                         most SHARE_MAX

Due fields of hashes (store/expiring.py) are looked for as often, and get a slice of IDLE_SLICE_US after an idle turn,
and else a quarter of the time that serving took.

So expiry takes most of the time when nearly all keys are overdue.  That slows down the clients that cause it, and
bounds the share of dead keys.  A slice is at most SLICE_MAX_US long, so that no client waits for long at once.

Releasing memory gets one step a turn, and beside that a quarter of the time that serving took.  It keeps as credit the
part that it does not use at once, because a turn has room for BACKGROUND_SLICE_US only: serving seems long, too, when
another process took the processor meanwhile.

Eviction (store/eviction.py) gets up to half a millisecond a turn while the store is above its limit.

Defragmentation (store/defrag.py) gets a share of all time, and no more: between active-defrag-cycle-min and -max
percent, as fragmentation lies between the thresholds.  It runs in slices of at most DEFRAG_SLICE_US.  It is planned
every DEFRAG_PLAN_MS.  While a frozen root shares pages with the store, it does nothing.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    ACTIVE_DEFRAG,
    ACTIVE_EXPIRE_ENABLED,
    BACKGROUND_CREDIT,
    CYCLES_PER_MS,
    DEFRAG_BEGAN_MS,
    DEFRAG_CREDIT,
    DEFRAG_CYCLE_MAX,
    DEFRAG_CYCLE_MIN,
    DEFRAG_IGNORE_BYTES,
    DEFRAG_LOOK_MS,
    DEFRAG_RAN_MS,
    DEFRAG_RUNNING,
    DEFRAG_STAMP,
    DEFRAG_THRESHOLD_LOWER,
    DEFRAG_THRESHOLD_UPPER,
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
from kvstore.lifetimes.store import DEFRAG_REST_MS, DEFRAG_STATE, EXPIRED_STALE_PERC, FIELDS_WAIT
from kvstore.observe.latency import EXPIRE_EVENT, latency_sample
from kvstore.store.defrag import (
    RESTING,
    defrag_abandon,
    defrag_begin,
    defrag_step,
    fragmentation,
    may_move,
    wasted_bytes,
)
from kvstore.store.eviction import evict_between, has_limit
from kvstore.store.expire import ALL, deadline_buckets, expire_step
from kvstore.store.expiring import expire_fields, fields_wait
from kvstore.store.flush import background_step
from kvstore.system.libc import cycles
from mmcore.heap import heap_leaving
from mmcore.jit import int64, kernel, linked, void

PRESSED = ALL // 100
PRESSED_GAIN = 5
SHARE_MAX = 800  # [1/1000] of the time
CALM_BUCKETS_PER_MS = 20
CALM_SLICE, CALM_IDLE_SLICE = 32, 256  # buckets, in a turn that served a client and in one that did not
PROBE_MS, LIVELY_MS = 10, 1_000  # time between two looks, and how long it looks that often after a key expired
STEP = 8  # buckets between two looks at the counter
FIELDS_STEP = 16  # fields, likewise
IDLE_SLICE_US, SLICE_MIN_US, SLICE_MAX_US = 200, 20, 5_000
LONG_TURN_US = 1_000  # a longer turn is interrupted for upkeep between two connections
BACKGROUND_PAGES = 64
BACKGROUND_SLICE_US, BACKGROUND_SLICES_MAX = 200, 100  # in a turn, and how many of them may be credited
DEFRAG_SLICE_US, DEFRAG_SLICE_MIN_US = 400, 50  # a step may take longer than what is left of a slice
DEFRAG_PARTS = 32  # in a step
DEFRAG_PLAN_MS = 100  # between two plans


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


@linked(int64(CONTEXT, int64, int64))
def _expire_fields_for(context, served, idle):  # type: ignore[no-untyped-def]
    """A slice for due fields of hashes; returns whether more are due (0 or 1)."""
    shard, store, began = context.shard, context.store, cycles()
    longest = _cycles_of(context, SLICE_MAX_US)
    budget = max(_cycles_of(context, IDLE_SLICE_US if idle else SLICE_MIN_US), min(served >> 2, longest))
    while store[FIELDS_WAIT]:
        done = expire_fields(context, FIELDS_STEP)
        _note(context, done)
        if done == 0:
            store[FIELDS_WAIT] = 0
        if cycles() - began >= budget:
            break
    took = cycles() - began
    shard[EXPIRE_CYCLES] += took
    latency_sample(context, EXPIRE_EVENT, took // shard[CYCLES_PER_MS])
    return store[FIELDS_WAIT]


@linked(void(CONTEXT))
def plan_expiry(context):  # type: ignore[no-untyped-def]
    """Grant the calm walk buckets for the time that has passed: at most a tick's worth, and at most a round."""
    shard = context.shard
    passed = shard[TIMER_MS] - shard[EXPIRE_PLANNED_MS]
    if passed >= PROBE_MS or passed >= shard[TICK_MS]:
        shard[EXPIRE_PLANNED_MS] = shard[TIMER_MS]
        context.store[FIELDS_WAIT] = fields_wait(context)
        granted = CALM_BUCKETS_PER_MS * min(passed, shard[TICK_MS])
        shard[EXPIRE_CALM] = min(shard[EXPIRE_CALM] + granted, deadline_buckets(context))


@linked(int64(CONTEXT))
def defrag_percent(context):  # type: ignore[no-untyped-def]
    """Percent of the time that fragmentation calls for; 0 while it is below the limits."""
    shard = context.shard
    lower, upper = shard[DEFRAG_THRESHOLD_LOWER], shard[DEFRAG_THRESHOLD_UPPER]
    least, most = shard[DEFRAG_CYCLE_MIN], shard[DEFRAG_CYCLE_MAX]
    now = fragmentation(context)
    if now < lower or wasted_bytes(context) < shard[DEFRAG_IGNORE_BYTES]:
        return 0
    if upper <= lower:
        return max(least, most)
    return max(least, min(most, least + (now - lower) * (most - least) // (upper - lower)))


@kernel
def _note_running(context, percent):  # type: ignore[no-untyped-def]
    shard = context.shard
    if percent > 0 and shard[DEFRAG_RUNNING] == 0:
        shard[DEFRAG_BEGAN_MS] = shard[TIMER_MS]
        shard[DEFRAG_STAMP], shard[DEFRAG_CREDIT] = cycles(), 0
    elif percent == 0 and shard[DEFRAG_RUNNING] != 0:
        shard[DEFRAG_RAN_MS] += shard[TIMER_MS] - shard[DEFRAG_BEGAN_MS]
    shard[DEFRAG_RUNNING] = percent


@linked(void(CONTEXT))
def plan_defrag(context):  # type: ignore[no-untyped-def]
    """Decide whether defragmentation runs, and how much of the time it gets until the next plan."""
    shard, store, now = context.shard, context.store, context.shard[TIMER_MS]
    shard[DEFRAG_LOOK_MS] = now + DEFRAG_PLAN_MS
    allowed, percent = may_move(context), 0
    if allowed and shard[ACTIVE_DEFRAG]:
        percent = defrag_percent(context)
        if store[DEFRAG_STATE] == RESTING and percent > 0 and now >= store[DEFRAG_REST_MS]:
            defrag_begin(context)
    elif allowed and store[DEFRAG_STATE] != RESTING:
        defrag_abandon(context)
    if allowed and store[DEFRAG_STATE] == RESTING and heap_leaving(context.space):
        defrag_abandon(context)  # the image that was loaded was taken during a cycle
    running = 0
    if allowed and store[DEFRAG_STATE] != RESTING:  # a cycle is finished even if fragmentation has fallen meanwhile
        running = max(percent, shard[DEFRAG_CYCLE_MIN])
    _note_running(context, running)


@linked(int64(CONTEXT))
def _defrag(context):  # type: ignore[no-untyped-def]
    """Defragment for the time that has been granted; returns how long the rest can wait [ms]."""
    shard, now, longest = context.shard, cycles(), _cycles_of(context, DEFRAG_SLICE_US)
    percent = shard[DEFRAG_RUNNING]
    granted = (now - shard[DEFRAG_STAMP]) * percent // 100
    shard[DEFRAG_STAMP] = now
    shard[DEFRAG_CREDIT] = min(shard[DEFRAG_CREDIT] + granted, longest)
    if shard[DEFRAG_CREDIT] >= _cycles_of(context, DEFRAG_SLICE_MIN_US):
        goes_on = 1
        while goes_on and cycles() - now < shard[DEFRAG_CREDIT]:
            goes_on = defrag_step(context, DEFRAG_PARTS)
        shard[DEFRAG_CREDIT] -= cycles() - now
        if goes_on == 0:
            _note_running(context, 0)
    return DEFRAG_SLICE_US // (10 * percent) + 1


@linked(int64(CONTEXT, int64))
def release_memory(context, served):  # type: ignore[no-untyped-def]
    """Do a turn's part of the work that flush.py leaves for later; returns whether there may be more (0 or 1)."""
    shard = context.shard
    longest, began = _cycles_of(context, BACKGROUND_SLICE_US), cycles()
    credit = min(shard[BACKGROUND_CREDIT] + (served >> 2), BACKGROUND_SLICES_MAX * longest)
    while True:
        if background_step(context, BACKGROUND_PAGES) == 0:
            shard[BACKGROUND_CREDIT] = 0
            return 0
        took = cycles() - began
        if took >= min(credit, longest):
            shard[BACKGROUND_CREDIT] = max(0, credit - took)
            return 1


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
        if store[FIELDS_WAIT] and _expire_fields_for(context, served, idle):
            rest_ms = 0
        if store[EXPIRED_STALE_PERC] >= PRESSED:
            budget = expiry_slice(context, served, idle)
            if budget > 0:
                _expire_for(context, budget)
            if store[EXPIRED_STALE_PERC] >= PRESSED:
                rest_ms = 0
        if shard[EXPIRE_LIVELY_MS] > shard[TIMER_MS]:
            rest_ms = min(rest_ms, PROBE_MS)
    if release_memory(context, served):
        rest_ms = 0
    if has_limit(context) and evict_between(context):
        rest_ms = 0
    if shard[TIMER_MS] >= shard[DEFRAG_LOOK_MS]:
        plan_defrag(context)
    if shard[DEFRAG_RUNNING] > 0 and may_move(context):
        rest_ms = min(rest_ms, _defrag(context))
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
