"""The difference of two named stores: which keys are new, gone or changed in one as against the other.

    candidates      keys that may differ, by the records of the lines of contents (lines.py); or all keys of a database,
                    where these do not say
    comparison      each candidate in both stores: type, deadline, value (store/comparing.py)

The order of keys is that of a scan: by database, and within it by the reversed bits of the hash.  A key has a *word*:

    62   59 58                        16 15    0
    database | hash bits 42 ... 0      | tag (hash bits 63 ... 48)

and a *place*, the word without the tag.  A bucket of an index holds the keys of one range of places, however many
buckets there are.  So a cursor is a place.  It means the same whether candidates come from records or from the indices,
and whatever has happened to the stores since it was given: keys in front of it have been compared, all others have not.
A client that follows the cursors to their end is told of each key that differs throughout, and of none that never does.

A key that is due is absent, in both stores, whether it has been deleted or not.  So its lazy deletion in one of them is
no difference.

Candidates are gathered some at a time: those with the least words from the place reached on.  For that, all records on
the two ways are looked through, a millisecond for each quarter of a million.

A comparison that does not end within its first turn goes on in the next ones, while other clients are served.  Nothing
it reads may change meanwhile, so it freezes both stores then: it forks their roots, and their lines.  Usually it need
not.  What it has found by then holds for the same moment.

    the comparison      STATE words, the names of which are below
                        the candidates, int64[CANDIDATES_MAX]
                        the cache of pages in common, int64[SAMENESS_WORDS]
                        the records of two contexts, over the frozen roots

Comparisons under way are a list of the shard's.  One ends with its reply, with an error, or with its connection.
"""

from kvstore.branches.lines import line_begin, line_end
from kvstore.branches.using import come_to_hand, main_of
from kvstore.effects.changes import (
    ALL,
    BEGIN,
    DB_BITS,
    DB_SHIFT,
    END,
    FLOOR,
    PARENT,
    START,
    line_at,
    record_at,
)
from kvstore.lifetimes.context import CONTEXT, CONTEXT_WORDS, context_at
from kvstore.lifetimes.shard import CONTEXT_AT_HAND, DIFFS_FIRST, MAIN_CONTEXT, NOW_MS
from kvstore.lifetimes.store import CONTEXT_ADDRESS, FROZEN_ROOTS, HASH_SEED, LINE
from kvstore.store.comparing import (
    COMPARE_WORDS,
    DIFFERENT,
    ELEMENT_COST,
    LEFT,
    MORE,
    compare_begin,
    compare_entries,
    is_same_entry,
)
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import HEADER, NO_DEADLINE, entry_deadline, entry_hash, entry_key_length
from kvstore.store.flush import release_root
from kvstore.store.index import entry_of
from kvstore.store.layout import DATABASES, DB_KEY_BUCKETS, DB_KEYS
from kvstore.store.lookup import find_slot
from kvstore.structures.buckets import BUCKET_SIZE, LINK, SLOTS, TAG_SHIFT, next_overflow
from kvstore.structures.element import pin
from kvstore.structures.linear import bucket_mask, bucket_number
from kvstore.system.libc import bytes_at, free, malloc, realloc, words_at
from kvstore.wire.numerals import put_decimal
from mmcore.fork import CONSTANT, fork
from mmcore.frames import has_frames
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, view, void
from mmcore.mmu import copy_out, load64
from mmcore.sameness import SAMENESS_WORDS, is_same_page, sameness_clear
from mmcore.spaces import space_close, space_open
from mmcore.state import CR3

(
    SLOT,  # of the connection
    NEXT,  # address of the next comparison under way, 0 for none
    FIRST_STORE,  # NUMBER of the two stores
    SECOND_STORE,
    BEGAN,  # the cursor that it began at
    WANTED,  # about so many differences
    NOW,  # Unix time [ms] by which keys are due
    FROZEN,  # not 0: the contexts are its own
    FIRST_CONTEXT,  # addresses
    SECOND_CONTEXT,
    FIRST_LINE,
    SECOND_LINE,
    PLACE,  # reached: all keys in front of it, or of the candidate at hand, have been compared
    LIMIT,  # the candidates are all that may differ from PLACE up to here
    CANDIDATES,  # their number, in ascending order
    CANDIDATE,  # the number of the one at hand
    SIDE,  # of this one: the store whose entries are looked at, 0 or 1; and how many have been
    ENTRIES,
    TOLD,  # the place of the last difference, -1 for none
    UNKNOWN,  # databases of which all keys are candidates, as bits
    SCANNED,  # those where that was so, and there were keys
    FOUND,  # differences
    OUT,  # address of the replies about them, their length, the capacity
    OUT_LENGTH,
    OUT_CAPACITY,
) = range(25)
_COMPARING = 25
_CANDIDATES = _COMPARING + COMPARE_WORDS
CANDIDATES_MAX = 2048
_SAME = _CANDIDATES + CANDIDATES_MAX
_RECORDS = _SAME + SAMENESS_WORDS
_WORDS = _RECORDS + 2 * CONTEXT_WORDS

