"""Scores of a sorted set, as an element's payload keeps them.

    8 bytes     the word that `sortable` makes of a score (kvstore/wire/doubles.py)
    fewer       the score is an integer, in so many bytes, signed and little-endian; only in a packed

An element of its own always has eight bytes, so that another score fits the place of the old one.
"""

from kvstore.structures.element import element_payload, element_payload_length
from kvstore.wire.doubles import double_of, sortable
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load8, load64, store8
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

WORD_SIZE = 8  # [bytes] of a score that is not shortened
INTEGER_MAX = 1 << 47  # an integer below it takes at most 6 bytes


@linked(int64(SPACE, int64))
def element_score(space, va):  # type: ignore[no-untyped-def]
    """The score of an element, as a sortable word."""
    at, size = element_payload(space, va), element_payload_length(space, va)
    if size == WORD_SIZE and at & PAGE_MASK <= PAGE_SIZE - WORD_SIZE:
        return load64(space, at)
    value = 0
    for i in range(size):
        value |= load8(space, at + i) << 8 * i
    if size == WORD_SIZE:  # across pages
        return value
    shift = 64 - 8 * size
    return sortable(float(value << shift >> shift))


@linked(int64(int64))
def short_score_size(word):  # type: ignore[no-untyped-def]
    """Bytes that a score takes in a packed: 1, 2, 4, 6 or WORD_SIZE."""
    value = double_of(word)
    if not -INTEGER_MAX < value < INTEGER_MAX:
        return WORD_SIZE
    whole = int64(value)
    if float(whole) != value:
        return WORD_SIZE
    if -128 <= whole < 128:
        return 1
    if -32768 <= whole < 32768:
        return 2
    return 4 if -(1 << 31) <= whole < 1 << 31 else 6


@kernel
def put_score(space, va, word, size):  # type: ignore[no-untyped-def]
    """Write a score to the `size` bytes of a payload at `va`."""
    value = word if size == WORD_SIZE else int64(double_of(word))
    for i in range(size):
        store8(space, va + i, value >> 8 * i)
