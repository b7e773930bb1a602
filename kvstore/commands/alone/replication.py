"""ROLE and WAIT, as a server without replicas answers them."""

from typing import TYPE_CHECKING

from kvstore.connections.table import connection
from kvstore.lifetimes.call import CONNECTION, DEPTH
from kvstore.lifetimes.connection import BLOCKED_UNTIL_MS
from kvstore.lifetimes.context import BLOCKS, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.wire.arguments import INT64_MAX, integer_argument
from kvstore.wire.errors import NOT_INTEGER, TIMEOUT_NEGATIVE, TIMEOUT_NOT_INTEGER, TIMEOUT_RANGE
from kvstore.wire.reply import Reply
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import linked

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def role(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """ROLE"""
    return ["master", 0, []]


@linked(HANDLER)
def wait(context):  # type: ignore[no-untyped-def]
    """WAIT numreplicas timeout: no replica ever acknowledges, so only numreplicas 0 returns at once"""
    call, shard = context.call, context.shard
    valid, replicas = integer_argument(context, 1)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    valid, timeout_ms = integer_argument(context, 2)
    if not valid:
        reply_error(context, TIMEOUT_NOT_INTEGER)
    elif timeout_ms < 0:
        reply_error(context, TIMEOUT_NEGATIVE)
    elif timeout_ms > INT64_MAX - shard[NOW_MS]:
        reply_error(context, TIMEOUT_RANGE)
    elif replicas <= 0 or call[DEPTH] != 0:
        reply_integer(context, 0)
    else:
        connection(context, call[CONNECTION])[BLOCKED_UNTIL_MS] = timeout_ms
        return BLOCKS
    return 0
