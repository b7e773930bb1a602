"""Keyspace events: the changes that a key can undergo, numbered for kernels and named as in Redis.

The letter is the class of `notify-keyspace-events` that an event belongs to.
"""

from typing import NamedTuple


class Event(NamedTuple):
    """A keyspace event."""

    name: str
    letter: str  # g: of any type; $: of strings; x: expired; e: evicted


EVENTS = (
    Event("del", "g"),
    Event("expire", "g"),
    Event("persist", "g"),
    Event("rename_from", "g"),
    Event("rename_to", "g"),
    Event("move_from", "g"),
    Event("move_to", "g"),
    Event("copy_to", "g"),
    Event("set", "$"),
    Event("setrange", "$"),
    Event("append", "$"),
    Event("incrby", "$"),
    Event("incrbyfloat", "$"),
    Event("expired", "x"),
)
(
    DEL,
    EXPIRE,
    PERSIST,
    RENAME_FROM,
    RENAME_TO,
    MOVE_FROM,
    MOVE_TO,
    COPY_TO,
    SET,
    SETRANGE,
    APPEND,
    INCRBY,
    INCRBYFLOAT,
    EXPIRED,
) = range(len(EVENTS))
EMPTIED, SWAPPED = -1, -2  # events of whole databases: they reach WATCH, and Redis publishes no event for them
ALL_DATABASES = -1
