"""FLUSHALL and FLUSHDB, which free the old data later."""

from kvstore.durable.saving import save_emptied
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import HANDLER
from kvstore.store.flush import flush_all, flush_db
from kvstore.wire.arguments import pack, word
from kvstore.wire.errors import SYNTAX
from kvstore.wire.resp import reply_error, reply_ok, reply_out_of_frames
from mmcore.jit import kernel, linked

_ASYNC, _SYNC = pack(b"ASYNC"), pack(b"SYNC")


@kernel
def _flush_mode(context):  # type: ignore[no-untyped-def]
    # Whether the command is well-formed.  ASYNC and SYNC make no difference.
    option = word(context, 1) if context.call[ARGC] == 2 else _ASYNC
    if context.call[ARGC] > 2 or (option != _ASYNC and option != _SYNC):
        reply_error(context, SYNTAX)
        return False
    return True


@linked(HANDLER)
def flushall(context):  # type: ignore[no-untyped-def]
    """FLUSHALL [ASYNC | SYNC]"""
    if _flush_mode(context):
        if flush_all(context):
            reply_ok(context)
            save_emptied(context)
        else:
            reply_out_of_frames(context)
    return 0


@linked(HANDLER)
def flushdb(context):  # type: ignore[no-untyped-def]
    """FLUSHDB [ASYNC | SYNC]"""
    if _flush_mode(context):
        if flush_db(context, context.call[DB]):
            reply_ok(context)
        else:
            reply_out_of_frames(context)
    return 0
