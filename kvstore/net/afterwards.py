"""After a command: what it caused for others, or for its own connection, and what had to wait for its reply.

The flag AFTERWARDS of the connection says that there is something to do, so that most commands pay nothing for it:

    1   messages to the connection itself follow the reply
    2   keys that other clients wait for are served (serving.py)
    3   if very many messages wait, they are sent before the turn ends

A step may cause another, so they are repeated until nothing is left.
"""

from kvstore.connections.sends import SEND_EARLY, SENDS_EARLY, undefer
from kvstore.lifetimes.call import REPLY_BASE, REPLY_LENGTH
from kvstore.lifetimes.connection import AFTERWARDS, DEFERRED_FIRST, FLAGS
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import MESSAGES_LENGTH, SENDS
from kvstore.net.output import put_reply, send_waiting
from kvstore.net.serving import has_waiting, serve_waiting
from mmcore.jit import int64, linked, void


@linked(void(CONTEXT, int64, int64[::1]))
def afterwards(context, slot, row):  # type: ignore[no-untyped-def]
    """Do what is to be done after a command of the connection in `slot`, which has been answered."""
    call, shard = context.call, context.shard
    while row[FLAGS] & AFTERWARDS:
        row[FLAGS] &= ~AFTERWARDS
        if row[DEFERRED_FIRST] > 0:
            if call[REPLY_LENGTH] > call[REPLY_BASE]:
                put_reply(context, slot, row)
            undefer(context, row)
        if has_waiting(context):
            if call[REPLY_LENGTH] > call[REPLY_BASE]:
                put_reply(context, slot, row)
            serve_waiting(context)
    if shard[MESSAGES_LENGTH] > SEND_EARLY or shard[SENDS] >= SENDS_EARLY:
        send_waiting(context)
