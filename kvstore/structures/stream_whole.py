"""A whole stream (stream.py) with its groups (groups.py): freeing it, its memory, and the end of a copy.

A copy has two parts.  The nodes in the tree are copied in steps (copying.py).  `stream_take` then makes the stream, and
copies the last node and the groups in one turn.  That is some 0.5 us for each pending entry.
"""

from kvstore.structures.copying import element_across
from kvstore.structures.element import element_bytes, element_free
from kvstore.structures.grave import bury
from kvstore.structures.groups import (
    CONSUMER,
    CONSUMERS,
    PENDING,
    pending_count,
    put_word,
    word_at,
)
from kvstore.structures.record import (
    COUNT,
    LINK,
    OWNS_BELOW,
    OWNS_ITEMS,
    RECORD_SIZE,
    record_add_count,
    record_count,
    record_new,
)
from kvstore.structures.stream import GROUPS, NODES, STREAM_SIZE, TAIL, stream_new
from kvstore.structures.tree import (
    FULL,
    LEAF_SIZE,
    TREE_FRAMES,
    position_address,
    position_next,
    position_word,
    tree_insert,
    tree_insert_at,
    tree_seek,
)
from mmcore.frames import has_frames
from mmcore.heap import heap_free, heap_size
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE

_ITEM = LEAF_SIZE * 4 // (3 * FULL)  # [bytes] of a tree for an item; leaves are about three quarters full
_PENDING = 40 + 2 * _ITEM
_NAMED = 3 * RECORD_SIZE + _ITEM  # [bytes] beside a group's or a consumer's element


@linked(void(SPACE, int64, int64))
def stream_free(space, grave, root):  # type: ignore[no-untyped-def]
    """Free a stream: its records by burying them.  Frames were reserved."""
    for field in (NODES, GROUPS):
        record = load64(space, root + field)
        if record != 0:
            bury(space, grave, record)
    tail = load64(space, root + TAIL)
    if tail != 0:
        element_free(space, tail)
    heap_free(space, root, STREAM_SIZE)


