"""The care of stores other than the main one: work that their commands have left, and their end.

At the end of a turn, each store on the list of those that were used (branches/using.py) gets a part of the time:

    1   clients that wait for its keys are served, if other contents have brought some of them
    2   its broadcasts are sent
    3   a step of what its commands have left to be freed
    4   the memory for its users is freed, if there is none any more
    5   a store that was dropped comes to its end; connections that wait in it are answered first

It stays on the list while something is left.  A store that nobody uses costs a turn nothing.  Active expiry and
defragmentation work on the main store alone; in the others, a key that is due is deleted when it is looked up.
"""

from kvstore.branches.lineage import drop, end
from kvstore.branches.losing import lose
from kvstore.branches.named import area_close, named, named_of
from kvstore.branches.using import come_to_hand, enter_main, note_due
from kvstore.connections.table import connection
from kvstore.effects.broadcasts import broadcast
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.named import (
    AFTER,
    AREA,
    CONTEXT_OF_NAMED,
    DROPPED,
    DUE_NEXT,
    ENDS_MS,
    IS_DUE,
    KIND,
    USER_FIRST,
    USERS,
)
from kvstore.lifetimes.pool import NAMED_END_MS, NAMED_FIRST
from kvstore.lifetimes.shard import DUE_FIRST, DUE_LAST, NOW_MS
from kvstore.lifetimes.store import BROADCAST_DUE, READ_ONLY
from kvstore.net.serving import has_waiting, serve_waiting
from kvstore.net.waiting import unblock_connection
from kvstore.store.flush import background_step
from kvstore.wire.errors import BRANCH_DROPPED
from mmcore.jit import int64, linked, void

STORES_A_TURN = 64
PAGES_A_STORE = 16


@linked(void(CONTEXT))
def _lose_all(context):  # type: ignore[no-untyped-def]
    """The connections that use the store of this context lose it, also those that wait in it."""
    own = named_of(context)
    while own[USER_FIRST] > 0:
        slot = own[USER_FIRST] - 1
        unblock_connection(context, slot, BRANCH_DROPPED)
        lose(context, slot, connection(context, slot))


@linked(void(CONTEXT))
def drop_store(context):  # type: ignore[no-untyped-def]
    """Drop the branch or snapshot of this context.  The connections that use it lose it."""
    _lose_all(context)
    drop(context)


@linked(int64(CONTEXT))
def _look_after(context):  # type: ignore[no-untyped-def]
    """Do a part of what a store has left; returns whether there may be more (0 or 1)."""
    own, store = named_of(context), context.store
    if own[KIND] == DROPPED:
        if own[USERS] > 0:
            context.call[ARGC] = 0  # the last command is over, so that its arguments' place is free
            _lose_all(context)
            return 1
        end(context)
        return 0
    if own[USERS] > 0:
        if has_waiting(context):
            serve_waiting(context)
        if store[BROADCAST_DUE]:
            broadcast(context)
    elif own[AREA] != 0:
        area_close(context)
    return 1 if store[READ_ONLY] == 0 and background_step(context, PAGES_A_STORE) > 0 else 0


@linked(int64(CONTEXT))
def look_after_stores(context):  # type: ignore[no-untyped-def]
    """Look after stores that were used; returns whether some have work left (0 or 1).  No command may be at hand."""
    shard = context.shard
    last, address = shard[DUE_LAST], 0
    for _ in range(STORES_A_TURN):
        if shard[DUE_FIRST] == 0 or address == last:
            break
        address = shard[DUE_FIRST]
        own = named(address)
        shard[DUE_FIRST], own[IS_DUE] = own[DUE_NEXT], 0
        concerned = context_at(own[CONTEXT_OF_NAMED])
        if own[KIND] != DROPPED:
            come_to_hand(context, own[CONTEXT_OF_NAMED])
        if _look_after(concerned):
            note_due(concerned)
        enter_main(context)
    return 1 if shard[DUE_FIRST] != 0 else 0


@linked(void(CONTEXT))
def note_used_stores(context):  # type: ignore[no-untyped-def]
    """Look after all stores that connections use at the end of this turn: keys that are waited for may be served."""
    address = context.pool[NAMED_FIRST]
    while address != 0:
        own = named(address)
        if own[USERS] > 0:
            note_due(context_at(own[CONTEXT_OF_NAMED]))
        address = own[AFTER]


@linked(void(CONTEXT))
def end_stores(context):  # type: ignore[no-untyped-def]
    """The timer: drop the stores whose time is over."""
    pool, now = context.pool, context.shard[NOW_MS]
    if pool[NAMED_END_MS] > now:
        return
    context.call[ARGC] = 0  # the last command is over, so that its arguments' place is free
    pool[NAMED_END_MS] = NEVER
    address = pool[NAMED_FIRST]
    while address != 0:
        own = named(address)
        following = own[AFTER]
        if own[ENDS_MS] <= now:
            drop_store(context_at(own[CONTEXT_OF_NAMED]))
        else:
            pool[NAMED_END_MS] = min(pool[NAMED_END_MS], own[ENDS_MS])
        address = following
