"""The consumer groups of a stream (stream.py): what each was given, and to whom.

    record ─► tree ─► group │ group │ ...                                by name
                        ├─► record ─► tree ─► consumer │ ...             by name
                        │                         └─► record ─► tree     what it was given, by identifier
                        └─► record ─► tree ─► pending │ pending │ ...    what anybody was given, by identifier

Groups, consumers and pending entries are elements (element.py); a pending entry is in two trees.  An item of a tree has
the begin of a name as its word, or the first half of an identifier; the key decides where words are equal.

    element         key                payload
    group           name               pending record, consumers' record, last identifier given, entries read
    consumer        name               pending record, 0, when last seen, when last active [ms], and while it is
                                       being removed in steps, how many pending entries have gone
    pending entry   second half,       when last given [ms], how often, the consumer
                    big-endian

Entries read is UNKNOWN where nobody can tell.  A consumer that was never active has NEVER.

The record of groups owns each group, what lies below it, and so on; a pending entry belongs to its group's tree.  So a
group is buried in constant time, however many entries are pending (grave.py).

(1) A pending entry is in its group's tree and in its consumer's, and in no other.
(2) A record counts the items of its tree.

All functions that change something need frames that were reserved.  ROOM is eight bytes of the process.
"""

from kvstore.structures.element import (
    element_alloc,
    element_compare,
    element_free,
    element_is,
    element_payload,
    load_word,
    store_word,
)
from kvstore.structures.grave import bury
from kvstore.structures.record import OWNS_BELOW, OWNS_ITEMS, record_add_count, record_count, record_new
from kvstore.structures.stream import GROUPS, put_key
from kvstore.structures.stream_layout import KEY_SIZE, ORDERED
from kvstore.structures.tree import position_address, position_word, tree_insert, tree_rank, tree_remove, tree_seek
from kvstore.system.libc import bytes_at
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE

PENDING, CONSUMERS, GIVEN_MS, GIVEN_SEQ, READ = range(0, 40, 8)  # of a group
SEEN, ACTIVE = range(16, 32, 8)  # of a consumer, which has a PENDING, too
TIME, TIMES, CONSUMER = range(0, 24, 8)  # of a pending entry
GROUP_SIZE, CONSUMER_SIZE, PENDING_SIZE = 40, 32, 24
UNKNOWN, NEVER = -1, -1


# --- what has a name -------------------------------------------------------------------------------------------------


@kernel
def name_word(name, k):  # type: ignore[no-untyped-def]
    """The first eight bytes of a name, as a word whose order is theirs."""
    text, word = bytes_at(name, k), int64(0)
    for i in range(8):
        word = word << 8 | (int64(text[i]) if i < k else int64(0))
    return word ^ ORDERED


@kernel
def word_at(space, element, place):  # type: ignore[no-untyped-def]
    """A word of the payload of a group, a consumer or a pending entry."""
    return load_word(space, element_payload(space, element) + place)


@kernel
def put_word(space, element, place, word):  # type: ignore[no-untyped-def]
    """Store a word of the payload."""
    store_word(space, element_payload(space, element) + place, word)


@linked(int64(SPACE, int64, int64, int64))
def named_find(space, record, name, k):  # type: ignore[no-untyped-def]
    """The group or the consumer of this name; 0 without one.  The record may be 0."""
    if record == 0:
        return 0
    where = tree_seek(space, record, tree_rank(space, record, name_word(name, k), name, k, 0), 0)
    if where == 0:
        return 0
    element = position_address(space, where)
    return element if element_is(space, element, name, k) else 0


@linked(int64(SPACE, int64, int64, int64, int64))
def _named_add(space, record, name, k, size):  # type: ignore[no-untyped-def]
    """A new element of this name with `size` bytes of zeros, in the tree of a record."""
    element = element_alloc(space, name, k, 0, size)
    assert element != 0, "no frame was reserved for a name"
    for place in range(0, size, 8):
        put_word(space, element, place, 0)
    code = tree_insert(space, record, name_word(name, k), element)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, 1)
    return element


@linked(void(SPACE, int64, int64, int64, int64))
def named_remove(space, grave, record, name, k):  # type: ignore[no-untyped-def]
    """Remove what has this name from the tree of a record, and free it with all below."""
    element = named_find(space, record, name, k)
    code = tree_remove(space, record, name_word(name, k), element)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, -1)
    for place in (PENDING, CONSUMERS):
        below = word_at(space, element, place)
        if below != 0:
            bury(space, grave, below)
    code = element_free(space, element)
    assert code == 0, "no frame was reserved for a release"