TAG_BITS, HASH_BITS = 16, DB_SHIFT
_DB_PLACE, PLACES = HASH_BITS, 1 << HASH_BITS
END_PLACE = DATABASES << _DB_PLACE
_TAG_MASK, _HASH_MASK = (1 << TAG_BITS) - 1, PLACES - 1
_EVERY = (1 << DATABASES) - 1
_ENOUGH = 128  # candidates that a scan gathers before they are compared
FIRST_BUDGET, TURN_BUDGET = 25_000, 5_000  # of the first turn, some 1 ms, and of each further one
OUT_MAX = 1 << 20  # [bytes] of replies, after which a call ends
_GONE, _NEW, _CHANGED = range(3)
_TEXTS = b"$4\r\ngone\r\n", b"$3\r\nnew\r\n", b"$7\r\nchanged\r\n"
_TEXT = constant(b"".join(_TEXTS))
_TEXT_START = constant([sum(map(len, _TEXTS[:i])) for i in range(4)], int64)
_GAPS = constant([1750, 701, 301, 132, 57, 23, 10, 4, 1], int64)  # of Shell's sort (Ciura 2001)


# ------------------------------------------------------------------------------------------------------------- words


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
    return (db << _DB_PLACE | _reversed(hash_ & _HASH_MASK)) << TAG_BITS | (hash_ >> TAG_SHIFT & _TAG_MASK)


@kernel
def _part_of_hash(word):  # type: ignore[no-untyped-def]
    # What a word tells of its key's hash.
    return _reversed(word >> TAG_BITS & _HASH_MASK) | (word & _TAG_MASK) << TAG_SHIFT


# -------------------------------------------------------------------------------------------------------- candidates


@view
def _comparing(state):  # type: ignore[no-untyped-def]
    return words_at(int64(state.ctypes.data) + 8 * _COMPARING, COMPARE_WORDS)


@view
def _same(state):  # type: ignore[no-untyped-def]
    return words_at(int64(state.ctypes.data) + 8 * _SAME, SAMENESS_WORDS)


@linked(void(int64[::1]))
def _sort(state):  # type: ignore[no-untyped-def]
    """Sort the candidates, and leave each once."""
    count = state[CANDIDATES]
    for i in range(len(_GAPS)):
        gap = _GAPS[i]
        for at in range(gap, count):
            word, place = state[_CANDIDATES + at], at
            while place >= gap and state[_CANDIDATES + place - gap] > word:
                state[_CANDIDATES + place] = state[_CANDIDATES + place - gap]
                place -= gap
            state[_CANDIDATES + place] = word
    left = 0
    for at in range(count):
        if left == 0 or state[_CANDIDATES + at] != state[_CANDIDATES + left - 1]:
            state[_CANDIDATES + left] = state[_CANDIDATES + at]
            left += 1
    state[CANDIDATES] = left


@linked(void(int64[::1]))
def _thin_out(state):  # type: ignore[no-untyped-def]
    """Give up the candidates with the greatest words, which are gathered again later."""
    _sort(state)
    if state[CANDIDATES] < CANDIDATES_MAX // 2:
        return
    left = CANDIDATES_MAX // 2
    state[LIMIT] = state[_CANDIDATES + left - 1] >> TAG_BITS
    while left > 0 and state[_CANDIDATES + left - 1] >> TAG_BITS == state[LIMIT]:
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
            state[_CANDIDATES + state[CANDIDATES]] = word
            state[CANDIDATES] += 1


