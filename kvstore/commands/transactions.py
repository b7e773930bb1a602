"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

Commands between MULTI and EXEC are queued, serialised one behind the other in a buffer of the connection's:

    OFFSET      SIZE  DESCRIPTION
    0           8     row of the command table
    8           8     n, number of arguments
    16          8*n   their lengths
    16+8n       ...   their bytes, end to end, then padding to 8

EXEC only begins: it answers the header of the array and sets EXEC_REMAINING.  The loop then runs the queue with the
queue as its query buffer, and nothing else meanwhile, even when a command in it is one that Python serves.
"""

from kvstore.arguments import arg_length, arg_offset, query
from kvstore.connections import (
    DATABASE,
    DIRTY_CAS,
    DIRTY_EXEC,
    FLAGS,
    MULTI,
    QUEUE_ADDRESS,
    QUEUE_CAPACITY,
    QUEUE_COUNT,
    QUEUE_FLAGS,
    QUEUE_LENGTH,
    WATCH_COUNT,
    WATCH_DONE,
    WATCH_FIRST,
    connection,
    drop,
    grow,
)
from kvstore.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_WITHOUT_MULTI,
    NESTED_MULTI,
    OUT_OF_QUEUE,
    WATCH_IN_MULTI,
)
from kvstore.keyspace import key_deadline, key_hash
from kvstore.libc import bytes_at, words_at
from kvstore.resp import reply_array, reply_error, reply_null_array, reply_ok, reply_queued
from kvstore.state import (
    AGAIN,
    ARGC,
    COMMAND,
    CONNECTION,
    EXEC_POSITION,
    EXEC_REMAINING,
    EXEC_SAVED_ADDRESS,
    EXEC_SAVED_SIZE,
    HANDLER,
    NOW_MS,
    QUERY_ADDRESS,
    QUERY_SIZE,
    STORE,
)
from kvstore.watch import is_watched, unwatch_all, watch_add, watched_expired
from mmcore.jit import copy_bytes, int64, kernel, linked, void

WATCH_STEP = 8192  # keys that a WATCH looks up in a turn, or a part of a very long one


@linked(void(STORE, int64[::1]))
def discard_transaction(store, row):  # type: ignore[no-untyped-def]
    """Forget the queue and the watches; the connection is out of MULTI."""
    row[FLAGS] &= ~(MULTI | DIRTY_EXEC | DIRTY_CAS)
    row[QUEUE_LENGTH] = row[QUEUE_COUNT] = row[QUEUE_FLAGS] = 0
    drop(row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    unwatch_all(store, row, WATCH_FIRST, WATCH_COUNT)


@linked(void(STORE, int64[::1], int64))
def queue_command(store, row, flags):  # type: ignore[no-untyped-def]
    """Append the command at hand, of these flags, to the transaction, and answer +QUEUED."""
    server = store.server
    count, size = server[ARGC], 0
    for i in range(count):
        size += arg_length(store, i)
    start = row[QUEUE_LENGTH]
    end = start + 16 + 8 * count + ((size + 7) & ~7)
    if not grow(row, QUEUE_ADDRESS, QUEUE_CAPACITY, end):
        row[FLAGS] |= DIRTY_EXEC
        reply_error(store, OUT_OF_QUEUE)
        return
    head = words_at(row[QUEUE_ADDRESS] + start, 2 + count)
    head[0] = server[COMMAND]
    head[1] = count
    out, text = bytes_at(row[QUEUE_ADDRESS], row[QUEUE_CAPACITY]), query(store)
    at = start + 16 + 8 * count
    for i in range(count):
        head[2 + i] = arg_length(store, i)
        copy_bytes(out, at, text, arg_offset(store, i), arg_length(store, i))
        at += arg_length(store, i)
    row[QUEUE_LENGTH] = end
    row[QUEUE_COUNT] += 1
    row[QUEUE_FLAGS] |= flags
    reply_queued(store)


@kernel
def next_queued(store):  # type: ignore[no-untyped-def]
    """Make the next command of the transaction the command at hand; returns its row of the command table."""
    server, args = store.server, store.args
    start = server[EXEC_POSITION]
    head = words_at(server[QUERY_ADDRESS] + start, 2)
    count = head[1]
    lengths = words_at(server[QUERY_ADDRESS] + start + 16, count)
    at = start + 16 + 8 * count
    for i in range(count):
        args[2 * i] = at
        args[2 * i + 1] = lengths[i]
        at += lengths[i]
    server[EXEC_POSITION] = (at + 7) & ~7
    server[EXEC_REMAINING] -= 1
    server[ARGC] = count
    server[COMMAND] = head[0]
    return head[0]


@kernel
def end_exec(store, row):  # type: ignore[no-untyped-def]
    """Return to the query buffer that EXEC came from."""
    server = store.server
    server[QUERY_ADDRESS] = server[EXEC_SAVED_ADDRESS]
    server[QUERY_SIZE] = server[EXEC_SAVED_SIZE]
    server[EXEC_SAVED_ADDRESS] = 0
    discard_transaction(store, row)


@linked(HANDLER)
def multi(store):  # type: ignore[no-untyped-def]
    """MULTI"""
    row = connection(store, store.server[CONNECTION])
    if row[FLAGS] & MULTI:
        reply_error(store, NESTED_MULTI)
    else:
        row[FLAGS] |= MULTI
        reply_ok(store)
    return 0


@linked(HANDLER)
def exec_(store):  # type: ignore[no-untyped-def]
    """EXEC"""
    server = store.server
    row = connection(store, server[CONNECTION])
    if row[FLAGS] & MULTI == 0:
        reply_error(store, EXEC_WITHOUT_MULTI)
    elif row[FLAGS] & DIRTY_EXEC:
        discard_transaction(store, row)
        reply_error(store, EXEC_ABORT)
    elif row[FLAGS] & DIRTY_CAS or watched_expired(store, row[WATCH_FIRST], server[NOW_MS]):
        discard_transaction(store, row)
        reply_null_array(store)
    else:
        unwatch_all(store, row, WATCH_FIRST, WATCH_COUNT)
        reply_array(store, row[QUEUE_COUNT])
        server[EXEC_SAVED_ADDRESS] = server[QUERY_ADDRESS]
        server[EXEC_SAVED_SIZE] = server[QUERY_SIZE]
        server[QUERY_ADDRESS] = row[QUEUE_ADDRESS]
        server[QUERY_SIZE] = row[QUEUE_LENGTH]
        server[EXEC_POSITION] = 0
        server[EXEC_REMAINING] = row[QUEUE_COUNT]
    return 0


@linked(HANDLER)
def discard(store):  # type: ignore[no-untyped-def]
    """DISCARD"""
    row = connection(store, store.server[CONNECTION])
    if row[FLAGS] & MULTI == 0:
        reply_error(store, DISCARD_WITHOUT_MULTI)
    else:
        discard_transaction(store, row)
        reply_ok(store)
    return 0


@linked(HANDLER)
def watch(store):  # type: ignore[no-untyped-def]
    """WATCH key [key ...]; of very many keys some in each turn, so that nobody waits for all of them"""
    server = store.server
    row = connection(store, server[CONNECTION])
    if row[FLAGS] & MULTI:
        reply_error(store, WATCH_IN_MULTI)
        return 0
    first = max(1, row[WATCH_DONE])
    # Each turn reads the whole command again, so it must get on by a part of it, too.
    end = min(server[ARGC], first + max(WATCH_STEP, server[ARGC] >> 4))
    row[WATCH_DONE] = 0
    for i in range(first, end):
        if row[FLAGS] & DIRTY_CAS:
            break
        hash_ = key_hash(store, i)
        if not is_watched(store, server[CONNECTION], row[DATABASE], hash_):
            deadline = key_deadline(store, i, hash_)  # -1 without one, -2 without the key
            watched = watch_add(
                store, server[CONNECTION], row[WATCH_FIRST], row[DATABASE], hash_, max(deadline, 0), deadline != -2
            )
            if watched < 0:
                reply_error(store, OUT_OF_QUEUE)
                return 0
            row[WATCH_FIRST] = watched
            row[WATCH_COUNT] += 1
    if end < server[ARGC] and row[FLAGS] & DIRTY_CAS == 0:
        row[WATCH_DONE] = end
        return AGAIN
    reply_ok(store)
    return 0


@linked(HANDLER)
def unwatch(store):  # type: ignore[no-untyped-def]
    """UNWATCH"""
    row = connection(store, store.server[CONNECTION])
    unwatch_all(store, row, WATCH_FIRST, WATCH_COUNT)
    row[FLAGS] &= ~DIRTY_CAS
    reply_ok(store)
    return 0


HANDLERS = {b"MULTI": multi, b"EXEC": exec_, b"DISCARD": discard, b"WATCH": watch, b"UNWATCH": unwatch}
