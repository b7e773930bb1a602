"""Serving: the keys that clients wait for, and that have come, are given to those who have waited for longest.

It runs between two commands, when the door has marked waited keys (effects/waiting.py): behind the command, or the
transaction, that made them, and before any other.  For one marked key after the other, in the order of the marks,

    each connection that waits for it, in the order of arrival, runs its command again, in a nested call, if the key
    exists and has the type that the command waits for, or the command is to know that it is gone

so the command takes from the first key of its list that has something, and its effects go through the door as always.
They may mark further keys, as BLMOVE does; those come last, and it ends when no key is marked.  A connection whose
command waits on keeps its place in all lists.

The reply is written behind those to the connection at hand, and sent with them at the end of the turn.

While CLIENT PAUSE holds writes back, marked keys wait for its end.  Unlike in Redis, the time of a command that waits
for one may be over before.
"""

from kvstore.connections.interests import (
    CONNECTION as INTERESTED,
)
from kvstore.connections.interests import (
    NAME,
    NUMBER,
    SIZE,
    hash_of_topic,
    interest_at,
    interest_first,
    interest_next,
    topic_at,
    topic_marked,
    topic_unmark,
)
from kvstore.connections.sends import REPLY, send_put, spill, undefer
from kvstore.connections.table import connection
from kvstore.effects.waiting import GROUP_READ, note_waiting
from kvstore.lifetimes.call import ARGC, ARGS, COMMAND_CYCLES, REPLY_BASE, REPLY_LENGTH
from kvstore.lifetimes.connection import AFTERWARDS, BLOCKED, BLOCKED_KIND, CLOSE_AFTER_REPLY, FLAGS, KILLED
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import PAUSED_UNTIL_MS, SENDS, TIMER_MS
from kvstore.lifetimes.sizes import SENDS_MAX
from kvstore.lifetimes.store import GROUP_READERS, WAITED_KEYS
from kvstore.net.events import EVENT_BLOCKED, EVENT_NONE
from kvstore.net.execution import execute_again
from kvstore.net.output import takes_reply
from kvstore.net.waiting import end_wait, push_waiting
from kvstore.store.entries import entry_type
from kvstore.store.index import entry_of
from kvstore.store.lookup import lookup
from kvstore.system.libc import cycles
from kvstore.system.nesting import call_pop
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64

NO_KIND = -1


@kernel
def has_waiting(context):  # type: ignore[no-untyped-def]
    """Whether a key is marked."""
    return topic_marked(context.store[WAITED_KEYS]) >= 0


@linked(void(CONTEXT, int64, int64[::1]))
def _serve(context, slot, row):  # type: ignore[no-untyped-def]
    """Run the command that a connection waits in, and answer it unless it waits on."""
    call, shard = context.call, context.shard
    start = call[REPLY_LENGTH]
    push_waiting(context, slot, row)
    event = execute_again(context, row)
    call_pop(context)
    wanted = False
    if event != EVENT_BLOCKED:
        assert event == EVENT_NONE, "a command that waited cannot be answered at once"
        end_wait(context, slot, row)
        wanted = takes_reply(row)
    if wanted:
        if shard[SENDS] == SENDS_MAX:
            spill(context, 0)
        send_put(context, slot, row, REPLY, start, call[REPLY_LENGTH] - start)
    else:
        call[REPLY_LENGTH] = start
    call[REPLY_BASE] = call[REPLY_LENGTH]
    row[FLAGS] &= ~AFTERWARDS
    undefer(context, row)


@linked(void(CONTEXT, int64))
def _serve_key(context, topic):  # type: ignore[no-untyped-def]
    """Serve those who wait for a key, in the order of their arrival, while it is there."""
    table = context.store[WAITED_KEYS]
    waited = topic_at(table, topic)
    db, key, size, hash_ = waited[NUMBER], waited[NAME], waited[SIZE], hash_of_topic(table, topic)
    at = interest_first(table, topic)
    while at >= 0:
        slot = lookup(context, db, key, size, hash_)
        if slot == 0 and context.store[GROUP_READERS] == 0:
            return
        kind = entry_type(context, entry_of(load64(context.space, slot))) + 1 if slot != 0 else NO_KIND
        connected = interest_at(table, at)[INTERESTED]
        at = interest_next(table, at)  # being served may end the interest, and with the last one the topic
        row = connection(context, connected)
        served = row[BLOCKED_KIND] == kind or row[BLOCKED_KIND] == GROUP_READ + 1
        if served and row[FLAGS] & (BLOCKED | KILLED | CLOSE_AFTER_REPLY) == BLOCKED:
            _serve(context, connected, row)


@linked(void(CONTEXT))
def serve_waiting(context):  # type: ignore[no-untyped-def]
    """Serve the marked keys until none is left.  All replies to the connection at hand wait to be sent already."""
    call, shard, table = context.call, context.shard, context.store[WAITED_KEYS]
    args, argc = call[ARGS], call[ARGC]
    call[ARGS] = call[ARGC] = 0  # the command at hand is over, so that its arguments' place is free
    topic = topic_marked(table)
    while topic >= 0 and shard[PAUSED_UNTIL_MS] <= shard[TIMER_MS]:
        served = topic_unmark(table)
        if served >= 0:
            _serve_key(context, served)
        topic = topic_marked(table)
    call[ARGS], call[ARGC] = args, argc
    call[COMMAND_CYCLES] = cycles()  # the time was the turn's, not the next command's
    note_waiting(context)
