"""The record: the root of a collection that has a hash table, a tree, or both.

OFFSET  SIZE  DESCRIPTION
0       8     RECORD (kinds.py), flags from bit 8 on, and from bit 16 on
              the number of the copy that builds it, in the grave; else 0   grave.py
8       8     elements
16      8     buckets of the hash table, 0 without one                      table.py
24      8     address of its first bucket; of a list: a sum of sizes         sequence.py
32      8     root node of the tree, 0 without one                          tree/
40      8     levels of the tree, 1 when the root is a leaf
48      8     first packed of a list, 0 without one                     sequence.py
              of a hash: root of the agenda of its fields with a
              deadline, 0 without one                                   agenda.py
56      8     last packed of a list, 0 without one
64      8     next record in the grave                                      grave.py

OWNS_ELEMENTS   the elements in the table belong to the record and are freed with it
OWNS_PACKEDS    the tree's items are packeds, which belong to the record and are freed with it
OWNS_ITEMS      the tree's items are elements, which belong to the record, and there is no table
OWNS_BELOW      so do the records that the first BELOW words of each item's payload name; 0 is none
"""

from kvstore.structures.kinds import RECORD
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load64, store64
from mmcore.state import SPACE

FLAGS, COUNT, BUCKETS, BASE, TREE, LEVELS, HEAD, TAIL, LINK = range(0, 72, 8)
DEADLINES = HEAD  # of a hash
RECORD_SIZE = 72
FLAG_SHIFT = 8
OWNS_ELEMENTS, OWNS_PACKEDS = 1 << FLAG_SHIFT, 2 << FLAG_SHIFT
OWNS_ITEMS, OWNS_BELOW = 4 << FLAG_SHIFT, 8 << FLAG_SHIFT
OWNS = OWNS_ELEMENTS | OWNS_PACKEDS | OWNS_ITEMS | OWNS_BELOW
BELOW = 2
BUILDER_SHIFT = 16


@linked(int64(SPACE, int64))
def record_new(space, flags):  # type: ignore[no-untyped-def]
    """A record without elements; 0 with nothing changed when frames ran out."""
    if not has_frames(space, HEAP_FRAMES):
        return 0
    record = heap_alloc(space, RECORD_SIZE)
    if record == 0:
        return 0
    store64(space, record, RECORD | flags)
    for field in range(COUNT, RECORD_SIZE, 8):
        store64(space, record + field, 0)
    return record


@kernel
def record_count(space, record):  # type: ignore[no-untyped-def]
    """Elements of the collection."""
    return load64(space, record + COUNT)


@kernel
def record_add_count(space, record, by):  # type: ignore[no-untyped-def]
    """Change the number of elements."""
    store64(space, record + COUNT, load64(space, record + COUNT) + by)


@kernel
def record_owns(space, record, flag):  # type: ignore[no-untyped-def]
    """Whether the record has one of the flags."""
    return load64(space, record + FLAGS) & flag != 0


@kernel
def record_deadlines(space, record):  # type: ignore[no-untyped-def]
    """The root of a hash's agenda; 0 without one, and for a list."""
    return int64(0) if record_owns(space, record, OWNS_PACKEDS) else load64(space, record + DEADLINES)


@kernel
def record_builder(space, record):  # type: ignore[no-untyped-def]
    """The number of the copy that builds it, or has built it in the grave; 0 for any other record."""
    return load64(space, record + FLAGS) >> BUILDER_SHIFT
