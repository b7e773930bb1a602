"""Subscriptions: the connections that get the messages of a channel, of a pattern's channels, or of a shard channel.

Each kind has a table of interests (connections/interests.py) in the store, and a list in the connection's row:

    CHANNEL         store[CHANNELS]         CHANNELS_FIRST, CHANNELS_COUNT
    PATTERN         store[PATTERNS]         PATTERNS_FIRST, PATTERNS_COUNT
    SHARD_CHANNEL   store[SHARD_CHANNELS]   SHARD_CHANNELS_FIRST, SHARD_CHANNELS_COUNT

An interest in a pattern has an open glob in its word.  Publishing matches a channel's name once for each pattern, with
the glob of the pattern's first interest.  The others cost their header only, because a glob is compiled on first use.

A connection with any of these has the flag SUBSCRIBER, and PUBSUB_CLIENTS counts these connections.

Names are hashed with the address of their table as the seed, which no client knows.  The store's seed would not do,
because it changes when an image is loaded, and clients may subscribe meanwhile.
"""

from kvstore.connections.interests import (
    NAME,
    SIZE,
    TOPIC,
    WORD,
    interest_add,
    interest_at,
    interest_end,
    interest_find,
    own_first,
    topic_at,
    topic_count,
    topic_find,
)
from kvstore.connections.table import connection
from kvstore.lifetimes.connection import (
    CHANNELS_COUNT,
    CHANNELS_FIRST,
    FLAGS,
    PATTERNS_COUNT,
    PATTERNS_FIRST,
    SHARD_CHANNELS_COUNT,
    SHARD_CHANNELS_FIRST,
    SUBSCRIBER,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import PUBSUB_CLIENTS
from kvstore.lifetimes.store import CHANNELS, PATTERNS, SHARD_CHANNELS
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at
from kvstore.wire.glob import glob_close, glob_open
from mmcore.jit import int64, kernel, linked, void

CHANNEL, PATTERN, SHARD_CHANNEL = range(3)
assert (PATTERNS, SHARD_CHANNELS) == (CHANNELS + PATTERN, CHANNELS + SHARD_CHANNEL)
assert (PATTERNS_FIRST, SHARD_CHANNELS_FIRST) == (CHANNELS_FIRST + 2 * PATTERN, CHANNELS_FIRST + 2 * SHARD_CHANNEL)
assert (CHANNELS_COUNT, PATTERNS_COUNT, SHARD_CHANNELS_COUNT) == (
    CHANNELS_FIRST + 1,
    PATTERNS_FIRST + 1,
    SHARD_CHANNELS_FIRST + 1,
)


@kernel
def table_of(context, kind):  # type: ignore[no-untyped-def]
    """The table of interests of a kind."""
    return context.store[CHANNELS + kind]


@kernel
def first_of(kind):  # type: ignore[no-untyped-def]
    """The field of a connection's row where its list of subscriptions of a kind begins; their count is behind it."""
    return CHANNELS_FIRST + 2 * kind


@kernel
def name_hash(table, name, size):  # type: ignore[no-untyped-def]
    """The hash of the `size` bytes at `name`, as tables of subscriptions use it."""
    return hash_bytes(bytes_at(name, size), 0, size, table)


@linked(int64(CONTEXT, int64))
def subscribed_topics(context, kind):  # type: ignore[no-untyped-def]
    """How many channels, patterns or shard channels have a subscriber."""
    return topic_count(table_of(context, kind))


@kernel
def subscriptions_of(row, kind):  # type: ignore[no-untyped-def]
    """How many subscriptions of a kind the connection with this row has."""
    return row[first_of(kind) + 1]


@kernel
def subscription_count(row, kind):  # type: ignore[no-untyped-def]
    """The count that the client is told: of channels and patterns together, or of shard channels."""
    return row[SHARD_CHANNELS_COUNT] if kind == SHARD_CHANNEL else row[CHANNELS_COUNT] + row[PATTERNS_COUNT]


@linked(int64(CONTEXT, int64, int64, int64, int64))
def subscribe(context, slot, kind, name, size):  # type: ignore[no-untyped-def]
    """Subscribe the connection in `slot` to the `size` bytes at `name`, unless it is subscribed to them.

    Returns 0, or -1 when memory ran out; then nothing has changed.
    """
    row, table = connection(context, slot), table_of(context, kind)
    made = interest_add(table, name_hash(table, name, size), 0, name, size, slot, row, first_of(kind))
    if made < 0:
        return 0 if made == -1 else -1
    if kind == PATTERN:
        topic = topic_at(table, interest_at(table, made)[TOPIC])
        glob = glob_open(topic[NAME], size, 0)
        if glob == 0:
            interest_end(table, made, row, first_of(kind))
            return -1
        interest_at(table, made)[WORD] = glob
    if row[FLAGS] & SUBSCRIBER == 0:
        row[FLAGS] |= SUBSCRIBER
        context.shard[PUBSUB_CLIENTS] += 1
    return 0


@linked(void(CONTEXT, int64[::1], int64, int64))
def _end(context, row, kind, interest):  # type: ignore[no-untyped-def]
    """End a subscription of the connection with this row."""
    table = table_of(context, kind)
    glob_close(interest_at(table, interest)[WORD])
    interest_end(table, interest, row, first_of(kind))
    if row[CHANNELS_COUNT] + row[PATTERNS_COUNT] + row[SHARD_CHANNELS_COUNT] == 0:
        row[FLAGS] &= ~SUBSCRIBER
        context.shard[PUBSUB_CLIENTS] -= 1


@linked(void(CONTEXT, int64, int64, int64, int64))
def unsubscribe(context, slot, kind, name, size):  # type: ignore[no-untyped-def]
    """End the subscription of the connection in `slot` to the `size` bytes at `name`, if it has one."""
    table = table_of(context, kind)
    topic = topic_find(table, name_hash(table, name, size), 0, name, size)
    if topic >= 0:
        interest = interest_find(table, topic, slot)
        if interest >= 0:
            _end(context, connection(context, slot), kind, interest)


@kernel
def last_subscription(context, row, kind):  # type: ignore[no-untyped-def]
    """(address, size) of the name that the connection with this row subscribed to last, which must exist."""
    table = table_of(context, kind)
    topic = topic_at(table, interest_at(table, own_first(row, first_of(kind)))[TOPIC])
    return topic[NAME], topic[SIZE]


@kernel
def end_last_subscription(context, row, kind):  # type: ignore[no-untyped-def]
    """End that subscription."""
    _end(context, row, kind, own_first(row, first_of(kind)))


@linked(void(CONTEXT, int64[::1]))
def end_subscriptions(context, row):  # type: ignore[no-untyped-def]
    """End all subscriptions of the connection with this row."""
    for kind in range(SHARD_CHANNEL + 1):
        while own_first(row, first_of(kind)) >= 0:
            end_last_subscription(context, row, kind)
