"""SLOWLOG: the contents of the slow log.

GET and LEN are kernels.  Entries are stored in the form of the reply, so even the longest log is answered by copying
bytes.
"""

from typing import TYPE_CHECKING

from kvstore.commands.refusals import unknown_subcommand_or_arity
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import HANDLER
from kvstore.lifetimes.shard import SLOWLOG_ADDRESS
from kvstore.observe.slowlog import (
    ENTRIES,
    LOG_WORDS,
    NEXT_ENTRY,
    SLOT_ADDRESS,
    SLOT_LENGTH,
    SLOT_WORDS,
    SLOTS,
    SLOTS_ADDRESS,
)
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import integer_argument, pack, word
from kvstore.wire.reply import OK, CommandError, Reply
from kvstore.wire.resp import reply_array, reply_integer, reply_raw
from mmcore.jit import kernel, linked

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

_GET, _LEN = pack(b"GET"), pack(b"LEN")
ENTRIES_SHOWN = 10  # unless more are asked for


@kernel
def _reply_entries(context, log, count):  # type: ignore[no-untyped-def]
    # The newest `count` entries, newest first.
    reply_array(context, count)
    for back in range(count):
        number = log[NEXT_ENTRY] - 1 - back
        slot = words_at(log[SLOTS_ADDRESS] + number % log[SLOTS] * SLOT_WORDS * 8, SLOT_WORDS)
        reply_raw(context, bytes_at(slot[SLOT_ADDRESS], slot[SLOT_LENGTH]), 0, slot[SLOT_LENGTH])


@linked(HANDLER)
def slowlog(context):  # type: ignore[no-untyped-def]
    """SLOWLOG GET [count] | LEN; its other forms are left to Python"""
    call, shard = context.call, context.shard
    log = words_at(shard[SLOWLOG_ADDRESS], LOG_WORDS)
    what, count = word(context, 1), call[ARGC]
    if what == _LEN and count == 2:
        reply_integer(context, log[ENTRIES])
        return 0
    if what != _GET or count > 3:
        return 1
    wanted = ENTRIES_SHOWN
    if count == 3:
        valid, wanted = integer_argument(context, 2)
        if not valid or wanted < -1:
            return 1
    _reply_entries(context, log, log[ENTRIES] if wanted < 0 else min(wanted, log[ENTRIES]))
    return 0


def slowlog_get(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """SLOWLOG GET [count], where the kernel could not read the count"""
    if len(args) > 3:
        raise unknown_subcommand_or_arity("slowlog", args[1])
    raise CommandError("ERR count should be greater than or equal to -1")


def slowlog_reset(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """SLOWLOG RESET"""
    server.slowlog.reset()
    return OK
