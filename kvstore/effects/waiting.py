"""Keys that clients wait for: who waits for which, and which of them have come.

A connection whose command waits has an interest in each of its keys (connections/interests.py), in the table at
WAITED_KEYS.  While there is one, WAITING is among the door's listeners.  An event that may have made a key *marks* it,
which puts it at the end of a queue, and leaves a note for the end of the command at hand.  net/serving.py then runs the
commands that wait for it.

Only events are looked at here.  When a marked key is served, serving looks up whether it exists and of which type it
is.  An event that can only remove a key, or that belongs to a type that no command waits for, marks
nothing, so that the queue has the order in which Redis serves keys.  But a command that reads in a group of consumers
is to fail when its key or its group is gone (GROUP_READ): for that, an event that can remove the key marks it.
"""

from kvstore.connections.interests import (
    CONNECTION as INTERESTED,
)
from kvstore.connections.interests import (
    NUMBER,
    interest_add,
    interest_at,
    interest_first,
    interest_next,
    interests_end,
    topic_after,
    topic_at,
    topic_count,
    topic_find,
    topic_first,
    topic_mark,
)
from kvstore.connections.table import connection
from kvstore.effects.events import ALL_DATABASES, EMPTIED, EVENTS, REPLACED, SWAPPED, Event
from kvstore.lifetimes.call import CONNECTION, DB, DEPTH
from kvstore.lifetimes.connection import (
    AFTERWARDS,
    ANSWER_NULL_ARRAY,
    BLOCKED,
    BLOCKED_ANSWER,
    BLOCKED_KIND,
    BLOCKED_UNTIL_MS,
    FLAGS,
    KEYS_FIRST,
)
from kvstore.lifetimes.context import BLOCKS, CONTEXT, SERVED
from kvstore.lifetimes.listeners import WAITING
from kvstore.lifetimes.store import GROUP_READERS, HASH_SEED, LISTENERS, WAITED_KEYS
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument
from kvstore.wire.errors import OUT_OF_WAITING
from kvstore.wire.resp import reply_error, reply_null_array
from mmcore.jit import boolean, constant, int64, kernel, linked, uint8, void

_AWAITED_BY_NONE = "$hsxe"  # classes of events: strings, hashes, sets; expiry and eviction
_REMOVING = ("del", "expire", "persist", "rename_from", "move_from")
GROUP_READ = 7  # in the place of a type: of a command that is to be told when the key or its group is gone
_HARMLESS = [
    "xtrim",
    "xdel",
    "xsetid",
    "xgroup-setid",
    "xgroup-createconsumer",
    "xgroup-delconsumer",
    "xchanged",
    "xpending",
]
_NOTHING, _MAKES, _ENDS = range(3)  # what an event may do to a key that a command waits for


def _effect(event: Event) -> int:
    if event.name in _HARMLESS:
        return _NOTHING
    return _ENDS if event.letter in _AWAITED_BY_NONE or event.name in _REMOVING else _MAKES


_EFFECTS = constant([_effect(event) for event in EVENTS], uint8)


@kernel
def note_waiting(context):  # type: ignore[no-untyped-def]
    """Listen at the door while a key is waited for, or marked."""
    store = context.store
    if topic_count(store[WAITED_KEYS]) > 0:
        store[LISTENERS] |= WAITING
    else:
        store[LISTENERS] &= ~WAITING


@kernel
def may_wait(context):  # type: ignore[no-untyped-def]
    """Whether the command at hand may wait: not in a transaction, unless it has waited and is being served."""
    call = context.call
    return call[DEPTH] == 0 or connection(context, call[CONNECTION])[FLAGS] & BLOCKED != 0


