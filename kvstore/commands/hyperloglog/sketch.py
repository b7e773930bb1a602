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
SKETCH_MAX bytes, and for SLACK more, which a word may be read from.  Those that have a parameter `start` work on a
sketch at any place, such as a frame: they touch no byte behind it.  Places of runs are counted from `start` on.

To raise a register of a sparse sketch, the run that has it is found, the runs that replace it are made, as a word of
at most five bytes, and put in its place.  Then neighbours of one value are joined.  Redis does the same, so all bytes
are its own on the way.
"""

from kvstore.commands.hyperloglog.elements import REGISTERS
from mmcore.jit import bytes32, bytes64, copy_bytes, fill_bytes, int64, kernel, linked, ones, put64, uint8

DENSE, SPARSE = 0, 1
ENCODING, CARDINALITY, HEADER = 4, 8, 16
STALE = 15  # the byte with the bit that says that the cardinality is out of date
MAGIC = int.from_bytes(b"HYLL", "little")
BITS, REGISTER_MAX = 6, 63
DENSE_SIZE = HEADER + REGISTERS * BITS // 8
ZERO_MAX, XZERO_MAX = 64, REGISTERS  # registers in a run
RUN_MAX, VALUE_MAX = 4, 32  # of a VAL: registers, and value
KEPT = 8  # registers between the end of the run that a search begins at and the register that is searched
SKETCH_MAX = HEADER + 2 * REGISTERS + 8  # no run takes more than two bytes for a register
SLACK = 8
ZERO, XZERO, VAL = range(3)
CORRUPT = -1
_ONES, _EVEN, _SUM = 0x0101_0101_0101_0101, 0x00FF_00FF_00FF_00FF, 0x0001_0001_0001_0001  # of bytes of a word
_COUNTS, _VALUE = 0x3F3F_3F3F_3F3F_3F3F, 0x3C  # where ZERO has its registers - 1; what VAL has beside them
assert KEPT > RUN_MAX


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
def _zeros(count):  # type: ignore[no-untyped-def]
    # A run of zeros: (its bytes as a word, how many).
    if count > ZERO_MAX:
        return 0x40 | (count - 1) >> 8 | ((count - 1) & 255) << 8, 2
    return count - 1, 1


@kernel
def _values(value, count):  # type: ignore[no-untyped-def]
    # The byte of a run of a value.
    return 0x80 | (value - 1) << 2 | (count - 1)


@kernel
def _run(value, count):  # type: ignore[no-untyped-def]
    # A run of registers that are `value`: (its bytes as a word, how many).
    if value > 0:
        return _values(value, count), 1
    return _zeros(count)


@kernel
def sketch_new(sketch):  # type: ignore[no-untyped-def]
    """Make an empty sketch, which is sparse; returns its length."""
    fill_bytes(sketch, 0, 0, HEADER)
    for i in range(4):
        sketch[i] = MAGIC >> (8 * i) & 255
    sketch[ENCODING] = SPARSE
    word, size = _zeros(REGISTERS)
    for i in range(size):
        sketch[HEADER + i] = word >> (8 * i) & 255
    return HEADER + size


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
def is_sparse(sketch, start, length):  # type: ignore[no-untyped-def]
    """Whether a string of `length` bytes looks like a sparse sketch."""
    return length >= HEADER and bytes32(sketch, start) == MAGIC and sketch[start + ENCODING] == SPARSE


@kernel
def find_run(sketch, start, length, at, first, index):  # type: ignore[no-untyped-def]
    """The run that has register `index`; the search begins at the run at `at`, whose first register is `first`.

    Returns (its place, the place of the run before it, its first register, registers, value, bytes).  It has 0 bytes if
    the sketch is corrupt.  The place of the run before the one at `at` is given as `at`.
    """
    previous = at
    while at + 8 <= length:  # a word at a time: its bytes before the first XZERO are a run each
        word = bytes64(sketch, start + at)
        mark = word >> 6 & ~(word >> 7) & _ONES
        before = (mark & -mark) - 1  # the bits of those bytes; all if there is no XZERO
        short, runs = ones(before) >> 3, word & before
        counts = runs & _COUNTS & ~((runs >> 7 & _ONES) * _VALUE)
        counts = (counts & _EVEN) + (counts >> 8 & _EVEN)
        passed, size, last = short + (counts * _SUM >> 48 & 0xFFFF), short, 1
        if short < 7:
            pair = word >> (8 * short)
            passed, size, last = passed + ((pair & 63) << 8 | pair >> 8 & 255) + 1, short + 2, 2
        if index < first + passed:
            break
        first, at = first + passed, at + size
        previous = at - last
    while at < length:
        byte, size, old = int64(sketch[start + at]), 1, 0
        if byte & 0x80:
            count, old = (byte & 3) + 1, (byte >> 2 & 31) + 1
        elif byte & 0x40:
            if at + 1 == length:
                break
            count, size = ((byte & 63) << 8 | int64(sketch[start + at + 1])) + 1, 2
        else:
            count = byte + 1
        if index < first + count:
            return at, previous, first, count, old, size
        previous, first = at, first + count
        at += size
    return at, previous, first, 0, 0, 0


@linked(int64(uint8[::1], int64, int64))
def is_sound(sketch, start, length):  # type: ignore[no-untyped-def]
    """Whether the runs of a sparse sketch are all of its registers (0 or 1)."""
    at, registers = start + HEADER, 0
    while at < start + length:
        _, count, _, size = run_at(sketch, at, start + length)
        if size == 0:
            return 0
        registers += count
        at += size
    return 1 if registers == REGISTERS else 0


@kernel
def split_run(old, before, new, behind):  # type: ignore[no-untyped-def]
    """The runs that replace one of `before` + 1 + `behind` registers that are `old`, when one of them becomes `new`.

    Returns (their bytes as a word, how many).
    """
    word, size = 0, 0
    if before > 0:
        word, size = _run(old, before)
    word |= _values(new, 1) << (8 * size)
    size += 1
    if behind > 0:
        run, more = _run(old, behind)
        word |= run << (8 * size)
        size += more
    return word, size


@linked(int64(uint8[::1], int64, int64, int64))
def _join(sketch, start, length, at):  # type: ignore[no-untyped-def]
    """Join neighbours of the same value among the five runs from `at` on; returns the length then."""
    steps = 5
    while at < length and steps > 0:
        steps -= 1
        byte = int64(sketch[start + at])
        if byte & 0x80 == 0:
            at += 2 if byte & 0x40 else 1
            continue
        if at + 1 < length and sketch[start + at + 1] & 0x80:
            other = int64(sketch[start + at + 1])
            count = (byte & 3) + (other & 3) + 2
            if byte >> 2 == other >> 2 and count <= RUN_MAX:
                sketch[start + at + 1] = _values((byte >> 2 & 31) + 1, count)
                copy_bytes(sketch, start + at, sketch, start + at + 1, length - at - 1)
                length -= 1
                continue  # with the run that the two have become
        at += 1
    return length


@kernel
def put_runs(sketch, start, length, at, size, word, new_size, previous):  # type: ignore[no-untyped-def]
    """Put runs, a word of `new_size` bytes, in the place of the `size` bytes at `at`; returns the length then."""
    if new_size != size:
        copy_bytes(sketch, start + at + new_size, sketch, start + at + size, length - at - size)
    for i in range(new_size):
        sketch[start + at + i] = word >> (8 * i) & 255
    sketch[start + STALE] |= 0x80
    return _join(sketch, start, length + new_size - size, previous)


@linked(int64(uint8[::1], int64, int64, int64, int64, int64, int64, uint8[::1]))
def sparse_set(sketch, length, mark, first, index, value, limit, room):  # type: ignore[no-untyped-def]
    """Raise a register of a sparse sketch of `length` bytes to a value.

    Returns twice its length then, plus 1 if that has changed it; or CORRUPT.  It becomes dense if the value is too high
    for a run, or the length would exceed `limit`.  mark, first: see find_run; room: see to_dense.
    """
    if length + 3 > SKETCH_MAX:
        return CORRUPT
    at, previous, before, count, old, size = find_run(sketch, 0, length, mark, first, index)
    if size == 0:
        return CORRUPT
    if old >= value:
        return 2 * length
    word, new_size = 0, 0
    if value <= VALUE_MAX:
        word, new_size = split_run(old, index - before, value, before + count - 1 - index)
    if value > VALUE_MAX or (new_size > size and length + new_size - size > limit):
        length = to_dense(sketch, length, room)
        if length != CORRUPT:
            dense_set(sketch, index, value)
            mark_stale(sketch)
        return 2 * length + 1 if length != CORRUPT else CORRUPT
    return 2 * put_runs(sketch, 0, length, at, size, word, new_size, previous) + 1


@kernel
def sketch_set(sketch, length, index, value, limit, room):  # type: ignore[no-untyped-def]
    """sparse_set of a sketch of either encoding, whose runs are searched from the first one on."""
    if sketch[ENCODING] == SPARSE:
        return sparse_set(sketch, length, HEADER, 0, index, value, limit, room)
    changed = dense_set(sketch, index, value)
    if changed:
        mark_stale(sketch)
    return 2 * length + changed


@linked(int64(uint8[::1], int64, uint8[::1], int64, uint8[::1]))
def raise_all(sketch, length, registers, limit, room):  # type: ignore[no-untyped-def]
    """Raise all registers of a sketch to those that are given, a byte each, in order: its length then, or CORRUPT.

    The search for a run does not begin at the first one but at `mark`, a run that ends KEPT registers or more before
    the register.  So it goes over each run a few times only.  It finds what a search from the beginning would: the run,
    and the one before it.  A run at `mark` that was joined with others has RUN_MAX registers at most, so it still ends
    before the next register.
    """
    mark, first = HEADER, 0
    for index in range(REGISTERS):
        value = int64(registers[index])
        if value == 0:
            continue
        if sketch[ENCODING] == DENSE:
            dense_set(sketch, index, value)
            continue
        _, count, _, size = run_at(sketch, mark, length)
        while size > 0 and mark + size < length:  # pass over a run if the next one ends early enough, too
            _, more, _, next_size = run_at(sketch, mark + size, length)
            if first + count + more > index - KEPT:
                break
            mark, first = mark + size, first + count
            count, size = more, next_size
        length = sparse_set(sketch, length, mark, first, index, value, limit, room) >> 1
        if length == CORRUPT:
            return CORRUPT
    return length


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
