"""Receiving: read a socket into a shared buffer, and execute the commands there."""

from kvstore.connections.table import give_turn, grow
from kvstore.lifetimes.call import CONNECTION, DB, PROTOCOL, QUERY_ADDRESS, QUERY_SIZE
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    BYTES_IN,
    DATABASE,
    FD,
    FLAGS,
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    MUTED,
    POSTPONED,
    SPEAKS,
    WAITS_FOR_TURN,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    AHEAD,
    INPUT_POSITION,
    INPUT_SHARED,
    NET_INPUT_BYTES,
    QUERY_BUFFER_LIMIT,
    QUERY_LIMIT_CLOSED,
    SHARED_ADDRESS,
    SHARED_CAPACITY,
    TIMER_MS,
    TURN_BEGAN,
)
from kvstore.lifetimes.sizes import INPUT_MAX
from kvstore.net.bodies import is_receiving_body, receive_body
from kvstore.net.epoll import CLOSED, socket_receive
from kvstore.net.events import EVENT_NONE
from kvstore.net.muting import mute
from kvstore.net.pipeline import run_pipeline, settle
from kvstore.system.libc import bytes_at, cycles
from mmcore.jit import copy_bytes, int64, linked


@linked(int64(CONTEXT, int64, int64[::1]))
def run_input(context, slot, row):  # type: ignore[no-untyped-def]
    """Execute from the connection's own buffer; returns an EVENT."""
    call, shard = context.call, context.shard
    call[CONNECTION] = slot
    call[DB] = row[DATABASE]
    call[PROTOCOL] = row[SPEAKS]
    call[QUERY_ADDRESS] = row[INPUT_ADDRESS]
    call[QUERY_SIZE] = row[INPUT_LENGTH]
    shard[INPUT_POSITION] = shard[AHEAD] = row[INPUT_START]
    shard[INPUT_SHARED] = 0
    shard[TURN_BEGAN] = cycles()
    event = run_pipeline(context, slot, row)
    if event == EVENT_NONE:
        settle(context, slot, row)
    return event


@linked(int64(CONTEXT, int64, int64[::1]))
def receive(context, slot, row):  # type: ignore[no-untyped-def]
    """Read from the socket and execute the commands; returns an EVENT.

    Nothing is read from a connection that waits for a turn: it already has input.
    """
    call, shard = context.call, context.shard
    if row[FLAGS] & WAITS_FOR_TURN:
        if row[FLAGS] & MUTED == 0:
            mute(context, slot, row)
        return EVENT_NONE
    if is_receiving_body(row) and receive_body(context, slot, row):
        return EVENT_NONE
    before = row[INPUT_LENGTH] - row[INPUT_START]
    address, room = shard[SHARED_ADDRESS], shard[SHARED_CAPACITY]
    if before > 0:
        if row[INPUT_START] > 0:
            kept = bytes_at(row[INPUT_ADDRESS], row[INPUT_CAPACITY])
            copy_bytes(kept, 0, kept, row[INPUT_START], before)
            row[INPUT_START] = 0
            row[INPUT_LENGTH] = before
        if not grow(context, row, INPUT_ADDRESS, INPUT_CAPACITY, before + 16384):
            give_turn(context, slot, row, KILLED)
            return EVENT_NONE
        address, room = row[INPUT_ADDRESS] + before, min(row[INPUT_CAPACITY] - before, INPUT_MAX)
    count = socket_receive(context, row[FD], address, room)
    if count <= 0:
        if count == CLOSED:
            give_turn(context, slot, row, KILLED)
        return EVENT_NONE
    shard[NET_INPUT_BYTES] += count
    row[BYTES_IN] += count
    row[ACTIVE_MS] = shard[TIMER_MS]
    if before == 0:
        call[CONNECTION] = slot
        call[DB] = row[DATABASE]
        call[PROTOCOL] = row[SPEAKS]
        call[QUERY_ADDRESS] = shard[SHARED_ADDRESS]
        call[QUERY_SIZE] = count
        shard[INPUT_POSITION] = 0
        shard[INPUT_SHARED] = 1
        shard[TURN_BEGAN] = cycles()
        event = run_pipeline(context, slot, row)
        if event == EVENT_NONE:
            settle(context, slot, row)
        return event
    row[INPUT_LENGTH] = before + count
    if row[FLAGS] & POSTPONED:
        if row[INPUT_LENGTH] > shard[QUERY_BUFFER_LIMIT]:
            shard[QUERY_LIMIT_CLOSED] += 1
            give_turn(context, slot, row, KILLED)
        return EVENT_NONE
    return run_input(context, slot, row)