@kernel
def _only_whole(line, position):  # type: ignore[no-untyped-def]
    # The databases that a record stands for as a whole, as bits; 0 for a key.
    record = record_at(line, position)
    if record & ~DB_BITS != 0:
        return 0
    db = record >> DB_SHIFT & ALL
    return _EVERY if db == ALL else 1 << db


@linked(void(int64[::1], int64, int64, int64, int64))
def _read_line(state, address, first, last, keys):  # type: ignore[no-untyped-def]
    """Look through the records of a line from position `first` to before `last`.

    Without `keys`, find the databases that are UNKNOWN; with it, add the keys of the others.
    """
    line = line_at(address)
    if first >= last:
        return
    if line[FLOOR] > first:
        state[UNKNOWN] = _EVERY
    elif keys == 0:
        for at in range(first, last):
            state[UNKNOWN] |= _only_whole(line, at)
    else:
        for at in range(first, last):
            record = record_at(line, at)
            db = record >> DB_SHIFT & ALL
            if state[UNKNOWN] >> db & 1 == 0:
                _add(state, word_of(db, record & ~DB_BITS))


@kernel
def _depth(address):  # type: ignore[no-untyped-def]
    depth = 0
    while address != 0:
        depth += 1
        address = line_at(address)[PARENT]
    return depth


@linked(void(int64[::1], int64))
def _read_lines(state, keys):  # type: ignore[no-untyped-def]
    """Look through all that was recorded since the two lines parted; see _read_line."""
    one, other = state[FIRST_LINE], state[SECOND_LINE]
    depth, others_depth = _depth(one), _depth(other)
    at = line_at(one)[END] if one != 0 else 0
    others_at = line_at(other)[END] if other != 0 else 0
    while one != other and one != 0 and other != 0:
        if depth >= others_depth:
            _read_line(state, one, line_at(one)[START], at, keys)
            at, one = line_at(one)[BEGIN], line_at(one)[PARENT]
            depth -= 1
        else:
            _read_line(state, other, line_at(other)[START], others_at, keys)
            others_at, other = line_at(other)[BEGIN], line_at(other)[PARENT]
            others_depth -= 1
    if one == 0 or other == 0:
        state[UNKNOWN] = _EVERY
    else:
        _read_line(state, one, min(at, others_at), max(at, others_at), keys)


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
                _comparing(state)[LEFT] -= 2
        bucket = next_overflow(context.space, bucket)


@linked(void(CONTEXT, CONTEXT, int64[::1], int64, int64, int64, int64))
def _add_different(a, b, state, db, bucket, place, end):  # type: ignore[no-untyped-def]
    """The same for both stores, whose buckets lie at the same place; but not keys that are surely the same."""
    one, other = a.space.cpu[CR3], b.space.cpu[CR3]
    while bucket != 0 and is_same_page(a.space.mem, one, other, _same(state), bucket):
        for i in range(SLOTS):
            slot = load64(a.space, bucket + 8 * i)
            if slot == 0 or slot & LINK:
                continue
            entry = entry_of(slot)
            _comparing(state)[LEFT] -= 1
            if is_same_entry(a, b, entry, _same(state)):
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


@linked(void(CONTEXT, CONTEXT, int64[::1], int64))
def _scan(a, b, state, db):  # type: ignore[no-untyped-def]
    """Add keys of a database from PLACE on, bucket by bucket."""
    one, other = db_load(a, db, DB_KEY_BUCKETS), db_load(b, db, DB_KEY_BUCKETS)
    state[LIMIT] = (db + 1) << _DB_PLACE
    if db_load(a, db, DB_KEYS) == 0 and db_load(b, db, DB_KEYS) == 0:
        return
    state[SCANNED] |= 1 << db
    aligned = one == other and key_base(a, db) == key_base(b, db)
    place = state[PLACE] & _HASH_MASK
    while place < PLACES and state[CANDIDATES] < _ENOUGH and _comparing(state)[LEFT] > 0:
        end = PLACES
        if one != 0:
            end = min(end, _range_end(place, one))
        if other != 0:
            end = min(end, _range_end(place, other))
        _comparing(state)[LEFT] -= 1
        if aligned:
            _add_different(a, b, state, db, _bucket_at(a, db, place, one), place, end)
        else:
            if one != 0:
                _add_chain(a, state, db, _bucket_at(a, db, place, one), place, end)
            if other != 0:
                _add_chain(b, state, db, _bucket_at(b, db, place, other), place, end)
        place = end
    state[LIMIT] = min(state[LIMIT], (db << _DB_PLACE) + place)


