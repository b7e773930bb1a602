"""A command that waits: how a wait begins, and how it ends without what it waits for.

A kernel that returns BLOCKS has left in its connection's row for how long to wait, and how to answer when that time is
over.  `begin_wait` keeps the command itself in the connection's queue buffer, which is free because a command waits in
no transaction.  Behind it, the connection's input is read and kept.  A wait ends

    served          a key has come (serving.py)
    timed out       the deadline has passed
    unblocked       CLIENT UNBLOCK asked for that
    done            what Python does for it in another thread has ended (BRANCH SAVE)
    closed          closing.py
    read            it waits for no key, but for another thread to read for it (reads.py)

The answer to the second and third is a message (connections/messages.py), so they may come at any time.  The command is
accounted for once, when it is answered: by the time that it has taken, without the wait.  WAIT has no time at all.

A wait costs nothing while it lasts.  Deadlines are in a heap (connections/deadlines.py).
"""

from kvstore.commands.accounts import account, account_wait, count_error, note_monitored
from kvstore.commands.transactions import keep_command, next_queued
from kvstore.connections.deadlines import deadline_drop, deadline_due, deadline_set
from kvstore.connections.messages import message_begin, message_end, post
from kvstore.connections.table import connection, drop, give_turn
from kvstore.effects.waiting import stop_waiting
from kvstore.lifetimes.call import (
    ARGC,
    COMMAND,
    COMMAND_CYCLES,
    COMMAND_REPLY,
    CONNECTION,
    DB,
    PROTOCOL,
    QUERY_ADDRESS,
    QUERY_SIZE,
    QUEUE_POSITION,
    QUEUE_REMAINING,
    REPLY_LENGTH,
)
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    ANSWER_OK,
    ANSWER_READ,
    ANSWER_ZERO,
    BLOCKED,
    BLOCKED_ANSWER,
    BLOCKED_UNTIL_MS,
    CONTEXT_OF,
    DATABASE,
    FLAGS,
    INPUT_LENGTH,
    INPUT_START,
    NEVER,
    QUEUE_ADDRESS,
    QUEUE_BYTES,
    QUEUE_CAPACITY,
    QUEUE_LENGTH,
    SPEAKS,
    TRACKING_CACHING,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.shard import BLOCKED_CLIENTS, MONITOR_FIRST, TIMER_MS
from kvstore.net.output import takes_reply
from kvstore.store.aside import read_ask, read_give_up, read_withdraw
from kvstore.system.libc import cycles
from kvstore.system.nesting import call_pop, call_push
from kvstore.wire.errors import OUT_OF_WAITING
from kvstore.wire.resp import reply_error, reply_integer, reply_null_array, reply_ok
from mmcore.jit import int64, linked, void


@linked(int64(CONTEXT, int64[::1]))
def _keep_waiting(context, row):  # type: ignore[no-untyped-def]
    """Keep the command at hand, and ask for it if it is a read that goes aside: 1, or 0 when memory ran out."""
    kept = row[QUEUE_LENGTH] > 0 or keep_command(context, row) >= 0  # the kernel may have kept another form of it
    if row[BLOCKED_ANSWER] != ANSWER_READ:
        return 1 if kept else 0
    if not kept:
        read_withdraw(context)
    elif not read_ask(context, row):
        row[QUEUE_LENGTH] = 0
        drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
        kept = False
    return 1 if kept else 0


@linked(int64(CONTEXT, int64[::1]))
def begin_wait(context, row):  # type: ignore[no-untyped-def]
    """Let the connection of the command at hand wait: 1, or 0 with an error replied when memory ran out."""
    call, shard = context.call, context.shard
    if not _keep_waiting(context, row):
        stop_waiting(context, row)
        reply_error(context, OUT_OF_WAITING)
        account(context, row, call[COMMAND])
        return 0
    now = cycles()
    if shard[MONITOR_FIRST] > 0:
        note_monitored(context, row, call[COMMAND])
    row[QUEUE_BYTES] = now - call[COMMAND_CYCLES]
    call[COMMAND_CYCLES] = now
    row[FLAGS] |= BLOCKED
    shard[BLOCKED_CLIENTS] += 1
    timeout_ms = row[BLOCKED_UNTIL_MS]
    row[BLOCKED_UNTIL_MS] = NEVER if timeout_ms == 0 else shard[TIMER_MS] + timeout_ms
    deadline_set(context, call[CONNECTION], row, row[BLOCKED_UNTIL_MS])
    return 1


