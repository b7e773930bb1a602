"""A sequence: elements in an order that the caller gives, found by their rank.  A list is one.

An element is bytes.  It is an item of a packed, which knows its size, so nothing is stored beside it.

A short sequence is one packed.  Any other is a record, with packeds from the first to the last:

    HEAD        first packed, or none: the one that is pushed to and popped from
    tree        the packeds between, by weight (tree/)
    TAIL        last packed, or none

So a push or a pop changes one packed and the record; only where the packed is full or empty, the tree is changed, too.
An element that is too large for a packed is a long packed (packed.py).  A record whose elements fit a packed again,
with room to spare, becomes a packed.

The record's BASE, which no table uses here, holds the bytes that the elements would take in a listpack (listpack.py).

Where a packed is:  ALONE, the packed is the root; FRONT, BACK, the ends of a record; else its position in the tree.

(1) No packed of a record is empty.
(2) COUNT is the number of all elements; the weight of a packed in the tree is the number of its elements.
(3) BASE is the sum of the elements' sizes in a listpack.
(4) A root that is a packed is not long.

Here is what reads a sequence; sequence_change.py changes it.
"""

from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.listpack import LISTPACK_EMPTY, listpack_size
from kvstore.structures.packed import (
    PACKED_FRAMES,
    check_packed,
    long_frames,
    packed_count,
    packed_is_long,
    packed_item_size,
    packed_prefetch,
    packed_used,
)
from kvstore.structures.packed_layout import PACKED_HEADER, capacity_at, count_at, long_size_at, offset_at
from kvstore.structures.record import (
    BASE,
    HEAD,
    TAIL,
    TREE,
    record_count,
)
from kvstore.structures.tree import (
    LEVEL_FRAMES,
    position_address,
    position_next,
    position_previous,
    position_word,
    tree_find,
    tree_frames,
    tree_seek,
    tree_seek_start,
    tree_weight,
)
from kvstore.system.libc import bytes_at
from mmcore.heap import HEAP_FRAMES
from mmcore.jit import equal_bytes, int64, kernel, linked, void
from mmcore.mmu import compare, load64, read_address
from mmcore.state import SPACE

ALONE, FRONT, BACK, NOWHERE = 0, -1, -2, -3


# --- frames ----------------------------------------------------------------------------------------------------------


@kernel
def sequence_frames(space, root, size):  # type: ignore[no-untyped-def]
    """Frames that are enough to change, insert or remove one element of `size` bytes."""
    frames = PACKED_FRAMES + long_frames(size) + 2 * HEAP_FRAMES  # two packeds, the record
    if root == 0 or kind_of(space, root) == PACKED:
        return frames + 4 * LEVEL_FRAMES  # two changes of a tree without levels
    return frames + 2 * tree_frames(space, root)


# --- finding a packed ------------------------------------------------------------------------------------------------


@kernel
def _count_in(space, packed):  # type: ignore[no-untyped-def]
    return packed_count(space, packed) if packed != 0 else int64(0)


@kernel
def heads_of(space, root):  # type: ignore[no-untyped-def]
    """Number of elements in the first packed of a record: what a rank is more than in the tree."""
    return _count_in(space, load64(space, root + HEAD))


@kernel
def sequence_count(space, root):  # type: ignore[no-untyped-def]
    """Number of elements."""
    return packed_count(space, root) if kind_of(space, root) == PACKED else record_count(space, root)


@kernel
def sequence_find(space, root, rank):  # type: ignore[no-untyped-def]
    """(where the packed is that holds a rank, its address, the rank of its first element)."""
    if kind_of(space, root) == PACKED:
        return int64(ALONE), int64(root), int64(0)
    head, tail = load64(space, root + HEAD), load64(space, root + TAIL)
    heads = _count_in(space, head)
    if rank < heads:
        return int64(FRONT), head, int64(0)
    start = record_count(space, root) - _count_in(space, tail)
    if rank >= start:
        assert tail != 0, "a rank beyond a sequence"
        return int64(BACK), tail, start
    position, rest = tree_find(space, root, rank - heads, 1)
    assert position != 0, "a rank beyond the tree"
    packed = position_address(space, position)
    packed_prefetch(space, packed, rest, position_word(space, position))
    return position, packed, rank - rest


