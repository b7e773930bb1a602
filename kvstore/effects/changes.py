"""The keys that have changed: a bounded record of them, for each line of contents that somebody may ask about.

A *line* is what the contents of a store have been, one after the other.  It is what a journal is to a file: BRANCH DIFF
needs the keys that changed between two points of it.  branches/lines.py says how lines hang together; here is how one
of them records.

    ring      int64[CAPACITY]: the changed keys, in order.  The record at position p is in ring[p % CAPACITY]
    filter    int64[SLOTS]: positions by key, so that a key is not recorded again and again
    bits      one for each range of hashes: whether it has been recorded since the line became coarse

    a record  hash of the key, in which the database replaces five bits in the middle: 59 bits of the hash are left,
              among them all that choose a bucket, and the tag.  WHOLE in the place of the hash: all keys of that
              database.  RANGE in the place of the database: all keys, of any database, whose hashes end in these bits,
              the number of which is in the place of the tag

A name is not kept: the key is found by its hash, in whichever of the stores has it.  If two keys share a record, one of
them is compared needlessly.  For the same reason nothing is taken back when a transaction is undone.

    START ......... FLOOR ................. MARK ........ END        positions
      |  forgotten  |  recorded             |  each key once

(1) A key that differs between two points of the line, both at or behind FLOOR, is recorded between them, or its
    database is.
(2) A line that has forgotten something has FLOOR > START.
(3) Children begin at or before MARK (or before FLOOR, which nobody can ask about), in the order of their list.

By (3), a change behind MARK needs no second record: nobody asks about a point between the two.  The filter looks into a
few places only.  If it misses a key, that is recorded twice.

Behind a MARK, the first keys are recorded one by one, as many as half the filter has slots.  Then the line is *coarse*:
it records ranges.  A store of a million keys that are all written at random needs one bit for eight of them, 16 KiB,
which stay in a cache; a filter of as many keys would be in none, and would miss twice for each write.  All ranges
together fit into the largest ring.  So a line forgets nothing that was recorded behind its MARK.

When the ring is full, it is made again: twice as large, or of the same size without the records that later forks made
superfluous.  Beyond CHANGES_MAX records, or CHANGES_BYTES_MAX bytes of all lines, the older half is forgotten.  Then
BRANCH DIFF compares all keys, if it needs that half.

A change costs a store that is not watched otherwise some twenty instructions, if its key was recorded before.
"""

import ctypes

from kvstore.effects.events import ALL_DATABASES
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import CHANGES_BYTES, CHANGES_BYTES_MAX, CHANGES_MAX
from kvstore.lifetimes.store import LINE
from kvstore.system.libc import free, malloc, words_at
from mmcore.jit import int64, kernel, linked, over, view, void

(
    HELD,  # not 0: it belongs to a store, to the base of a branch, or to a comparison
    OWNER,  # address of the context of the store whose contents go on along it; 0 if they do not change
    PARENT,  # address of the line that it was forked from, 0 for none
    BEGIN,  # the position there
    FIRST,  # its children, a list in the order of BEGIN; 0 for none
    LAST,
    NEXT,  # the next child of its parent, 0 for none
    BEFORE,
    START,  # positions, see above
    FLOOR,
    END,
    MARK,
    RING,  # address of the ring, with the filter and the bits behind it; 0 before the first change
    RING_BYTES,  # that all three take
    CAPACITY,
    FILTER,
    SLOTS,  # of the filter, a power of two
    BITS,  # address; 0 without any, in a ring that has not more records than the line may have before it is coarse
    RANGE_BITS,  # of a hash, that number its range
    COARSE_FROM,  # the position from which on the line is coarse, if that is behind MARK
) = range(20)
LINE_WORDS = 20
FIRST_POSITION = 1  # so that 0 in the filter is no position
DB_SHIFT = 43
ALL = 31  # in the place of a database: all of them
RANGE = 30
DB_BITS = ALL << DB_SHIFT
WHOLE = 0
assert ALL_DATABASES & ALL == ALL
WIDTH_SHIFT = 48  # of RANGE_BITS in the record of a range
RING_MIN = 16
_FINE_SHIFT = 5  # one part in so many of CHANGES_MAX are recorded key by key
_PROBES = 8


@view
def line_at(address):  # type: ignore[no-untyped-def]
    """A line, int64[LINE_WORDS]."""
    return words_at(address, LINE_WORDS)


@kernel
def record_of(db, hash_):  # type: ignore[no-untyped-def]
    """The record of a key by its hash."""
    return hash_ & ~DB_BITS | db << DB_SHIFT


