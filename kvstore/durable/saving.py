"""Beginning a snapshot of the store without leaving the hot plane.

BGSAVE and the save points come here: the fork and the waking of the writer's thread are all that the clients wait for,
and Python has no part in it.  What else a snapshot's beginning and end mean is persistence.py's.

FLUSHALL comes here too.  What it deleted must not come back after a crash: an image that was begun before is given up,
and with save points its client is held until an image of the emptied store is durable.  Redis saves in the foreground
there, and everyone waits.  As in Redis the reply is OK even when that snapshot fails, and the log has the reason.
"""

from kvstore.connections.table import connection, hold
from kvstore.lifetimes.call import ARGC, CONNECTION, DEPTH
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import TIMER_MS
from kvstore.lifetimes.store import (
    DIRTY,
    DIRTY_AT_FORK,
    FROZEN_ROOTS,
    IMAGE_UNDER_WAY,
    LAST_SAVE_TRY_MS,
    SAVE_POINTS,
    SAVE_WANTED,
    TICKET_ADDRESS,
)
from kvstore.observe.latency import FORK_EVENT, latency_sample
from kvstore.system.libc import words_at
from kvstore.wire.arguments import pack, word
from kvstore.wire.resp import reply_raw
from mmcore.jit import constant, int64, linked, void
from snapshot.begin import FORK_NS, GIVEN_UP, STARTED, TICKET_WORDS, begin

_SCHEDULE = pack(b"SCHEDULE")
_STARTED = constant(b"+Background saving started\r\n")
_SCHEDULED = constant(b"+Background saving scheduled\r\n")


@linked(int64(CONTEXT))
def save_begin(context):  # type: ignore[no-untyped-def]
    """Have the store as it is now written: 0, or what `begin` says of why not."""
    shard, store = context.shard, context.store
    store[SAVE_WANTED] = 0
    store[LAST_SAVE_TRY_MS] = shard[TIMER_MS]
    ticket = words_at(store[TICKET_ADDRESS], TICKET_WORDS)
    code = begin(context.space, ticket)
    if code == 0:
        latency_sample(context, FORK_EVENT, ticket[FORK_NS] // 1_000_000)
        store[DIRTY_AT_FORK] = store[DIRTY]
        store[IMAGE_UNDER_WAY] = 1
        store[FROZEN_ROOTS] += 1
    return code


@linked(void(CONTEXT))
def save_emptied(context):  # type: ignore[no-untyped-def]
    """See to it, after FLUSHALL, that no image brings back what was there; its client is held until that is durable."""
    call, store = context.call, context.store
    if store[IMAGE_UNDER_WAY] == 0 and store[SAVE_POINTS] == 0:
        return
    ticket = words_at(store[TICKET_ADDRESS], TICKET_WORDS)
    ticket[GIVEN_UP] = 1  # of no effect when nothing is being written
    if store[SAVE_POINTS] == 0:
        return
    number = ticket[STARTED] + 1
    # One that is being given up has to end first, a transaction too; and the loop tells why one cannot be begun.
    if store[IMAGE_UNDER_WAY] or call[DEPTH] != 0 or save_begin(context) != 0:
        store[SAVE_WANTED] = 1
    hold(context, connection(context, call[CONNECTION]), number)


@linked(HANDLER)
def bgsave(context):  # type: ignore[no-untyped-def]
    """BGSAVE [SCHEDULE]; Python words every refusal."""
    call, store = context.call, context.store
    if call[ARGC] > 2 or (call[ARGC] == 2 and word(context, 1) != _SCHEDULE) or store[IMAGE_UNDER_WAY]:
        return 1
    if call[DEPTH] != 0:
        # What the transaction has done so far must not be seen without the rest.
        store[SAVE_WANTED] = 1
        reply_raw(context, _SCHEDULED, 0, len(_SCHEDULED))
        return 0
    if save_begin(context) != 0:
        return 1
    reply_raw(context, _STARTED, 0, len(_STARTED))
    return 0
