"""Whether two entries have the same value and deadline, in two stores that were forked from each other.

    compare_begin(state, budget)
    code = compare_entries(a, b, one, other, same, state)        SAME, DIFFERENT, or MORE: the budget is used up

It compares contents and not their form: a set is the same as integers, as a packed or as a table, and the same value
written again is no difference.  Nothing is estimated: no digest stands for a value.

What makes it fast is that the two stores share frames (mmcore/sameness.py).  A page that they have in common is not
looked into:

    string          by page, or by 2 MiB where a whole page table is shared
    table           bucket by bucket, if both tables lie at the same place and have equally many buckets.  A slot in a
                    shared page has the same word in both stores; if the element lies in a shared page, too, it is the
                    same.  So a hash of a million fields costs a look at each slot, and no look at an element but those
                    in the pages that were changed
    other tables    each element of the one is looked up in the other.  They have equally many elements, so one way is
                    enough
    small ones      likewise; usually the elements are in the same order, and each is found at once
    list            element by element, except for packeds in shared pages

A difference ends the comparison at once, so most comparisons are short.  A comparison can be interrupted behind any
element, and goes on in the next turn.  Until its end nothing may change in either store.  One element is compared in
one piece, however long it is.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.entries import (
    LARGE,
    LIST,
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
from kvstore.structures.collection import root_count
from kvstore.structures.element import (
    element_bytes,
    element_hash,
    element_is,
    element_key,
    element_key_length,
    element_payload,
    element_payload_length,
    pin,
)
from kvstore.structures.hash import hash_bytes
from kvstore.structures.ints import ints_at, ints_count
from kvstore.structures.kinds import INTS, PACKED, RECORD, kind_of
from kvstore.structures.packed import packed_count, packed_is_long, packed_item
from kvstore.structures.record import BASE, BUCKETS
from kvstore.structures.table import table_at, table_find
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.numerals import put_decimal
from mmcore.jit import boolean, bytes64, equal_bytes, int64, kernel, linked
from mmcore.mmu import copy_out, load64, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.sameness import is_same_page, same_until
from mmcore.state import CR3, SPACE

SAME, DIFFERENT, MORE = range(3)
# The state, int64[COMPARE_WORDS]: what is being compared; the next byte, bucket or element; where the last element was
# found; what is left of the budget; two walks, or the digits of an integer.
_STAGE, _AT, _HINT, LEFT, _ROOM = range(5)
COMPARE_WORDS = _ROOM + 2 * WALK_WORDS
_BEGIN, _STRING, _ELEMENTS = range(3)
# What the budget counts, some 40 ns each.
PAGE_COST, ELEMENT_COST = 8, 6
_FIRST, _SECOND = _ROOM, _ROOM + WALK_WORDS  # the walks
# The place of an entry's element in `walk`, see structures/walk.py.
_HERE, _PLACE = 2, 3


@kernel
def compare_begin(state, budget):  # type: ignore[no-untyped-def]
    """Begin with two entries."""
    state[_STAGE], state[LEFT] = _BEGIN, budget


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def _same_bytes(x, y, at, other, count):  # type: ignore[no-untyped-def]
    """Whether the `count` bytes at `at` in x are those at `other` in y."""
    memory = x.mem.bytes
    while count > 0:
        piece = min(count, min(PAGE_SIZE - (at & PAGE_MASK), PAGE_SIZE - (other & PAGE_MASK)))
        here, there = read_address(x, at), read_address(y, other)
        if here != there and not equal_bytes(memory, here, memory, there, piece):
            return False
        at += piece
        other += piece
        count -= piece
    return True


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def _same_payload(x, y, element, other, scored):  # type: ignore[no-untyped-def]
    """Whether two elements have the same payload; with `scored`, it is a score, which may be shortened."""
    size, others = element_payload_length(x, element), element_payload_length(y, other)
    if scored and (size != WORD_SIZE or others != WORD_SIZE):  # a packed does not tell -0 from 0
        return ordered(element_score(x, element)) == ordered(element_score(y, other))
    return size == others and _same_bytes(x, y, element_payload(x, element), element_payload(y, other), size)


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def _same_element(x, y, element, other, scored):  # type: ignore[no-untyped-def]
    """Whether two elements are the same."""
    k = element_key_length(x, element)
    if k != element_key_length(y, other):
        return False
    if not _same_bytes(x, y, element_key(x, element), element_key(y, other), k):
        return False
    return _same_payload(x, y, element, other, scored)


@linked(boolean(SPACE, SPACE, int64, int64, int64, int64))
def _is_in_table(x, y, element, root, scored, seed):  # type: ignore[no-untyped-def]
    """Whether the table of a record in y has an element of x."""
    k, at = element_key_length(x, element), element_key(x, element)
    key, copied = pin(x, at, k), 0
    if key == 0:
        key = copied = malloc(k)
        assert key != 0, "out of memory for a long key"
        copy_out(x, at, bytes_at(key, k), 0, k)
    slot = table_find(y, root, element_hash(x, element, seed), key, k)
    free(copied)
    return slot != 0 and _same_payload(x, y, element, table_at(y, slot), scored)


@linked(boolean(SPACE, SPACE, int64, int64, int64, int64[::1]))
def _is_in_packed(x, y, element, root, scored, state):  # type: ignore[no-untyped-def]
    """Whether a packed in y has an element of x, which lies in a packed."""
    k, count = element_key_length(x, element), packed_count(y, root)
    key = pin(x, element_key(x, element), k)
    for i in range(count):
        place = (state[_HINT] + i) % count
        item = packed_item(y, root, place)
        if element_is(y, item, key, k):
            state[_HINT] = place + 1
            return _same_payload(x, y, element, item, scored)
        state[LEFT] -= 1
    return False


@linked(boolean(SPACE, int64, int64, int64, int64[::1]))
def _has_integer(y, root, value, seed, state):  # type: ignore[no-untyped-def]
    """Whether a set in y, a packed or a record, has an integer."""
    key = int64(state.ctypes.data) + 8 * _ROOM
    digits = bytes_at(key, 8 * WALK_WORDS)
    k = put_decimal(digits, 0, value)
    if kind_of(y, root) == RECORD:
        return table_find(y, root, hash_bytes(digits, 0, k, seed), key, k) != 0
    for i in range(packed_count(y, root)):
        if element_is(y, packed_item(y, root, i), key, k):
            return True
        state[LEFT] -= 1
    return False


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1]))
def _compare_small(x, y, root, other, scored, seed, state):  # type: ignore[no-untyped-def]
    """Look for each element of INTS or of a packed in x in a value of y that is not INTS, unless both are."""
    ints, large = kind_of(x, root) == INTS, kind_of(y, other) == RECORD
    count = ints_count(x, root) if ints else packed_count(x, root)
    while state[_AT] < count:
        if state[LEFT] <= 0:
            return MORE
        if ints:
            value = ints_at(x, root, state[_AT])
            if kind_of(y, other) == INTS:
                found = ints_at(y, other, state[_AT]) == value
            else:
                found = _has_integer(y, other, value, seed, state)
        else:
            element = packed_item(x, root, state[_AT])
            if large:
                found = _is_in_table(x, y, element, other, scored, seed)
            else:
                found = _is_in_packed(x, y, element, other, scored, state)
        if not found:
            return DIFFERENT
        state[_AT] += 1
        state[LEFT] -= ELEMENT_COST
    return SAME


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1], int64[::1]))
def _compare_tables(x, y, root, other, scored, seed, same, state):  # type: ignore[no-untyped-def]
    """Look for each element of a table in x in a table of y."""
    mem, one, two = x.mem, x.cpu[CR3], y.cpu[CR3]
    base, buckets = load64(x, root + BASE), load64(x, root + BUCKETS)
    aligned = base == load64(y, other + BASE) and buckets == load64(y, other + BUCKETS)
    number, left = state[_AT], state[LEFT]
    while number < buckets:
        if left <= 0:
            state[_AT], state[LEFT] = number, left
            return MORE
        bucket = base + BUCKET_SIZE * number
        shared = aligned and is_same_page(mem, one, two, same, bucket)
        left -= 1
        while bucket != 0:
            pa = read_address(x, bucket)
            for i in range(SLOTS):
                word = bytes64(mem.bytes, pa + 8 * i)
                if word == 0 or word & LINK:
                    continue
                element = word & ADDRESS
                # An element at the start of a page may be a run of pages.
                if shared and element & PAGE_MASK and is_same_page(mem, one, two, same, element):
                    continue
                left -= ELEMENT_COST
                if shared and _same_bytes(x, y, element, element, element_bytes(x, element)):
                    continue
                if not _is_in_table(x, y, element, other, scored, seed):
                    return DIFFERENT
            word = bytes64(mem.bytes, pa + LAST)
            bucket = word & ADDRESS if word & LINK else 0
            shared = shared and bucket != 0 and is_same_page(mem, one, two, same, bucket)
        number += 1
    state[LEFT] = left
    return SAME


@linked(int64(SPACE, SPACE, int64[::1], int64[::1]))
def _compare_lists(x, y, same, state):  # type: ignore[no-untyped-def]
    """Compare two lists of the same length element by element."""
    here = words_at(int64(state.ctypes.data) + 8 * _FIRST, WALK_WORDS)
    there = words_at(int64(state.ctypes.data) + 8 * _SECOND, WALK_WORDS)
    mem, one, two = x.mem, x.cpu[CR3], y.cpu[CR3]
    while state[LEFT] > 0:
        packed = here[_HERE]
        if packed != 0 and packed == there[_HERE] and here[_PLACE] == there[_PLACE]:
            if is_same_page(mem, one, two, same, packed) and not packed_is_long(x, packed):
                here[_PLACE] = there[_PLACE] = packed_count(x, packed)
        element, other = walk_next(x, here), walk_next(y, there)
        if element == 0:
            return SAME
        if not _same_element(x, y, element, other, 0):
            return DIFFERENT
        state[LEFT] -= ELEMENT_COST
    return MORE


@linked(int64(CONTEXT, CONTEXT, int64, int64, int64[::1], int64[::1]))
def _compare_elements(a, b, one, other, same, state):  # type: ignore[no-untyped-def]
    """Compare two values of the same type, which have roots."""
    x, y, root, others = a.space, b.space, entry_root(a, one), entry_root(b, other)
    type_, seed = entry_type(a, one), a.store[HASH_SEED]
    if state[_STAGE] == _BEGIN:
        if root_count(x, root) != root_count(y, others):
            return DIFFERENT
        state[_STAGE] = _ELEMENTS
        state[_AT] = state[_HINT] = 0
        if type_ == LIST:
            walk_begin(x, root, words_at(int64(state.ctypes.data) + 8 * _FIRST, WALK_WORDS))
            walk_begin(y, others, words_at(int64(state.ctypes.data) + 8 * _SECOND, WALK_WORDS))
    if type_ == LIST:
        return _compare_lists(x, y, same, state)
    scored, kind, others_kind = 1 if type_ == ZSET else 0, kind_of(x, root), kind_of(y, others)
    if kind == RECORD and others_kind == RECORD:
        return _compare_tables(x, y, root, others, scored, seed, same, state)
    if kind == RECORD or (others_kind == INTS and kind == PACKED):
        return _compare_small(y, x, others, root, scored, seed, state)
    return _compare_small(x, y, root, others, scored, seed, state)


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
        if not _same_bytes(x, y, va, others + state[_AT], piece):
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
