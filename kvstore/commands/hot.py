"""PING, ECHO, SELECT: the commands about the connection itself that clients send often enough to be kernels."""

from kvstore.arguments import arg_length, arg_offset, integer_argument, query
from kvstore.connections import DATABASE, connection
from kvstore.errors import DB_INDEX, NOT_INTEGER
from kvstore.layout import DATABASES
from kvstore.resp import reply_bulk, reply_error, reply_ok, reply_pong
from kvstore.state import ARGC, CONNECTION, DB, HANDLER
from mmcore.jit import linked


@linked(HANDLER)
def echo(store):  # type: ignore[no-untyped-def]
    """ECHO message"""
    i = store.server[ARGC] - 1
    reply_bulk(store, query(store), arg_offset(store, i), arg_length(store, i))
    return 0


@linked(HANDLER)
def ping(store):  # type: ignore[no-untyped-def]
    """PING [message]"""
    if store.server[ARGC] == 1:
        reply_pong(store)
        return 0
    if store.server[ARGC] > 2:
        return 1  # the wrong number of arguments: Python words it
    return echo(store)


@linked(HANDLER)
def select(store):  # type: ignore[no-untyped-def]
    """SELECT index"""
    valid, index = integer_argument(store, 1)
    if not valid:
        reply_error(store, NOT_INTEGER)
    elif index < 0 or index >= DATABASES:
        reply_error(store, DB_INDEX)
    else:
        store.server[DB] = index
        connection(store, store.server[CONNECTION])[DATABASE] = index
        reply_ok(store)
    return 0


HANDLERS = {b"ECHO": echo, b"PING": ping, b"SELECT": select}