@linked(void(CONTEXT, CONTEXT, int64[::1]))
def _gather(a, b, state):  # type: ignore[no-untyped-def]
    """Gather the next candidates, from PLACE on."""
    state[CANDIDATES] = state[CANDIDATE] = state[UNKNOWN] = 0
    _read_lines(state, 0)
    db = state[PLACE] >> _DB_PLACE
    if state[UNKNOWN] >> db & 1:
        _scan(a, b, state, db)
    else:
        while db < DATABASES and state[UNKNOWN] >> db & 1 == 0:
            db += 1
        state[LIMIT] = db << _DB_PLACE
        _read_lines(state, 1)
    _sort(state)


# -------------------------------------------------------------------------------------------------------- comparison


@linked(int64(CONTEXT, int64, int64, int64))
def _entry_with(context, db, word, number):  # type: ignore[no-untyped-def]
    """Of the entries whose keys have this word, the one with this number; 0 behind the last."""
    buckets, part = db_load(context, db, DB_KEY_BUCKETS), _part_of_hash(word)
    if buckets == 0:
        return 0
    bucket = key_base(context, db) + BUCKET_SIZE * bucket_number(part, buckets)
    while bucket != 0:
        for i in range(SLOTS):
            slot = load64(context.space, bucket + 8 * i)
            if slot == 0 or slot & LINK or slot >> TAG_SHIFT != part >> TAG_SHIFT:
                continue
            if word_of(db, entry_hash(context, entry_of(slot), context.store[HASH_SEED])) == word:
                if number == 0:
                    return entry_of(slot)
                number -= 1
        bucket = next_overflow(context.space, bucket)
    return 0


@kernel
def _is_there(context, entry, now_ms):  # type: ignore[no-untyped-def]
    deadline = entry_deadline(context, entry)
    return deadline == NO_DEADLINE or deadline > now_ms


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64))
def _counterpart(a, b, db, entry, now_ms):  # type: ignore[no-untyped-def]
    """The entry of b with the same key as an entry of a; 0 for none, or a due one."""
    count = entry_key_length(a, entry)
    key, copied = pin(a.space, entry + HEADER, count), 0
    if key == 0:
        key = copied = malloc(max(count, 1))
        assert key != 0, "out of memory for a long key"
        copy_out(a.space, entry + HEADER, bytes_at(key, count), 0, count)
    slot = find_slot(b, db, key, count, entry_hash(a, entry, a.store[HASH_SEED]))
    free(copied)
    found = entry_of(load64(b.space, slot)) if slot != 0 else 0
    return found if found != 0 and _is_there(b, found, now_ms) else 0


@linked(int64(int64[::1], int64))
def _out_room(state, count):  # type: ignore[no-untyped-def]
    """Room for `count` more bytes about differences: 1, or 0 when memory ran out."""
    needed = state[OUT_LENGTH] + count
    if needed > state[OUT_CAPACITY]:
        capacity = max(needed, 2 * state[OUT_CAPACITY], 4096)
        moved = realloc(state[OUT], capacity)
        if moved == 0:
            return 0
        state[OUT], state[OUT_CAPACITY] = moved, capacity
    return 1


@kernel
def _put_line(out, at, kind, number):  # type: ignore[no-untyped-def]
    out[at] = kind
    at += 1
    at += put_decimal(out, at, number)
    out[at], out[at + 1] = 13, 10
    return at + 2


@linked(void(CONTEXT, int64[::1], int64, int64, int64))
def _tell(context, state, db, entry, what):  # type: ignore[no-untyped-def]
    """Add the reply about a difference: the database, the key, and what has become of it."""
    count = entry_key_length(context, entry)
    fits = _out_room(state, count + 100)
    assert fits, "out of memory for a reply"
    out, at = bytes_at(state[OUT], state[OUT_CAPACITY]), state[OUT_LENGTH]
    at = _put_line(out, at, 42, 3)
    at = _put_line(out, at, 58, db)
    at = _put_line(out, at, 36, count)
    copy_out(context.space, entry + HEADER, out, at, count)
    out[at + count], out[at + count + 1] = 13, 10
    at += count + 2
    size = _TEXT_START[what + 1] - _TEXT_START[what]
    copy_bytes(out, at, _TEXT, _TEXT_START[what], size)
    state[OUT_LENGTH] = at + size
    state[FOUND] += 1


