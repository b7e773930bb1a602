"""An entry: a key, its deadline and its value, in one allocation of the heap.

    OFFSET      SIZE  DESCRIPTION
    0           3     length of the key, k; LONG_KEY stands for a longer one
    3           1     flags, encoding and type
    4           4     length of the value, v
    8           8     length of the key                               with LONG_KEY, and all that follows 8 bytes later
    8           k     key
    8+k         8     deadline, Unix time [ms]                        with EXPIRY or LARGE
    ...         v     value
                8     or the address of the value, in a heap allocation of its own     with LARGE

    EXPIRY   the key has a deadline
    LARGE    the whole entry would not fit a page.  The value has an allocation of its own and stays where it is when
             the entry moves.  Such an entry always has room for a deadline, so EXPIRE does not even move the entry
    RAW      the value was edited in place; OBJECT ENCODING reports it as raw
    TEXT     the value was computed as text; OBJECT ENCODING does not report an integer, even if it spells one
    type     three bits, numbered as in Redis: STRING, LIST, SET, ZSET, HASH, STREAM

The value of any type but STRING is eight bytes: the address of its root (kvstore/structures/kinds.py).  Its entry has
an encoding (types.py) in the place of RAW and TEXT.

An entry does not know when it was last used: clocks.py does.

An entry whose key is too long for a page is a run of pages.  All functions here work across page boundaries.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.structures.collection import root_free, root_memory
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at, free, malloc
from mmcore.heap import heap_alloc, heap_free, heap_size
from mmcore.jit import bytes32, bytes64, equal_bytes, int64, kernel, linked, void
from mmcore.mmu import compare, copy_out, load32, load64, read_address, store32, store64, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

NO_DEADLINE = -1  # returned by `entry_deadline` for an entry without a deadline
FORM, VALUE_LENGTH, LONG_LENGTH = 0, 4, 8  # offsets in the header; the first word has flags and the key's length
HEADER, LONG_HEADER = 8, 16
LONG_KEY = (1 << 24) - 1  # keys of so many bytes have a LONG_HEADER
EXPIRY, LARGE, RAW, TEXT = 1 << 24, 1 << 25, 1 << 26, 1 << 27
EDITED = RAW | TEXT
ENCODING_SHIFT, TYPE_SHIFT = 26, 28
ENCODING_MASK, TYPE_MASK = 3 << ENCODING_SHIFT, 7 << TYPE_SHIFT
STRING, LIST, SET, ZSET, HASH = range(5)
STREAM = 6
VALUE_FORM = TYPE_MASK | ENCODING_MASK  # the flags that belong to the value, wherever its entry is
ROOT_SIZE = 8  # [bytes] of the value of a type that has a root
assert ENCODING_MASK == EDITED


@kernel
def header_size(key_length):  # type: ignore[no-untyped-def]
    """Where the key of so many bytes begins in its entry."""
    return HEADER if key_length < LONG_KEY else LONG_HEADER


@kernel
def _key_length(context, entry, form):  # type: ignore[no-untyped-def]
    # The same as entry_key_length, with the first word at hand.
    short = form & LONG_KEY
    return short if short < LONG_KEY else load64(context.space, entry + LONG_LENGTH)


@kernel
def _behind_key(context, entry, form):  # type: ignore[no-untyped-def]
    # Address of the first byte behind the key.
    length = _key_length(context, entry, form)
    return entry + header_size(length) + length


@kernel
def entry_key_length(context, entry):  # type: ignore[no-untyped-def]
    """Length of the key [bytes]."""
    return _key_length(context, entry, load32(context.space, entry + FORM))


@kernel
def entry_key(context, entry):  # type: ignore[no-untyped-def]
    """Address of the key's first byte."""
    return entry + (HEADER if load32(context.space, entry + FORM) & LONG_KEY < LONG_KEY else LONG_HEADER)


@kernel
def entry_length(context, entry):  # type: ignore[no-untyped-def]
    """Length of the value [bytes]."""
    return load32(context.space, entry + VALUE_LENGTH)


@kernel
def entry_flags(context, entry):  # type: ignore[no-untyped-def]
    """The first word: flags, encoding, type, and in its low bits the key's length."""
    return load32(context.space, entry + FORM)


@kernel
def entry_head(context, entry):  # type: ignore[no-untyped-def]
    """entry_flags and entry_length by one translation."""
    memory, pa = context.space.mem.bytes, read_address(context.space, entry)
    return bytes32(memory, pa + FORM), bytes32(memory, pa + VALUE_LENGTH)


@kernel
def entry_size(key_length, value_length, flags):  # type: ignore[no-untyped-def]
    """Size of the allocation for an entry with these flags [bytes]."""
    size = header_size(key_length) + key_length
    if flags & (EXPIRY | LARGE):
        size += 8
    return size + (8 if flags & LARGE else value_length)


@kernel
def is_large(key_length, value_length, flags):  # type: ignore[no-untyped-def]
    """Whether the value of such an entry goes to an allocation of its own."""
    return value_length > 8 and HEADER + key_length + (8 if flags & EXPIRY else 0) + value_length > PAGE_SIZE


