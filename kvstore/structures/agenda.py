"""An agenda: texts in the order of their times, each once.

    few texts     CHAIN of elements, in the order of their times
    more          RECORD with a table of elements and a tree that has them in that order, as a sorted set's

An element's key is the text, its payload the time in TIME_SIZE bytes, little-endian: milliseconds from 0 to TIME_MAX.
The first element is the next that is due, and is found without a search, so whoever looks for due texts pays nothing
for those that are not.  A chain has AGENDA_CHAIN_MAX texts at most, because another time is put in its place by a walk.
A record never becomes a chain again.

There are two uses: a hash has an agenda of its fields with a deadline, and a database has one of the names of such
hashes (kvstore/store/fields.py).  The root is one like any other, so it is freed, copied, sized and moved by its kind.

A text is `k` bytes at an address of the process.  `seed` is that of its hash.  The functions that change an agenda
assume that agenda_has_frames; the root may move.  An agenda without texts has the root 0.
"""

from kvstore.structures.chain import (
    chain_count,
    chain_element,
    chain_first,
    chain_fits,
    spot_element,
    spot_next,
)
from kvstore.structures.chain_change import chain_free, chain_insert, chain_new, chain_remove
from kvstore.structures.chain_find import chain_find, chain_seek
from kvstore.structures.element import (
    element_alloc,
    element_hash,
    element_key,
    element_key_length,
    element_payload,
    pin,
)
from kvstore.structures.grave import bury
from kvstore.structures.hash import hash_bytes
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.record import OWNS_ELEMENTS, record_count, record_new
from kvstore.structures.table import TABLE_FRAMES, table_add, table_at, table_drop, table_find
from kvstore.structures.tree import (
    position_address,
    tree_find,
    tree_frames,
    tree_insert,
    tree_rank_word,
    tree_remove,
    tree_seek,
)
from kvstore.system.libc import bytes_at
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES
from mmcore.jit import bytes64, int64, kernel, linked
from mmcore.mmu import load8, read_address, store8
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

TIME_SIZE = 6  # [bytes]
TIME_MAX = (1 << 46) - 1  # [ms] since 1970, as in Redis
AGENDA_CHAIN_MAX = 128  # texts
AGENDA_COST = 64  # [bytes] beside its text, in a table and a tree: see ELEMENT_COST of sorted sets
_SHIFT = 8 * (8 - TIME_SIZE)


# --- questions -------------------------------------------------------------------------------------------------------


@kernel
def agenda_time(space, element):  # type: ignore[no-untyped-def]
    """The time of an element [ms]."""
    at = element_payload(space, element)
    if 8 - TIME_SIZE <= at & PAGE_MASK <= PAGE_SIZE - TIME_SIZE:  # the bytes in front are the element's, or its block's
        return bytes64(space.mem.bytes, read_address(space, at) + TIME_SIZE - 8) >> _SHIFT
    time = 0
    for i in range(TIME_SIZE):  # across pages
        time |= load8(space, at + i) << 8 * i
    return time


@linked(int64(SPACE, int64))
def agenda_first(space, root):  # type: ignore[no-untyped-def]
    """The element with the least time; 0 for root 0."""
    if root == 0:
        return 0
    if kind_of(space, root) == CHAIN:
        return spot_element(space, chain_first(space, root))
    return position_address(space, tree_seek(space, root, 0, 0))


@linked(int64(SPACE, int64))
def agenda_least(space, root):  # type: ignore[no-untyped-def]
    """The least time; beyond TIME_MAX for root 0."""
    element = agenda_first(space, root)
    return agenda_time(space, element) if element != 0 else TIME_MAX + 1


@linked(int64(SPACE, int64, int64))
def agenda_at(space, root, place):  # type: ignore[no-untyped-def]
    """The element at a place in the order of times; there are more than `place`."""
    if kind_of(space, root) == CHAIN:
        return chain_element(space, root, place)
    position, _ = tree_find(space, root, place, 0)
    return position_address(space, position)


@linked(int64(SPACE, int64, int64))
def agenda_due(space, root, now):  # type: ignore[no-untyped-def]
    """How many texts have a time up to `now`."""
    if root == 0:
        return 0
    if kind_of(space, root) != CHAIN:
        return tree_rank_word(space, root, now, 1)
    spot, due = chain_first(space, root), 0
    while spot != 0 and agenda_time(space, spot_element(space, spot)) <= now:
        due += 1
        spot = spot_next(space, spot)
    return due


@linked(int64(SPACE, int64, int64, int64, int64))
def agenda_find(space, root, seed, text, k):  # type: ignore[no-untyped-def]
    """The time of a text; -1 without it."""
    if root == 0:
        return -1
    if kind_of(space, root) == CHAIN:
        spot = chain_seek(space, root, text, k)
        return agenda_time(space, spot_element(space, spot)) if spot != 0 else -1
    slot = table_find(space, root, hash_bytes(bytes_at(text, k), 0, k, seed), text, k)
    return agenda_time(space, table_at(space, slot)) if slot != 0 else -1


