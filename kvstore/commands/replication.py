"""ROLE and WAIT, as a server answers them that has no replicas."""

from typing import TYPE_CHECKING

from kvstore.arguments import INT64_MAX, integer_argument
from kvstore.connections import BLOCKED_UNTIL_MS, connection
from kvstore.errors import NOT_INTEGER, TIMEOUT_NEGATIVE, TIMEOUT_NOT_INTEGER, TIMEOUT_RANGE
from kvstore.reply import Reply
from kvstore.resp import reply_error, reply_integer
from kvstore.state import BLOCKS, CONNECTION, EXEC_SAVED_ADDRESS, HANDLER, NOW_MS
from mmcore.jit import linked

if TYPE_CHECKING:
    from kvstore.coldplane import Client, Server


def role(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """ROLE"""
    return ["master", 0, []]


@linked(HANDLER)
def wait(store):  # type: ignore[no-untyped-def]
    """WAIT numreplicas timeout: no replica ever acknowledges, so only none need not be waited for"""
    server = store.server
    valid, replicas = integer_argument(store, 1)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return 0
    valid, timeout_ms = integer_argument(store, 2)
    if not valid:
        reply_error(store, TIMEOUT_NOT_INTEGER)
    elif timeout_ms < 0:
        reply_error(store, TIMEOUT_NEGATIVE)
    elif timeout_ms > INT64_MAX - server[NOW_MS]:
        reply_error(store, TIMEOUT_RANGE)
    elif replicas <= 0 or server[EXEC_SAVED_ADDRESS] != 0:
        reply_integer(store, 0)
    else:
        connection(store, server[CONNECTION])[BLOCKED_UNTIL_MS] = timeout_ms
        return BLOCKS
    return 0


HANDLERS = {b"WAIT": wait}