@kernel
def sequence_prefetch(space, root, rank):  # type: ignore[no-untyped-def]
    """Prefetch the lines in which the element of a rank is found, if that lies in the tree.

    Returns its packed and its place there; packed 0 if the rank is elsewhere.
    """
    if kind_of(space, root) == PACKED:
        return int64(0), int64(0)
    position, rest = tree_find(space, root, rank - heads_of(space, root), 1)
    if position == 0:
        return int64(0), int64(0)
    packed = position_address(space, position)
    packed_prefetch(space, packed, rest, position_word(space, position))
    return packed, rest


@kernel
def packed_where(space, root, where):  # type: ignore[no-untyped-def]
    """The packed that is there."""
    if where == ALONE:
        return int64(root)
    if where == FRONT or where == BACK:
        return load64(space, root + (HEAD if where == FRONT else TAIL))
    return position_address(space, where)


@linked(int64(SPACE, int64, int64))
def where_next(space, root, where):  # type: ignore[no-untyped-def]
    """Where the packed behind this one is; NOWHERE behind the last."""
    if where == ALONE or where == BACK:
        return NOWHERE
    if where == FRONT:
        position = tree_seek(space, root, 0, 1) if load64(space, root + TREE) != 0 else 0
    else:
        position = position_next(space, where)
    if position != 0:
        return position
    return BACK if load64(space, root + TAIL) != 0 else NOWHERE


@kernel
def where_first(space, root):  # type: ignore[no-untyped-def]
    """Where the first packed is."""
    if kind_of(space, root) == PACKED:
        return int64(ALONE)
    return int64(FRONT) if load64(space, root + HEAD) != 0 else where_next(space, root, FRONT)


@linked(int64(SPACE, int64))
def sequence_packeds(space, root):  # type: ignore[no-untyped-def]
    """Number of packeds, counted by a walk over the tree."""
    if kind_of(space, root) == PACKED:
        return 1
    count = int64(load64(space, root + HEAD) != 0) + int64(load64(space, root + TAIL) != 0)
    position = tree_seek(space, root, 0, 1) if load64(space, root + TREE) != 0 else 0
    while position != 0:
        count += 1
        position = position_next(space, position)
    return count


@linked(int64(SPACE, int64, int64))
def where_previous(space, root, where):  # type: ignore[no-untyped-def]
    """Where the packed in front of this one is; NOWHERE in front of the first."""
    if where == ALONE or where == FRONT:
        return NOWHERE
    if where == BACK:
        weight = tree_weight(space, root)
        position = tree_seek(space, root, weight - 1, 1) if weight > 0 else 0
    else:
        position = position_previous(space, where)
    if position != 0:
        return position
    return FRONT if load64(space, root + HEAD) != 0 else NOWHERE


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _match(space, packed, i, step, limit, key, k):  # type: ignore[no-untyped-def]
    """The first of up to `limit` places from `i` on, in steps of 1 or -1, whose element is these bytes; -1 without."""
    memory, at, text = space.mem.bytes, read_address(space, packed), bytes_at(key, k)
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    if capacity == 0:
        same = limit > 0 and long_size_at(memory, at) == k and compare(space, packed + PACKED_HEADER, text, 0, k)
        return 0 if same else -1
    for _ in range(min(limit, count - i if step > 0 else i + 1)):
        end = offset_at(memory, at, capacity, i + 1)
        if end - offset_at(memory, at, capacity, i) == k and equal_bytes(memory, at + end - k, text, 0, k):
            return i
        i += step
    return -1


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def sequence_match(space, root, rank, step, limit, key, k):  # type: ignore[no-untyped-def]
    """The first of up to `limit` ranks from a rank on, in steps of 1 or -1, that is these bytes; -1 without one."""
    if limit <= 0 or rank < 0 or rank >= sequence_count(space, root):
        return -1
    where, packed, first = sequence_find(space, root, rank)
    while True:
        i = _match(space, packed, rank - first, step, limit, key, k)
        if i >= 0:
            return first + i
        beyond = first + packed_count(space, packed) if step > 0 else first - 1
        limit -= abs(beyond - rank)
        where = where_next(space, root, where) if step > 0 else where_previous(space, root, where)
        if limit <= 0 or where == NOWHERE:
            return -1
        packed, rank = packed_where(space, root, where), beyond
        first = rank if step > 0 else rank + 1 - packed_count(space, packed)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def sequence_run(space, root, rank, limit, key, k):  # type: ignore[no-untyped-def]
    """How many elements from a rank on, `limit` at most and all in one packed, are these bytes."""
    _, packed, first = sequence_find(space, root, rank)
    i, run = rank - first, 0
    while run < limit and i + run < packed_count(space, packed):
        if _match(space, packed, i + run, 1, 1, key, k) < 0:
            break
        run += 1
    return run


