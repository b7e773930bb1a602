"""Sending: at the end of a turn the replies go to their sockets, in the order in which commands were executed.

A turn first executes every ready command, and then sends all replies, and all messages to other connections.  Changes
are made durable between the two.  connections/sends.py keeps what waits, and all that waits for one connection is sent
by one system call.

Bytes that a socket does not take become the connection's own output.  A socket is not offered more than its part of
SEND_TURN in a turn: a client that receives as fast as the server sends would keep the loop at it to the end of a long
reply.
"""

from kvstore.connections.pieces import ADDRESS as PIECE_ADDRESS
from kvstore.connections.pieces import (
    END,
    FIRST,
    WAITING,
    has_output,
    may_send_output,
    node_at,
    output_waiting,
    piece_drop,
    pieces_of,
)
from kvstore.connections.pieces import START as PIECE_START
from kvstore.connections.sends import (
    KIND,
    NEXT,
    REPLY,
    SEND_EARLY,
    SENDS_EARLY,
    SIZE,
    SLOT,
    exceeds_limit,
    hard_limit,
    is_first,
    output_append,
    piece_address,
    send_at,
    send_put,
    sends_over,
    spill,
)
from kvstore.connections.table import connection, drop, give_turn
from kvstore.lifetimes.call import REPLY_ADDRESS, REPLY_BASE, REPLY_CAPACITY, REPLY_LENGTH
from kvstore.lifetimes.connection import (
    AUTHENTICATED,
    BYTES_OUT,
    CLOSE_AFTER_REPLY,
    FD,
    FLAGS,
    HELD,
    ID,
    KILLED,
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_LENGTH,
    OUTPUT_SOFT_SINCE_MS,
    OUTPUT_START,
    PIECES,
    REPLY_OFF,
    REPLY_SKIP,
    REPLY_SKIP_NEXT,
    SEND_FIRST,
    SEND_LAST,
    SUBSCRIBER,
    WANTS_WRITE,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CLIENT_BUFFERS,
    NET_OUTPUT_BYTES,
    OUTPUT_LIMIT_CLOSED,
    OUTPUT_SOFT_LIMIT,
    OUTPUT_SOFT_MS,
    PUBSUB_SOFT_LIMIT,
    PUBSUB_SOFT_MS,
    REQUIRE_AUTH,
    SENDS,
    TIMER_MS,
    WANTING_WRITE,
)
from kvstore.lifetimes.sizes import SENDS_MAX
from kvstore.net.epoll import IOV_MAX, poll_for, put_piece, socket_send, socket_send_pieces
from kvstore.wire.resp import REPLY_CAPACITY_MIN, reply_reset
from mmcore.jit import int64, kernel, linked, void

SEND_TURN = 1 << 20  # [bytes] that are sent in a turn to those who wait to send, in equal parts,
SEND_LEAST = 1 << 14  # but no smaller ones
UNAUTHENTICATED_OUTPUT_MAX = 1024  # [bytes] of held replies; REPLY_BUFFER_SIZE_UNAUTHENTICATED_CLIENT


@kernel
def _ask_for_write(context, slot, row, wanted):  # type: ignore[no-untyped-def]
    if (row[FLAGS] & WANTS_WRITE != 0) == wanted:
        return
    row[FLAGS] ^= WANTS_WRITE
    context.shard[WANTING_WRITE] += 1 if wanted else -1
    poll_for(context, row[FD], slot, row[ID], row[FLAGS])


