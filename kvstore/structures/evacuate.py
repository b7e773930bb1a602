"""Evacuation: moving the parts of a value off leaving pages, which the heap wants to empty (mmcore/heap/leaving.py).

    root = root_evacuate(space, root, tally)                              the root itself; the owner stores its address
    position = record_evacuate(space, root, seed, position, budget, tally)    a step through the parts of a record

A root of another kind than RECORD has no parts, except a CHAIN, whose few blocks are moved with the root.  A block is
known by the one in front of it.  Nothing but its owner knows the address of a root, and nothing but the
record knows the addresses of its parts:

    the buckets of the table, if they take no more than a page    the record
    an overflow bucket                                            the last slot of the bucket in front of it
    an element                                                    a slot of the table; in a record with a tree its item,
                                                                  too, and the nodes above that name it as the first
                                                                  item below a child
    a node of the tree                                            its parent or the record; of a leaf, both neighbours
    a packed                                                      its item; the record for the first and the last
    the agenda of a hash                                          the record; its parts follow those of the hash
    a node of a stream, an element                                its item, and the nodes above; the root for the last

A stream's root moves with its last node and the two records it names; its other nodes are the parts of one of these,
and its groups those of the other.  evacuate_groups.py moves all that lies below the groups.

Elements of a record with a table and a tree are met in the order of the tree: the table has each element's hash, so the
way from an item to its slot needs no score.

Position.  0 is the begin, -1 the end.  In between it says the stage, and where in that: a cursor of a scan of the table
(linear.py), or a rank in the tree.  Neither is an address, so the value may change between two steps.  Then some parts
may be met twice or not at all, which does no harm: what has not been moved by the end stays where it is.

`tally` counts the parts that were looked at and those that were moved.  A part stays if its page is not leaving, if no
other page has room, or if frames are short (heap_move).
"""

from kvstore.structures.buckets import BUCKET_SIZE, LAST, SLOTS, bucket_element, next_overflow
from kvstore.structures.chain import block_capacity, block_next
from kvstore.structures.chain_change import chain_relink
from kvstore.structures.element import element_bytes, element_hash
from kvstore.structures.ints import ints_capacity
from kvstore.structures.kinds import CHAIN, INTS, PACKED, RECORD, STREAM, kind_of
from kvstore.structures.linear import bucket_number, scan_bucket, scan_next
from kvstore.structures.packed import packed_capacity
from kvstore.structures.record import (
    BASE,
    BUCKETS,
    HEAD,
    LEVELS,
    OWNS_ITEMS,
    OWNS_PACKEDS,
    RECORD_SIZE,
    TAIL,
    TREE,
    record_deadlines,
    record_owns,
)
from kvstore.structures.stream import GROUPS, NODES, STREAM_SIZE
from kvstore.structures.stream import TAIL as STREAM_TAIL
from kvstore.structures.table import PAGE_BUCKETS, table_bucket, table_room
from kvstore.structures.tree import (
    ADDRESS,
    ADDRESS_BITS,
    ADDRESSES,
    CHILDREN,
    COPY_FRAMES,
    COUNT_WORD,
    INNER_SIZE,
    LEAF_SIZE,
    LEVEL_WORD,
    LEVELS_MAX,
    WEIGHTS,
    WORDS,
)
from mmcore.heap import heap_move, heap_should_move
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE

LOOKED, MOVED = range(2)
TALLY_WORDS = 2
FRAMES = (LEVELS_MAX + 4) * COPY_FRAMES  # for copies of all pages that name one part
ENDS, TABLE, ITEMS, DEADLINES = range(4)  # stages; of an agenda, DEADLINES is added to the others
STAGE_SHIFT = 40
OVER = -1


@linked(int64(SPACE, int64, int64, int64[::1]))
def move_part(space, va, size, tally):  # type: ignore[no-untyped-def]
    """Move an allocation off a leaving page: its address, which the caller stores.  Enough frames are left for that."""
    moved = heap_move(space, va, size, FRAMES)
    tally[MOVED] += int64(moved != va)
    return moved


@kernel
def should_move(space, va, tally):  # type: ignore[no-untyped-def]
    """Whether a part lies on a leaving page.  So its size needs to be read only then."""
    tally[LOOKED] += 1
    return heap_should_move(space, va)


@kernel
def move_pointed(space, word_va, va, size, tally):  # type: ignore[no-untyped-def]
    """Move an allocation off a leaving page, and correct the word that holds its address, perhaps with other bits."""
    moved = move_part(space, va, size, tally)
    if moved != va:  # else nothing is stored: there may be no frame for that
        store64(space, word_va, load64(space, word_va) - va + moved)
    return moved


