"""Clocks of use: when each key of the main store was last used, or how often; outside the address space.

If an entry held its clock, every read would write to a page, and under a snapshot it would copy that page.  So the
clocks lie in an array of their own, which no fork shares.  A read leaves all pages alone, and the clocks go on while
snapshots and branches live.

    line    16 cells, one line of the cache (clockline.py); the low bits of a key's hash choose the line
    cell    a tag of 8 bits, from other bits of the hash and the database's region, and a clock of 24
    clock   when the key was last used: Unix time [s], modulo 2^24;
            under an LFU policy when its counter was last decayed: Unix time [min] modulo 2^16, << 8 | the counter

A key that has no cell takes the stalest one of its line, so the array forgets the clocks of those keys first that
matter least.  It has fifteen cells for sixteen keys, and more under the LRU and LFU policies (clockgrowth.py).  A key
without a cell is staler than all of its line, and eviction takes it before them.  OBJECT tells the stalest clock of its
line, or in a line that has empty cells, when the array was emptied.  Two keys of a line may have the same tag, with a
chance of 6 %; then they share a cell, and each counts as used when the other is.

The array grows and shrinks with the number of keys, and cells of deleted keys are found in time (clockgrowth.py).  Its
memory is reserved at the start, one part in sixteen of the machine's, and touched as the array grows; a store with so
many keys that this does not do has fewer cells for each.  `memory_used` counts the lines in use.

A use costs one line of the cache, which `net/ahead.py` prefetches.

Only the main store has clocks.  In a branch or a snapshot every key counts as just used.  Images do not hold them:
after a restart all keys count as used at the start.  When the store is emptied or replaced, or the policy changes
between LRU and LFU, the array is emptied.  An EXEC that is undone does not take back the uses that it noted.
"""

from kvstore.lifetimes.call import NO_TOUCH
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CLOCK_LINES,
    CLOCKS_ADDRESS,
    CLOCKS_BEGAN,
    LFU_DECAY_TIME,
    LFU_LOG_FACTOR,
    LRU_CLOCK,
    MAIN_CONTEXT,
    MAXMEMORY_POLICY,
)
from kvstore.lifetimes.sizes import CLOCK_LINE, CLOCK_LINES_MIN
from kvstore.lifetimes.store import CONTEXT_ADDRESS
from kvstore.store.clockline import (
    CELLS,
    CLOCK_MASK,
    LINE_SIZE,
    cell_clock,
    cell_set,
    cell_set_clock,
    cell_tag,
    cell_with,
)
from kvstore.store.layout import DB_KEY_REGION, DESCRIPTOR_SIZE, DESCRIPTORS
from kvstore.structures.buckets import TAG_SHIFT
from kvstore.structures.linear import bucket_mask, bucket_number
from kvstore.system.libc import bytes_at
from kvstore.system.random import next_random
from mmcore.jit import (
    external,
    fill_bytes,
    int32,
    int64,
    kernel,
    linked,
    prefetch,
    view,
    void,
)
from mmcore.mmu import load64
from mmcore.paging import PAGE_MASK, PAGE_SIZE

POLICY_LRU, POLICY_LFU, POLICY_RANDOM, POLICY_TTL, POLICY_ALLKEYS = 1, 2, 4, 8, 16  # MAXMEMORY_POLICY; 0 is noeviction
MINUTES_MASK = 0xFFFF
COUNTER_MAX = 255
assert LINE_SIZE == CLOCK_LINE
LFU_INIT = 5  # the counter of a new key, as in Redis
_MADV_DONTNEED = 4
_madvise = external("madvise", int32(int64, int64, int32))


@kernel
def has_clocks(context):  # type: ignore[no-untyped-def]
    """Whether the store is one that has clocks: the main store of a shard."""
    return context.shard[MAIN_CONTEXT] == context.store[CONTEXT_ADDRESS] and context.shard[CLOCK_LINES] > 0


@view
def clock_lines(context):  # type: ignore[no-untyped-def]
    """All lines, bytes."""
    return bytes_at(context.shard[CLOCKS_ADDRESS], CLOCK_LINE * context.shard[CLOCK_LINES])


@kernel
def line_of(context, hash_):  # type: ignore[no-untyped-def]
    """Offset of the line of a hash."""
    return CLOCK_LINE * bucket_number(hash_, context.shard[CLOCK_LINES])


@kernel
def clock_tags(context, db):  # type: ignore[no-untyped-def]
    """The part of the tags of a database's keys: its region, because that stays when databases change places."""
    return 29 * load64(context.space, DESCRIPTORS + db * DESCRIPTOR_SIZE + DB_KEY_REGION)


