"""Candidates: keys in which two stores may differ, in the order in which BRANCH DIFF tells them.

They come from the records of the lines of contents (lines.py): what changed on either way since the two parted.  Where
these do not say, all keys of a database are candidates.

The order of keys is that of a scan: by database, and within it by the reversed bits of the hash.  A key has a *word*:

    62   59 58                        16 15    0
    database | hash bits 42 ... 0      | tag (hash bits 63 ... 48)

and a *place*, the word without the tag.  A bucket of an index holds the keys of one range of places, however many
buckets there are.  So the order is the same whether candidates come from records or from the indices, and whatever
happens to the stores between two calls.

They are gathered some at a time: those with the least words from the place reached on.  For that, all records on the
two ways are looked through, a millisecond for each quarter of a million.  A record of a range costs more, for its
buckets are looked into.  So no more places are gathered at once than RANGES_AT_ONCE of these records are about; and if
there are more of them than buckets, all keys are candidates instead.

    a state, int64[GATHER_WORDS]    STATE_WORDS words, the names of which are below
                                    the state of the comparison of two entries (store/comparing.py)
                                    the candidates, int64[CANDIDATES_MAX]
                                    the cache of pages in common, int64[SAMENESS_WORDS]
"""

from kvstore.effects.changes import (
    ALL,
    BEGIN,
    DB_BITS,
    DB_SHIFT,
    END,
    FLOOR,
    PARENT,
    RANGE,
    START,
    WIDTH_SHIFT,
    line_at,
    record_at,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.comparing import COMPARE_WORDS, is_same_entry
from kvstore.store.comparing_bytes import LEFT
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import entry_hash
from kvstore.store.index import entry_of
from kvstore.store.layout import DATABASES, DB_KEY_BUCKETS, DB_KEYS
from kvstore.structures.buckets import BUCKET_SIZE, LINK, SLOTS, TAG_SHIFT, next_overflow
from kvstore.structures.linear import bucket_mask, bucket_number
from kvstore.system.libc import words_at
from mmcore.jit import constant, int64, kernel, linked, view, void
from mmcore.mmu import load64
from mmcore.sameness import SAMENESS_WORDS, is_same_page
from mmcore.state import CR3

(
    PLACE,  # reached: all keys in front of it, or of the candidate at hand, have been compared
    LIMIT,  # the candidates are all that may differ from PLACE up to here
    CANDIDATES,  # their number, in ascending order
    FIRST_LINE,  # addresses of the two lines of contents
    SECOND_LINE,
    UNKNOWN,  # databases of which all keys are candidates, as bits
    SCANNED,  # those where that was so, and there were keys
    INHABITED,  # those that have keys in either store
    RANGES,  # records of ranges on the two ways
) = range(9)
STATE_WORDS = 9
COMPARING = STATE_WORDS  # the state of the comparison of two entries, whose budget is that of the whole
FIRST_CANDIDATE = COMPARING + COMPARE_WORDS
CANDIDATES_MAX = 2048
SAME = FIRST_CANDIDATE + CANDIDATES_MAX  # the cache of pages in common
GATHER_WORDS = SAME + SAMENESS_WORDS

TAG_BITS, HASH_BITS = 16, DB_SHIFT
DB_PLACE, PLACES = HASH_BITS, 1 << HASH_BITS
END_PLACE = DATABASES << DB_PLACE
_TAG_MASK, _HASH_MASK = (1 << TAG_BITS) - 1, PLACES - 1
_EVERY = (1 << DATABASES) - 1
RANGES_AT_ONCE = 1024
_ENOUGH = 128  # candidates that a scan gathers before they are compared
assert DATABASES <= RANGE < ALL
_GAPS = constant([1750, 701, 301, 132, 57, 23, 10, 4, 1], int64)  # of Shell's sort (Ciura 2001)


@kernel
def _reversed(word):  # type: ignore[no-untyped-def]
    # The HASH_BITS low bits, in the opposite order.
    word = ((word >> 1) & 0x5555_5555_5555) | ((word & 0x5555_5555_5555) << 1)
    word = ((word >> 2) & 0x3333_3333_3333) | ((word & 0x3333_3333_3333) << 2)
    word = ((word >> 4) & 0x0F0F_0F0F_0F0F) | ((word & 0x0F0F_0F0F_0F0F) << 4)
    word = ((word >> 8) & 0x00FF_00FF_00FF) | ((word & 0x00FF_00FF_00FF) << 8)
    word = (word & 0xFFFF) << 32 | (word & 0xFFFF_0000) | (word >> 32 & 0xFFFF)
    return (word >> (48 - HASH_BITS)) & _HASH_MASK


@kernel
def word_of(db, hash_):  # type: ignore[no-untyped-def]
    """The word of a key by its hash."""
    return (db << DB_PLACE | _reversed(hash_ & _HASH_MASK)) << TAG_BITS | (hash_ >> TAG_SHIFT & _TAG_MASK)


@kernel
def part_of_hash(word):  # type: ignore[no-untyped-def]
    """The part of its key's hash that a word holds."""
    return _reversed(word >> TAG_BITS & _HASH_MASK) | (word & _TAG_MASK) << TAG_SHIFT


@view
def comparing_of(state):  # type: ignore[no-untyped-def]
    """The state of the comparison of two entries, int64[COMPARE_WORDS]."""
    return words_at(int64(state.ctypes.data) + 8 * COMPARING, COMPARE_WORDS)


@view
def same_of(state):  # type: ignore[no-untyped-def]
    """The cache of pages in common, int64[SAMENESS_WORDS]."""
    return words_at(int64(state.ctypes.data) + 8 * SAME, SAMENESS_WORDS)


@linked(void(int64[::1]))
def _sort(state):  # type: ignore[no-untyped-def]
    """Sort the candidates, and leave each once."""
    count = state[CANDIDATES]
    for i in range(len(_GAPS)):
        gap = _GAPS[i]
        for at in range(gap, count):
            word, place = state[FIRST_CANDIDATE + at], at
            while place >= gap and state[FIRST_CANDIDATE + place - gap] > word:
                state[FIRST_CANDIDATE + place] = state[FIRST_CANDIDATE + place - gap]
                place -= gap
            state[FIRST_CANDIDATE + place] = word
    left = 0
    for at in range(count):
        if left == 0 or state[FIRST_CANDIDATE + at] != state[FIRST_CANDIDATE + left - 1]:
            state[FIRST_CANDIDATE + left] = state[FIRST_CANDIDATE + at]
            left += 1
    state[CANDIDATES] = left


@linked(void(int64[::1]))
def _thin_out(state):  # type: ignore[no-untyped-def]
    """Give up the candidates with the greatest words, which are gathered again later."""
    _sort(state)
    if state[CANDIDATES] < CANDIDATES_MAX // 2:
        return
    left = CANDIDATES_MAX // 2
    state[LIMIT] = state[FIRST_CANDIDATE + left - 1] >> TAG_BITS
    while left > 0 and state[FIRST_CANDIDATE + left - 1] >> TAG_BITS == state[LIMIT]:
        left -= 1
    assert left > 0, "half a thousand keys at one place"
    state[CANDIDATES] = left


@kernel
def _add(state, word):  # type: ignore[no-untyped-def]
    # Add a candidate, if it is between PLACE and LIMIT.
    place = word >> TAG_BITS
    if state[PLACE] <= place < state[LIMIT]:
        if state[CANDIDATES] == CANDIDATES_MAX:
            _thin_out(state)
        if place < state[LIMIT]:
            state[FIRST_CANDIDATE + state[CANDIDATES]] = word
            state[CANDIDATES] += 1


@kernel
def _note_record(state, record):  # type: ignore[no-untyped-def]
    # Note the databases that a record stands for as a whole, and count ranges.
    db = record >> DB_SHIFT & ALL
    if db == RANGE:
        state[RANGES] += 1
    elif record & ~DB_BITS == 0:
        state[UNKNOWN] |= _EVERY if db == ALL else 1 << db


@kernel
def _range_end(place, buckets):  # type: ignore[no-untyped-def]
    # The end of the range of places, within a database, that belong to the bucket of this place.
    mask = bucket_mask(buckets)
    number = _reversed(place) & mask
    if number >= buckets or (number <= mask >> 1 and number + ((mask + 1) >> 1) >= buckets):
        mask >>= 1
    width = PLACES // (mask + 1)
    return (place // width + 1) * width


@linked(void(CONTEXT, int64[::1], int64, int64, int64, int64))
def _add_chain(context, state, db, bucket, place, end):  # type: ignore[no-untyped-def]
    """Add the keys of a bucket and those behind it, if they are in a range of places within their database."""
    while bucket != 0:
        for i in range(SLOTS):
            slot = load64(context.space, bucket + 8 * i)
            if slot != 0 and slot & LINK == 0:
                word = word_of(db, entry_hash(context, entry_of(slot), context.store[HASH_SEED]))
                if place <= word >> TAG_BITS & _HASH_MASK < end:
                    _add(state, word)
                comparing_of(state)[LEFT] -= 2
        bucket = next_overflow(context.space, bucket)


@linked(void(CONTEXT, CONTEXT, int64[::1], int64, int64, int64, int64))
def _add_different(a, b, state, db, bucket, place, end):  # type: ignore[no-untyped-def]
    """The same for both stores, whose buckets lie at the same place; but not keys that are surely the same."""
    one, other = a.space.cpu[CR3], b.space.cpu[CR3]
    while bucket != 0 and is_same_page(a.space.mem, one, other, same_of(state), bucket):
        for i in range(SLOTS):
            slot = load64(a.space, bucket + 8 * i)
            if slot == 0 or slot & LINK:
                continue
            entry = entry_of(slot)
            comparing_of(state)[LEFT] -= 1
            if is_same_entry(a, b, entry, same_of(state)):
                continue
            _add(state, word_of(db, entry_hash(a, entry, a.store[HASH_SEED])))
            _add(state, word_of(db, entry_hash(b, entry, b.store[HASH_SEED])))
        bucket = next_overflow(a.space, bucket)
    if bucket != 0:
        _add_chain(a, state, db, bucket, place, end)
        _add_chain(b, state, db, bucket, place, end)


@kernel
def _bucket_at(context, db, place, buckets):  # type: ignore[no-untyped-def]
    return key_base(context, db) + BUCKET_SIZE * bucket_number(_reversed(place), buckets)


@linked(int64(CONTEXT, CONTEXT, int64[::1], int64, int64, int64))
def _add_buckets(a, b, state, db, place, end):  # type: ignore[no-untyped-def]
    """Add the keys of the buckets at a place of a database, up to `end` there; returns the place behind them."""
    one, other = db_load(a, db, DB_KEY_BUCKETS), db_load(b, db, DB_KEY_BUCKETS)
    if one != 0:
        end = min(end, _range_end(place, one))
    if other != 0:
        end = min(end, _range_end(place, other))
    comparing_of(state)[LEFT] -= 1
    if one == other and key_base(a, db) == key_base(b, db):
        if one != 0:
            _add_different(a, b, state, db, _bucket_at(a, db, place, one), place, end)
        return end
    if one != 0:
        _add_chain(a, state, db, _bucket_at(a, db, place, one), place, end)
    if other != 0:
        _add_chain(b, state, db, _bucket_at(b, db, place, other), place, end)
    return end


@linked(void(CONTEXT, CONTEXT, int64[::1], int64))
def _add_range(a, b, state, record):  # type: ignore[no-untyped-def]
    """Add the keys of a range of hashes, of all databases but those that are scanned."""
    bits = record >> WIDTH_SHIFT
    first = _reversed(record & ((1 << bits) - 1))
    last = first + (PLACES >> bits)
    db = state[PLACE] >> DB_PLACE
    while db < DATABASES and db << DB_PLACE < state[LIMIT]:
        if state[INHABITED] & ~state[UNKNOWN] & (1 << db):
            place = max(first, state[PLACE] - (db << DB_PLACE))
            while place < last and (db << DB_PLACE) + place < state[LIMIT]:
                place = _add_buckets(a, b, state, db, place, last)
        db += 1


@linked(void(CONTEXT, CONTEXT, int64[::1], int64, int64, int64, int64))
def _read_line(a, b, state, address, first, last, keys):  # type: ignore[no-untyped-def]
    """Look through the records of a line from position `first` to before `last`.

    Without `keys`, find the databases that are UNKNOWN, and the RANGES; with it, add the keys of the others.
    """
    line = line_at(address)
    if first >= last:
        return
    if line[FLOOR] > first:
        state[UNKNOWN] = _EVERY
    elif keys == 0:
        for at in range(first, last):
            _note_record(state, record_at(line, at))
    else:
        for at in range(first, last):
            record = record_at(line, at)
            db = record >> DB_SHIFT & ALL
            if db == RANGE:
                _add_range(a, b, state, record)
            elif state[UNKNOWN] >> db & 1 == 0:
                _add(state, word_of(db, record & ~DB_BITS))


@kernel
def _depth(address):  # type: ignore[no-untyped-def]
    depth = 0
    while address != 0:
        depth += 1
        address = line_at(address)[PARENT]
    return depth


@linked(void(CONTEXT, CONTEXT, int64[::1], int64))
def _read_lines(a, b, state, keys):  # type: ignore[no-untyped-def]
    """Look through all that was recorded since the two lines parted; see _read_line."""
    one, other = state[FIRST_LINE], state[SECOND_LINE]
    depth, others_depth = _depth(one), _depth(other)
    at = line_at(one)[END] if one != 0 else 0
    others_at = line_at(other)[END] if other != 0 else 0
    while one != other and one != 0 and other != 0:
        if depth >= others_depth:
            _read_line(a, b, state, one, line_at(one)[START], at, keys)
            at, one = line_at(one)[BEGIN], line_at(one)[PARENT]
            depth -= 1
        else:
            _read_line(a, b, state, other, line_at(other)[START], others_at, keys)
            others_at, other = line_at(other)[BEGIN], line_at(other)[PARENT]
            others_depth -= 1
    if one == 0 or other == 0:
        state[UNKNOWN] = _EVERY
    else:
        _read_line(a, b, state, one, min(at, others_at), max(at, others_at), keys)


@linked(void(CONTEXT, CONTEXT, int64[::1], int64))
def _scan(a, b, state, db):  # type: ignore[no-untyped-def]
    """Add keys of a database from PLACE on, bucket by bucket."""
    state[LIMIT] = (db + 1) << DB_PLACE
    if state[INHABITED] >> db & 1 == 0:
        return
    state[SCANNED] |= 1 << db
    place = state[PLACE] & _HASH_MASK
    while place < PLACES and state[CANDIDATES] < _ENOUGH and comparing_of(state)[LEFT] > 0:
        place = _add_buckets(a, b, state, db, place, PLACES)
    state[LIMIT] = min(state[LIMIT], (db << DB_PLACE) + place)


@linked(void(CONTEXT, CONTEXT, int64[::1]))
def gather(a, b, state):  # type: ignore[no-untyped-def]
    """Gather the next candidates, from PLACE on."""
    state[CANDIDATES] = state[UNKNOWN] = state[INHABITED] = state[RANGES] = 0
    buckets = databases = 0
    for db in range(DATABASES):
        if db_load(a, db, DB_KEYS) != 0 or db_load(b, db, DB_KEYS) != 0:
            state[INHABITED] |= 1 << db
            buckets += max(db_load(a, db, DB_KEY_BUCKETS), db_load(b, db, DB_KEY_BUCKETS))
            databases += 1
    _read_lines(a, b, state, 0)
    if state[RANGES] * databases > buckets:
        state[UNKNOWN] = _EVERY
    db = state[PLACE] >> DB_PLACE
    if state[UNKNOWN] >> db & 1:
        _scan(a, b, state, db)
    else:
        while db < DATABASES and state[UNKNOWN] >> db & 1 == 0:
            db += 1
        state[LIMIT] = db << DB_PLACE
        if state[RANGES] > RANGES_AT_ONCE:
            state[LIMIT] = min(state[LIMIT], state[PLACE] + PLACES // state[RANGES] * RANGES_AT_ONCE)
        _read_lines(a, b, state, 1)
    _sort(state)