@linked(int64(SPACE, int64, int64[::1]))
def _chain_evacuate(space, root, tally):  # type: ignore[no-untyped-def]
    """root_evacuate of a chain."""
    before, block = 0, root
    while block != 0:
        if should_move(space, block, tally):
            moved = move_part(space, block, block_capacity(space, block), tally)
            if moved != block:
                block = moved
                root = chain_relink(space, root, before, block)
        before, block = block, block_next(space, block)
    return root


@linked(void(SPACE, int64, int64[::1]))
def _evacuate_stream(space, root, tally):  # type: ignore[no-untyped-def]
    """Move the last node of a stream, and the records that its root names."""
    tail = load64(space, root + STREAM_TAIL)
    if tail != 0 and should_move(space, tail, tally):
        move_pointed(space, root + STREAM_TAIL, tail, element_bytes(space, tail), tally)
    for field in (NODES, GROUPS):
        record = load64(space, root + field)
        if record != 0 and should_move(space, record, tally):
            move_pointed(space, root + field, record, RECORD_SIZE, tally)


@linked(int64(SPACE, int64, int64[::1]))
def root_evacuate(space, root, tally):  # type: ignore[no-untyped-def]
    """Move the allocation of a root, and the blocks of a chain: the root's address, which the caller stores."""
    kind = kind_of(space, root)
    if kind == CHAIN:
        return _chain_evacuate(space, root, tally)
    if kind == STREAM:
        _evacuate_stream(space, root, tally)
    if not should_move(space, root, tally):
        return root
    if kind == STREAM:
        return move_part(space, root, STREAM_SIZE, tally)
    if kind == PACKED:
        return move_part(space, root, packed_capacity(space, root), tally)
    return move_part(space, root, ints_capacity(space, root) if kind == INTS else RECORD_SIZE, tally)


@linked(void(SPACE, int64, int64[::1]))
def _evacuate_ends(space, record, tally):  # type: ignore[no-untyped-def]
    """The first and the last packed, or the agenda, and the buckets of a small table."""
    for field in range(HEAD, TAIL + 1, 8):
        root = load64(space, record + field)
        if root != 0:
            moved = root_evacuate(space, root, tally)
            if moved != root:
                store64(space, record + field, moved)
    buckets = load64(space, record + BUCKETS)
    if 0 < buckets <= PAGE_BUCKETS:
        base = load64(space, record + BASE)
        if should_move(space, base, tally):
            move_pointed(space, record + BASE, base, table_room(buckets), tally)


@linked(void(SPACE, int64, int64[::1]))
def overflow_evacuate(space, bucket, tally):  # type: ignore[no-untyped-def]
    """Move the overflow bucket behind a bucket."""
    overflow = next_overflow(space, bucket)
    if overflow != 0 and should_move(space, overflow, tally):
        move_pointed(space, bucket + LAST, overflow, BUCKET_SIZE, tally)


@linked(void(SPACE, int64, int64, int64[::1]))
def _evacuate_chain(space, bucket, elements_too, tally):  # type: ignore[no-untyped-def]
    """The overflow buckets of a chain, and the elements that only the table knows."""
    while bucket != 0:
        overflow_evacuate(space, bucket, tally)
        for i in range(SLOTS if elements_too else 0):
            element = bucket_element(space, bucket, i)
            if element != 0 and should_move(space, element, tally):
                move_pointed(space, bucket + 8 * i, element, element_bytes(space, element), tally)
        bucket = next_overflow(space, bucket)


@linked(void(SPACE, int64, int64, int64, int64))
def _point_slot(space, record, seed, old, new):  # type: ignore[no-untyped-def]
    """Let the slot that points at `old` point at `new`, where the element is now."""
    hash_, slot = element_hash(space, new, seed), 0
    bucket = table_bucket(space, record, bucket_number(hash_, load64(space, record + BUCKETS)))
    while slot == 0:
        assert bucket != 0, "an element of a tree is not in its table"
        for i in range(SLOTS):
            if bucket_element(space, bucket, i) == old:
                slot = bucket + 8 * i
        bucket = next_overflow(space, bucket)
    store64(space, slot, load64(space, slot) - old + new)


@kernel
def _child(space, node, rank):  # type: ignore[no-untyped-def]
    # The place of the child that holds a rank, and what is left of the rank there; place `count` beyond the last.
    place, count = 0, load64(space, node + COUNT_WORD) >> ADDRESS_BITS
    while place < count:
        weight = load64(space, node + WEIGHTS + 8 * place)
        if rank < weight:
            break
        rank -= weight
        place += 1
    return place, rank


@linked(void(SPACE, int64, int64, int64, int64))
def point_separators(space, record, rank, old, new):  # type: ignore[no-untyped-def]
    """The element of this rank has moved: correct the nodes that name it as the first item below a child."""
    node, level = load64(space, record + TREE), load64(space, record + LEVELS)
    while level > 1:
        place, rank = _child(space, node, rank)
        if load64(space, node + ADDRESSES + 8 * place) == old:
            store64(space, node + ADDRESSES + 8 * place, new)
        node = load64(space, node + CHILDREN + 8 * place)
        level -= 1


