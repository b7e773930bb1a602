"""Kernels of GETRANGE with bugs, for the fuzzer to find.

They are not in the test's own module, because pytest rewrites the assertions there.
"""

from kvstore.lifetimes.call import COMMAND_CYCLES
from kvstore.lifetimes.context import CONTEXT, SERVED
from kvstore.lifetimes.shard import TIMER_MS
from kvstore.store.databases import db_load, db_store
from kvstore.store.layout import DB_KEYS
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import arg_length
from kvstore.wire.resp import reply_ok
from mmcore.jit import int64, linked

LONG = 12  # of a number that only a mutation makes


@linked(int64(CONTEXT))
def asserts(context):  # type: ignore[no-untyped-def]
    """A kernel with a bug: an assertion does not hold for long numbers."""
    assert arg_length(context, 2) < LONG, "the number is long"
    reply_ok(context)
    return SERVED


@linked(int64(CONTEXT))
def crashes(context):  # type: ignore[no-untyped-def]
    """The same, but it writes to a page that there is not."""
    if arg_length(context, 2) >= LONG:
        bytes_at(8, 1)[0] = 1
    reply_ok(context)
    return SERVED


@linked(int64(CONTEXT))
def miscounts(context):  # type: ignore[no-untyped-def]
    """The same, but it counts a key that there is not."""
    db_store(context, 0, DB_KEYS, db_load(context, 0, DB_KEYS) + 1)
    reply_ok(context)
    return SERVED


@linked(int64(CONTEXT))
def hangs(context):  # type: ignore[no-untyped-def]
    """The same, but it waits for a clock that stands still."""
    while context.shard[TIMER_MS] == 0:
        context.call[COMMAND_CYCLES] += 1
    return SERVED
