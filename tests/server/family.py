"""A family of commands made for a test: the declarations and the functions here are all that it needs."""

from typing import TYPE_CHECKING

from kvstore.commands.declaration import Command, Family
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import HANDLER
from kvstore.store.entries import entry_length
from kvstore.store.lookup import lookup_read
from kvstore.wire.arguments import argument, integer_argument
from kvstore.wire.errors import SYNTAX
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import linked

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server
    from kvstore.wire.reply import Reply


@linked(HANDLER)
def tally(context):  # type: ignore[no-untyped-def]
    """TALLY numkeys key [key ...]"""
    valid, count = integer_argument(context, 1)
    if not valid or count != context.call[ARGC] - 2:
        reply_error(context, SYNTAX)
        return 0
    total = 0
    for i in range(2, context.call[ARGC]):
        key, key_size = argument(context, i)
        entry = lookup_read(context, key, key_size)
        if entry != 0:
            total += entry_length(context, entry)
    reply_integer(context, total)
    return 0


def repeat(_server: "Server", _client: "Client", args: list[bytes]) -> "Reply":
    """REPEAT message [TIMES count] [UPPER]"""
    from kvstore.commands.table import options

    given = options(args)
    message: bytes = given["message"] * int(given.get("count", b"2"))
    return message.upper() if "upper" in given else message


_made = Family("string", "tests.server")

COMMANDS = (
    Command(
        _made,
        "REPEAT message [TIMES count] [UPPER]",
        "Answers a message several times over.",
        since="0.1.0",
        cost="O(N) with N the length answered",
        flags="loading stale",
        added="UPPER:0.2.0",
        python="family:repeat",
    ),
    Command(
        _made,
        "TALLY numkeys key [key ...]",
        "Adds the lengths of strings.",
        since="0.1.0",
        cost="O(N) with N the number of keys",
        flags="readonly fast",
        keys="RO",
        tips="request_policy:multi_shard response_policy:agg_sum",
        history=(("0.2.0", "Became fast."),),
        kernel="family:tally",
    ),
)
