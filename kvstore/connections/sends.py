"""Bytes that wait for the end of a turn: replies, and messages to connections other than the one at hand.

A record names a piece of one of two buffers.  The records of a connection are linked, from SEND_FIRST to SEND_LAST of
its row, and net/output.py sends them together, in this order:

    SLOT, ID     of the connection: a record of one that was closed meanwhile is ignored
    KIND         REPLY: in the reply buffer; MESSAGE: in the buffer of messages.py; DEFERRED beside it
    START, SIZE  of the piece [bytes]
    NEXT         the connection's next record, plus 1; 0 for none

A message to a connection whose command is under way must not come before, or in the middle of, its reply.  It is
*deferred*, in a list of its own, until the command is over.

Memory is bounded: if there are too many records, or too many bytes in them, `spill` moves them to the connections' own
output, where the limits of client-output-buffer-limit hold.
"""

from kvstore.connections.pieces import output_waiting
from kvstore.connections.table import connection, give_turn, grow
from kvstore.lifetimes.call import REPLY_ADDRESS
from kvstore.lifetimes.connection import (
    DEFERRED_FIRST,
    DEFERRED_LAST,
    FLAGS,
    HELD,
    ID,
    IN_USE,
    KILLED,
    MONITOR_MODE,
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_LENGTH,
    OUTPUT_START,
    SEND_FIRST,
    SEND_LAST,
    SUBSCRIBER,
    TRACKING,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    MESSAGES_ADDRESS,
    MESSAGES_CAPACITY,
    MESSAGES_LENGTH,
    OUTPUT_HARD_LIMIT,
    OUTPUT_LIMIT_CLOSED,
    PUBSUB_HARD_LIMIT,
    SENDS,
    SENDS_ADDRESS,
    SENDS_DEFERRED,
)
from kvstore.lifetimes.sizes import SEND_WORDS, SENDS_MAX
from kvstore.system.libc import bytes_at, free, words_at
from mmcore.jit import copy_bytes, int64, kernel, linked, view, void

SLOT, IDENTITY, KIND, START, SIZE, NEXT = range(SEND_WORDS)
REPLY, MESSAGE, DEFERRED = 0, 1, 2
SEND_EARLY = 1 << 18  # [bytes] of replies, or of messages, that are sent before the turn ends
SENDS_EARLY = 2048  # records, likewise
MESSAGES_KEPT = 1 << 20  # [bytes] of the buffer of messages that stay when it is empty
MESSAGES_MAX = 1 << 26  # [bytes] of it that wait at once


@view
def send_at(context, number):  # type: ignore[no-untyped-def]
    """A record."""
    return words_at(context.shard[SENDS_ADDRESS] + number * SEND_WORDS * 8, SEND_WORDS)


@kernel
def is_first(record, row, number):  # type: ignore[no-untyped-def]
    """Whether this record, with this number, begins the list of a connection that is still there."""
    return row[ID] == record[IDENTITY] and row[FLAGS] & IN_USE != 0 and row[SEND_FIRST] == number + 1


@kernel
def piece_address(context, record):  # type: ignore[no-untyped-def]
    """Where the bytes of a record are, until its buffer grows."""
    base = context.shard[MESSAGES_ADDRESS] if record[KIND] & MESSAGE else context.call[REPLY_ADDRESS]
    return base + record[START]


@kernel
def hard_limit(context, row):  # type: ignore[no-untyped-def]
    """The most bytes that may wait in the connection's own output, 0 for no limit."""
    shard = context.shard
    return shard[PUBSUB_HARD_LIMIT] if row[FLAGS] & SUBSCRIBER else shard[OUTPUT_HARD_LIMIT]


@kernel
def exceeds_limit(context, row, count):  # type: ignore[no-untyped-def]
    """Whether so many more bytes that wait for the connection are more than its hard limit allows.

    A connection that is held has no limit for its own replies, but others may fill its output with messages.
    """
    limit, flags = hard_limit(context, row), row[FLAGS]
    if limit == 0 or (flags & HELD and flags & (SUBSCRIBER | TRACKING | MONITOR_MODE) == 0):
        return False
    return output_waiting(row) + count > limit


@linked(int64(CONTEXT, int64[::1], int64, int64))
def output_append(context, row, address, count):  # type: ignore[no-untyped-def]
    """Append bytes to the connection's own output: 1, or 0 when memory ran out."""
    start, pending = row[OUTPUT_START], row[OUTPUT_LENGTH] - row[OUTPUT_START]
    if start >= pending and row[OUTPUT_LENGTH] + count > row[OUTPUT_CAPACITY]:
        # Bytes that were sent make room: the buffer of a client that is always a little late must not grow for ever.
        out = bytes_at(row[OUTPUT_ADDRESS], row[OUTPUT_CAPACITY])
        copy_bytes(out, 0, out, start, pending)
        row[OUTPUT_START], row[OUTPUT_LENGTH] = 0, pending
    if not grow(context, row, OUTPUT_ADDRESS, OUTPUT_CAPACITY, row[OUTPUT_LENGTH] + count):
        return 0
    copy_bytes(bytes_at(row[OUTPUT_ADDRESS] + row[OUTPUT_LENGTH], count), 0, bytes_at(address, count), 0, count)
    row[OUTPUT_LENGTH] += count
    return 1


