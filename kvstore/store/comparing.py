"""Whether two entries have the same value and deadline, in two stores that were forked from each other.

    compare_begin(state, budget)
    code = compare_entries(a, b, one, other, same, state)        SAME, DIFFERENT, or MORE: the budget is used up

It compares contents and not their form: a set is the same as integers, as a chain or as a table, and the same value
written again is no difference.  Nothing is estimated: no digest stands for a value.

It is fast because the two stores share frames (mmcore/sameness.py).  A page that they have in common is not looked
into:

    string          by page, or by 2 MiB where a whole page table is shared
    table           bucket by bucket, if both tables lie at the same place and have equally many buckets.  A slot in a
                    shared page has the same word in both stores; if the element lies in a shared page, too, it is the
                    same.  So a hash of a million fields costs a look at each slot, and no look at an element but those
                    in the pages that were changed
    other tables    each element of the one is looked up in the other.  They have equally many elements, so one way is
                    enough
    small ones      likewise
    deadlines       of a hash: the agendas of both, behind the fields, in the same way
    list            element by element, except for packeds in shared pages
    stream          likewise: see comparing_streams.py

A difference ends the comparison at once, so most comparisons are short.  A comparison can be interrupted behind any
element, and within a long one, and goes on in the next turn.  Until its end nothing may change in either store.  A name
of a field or a member that is looked up is hashed and found in one piece, however long it is.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.comparing_bytes import (
    DIFFERENT,
    LEFT,
    MORE,
    NEXT_WORD,
    SAME,
    begin_pieces,
    compare_piece,
    end_pieces,
    same_bytes,
)
from kvstore.store.comparing_streams import compare_streams
from kvstore.store.dated import agenda_of
from kvstore.store.entries import (
    HASH,
    LARGE,
    LIST,
    STREAM,
    TYPE_MASK,
    ZSET,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_root,
    entry_type,
    entry_value,
)
from kvstore.store.scores import WORD_SIZE, element_score, ordered
from kvstore.structures.buckets import ADDRESS, BUCKET_SIZE, LAST, LINK, SLOTS
from kvstore.structures.chain import chain_element
from kvstore.structures.chain_find import chain_find
from kvstore.structures.collection import root_count
from kvstore.structures.element import (
    element_bytes,
    element_hash,
    element_key,
    element_key_length,
    element_payload,
    element_payload_length,
    pin,
)
from kvstore.structures.hash import hash_bytes
from kvstore.structures.ints import ints_at, ints_count
from kvstore.structures.kinds import CHAIN, INTS, RECORD, kind_of
from kvstore.structures.packed import packed_count, packed_is_long, packed_item, packed_item_size
from kvstore.structures.record import BASE, BUCKETS
from kvstore.structures.sequence import NOWHERE, packed_where, where_first, where_next
from kvstore.structures.table import table_at, table_find
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.numerals import put_decimal
from mmcore.jit import boolean, bytes64, int64, kernel, linked
from mmcore.mmu import copy_out, load64, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.sameness import is_same_page, same_until
from mmcore.state import CR3, SPACE

# The state, int64[COMPARE_WORDS]: what is being compared; the next byte, bucket or integer; the words of
# comparing_bytes.py; elements of the next bucket that are done, and whether the one behind them has to be looked up;
# a walk, the digits of an integer, or the places in two lists.
_STAGE, _AT = range(2)
_DONE, _LOOK_UP, _ROOM = range(NEXT_WORD, NEXT_WORD + 3)
COMPARE_WORDS = _ROOM + WALK_WORDS
_BEGIN, _STRING, _ELEMENTS, _DEADLINES = range(4)
_WHERE, _ITEM, _OTHER_WHERE, _OTHER_ITEM = range(_ROOM, _ROOM + 4)  # packeds of the two lists, and places in them
_DIGITS_MAX = 20  # of an integer [bytes]
assert 8 * WALK_WORDS >= _DIGITS_MAX and COMPARE_WORDS > _OTHER_ITEM
# The units of the budget, some 40 ns each.
PAGE_COST, ELEMENT_COST = 8, 6


@kernel
def compare_begin(state, budget):  # type: ignore[no-untyped-def]
    """Begin with two entries."""
    state[_STAGE], state[LEFT] = _BEGIN, budget
    state[_DONE] = state[_LOOK_UP] = 0
    end_pieces(state)


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def _same_payload(x, y, element, other, scored):  # type: ignore[no-untyped-def]
    """Whether two elements have the same payload; with `scored`, it is a score, which may be shortened."""
    size, others = element_payload_length(x, element), element_payload_length(y, other)
    if scored and (size != WORD_SIZE or others != WORD_SIZE):  # a chain does not tell -0 from 0
        return ordered(element_score(x, element)) == ordered(element_score(y, other))
    return size == others and same_bytes(x, y, element_payload(x, element), element_payload(y, other), size)


@linked(int64(SPACE, SPACE, int64, int64, int64))
def _in_table(x, y, element, root, seed):  # type: ignore[no-untyped-def]
    """The element of the table of a record in y with the key of an element of x, 0 for none."""
    k, at = element_key_length(x, element), element_key(x, element)
    key, copied = pin(x, at, k), 0
    if key == 0:
        key = copied = malloc(k)
        assert key != 0, "out of memory for a long key"
        copy_out(x, at, bytes_at(key, k), 0, k)
    slot = table_find(y, root, element_hash(x, element, seed), key, k)
    free(copied)
    return table_at(y, slot) if slot != 0 else 0


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64, int64[::1]))
def _compare_element(x, y, element, root, in_place, scored, seed, state):  # type: ignore[no-untyped-def]
    """Look for an element of x in the table of a record in y, at its own place first if `in_place`."""
    if in_place != 0 and state[_LOOK_UP] == 0:
        begin_pieces(state)
        code = compare_piece(x, y, element, element, element_bytes(x, element), state)
        if code != DIFFERENT:
            return code
        end_pieces(state)
        state[_LOOK_UP] = 1
    other = _in_table(x, y, element, root, seed)
    if other == 0:
        return DIFFERENT
    size = element_payload_length(x, element)
    if scored or size != element_payload_length(y, other):
        return SAME if _same_payload(x, y, element, other, scored) else DIFFERENT
    begin_pieces(state)
    return compare_piece(x, y, element_payload(x, element), element_payload(y, other), size, state)


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def _is_in_chain(x, y, element, root, scored):  # type: ignore[no-untyped-def]
    """Whether a chain in y has an element of x, which lies in a chain."""
    k = element_key_length(x, element)
    place = chain_find(y, root, pin(x, element_key(x, element), k), k)
    return place >= 0 and _same_payload(x, y, element, chain_element(y, root, place), scored)


@linked(boolean(SPACE, int64, int64, int64, int64[::1]))
def _has_integer(y, root, value, seed, state):  # type: ignore[no-untyped-def]
    """Whether a set in y, a chain or a record, has an integer."""
    key = int64(state.ctypes.data) + 8 * _ROOM
    digits = bytes_at(key, _DIGITS_MAX)
    k = put_decimal(digits, 0, value)
    if kind_of(y, root) == RECORD:
        return table_find(y, root, hash_bytes(digits, 0, k, seed), key, k) != 0
    return chain_find(y, root, key, k) >= 0


@linked(int64(SPACE, SPACE, int64, int64, int64, int64[::1]))
def _compare_integers(x, y, root, other, seed, state):  # type: ignore[no-untyped-def]
    """Look for each of the integers of a set in x in a set in y."""
    count, ints = ints_count(x, root), kind_of(y, other) == INTS
    while state[_AT] < count:
        if state[LEFT] <= 0:
            return MORE
        value = ints_at(x, root, state[_AT])
        if ints:
            found = ints_at(y, other, state[_AT]) == value
        else:
            found = _has_integer(y, other, value, seed, state)
        if not found:
            return DIFFERENT
        state[_AT] += 1
        state[LEFT] -= ELEMENT_COST
    return SAME


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1]))
def _compare_chain(x, y, root, other, scored, seed, state):  # type: ignore[no-untyped-def]
    """Look for each element of a chain in x in a chain or a table in y."""
    walk, table = words_at(int64(state.ctypes.data) + 8 * _ROOM, WALK_WORDS), kind_of(y, other) == RECORD
    if state[_AT] == 0:
        state[_AT] = 1
        walk_begin(x, root, walk)
    while state[LEFT] > 0:
        element = walk_next(x, walk)
        if element == 0:
            return SAME
        if table:
            there = _in_table(x, y, element, other, seed)
            found = there != 0 and _same_payload(x, y, element, there, scored)
        else:
            found = _is_in_chain(x, y, element, other, scored)
        if not found:
            return DIFFERENT
        state[LEFT] -= ELEMENT_COST
    return MORE


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1], int64[::1]))
def _compare_tables(x, y, root, other, scored, seed, same, state):  # type: ignore[no-untyped-def]
    """Look for each element of a table in x in a table of y."""
    mem, one, two = x.mem, x.cpu[CR3], y.cpu[CR3]
    base, buckets = load64(x, root + BASE), load64(x, root + BUCKETS)
    aligned = base == load64(y, other + BASE) and buckets == load64(y, other + BUCKETS)
    while state[_AT] < buckets:
        if state[LEFT] <= 0:
            return MORE
        bucket, count = base + BUCKET_SIZE * state[_AT], 0
        shared = aligned and is_same_page(mem, one, two, same, bucket)
        while bucket != 0:
            pa = read_address(x, bucket)
            for i in range(SLOTS):
                word = bytes64(mem.bytes, pa + 8 * i)
                if word == 0 or word & LINK:
                    continue
                element = word & ADDRESS
                count += 1
                # An element at the start of a page may be a run of pages.
                if shared and element & PAGE_MASK and is_same_page(mem, one, two, same, element):
                    continue
                if count <= state[_DONE]:
                    continue
                code = _compare_element(x, y, element, other, int64(shared), scored, seed, state)
                if code != SAME:
                    return code
                state[LEFT] -= ELEMENT_COST
                state[_DONE], state[_LOOK_UP] = count, 0
                end_pieces(state)
            word = bytes64(mem.bytes, pa + LAST)
            bucket = word & ADDRESS if word & LINK else 0
            shared = shared and bucket != 0 and is_same_page(mem, one, two, same, bucket)
        state[_AT] += 1
        state[_DONE] = 0
        state[LEFT] -= 1
    return SAME


@linked(int64(SPACE, SPACE, int64, int64, int64[::1], int64[::1]))
def _compare_lists(x, y, root, others, same, state):  # type: ignore[no-untyped-def]
    """Compare two lists of the same length element by element."""
    if state[_AT] == 0:
        state[_AT] = 1
        state[_WHERE], state[_OTHER_WHERE] = where_first(x, root), where_first(y, others)
        state[_ITEM] = state[_OTHER_ITEM] = 0
    while state[LEFT] > 0:
        if state[_WHERE] == NOWHERE:
            return SAME
        packed, other = packed_where(x, root, state[_WHERE]), packed_where(y, others, state[_OTHER_WHERE])
        count, others_count, i, j = packed_count(x, packed), packed_count(y, other), state[_ITEM], state[_OTHER_ITEM]
        shared = packed == other and i == j and is_same_page(x.mem, x.cpu[CR3], y.cpu[CR3], same, packed)
        if shared and not packed_is_long(x, packed):
            i = j = count
        else:
            size = packed_item_size(x, packed, i)
            if size != packed_item_size(y, other, j):
                return DIFFERENT
            begin_pieces(state)
            code = compare_piece(x, y, packed_item(x, packed, i), packed_item(y, other, j), size, state)
            if code != SAME:
                return code
            end_pieces(state)
            i += 1
            j += 1
        if i == count:
            state[_WHERE], i = where_next(x, root, state[_WHERE]), 0
        if j == others_count:
            state[_OTHER_WHERE], j = where_next(y, others, state[_OTHER_WHERE]), 0
        state[_ITEM], state[_OTHER_ITEM] = i, j
        state[LEFT] -= ELEMENT_COST
    return MORE


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1], int64[::1]))
def _compare_roots(x, y, root, others, scored, seed, same, state):  # type: ignore[no-untyped-def]
    """Look for the elements of one collection in the other, which has as many; neither is a list."""
    kind, others_kind = kind_of(x, root), kind_of(y, others)
    if kind == RECORD and others_kind == RECORD:
        return _compare_tables(x, y, root, others, scored, seed, same, state)
    if kind == INTS:
        return _compare_integers(x, y, root, others, seed, state)
    if others_kind == INTS:
        return _compare_integers(y, x, others, root, seed, state)
    if kind == CHAIN:
        return _compare_chain(x, y, root, others, scored, seed, state)
    return _compare_chain(y, x, others, root, scored, seed, state)


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64[::1], int64[::1]))
def _compare_elements(a, b, one, other, same, state):  # type: ignore[no-untyped-def]
    """Compare two values of the same type, which have roots."""
    x, y, root, others = a.space, b.space, entry_root(a, one), entry_root(b, other)
    type_, seed = entry_type(a, one), a.store[HASH_SEED]
    if state[_STAGE] == _BEGIN:
        if root_count(x, root) != root_count(y, others):
            return DIFFERENT
        state[_STAGE], state[_AT] = _ELEMENTS, 0
    if type_ == LIST:
        return _compare_lists(x, y, root, others, same, state)
    if type_ == STREAM:
        return compare_streams(x, y, root, others, same, state)
    if state[_STAGE] == _ELEMENTS:
        code = _compare_roots(x, y, root, others, int64(type_ == ZSET), seed, same, state)
        if code != SAME or type_ != HASH:
            return code
        state[_STAGE], state[_AT] = _DEADLINES, 0
    agenda, others_agenda = agenda_of(a, root), agenda_of(b, others)
    if agenda == 0 or others_agenda == 0:
        return SAME if agenda == others_agenda else DIFFERENT
    if root_count(x, agenda) != root_count(y, others_agenda):
        return DIFFERENT
    return _compare_roots(x, y, agenda, others_agenda, 0, seed, same, state)


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64[::1], int64[::1]))
def _compare_strings(a, b, one, other, same, state):  # type: ignore[no-untyped-def]
    """Compare two strings."""
    x, y, length = a.space, b.space, entry_length(a, one)
    if state[_STAGE] == _BEGIN:
        if length != entry_length(b, other):
            return DIFFERENT
        state[_STAGE], state[_AT] = _STRING, 0
    at, others = entry_value(a, one), entry_value(b, other)
    while state[_AT] < length:
        if state[LEFT] <= 0:
            return MORE
        va = at + state[_AT]
        end = same_until(x.mem, x.cpu[CR3], y.cpu[CR3], same, va) if at == others else va
        if end > va:
            state[_AT] += end - va
            state[LEFT] -= 1
            continue
        piece = min(length - state[_AT], PAGE_SIZE - (va & PAGE_MASK))
        if not same_bytes(x, y, va, others + state[_AT], piece):
            return DIFFERENT
        state[_AT] += piece
        state[LEFT] -= PAGE_COST
    return SAME


@kernel
def is_same_entry(a, b, entry, same):  # type: ignore[no-untyped-def]
    """Whether an entry, which both stores have at this address, is known to be the same in both without a comparison.

    That is a short string in a page that they share.
    """
    if entry & PAGE_MASK == 0 or not is_same_page(a.space.mem, a.space.cpu[CR3], b.space.cpu[CR3], same, entry):
        return False
    return entry_flags(a, entry) & (TYPE_MASK | LARGE) == 0


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64[::1], int64[::1]))
def compare_entries(a, b, one, other, same, state):  # type: ignore[no-untyped-def]
    """Compare the entries `one` of a and `other` of b: SAME, DIFFERENT, or MORE with the budget used up.

    same: int64[SAMENESS_WORDS], the cache for the roots of the two stores.
    """
    if state[_STAGE] == _BEGIN:
        state[LEFT] -= ELEMENT_COST
        if one == other and is_same_entry(a, b, one, same):
            return SAME
        if entry_type(a, one) != entry_type(b, other) or entry_deadline(a, one) != entry_deadline(b, other):
            return DIFFERENT
    if entry_flags(a, one) & TYPE_MASK:
        return _compare_elements(a, b, one, other, same, state)
    return _compare_strings(a, b, one, other, same, state)
