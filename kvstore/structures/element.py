"""An element: a key and a payload in one piece of memory.

    varint   length of the key, k
    varint   length of the payload, p
    k        key
    p        payload

A set's member has no payload, a hash's field has its value, and a sorted set's member has its score.  A varint is one
byte below 128, or four bytes, big-endian, with the top bit set: lengths have 31 bits.

Such an element has an allocation of its own.  Up to a page it does not straddle two pages.  A longer one is a run of
pages, and all functions here work across pages.

A bare element is a key and its payload alone, in a block of a chain (chain.py), which knows both lengths.  It does not
straddle two pages, and both lengths fit a byte.

Both are named by a reference, a word: of an element the address, of a bare one the address with the lengths above it.
So what reads elements need not know where they lie.

    0 .. 44   address        45 .. 52   length of a bare element's key        53 .. 60   of its payload        61   BARE

An element is compared with bytes of the process, so that a caller can take them from a request or from another element.
"""

from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at, free, malloc
from mmcore.frames import has_frames
from mmcore.heap import HEAP_END, HEAP_FRAMES, heap_alloc, heap_free
from mmcore.jit import boolean, bytes64, int64, kernel, linked, void
from mmcore.mmu import compare, copy_in, copy_out, load8, load64, read_address, store8, store64
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

SHORT_MAX = 127  # the longest length that one byte holds
LENGTH_MAX = (1 << 31) - 1
HEADER_MAX = 8  # [bytes] of the two lengths
_KEY_PLACE, _PAYLOAD_PLACE = 45, 53
BARE = 1 << 61
_ADDRESS = (1 << _KEY_PLACE) - 1
assert HEAP_END <= 1 << _KEY_PLACE


@kernel
def varint_size(length):  # type: ignore[no-untyped-def]
    """Bytes that a length takes."""
    return 1 if length <= SHORT_MAX else 4


@kernel
def _load_varint(space, va):  # type: ignore[no-untyped-def]
    # A long length may straddle two pages, in an element that does.
    first = load8(space, va)
    if first <= SHORT_MAX:
        return first
    value = first & SHORT_MAX
    for i in range(1, 4):
        value = value << 8 | load8(space, va + i)
    return value


@kernel
def _store_varint(space, va, length):  # type: ignore[no-untyped-def]
    if length <= SHORT_MAX:
        store8(space, va, length)
    else:
        store8(space, va, length >> 24 | 0x80)
        store8(space, va + 1, length >> 16)
        store8(space, va + 2, length >> 8)
        store8(space, va + 3, length)


@kernel
def element_reference(va, k, p):  # type: ignore[no-untyped-def]
    """The reference of a bare element at an address, with a key of k and a payload of p bytes."""
    return va | k << _KEY_PLACE | p << _PAYLOAD_PLACE | BARE


@kernel
def element_size(k, p):  # type: ignore[no-untyped-def]
    """Bytes of an element with a key of k and a payload of p bytes, in an allocation of its own."""
    return varint_size(k) + varint_size(p) + k + p


@kernel
def element_key_length(space, va):  # type: ignore[no-untyped-def]
    """Length of the key [bytes]."""
    return va >> _KEY_PLACE & 0xFF if va >= BARE else _load_varint(space, va)


@kernel
def element_payload_length(space, va):  # type: ignore[no-untyped-def]
    """Length of the payload [bytes]."""
    if va >= BARE:
        return va >> _PAYLOAD_PLACE & 0xFF
    return _load_varint(space, va + varint_size(_load_varint(space, va)))


@kernel
def element_key(space, va):  # type: ignore[no-untyped-def]
    """Address of the key's first byte."""
    if va >= BARE:
        return va & _ADDRESS
    at = va + varint_size(_load_varint(space, va))
    return at + varint_size(_load_varint(space, at))


@kernel
def element_payload(space, va):  # type: ignore[no-untyped-def]
    """Address of the payload's first byte."""
    if va >= BARE:
        return (va & _ADDRESS) + (va >> _KEY_PLACE & 0xFF)
    k = _load_varint(space, va)
    at = va + varint_size(k)
    return at + varint_size(_load_varint(space, at)) + k


@kernel
def element_bytes(space, va):  # type: ignore[no-untyped-def]
    """Bytes of the whole element, or of a bare one if it had an allocation of its own."""
    return element_size(element_key_length(space, va), element_payload_length(space, va))


@linked(void(SPACE, int64, int64, int64, int64, int64))
def element_write(space, va, key, k, payload, p):  # type: ignore[no-untyped-def]
    """Write an element to `va`, from addresses of the process.  With payload 0 its bytes stay unwritten."""
    at = va & _ADDRESS
    if va < BARE:
        _store_varint(space, at, k)
        at += varint_size(k)
        _store_varint(space, at, p)
        at += varint_size(p)
    copy_in(space, at, bytes_at(key, k), 0, k)
    if payload != 0:
        copy_in(space, at + k, bytes_at(payload, p), 0, p)


@linked(int64(SPACE, int64, int64, int64, int64))
def element_alloc(space, key, k, payload, p):  # type: ignore[no-untyped-def]
    """A new element in an allocation of its own: its address, or 0 with nothing changed when frames ran out."""
    size = element_size(k, p)
    if not has_frames(space, HEAP_FRAMES + (size >> 12) + (size >> 20)):
        return 0
    va = heap_alloc(space, size)
    if va != 0:
        element_write(space, va, key, k, payload, p)
    return va


