"""Beginning a snapshot of the store without leaving the hot plane.

BGSAVE and the save points use this module.  Clients wait only for the fork and for the waking of the writer's thread;
Python takes no part in it.  persistence.py does the rest of the work at a snapshot's beginning and end.

FLUSHALL uses it too, because deleted data must not come back after a crash.  It gives up an image that was begun
before.  With save points its client is held until an image of the emptied store is durable; Redis saves in the
foreground there, and all clients wait.  As in Redis the reply is OK even when that snapshot fails, and the log has the
reason.
"""

from kvstore.branches.using import main_of
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
    """Begin to write the present state of the store: 0, or the error code of `begin`."""
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
    """After FLUSHALL, ensure that no image brings the old data back; hold the client until that is durable."""
    call, store = context.call, context.store
    if store[IMAGE_UNDER_WAY] == 0 and store[SAVE_POINTS] == 0:
        return
    ticket = words_at(store[TICKET_ADDRESS], TICKET_WORDS)
    ticket[GIVEN_UP] = 1  # no effect when nothing is being written
    if store[SAVE_POINTS] == 0:
        return
    number = ticket[STARTED] + 1
    # A snapshot that is being given up has to end first, and so has a transaction.  The loop reports the reason if the
    # snapshot cannot be begun.
    if store[IMAGE_UNDER_WAY] or call[DEPTH] != 0 or save_begin(context) != 0:
        store[SAVE_WANTED] = 1
    hold(context, connection(context, call[CONNECTION]), number)


@linked(HANDLER)
def bgsave(context):  # type: ignore[no-untyped-def]
    """BGSAVE [SCHEDULE], of the main store, whichever is at hand; Python words every refusal."""
    call, main = context.call, main_of(context)
    store = main.store
    if call[ARGC] > 2 or (call[ARGC] == 2 and word(context, 1) != _SCHEDULE) or store[IMAGE_UNDER_WAY]:
        return 1
    if call[DEPTH] != 0:
        # An image must not hold half of a transaction.
        store[SAVE_WANTED] = 1
        reply_raw(context, _SCHEDULED, 0, len(_SCHEDULED))
        return 0
    if save_begin(main) != 0:
        return 1
    reply_raw(context, _STARTED, 0, len(_STARTED))
    return 0
