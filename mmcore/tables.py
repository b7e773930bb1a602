"""Operations on whole page tables, and the only place that stores an entry.

`set_entry` is the only kernel that stores into `entries`.  All other writes to tables are of whole frames, before any
entry points at them.

(2) In a table with refcount > 1, R/W may only be cleared and A only be set; checked builds assert this.  Neither
change affects the bits that a sharer reads: P and the frame's address.  Clearing R/W makes sharing safe.  The
processor sets A in every entry that it walks through, even in a shared table, so A there means that some sharer used
the entry.  Only the thread that owns the memory changes entries, and it always stores a whole entry: a reader of a
frozen tree in another thread sees the entry either before or after the store.
"""

from mmcore.jit import BOUNDSCHECK, DISABLED, copy_bytes, kernel
from mmcore.paging import (
    ENTRY_COUNT,
    ENTRY_SHIFT,
    HUGE,
    NO_ENTRY,
    PAGE_SHIFT,
    PAGE_SIZE,
    RW,
    WRITE_PROTECT,
    A,
    P,
    frame_of,
    slot_at,
    table_of,
)

VERIFY = DISABLED or BOUNDSCHECK


@kernel
def set_entry(mem, slot, entry):  # type: ignore[no-untyped-def]
    """Store `entry` at `slot`."""
    if VERIFY:
        private = mem.refcount[table_of(slot)] == 1
        before = mem.entries[slot]
        harmless = entry | RW | A == before | RW | A and before & A <= entry & A and entry & RW <= before & RW
        assert private or harmless, "a shared table was changed"
    mem.entries[slot] = entry


@kernel
def protect_children(mem, table):  # type: ignore[no-untyped-def]
    """Clear R/W in every entry of a table."""
    first = slot_at(table, 0)
    for index in range(ENTRY_COUNT):
        set_entry(mem, first + index, mem.entries[first + index] & WRITE_PROTECT)


@kernel
def clear_children(mem, table, begin, end):  # type: ignore[no-untyped-def]
    """Make the entries [begin, end) of a table absent; the caller has dropped their references."""
    for slot in range((table << ENTRY_SHIFT) + begin, (table << ENTRY_SHIFT) + end):
        set_entry(mem, slot, NO_ENTRY)


@kernel
def share_entry(mem, source, target):  # type: ignore[no-untyped-def]
    """Copy the entry at `source` to `target`: the frame gains one reference, and both entries are write-protected."""
    entry = mem.entries[source] & WRITE_PROTECT
    mem.refcount[frame_of(entry)] += 1
    set_entry(mem, source, entry)
    set_entry(mem, target, entry)


@kernel
def _has_rights(mem, table):  # type: ignore[no-untyped-def]
    # Whether R/W is set in any entry of a table.
    first, flags = slot_at(table, 0), NO_ENTRY
    for index in range(ENTRY_COUNT):
        flags |= mem.entries[first + index]
    return flags & RW != NO_ENTRY


@kernel
def share_children(mem, source, target):  # type: ignore[no-untyped-def]
    """Make `target` a copy of table `source`: each child gains one reference and is write-protected in both."""
    if _has_rights(mem, source):  # otherwise its cache lines stay clean
        protect_children(mem, source)
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)
    first = slot_at(target, 0)
    for index in range(ENTRY_COUNT):
        entry = mem.entries[first + index]
        if entry & P:
            mem.refcount[frame_of(entry)] += 1


@kernel
def count_tables_in(mem, table):  # type: ignore[no-untyped-def]
    """The number of tables that the entries of a table point at; the table is not a PT."""
    first, count = slot_at(table, 0), 0
    for index in range(ENTRY_COUNT):
        if mem.entries[first + index] & HUGE == P:
            count += 1
    return count


@kernel
def next_child(mem, table, index):  # type: ignore[no-untyped-def]
    """The index of the first present entry of a table at or after `index`; ENTRY_COUNT if there is none."""
    entries = mem.entries
    slot, end = slot_at(table, index), slot_at(table, ENTRY_COUNT)
    while slot < end and slot & 7 != 0 and entries[slot] == NO_ENTRY:
        slot += 1
    if slot & 7 == 0:
        # Test a whole cache line at a time: an entry that is not present is zero.
        while slot < end:
            low = entries[slot] | entries[slot + 1] | entries[slot + 2] | entries[slot + 3]
            high = entries[slot + 4] | entries[slot + 5] | entries[slot + 6] | entries[slot + 7]
            if low | high != NO_ENTRY:
                break
            slot += 8
        while slot < end and entries[slot] == NO_ENTRY:
            slot += 1
    return slot - slot_at(table, 0)
