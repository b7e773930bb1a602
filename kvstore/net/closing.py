"""Closing a connection: all that it owns, and all that others keep for it, ends with it."""

from kvstore.branches.difference import leave_difference
from kvstore.branches.using import stop_using
from kvstore.connections.deadlines import deadline_drop
from kvstore.connections.pieces import pieces_drop
from kvstore.connections.table import connection, drop
from kvstore.effects.monitors import monitor_end
from kvstore.effects.subscriptions import end_subscriptions
from kvstore.effects.tracking import tracking_off
from kvstore.effects.waiting import stop_waiting
from kvstore.effects.watch import unwatch_all
from kvstore.lifetimes.connection import (
    BLOCKED,
    CONTEXT_OF,
    FD,
    FLAGS,
    HELD,
    IN_USE,
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    LIB_VER,
    NAME,
    NEXT_FREE,
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    POSTPONED,
    QUEUE_ADDRESS,
    QUEUE_CAPACITY,
    WANTS_WRITE,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.shard import BLOCKED_CLIENTS, CONNECTED_CLIENTS, FREE_SLOT, WANTING_WRITE
from kvstore.store.aside import read_unwanted
from kvstore.system.libc import close, free
from mmcore.jit import int64, linked, void


@linked(void(CONTEXT, int64))
def close_connection(context, slot):  # type: ignore[no-untyped-def]
    """Close a connection of the store of this context, and free all that it owns.  It must not wait for a turn."""
    shard = context.shard
    row = connection(context, slot)
    assert row[FLAGS] & IN_USE != 0, "a connection is closed twice"
    unwatch_all(context, row)
    end_subscriptions(context, row)
    stop_waiting(context, row)
    read_unwanted(context, row)  # without a turn for the connection: its slot is free in a moment
    pieces_drop(context, row)
    tracking_off(context, slot)
    monitor_end(context, slot)
    deadline_drop(context, row)
    leave_difference(context, slot)
    stop_using(context, slot, row)
    close(row[FD])
    drop(context, row, INPUT_ADDRESS, INPUT_CAPACITY)
    drop(context, row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
    drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    for field in range(NAME, LIB_VER + 1):
        free(row[field])
    if row[FLAGS] & (POSTPONED | BLOCKED | HELD):
        shard[BLOCKED_CLIENTS] -= 1
    if row[FLAGS] & WANTS_WRITE:
        shard[WANTING_WRITE] -= 1
    row[FLAGS] = 0
    row[FD] = -1
    row[NEXT_FREE] = shard[FREE_SLOT]
    shard[FREE_SLOT] = slot
    shard[CONNECTED_CLIENTS] -= 1


@linked(void(CONTEXT, int64))
def close_slot(context, slot):  # type: ignore[no-untyped-def]
    """The same, for a connection of any store."""
    close_connection(context_at(connection(context, slot)[CONTEXT_OF]), slot)
