"""Connections: the table of them, their buffers and flags, how one opens and closes.

The table is int64[CONNECTION_CAPACITY, FIELDS], of which the first CONNECTION_SLOTS rows have been used and the others
have never been touched; a slot is reused, an id never.  An epoll event carries slot and id, so one that was
already on its way for a connection that has closed is known for stale.  A connection that waits for nothing owns no
buffer: it reads into the loop's shared one and replies out of the shared reply buffer; only what is left over, half a
command or replies that the socket did not take, moves to buffers of its own.

A connection that the loop must look at without an event, to close it or to go on with its input, waits in a queue:
TURN_FIRST .. TURN_LAST, linked by NEXT_TURN, first come first served.

A connection can be held until a snapshot has ended: then its replies are kept back, in order, and what else it sends is
not executed.  Nobody else waits.
"""

from kvstore.libc import bytes_at, close, free, malloc, realloc, words_at
from kvstore.state import (
    BLOCKED_CLIENTS,
    CONNECTED_CLIENTS,
    CONNECTION,
    CONNECTION_CAPACITY,
    CONNECTION_SLOTS,
    CONNECTIONS_ADDRESS,
    FREE_SLOT,
    STORE,
    TIMER_MS,
    TURN_FIRST,
    TURN_LAST,
    TURNS_PENDING,
)
from kvstore.watch import ROW_DIRTY_CAS, ROW_FLAGS, ROW_WORDS, unwatch_all
from mmcore.jit import Table, copy_bytes, int64, kernel, linked, uint8, view, void

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
    INPUT_START,
    INPUT_LENGTH,  # end of these bytes, which begin at INPUT_START
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
    WATCH_DONE,  # the argument that a WATCH under way goes on with in its next turn, 0 for none
    LAST_COMMAND,  # row of the command table
    NEXT_FREE,  # while the slot is free: the next free slot
    NEXT_TURN,  # while it waits for a turn: the slot behind it, -1 for none
    COMMANDS,  # executed
    BYTES_IN,
    BYTES_OUT,
    BLOCKED_UNTIL_MS,  # while BLOCKED, by the monotonic clock; a command that blocks leaves its time-out here, or 0
    HELD_FOR,  # number of the snapshot that it is held for, while HELD
    # what the client says of itself: addresses of texts that end with a zero byte, 0 for none
    NAME,
    LIB_NAME,
    LIB_VER,
    PEER,  # the client's address and our own, as struct sockaddr: the first ADDRESS_WORDS words of it each
) = range(38)
ADDRESS_WORDS = 4  # a sockaddr_in6 has 28 bytes
OWN = PEER + ADDRESS_WORDS
FIELDS = OWN + ADDRESS_WORDS

IN_USE = 1 << 0
AUTHENTICATED = 1 << 1
MULTI = 1 << 2
DIRTY_EXEC = 1 << 3  # a command was refused while queueing: EXEC aborts
DIRTY_CAS = 1 << 4  # a watched key was changed: EXEC answers null
CLOSE_AFTER_REPLY = 1 << 5
REPLY_OFF = 1 << 6
REPLY_SKIP = 1 << 7  # no reply to the command at hand
REPLY_SKIP_NEXT = 1 << 8  # nor to the next one
NEVER = 0x7FFF_FFFF_FFFF_FFFF  # a deadline
NO_TOUCH_MODE = 1 << 9
NO_EVICT = 1 << 10
UNIX_SOCKET = 1 << 11
POSTPONED = 1 << 12  # CLIENT PAUSE holds its next command back
WANTS_WRITE = 1 << 13  # EPOLLOUT is asked for
KILLED = 1 << 14  # to be closed at the end of the turn
WAITS_FOR_TURN = 1 << 15  # the loop is to look at it in this turn without an event: see `give_turn`
HELD = 1 << 16  # until the snapshot numbered HELD_FOR has ended: see `hold`
BLOCKED = 1 << 17  # waits in a command; what it sends meanwhile is kept
UNBLOCKED = 1 << 18  # BLOCKED, and has waited long enough: its next turn answers
UNBLOCKED_BY_ERROR = 1 << 19  # likewise, with an error: CLIENT UNBLOCK asked for that

assert (ROW_WORDS, ROW_FLAGS, ROW_DIRTY_CAS) == (FIELDS, FLAGS, DIRTY_CAS)


