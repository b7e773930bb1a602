"""The event loop: one kernel that serves every connection and enters Python only when it must.

A turn

    poll_wait ── for each ready socket ──► receive ► parse ► execute ► reply
        └── then send all replies
        └── then upkeep, in bounded slices: expiry, releases, growth; the timer every 1/hz s

`serve` returns one of the codes of events.py when Python has work to do.  The registers hold its whole state, so the
next call continues where the last one stopped, even in the middle of a pipeline or of a transaction.

While the latency monitor is on, the thread's processor time is read before and after each wait, and INFO tells the
longest turn: including what Python did in it, and excluding the time that other processes took.
"""

from kvstore.branches.using import enter, enter_main
from kvstore.connections.memory import evict_connections
from kvstore.connections.pieces import has_output
from kvstore.connections.table import connection, give_turn, take_turn
from kvstore.durable.saving import save_begin
from kvstore.effects.broadcasts import broadcast
from kvstore.effects.tracking import tracking_ended
from kvstore.lifetimes.connection import (
    CLOSE_AFTER_REPLY,
    CONTEXT_OF,
    FLAGS,
    ID,
    IN_USE,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    MUTED,
    NEVER,
    POSTPONED,
    TRACKED_COUNT,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    BLOCKED_DEADLINE_MS,
    DUE_FIRST,
    EVENTS_ADDRESS,
    LATENCY_MS,
    LOOP_BEGAN_NS,
    LOOP_LONGEST_NS,
    LOOP_TURNS,
    MAXMEMORY_CLIENTS,
    NEXT_TICK_MS,
    READY,
    READY_NEXT,
    RESUME,
    SCRATCH_ADDRESS,
    SENDS,
    STOPPING,
    TIMER_MS,
    TURN_CYCLES,
    TURN_SHARE,
    TURNS_LEFT,
    TURNS_PENDING,
    TURNS_RESTING,
    UPKEEP_CYCLES,
)
from kvstore.lifetimes.store import BROADCAST_DUE, EXPIRED_STALE_PERC
from kvstore.net.accept import READS, WAKE, accept_connections
from kvstore.net.bodies import drop_body, is_receiving_body
from kvstore.net.closing import close_connection
from kvstore.net.epoll import poll_wait
from kvstore.net.events import EVENT_NONE, EVENT_SAVE, EVENT_STOP, EVENT_WAKE
from kvstore.net.muting import unmute
from kvstore.net.output import keep_output, send_all, send_waiting
from kvstore.net.pipeline import go_on
from kvstore.net.placement import look_after_place
from kvstore.net.reads import take_reads
from kvstore.net.receiving import receive, run_input
from kvstore.net.serving import has_waiting, serve_waiting
from kvstore.net.stores import look_after_stores
from kvstore.net.timer import save_due, tick
from kvstore.net.upkeep import PRESSED, upkeep, upkeep_between
from kvstore.net.waiting import wake_blocked
from kvstore.system.clock import update_clocks
from kvstore.system.libc import (
    CLOCK_THREAD_CPUTIME_ID,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    clock_gettime,
    cycles,
    ints_at,
    words_at,
)
from mmcore.jit import int32, int64, kernel, linked

SHARES_MAX = 20  # a connection's share of a turn is no less than one part of so many
RESTING_MS = 1
TURNS_PER_BATCH = 64  # connections that get a turn without an event before the loop looks for events again


@linked(int64(CONTEXT))
def serve_turns(context):  # type: ignore[no-untyped-def]
    """Serve the first waiting connections: close killed ones, run the others' input; returns an EVENT.

    There are TURNS_LEFT of them; below zero, it is to be determined.
    """
    shard = context.shard
    if shard[TURNS_LEFT] < 0:
        shard[TURNS_LEFT] = min(shard[TURNS_PENDING], TURNS_PER_BATCH)
        shard[TURNS_RESTING] = 0  # one that rested while events were served says so again in its turn
    while shard[TURNS_LEFT] > 0:
        shard[TURNS_LEFT] -= 1
        slot = take_turn(context)
        row = connection(context, slot)
        if row[FLAGS] & MUTED:
            unmute(context, slot, row)
        if row[FLAGS] & KILLED:
            own = enter(context, row[CONTEXT_OF])
            if row[TRACKED_COUNT] > 0 and tracking_ended(own, slot) == 0:
                give_turn(context, slot, row, 0)  # it goes on in the next turn
                continue
            drop_body(own, row)
            close_connection(own, slot)
            continue
        if has_output(row) or row[FLAGS] & CLOSE_AFTER_REPLY:
            keep_output(context, slot, row)
        if row[INPUT_LENGTH] > row[INPUT_START] and row[FLAGS] & (KILLED | POSTPONED) == 0:
            own = enter(context, row[CONTEXT_OF])
            event = receive(own, slot, row) if is_receiving_body(row) else run_input(own, slot, row)
            if event != EVENT_NONE:
                return event
    return EVENT_NONE


@kernel
def _thread_ns(context):  # type: ignore[no-untyped-def]
    clock_gettime(int32(CLOCK_THREAD_CPUTIME_ID), context.shard[SCRATCH_ADDRESS])
    time = words_at(context.shard[SCRATCH_ADDRESS], 2)
    return time[0] * 1_000_000_000 + time[1]


