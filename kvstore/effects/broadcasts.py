"""Tracking by prefixes: connections that are told of every change of a key that begins with one of their prefixes.

The keys that change in a turn of the loop are collected, each once, with the connection that changed it last.  At the
end of the turn `broadcast` sorts them, so that the keys with a prefix are neighbours, and writes one message for each
prefix.  A connection that does not want its own changes (NOLOOP) gets a message of its own if there are any.

    the table at BROADCAST_ADDRESS (chained.py), a row for each key; behind its header
    _TEXT, _TEXT_CAPACITY, _TEXT_LENGTH     the keys' bytes, end to end, in malloc'd memory
    _LOST                                   memory ran out for a key: all keys are told instead

BROADCAST_DUE is set while anything is collected.  When COLLECTED_MAX bytes have been, they are told at once.
"""

from kvstore.connections.chained import (
    HEADER_WORDS,
    NEXT,
    USER,
    WIDTH,
    add_row,
    first_row,
    remove_all_rows,
    row_at,
    row_count,
    table_free,
)
from kvstore.connections.interests import CONNECTION as INTERESTED
from kvstore.connections.interests import (
    NAME,
    SIZE,
    interest_at,
    interest_first,
    interest_next,
    topic_after,
    topic_at,
    topic_count,
    topic_first,
)
from kvstore.connections.table import connection
from kvstore.effects.invalidations import KEYS, NULL, TRIPLE, invalidation_begin, invalidation_tell
from kvstore.lifetimes.connection import FLAGS, ID, TRACKING_NOLOOP
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.sizes import BROADCAST_WORDS
from kvstore.lifetimes.store import BROADCAST_ADDRESS, BROADCAST_DUE, PREFIXES
from kvstore.structures.element import order_texts
from kvstore.system.libc import bytes_at, free, malloc, realloc, words_at
from mmcore.jit import copy_bytes, equal_bytes, int64, kernel, linked, view, void

COLLECTED_MAX = 1 << 20  # [bytes] of keys, with ROW_BYTES for each
ROW_BYTES = 64
PREFIXES_TRIED = 8  # if there are more, every key that changes is collected
_TEXT_KEPT = 1 << 16  # [bytes] of room that stay when nothing is collected

_START, _KEY_SIZE, _CHANGER, _WIDTH = range(USER, USER + 4)  # words of a row
_TEXT, _TEXT_CAPACITY, _TEXT_LENGTH, _LOST, _WORDS = range(HEADER_WORDS, HEADER_WORDS + 5)
assert BROADCAST_WORDS == _WORDS


@view
def _words(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[BROADCAST_ADDRESS], BROADCAST_WORDS)


@linked(int64(CONTEXT, int64, int64))
def _concerns(context, key, size):  # type: ignore[no-untyped-def]
    """Whether a key begins with one of the prefixes (0 or 1), or there are too many to try them all."""
    table = context.store[PREFIXES]
    if topic_count(table) > PREFIXES_TRIED:
        return 1
    topic = topic_first(table)
    while topic >= 0:
        prefix = topic_at(table, topic)
        if prefix[SIZE] <= size:
            if equal_bytes(bytes_at(prefix[NAME], prefix[SIZE]), 0, bytes_at(key, size), 0, prefix[SIZE]):
                return 1
        topic = topic_after(table, topic)
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _find(context, key, size, hash_):  # type: ignore[no-untyped-def]
    """The row of a key that has been collected, -1 for none."""
    table, words = context.store[BROADCAST_ADDRESS], _words(context)
    at = first_row(table, hash_)
    while at >= 0:
        row = row_at(table, at)
        if row[_KEY_SIZE] == size:
            if equal_bytes(bytes_at(words[_TEXT] + row[_START], size), 0, bytes_at(key, size), 0, size):
                return at
        at = row[NEXT]
    return -1


@linked(int64(CONTEXT, int64, int64, int64))
def _add(context, key, size, hash_):  # type: ignore[no-untyped-def]
    """A new row for a key, -1 when memory ran out."""
    table, words = context.store[BROADCAST_ADDRESS], _words(context)
    words[WIDTH] = _WIDTH
    needed = words[_TEXT_LENGTH] + size
    if needed > words[_TEXT_CAPACITY]:
        capacity = max(needed, 2 * words[_TEXT_CAPACITY], 4096)
        moved = realloc(words[_TEXT], capacity)
        if moved == 0:
            return -1
        words[_TEXT], words[_TEXT_CAPACITY] = moved, capacity
    at = add_row(table, hash_)
    if at >= 0:
        row = row_at(table, at)
        row[_START], row[_KEY_SIZE] = words[_TEXT_LENGTH], size
        copy_bytes(bytes_at(words[_TEXT] + words[_TEXT_LENGTH], size), 0, bytes_at(key, size), 0, size)
        words[_TEXT_LENGTH] = needed
    return at


