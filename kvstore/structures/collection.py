"""A collection: what can be done with a root without knowing what its elements mean.

root_count    how many elements
root_memory   how many bytes of the heap
root_free     at once where it is small, else into the grave (grave.py)
root_copy     a second one like it
"""

from kvstore.structures.element import element_bytes, element_hash, element_key, element_key_length, pin
from kvstore.structures.grave import bury
from kvstore.structures.ints import ints_capacity, ints_copy, ints_count, ints_free
from kvstore.structures.kinds import INTS, PACKED, kind_of
from kvstore.structures.packed import is_long_item, packed_capacity, packed_copy, packed_count, packed_free
from kvstore.structures.packed_layout import END_SIZE, PACKED_HEADER
from kvstore.structures.record import (
    BASE,
    BUCKETS,
    COUNT,
    FLAGS,
    HEAD,
    OWNS_PACKEDS,
    RECORD_SIZE,
    TAIL,
    TREE,
    record_count,
    record_new,
    record_owns,
)
from kvstore.structures.table import TABLE_FRAMES, table_add, table_at, table_find, table_room
from kvstore.structures.tree import (
    FULL,
    LEAF_SIZE,
    position_address,
    position_next,
    position_word,
    tree_frames,
    tree_insert_at,
    tree_seek,
    tree_weight,
)
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, free, malloc, words_at
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_size
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import copy_out, copy_within, load64, store64
from mmcore.state import SPACE

_FLAG_BITS = ~0xFF  # of a record's first word, without the kind


@linked(int64(SPACE, int64))
def root_count(space, root):  # type: ignore[no-untyped-def]
    """Elements of a collection."""
    kind = kind_of(space, root)
    if kind == PACKED:
        return packed_count(space, root)
    return ints_count(space, root) if kind == INTS else record_count(space, root)


@kernel
def _item_memory(size):  # type: ignore[no-untyped-def]
    # Bytes that an item of a list takes in a packed that it shares, or in a long one of its own.
    return heap_size(PACKED_HEADER + size) if is_long_item(size) else size + END_SIZE


@linked(int64(SPACE, int64, int64))
def _elements_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the elements or packeds of a record: of all (samples 0), or as many of the first ones say."""
    owns_packeds, walked, taken = record_owns(space, root, OWNS_PACKEDS), 0, 0
    address = malloc(8 * WALK_WORDS)
    assert address != 0, "out of memory for a walk"
    walk = words_at(address, WALK_WORDS)
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0:
        size = element_bytes(space, element)
        taken += _item_memory(size) if owns_packeds else heap_size(size)
        walked += 1
        if walked == samples:
            break
        element = walk_next(space, walk)
    free(address)
    return taken if walked == 0 else taken * record_count(space, root) // walked


@linked(int64(SPACE, int64, int64))
def root_memory(space, root, samples):  # type: ignore[no-untyped-def]
    """Bytes of the heap that a collection takes, of a great one estimated from `samples` elements; 0 for all."""
    kind = kind_of(space, root)
    if kind == PACKED:
        return heap_size(packed_capacity(space, root))
    if kind == INTS:
        return heap_size(ints_capacity(space, root))
    taken = heap_size(RECORD_SIZE) + _elements_memory(space, root, samples)
    buckets = load64(space, root + BUCKETS)
    if buckets != 0:
        taken += heap_size(table_room(buckets))
        if load64(space, root + TREE) != 0:  # leaves are about three quarters full
            taken += (tree_weight(space, root) * 4 // (3 * FULL) + 1) * LEAF_SIZE
    return taken


@linked(void(SPACE, int64, int64))
def root_free(space, grave, root):  # type: ignore[no-untyped-def]
    """Free a collection: a small one at once, a record by burying it.  Frames were reserved."""
    kind = kind_of(space, root)
    if kind == PACKED:
        packed_free(space, root)
    elif kind == INTS:
        ints_free(space, root)
    else:
        bury(space, grave, root)


@linked(int64(SPACE, int64))
def element_duplicate(space, element):  # type: ignore[no-untyped-def]
    """A copy of an element in an allocation of its own; 0 when frames ran out."""
    size = element_bytes(space, element)
    if not has_frames(space, HEAP_FRAMES + (size >> 12) + (size >> 20)):
        return 0
    copy = heap_alloc(space, size)
    if copy != 0:
        copy_within(space, copy, element, size)
    return copy


@linked(int64(SPACE, int64, int64, int64))
def _copy_table(space, root, copy, seed):  # type: ignore[no-untyped-def]
    """Copy the elements of a record's table into another record: 1, or 0 when frames ran out."""
    address = malloc(8 * WALK_WORDS)
    assert address != 0, "out of memory for a walk"
    walk, done = words_at(address, WALK_WORDS), 1
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0:
        twin = element_duplicate(space, element) if has_frames(space, 2 * TABLE_FRAMES) else 0
        if twin == 0:
            done = 0
            break
        code = table_add(space, copy, seed, element_hash(space, twin, seed), twin)
        assert code == 0, "no frame was reserved for an element"
        element = walk_next(space, walk)
    free(address)
    return done


