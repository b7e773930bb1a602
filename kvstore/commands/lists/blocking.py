"""BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP: commands on lists that wait until there is something to pop.

Each does what the command without its B does.  If there is no list, it waits; when one comes, the whole command runs
again (kvstore/net/serving.py).  In a transaction it answers at once, as if its time were over.
"""

from kvstore.commands.lists.moving import move
from kvstore.commands.lists.popping import IN_ARRAY, WITH_KEY, end_argument, pop_first, several_arguments
from kvstore.commands.timeouts import seconds_argument
from kvstore.effects.waiting import may_wait, wait_for_keys, wait_or_answer
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED
from kvstore.store.entries import LIST
from kvstore.wire.resp import reply_null
from mmcore.jit import int64, linked


@linked(int64(CONTEXT, int64))
def _pop(context, front):  # type: ignore[no-untyped-def]
    """BLPOP and BRPOP."""
    keys = context.call[ARGC] - 2
    timeout_ms = seconds_argument(context, keys + 1)
    if timeout_ms < 0 or pop_first(context, 1, keys, front, 1, WITH_KEY):
        return SERVED
    return wait_or_answer(context, 1, keys, LIST, timeout_ms)


@linked(HANDLER)
def blpop(context):  # type: ignore[no-untyped-def]
    """BLPOP key [key ...] timeout"""
    return _pop(context, 1)


@linked(HANDLER)
def brpop(context):  # type: ignore[no-untyped-def]
    """BRPOP key [key ...] timeout"""
    return _pop(context, 0)


@linked(HANDLER)
def blmpop(context):  # type: ignore[no-untyped-def]
    """BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]"""
    keys, front, n = several_arguments(context, 2)
    if keys == 0:
        return SERVED
    timeout_ms = seconds_argument(context, 1)
    if timeout_ms < 0 or pop_first(context, 3, keys, front, n, WITH_KEY | IN_ARRAY):
        return SERVED
    return wait_or_answer(context, 3, keys, LIST, timeout_ms)


@linked(int64(CONTEXT, int64, int64, int64))
def _move(context, from_front, to_front, i):  # type: ignore[no-untyped-def]
    """BLMOVE and BRPOPLPUSH, whose time-out is argument i."""
    timeout_ms = seconds_argument(context, i)
    if timeout_ms < 0 or move(context, from_front, to_front):
        return SERVED
    if not may_wait(context):
        reply_null(context)
        return SERVED
    return wait_for_keys(context, 1, 1, LIST, timeout_ms)


@linked(HANDLER)
def blmove(context):  # type: ignore[no-untyped-def]
    """BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout"""
    from_front = end_argument(context, 3)
    if from_front < 0:
        return SERVED
    to_front = end_argument(context, 4)
    return _move(context, from_front, to_front, 5) if to_front >= 0 else SERVED


@linked(HANDLER)
def brpoplpush(context):  # type: ignore[no-untyped-def]
    """BRPOPLPUSH source destination timeout"""
    return _move(context, 0, 1, 3)
