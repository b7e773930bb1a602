"""XADD.  It is bounded by its arguments, reserves frames, and then cannot fail."""

from kvstore.commands.streams.identifiers import GREATEST, LEAST, WHOLE, WITHOUT_SEQ, identifier_after, reply_identifier
from kvstore.commands.streams.trimming import (
    AUTOMATIC,
    FORM,
    ID_MS,
    ID_SEQ,
    MOVED,
    NO_STREAM,
    NOTHING,
    STRATEGY,
    trim,
    trim_options,
)
from kvstore.commands.streams.value import options_of, stream_for_writing
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import XADD, XTRIM
from kvstore.lifetimes.call import ARGC, ARGS, DB, QUERY_ADDRESS
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS, STREAM_NODE_MAX_BYTES, STREAM_NODE_MAX_ENTRIES
from kvstore.store.collections import collection_write
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements
from kvstore.structures.stream import stream_last
from kvstore.structures.stream_change import entry_bytes, stream_add
from kvstore.structures.stream_layout import ORDERED, is_before
from kvstore.structures.stream_trim import NO_LIMIT
from kvstore.wire.arguments import argument
from kvstore.wire.errors import STREAM_EXHAUSTED, STREAM_ID_LEAST, STREAM_ID_SMALL, STREAM_TOO_LARGE, XADD_ARITY
from kvstore.wire.resp import reply_error, reply_null
from mmcore.jit import int64, linked

SIZE_MAX = 1 << 30  # [bytes] of an entry


@linked(int64(CONTEXT, int64))
def _next_identifier(context, root):  # type: ignore[no-untyped-def]
    """Decide on the new entry's identifier, in the options: 1, or 0 with an error replied.  root: 0 without one."""
    options = options_of(context)
    last_ms, last_seq = int64(LEAST), int64(LEAST)
    if root != 0:
        last_ms, last_seq = stream_last(context.space, root)
    if last_ms == GREATEST and last_seq == GREATEST:
        reply_error(context, STREAM_EXHAUSTED)
        return 0
    ms, seq = options[ID_MS], options[ID_SEQ]
    if options[FORM] == AUTOMATIC:
        ms, seq = context.shard[NOW_MS] ^ ORDERED, int64(LEAST)
        if ms <= last_ms:
            ms, seq = identifier_after(last_ms, last_seq)
    elif options[FORM] == WITHOUT_SEQ and ms == last_ms:
        seq = last_seq + 1 if last_seq != GREATEST else int64(LEAST)  # which is too small
    if not is_before(last_ms, last_seq, ms, seq):
        reply_error(context, STREAM_ID_SMALL)
        return 0
    options[ID_MS], options[ID_SEQ] = ms, seq
    return 1


@linked(int64(CONTEXT))
def _fields_at(context):  # type: ignore[no-untyped-def]
    """Read the options, up to the identifier: the first argument behind it, or 0 with an error replied."""
    at, argc = trim_options(context, 1) + 1, context.call[ARGC]
    if at > 0 and (argc - at < 2 or (argc - at) % 2 == 1):
        reply_error(context, XADD_ARITY)
        return 0
    options = options_of(context)
    if at > 0 and options[FORM] == WHOLE and options[ID_MS] == LEAST and options[ID_SEQ] == LEAST:
        reply_error(context, STREAM_ID_LEAST)
        return 0
    return at


@linked(HANDLER)
def xadd(context):  # type: ignore[no-untyped-def]
    """XADD key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [...]"""
    call, shard = context.call, context.shard
    at = _fields_at(context)
    if at == 0:
        return 0
    options = options_of(context)
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, STREAM)
    if slot < 0:
        return 0
    if slot == 0 and options[NO_STREAM]:
        reply_null(context)
        return 0
    if not _next_identifier(context, entry_root(context, slot_entry(context, slot)) if slot != 0 else int64(0)):
        return 0
    first, fields = call[ARGS] + at, (call[ARGC] - at) >> 1
    size = entry_bytes(context.args, first, fields)
    if size > SIZE_MAX:
        reply_error(context, STREAM_TOO_LARGE)
        return 0
    if not reserve_elements(context, MOVED if options[STRATEGY] != NOTHING else 1, key_size + size):
        return 0
    root = stream_for_writing(context, slot, key, key_size, hash_)
    ms, seq = options[ID_MS], options[ID_SEQ]
    most, entries, origin = shard[STREAM_NODE_MAX_BYTES], shard[STREAM_NODE_MAX_ENTRIES], call[QUERY_ADDRESS]
    stream_add(context.space, root, ms, seq, origin, context.args, first, fields, most, entries)
    reply_identifier(context, ms, seq)
    changed(context, call[DB], key, key_size, hash_, XADD, 1)
    if options[STRATEGY] != NOTHING and trim(context, root, NO_LIMIT) > 0:
        changed(context, call[DB], key, key_size, hash_, XTRIM, 0)
    return 0
