"""The end of a store for the connections that use it: they keep nothing of it, and know that they have lost it.

A connection that waits in the store loses it at the end of the turn (net/stores.py), because its wait has to be
answered first.  Until then it runs no command.
"""

from kvstore.branches.lineage import drop
from kvstore.branches.named import named_of
from kvstore.branches.using import stop_using
from kvstore.connections.table import connection
from kvstore.effects.subscriptions import end_subscriptions
from kvstore.effects.tracking import tracking_off
from kvstore.effects.watch import unwatch_all
from kvstore.lifetimes.connection import BLOCKED, DIRTY_EXEC, FLAGS, MOVED, MULTI, NEXT_USER, STORE_LOST
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.named import USER_FIRST
from mmcore.jit import int64, linked, void


@linked(void(CONTEXT, int64, int64[::1]))
def lose(context, slot, row):  # type: ignore[no-untyped-def]
    """Take the store of this context away from the connection in `slot`, which uses it and does not wait."""
    unwatch_all(context, row)
    end_subscriptions(context, row)
    tracking_off(context, slot)
    stop_using(context, slot, row)
    row[FLAGS] |= STORE_LOST | MOVED
    if row[FLAGS] & MULTI:
        row[FLAGS] |= DIRTY_EXEC


@linked(void(CONTEXT))
def drop_in_use(context):  # type: ignore[no-untyped-def]
    """Drop the branch or snapshot of this context.  The connections that use it lose it."""
    slot = named_of(context)[USER_FIRST] - 1
    while slot >= 0:
        row = connection(context, slot)
        following = row[NEXT_USER] - 1
        if row[FLAGS] & BLOCKED == 0:
            lose(context, slot, row)
        slot = following
    drop(context)