@linked(int64(CONTEXT, CONTEXT, int64[::1], int64, int64))
def _compare_entry(here, there, state, db, entry):  # type: ignore[no-untyped-def]
    """Compare an entry of the store at hand with that of the other store: 1, or 0 with the budget used up."""
    if not _is_there(here, entry, state[NOW]):
        return 1
    other = _counterpart(here, there, db, entry, state[NOW])
    if other == 0:
        _tell(here, state, db, entry, _GONE if state[SIDE] == 0 else _NEW)
    elif state[SIDE] == 0:
        code = compare_entries(here, there, entry, other, _same(state), _comparing(state))
        if code == MORE:
            return 0
        if code == DIFFERENT:
            _tell(here, state, db, entry, _CHANGED)
    return 1


@linked(int64(CONTEXT, CONTEXT, int64[::1], int64))
def _compare(a, b, state, word):  # type: ignore[no-untyped-def]
    """Compare the keys that have this word: 1, or 0 with the budget used up."""
    comparing, db = _comparing(state), word >> (_DB_PLACE + TAG_BITS)
    while state[SIDE] < 2:
        if state[SIDE] == 0:
            entry = _entry_with(a, db, word, state[ENTRIES])
            done = _compare_entry(a, b, state, db, entry) if entry != 0 else 1
        else:
            entry = _entry_with(b, db, word, state[ENTRIES])
            done = _compare_entry(b, a, state, db, entry) if entry != 0 else 1
        if done == 0:
            return 0
        state[ENTRIES] += 1
        if entry == 0:
            state[SIDE] += 1
            state[ENTRIES] = 0
        comparing[LEFT] -= 2 * ELEMENT_COST
        compare_begin(comparing, comparing[LEFT])
    state[SIDE] = 0
    return 1


@kernel
def _is_full(state):  # type: ignore[no-untyped-def]
    return state[FOUND] >= state[WANTED] or state[OUT_LENGTH] >= OUT_MAX


@linked(int64(CONTEXT, CONTEXT, int64[::1]))
def _go_on(a, b, state):  # type: ignore[no-untyped-def]
    """Go on with a comparison: 1 at its end, with the next cursor in PLACE; 0 with the budget used up."""
    while True:
        while state[CANDIDATE] < state[CANDIDATES]:
            word = state[_CANDIDATES + state[CANDIDATE]]
            if _is_full(state) and word >> TAG_BITS != state[TOLD]:
                state[PLACE] = word >> TAG_BITS
                return 1
            found = state[FOUND]
            if _comparing(state)[LEFT] <= 0 or _compare(a, b, state, word) == 0:
                return 0
            if state[FOUND] > found:
                state[TOLD] = word >> TAG_BITS
            state[CANDIDATE] += 1
        state[PLACE] = state[LIMIT]
        if state[PLACE] >= END_PLACE:
            state[PLACE] = 0
            return 1
        if _is_full(state):
            return 1
        if _comparing(state)[LEFT] <= 0:
            return 0
        _gather(a, b, state)


# ------------------------------------------------------------------------------------------------ beginning and ending


@view
def difference_at(address):  # type: ignore[no-untyped-def]
    """A comparison, int64[_WORDS]."""
    return words_at(address, _WORDS)


@linked(int64(CONTEXT, int64))
def difference_of(context, slot):  # type: ignore[no-untyped-def]
    """Address of the comparison of the connection in `slot` that is under way, 0 for none."""
    address = context.shard[DIFFS_FIRST]
    while address != 0 and difference_at(address)[SLOT] != slot:
        address = difference_at(address)[NEXT]
    return address


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64))
def difference_begin(a, b, slot, cursor, wanted):  # type: ignore[no-untyped-def]
    """Begin to compare two stores from a cursor on, for the connection in `slot`: its address, 0 without memory."""
    address, shard = malloc(8 * _WORDS), a.shard
    if address == 0:
        return 0
    state = difference_at(address)
    for i in range(_COMPARING):
        state[i] = 0
    state[SLOT], state[NEXT], state[BEGAN], state[WANTED] = slot, shard[DIFFS_FIRST], cursor, wanted
    shard[DIFFS_FIRST] = address
    state[NOW], state[TOLD] = shard[NOW_MS], -1
    state[PLACE] = state[LIMIT] = cursor
    state[FIRST_CONTEXT], state[SECOND_CONTEXT] = a.store[CONTEXT_ADDRESS], b.store[CONTEXT_ADDRESS]
    state[FIRST_LINE], state[SECOND_LINE] = a.store[LINE], b.store[LINE]
    sameness_clear(_same(state))
    compare_begin(_comparing(state), 0)
    return address


