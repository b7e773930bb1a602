"""A hash as a value: finding, setting and removing a field, whatever the form.

    COMPACT and fits a chain   CHAIN of elements: field, value
    else                       RECORD with a table of such elements

A hash that is COMPACT but does not fit a chain is a record all the same; OBJECT ENCODING reports its encoding.  A
record never becomes a chain again.

A hash that has fields with a deadline is a record, too, which has their agenda (kvstore/store/fields.py).  A kernel
that finds a field for a client calls `live_find`, and one that removes a field calls `field_discard`.

Adding is bounded by its arguments, and by what a change of form writes anew: `conversion` tells how many elements that
may be.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import HASH_MAX_LISTPACK_ENTRIES, HASH_MAX_LISTPACK_VALUE
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.dated import agenda_of
from kvstore.store.entries import entry_encoding, entry_root, entry_set_encoding, entry_set_root
from kvstore.store.fields import drop_deadline, live
from kvstore.store.lookup import key_hash
from kvstore.store.types import COMPACT, WIDE
from kvstore.structures.chain import chain_count, chain_element, chain_fits, spot_element
from kvstore.structures.chain_change import chain_insert, chain_remove, chain_replace
from kvstore.structures.chain_find import chain_find, chain_seek
from kvstore.structures.element import (
    element_alloc,
    element_bytes,
    element_free,
    element_payload_length,
    element_size,
    element_write,
)
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.record import OWNS_ELEMENTS, record_count
from kvstore.structures.spread import record_of_chain
from kvstore.structures.table import table_add, table_at, table_drop, table_find, table_replace
from mmcore.heap import heap_size
from mmcore.jit import int64, kernel, linked, void


@linked(int64(CONTEXT, int64, int64, int64))
def field_find(context, root, field, k):  # type: ignore[no-untyped-def]
    """The element of a field that is `k` bytes at `field`; 0 without one."""
    space = context.space
    if kind_of(space, root) == CHAIN:
        spot = chain_seek(space, root, field, k)
        return spot_element(space, spot) if spot != 0 else 0
    slot = table_find(space, root, key_hash(context, field, k), field, k)
    return table_at(space, slot) if slot != 0 else 0


@kernel
def live_find(context, root, field, k):  # type: ignore[no-untyped-def]
    """The same, or 0 for a field whose deadline has passed."""
    return live(context, root, field_find(context, root, field, k), field, k)


@kernel
def conversion(context, root):  # type: ignore[no-untyped-def]
    """How many elements a change of form would write anew."""
    return chain_count(context.space, root) if kind_of(context.space, root) == CHAIN else 0


@linked(void(CONTEXT, int64))
def _to_record(context, entry):  # type: ignore[no-untyped-def]
    """Turn a chain into a record with a table.  Frames were reserved."""
    record = record_of_chain(context.space, entry_root(context, entry), context.store[HASH_SEED], OWNS_ELEMENTS)
    assert record != 0, "no frame was reserved for a record"
    entry_set_root(context, entry, record)


@kernel
def ensure_record(context, entry):  # type: ignore[no-untyped-def]
    """Make the hash a record, without another encoding.  Frames were reserved."""
    if kind_of(context.space, entry_root(context, entry)) == CHAIN:
        _to_record(context, entry)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _set_in_chain(context, entry, field, k, value, v):  # type: ignore[no-untyped-def]
    """Set a field of a chain: 1 for a new one, 0 for another value, -1 where the hash must become a record first."""
    space, root = context.space, entry_root(context, entry)
    place = chain_find(space, root, field, k)
    alike = place >= 0 and element_payload_length(space, chain_element(space, root, place)) == v
    if not alike and not chain_fits(space, root, k, v):
        return -1
    if place >= 0:
        root = chain_replace(space, root, place, value, v)
    else:
        root = chain_insert(space, root, chain_count(space, root), field, k, value, v)
    assert root != 0, "no frame was reserved for a chain"
    entry_set_root(context, entry, root)
    return 0 if place >= 0 else 1


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _set_in_table(context, root, field, k, value, v):  # type: ignore[no-untyped-def]
    """Set a field of a record: 1 for a new one, 0 for another value."""
    space, hash_ = context.space, key_hash(context, field, k)
    slot = table_find(space, root, hash_, field, k)
    if slot != 0:
        old = table_at(space, slot)
        if heap_size(element_bytes(space, old)) == heap_size(element_size(k, v)):
            element_write(space, old, field, k, value, v)
            return 0
    element = element_alloc(space, field, k, value, v)
    assert element != 0, "no frame was reserved for an element"
    if slot != 0:
        code = table_replace(space, slot, element)
        assert code == 0, "no frame was reserved for a slot"
        code = element_free(space, old)
        assert code == 0, "no frame was reserved for a release"
        return 0
    code = table_add(space, root, context.store[HASH_SEED], hash_, element)
    assert code == 0, "no frame was reserved for a table"
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def field_set(context, entry, field, k, value, v):  # type: ignore[no-untyped-def]
    """Set a field: 1 for a new one, 0 for another value.  Frames were reserved; the root may move."""
    space, shard = context.space, context.shard
    wide = max(k, v) > shard[HASH_MAX_LISTPACK_VALUE]
    if kind_of(space, entry_root(context, entry)) == CHAIN:
        new = -1
        if not wide:
            new = _set_in_chain(context, entry, field, k, value, v)
        if new >= 0:
            if chain_count(space, entry_root(context, entry)) > shard[HASH_MAX_LISTPACK_ENTRIES]:
                _to_record(context, entry)
                entry_set_encoding(context, entry, WIDE)
            return new
        _to_record(context, entry)
    root = entry_root(context, entry)
    new = _set_in_table(context, root, field, k, value, v)
    if entry_encoding(context, entry) == COMPACT:
        if wide or record_count(space, root) > shard[HASH_MAX_LISTPACK_ENTRIES]:
            entry_set_encoding(context, entry, WIDE)
    return new


@linked(void(CONTEXT, int64))
def make_wide(context, entry):  # type: ignore[no-untyped-def]
    """Let the hash have more than what is small, however few its fields are.  Frames were reserved."""
    ensure_record(context, entry)
    entry_set_encoding(context, entry, WIDE)


@linked(int64(CONTEXT, int64, int64, int64))
def field_remove(context, entry, field, k):  # type: ignore[no-untyped-def]
    """Remove a field: 1, or 0 without one.  Frames were reserved; the root may move."""
    space, root = context.space, entry_root(context, entry)
    if kind_of(space, root) == CHAIN:
        place = chain_find(space, root, field, k)
        if place < 0:
            return 0
        root = chain_remove(space, root, place, 1)
        assert root != 0, "no frame was reserved for a chain"
        entry_set_root(context, entry, root)
        return 1
    hash_ = key_hash(context, field, k)
    slot = table_find(space, root, hash_, field, k)
    if slot == 0:
        return 0
    table_drop(space, root, hash_, slot)
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def field_discard(context, db, entry, field, k):  # type: ignore[no-untyped-def]
    """Remove a field and its deadline: 1, or 0 without one.  Frames were reserved; the root may move."""
    if field_remove(context, entry, field, k) == 0:
        return 0
    if agenda_of(context, entry_root(context, entry)) != 0:
        drop_deadline(context, db, entry, field, k)
    return 1
