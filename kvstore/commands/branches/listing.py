"""BRANCH LIST and SNAPSHOT LIST: a kernel, because there may be ten thousand of them."""

from kvstore.branches.named import named
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.named import (
    AFTER,
    ENDS_MS,
    KIND,
    MADE_MS,
    MAIN,
    NAME,
    NAME_SIZE,
    ORIGIN_NAME,
    ORIGIN_SIZE,
    SNAPSHOT,
    USERS,
)
from kvstore.lifetimes.pool import NAMED_FIRST
from kvstore.lifetimes.shard import CONNECTED_CLIENTS, NOW_MS
from kvstore.system.libc import bytes_at
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.resp import reply_bulk, reply_integer, reply_map
from mmcore.jit import constant, int64, kernel, linked, void

_NAME, _KIND, _FROM, _CREATED, _TTL, _CONNECTIONS = (
    constant(name) for name in (b"name", b"kind", b"from", b"created", b"ttl", b"connections")
)
_MAIN, _BRANCH, _SNAPSHOT = (constant(name) for name in (b"main", b"branch", b"snapshot"))
FIELDS = 6


@kernel
def _word(context, text):  # type: ignore[no-untyped-def]
    reply_bulk(context, text, 0, len(text))


@kernel
def _users(context, own):  # type: ignore[no-untyped-def]
    # Connections that use a store; all that use no other one use the main store.
    if own[KIND] != MAIN:
        return own[USERS]
    users, address = context.shard[CONNECTED_CLIENTS], own[AFTER]
    while address != 0:
        users -= named(address)[USERS]
        address = named(address)[AFTER]
    return users


@linked(void(CONTEXT, int64))
def reply_summary(context, address):  # type: ignore[no-untyped-def]
    """Reply with the names and values of the first FIELDS fields of a named store."""
    own, now = named(address), context.shard[NOW_MS]
    _word(context, _NAME)
    reply_bulk(context, bytes_at(own[NAME], own[NAME_SIZE]), 0, own[NAME_SIZE])
    _word(context, _KIND)
    if own[KIND] == MAIN:
        _word(context, _MAIN)
    elif own[KIND] == SNAPSHOT:
        _word(context, _SNAPSHOT)
    else:
        _word(context, _BRANCH)
    _word(context, _FROM)
    reply_bulk(context, bytes_at(own[ORIGIN_NAME], own[ORIGIN_SIZE]), 0, own[ORIGIN_SIZE])
    _word(context, _CREATED)
    reply_integer(context, own[MADE_MS] // 1000)
    _word(context, _TTL)
    reply_integer(context, -1 if own[ENDS_MS] == NEVER else max(0, own[ENDS_MS] - now + 999) // 1000)
    _word(context, _CONNECTIONS)
    reply_integer(context, _users(context, own))


@linked(void(CONTEXT, int64))
def reply_named(context, snapshots):  # type: ignore[no-untyped-def]
    """Reply with all snapshots, or with the main store and all branches, in the order in which they were made."""
    start, count = begin_array(context), 0
    address = context.pool[NAMED_FIRST]
    while address != 0:
        own = named(address)
        if (own[KIND] == SNAPSHOT) == (snapshots != 0):
            reply_map(context, FIELDS)
            reply_summary(context, address)
            count += 1
        address = own[AFTER]
    end_array(context, start, count)
