"""The difference of two named stores: which keys are new, gone or changed in one as against the other.

    candidates.py           keys that may differ
    store/comparing.py      each of them in both stores: type, deadline, value

A cursor is a place in the order of keys (candidates.py).  It stays usable whatever happens to the stores: keys in front
of it have been compared, all others have not.  A client that follows the cursors to their end is told of each key that
differs throughout, and of none that never does.

A key that is due is absent, in both stores, whether it has been deleted or not.  So its lazy deletion in one of them is
no difference.

A comparison that does not end within its first turn goes on in the next ones, while other clients are served.  Nothing
it reads may change meanwhile, so it freezes both stores then: it forks their roots, and their lines.  Usually it need
not.  Its findings so far hold for the same moment.

    a comparison, int64[_WORDS]     the state of candidates.py
                                    what is known of the call, the names of which are below
                                    the records of two contexts, over the frozen roots

Comparisons under way are a list of the shard's.  One ends with its reply, with an error, or with its connection.
"""

from kvstore.branches.candidates import (
    CANDIDATES,
    DB_PLACE,
    END_PLACE,
    FIRST_CANDIDATE,
    FIRST_LINE,
    GATHER_WORDS,
    LIMIT,
    PLACE,
    SECOND_LINE,
    STATE_WORDS,
    TAG_BITS,
    comparing_of,
    gather,
    part_of_hash,
    same_of,
    word_of,
)
from kvstore.branches.lines import line_begin, line_end
from kvstore.lifetimes.context import CONTEXT, CONTEXT_WORDS, context_at
from kvstore.lifetimes.pool import LENT_ROOTS
from kvstore.lifetimes.shard import DIFFS_FIRST, MAIN_CONTEXT, NOW_MS
from kvstore.lifetimes.store import CONTEXT_ADDRESS, HASH_SEED, LINE
from kvstore.store.comparing import ELEMENT_COST, compare_begin, compare_entries
from kvstore.store.comparing_bytes import DIFFERENT, LEFT, MORE
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import NO_DEADLINE, entry_deadline, entry_hash, entry_key, entry_key_length
from kvstore.store.flush import release_root
from kvstore.store.index import entry_of
from kvstore.store.layout import DB_KEY_BUCKETS
from kvstore.store.lookup import find_slot
from kvstore.structures.buckets import BUCKET_SIZE, LINK, SLOTS, TAG_SHIFT, next_overflow
from kvstore.structures.element import pin
from kvstore.structures.linear import bucket_number
from kvstore.system.libc import bytes_at, free, malloc, realloc, words_at
from kvstore.wire.numerals import put_decimal
from mmcore.fork import CONSTANT, fork
from mmcore.frames import has_frames
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, view, void
from mmcore.mmu import copy_out, load64
from mmcore.sameness import sameness_clear
from mmcore.spaces import space_close, space_open

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
    CANDIDATE,  # the number of the one at hand
    SIDE,  # of this one: the store whose entries are looked at, 0 or 1; and how many have been
    ENTRIES,
    TOLD,  # the place of the last difference, -1 for none
    FOUND,  # differences
    OUT,  # address of the replies about them, their length, the capacity
    OUT_LENGTH,
    OUT_CAPACITY,
    WITHOUT_MEMORY,  # not 0: there was none for a long key, or for the replies
) = range(GATHER_WORDS, GATHER_WORDS + 19)
_RECORDS = GATHER_WORDS + 19
_WORDS = _RECORDS + 2 * CONTEXT_WORDS

FIRST_BUDGET, TURN_BUDGET = 25_000, 5_000  # of the first turn, some 1 ms, and of each further one
OUT_MAX = 1 << 20  # [bytes] of replies, after which a call ends
_GONE, _NEW, _CHANGED = range(3)
_TEXTS = b"$4\r\ngone\r\n", b"$3\r\nnew\r\n", b"$7\r\nchanged\r\n"
_TEXT = constant(b"".join(_TEXTS))
_TEXT_START = constant([sum(map(len, _TEXTS[:i])) for i in range(4)], int64)


@linked(int64(CONTEXT, int64, int64, int64))
def _entry_with(context, db, word, number):  # type: ignore[no-untyped-def]
    """Of the entries whose keys have this word, the one with this number; 0 behind the last."""
    buckets, part = db_load(context, db, DB_KEY_BUCKETS), part_of_hash(word)
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


