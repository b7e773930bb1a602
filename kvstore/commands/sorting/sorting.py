"""SORT and SORT_RO: the elements of a list, a set or a sorted set in the order of numbers or texts.

The elements become rows (elements.py), and each row a pair of its number and what it is sorted by.  Elements of the
same number are sorted by their texts, as in Redis.  Elements that are equal even so keep the order that they have; that
needs values that BY names.  Texts are compared as bytes, up to a zero byte unless the result is stored.

A long SORT whose result is replied goes aside (store/aside.py).  An element counts as a field of a hash does, and each
key that is looked up for it as another.  The keys that patterns name are then not counted as hits or misses.  A SORT
that stores its result writes, so it is made in one turn, as in Redis.

A sorted set stays what it is, while Redis makes a large one of a small one that it sorts.
"""

from kvstore.commands.sortedsets.gathered import (
    ADDRESS,
    COUNT,
    ROW,
    ROWS,
    SCORE,
    gather_begin,
    gather_end,
    gathered,
    gathered_row,
)
from kvstore.commands.sortedsets.gathered import LENGTH as ROW_LENGTH
from kvstore.commands.sorting.elements import load_all, load_ranks
from kvstore.commands.sorting.options import (
    ALPHA,
    BY,
    DESCENDING,
    GETS,
    LIMIT,
    OFFSET,
    STORE_AT,
    UNSORTED,
    next_get,
    options_at_hand,
    sort_options,
)
from kvstore.commands.sorting.patterns import find_by, found_by, patterns_begin, patterns_end
from kvstore.commands.sorting.storing import store_sorted
from kvstore.commands.sorting.texts import (
    IN_PROCESS,
    LENGTH,
    NO_TEXT,
    REFERENCE,
    TEXT,
    copy_text,
    reply_text,
    sort_texts,
    text_at,
    text_end,
)
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.store.aside import goes_aside
from kvstore.store.entries import HASH, SET, STREAM, STRING, entry_root, entry_type
from kvstore.store.leaving import reply_leaves
from kvstore.store.lookup import lookup_read
from kvstore.structures.collection import root_count
from kvstore.structures.pairs import KEY, NUMBER, PAIR, pairs_at
from kvstore.system.libc import bytes_at, errno, free, malloc, set_errno
from kvstore.wire.arguments import argument
from kvstore.wire.doubles import NO_DOUBLE, double_of_bits, read_double, sortable
from kvstore.wire.errors import OUT_OF_RESULT, SCORES_NOT_FLOAT, WRONG_TYPE
from kvstore.wire.resp import reply_array, reply_error, reply_length, reply_null, reply_truncate
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

DONE, NOT_NUMBERS, NO_MEMORY = range(3)
_ERANGE = 34


@linked(int64(CONTEXT, int64, int64))
def _number_in(context, reference, k):  # type: ignore[no-untyped-def]
    """The bits of the number that a text begins and ends with, up to a zero byte; NO_DOUBLE if it is none."""
    set_errno(0)
    if reference & IN_PROCESS:
        return read_double(bytes_at(reference ^ IN_PROCESS, k), 0, k, 1)
    if (reference & PAGE_MASK) + k <= PAGE_SIZE:
        bits = read_double(context.space.mem.bytes, read_address(context.space, reference), k, 1)
    else:
        copy = malloc(k)
        if copy == 0:
            return NO_DOUBLE
        copy_text(context, reference, k, copy)
        bits = read_double(bytes_at(copy, k), 0, k, 1)
        free(copy)
    return NO_DOUBLE if errno() == _ERANGE else bits