@linked(int64(SPACE, int64))
def element_free(space, va):  # type: ignore[no-untyped-def]
    """Free an element with an allocation of its own: 0, or NO_FRAME with nothing changed."""
    return heap_free(space, va, element_bytes(space, va))


@kernel
def pin(space, va, count):  # type: ignore[no-untyped-def]
    """Address in the process of the `count` bytes at `va`, or 0 where they straddle two pages.

    It is valid until the bytes are changed or freed.
    """
    if (va & PAGE_MASK) + count > PAGE_SIZE:
        return 0
    return int64(space.mem.bytes.ctypes.data) + read_address(space, va)


@linked(boolean(SPACE, int64, int64, int64))
def element_is(space, va, key, k):  # type: ignore[no-untyped-def]
    """Whether the element's key is the `k` bytes at `key`, in the process."""
    if element_key_length(space, va) != k:
        return False
    return compare(space, element_key(space, va), bytes_at(key, k), 0, k)


@kernel
def _order(a, at, b, start, count):  # type: ignore[no-untyped-def]
    # -1, 0 or 1: the order of `count` bytes of a[at:] and b[start:].
    same = 0
    while same + 8 <= count and bytes64(a, at + same) == bytes64(b, start + same):
        same += 8
    for i in range(same, count):
        if a[at + i] != b[start + i]:
            return -1 if a[at + i] < b[start + i] else 1
    return 0


@kernel
def _is_short(memory, va, at):  # type: ignore[no-untyped-def]
    # Whether the element at `va`, index `at`, has two lengths of one byte, and its key in the same page: most have.
    return (
        memory[at] <= SHORT_MAX
        and (va & PAGE_MASK) + 2 + int64(memory[at]) <= PAGE_SIZE
        and memory[at + 1] <= SHORT_MAX
    )


@kernel
def order_texts(a, at, k, b, start, n):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: the order of k bytes of a[at:] and n bytes of b[start:]; a prefix comes first."""
    order = _order(a, at, b, start, min(k, n))
    if order != 0:
        return order
    return 0 if k == n else -1 if k < n else 1


@linked(int64(SPACE, int64))
def load_word(space, va):  # type: ignore[no-untyped-def]
    """The word at `va`, which may straddle two pages."""
    if va & PAGE_MASK <= PAGE_SIZE - 8:
        return load64(space, va)
    word = 0
    for i in range(8):
        word |= load8(space, va + i) << (8 * i)
    return word


@linked(void(SPACE, int64, int64))
def store_word(space, va, word):  # type: ignore[no-untyped-def]
    """Store a word at `va`, even across two pages."""
    if va & PAGE_MASK <= PAGE_SIZE - 8:
        store64(space, va, word)
    else:
        for i in range(8):
            store8(space, va + i, word >> (8 * i) & 0xFF)


@linked(int64(SPACE, int64, int64, int64))
def element_compare(space, va, key, k):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: the order of the element's key and the `k` bytes at `key`; a prefix comes first."""
    memory, index = space.mem.bytes, read_address(space, va & _ADDRESS)
    if va >= BARE:
        return order_texts(memory, index, va >> _KEY_PLACE & 0xFF, bytes_at(key, k), 0, k)
    if _is_short(memory, va, index):
        return order_texts(memory, index + 2, int64(memory[index]), bytes_at(key, k), 0, k)
    mine, at, done = element_key_length(space, va), element_key(space, va), 0
    both, other = min(mine, k), bytes_at(key, k)
    while done < both:
        piece = min(both - done, PAGE_SIZE - ((at + done) & PAGE_MASK))
        order = _order(space.mem.bytes, read_address(space, at + done), other, done, piece)
        if order != 0:
            return order
        done += piece
    return 0 if mine == k else -1 if mine < k else 1


@linked(int64(SPACE, int64, int64))
def element_compare_two(space, a, b):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: the order of two elements' keys; neither is bare."""
    memory, a_index, b_index = space.mem.bytes, read_address(space, a), read_address(space, b)
    if _is_short(memory, a, a_index) and _is_short(memory, b, b_index):
        return order_texts(memory, a_index + 2, int64(memory[a_index]), memory, b_index + 2, int64(memory[b_index]))
    a_length, b_length = element_key_length(space, a), element_key_length(space, b)
    a_key, b_key, done = element_key(space, a), element_key(space, b), 0
    both = min(a_length, b_length)
    while done < both:
        piece = min(PAGE_SIZE - ((a_key + done) & PAGE_MASK), PAGE_SIZE - ((b_key + done) & PAGE_MASK))
        piece = min(piece, both - done)
        a_at, b_at = read_address(space, a_key + done), read_address(space, b_key + done)
        order = _order(space.mem.bytes, a_at, space.mem.bytes, b_at, piece)
        if order != 0:
            return order
        done += piece
    return 0 if a_length == b_length else -1 if a_length < b_length else 1


@linked(int64(SPACE, int64, int64))
def element_hash(space, va, seed):  # type: ignore[no-untyped-def]
    """The hash of the element's key."""
    k, at = element_key_length(space, va), element_key(space, va)
    if (at & PAGE_MASK) + k <= PAGE_SIZE:
        return hash_bytes(space.mem.bytes, read_address(space, at), k, seed)
    # Rare and long: copied to one piece of memory outside the address space, so that it can be hashed.
    address = malloc(k)
    assert address != 0, "out of memory for a long key"
    copy_out(space, at, bytes_at(address, k), 0, k)
    hash_ = hash_bytes(bytes_at(address, k), 0, k, seed)
    free(address)
    return hash_
