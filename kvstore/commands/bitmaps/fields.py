"""BITFIELD and BITFIELD_RO: integers of 1 to 64 bits, anywhere in a string.

A field of `bits` bits from bit `offset` on lies in at most nine bytes, its *window*.  It is read from a window and
written into one, byte by byte; what lies behind the end of the string is zeros.

The arguments are read twice: first all of them, for errors and for the last bit that is written, then one by one, each
carried out.  Frames are reserved between the two, so nothing fails half-way.
"""

from kvstore.commands.bitmaps.bits import bit_in_range
from kvstore.commands.strings.getting import is_refused, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import SETBIT
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.entries import entry_length, entry_value
from kvstore.store.growing import bytes_to_grow, grow_value
from kvstore.store.lookup import key_hash, lookup_read, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import (
    INT64_MAX,
    arg_length,
    arg_offset,
    argument,
    integer_argument,
    pack,
    parse_integer,
    query,
    word,
)
from kvstore.wire.errors import BIT_OFFSET, FIELD_READ_ONLY, FIELD_TYPE, NOT_INTEGER, OVERFLOW_TYPE, SYNTAX
from kvstore.wire.resp import reply_array, reply_error, reply_integer, reply_null, reply_out_of_frames
from mmcore.heap import heap_repay_zeros
from mmcore.jit import fill_bytes, int64, kernel, linked, uint64
from mmcore.mmu import copy_in, copy_out
from mmcore.paging import PAGE_SIZE

WINDOW = 9  # [bytes]
_GET, _SET, _INCRBY, _OVERFLOW = pack(b"GET"), pack(b"SET"), pack(b"INCRBY"), pack(b"OVERFLOW")
_WRAP, _SAT, _FAIL = pack(b"WRAP"), pack(b"SAT"), pack(b"FAIL")
_FIELD_COPIES = 3 * PAGE_SIZE  # [bytes]: a snapshot may share the two pages that a field lies on, and their table
_BITS_MAX = ((1 << 32) - 1) << 3  # an entry has four bytes for the length of its value


@kernel
def _type(context, i):  # type: ignore[no-untyped-def]
    # (bits, whether signed) of the type in argument i, as in i16 or u8; 0 bits for none.
    text, start, count = query(context), arg_offset(context, i), arg_length(context, i)
    signed = count > 0 and text[start] == 105
    if not signed and (count == 0 or text[start] != 117):
        return 0, False
    valid, bits = parse_integer(text, start + 1, count - 1)
    return (bits if valid and 1 <= bits <= 63 + signed else 0), signed


