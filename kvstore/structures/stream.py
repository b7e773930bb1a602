"""A stream: entries in the order of their identifiers, each of some fields with values.

    root ─► record ─► tree ─► node │ node │ ...      in the order of their bases
       └──────────────────────────► last node

OFFSET  SIZE  DESCRIPTION
0       8     STREAM (kinds.py)
8       8     entries
16      16    the last identifier that was given
32      16    the greatest one that was deleted
48      8     entries that were ever added
56      8     record with the tree of all nodes but the last, 0 without one      record.py, tree.py
64      8     last node, 0 without one                                          stream_layout.py
72      8     record of the consumer groups, 0 without one                      groups.py

A node holds up to `stream-node-max-entries` entries in at most a page.  Their identifiers are told by their distance
from its base, and an entry with the fields of its node's first has no names of its own.  So an entry of one short field
takes some 20 bytes.  The last node is beside the tree, so **XADD dirties two pages**, the root's and the last node's;
when that is full, it goes to the end of the tree.

An identifier is found by a descent of the tree, whose items have the first half of a base as their word and the second
one as their key, and a binary search in the node.  So it takes logarithmic time wherever it lies.

A node is an element, and the record owns what its tree names.  So a stream is buried in constant time, and freed in
steps.  To trim a great one cuts its tree (tree_cut), and buries the part in front.

Where a node is:  LAST, the last one; else its position in the tree; NOWHERE.

(1) There is a last node if there is any.
(2) No node is empty.  The base of a node is not behind its first entry, and behind the last entry of the one before.
(3) The root counts the entries of all nodes.
(4) No entry is behind the last identifier.

Here is what reads a stream; stream_change.py and stream_trim.py change it.  ROOM is eight bytes of the process, for the
key of a search.
"""

from kvstore.structures.kinds import STREAM
from kvstore.structures.stream_layout import (
    BASE_MS,
    BASE_SEQ,
    COUNTS,
    KEY_SIZE,
    ORDERED,
    entries_before,
    entries_of,
    entry_at,
    is_before,
)
from kvstore.structures.tree import (
    position_address,
    position_next,
    position_previous,
    tree_rank,
    tree_seek,
    tree_weight,
)
from kvstore.system.libc import bytes_at
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.mmu import load64, read_address, store64
from mmcore.state import SPACE

COUNT, LAST_MS, LAST_SEQ, DELETED_MS, DELETED_SEQ, ADDED, NODES, TAIL, GROUPS = range(8, 80, 8)
STREAM_SIZE = 80
LAST, NOWHERE = -1, 0
LEAST_HALF, GREATEST_HALF = ORDERED, ~ORDERED  # of an identifier


@linked(int64(SPACE))
def stream_new(space):  # type: ignore[no-untyped-def]
    """A stream without entries; 0 with nothing changed when frames ran out."""
    if not has_frames(space, HEAP_FRAMES):
        return 0
    root = heap_alloc(space, STREAM_SIZE)
    if root == 0:
        return 0
    store64(space, root, STREAM)
    for field in range(8, STREAM_SIZE, 8):
        store64(space, root + field, 0)
    for field in range(LAST_MS, ADDED, 8):
        store64(space, root + field, LEAST_HALF)
    return root


@kernel
def stream_count(space, root):  # type: ignore[no-untyped-def]
    """Entries."""
    return load64(space, root + COUNT)


@kernel
def stream_last(space, root):  # type: ignore[no-untyped-def]
    """The last identifier that was given."""
    return load64(space, root + LAST_MS), load64(space, root + LAST_SEQ)


@kernel
def stream_deleted(space, root):  # type: ignore[no-untyped-def]
    """The greatest identifier that was deleted."""
    return load64(space, root + DELETED_MS), load64(space, root + DELETED_SEQ)


@kernel
def stream_nodes(space, root):  # type: ignore[no-untyped-def]
    """Number of nodes."""
    record = load64(space, root + NODES)
    return (tree_weight(space, record) if record != 0 else int64(0)) + int64(load64(space, root + TAIL) != 0)


# --- where a node is -------------------------------------------------------------------------------------------------


@kernel
def node_where(space, root, where):  # type: ignore[no-untyped-def]
    """Address of a node."""
    return load64(space, root + TAIL) if where == LAST else position_address(space, where)


@linked(int64(SPACE, int64))
def where_first(space, root):  # type: ignore[no-untyped-def]
    """Where the first node is."""
    record = load64(space, root + NODES)
    where = tree_seek(space, record, 0, 0) if record != 0 else NOWHERE
    if where == NOWHERE and load64(space, root + TAIL) != 0:
        return LAST
    return where


@kernel
def where_last(space, root):  # type: ignore[no-untyped-def]
    """Where the last node is."""
    return LAST if load64(space, root + TAIL) != 0 else NOWHERE