@kernel
def agenda_moves(space, root):  # type: ignore[no-untyped-def]
    """How many elements a change of form would write anew."""
    return chain_count(space, root) if root != 0 and kind_of(space, root) == CHAIN else int64(0)


@kernel
def agenda_frames(space, root):  # type: ignore[no-untyped-def]
    """Frames that any one change may take."""
    tree = tree_frames(space, root) if root != 0 and kind_of(space, root) != CHAIN else int64(0)
    return TABLE_FRAMES + 2 * HEAP_FRAMES + tree


@kernel
def agenda_has_frames(space, root):  # type: ignore[no-untyped-def]
    """Whether there are frames for any one change."""
    return has_frames(space, agenda_frames(space, root))


# --- changes ---------------------------------------------------------------------------------------------------------


@kernel
def _put_time(space, element, time):  # type: ignore[no-untyped-def]
    at = element_payload(space, element)
    for i in range(TIME_SIZE):
        store8(space, at + i, time >> 8 * i)


@linked(int64(SPACE, int64, int64))
def _to_record(space, chain, seed):  # type: ignore[no-untyped-def]
    """A record of the elements of a chain, which is freed."""
    record = record_new(space, OWNS_ELEMENTS)
    assert record != 0, "no frame was reserved for a record"
    spot = chain_first(space, chain)
    while spot != 0:
        bare = spot_element(space, spot)
        k, time = element_key_length(space, bare), agenda_time(space, bare)
        element = element_alloc(space, pin(space, element_key(space, bare), k), k, 0, TIME_SIZE)
        assert element != 0, "no frame was reserved for an element"
        _put_time(space, element, time)
        code = table_add(space, record, seed, element_hash(space, element, seed), element)
        assert code == 0, "no frame was reserved for a table"
        code = tree_insert(space, record, time, element)  # texts of one time are in no order in a chain
        assert code == 0, "no frame was reserved for a tree"
        spot = spot_next(space, spot)
    chain_free(space, chain)
    return record


@linked(int64(SPACE, int64, int64, int64, int64))
def _insert(space, chain, text, k, time):  # type: ignore[no-untyped-def]
    """Insert a text that is not there.  The new root, or 0 with nothing changed where it does not fit."""
    if chain_count(space, chain) >= AGENDA_CHAIN_MAX or not chain_fits(space, chain, k, TIME_SIZE):
        return 0
    place = agenda_due(space, chain, time)
    chain = chain_insert(space, chain, place, text, k, 0, TIME_SIZE)
    assert chain != 0, "no frame was reserved for a chain"
    _put_time(space, chain_element(space, chain, place), time)
    return chain


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def _set_in_record(space, root, seed, text, k, time):  # type: ignore[no-untyped-def]
    """agenda_set of a record."""
    hash_ = hash_bytes(bytes_at(text, k), 0, k, seed)
    slot = table_find(space, root, hash_, text, k)
    if slot != 0:
        element = table_at(space, slot)
        code = tree_remove(space, root, agenda_time(space, element), element)
        assert code == 0, "no frame was reserved for a tree"
        _put_time(space, element, time)
    else:
        element = element_alloc(space, text, k, 0, TIME_SIZE)
        assert element != 0, "no frame was reserved for an element"
        _put_time(space, element, time)
        code = table_add(space, root, seed, hash_, element)
        assert code == 0, "no frame was reserved for a table"
    code = tree_insert(space, root, time, element)
    assert code == 0, "no frame was reserved for a tree"
    return root


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def agenda_set(space, root, seed, text, k, time):  # type: ignore[no-untyped-def]
    """Give a text a time, whether it has one or not: the agenda's root."""
    if root == 0:
        root = chain_new(space)
        assert root != 0, "no frame was reserved for a chain"
    if kind_of(space, root) == CHAIN:
        place = chain_find(space, root, text, k)
        if place >= 0:
            root = chain_remove(space, root, place, 1)
            assert root != 0, "no frame was reserved for a chain"
        inserted = _insert(space, root, text, k, time)
        if inserted != 0:
            return inserted
        root = _to_record(space, root, seed)
    return _set_in_record(space, root, seed, text, k, time)


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def agenda_remove(space, grave, root, seed, text, k):  # type: ignore[no-untyped-def]
    """Remove a text, if it is there: the agenda's root, 0 when no text is left.  The text may lie in its element.

    `grave`: where a record without texts is buried (grave.py).
    """
    if root == 0:
        return 0
    if kind_of(space, root) == CHAIN:
        place = chain_find(space, root, text, k)
        if place < 0:
            return root
        root = chain_remove(space, root, place, 1)
        assert root != 0, "no frame was reserved for a chain"
        if chain_count(space, root) > 0:
            return root
        chain_free(space, root)
        return 0
    hash_ = hash_bytes(bytes_at(text, k), 0, k, seed)
    slot = table_find(space, root, hash_, text, k)
    if slot == 0:
        return root
    element = table_at(space, slot)
    code = tree_remove(space, root, agenda_time(space, element), element)
    assert code == 0, "no frame was reserved for a tree"
    table_drop(space, root, hash_, slot)
    if record_count(space, root) > 0:
        return root
    bury(space, grave, root)
    return 0
