"""HGETEX, HSETEX, HGETDEL: values and deadlines of fields in one command, as in Redis 8.

HSETEX reads its arguments before it looks at the key, HGETEX and HGETDEL after that; so errors come in that order.
Bounded as the commands of deadlines.py are.
"""

from kvstore.commands.hashes.deadlines import (
    DELETED,
    fields_argument,
    give_deadline,
    reserve_deadlines,
    time_argument,
)
from kvstore.commands.hashes.reading import reply_field_value
from kvstore.commands.hashes.value import field_discard, field_find, field_set, live_find, make_wide
from kvstore.commands.hashes.writing import changes_of, hash_for_writing, tell_lost
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import HDEL, HEXPIRE, HPERSIST, HSET
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import HASH_MAX_LISTPACK_ENTRIES
from kvstore.store.collections import OTHER_TYPE, collection_gone, collection_write
from kvstore.store.entries import HASH, entry_root
from kvstore.store.fields import NO_TIME, drop_deadline, field_deadline, refresh_field, tell_fields_expired
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_size
from kvstore.wire.arguments import arg_length, argument, integer_argument, is_word, pack, word
from kvstore.wire.errors import (
    EXPIRE_HGETEX,
    EXPIRE_HSETEX,
    EXPIRE_MISSING,
    EXPIRE_TWICE,
    FIELDS_INVALID,
    FIELDS_POSITIVE,
    FXX_AND_FNX,
    HSETEX_ARITY,
    UNKNOWN_ARGUMENT,
)
from kvstore.wire.resp import reply_array, reply_error, reply_error_about, reply_integer, reply_null
from mmcore.jit import constant, int64, kernel, linked, void

_FIELDS = constant(b"FIELDS")
_EX, _PX, _EXAT, _PXAT = pack(b"EX"), pack(b"PX"), pack(b"EXAT"), pack(b"PXAT")
_PERSIST, _KEEPTTL, _FNX, _FXX = pack(b"PERSIST"), pack(b"KEEPTTL"), pack(b"FNX"), pack(b"FXX")
NO_CHANGE, REMOVE = -1, -2  # instead of a deadline
_INT32_MAX = (1 << 31) - 1
# HSETEX: where its fields begin, in the low bits, and what was given
_PLACE_BITS = 32
KEEP, NONE_THERE, ALL_THERE, TIMED = (1 << (_PLACE_BITS + i) for i in range(4))


@kernel
def _takes_time(name):  # type: ignore[no-untyped-def]
    return name == _EX or name == _PX or name == _EXAT or name == _PXAT


@kernel
def _time_of(context, i, error):  # type: ignore[no-untyped-def]
    # The deadline that the option at argument i gives, whose time follows; -1 with an error replied.
    name = word(context, i)
    return time_argument(context, i + 1, name == _EX or name == _EXAT, name == _EXAT or name == _PXAT, error)


@linked(void(CONTEXT, int64))
def _reply_nulls(context, count):  # type: ignore[no-untyped-def]
    reply_array(context, count)
    for _ in range(count):
        reply_null(context)


@linked(HANDLER)
def hgetdel(context):  # type: ignore[no-untyped-def]
    """HGETDEL key FIELDS numfields field [field ...]"""
    db = context.call[DB]
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    first = fields_argument(context, 2, FIELDS_POSITIVE)
    if first == 0:
        return 0
    count = context.call[ARGC] - first
    if slot == 0:
        _reply_nulls(context, count)
        return 0
    if not reserve_removal_of(context, changes_of(context, slot, count)):
        return 0
    entry, removed, expired = slot_entry(context, slot), 0, 0
    reply_array(context, count)
    for i in range(first, context.call[ARGC]):
        field, k = argument(context, i)
        expired += refresh_field(context, db, entry, field, k, 1)
        reply_field_value(context, field_find(context, entry_root(context, entry), field, k))
        removed += field_discard(context, db, entry, field, k)
    tell_lost(context, key, key_size, hash_, removed, expired, root_count(context.space, entry_root(context, entry)))
    return 0


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _change_deadline(context, entry, field, k, change):  # type: ignore[no-untyped-def]
    """Give a field that is there a deadline, or remove its own: what give_deadline says, or 0 if nothing changed."""
    if change != REMOVE:
        return give_deadline(context, entry, field, k, change)
    if field_deadline(context, entry_root(context, entry), field, k) == NO_TIME:
        return 0
    drop_deadline(context, context.call[DB], entry, field, k)
    return 1


@linked(int64(CONTEXT, int64))
def _reserve_hgetex(context, slot):  # type: ignore[no-untyped-def]
    """Whether HGETEX may do to this hash what its option says; else it replies -OOM."""
    if _takes_time(word(context, 2)):
        return reserve_deadlines(context, slot, 6, 1, 0)
    return reserve_removal_of(context, changes_of(context, slot, context.call[ARGC] - 4))


