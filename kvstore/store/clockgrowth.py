"""The array of clocks grows and shrinks with the number of keys, by linear hashing (structures/linear.py).

A line is added at the end, and the line that it is split from gives it the cells of the keys that belong to it now.  A
cell does not tell which of the two that is: the index does.  A bucket of an index that is not smaller than the array
holds keys of one line only, and their slots have the bits that tags are made of; so nothing but some buckets is looked
at.  Of a smaller index, the keys are hashed.  Cells of deleted keys are found on the way, and emptied.

The cell of a key that was used very often is displaced by nothing.  Once the key is deleted, its cell would be lost to
the others for as long as its counter takes to decay.  So under the LFU policies the timer looks for such cells: it
compares some lines with the keys at a time.  A DEL cannot empty the cell, for another key may share it.

A line that was not split has twice as many keys as one that was, and forgets the more.  So under the LRU and LFU
policies, which evict a forgotten key before its neighbours, the number of lines is a power of two: seven to fourteen
keys have a line.

The last line is removed by moving its cells into the line that it was split from.  The timer does all this, some lines
at a time.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import CLOCK_LINES, CLOCK_LINES_MAX, CLOCK_SCRUBBED, MAXMEMORY_POLICY
from kvstore.lifetimes.sizes import CLOCK_LINE, CLOCK_LINES_MIN
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clockline import (
    CELLS,
    cell_clear,
    cell_clock,
    cell_set,
    cell_tag,
    cell_with,
)
from kvstore.store.clocks import (
    POLICY_LFU,
    POLICY_LRU,
    cell_to_displace,
    clock_lines,
    clock_tags,
    give_back_lines,
    is_lfu,
    staleness,
    tag_of,
)
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import entry_hash
from kvstore.store.layout import DATABASES, DB_KEY_BUCKETS, DB_KEYS
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, TAG_SHIFT, next_overflow, points_at
from kvstore.structures.linear import bucket_mask, bucket_number
from mmcore.jit import fill_bytes, int64, kernel, linked, void
from mmcore.mmu import load64

KEYS_PER_LINE_SHIFT, LINES_PER_KEYS = 8, 15  # fifteen lines for 256 keys
LINES_PER_KEYS_CACHED = 18  # under a policy that goes by the clocks, and then up to a power of two
ADD_STEP, REMOVE_STEP = 2048, 8192  # lines that the timer adds or removes at a time
SCRUB_STEP = 128  # lines of which it looks for cells of deleted keys
ALL = -1
_EVERY_CELL = (1 << CELLS) - 1


@kernel
def _split_from(line):  # type: ignore[no-untyped-def]
    # Number of the line that this one was split from.
    return line - ((bucket_mask(line + 1) + 1) >> 1)


@kernel
def _mask_of(context, line):  # type: ignore[no-untyped-def]
    # The bits of a hash that say whether it belongs to this line: one less as long as the line was not split.
    mask = bucket_mask(context.shard[CLOCK_LINES])
    half = (mask + 1) >> 1
    return mask if line >= half or line + half < context.shard[CLOCK_LINES] else mask >> 1


@kernel
def _cell_bit(lines, line, tag):  # type: ignore[no-untyped-def]
    # The bit of the cell with this tag in the line at offset `line`; 0 without one.
    return (1 << cell_with(lines, line, tag)) & _EVERY_CELL


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _cells_of_bucket(context, db, number, line, where):  # type: ignore[no-untyped-def]
    """The cells of a line, as bits, of the keys of a bucket of `db`.

    where: the number of the line that a key's hash must belong to; ALL if that of all keys of the bucket does.
    """
    lines, tags, cells = clock_lines(context), clock_tags(context, db), 0
    bucket = key_base(context, db) + BUCKET_SIZE * number
    while bucket != 0:
        for i in range(SLOTS):
            word = load64(context.space, bucket + 8 * i)
            entry = points_at(word)
            if entry == 0:
                continue
            if where != ALL:
                hash_ = entry_hash(context, entry, context.store[HASH_SEED])
                if bucket_number(hash_, context.shard[CLOCK_LINES]) != where:
                    continue
            cells |= _cell_bit(lines, CLOCK_LINE * line, tag_of(tags, word >> TAG_SHIFT))
        bucket = next_overflow(context.space, bucket)
    return cells


@linked(int64(CONTEXT, int64, int64, int64))
def _cells_of(context, db, line, where):  # type: ignore[no-untyped-def]
    """The cells of a line, as bits, of keys of `db` that belong to the line with the number `where`, or to both."""
    buckets, mask, cells = db_load(context, db, DB_KEY_BUCKETS), _mask_of(context, where), 0
    if buckets == 0:
        return 0
    if mask > bucket_mask(buckets) >> 1:
        return _cells_of_bucket(context, db, bucket_number(where, buckets), line, where)
    number = where
    while number < buckets:
        cells |= _cells_of_bucket(context, db, number, line, ALL)
        number += mask + 1
    return cells


@linked(void(CONTEXT))
def _add_line(context):  # type: ignore[no-untyped-def]
    """Add a line, which takes the cells of its keys from the line that it is split from."""
    number = context.shard[CLOCK_LINES]
    from_, stay, go = _split_from(number), 0, 0
    context.shard[CLOCK_LINES] = number + 1
    for db in range(DATABASES):
        stay |= _cells_of(context, db, from_, from_)
        go |= _cells_of(context, db, from_, number)
    lines, line, new, taken = clock_lines(context), CLOCK_LINE * from_, CLOCK_LINE * number, 0
    fill_bytes(lines, new, 0, CLOCK_LINE)
    for i in range(CELLS):
        if go >> i & 1:
            cell_set(lines, new, taken, cell_tag(lines, line, i), cell_clock(lines, line, i))
            taken += 1
        if stay >> i & 1 == 0:
            cell_clear(lines, line, i)


@linked(void(CONTEXT))
def _scrub(context):  # type: ignore[no-untyped-def]
    """Empty the cells of the next line that belong to no key."""
    shard, owned = context.shard, 0
    number = shard[CLOCK_SCRUBBED] if shard[CLOCK_SCRUBBED] < shard[CLOCK_LINES] else 0
    for db in range(DATABASES):
        owned |= _cells_of(context, db, number, number)
    lines = clock_lines(context)
    for i in range(CELLS):
        if owned >> i & 1 == 0:
            cell_clear(lines, CLOCK_LINE * number, i)
    shard[CLOCK_SCRUBBED] = number + 1


@linked(void(CONTEXT))
def _merge_last(context):  # type: ignore[no-untyped-def]
    """Remove the last line; its cells go to the line that it was split from, as far as they are fresher."""
    lines = clock_lines(context)
    number = context.shard[CLOCK_LINES] - 1
    last, line = CLOCK_LINE * number, CLOCK_LINE * _split_from(number)
    for i in range(CELLS):
        tag, clock = cell_tag(lines, last, i), cell_clock(lines, last, i)
        if tag == 0:
            continue
        cell = cell_with(lines, line, tag)
        if cell == CELLS:
            cell = cell_to_displace(context, line)
        empty = cell_tag(lines, line, cell) == 0
        if empty or staleness(context, clock) < staleness(context, cell_clock(lines, line, cell)):
            cell_set(lines, line, cell, tag, clock)
    context.shard[CLOCK_LINES] = number


@kernel
def _lines_for(context, keys):  # type: ignore[no-untyped-def]
    # The number of lines for so many keys.
    if context.shard[MAXMEMORY_POLICY] & (POLICY_LRU | POLICY_LFU):
        lines = bucket_mask((LINES_PER_KEYS_CACHED * keys) >> KEYS_PER_LINE_SHIFT) + 1
    else:
        lines = (LINES_PER_KEYS * keys) >> KEYS_PER_LINE_SHIFT
    return max(CLOCK_LINES_MIN, min(lines, context.shard[CLOCK_LINES_MAX]))


@linked(void(CONTEXT))
def clocks_fit(context):  # type: ignore[no-untyped-def]
    """Add or remove some lines, so that their number fits that of the keys; called by the timer."""
    shard, keys = context.shard, 0
    for db in range(DATABASES):
        keys += db_load(context, db, DB_KEYS)
    before, most = shard[CLOCK_LINES], _lines_for(context, keys + (keys >> 2))  # not back and forth
    for _ in range(min(_lines_for(context, keys) - before, ADD_STEP)):
        _add_line(context)
    if before > most:
        for _ in range(min(before - most, REMOVE_STEP)):
            _merge_last(context)
        give_back_lines(context, shard[CLOCK_LINES], before)
    if is_lfu(context):
        for _ in range(min(SCRUB_STEP, shard[CLOCK_LINES])):
            _scrub(context)
