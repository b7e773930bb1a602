"""A HyperLogLog, or sketch: a string, byte for byte as Redis has it.

    OFFSET  SIZE   DESCRIPTION
    0       4      "HYLL"
    4       1      encoding: DENSE or SPARSE
    5       3      nothing
    8       8      the cardinality that was computed last; its highest bit is set when the registers have changed since
    16      ...    the registers

Dense: 16384 registers of six bits, each from the lowest bits of a byte on, and going on in the low bits of the next.

Sparse: runs of registers, one after the other, which together are all of them.

    00xxxxxx             ZERO     x + 1 registers are 0
    01xxxxxx xxxxxxxx    XZERO    x + 1 registers are 0
    1vvvvvxx             VAL      x + 1 registers are v + 1

A string may come from anywhere.  So nothing is taken from it for granted: a run that ends behind the string, or runs
that are not of 16384 registers, make it corrupt.

Here are the functions on a sketch in a buffer of the process, uint8[...], in which it is at 0.  A buffer has room for
SKETCH_MAX bytes, and for SLACK more, which a word may be read from.
"""

from kvstore.commands.hyperloglog.elements import REGISTERS
from mmcore.jit import bytes64, copy_bytes, fill_bytes, int64, kernel, linked, put64, uint8

DENSE, SPARSE = 0, 1
ENCODING, CARDINALITY, HEADER = 4, 8, 16
STALE = 15  # the byte with the bit that says that the cardinality is out of date
MAGIC = int.from_bytes(b"HYLL", "little")
BITS, REGISTER_MAX = 6, 63
DENSE_SIZE = HEADER + REGISTERS * BITS // 8
ZERO_MAX, XZERO_MAX = 64, REGISTERS  # registers in a run
RUN_MAX, VALUE_MAX = 4, 32  # of a VAL: registers, and value
SKETCH_MAX = HEADER + 2 * REGISTERS + 8  # no run takes more than two bytes for a register
SLACK = 8
ZERO, XZERO, VAL = range(3)
CORRUPT = -1


@kernel
def dense_get(sketch, index):  # type: ignore[no-untyped-def]
    """A register of a dense sketch."""
    at, shift = HEADER + (BITS * index >> 3), BITS * index & 7
    return (int64(sketch[at]) | int64(sketch[at + 1]) << 8) >> shift & REGISTER_MAX


@kernel
def dense_set(sketch, index, value):  # type: ignore[no-untyped-def]
    """Raise a register of a dense sketch to a value; returns whether it was lower."""
    at, shift = HEADER + (BITS * index >> 3), BITS * index & 7
    pair = int64(sketch[at]) | int64(sketch[at + 1]) << 8
    if pair >> shift & REGISTER_MAX >= value:
        return False
    pair = pair & ~(REGISTER_MAX << shift) | value << shift
    sketch[at] = pair & 255
    sketch[at + 1] = pair >> 8
    return True


@kernel
def run_at(sketch, at, length):  # type: ignore[no-untyped-def]
    """(kind, registers, value, bytes) of the run at `at`; 0 bytes if it ends behind the sketch."""
    byte = int64(sketch[at])
    if byte & 0x80:
        return VAL, (byte & 3) + 1, (byte >> 2 & 31) + 1, 1
    if byte & 0x40:
        return XZERO, ((byte & 63) << 8 | int64(sketch[at + 1])) + 1, 0, 2 if at + 1 < length else 0
    return ZERO, byte + 1, 0, 1


@kernel
def _put_zeros(sketch, at, count):  # type: ignore[no-untyped-def]
    # Write a run of zeros; returns where it ends.
    if count > ZERO_MAX:
        sketch[at] = 0x40 | (count - 1) >> 8
        sketch[at + 1] = (count - 1) & 255
        return at + 2
    sketch[at] = count - 1
    return at + 1


@kernel
def _put_value(sketch, at, value, count):  # type: ignore[no-untyped-def]
    # Write a run of a value; returns where it ends.
    sketch[at] = 0x80 | (value - 1) << 2 | (count - 1)
    return at + 1


@kernel
def sketch_new(sketch):  # type: ignore[no-untyped-def]
    """Make an empty sketch, which is sparse; returns its length."""
    fill_bytes(sketch, 0, 0, HEADER)
    for i in range(4):
        sketch[i] = MAGIC >> (8 * i) & 255
    sketch[ENCODING] = SPARSE
    return _put_zeros(sketch, HEADER, REGISTERS)


@kernel
def mark_stale(sketch):  # type: ignore[no-untyped-def]
    """The registers have changed: the cardinality is out of date."""
    sketch[STALE] |= 0x80


@linked(int64(uint8[::1], int64, uint8[::1]))
def to_dense(sketch, length, room):  # type: ignore[no-untyped-def]
    """Make a sparse sketch of `length` bytes dense: DENSE_SIZE, or CORRUPT with nothing changed.

    room: uint8[DENSE_SIZE + SLACK]
    """
    fill_bytes(room, 0, 0, DENSE_SIZE + SLACK)
    copy_bytes(room, 0, sketch, 0, HEADER)
    room[ENCODING] = DENSE
    at, index = HEADER, 0
    while at < length:
        _, count, value, size = run_at(sketch, at, length)
        if size == 0 or index + count > REGISTERS:
            return CORRUPT
        if value > 0:
            for i in range(index, index + count):
                dense_set(room, i, value)
        index += count
        at += size
    if index != REGISTERS:
        return CORRUPT
    copy_bytes(sketch, 0, room, 0, DENSE_SIZE + SLACK)
    return DENSE_SIZE


