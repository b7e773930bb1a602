"""The table of connections: their buffers and flags, and opening them.

The table is int64[CONNECTION_CAPACITY, FIELDS].  Its first CONNECTION_SLOTS rows have been used, the others have never
been touched.  Slots are reused, ids are not.  An epoll event carries slot and id, so an event for a connection that has
closed meanwhile is recognised as stale.  An idle connection owns no buffer: it reads into the loop's shared buffer and
replies from the shared reply buffer.  Only leftovers, half a command or replies that the socket did not take, move to
buffers of its own.

A connection that the loop must look at without an event, to close it or to go on with its input, waits in a queue:
TURN_FIRST .. TURN_LAST, linked by NEXT_TURN, first come first served.

A connection can be held until a snapshot has ended: its replies are kept back, in order, and its further commands are
not executed.  No other connection waits.
"""

from kvstore.lifetimes.call import CONNECTION
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    CLOSE_AFTER_REPLY,
    CONTEXT_OF,
    CREATED_MS,
    FD,
    FIELDS,
    FLAGS,
    HELD,
    HELD_FOR,
    ID,
    IN_USE,
    KILLED,
    LAST_COMMAND,
    NEXT_FREE,
    NEXT_TURN,
    SCAN_ARGUMENTS,
    SPEAKS,
    WAITS_FOR_TURN,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    BLOCKED_CLIENTS,
    CLIENT_BUFFERS,
    CONNECTED_CLIENTS,
    CONNECTION_CAPACITY,
    CONNECTION_SLOTS,
    CONNECTIONS_ADDRESS,
    FREE_SLOT,
    TIMER_MS,
    TURN_FIRST,
    TURN_LAST,
    TURNS_PENDING,
)
from kvstore.lifetimes.store import CONTEXT_ADDRESS
from kvstore.system.libc import bytes_at, free, malloc, realloc, words_at
from mmcore.jit import copy_bytes, int64, kernel, linked, uint8, view, void


@view
def connection(context, slot):  # type: ignore[no-untyped-def]
    """The row of the connection in `slot`, int64[FIELDS]."""
    return words_at(context.shard[CONNECTIONS_ADDRESS] + slot * FIELDS * 8, FIELDS)


@kernel
def grow(context, row, address, capacity, needed):  # type: ignore[no-untyped-def]
    """Make the buffer whose address and capacity are these fields hold `needed` bytes; False when memory ran out."""
    if row[capacity] >= needed:
        return True
    size = max(needed, 2 * row[capacity], 1024)
    moved = realloc(row[address], size)
    if moved == 0:
        return False
    context.shard[CLIENT_BUFFERS] += size - row[capacity]
    row[address] = moved
    row[capacity] = size
    return True


@kernel
def drop(context, row, address, capacity):  # type: ignore[no-untyped-def]
    """Free a buffer."""
    context.shard[CLIENT_BUFFERS] -= row[capacity]
    free(row[address])
    row[address] = 0
    row[capacity] = 0


@kernel
def give_turn(context, slot, row, flags):  # type: ignore[no-untyped-def]
    """Set these flags and queue the connection, so that the loop looks at it before it waits again."""
    shard = context.shard
    if row[FLAGS] & WAITS_FOR_TURN == 0:
        row[NEXT_TURN] = -1
        if shard[TURNS_PENDING] == 0:
            shard[TURN_FIRST] = slot
        else:
            connection(context, shard[TURN_LAST])[NEXT_TURN] = slot
        shard[TURN_LAST] = slot
        shard[TURNS_PENDING] += 1
    row[FLAGS] |= WAITS_FOR_TURN | flags


@kernel
def take_turn(context):  # type: ignore[no-untyped-def]
    """Remove the connection that has waited longest for a turn from the queue; returns its slot.  One must wait."""
    shard = context.shard
    slot = shard[TURN_FIRST]
    row = connection(context, slot)
    shard[TURN_FIRST] = row[NEXT_TURN]
    shard[TURNS_PENDING] -= 1
    row[FLAGS] &= ~WAITS_FOR_TURN
    return slot


@linked(void(CONTEXT, int64))
def kill_connection(context, slot):  # type: ignore[no-untyped-def]
    """Close a connection: the one at hand after its reply, any other at the end of the turn."""
    row = connection(context, slot)
    if slot == context.call[CONNECTION]:
        row[FLAGS] |= CLOSE_AFTER_REPLY
    elif row[FLAGS] & KILLED == 0:
        give_turn(context, slot, row, KILLED)


@linked(int64(CONTEXT, int64))
def find_connection(context, identity):  # type: ignore[no-untyped-def]
    """The slot of the connection with this id, -1 for none, or for one that is about to be closed."""
    for slot in range(context.shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[ID] == identity and row[FLAGS] & (IN_USE | KILLED) == IN_USE:
            return slot
    return -1


@kernel
def text_length(address):  # type: ignore[no-untyped-def]
    """Length of a text that `set_text` stored, 0 for none [bytes]."""
    length = 0
    while address != 0 and bytes_at(address + length, 1)[0] != 0:
        length += 1
    return length


@linked(int64(CONTEXT, int64, int64, uint8[::1], int64))
def set_text(context, slot, field, text, count):  # type: ignore[no-untyped-def]
    """Store `count` bytes of `text`, none of them zero, as NAME, LIB_NAME or LIB_VER: 1, or 0 when memory ran out."""
    row = connection(context, slot)
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
def hold(context, row, number):  # type: ignore[no-untyped-def]
    """Keep back the reply to the command at hand, and all later ones, until the snapshot `number` has ended."""
    if row[FLAGS] & HELD == 0:
        context.shard[BLOCKED_CLIENTS] += 1
    row[FLAGS] |= HELD
    row[HELD_FOR] = number


@linked(int64(CONTEXT, int64))
def release_held(context, number):  # type: ignore[no-untyped-def]
    """Release the connections that are held for snapshots up to `number`; returns how many are still held."""
    shard = context.shard
    held = 0
    for slot in range(shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & HELD == 0:
            continue
        if row[HELD_FOR] > number:
            held += 1
            continue
        row[FLAGS] &= ~HELD
        row[ACTIVE_MS] = shard[TIMER_MS]  # the time in which it was held does not count as idle
        shard[BLOCKED_CLIENTS] -= 1
        give_turn(context, slot, row, 0)
    return held


@linked(int64(CONTEXT, int64, int64, int64, int64))
def open_connection(context, fd, identity, flags, now_ms):  # type: ignore[no-untyped-def]
    """Take a slot for a new connection; -1 when none is free."""
    shard = context.shard
    slot = shard[FREE_SLOT]
    if slot >= 0:
        shard[FREE_SLOT] = connection(context, slot)[NEXT_FREE]
    elif shard[CONNECTION_SLOTS] < shard[CONNECTION_CAPACITY]:
        slot = shard[CONNECTION_SLOTS]
        shard[CONNECTION_SLOTS] += 1
    else:
        return -1
    row = connection(context, slot)
    for i in range(FIELDS):
        row[i] = 0
    row[FD] = fd
    row[ID] = identity
    row[FLAGS] = IN_USE | flags
    row[SPEAKS] = 2
    row[CREATED_MS] = now_ms
    row[ACTIVE_MS] = now_ms
    row[SCAN_ARGUMENTS] = -1
    row[LAST_COMMAND] = -1
    row[CONTEXT_OF] = context.store[CONTEXT_ADDRESS]
    shard[CONNECTED_CLIENTS] += 1
    return slot
