"""Connections: the table of them, their buffers and flags, how one opens and closes.

The table is int64[CONNECTION_CAPACITY, FIELDS], of which the first CONNECTION_SLOTS rows have been used and the others
have never been touched; a slot is reused, an id never.  An epoll event carries slot and id, so one that was
already on its way for a connection that has closed is known for stale.  A connection that waits for nothing owns no
buffer: it reads into the loop's shared one and replies out of the shared reply buffer; only what is left over, half a
command or replies that the socket did not take, moves to buffers of its own.
"""

import mmap

import numpy as np
from numba import int64, void

from kvstore.libc import bytes_at, close, free, realloc, words_at
from kvstore.state import (
    BLOCKED_CLIENTS,
    CONNECTED_CLIENTS,
    CONNECTION_CAPACITY,
    CONNECTION_SLOTS,
    CONNECTIONS_ADDRESS,
    FREE_SLOT,
    STORE,
    TURNS_PENDING,
)
from kvstore.watch import ROW_DIRTY_CAS, ROW_FLAGS, ROW_WORDS, unwatch_all
from mmcore.jit import copy_bytes, kernel, linked, view

(
    FD,
    ID,
    FLAGS,
    DATABASE,
    SPEAKS,  # protocol, 2 or 3
    CREATED_MS,  # by the monotonic clock, as all times here
    ACTIVE_MS,  # last time something was received
    # bytes received and not yet executed
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    SCAN_POSITION,  # of an unfinished command: how far it has been scanned,
    SCAN_ARGUMENTS,  # and how many of its arguments are still to come (-1: not begun)
    # replies that the socket has not taken yet
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_START,
    OUTPUT_LENGTH,  # end of the pending bytes, which begin at OUTPUT_START
    OUTPUT_SOFT_SINCE_MS,  # since when they have been above the soft limit
    # commands queued since MULTI, serialised by transactions.py
    QUEUE_ADDRESS,
    QUEUE_CAPACITY,
    QUEUE_LENGTH,
    QUEUE_COUNT,
    QUEUE_FLAGS,  # of all commands queued, together
    WATCH_FIRST,  # first of the connection's watches, -1 for none
    WATCH_COUNT,
    LAST_COMMAND,  # row of the command table
    NEXT_FREE,  # while the slot is free: the next free slot
    COMMANDS,  # executed
    BYTES_IN,
    BYTES_OUT,
    # the name that CLIENT SETNAME gave it
    NAME_ADDRESS,
    NAME_CAPACITY,
    NAME_LENGTH,
    BLOCKED_UNTIL_MS,  # while BLOCKED, by the monotonic clock; a command that blocks leaves its time-out here, or 0
    FIELDS,
) = range(34)

IN_USE = 1 << 0
AUTHENTICATED = 1 << 1
MULTI = 1 << 2
DIRTY_EXEC = 1 << 3  # a command was refused while queueing: EXEC aborts
DIRTY_CAS = 1 << 4  # a watched key was changed: EXEC answers null
CLOSE_AFTER_REPLY = 1 << 5
REPLY_OFF = 1 << 6
REPLY_SKIP = 1 << 7  # no reply to the command at hand
REPLY_SKIP_NEXT = 1 << 8  # nor to the next one
NO_TOUCH_MODE = 1 << 9
NO_EVICT = 1 << 10
UNIX_SOCKET = 1 << 11
POSTPONED = 1 << 12  # CLIENT PAUSE holds its next command back
WANTS_WRITE = 1 << 13  # EPOLLOUT is asked for
KILLED = 1 << 14  # to be closed at the end of the turn
WAITS_FOR_TURN = 1 << 15  # the loop is to look at it in this turn without an event: see `give_turn`
BLOCKED = 1 << 17  # waits in a command; what it sends meanwhile is kept
UNBLOCKED = 1 << 18  # BLOCKED, and has waited long enough: its next turn answers
UNBLOCKED_BY_ERROR = 1 << 19  # likewise, with an error: CLIENT UNBLOCK asked for that

assert (ROW_WORDS, ROW_FLAGS, ROW_DIRTY_CAS) == (FIELDS, FLAGS, DIRTY_CAS)


