"""PING, ECHO and SELECT: they are kernels because clients send them often."""

from kvstore.connections.table import connection
from kvstore.lifetimes.call import ARGC, COMMAND, CONNECTION, DB, PROTOCOL
from kvstore.lifetimes.connection import DATABASE, FLAGS, SUBSCRIBER
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.layout import DATABASES
from kvstore.wire.arguments import arg_length, arg_offset, integer_argument, query
from kvstore.wire.errors import DB_INDEX, INT_RANGE, NOT_INTEGER
from kvstore.wire.refusals import reply_arity
from kvstore.wire.resp import reply_array, reply_bulk, reply_empty_bulk, reply_error, reply_ok, reply_pong
from mmcore.jit import constant, int64, kernel, linked

_PONG = constant(b"pong")


@linked(HANDLER)
def echo(context):  # type: ignore[no-untyped-def]
    """ECHO message"""
    i = context.call[ARGC] - 1
    reply_bulk(context, query(context), arg_offset(context, i), arg_length(context, i))
    return 0


@linked(HANDLER)
def ping(context):  # type: ignore[no-untyped-def]
    """PING [message]; a connection that listens to channels in RESP2 gets an array, as if it were a message"""
    call = context.call
    if call[ARGC] > 2:
        reply_arity(context, call[COMMAND], 0)
        return 0
    if call[PROTOCOL] == 2 and connection(context, call[CONNECTION])[FLAGS] & SUBSCRIBER:
        reply_array(context, 2)
        reply_bulk(context, _PONG, 0, len(_PONG))
        if call[ARGC] == 1:
            reply_empty_bulk(context)
            return 0
        return echo(context)
    if call[ARGC] == 1:
        reply_pong(context)
        return 0
    return echo(context)


@kernel
def is_int32(value):  # type: ignore[no-untyped-def]
    """Whether the value fits a C int, Redis's type for numbers of databases."""
    return -0x8000_0000 <= value <= 0x7FFF_FFFF


@linked(int64(CONTEXT, int64))
def database_argument(context, i):  # type: ignore[no-untyped-def]
    """The database that argument i names, or -1 with the error replied."""
    valid, index = integer_argument(context, i)
    if not valid:
        reply_error(context, NOT_INTEGER)
    elif not is_int32(index):
        reply_error(context, INT_RANGE)
    elif index < 0 or index >= DATABASES:
        reply_error(context, DB_INDEX)
    else:
        return index
    return -1


@linked(HANDLER)
def select(context):  # type: ignore[no-untyped-def]
    """SELECT index"""
    index = database_argument(context, 1)
    if index >= 0:
        context.call[DB] = index
        connection(context, context.call[CONNECTION])[DATABASE] = index
        reply_ok(context)
    return 0