@kernel
def _load_across(context, va):  # type: ignore[no-untyped-def]
    # A word that may straddle two pages.
    if va & PAGE_MASK <= PAGE_SIZE - 8:
        return load64(context.space, va)
    word = 0
    for i in range(8):
        word |= int64(context.space.mem.bytes[read_address(context.space, va + i)]) << (8 * i)
    return word


@kernel
def _store_across(context, va, word):  # type: ignore[no-untyped-def]
    if va & PAGE_MASK <= PAGE_SIZE - 8:
        store64(context.space, va, word)
        return
    for i in range(8):
        pa = write_address(context.space, va + i)
        assert pa >= 0, "no frame was reserved for a store"
        context.space.mem.bytes[pa] = (word >> (8 * i)) & 255


@kernel
def entry_deadline(context, entry):  # type: ignore[no-untyped-def]
    """Unix time [ms], or -1 for an entry without a deadline."""
    flags = entry_flags(context, entry)
    if flags & EXPIRY == 0:
        return -1
    return _load_across(context, _behind_key(context, entry, flags))


@kernel
def entry_set_deadline(context, entry, deadline):  # type: ignore[no-untyped-def]
    """Store the deadline of an entry that has room for one."""
    _store_across(context, _behind_key(context, entry, entry_flags(context, entry)), deadline)


@kernel
def entry_value(context, entry):  # type: ignore[no-untyped-def]
    """Address of the value's first byte."""
    flags = entry_flags(context, entry)
    at = _behind_key(context, entry, flags)
    if flags & (EXPIRY | LARGE):
        at += 8
    return _load_across(context, at) if flags & LARGE else at


@kernel
def _value_place(form):  # type: ignore[no-untyped-def]
    # Where in an entry its value is, if that lies in the entry.  For a LONG_KEY it is a place beyond the first page.
    return HEADER + (form & LONG_KEY) + (8 if form & EXPIRY else 0)


@kernel
def string_in_page(context, entry):  # type: ignore[no-untyped-def]
    """A string whose value lies in the entry, and that in one page.  For commands to which each load counts.

    Returns (the entry's index in mem.bytes, the place of the value in it, the length of the value); the place is 0 for
    any other entry.
    """
    memory = context.space.mem.bytes
    pa = read_address(context.space, entry)
    form, length = bytes32(memory, pa + FORM), bytes32(memory, pa + VALUE_LENGTH)
    place = _value_place(form)
    if form & (TYPE_MASK | LARGE) or place + length > PAGE_SIZE:
        place = 0
    return pa, place, length


@kernel
def entry_is(context, entry, key, count):  # type: ignore[no-untyped-def]
    """Whether the entry's key is the `count` bytes at `key`."""
    memory = context.space.mem.bytes
    pa = read_address(context.space, entry)
    if bytes32(memory, pa + FORM) & LONG_KEY != min(count, LONG_KEY):
        return False
    if (entry & PAGE_MASK) + HEADER + count <= PAGE_SIZE:
        return equal_bytes(memory, pa + HEADER, bytes_at(key, count), 0, count)
    if entry_key_length(context, entry) != count:
        return False
    return compare(context.space, entry + header_size(count), bytes_at(key, count), 0, count)


@linked(int64(CONTEXT, int64, int64))
def entry_hash(context, entry, seed):  # type: ignore[no-untyped-def]
    """The hash of the entry's key."""
    count = entry_key_length(context, entry)
    if (entry & PAGE_MASK) + HEADER + count <= PAGE_SIZE:
        return hash_bytes(context.space.mem.bytes, read_address(context.space, entry) + HEADER, count, seed)
    # Rare and long: copied to one piece of memory outside the address space, so that it can be hashed.
    address = malloc(count)
    assert address != 0, "out of memory for a long key"
    key = bytes_at(address, count)
    copy_out(context.space, entry + header_size(count), key, 0, count)
    hash_ = hash_bytes(key, 0, count, seed)
    free(address)
    return hash_


@kernel
def _begin(context, entry, key_length, value_length, flags):  # type: ignore[no-untyped-def]
    # Write the header of a new entry.
    store32(context.space, entry + FORM, flags | min(key_length, LONG_KEY))
    store32(context.space, entry + VALUE_LENGTH, value_length)
    if key_length >= LONG_KEY:
        store64(context.space, entry + LONG_LENGTH, key_length)


@linked(int64(CONTEXT, int64, int64, int64))
def entry_alloc(context, key_length, value_length, deadline):  # type: ignore[no-untyped-def]
    """An entry for a key and a value of these lengths, neither written yet; `deadline` -1 for none.

    Returns 0, with nothing changed, when frames ran out.
    """
    space = context.space
    flags = EXPIRY if deadline >= 0 else 0
    if is_large(key_length, value_length, flags):
        flags |= LARGE
    size = entry_size(key_length, value_length, flags)
    entry = heap_alloc(space, size)
    if entry == 0:
        return 0
    value = 0
    if flags & LARGE:
        value = heap_alloc(space, value_length)
        if value == 0:
            heap_free(space, entry, size)
            return 0
    _begin(context, entry, key_length, value_length, flags)
    at = entry + header_size(key_length) + key_length
    if flags & EXPIRY:
        _store_across(context, at, deadline)
    if flags & LARGE:
        _store_across(context, at + 8, value)
    return entry


