"""A sequence: elements in an order that the caller gives, found by their rank.  Their keys are the values of a list.

A short sequence is one packed.  Any other is a record, with packeds from the first to the last:

    HEAD        first packed, or none: the one that is pushed to and popped from
    tree        the packeds between, by weight (tree.py)
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

from kvstore.structures.element import (
    element_bytes,
    element_is,
    element_key,
    element_key_length,
    element_size,
)
from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.listpack import LISTPACK_EMPTY, listpack_size
from kvstore.structures.packed import (
    PACKED_FRAMES,
    check_packed,
    long_frames,
    packed_count,
    packed_is_long,
    packed_item,
    packed_item_size,
    packed_used,
)
from kvstore.structures.packed_layout import PACKED_HEADER, capacity_at, count_at, offset_at
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
    tree_frames,
    tree_seek,
    tree_seek_start,
    tree_weight,
)
from kvstore.system.libc import bytes_at
from mmcore.heap import HEAP_FRAMES
from mmcore.jit import equal_bytes, int64, kernel, linked, void
from mmcore.mmu import load64, read_address
from mmcore.state import SPACE

ALONE, FRONT, BACK, NOWHERE = 0, -1, -2, -3
_HEADER_SHORT, _HEADER_LONG = 2, 5  # bytes of an element without its key; its payload is empty
_SHORT_SIZE = 129  # the largest element with a short header


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
    position = tree_seek(space, root, rank - heads, 1)
    return position, position_address(space, position), heads + tree_seek_start(space, root, rank - heads, 1)


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


@kernel
def key_length_of(size):  # type: ignore[no-untyped-def]
    """Bytes of the key of an element of `size` bytes without a payload: the last ones of the element."""
    return size - (_HEADER_SHORT if size <= _SHORT_SIZE else _HEADER_LONG)


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def _match(space, packed, i, step, limit, key, k):  # type: ignore[no-untyped-def]
    """The first of up to `limit` places from `i` on, in steps of 1 or -1, whose element has this key; -1 without."""
    memory, at = space.mem.bytes, read_address(space, packed)
    capacity, count = capacity_at(memory, at), count_at(memory, at)
    if capacity == 0:
        return 0 if limit > 0 and element_is(space, packed + PACKED_HEADER, key, k) else -1
    size, text = element_size(k, 0), bytes_at(key, k)
    for _ in range(min(limit, count - i if step > 0 else i + 1)):
        end = offset_at(memory, at, capacity, i + 1)
        if end - offset_at(memory, at, capacity, i) == size and equal_bytes(memory, at + end - k, text, 0, k):
            return i
        i += step
    return -1


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def sequence_match(space, root, rank, step, limit, key, k):  # type: ignore[no-untyped-def]
    """The first of up to `limit` ranks from a rank on, in steps of 1 or -1, that has this key; -1 without one."""
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
    """How many elements from a rank on, `limit` at most and all in one packed, have this key."""
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
        element = packed + PACKED_HEADER
        return listpack_size(space.mem.bytes, 0, element_key_length(space, element)) if n > 0 else 0
    memory, at = space.mem.bytes, read_address(space, packed)
    capacity = capacity_at(memory, at)
    for j in range(i, i + n):
        end = offset_at(memory, at, capacity, j + 1)
        k = key_length_of(end - offset_at(memory, at, capacity, j))
        total += listpack_size(memory, at + end - k, k)
    return total


@linked(int64(SPACE, int64))
def sequence_listpack(space, root):  # type: ignore[no-untyped-def]
    """Bytes of the listpack that Redis would make of it."""
    if kind_of(space, root) == PACKED:
        return LISTPACK_EMPTY + listpack_sizes(space, root, 0, packed_count(space, root))
    return LISTPACK_EMPTY + load64(space, root + BASE)


@kernel
def sequence_listpack_most(space, root):  # type: ignore[no-untyped-def]
    """No less than that, without a look at the elements: keys of 64 to 127 bytes take two bytes more than here."""
    if kind_of(space, root) == PACKED:
        used = packed_used(space, root)
        return LISTPACK_EMPTY + used + (used >> 5)
    return LISTPACK_EMPTY + load64(space, root + BASE)


# --- the proof -------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64))
def _check_elements(space, packed):  # type: ignore[no-untyped-def]
    check_packed(space, packed)
    for i in range(packed_count(space, packed)):
        element, size = packed_item(space, packed, i), packed_item_size(space, packed, i)
        assert element_bytes(space, element) == size, "an item is not an element"
        assert key_length_of(size) == element_key_length(space, element), "the length of an element"
        assert element_key(space, element) + key_length_of(size) == element + size, "an element has a payload"
    return packed_count(space, packed)


@linked(void(SPACE, int64))
def check_sequence(space, root):  # type: ignore[no-untyped-def]
    """Assert the invariants, except those of the tree itself."""
    if kind_of(space, root) == PACKED:
        assert not packed_is_long(space, root), "(4) the root is a long packed"
        _check_elements(space, root)
        return
    where, count, sizes = FRONT, 0, 0
    if load64(space, root + HEAD) == 0:
        where = where_next(space, root, FRONT)
    while where != NOWHERE:
        packed = packed_where(space, root, where)
        n = _check_elements(space, packed)
        assert n > 0, "(1) a packed is empty"
        if where > 0:
            start = tree_seek_start(space, root, count - heads_of(space, root), 1)
            assert start == count - heads_of(space, root), "(2) the weight of a packed"
        count += n
        sizes += listpack_sizes(space, packed, 0, n)
        where = where_next(space, root, where)
    assert count == record_count(space, root) and count > 0, "(2) the number of elements"
    assert sizes == load64(space, root + BASE), "(3) the sizes in a listpack"
