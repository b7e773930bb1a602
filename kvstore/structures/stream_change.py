"""Changing a stream (stream.py): adding an entry, removing one.  stream_trim.py removes many.

    stream_add(space, root, ms, seq, origin, texts, first, fields, bytes_max, entries_max)
    stream_remove(space, root, where, place)

The texts of an entry, its fields with their values, are pairs of words: a distance from the address `origin` in the
process, and a size.  That is how arguments lie (kvstore/wire/arguments.py).

A node grows with its entries, by a quarter or more; the next one gets its size at once.  Before it goes to the tree, it
is moved to an allocation that fits.  `bytes_max` and `entries_max` are Redis's parameters, 0 for no limit; a node never
exceeds a page.  Entries that were removed count: a node that is full of holes in Redis is full here, so XTRIM with ~
keeps as many.

All functions here need frames that were reserved.
"""

from kvstore.structures.element import element_free
from kvstore.structures.record import OWNS_ITEMS, record_add_count, record_new
from kvstore.structures.stream import (
    ADDED,
    COUNT,
    LAST,
    LAST_MS,
    LAST_SEQ,
    NODES,
    NOWHERE,
    TAIL,
    node_where,
)
from kvstore.structures.stream_layout import (
    BASE_MS,
    BASE_SEQ,
    CONTENT,
    COUNT_MAX,
    COUNTS,
    END_SIZE,
    ENTRY_MAX,
    FORM,
    FORM_SIZE,
    LEAST_CAPACITY,
    LENGTH_SHORT,
    NODE_MAX,
    SLACK,
    SPARE,
    added_of,
    capacity_at,
    close_entries,
    copy_node,
    counts_of,
    entries_of,
    free_at,
    held_at,
    identifier_size,
    length_at,
    length_size,
    masters_at,
    put_end,
    put_header,
    put_identifier,
    put_length,
    start_of,
    stop_of,
    text_size,
)
from kvstore.structures.tree import (
    position_address,
    position_word,
    tree_insert,
    tree_remove,
    tree_seek,
    tree_weight,
)
from kvstore.system.libc import bytes_at
from mmcore.heap import heap_alloc, heap_size
from mmcore.jit import bytes64, copy_bytes, equal_bytes, int64, kernel, linked, put32, put64, void
from mmcore.mmu import copy_in, load64, read_address, store8, store64, write_address
from mmcore.state import SPACE

_ROOM = CONTENT + SPARE + SLACK + END_SIZE  # [bytes] of a node beside what it holds


# --- nodes -----------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64))
def _node_new(space, size, ms, seq):  # type: ignore[no-untyped-def]
    """An empty node with this base, of `size` bytes or what its allocation has; one of more than a page is long."""
    capacity = heap_size(max(size, LEAST_CAPACITY)) if size <= NODE_MAX else int64(0)
    node = heap_alloc(space, capacity if capacity > 0 else size)
    assert node != 0, "no frame was reserved for a node"
    at = write_address(space, node)
    put_header(space.mem.bytes, at, capacity, capacity if capacity > 0 else size, ms, seq)
    return node


@linked(int64(SPACE, int64, int64))
def _node_moved(space, node, size):  # type: ignore[no-untyped-def]
    """Move a node to an allocation for `size` bytes: its address."""
    memory, at = space.mem.bytes, read_address(space, node)
    to = _node_new(space, size, bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ))
    copy_node(memory, write_address(space, to), read_address(space, node))
    code = element_free(space, node)
    assert code == 0, "no frame was reserved for a release"
    return to


@linked(int64(SPACE, int64))
def _close_tail(space, root):  # type: ignore[no-untyped-def]
    """Put the last node, if there is one, at the end of the tree: its capacity, for the next one."""
    node = load64(space, root + TAIL)
    if node == 0:
        return 0
    memory, at = space.mem.bytes, read_address(space, node)
    capacity = capacity_at(memory, at)
    fits = heap_size(max(held_at(memory, at), LEAST_CAPACITY))
    if fits < capacity:
        node, capacity = _node_moved(space, node, fits), fits
    record = load64(space, root + NODES)
    if record == 0:
        record = record_new(space, OWNS_ITEMS)
        assert record != 0, "no frame was reserved for a record"
        store64(space, root + NODES, record)
    code = tree_insert(space, record, load64(space, node + BASE_MS), node)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, 1)
    store64(space, root + TAIL, 0)
    return capacity


