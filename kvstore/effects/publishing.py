"""Publishing: a message goes to all who have subscribed to its channel, or to a pattern that matches the channel.

    message    channel           text     to subscribers of a channel
    pmessage   pattern  channel  text     to subscribers of a pattern
    smessage   channel           text     to subscribers of a shard channel

In RESP2 this is an array, in RESP3 a push.  The bytes are written at most once for each protocol, and shared by all who
get them (connections/messages.py): the cost of a subscriber is a record that names them.

First come the channel's subscribers, in the order in which they subscribed.  Then come the patterns, the eldest first.
"""

from kvstore.connections.interests import (
    CONNECTION,
    COUNT,
    NAME,
    SIZE,
    WORD,
    interest_at,
    interest_first,
    interest_next,
    topic_after,
    topic_at,
    topic_find,
    topic_first,
)
from kvstore.connections.messages import message_begin, message_end, messages_bound, post
from kvstore.connections.sends import SEND_EARLY, SENDS_EARLY
from kvstore.connections.table import connection, give_turn
from kvstore.effects.subscriptions import name_hash
from kvstore.lifetimes.call import CONNECTION as AT_HAND
from kvstore.lifetimes.connection import AFTERWARDS, FLAGS, KILLED, SPEAKS
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import MESSAGES_LENGTH, SENDS
from kvstore.lifetimes.store import CHANNELS, PATTERNS, SHARD_CHANNELS
from kvstore.system.libc import bytes_at
from kvstore.wire.glob import glob_match
from kvstore.wire.resp import reply_bulk, reply_push, reply_raw
from mmcore.jit import constant, int64, kernel, linked, void

_MESSAGE, _PATTERN_MESSAGE, _SHARD_MESSAGE = (
    constant(b"$%d\r\n%s\r\n" % (len(word), word)) for word in (b"message", b"pmessage", b"smessage")
)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def _write(context, protocol, table, topic, name, name_size, text, text_size):  # type: ignore[no-untyped-def]
    """Write a message for the subscribers of a topic who speak this protocol; returns where it begins."""
    store = context.store
    start = message_begin(context, protocol)
    if table == store[PATTERNS]:
        reply_push(context, 4)
        reply_raw(context, _PATTERN_MESSAGE, 0, len(_PATTERN_MESSAGE))
        pattern = topic_at(table, topic)
        reply_bulk(context, bytes_at(pattern[NAME], pattern[SIZE]), 0, pattern[SIZE])
    else:
        reply_push(context, 3)
        if table == store[SHARD_CHANNELS]:
            reply_raw(context, _SHARD_MESSAGE, 0, len(_SHARD_MESSAGE))
        else:
            reply_raw(context, _MESSAGE, 0, len(_MESSAGE))
    reply_bulk(context, bytes_at(name, name_size), 0, name_size)
    reply_bulk(context, bytes_at(text, text_size), 0, text_size)
    message_end(context, start)
    return start


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64))
def _tell(context, table, topic, name, name_size, text, text_size):  # type: ignore[no-untyped-def]
    """Post a message to all subscribers of a topic."""
    shard = context.shard
    messages_bound(context)
    start2 = start3 = -1
    size2 = size3 = 0
    interest = interest_first(table, topic)
    while interest >= 0:
        slot = interest_at(table, interest)[CONNECTION]
        if connection(context, slot)[SPEAKS] == 3:
            if start3 < 0:
                start3 = _write(context, 3, table, topic, name, name_size, text, text_size)
                size3 = shard[MESSAGES_LENGTH] - start3
            post(context, slot, start3, size3)
        else:
            if start2 < 0:
                start2 = _write(context, 2, table, topic, name, name_size, text, text_size)
                size2 = shard[MESSAGES_LENGTH] - start2
            post(context, slot, start2, size2)
        interest = interest_next(table, interest)


@linked(void(CONTEXT, int64, int64))
def _lose(context, table, topic):  # type: ignore[no-untyped-def]
    """Memory ran out while a pattern was matched: close its subscribers, who would not know what they missed."""
    interest = interest_first(table, topic)
    while interest >= 0:
        slot = interest_at(table, interest)[CONNECTION]
        give_turn(context, slot, connection(context, slot), KILLED)
        interest = interest_next(table, interest)


@kernel
def _match(context, table, topic, name, name_size):  # type: ignore[no-untyped-def]
    # Whether a pattern matches a name: 1 or 0.
    found = glob_match(interest_at(table, interest_first(table, topic))[WORD], bytes_at(name, name_size), 0, name_size)
    if found < 0:
        _lose(context, table, topic)
        return 0
    return found


@linked(int64(CONTEXT, int64, int64, int64))
def receivers(context, table, name, name_size):  # type: ignore[no-untyped-def]
    """How many would get a message in the channel that is `name_size` bytes at `name`."""
    count = 0
    topic = topic_find(table, name_hash(table, name, name_size), 0, name, name_size)
    if topic >= 0:
        count = topic_at(table, topic)[COUNT]
    if table == context.store[CHANNELS]:
        patterns = context.store[PATTERNS]
        topic = topic_first(patterns)
        while topic >= 0:
            if _match(context, patterns, topic, name, name_size):
                count += topic_at(patterns, topic)[COUNT]
            topic = topic_after(patterns, topic)
    return count


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def publish(context, table, name, name_size, text, text_size):  # type: ignore[no-untyped-def]
    """Publish the `text_size` bytes at `text` in the channel that is `name_size` bytes at `name`.

    table: store[CHANNELS], whose messages also go to patterns, or store[SHARD_CHANNELS].  Addresses are of the process.
    Returns how many get it; who subscribes both to the channel and to a pattern gets it twice, and counts twice.
    """
    shard, count = context.shard, 0
    topic = topic_find(table, name_hash(table, name, name_size), 0, name, name_size)
    if topic >= 0:
        count = topic_at(table, topic)[COUNT]
        _tell(context, table, topic, name, name_size, text, text_size)
    if table == context.store[CHANNELS]:
        patterns = context.store[PATTERNS]
        topic = topic_first(patterns)
        while topic >= 0:
            if _match(context, patterns, topic, name, name_size):
                count += topic_at(patterns, topic)[COUNT]
                _tell(context, patterns, topic, name, name_size, text, text_size)
            topic = topic_after(patterns, topic)
    if shard[MESSAGES_LENGTH] > SEND_EARLY or shard[SENDS] >= SENDS_EARLY:
        slot = context.call[AT_HAND]
        if slot >= 0:
            connection(context, slot)[FLAGS] |= AFTERWARDS
    return count