@linked(int64(CONTEXT, int64, int64, int64, int64))
def entry_alloc_around(context, key_length, value_length, deadline, value):  # type: ignore[no-untyped-def]
    """Like entry_alloc, for a value that is at `value` already and stays there."""
    flags = LARGE | (EXPIRY if deadline >= 0 else 0)
    entry = heap_alloc(context.space, entry_size(key_length, value_length, flags))
    if entry != 0:
        _begin(context, entry, key_length, value_length, flags)
        at = entry + header_size(key_length) + key_length
        if deadline >= 0:
            _store_across(context, at, deadline)
        _store_across(context, at + 8, value)
    return entry


@kernel
def entry_type(context, entry):  # type: ignore[no-untyped-def]
    """The type of the value: STRING, LIST, SET, ZSET, HASH or STREAM."""
    return entry_flags(context, entry) >> TYPE_SHIFT & 7


@kernel
def entry_encoding(context, entry):  # type: ignore[no-untyped-def]
    """The encoding of a value with a root, as types.py numbers them."""
    return entry_flags(context, entry) >> ENCODING_SHIFT & 3


@kernel
def entry_root(context, entry):  # type: ignore[no-untyped-def]
    """The root of a value that is not a string."""
    memory, pa = context.space.mem.bytes, read_address(context.space, entry)
    place = _value_place(bytes32(memory, pa + FORM))
    if place + ROOT_SIZE <= PAGE_SIZE:  # in the entry's first page, which is translated already
        return bytes64(memory, pa + place)
    return _load_across(context, entry_value(context, entry))


@kernel
def entry_set_root(context, entry, root):  # type: ignore[no-untyped-def]
    """Store the root, unless it is there already."""
    if entry_root(context, entry) != root:
        _store_across(context, entry_value(context, entry), root)


@kernel
def entry_set_encoding(context, entry, encoding):  # type: ignore[no-untyped-def]
    """Store the encoding of a value with a root, unless it is there already."""
    flags = entry_flags(context, entry)
    if flags >> ENCODING_SHIFT & 3 != encoding:
        store32(context.space, entry + FORM, flags & ~ENCODING_MASK | encoding << ENCODING_SHIFT)


@linked(void(CONTEXT, int64))
def entry_free_around(context, entry):  # type: ignore[no-untyped-def]
    """Free an entry without its value, which belongs to another entry now: a LARGE one, or one with a root."""
    flags = entry_flags(context, entry)
    length = 0 if flags & LARGE else entry_length(context, entry)
    code = heap_free(context.space, entry, entry_size(entry_key_length(context, entry), length, flags))
    assert code == 0, "no frame was reserved for a release"


@linked(void(CONTEXT, int64))
def entry_free(context, entry):  # type: ignore[no-untyped-def]
    """Free an entry and its value; a long or great value is freed later, in steps."""
    flags, length = entry_flags(context, entry), entry_length(context, entry)
    size = entry_size(entry_key_length(context, entry), length, flags)
    if flags & TYPE_MASK:
        root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, entry_root(context, entry))
    if flags & LARGE:
        code = heap_free(context.space, entry_value(context, entry), length)
        assert code == 0, "no frame was reserved for a release"
    code = heap_free(context.space, entry, size)
    assert code == 0, "no frame was reserved for a release"


@linked(int64(CONTEXT, int64, int64))
def entry_memory(context, entry, samples):  # type: ignore[no-untyped-def]
    """Heap memory that an entry and its value use, rounded up as the heap does [bytes].

    A great value's is estimated from so many of its elements; 0 for all.
    """
    flags, length = entry_flags(context, entry), entry_length(context, entry)
    taken = heap_size(entry_size(entry_key_length(context, entry), length, flags))
    if flags & TYPE_MASK:
        return taken + root_memory(context.space, entry_root(context, entry), samples)
    return taken + (heap_size(length) if flags & LARGE else 0)


@kernel
def entry_set_flags(context, entry, flags):  # type: ignore[no-untyped-def]
    """Store the first word; the key's length in it is to stay."""
    store32(context.space, entry + FORM, flags)


@kernel
def entry_set_length(context, entry, length):  # type: ignore[no-untyped-def]
    """Store the value's length."""
    store32(context.space, entry + VALUE_LENGTH, length)


@kernel
def entry_set_value(context, entry, va):  # type: ignore[no-untyped-def]
    """Store where the value of a LARGE entry is."""
    _store_across(context, _behind_key(context, entry, entry_flags(context, entry)) + 8, va)
