"""The layout of a node of a stream (stream.py), by its index in mem.bytes, `at`.

OFFSET          SIZE  DESCRIPTION
0               5     lengths of an element's key, 8, and of its payload, as element.py has them
5               8     the base's second half, big-endian: the key that a tree compares where first halves are equal
13              16    the base: the identifier that the entries' are told from
29              2     entries
31              2     entries that it has ever had
33              2     offset of the first free byte
35              2     offset of the first entry
37              2     number of master fields
39              2     capacity: bytes of the allocation; 0 for a long node
41                    the names of the master fields, each a length and its bytes, and then the entries
capacity-6-2(i+1)  2  end of entry i
capacity-6      6     nothing, so that a word may be read from any place of an entry

So a node is an element, and what frees, moves and copies elements needs to know no more of it.

An identifier is two words, milliseconds and a sequence number.  Both are kept *ordered*: less 2^63, so that their order
as signed integers is that of unsigned ones.

An entry is a byte that tells its form, the distance of its milliseconds from the base's in 0 to 6 or 8 bytes, its
sequence number in as many, and texts, each a length and its bytes.  The sequence number is a distance, too, where the
milliseconds are the base's.  An entry with the master fields has values alone (SAME).  Any other has the number of its
fields, and each field with its value.  A length is one byte below 128, else four; the lowest bit of the first tells.

A node lies within one page, so that it is translated once.  An entry that does not fit is alone in a *long* node, which
is a run of pages.  It has no master fields and no ends, its base is its identifier, and it is read by stream_long.py.
"""

from mmcore.jit import bytes32, bytes64, copy_bytes, int64, kernel, linked, put32, put64, uint8, void

KEY_SIZE = 8
KEY_OFFSET, BASE_MS, BASE_SEQ, COUNTS, FORM, CONTENT = 5, 13, 21, 29, 37, 41
PAYLOAD_OFFSET = BASE_MS  # of the element
LEAST_CAPACITY = 144  # [bytes]: so the payload's length always takes four
SPARE = 6
END_SIZE = 2
ADDED_PLACE, STOP_PLACE, START_PLACE = 16, 32, 48  # in the word at COUNTS
CAPACITY_PLACE = 16  # in the word at FORM
COUNT_MAX = 0xFFFF
SAME, MS_PLACE, SEQ_PLACE, FORM_SIZE = 1, 1, 4, 1  # in an entry's first byte
LENGTH_SHORT = 127  # the longest length that one byte holds
ORDERED = -0x8000_0000_0000_0000  # xor-ed with a half of an identifier
NODE_MAX = 4096  # [bytes] of a node that is not long
ENTRY_MAX = 3072  # [bytes] of an entry that goes to such a node, with its names
SLACK = 8  # [bytes] that an identifier overwrites beside its own
assert CONTENT + ENTRY_MAX + SPARE + END_SIZE + SLACK <= NODE_MAX


# --- the header ------------------------------------------------------------------------------------------------------


@kernel
def entries_of(counts):  # type: ignore[no-untyped-def]
    """Entries of a node, from the word at COUNTS."""
    return counts & 0xFFFF


@kernel
def added_of(counts):  # type: ignore[no-untyped-def]
    """Entries that it has ever had."""
    return counts >> ADDED_PLACE & 0xFFFF


@kernel
def stop_of(counts):  # type: ignore[no-untyped-def]
    """Offset of the first free byte."""
    return counts >> STOP_PLACE & 0xFFFF


@kernel
def start_of(counts):  # type: ignore[no-untyped-def]
    """Offset of the first entry."""
    return counts >> START_PLACE & 0xFFFF


@kernel
def counts_of(entries, added, stop, start):  # type: ignore[no-untyped-def]
    """The word at COUNTS."""
    return entries | added << ADDED_PLACE | stop << STOP_PLACE | start << START_PLACE