@linked(void(CONTEXT))
def _drop(context):  # type: ignore[no-untyped-def]
    """Forget what has been collected."""
    words = _words(context)
    remove_all_rows(context.store[BROADCAST_ADDRESS])
    words[_TEXT_LENGTH] = words[_LOST] = context.store[BROADCAST_DUE] = 0
    if words[_TEXT_CAPACITY] > _TEXT_KEPT:
        free(words[_TEXT])
        words[_TEXT] = words[_TEXT_CAPACITY] = 0


@linked(void(CONTEXT))
def broadcasts_free(context):  # type: ignore[no-untyped-def]
    """Forget what has been collected, and free its memory: nobody uses the store any more."""
    words = _words(context)
    _drop(context)
    table_free(context.store[BROADCAST_ADDRESS])
    free(words[_TEXT])
    words[_TEXT] = words[_TEXT_CAPACITY] = 0


@kernel
def _order(triples, a, b):  # type: ignore[no-untyped-def]
    # -1, 0 or 1: the order of two keys.
    first, k = bytes_at(triples[TRIPLE * a], triples[TRIPLE * a + 1]), triples[TRIPLE * a + 1]
    second, n = bytes_at(triples[TRIPLE * b], triples[TRIPLE * b + 1]), triples[TRIPLE * b + 1]
    return order_texts(first, 0, k, second, 0, n)


@kernel
def _swap(triples, a, b):  # type: ignore[no-untyped-def]
    for i in range(TRIPLE):
        triples[TRIPLE * a + i], triples[TRIPLE * b + i] = triples[TRIPLE * b + i], triples[TRIPLE * a + i]


@kernel
def _sift(triples, at, count):  # type: ignore[no-untyped-def]
    # Heapsort's step: the triple at `at` goes down to its place in the heap of the first `count`.
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and _order(triples, child, child + 1) < 0:
            child += 1
        if _order(triples, at, child) >= 0:
            return
        _swap(triples, at, child)
        at = child


