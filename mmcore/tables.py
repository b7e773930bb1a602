"""Page tables as wholes, and the one place where an entry is stored.

`set_entry` is the only kernel that stores into `entries`; tables are otherwise written as whole frames, before
anything points at them.

(2) Of a table with refcount > 1 only R/W may be cleared, and A set: checked builds assert it.  Both leave alone what a
sharer reads, P and the frame's address.  R/W is what makes sharing safe, and A is set by the processor in any entry
it walks through, whoever else has the table; so A in a shared table says that one of its sharers came by.  All this
is done by the one thread that owns the memory, with a store of a whole entry: a reader of a frozen tree in another
thread sees the entry before it or after it.
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
    first = table << ENTRY_SHIFT
    for slot in range(first, first + ENTRY_COUNT):
        set_entry(mem, slot, mem.entries[slot] & WRITE_PROTECT)


@kernel
def share_entry(mem, source, target):  # type: ignore[no-untyped-def]
    """Enter what `source` points to at `target` too: counted once more, and write-protected in both."""
    entry = mem.entries[source] & WRITE_PROTECT
    mem.refcount[frame_of(entry)] += 1
    set_entry(mem, source, entry)
    set_entry(mem, target, entry)


@kernel
def share_children(mem, source, target):  # type: ignore[no-untyped-def]
    """Make `target` a copy of table `source`: each child counted once more, and write-protected in both."""
    protect_children(mem, source)
    copy_bytes(mem.bytes, target << PAGE_SHIFT, mem.bytes, source << PAGE_SHIFT, PAGE_SIZE)
    first = target << ENTRY_SHIFT
    for slot in range(first, first + ENTRY_COUNT):
        entry = mem.entries[slot]
        if entry & P:
            mem.refcount[frame_of(entry)] += 1


@kernel
def count_tables_in(mem, table):  # type: ignore[no-untyped-def]
    """Tables that the entries of a table, not of a PT, point at."""
    first = table << ENTRY_SHIFT
    count = 0
    for slot in range(first, first + ENTRY_COUNT):
        if mem.entries[slot] & HUGE == P:
            count += 1
    return count


@kernel
def next_child(mem, table, index):  # type: ignore[no-untyped-def]
    """Index of the first present entry of a table at or after `index`; ENTRY_COUNT if there is none."""
    entries = mem.entries
    slot = (table << ENTRY_SHIFT) + index
    end = (table + 1) << ENTRY_SHIFT
    while slot < end and slot & 7 != 0 and entries[slot] == NO_ENTRY:
        slot += 1
    if slot & 7 == 0:
        # A cache line at a time: what is not present is zero.
        while slot < end:
            low = entries[slot] | entries[slot + 1] | entries[slot + 2] | entries[slot + 3]
            high = entries[slot + 4] | entries[slot + 5] | entries[slot + 6] | entries[slot + 7]
            if low | high != NO_ENTRY:
                break
            slot += 8
        while slot < end and entries[slot] == NO_ENTRY:
            slot += 1
    return slot - (table << ENTRY_SHIFT)