@kernel
def tag_of(tags, upper):  # type: ignore[no-untyped-def]
    """The tag of a key, from 1 on; `upper` are the bits of its hash that a slot has, `tags` see clock_tags."""
    return max((upper + tags) & 255, 1)


@kernel
def _tag(context, db, hash_):  # type: ignore[no-untyped-def]
    return tag_of(clock_tags(context, db), hash_ >> TAG_SHIFT)


@kernel
def _minutes(time):  # type: ignore[no-untyped-def]
    return (time // 60) & MINUTES_MASK


@kernel
def is_lfu(context):  # type: ignore[no-untyped-def]
    """Whether the clocks are those of an LFU policy."""
    return context.shard[MAXMEMORY_POLICY] & POLICY_LFU != 0


@kernel
def _clock_at(context, time):  # type: ignore[no-untyped-def]
    # The clock of a key that came at this Unix time [s].
    return _minutes(time) << 8 | LFU_INIT if is_lfu(context) else time & CLOCK_MASK


@kernel
def idle_s(context, clock):  # type: ignore[no-untyped-def]
    """Time since the last use by an LRU clock [s]."""
    return (context.shard[LRU_CLOCK] - clock) & CLOCK_MASK


@kernel
def frequency(context, clock):  # type: ignore[no-untyped-def]
    """The counter of an LFU clock as it has decayed until now."""
    elapsed = (_minutes(context.shard[LRU_CLOCK]) - (clock >> 8)) & MINUTES_MASK
    decay = context.shard[LFU_DECAY_TIME]
    if decay != 1:
        elapsed = elapsed // max(decay, 1) if decay > 0 else 0
    return max((clock & COUNTER_MAX) - elapsed, 0)


@kernel
def staleness(context, clock):  # type: ignore[no-untyped-def]
    """How stale a clock is: the higher, the sooner its key should go."""
    return COUNTER_MAX - frequency(context, clock) if is_lfu(context) else idle_s(context, clock)


@linked(int64(CONTEXT, int64))
def cell_to_displace(context, line):  # type: ignore[no-untyped-def]
    """An empty cell of the line at this offset, or else the stalest."""
    lines = clock_lines(context)
    empty = cell_with(lines, line, 0)
    if empty < CELLS:
        return empty
    most, now, turn = -1, context.shard[LRU_CLOCK], next_random(context) % CELLS  # among equals any is displaced
    if is_lfu(context):
        for i in range(CELLS):
            most = max(most, (COUNTER_MAX - frequency(context, cell_clock(lines, line, i))) * CELLS + (i ^ turn))
    else:
        for i in range(CELLS):
            most = max(most, ((now - cell_clock(lines, line, i)) & CLOCK_MASK) * CELLS + (i ^ turn))
    return most % CELLS ^ turn


@linked(int64(CONTEXT, int64))
def clock_unknown(context, line):  # type: ignore[no-untyped-def]
    """The clock that stands for that of a key without a cell in the line at this offset."""
    lines, cell = clock_lines(context), cell_to_displace(context, line)
    if cell_tag(lines, line, cell) != 0:
        return cell_clock(lines, line, cell)
    return _clock_at(context, context.shard[CLOCKS_BEGAN])


@linked(int64(CONTEXT, int64, int64))
def clock_of(context, db, hash_):  # type: ignore[no-untyped-def]
    """The clock of the key of `db` that has this hash."""
    if not has_clocks(context):
        return _clock_at(context, context.shard[LRU_CLOCK])
    lines, line = clock_lines(context), line_of(context, hash_)
    cell = cell_with(lines, line, _tag(context, db, hash_))
    return cell_clock(lines, line, cell) if cell < CELLS else clock_unknown(context, line)


@linked(int64(CONTEXT, int64, int64))
def clock_own(context, db, hash_):  # type: ignore[no-untyped-def]
    """The clock of the key of `db` that has this hash; -1 if it has no cell."""
    lines, line = clock_lines(context), line_of(context, hash_)
    cell = cell_with(lines, line, _tag(context, db, hash_))
    return cell_clock(lines, line, cell) if cell < CELLS else -1


@kernel
def knows_lines(context, buckets):  # type: ignore[no-untyped-def]
    """Whether in an index of so many buckets all entries of a bucket have the same line."""
    return bucket_mask(context.shard[CLOCK_LINES]) <= bucket_mask(buckets) >> 1


@linked(int64(CONTEXT, int64, int64, int64))
def clock_beside(context, line, tags, upper):  # type: ignore[no-untyped-def]
    """The same, of an entry whose line is known; of its hash only the upper bits need to be known."""
    lines = clock_lines(context)
    cell = cell_with(lines, line, tag_of(tags, upper))
    return cell_clock(lines, line, cell) if cell < CELLS else -1


@linked(void(CONTEXT, int64, int64, int64))
def clock_set(context, db, hash_, clock):  # type: ignore[no-untyped-def]
    """Give the key of `db` that has this hash a clock."""
    if not has_clocks(context):
        return
    lines, line, tag = clock_lines(context), line_of(context, hash_), _tag(context, db, hash_)
    cell = cell_with(lines, line, tag)
    if cell == CELLS:
        cell = cell_to_displace(context, line)
    cell_set(lines, line, cell, tag, clock)


@linked(void(CONTEXT, int64, int64))
def clock_begin(context, db, hash_):  # type: ignore[no-untyped-def]
    """Give a new key of `db` its first clock."""
    clock_set(context, db, hash_, _clock_at(context, context.shard[LRU_CLOCK]))


@kernel
def _counted(context, counter):  # type: ignore[no-untyped-def]
    # The counter after one more use.  It grows by chance, the more slowly the higher it is.
    above = max(counter - LFU_INIT, 0)
    if counter < COUNTER_MAX and next_random(context) % (above * context.shard[LFU_LOG_FACTOR] + 1) == 0:
        counter += 1
    return counter


@linked(void(CONTEXT, int64, int64, int64, int64))
def _touch_lfu(context, line, tag, cell, now):  # type: ignore[no-untyped-def]
    """Count a use at Unix time `now` [s] in the cell of a tag, which is CELLS if the tag is not in the line."""
    lines = clock_lines(context)
    clock = cell_clock(lines, line, cell) if cell < CELLS else clock_unknown(context, line)
    if cell == CELLS:
        cell = cell_to_displace(context, line)
    cell_set(lines, line, cell, tag, _minutes(now) << 8 | _counted(context, frequency(context, clock)))


@linked(void(CONTEXT, int64, int64))
def clock_touch(context, db, hash_):  # type: ignore[no-untyped-def]
    """Note a use of the key of `db` that has this hash, unless the command is to leave no trace."""
    if context.call[NO_TOUCH] or not has_clocks(context):
        return
    now, lines = context.shard[LRU_CLOCK], clock_lines(context)
    line, tag = line_of(context, hash_), _tag(context, db, hash_)
    cell = cell_with(lines, line, tag)
    if is_lfu(context):
        _touch_lfu(context, line, tag, cell, now)
    elif cell < CELLS:
        cell_set_clock(lines, line, cell, now & CLOCK_MASK)
    else:
        cell_set(lines, line, cell_to_displace(context, line), tag, now & CLOCK_MASK)


@kernel
def clock_prefetch(context, hash_):  # type: ignore[no-untyped-def]
    """Prefetch the line of a key of the main store."""
    if context.shard[CLOCK_LINES] > 0:
        prefetch(clock_lines(context), line_of(context, hash_))


@kernel
def clocks_memory(context):  # type: ignore[no-untyped-def]
    """The memory that the clocks of the store take [bytes]."""
    return CLOCK_LINE * context.shard[CLOCK_LINES] if has_clocks(context) else 0


@kernel
def give_back_lines(context, first, last):  # type: ignore[no-untyped-def]
    """Give the pages of the lines from `first` on, before `last`, back to the system; they become zeros."""
    begin = (context.shard[CLOCKS_ADDRESS] + CLOCK_LINE * first + PAGE_MASK) // PAGE_SIZE * PAGE_SIZE
    end = (context.shard[CLOCKS_ADDRESS] + CLOCK_LINE * last) // PAGE_SIZE * PAGE_SIZE
    if end > begin:
        _madvise(begin, end - begin, int32(_MADV_DONTNEED))


@linked(void(CONTEXT))
def clocks_empty(context):  # type: ignore[no-untyped-def]
    """Forget all clocks of the store, if it has any."""
    shard = context.shard
    if not has_clocks(context):
        return
    shard[CLOCKS_BEGAN] = shard[LRU_CLOCK]
    give_back_lines(context, CLOCK_LINES_MIN, shard[CLOCK_LINES])
    shard[CLOCK_LINES] = CLOCK_LINES_MIN
    fill_bytes(clock_lines(context), 0, 0, CLOCK_LINE * CLOCK_LINES_MIN)