@linked(void(CONTEXT, int64, int64[::1], int64, int64, int64))
def send_put(context, slot, row, kind, start, count):  # type: ignore[no-untyped-def]
    """Let `count` bytes from `start` of a buffer wait for the connection.  SENDS_MAX must not have been reached."""
    shard = context.shard
    first, last = (DEFERRED_FIRST, DEFERRED_LAST) if kind & DEFERRED else (SEND_FIRST, SEND_LAST)
    if row[last] > 0:
        before = send_at(context, row[last] - 1)
        if before[KIND] == kind and before[START] + before[SIZE] == start:
            before[SIZE] += count
            return
    number = shard[SENDS]
    record = send_at(context, number)
    record[SLOT], record[IDENTITY], record[KIND], record[START], record[SIZE] = slot, row[ID], kind, start, count
    record[NEXT] = 0
    if row[last] > 0:
        send_at(context, row[last] - 1)[NEXT] = number + 1
    else:
        row[first] = number + 1
    row[last] = number + 1
    shard[SENDS] += 1
    if kind & DEFERRED:
        shard[SENDS_DEFERRED] += 1


@linked(void(CONTEXT, int64[::1]))
def undefer(context, row):  # type: ignore[no-untyped-def]
    """The connection's command is over, and its reply is a record: the deferred messages follow it."""
    number = row[DEFERRED_FIRST]
    if number == 0:
        return
    if row[SEND_LAST] > 0:
        send_at(context, row[SEND_LAST] - 1)[NEXT] = number
    else:
        row[SEND_FIRST] = number
    row[SEND_LAST] = row[DEFERRED_LAST]
    row[DEFERRED_FIRST] = row[DEFERRED_LAST] = 0
    while number > 0:
        record = send_at(context, number - 1)
        record[KIND] &= ~DEFERRED
        context.shard[SENDS_DEFERRED] -= 1
        number = record[NEXT]


@linked(void(CONTEXT, int64))
def sends_over(context, keep):  # type: ignore[no-untyped-def]
    """All records but the deferred ones have been dealt with: drop them; and, unless `keep`, the buffer of messages."""
    shard = context.shard
    kept, count = 0, shard[SENDS]
    if shard[SENDS_DEFERRED] > 0:
        for number in range(count):
            record = send_at(context, number)
            row = connection(context, record[SLOT])
            if record[KIND] & DEFERRED and row[ID] == record[IDENTITY]:
                row[DEFERRED_FIRST] = row[DEFERRED_LAST] = 0
        shard[SENDS] = shard[SENDS_DEFERRED] = 0
        for number in range(count):
            record = send_at(context, number)
            row = connection(context, record[SLOT])
            if record[KIND] & DEFERRED and row[ID] == record[IDENTITY]:
                send_put(context, record[SLOT], row, record[KIND], record[START], record[SIZE])
        kept = shard[SENDS]
    shard[SENDS] = kept
    if kept == 0 and keep == 0 and shard[MESSAGES_LENGTH] > 0:
        shard[MESSAGES_LENGTH] = 0
        if shard[MESSAGES_CAPACITY] > MESSAGES_KEPT:
            free(shard[MESSAGES_ADDRESS])
            shard[MESSAGES_ADDRESS] = shard[MESSAGES_CAPACITY] = 0


@kernel
def _spill_list(context, slot, row, number):  # type: ignore[no-untyped-def]
    # Move a connection's records to its own output.
    while number > 0 and row[FLAGS] & KILLED == 0:
        record = send_at(context, number - 1)
        number = record[NEXT]
        if exceeds_limit(context, row, record[SIZE]):
            context.shard[OUTPUT_LIMIT_CLOSED] += 1
            give_turn(context, slot, row, KILLED)
        elif output_append(context, row, piece_address(context, record), record[SIZE]) == 0:
            give_turn(context, slot, row, KILLED)
    give_turn(context, slot, row, 0)


@linked(void(CONTEXT, int64, int64[::1]))
def spill_own(context, slot, row):  # type: ignore[no-untyped-def]
    """Move all that waits for the end of the turn for one connection to its own output."""
    if row[SEND_FIRST] > 0:
        _spill_list(context, slot, row, row[SEND_FIRST])
        row[SEND_FIRST] = row[SEND_LAST] = 0


@linked(void(CONTEXT, int64))
def spill(context, keep):  # type: ignore[no-untyped-def]
    """Move all records to the connections' own output; these are looked at in the next turn.

    keep: the buffer of messages is not emptied, because somebody is to get a message in it.
    A connection is closed if its messages exceed its limit.  The same happens if its deferred ones alone are too many.
    """
    shard = context.shard
    for number in range(shard[SENDS]):
        record = send_at(context, number)
        row = connection(context, record[SLOT])
        if is_first(record, row, number):
            _spill_list(context, record[SLOT], row, row[SEND_FIRST])
            row[SEND_FIRST] = row[SEND_LAST] = 0
    sends_over(context, keep)
    if shard[SENDS] == SENDS_MAX or (keep == 0 and shard[MESSAGES_LENGTH] > MESSAGES_MAX):
        for number in range(shard[SENDS]):
            record = send_at(context, number)
            row = connection(context, record[SLOT])
            if row[FLAGS] & KILLED == 0:
                shard[OUTPUT_LIMIT_CLOSED] += 1
                give_turn(context, record[SLOT], row, KILLED)
            row[DEFERRED_FIRST] = row[DEFERRED_LAST] = 0
        shard[SENDS_DEFERRED] = 0
        sends_over(context, keep)
