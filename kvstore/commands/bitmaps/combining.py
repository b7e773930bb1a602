"""The work of BITOP on bytes: page after page of the result, and for each page source after source.

The work at hand is a record of words, malloc'd for the command:

    WORD  DESCRIPTION
    0     the operation, its name packed into a word
    1     length of the result [bytes]
    2     bytes of it that are complete
    3     sources that are worked into the next page; 0 or more
    4     sources that are left
    5     pages that the result has been given so far: see turns.py
    6     the sources, two words each: the address of the value, and its length [bytes]

The result has zeros where a source has ended.  A source that ends before a page is struck from the list, because it
means nothing to OR and XOR from there on; to AND it means that all the rest is zeros.  So a page costs as much as its
bytes in the sources that reach it, however many others there are.  The order of the sources does not matter.
"""

from kvstore.wire.arguments import pack
from mmcore.jit import bytes64, copy_bytes, fill_bytes, int64, kernel, linked, put64
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

AND, OR, XOR, NOT = pack(b"AND"), pack(b"OR"), pack(b"XOR"), pack(b"NOT")
OPERATION, LENGTH, DONE, WORKED_IN, SOURCES, PAGES, FIRST = range(7)
SOURCE_WORDS = 2
SOURCE_COST = 64  # [bytes] of work for a source, however few of its bytes are in a page


@kernel
def work_words(sources):  # type: ignore[no-untyped-def]
    """Words of the record for so many sources."""
    return FIRST + SOURCE_WORDS * sources


@kernel
def _work_in(memory, operation, to, of, count):  # type: ignore[no-untyped-def]
    # Work `count` bytes of a source into the result.
    words = count >> 3
    if operation == AND:
        for i in range(words):
            put64(memory, to + 8 * i, bytes64(memory, to + 8 * i) & bytes64(memory, of + 8 * i))
        for i in range(8 * words, count):
            memory[to + i] &= memory[of + i]
    elif operation == OR:
        for i in range(words):
            put64(memory, to + 8 * i, bytes64(memory, to + 8 * i) | bytes64(memory, of + 8 * i))
        for i in range(8 * words, count):
            memory[to + i] |= memory[of + i]
    else:
        for i in range(words):
            put64(memory, to + 8 * i, bytes64(memory, to + 8 * i) ^ bytes64(memory, of + 8 * i))
        for i in range(8 * words, count):
            memory[to + i] ^= memory[of + i]


@kernel
def _invert(memory, to, count):  # type: ignore[no-untyped-def]
    words = count >> 3
    for i in range(words):
        put64(memory, to + 8 * i, ~bytes64(memory, to + 8 * i))
    for i in range(8 * words, count):
        memory[to + i] ^= 255


@kernel
def _combine(space, value, there, first, operation, to, size):  # type: ignore[no-untyped-def]
    # Work the `there` bytes at `value` into the `size` bytes at mem.bytes[to:], as the first source of these, or not.
    memory, done = space.mem.bytes, 0
    while done < there:
        piece = min(there - done, PAGE_SIZE - (value + done & PAGE_MASK))
        of = read_address(space, value + done)
        assert of >= 0, "a bitmap has a hole"
        if first:
            copy_bytes(memory, to + done, memory, of, piece)
        else:
            _work_in(memory, operation, to + done, of, piece)
        done += piece
    if done < size and (first or operation == AND):
        fill_bytes(memory, to + done, 0, size - done)


@linked(int64(SPACE, int64[::1], int64, int64, int64))
def combine_page(space, work, to, size, budget):  # type: ignore[no-untyped-def]
    """Work sources, whose values are in `space`, into the next `size` bytes of the result, at mem.bytes[to:].

    The bytes there are no part of a source, and are kept until they are complete: then `work` counts them.  Returns
    what is left of the budget [bytes of work]; if it is positive, they are complete.
    """
    operation = work[OPERATION]
    while budget > 0 and work[WORKED_IN] < work[SOURCES]:
        at = FIRST + SOURCE_WORDS * work[WORKED_IN]
        there = work[at + 1] - work[DONE]
        if there > 0:
            _combine(space, work[at] + work[DONE], min(there, size), work[WORKED_IN] == 0, operation, to, size)
            work[WORKED_IN] += 1
            budget -= size
        elif operation == AND:
            work[SOURCES] = 0
        else:
            work[SOURCES] -= 1
            last = FIRST + SOURCE_WORDS * work[SOURCES]
            work[at], work[at + 1] = work[last], work[last + 1]
        budget -= SOURCE_COST
    if work[WORKED_IN] >= work[SOURCES]:
        if work[SOURCES] == 0:
            fill_bytes(space.mem.bytes, to, 0, size)
            budget -= size
        if operation == NOT:
            _invert(space.mem.bytes, to, size)
        work[DONE] += size
        work[WORKED_IN] = 0
    return budget
