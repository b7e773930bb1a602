"""Beginning a snapshot of the store without leaving the hot plane.

BGSAVE and the save points come here: the fork and the waking of the writer's thread are all that the clients wait for,
and Python has no part in it.  What else a snapshot's beginning and end mean is persistence.py's.

FLUSHALL comes here too.  What it deleted must not come back after a crash: an image that was begun before is given up,
and with save points its client is held until an image of the emptied store is durable.  Redis saves in the foreground
there, and everyone waits.  As in Redis the reply is OK even when that snapshot fails, and the log has the reason.
"""

from kvstore.arguments import pack, word
from kvstore.connections import connection, hold
from kvstore.latency import FORK_EVENT, latency_sample
from kvstore.libc import words_at
from kvstore.resp import reply_raw
from kvstore.state import (
    ARGC,
    CONNECTION,
    DIRTY,
    DIRTY_AT_FORK,
    EXEC_SAVED_ADDRESS,
    HANDLER,
    LAST_SAVE_TRY_MS,
    SAVE_POINTS,
    SAVE_WANTED,
    SNAPSHOT_ALIVE,
    STORE,
    TICKET_ADDRESS,
    TIMER_MS,
)
from mmcore.jit import constant, int64, linked, void
from snapshot.begin import FORK_NS, GIVEN_UP, STARTED, TICKET_WORDS, begin

_SCHEDULE = pack(b"SCHEDULE")
_STARTED = constant(b"+Background saving started\r\n")
_SCHEDULED = constant(b"+Background saving scheduled\r\n")


@linked(int64(STORE))
def save_begin(store):  # type: ignore[no-untyped-def]
    """Have the store as it is now written: 0, or what `begin` says of why not."""
    server = store.server
    server[SAVE_WANTED] = 0
    server[LAST_SAVE_TRY_MS] = server[TIMER_MS]
    ticket = words_at(server[TICKET_ADDRESS], TICKET_WORDS)
    code = begin(store.space, ticket)
    if code == 0:
        latency_sample(store, FORK_EVENT, ticket[FORK_NS] // 1_000_000)
        server[DIRTY_AT_FORK] = server[DIRTY]
        server[SNAPSHOT_ALIVE] = 1
    return code


@linked(void(STORE))
def save_emptied(store):  # type: ignore[no-untyped-def]
    """See to it, after FLUSHALL, that no image brings back what was there; its client is held until that is durable."""
    server = store.server
    if server[SNAPSHOT_ALIVE] == 0 and server[SAVE_POINTS] == 0:
        return
    ticket = words_at(server[TICKET_ADDRESS], TICKET_WORDS)
    ticket[GIVEN_UP] = 1  # of no effect when nothing is being written
    if server[SAVE_POINTS] == 0:
        return
    number = ticket[STARTED] + 1
    # One that is being given up has to end first, a transaction too; and the loop tells why one cannot be begun.
    if server[SNAPSHOT_ALIVE] or server[EXEC_SAVED_ADDRESS] != 0 or save_begin(store) != 0:
        server[SAVE_WANTED] = 1
    hold(store, connection(store, server[CONNECTION]), number)


@linked(HANDLER)
def bgsave(store):  # type: ignore[no-untyped-def]
    """BGSAVE [SCHEDULE]; Python words every refusal."""
    server = store.server
    if server[ARGC] > 2 or (server[ARGC] == 2 and word(store, 1) != _SCHEDULE) or server[SNAPSHOT_ALIVE]:
        return 1
    if server[EXEC_SAVED_ADDRESS] != 0:
        # What the transaction has done so far must not be seen without the rest.
        server[SAVE_WANTED] = 1
        reply_raw(store, _SCHEDULED, 0, len(_SCHEDULED))
        return 0
    if save_begin(store) != 0:
        return 1
    reply_raw(store, _STARTED, 0, len(_STARTED))
    return 0
