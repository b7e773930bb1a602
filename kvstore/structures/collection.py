"""A collection: what can be done with a root without knowing what its elements mean.

root_count    how many elements
root_memory   how many bytes of the heap
root_free     at once where it is small, else into the grave (grave.py)
root_copy     a second one like it
"""

from kvstore.lifetimes.sizes import COPYING_WORDS
from kvstore.structures.chain import chain_count, chain_memory
from kvstore.structures.chain_change import chain_copy, chain_free
from kvstore.structures.copying import (
    COPIED,
    copying_begin,
    copying_groups,
    copying_record,
    copying_step,
    element_across,
)
from kvstore.structures.element import element_bytes
from kvstore.structures.grave import bury
from kvstore.structures.ints import ints_capacity, ints_copy, ints_count, ints_free
from kvstore.structures.kinds import CHAIN, INTS, PACKED, RECORD, STREAM, kind_of
from kvstore.structures.packed import packed_capacity, packed_copy, packed_count, packed_free
from kvstore.structures.record import (
    BUCKETS,
    OWNS_PACKEDS,
    RECORD_SIZE,
    TREE,
    record_count,
    record_deadlines,
    record_owns,
)
from kvstore.structures.sequence import NOWHERE, packed_where, where_first, where_next
from kvstore.structures.stream import stream_count
from kvstore.structures.stream_whole import groups_begin, groups_step, stream_free, stream_memory, stream_take
from kvstore.structures.table import table_room
from kvstore.structures.tree import FULL, LEAF_SIZE, tree_weight
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import free, malloc, words_at
from mmcore.heap import heap_size
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64
from mmcore.state import SPACE

_ALL_AT_ONCE = 1 << 62  # work of a step
_ALL = 1 << 62  # [bytes]


@linked(int64(SPACE, int64))
def root_count(space, root):  # type: ignore[no-untyped-def]
    """Elements of a collection."""
    kind = kind_of(space, root)
    if kind == CHAIN:
        return chain_count(space, root)
    if kind == PACKED:
        return packed_count(space, root)
    if kind == STREAM:
        return stream_count(space, root)
    return ints_count(space, root) if kind == INTS else record_count(space, root)


@linked(int64(SPACE, int64, int64))
def _elements_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the elements of a record: of all (samples 0), or as many of the first ones say."""
    walked, taken = 0, 0
    address = malloc(8 * WALK_WORDS)
    assert address != 0, "out of memory for a walk"
    walk = words_at(address, WALK_WORDS)
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0:
        taken += heap_size(element_bytes(space, element))
        walked += 1
        if walked == samples:
            break
        element = walk_next(space, walk)
    free(address)
    return taken if walked == 0 else taken * record_count(space, root) // walked


@linked(int64(SPACE, int64, int64))
def _packeds_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the packeds of a record: of all (samples 0), or as the first ones say that hold so many elements."""
    where, met, taken = where_first(space, root), 0, 0
    while where != NOWHERE:
        packed = packed_where(space, root, where)
        met += packed_count(space, packed)
        taken += packed_capacity(space, packed)
        if 0 < samples <= met:
            break
        where = where_next(space, root, where)
    return taken if met == 0 else taken * record_count(space, root) // met


@linked(int64(SPACE, int64, int64))
def _own_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """root_memory without the agenda of a hash."""
    kind = kind_of(space, root)
    if kind == CHAIN:
        return chain_memory(space, root)
    if kind == PACKED:
        return heap_size(packed_capacity(space, root))
    if kind == INTS:
        return heap_size(ints_capacity(space, root))
    if kind == STREAM:
        return stream_memory(space, root, samples, _ALL)
    taken = heap_size(RECORD_SIZE)
    if record_owns(space, root, OWNS_PACKEDS):
        return taken + _packeds_memory(space, root, samples)
    taken += _elements_memory(space, root, samples)
    buckets = load64(space, root + BUCKETS)
    if buckets != 0:
        taken += heap_size(table_room(buckets))
        if load64(space, root + TREE) != 0:  # leaves are about three quarters full
            taken += (tree_weight(space, root) * 4 // (3 * FULL) + 1) * LEAF_SIZE
    return taken


@linked(int64(SPACE, int64, int64))
def root_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the heap that a collection takes, of a great one estimated from `samples` elements; 0 for all."""
    agenda = record_deadlines(space, root) if kind_of(space, root) == RECORD else int64(0)
    return _own_memory(space, root, samples) + (_own_memory(space, agenda, samples) if agenda != 0 else 0)


@linked(void(SPACE, int64, int64))
def root_free(space, grave, root):  # type: ignore[no-untyped-def]
    """Free a collection: a small one at once, a record by burying it.  Frames were reserved."""
    kind = kind_of(space, root)
    if kind == CHAIN:
        chain_free(space, root)
    elif kind == PACKED:
        packed_free(space, root)
    elif kind == INTS:
        ints_free(space, root)
    elif kind == STREAM:
        stream_free(space, grave, root)
    else:
        bury(space, grave, root)


@kernel
def element_duplicate(space, element):  # type: ignore[no-untyped-def]
    """A copy of an element in an allocation of its own; 0 when frames ran out."""
    return element_across(space, space, element, 0)


@linked(int64(SPACE, int64, int64, int64, int64[::1]))
def _stream_copied(space, grave, root, built, words):  # type: ignore[no-untyped-def]
    """The copy of a stream whose nodes have been copied to the record `built`; 0 when frames ran out."""
    groups, copy = groups_begin(space, root, 0, words), int64(0)
    if groups >= 0 and groups_step(space, space, root, words, _ALL_AT_ONCE) == COPIED:
        copy = stream_take(space, space, root, built, groups)
    bury(space, grave, built)
    if groups > 0:
        bury(space, grave, groups)
    return copy


@linked(int64(SPACE, int64, int64, int64))
def _record_copy(space, grave, root, seed):  # type: ignore[no-untyped-def]
    """root_copy of a record, or of a stream."""
    address = malloc(8 * COPYING_WORDS)
    assert address != 0, "out of memory for a copy"
    state, copy = words_at(address, COPYING_WORDS), 0
    if copying_begin(space, space, root, 0, state):
        copy = copying_record(state)
        if copying_step(space, space, seed, state, _ALL_AT_ONCE) != COPIED:
            bury(space, grave, copy)
            copy = 0
        elif kind_of(space, root) == STREAM:
            copy = _stream_copied(space, grave, root, copy, copying_groups(state))
    free(address)
    return copy


@linked(int64(SPACE, int64, int64, int64))
def root_copy(space, grave, root, seed):  # type: ignore[no-untyped-def]
    """A collection like this one; 0 when frames ran out.  `seed` is that of the hash of its elements."""
    kind = kind_of(space, root)
    if kind == CHAIN:
        return chain_copy(space, space, root)
    if kind == PACKED:
        return packed_copy(space, space, root)
    if kind == INTS:
        return ints_copy(space, root)
    return _record_copy(space, grave, root, seed)
