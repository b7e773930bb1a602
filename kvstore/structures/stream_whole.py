"""A whole stream (stream.py) with its groups (groups.py): freeing it, its memory, and the end of a copy.

A copy has three parts.  The nodes in the tree are copied in steps (copying.py), and so are the groups, with what is
pending, into a second record that grows in the grave.  `stream_take` then makes the stream of both, and copies the last
node.
"""

from kvstore.structures.copying import COPIED, MORE, element_across
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
    BUILDER_SHIFT,
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
    COPY_FRAMES,
    FULL,
    LEAF_SIZE,
    position_address,
    position_next,
    position_word,
    tree_frames,
    tree_insert,
    tree_insert_at,
    tree_seek,
)
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_free, heap_size
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE

_ITEM = LEAF_SIZE * 4 // (3 * FULL)  # [bytes] of a tree for an item; leaves are about three quarters full
_PENDING = 40 + 2 * _ITEM
_NAMED = 3 * RECORD_SIZE + _ITEM  # [bytes] beside a group's or a consumer's element
_NAMED_FRAMES = 3 * HEAP_FRAMES + 2 * COPY_FRAMES  # for that element and two records, beside its tree


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


@linked(int64(SPACE, int64, int64, int64))
def _groups_memory(space, groups, samples, enough):  # type: ignore[no-untyped-def]
    """Bytes of the groups of a stream, with all below; those of the first ones if these take more than `enough`."""
    taken = heap_size(RECORD_SIZE)
    where = tree_seek(space, groups, 0, 0)
    while where != 0 and taken <= enough:
        group = position_address(space, where)
        consumers = word_at(space, group, CONSUMERS)
        taken += heap_size(element_bytes(space, group)) + _NAMED + pending_count(space, group) * _PENDING
        taken += _items_memory(space, consumers, samples) + record_count(space, consumers) * _NAMED
        where = position_next(space, where)
    return taken


@linked(int64(SPACE, int64, int64, int64, int64))
def groups_parts(space, root, consumers, pending, enough):  # type: ignore[no-untyped-def]
    """How many parts of the groups of a stream a command looks at; it may be more if that is more than `enough`.

    Of each group it looks at so many consumers at most, and at so many pending entries.
    """
    groups, parts = load64(space, root + GROUPS), int64(0)
    where = tree_seek(space, groups, 0, 0) if groups != 0 else int64(0)
    while where != 0 and parts <= enough:
        group = position_address(space, where)
        parts += 1 + min(record_count(space, word_at(space, group, CONSUMERS)), consumers)
        parts += min(pending_count(space, group), pending)
        where = position_next(space, where)
    return parts


@linked(int64(SPACE, int64, int64, int64))
def stream_memory(space, root, samples, enough):  # type: ignore[no-untyped-def]
    """Bytes of the heap that a stream takes, of a great one estimated from so many nodes and consumers; 0 for all.

    The groups behind those that take `enough` may not be counted.
    """
    taken = heap_size(STREAM_SIZE)
    nodes, tail, groups = load64(space, root + NODES), load64(space, root + TAIL), load64(space, root + GROUPS)
    if nodes != 0:
        taken += heap_size(RECORD_SIZE) + _items_memory(space, nodes, samples)
    if tail != 0:
        taken += heap_size(element_bytes(space, tail))
    return taken + (_groups_memory(space, groups, samples, enough) if groups != 0 else int64(0))


# How far the copy of groups is: the record that is built; the ranks of the next group, consumer and pending entry.
_BUILT, _GROUP, _CONSUMER, _PENDING_AT = range(4)


# --- the rest of a copy -----------------------------------------------------------------------------------------------


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


@kernel
def _item(space, record, rank):  # type: ignore[no-untyped-def]
    # The item of a tree with this rank; 0 beyond the last one.
    where = tree_seek(space, record, rank, 0)
    return position_address(space, where) if where != 0 else int64(0)


@linked(int64(SPACE, SPACE, int64, int64))
def _group_twin(space, source, where, copy):  # type: ignore[no-untyped-def]
    """Copy the group at a position, without what is below it."""
    twin = _twin(space, source, position_address(source, where))
    put_word(space, twin, PENDING, _record(space, OWNS_ITEMS))
    put_word(space, twin, CONSUMERS, _record(space, OWNS_ITEMS | OWNS_BELOW))
    _append(space, copy, position_word(source, where), twin)
    return twin


@linked(int64(SPACE, SPACE, int64, int64, int64))
def _consumer_twin(space, source, consumers, rank, twins):  # type: ignore[no-untyped-def]
    """The copy of the consumer with this rank, which is made if need be, without what is pending of it."""
    if record_count(space, twins) > rank:
        return _item(space, twins, rank)
    where = tree_seek(source, consumers, rank, 0)
    twin = _twin(space, source, position_address(source, where))
    put_word(space, twin, PENDING, _record(space, 0))
    _append(space, twins, position_word(source, where), twin)
    return twin


