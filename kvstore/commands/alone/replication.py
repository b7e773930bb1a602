"""ROLE and WAIT, as a server without replicas answers them."""

from typing import TYPE_CHECKING

from kvstore.commands.timeouts import milliseconds_argument
from kvstore.connections.table import connection
from kvstore.lifetimes.call import CONNECTION, DEPTH
from kvstore.lifetimes.connection import ANSWER_ZERO, BLOCKED_ANSWER, BLOCKED_KIND, BLOCKED_UNTIL_MS
from kvstore.lifetimes.context import BLOCKS, HANDLER
from kvstore.wire.arguments import integer_argument
from kvstore.wire.errors import NOT_INTEGER
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
    call = context.call
    valid, replicas = integer_argument(context, 1)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    timeout_ms = milliseconds_argument(context, 2)
    if timeout_ms < 0:
        return 0
    if replicas <= 0 or call[DEPTH] != 0:
        reply_integer(context, 0)
    else:
        row = connection(context, call[CONNECTION])
        row[BLOCKED_KIND], row[BLOCKED_ANSWER], row[BLOCKED_UNTIL_MS] = 0, ANSWER_ZERO, timeout_ms
        return BLOCKS
    return 0