@kernel
def record_at(line, position):  # type: ignore[no-untyped-def]
    """The record at a position between FLOOR and END."""
    return words_at(line[RING], line[CAPACITY])[position & (line[CAPACITY] - 1)]


@kernel
def line_clear(line):  # type: ignore[no-untyped-def]
    """Nothing is recorded.  Nobody may have begun at the line."""
    line[START] = line[FLOOR] = line[END] = line[MARK] = FIRST_POSITION
    line[RING] = line[RING_BYTES] = line[CAPACITY] = line[COARSE_FROM] = 0


@kernel
def _is_coarse(line):  # type: ignore[no-untyped-def]
    return line[COARSE_FROM] > line[MARK]


@view
def _bits_of(line):  # type: ignore[no-untyped-def]
    return words_at(line[BITS], max(1, 1 << line[RANGE_BITS] >> 6))


@kernel
def _range_number(line, record):  # type: ignore[no-untyped-def]
    # The number of the range that a hash, or the record of a key or of a range, lies in.
    return record & ((1 << line[RANGE_BITS]) - 1)


@kernel
def _is_in_filter(line, record):  # type: ignore[no-untyped-def]
    # Whether the filter knows that this is recorded behind MARK.  If not, it will from now on.
    capacity, mark, slots = line[CAPACITY], line[MARK], line[SLOTS]
    ring, positions = words_at(line[RING], capacity), words_at(line[FILTER], slots)
    place = -1
    for i in range(_PROBES):
        slot = (record + i) & (slots - 1)
        at = positions[slot]
        if at < mark:
            if place < 0:
                place = slot
            if at == 0:
                break
        elif ring[at & (capacity - 1)] == record:
            return True
    if place < 0:
        place = record & (slots - 1)
    positions[place] = line[END]
    return False


@kernel
def _put(line, record):  # type: ignore[no-untyped-def]
    # Append a record, for which there is room, unless it is there behind MARK.
    if _is_coarse(line) and record & ~DB_BITS != WHOLE:
        number, bits = _range_number(line, record), _bits_of(line)
        if bits[number >> 6] >> (number & 63) & 1:
            return
        bits[number >> 6] |= 1 << (number & 63)
        record = line[RANGE_BITS] << WIDTH_SHIFT | RANGE << DB_SHIFT | number
    elif _is_in_filter(line, record):
        return
    words_at(line[RING], line[CAPACITY])[line[END] & (line[CAPACITY] - 1)] = record
    line[END] += 1
    if line[BITS] != 0 and 2 * (line[END] - line[MARK]) >= line[SLOTS] and not _is_coarse(line):
        bits = _bits_of(line)
        for i in range(bits.size):
            bits[i] = 0
        line[COARSE_FROM] = line[END]


@linked(void(int64[::1], int64, int64, int64, int64, int64))
def replay(line, ring, capacity, first, last, child):  # type: ignore[no-untyped-def]
    """Append the records at positions first ... last - 1 of another ring, for which there is room.

    child: the first of those children of the line that began at or behind `first` there.  They get their new positions.
    """
    records = words_at(ring, capacity)
    for at in range(first, last + 1):
        while child != 0 and (at == last or line_at(child)[BEGIN] <= at):
            line_at(child)[BEGIN] = line[MARK] = line[END]
            child = line_at(child)[NEXT]
        if at < last:
            _put(line, records[at & (capacity - 1)])


@kernel
def _fine(pool):  # type: ignore[no-untyped-def]
    # How many keys are recorded one by one behind a MARK.
    return max(pool[CHANGES_MAX] >> _FINE_SHIFT, 1)


@kernel
def _range_bits(pool):  # type: ignore[no-untyped-def]
    # All ranges take half the largest ring.
    count = 1
    while 4 << count <= pool[CHANGES_MAX]:
        count += 1
    return count


@linked(int64(CONTEXT, int64))
def ring_bytes(context, capacity):  # type: ignore[no-untyped-def]
    """The memory of a ring of this capacity, with its filter and its bits; 0 if that is more than one may take."""
    pool, fine = context.pool, _fine(context.pool)
    size = 8 * capacity + 16 * min(capacity, fine)
    if capacity > fine:
        size += 8 * max(1, 1 << _range_bits(pool) >> 6)
    return size if capacity <= pool[CHANGES_MAX] and pool[CHANGES_BYTES] + size <= pool[CHANGES_BYTES_MAX] else 0


