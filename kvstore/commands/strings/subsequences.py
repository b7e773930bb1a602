"""LCS: the longest common subsequence of two strings.

Redis fills a table of numbers, of which L(i, j) is the length for the first i bytes of the one string and the first j
of the other.  Here a row of it is bits: bit j - 1 is 0 where L(i, j) is one more than L(i, j - 1).  A row follows from
the one before it by a few operations on 64 columns at a time (Hyyrö, "Bit-parallel LCS-length computation revisited",
2004):

    row' = (row + (row & M)) | (row & ~M)          M: where the other string has byte i of the one

The way back is Redis's: at equal bytes to (i-1, j-1), else to (i-1, j) if that is longer than (i, j-1), which bit
j - 1 of row i says, else to (i, j-1).  So the subsequence found is the same.

    LCS words at `_state(context)`

    WORD        DESCRIPTION
    A, A_SIZE   the first string, copied to malloc'd memory, and its length
    B, B_SIZE   the second
    WIDTH       words of a row
    MASKS       address of M for each byte that A has, WIDTH words each
    ROWS        address of the rows, the first one of ones; with LEN only one, which changes
    BLOCK, TEXTS    what is to be freed
    GOT_LEN, GOT_IDX, LEAST, WITH_LENGTHS    the options

Redis refuses strings whose table would be greater than proto-max-bulk-len, and so does this.  A long LCS goes
aside (store/aside.py): 128 words of its rows count as much as a field of a hash.
"""

from kvstore.lifetimes.call import ARGC, REPLY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import PROTO_MAX_BULK_LEN, SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.entries import STRING, entry_length, entry_type, entry_value
from kvstore.store.lookup import lookup_read
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.deferred import begin_array, end_array
from kvstore.wire.errors import (
    LCS_BOTH,
    LCS_NO_MEMORY,
    LCS_TOO_LARGE,
    LCS_TYPE,
    NOT_INTEGER,
    SYNTAX,
)
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_integer, reply_map, reply_number, reply_room
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, int64, kernel, linked, view, void
from mmcore.mmu import copy_out

A, A_SIZE, B, B_SIZE, WIDTH, MASKS, ROWS, BLOCK, TEXTS, GOT_LEN, GOT_IDX, LEAST, WITH_LENGTHS = range(13)
_WORDS = 13
_PLACE = 80  # among the words of the scratch memory
_CELL = 4  # [bytes] of the table that Redis would fill
_LETTERS = 256
_TOP = 63
_ROW_COST, _WORK = 8, 128  # words that a row costs beside its own; words that count as a field of a hash
_IDX_WORD, _LEN_WORD = pack(b"IDX"), pack(b"LEN")
_MINMATCHLEN, _WITHMATCHLEN = constant(b"MINMATCHLEN"), constant(b"WITHMATCHLEN")
_MATCHES, _LENGTH = constant(b"matches"), constant(b"len")


@view
def _state(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, _WORDS)


@linked(int64(CONTEXT))
def _options(context):  # type: ignore[no-untyped-def]
    """Read the options: 1, or 0 with an error replied."""
    state, i, argc = _state(context), 3, context.call[ARGC]
    state[GOT_LEN] = state[GOT_IDX] = state[LEAST] = state[WITH_LENGTHS] = 0
    while i < argc:
        name = word(context, i)
        if name == _IDX_WORD:
            state[GOT_IDX] = 1
        elif name == _LEN_WORD:
            state[GOT_LEN] = 1
        elif is_word(context, i, _WITHMATCHLEN):
            state[WITH_LENGTHS] = 1
        elif is_word(context, i, _MINMATCHLEN) and i + 1 < argc:
            valid, least = integer_argument(context, i + 1)
            if not valid:
                reply_error(context, NOT_INTEGER)
                return 0
            state[LEAST] = max(least, 0)
            i += 1
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 1
    if state[GOT_IDX] and state[GOT_LEN]:
        reply_error(context, LCS_BOTH)
        return 0
    return 1


@kernel
def _length_of(context, entry):  # type: ignore[no-untyped-def]
    return entry_length(context, entry) if entry != 0 else int64(0)