@kernel
def _twin_of(space, copy, element, seed):  # type: ignore[no-untyped-def]
    # The element of the copied table that has the same key.
    k, va = element_key_length(space, element), element_key(space, element)
    key = pin(space, va, k)
    address = 0
    if key == 0:  # across pages: compared as one piece
        address = key = malloc(k)
        assert address != 0, "out of memory for a long key"
        copy_out(space, va, bytes_at(address, k), 0, k)
    slot = table_find(space, copy, element_hash(space, element, seed), key, k)
    free(address)
    assert slot != 0, "an element of a tree is not in its table"
    return table_at(space, slot)


@linked(int64(SPACE, int64, int64, int64))
def _copy_tree(space, root, copy, seed):  # type: ignore[no-untyped-def]
    """Copy the tree of a record into another, whose table has been copied: 1, or 0 when frames ran out."""
    weights = int64(record_owns(space, root, OWNS_PACKEDS))
    position, rank = tree_seek(space, root, 0, weights), 0
    while position != 0:
        word, item = position_word(space, position), position_address(space, position)
        twin = packed_copy(space, item) if weights else _twin_of(space, copy, item, seed)
        if twin == 0 or not has_frames(space, tree_frames(space, copy)):
            if twin != 0 and weights:
                packed_free(space, twin)
            return 0
        code = tree_insert_at(space, copy, rank, word, twin, weights)
        assert code == 0, "no frame was reserved for a tree"
        rank += word if weights else 1
        position = position_next(space, position)
    return 1


@linked(int64(SPACE, int64, int64, int64))
def root_copy(space, grave, root, seed):  # type: ignore[no-untyped-def]
    """A collection like this one; 0 when frames ran out.  `seed` is that of the hash of its elements."""
    kind = kind_of(space, root)
    if kind == PACKED:
        return packed_copy(space, root)
    if kind == INTS:
        return ints_copy(space, root)
    copy = record_new(space, load64(space, root + FLAGS) & _FLAG_BITS)
    if copy == 0:
        return 0
    done = 1
    if load64(space, root + BUCKETS) != 0:
        done = _copy_table(space, root, copy, seed)
    if done == 1 and load64(space, root + TREE) != 0:
        done = _copy_tree(space, root, copy, seed)
    for field in range(HEAD, TAIL + 1, 8):
        packed = load64(space, root + field)
        if done == 1 and packed != 0:
            packed = packed_copy(space, packed)
            done = 1 if packed != 0 else 0
            store64(space, copy + field, packed)
    if done == 0:
        bury(space, grave, copy)
        return 0
    store64(space, copy + COUNT, record_count(space, root))
    if record_owns(space, root, OWNS_PACKEDS):
        store64(space, copy + BASE, load64(space, root + BASE))
    return copy