@kernel
def _offset(context, i, bits):  # type: ignore[no-untyped-def]
    # The first bit of a field, as argument i says: a number, or # and a number of fields; -1 if it is out of range.
    text, start, count = query(context), arg_offset(context, i), arg_length(context, i)
    hashed = count > 0 and text[start] == 35
    valid, offset = parse_integer(text, start + hashed, count - hashed)
    if not valid or (hashed and (offset < 0 or offset > INT64_MAX // 64)):
        return -1
    if hashed:
        offset *= bits
    return offset if bit_in_range(context, offset) and offset + bits <= _BITS_MAX else -1


@kernel
def _arguments_of(name):  # type: ignore[no-untyped-def]
    # How many arguments follow the name of an operation; -1 for another word.
    if name == _GET:
        return 2
    if name == _SET or name == _INCRBY:
        return 3
    return 1 if name == _OVERFLOW else -1


@linked(int64(CONTEXT, int64))
def _operation_error(context, i):  # type: ignore[no-untyped-def]
    """The error of the operation that begins at argument i, -1 for none."""
    name = word(context, i)
    following = _arguments_of(name)
    if following < 0 or i + following >= context.call[ARGC]:
        return SYNTAX
    if name == _OVERFLOW:
        kind = word(context, i + 1)
        return -1 if kind == _WRAP or kind == _SAT or kind == _FAIL else OVERFLOW_TYPE
    bits, _ = _type(context, i + 1)
    if bits == 0:
        return FIELD_TYPE
    if _offset(context, i + 2, bits) < 0:
        return BIT_OFFSET
    if name != _GET:
        valid, _ = integer_argument(context, i + 3)
        if not valid:
            return NOT_INTEGER
    return -1


@linked(int64(CONTEXT))
def _last_written(context):  # type: ignore[no-untyped-def]
    """Read all operations: the last bit that one of them writes, -1 if none writes; -2 with an error reply."""
    last, i = -1, 2
    while i < context.call[ARGC]:
        error = _operation_error(context, i)
        if error >= 0:
            reply_error(context, error)
            return -2
        name = word(context, i)
        if name == _SET or name == _INCRBY:
            bits, _ = _type(context, i + 1)
            last = max(last, _offset(context, i + 2, bits) + bits - 1)
        i += 1 + _arguments_of(name)
    return last


@linked(int64(CONTEXT))
def _operations(context):  # type: ignore[no-untyped-def]
    """How many operations are replied to."""
    count, i = 0, 2
    while i < context.call[ARGC]:
        name = word(context, i)
        count += name != _OVERFLOW
        i += 1 + _arguments_of(name)
    return count


@kernel
def _part(shift, bits, byte):  # type: ignore[no-untyped-def]
    # (bits of the field in a byte of its window, bits of that byte behind them, bits of the field behind them).
    low, high = max(0, shift - 8 * byte), min(8, shift + bits - 8 * byte)
    return high - low, 8 - high, shift + bits - 8 * byte - high


@kernel
def _read_field(window, shift, bits, signed):  # type: ignore[no-untyped-def]
    # The field of `bits` bits from bit `shift` of the window on.
    value = uint64(0)
    for byte in range((shift + bits + 7) >> 3):
        width, behind, _ = _part(shift, bits, byte)
        value = value << uint64(width) | uint64((int64(window[byte]) >> behind) & ((1 << width) - 1))
    if signed:
        return int64(value << uint64(64 - bits)) >> (64 - bits)
    return int64(value)


@kernel
def _write_field(window, shift, bits, value):  # type: ignore[no-untyped-def]
    # The inverse: the low `bits` bits of `value`.
    for byte in range((shift + bits + 7) >> 3):
        width, behind, follow = _part(shift, bits, byte)
        mask = (1 << width) - 1
        window[byte] = int64(window[byte]) & ~(mask << behind) & 255 | (value >> follow & mask) << behind


@kernel
def _narrow(value, bits, signed):  # type: ignore[no-untyped-def]
    # The part of a value that a field of `bits` bits keeps.
    if signed:
        return int64(uint64(value) << uint64(64 - bits)) >> (64 - bits)
    return value & ((1 << bits) - 1)


@kernel
def _new_value(name, old, operand, bits, signed, overflow):  # type: ignore[no-untyped-def]
    # (the value that SET or INCRBY gives a field, whether it does not fit and OVERFLOW is FAIL).
    most = INT64_MAX if bits == 64 else (1 << (bits - signed)) - 1
    least = -most - 1 if signed else 0
    if name == _SET:  # an unsigned field takes a negative number for a large one
        above, below = operand > most or (not signed and operand < 0), operand < least and signed
        new = operand
    else:
        above, below = operand > 0 and old > most - operand, operand < 0 and old < least - operand
        new = int64(uint64(old) + uint64(operand))
    if not above and not below:
        return new, False
    if overflow == _SAT:
        return (most if above else least), False
    return _narrow(new, bits, signed), overflow == _FAIL


@kernel
def _operate(context, i, value, length, overflow, grown):  # type: ignore[no-untyped-def]
    # Carry out the operation at argument i on the string at `value`, and reply.  Returns whether it counts as a change.
    name = word(context, i)
    bits, signed = _type(context, i + 1)
    offset = _offset(context, i + 2, bits)
    at, shift = offset >> 3, offset & 7
    size = (shift + bits + 7) >> 3
    window = bytes_at(context.shard[SCRATCH_ADDRESS], WINDOW)
    fill_bytes(window, 0, 0, WINDOW)
    if at < length:
        copy_out(context.space, value + at, window, 0, min(size, length - at))
    old = _read_field(window, shift, bits, signed)
    if name == _GET:
        reply_integer(context, old)
        return False
    _, operand = integer_argument(context, i + 3)
    new, failed = _new_value(name, old, operand, bits, signed, overflow)
    if failed:
        reply_null(context)
        return False
    reply_integer(context, old if name == _SET else new)
    if new != old:
        _write_field(window, shift, bits, new)
        heap_repay_zeros(context.space, value, at, size)
        copy_in(context.space, value + at, window, 0, size)
    return new != old or grown != 0


@linked(int64(CONTEXT, int64, int64, int64))
def _operate_all(context, value, length, grown):  # type: ignore[no-untyped-def]
    """Carry out all operations on the string of `length` bytes at `value`, and reply.  Returns how many are changes.

    These are the writes that have changed a field; or, if the string has `grown`, those that did not fail.
    """
    reply_array(context, _operations(context))
    overflow, changes, i = _WRAP, 0, 2
    while i < context.call[ARGC]:
        name = word(context, i)
        if name == _OVERFLOW:
            overflow = word(context, i + 1)
        else:
            changes += _operate(context, i, value, length, overflow, grown)
        i += 1 + _arguments_of(name)
    return changes


@linked(int64(CONTEXT))
def _read_only(context):  # type: ignore[no-untyped-def]
    """All operations are GET."""
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    if entry == 0:
        _operate_all(context, 0, 0, 0)
    else:
        _operate_all(context, entry_value(context, entry), entry_length(context, entry), 0)
    return 0


@linked(HANDLER)
def bitfield(context):  # type: ignore[no-untyped-def]
    """BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY ...]"""
    last = _last_written(context)
    if last == -2:
        return 0
    if last == -1:
        return _read_only(context)
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    entry = slot_entry(context, slot)
    if is_refused(context, entry):
        return 0
    before = entry_length(context, entry) if slot != 0 else 0
    length, fields = max(before, (last >> 3) + 1), (context.call[ARGC] - 2) // 4 + 1
    size = bytes_to_grow(key_size, before, length) + min(_FIELD_COPIES * fields, 2 * before)
    if not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, size):
        return 0
    room = grow_value(context, context.call[DB], key, key_size, slot, hash_, length, WINDOW)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    changes = _operate_all(context, room, length, int64(length > before))
    if changes > 0 or length > before:  # Redis does not tell that a string has grown when no field could be written
        changed(context, context.call[DB], key, key_size, hash_, SETBIT, max(changes, 1))
    return 0


@linked(HANDLER)
def bitfield_ro(context):  # type: ignore[no-untyped-def]
    """BITFIELD_RO key [GET type offset ...]"""
    last = _last_written(context)
    if last == -1:
        return _read_only(context)
    if last >= 0:
        reply_error(context, FIELD_READ_ONLY)
    return 0
