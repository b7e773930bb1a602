"""Storing members that were gathered, and ZRANGESTORE.

The value is built aside, and then takes the place of what the key held.  Its size is known, and frames are reserved for
it.  If they do not suffice all the same, what was built is freed, and the command is refused with nothing changed.
"""

from kvstore.commands.sortedsets.gathered import (
    ADDRESS,
    BYTES,
    COUNT,
    LENGTH,
    LONGEST,
    SCORE,
    gather_begin,
    gather_bytes,
    gather_end,
    gather_put,
    gathered,
    gathered_row,
)
from kvstore.commands.sortedsets.order import cursor_at, cursor_element, cursor_next, cursor_score
from kvstore.commands.sortedsets.ranges import ANY, chosen_ranks, range_options
from kvstore.commands.sortedsets.value import ELEMENT_COST, record_add, score_size_in
from kvstore.effects.events import ZRANGESTORE
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import ZSET_MAX_LISTPACK_ENTRIES, ZSET_MAX_LISTPACK_VALUE
from kvstore.store.collections import OTHER_TYPE, collection_publish, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_change, reserve_elements, reserve_removal
from kvstore.store.scores import WORD_SIZE, ordered, put_score
from kvstore.store.types import COMPACT, WIDE
from kvstore.structures.chain import CHAIN_MAX, chain_element, chain_fits
from kvstore.structures.chain_change import chain_insert, chain_new
from kvstore.structures.collection import root_free
from kvstore.structures.element import element_key, element_key_length, element_payload
from kvstore.structures.record import OWNS_ELEMENTS, record_new
from kvstore.structures.tree import tree_insert_at
from kvstore.wire.arguments import argument
from kvstore.wire.errors import OUT_OF_RESULT
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.jit import int64, kernel, linked, void

_RESERVED_MAX = 256  # elements for each of which a shared page may be copied; the others get new pages


@kernel
def _encoding(context):  # type: ignore[no-untyped-def]
    state, shard = gathered(context), context.shard
    small = state[COUNT] <= shard[ZSET_MAX_LISTPACK_ENTRIES] and state[LONGEST] <= shard[ZSET_MAX_LISTPACK_VALUE]
    return COMPACT if small else WIDE


@linked(int64(CONTEXT))
def _build_chain(context):  # type: ignore[no-untyped-def]
    """A chain of the rows; 0 with nothing left behind when they do not fit one, or when frames ran out."""
    space, chain = context.space, chain_new(context.space)
    if chain == 0:
        return 0
    for i in range(gathered(context)[COUNT]):
        row = gathered_row(context, i)
        k, size, moved = row[LENGTH], score_size_in(space, chain, i, row[SCORE]), 0
        if chain_fits(space, chain, k, size):
            moved = chain_insert(space, chain, i, row[ADDRESS], k, 0, size)
        if moved == 0:
            root_free(space, CONTROL_BASE + CONTROL_GRAVE, chain)
            return 0
        chain = moved
        put_score(space, element_payload(space, chain_element(space, chain, i)), ordered(row[SCORE]), size)
    return chain


@linked(int64(CONTEXT, int64))
def _build_record(context, encoding):  # type: ignore[no-untyped-def]
    """A record of the rows; 0 with nothing left behind when frames ran out."""
    space, record = context.space, record_new(context.space, OWNS_ELEMENTS)
    if record == 0:
        return 0
    for i in range(gathered(context)[COUNT]):
        row = gathered_row(context, i)
        word = row[SCORE] if encoding == WIDE else ordered(row[SCORE])
        element = record_add(context, record, row[ADDRESS], row[LENGTH], word)
        if element == 0 or tree_insert_at(space, record, i, ordered(word), element, 0) != 0:
            root_free(space, CONTROL_BASE + CONTROL_GRAVE, record)
            return 0
    return record


@linked(int64(CONTEXT, int64, int64, int64))
def _store_some(context, key, key_size, event):  # type: ignore[no-untyped-def]
    """Store rows, which there are: 1, or 0 with an error replied."""
    state, encoding = gathered(context), _encoding(context)
    count = state[COUNT]
    size = key_size + state[BYTES] + (ELEMENT_COST + WORD_SIZE) * count
    if not reserve_elements(context, min(count, _RESERVED_MAX), size):
        return 0
    root = _build_chain(context) if encoding == COMPACT and state[BYTES] <= CHAIN_MAX else int64(0)
    if root == 0:
        root = _build_record(context, encoding)
    if root == 0:
        reply_out_of_frames(context)
        return 0
    if not reserve_change(context, 2, key_size):
        root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, root)
        return 0
    collection_publish(context, key, key_size, key_hash(context, key, key_size), ZSET, encoding, root, event)
    return 1


@linked(void(CONTEXT, int64, int64))
def store_gathered(context, i, event):  # type: ignore[no-untyped-def]
    """Store the rows, in order, at the key in argument i; with none, delete the key.  Reply their number."""
    key, key_size = argument(context, i)
    count = gathered(context)[COUNT]
    if count == 0:
        if not reserve_removal(context, 1):
            return
        collection_publish(context, key, key_size, key_hash(context, key, key_size), ZSET, COMPACT, 0, event)
    elif not _store_some(context, key, key_size, event):
        return
    reply_integer(context, count)


@linked(int64(CONTEXT, int64))
def _gather_range(context, root):  # type: ignore[no-untyped-def]
    """Gather what the range at hand chooses: 1, or 0 without memory."""
    space = context.space
    rank, count = chosen_ranks(context, root)
    if not gather_begin(context, count):
        return 0
    at = cursor_at(space, root, rank) if count > 0 else 0
    for _ in range(count):
        element = cursor_element(space, root, at)
        k = element_key_length(space, element)
        address = gather_bytes(context, element_key(space, element), k)
        if address == 0:
            return 0
        gather_put(context, cursor_score(space, root, at), address, k)
        at = cursor_next(space, root, at)
    return 1


@linked(HANDLER)
def zrangestore(context):  # type: ignore[no-untyped-def]
    """ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]"""
    if not range_options(context, 2, ANY, ANY, 1):
        return 0
    key, key_size = argument(context, 2)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    if _gather_range(context, entry_root(context, entry)) if entry != 0 else gather_begin(context, 0):
        store_gathered(context, 1, ZRANGESTORE)
    else:
        reply_error(context, OUT_OF_RESULT)
    gather_end(context)
    return 0
