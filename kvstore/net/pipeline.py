"""Executing all whole commands that one connection has sent, in order, for its share of the turn.

Commands of one connection run in the order of arrival.  A transaction runs whole before any other connection is served.
A connection that is held (see connections/table.py) keeps its replies and its further input until a snapshot has ended.

No pipeline keeps the others waiting.  TURN_CYCLES, turn-budget-us of the configuration, is divided among the
connections that are ready when a turn begins.  A connection that has used up its share between two commands keeps the
rest of its input and goes to the back of the queue (`give_turn`).  The share is measured in time, so an expensive
command counts for more than a cheap one, and a command in Python for more than one in a kernel.  The clock is the time
stamp counter, which is read anyway to account for each command.
"""

from kvstore.commands.accounts import account, count_error
from kvstore.commands.rows import OF_CLIENT, REFUSED, ROW_FLAGS, row_of
from kvstore.connections.pieces import read_under_way
from kvstore.connections.sends import SEND_EARLY
from kvstore.connections.table import connection, drop, give_turn, grow
from kvstore.lifetimes.call import (
    COMMAND,
    COMMAND_CYCLES,
    COMMAND_REPLY,
    CONNECTION,
    DEPTH,
    OUTER_REPLY,
    QUERY_SIZE,
    REPLY_BASE,
    REPLY_LENGTH,
)
from kvstore.lifetimes.connection import (
    AFTERWARDS,
    BLOCKED,
    CLOSE_AFTER_REPLY,
    FLAGS,
    HELD,
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    MOVED,
    MULTI,
    PART_DONE,
    POSTPONED,
    REPLY_OFF,
    REPLY_SKIP,
    REPLY_SKIP_NEXT,
    SCAN_ARGUMENTS,
    TRACKING,
    TRACKING_CACHING,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    AHEAD,
    BLOCKED_CLIENTS,
    INPUT_POSITION,
    INPUT_SHARED,
    QUERY_BUFFER_LIMIT,
    QUERY_LIMIT_CLOSED,
    TURN_BEGAN,
    TURN_SHARE,
)
from kvstore.net.afterwards import afterwards
from kvstore.net.ahead import look_ahead
from kvstore.net.bodies import begin_body, offer_body, withdraw_body
from kvstore.net.events import EVENT_AGAIN, EVENT_BLOCKED, EVENT_NONE, EVENT_POSTPONED
from kvstore.net.execution import execute, note_read, run_transaction
from kvstore.net.output import queue_reply, takes_reply
from kvstore.net.reads import read_begun
from kvstore.net.waiting import begin_wait
from kvstore.store.places import forget_places
from kvstore.system.libc import bytes_at, cycles
from kvstore.wire.arguments import query
from kvstore.wire.request import COMPLETE, INCOMPLETE, MALFORMED, parse_request, restore_request
from mmcore.jit import copy_bytes, int64, kernel, linked, void


@linked(void(CONTEXT, int64[::1]))
def _caching_over(context, row):  # type: ignore[no-untyped-def]
    """CLIENT CACHING is for the next command or transaction; other subcommands of CLIENT may come between."""
    command = context.call[COMMAND]
    if row[FLAGS] & MULTI == 0 and (command < 0 or row_of(context, command)[ROW_FLAGS] & OF_CLIENT == 0):
        row[FLAGS] &= ~TRACKING_CACHING


@kernel
def _command_over(context, row):  # type: ignore[no-untyped-def]
    # The command is answered in full: apply CLIENT REPLY, and do what had to wait for its end.
    if row[FLAGS] & (REPLY_OFF | REPLY_SKIP | REPLY_SKIP_NEXT | AFTERWARDS | TRACKING_CACHING):
        if not takes_reply(row):
            context.call[REPLY_LENGTH] = context.call[OUTER_REPLY]
        if row[FLAGS] & TRACKING_CACHING:
            _caching_over(context, row)
        if row[FLAGS] & AFTERWARDS:
            afterwards(context, context.call[CONNECTION], row)


