"""Telling connections what they may no longer hold in a cache: to whom a message goes, and how it is written.

A connection that tracks keys is told itself, or another one that it redirects to:

    RESP3   >2 invalidate [key ...]                         to any connection
    RESP2   *3 message __redis__:invalidate [key ...]       to another one that has subscribed to something

A null in place of the keys stands for all keys.  Where neither form can be sent, nothing is.  If the other connection
has gone, the tracking one is told that in RESP3, each time: >2 tracking-redir-broken, with the id.

`invalidation_begin` says what is to be told, and `invalidation_tell` tells one connection.  Each form is written when
it is first needed, and shared by all who get it.
"""

from kvstore.connections.messages import message_begin, message_end, messages_bound, post
from kvstore.connections.table import connection
from kvstore.lifetimes.connection import (
    FLAGS,
    ID,
    IN_USE,
    KILLED,
    REDIRECT,
    REDIRECT_SLOT,
    SPEAKS,
    SUBSCRIBER,
    TRACKING_BROKEN,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.sizes import INVALIDATION_WORDS
from kvstore.lifetimes.store import INVALIDATION_ADDRESS
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.resp import reply_array, reply_bulk, reply_integer, reply_null, reply_raw
from mmcore.jit import constant, int64, kernel, linked, view, void

NULL, KEY, KEYS = range(3)  # what is told: all keys; one; several, as triples
TRIPLE = 3  # words: address and size of a key, and the id of the connection that changed it, 0 for nobody
# The invalidation under way: what is told, and both forms of it, each with 0 for its size until it is written
_KIND, _ADDRESS, _COUNT, _EXCEPT, _START2, _SIZE2, _START3, _SIZE3, _WORDS = range(9)
assert INVALIDATION_WORDS == _WORDS
_HEAD2 = constant(b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n")
_HEAD3 = constant(b">2\r\n$10\r\ninvalidate\r\n")
_BROKEN = constant(b">2\r\n$21\r\ntracking-redir-broken\r\n")


@view
def _under_way(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[INVALIDATION_ADDRESS], INVALIDATION_WORDS)


@linked(void(CONTEXT, int64, int64, int64, int64))
def invalidation_begin(context, kind, address, count, but):  # type: ignore[no-untyped-def]
    """Let `invalidation_tell` tell of all keys; of the key that is `count` bytes at `address`; or of `count` keys.

    Those are the triples at `address`; connection `but` (an id, -1 for none) did not change those that are told.
    The key or the keys have to stay where they are.
    """
    messages_bound(context)
    words = _under_way(context)
    words[_KIND], words[_ADDRESS], words[_COUNT], words[_EXCEPT] = kind, address, count, but
    words[_SIZE2] = words[_SIZE3] = 0


@linked(void(CONTEXT))
def _put_keys(context):  # type: ignore[no-untyped-def]
    words = _under_way(context)
    count = words[_COUNT]
    triples, told = words_at(words[_ADDRESS], TRIPLE * count), 0
    for i in range(count):
        told += triples[TRIPLE * i + 2] != words[_EXCEPT]
    reply_array(context, told)
    for i in range(count):
        if triples[TRIPLE * i + 2] != words[_EXCEPT]:
            reply_bulk(context, bytes_at(triples[TRIPLE * i], triples[TRIPLE * i + 1]), 0, triples[TRIPLE * i + 1])


@linked(int64(CONTEXT, int64))
def _write(context, protocol):  # type: ignore[no-untyped-def]
    """Write the message in the form for this protocol, and note where; returns the place of the note."""
    words = _under_way(context)
    place = _START3 if protocol == 3 else _START2
    if words[place + 1] > 0:
        return place
    start = message_begin(context, protocol)
    if protocol == 3:
        reply_raw(context, _HEAD3, 0, len(_HEAD3))
    else:
        reply_raw(context, _HEAD2, 0, len(_HEAD2))
    if words[_KIND] == NULL:
        reply_null(context)
    elif words[_KIND] == KEY:
        reply_array(context, 1)
        reply_bulk(context, bytes_at(words[_ADDRESS], words[_COUNT]), 0, words[_COUNT])
    else:
        _put_keys(context)
    words[place], words[place + 1] = start, message_end(context, start)
    return place


@linked(void(CONTEXT, int64, int64[::1]))
def _tell_broken(context, slot, row):  # type: ignore[no-untyped-def]
    row[FLAGS] |= TRACKING_BROKEN
    if row[SPEAKS] == 3:
        start = message_begin(context, 3)
        reply_raw(context, _BROKEN, 0, len(_BROKEN))
        reply_integer(context, row[REDIRECT])
        post(context, slot, start, message_end(context, start))


@kernel
def _is_there(row, identity):  # type: ignore[no-untyped-def]
    return row[ID] == identity and row[FLAGS] & (IN_USE | KILLED) == IN_USE


@linked(void(CONTEXT, int64))
def invalidation_tell(context, slot):  # type: ignore[no-untyped-def]
    """Tell the tracking connection in `slot`, or the one that it redirects to."""
    row = connection(context, slot)
    if row[REDIRECT] != 0:
        told = row[REDIRECT_SLOT]
        other = connection(context, told)
        if not _is_there(other, row[REDIRECT]):
            _tell_broken(context, slot, row)
            return
        if other[SPEAKS] != 3 and other[FLAGS] & SUBSCRIBER == 0:
            return
    else:
        told, other = slot, row
        if row[SPEAKS] != 3:
            return
    place, words = _write(context, other[SPEAKS]), _under_way(context)
    post(context, told, words[place], words[place + 1])
