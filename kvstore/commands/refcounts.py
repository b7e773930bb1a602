"""OBJECT REFCOUNT within a transaction: the values that EXEC's queue still references.

In Redis a value that SET, GETSET or MSET stored is the argument itself.  So while EXEC runs, the queue and the keyspace
share it, and its count is 2.  A computed value, such as the result of INCR or of APPEND, is not shared.  Values here
are copied and have no counts.  So a transaction that asks for a count notes, command by command, which keys received an
argument unchanged.  Other transactions note nothing.

The notes are a hash table with open addressing outside the address space.  `holdings_begin` makes it for the current
transaction, and it is dropped when that ends:

    WORD        DESCRIPTION
    0           hash of the key
    1           its database, -1 for an empty slot
    2           1 if the queue holds the key's value, else 0
"""

from kvstore.lifetimes.call import ARGC, DB, REPLY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.connection import QUEUE_ADDRESS, QUEUE_COUNT
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import HOLDINGS_ADDRESS, HOLDINGS_SLOTS
from kvstore.store.lookup import key_hash
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.arguments import arg_length, argument, integer_argument, pack, word
from mmcore.jit import int64, kernel, linked, view, void

# The arguments that a command keeps when it changes something: declared, and the word ROW_HOLDS of the command table.
KEEPS_NONE, KEEPS_VALUE, KEEPS_VALUES, KEEPS_NEW, MAKES_VALUE, RENAMES, MOVES, COPIES, SWAPS = range(9)
_HASH, _DB, _HELD, _WIDTH = 0, 1, 2, 3
_DB_OPTION = pack(b"DB")


@view
def _notes(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[HOLDINGS_ADDRESS], _WIDTH * context.shard[HOLDINGS_SLOTS])


@linked(void(CONTEXT))
def holdings_end(context):  # type: ignore[no-untyped-def]
    """Drop the notes."""
    free(context.shard[HOLDINGS_ADDRESS])
    context.shard[HOLDINGS_ADDRESS] = 0


@linked(void(CONTEXT, int64[::1]))
def holdings_begin(context, row):  # type: ignore[no-untyped-def]
    """Begin to note which values the queue of the connection with this row holds; does nothing when memory ran out."""
    shard = context.shard
    arguments, at = 0, row[QUEUE_ADDRESS]
    for _ in range(row[QUEUE_COUNT]):
        count = words_at(at, 2)[1]
        lengths = words_at(at + 16, count)
        size = 0
        for i in range(count):
            size += lengths[i]
        arguments += count
        at += 16 + 8 * count + ((size + 7) & ~7)
    slots = 16
    while slots < 2 * arguments:  # no command changes more keys than it has arguments
        slots *= 2
    shard[HOLDINGS_ADDRESS] = malloc(8 * _WIDTH * slots)
    shard[HOLDINGS_SLOTS] = slots
    if shard[HOLDINGS_ADDRESS] != 0:
        notes = _notes(context)
        for slot in range(slots):
            notes[_WIDTH * slot + _DB] = -1


@kernel
def _find(context, db, hash_):  # type: ignore[no-untyped-def]
    # The slot of the key's note, or the free slot for it.
    notes, slots = _notes(context), context.shard[HOLDINGS_SLOTS]
    slot = hash_ & (slots - 1)  # independent of the database, so that SWAPDB moves no note
    while notes[_WIDTH * slot + _DB] != -1 and (
        notes[_WIDTH * slot + _DB] != db or notes[_WIDTH * slot + _HASH] != hash_
    ):
        slot = (slot + 1) & (slots - 1)
    return _WIDTH * slot


@linked(int64(CONTEXT, int64, int64))
def is_held(context, db, hash_):  # type: ignore[no-untyped-def]
    """Whether the queue holds the value of the key with this hash: 1 or 0."""
    if context.shard[HOLDINGS_ADDRESS] == 0:
        return 0
    notes, at = _notes(context), _find(context, db, hash_)
    return notes[at + _HELD] if notes[at + _DB] == db else 0


@kernel
def _hash(context, i):  # type: ignore[no-untyped-def]
    # The same, for the key in argument i.
    key, key_size = argument(context, i)
    return key_hash(context, key, key_size)


@kernel
def _note(context, db, hash_, held):  # type: ignore[no-untyped-def]
    notes, at = _notes(context), _find(context, db, hash_)
    notes[at + _HASH], notes[at + _DB], notes[at + _HELD] = hash_, db, held


@kernel
def _appended_length(context, start):  # type: ignore[no-untyped-def]
    # The integer in the reply at `start` of the reply buffer.
    reply, value = bytes_at(context.call[REPLY_ADDRESS], context.call[REPLY_LENGTH]), 0
    at = start + 1
    while reply[at] != 13:
        value = 10 * value + int64(reply[at]) - 48
        at += 1
    return value


@linked(void(CONTEXT, int64, int64))
def holdings_note(context, holds, reply_start):  # type: ignore[no-untyped-def]
    """Note the arguments that the command at hand stored; it has changed the store and replied at reply_start."""
    call, shard = context.call, context.shard
    db = call[DB]
    if holds == KEEPS_VALUE or holds == MAKES_VALUE:
        _note(context, db, _hash(context, 1), 1 if holds == KEEPS_VALUE else 0)
    elif holds == KEEPS_VALUES:
        for i in range(1, call[ARGC], 2):
            _note(context, db, _hash(context, i), 1)
    elif holds == KEEPS_NEW:
        _note(
            context, db, _hash(context, 1), 1 if _appended_length(context, reply_start) == arg_length(context, 2) else 0
        )
    elif holds == RENAMES:
        _note(context, db, _hash(context, 2), is_held(context, db, _hash(context, 1)))
    elif holds == MOVES:
        _, target = integer_argument(context, 2)
        _note(context, target, _hash(context, 1), is_held(context, db, _hash(context, 1)))
    elif holds == COPIES:
        target = db
        for i in range(3, call[ARGC] - 1):
            if word(context, i) == _DB_OPTION:
                _, target = integer_argument(context, i + 1)
        _note(context, target, _hash(context, 2), 0)
    elif holds == SWAPS:
        _, first = integer_argument(context, 1)
        _, second = integer_argument(context, 2)
        notes = _notes(context)
        for at in range(_DB, _WIDTH * shard[HOLDINGS_SLOTS], _WIDTH):
            if notes[at] == first or notes[at] == second:
                notes[at] = first + second - notes[at]
