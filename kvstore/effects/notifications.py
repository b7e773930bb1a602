"""Keyspace notifications: events, published in two channels each.

    __keyspace@<db>__:<key>      with the event as its message, if K is among notify-keyspace-events
    __keyevent@<db>__:<event>    with the key as its message, if E is

The register NOTIFY says which classes of events are published, and in which channels (events.py).  NOTIFYING of
LISTENERS is set if that is anything at all.
"""

from itertools import accumulate

from kvstore.connections.interests import topic_count
from kvstore.effects.events import CLASS_OF, EVENTS, KEYEVENT, KEYSPACE, class_bits
from kvstore.effects.publishing import publish
from kvstore.lifetimes.context import CONTEXT, Registers
from kvstore.lifetimes.listeners import NOTIFYING
from kvstore.lifetimes.store import CHANNELS, NOTIFY, PATTERNS
from kvstore.system.libc import bytes_at, free, malloc
from kvstore.wire.numerals import put_decimal
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, void

_NAMES = [event.name.encode() for event in EVENTS]
_TEXT, _START = constant(b"".join(_NAMES)), constant([0, *accumulate(map(len, _NAMES))], int64)
_OF_KEY, _OF_EVENT, _COLON = constant(b"__keyspace@"), constant(b"__keyevent@"), constant(b"__:")
_CHANNEL_MAX = len(_OF_KEY) + 20 + len(_COLON) + max(map(len, _NAMES))  # [bytes] of a channel, without a key


def set_classes(registers: Registers, letters: str) -> None:
    """Publish the events of these classes, in these channels, from now on."""
    bits, channels = class_bits(letters), KEYSPACE | KEYEVENT
    registers.NOTIFY = bits
    registers.LISTENERS &= ~NOTIFYING
    if bits & channels and bits & ~channels:
        registers.LISTENERS |= NOTIFYING


@kernel
def _put_prefix(room, prefix, db):  # type: ignore[no-untyped-def]
    # Begin the name of a channel; returns the length.
    copy_bytes(room, 0, prefix, 0, len(prefix))
    at = put_decimal(room, len(prefix), db) + len(prefix)
    copy_bytes(room, at, _COLON, 0, len(_COLON))
    return at + len(_COLON)


@linked(void(CONTEXT, int64, int64, int64, int64))
def notify(context, event, db, key, size):  # type: ignore[no-untyped-def]
    """Publish an event of the key that is `size` bytes at `key`, if its class is to be published.

    It is lost if there is no memory for the name of its channel.
    """
    store = context.store
    classes = store[NOTIFY]
    if event < 0 or classes & CLASS_OF[event] == 0:
        return
    if topic_count(store[CHANNELS]) == 0 and topic_count(store[PATTERNS]) == 0:
        return
    of_event = malloc(2 * _CHANNEL_MAX + size)
    if of_event == 0:
        return
    of_key = of_event + _CHANNEL_MAX
    count = _START[event + 1] - _START[event]
    prefix = _put_prefix(bytes_at(of_event, _CHANNEL_MAX), _OF_EVENT, db)
    name = of_event + prefix
    copy_bytes(bytes_at(name, count), 0, _TEXT, _START[event], count)
    if classes & KEYSPACE:
        at = _put_prefix(bytes_at(of_key, _CHANNEL_MAX), _OF_KEY, db)
        copy_bytes(bytes_at(of_key + at, size), 0, bytes_at(key, size), 0, size)
        publish(context, store[CHANNELS], of_key, at + size, name, count)
    if classes & KEYEVENT:
        publish(context, store[CHANNELS], of_event, prefix + count, key, size)
    free(of_event)