@linked(void(SPACE, int64, int64))
def _unlink(space, root, where):  # type: ignore[no-untyped-def]
    """Take a node out of the tree."""
    record = load64(space, root + NODES)
    code = tree_remove(space, record, position_word(space, where), position_address(space, where))
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, -1)


@linked(void(SPACE, int64, int64))
def node_remove(space, root, where):  # type: ignore[no-untyped-def]
    """Remove a node."""
    node = node_where(space, root, where)
    if where != LAST:
        _unlink(space, root, where)
    else:
        record, tail = load64(space, root + NODES), int64(0)
        before = tree_seek(space, record, tree_weight(space, record) - 1, 0) if record != 0 else int64(NOWHERE)
        if before != NOWHERE:
            tail = position_address(space, before)
            _unlink(space, root, before)
        store64(space, root + TAIL, tail)
    code = element_free(space, node)
    assert code == 0, "no frame was reserved for a release"


# --- adding ----------------------------------------------------------------------------------------------------------


@kernel
def _sizes(texts, first, fields):  # type: ignore[no-untyped-def]
    # Bytes of the names and of the values, with their lengths.
    names, values = int64(0), int64(0)
    for i in range(fields):
        names += text_size(texts[2 * (first + 2 * i) + 1])
        values += text_size(texts[2 * (first + 2 * i) + 3])
    return names, values


@linked(int64(SPACE, int64, int64, int64[::1], int64, int64))
def _has_masters(space, node, origin, texts, first, fields):  # type: ignore[no-untyped-def]
    """Whether these fields are the master fields of a node (0 or 1)."""
    memory, at = space.mem.bytes, read_address(space, node)
    if masters_at(memory, at) != fields:
        return 0
    place = at + CONTENT
    for i in range(fields):
        size, place = length_at(memory, place)
        text = 2 * (first + 2 * i)
        if size != texts[text + 1]:
            return 0
        if not equal_bytes(memory, place, bytes_at(origin + texts[text], size), 0, size):
            return 0
        place += size
    return 1


@kernel
def _put_text(memory, place, origin, texts, text):  # type: ignore[no-untyped-def]
    size = texts[2 * text + 1]
    place = put_length(memory, place, size)
    copy_bytes(memory, place, bytes_at(origin + texts[2 * text], size), 0, size)
    return place + size


@linked(void(SPACE, int64, int64, int64, int64, int64[::1], int64, int64, int64))
def _put_entry(space, node, ms, seq, origin, texts, first, fields, same):  # type: ignore[no-untyped-def]
    """Write an entry behind the others of a node, which has room for it."""
    memory, at = space.mem.bytes, write_address(space, node)
    counts, capacity = bytes64(memory, at + COUNTS), capacity_at(memory, at)
    base_ms, base_seq = bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ)
    place = put_identifier(memory, at + stop_of(counts), ms, seq, base_ms, base_seq, same)
    if not same:
        place = put_length(memory, place, fields)
    for i in range(fields):
        if not same:
            place = _put_text(memory, place, origin, texts, first + 2 * i)
        place = _put_text(memory, place, origin, texts, first + 2 * i + 1)
    entries = entries_of(counts)
    put_end(memory, at, capacity, entries, place - at)
    put64(memory, at + COUNTS, counts_of(entries + 1, added_of(counts) + 1, place - at, start_of(counts)))


@linked(void(SPACE, int64, int64, int64[::1], int64, int64))
def _put_masters(space, node, origin, texts, first, fields):  # type: ignore[no-untyped-def]
    """Give an empty node these master fields."""
    memory, at = space.mem.bytes, write_address(space, node)
    place = at + CONTENT
    for i in range(fields):
        place = _put_text(memory, place, origin, texts, first + 2 * i)
    put64(memory, at + COUNTS, counts_of(0, 0, place - at, place - at))
    put32(memory, at + FORM, fields | capacity_at(memory, at) << 16)


@kernel
def _store_length(space, va, length):  # type: ignore[no-untyped-def]
    # put_length across pages.
    if length <= LENGTH_SHORT:
        store8(space, va, length << 1)
        return va + 1
    word = length << 1 | 1
    for i in range(4):
        store8(space, va + i, word >> (8 * i))
    return va + 4