@linked(void(CONTEXT, int64, int64[::1]))
def push_waiting(context, slot, row):  # type: ignore[no-untyped-def]
    """Begin a call, within the one at hand, whose command is the one that this connection waits in."""
    call_push(context)
    call = context.call
    call[CONNECTION], call[DB], call[PROTOCOL] = slot, row[DATABASE], row[SPEAKS]
    call[QUERY_ADDRESS], call[QUERY_SIZE] = row[QUEUE_ADDRESS], row[QUEUE_LENGTH]
    call[QUEUE_POSITION], call[QUEUE_REMAINING] = 0, 1
    next_queued(context)


@linked(void(CONTEXT, int64, int64[::1]))
def end_wait(context, slot, row):  # type: ignore[no-untyped-def]
    """The connection waits no more; it goes on with the input that it has kept."""
    shard = context.shard
    stop_waiting(context, row)
    read_give_up(context, slot, row)
    deadline_drop(context, row)
    row[QUEUE_LENGTH] = row[QUEUE_BYTES] = 0
    drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    row[FLAGS] &= ~(BLOCKED | TRACKING_CACHING)  # CLIENT CACHING was for the command that waited
    row[ACTIVE_MS] = shard[TIMER_MS]  # the wait does not count as idle
    shard[BLOCKED_CLIENTS] -= 1
    if row[INPUT_LENGTH] > row[INPUT_START]:
        give_turn(context, slot, row, 0)


@linked(void(CONTEXT, int64, int64[::1], int64))
def _answer_wait(context, slot, row, error):  # type: ignore[no-untyped-def]
    """End a wait of a connection of this store, and answer as if its time were over, or with an error."""
    call = context.call
    start = message_begin(context, row[SPEAKS])
    push_waiting(context, slot, row)
    call[COMMAND_REPLY] = call[REPLY_LENGTH]
    call[COMMAND_CYCLES] = cycles() - row[QUEUE_BYTES]
    if error:
        reply_error(context, error)
        if row[BLOCKED_ANSWER] == ANSWER_ZERO:
            count_error(context, call[COMMAND_REPLY])
    elif row[BLOCKED_ANSWER] == ANSWER_ZERO:
        reply_integer(context, 0)
    elif row[BLOCKED_ANSWER] == ANSWER_OK:
        reply_ok(context)
    else:
        reply_null_array(context)
    if row[BLOCKED_ANSWER] == ANSWER_ZERO:
        account_wait(context, row, call[COMMAND])
    else:
        account(context, row, call[COMMAND])
    call_pop(context)
    size = message_end(context, start)
    end_wait(context, slot, row)
    if takes_reply(row):
        post(context, slot, start, size)


@linked(void(CONTEXT))
def wake_blocked(context):  # type: ignore[no-untyped-def]
    """Answer every connection whose deadline has passed, in the order of the deadlines.  No command may be at hand."""
    context.call[ARGC] = 0  # the last command is over, so that its arguments' place is free
    slot = deadline_due(context, context.shard[TIMER_MS])
    while slot >= 0:
        row = connection(context, slot)
        _answer_wait(context_at(row[CONTEXT_OF]), slot, row, 0)
        slot = deadline_due(context, context.shard[TIMER_MS])


@linked(int64(CONTEXT, int64, int64))
def unblock_connection(context, slot, error):  # type: ignore[no-untyped-def]
    """End the wait of a connection of any store: 1, or 0 if it does not wait.

    error: 0 as if its time were over, else the number of an error.
    """
    row = connection(context, slot)
    if row[FLAGS] & BLOCKED == 0:
        return 0
    _answer_wait(context_at(row[CONTEXT_OF]), slot, row, error)
    return 1