@linked(int64(CONTEXT, CONTEXT, int64[::1], int64, int64))
def _counterpart(a, b, state, db, entry):  # type: ignore[no-untyped-def]
    """The entry of b with the same key as an entry of a; 0 for none, or a due one, or WITHOUT_MEMORY."""
    count = entry_key_length(a, entry)
    key, copied = pin(a.space, entry_key(a, entry), count), 0
    if key == 0:
        key = copied = malloc(max(count, 1))
        if key == 0:
            state[WITHOUT_MEMORY] = 1
            return 0
        copy_out(a.space, entry_key(a, entry), bytes_at(key, count), 0, count)
    slot = find_slot(b, db, key, count, entry_hash(a, entry, a.store[HASH_SEED]))
    free(copied)
    found = entry_of(load64(b.space, slot)) if slot != 0 else 0
    return found if found != 0 and _is_there(b, found, state[NOW]) else 0


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
    if _out_room(state, count + 100) == 0:
        state[WITHOUT_MEMORY] = 1
        return
    out, at = bytes_at(state[OUT], state[OUT_CAPACITY]), state[OUT_LENGTH]
    at = _put_line(out, at, 42, 3)
    at = _put_line(out, at, 58, db)
    at = _put_line(out, at, 36, count)
    copy_out(context.space, entry_key(context, entry), out, at, count)
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
    other = _counterpart(here, there, state, db, entry)
    if state[WITHOUT_MEMORY]:
        return 0
    if other == 0:
        _tell(here, state, db, entry, _GONE if state[SIDE] == 0 else _NEW)
    elif state[SIDE] == 0:
        code = compare_entries(here, there, entry, other, same_of(state), comparing_of(state))
        if code == MORE:
            return 0
        if code == DIFFERENT:
            _tell(here, state, db, entry, _CHANGED)
    return 1


@linked(int64(CONTEXT, CONTEXT, int64[::1], int64))
def _compare(a, b, state, word):  # type: ignore[no-untyped-def]
    """Compare the keys that have this word: 1, or 0 with the budget used up."""
    comparing, db = comparing_of(state), word >> (DB_PLACE + TAG_BITS)
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
    """Go on with a comparison: 1 at its end, with the next cursor in PLACE, or WITHOUT_MEMORY; 0 if there is more."""
    while True:
        while state[CANDIDATE] < state[CANDIDATES]:
            word = state[FIRST_CANDIDATE + state[CANDIDATE]]
            if _is_full(state) and word >> TAG_BITS != state[TOLD]:
                state[PLACE] = word >> TAG_BITS
                return 1
            found = state[FOUND]
            if comparing_of(state)[LEFT] <= 0 or _compare(a, b, state, word) == 0:
                return state[WITHOUT_MEMORY]
            if state[WITHOUT_MEMORY]:
                return 1
            if state[FOUND] > found:
                state[TOLD] = word >> TAG_BITS
            state[CANDIDATE] += 1
        state[PLACE] = state[LIMIT]
        if state[PLACE] >= END_PLACE:
            state[PLACE] = 0
            return 1
        if _is_full(state):
            return 1
        if comparing_of(state)[LEFT] <= 0:
            return 0
        gather(a, b, state)
        state[CANDIDATE] = 0


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
    for i in range(STATE_WORDS):
        state[i] = 0
    for i in range(GATHER_WORDS, _RECORDS):
        state[i] = 0
    state[SLOT], state[NEXT], state[BEGAN], state[WANTED] = slot, shard[DIFFS_FIRST], cursor, wanted
    shard[DIFFS_FIRST] = address
    state[NOW], state[TOLD] = shard[NOW_MS], -1
    state[PLACE] = state[LIMIT] = cursor
    state[FIRST_CONTEXT], state[SECOND_CONTEXT] = a.store[CONTEXT_ADDRESS], b.store[CONTEXT_ADDRESS]
    state[FIRST_LINE], state[SECOND_LINE] = a.store[LINE], b.store[LINE]
    sameness_clear(same_of(state))
    compare_begin(comparing_of(state), 0)
    return address


@linked(int64(int64, int64))
def difference_step(address, budget):  # type: ignore[no-untyped-def]
    """Go on with a comparison, with this budget; see _go_on."""
    state = difference_at(address)
    comparing_of(state)[LEFT] = budget
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
    state = difference_at(address)
    if state[FROZEN]:
        return 1
    if not has_frames(context.space, 2):
        return 0
    one = fork(context_at(state[FIRST_CONTEXT]).space, CONSTANT)
    other = fork(context_at(state[SECOND_CONTEXT]).space, CONSTANT)
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
    context.pool[LENT_ROOTS] += 2
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
        context.pool[LENT_ROOTS] -= 2
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
