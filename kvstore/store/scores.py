"""Scores of a sorted set, as an element's payload keeps them.

    8 bytes     the word of the score: what `sortable` makes of it (kvstore/wire/doubles.py), and MINUS_ZERO for -0
    fewer       the score is an integer, in so many bytes, signed and little-endian; only in a chain

An element of its own always has eight bytes, so that another score fits the place of the old one.

Redis prints -0 in a large sorted set, and 0 in a small one.  So a word of eight bytes tells them apart, and a chain
does not.  They are equal in the order of members: whatever compares words, and a tree, takes `ordered` ones.
"""

from kvstore.structures.element import BARE, element_payload, element_payload_length
from kvstore.wire.doubles import bits_of_double, double_of, sortable
from mmcore.jit import bytes64, int64, kernel, linked
from mmcore.mmu import load8, load64, read_address, store8
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

WORD_SIZE = 8  # [bytes] of a score that is not shortened
INTEGER_MAX = 1 << 47  # an integer below it takes at most 6 bytes
MINUS_ZERO = -1  # the word of -0: `double_of` makes -0 of it, and `sortable` makes it of nothing


@kernel
def score_word(value):  # type: ignore[no-untyped-def]
    """The word of a score."""
    return MINUS_ZERO if value == 0.0 and bits_of_double(value) < 0 else sortable(value)


@kernel
def ordered(word):  # type: ignore[no-untyped-def]
    """The word by which a score is compared."""
    return int64(0) if word == MINUS_ZERO else word


@linked(int64(SPACE, int64))
def element_score(space, va):  # type: ignore[no-untyped-def]
    """The word of the score of an element."""
    at, size = element_payload(space, va), element_payload_length(space, va)
    if va >= BARE:  # in one page, and behind a header of eight bytes
        value = bytes64(space.mem.bytes, read_address(space, at) + size - WORD_SIZE) >> (64 - 8 * size)
        return value if size == WORD_SIZE else sortable(float(value))
    if at & PAGE_MASK <= PAGE_SIZE - WORD_SIZE:
        return load64(space, at)
    value = 0
    for i in range(size):  # across pages
        value |= load8(space, at + i) << 8 * i
    return value


@linked(int64(int64))
def short_score_size(word):  # type: ignore[no-untyped-def]
    """Bytes that a score takes in a chain at least: 1, 2, 4, 6 or WORD_SIZE."""
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
