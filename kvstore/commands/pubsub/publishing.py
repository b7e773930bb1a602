"""PUBLISH and SPUBLISH.

In a transaction that may be undone a message waits with the other effects (effects/pending.py), so that its place among
them is right, and that nothing is heard of a transaction that never was.
"""

from kvstore.effects.events import PUBLISHED
from kvstore.effects.pending import pending_put
from kvstore.effects.publishing import publish, receivers
from kvstore.effects.subscriptions import CHANNEL, SHARD_CHANNEL, table_of
from kvstore.lifetimes.context import HANDLER
from kvstore.lifetimes.store import UNDO_ROOT
from kvstore.wire.arguments import argument
from kvstore.wire.resp import reply_integer
from mmcore.jit import kernel, linked


@kernel
def _publish(context, kind):  # type: ignore[no-untyped-def]
    name, name_size = argument(context, 1)
    text, text_size = argument(context, 2)
    table = table_of(context, kind)
    if context.store[UNDO_ROOT] >= 0:
        assert text == name + name_size, "arguments in a transaction's queue lie end to end"
        reply_integer(context, receivers(context, table, name, name_size))
        pending_put(context, PUBLISHED, kind, name, name_size + text_size, name_size)
    else:
        reply_integer(context, publish(context, table, name, name_size, text, text_size))
    return 0


@linked(HANDLER)
def publish_(context):  # type: ignore[no-untyped-def]
    """PUBLISH channel message"""
    return _publish(context, CHANNEL)


@linked(HANDLER)
def spublish(context):  # type: ignore[no-untyped-def]
    """SPUBLISH shardchannel message"""
    return _publish(context, SHARD_CHANNEL)
