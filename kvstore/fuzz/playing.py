"""Playing an input in a fork of the store: the kernels that serve a client's bytes, without a client.

An input is what a client would send.  `play` opens a connection that has no socket, executes the input by the loop's
own pipeline until nothing more of it can be executed, and closes the connection.  The replies are dropped.

    kept = begin(context, mode)       fork: `kept` is the store as it is
    play(context, address, size)      what is written now is copied
    restore(context, kept)            the store is as it was, and all that was copied is free again

`executions` does that for one input after the other.  It counts them in `progress`, which may lie in memory shared with
another process.  If this process dies, the other one knows the input that it died of.

Commands that Python serves are passed over, and so are the kernels whose effects are not the store's (`NOT_PLAYED` in
target.py).  A command that blocks ends its input, and so do replies that are too long to be kept for the end of a turn.
"""

from kvstore.commands.rows import UNCOUNTED
from kvstore.connections.sends import sends_over
from kvstore.connections.table import connection, open_connection, take_turn
from kvstore.lifetimes.call import (
    COMMAND,
    COMMAND_CYCLES,
    CONNECTION,
    DB,
    PROTOCOL,
    QUERY_ADDRESS,
    QUERY_SIZE,
    REPLY_BASE,
)
from kvstore.lifetimes.connection import AUTHENTICATED, DATABASE, FLAGS, KILLED, SPEAKS
from kvstore.lifetimes.context import CONTEXT, SERVED
from kvstore.lifetimes.pool import RELEASE_COUNT
from kvstore.lifetimes.shard import (
    AHEAD,
    INPUT_POSITION,
    INPUT_SHARED,
    NEXT_ID,
    TIMER_MS,
    TURN_BEGAN,
    TURNS_PENDING,
)
from kvstore.lifetimes.store import COPY_ROOT, FROZEN_ROOTS
from kvstore.net.closing import close_connection
from kvstore.net.events import EVENT_COMMAND, EVENT_QUEUE
from kvstore.net.pipeline import run_pipeline
from kvstore.store.databases import keyspace_open
from kvstore.store.flush import release_copied, release_root, release_some
from kvstore.system.libc import cycles
from kvstore.wire.errors import SYNTAX
from kvstore.wire.resp import reply_error, reply_reset
from mmcore.fork import fork
from mmcore.jit import int64, linked, void
from mmcore.mapping import load_cr3

NO_FORK = -1
_NOWHERE = -1  # the socket of a connection without one
_STEP = 1 << 16  # pages


@linked(int64(CONTEXT))
def pass_over(context):  # type: ignore[no-untyped-def]
    """The handler of commands that are not played."""
    reply_error(context, SYNTAX)
    return SERVED


@linked(int64(CONTEXT, int64))
def begin(context, mode):  # type: ignore[no-untyped-def]
    """Fork the store; returns the root of the store as it is, or NO_FRAME."""
    root = fork(context.space, mode)
    if root >= 0:
        context.store[FROZEN_ROOTS] += 1
    return root


@linked(void(CONTEXT, int64, int64))
def play(context, address, size):  # type: ignore[no-untyped-def]
    """Execute the `size` bytes at `address` as the input of a new connection, and close it."""
    call, shard = context.call, context.shard
    slot = open_connection(context, _NOWHERE, shard[NEXT_ID], AUTHENTICATED, shard[TIMER_MS])
    assert slot >= 0, "no slot is free"
    shard[NEXT_ID] += 1
    row = connection(context, slot)
    call[CONNECTION], call[DB], call[PROTOCOL] = slot, row[DATABASE], row[SPEAKS]
    call[QUERY_ADDRESS], call[QUERY_SIZE] = address, size
    shard[INPUT_POSITION] = shard[AHEAD] = 0
    shard[INPUT_SHARED] = 1
    while True:
        shard[TURN_BEGAN] = call[COMMAND_CYCLES] = cycles()
        event = run_pipeline(context, slot, row)
        if event == EVENT_COMMAND or event == EVENT_QUEUE:  # Python would serve the command, and go on
            reply_error(context, SYNTAX)
            call[COMMAND] = UNCOUNTED
            continue
        if shard[TURNS_PENDING] == 0:
            break
        while shard[TURNS_PENDING] > 0:
            take_turn(context)
        if row[FLAGS] & KILLED:
            break
    close_connection(context, slot)
    sends_over(context, 0)
    call[REPLY_BASE], call[CONNECTION] = 0, -1
    reply_reset(context)


@linked(void(CONTEXT, int64))
def restore(context, root):  # type: ignore[no-untyped-def]
    """Make the store what it was when `begin` returned this root."""
    if context.store[COPY_ROOT] >= 0:
        release_copied(context)
    release_root(context, load_cr3(context.space, root))
    context.store[FROZEN_ROOTS] -= 1
    code = keyspace_open(context)
    assert code == 0, "a root without a store"
    while context.pool[RELEASE_COUNT] > 0:
        release_some(context, _STEP)


@linked(void(CONTEXT, int64, int64[::1], int64, int64[::1]))
def executions(context, address, ends, mode, progress):  # type: ignore[no-untyped-def]
    """Play inputs that lie behind each other at `address`, each in a fork of its own.

    ends: where each of them ends, counted from `address`.  mode: of the forks; with NO_FORK the store itself changes.
    progress[0] is increased before each input.
    """
    start = 0
    for i in range(ends.size):
        progress[0] += 1
        if mode == NO_FORK:
            play(context, address + start, ends[i] - start)
            start = ends[i]
            continue
        root = begin(context, mode)
        assert root >= 0, "no frame for a root"
        play(context, address + start, ends[i] - start)
        restore(context, root)
        start = ends[i]
