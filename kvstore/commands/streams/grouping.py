"""XGROUP: making and removing groups and their consumers.

Each is bounded by its arguments, with one exception.  DELCONSUMER takes what is pending of the consumer out of the
group's tree, one entry after the other: so many a turn, and the command is called again in the next one.  Until the end
the consumer stays, and the connection knows how many entries have gone.  In a transaction all go at once.
"""

from kvstore.commands.streams.groups import find_consumer, find_group, refuse_form, refuse_no_group_of_key
from kvstore.commands.streams.identifiers import LEAST, WHOLE, parse_identifier
from kvstore.commands.streams.trimming import is_sign
from kvstore.commands.streams.value import options_of, stream_for_writing
from kvstore.commands.strings.getting import slot_entry
from kvstore.connections.table import connection
from kvstore.effects.door import changed
from kvstore.effects.events import (
    XCHANGED,
    XGROUP_CREATE,
    XGROUP_CREATECONSUMER,
    XGROUP_DELCONSUMER,
    XGROUP_DESTROY,
    XGROUP_SETID,
    XPENDING,
)
from kvstore.lifetimes.call import ARGC, CONNECTION, DB, DEPTH
from kvstore.lifetimes.connection import PART_DONE
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.collections import collection_write
from kvstore.store.copies import is_shared
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements, reserve_removal_of
from kvstore.structures.groups import (
    CONSUMERS,
    GIVEN_MS,
    GIVEN_SEQ,
    PENDING,
    READ,
    UNKNOWN,
    consumer_add,
    group_add,
    named_remove,
    pending_count,
    pending_remove,
    put_word,
    word_at,
)
from kvstore.structures.stream import GROUPS, stream_last
from kvstore.structures.tree import position_address, position_word, tree_seek
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.errors import NOT_INTEGER, STREAM_ID, XGROUP_BUSY, XGROUP_ENTRIES_READ, XGROUP_NO_KEY
from kvstore.wire.resp import reply_error, reply_integer, reply_ok
from mmcore.jit import constant, int64, kernel, linked
from mmcore.mmu import load64

_CREATE, _SETID, _DESTROY = pack(b"CREATE"), pack(b"SETID"), pack(b"DESTROY")
_MKSTREAM = pack(b"MKSTREAM")
_CREATECONSUMER, _DELCONSUMER = constant(b"CREATECONSUMER"), constant(b"DELCONSUMER")
_ENTRIESREAD = constant(b"ENTRIESREAD")
_NEW_CONSUMER, _OLD_CONSUMER = 1, 2  # in the place of the word of a name that is too long for one
_DOLLAR = b"$"[0]
_MS, _SEQ, _ENTRIES_READ, _MAKES = range(4)
_A_TURN, _A_TURN_SHARED = 2000, 200  # pending entries that DELCONSUMER removes; fewer where it copies pages


@linked(int64(CONTEXT, int64[::1], int64))
def _options(context, options, creates):  # type: ignore[no-untyped-def]
    """Read the options of CREATE and SETID: 1, or 0 with an error replied."""
    options[_ENTRIES_READ], options[_MAKES] = UNKNOWN, 0
    i = int64(5)
    while i < context.call[ARGC]:
        if creates and word(context, i) == _MKSTREAM:
            options[_MAKES] = 1
            i += 1
        elif is_word(context, i, _ENTRIESREAD) and i + 1 < context.call[ARGC]:
            valid, options[_ENTRIES_READ] = integer_argument(context, i + 1)
            if not valid or options[_ENTRIES_READ] < UNKNOWN:
                reply_error(context, XGROUP_ENTRIES_READ if valid else NOT_INTEGER)
                return 0
            i += 2
        else:
            refuse_form(context, 1)
            return 0
    return 1


@linked(int64(CONTEXT, int64[::1], int64, int64))
def _identifier(context, options, root, special):  # type: ignore[no-untyped-def]
    """Read argument 4, an identifier or $: 1, or 0 with an error replied.  special: whether - and + are taken."""
    if is_sign(context, 4, _DOLLAR):
        options[_MS] = options[_SEQ] = LEAST
        if root != 0:
            options[_MS], options[_SEQ] = stream_last(context.space, root)
        return 1
    if parse_identifier(context, 4, 0, LEAST, special, options, _MS) != WHOLE:
        reply_error(context, STREAM_ID)
        return 0
    return 1


@linked(int64(CONTEXT, int64, int64))
def _create(context, slot, hash_):  # type: ignore[no-untyped-def]
    """XGROUP CREATE"""
    options = options_of(context)
    key, key_size = argument(context, 2)
    name, k = argument(context, 3)
    root = entry_root(context, slot_entry(context, slot)) if slot != 0 else int64(0)
    if not _identifier(context, options, root, 0):
        return SERVED
    if root != 0 and find_group(context, root, 3) != 0:
        reply_error(context, XGROUP_BUSY)
        return SERVED
    if not reserve_elements(context, 2, key_size + k):
        return SERVED
    root = stream_for_writing(context, slot, key, key_size, hash_)
    group_add(context.space, root, name, k, options[_MS], options[_SEQ], options[_ENTRIES_READ])
    reply_ok(context)
    if slot == 0:
        changed(context, context.call[DB], key, key_size, hash_, XCHANGED, 0)
    changed(context, context.call[DB], key, key_size, hash_, XGROUP_CREATE, 1)
    return SERVED