def connection_table(capacity: int) -> Table:
    """Address space for `capacity` connections, a row each.  Raises OSError."""
    return Table(capacity, FIELDS)


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
def give_turn(store, slot, row, flags):  # type: ignore[no-untyped-def]
    """Have the loop look at a connection before it waits again, with these flags set."""
    server = store.server
    if row[FLAGS] & WAITS_FOR_TURN == 0:
        row[NEXT_TURN] = -1
        if server[TURNS_PENDING] == 0:
            server[TURN_FIRST] = slot
        else:
            connection(store, server[TURN_LAST])[NEXT_TURN] = slot
        server[TURN_LAST] = slot
        server[TURNS_PENDING] += 1
    row[FLAGS] |= WAITS_FOR_TURN | flags


@kernel
def take_turn(store):  # type: ignore[no-untyped-def]
    """The slot of the connection that has waited longest for a turn; it waits no more.  There must be one."""
    server = store.server
    slot = server[TURN_FIRST]
    row = connection(store, slot)
    server[TURN_FIRST] = row[NEXT_TURN]
    server[TURNS_PENDING] -= 1
    row[FLAGS] &= ~WAITS_FOR_TURN
    return slot


@linked(void(STORE, int64))
def kill_connection(store, slot):  # type: ignore[no-untyped-def]
    """Close a connection: the one at hand after its reply, any other at the end of the turn."""
    row = connection(store, slot)
    if slot == store.server[CONNECTION]:
        row[FLAGS] |= CLOSE_AFTER_REPLY
    elif row[FLAGS] & KILLED == 0:
        give_turn(store, slot, row, KILLED)


@linked(int64(STORE, int64, int64))
def unblock_connection(store, slot, error):  # type: ignore[no-untyped-def]
    """End the wait of a connection in a command, with an error or as if its time were over: 1, or 0 if it waits not."""
    row = connection(store, slot)
    if row[FLAGS] & (BLOCKED | UNBLOCKED) != BLOCKED:
        return 0
    give_turn(store, slot, row, UNBLOCKED | (UNBLOCKED_BY_ERROR if error else 0))
    return 1


@kernel
def text_length(address):  # type: ignore[no-untyped-def]
    """Length of a text that `set_text` keeps, 0 of none [bytes]."""
    length = 0
    while address != 0 and bytes_at(address + length, 1)[0] != 0:
        length += 1
    return length


@linked(int64(STORE, int64, int64, uint8[::1], int64))
def set_text(store, slot, field, text, count):  # type: ignore[no-untyped-def]
    """Keep `count` bytes of `text`, none of them zero, as NAME, LIB_NAME or LIB_VER: 1, or 0 when memory ran out."""
    row = connection(store, slot)
    kept = 0
    if count > 0:
        kept = malloc(count + 1)
        if kept == 0:
            return 0
        room = bytes_at(kept, count + 1)
        copy_bytes(room, 0, text, 0, count)
        room[count] = 0
    free(row[field])
    row[field] = kept
    return 1


@kernel
def hold(store, row, number):  # type: ignore[no-untyped-def]
    """Keep back the reply to the command at hand, and all that follows, until the snapshot `number` has ended."""
    if row[FLAGS] & HELD == 0:
        store.server[BLOCKED_CLIENTS] += 1
    row[FLAGS] |= HELD
    row[HELD_FOR] = number


@linked(int64(STORE, int64))
def release_held(store, number):  # type: ignore[no-untyped-def]
    """Let the connections go on that are held for snapshots up to `number`; returns how many still are held."""
    server = store.server
    held = 0
    for slot in range(server[CONNECTION_SLOTS]):
        row = connection(store, slot)
        if row[FLAGS] & HELD == 0:
            continue
        if row[HELD_FOR] > number:
            held += 1
            continue
        row[FLAGS] &= ~HELD
        row[ACTIVE_MS] = server[TIMER_MS]  # the time it was held does not count as idle
        server[BLOCKED_CLIENTS] -= 1
        give_turn(store, slot, row, 0)
    return held


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
    """Close a connection, which waits for no turn, and give back all it holds."""
    server = store.server
    row = connection(store, slot)
    assert row[FLAGS] & IN_USE != 0, "a connection is closed twice"
    unwatch_all(store, row, WATCH_FIRST, WATCH_COUNT)
    close(row[FD])
    drop(row, INPUT_ADDRESS, INPUT_CAPACITY)
    drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
    drop(row, QUEUE_ADDRESS, QUEUE_CAPACITY)
    for field in range(NAME, LIB_VER + 1):
        free(row[field])
    if row[FLAGS] & (POSTPONED | BLOCKED | HELD):
        server[BLOCKED_CLIENTS] -= 1
    row[FLAGS] = 0
    row[FD] = -1
    row[NEXT_FREE] = server[FREE_SLOT]
    server[FREE_SLOT] = slot
    server[CONNECTED_CLIENTS] -= 1