@linked(int64(CONTEXT, int64[::1], int64, int64))
def ring_new(context, line, capacity, size):  # type: ignore[no-untyped-def]
    """Give a line an empty ring, from FLOOR on; the old one is the caller's.  0 with nothing changed without memory.

    size: ring_bytes of the capacity.
    """
    address = malloc(size) if size > 0 else 0
    if address == 0:
        return 0
    fine = _fine(context.pool)
    line[RING], line[RING_BYTES], line[CAPACITY] = address, size, capacity
    line[FILTER], line[SLOTS], line[RANGE_BITS] = (
        address + 8 * capacity,
        2 * min(capacity, fine),
        _range_bits(context.pool),
    )
    line[BITS] = line[FILTER] + 8 * line[SLOTS] if capacity > fine else 0
    positions = words_at(line[FILTER], line[SLOTS])
    for i in range(positions.size):
        positions[i] = 0
    context.pool[CHANGES_BYTES] += size
    line[END] = line[MARK] = line[FLOOR]
    line[COARSE_FROM] = 0
    return 1


@kernel
def ring_free(context, ring, size):  # type: ignore[no-untyped-def]
    """Free a ring that takes so many bytes."""
    free(ring)
    context.pool[CHANGES_BYTES] -= size


@kernel
def child_behind(line, position):  # type: ignore[no-untyped-def]
    """The first child that began at or behind a position, 0 for none."""
    child = line[FIRST]
    while child != 0 and line_at(child)[BEGIN] < position:
        child = line_at(child)[NEXT]
    return child


@linked(int64(CONTEXT, int64[::1], int64, int64))
def _make_again(context, line, capacity, size):  # type: ignore[no-untyped-def]
    """Let the ring have this capacity, and no record that is superfluous; 0 with nothing changed without memory."""
    end, ring, before, bytes_before = line[END], line[RING], line[CAPACITY], line[RING_BYTES]
    if ring_new(context, line, capacity, size) == 0:
        return 0
    replay(line, ring, before, line[FLOOR], end, child_behind(line, line[FLOOR]))
    ring_free(context, ring, bytes_before)
    return 1


@linked(int64(CONTEXT, int64[::1]))
def _make_room(context, line):  # type: ignore[no-untyped-def]
    """Room for one more record in a full ring: 1, or 0 when the change is forgotten with all before it."""
    capacity = line[CAPACITY]
    if line[PARENT] == 0 and line[FIRST] != 0:
        line[FLOOR] = max(line[FLOOR], min(line_at(line[FIRST])[BEGIN], line[END]))
    if line[END] - line[FLOOR] < capacity:
        return 1
    larger = max(2 * capacity, RING_MIN)
    size = ring_bytes(context, larger)
    grows = size > 0
    if not grows:
        larger, size = capacity, line[RING_BYTES]
    if _make_again(context, line, larger, size) == 0:
        line[END] += 1
        line[FLOOR] = line[MARK] = line[END]
        return 0
    if not grows and 4 * (line[END] - line[FLOOR]) > 3 * capacity:
        line[FLOOR] = line[END] - capacity // 2
    return 1


@linked(void(CONTEXT, int64))
def _note(context, record):  # type: ignore[no-untyped-def]
    line = line_at(context.store[LINE])
    if line[END] - line[FLOOR] < line[CAPACITY] or _make_room(context, line):
        _put(line, record)


@kernel
def _is_noted(line, record):  # type: ignore[no-untyped-def]
    # Whether a look at one place says that a record is superfluous.
    if _is_coarse(line):
        number = _range_number(line, record)
        return _bits_of(line)[number >> 6] >> (number & 63) & 1 != 0
    capacity = line[CAPACITY]
    if capacity == 0:
        return False
    at = words_at(line[FILTER], line[SLOTS])[record & (line[SLOTS] - 1)]
    return at >= line[MARK] and words_at(line[RING], capacity)[at & (capacity - 1)] == record


@kernel
def note_change(context, db, hash_):  # type: ignore[no-untyped-def]
    """Record that a key with this hash has changed.  The store has a line."""
    record = record_of(db, hash_)
    if not _is_noted(line_at(context.store[LINE]), record):
        _note(context, record)


@kernel
def note_whole(context, db):  # type: ignore[no-untyped-def]
    """Record that any key of `db`, or of ALL_DATABASES, may have changed.  The store has a line."""
    _note(context, record_of(db & ALL, WHOLE))


def recorded(address: int) -> tuple[int, int]:
    """How many changes the line at an address (0: none) has recorded, and the memory that it takes for that [bytes]."""
    if address == 0:
        return 0, 0
    line = over((ctypes.c_int64 * LINE_WORDS).from_address(address), int64)
    return line[END] - line[FLOOR], line[RING_BYTES]
