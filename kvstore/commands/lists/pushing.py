"""LPUSH, RPUSH, LPUSHX, RPUSHX.  All are bounded by their arguments."""

from kvstore.commands.lists.value import encoding_grown, note_growth, reserve_list
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import LPUSH, RPUSH
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_new, collection_write
from kvstore.store.entries import LIST, entry_root, entry_set_root
from kvstore.store.lookup import key_hash
from kvstore.structures.packed_layout import END_SIZE
from kvstore.structures.sequence import sequence_count
from kvstore.structures.sequence_change import sequence_push
from kvstore.wire.arguments import arg_length, argument
from kvstore.wire.resp import reply_integer
from mmcore.jit import int64, linked


@linked(int64(CONTEXT, int64, int64))
def _push(context, front, must_exist):  # type: ignore[no-untyped-def]
    """All four commands: to the front or to the end."""
    argc = context.call[ARGC]
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0 and must_exist:
        reply_integer(context, 0)
        return 0
    entry, n, size, text = slot_entry(context, slot), argc - 2, key_size, 0
    for i in range(2, argc):
        text += arg_length(context, i)
        size += arg_length(context, i) + END_SIZE
    root = entry_root(context, entry) if slot != 0 else 0
    if not reserve_list(context, root, n, size, 1):
        return 0
    if slot != 0:
        note_growth(context, entry, text, n)
    encoding = encoding_grown(context, root, text, n) if slot == 0 else 0
    for i in range(2, argc):
        element, k = argument(context, i)
        root = sequence_push(context.space, root, front, element, k)
        assert root != 0, "no frame was reserved for a list"
    if slot != 0:
        entry_set_root(context, entry, root)
    else:
        collection_new(context, key, key_size, hash_, LIST, encoding, root)
    changed(context, context.call[DB], key, key_size, hash_, LPUSH if front else RPUSH, n)
    reply_integer(context, sequence_count(context.space, root))
    return 0


@linked(HANDLER)
def lpush(context):  # type: ignore[no-untyped-def]
    """LPUSH key element [element ...]"""
    return _push(context, 1, 0)


@linked(HANDLER)
def rpush(context):  # type: ignore[no-untyped-def]
    """RPUSH key element [element ...]"""
    return _push(context, 0, 0)


@linked(HANDLER)
def lpushx(context):  # type: ignore[no-untyped-def]
    """LPUSHX key element [element ...]"""
    return _push(context, 1, 1)


@linked(HANDLER)
def rpushx(context):  # type: ignore[no-untyped-def]
    """RPUSHX key element [element ...]"""
    return _push(context, 0, 1)