@linked(int64(CONTEXT, int64, int64, int64))
def _setid(context, root, group, hash_):  # type: ignore[no-untyped-def]
    """XGROUP SETID"""
    options = options_of(context)
    key, key_size = argument(context, 2)
    if not _identifier(context, options, root, 1) or not reserve_removal_of(context, 1):
        return SERVED
    put_word(context.space, group, GIVEN_MS, options[_MS])
    put_word(context.space, group, GIVEN_SEQ, options[_SEQ])
    put_word(context.space, group, READ, options[_ENTRIES_READ])
    reply_ok(context)
    changed(context, context.call[DB], key, key_size, hash_, XGROUP_SETID, 1)
    return SERVED


@linked(int64(CONTEXT, int64, int64, int64))
def _destroy(context, root, group, hash_):  # type: ignore[no-untyped-def]
    """XGROUP DESTROY"""
    key, key_size = argument(context, 2)
    name, k = argument(context, 3)
    if group != 0:
        if not reserve_removal_of(context, 2):
            return SERVED
        named_remove(context.space, CONTROL_BASE + CONTROL_GRAVE, load64(context.space, root + GROUPS), name, k)
        changed(context, context.call[DB], key, key_size, hash_, XGROUP_DESTROY, 1)
    reply_integer(context, int64(group != 0))
    return SERVED


@linked(int64(CONTEXT, int64, int64))
def _createconsumer(context, group, hash_):  # type: ignore[no-untyped-def]
    """XGROUP CREATECONSUMER"""
    key, key_size = argument(context, 2)
    name, k = argument(context, 4)
    new = find_consumer(context, group, 4) == 0
    if new:
        if not reserve_elements(context, 2, k):
            return SERVED
        consumer_add(context.space, group, name, k, context.shard[NOW_MS])
        changed(context, context.call[DB], key, key_size, hash_, XGROUP_CREATECONSUMER, 1)
    reply_integer(context, int64(new))
    return SERVED


@linked(int64(CONTEXT, int64, int64))
def _delconsumer(context, group, hash_):  # type: ignore[no-untyped-def]
    """XGROUP DELCONSUMER"""
    space, consumer = context.space, find_consumer(context, group, 4)
    row = connection(context, context.call[CONNECTION])
    before, row[PART_DONE] = row[PART_DONE], 0
    if consumer == 0:  # or no longer: another client has removed it meanwhile
        reply_integer(context, before)
        return SERVED
    key, key_size = argument(context, 2)
    name, k = argument(context, 4)
    count = pending_count(space, consumer)
    most = count
    if context.call[DEPTH] == 0:
        most = min(count, _A_TURN_SHARED if is_shared(context) else _A_TURN)
    if not reserve_removal_of(context, 2 * most + 2):
        return SERVED
    for _ in range(most):
        where = tree_seek(space, word_at(space, consumer, PENDING), 0, 0)
        pending_remove(space, group, position_word(space, where), position_address(space, where))
    gone = before + most
    if most < count:
        row[PART_DONE] = gone
        changed(context, context.call[DB], key, key_size, hash_, XPENDING, 1)  # an image may be taken now
        return AGAIN
    named_remove(space, CONTROL_BASE + CONTROL_GRAVE, word_at(space, group, CONSUMERS), name, k)
    changed(context, context.call[DB], key, key_size, hash_, XGROUP_DELCONSUMER, 1)
    reply_integer(context, gone)
    return SERVED


@kernel
def _form(context):  # type: ignore[no-untyped-def]
    # The subcommand as a word; 0 for a form that is not served here.
    what, argc = word(context, 1), context.call[ARGC]
    if argc < 4:
        return 0
    if what == _CREATE or what == _SETID:
        return what if argc >= 5 else 0
    if what == _DESTROY:
        return what if argc == 4 else 0
    if argc == 5 and is_word(context, 1, _CREATECONSUMER):
        return _NEW_CONSUMER
    return _OLD_CONSUMER if argc == 5 and is_word(context, 1, _DELCONSUMER) else 0


@linked(HANDLER)
def xgroup(context):  # type: ignore[no-untyped-def]
    """XGROUP CREATE | SETID | DESTROY | CREATECONSUMER | DELCONSUMER; its other forms are left to Python"""
    what, options = _form(context), options_of(context)
    if what == 0:
        return 1
    options[_MAKES] = 0
    if (what == _CREATE or what == _SETID) and not _options(context, options, int64(what == _CREATE)):
        return SERVED
    key, key_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, STREAM)
    if slot < 0:
        return SERVED
    if slot == 0 and options[_MAKES] == 0:
        reply_error(context, XGROUP_NO_KEY)
        return SERVED
    if what == _CREATE:
        return _create(context, slot, hash_)
    root = entry_root(context, slot_entry(context, slot))
    group = find_group(context, root, 3)
    if what == _DESTROY:
        return _destroy(context, root, group, hash_)
    if group == 0:
        refuse_no_group_of_key(context, 3, 2)
        return SERVED
    if what == _SETID:
        return _setid(context, root, group, hash_)
    return _createconsumer(context, group, hash_) if what == _NEW_CONSUMER else _delconsumer(context, group, hash_)
