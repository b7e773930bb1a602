"""Texts that a SORT works with, and their order.

A text is a reference and a length.  The reference is an address of the store's space, or with IN_PROCESS added an
address of the process.  So elements and values stay where they are, however long they are; only the digits of a set of
integers are written out.

Many texts are sorted by pieces.  The key of a pair (kvstore/structures/pairs.py) has PIECE bytes of a text from an
offset on, and below them how many more there are: so a prefix comes first.  Pairs are sorted by their keys; where keys
are equal and their texts go on, those pairs are a *group*, to be sorted by what follows.  A group begins behind what
all its texts have in common.  So the time is that of reading the texts, and does not depend on what they are.

    7 bytes, the first one highest | 0: no text, 1 to 8: 0 to 7 bytes are left, MORE: more

    GROUPS, a stack in malloc'd memory: three words each, the number of the first pair, how many, the offset
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.structures.pairs import KEY, NUMBER, PAIR, pairs_at, sort_pairs
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.resp import reply_bulk, reply_bulk_memory
from kvstore.wire.wanted import is_given_up
from mmcore.jit import bytes64, copy_bytes, int64, kernel, linked, view, void
from mmcore.mmu import copy_out, load8, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

REFERENCE, LENGTH = range(2)
TEXT = 2
IN_PROCESS = 1 << 62
NO_TEXT = -1  # the length of what is not there: it comes before all others
PIECE = 7
MORE = PIECE + 2
_LOOK, _FURTHER = 8 * PIECE, 8  # bytes of each text that are compared at first, and how many times more then
_SIGN = -1 << 63
_FIRST, _COUNT, _OFFSET, _GROUP = range(4)


@view
def text_at(texts, stride, number):  # type: ignore[no-untyped-def]
    """A text of those at an address, `stride` words apart, int64[TEXT]."""
    return words_at(texts + 8 * stride * number, TEXT)


@linked(int64(SPACE, int64, int64, int64))
def _piece(space, reference, k, offset):  # type: ignore[no-untyped-def]
    """The key of a text of k bytes from an offset on."""
    if k < 0:
        return _SIGN
    left = k - offset
    count, key = min(left, PIECE), 0
    if reference & IN_PROCESS:
        memory, at = bytes_at((reference ^ IN_PROCESS) + offset, count), 0
        for i in range(count):
            key = key << 8 | int64(memory[at + i])
    elif count > 0 and ((reference + offset) & PAGE_MASK) + count <= PAGE_SIZE:
        memory, at = space.mem.bytes, read_address(space, reference + offset)
        for i in range(count):
            key = key << 8 | int64(memory[at + i])
    else:
        for i in range(count):
            key = key << 8 | load8(space, reference + offset + i)
    return (key << 8 * (PIECE - count) << 8 | min(left + 1, MORE)) ^ _SIGN


@linked(int64(SPACE, int64, int64, int64, int64))
def _same(space, reference, other, offset, most):  # type: ignore[no-untyped-def]
    """How many of `most` bytes from an offset on two texts of the space have in common."""
    a, b, same = reference + offset, other + offset, 0
    while same < most:
        here = min(PAGE_SIZE - ((a + same) & PAGE_MASK), PAGE_SIZE - ((b + same) & PAGE_MASK))
        here, done = min(here, most - same), 0
        memory, at, there = space.mem.bytes, read_address(space, a + same), read_address(space, b + same)
        while done + 8 <= here and bytes64(memory, at + done) == bytes64(memory, there + done):
            done += 8
        while done < here and memory[at + done] == memory[there + done]:
            done += 1
        same += done
        if done < here:
            break
    return same


@linked(int64(CONTEXT, int64[::1], int64, int64, int64, int64, int64))
def _common_within(context, pairs, count, offset, most, texts, stride):  # type: ignore[no-untyped-def]
    """How many of `most` bytes from an offset on all texts of a group have in common; 0 for less than a piece."""
    first = text_at(texts, stride, pairs[NUMBER])
    if first[LENGTH] < 0 or first[REFERENCE] & IN_PROCESS:
        return 0
    same = min(most, first[LENGTH] - offset)
    for i in range(1, count):
        other = text_at(texts, stride, pairs[PAIR * i + NUMBER])
        if other[LENGTH] < 0 or other[REFERENCE] & IN_PROCESS:
            return 0
        same = _same(context.space, first[REFERENCE], other[REFERENCE], offset, min(same, other[LENGTH] - offset))
        if same < PIECE or is_given_up(context):
            return 0
    return same


@linked(int64(CONTEXT, int64[::1], int64, int64, int64, int64))
def _in_common(context, pairs, count, offset, texts, stride):  # type: ignore[no-untyped-def]
    """How many bytes from an offset on all texts of a group have in common, or a little less.

    Each time all have the bytes in common that were compared, more of them are compared.  So the bytes compared are a
    multiple of the bytes found, even where the first text and most others go on together far behind them.
    """
    found, most = 0, _LOOK
    while True:
        same = _common_within(context, pairs, count, offset + found, most, texts, stride)
        found += same
        if same < most:
            return found
        most *= _FURTHER


@kernel
def _push(stack, top, first, count, offset):  # type: ignore[no-untyped-def]
    group = words_at(stack + 8 * _GROUP * top, _GROUP)
    group[_FIRST], group[_COUNT], group[_OFFSET] = first, count, offset


@linked(int64(int64[::1], int64, int64, int64, int64, int64))
def _push_groups(pairs, first, count, offset, stack, top):  # type: ignore[no-untyped-def]
    """Push the groups among pairs that are sorted by number (offset 0), or by the pieces before the offset; the top."""
    start = first
    for i in range(first + 1, first + count + 1):
        if i < first + count and pairs[PAIR * i + KEY] == pairs[PAIR * start + KEY]:
            continue
        # Without an order to descend in, the lowest byte says how much is left; with one, its complement does.
        left = pairs[PAIR * start + KEY] & 0xFF
        if i - start > 1 and (offset == 0 or left == MORE or left == 0xFF ^ MORE):
            _push(stack, top, start, i - start, offset)
            top += 1
        start = i
    return top


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _refine(context, address, stack, top, texts, stride, flip):  # type: ignore[no-untyped-def]
    """Sort all groups on the stack by their texts: 1, or 0 without memory."""
    while top > 0 and not is_given_up(context):
        top -= 1
        group = words_at(stack + 8 * _GROUP * top, _GROUP)
        first, count, offset = group[_FIRST], group[_COUNT], group[_OFFSET]
        here = address + 8 * PAIR * first
        pairs = pairs_at(here, count)
        offset += _in_common(context, pairs, count, offset, texts, stride)
        for i in range(count):
            text = text_at(texts, stride, pairs[PAIR * i + NUMBER])
            pairs[PAIR * i + KEY] = _piece(context.space, text[REFERENCE], text[LENGTH], offset) ^ flip
        if not sort_pairs(here, count):
            return 0
        top = _push_groups(pairs_at(address, first + count), first, count, offset + PIECE, stack, top)
    return 1


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def sort_texts(context, address, count, texts, stride, flip, by_number):  # type: ignore[no-untyped-def]
    """Sort so many pairs by their texts, or first by the keys that they have (by_number): 1, or 0 without memory.

    `flip` is 0, or -1 to descend: then the keys that they have are flipped already.  Equal ones keep their order.
    """
    if by_number and not sort_pairs(address, count):
        return 0
    stack, top = malloc(8 * _GROUP * (count // 2 + 1)), 0
    if stack == 0:
        return 0
    if by_number:
        top = _push_groups(pairs_at(address, count), 0, count, 0, stack, 0)
    elif count > 1:
        _push(stack, 0, 0, count, 0)
        top = 1
    done = _refine(context, address, stack, top, texts, stride, flip)
    free(stack)
    return done


@linked(void(CONTEXT, int64, int64))
def reply_text(context, reference, k):  # type: ignore[no-untyped-def]
    """A text as a bulk string."""
    if reference & IN_PROCESS:
        reply_bulk(context, bytes_at(reference ^ IN_PROCESS, k), 0, k)
    else:
        reply_bulk_memory(context, reference, k)


@linked(void(CONTEXT, int64, int64, int64))
def copy_text(context, reference, k, address):  # type: ignore[no-untyped-def]
    """Copy a text to an address of the process."""
    if reference & IN_PROCESS:
        copy_bytes(bytes_at(address, k), 0, bytes_at(reference ^ IN_PROCESS, k), 0, k)
    else:
        copy_out(context.space, reference, bytes_at(address, k), 0, k)


@linked(int64(CONTEXT, int64, int64))
def text_end(context, reference, k):  # type: ignore[no-untyped-def]
    """The length of a text up to its first zero byte, where C's strcoll ends."""
    memory, at, done = context.space.mem.bytes, 0, 0
    while done < k:
        here = k - done
        if reference & IN_PROCESS:
            memory, at = bytes_at(reference ^ IN_PROCESS, k), 0
        else:
            here = min(here, PAGE_SIZE - ((reference + done) & PAGE_MASK))
            memory, at = context.space.mem.bytes, read_address(context.space, reference + done)
        for i in range(here):
            if memory[at + i] == 0:
                return done + i
        done += here
    return k
