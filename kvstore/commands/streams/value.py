"""A stream as a value: making it, reserving for it, and its entries as replies."""

from kvstore.commands.streams.identifiers import reply_identifier
from kvstore.commands.strings.getting import slot_entry
from kvstore.lifetimes.call import GIVEN_UP_AT, REPLY_LENGTH
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.collections import collection_new
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.leaving import reply_goes_on, reply_limit
from kvstore.structures.stream import (
    NOWHERE,
    entry_identifier,
    node_entries,
    node_rank,
    node_where,
    stream_count,
    stream_new,
    stream_nodes,
    stream_seek,
    stream_seek_back,
    where_next,
    where_previous,
)
from kvstore.structures.stream_entry import entry_begin, entry_pair
from kvstore.structures.stream_layout import is_before
from kvstore.system.libc import words_at
from kvstore.wire.resp import reply_array, reply_bulk_memory
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, view, void

OPTION_WORDS = 32
_OPTIONS_PLACE = 96  # words of the scratch memory before those that hold a command's options
_FEW = 1000  # entries that need no estimate
ALL = (1 << 62) - 1  # more entries than there are


@kernel
def room_of(context):  # type: ignore[no-untyped-def]
    """ROOM of the structure's searches."""
    return context.shard[SCRATCH_ADDRESS]


@view
def options_of(context):  # type: ignore[no-untyped-def]
    """Words for a command's options."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _OPTIONS_PLACE, OPTION_WORDS)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def stream_for_writing(context, slot, key, key_size, hash_):  # type: ignore[no-untyped-def]
    """The root of a stream to be changed: the slot's, or of a new one without entries.  Frames were reserved."""
    if slot != 0:
        return entry_root(context, slot_entry(context, slot))
    root = stream_new(context.space)
    assert root != 0, "no frame was reserved for a stream"
    collection_new(context, key, key_size, hash_, STREAM, 0, root)
    return root


@linked(void(CONTEXT, int64, int64))
def reply_entry(context, node, place):  # type: ignore[no-untyped-def]
    """An entry: its identifier, and its fields with their values."""
    space = context.space
    ms, seq = entry_identifier(space, node, place)
    fields, master, at = entry_begin(space, node, place)
    reply_array(context, 2)
    reply_identifier(context, ms, seq)
    reply_array(context, 2 * fields)
    for _ in range(fields):
        name, k, value, v, master, at = entry_pair(space, master, at)
        reply_bulk_memory(context, name, k)
        reply_bulk_memory(context, value, v)


@kernel
def length_limit(context, start):  # type: ignore[no-untyped-def]
    """The length of a reply, which began at `start`, at which it may go aside; NEVER if `start` is below zero."""
    in_place = start >= 0 and context.call[GIVEN_UP_AT] == 0
    return reply_limit(context, start) if in_place else int64(NEVER)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def reply_forward(context, root, ms, seq, end_ms, end_seq, most, start):  # type: ignore[no-untyped-def]
    """Reply up to `most` entries between two identifiers, both included: how many; or -1 if the read goes aside.

    start: where the reply of the command begins, if it may go aside because its entries are long, else -1.
    """
    space, count, limit = context.space, int64(0), length_limit(context, start)
    where, place = stream_seek(space, root, ms, seq, room_of(context))
    while where != NOWHERE and count < most and not is_given_up(context):
        node = node_where(space, root, where)
        its_ms, its_seq = entry_identifier(space, node, place)
        if is_before(end_ms, end_seq, its_ms, its_seq):
            break
        reply_entry(context, node, place)
        count += 1
        if context.call[REPLY_LENGTH] >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return -1
        place += 1
        if place == node_entries(space, node):
            where, place = where_next(space, where), int64(0)
    return count


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def reply_backward(context, root, ms, seq, end_ms, end_seq, most, start):  # type: ignore[no-untyped-def]
    """The same from the later of the two identifiers, `end`, to the earlier one."""
    space, count, limit = context.space, int64(0), length_limit(context, start)
    where, place = stream_seek_back(space, root, end_ms, end_seq, room_of(context))
    while where != NOWHERE and count < most and not is_given_up(context):
        node = node_where(space, root, where)
        its_ms, its_seq = entry_identifier(space, node, place)
        if is_before(its_ms, its_seq, ms, seq):
            break
        reply_entry(context, node, place)
        count += 1
        if context.call[REPLY_LENGTH] >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return -1
        place -= 1
        if place < 0:
            where = where_previous(space, root, where)
            if where != NOWHERE:
                place = node_entries(space, node_where(space, root, where)) - 1
    return count


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def entries_between(context, root, ms, seq, end_ms, end_seq, most):  # type: ignore[no-untyped-def]
    """About how many entries lie between two identifiers, and no more than `most`."""
    space, room = context.space, room_of(context)
    count = min(stream_count(space, root), most)
    if count <= _FEW:
        return count
    nodes = stream_nodes(space, root)
    first, behind = node_rank(space, root, ms, seq, room), node_rank(space, root, end_ms, end_seq, room)
    return min(count, max(behind - first + 1, 0) * stream_count(space, root) // nodes)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def entries_behind(context, root, ms, seq, most):  # type: ignore[no-untyped-def]
    """How many entries do not come before an identifier, and no more than `most`; each node of them is looked at."""
    space, count = context.space, int64(0)
    where, place = stream_seek(space, root, ms, seq, room_of(context))
    while where != NOWHERE and count < most:
        count += node_entries(space, node_where(space, root, where)) - place
        where, place = where_next(space, where), int64(0)
    return min(count, most)