def connection_table(capacity: int) -> np.ndarray:
    """Address space for `capacity` connections, int64[capacity, FIELDS], of zeros.  Raises OSError."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return np.frombuffer(mmap.mmap(-1, capacity * FIELDS * 8, flags=flags), np.int64).reshape(capacity, FIELDS)


@view
def connection(store, slot):  # type: ignore[no-untyped-def]
    """The row of the connection in `slot`, int64[FIELDS]."""
    return words_at(store.server[CONNECTIONS_ADDRESS] + slot * FIELDS * 8, FIELDS)


@kernel
def grow(row, address, capacity, needed):  # type: ignore[no-untyped-def]
    """Make the buffer whose address and capacity are these fields hold `needed` bytes; False when memory ran out."""
    if row[capacity] >= needed:
        return True
    size = max(needed, 2 * row[capacity], 1024)
    moved = realloc(row[address], size)
    if moved == 0:
        return False
    row[address] = moved
    row[capacity] = size
    return True


@kernel
def drop(row, address, capacity):  # type: ignore[no-untyped-def]
    """Give a buffer back."""
    free(row[address])
    row[address] = 0
    row[capacity] = 0


@kernel
def give_turn(store, row, flags):  # type: ignore[no-untyped-def]
    """Have the loop look at a connection before it waits again, with these flags set."""
    if row[FLAGS] & WAITS_FOR_TURN == 0:
        store.server[TURNS_PENDING] += 1
    row[FLAGS] |= WAITS_FOR_TURN | flags


@linked(void(int64[::1], int64, int64))
def keep_name(row, address, length):  # type: ignore[no-untyped-def]
    """Keep these bytes as the connection's name, where kernels find it; no name when memory ran out."""
    row[NAME_LENGTH] = length if grow(row, NAME_ADDRESS, NAME_CAPACITY, length) else 0
    if row[NAME_LENGTH] == 0:
        drop(row, NAME_ADDRESS, NAME_CAPACITY)
    else:
        copy_bytes(bytes_at(row[NAME_ADDRESS], length), 0, bytes_at(address, length), 0, length)


@linked(int64(STORE, int64, int64, int64, int64))
def open_connection(store, fd, identity, flags, now_ms):  # type: ignore[no-untyped-def]
    """Take a slot for a new connection; -1 when none is free."""
    server = store.server
    slot = server[FREE_SLOT]
    if slot >= 0:
        server[FREE_SLOT] = connection(store, slot)[NEXT_FREE]
    elif server[CONNECTION_SLOTS] < server[CONNECTION_CAPACITY]:
        slot = server[CONNECTION_SLOTS]
        server[CONNECTION_SLOTS] += 1
    else:
        return -1
    row = connection(store, slot)
    for i in range(FIELDS):
        row[i] = 0
    row[FD] = fd
    row[ID] = identity
    row[FLAGS] = IN_USE | flags
    row[SPEAKS] = 2
    row[CREATED_MS] = now_ms
    row[ACTIVE_MS] = now_ms
    row[SCAN_ARGUMENTS] = -1
    row[WATCH_FIRST] = -1
    row[LAST_COMMAND] = -1
    server[CONNECTED_CLIENTS] += 1
    return slot


@linked(void(STORE, int64))
def close_connection(store, slot):  # type: ignore[no-untyped-def]
    """Close a connection and give back all it holds."""
    server = store.server
    row = connection(store, slot)
    assert row[FLAGS] & IN_USE != 0, "a connection is closed twice"
    unwatch_all(store, row, WATCH_FIRST, WATCH_COUNT)
    close(row[FD])
    drop(row, INPUT_ADDRESS, INPUT_CAPACITY)
    drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
    drop(row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    drop(row, NAME_ADDRESS, NAME_CAPACITY)
    if row[FLAGS] & WAITS_FOR_TURN:
        server[TURNS_PENDING] -= 1
    if row[FLAGS] & (POSTPONED | BLOCKED):
        server[BLOCKED_CLIENTS] -= 1
    row[FLAGS] = 0
    row[FD] = -1
    row[NEXT_FREE] = server[FREE_SLOT]
    server[FREE_SLOT] = slot
    server[CONNECTED_CLIENTS] -= 1