@linked(int64(int64, int64))
def difference_step(address, budget):  # type: ignore[no-untyped-def]
    """Go on with a comparison, with this budget: 1 at its end, with the next cursor in PLACE; 0 if there is more."""
    state = difference_at(address)
    _comparing(state)[LEFT] = budget
    return _go_on(context_at(state[FIRST_CONTEXT]), context_at(state[SECOND_CONTEXT]), state)


@kernel
def _open(context, state, which, root):  # type: ignore[no-untyped-def]
    # A context over a frozen root, on the registers of the main store: the other one may be dropped meanwhile.
    source = words_at(context.shard[MAIN_CONTEXT], CONTEXT_WORDS)
    address = int64(state.ctypes.data) + 8 * (_RECORDS + which * CONTEXT_WORDS)
    record = words_at(address, CONTEXT_WORDS)
    for i in range(CONTEXT_WORDS):
        record[i] = source[i]
    if space_open(context.space, source, record, root, 1) < 0:
        return 0
    state[FIRST_CONTEXT + which] = address
    return 1


@kernel
def _close(context, state, which):  # type: ignore[no-untyped-def]
    release_root(context, space_close(context_at(state[FIRST_CONTEXT + which]).space))


@linked(int64(CONTEXT, int64))
def difference_freeze(context, address):  # type: ignore[no-untyped-def]
    """Freeze the stores of a comparison as they are: 1, or 0 with nothing changed without a frame or a space for it."""
    state, at_hand = difference_at(address), context.shard[CONTEXT_AT_HAND]
    if state[FROZEN]:
        return 1
    if not has_frames(context.space, 2):
        return 0
    come_to_hand(context, context.shard[MAIN_CONTEXT])  # on whose account the two roots go
    one = fork(context_at(state[FIRST_CONTEXT]).space, CONSTANT)
    other = fork(context_at(state[SECOND_CONTEXT]).space, CONSTANT)
    come_to_hand(context, at_hand)
    assert one >= 0 and other >= 0, "no frames were reserved for two roots"
    if _open(context, state, 0, one) == 0:
        release_root(context, one)
        release_root(context, other)
        return 0
    if _open(context, state, 1, other) == 0:
        _close(context, state, 0)
        release_root(context, other)
        return 0
    state[FROZEN] = 1
    state[FIRST_LINE], state[SECOND_LINE] = line_begin(state[FIRST_LINE]), line_begin(state[SECOND_LINE])
    main_of(context).store[FROZEN_ROOTS] += 1
    return 1


@linked(void(CONTEXT, int64))
def difference_end(context, address):  # type: ignore[no-untyped-def]
    """The end of a comparison under way; what it has found goes with it."""
    state, shard = difference_at(address), context.shard
    if shard[DIFFS_FIRST] == address:
        shard[DIFFS_FIRST] = state[NEXT]
    else:
        before = shard[DIFFS_FIRST]
        while difference_at(before)[NEXT] != address:
            before = difference_at(before)[NEXT]
        difference_at(before)[NEXT] = state[NEXT]
    if state[FROZEN]:
        _close(context, state, 0)
        _close(context, state, 1)
        line_end(context, state[FIRST_LINE])
        line_end(context, state[SECOND_LINE])
        main_of(context).store[FROZEN_ROOTS] -= 1
    free(state[OUT])
    free(address)


@linked(void(CONTEXT, int64))
def _leave(context, slot):  # type: ignore[no-untyped-def]
    address = difference_of(context, slot)
    if address != 0:
        difference_end(context, address)


@kernel
def leave_difference(context, slot):  # type: ignore[no-untyped-def]
    """The connection does not go on with its comparison, if one is under way."""
    if context.shard[DIFFS_FIRST] != 0:
        _leave(context, slot)