@kernel
def _set_neighbour(space, leaf, word, new):  # type: ignore[no-untyped-def]
    # The leaf has a new neighbour: the previous one in COUNT_WORD, the next in LEVEL_WORD.
    if leaf != 0:
        store64(space, leaf + word, load64(space, leaf + word) & ~ADDRESS | new)


@linked(int64(SPACE, int64, int64, int64[::1]))
def _evacuate_node(space, pointer, level, tally):  # type: ignore[no-untyped-def]
    """Move the node that the word at `pointer` points at; returns its address."""
    node = load64(space, pointer)
    if not should_move(space, node, tally):
        return node
    moved = move_pointed(space, pointer, node, LEAF_SIZE if level == 1 else INNER_SIZE, tally)
    if moved != node and level == 1:
        _set_neighbour(space, load64(space, moved + COUNT_WORD) & ADDRESS, LEVEL_WORD, moved)
        _set_neighbour(space, load64(space, moved + LEVEL_WORD) & ADDRESS, COUNT_WORD, moved)
    return moved


@linked(int64(SPACE, int64, int64, int64, int64, int64[::1]))
def leaf_evacuate(space, record, seed, rank, items, tally):  # type: ignore[no-untyped-def]
    """Move the nodes on the way to the leaf that holds a rank, and with `items` its items.

    Returns the rank behind it, or OVER.
    """
    packeds, tabled = record_owns(space, record, OWNS_PACKEDS), load64(space, record + BUCKETS) != 0
    owned = record_owns(space, record, OWNS_ITEMS)
    pointer, level, rest = record + TREE, load64(space, record + LEVELS), rank
    if level == 0:
        return OVER
    node = _evacuate_node(space, pointer, level, tally)
    while level > 1:
        place, rest = _child(space, node, rest)
        if place == load64(space, node + COUNT_WORD) >> ADDRESS_BITS:
            return OVER
        level -= 1
        node = _evacuate_node(space, node + CHILDREN + 8 * place, level, tally)
    here = rank - rest
    for place in range(load64(space, node + COUNT_WORD) >> ADDRESS_BITS):
        at = node + ADDRESSES + 8 * place
        item = load64(space, at)
        if packeds:
            if should_move(space, item, tally):
                move_pointed(space, at, item, packed_capacity(space, item), tally)
            here += load64(space, node + WORDS + 8 * place)
            continue
        if items and (tabled or owned) and should_move(space, item, tally):
            moved = move_pointed(space, at, item, element_bytes(space, item), tally)
            if moved != item:
                if tabled:
                    _point_slot(space, record, seed, item, moved)
                if place == 0:
                    point_separators(space, record, here, item, moved)
        here += 1
    return here if load64(space, node + LEVEL_WORD) & ADDRESS != 0 else OVER


@linked(int64(SPACE, int64, int64, int64, int64, int64[::1]))
def _evacuate_parts(space, record, seed, position, budget, tally):  # type: ignore[no-untyped-def]
    """record_evacuate without the agenda of a hash."""
    stage, where = position >> STAGE_SHIFT, position & ((1 << STAGE_SHIFT) - 1)
    end = tally[LOOKED] + budget
    if stage == ENDS:
        _evacuate_ends(space, record, tally)
        stage = TABLE
    buckets = load64(space, record + BUCKETS)
    if stage == TABLE:
        treed = load64(space, record + TREE) != 0 and not record_owns(space, record, OWNS_PACKEDS)
        while stage == TABLE and tally[LOOKED] < end:
            if buckets != 0:
                _evacuate_chain(space, table_bucket(space, record, scan_bucket(where, buckets)), not treed, tally)
                where = scan_next(where, buckets)
                end -= 1  # an empty bucket is work, too
            if buckets == 0 or where == 0:
                stage, where = ITEMS, int64(0)
    while stage == ITEMS and tally[LOOKED] < end:
        where = leaf_evacuate(space, record, seed, where, 1, tally)
        end -= 1
        if where == OVER:
            return OVER
    return stage << STAGE_SHIFT | where


@linked(int64(SPACE, int64, int64, int64, int64, int64[::1]))
def record_evacuate(space, record, seed, position, budget, tally):  # type: ignore[no-untyped-def]
    """Look at about `budget` parts of a record from a position on; returns the next position, -1 at the end."""
    agenda, start = record_deadlines(space, record), DEADLINES << STAGE_SHIFT
    if agenda != 0 and kind_of(space, agenda) != RECORD:  # its root is all of it
        agenda = int64(0)
    if position < start:
        position = _evacuate_parts(space, record, seed, position, budget, tally)
        return start if position == OVER and agenda != 0 else position
    if agenda == 0:
        return OVER
    position = _evacuate_parts(space, agenda, seed, position - start, budget, tally)
    return position if position == OVER else position + start