# --- memory ----------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64))
def _items_memory(space, record, samples):  # type: ignore[no-untyped-def]
    """Bytes of the elements in the tree of a record, and of the tree: of all (samples 0), or as the first ones say."""
    where, walked, taken = tree_seek(space, record, 0, 0), int64(0), int64(0)
    while where != 0 and (samples == 0 or walked < samples):
        taken += heap_size(element_bytes(space, position_address(space, where)))
        walked += 1
        where = position_next(space, where)
    count = record_count(space, record)
    return (taken * count // walked if walked > 0 else int64(0)) + (count * _ITEM if count > 0 else int64(0))


@linked(int64(SPACE, int64))
def groups_memory(space, groups):  # type: ignore[no-untyped-def]
    """Bytes of the groups of a stream, with all below."""
    taken = heap_size(RECORD_SIZE)
    where = tree_seek(space, groups, 0, 0)
    while where != 0:
        group = position_address(space, where)
        consumers = word_at(space, group, CONSUMERS)
        taken += heap_size(element_bytes(space, group)) + _NAMED + pending_count(space, group) * _PENDING
        taken += _items_memory(space, consumers, 0) + record_count(space, consumers) * _NAMED
        where = position_next(space, where)
    return taken


@linked(int64(SPACE, int64, int64))
def stream_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the heap that a stream takes, of a great one estimated from so many nodes; 0 for all."""
    taken = heap_size(STREAM_SIZE)
    nodes, tail, groups = load64(space, root + NODES), load64(space, root + TAIL), load64(space, root + GROUPS)
    if nodes != 0:
        taken += heap_size(RECORD_SIZE) + _items_memory(space, nodes, samples)
    if tail != 0:
        taken += heap_size(element_bytes(space, tail))
    return taken + (groups_memory(space, groups) if groups != 0 else int64(0))


# --- the end of a copy -----------------------------------------------------------------------------------------------


@kernel
def _append(space, record, word, element):  # type: ignore[no-untyped-def]
    # Put an item at the end of a tree.
    code = tree_insert_at(space, record, record_count(space, record), word, element, 0)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, 1)


@kernel
def _twin(space, source, element):  # type: ignore[no-untyped-def]
    twin = element_across(space, source, element, 0)
    assert twin != 0, "no frame was reserved for an element"
    return twin


@linked(int64(SPACE, int64))
def _record(space, flags):  # type: ignore[no-untyped-def]
    record = record_new(space, flags)
    assert record != 0, "no frame was reserved for a record"
    return record


@linked(void(SPACE, SPACE, int64, int64, int64))
def _copy_pending(space, source, consumer, twin, pending):  # type: ignore[no-untyped-def]
    """Copy what a consumer was given to its twin, and to the group's record of pending entries."""
    record = _record(space, 0)
    put_word(space, twin, PENDING, record)
    where = tree_seek(source, word_at(source, consumer, PENDING), 0, 0)
    while where != 0:
        word, element = position_word(source, where), _twin(space, source, position_address(source, where))
        put_word(space, element, CONSUMER, twin)
        _append(space, record, word, element)
        code = tree_insert(space, pending, word, element)
        assert code == 0, "no frame was reserved for a tree"
        record_add_count(space, pending, 1)
        where = position_next(source, where)


@linked(void(SPACE, SPACE, int64, int64))
def _copy_group(space, source, group, twin):  # type: ignore[no-untyped-def]
    """Copy what is below a group to its twin."""
    pending, consumers = _record(space, OWNS_ITEMS), _record(space, OWNS_ITEMS | OWNS_BELOW)
    put_word(space, twin, PENDING, pending)
    put_word(space, twin, CONSUMERS, consumers)
    where = tree_seek(source, word_at(source, group, CONSUMERS), 0, 0)
    while where != 0:
        consumer = position_address(source, where)
        new = _twin(space, source, consumer)
        _append(space, consumers, position_word(source, where), new)
        _copy_pending(space, source, consumer, new, pending)
        where = position_next(source, where)


@linked(int64(SPACE, SPACE, int64))
def _groups_copy(space, source, groups):  # type: ignore[no-untyped-def]
    """A copy of the record of groups.  Frames were reserved."""
    copy = _record(space, OWNS_ITEMS | OWNS_BELOW)
    where = tree_seek(source, groups, 0, 0)
    while where != 0:
        group = position_address(source, where)
        twin = _twin(space, source, group)
        _append(space, copy, position_word(source, where), twin)
        _copy_group(space, source, group, twin)
        where = position_next(source, where)
    return copy


@linked(int64(SPACE, SPACE, int64, int64))
def stream_take(space, source, root, built):  # type: ignore[no-untyped-def]
    """A stream like `root` of `source`, with the nodes of the record `built`, which becomes empty; 0 without frames."""
    groups, tail = load64(source, root + GROUPS), load64(source, root + TAIL)
    size = element_bytes(source, tail) if tail != 0 else int64(0)
    size += groups_memory(source, groups) if groups != 0 else int64(0)
    if not has_frames(space, 3 * TREE_FRAMES + (size >> 11)):
        return 0
    copy = stream_new(space)
    if copy == 0:
        return 0
    for field in range(8, NODES, 8):
        store64(space, copy + field, load64(source, root + field))
    if record_count(space, built) > 0:
        record = _record(space, OWNS_ITEMS)
        for field in range(COUNT, LINK, 8):
            store64(space, record + field, load64(space, built + field))
            store64(space, built + field, 0)
        store64(space, copy + NODES, record)
    if tail != 0:
        store64(space, copy + TAIL, _twin(space, source, tail))
    if groups != 0:
        store64(space, copy + GROUPS, _groups_copy(space, source, groups))
    return copy
