"""Members with scores, gathered outside the address space: to be sorted, and then replied or stored.

A reading command must not change the store, and the members of a union are in no structure.  So they are gathered in
malloc'd memory: one row each, with the score and the place of the member, which stays where it is.  The members of a
set of integers have no bytes, and those that straddle two pages are in no one piece: their bytes are copied to pieces
of memory that go with the rows.

    GATHERED words at `gathered(context)`

    WORD     DESCRIPTION
    ROWS     address of the rows
    COUNT    of rows
    PIECES   address of the last piece, which begins with the address of the piece before it
    LONGEST  length of the longest member
    BYTES    of all members

    ROW words of a row: the word of the score, the member's address in the process, its length

The sources must not change until `gather_end`.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.scores import ordered
from kvstore.structures.element import pin
from kvstore.system.libc import bytes_at, free, malloc, words_at
from mmcore.jit import boolean, int64, kernel, linked, view, void
from mmcore.mmu import copy_out

ROWS, COUNT, PIECES, LONGEST, BYTES = range(5)
GATHERED = 5
_STATE = 16  # place among the words of the scratch memory
SCORE, ADDRESS, LENGTH = range(3)
ROW = 3
_RUN = 8  # rows that are sorted by insertion


@view
def gathered(context):  # type: ignore[no-untyped-def]
    """The gathered members and scores, int64[GATHERED]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _STATE, GATHERED)


@linked(int64(CONTEXT, int64))
def gather_begin(context, room):  # type: ignore[no-untyped-def]
    """Begin to gather up to `room` rows: 1, or 0 without memory."""
    state = gathered(context)
    state[ROWS], state[COUNT], state[PIECES], state[LONGEST], state[BYTES] = malloc(8 * ROW * max(room, 1)), 0, 0, 0, 0
    return int64(state[ROWS] != 0)


@linked(void(CONTEXT))
def gather_end(context):  # type: ignore[no-untyped-def]
    """Free the rows and their pieces."""
    state = gathered(context)
    piece = state[PIECES]
    while piece != 0:
        following = words_at(piece, 1)[0]
        free(piece)
        piece = following
    free(state[ROWS])
    state[ROWS], state[PIECES], state[COUNT] = 0, 0, 0


@linked(int64(CONTEXT, int64))
def gather_room(context, count):  # type: ignore[no-untyped-def]
    """The address of a new piece of `count` bytes; 0 without memory."""
    state, piece = gathered(context), malloc(8 + count)
    if piece == 0:
        return 0
    words_at(piece, 1)[0] = state[PIECES]
    state[PIECES] = piece
    return piece + 8


@linked(int64(CONTEXT, int64, int64))
def gather_bytes(context, va, count):  # type: ignore[no-untyped-def]
    """An address in the process of the `count` bytes at `va`; 0 without memory."""
    address = pin(context.space, va, count)
    if address == 0:
        address = gather_room(context, count)
        if address != 0:
            copy_out(context.space, va, bytes_at(address, count), 0, count)
    return address


@kernel
def gather_put(context, score, address, length):  # type: ignore[no-untyped-def]
    """Append a row."""
    state = gathered(context)
    row = words_at(state[ROWS] + 8 * ROW * state[COUNT], ROW)
    row[SCORE], row[ADDRESS], row[LENGTH] = score, address, length
    state[COUNT] += 1
    state[LONGEST] = max(state[LONGEST], length)
    state[BYTES] += length


@view
def gathered_row(context, i):  # type: ignore[no-untyped-def]
    """Row i, int64[ROW]."""
    return words_at(gathered(context)[ROWS] + 8 * ROW * i, ROW)


@linked(boolean(int64, int64))
def _is_before(row, other):  # type: ignore[no-untyped-def]
    # Whether a row comes before another, by their addresses.
    a, b = words_at(row, ROW), words_at(other, ROW)
    if ordered(a[SCORE]) != ordered(b[SCORE]):
        return ordered(a[SCORE]) < ordered(b[SCORE])
    both = min(a[LENGTH], b[LENGTH])
    text, other_text = bytes_at(a[ADDRESS], both), bytes_at(b[ADDRESS], both)
    for i in range(both):
        if text[i] != other_text[i]:
            return text[i] < other_text[i]
    return a[LENGTH] < b[LENGTH]


@kernel
def _copy_row(target, source):  # type: ignore[no-untyped-def]
    to, of = words_at(target, ROW), words_at(source, ROW)
    to[SCORE], to[ADDRESS], to[LENGTH] = of[SCORE], of[ADDRESS], of[LENGTH]


@linked(void(int64, int64, int64))
def _sort_run(rows, start, stop):  # type: ignore[no-untyped-def]
    # Sort a few rows by insertion.
    width = 8 * ROW
    for i in range(start + 1, stop):
        j = i
        while j > start and _is_before(rows + width * j, rows + width * (j - 1)):
            for word in range(ROW):
                a, b = words_at(rows + width * j, ROW), words_at(rows + width * (j - 1), ROW)
                kept = a[word]
                a[word] = b[word]
                b[word] = kept
            j -= 1


@linked(void(int64, int64, int64, int64, int64))
def _merge(source, target, start, middle, stop):  # type: ignore[no-untyped-def]
    width = 8 * ROW
    left, right = start, middle
    for i in range(start, stop):
        from_right = left == middle or (right < stop and _is_before(source + width * right, source + width * left))
        if from_right:
            _copy_row(target + width * i, source + width * right)
            right += 1
        else:
            _copy_row(target + width * i, source + width * left)
            left += 1


@linked(int64(CONTEXT))
def gather_sort(context):  # type: ignore[no-untyped-def]
    """Sort the rows by score and member, by merging runs that were sorted by insertion: 1, or 0 without memory."""
    state = gathered(context)
    count = state[COUNT]
    for start in range(0, count, _RUN):
        _sort_run(state[ROWS], start, min(start + _RUN, count))
    if count <= _RUN:
        return 1
    source, target = state[ROWS], malloc(8 * ROW * count)
    if target == 0:
        return 0
    run = _RUN
    while run < count:
        for start in range(0, count, 2 * run):
            _merge(source, target, start, min(start + run, count), min(start + 2 * run, count))
        kept = source
        source = target
        target = kept
        run *= 2
    state[ROWS] = source
    free(target)
    return 1
