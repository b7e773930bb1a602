"""Sending: at the end of a turn the replies go to their sockets, in the order in which commands were executed.

A turn first executes every ready command, and then sends all replies.  Changes are made durable between the two.  A
reply to another connection than the current one waits in the same list.

Bytes that a socket does not take become the connection's own output.
"""

from kvstore.connections.table import connection, drop, give_turn, grow
from kvstore.lifetimes.call import REPLY_ADDRESS, REPLY_BASE, REPLY_CAPACITY, REPLY_LENGTH
from kvstore.lifetimes.connection import (
    AUTHENTICATED,
    BYTES_OUT,
    CLOSE_AFTER_REPLY,
    FD,
    FLAGS,
    HELD,
    ID,
    IN_USE,
    KILLED,
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_LENGTH,
    OUTPUT_SOFT_SINCE_MS,
    OUTPUT_START,
    WAITING,
    WANTS_WRITE,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    NET_OUTPUT_BYTES,
    OUTPUT_HARD_LIMIT,
    OUTPUT_LIMIT_CLOSED,
    OUTPUT_SOFT_LIMIT,
    OUTPUT_SOFT_MS,
    REQUIRE_AUTH,
    SENDS,
    SENDS_ADDRESS,
    TIMER_MS,
    WANTING_WRITE,
)
from kvstore.lifetimes.sizes import SEND_WORDS, SENDS_MAX
from kvstore.net.epoll import poll_write, socket_send
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.resp import REPLY_CAPACITY_MIN, reply_reset
from mmcore.jit import copy_bytes, int64, kernel, linked, void

SEND_EARLY = 1 << 18  # [bytes] of replies that are sent before the turn ends
UNAUTHENTICATED_OUTPUT_MAX = 1024  # [bytes] of held replies; REPLY_BUFFER_SIZE_UNAUTHENTICATED_CLIENT


@kernel
def _ask_for_write(context, slot, row, wanted):  # type: ignore[no-untyped-def]
    if (row[FLAGS] & WANTS_WRITE != 0) == wanted:
        return
    row[FLAGS] ^= WANTS_WRITE
    context.shard[WANTING_WRITE] += 1 if wanted else -1
    poll_write(context, row[FD], slot, row[ID], wanted)


@kernel
def send_bytes(context, row, address, count):  # type: ignore[no-untyped-def]
    """Send as many bytes as the socket takes; returns how many, or -1 for a broken connection."""
    sent = socket_send(context, row[FD], address, count)
    if sent > 0:
        context.shard[NET_OUTPUT_BYTES] += sent
        row[BYTES_OUT] += sent
    return sent


@linked(void(CONTEXT, int64, int64[::1]))
def keep_output(context, slot, row):  # type: ignore[no-untyped-def]
    """Send the connection's own output, or hold it for EPOLLOUT; enforce the limits on held output."""
    shard = context.shard
    if row[FLAGS] & HELD:
        _ask_for_write(context, slot, row, False)
        return
    if row[OUTPUT_LENGTH] > row[OUTPUT_START]:
        pending = row[OUTPUT_LENGTH] - row[OUTPUT_START]
        sent = send_bytes(context, row, row[OUTPUT_ADDRESS] + row[OUTPUT_START], pending)
        if sent < 0:
            give_turn(context, slot, row, KILLED)
            return
        row[OUTPUT_START] += sent
    pending = row[OUTPUT_LENGTH] - row[OUTPUT_START]
    if pending == 0:
        row[OUTPUT_START] = row[OUTPUT_LENGTH] = row[OUTPUT_SOFT_SINCE_MS] = 0
        drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
        _ask_for_write(context, slot, row, False)
        if row[FLAGS] & CLOSE_AFTER_REPLY and row[WAITING] == 0:
            give_turn(context, slot, row, KILLED)
        return
    _ask_for_write(context, slot, row, True)
    too_much = shard[OUTPUT_HARD_LIMIT] > 0 and pending > shard[OUTPUT_HARD_LIMIT]
    if shard[REQUIRE_AUTH] and row[FLAGS] & AUTHENTICATED == 0 and pending > UNAUTHENTICATED_OUTPUT_MAX:
        too_much = True  # an unauthenticated client that does not read must not use memory
    if shard[OUTPUT_SOFT_LIMIT] > 0 and pending > shard[OUTPUT_SOFT_LIMIT]:
        if row[OUTPUT_SOFT_SINCE_MS] == 0:
            row[OUTPUT_SOFT_SINCE_MS] = shard[TIMER_MS]
        elif shard[TIMER_MS] - row[OUTPUT_SOFT_SINCE_MS] > shard[OUTPUT_SOFT_MS]:
            too_much = True
    else:
        row[OUTPUT_SOFT_SINCE_MS] = 0
    if too_much:
        shard[OUTPUT_LIMIT_CLOSED] += 1
        give_turn(context, slot, row, KILLED)


