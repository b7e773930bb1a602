"""Eviction: above maxmemory, keys that are of little use are deleted to make room, as maxmemory-policy says.

    noeviction                  nothing; a write that may need memory is refused
    allkeys-lru, volatile-lru   the key that was not used for longest, nearly (evictionpool.py)
    allkeys-lfu, volatile-lfu   the key that is used least often, nearly
    volatile-ttl                the key whose deadline is next, nearly
    allkeys-random, volatile-random     any key, of one database after the other

The volatile policies evict only keys with a deadline.

A command that may need memory evicts first, when it is admitted: one key after the other until the store fits, at most
for the time of maxmemory-eviction-tenacity.  If that time is over, the command is served all the same, and upkeep goes
on at the ends of turns.  The command is refused only if there is nothing to evict, and no due key to delete.

maxmemory is compared with the entries, indices and clocks of the main store (`memory_used`).  So an eviction always
has an effect on it, whatever snapshots and branches share with the store.  The frames that they keep alive count
against machine-memory.  When those are short, and nothing is shared, the data get a ceiling, which is like a maxmemory
(ceiling.py).  Only the main store is limited by either, and only its keys are evicted.

The buffers of clients do not count, unlike in Redis: a client that does not read must not cost others their keys.
maxmemory-clients limits those.

The time is looked at behind each key that is evicted, and while candidates are sought, behind each long key that was
hashed for that.  So no step takes longer than its time by more than the work for one key.

A great value is freed in steps.  Values that wait to be freed go before another key is evicted, so no more keys go than
must.

Eviction stops while fewer frames are free than a removal may take.  EXEC is admitted once for all its commands, and
nothing is evicted between them; only DEBUG POPULATE, which admits each of its keys, evicts within a transaction, too.
"""

from kvstore.effects.events import EVICTED
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CYCLES_PER_MS,
    EVICTED_KEYS,
    EVICTION_BEGAN_MS,
    EVICTION_DB,
    EVICTION_EXCEEDED_MS,
    EVICTION_IDLE_MS,
    EVICTION_TENACITY,
    MAXMEMORY_POLICY,
    TICK_MS,
    TIMER_MS,
)
from kvstore.lifetimes.store import CEILING, FRAMES_MAX, HASH_SEED, MAXMEMORY
from kvstore.observe.latency import EVICTION_EVENT, latency_sample
from kvstore.store.ceiling import above_ceiling, follow_frames
from kvstore.store.clocks import (
    POLICY_ALLKEYS,
    POLICY_LFU,
    POLICY_LRU,
    POLICY_RANDOM,
    POLICY_TTL,
    clocks_empty,
)
from kvstore.store.databases import FRAMES_TO_REMOVE, KEYS, TIMES, db_load, deadline_base, key_base, memory_exceeded
from kvstore.store.entries import entry_hash
from kvstore.store.evictionpool import evictable, pool_clear, pool_sample, pool_take, which_keys
from kvstore.store.expire import make_room
from kvstore.store.flush import release_some
from kvstore.store.index import entry_of, index_find_entry
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_FLUSHING,
    CONTROL_GRAVE,
    DATABASES,
    DB_DEADLINE_BUCKETS,
    DB_KEY_BUCKETS,
)
from kvstore.store.lookup import tell_gone
from kvstore.store.membership import delete_entry
from kvstore.store.sampling import random_entry
from kvstore.system.libc import cycles
from mmcore.frames import has_frames
from mmcore.jit import constant, int64, kernel, linked, void
from mmcore.mmu import load64

FITS, GOES_ON, CANNOT = range(3)  # outcomes
SAMPLES_MAX = 64  # taken for one key, before the rest is left for later: clients use all candidates at once
DIG_PAGES = 16  # about so many pages' worth of what waits is freed at a time
TENACITY_LINEAR, TENACITY_MAX = 10, 100
_US_MAX = 1 << 40


def _limit_us(tenacity: int) -> int:
    # As in Redis: up to 500 us in steps of 50, then 15 % more for each step, and no limit for 100.
    if tenacity <= TENACITY_LINEAR:
        return 50 * tenacity
    return _US_MAX if tenacity == TENACITY_MAX else int(500 * 1.15 ** (tenacity - TENACITY_LINEAR))