@kernel
def _copy(context, entry, address, size):  # type: ignore[no-untyped-def]
    if size > 0:
        copy_out(context.space, entry_value(context, entry), bytes_at(address, size), 0, size)


@linked(int64(CONTEXT, int64, int64))
def _take_strings(context, one, other):  # type: ignore[no-untyped-def]
    """Copy the strings of two entries, and make the masks and the first row: 1, or 0 without memory."""
    state = _state(context)
    a, b, width = state[A_SIZE], state[B_SIZE], state[WIDTH]
    state[BLOCK] = 0
    state[TEXTS] = malloc(8 * _LETTERS + a + b)
    if state[TEXTS] == 0:
        return 0
    state[A] = state[TEXTS] + 8 * _LETTERS
    state[B] = state[A] + a
    _copy(context, one, state[A], a)
    _copy(context, other, state[B], b)
    slots, text, letters = words_at(state[TEXTS], _LETTERS), bytes_at(state[A], a), 0
    for letter in range(_LETTERS):
        slots[letter] = -1
    for i in range(a):
        if slots[int64(text[i])] < 0:
            slots[int64(text[i])] = letters
            letters += 1
    state[BLOCK] = malloc(8 * width * (letters + (1 if state[GOT_LEN] else a + 1)))
    if state[BLOCK] == 0:
        return 0
    state[MASKS], state[ROWS] = state[BLOCK], state[BLOCK] + 8 * width * letters
    masks, row, other_text = (
        words_at(state[MASKS], width * letters),
        words_at(state[ROWS], width),
        bytes_at(state[B], b),
    )
    for i in range(width * letters):
        masks[i] = 0
    for i in range(width):
        row[i] = -1
    for j in range(b):
        slot = slots[int64(other_text[j])]
        if slot >= 0:
            masks[width * slot + (j >> 6)] |= 1 << (j & _TOP)
    return 1


@view
def _mask_of(state, i):  # type: ignore[no-untyped-def]
    # M for byte i of A.
    slot = words_at(state[TEXTS], _LETTERS)[int64(bytes_at(state[A], state[A_SIZE])[i])]
    return words_at(state[MASKS] + 8 * state[WIDTH] * slot, state[WIDTH])


@view
def _row(state, i):  # type: ignore[no-untyped-def]
    return words_at(state[ROWS] + 8 * state[WIDTH] * i, state[WIDTH])


@linked(int64(CONTEXT))
def _fill(context):  # type: ignore[no-untyped-def]
    """Fill all rows; the length of the subsequence."""
    state, carry = _state(context), 0
    keep, last = 1 - state[GOT_LEN], 0
    for i in range(state[A_SIZE]):
        if is_given_up(context):
            break
        mask, row, following = _mask_of(state, i), _row(state, i * keep), _row(state, (i + 1) * keep)
        carry = 0
        for at in range(state[WIDTH]):
            v, m = row[at], mask[at]
            u = v & m
            total = v + u + carry
            carry = (((v & u) | ((v | u) & ~total)) >> _TOP) & 1
            following[at] = total | (v & ~m)
        last = (i + 1) * keep
    row, length = _row(state, last), 0
    for at in range(state[WIDTH]):
        left = ~row[at]
        if at == state[WIDTH] - 1 and state[B_SIZE] & _TOP:
            left &= (1 << (state[B_SIZE] & _TOP)) - 1
        while left != 0:
            left &= left - 1
            length += 1
    return length


@linked(int64(CONTEXT, int64, int64))
def _next(context, i, j):  # type: ignore[no-untyped-def]
    """The greatest column up to j of row i where the way goes up, whether straight or not; 0 where there is none."""
    state = _state(context)
    mask, row, at = _mask_of(state, i - 1), _row(state, i), (j - 1) >> 6
    wanted = (mask[at] | ~row[at]) & (-1 if j & _TOP == 0 else (1 << (j & _TOP)) - 1)
    while wanted == 0:
        at -= 1
        if at < 0:
            return 0
        wanted = mask[at] | ~row[at]
    bit = _TOP
    while (wanted >> bit) & 1 == 0:
        bit -= 1
    return 64 * at + bit + 1


