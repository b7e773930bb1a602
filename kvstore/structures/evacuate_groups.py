"""Evacuation (evacuate.py) of what lies below the group of a stream (groups.py).

    position = group_evacuate(space, group, position, budget, room, tally)       a step through the parts of a group

More than one address leads to some of these parts:

    the two records of a group, the record of a consumer    the group, or the consumer
    a consumer                                              its item, and the nodes above; each entry pending of it
    a pending entry                                         its items in the group's tree and the consumer's, and the
                                                            nodes above each

So a consumer with more than PENDING_MOST entries pending stays where it is.  The nodes of a consumer's tree are met
when the entries pending of it are, on the way to them.

A position says the stage and a rank, as those of a record do.  `room` is eight bytes of the process.
"""

from kvstore.structures.element import element_bytes
from kvstore.structures.evacuate import (
    ENDS,
    LOOKED,
    OVER,
    STAGE_SHIFT,
    leaf_evacuate,
    move_part,
    point_separators,
    should_move,
)
from kvstore.structures.groups import CONSUMER, CONSUMERS, PENDING, pending_count, pending_identifier, put_word, word_at
from kvstore.structures.record import RECORD_SIZE, record_count
from kvstore.structures.stream import put_key
from kvstore.structures.stream_layout import KEY_SIZE
from kvstore.structures.tree import ADDRESSES, position_address, position_next, tree_rank, tree_seek
from kvstore.structures.tree.nodes import PLACE, PLACE_BITS
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import store64
from mmcore.state import SPACE

PENDING_MOST = 64
_CONSUMERS, _PENDING = ENDS + 1, ENDS + 2


@linked(void(SPACE, int64, int64, int64[::1]))
def _move_record(space, owner, place, tally):  # type: ignore[no-untyped-def]
    """Move the record that a word of a group or a consumer names."""
    record = word_at(space, owner, place)
    if should_move(space, record, tally):
        moved = move_part(space, record, RECORD_SIZE, tally)
        if moved != record:
            put_word(space, owner, place, moved)


@linked(void(SPACE, int64, int64, int64, int64))
def _point_item(space, record, rank, old, new):  # type: ignore[no-untyped-def]
    """The element of this rank has moved: correct its item, and the nodes above that name it."""
    position = tree_seek(space, record, rank, 0)
    assert position_address(space, position) == old, "an element that is not in a tree"
    store64(space, (position >> PLACE_BITS) + ADDRESSES + 8 * (position & PLACE), new)
    point_separators(space, record, rank, old, new)


@linked(int64(SPACE, int64, int64, int64, int64[::1]))
def _move_item(space, record, rank, element, tally):  # type: ignore[no-untyped-def]
    """Move the element of this rank: its address, which the tree has, too."""
    moved = move_part(space, element, element_bytes(space, element), tally)
    if moved != element:
        _point_item(space, record, rank, element, moved)
    return moved


@linked(void(SPACE, int64, int64, int64[::1]))
def _evacuate_consumer(space, consumers, rank, tally):  # type: ignore[no-untyped-def]
    """The consumer of this rank, and its record."""
    consumer = position_address(space, tree_seek(space, consumers, rank, 0))
    if should_move(space, consumer, tally) and pending_count(space, consumer) <= PENDING_MOST:
        moved = _move_item(space, consumers, rank, consumer, tally)
        if moved != consumer:
            where = tree_seek(space, word_at(space, moved, PENDING), 0, 0)
            while where != 0:
                put_word(space, position_address(space, where), CONSUMER, moved)
                where = position_next(space, where)
            consumer = moved
    _move_record(space, consumer, PENDING, tally)


@linked(void(SPACE, int64, int64, int64, int64[::1]))
def _evacuate_pending(space, pending, rank, room, tally):  # type: ignore[no-untyped-def]
    """The pending entry of this rank in the group's tree, and the nodes on the way to it in its consumer's."""
    position = tree_seek(space, pending, rank, 0)
    entry = position_address(space, position)
    ms, seq = pending_identifier(space, position)
    own = word_at(space, word_at(space, entry, CONSUMER), PENDING)
    put_key(room, seq)
    own_rank = tree_rank(space, own, ms, room, KEY_SIZE, 0)
    leaf_evacuate(space, own, 0, own_rank, 0, tally)
    if should_move(space, entry, tally):
        moved = _move_item(space, pending, rank, entry, tally)
        if moved != entry:
            _point_item(space, own, own_rank, entry, moved)


@kernel
def _behind(space, record, following):  # type: ignore[no-untyped-def]
    # The rank behind a leaf, from the result of leaf_evacuate.
    return following if following != OVER else record_count(space, record)


@linked(int64(SPACE, int64, int64, int64, int64, int64[::1]))
def group_evacuate(space, group, position, budget, room, tally):  # type: ignore[no-untyped-def]
    """Look at about `budget` parts below a group from a position on; returns the next position, OVER at the end."""
    stage, rank, end = position >> STAGE_SHIFT, position & ((1 << STAGE_SHIFT) - 1), tally[LOOKED] + budget
    if stage == ENDS:
        _move_record(space, group, PENDING, tally)
        _move_record(space, group, CONSUMERS, tally)
        stage = _CONSUMERS
    consumers, pending = word_at(space, group, CONSUMERS), word_at(space, group, PENDING)
    while stage == _CONSUMERS and tally[LOOKED] < end:
        following = leaf_evacuate(space, consumers, 0, rank, 0, tally)
        for i in range(rank, _behind(space, consumers, following)):
            _evacuate_consumer(space, consumers, i, tally)
        stage, rank = (stage, following) if following != OVER else (_PENDING, int64(0))
        end -= 1
    while stage == _PENDING and tally[LOOKED] < end:
        following = leaf_evacuate(space, pending, 0, rank, 0, tally)
        for i in range(rank, _behind(space, pending, following)):
            _evacuate_pending(space, pending, i, room, tally)
        if following == OVER:
            return OVER
        rank = following
        end -= 1
    return stage << STAGE_SHIFT | rank
