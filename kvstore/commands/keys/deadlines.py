"""EXPIRE, TTL and their family: a key's deadline."""

from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import DEL, EXPIRE, PERSIST
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.entries import NO_DEADLINE, entry_deadline
from kvstore.store.lookup import key_hash, lookup_peek, lookup_write
from kvstore.store.membership import delete_entry
from kvstore.store.reserve import reserve_change
from kvstore.store.values import change_deadline
from kvstore.wire.arguments import INT64_MAX, argument, integer_argument, pack, word
from kvstore.wire.errors import (
    EXPIRE_EXPIRE,
    EXPIRE_EXPIREAT,
    EXPIRE_PEXPIRE,
    EXPIRE_PEXPIREAT,
    GT_AND_LT,
    NOT_INTEGER,
    NX_AND_OTHERS,
    UNSUPPORTED_OPTION,
)
from kvstore.wire.resp import reply_error, reply_error_about, reply_integer, reply_out_of_frames
from mmcore.jit import int64, linked

_NX, _XX, _GT, _LT = pack(b"NX"), pack(b"XX"), pack(b"GT"), pack(b"LT")


@linked(int64(CONTEXT, int64, int64, int64))
def _expire(context, seconds, absolute, error):  # type: ignore[no-untyped-def]
    call, shard = context.call, context.shard
    key, key_size = argument(context, 1)
    nx = xx = gt = lt = False
    for i in range(3, call[ARGC]):
        option = word(context, i)
        if option == _NX:
            nx = True
        elif option == _XX:
            xx = True
        elif option == _GT:
            gt = True
        elif option == _LT:
            lt = True
        else:
            reply_error_about(context, UNSUPPORTED_OPTION, i)
            return 0
    if nx and (xx or gt or lt):
        reply_error(context, NX_AND_OTHERS)
        return 0
    if gt and lt:
        reply_error(context, GT_AND_LT)
        return 0
    valid, value = integer_argument(context, 2)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return 0
    base = 0 if absolute else shard[NOW_MS]
    if seconds and (value > INT64_MAX // 1000 or value < -(INT64_MAX // 1000)):
        reply_error(context, error)
        return 0
    if seconds:
        value *= 1000
    if value > INT64_MAX - base:
        reply_error(context, error)
        return 0
    deadline = value + base
    if not reserve_change(context, 1, 4096):
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if slot == 0:
        reply_integer(context, 0)
        return 0
    current = entry_deadline(context, slot_entry(context, slot))
    has = current != NO_DEADLINE
    # A key without a deadline lives for ever: GT never holds, LT always does.
    if (
        (nx and has)
        or (xx and not has)
        or (gt and (not has or deadline <= current))
        or (lt and has and deadline >= current)
    ):
        reply_integer(context, 0)
        return 0
    event = EXPIRE
    if deadline <= shard[NOW_MS]:
        delete_entry(context, call[DB], slot, hash_)
        event = DEL
    elif not change_deadline(context, call[DB], slot, hash_, deadline):
        reply_out_of_frames(context)
        return 0
    changed(context, call[DB], key, key_size, hash_, event, 1)
    reply_integer(context, 1)
    return 0


@linked(HANDLER)
def expire(context):  # type: ignore[no-untyped-def]
    """EXPIRE key seconds [NX | XX | GT | LT]"""
    return _expire(context, 1, 0, EXPIRE_EXPIRE)


@linked(HANDLER)
def pexpire(context):  # type: ignore[no-untyped-def]
    """PEXPIRE key milliseconds [NX | XX | GT | LT]"""
    return _expire(context, 0, 0, EXPIRE_PEXPIRE)


@linked(HANDLER)
def expireat(context):  # type: ignore[no-untyped-def]
    """EXPIREAT key unix-time-seconds [NX | XX | GT | LT]"""
    return _expire(context, 1, 1, EXPIRE_EXPIREAT)


@linked(HANDLER)
def pexpireat(context):  # type: ignore[no-untyped-def]
    """PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]"""
    return _expire(context, 0, 1, EXPIRE_PEXPIREAT)


@linked(int64(CONTEXT, int64, int64))
def _time_left(context, seconds, absolute):  # type: ignore[no-untyped-def]
    key, key_size = argument(context, 1)
    entry = lookup_peek(context, key, key_size)
    left = entry_deadline(context, entry) if entry != 0 else -2
    if left >= 0:
        if not absolute:
            left = max(0, left - context.shard[NOW_MS])
        if seconds:
            left = (left + 500) // 1000
    reply_integer(context, left)
    return 0


@linked(HANDLER)
def ttl(context):  # type: ignore[no-untyped-def]
    """TTL key"""
    return _time_left(context, 1, 0)


@linked(HANDLER)
def pttl(context):  # type: ignore[no-untyped-def]
    """PTTL key"""
    return _time_left(context, 0, 0)


@linked(HANDLER)
def expiretime(context):  # type: ignore[no-untyped-def]
    """EXPIRETIME key"""
    return _time_left(context, 1, 1)


@linked(HANDLER)
def pexpiretime(context):  # type: ignore[no-untyped-def]
    """PEXPIRETIME key"""
    return _time_left(context, 0, 1)


@linked(HANDLER)
def persist(context):  # type: ignore[no-untyped-def]
    """PERSIST key"""
    call = context.call
    key, key_size = argument(context, 1)
    if not reserve_change(context, 1, 4096):
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if slot == 0 or entry_deadline(context, slot_entry(context, slot)) == NO_DEADLINE:
        reply_integer(context, 0)
    elif change_deadline(context, call[DB], slot, hash_, NO_DEADLINE):
        changed(context, call[DB], key, key_size, hash_, PERSIST, 1)
        reply_integer(context, 1)
    else:
        reply_out_of_frames(context)
    return 0
