"""DEL, UNLINK, EXISTS, TOUCH, TYPE, DBSIZE: the existence of keys.

DEL and UNLINK free a long or great value later, in steps.
"""

from kvstore.effects.door import changed
from kvstore.effects.events import DEL
from kvstore.lifetimes.call import ARGC, DB, NO_TOUCH
from kvstore.lifetimes.context import HANDLER
from kvstore.store.databases import db_load
from kvstore.store.entries import entry_type
from kvstore.store.layout import DB_KEYS
from kvstore.store.lookup import key_hash, lookup, lookup_peek, lookup_read
from kvstore.store.membership import delete_entry
from kvstore.store.reserve import reserve_removal
from kvstore.store.types import NAME_BYTES, NAME_START
from kvstore.wire.arguments import argument
from kvstore.wire.resp import reply_integer, reply_status
from mmcore.jit import constant, linked

_NONE = constant(b"none")


@linked(HANDLER)
def del_(context):  # type: ignore[no-untyped-def]
    """DEL key [key ...]; also UNLINK, because a long value is never freed at once"""
    deleted = 0
    if not reserve_removal(context, context.call[ARGC] - 1):
        return 0
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        hash_ = key_hash(context, key, key_size)
        slot = lookup(context, context.call[DB], key, key_size, hash_)
        if slot != 0:
            delete_entry(context, context.call[DB], slot, hash_)
            changed(context, context.call[DB], key, key_size, hash_, DEL, 1)
            deleted += 1
    reply_integer(context, deleted)
    return 0


@linked(HANDLER)
def exists(context):  # type: ignore[no-untyped-def]
    """EXISTS key [key ...]"""
    found = 0
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        if lookup_peek(context, key, key_size) != 0:
            found += 1
    reply_integer(context, found)
    return 0


@linked(HANDLER)
def touch(context):  # type: ignore[no-untyped-def]
    """TOUCH key [key ...]; it updates the access clock even under CLIENT NO-TOUCH"""
    context.call[NO_TOUCH] = 0
    found = 0
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        if lookup_read(context, key, key_size) != 0:
            found += 1
    reply_integer(context, found)
    return 0


@linked(HANDLER)
def type_(context):  # type: ignore[no-untyped-def]
    """TYPE key"""
    key, key_size = argument(context, 1)
    entry = lookup_peek(context, key, key_size)
    if entry == 0:
        reply_status(context, _NONE, 0, len(_NONE))
    else:
        type_ = entry_type(context, entry)
        reply_status(context, NAME_BYTES, NAME_START[type_], NAME_START[type_ + 1] - NAME_START[type_])
    return 0


@linked(HANDLER)
def dbsize(context):  # type: ignore[no-untyped-def]
    """DBSIZE"""
    reply_integer(context, db_load(context, context.call[DB], DB_KEYS))
    return 0