@linked(void(SPACE, SPACE, int64, int64, int64))
def _pending_twin(space, source, where, twin, pending):  # type: ignore[no-untyped-def]
    """Copy the pending entry at a position, for the copy of its consumer and of its group."""
    word, element = position_word(source, where), _twin(space, source, position_address(source, where))
    put_word(space, element, CONSUMER, twin)
    _append(space, word_at(space, twin, PENDING), word, element)
    code = tree_insert(space, pending, word, element)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, pending, 1)


@linked(int64(SPACE, int64, int64, int64[::1]))
def groups_begin(space, root, number, words):  # type: ignore[no-untyped-def]
    """Begin to copy the groups of a stream: the record that is built, 0 without groups; -1 when frames ran out."""
    if load64(space, root + GROUPS) == 0:
        return 0
    words[_BUILT] = record_new(space, OWNS_ITEMS | OWNS_BELOW | number << BUILDER_SHIFT)
    return words[_BUILT] if words[_BUILT] != 0 else int64(-1)


@kernel
def _has_room(space, source, element, record):  # type: ignore[no-untyped-def]
    # Whether there are frames for a copy of a group or a consumer, whose name may be long, with its records, and for
    # the tree of this record.
    size = element_bytes(source, element)
    return has_frames(space, tree_frames(space, record) + _NAMED_FRAMES + (size >> 12) + (size >> 20))


@kernel
def _has_room_for_pending(space, own, pending):  # type: ignore[no-untyped-def]
    # Whether there are frames for a pending entry in the trees of these two records.
    return has_frames(space, HEAP_FRAMES + tree_frames(space, own) + tree_frames(space, pending) + 2 * COPY_FRAMES)


@linked(int64(SPACE, SPACE, int64, int64[::1], int64))
def groups_step(space, source, root, words, budget):  # type: ignore[no-untyped-def]
    """Copy about `budget` of the groups, consumers and pending entries of a stream: COPIED, MORE or NO_FRAME."""
    groups, copy, done = load64(source, root + GROUPS), words[_BUILT], int64(0)
    while copy != 0:
        where = tree_seek(source, groups, words[_GROUP], 0)
        if where == 0:
            break
        if done >= budget:
            return MORE
        group = position_address(source, where)
        if record_count(space, copy) == words[_GROUP]:
            if not _has_room(space, source, group, copy):
                return NO_FRAME
            twin = _group_twin(space, source, where, copy)
        else:
            twin = _item(space, copy, words[_GROUP])
        done += 1
        consumers = word_at(source, group, CONSUMERS)
        consumer = _item(source, consumers, words[_CONSUMER])
        if consumer == 0:
            words[_GROUP], words[_CONSUMER], words[_PENDING_AT] = words[_GROUP] + 1, 0, 0
            continue
        twins = word_at(space, twin, CONSUMERS)
        if record_count(space, twins) <= words[_CONSUMER] and not _has_room(space, source, consumer, twins):
            return NO_FRAME
        own = _consumer_twin(space, source, consumers, words[_CONSUMER], twins)
        pending, owned = word_at(space, twin, PENDING), word_at(space, own, PENDING)
        at = tree_seek(source, word_at(source, consumer, PENDING), words[_PENDING_AT], 0)
        while at != 0 and done < budget:
            if not _has_room_for_pending(space, owned, pending):
                return NO_FRAME
            _pending_twin(space, source, at, own, pending)
            words[_PENDING_AT] += 1
            done += 1
            at = position_next(source, at)
        if at == 0:
            words[_CONSUMER], words[_PENDING_AT] = words[_CONSUMER] + 1, 0
    return COPIED


@kernel
def _taken(space, built, flags):  # type: ignore[no-untyped-def]
    # A new record with the contents of a record, which becomes empty.
    record = _record(space, flags)
    for field in range(COUNT, LINK, 8):
        store64(space, record + field, load64(space, built + field))
        store64(space, built + field, 0)
    return record


@linked(int64(SPACE, SPACE, int64, int64, int64))
def stream_take(space, source, root, built, groups):  # type: ignore[no-untyped-def]
    """A stream like `root` of `source`, with the nodes of the record `built`, and with copied groups, 0 for none.

    The two records become empty.  Returns 0 with nothing changed when frames ran out.
    """
    tail = load64(source, root + TAIL)
    size = element_bytes(source, tail) if tail != 0 else int64(0)
    if not has_frames(space, 4 * (HEAP_FRAMES + COPY_FRAMES) + (size >> 12) + (size >> 20)):
        return 0
    copy = stream_new(space)
    if copy == 0:
        return 0
    for field in range(8, NODES, 8):
        store64(space, copy + field, load64(source, root + field))
    if record_count(space, built) > 0:
        store64(space, copy + NODES, _taken(space, built, OWNS_ITEMS))
    if tail != 0:
        store64(space, copy + TAIL, _twin(space, source, tail))
    if groups != 0:
        store64(space, copy + GROUPS, _taken(space, groups, OWNS_ITEMS | OWNS_BELOW))
    return copy
