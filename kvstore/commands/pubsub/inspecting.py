"""PUBSUB: which channels have subscribers, and how many."""

from typing import TYPE_CHECKING

from kvstore.commands.refusals import unknown_subcommand_or_arity
from kvstore.connections.interests import COUNT, NAME, SIZE, topic_after, topic_at, topic_count, topic_find, topic_first
from kvstore.effects.subscriptions import CHANNEL, PATTERN, SHARD_CHANNEL, name_hash, table_of
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, is_word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import OUT_OF_PATTERN
from kvstore.wire.glob import glob_close, glob_match, glob_open
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_integer, reply_truncate
from mmcore.jit import constant, int64, linked, void

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server
    from kvstore.wire.reply import Reply

_CHANNELS, _NUMSUB, _NUMPAT, _SHARDCHANNELS, _SHARDNUMSUB = (
    constant(word) for word in (b"CHANNELS", b"NUMSUB", b"NUMPAT", b"SHARDCHANNELS", b"SHARDNUMSUB")
)


@linked(void(CONTEXT, int64))
def _channels(context, kind):  # type: ignore[no-untyped-def]
    """Reply with the names that have a subscriber, those that match the pattern if one is given."""
    table, glob = table_of(context, kind), 0
    if context.call[ARGC] == 3:
        pattern, size = argument(context, 2)
        glob = glob_open(pattern, size, 0)
        if glob == 0:
            reply_error(context, OUT_OF_PATTERN)
            return
    start = begin_array(context)
    count, topic = 0, topic_first(table)
    while topic >= 0:
        row = topic_at(table, topic)
        name = bytes_at(row[NAME], row[SIZE])
        found = glob_match(glob, name, 0, row[SIZE]) if glob != 0 else 1
        if found < 0:
            reply_truncate(context, start)
            reply_error(context, OUT_OF_PATTERN)
            glob_close(glob)
            return
        if found:
            reply_bulk(context, name, 0, row[SIZE])
            count += 1
        topic = topic_after(table, topic)
    glob_close(glob)
    end_array(context, start, count)


@linked(void(CONTEXT, int64))
def _counts(context, kind):  # type: ignore[no-untyped-def]
    """Reply with each name given, and how many subscribers it has."""
    table, count = table_of(context, kind), context.call[ARGC]
    reply_array(context, 2 * (count - 2))
    for i in range(2, count):
        name, size = argument(context, i)
        topic = topic_find(table, name_hash(table, name, size), 0, name, size)
        reply_bulk(context, bytes_at(name, size), 0, size)
        reply_integer(context, topic_at(table, topic)[COUNT] if topic >= 0 else 0)


@linked(HANDLER)
def pubsub(context):  # type: ignore[no-untyped-def]
    """PUBSUB CHANNELS | NUMSUB | NUMPAT | SHARDCHANNELS | SHARDNUMSUB; its other forms are left to Python"""
    count = context.call[ARGC]
    if count <= 3 and is_word(context, 1, _CHANNELS):
        _channels(context, CHANNEL)
    elif count <= 3 and is_word(context, 1, _SHARDCHANNELS):
        _channels(context, SHARD_CHANNEL)
    elif is_word(context, 1, _NUMSUB):
        _counts(context, CHANNEL)
    elif is_word(context, 1, _SHARDNUMSUB):
        _counts(context, SHARD_CHANNEL)
    elif count == 2 and is_word(context, 1, _NUMPAT):
        reply_integer(context, topic_count(table_of(context, PATTERN)))
    else:
        return 1
    return 0


def too_many(_server: "Server", _client: "Client", args: list[bytes]) -> "Reply":
    """PUBSUB CHANNELS | SHARDCHANNELS with more than one pattern"""
    raise unknown_subcommand_or_arity("pubsub", args[1])
