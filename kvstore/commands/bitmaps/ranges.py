"""BITCOUNT and BITPOS: the bits of a range of a string.

A range has bytes or bits as its ends, which may count from the end of the string.  It becomes a range of bits.  Its
first and last byte are looked at through masks, and the bytes between them word by word, a page at a time: one
translation serves 4 KiB.  From WORK_SHIFT on the number of bytes decides whether the read goes aside (store/aside.py).
"""

from kvstore.commands.strings.getting import is_refused
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.entries import entry_length, entry_value
from kvstore.store.lookup import lookup_read
from kvstore.wire.arguments import argument, integer_argument, pack, word
from kvstore.wire.errors import BIT_ARGUMENT, NOT_INTEGER, SYNTAX
from kvstore.wire.resp import reply_error, reply_integer
from kvstore.wire.wanted import is_given_up
from mmcore.jit import bytes64, int64, kernel, linked, ones
from mmcore.mmu import load8, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

WORK_SHIFT = 12  # a page of bits is as much work as an element
_BIT, _BYTE = pack(b"BIT"), pack(b"BYTE")


@linked(int64(CONTEXT, int64, int64))
def ones_of_bytes(context, va, count):  # type: ignore[no-untyped-def]
    """How many bits are set in the `count` bytes at `va`."""
    memory, total = context.space.mem.bytes, 0
    while count > 0 and not is_given_up(context):
        piece = min(count, PAGE_SIZE - (va & PAGE_MASK))
        pa = read_address(context.space, va)
        assert pa >= 0, "a bitmap has a hole"
        words = piece >> 3
        for i in range(words):
            total += ones(bytes64(memory, pa + 8 * i))
        for i in range(8 * words, piece):
            total += ones(int64(memory[pa + i]))
        va += piece
        count -= piece
    return total


@linked(int64(CONTEXT, int64, int64, int64))
def other_byte(context, va, count, byte):  # type: ignore[no-untyped-def]
    """The place of the first of `count` bytes at `va` that is not `byte`, 0 or 255; `count` for none."""
    memory, done, word_of = context.space.mem.bytes, 0, -(byte & 1)
    while done < count and not is_given_up(context):
        piece = min(count - done, PAGE_SIZE - (va + done & PAGE_MASK))
        pa, at = read_address(context.space, va + done), 0
        assert pa >= 0, "a bitmap has a hole"
        while at + 64 <= piece:
            others = 0
            for i in range(8):
                others |= bytes64(memory, pa + at + 8 * i) ^ word_of
            if others != 0:
                break
            at += 64
        while at < piece and memory[pa + at] == byte:
            at += 1
        if at < piece:
            return done + at
        done += piece
    return count


@kernel
def _first_of(byte, base):  # type: ignore[no-untyped-def]
    # The place of the most significant bit that is set in a byte, which is not 0, from `base` on.
    place = 0
    while byte >> (7 - place) & 1 == 0:
        place += 1
    return base + place


@kernel
def _masks(first, last):  # type: ignore[no-untyped-def]
    # Of bits `first` to `last`: the masks of the first and of the last byte, which may be one.
    head, tail = 255 >> (first & 7), 255 << (7 - (last & 7)) & 255
    return (head & tail if first >> 3 == last >> 3 else head), tail


@linked(int64(CONTEXT, int64, int64, int64))
def _count(context, value, first, last):  # type: ignore[no-untyped-def]
    """How many of the bits `first` to `last` of the string at `value` are set."""
    begin, end = first >> 3, last >> 3
    head, tail = _masks(first, last)
    total = ones(load8(context.space, value + begin) & head)
    if end > begin:
        total += ones(load8(context.space, value + end) & tail)
        total += ones_of_bytes(context, value + begin + 1, end - begin - 1)
    return total


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _position(context, value, first, last, bit):  # type: ignore[no-untyped-def]
    """The first of the bits `first` to `last` of the string at `value` that is `bit`, or -1."""
    begin, end, skipped = first >> 3, last >> 3, 255 * (1 - bit)
    head, tail = _masks(first, last)
    found = (load8(context.space, value + begin) ^ skipped) & head
    if found != 0:
        return _first_of(found, 8 * begin)
    if end == begin:
        return -1
    begin += 1
    begin += other_byte(context, value + begin, end - begin, skipped)
    found = load8(context.space, value + begin) ^ skipped
    if begin == end:
        found &= tail
    return _first_of(found, 8 * begin) if found != 0 else -1


@kernel
def _range(length, start, end, per_byte):  # type: ignore[no-untyped-def]
    # The range of bits (first, last) that `start` and `end` stand for; `last` is smaller than `first` for none.
    total = length * per_byte
    if start < 0:
        start = max(0, start + total)
    if end < 0:
        end = max(0, end + total)
    end = min(end, total - 1)
    if start > end:
        return 0, -1
    if per_byte == 1:
        return start << 3, (end << 3) + 7
    return start, end


@kernel
def _unit(context, i):  # type: ignore[no-untyped-def]
    # Ends of a range per byte, as argument i says: 8 for BIT, 1 for BYTE and where there is none; 0 for another word.
    if i >= context.call[ARGC]:
        return 1
    name = word(context, i)
    if name == _BIT:
        return 8
    return 1 if name == _BYTE else 0


@linked(HANDLER)
def bitcount(context):  # type: ignore[no-untyped-def]
    """BITCOUNT key [start end [BYTE | BIT]]"""
    start, end, unit, argc = 0, -1, 1, context.call[ARGC]
    if argc == 3 or argc > 5:
        reply_error(context, SYNTAX)
        return 0
    if argc > 3:
        valid, start = integer_argument(context, 2)
        also_valid, end = integer_argument(context, 3)
        unit = _unit(context, 4)
        if not valid or not also_valid or unit == 0:
            reply_error(context, SYNTAX if valid and also_valid else NOT_INTEGER)
            return 0
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    first, last = 0, -1
    if entry != 0 and not (start < 0 and end < 0 and start > end):
        first, last = _range(entry_length(context, entry), start, end, unit)
    if goes_aside(context, (last - first) >> (WORK_SHIFT + 3)):
        return BLOCKS
    reply_integer(context, _count(context, entry_value(context, entry), first, last) if last >= first else 0)
    return 0


@linked(HANDLER)
def bitpos(context):  # type: ignore[no-untyped-def]
    """BITPOS key bit [start [end [BYTE | BIT]]]"""
    valid, bit = integer_argument(context, 2)
    if not valid or bit & ~1 != 0:
        reply_error(context, BIT_ARGUMENT if valid else NOT_INTEGER)
        return 0
    start, end, unit, argc = 0, -1, 1, context.call[ARGC]
    if argc > 3:
        valid, start = integer_argument(context, 3)
        unit = _unit(context, 5)
        if not valid or unit == 0 or argc > 6:
            reply_error(context, NOT_INTEGER if not valid and argc <= 6 else SYNTAX)
            return 0
    if argc > 4:
        valid, end = integer_argument(context, 4)
        if not valid:
            reply_error(context, NOT_INTEGER)
            return 0
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    if entry == 0:
        reply_integer(context, -bit)
        return 0
    first, last = _range(entry_length(context, entry), start, end, unit)
    if goes_aside(context, (last - first) >> (WORK_SHIFT + 3)):
        return BLOCKS
    found = -1
    if last >= first:
        found = _position(context, entry_value(context, entry), first, last, bit)
        if found < 0 and bit == 0 and argc < 5:
            found = last + 1  # without an end, zeros follow
    reply_integer(context, found)
    return 0
