"""The grave: records that are no longer used, waiting to be freed in steps.

Freeing a hash of a million fields takes a while.  So its record is buried, which takes no time, and the owner digs: it
frees some elements or nodes at a time.  The grave is a list in the address space, linked through the records
themselves.  An image, a snapshot or a branch carries it, and its owner goes on with the work.

    bury(space, head, record)           head: the address of the word that the list begins with
    dig(space, head, budget, builder)

A copy that is made in steps (copying.py) grows in the grave, too, so an image that is taken meanwhile does not lose it.
Its record has the number of the copy, and the owner that goes on with the copy passes this number to `dig`.

(1) What can be reached from a buried record can be reached from nowhere else.
(2) A record with the number `builder` is left alone.
"""

from kvstore.structures.chain_change import chain_free
from kvstore.structures.kinds import CHAIN, PACKED, kind_of
from kvstore.structures.packed import packed_free
from kvstore.structures.record import BUCKETS, HEAD, LINK, RECORD_SIZE, TAIL, TREE, record_builder
from kvstore.structures.table import TABLE_FRAMES, table_drop_step
from kvstore.structures.tree import tree_drop_step
from mmcore.frames import has_frames
from mmcore.heap import heap_free
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE


@kernel
def bury(space, head, record):  # type: ignore[no-untyped-def]
    """Hand over a record that nothing points at any more.  Frames for copies of two pages were reserved."""
    store64(space, record + LINK, load64(space, head))
    store64(space, head, record)


@linked(void(SPACE, int64, int64, int64))
def _free_end(space, head, record, field):  # type: ignore[no-untyped-def]
    """Free the first or the last packed of a list, or the agenda of a hash; one that is a record is buried, too."""
    root = load64(space, record + field)
    if root == 0:
        return
    if kind_of(space, root) == PACKED:
        packed_free(space, root)
    elif kind_of(space, root) == CHAIN:
        chain_free(space, root)
    else:
        bury(space, head, root)
    store64(space, record + field, 0)


@linked(int64(SPACE, int64, int64, int64))
def dig(space, head, budget, builder):  # type: ignore[no-untyped-def]
    """Free about `budget` elements and nodes; returns the work done, 0 when nothing waits or frames are short.

    `builder` is the number of a copy that goes on, 0 for none.
    """
    done = 0
    while done < budget and has_frames(space, TABLE_FRAMES):
        record = load64(space, head)
        while record != 0 and builder != 0 and record_builder(space, record) == builder:
            head = record + LINK
            record = load64(space, head)
        if record == 0:
            break
        if load64(space, record + TREE) != 0:  # before the table: its items may point at the table's elements
            work = tree_drop_step(space, record, budget - done)
        elif load64(space, record + BUCKETS) != 0:
            work = table_drop_step(space, record, budget - done)
        else:
            store64(space, head, load64(space, record + LINK))
            _free_end(space, head, record, HEAD)
            _free_end(space, head, record, TAIL)
            code = heap_free(space, record, RECORD_SIZE)
            assert code == 0, "no frame was reserved for a release"
            work = 1
        if work == 0:
            break
        done += work
    return done