@kernel
def send_share(context):  # type: ignore[no-untyped-def]
    """Bytes that one connection may send in this turn of what has waited."""
    return max(SEND_TURN // max(context.shard[WANTING_WRITE], 1), SEND_LEAST)


@kernel
def send_bytes(context, row, address, count):  # type: ignore[no-untyped-def]
    """Send as many bytes as the socket takes, and a turn may; returns how many, or -1 for a broken connection."""
    sent = socket_send(context, row[FD], address, min(count, send_share(context)))
    if sent > 0:
        context.shard[NET_OUTPUT_BYTES] += sent
        row[BYTES_OUT] += sent
    return sent


@linked(int64(CONTEXT, int64[::1]))
def _send_kept(context, row):  # type: ignore[no-untyped-def]
    """Send the connection's pieces, then its own output: 0, or -1 for a broken connection."""
    room, full = send_share(context), False
    while room > 0 and not full and row[PIECES] != 0 and pieces_of(row)[FIRST] != 0:
        node = node_at(pieces_of(row)[FIRST])
        count = min(node[END] - node[PIECE_START], room)
        sent = send_bytes(context, row, node[PIECE_ADDRESS] + node[PIECE_START], count)
        if sent < 0:
            return -1
        node[PIECE_START] += sent
        pieces_of(row)[WAITING] -= sent
        room -= sent
        full = sent < count
        if node[PIECE_START] == node[END]:
            piece_drop(context, row)
    count = min(row[OUTPUT_LENGTH] - row[OUTPUT_START], room)
    if count > 0 and not full and row[PIECES] == 0:
        sent = send_bytes(context, row, row[OUTPUT_ADDRESS] + row[OUTPUT_START], count)
        if sent < 0:
            return -1
        row[OUTPUT_START] += sent
    return 0


@linked(int64(CONTEXT, int64[::1], int64))
def _waits_too_long(context, row, pending):  # type: ignore[no-untyped-def]
    """Whether so many bytes that wait exceed the limits of the connection."""
    shard = context.shard
    hard, soft, soft_ms = hard_limit(context, row), shard[OUTPUT_SOFT_LIMIT], shard[OUTPUT_SOFT_MS]
    if row[FLAGS] & SUBSCRIBER:
        soft, soft_ms = shard[PUBSUB_SOFT_LIMIT], shard[PUBSUB_SOFT_MS]
    too_much = 0 < hard < pending
    if shard[REQUIRE_AUTH] and row[FLAGS] & AUTHENTICATED == 0 and pending > UNAUTHENTICATED_OUTPUT_MAX:
        too_much = True  # an unauthenticated client that does not read must not use memory
    if soft > 0 and pending > soft:
        if row[OUTPUT_SOFT_SINCE_MS] == 0:
            row[OUTPUT_SOFT_SINCE_MS] = shard[TIMER_MS]
        elif shard[TIMER_MS] - row[OUTPUT_SOFT_SINCE_MS] > soft_ms:
            too_much = True
    else:
        row[OUTPUT_SOFT_SINCE_MS] = 0
    return 1 if too_much else 0


@linked(void(CONTEXT, int64, int64[::1]))
def keep_output(context, slot, row):  # type: ignore[no-untyped-def]
    """Send what waits for the connection, or hold it for EPOLLOUT; enforce the limits on held output."""
    if row[FLAGS] & HELD:
        _ask_for_write(context, slot, row, False)
        return
    if _send_kept(context, row) < 0:
        give_turn(context, slot, row, KILLED)
        return
    if row[OUTPUT_LENGTH] == row[OUTPUT_START]:
        row[OUTPUT_START] = row[OUTPUT_LENGTH] = 0
        drop(context, row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
    _ask_for_write(context, slot, row, may_send_output(row))
    if not has_output(row):
        row[OUTPUT_SOFT_SINCE_MS] = 0
        if row[FLAGS] & CLOSE_AFTER_REPLY and row[SEND_FIRST] == 0:
            give_turn(context, slot, row, KILLED)
    elif _waits_too_long(context, row, output_waiting(row)):
        context.shard[OUTPUT_LIMIT_CLOSED] += 1
        give_turn(context, slot, row, KILLED)


@kernel
def _take_over_reply(context, row, record, sent):  # type: ignore[no-untyped-def]
    # A long reply that is alone in the buffer is not copied: the connection, which has no own output, takes it over.
    call = context.call
    drop(context, row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
    row[OUTPUT_ADDRESS], row[OUTPUT_CAPACITY] = call[REPLY_ADDRESS], call[REPLY_CAPACITY]
    row[OUTPUT_START], row[OUTPUT_LENGTH] = sent, record[SIZE]
    context.shard[CLIENT_BUFFERS] += row[OUTPUT_CAPACITY]
    call[REPLY_ADDRESS] = call[REPLY_CAPACITY] = 0


@kernel
def _send_list(context, row, number):  # type: ignore[no-untyped-def]
    # Send a connection's records, up to IOV_MAX of them by one system call; bytes that were sent, or -1.
    if send_at(context, number - 1)[NEXT] == 0:
        record = send_at(context, number - 1)
        return send_bytes(context, row, piece_address(context, record), record[SIZE])
    total = 0
    while number > 0:
        pieces, wanted = 0, 0
        while number > 0 and pieces < IOV_MAX:
            record = send_at(context, number - 1)
            put_piece(context, pieces, piece_address(context, record), record[SIZE])
            wanted += record[SIZE]
            pieces += 1
            number = record[NEXT]
        sent = socket_send_pieces(context, row[FD], pieces)
        if sent < 0:
            return sent
        context.shard[NET_OUTPUT_BYTES] += sent
        row[BYTES_OUT] += sent
        total += sent
        if sent < wanted:
            break
    return total


@linked(int64(CONTEXT, int64, int64[::1], int64, int64))
def _keep(context, slot, row, address, count):  # type: ignore[no-untyped-def]
    """Add bytes to the connection's own output: 1, or 0 if the connection is to be closed.

    Nothing is copied for a connection that is beyond its limit, so that very many of them need no memory.
    """
    if exceeds_limit(context, row, count):
        keep_output(context, slot, row)
        if row[FLAGS] & (KILLED | HELD) == 0 and not has_output(row):
            sent = send_bytes(context, row, address, count)
            address, count = address + max(0, sent), count - max(0, sent)
        if row[FLAGS] & KILLED or exceeds_limit(context, row, count):
            context.shard[OUTPUT_LIMIT_CLOSED] += row[FLAGS] & KILLED == 0
            give_turn(context, slot, row, KILLED)
            return 0
    if output_append(context, row, address, count) == 0:
        give_turn(context, slot, row, KILLED)
        return 0
    return 1


@linked(void(CONTEXT, int64, int64[::1]))
def _deliver(context, slot, row):  # type: ignore[no-untyped-def]
    """Send all that waits for a connection; unsent bytes become its own output."""
    call, sent = context.call, 0
    number = row[SEND_FIRST]
    row[SEND_FIRST] = row[SEND_LAST] = 0
    if row[FLAGS] & KILLED:
        return
    if not has_output(row) and row[FLAGS] & HELD == 0:
        sent = _send_list(context, row, number)
        if sent < 0:
            give_turn(context, slot, row, KILLED)
            return
    kept = False
    while number > 0:
        record = send_at(context, number - 1)
        number = record[NEXT]
        if sent >= record[SIZE]:
            sent -= record[SIZE]
            continue
        alone = number == 0 and record[KIND] == REPLY and call[REPLY_LENGTH] == record[SIZE] >= REPLY_CAPACITY_MIN
        if alone and row[OUTPUT_LENGTH] == row[OUTPUT_START]:
            _take_over_reply(context, row, record, sent)
        elif _keep(context, slot, row, piece_address(context, record) + sent, record[SIZE] - sent) == 0:
            return
        sent, kept = 0, True
    if kept:
        keep_output(context, slot, row)
    elif row[FLAGS] & CLOSE_AFTER_REPLY and not has_output(row):
        give_turn(context, slot, row, KILLED)


@linked(void(CONTEXT))
def send_waiting(context):  # type: ignore[no-untyped-def]
    """Send all replies and messages that wait for the end of the turn.  The reply buffer is left alone."""
    for number in range(context.shard[SENDS]):
        record = send_at(context, number)
        row = connection(context, record[SLOT])
        if is_first(record, row, number):
            _deliver(context, record[SLOT], row)
    sends_over(context, 0)


@linked(void(CONTEXT))
def send_all(context):  # type: ignore[no-untyped-def]
    """The end of a turn: send all replies, and empty the buffer.  No command may be at hand."""
    send_waiting(context)
    if context.call[REPLY_LENGTH] > 0:
        reply_reset(context)
    context.call[REPLY_BASE] = 0


@kernel
def takes_reply(row):  # type: ignore[no-untyped-def]
    """Whether the client wants the reply to its command, which is over: CLIENT REPLY."""
    wants = row[FLAGS] & (REPLY_OFF | REPLY_SKIP) == 0
    row[FLAGS] &= ~REPLY_SKIP
    if row[FLAGS] & REPLY_SKIP_NEXT:
        row[FLAGS] = (row[FLAGS] & ~REPLY_SKIP_NEXT) | REPLY_SKIP
    return wants


@kernel
def put_reply(context, slot, row):  # type: ignore[no-untyped-def]
    """Let the replies of the connection at hand wait for the end of the turn."""
    call = context.call
    if context.shard[SENDS] == SENDS_MAX:
        spill(context, 0)
    send_put(context, slot, row, REPLY, call[REPLY_BASE], call[REPLY_LENGTH] - call[REPLY_BASE])
    call[REPLY_BASE] = call[REPLY_LENGTH]


@linked(void(CONTEXT, int64, int64[::1]))
def queue_reply(context, slot, row):  # type: ignore[no-untyped-def]
    """Let the replies of the connection at hand wait for the end of the turn, unless too many wait already."""
    put_reply(context, slot, row)
    if context.shard[SENDS] >= SENDS_EARLY or context.call[REPLY_LENGTH] > SEND_EARLY:
        send_all(context)
