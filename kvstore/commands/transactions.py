"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

Commands between MULTI and EXEC are queued.  The connection's queue buffer holds them one behind the other, as it holds
a command that waits (net/waiting.py):

    OFFSET      SIZE  DESCRIPTION
    0           8     row of the command table
    8           8     n, number of arguments
    16          8*n   their lengths
    16+8n       ...   their bytes, end to end, then padding to 8

EXEC's kernel only begins the transaction: it answers the header of the array and pushes a call, whose query buffer is
the queue.  The loop then runs the queue and nothing else, even if Python serves a command in it.  A transaction that
runs out of memory is undone (store/undo.py), and EXEC gets one error.
"""

from kvstore.commands.declaration import Command, Family
from kvstore.commands.hyperloglog.sketch import SKETCH_MAX
from kvstore.commands.rows import ADDS_SKETCH, DENY_OOM, GROWS, IS_EXEC, NOT_QUEUED, WITHOUT_STORE, WRITE
from kvstore.connections.table import connection, drop, grow
from kvstore.effects.watch import unwatch_all, watch_add, watched_expired
from kvstore.lifetimes.call import (
    ARGC,
    ARGS,
    COMMAND,
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
    DATABASE,
    DIRTY_CAS,
    DIRTY_EXEC,
    FLAGS,
    MULTI,
    PART_DONE,
    QUEUE_ADDRESS,
    QUEUE_ARGUMENTS,
    QUEUE_BYTES,
    QUEUE_CAPACITY,
    QUEUE_COUNT,
    QUEUE_FLAGS,
    QUEUE_LENGTH,
    SPEAKS,
)
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.lookup import key_deadline, key_hash
from kvstore.store.reserve import reserve_transaction
from kvstore.store.undo import undo_begin
from kvstore.system.libc import bytes_at, words_at
from kvstore.system.nesting import call_pop, call_push
from kvstore.wire.arguments import arg_length, arg_offset, argument, query
from kvstore.wire.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    OUT_OF_FRAMES,
    OUT_OF_QUEUE,
    WATCH_IN_MULTI,
)
from kvstore.wire.resp import prefix_error, reply_array, reply_error, reply_null_array, reply_ok, reply_queued
from mmcore.jit import copy_bytes, int64, kernel, linked, void

WATCH_STEP = 8192  # keys that a WATCH looks up in a turn, unless it is very long


@linked(void(CONTEXT, int64[::1]))
def discard_transaction(context, row):  # type: ignore[no-untyped-def]
    """Forget the queue and the watches; the connection is out of MULTI."""
    row[FLAGS] &= ~(MULTI | DIRTY_EXEC | DIRTY_CAS)
    row[QUEUE_LENGTH] = row[QUEUE_COUNT] = row[QUEUE_FLAGS] = row[QUEUE_ARGUMENTS] = row[QUEUE_BYTES] = 0
    drop(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    unwatch_all(context, row)


@linked(int64(CONTEXT, int64[::1]))
def keep_command(context, row):  # type: ignore[no-untyped-def]
    """Append the command at hand to the queue buffer; returns the bytes of its arguments, -1 when memory ran out."""
    call = context.call
    count, size = call[ARGC], 0
    for i in range(count):
        size += arg_length(context, i)
    start = row[QUEUE_LENGTH]
    end = start + 16 + 8 * count + ((size + 7) & ~7)
    if not grow(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY, end):
        return -1
    head = words_at(row[QUEUE_ADDRESS] + start, 2 + count)
    head[0] = call[COMMAND]
    head[1] = count
    out, text = bytes_at(row[QUEUE_ADDRESS], row[QUEUE_CAPACITY]), query(context)
    at = start + 16 + 8 * count
    for i in range(count):
        head[2 + i] = arg_length(context, i)
        copy_bytes(out, at, text, arg_offset(context, i), arg_length(context, i))
        at += arg_length(context, i)
    row[QUEUE_LENGTH] = end
    return size


@linked(void(CONTEXT, int64[::1], int64))
def queue_command(context, row, flags):  # type: ignore[no-untyped-def]
    """Append the command at hand, which has these flags, to the transaction, and answer +QUEUED."""
    size = keep_command(context, row)
    if size < 0:
        row[FLAGS] |= DIRTY_EXEC
        reply_error(context, OUT_OF_QUEUE)
        return
    row[QUEUE_COUNT] += 1
    row[QUEUE_FLAGS] |= flags
    if flags & WRITE:
        row[QUEUE_ARGUMENTS] += context.call[ARGC]
        row[QUEUE_BYTES] += size + (SKETCH_MAX if flags & ADDS_SKETCH else 0)
    reply_queued(context)


@kernel
def next_queued(context):  # type: ignore[no-untyped-def]
    """Make the next command of the transaction the command at hand; returns its row of the command table."""
    call, args = context.call, context.args
    start = call[QUEUE_POSITION]
    head = words_at(call[QUERY_ADDRESS] + start, 2)
    count = head[1]
    lengths = words_at(call[QUERY_ADDRESS] + start + 16, count)
    at, place = start + 16 + 8 * count, 2 * call[ARGS]
    for i in range(count):
        args[place] = at
        args[place + 1] = lengths[i]
        at += lengths[i]
        place += 2
    call[QUEUE_POSITION] = (at + 7) & ~7
    call[QUEUE_REMAINING] -= 1
    call[ARGC] = count
    call[COMMAND] = head[0]
    return head[0]


@kernel
def end_exec(context, row):  # type: ignore[no-untyped-def]
    """Return to the call of EXEC itself after its queue has run."""
    call_pop(context)
    context.call[DB], context.call[PROTOCOL] = row[DATABASE], row[SPEAKS]  # its commands may have changed them
    discard_transaction(context, row)


@linked(HANDLER)
def multi(context):  # type: ignore[no-untyped-def]
    """MULTI"""
    row = connection(context, context.call[CONNECTION])
    if row[FLAGS] & MULTI:
        reply_error(context, NESTED_MULTI)
    else:
        row[FLAGS] |= MULTI
        reply_ok(context)
    return 0


@kernel
def _can_run(context, row):  # type: ignore[no-untyped-def]
    # Whether the queue may be run: its whole need is reserved, or it can be undone.
    flags = row[QUEUE_FLAGS]
    if flags & (DENY_OOM | GROWS) == 0:
        return True
    if flags & GROWS == 0:
        if reserve_transaction(context, row[QUEUE_COUNT], row[QUEUE_ARGUMENTS], row[QUEUE_BYTES]):
            return True
    return undo_begin(context) == 1


@linked(void(CONTEXT, int64[::1]))
def refuse_exec(context, row):  # type: ignore[no-untyped-def]
    """Discard a transaction for want of frames: remove the replies of its commands, and reply with the error."""
    call = context.call
    start = call[REPLY_LENGTH] = call[COMMAND_REPLY]
    discard_transaction(context, row)
    reply_error(context, OUT_OF_FRAMES)
    prefix_error(context, start)


@linked(HANDLER)
def exec_(context):  # type: ignore[no-untyped-def]
    """EXEC"""
    call, shard = context.call, context.shard
    row = connection(context, call[CONNECTION])
    if row[FLAGS] & MULTI == 0:
        reply_error(context, EXEC_WITHOUT_MULTI)
    elif row[FLAGS] & DIRTY_EXEC:
        discard_transaction(context, row)
        reply_error(context, EXEC_ABORT)
    elif row[FLAGS] & DIRTY_CAS or watched_expired(context, row, shard[NOW_MS]):
        discard_transaction(context, row)
        reply_null_array(context)
    elif not _can_run(context, row):
        refuse_exec(context, row)
    else:
        unwatch_all(context, row)
        reply_array(context, row[QUEUE_COUNT])
        call_push(context)
        call[QUERY_ADDRESS] = row[QUEUE_ADDRESS]
        call[QUERY_SIZE] = row[QUEUE_LENGTH]
        call[QUEUE_POSITION] = 0
        call[QUEUE_REMAINING] = row[QUEUE_COUNT]
    return 0


@linked(HANDLER)
def discard(context):  # type: ignore[no-untyped-def]
    """DISCARD"""
    row = connection(context, context.call[CONNECTION])
    if row[FLAGS] & MULTI == 0:
        reply_error(context, DISCARD_WITHOUT_MULTI)
    else:
        discard_transaction(context, row)
        reply_ok(context)
    return 0


@linked(HANDLER)
def watch(context):  # type: ignore[no-untyped-def]
    """WATCH key [key ...]; a very long one takes several turns, so that other clients need not wait for all its keys"""
    call = context.call
    row = connection(context, call[CONNECTION])
    if row[FLAGS] & MULTI:
        reply_error(context, WATCH_IN_MULTI)
        return 0
    first = max(1, row[PART_DONE])
    # Each turn reads the whole command again, so the step must grow with its length.
    end = min(call[ARGC], first + max(WATCH_STEP, call[ARGC] >> 4))
    row[PART_DONE] = 0
    for i in range(first, end):
        key, key_size = argument(context, i)
        if row[FLAGS] & DIRTY_CAS:
            break
        hash_ = key_hash(context, key, key_size)
        deadline = key_deadline(context, key, key_size, hash_)
        if watch_add(context, call[CONNECTION], row[DATABASE], hash_, deadline) < 0:
            reply_error(context, OUT_OF_QUEUE)
            return 0
    if end < call[ARGC] and row[FLAGS] & DIRTY_CAS == 0:
        row[PART_DONE] = end
        return AGAIN
    reply_ok(context)
    return 0


@linked(HANDLER)
def unwatch(context):  # type: ignore[no-untyped-def]
    """UNWATCH"""
    row = connection(context, context.call[CONNECTION])
    unwatch_all(context, row)
    row[FLAGS] &= ~DIRTY_CAS
    reply_ok(context)
    return 0


_transactions = Family("transactions", "kvstore.commands")

COMMANDS = (
    Command(
        _transactions,
        "DISCARD",
        "Forgets the commands queued since MULTI.",
        since="2.0.0",
        cost="O(N) with N the number of commands queued",
        flags="noscript loading stale fast allow_busy",
        kernel="transactions:discard",
        loop=NOT_QUEUED | WITHOUT_STORE,  # a connection that has lost its store can end its transaction
    ),
    Command(
        _transactions,
        "EXEC",
        "Executes the commands queued since MULTI.",
        since="1.2.0",
        cost="Depends on the commands queued.",
        flags="noscript loading stale skip_slowlog",
        kernel="transactions:exec_",
        loop=NOT_QUEUED | IS_EXEC,
    ),
    Command(
        _transactions,
        "MULTI",
        "Begins a transaction: queues the commands that follow.",
        since="1.2.0",
        cost="O(1)",
        flags="noscript loading stale fast allow_busy",
        kernel="transactions:multi",
        loop=NOT_QUEUED,
    ),
    Command(
        _transactions,
        "UNWATCH",
        "Forgets which keys are watched.",
        since="2.2.0",
        cost="O(N) with N the number of keys watched",
        flags="noscript loading stale fast allow_busy",
        kernel="transactions:unwatch",
    ),
    Command(
        _transactions,
        "WATCH key [key ...]",
        "Has the next EXEC fail if one of these keys is changed before.",
        since="2.2.0",
        cost="O(1) for each key",
        flags="noscript loading stale fast allow_busy",
        keys="RO",
        kernel="transactions:watch",
        loop=NOT_QUEUED,
    ),
)