@linked(int64(CONTEXT, int64, int64[::1]))
def run_pipeline(context, slot, row):  # type: ignore[no-untyped-def]
    """Execute the commands in the query buffer; returns an EVENT, EVENT_NONE when no whole command is left."""
    call, shard = context.call, context.shard
    forget_places(context)
    while True:
        if call[DEPTH] != 0:
            event = run_transaction(context, row)
            if event != EVENT_NONE:
                return event
            _command_over(context, row)
        if row[FLAGS] & (CLOSE_AFTER_REPLY | KILLED):
            shard[INPUT_POSITION] = call[QUERY_SIZE]
            return EVENT_NONE
        if row[FLAGS] & (BLOCKED | HELD | MOVED):
            if row[FLAGS] & MOVED:  # its next command needs another context
                row[FLAGS] &= ~MOVED
                if shard[INPUT_POSITION] < call[QUERY_SIZE]:
                    give_turn(context, slot, row, 0)
            return EVENT_NONE
        if call[REPLY_LENGTH] - call[REPLY_BASE] > SEND_EARLY:
            queue_reply(context, slot, row)
        start = shard[INPUT_POSITION]
        if call[COMMAND_CYCLES] - shard[TURN_BEGAN] > shard[TURN_SHARE] and start < call[QUERY_SIZE]:
            give_turn(context, slot, row, 0)
            return EVENT_NONE
        if start == 0:
            shard[AHEAD] = 0  # a new buffer; most hold one command, which is best begun at once
        elif shard[AHEAD] <= start < call[QUERY_SIZE]:
            look_ahead(context)
        malformed = call[REPLY_LENGTH]
        status = parse_request(context, row)
        if status == INCOMPLETE:
            return EVENT_NONE
        if status == MALFORMED:
            count_error(context, malformed)
            row[FLAGS] |= CLOSE_AFTER_REPLY
            continue
        if status == COMPLETE:
            call[OUTER_REPLY] = call[REPLY_LENGTH]
            offer_body(context, row, start)
            event = execute(context, row)
            withdraw_body(context, row, event != EVENT_POSTPONED and event != EVENT_AGAIN)
            if event == EVENT_POSTPONED:
                restore_request(context, start)
                row[FLAGS] |= POSTPONED
                shard[BLOCKED_CLIENTS] += 1
                return EVENT_NONE
            if event == EVENT_BLOCKED:
                if begin_wait(context, row):
                    if read_under_way(row) != 0:
                        read_begun(context, slot, row)
                    if row[FLAGS] & AFTERWARDS:
                        afterwards(context, slot, row)
                    continue  # it may have been served already
                event = EVENT_NONE
            if event == EVENT_AGAIN:
                restore_request(context, start)
                if row[FLAGS] & AFTERWARDS:  # messages to the connection itself need not wait for the end
                    afterwards(context, slot, row)
                give_turn(context, slot, row, 0)
                return EVENT_NONE
            row[PART_DONE] = 0  # it may have been refused in a later turn
            if event != EVENT_NONE:
                return event
            if call[DEPTH] == 0:
                _command_over(context, row)
        else:
            call[COMMAND_CYCLES] = cycles()  # an empty line takes time, too


@linked(void(CONTEXT, int64, int64[::1]))
def settle(context, slot, row):  # type: ignore[no-untyped-def]
    """After the last command of this turn: keep the rest of the input, and queue the replies for sending."""
    call, shard = context.call, context.shard
    left = call[QUERY_SIZE] - shard[INPUT_POSITION]
    if left == 0:
        row[INPUT_START] = row[INPUT_LENGTH] = 0
        if row[INPUT_CAPACITY] > 0:
            drop(context, row, INPUT_ADDRESS, INPUT_CAPACITY)
    else:
        if shard[INPUT_SHARED] == 0:
            row[INPUT_START] = shard[INPUT_POSITION]
        elif grow(context, row, INPUT_ADDRESS, INPUT_CAPACITY, left):
            kept = bytes_at(row[INPUT_ADDRESS], row[INPUT_CAPACITY])
            copy_bytes(kept, 0, query(context), shard[INPUT_POSITION], left)
            row[INPUT_LENGTH] = left
        else:
            give_turn(context, slot, row, KILLED)
        if left > shard[QUERY_BUFFER_LIMIT]:
            shard[QUERY_LIMIT_CLOSED] += 1
            give_turn(context, slot, row, KILLED)
        if row[SCAN_ARGUMENTS] > 0:
            begin_body(context, row)
    if call[REPLY_LENGTH] > call[REPLY_BASE] or row[FLAGS] & CLOSE_AFTER_REPLY:
        queue_reply(context, slot, row)
    call[CONNECTION] = -1


@linked(int64(CONTEXT, int64))
def go_on(context, slot):  # type: ignore[no-untyped-def]
    """Continue with a connection after Python has answered the command at hand; returns an EVENT."""
    call = context.call
    row = connection(context, slot)
    if call[COMMAND] >= 0:
        account(context, row, call[COMMAND])
        if row[FLAGS] & TRACKING:
            note_read(context, row, call[COMMAND])
    elif call[COMMAND] == REFUSED:
        count_error(context, call[COMMAND_REPLY])
    call[COMMAND_CYCLES] = cycles()
    if call[DEPTH] == 0 and row[FLAGS] & BLOCKED == 0:
        _command_over(context, row)
    elif row[FLAGS] & BLOCKED and row[FLAGS] & AFTERWARDS:
        afterwards(context, slot, row)
    event = run_pipeline(context, slot, row)
    if event != EVENT_NONE:
        return event
    settle(context, slot, row)
    return EVENT_NONE
