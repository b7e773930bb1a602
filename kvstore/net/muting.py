"""A connection that waits for a turn is not asked for more input.

Input that nobody reads yet makes epoll return at once, turn after turn.  While all connections that want a turn rest,
such as those that wait for fresh memory (store/fresh.py), the loop would spin instead of sleeping.  So a connection is
muted when an event tells of such input, and is asked again when its turn comes.  That its client has gone is told of
once meanwhile, and again then.
"""

from kvstore.lifetimes.connection import FD, FLAGS, ID, MUTED
from kvstore.lifetimes.context import CONTEXT
from kvstore.net.epoll import poll_for
from mmcore.jit import int64, linked, void


@linked(void(CONTEXT, int64, int64[::1]))
def mute(context, slot, row):  # type: ignore[no-untyped-def]
    """There is input, and the connection waits for a turn."""
    row[FLAGS] |= MUTED
    poll_for(context, row[FD], slot, row[ID], row[FLAGS])


@linked(void(CONTEXT, int64, int64[::1]))
def unmute(context, slot, row):  # type: ignore[no-untyped-def]
    """A muted connection has its turn."""
    row[FLAGS] &= ~MUTED
    poll_for(context, row[FD], slot, row[ID], row[FLAGS])