@linked(int64(SPACE, int64))
def where_next(space, where):  # type: ignore[no-untyped-def]
    """Where the node behind one is."""
    if where == LAST:
        return NOWHERE
    behind = position_next(space, where)
    return behind if behind != NOWHERE else LAST


@linked(int64(SPACE, int64, int64))
def where_previous(space, root, where):  # type: ignore[no-untyped-def]
    """Where the node in front of one is."""
    if where != LAST:
        return position_previous(space, where)
    record = load64(space, root + NODES)
    return tree_seek(space, record, tree_weight(space, record) - 1, 0) if record != 0 else NOWHERE


@kernel
def node_entries(space, node):  # type: ignore[no-untyped-def]
    """Entries of a node."""
    return entries_of(bytes64(space.mem.bytes, read_address(space, node) + COUNTS))


@linked(void(int64, int64))
def put_key(room, seq):  # type: ignore[no-untyped-def]
    """Write the key of a search, the second half of an identifier, to ROOM."""
    key, plain = bytes_at(room, KEY_SIZE), seq ^ ORDERED
    for i in range(KEY_SIZE):
        key[i] = plain >> (8 * (KEY_SIZE - 1 - i)) & 0xFF


@linked(int64(SPACE, int64, int64, int64, int64))
def where_holding(space, root, ms, seq, room):  # type: ignore[no-untyped-def]
    """Where the node is that holds an identifier, or would: the last one whose base is not behind it, or the first."""
    tail, record = load64(space, root + TAIL), load64(space, root + NODES)
    if tail == 0:
        return NOWHERE
    at, memory = read_address(space, tail), space.mem.bytes
    if record == 0 or not is_before(ms, seq, bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ)):
        return LAST
    put_key(room, seq)
    where = tree_seek(space, record, max(tree_rank(space, record, ms, room, KEY_SIZE, 1) - 1, 0), 0)
    return where if where != NOWHERE else LAST


@linked(int64(SPACE, int64, int64, int64, int64))
def node_rank(space, root, ms, seq, room):  # type: ignore[no-untyped-def]
    """How many nodes of the tree have a base that is not behind an identifier."""
    record = load64(space, root + NODES)
    if record == 0:
        return 0
    put_key(room, seq)
    return tree_rank(space, record, ms, room, KEY_SIZE, 1)


@kernel
def stream_seek(space, root, ms, seq, room):  # type: ignore[no-untyped-def]
    """(where, place) of the first entry that does not come before an identifier; NOWHERE without one."""
    where, place = where_holding(space, root, ms, seq, room), int64(0)
    if where != NOWHERE:
        at = read_address(space, node_where(space, root, where))
        place = entries_before(space.mem.bytes, at, ms, seq)
        if place == entries_of(bytes64(space.mem.bytes, at + COUNTS)):
            where, place = where_next(space, where), int64(0)
    return where, place


@kernel
def stream_seek_back(space, root, ms, seq, room):  # type: ignore[no-untyped-def]
    """(where, place) of the last entry that is not behind an identifier; NOWHERE without one."""
    where, place = where_holding(space, root, ms, seq, room), int64(-1)
    if where != NOWHERE:
        memory, at = space.mem.bytes, read_address(space, node_where(space, root, where))
        place = entries_before(memory, at, ms, seq)
        its_ms, its_seq = ms, seq
        if place < entries_of(bytes64(memory, at + COUNTS)):
            its_ms, its_seq, _, _ = entry_at(memory, at, place)
            place += int64(its_ms == ms and its_seq == seq)
        place -= 1
        if place < 0:
            where = where_previous(space, root, where)
            if where != NOWHERE:
                place = node_entries(space, node_where(space, root, where)) - 1
    return where, place


@kernel
def entry_identifier(space, node, place):  # type: ignore[no-untyped-def]
    """The identifier of an entry of a node."""
    ms, seq, _, _ = entry_at(space.mem.bytes, read_address(space, node), place)
    return ms, seq


@kernel
def stream_edge(space, root, last):  # type: ignore[no-untyped-def]
    """The identifier of the first entry, or of the last; of no entry, the least one."""
    where = where_last(space, root) if last else where_first(space, root)
    ms, seq = int64(LEAST_HALF), int64(LEAST_HALF)
    if where != NOWHERE:
        node = node_where(space, root, where)
        ms, seq = entry_identifier(space, node, node_entries(space, node) - 1 if last else int64(0))
    return ms, seq


@kernel
def stream_has(space, root, ms, seq, room):  # type: ignore[no-untyped-def]
    """(where, place) of the entry with an identifier; NOWHERE without one."""
    where, place = stream_seek(space, root, ms, seq, room)
    if where != NOWHERE:
        its_ms, its_seq = entry_identifier(space, node_where(space, root, where), place)
        if its_ms != ms or its_seq != seq:
            where = int64(NOWHERE)
    return where, place