POLICIES = {
    "noeviction": 0,
    "allkeys-lru": POLICY_ALLKEYS | POLICY_LRU,
    "allkeys-lfu": POLICY_ALLKEYS | POLICY_LFU,
    "allkeys-random": POLICY_ALLKEYS | POLICY_RANDOM,
    "volatile-lru": POLICY_LRU,
    "volatile-lfu": POLICY_LFU,
    "volatile-random": POLICY_RANDOM,
    "volatile-ttl": POLICY_TTL,
}
LIMITS_US = constant([_limit_us(tenacity) for tenacity in range(TENACITY_MAX + 1)], int64)


@linked(void(CONTEXT, int64))
def use_policy(context, policy):  # type: ignore[no-untyped-def]
    """Evict by this policy from now on.  Clocks of one kind mean nothing to a policy of the other."""
    shard = context.shard
    before = shard[MAXMEMORY_POLICY]
    shard[MAXMEMORY_POLICY], shard[EVICTION_IDLE_MS], context.store[CEILING] = policy, 0, 0
    pool_clear(context)
    if (before ^ policy) & POLICY_LFU:
        clocks_empty(context)


@linked(void(CONTEXT, int64, int64, int64))
def _evict(context, db, slot, hash_):  # type: ignore[no-untyped-def]
    """Delete the entry of `db` that a slot points at.  Save points do not count this as a change."""
    assert slot != 0, "an entry that is to be evicted is not among the keys"
    context.shard[EVICTED_KEYS] += 1
    tell_gone(context, db, entry_of(load64(context.space, slot)), hash_, EVICTED)
    delete_entry(context, db, slot, hash_)


@linked(void(CONTEXT, int64, int64))
def _evict_entry(context, db, entry):  # type: ignore[no-untyped-def]
    """Evict an entry of which only the address is known."""
    hash_ = entry_hash(context, entry, context.store[HASH_SEED])
    slot = index_find_entry(context, key_base(context, db), db_load(context, db, DB_KEY_BUCKETS), hash_, entry)
    _evict(context, db, slot, hash_)


@linked(int64(CONTEXT))
def _evict_any(context):  # type: ignore[no-untyped-def]
    """Evict a random key of the next database that has one to evict: FITS if it did, else CANNOT."""
    shard = context.shard
    for _ in range(DATABASES):
        db = shard[EVICTION_DB] = (shard[EVICTION_DB] + 1) % DATABASES
        if evictable(context, db) > 0:
            if which_keys(context) == TIMES:
                entry = random_entry(context, deadline_base(context, db), db_load(context, db, DB_DEADLINE_BUCKETS))
            else:
                entry = random_entry(context, key_base(context, db), db_load(context, db, DB_KEY_BUCKETS))
            _evict_entry(context, db, entry)
            return FITS
    return CANNOT


@linked(int64(CONTEXT, int64))
def _evict_best(context, end):  # type: ignore[no-untyped-def]
    """Evict the best candidate: FITS if it did, CANNOT if there is nothing to evict.

    GOES_ON: all candidates were just used, many times, or once at the end of the time.
    """
    for _ in range(SAMPLES_MAX):
        keys = pool_sample(context, end)
        if keys == 0:
            return CANNOT
        taken = pool_take(context)
        if taken == 0 and keys < 0:
            return GOES_ON
        if taken == 0:
            continue
        slot, db = taken >> 8, (taken & 0xFF) >> 1
        entry = entry_of(load64(context.space, slot))
        if taken & 1 == KEYS:
            _evict(context, db, slot, entry_hash(context, entry, context.store[HASH_SEED]))
        else:
            _evict_entry(context, db, entry)
        return FITS
    return GOES_ON


@linked(int64(CONTEXT, int64))
def evict_one(context, end):  # type: ignore[no-untyped-def]
    """Evict one key: FITS if it did, CANNOT if there is nothing to evict, GOES_ON if it should be tried later.

    `end`: of the time for that, by the time stamp counter.
    """
    if not has_frames(context.space, FRAMES_TO_REMOVE):
        return CANNOT
    return _evict_any(context) if context.shard[MAXMEMORY_POLICY] & POLICY_RANDOM else _evict_best(context, end)