@linked(HANDLER)
def hgetex(context):  # type: ignore[no-untyped-def]
    """HGETEX key [EX seconds | PX ms | EXAT seconds | PXAT ms | PERSIST] FIELDS numfields field [field ...]"""
    db, change, at = context.call[DB], NO_CHANGE, 2
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    if _takes_time(word(context, 2)):
        change, at = _time_of(context, 2, EXPIRE_HGETEX), 4
        if change < 0:
            return 0
    elif word(context, 2) == _PERSIST:
        change, at = REMOVE, 3
    first = fields_argument(context, at, FIELDS_POSITIVE)
    if first == 0:
        return 0
    if slot == 0:
        _reply_nulls(context, context.call[ARGC] - first)
        return 0
    if not _reserve_hgetex(context, slot):
        return 0
    entry, updated, deleted, expired = slot_entry(context, slot), 0, 0, 0
    reply_array(context, context.call[ARGC] - first)
    for i in range(first, context.call[ARGC]):
        field, k = argument(context, i)
        expired += refresh_field(context, db, entry, field, k, 1)
        element = field_find(context, entry_root(context, entry), field, k)
        reply_field_value(context, element)
        if element != 0 and change != NO_CHANGE:
            done = _change_deadline(context, entry, field, k, change)
            updated += int64(done == 1)
            deleted += int64(done == DELETED)
    if updated > 0:
        changed(context, db, key, key_size, hash_, HPERSIST if change == REMOVE else HEXPIRE, updated)
    tell_lost(context, key, key_size, hash_, deleted, expired, root_count(context.space, entry_root(context, entry)))
    return 0


@linked(int64(CONTEXT, int64))
def _hsetex_fields(context, i):  # type: ignore[no-untyped-def]
    """The number of the first field behind FIELDS at argument i; 0 with an error replied."""
    argc = context.call[ARGC]
    if i >= argc - 3:
        reply_error(context, HSETEX_ARITY)
        return 0
    valid, count = integer_argument(context, i + 1)
    if not valid or count < 1 or count > _INT32_MAX:
        reply_error(context, FIELDS_INVALID)
        return 0
    if argc - i - 2 != 2 * count:
        reply_error(context, HSETEX_ARITY)
        return 0
    return i + 2


@linked(int64(CONTEXT))
def _hsetex_options(context):  # type: ignore[no-untyped-def]
    """Where the fields of HSETEX begin, with the bits of what was given, and the time's number above; or 0."""
    given, i, argc = 0, 2, context.call[ARGC]
    while i < argc and not is_word(context, i, _FIELDS):
        name = word(context, i)
        if _takes_time(name) or name == _KEEPTTL:
            if given & (KEEP | TIMED):
                reply_error(context, EXPIRE_TWICE)
                return 0
            given |= KEEP if name == _KEEPTTL else TIMED
            if name != _KEEPTTL:
                if i + 1 >= argc:
                    reply_error(context, EXPIRE_MISSING)
                    return 0
                if _time_of(context, i, EXPIRE_HSETEX) < 0:
                    return 0
                i += 1
        elif name == _FNX or name == _FXX:
            if given & (NONE_THERE | ALL_THERE):
                reply_error(context, FXX_AND_FNX)
                return 0
            given |= NONE_THERE if name == _FNX else ALL_THERE
        else:
            reply_error_about(context, UNKNOWN_ARGUMENT, i)
            return 0
        i += 1
    first = _hsetex_fields(context, i)
    return first | given if first != 0 else 0


@kernel
def _hsetex_deadline(context, given):  # type: ignore[no-untyped-def]
    # The deadline that the options give, which are right; NO_CHANGE without one.
    if given & TIMED == 0:
        return int64(NO_CHANGE)
    i = 2
    while not _takes_time(word(context, i)):
        i += 1
    return _time_of(context, i, EXPIRE_HSETEX)


@linked(int64(CONTEXT, int64, int64, int64))
def _is_met(context, slot, first, given):  # type: ignore[no-untyped-def]
    """Whether FNX or FXX, if given, allow to set the fields (1 or 0)."""
    if given & (NONE_THERE | ALL_THERE) == 0:
        return 1
    wanted = given & ALL_THERE != 0
    for i in range(first, context.call[ARGC], 2):
        field, k = argument(context, i)
        there = slot != 0 and live_find(context, entry_root(context, slot_entry(context, slot)), field, k) != 0
        if there != wanted:
            return 0
    return 1


@linked(HANDLER)
def hsetex(context):  # type: ignore[no-untyped-def]
    """HSETEX key [FNX | FXX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] FIELDS numfields field value [...]"""
    argc, db = context.call[ARGC], context.call[DB]
    given = _hsetex_options(context)
    if given == 0:
        return 0
    first, deadline = given & ((1 << _PLACE_BITS) - 1), _hsetex_deadline(context, given)
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, HASH)
    if slot == OTHER_TYPE:
        return 0
    if _is_met(context, slot, first, given) == 0:
        reply_integer(context, 0)
        return 0
    size, fields = key_size, (argc - first) // 2
    for i in range(first, argc, 2):
        size += element_size(arg_length(context, i), arg_length(context, i + 1))
    if not reserve_deadlines(context, slot, first, 2, size):
        return 0
    entry, deleted, expired = hash_for_writing(context, slot, key, key_size, hash_), 0, 0
    if fields > context.shard[HASH_MAX_LISTPACK_ENTRIES]:
        make_wide(context, entry)
    for i in range(first, argc, 2):
        field, k = argument(context, i)
        value, v = argument(context, i + 1)
        expired += refresh_field(context, db, entry, field, k, int64(given & (KEEP | TIMED) != 0))
        field_set(context, entry, field, k, value, v)
        if deadline != NO_CHANGE:
            deleted += int64(give_deadline(context, entry, field, k, deadline) == DELETED)
    tell_fields_expired(context, db, key, key_size, hash_, expired)
    changed(context, db, key, key_size, hash_, HSET, fields)
    if deadline != NO_CHANGE:
        changed(context, db, key, key_size, hash_, HDEL if deleted > 0 else HEXPIRE, 0)
    if root_count(context.space, entry_root(context, entry)) == 0:
        collection_gone(context, key, key_size, hash_)
    reply_integer(context, 1)
    return 0
