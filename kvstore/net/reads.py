"""Long reads that have ended: the client gets its reply, and the root is released.

The loop comes here when the reader has raised the count of NEWS (store/aside.py).  The reply is a buffer of its own,
and becomes the connection's output as it is; what the socket does not take at once waits there, within the client's
limits.  It comes behind all that the connection has got before.  The command is accounted for now: by the time that
both threads have spent on it, without the time that it has waited.

A read whose connection waits no longer, because it was closed or has lost its store, has nobody to answer.  Its root
comes back all the same.
"""

from kvstore.branches.using import enter, main_of
from kvstore.commands.accounts import account
from kvstore.commands.rows import CONTAINER, ROW_FLAGS, counted_row, row_of
from kvstore.connections.messages import message_begin, message_end
from kvstore.connections.table import connection, give_turn
from kvstore.lifetimes.call import ARGC, COMMAND, COMMAND_CYCLES, COMMAND_REPLY, REPLY_LENGTH
from kvstore.lifetimes.connection import CONTEXT_OF, FLAGS, KILLED, LAST_COMMAND, QUEUE_BYTES, READ_NUMBER, SPEAKS
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import MESSAGES_LENGTH, OUTPUT_LIMIT_CLOSED, READS_ADDRESS
from kvstore.net.output import send_buffer, takes_reply
from kvstore.net.waiting import end_wait, push_waiting
from kvstore.store.aside import (
    GIVEN_UP,
    NEWS,
    NUMBER,
    OWNER_WORD,
    REPLY,
    REPLY_ROOM,
    REPLY_SIZE,
    SLOT,
    SPENT,
    TAKEN,
    job_end,
    job_of,
    reads_of,
)
from kvstore.system.eventfds import count_take
from kvstore.system.libc import bytes_at, cycles, free
from kvstore.system.nesting import call_pop
from kvstore.wire.resp import reply_raw
from kvstore.wire.wanted import TOO_LONG
from mmcore.jit import int64, linked, void

_ERROR_SHOWN = 64  # bytes of a reply that its account looks at: whether it is an error, and which


@linked(void(CONTEXT, int64[::1], int64, int64[::1]))
def _account(context, job, slot, row):  # type: ignore[no-untyped-def]
    """Account for the command that the connection waits in."""
    call = context.call
    start = message_begin(context, row[SPEAKS])
    push_waiting(context, slot, row)
    call[COMMAND_REPLY] = call[REPLY_LENGTH]
    shown = min(job[REPLY_SIZE], _ERROR_SHOWN)
    reply_raw(context, bytes_at(job[REPLY], shown), 0, shown)
    call[COMMAND_CYCLES] = cycles() - row[QUEUE_BYTES] - job[SPENT]
    command = call[COMMAND]
    if row_of(context, command)[ROW_FLAGS] & CONTAINER:
        command = row[LAST_COMMAND] = counted_row(context, command)
    account(context, row, command)
    call_pop(context)
    message_end(context, start)
    context.shard[MESSAGES_LENGTH] = start  # it is no message to anybody


@linked(void(CONTEXT, int64[::1]))
def _take(context, job):  # type: ignore[no-untyped-def]
    """Take a read that has ended, and answer it if somebody waits for it."""
    shard, slot = context.shard, job[SLOT]
    row, reply = connection(context, slot), job[REPLY]
    waits = row[READ_NUMBER] == job[NUMBER]
    own = enter(context, row[CONTEXT_OF]) if waits else main_of(context)
    if waits:
        row[READ_NUMBER] = 0
    if waits and row[FLAGS] & KILLED == 0 and job[GIVEN_UP] == TOO_LONG:
        shard[OUTPUT_LIMIT_CLOSED] += 1
        give_turn(own, slot, row, KILLED)
    elif waits and row[FLAGS] & KILLED == 0:
        _account(own, job, slot, row)
        end_wait(own, slot, row)
        if takes_reply(row):
            send_buffer(own, slot, row, reply, job[REPLY_ROOM], job[REPLY_SIZE])
            reply = 0
    free(reply)
    job_end(own, job)


@linked(void(CONTEXT))
def take_reads(context):  # type: ignore[no-untyped-def]
    """Take the reads that have ended, in the order in which they were asked.  No command may be at hand."""
    context.call[ARGC] = 0  # the last command is over, so that its arguments' place is free
    reads = reads_of(context)
    for _ in range(count_take(reads[NEWS], context.shard[READS_ADDRESS] + 8 * OWNER_WORD)):
        job = job_of(context, reads[TAKEN])
        reads[TAKEN] += 1
        _take(context, job)