@kernel
def _record(space, flags):  # type: ignore[no-untyped-def]
    record = record_new(space, flags)
    assert record != 0, "no frame was reserved for a record"
    return record


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def group_add(space, root, name, k, ms, seq, read):  # type: ignore[no-untyped-def]
    """A new group of a stream, which was given all entries up to an identifier."""
    groups = load64(space, root + GROUPS)
    if groups == 0:
        groups = _record(space, OWNS_ITEMS | OWNS_BELOW)
        store64(space, root + GROUPS, groups)
    group = _named_add(space, groups, name, k, GROUP_SIZE)
    put_word(space, group, PENDING, _record(space, OWNS_ITEMS))
    put_word(space, group, CONSUMERS, _record(space, OWNS_ITEMS | OWNS_BELOW))
    put_word(space, group, GIVEN_MS, ms)
    put_word(space, group, GIVEN_SEQ, seq)
    put_word(space, group, READ, read)
    return group


@linked(int64(SPACE, int64, int64, int64, int64))
def consumer_add(space, group, name, k, now):  # type: ignore[no-untyped-def]
    """A new consumer of a group, seen now."""
    consumer = _named_add(space, word_at(space, group, CONSUMERS), name, k, CONSUMER_SIZE)
    put_word(space, consumer, PENDING, _record(space, 0))
    put_word(space, consumer, SEEN, now)
    put_word(space, consumer, ACTIVE, NEVER)
    return consumer


@kernel
def pending_count(space, owner):  # type: ignore[no-untyped-def]
    """Pending entries of a group or a consumer."""
    return record_count(space, word_at(space, owner, PENDING))


# --- pending entries -------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def pending_seek(space, owner, ms, seq, room, after):  # type: ignore[no-untyped-def]
    """Position of the first pending entry of a group or consumer not before an identifier, or behind it; 0 for none."""
    record = word_at(space, owner, PENDING)
    put_key(room, seq)
    return tree_seek(space, record, tree_rank(space, record, ms, room, KEY_SIZE, after), 0)


@linked(int64(SPACE, int64, int64, int64, int64))
def pending_find(space, owner, ms, seq, room):  # type: ignore[no-untyped-def]
    """The pending entry of a group or consumer with an identifier; 0 without one."""
    where = pending_seek(space, owner, ms, seq, room, 0)
    if where == 0 or position_word(space, where) != ms:
        return 0
    element = position_address(space, where)
    return element if element_compare(space, element, room, KEY_SIZE) == 0 else 0


@kernel
def pending_identifier(space, where):  # type: ignore[no-untyped-def]
    """The identifier of the pending entry at a position."""
    key, seq = position_address(space, where) + 2, int64(0)
    word = load64(space, key)
    for i in range(KEY_SIZE):
        seq = seq << 8 | (word >> (8 * i) & 0xFF)
    return position_word(space, where), seq ^ ORDERED


@kernel
def _link(space, owner, ms, element):  # type: ignore[no-untyped-def]
    record = word_at(space, owner, PENDING)
    code = tree_insert(space, record, ms, element)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, 1)


@kernel
def _unlink(space, owner, ms, element):  # type: ignore[no-untyped-def]
    record = word_at(space, owner, PENDING)
    code = tree_remove(space, record, ms, element)
    assert code == 0, "no frame was reserved for a tree"
    record_add_count(space, record, -1)


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64, int64))
def pending_add(space, group, consumer, ms, seq, room, time, times):  # type: ignore[no-untyped-def]
    """A new pending entry, given to a consumer."""
    put_key(room, seq)
    element = element_alloc(space, room, KEY_SIZE, 0, PENDING_SIZE)
    assert element != 0, "no frame was reserved for a pending entry"
    put_word(space, element, TIME, time)
    put_word(space, element, TIMES, times)
    put_word(space, element, CONSUMER, consumer)
    _link(space, group, ms, element)
    _link(space, consumer, ms, element)
    return element


@linked(void(SPACE, int64, int64, int64))
def pending_remove(space, group, ms, element):  # type: ignore[no-untyped-def]
    """A pending entry is pending no more."""
    _unlink(space, word_at(space, element, CONSUMER), ms, element)
    _unlink(space, group, ms, element)
    code = element_free(space, element)
    assert code == 0, "no frame was reserved for a release"


@linked(void(SPACE, int64, int64, int64))
def pending_give(space, consumer, ms, element):  # type: ignore[no-untyped-def]
    """Another consumer gets a pending entry."""
    before = word_at(space, element, CONSUMER)
    if before != consumer:
        _unlink(space, before, ms, element)
        _link(space, consumer, ms, element)
        put_word(space, element, CONSUMER, consumer)
