"""Upkeep: what the server does beside its clients' commands, and how much of the one thread's time that may take.

Two kinds of work wait: keys whose time has come (expire.py), and what is given back in steps (flush.py).  Neither may
stop the clients, and neither may fall behind for good, whatever the clients do.  So the loop calls `upkeep` once a
turn, and in a long turn between two connections, and the time it takes follows what there is to do.

Active expiry is *calm* while less than PRESSED of the deadlines it looked at lately were due.  Then it looks at
CALM_BUCKETS_PER_MS, and at no deadline twice a tick.  From there on it is *pressed*:

    a turn that served nobody    IDLE_SLICE_US, and the loop does not sleep: idle time costs nobody anything
    any other                    a share of the time that serving took: PRESSED_GAIN times what is due of the deadlines,
                                 up to a half; what is due, when that is more than a half; at most SHARE_MAX

With nearly everything overdue it thus takes most of the time, which slows down the clients that cause it, so that some
share of dead keys is never exceeded.  A slice is at most SLICE_MAX_US long, so that nobody waits for long at once.

Work that is given back gets one step a turn, and goes on for up to a quarter of the time that serving took.
"""

from numba import int64

from kvstore.expire import ALL, deadline_buckets, expire_step
from kvstore.flush import background_step
from kvstore.latency import EXPIRE_EVENT, latency_sample
from kvstore.libc import cycles
from kvstore.state import (
    ACTIVE_EXPIRE_ENABLED,
    CYCLES_PER_MS,
    EXPIRE_CALM,
    EXPIRE_CREDIT,
    EXPIRE_CYCLES,
    EXPIRE_TIME_CAPS,
    EXPIRED_STALE_PERC,
    STORE,
    TICK_MS,
    UPKEEP_CYCLES,
)
from mmcore.jit import kernel, linked

PRESSED = ALL // 100
PRESSED_GAIN = 5
SHARE_MAX = 800  # [1/1000] of the time
CALM_BUCKETS_PER_MS = 20
CALM_SLICE, CALM_IDLE_SLICE = 32, 256  # buckets, in a turn that served somebody and in one that did not
STEP = 8  # buckets between two looks at the counter
IDLE_SLICE_US, SLICE_MIN_US, SLICE_MAX_US = 200, 20, 5_000
LONG_TURN_US = 1_000  # after which upkeep comes between two connections
BACKGROUND_PAGES = 64


@kernel
def _cycles_of(store, us):  # type: ignore[no-untyped-def]
    return us * store.server[CYCLES_PER_MS] // 1000


@linked(int64(int64))
def expiry_share(stale):  # type: ignore[no-untyped-def]
    """Of all the time, how much active expiry may take [1/1000] when so much of what it met was due [1/1000 %]."""
    due = 1000 * stale // ALL
    return min(max(min(PRESSED_GAIN * due, 500), due), SHARE_MAX)


@linked(int64(STORE, int64, int64))
def expiry_slice(store, served, idle):  # type: ignore[no-untyped-def]
    """Cycles that active expiry may take now that serving has taken `served`; 0 for none yet."""
    server = store.server
    if idle:
        return _cycles_of(store, IDLE_SLICE_US)
    share = expiry_share(server[EXPIRED_STALE_PERC])
    longest = _cycles_of(store, SLICE_MAX_US)
    server[EXPIRE_CREDIT] = min(server[EXPIRE_CREDIT] + min(served, 4 * longest) * share // (1000 - share), longest)
    if server[EXPIRE_CREDIT] < _cycles_of(store, SLICE_MIN_US):
        return 0
    credit = server[EXPIRE_CREDIT]
    server[EXPIRE_CREDIT] = 0
    return credit


@linked(int64(STORE, int64))
def _expire_for(store, budget):  # type: ignore[no-untyped-def]
    """Expire for about `budget` cycles, or until it is calm."""
    server = store.server
    began = cycles()
    while server[EXPIRED_STALE_PERC] >= PRESSED and expire_step(store, STEP) > 0:
        if cycles() - began >= budget:
            server[EXPIRE_TIME_CAPS] += 1
            break
    took = cycles() - began
    server[EXPIRE_CYCLES] += took
    latency_sample(store, EXPIRE_EVENT, took // server[CYCLES_PER_MS])
    return took


@linked(int64(STORE, int64))
def _expire_calmly(store, idle):  # type: ignore[no-untyped-def]
    """A slice of the calm walk; returns the buckets that are left of it until the next tick."""
    server = store.server
    began = cycles()
    budget = min(server[EXPIRE_CALM], CALM_IDLE_SLICE if idle else CALM_SLICE)
    server[EXPIRE_CALM] = server[EXPIRE_CALM] - budget if expire_step(store, budget) > 0 else 0
    server[EXPIRE_CYCLES] += cycles() - began
    return server[EXPIRE_CALM]


@kernel
def plan_upkeep(store):  # type: ignore[no-untyped-def]
    """At a tick: what the calm walk may look at until the next one."""
    server = store.server
    server[EXPIRE_CALM] = 0
    if server[ACTIVE_EXPIRE_ENABLED]:
        server[EXPIRE_CALM] = min(CALM_BUCKETS_PER_MS * server[TICK_MS], deadline_buckets(store))


@linked(int64(STORE, int64))
def upkeep(store, idle):  # type: ignore[no-untyped-def]
    """At the end of a turn, which served nobody if `idle`: some of what waits; returns whether more does (0 or 1)."""
    server = store.server
    served = cycles() - server[UPKEEP_CYCLES]
    more = 0
    if server[EXPIRE_CALM] > 0 and _expire_calmly(store, idle) > 0:
        more = 1
    if server[EXPIRED_STALE_PERC] >= PRESSED and server[ACTIVE_EXPIRE_ENABLED]:
        budget = expiry_slice(store, served, idle)
        if budget > 0:
            _expire_for(store, budget)
        if server[EXPIRED_STALE_PERC] >= PRESSED:
            more = 1
    if background_step(store, BACKGROUND_PAGES) > 0:
        more = 1
        began = cycles()
        while cycles() - began < served >> 2 and background_step(store, BACKGROUND_PAGES) > 0:
            pass
    server[UPKEEP_CYCLES] = cycles()
    return more


@linked(int64(STORE))
def upkeep_between(store):  # type: ignore[no-untyped-def]
    """Between two connections of a turn, while expiry is pressed: its share of a turn that has become long."""
    server = store.server
    served = cycles() - server[UPKEEP_CYCLES]
    if served < _cycles_of(store, LONG_TURN_US) or server[ACTIVE_EXPIRE_ENABLED] == 0:
        return 0
    budget = expiry_slice(store, served, 0)
    took = _expire_for(store, budget) if budget > 0 else 0
    server[UPKEEP_CYCLES] = cycles()
    return took
