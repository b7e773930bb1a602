"""SUBSCRIBE, UNSUBSCRIBE and their forms for patterns and shard channels.

Each name is confirmed by an answer of its own, a push in RESP3:

    subscribe    name   count        count: of the connection's channels and patterns, or of its shard channels
    unsubscribe  name   count        a null in place of the name where there was nothing to end

CLIENT REPLY silences replies, but no confirmation: with it a confirmation is a message to the connection itself.

A command with very many names takes several turns, except in a transaction, which is never interrupted.
"""

from itertools import accumulate

from kvstore.connections.messages import message_begin, message_end, messages_bound, post
from kvstore.connections.table import connection
from kvstore.effects.subscriptions import (
    CHANNEL,
    PATTERN,
    SHARD_CHANNEL,
    end_last_subscription,
    last_subscription,
    subscribe,
    subscription_count,
    subscriptions_of,
    unsubscribe,
)
from kvstore.lifetimes.call import ARGC, CONNECTION, DEPTH, PROTOCOL
from kvstore.lifetimes.connection import FLAGS, PART_DONE, REPLY_OFF, REPLY_SKIP
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument
from kvstore.wire.errors import OUT_OF_SUBSCRIPTIONS, SSUBSCRIBE_IN_EXEC
from kvstore.wire.resp import reply_bulk, reply_error, reply_integer, reply_null, reply_push, reply_raw
from mmcore.jit import constant, int64, kernel, linked, void

STEP = 4096  # names that a command takes in a turn, unless it is very long
_WORDS = [
    b"$%d\r\n%s\r\n" % (len(word), word)
    for word in (b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe")
]
_WORD_BYTES = constant(b"".join(_WORDS))
_WORD_START = constant([0, *accumulate(map(len, _WORDS))], int64)
NOTHING = -1
_ENDS = SHARD_CHANNEL + 1  # added to a kind: the word for the end of a subscription


@linked(void(CONTEXT, int64, int64, int64, int64))
def _put(context, word, name, size, count):  # type: ignore[no-untyped-def]
    """Reply with a confirmation; `size` NOTHING is for no name, which is not the empty one."""
    reply_push(context, 3)
    reply_raw(context, _WORD_BYTES, _WORD_START[word], _WORD_START[word + 1] - _WORD_START[word])
    if size == NOTHING:
        reply_null(context)
    else:
        reply_bulk(context, bytes_at(name, size), 0, size)
    reply_integer(context, count)


@linked(void(CONTEXT, int64[::1], int64, int64, int64, int64))
def _confirm(context, row, word, name, size, count):  # type: ignore[no-untyped-def]
    """Confirm to the connection at hand, which has this row; `size` as above."""
    if row[FLAGS] & (REPLY_OFF | REPLY_SKIP) == 0:
        _put(context, word, name, size, count)
        return
    messages_bound(context)
    start = message_begin(context, context.call[PROTOCOL])
    _put(context, word, name, size, count)
    post(context, context.call[CONNECTION], start, message_end(context, start))


@kernel
def _step(context, left):  # type: ignore[no-untyped-def]
    # How many of the names that are left are done in this turn.  Each turn reads the whole command again, so the step
    # must grow with its length.
    call = context.call
    return left if call[DEPTH] > 0 else min(left, max(STEP, call[ARGC] >> 4))


@linked(int64(CONTEXT, int64, int64))
def _named(context, kind, ends):  # type: ignore[no-untyped-def]
    """Begin or end the subscriptions of a kind that the arguments name; returns a code of a HANDLER."""
    call = context.call
    slot = call[CONNECTION]
    row = connection(context, slot)
    first = max(1, row[PART_DONE])
    end = first + _step(context, call[ARGC] - first)
    row[PART_DONE] = 0
    for i in range(first, end):
        name, size = argument(context, i)
        if ends:
            unsubscribe(context, slot, kind, name, size)
        elif subscribe(context, slot, kind, name, size) < 0:
            reply_error(context, OUT_OF_SUBSCRIPTIONS)
            return 0
        _confirm(context, row, kind + _ENDS if ends else kind, name, size, subscription_count(row, kind))
    if end < call[ARGC]:
        row[PART_DONE] = end
        return AGAIN
    return 0


@linked(int64(CONTEXT, int64))
def _end_all(context, kind):  # type: ignore[no-untyped-def]
    """End all subscriptions of a kind; returns a code of a HANDLER."""
    row = connection(context, context.call[CONNECTION])
    left = subscriptions_of(row, kind)
    if left == 0:
        _confirm(context, row, kind + _ENDS, 0, NOTHING, subscription_count(row, kind))
        return 0
    step = _step(context, left)
    for _ in range(step):
        name, size = last_subscription(context, row, kind)
        _confirm(context, row, kind + _ENDS, name, size, subscription_count(row, kind) - 1)
        end_last_subscription(context, row, kind)
    return AGAIN if step < left else 0


@kernel
def _unsubscribe(context, kind):  # type: ignore[no-untyped-def]
    return _end_all(context, kind) if context.call[ARGC] == 1 else _named(context, kind, 1)


@linked(HANDLER)
def subscribe_(context):  # type: ignore[no-untyped-def]
    """SUBSCRIBE channel [channel ...]"""
    return _named(context, CHANNEL, 0)


@linked(HANDLER)
def psubscribe(context):  # type: ignore[no-untyped-def]
    """PSUBSCRIBE pattern [pattern ...]"""
    return _named(context, PATTERN, 0)


@linked(HANDLER)
def ssubscribe(context):  # type: ignore[no-untyped-def]
    """SSUBSCRIBE shardchannel [shardchannel ...]; not in a transaction, where SUBSCRIBE may be, as in Redis"""
    if context.call[DEPTH] > 0:
        reply_error(context, SSUBSCRIBE_IN_EXEC)
        return 0
    return _named(context, SHARD_CHANNEL, 0)


@linked(HANDLER)
def unsubscribe_(context):  # type: ignore[no-untyped-def]
    """UNSUBSCRIBE [channel [channel ...]]"""
    return _unsubscribe(context, CHANNEL)


@linked(HANDLER)
def punsubscribe(context):  # type: ignore[no-untyped-def]
    """PUNSUBSCRIBE [pattern [pattern ...]]"""
    return _unsubscribe(context, PATTERN)


@linked(HANDLER)
def sunsubscribe(context):  # type: ignore[no-untyped-def]
    """SUNSUBSCRIBE [shardchannel [shardchannel ...]]"""
    return _unsubscribe(context, SHARD_CHANNEL)