@kernel
def _split(sketch, at, kind, value, before, new, behind, seq):  # type: ignore[no-untyped-def]
    # The runs that replace one of `before` + 1 + `behind` registers, whose register `before` becomes `new`; their size.
    n = seq
    if kind == VAL:
        if before > 0:
            n = _put_value(sketch, n, value, before)
        n = _put_value(sketch, n, new, 1)
        if behind > 0:
            n = _put_value(sketch, n, value, behind)
    else:
        if before > 0:
            n = _put_zeros(sketch, n, before)
        n = _put_value(sketch, n, new, 1)
        if behind > 0:
            n = _put_zeros(sketch, n, behind)
    return n - seq


@linked(int64(uint8[::1], int64, int64))
def _merge(sketch, at, length):  # type: ignore[no-untyped-def]
    """Join neighbours of the same value among the five runs from `at` on; returns the length then."""
    steps = 5
    while at < length and steps > 0:
        steps -= 1
        byte = int64(sketch[at])
        if byte & 0x80 == 0:
            at += 2 if byte & 0x40 else 1
            continue
        if at + 1 < length and sketch[at + 1] & 0x80:
            other = int64(sketch[at + 1])
            count = (byte & 3) + (other & 3) + 2
            if byte >> 2 == other >> 2 and count <= RUN_MAX:
                _put_value(sketch, at + 1, (byte >> 2 & 31) + 1, count)
                copy_bytes(sketch, at, sketch, at + 1, length - at - 1)
                length -= 1
                continue  # with the run that the two have become
        at += 1
    return length


@linked(int64(uint8[::1], int64, int64, int64, int64, uint8[::1]))
def sparse_set(sketch, length, index, value, limit, room):  # type: ignore[no-untyped-def]
    """Raise a register of a sparse sketch of `length` bytes to a value.

    Returns twice its length then, plus 1 if that has changed it; or CORRUPT.  It becomes dense if the value is too high
    for a run, or the length would exceed `limit`.  room: see to_dense.
    """
    if length + 3 > SKETCH_MAX:
        return CORRUPT
    at, first, previous, kind, count, old, size = HEADER, 0, HEADER, ZERO, 0, 0, 0
    while at < length:
        kind, count, old, size = run_at(sketch, at, length)
        if size == 0:
            return CORRUPT
        if index < first + count:
            break
        previous = at
        at += size
        first += count
    if at >= length:
        return CORRUPT
    if old >= value:
        return 2 * length
    new_size, grown, seq = 0, 0, SKETCH_MAX
    if value <= VALUE_MAX:
        new_size = _split(sketch, at, kind, old, index - first, value, first + count - 1 - index, seq)
        grown = new_size - size
    if value > VALUE_MAX or (grown > 0 and length + grown > limit):
        length = to_dense(sketch, length, room)
        if length != CORRUPT:
            dense_set(sketch, index, value)
            mark_stale(sketch)
        return 2 * length + 1 if length != CORRUPT else CORRUPT
    copy_bytes(sketch, at + new_size, sketch, at + size, length - at - size)
    copy_bytes(sketch, at, sketch, seq, new_size)
    length = _merge(sketch, previous, length + grown)
    mark_stale(sketch)
    return 2 * length + 1


@kernel
def sketch_set(sketch, length, index, value, limit, room):  # type: ignore[no-untyped-def]
    """sparse_set of a sketch of either encoding."""
    if sketch[ENCODING] == SPARSE:
        return sparse_set(sketch, length, index, value, limit, room)
    changed = dense_set(sketch, index, value)
    if changed:
        mark_stale(sketch)
    return 2 * length + changed


@linked(int64(uint8[::1], int64, uint8[::1]))
def merge_into(sketch, length, registers):  # type: ignore[no-untyped-def]
    """Raise registers, a byte each, to those of a sketch: 0, or CORRUPT with some of them raised.

    registers: uint8[REGISTERS]
    """
    if sketch[ENCODING] == DENSE:
        for group in range(REGISTERS // 8):  # eight registers are six bytes
            word = bytes64(sketch, HEADER + 6 * group)
            for i in range(8):
                value = word >> (BITS * i) & REGISTER_MAX
                if value > registers[8 * group + i]:
                    registers[8 * group + i] = value
        return 0
    at, index = HEADER, 0
    while at < length:
        _, count, value, size = run_at(sketch, at, length)
        if size == 0 or index + count > REGISTERS:
            return CORRUPT
        if value > 0:
            for i in range(index, index + count):
                if value > registers[i]:
                    registers[i] = value
        index += count
        at += size
    return 0 if index == REGISTERS else CORRUPT


@kernel
def cached_cardinality(sketch):  # type: ignore[no-untyped-def]
    """The cardinality that was computed last; negative if it is out of date."""
    return bytes64(sketch, CARDINALITY)


@kernel
def cache_cardinality(sketch, cardinality):  # type: ignore[no-untyped-def]
    """Note the cardinality of the registers as they are."""
    put64(sketch, CARDINALITY, cardinality)