@kernel
def _dig(context):  # type: ignore[no-untyped-def]
    # Free some of what waits; returns 0 if nothing does.
    space = context.space
    if load64(space, CONTROL_BASE + CONTROL_GRAVE) | load64(space, CONTROL_BASE + CONTROL_FLUSHING) == 0:
        return 0
    return release_some(context, DIG_PAGES)


@linked(int64(CONTEXT))
def exceeds(context):  # type: ignore[no-untyped-def]
    """Whether keys must go (0 or 1)."""
    return memory_exceeded(context) | above_ceiling(context)


@linked(int64(CONTEXT, int64))
def evict(context, limit_us):  # type: ignore[no-untyped-def]
    """Evict until the store, which exceeds its limit, fits it; at least one key, and at most for about so long.

    Returns FITS; GOES_ON when the time is over; CANNOT when there is nothing left to evict.
    """
    began = cycles()
    end = began + limit_us * context.shard[CYCLES_PER_MS] // 1000
    outcome = FITS
    while outcome == FITS:
        if _dig(context) == 0:
            outcome = evict_one(context, end)
        if not exceeds(context):
            outcome = FITS
            break
        if outcome == FITS and cycles() > end:
            outcome = GOES_ON
    latency_sample(context, EVICTION_EVENT, (cycles() - began) // context.shard[CYCLES_PER_MS])
    return outcome


@kernel
def _limit(context):  # type: ignore[no-untyped-def]
    return LIMITS_US[context.shard[EVICTION_TENACITY]]


@kernel
def note_fits(context):  # type: ignore[no-untyped-def]
    """The store fits its limit, or there is none."""
    shard = context.shard
    if shard[EVICTION_BEGAN_MS] != 0:
        shard[EVICTION_EXCEEDED_MS] += shard[TIMER_MS] - shard[EVICTION_BEGAN_MS]
        shard[EVICTION_BEGAN_MS] = 0


@kernel
def _note(context, outcome):  # type: ignore[no-untyped-def]
    if outcome == FITS:
        note_fits(context)
    elif context.shard[EVICTION_BEGAN_MS] == 0:
        context.shard[EVICTION_BEGAN_MS] = context.shard[TIMER_MS]


@kernel
def has_limit(context):  # type: ignore[no-untyped-def]
    """Whether the data have a limit: maxmemory, or, of a main store whose keys may be evicted, the frames in force."""
    store = context.store
    return store[MAXMEMORY] > 0 or (context.shard[MAXMEMORY_POLICY] != 0 and store[FRAMES_MAX] == 0)


@linked(int64(CONTEXT))
def lacks_memory(context):  # type: ignore[no-untyped-def]
    """Whether a command that may need memory is to be refused, after eviction (0 or 1).  The store is the main one."""
    shard, outcome = context.shard, CANNOT
    follow_frames(context)
    if not exceeds(context):
        note_fits(context)
        return 0
    if shard[MAXMEMORY_POLICY] != 0:
        outcome = evict(context, _limit(context))
    if outcome == CANNOT and make_room(context):
        outcome = FITS
    _note(context, outcome)
    # Above a ceiling alone the command may go on: frames decide (reserve.py).
    return int64(outcome == CANNOT and memory_exceeded(context) != 0)


@linked(int64(CONTEXT))
def evict_between(context):  # type: ignore[no-untyped-def]
    """Between two turns, with a limit: evict for a while; returns whether it should go on at once (0 or 1)."""
    shard = context.shard
    follow_frames(context)
    if not exceeds(context):
        note_fits(context)
        return 0
    if shard[MAXMEMORY_POLICY] == 0 or shard[TIMER_MS] < shard[EVICTION_IDLE_MS]:
        return 0
    outcome = evict(context, min(_limit(context), LIMITS_US[TENACITY_LINEAR]))
    _note(context, outcome)
    if outcome == CANNOT:
        shard[EVICTION_IDLE_MS] = shard[TIMER_MS] + shard[TICK_MS]
    return int64(outcome == GOES_ON)