@linked(void(SPACE, int64, int64, int64[::1], int64, int64))
def _put_long(space, node, origin, texts, first, fields):  # type: ignore[no-untyped-def]
    """Write the only entry of a long node, whose identifier is the base."""
    store64(space, node + COUNTS, counts_of(1, 1, CONTENT, CONTENT))
    store8(space, node + CONTENT, 0)
    va = _store_length(space, node + CONTENT + FORM_SIZE, fields)
    for text in range(first, first + 2 * fields):
        size = texts[2 * text + 1]
        va = _store_length(space, va, size)
        copy_in(space, va, bytes_at(origin + texts[2 * text], size), 0, size)
        va += size


@kernel
def _takes(space, node, size, bytes_max, entries_max):  # type: ignore[no-untyped-def]
    # Whether a node may take an entry of `size` bytes, in another allocation if need be.
    memory, at = space.mem.bytes, read_address(space, node)
    counts, capacity = bytes64(memory, at + COUNTS), capacity_at(memory, at)
    added, needed = added_of(counts), held_at(memory, at) + SLACK + END_SIZE + size
    limit = NODE_MAX if bytes_max == 0 else min(bytes_max, NODE_MAX)
    return capacity > 0 and added < (COUNT_MAX if entries_max == 0 else min(entries_max, COUNT_MAX)) and needed <= limit


@linked(void(SPACE, int64, int64, int64, int64, int64[::1], int64, int64, int64, int64))
def stream_add(space, root, ms, seq, origin, texts, first, fields, bytes_max, entries_max):  # type: ignore[no-untyped-def]
    """Add an entry whose identifier is behind the last one."""
    names, values = _sizes(texts, first, fields)
    node, same, size = load64(space, root + TAIL), int64(0), int64(0)
    if node != 0:
        memory, at = space.mem.bytes, read_address(space, node)
        same = _has_masters(space, node, origin, texts, first, fields)
        size = identifier_size(ms, seq, bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ)) + values
        size += 0 if same else names + length_size(fields)
    whole = FORM_SIZE + names + values + length_size(fields)
    if node == 0 or whole > ENTRY_MAX or not _takes(space, node, size, bytes_max, entries_max):
        hint, same, size = _close_tail(space, root), int64(1), FORM_SIZE + values
        if whole > ENTRY_MAX:
            node = _node_new(space, max(CONTENT + whole, NODE_MAX + 1), ms, seq)
            _put_long(space, node, origin, texts, first, fields)
        else:
            node = _node_new(space, max(_ROOM + names + size, hint), ms, seq)
            _put_masters(space, node, origin, texts, first, fields)
        store64(space, root + TAIL, node)
    elif free_at(space.mem.bytes, read_address(space, node)) < size:
        at = read_address(space, node)
        capacity = capacity_at(space.mem.bytes, at)
        more = max(size - free_at(space.mem.bytes, at), capacity >> 2)
        node = _node_moved(space, node, min(capacity + more, NODE_MAX))
        store64(space, root + TAIL, node)
    if whole <= ENTRY_MAX:
        _put_entry(space, node, ms, seq, origin, texts, first, fields, same)
    store64(space, root + LAST_MS, ms)
    store64(space, root + LAST_SEQ, seq)
    store64(space, root + COUNT, load64(space, root + COUNT) + 1)
    store64(space, root + ADDED, load64(space, root + ADDED) + 1)


@linked(int64(int64[::1], int64, int64))
def entry_bytes(texts, first, fields):  # type: ignore[no-untyped-def]
    """Bytes that adding these texts may allocate: two nodes, or a long one."""
    names, values = _sizes(texts, first, fields)
    return names + values + 2 * NODE_MAX


# --- removing --------------------------------------------------------------------------------------------------------


@linked(void(SPACE, int64, int64, int64))
def stream_remove(space, root, where, place):  # type: ignore[no-untyped-def]
    """Remove an entry."""
    node = node_where(space, root, where)
    at = write_address(space, node)
    if entries_of(bytes64(space.mem.bytes, at + COUNTS)) == 1:
        node_remove(space, root, where)
    else:
        close_entries(space.mem.bytes, at, place, 1)
    store64(space, root + COUNT, load64(space, root + COUNT) - 1)
