"""Trimming a stream (stream.py): the oldest entries go.

Whole nodes are cut off the tree (tree_cut) and buried, so they cost no time but that of counting them.  Where the last
node is that goes is looked for from both ends at once.  So to keep little of a great stream takes no longer than to
remove little.

stream_trim needs frames that were reserved.
"""

from kvstore.structures.grave import bury
from kvstore.structures.record import OWNS_ITEMS, record_add_count, record_new
from kvstore.structures.stream import (
    COUNT,
    NODES,
    NOWHERE,
    node_where,
    stream_count,
    stream_nodes,
    where_first,
    where_last,
    where_next,
    where_previous,
)
from kvstore.structures.stream_change import node_remove
from kvstore.structures.stream_layout import COUNTS, close_entries, entries_before, entries_of, entry_at, is_before
from kvstore.structures.tree import tree_cut
from mmcore.jit import bytes64, int64, kernel, linked, void
from mmcore.mmu import load64, read_address, store64, write_address
from mmcore.state import SPACE

NO_LIMIT = 1 << 62
_FEW = 4  # nodes that are removed one by one


@linked(void(SPACE, int64, int64, int64))
def _drop_front(space, grave, root, nodes):  # type: ignore[no-untyped-def]
    """Remove so many nodes from the front."""
    record, in_tree = load64(space, root + NODES), stream_nodes(space, root) - 1
    if nodes > _FEW and nodes >= in_tree:
        store64(space, root + NODES, 0)
        bury(space, grave, record)
        nodes -= in_tree
    elif nodes > _FEW:
        front = record_new(space, OWNS_ITEMS)
        assert front != 0, "no frame was reserved for a record"
        code = tree_cut(space, record, nodes, front)
        assert code == 0, "no frame was reserved for a tree"
        record_add_count(space, front, nodes)
        record_add_count(space, record, -nodes)
        bury(space, grave, front)
        nodes = 0
    for _ in range(nodes):
        node_remove(space, root, where_first(space, root))


@kernel
def _goes(memory, at, entries, behind, most, by_id, ms, seq):  # type: ignore[no-untyped-def]
    # Whether the node at this index, of so many entries and with so many behind it, goes as a whole.
    if not by_id:
        return behind >= most
    last_ms, last_seq, _, _ = entry_at(memory, at, entries - 1)
    return is_before(last_ms, last_seq, ms, seq)


@kernel
def _whole_nodes(space, root, most, by_id, ms, seq, limit, nodes_max):  # type: ignore[no-untyped-def]
    # (entries of the whole nodes that go, how many nodes, where the first one is that stays, whether it stopped).
    memory, count = space.mem.bytes, stream_count(space, root)
    where, gone, nodes = where_first(space, root), int64(0), int64(0)
    back = where_last(space, root) if limit == NO_LIMIT else int64(NOWHERE)
    behind, kept = int64(0), int64(0)  # of the walk from the end: entries, nodes
    while where != NOWHERE and count - gone > most:
        at = read_address(space, node_where(space, root, where))
        entries = entries_of(bytes64(memory, at + COUNTS))
        if gone + entries > limit or not _goes(memory, at, entries, count - gone - entries, most, by_id, ms, seq):
            break
        if nodes == nodes_max:
            return gone, nodes, where, True
        gone, nodes, where = gone + entries, nodes + 1, where_next(space, where)
        if back != NOWHERE:
            at = read_address(space, node_where(space, root, back))
            entries = entries_of(bytes64(memory, at + COUNTS))
            if _goes(memory, at, entries, behind, most, by_id, ms, seq):
                gone, nodes, where = count - behind, stream_nodes(space, root) - kept, where_next(space, back)
                break
            behind, kept, back = behind + entries, kept + 1, where_previous(space, root, back)
    return gone, nodes, where, False


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64, int64, int64, int64))
def stream_trim(space, grave, root, most, by_id, ms, seq, limit, exact, nodes_max):  # type: ignore[no-untyped-def]
    """Remove the oldest entries while there are more than `most`, or with `by_id` those before an identifier: how many.

    Only whole nodes go unless `exact`, and no node that would make it more than `limit` entries.  After `nodes_max`
    nodes it stops if there may be more to do, and returns ~n for n entries.
    """
    memory, count, inside = space.mem.bytes, stream_count(space, root), int64(0)
    most = int64(0) if by_id else most
    gone, nodes, where, stopped = _whole_nodes(space, root, most, by_id, ms, seq, limit, nodes_max)
    if exact and not stopped and where != NOWHERE and count - gone > most:
        inside = count - gone - most
        if by_id:
            inside = entries_before(memory, read_address(space, node_where(space, root, where)), ms, seq)
    _drop_front(space, grave, root, nodes)
    if inside > 0:
        close_entries(memory, write_address(space, node_where(space, root, where_first(space, root))), 0, inside)
    store64(space, root + COUNT, count - gone - inside)
    return ~gone if stopped else gone + inside