@linked(int64(CONTEXT))
def _score_rows(context):  # type: ignore[no-untyped-def]
    """Give each row the word of the number that it is sorted by, 0 where BY finds none: DONE, or what went wrong."""
    options, found, outcome = options_at_hand(context), found_by(context), DONE
    for i in range(gathered(context)[COUNT]):
        row, bits = gathered_row(context, i), 0
        reference, k = row[ADDRESS], row[ROW_LENGTH]
        if options[BY]:
            if is_given_up(context):
                break
            if not find_by(context, options[BY], reference, k):
                return NO_MEMORY
            reference, k = found[REFERENCE], found[LENGTH]
        if k != NO_TEXT:
            bits = _number_in(context, reference, k)
            if bits == NO_DOUBLE:
                bits, outcome = 0, NOT_NUMBERS
        row[SCORE] = sortable(double_of_bits(bits))
    return outcome


@linked(int64(CONTEXT, int64))
def _find_texts(context, texts):  # type: ignore[no-untyped-def]
    """Fill so many texts as there are rows by what each is sorted by: DONE, or NO_MEMORY."""
    options, found = options_at_hand(context), found_by(context)
    for i in range(gathered(context)[COUNT]):
        row, text = gathered_row(context, i), text_at(texts, TEXT, i)
        text[REFERENCE], text[LENGTH] = row[ADDRESS], row[ROW_LENGTH]
        if options[BY]:
            if is_given_up(context):
                break
            if not find_by(context, options[BY], row[ADDRESS], row[ROW_LENGTH]):
                return NO_MEMORY
            text[REFERENCE], text[LENGTH] = found[REFERENCE], found[LENGTH]
        if options[STORE_AT] == 0:
            text[LENGTH] = text_end(context, text[REFERENCE], text[LENGTH]) if text[LENGTH] != NO_TEXT else NO_TEXT
    return DONE


@linked(int64(CONTEXT, int64))
def _sort_by_texts(context, order):  # type: ignore[no-untyped-def]
    """Sort the pairs at an address by texts: DONE, or NO_MEMORY."""
    count, flip = gathered(context)[COUNT], -options_at_hand(context)[DESCENDING]
    texts = malloc(8 * TEXT * max(count, 1))
    if texts == 0:
        return NO_MEMORY
    outcome = _find_texts(context, texts)
    if outcome == DONE and not sort_texts(context, order, count, texts, TEXT, flip, 0):
        outcome = NO_MEMORY
    free(texts)
    return outcome


@linked(int64(CONTEXT, int64))
def _sort_by_numbers(context, order):  # type: ignore[no-untyped-def]
    """Sort the pairs at an address by numbers: DONE, or what went wrong."""
    count, flip = gathered(context)[COUNT], -options_at_hand(context)[DESCENDING]
    outcome = _score_rows(context)
    if outcome != DONE:
        return outcome
    pairs = pairs_at(order, count)
    for i in range(count):
        pairs[PAIR * i + KEY] = gathered_row(context, i)[SCORE] ^ flip
    texts = gathered(context)[ROWS] + 8 * ADDRESS  # a row ends with its text
    return DONE if sort_texts(context, order, count, texts, ROW, flip, 1) else NO_MEMORY


@linked(int64(CONTEXT, int64))
def _sort(context, order):  # type: ignore[no-untyped-def]
    """Fill the pairs at an address with the numbers of the rows in order: DONE, or what went wrong."""
    options, count = options_at_hand(context), gathered(context)[COUNT]
    pairs = pairs_at(order, count)
    for i in range(count):
        pairs[PAIR * i + KEY], pairs[PAIR * i + NUMBER] = 0, i
    if options[UNSORTED]:
        return DONE
    return _sort_by_texts(context, order) if options[ALPHA] else _sort_by_numbers(context, order)


