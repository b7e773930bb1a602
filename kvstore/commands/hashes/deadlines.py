"""HEXPIRE and its kin, HTTL and its kin, HPERSIST: deadlines of single fields (kvstore/store/fields.py).

The commands, their options, replies, errors and events are those of Redis 8; Valkey 9 has them with other texts of
errors.  A field that gets a deadline which has passed is deleted at once: `hdel`, and not `hexpired`.

Bounded by their arguments, and by a change of form: they reserve frames, and then cannot fail.
"""

from kvstore.commands.hashes.value import ensure_record, field_discard, field_find, live_find
from kvstore.commands.hashes.writing import changes_of, reserve_fields, tell_lost
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import HEXPIRE, HPERSIST
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.collections import OTHER_TYPE, collection_read, collection_write
from kvstore.store.databases import db_load
from kvstore.store.dated import agenda_of
from kvstore.store.entries import HASH, entry_root
from kvstore.store.fields import NO_TIME, drop_deadline, field_deadline, refresh_field, set_deadline
from kvstore.store.layout import DB_DATED
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.agenda import AGENDA_CHAIN_MAX, AGENDA_COST, TIME_MAX, agenda_moves
from kvstore.structures.collection import root_count
from kvstore.wire.arguments import arg_length, argument, integer_argument, is_word, pack, word
from kvstore.wire.errors import (
    EXPIRE_BELOW_ZERO,
    EXPIRE_HEXPIRE,
    EXPIRE_HEXPIREAT,
    EXPIRE_HPEXPIRE,
    EXPIRE_HPEXPIREAT,
    FIELDS_ABOVE_ZERO,
    FIELDS_POSITIVE,
    FIELDS_UNLIKE,
    NO_FIELDS_WORD,
    NOT_INTEGER,
)
from kvstore.wire.resp import reply_array, reply_error, reply_integer
from mmcore.jit import constant, int64, kernel, linked

NO_FIELD, NO_DEADLINE = -2, -1  # replies
NOT_MET, DONE, DELETED = 0, 1, 2
_FIELDS = constant(b"FIELDS")
_NX, _XX, _GT, _LT = pack(b"NX"), pack(b"XX"), pack(b"GT"), pack(b"LT")


@linked(int64(CONTEXT, int64, int64))
def fields_argument(context, i, error):  # type: ignore[no-untyped-def]
    """The number of the first field behind FIELDS and their number at argument i; 0 with an error replied.

    `error`: for a number that is none, or not above zero.
    """
    argc = context.call[ARGC]
    if i >= argc or not is_word(context, i, _FIELDS):
        reply_error(context, NO_FIELDS_WORD)
        return 0
    valid, count = integer_argument(context, i + 1) if i + 1 < argc else (True, argc)
    if not valid or count < 1:
        reply_error(context, error)
        return 0
    if count != argc - i - 2:
        reply_error(context, FIELDS_UNLIKE)
        return 0
    return i + 2


@linked(int64(CONTEXT, int64, int64, int64, int64))
def time_argument(context, i, seconds, absolute, error):  # type: ignore[no-untyped-def]
    """The deadline [Unix ms] that argument i gives a field; -1 with an error replied.

    `error`: for one that is too far away.
    """
    valid, value = integer_argument(context, i)
    if not valid or value < 0:
        reply_error(context, EXPIRE_BELOW_ZERO if valid else NOT_INTEGER)
        return -1
    if seconds:
        value = value * 1000 if value <= TIME_MAX // 1000 else TIME_MAX + 1
    base = 0 if absolute else context.shard[NOW_MS]
    if value > TIME_MAX - base:
        reply_error(context, error)
        return -1
    return value + base


@linked(int64(CONTEXT, int64, int64, int64, int64))
def reserve_deadlines(context, slot, first, step, size):  # type: ignore[no-untyped-def]
    """Whether the fields in each `step`-th argument from `first` on may get deadlines; else it replies -OOM.

    `size`: bytes that the command adds to the hash beside that.
    """
    count = 0
    size += arg_length(context, 1)  # the name, in the agenda of the database
    for i in range(first, context.call[ARGC], step):
        size += arg_length(context, i) + AGENDA_COST
        count += 1
    moved = min(count, AGENDA_CHAIN_MAX) + agenda_moves(context.space, db_load(context, context.call[DB], DB_DATED))
    if slot != 0:
        moved += agenda_moves(context.space, agenda_of(context, entry_root(context, slot_entry(context, slot))))
    return reserve_fields(context, slot, 2 * count + moved, size + AGENDA_COST * moved)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def give_deadline(context, entry, field, k, deadline):  # type: ignore[no-untyped-def]
    """Give a field that is there a deadline: DONE, or DELETED for one that has passed.  Frames were reserved."""
    if deadline <= context.shard[NOW_MS]:
        field_discard(context, context.call[DB], entry, field, k)
        return DELETED
    ensure_record(context, entry)
    set_deadline(context, context.call[DB], entry, field, k, deadline)
    return DONE


@kernel
def _meets(condition, before, deadline):  # type: ignore[no-untyped-def]
    # Whether a field with the deadline `before`, NO_TIME for none, may get another one.
    if condition == _NX:
        return before == NO_TIME
    if condition == _XX:
        return before != NO_TIME
    if condition == _GT:
        return before != NO_TIME and before < deadline
    return condition != _LT or before == NO_TIME or before > deadline