@kernel
def capacity_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes of the allocation; 0 for a long node."""
    return bytes32(memory, at + FORM) >> CAPACITY_PLACE


@kernel
def masters_at(memory, at):  # type: ignore[no-untyped-def]
    """Number of master fields."""
    return bytes32(memory, at + FORM) & 0xFFFF


@kernel
def put_header(memory, at, capacity, size, ms, seq):  # type: ignore[no-untyped-def]
    """Write the header of an empty node of `size` bytes without master fields; `capacity` is 0 for a long one."""
    payload = size - PAYLOAD_OFFSET
    memory[at] = KEY_SIZE
    for i in range(4):
        memory[at + 1 + i] = payload >> (8 * (3 - i)) & 0xFF
    memory[at + 1] |= 0x80
    put_base(memory, at, ms, seq)
    put64(memory, at + COUNTS, counts_of(0, 0, CONTENT, CONTENT))
    put32(memory, at + FORM, capacity << CAPACITY_PLACE)


@kernel
def put_base(memory, at, ms, seq):  # type: ignore[no-untyped-def]
    """Store the base."""
    put64(memory, at + BASE_MS, ms)
    put64(memory, at + BASE_SEQ, seq)
    plain = seq ^ ORDERED
    for i in range(KEY_SIZE):
        memory[at + KEY_OFFSET + i] = plain >> (8 * (KEY_SIZE - 1 - i)) & 0xFF


# --- numbers ---------------------------------------------------------------------------------------------------------


@kernel
def length_size(length):  # type: ignore[no-untyped-def]
    """Bytes that a length takes."""
    return 1 if length <= LENGTH_SHORT else 4


@kernel
def length_at(memory, at):  # type: ignore[no-untyped-def]
    """(a length, the index behind it)."""
    word = bytes32(memory, at)
    if word & 1:
        return word >> 1, at + 4
    return (word & 0xFF) >> 1, at + 1


@kernel
def put_length(memory, at, length):  # type: ignore[no-untyped-def]
    """Store a length; returns the index behind it."""
    if length <= LENGTH_SHORT:
        memory[at] = length << 1
        return at + 1
    put32(memory, at, length << 1 | 1)
    return at + 4


@kernel
def text_size(length):  # type: ignore[no-untyped-def]
    """Bytes of a text with its length."""
    return length_size(length) + length


@kernel
def _code_of(word):  # type: ignore[no-untyped-def]
    # How many bytes a number takes, without a sign: 0 to 6, or 7, which stands for 8.
    code = 0
    while code < 7 and (word >> (8 * code) != 0 if word >= 0 else True):
        code += 1
    return code


@kernel
def _bytes_of(code):  # type: ignore[no-untyped-def]
    return code + (code == 7)


@kernel
def _number(memory, at, code):  # type: ignore[no-untyped-def]
    word = bytes64(memory, at)
    return word if code == 7 else word & ((int64(1) << (8 * code)) - 1)


@kernel
def sequence_told(ms, seq, base_ms, base_seq):  # type: ignore[no-untyped-def]
    """The number that an entry tells its sequence number by."""
    return seq - base_seq if ms == base_ms else seq ^ ORDERED


@kernel
def identifier_size(ms, seq, base_ms, base_seq):  # type: ignore[no-untyped-def]
    """Bytes of an entry's form and identifier."""
    return (
        FORM_SIZE + _bytes_of(_code_of(ms - base_ms)) + _bytes_of(_code_of(sequence_told(ms, seq, base_ms, base_seq)))
    )


@kernel
def put_identifier(memory, at, ms, seq, base_ms, base_seq, same):  # type: ignore[no-untyped-def]
    """Store an entry's form and identifier; returns the index behind them.  Up to 7 bytes more are overwritten."""
    distance, told = ms - base_ms, sequence_told(ms, seq, base_ms, base_seq)
    first, second = _code_of(distance), _code_of(told)
    memory[at] = same | first << MS_PLACE | second << SEQ_PLACE
    at += FORM_SIZE
    put64(memory, at, distance)
    at += _bytes_of(first)
    put64(memory, at, told)
    return at + _bytes_of(second)


# --- entries ---------------------------------------------------------------------------------------------------------


@kernel
def end_at(memory, at, capacity, i):  # type: ignore[no-untyped-def]
    """Offset behind entry `i`."""
    return bytes32(memory, at + capacity - SPARE - END_SIZE * (i + 1)) & 0xFFFF


