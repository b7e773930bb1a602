"""Long reads under way: the client gets their replies piece by piece, and the root is released at the end.

The loop comes here when the reader has raised the count of NEWS (store/aside.py): once for each piece, and once for
each end.  A piece waits for its connection behind those before it (connections/pieces.py), and the connection gets a
turn, in which it sends what a turn may.  If more waits than the client's limits allow, the connection is closed, and
the read given up.

The command is accounted for at its end: by the time that both threads have spent on it, without the time that it has
waited.

A read whose connection waits no longer, because it was closed or has lost its store, has nobody to answer.  Its root
comes back all the same.
"""

from kvstore.branches.using import enter, main_of
from kvstore.commands.accounts import account
from kvstore.commands.rows import CONTAINER, ROW_FLAGS, counted_row, row_of
from kvstore.connections.messages import message_begin, message_end
from kvstore.connections.pieces import (
    BEGUN,
    node_free,
    own_output_first,
    piece_put,
    pieces_end,
    pieces_of,
    read_under_way,
)
from kvstore.connections.sends import spill_own
from kvstore.connections.table import connection, give_turn
from kvstore.lifetimes.call import (
    ARGC,
    COMMAND,
    COMMAND_CYCLES,
    COMMAND_REPLY,
    REPLY_BASE,
    REPLY_LENGTH,
)
from kvstore.lifetimes.connection import (
    CONTEXT_OF,
    FLAGS,
    KILLED,
    LAST_COMMAND,
    QUEUE_BYTES,
    REPLY_OFF,
    REPLY_SKIP,
    SPEAKS,
    TRACKING,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import KEYSPACE_HITS, KEYSPACE_MISSES, MESSAGES_LENGTH, OUTPUT_LIMIT_CLOSED, READS_ADDRESS
from kvstore.net.execution import note_read
from kvstore.net.output import put_reply, takes_reply
from kvstore.net.waiting import end_wait, push_waiting
from kvstore.store.aside import (
    GIVEN_UP,
    HEAD,
    HEAD_MAX,
    HEAD_SIZE,
    HITS,
    LOOKS_UP,
    MISSES,
    NEWS,
    NUMBER,
    OWNER_WORD,
    SLOT,
    SPENT,
    TAKEN,
    job_end,
    job_of,
    piece_take,
    reads_of,
)
from kvstore.system.eventfds import count_take
from kvstore.system.libc import bytes_at, cycles
from kvstore.system.nesting import call_pop
from kvstore.wire.resp import reply_raw
from kvstore.wire.wanted import TOO_LONG
from mmcore.jit import int64, kernel, linked, void


@linked(void(CONTEXT, int64, int64[::1]))
def read_begun(context, slot, row):  # type: ignore[no-untyped-def]
    """The command at hand is a read that has been asked for: all that the connection gets now comes behind its reply.

    A connection that tracks keys is interested in them from now on, for the store is read as it is now.  So the
    invalidation of a key that changes meanwhile comes behind the reply, as it would if the read had run in place.
    """
    call = context.call
    if call[REPLY_LENGTH] > call[REPLY_BASE]:
        put_reply(context, slot, row)
    spill_own(context, slot, row)
    own_output_first(context, row)
    if row[FLAGS] & TRACKING:
        command = call[COMMAND]
        if row_of(context, command)[ROW_FLAGS] & CONTAINER:
            command = counted_row(context, command)
        note_read(context, row, command)


@linked(void(CONTEXT, int64[::1], int64, int64[::1]))
def _account(context, job, slot, row):  # type: ignore[no-untyped-def]
    """Account for the command that the connection waits in."""
    call = context.call
    start = message_begin(context, row[SPEAKS])
    push_waiting(context, slot, row)
    call[COMMAND_REPLY] = call[REPLY_LENGTH]
    reply_raw(context, bytes_at(int64(job.ctypes.data) + 8 * HEAD, HEAD_MAX), 0, job[HEAD_SIZE])
    call[COMMAND_CYCLES] = cycles() - row[QUEUE_BYTES] - job[SPENT]
    command = call[COMMAND]
    if row_of(context, command)[ROW_FLAGS] & CONTAINER:
        command = row[LAST_COMMAND] = counted_row(context, command)
    account(context, row, command)
    call_pop(context)
    message_end(context, start)
    context.shard[MESSAGES_LENGTH] = start  # it is no message to anybody


@kernel
def _waits(row, job):  # type: ignore[no-untyped-def]
    # Whether the connection in this row still waits for a job.
    return read_under_way(row) == job[NUMBER] and row[FLAGS] & KILLED == 0


@linked(void(CONTEXT, int64[::1], int64))
def _take_piece(context, job, piece):  # type: ignore[no-untyped-def]
    """Let a piece wait for its connection, if that wants it."""
    slot = job[SLOT]
    row = connection(context, slot)
    if _waits(row, job) and row[FLAGS] & (REPLY_OFF | REPLY_SKIP) == 0:
        pieces_of(row)[BEGUN] = 1
        piece_put(context, row, piece)
        give_turn(context, slot, row, 0)
    else:
        node_free(piece)


@linked(void(CONTEXT, int64[::1]))
def _take_end(context, job):  # type: ignore[no-untyped-def]
    """Take a read that has ended; its connection goes on."""
    shard, slot = context.shard, job[SLOT]
    row = connection(context, slot)
    waits = _waits(row, job)
    own = enter(context, row[CONTEXT_OF]) if waits else main_of(context)
    if job[LOOKS_UP]:
        shard[KEYSPACE_HITS] += job[HITS]
        shard[KEYSPACE_MISSES] += job[MISSES]
    if waits and job[GIVEN_UP] == TOO_LONG:
        shard[OUTPUT_LIMIT_CLOSED] += 1
        give_turn(context, slot, row, KILLED)
    elif waits:
        _account(own, job, slot, row)
        pieces_end(own, slot, row)
        end_wait(own, slot, row)
        takes_reply(row)
    job_end(own, job)


@linked(void(CONTEXT))
def take_reads(context):  # type: ignore[no-untyped-def]
    """Take what has come of the reads, in the order in which they were asked.  No command may be at hand."""
    context.call[ARGC] = 0  # the last command is over, so that its arguments' place is free
    reads = reads_of(context)
    for _ in range(count_take(reads[NEWS], context.shard[READS_ADDRESS] + 8 * OWNER_WORD)):
        job = job_of(context, reads[TAKEN])
        piece = piece_take(job)
        if piece != 0:
            _take_piece(context, job, piece)
        else:
            reads[TAKEN] += 1
            _take_end(context, job)
