"""PING, ECHO and SELECT, which clients send often, and BGSAVE, which stops them: kernels beside those of the data."""

from kvstore.arguments import arg_length, arg_offset, integer_argument, query
from kvstore.connections import DATABASE, connection
from kvstore.errors import DB_INDEX, INT_RANGE, NOT_INTEGER
from kvstore.layout import DATABASES
from kvstore.refusals import reply_arity
from kvstore.resp import reply_bulk, reply_error, reply_ok, reply_pong
from kvstore.saving import bgsave
from kvstore.state import ARGC, COMMAND, CONNECTION, DB, HANDLER, STORE
from mmcore.jit import int64, kernel, linked


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
        reply_arity(store, store.server[COMMAND], 0)
        return 0
    return echo(store)


@kernel
def is_int32(value):  # type: ignore[no-untyped-def]
    """Whether a C int holds it, as Redis keeps numbers of databases."""
    return -0x8000_0000 <= value <= 0x7FFF_FFFF


@linked(int64(STORE, int64))
def database_argument(store, i):  # type: ignore[no-untyped-def]
    """The database that argument i names, or -1 with the error replied."""
    valid, index = integer_argument(store, i)
    if not valid:
        reply_error(store, NOT_INTEGER)
    elif not is_int32(index):
        reply_error(store, INT_RANGE)
    elif index < 0 or index >= DATABASES:
        reply_error(store, DB_INDEX)
    else:
        return index
    return -1


@linked(HANDLER)
def select(store):  # type: ignore[no-untyped-def]
    """SELECT index"""
    index = database_argument(store, 1)
    if index >= 0:
        store.server[DB] = index
        connection(store, store.server[CONNECTION])[DATABASE] = index
        reply_ok(store)
    return 0


HANDLERS = {b"BGSAVE": bgsave, b"ECHO": echo, b"PING": ping, b"SELECT": select}