@linked(int64(CONTEXT, int64, int64, int64))
def _reply_range(context, i, j, count):  # type: ignore[no-untyped-def]
    """Reply a range of `count` bytes that begins behind byte i of A and byte j of B, if it is wanted: 1 or 0."""
    state = _state(context)
    if count < state[LEAST]:
        return 0
    reply_array(context, 2 + state[WITH_LENGTHS])
    reply_array(context, 2)
    reply_integer(context, i)
    reply_integer(context, i + count - 1)
    reply_array(context, 2)
    reply_integer(context, j)
    reply_integer(context, j + count - 1)
    if state[WITH_LENGTHS]:
        reply_integer(context, count)
    return 1


@linked(int64(CONTEXT, int64))
def _go_back(context, text):  # type: ignore[no-untyped-def]
    """Go back from the end, and write the subsequence to the bytes that end at `text`, or reply the ranges (0).

    Returns the number of ranges replied.
    """
    state, ranges, run = _state(context), 0, 0
    i, j, found = state[A_SIZE], state[B_SIZE], 0
    a, b = bytes_at(state[A], state[A_SIZE]), bytes_at(state[B], state[B_SIZE])
    while i > 0 and j > 0 and not is_given_up(context):
        column = _next(context, i, j)
        if column < j or a[i - 1] != b[j - 1]:
            if run > 0 and text == 0:
                ranges += _reply_range(context, i, j, run)
            run, j = 0, column
            if j == 0 or a[i - 1] != b[j - 1]:
                i -= int64(j > 0)
                continue
        run, i, j, found = run + 1, i - 1, j - 1, found + 1
        if text != 0:
            bytes_at(text - found, 1)[0] = a[i]
    if run > 0 and text == 0:
        ranges += _reply_range(context, i, j, run)
    return ranges


@linked(void(CONTEXT))
def _answer(context):  # type: ignore[no-untyped-def]
    """Reply what is asked for."""
    state, length = _state(context), _fill(context)
    if state[GOT_LEN]:
        reply_integer(context, length)
    elif state[GOT_IDX]:
        reply_map(context, 2)
        reply_bulk(context, _MATCHES, 0, len(_MATCHES))
        start = begin_array(context)
        end_array(context, start, _go_back(context, 0))
        reply_bulk(context, _LENGTH, 0, len(_LENGTH))
        reply_integer(context, length)
    else:
        reply_number(context, 36, length)
        out = reply_room(context, length + 2)
        end = context.call[REPLY_LENGTH] + length
        _go_back(context, context.call[REPLY_ADDRESS] + end)
        out[end] = 13
        out[end + 1] = 10
        context.call[REPLY_LENGTH] = end + 2


@linked(int64(CONTEXT, int64, int64))
def _serve(context, one, other):  # type: ignore[no-untyped-def]
    """Reply, or go aside, or refuse."""
    state = _state(context)
    state[A_SIZE], state[B_SIZE] = _length_of(context, one), _length_of(context, other)
    if state[A_SIZE] + 1 > context.shard[PROTO_MAX_BULK_LEN] // (_CELL * (state[B_SIZE] + 1)):
        reply_error(context, LCS_TOO_LARGE)
        return SERVED
    if state[A_SIZE] == 0 or state[B_SIZE] == 0:
        state[A_SIZE] = state[B_SIZE] = 0
    state[WIDTH] = (state[B_SIZE] + _TOP) >> 6
    if goes_aside(context, (state[A_SIZE] * (state[WIDTH] + _ROW_COST) + state[B_SIZE]) // _WORK):
        return BLOCKS
    if _take_strings(context, one, other):
        _answer(context)
    else:
        reply_error(context, LCS_NO_MEMORY)
    free(state[BLOCK])
    free(state[TEXTS])
    return SERVED


@linked(HANDLER)
def lcs(context):  # type: ignore[no-untyped-def]
    """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]"""
    key, key_size = argument(context, 1)
    one = lookup_read(context, key, key_size)
    key, key_size = argument(context, 2)
    other = lookup_read(context, key, key_size)
    refused = one != 0 and entry_type(context, one) != STRING
    if refused or (other != 0 and entry_type(context, other) != STRING):
        reply_error(context, LCS_TYPE)
        return SERVED
    return _serve(context, one, other) if _options(context) else SERVED
