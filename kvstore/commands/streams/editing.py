"""XDEL and XSETID.  Both reserve frames, and then cannot fail."""

from kvstore.commands.streams.identifiers import LEAST, identifier_argument
from kvstore.commands.streams.value import options_of, room_of
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import XDEL, XSETID
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_write
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.stream import (
    ADDED,
    DELETED_MS,
    DELETED_SEQ,
    LAST_MS,
    LAST_SEQ,
    NOWHERE,
    stream_count,
    stream_deleted,
    stream_edge,
    stream_has,
)
from kvstore.structures.stream_change import stream_remove
from kvstore.structures.stream_layout import is_before
from kvstore.wire.arguments import argument, integer_argument, is_word
from kvstore.wire.errors import (
    NO_KEY,
    NOT_INTEGER,
    SYNTAX,
    XSETID_ADDED,
    XSETID_ADDED_NEGATIVE,
    XSETID_DELETED,
    XSETID_DELETED_NOW,
    XSETID_SMALL,
)
from kvstore.wire.resp import reply_error, reply_integer, reply_ok
from mmcore.jit import constant, int64, linked, void
from mmcore.mmu import store64

_ENTRIESADDED, _MAXDELETEDID = constant(b"ENTRIESADDED"), constant(b"MAXDELETEDID")
_MS, _SEQ, _GONE_MS, _GONE_SEQ, _ADDED = range(5)
_KEPT = -1


@linked(void(CONTEXT, int64, int64, int64))
def note_deleted(context, root, ms, seq):  # type: ignore[no-untyped-def]
    """The entry with this identifier was deleted."""
    deleted_ms, deleted_seq = stream_deleted(context.space, root)
    if is_before(deleted_ms, deleted_seq, ms, seq):
        store64(context.space, root + DELETED_MS, ms)
        store64(context.space, root + DELETED_SEQ, seq)


@linked(HANDLER)
def xdel(context):  # type: ignore[no-untyped-def]
    """XDEL key id [id ...]"""
    key, key_size = argument(context, 1)
    hash_, words = key_hash(context, key, key_size), options_of(context)
    slot = collection_write(context, key, key_size, hash_, STREAM)
    if slot < 0:
        return 0
    if slot == 0:
        reply_integer(context, 0)
        return 0
    for i in range(2, context.call[ARGC]):
        if not identifier_argument(context, i, LEAST, words, _MS):
            return 0
    if not reserve_removal_of(context, context.call[ARGC] - 2):
        return 0
    root, deleted = entry_root(context, slot_entry(context, slot)), int64(0)
    for i in range(2, context.call[ARGC]):
        identifier_argument(context, i, LEAST, words, _MS)
        where, place = stream_has(context.space, root, words[_MS], words[_SEQ], room_of(context))
        if where != NOWHERE:
            stream_remove(context.space, root, where, place)
            note_deleted(context, root, words[_MS], words[_SEQ])
            deleted += 1
    if deleted > 0:
        changed(context, context.call[DB], key, key_size, hash_, XDEL, deleted)
    reply_integer(context, deleted)
    return 0


@linked(int64(CONTEXT, int64[::1]))
def _setid_options(context, words):  # type: ignore[no-untyped-def]
    """Read the arguments of XSETID from 2 on: 1, or 0 with an error replied."""
    if not identifier_argument(context, 2, LEAST, words, _MS):
        return 0
    words[_ADDED], words[_GONE_MS], words[_GONE_SEQ] = _KEPT, LEAST, LEAST
    i = int64(3)
    while i < context.call[ARGC]:
        more = i + 1 < context.call[ARGC]
        if more and is_word(context, i, _ENTRIESADDED):
            valid, words[_ADDED] = integer_argument(context, i + 1)
            if not valid or words[_ADDED] < 0:
                reply_error(context, XSETID_ADDED_NEGATIVE if valid else NOT_INTEGER)
                return 0
        elif more and is_word(context, i, _MAXDELETEDID):
            if not identifier_argument(context, i + 1, LEAST, words, _GONE_MS):
                return 0
            if is_before(words[_MS], words[_SEQ], words[_GONE_MS], words[_GONE_SEQ]):
                reply_error(context, XSETID_DELETED)
                return 0
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 2
    return 1


@linked(int64(CONTEXT, int64, int64[::1]))
def _may_set(context, root, words):  # type: ignore[no-untyped-def]
    """Whether a stream may get this last identifier: 1, or 0 with an error replied."""
    space, ms, seq = context.space, words[_MS], words[_SEQ]
    deleted_ms, deleted_seq = stream_deleted(space, root)
    if is_before(ms, seq, deleted_ms, deleted_seq):
        reply_error(context, XSETID_DELETED_NOW)
        return 0
    if stream_count(space, root) > 0:
        top_ms, top_seq = stream_edge(space, root, True)
        if is_before(ms, seq, top_ms, top_seq):
            reply_error(context, XSETID_SMALL)
            return 0
        if words[_ADDED] != _KEPT and words[_ADDED] < stream_count(space, root):
            reply_error(context, XSETID_ADDED)
            return 0
    return 1


@linked(HANDLER)
def xsetid(context):  # type: ignore[no-untyped-def]
    """XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]"""
    words = options_of(context)
    if not _setid_options(context, words):
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, STREAM)
    if slot < 0:
        return 0
    if slot == 0:
        reply_error(context, NO_KEY)
        return 0
    root = entry_root(context, slot_entry(context, slot))
    if not _may_set(context, root, words) or not reserve_removal_of(context, 1):
        return 0
    store64(context.space, root + LAST_MS, words[_MS])
    store64(context.space, root + LAST_SEQ, words[_SEQ])
    if words[_ADDED] != _KEPT:
        store64(context.space, root + ADDED, words[_ADDED])
    if words[_GONE_MS] != LEAST or words[_GONE_SEQ] != LEAST:
        store64(context.space, root + DELETED_MS, words[_GONE_MS])
        store64(context.space, root + DELETED_SEQ, words[_GONE_SEQ])
    reply_ok(context)
    changed(context, context.call[DB], key, key_size, hash_, XSETID, 1)
    return 0
