"""BZPOPMIN, BZPOPMAX, BZMPOP: commands on sorted sets that wait until there is something to pop.

They are like those on lists: see kvstore/commands/lists/blocking.py.
"""

from kvstore.commands.sortedsets.removing import KEY_PAIR, KEY_PAIRS, pop_first, several_arguments
from kvstore.commands.timeouts import seconds_argument
from kvstore.effects.waiting import wait_or_answer
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED
from kvstore.store.entries import ZSET
from mmcore.jit import int64, linked


@linked(int64(CONTEXT, int64))
def _pop(context, last):  # type: ignore[no-untyped-def]
    """BZPOPMIN and BZPOPMAX."""
    keys = context.call[ARGC] - 2
    timeout_ms = seconds_argument(context, keys + 1)
    if timeout_ms < 0 or pop_first(context, 1, keys, 1, last, KEY_PAIR):
        return SERVED
    return wait_or_answer(context, 1, keys, ZSET, timeout_ms)


@linked(HANDLER)
def bzpopmin(context):  # type: ignore[no-untyped-def]
    """BZPOPMIN key [key ...] timeout"""
    return _pop(context, 0)


@linked(HANDLER)
def bzpopmax(context):  # type: ignore[no-untyped-def]
    """BZPOPMAX key [key ...] timeout"""
    return _pop(context, 1)


@linked(HANDLER)
def bzmpop(context):  # type: ignore[no-untyped-def]
    """BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count]"""
    keys, last, count = several_arguments(context, 2)
    if keys == 0:
        return SERVED
    timeout_ms = seconds_argument(context, 1)
    if timeout_ms < 0 or pop_first(context, 3, keys, count, last, KEY_PAIRS):
        return SERVED
    return wait_or_answer(context, 3, keys, ZSET, timeout_ms)