@kernel
def _wait(context, timeout_ms):  # type: ignore[no-untyped-def]
    shard = context.shard
    if shard[LATENCY_MS] != 0 and shard[LOOP_BEGAN_NS] != 0:
        shard[LOOP_LONGEST_NS] = max(shard[LOOP_LONGEST_NS], _thread_ns(context) - shard[LOOP_BEGAN_NS])
    shard[READY] = poll_wait(context, timeout_ms)
    shard[LOOP_BEGAN_NS] = _thread_ns(context) if shard[LATENCY_MS] != 0 else 0
    shard[READY_NEXT] = 0
    shard[TURNS_LEFT] = -1
    sharers = min(max(1, shard[READY] + shard[TURNS_PENDING]), SHARES_MAX)
    shard[TURN_SHARE] = shard[TURN_CYCLES] // sharers
    shard[UPKEEP_CYCLES] = cycles()
    look_after_place(context, shard[UPKEEP_CYCLES])


@linked(int64(CONTEXT, int64))
def may_wait_ms(context, rest_ms):  # type: ignore[no-untyped-def]
    """For how long the loop may wait for events, if upkeep and the clocks can for `rest_ms`."""
    shard = context.shard
    resting, shard[TURNS_RESTING] = shard[TURNS_RESTING], 0
    if shard[TURNS_PENDING] > resting:
        return 0
    return max(0, min(rest_ms, RESTING_MS) if resting > 0 else rest_ms)


@linked(int64(CONTEXT))
def serve_event(context):  # type: ignore[no-untyped-def]
    """Serve the next of the events in hand; returns an EVENT."""
    shard = context.shard
    event = ints_at(shard[EVENTS_ADDRESS] + 12 * shard[READY_NEXT], 3)
    shard[READY_NEXT] += 1
    kinds, slot, identity = int64(event[0]), int64(event[1]), int64(event[2])
    if identity < 0:
        special = -slot - 1
        if special & 3 == WAKE:
            return EVENT_WAKE
        if special & 3 == READS:
            take_reads(context)
            return EVENT_NONE
        accept_connections(context, special >> 2, special & 3)
        return EVENT_NONE
    row = connection(context, slot)
    if row[FLAGS] & IN_USE == 0 or row[ID] & 0x7FFF_FFFF != identity or row[FLAGS] & KILLED:
        return EVENT_NONE
    if kinds & EPOLLOUT:
        keep_output(context, slot, row)
    if kinds & (EPOLLIN | EPOLLERR | EPOLLHUP) and row[FLAGS] & (KILLED | CLOSE_AFTER_REPLY) == 0:
        return receive(enter(context, row[CONTEXT_OF]), slot, row)
    if kinds & (EPOLLERR | EPOLLHUP):
        give_turn(context, slot, row, KILLED)
    return EVENT_NONE


@kernel
def _end_turn(context):  # type: ignore[no-untyped-def]
    # All commands of the turn have been executed.
    enter_main(context)
    send_all(context)
    if context.shard[MAXMEMORY_CLIENTS] > 0:
        evict_connections(context)
    context.shard[LOOP_TURNS] += 1


@kernel
def _leave(context, event):  # type: ignore[no-untyped-def]
    # Leave to Python, which may take long: send the other connections' replies first.
    send_waiting(context)
    return event


@kernel
def _send_late(context):  # type: ignore[no-untyped-def]
    # Look after other stores, and send what came up after the turn's replies: waits ended, keys expired, changes are to
    # be broadcast.  Returns whether a store has work left.
    left = look_after_stores(context) if context.shard[DUE_FIRST] != 0 else 0
    if has_waiting(context):  # a connection of another store has brought the key
        serve_waiting(context)
    if context.store[BROADCAST_DUE]:
        broadcast(context)
    if context.shard[SENDS] > 0:
        send_waiting(context)
    return left


@linked(int64(CONTEXT))
def serve(context):  # type: ignore[no-untyped-def]
    """Serve until Python has work to do; returns an EVENT.  Hold no lock, and call from one thread only.

    The context is that of the main store.  CONTEXT_AT_HAND tells which store Python's work concerns.
    """
    shard, store = context.shard, context.store
    while True:
        update_clocks(context)
        if shard[RESUME] >= 0:
            slot = shard[RESUME]
            shard[RESUME] = -1
            event = go_on(enter(context, connection(context, slot)[CONTEXT_OF]), slot)
            if event != EVENT_NONE:
                return _leave(context, event)
        if shard[STOPPING]:
            return _leave(context, EVENT_STOP)  # before a command runs whose effect the final snapshot would miss
        while shard[READY_NEXT] < shard[READY]:
            event = serve_event(context)
            if event != EVENT_NONE:
                return _leave(context, event)
            if store[EXPIRED_STALE_PERC] >= PRESSED:
                upkeep_between(context)
        if shard[TURNS_LEFT] != 0:
            event = serve_turns(context)
            if event != EVENT_NONE:
                return _leave(context, event)
        _end_turn(context)
        if shard[TIMER_MS] >= shard[NEXT_TICK_MS]:
            tick(context)
        if shard[BLOCKED_DEADLINE_MS] != NEVER:
            wake_blocked(context)
        idle = shard[READY] == 0 and shard[TURNS_PENDING] == 0
        rest_ms = upkeep(context, idle)
        if _send_late(context):
            rest_ms = 0
        if save_due(context) and save_begin(context) != 0:
            return EVENT_SAVE  # all replies have been sent
        rest_ms = min(rest_ms, shard[NEXT_TICK_MS] - shard[TIMER_MS])
        if shard[BLOCKED_DEADLINE_MS] != NEVER:
            rest_ms = min(rest_ms, shard[BLOCKED_DEADLINE_MS] - shard[TIMER_MS])
        _wait(context, may_wait_ms(context, rest_ms))