@linked(void(CONTEXT, int64[::1]))
def stop_waiting(context, row):  # type: ignore[no-untyped-def]
    """End the interests of the connection with this row in keys."""
    interests_end(context.store[WAITED_KEYS], row, KEYS_FIRST)
    context.store[GROUP_READERS] -= int64(row[BLOCKED_KIND] == GROUP_READ + 1)
    row[BLOCKED_KIND] = 0
    note_waiting(context)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def wait_for_keys(context, first, keys, type_, timeout_ms):  # type: ignore[no-untyped-def]
    """Let the command at hand wait for one of `keys` keys, the first of which is this argument, of a type.

    Returns BLOCKS, or SERVED with an error replied when memory ran out.  A command that is being served waits on, in
    its place and with its deadline.  timeout_ms: 0 for none.
    """
    call, store = context.call, context.store
    row = connection(context, call[CONNECTION])
    if row[FLAGS] & BLOCKED:
        return BLOCKS
    row[BLOCKED_KIND] = type_ + 1
    store[GROUP_READERS] += int64(type_ == GROUP_READ)
    for i in range(first, first + keys):
        key, size = argument(context, i)
        hash_ = hash_bytes(bytes_at(key, size), 0, size, store[HASH_SEED])
        if interest_add(store[WAITED_KEYS], hash_, call[DB], key, size, call[CONNECTION], row, KEYS_FIRST) == -2:
            stop_waiting(context, row)
            reply_error(context, OUT_OF_WAITING)
            return SERVED
    note_waiting(context)
    row[BLOCKED_ANSWER], row[BLOCKED_UNTIL_MS] = ANSWER_NULL_ARRAY, timeout_ms
    return BLOCKS


@linked(int64(CONTEXT, int64, int64, int64, int64))
def wait_or_answer(context, first, keys, type_, timeout_ms):  # type: ignore[no-untyped-def]
    """The same; but a command that may not wait is answered as if its time were over."""
    if not may_wait(context):
        reply_null_array(context)
        return SERVED
    return wait_for_keys(context, first, keys, type_, timeout_ms)


@linked(boolean(CONTEXT, int64))
def _is_read_in_group(context, topic):  # type: ignore[no-untyped-def]
    """Whether a command waits for a key that must know when the key is gone."""
    table = context.store[WAITED_KEYS]
    at = interest_first(table, topic)
    while at >= 0:
        if connection(context, interest_at(table, at)[INTERESTED])[BLOCKED_KIND] == GROUP_READ + 1:
            return True
        at = interest_next(table, at)
    return False


@kernel
def _mark_database(context, db, gone):  # type: ignore[no-untyped-def]
    # With `gone`, only keys whose end somebody waits for.
    table = context.store[WAITED_KEYS]
    topic = topic_first(table)
    while topic >= 0:
        there = db == ALL_DATABASES or topic_at(table, topic)[NUMBER] == db
        if there and (gone == 0 or _is_read_in_group(context, topic)):
            topic_mark(table, topic)
        topic = topic_after(table, topic)


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def mark_waited(context, event, db, key, size, hash_):  # type: ignore[no-untyped-def]
    """Hear of a change: mark the key if somebody waits for it, and all keys of databases that changed places."""
    call, table = context.call, context.store[WAITED_KEYS]
    if event == SWAPPED:
        _mark_database(context, db, 0)
        _mark_database(context, hash_, 0)
    elif event == REPLACED:
        _mark_database(context, ALL_DATABASES, 0)
    elif event == EMPTIED:
        if context.store[GROUP_READERS] == 0:
            return
        _mark_database(context, db, 1)
    elif _EFFECTS[event] != _MAKES and (_EFFECTS[event] == _NOTHING or context.store[GROUP_READERS] == 0):
        return
    else:
        topic = topic_find(table, hash_, db, key, size)
        if topic < 0 or (_EFFECTS[event] == _ENDS and not _is_read_in_group(context, topic)):
            return
        topic_mark(table, topic)
    if call[CONNECTION] >= 0:
        connection(context, call[CONNECTION])[FLAGS] |= AFTERWARDS