@linked(int64(CONTEXT, int64, int64))
def _reply_all(context, first, reply):  # type: ignore[no-untyped-def]
    """Reply the same about each field."""
    count = context.call[ARGC] - first
    reply_array(context, count)
    for _ in range(count):
        reply_integer(context, reply)
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _hexpire(context, seconds, absolute, error):  # type: ignore[no-untyped-def]
    # key, time, a condition, FIELDS, their number, fields.
    db = context.call[DB]
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    deadline = time_argument(context, 2, seconds, absolute, error)
    if deadline < 0:
        return 0
    condition = word(context, 3)
    if condition != _NX and condition != _XX and condition != _GT and condition != _LT:
        condition = 0
    first = fields_argument(context, 4 if condition != 0 else 3, FIELDS_ABOVE_ZERO)
    if first == 0:
        return 0
    if slot == 0:
        return _reply_all(context, first, NO_FIELD)
    if not reserve_deadlines(context, slot, first, 1, 0):
        return 0
    entry, updated, deleted, expired = slot_entry(context, slot), 0, 0, 0
    reply_array(context, context.call[ARGC] - first)
    for i in range(first, context.call[ARGC]):
        field, k = argument(context, i)
        expired += refresh_field(context, db, entry, field, k, 1)
        root, done = entry_root(context, entry), NO_FIELD
        if field_find(context, root, field, k) != 0:
            done = NOT_MET
            if _meets(condition, field_deadline(context, root, field, k), deadline):
                done = give_deadline(context, entry, field, k, deadline)
        updated += int64(done == DONE)
        deleted += int64(done == DELETED)
        reply_integer(context, done)
    if updated > 0:
        changed(context, db, key, key_size, hash_, HEXPIRE, updated)
    tell_lost(context, key, key_size, hash_, deleted, expired, root_count(context.space, entry_root(context, entry)))
    return 0


@linked(HANDLER)
def hexpire(context):  # type: ignore[no-untyped-def]
    """HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]"""
    return _hexpire(context, 1, 0, EXPIRE_HEXPIRE)


@linked(HANDLER)
def hpexpire(context):  # type: ignore[no-untyped-def]
    """HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]"""
    return _hexpire(context, 0, 0, EXPIRE_HPEXPIRE)


@linked(HANDLER)
def hexpireat(context):  # type: ignore[no-untyped-def]
    """HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]"""
    return _hexpire(context, 1, 1, EXPIRE_HEXPIREAT)


@linked(HANDLER)
def hpexpireat(context):  # type: ignore[no-untyped-def]
    """HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]"""
    return _hexpire(context, 0, 1, EXPIRE_HPEXPIREAT)


@linked(int64(CONTEXT, int64, int64))
def _httl(context, seconds, absolute):  # type: ignore[no-untyped-def]
    # key, FIELDS, their number, fields.
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry == OTHER_TYPE:
        return 0
    first = fields_argument(context, 2, FIELDS_POSITIVE)
    if first == 0:
        return 0
    if entry == 0:
        return _reply_all(context, first, NO_FIELD)
    root, base = entry_root(context, entry), 0 if absolute else context.shard[NOW_MS]
    reply_array(context, context.call[ARGC] - first)
    for i in range(first, context.call[ARGC]):
        field, k = argument(context, i)
        reply = NO_FIELD
        if live_find(context, root, field, k) != 0:
            deadline = field_deadline(context, root, field, k)
            left = deadline - base
            reply = NO_DEADLINE if deadline == NO_TIME else (left + 999) // 1000 if seconds else left
        reply_integer(context, reply)
    return 0


@linked(HANDLER)
def httl(context):  # type: ignore[no-untyped-def]
    """HTTL key FIELDS numfields field [field ...]"""
    return _httl(context, 1, 0)


@linked(HANDLER)
def hpttl(context):  # type: ignore[no-untyped-def]
    """HPTTL key FIELDS numfields field [field ...]"""
    return _httl(context, 0, 0)


@linked(HANDLER)
def hexpiretime(context):  # type: ignore[no-untyped-def]
    """HEXPIRETIME key FIELDS numfields field [field ...]"""
    return _httl(context, 1, 1)


@linked(HANDLER)
def hpexpiretime(context):  # type: ignore[no-untyped-def]
    """HPEXPIRETIME key FIELDS numfields field [field ...]"""
    return _httl(context, 0, 1)


@linked(HANDLER)
def hpersist(context):  # type: ignore[no-untyped-def]
    """HPERSIST key FIELDS numfields field [field ...]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    first = fields_argument(context, 2, FIELDS_POSITIVE)
    if first == 0:
        return 0
    if slot == 0:
        return _reply_all(context, first, NO_FIELD)
    count = context.call[ARGC] - first
    if not reserve_removal_of(context, changes_of(context, slot, count)):
        return 0
    entry, persisted = slot_entry(context, slot), 0
    root = entry_root(context, entry)
    reply_array(context, count)
    for i in range(first, context.call[ARGC]):
        field, k = argument(context, i)
        reply = NO_FIELD
        if live_find(context, root, field, k) != 0:
            reply = NO_DEADLINE
            if field_deadline(context, root, field, k) != NO_TIME:
                drop_deadline(context, context.call[DB], entry, field, k)
                persisted += 1
                reply = DONE
        reply_integer(context, reply)
    if persisted > 0:
        changed(context, context.call[DB], key, key_size, hash_, HPERSIST, 1)
    return 0