@kernel
def offset_at(memory, at, i):  # type: ignore[no-untyped-def]
    """Offset of entry `i`."""
    if i == 0:
        return start_of(bytes64(memory, at + COUNTS))
    return end_at(memory, at, capacity_at(memory, at), i - 1)


@kernel
def put_end(memory, at, capacity, i, end):  # type: ignore[no-untyped-def]
    """Store the offset behind entry `i`."""
    place = at + capacity - SPARE - END_SIZE * (i + 1)
    memory[place] = end & 0xFF
    memory[place + 1] = end >> 8


@kernel
def entry_at(memory, at, i):  # type: ignore[no-untyped-def]
    """(milliseconds, sequence number, index of its texts, SAME or 0) of entry `i`."""
    base_ms, base_seq = bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ)
    place = at + offset_at(memory, at, i)
    form = bytes32(memory, place) & 0xFF
    place += FORM_SIZE
    first, second = form >> MS_PLACE & 7, form >> SEQ_PLACE & 7
    distance = _number(memory, place, first)
    place += _bytes_of(first)
    told = _number(memory, place, second)
    seq = base_seq + told if distance == 0 else told ^ ORDERED
    return base_ms + distance, seq, place + _bytes_of(second), form & SAME


@kernel
def is_before(ms, seq, other_ms, other_seq):  # type: ignore[no-untyped-def]
    """Whether an identifier comes before another one."""
    return ms < other_ms or (ms == other_ms and seq < other_seq)


@linked(int64(uint8[::1], int64, int64, int64))
def entries_before(memory, at, ms, seq):  # type: ignore[no-untyped-def]
    """Number of entries that come before an identifier."""
    low, high = int64(0), entries_of(bytes64(memory, at + COUNTS))
    if capacity_at(memory, at) == 0:
        return 1 if is_before(bytes64(memory, at + BASE_MS), bytes64(memory, at + BASE_SEQ), ms, seq) else 0
    while low < high:
        middle = (low + high) >> 1
        its_ms, its_seq, _, _ = entry_at(memory, at, middle)
        if is_before(its_ms, its_seq, ms, seq):
            low = middle + 1
        else:
            high = middle
    return low


@linked(void(uint8[::1], int64, int64, int64))
def close_entries(memory, at, i, n):  # type: ignore[no-untyped-def]
    """Remove `n` entries from place `i` on, and close their gap."""
    counts, capacity = bytes64(memory, at + COUNTS), capacity_at(memory, at)
    entries, stop = entries_of(counts), stop_of(counts)
    first, behind = offset_at(memory, at, i), end_at(memory, at, capacity, i + n - 1)
    copy_bytes(memory, at + first, memory, at + behind, stop - behind)
    for j in range(i + n, entries):
        put_end(memory, at, capacity, j - n, end_at(memory, at, capacity, j) - (behind - first))
    stop -= behind - first
    put64(memory, at + COUNTS, counts_of(entries - n, added_of(counts), stop, start_of(counts)))


@kernel
def free_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes that another entry may take, beside its end; below zero where there is no room for one."""
    counts = bytes64(memory, at + COUNTS)
    return capacity_at(memory, at) - SPARE - SLACK - END_SIZE * (entries_of(counts) + 1) - stop_of(counts)


@kernel
def held_at(memory, at):  # type: ignore[no-untyped-def]
    """Bytes of an allocation that holds what a node has and no more."""
    counts = bytes64(memory, at + COUNTS)
    return SPARE + END_SIZE * entries_of(counts) + stop_of(counts)


@linked(void(uint8[::1], int64, int64))
def copy_node(memory, to, at):  # type: ignore[no-untyped-def]
    """Copy what a node holds to an empty one, which has room for it."""
    counts, capacity, target = bytes64(memory, at + COUNTS), capacity_at(memory, at), capacity_at(memory, to)
    copy_bytes(memory, to + CONTENT, memory, at + CONTENT, stop_of(counts) - CONTENT)
    size = END_SIZE * entries_of(counts)
    copy_bytes(memory, to + target - SPARE - size, memory, at + capacity - SPARE - size, size)
    put64(memory, to + COUNTS, counts)
    put32(memory, to + FORM, masters_at(memory, at) | target << CAPACITY_PLACE)