# --- sizes in a listpack ---------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64))
def listpack_sizes(space, packed, i, n):  # type: ignore[no-untyped-def]
    """Bytes that `n` items from place `i` on would take in a listpack."""
    total = 0
    if packed_is_long(space, packed):  # too long for an integer, so that no byte of it is looked at
        return listpack_size(space.mem.bytes, 0, packed_item_size(space, packed, 0)) if n > 0 else 0
    memory, at = space.mem.bytes, read_address(space, packed)
    capacity = capacity_at(memory, at)
    for j in range(i, i + n):
        end = offset_at(memory, at, capacity, j + 1)
        size = end - offset_at(memory, at, capacity, j)
        total += listpack_size(memory, at + end - size, size)
    return total


@linked(int64(SPACE, int64))
def sequence_listpack(space, root):  # type: ignore[no-untyped-def]
    """Bytes of the listpack that Redis would make of it."""
    if kind_of(space, root) == PACKED:
        return LISTPACK_EMPTY + listpack_sizes(space, root, 0, packed_count(space, root))
    return LISTPACK_EMPTY + load64(space, root + BASE)


@kernel
def sequence_listpack_most(space, root):  # type: ignore[no-untyped-def]
    """No less than that, without a look at the elements: two bytes more than each has, and up to four from 64 on."""
    if kind_of(space, root) == PACKED:
        used = packed_used(space, root)
        return LISTPACK_EMPTY + used + 2 * packed_count(space, root) + (used >> 5)
    return LISTPACK_EMPTY + load64(space, root + BASE)


@kernel
def sequence_listpack_within(space, root, limit):  # type: ignore[no-untyped-def]
    """Whether the listpack that Redis would make of it has no more than `limit` bytes."""
    if sequence_listpack_most(space, root) <= limit:
        return True
    return kind_of(space, root) == PACKED and sequence_listpack(space, root) <= limit  # a record knows it exactly


# --- the proof -------------------------------------------------------------------------------------------------------


@linked(void(SPACE, int64))
def check_sequence(space, root):  # type: ignore[no-untyped-def]
    """Assert the invariants, except those of the tree itself."""
    if kind_of(space, root) == PACKED:
        assert not packed_is_long(space, root), "(4) the root is a long packed"
        check_packed(space, root)
        return
    where, count, sizes = where_first(space, root), 0, 0
    while where != NOWHERE:
        packed = packed_where(space, root, where)
        check_packed(space, packed)
        n = packed_count(space, packed)
        assert n > 0, "(1) a packed is empty"
        if where > 0:
            start = tree_seek_start(space, root, count - heads_of(space, root), 1)
            assert start == count - heads_of(space, root), "(2) the weight of a packed"
        count += n
        sizes += listpack_sizes(space, packed, 0, n)
        where = where_next(space, root, where)
    assert count == record_count(space, root) and count > 0, "(2) the number of elements"
    assert sizes == load64(space, root + BASE), "(3) the sizes in a listpack"