@linked(int64(CONTEXT, int64[::1]))
def _reply_row(context, row):  # type: ignore[no-untyped-def]
    """Reply one row: 1, or 0 without memory."""
    options, found, i = options_at_hand(context), found_by(context), 1
    if options[GETS] == 0:
        reply_text(context, row[ADDRESS], row[ROW_LENGTH])
    for _ in range(options[GETS]):
        i = next_get(context, i)
        if not find_by(context, i, row[ADDRESS], row[ROW_LENGTH]):
            return 0
        if found[LENGTH] == NO_TEXT:
            reply_null(context)
        else:
            reply_text(context, found[REFERENCE], found[LENGTH])
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def _reply(context, order, start, count):  # type: ignore[no-untyped-def]
    """Reply `count` rows from a place in the order on: DONE, or NO_MEMORY with nothing replied.

    A GET may want memory for a key, so a reply with GETs does not leave before its end.
    """
    length, gets = reply_length(context), options_at_hand(context)[GETS]
    reply_array(context, count * max(gets, 1))
    for i in range(start, start + count):
        if is_given_up(context):
            break
        if not _reply_row(context, gathered_row(context, pairs_at(order, start + count)[PAIR * i + NUMBER])):
            reply_truncate(context, length)
            return NO_MEMORY
        if gets == 0:
            reply_leaves(context)
    return DONE


@kernel
def _chosen(options, total):  # type: ignore[no-untyped-def]
    # (the place of the first element that LIMIT chooses, how many it chooses) of so many.
    start = min(max(options[OFFSET], 0), total)
    limit = options[LIMIT]
    return start, total - start if limit < 0 else min(limit, total - start)


@linked(int64(CONTEXT, int64, int64))
def _load(context, entry, total):  # type: ignore[no-untyped-def]
    """Load the rows, and set the place of the first one that is answered in OFFSET, and how many are in LIMIT."""
    options = options_at_hand(context)
    start, count = _chosen(options, total)
    options[OFFSET], options[LIMIT] = start, count
    in_order = options[UNSORTED] and entry != 0 and entry_type(context, entry) != SET
    if not gather_begin(context, count if in_order else total):
        return 0
    if in_order:
        options[OFFSET] = 0
        load_ranks(context, entry, total - 1 - start if options[DESCENDING] else start, count, options[DESCENDING])
        return 1
    return load_all(context, entry, total) if entry != 0 else 1


@linked(void(CONTEXT, int64, int64))
def _answer(context, entry, total):  # type: ignore[no-untyped-def]
    """Sort, and reply or store."""
    options, order, outcome = options_at_hand(context), 0, NO_MEMORY
    patterns_begin(context)
    if _load(context, entry, total):
        order = malloc(8 * PAIR * max(gathered(context)[COUNT], 1))
    if order != 0:
        outcome = _sort(context, order)
    if outcome == DONE and options[STORE_AT]:
        store_sorted(context, order, options[OFFSET], options[LIMIT])
    elif outcome == DONE:
        outcome = _reply(context, order, options[OFFSET], options[LIMIT])
    if outcome != DONE:
        reply_error(context, SCORES_NOT_FLOAT if outcome == NOT_NUMBERS else OUT_OF_RESULT)
    free(order)
    gather_end(context)
    patterns_end(context)


@linked(int64(CONTEXT, int64))
def _serve(context, may_store):  # type: ignore[no-untyped-def]
    """Serve one of the commands below."""
    if not sort_options(context, may_store):
        return SERVED
    options, total = options_at_hand(context), 0
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if entry != 0:
        type_ = entry_type(context, entry)
        if type_ == STRING or type_ == HASH or type_ == STREAM:
            reply_error(context, WRONG_TYPE)
            return SERVED
        total = root_count(context.space, entry_root(context, entry))
        if options[UNSORTED] and options[STORE_AT] and type_ == SET:
            # A set has no order, so the result would depend on chance.
            options[UNSORTED], options[ALPHA], options[BY] = 0, 1, 0
    _, count = _chosen(options, total)
    work = count * options[GETS] + (count if options[UNSORTED] else total * (1 + int64(options[BY] != 0)))
    if options[STORE_AT] == 0 and goes_aside(context, work):
        return BLOCKS
    _answer(context, entry, total)
    return SERVED


@linked(HANDLER)
def sort(context):  # type: ignore[no-untyped-def]
    """SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE key]"""
    return _serve(context, 1)


@linked(HANDLER)
def sort_ro(context):  # type: ignore[no-untyped-def]
    """SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]"""
    return _serve(context, 0)