@linked(void(int64[::1], int64))
def sort_triples(triples, count):  # type: ignore[no-untyped-def]
    """Sort triples (invalidations.py) by their keys, in place, without recursion."""
    for at in range(count // 2 - 1, -1, -1):
        _sift(triples, at, count)
    for end in range(count - 1, 0, -1):
        _swap(triples, 0, end)
        _sift(triples, 0, end)


@linked(void(CONTEXT, int64[::1]))
def _fill(context, triples):  # type: ignore[no-untyped-def]
    """The collected keys as triples."""
    table, words = context.store[BROADCAST_ADDRESS], _words(context)
    for number in range(row_count(table)):
        row = row_at(table, number)
        triples[TRIPLE * number] = words[_TEXT] + row[_START]
        triples[TRIPLE * number + 1], triples[TRIPLE * number + 2] = row[_KEY_SIZE], row[_CHANGER]


@kernel
def _first_from(triples, count, prefix, size):  # type: ignore[no-untyped-def]
    # The first of the sorted keys that does not come before the prefix.
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        k = triples[TRIPLE * middle + 1]
        if order_texts(bytes_at(triples[TRIPLE * middle], k), 0, k, bytes_at(prefix, size), 0, size) < 0:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _has_prefix(triples, at, prefix, size):  # type: ignore[no-untyped-def]
    k = triples[TRIPLE * at + 1]
    return k >= size and equal_bytes(bytes_at(triples[TRIPLE * at], k), 0, bytes_at(prefix, size), 0, size)


@linked(int64(CONTEXT, int64[::1], int64, int64[::1]))
def _matching(context, triples, count, prefixes):  # type: ignore[no-untyped-def]
    """The prefixes that the sorted keys have, each as a triple with its topic; returns how many."""
    table, found = context.store[PREFIXES], 0
    topic = topic_first(table)
    while topic >= 0:
        row = topic_at(table, topic)
        first = _first_from(triples, count, row[NAME], row[SIZE])
        if first < count and _has_prefix(triples, first, row[NAME], row[SIZE]):
            prefixes[TRIPLE * found], prefixes[TRIPLE * found + 1] = row[NAME], row[SIZE]
            prefixes[TRIPLE * found + 2] = topic
            found += 1
        topic = topic_after(table, topic)
    return found


@kernel
def _own(keys, count, identity):  # type: ignore[no-untyped-def]
    # How many of the `count` triples at `keys` the connection with this id changed.
    triples, own = words_at(keys, TRIPLE * count), 0
    for at in range(count):
        own += triples[TRIPLE * at + 2] == identity
    return own


@linked(void(CONTEXT, int64, int64, int64))
def _tell_prefix(context, topic, keys, count):  # type: ignore[no-untyped-def]
    """Tell the connections that are interested in a prefix of the `count` triples at `keys`."""
    table = context.store[PREFIXES]
    invalidation_begin(context, KEYS, keys, count, -1)
    at, excluded = interest_first(table, topic), 0
    while at >= 0:
        slot = interest_at(table, at)[INTERESTED]
        row = connection(context, slot)
        if row[FLAGS] & TRACKING_NOLOOP and _own(keys, count, row[ID]) > 0:
            excluded += 1
        else:
            invalidation_tell(context, slot)
        at = interest_next(table, at)
    at = interest_first(table, topic) if excluded > 0 else -1
    while at >= 0:
        slot = interest_at(table, at)[INTERESTED]
        row = connection(context, slot)
        if row[FLAGS] & TRACKING_NOLOOP and 0 < _own(keys, count, row[ID]) < count:
            invalidation_begin(context, KEYS, keys, count, row[ID])
            invalidation_tell(context, slot)
        at = interest_next(table, at)


@linked(void(CONTEXT))
def _tell_sorted(context):  # type: ignore[no-untyped-def]
    """Tell what has been collected, prefix by prefix.  Without memory for that, set _LOST."""
    table, count = context.store[PREFIXES], row_count(context.store[BROADCAST_ADDRESS])
    most = topic_count(table)
    keys, room = malloc(8 * TRIPLE * count), malloc(8 * TRIPLE * most)
    if keys == 0 or room == 0:
        free(keys)
        free(room)
        _words(context)[_LOST] = 1
        return
    triples, prefixes = words_at(keys, TRIPLE * count), words_at(room, TRIPLE * most)
    _fill(context, triples)
    sort_triples(triples, count)
    found = _matching(context, triples, count, prefixes)
    sort_triples(prefixes, found)  # in Redis's order
    for number in range(found):
        name, size, topic = prefixes[TRIPLE * number], prefixes[TRIPLE * number + 1], prefixes[TRIPLE * number + 2]
        first = _first_from(triples, count, name, size)
        end = first + 1
        while end < count and _has_prefix(triples, end, name, size):
            end += 1
        _tell_prefix(context, topic, keys + 8 * TRIPLE * first, end - first)
    free(keys)
    free(room)


@linked(void(CONTEXT))
def broadcast(context):  # type: ignore[no-untyped-def]
    """Tell what has been collected, and forget it."""
    table, words = context.store[PREFIXES], _words(context)
    if words[_LOST] == 0:
        _tell_sorted(context)
    if words[_LOST] != 0:
        invalidation_begin(context, NULL, 0, 0, -1)
        topic = topic_first(table)
        while topic >= 0:
            at = interest_first(table, topic)
            while at >= 0:
                invalidation_tell(context, interest_at(table, at)[INTERESTED])
                at = interest_next(table, at)
            topic = topic_after(table, topic)
    _drop(context)


@linked(void(CONTEXT, int64, int64, int64, int64))
def collect(context, key, size, hash_, changer):  # type: ignore[no-untyped-def]
    """A key was changed by the connection with the id `changer`, 0 for nobody: tell it at the end of the turn."""
    if _concerns(context, key, size) == 0:
        return
    words = _words(context)
    context.store[BROADCAST_DUE] = 1
    at = _find(context, key, size, hash_)
    if at < 0:
        at = _add(context, key, size, hash_)
    if at < 0:
        words[_LOST] = 1
        return
    row_at(context.store[BROADCAST_ADDRESS], at)[_CHANGER] = changer
    if words[_TEXT_LENGTH] + ROW_BYTES * row_count(context.store[BROADCAST_ADDRESS]) > COLLECTED_MAX:
        broadcast(context)