@linked(void(CONTEXT, int64, int64[::1], int64, int64))
def _deliver(context, slot, row, start, count):  # type: ignore[no-untyped-def]
    """Send `count` bytes of the reply buffer from `start`; unsent bytes become the connection's own output."""
    call, sent = context.call, 0
    if row[FLAGS] & KILLED:
        count = 0
    if count > 0 and row[OUTPUT_LENGTH] == row[OUTPUT_START] and row[FLAGS] & HELD == 0:
        sent = send_bytes(context, row, call[REPLY_ADDRESS] + start, count)
        if sent < 0:
            give_turn(context, slot, row, KILLED)
            sent = count
    if sent < count:
        if row[OUTPUT_LENGTH] == row[OUTPUT_START] and count >= REPLY_CAPACITY_MIN and call[REPLY_LENGTH] == count:
            # A long reply that is alone in the buffer is not copied: the connection takes over the buffer.
            drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
            row[OUTPUT_ADDRESS] = call[REPLY_ADDRESS]
            row[OUTPUT_CAPACITY] = call[REPLY_CAPACITY]
            row[OUTPUT_START] = sent
            row[OUTPUT_LENGTH] = count
            call[REPLY_ADDRESS] = call[REPLY_CAPACITY] = 0
        elif grow(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY, row[OUTPUT_LENGTH] + count - sent):
            out = bytes_at(row[OUTPUT_ADDRESS], row[OUTPUT_CAPACITY])
            reply = bytes_at(call[REPLY_ADDRESS], call[REPLY_CAPACITY])
            copy_bytes(out, row[OUTPUT_LENGTH], reply, start + sent, count - sent)
            row[OUTPUT_LENGTH] += count - sent
        else:
            give_turn(context, slot, row, KILLED)
        keep_output(context, slot, row)
    elif row[FLAGS] & CLOSE_AFTER_REPLY and row[WAITING] == 0 and row[OUTPUT_LENGTH] == row[OUTPUT_START]:
        give_turn(context, slot, row, KILLED)


@linked(void(CONTEXT))
def send_waiting(context):  # type: ignore[no-untyped-def]
    """Send all replies that wait for the end of the turn.  The buffer is left alone."""
    shard = context.shard
    for i in range(shard[SENDS]):
        record = words_at(shard[SENDS_ADDRESS] + i * SEND_WORDS * 8, SEND_WORDS)
        row = connection(context, record[0])
        if row[FLAGS] & IN_USE and row[ID] == record[1]:  # else the connection was closed meanwhile
            row[WAITING] -= 1
            _deliver(context, record[0], row, record[2], record[3])
    shard[SENDS] = 0


@linked(void(CONTEXT))
def send_all(context):  # type: ignore[no-untyped-def]
    """The end of a turn: send all replies, and empty the buffer.  No command may be at hand."""
    send_waiting(context)
    if context.call[REPLY_LENGTH] > 0:
        reply_reset(context)
    context.call[REPLY_BASE] = 0


@linked(void(CONTEXT, int64, int64[::1]))
def queue_reply(context, slot, row):  # type: ignore[no-untyped-def]
    """Let the replies of the connection at hand wait for the end of the turn, unless too many wait already."""
    call, shard = context.call, context.shard
    record = words_at(shard[SENDS_ADDRESS] + shard[SENDS] * SEND_WORDS * 8, SEND_WORDS)
    record[0], record[1] = slot, row[ID]
    record[2], record[3] = call[REPLY_BASE], call[REPLY_LENGTH] - call[REPLY_BASE]
    shard[SENDS] += 1
    row[WAITING] += 1
    call[REPLY_BASE] = call[REPLY_LENGTH]
    if shard[SENDS] == SENDS_MAX or call[REPLY_LENGTH] > SEND_EARLY:
        send_all(context)
