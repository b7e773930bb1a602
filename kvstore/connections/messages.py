"""Messages: bytes for connections other than the one whose command is at hand.

    start = message_begin(context, protocol)
    ...                                        any reply_... function of wire/resp.py
    size = message_end(context, start)
    post(context, slot, start, size)           to each connection that gets it

A message is written once for all who get it: to the buffer at MESSAGES_ADDRESS, in place of the reply buffer.  Nothing
else may be replied to, and no command may run, between begin and end.  `post` leaves a record (sends.py), so a
connection gets its messages and its replies in the order in which they came to be.  A message to the connection at hand
itself, or to one whose command is under way around this one, goes behind its reply.

The bytes of a message stay where they are until the command is over, or `messages_bound` is called, which a command
that writes many messages does between two of them.
"""

from kvstore.connections.sends import DEFERRED, MESSAGE, MESSAGES_MAX, send_put, spill
from kvstore.connections.table import connection
from kvstore.lifetimes.call import (
    CALL_REGISTERS,
    CONNECTION,
    DEPTH,
    OUTER_PROTOCOL,
    PROTOCOL,
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
)
from kvstore.lifetimes.connection import AFTERWARDS, CLOSE_AFTER_REPLY, FLAGS, IN_USE, KILLED
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CALLS_ADDRESS,
    MESSAGES_ADDRESS,
    MESSAGES_CAPACITY,
    MESSAGES_LENGTH,
    SENDS,
)
from kvstore.lifetimes.sizes import SENDS_MAX
from kvstore.system.libc import words_at
from mmcore.jit import int64, kernel, linked, void


@kernel
def _exchange(context):  # type: ignore[no-untyped-def]
    # The reply buffer and the buffer of messages change places.
    call, shard = context.call, context.shard
    call[REPLY_ADDRESS], shard[MESSAGES_ADDRESS] = shard[MESSAGES_ADDRESS], call[REPLY_ADDRESS]
    call[REPLY_CAPACITY], shard[MESSAGES_CAPACITY] = shard[MESSAGES_CAPACITY], call[REPLY_CAPACITY]
    call[REPLY_LENGTH], shard[MESSAGES_LENGTH] = shard[MESSAGES_LENGTH], call[REPLY_LENGTH]


@linked(int64(CONTEXT, int64))
def message_begin(context, protocol):  # type: ignore[no-untyped-def]
    """Begin a message in this protocol; returns where it begins."""
    call = context.call
    _exchange(context)
    call[OUTER_PROTOCOL], call[PROTOCOL] = call[PROTOCOL], protocol
    return call[REPLY_LENGTH]


@linked(int64(CONTEXT, int64))
def message_end(context, start):  # type: ignore[no-untyped-def]
    """End the message that began at `start`; returns its size."""
    call = context.call
    size = call[REPLY_LENGTH] - start
    call[PROTOCOL] = call[OUTER_PROTOCOL]
    _exchange(context)
    return size


@kernel
def messages_bound(context):  # type: ignore[no-untyped-def]
    """Before another message: if too many bytes wait, move them to the connections' own output."""
    if context.shard[MESSAGES_LENGTH] > MESSAGES_MAX:
        spill(context, 0)


@kernel
def _is_under_way(context, slot):  # type: ignore[no-untyped-def]
    # Whether a command of this connection is at hand, or around the one at hand.
    call = context.call
    if call[CONNECTION] == slot:
        return True
    for depth in range(call[DEPTH]):
        if words_at(context.shard[CALLS_ADDRESS] + depth * CALL_REGISTERS * 8, CALL_REGISTERS)[CONNECTION] == slot:
            return True
    return False


@linked(void(CONTEXT, int64, int64, int64))
def post(context, slot, start, size):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` have a message.  Nothing is sent to one that is about to be closed."""
    row = connection(context, slot)
    if row[FLAGS] & (IN_USE | KILLED | CLOSE_AFTER_REPLY) != IN_USE:
        return
    if context.shard[SENDS] == SENDS_MAX:
        spill(context, 1)
    if _is_under_way(context, slot):
        send_put(context, slot, row, MESSAGE | DEFERRED, start, size)
        row[FLAGS] |= AFTERWARDS
    else:
        send_put(context, slot, row, MESSAGE, start, size)
