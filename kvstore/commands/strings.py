"""The string commands.

Each is a kernel that finds its arguments in the query buffer, and appends one reply.  Those that write reserve frames
first; what cannot be had then leaves the store as it was, with the -OOM reply.
"""

from kvstore.arguments import (
    INT64_MAX,
    INT64_MIN,
    arg_length,
    arg_offset,
    integer_argument,
    pack,
    parse_integer,
    query,
    word,
)
from kvstore.decimal import RESULT_MAX, TEXT_MAX, number_text, print_sum
from kvstore.entries import (
    EXPIRY,
    HEADER,
    LARGE,
    RAW,
    TEXT,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_set_flags,
    entry_value,
)
from kvstore.errors import (
    DECR_MIN,
    EXPIRE_GETEX,
    EXPIRE_PSETEX,
    EXPIRE_SET,
    EXPIRE_SETEX,
    MSET_ARITY,
    MSETNX_ARITY,
    NAN_OR_INFINITY,
    NOT_FLOAT,
    NOT_INTEGER,
    OFFSET_RANGE,
    OUT_OF_FRAMES,
    OVERFLOW,
    SYNTAX,
    TOO_LONG,
)
from kvstore.index import entry_of
from kvstore.keyspace import (
    NO_DEADLINE,
    change_deadline,
    count_lookup,
    delete_entry,
    key_hash,
    lookup,
    lookup_read,
    lookup_write,
    resize_value,
    set_value,
    set_value_room,
    touched,
)
from kvstore.libc import bytes_at
from kvstore.reserve import (
    AS_BEFORE,
    WITH,
    WITHOUT,
    reserve_change,
    reserve_pairs,
    reserve_removal,
    reserve_value,
)
from kvstore.resp import (
    put_decimal,
    reply_array,
    reply_bulk,
    reply_bulk_memory,
    reply_empty_bulk,
    reply_error,
    reply_integer,
    reply_null,
    reply_ok,
)
from kvstore.state import (
    ARGC,
    DB,
    DECIMAL_ADDRESS,
    HANDLER,
    NOW_MS,
    PROTO_MAX_BULK_LEN,
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    SCRATCH_ADDRESS,
    STORE,
)
from mmcore.jit import bytes32, copy_bytes, fill_bytes, int64, kernel, linked, void
from mmcore.mmu import copy_in, copy_out, load64, read_address, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

_NX_WORD, _XX_WORD, _GET_WORD = pack(b"NX"), pack(b"XX"), pack(b"GET")
_KEEPTTL_WORD, _PERSIST_WORD = pack(b"KEEPTTL"), pack(b"PERSIST")
_EX_WORD, _PX_WORD, _EXAT_WORD, _PXAT_WORD = pack(b"EX"), pack(b"PX"), pack(b"EXAT"), pack(b"PXAT")
NX, XX, OLD, KEEPTTL, PERSIST, EX, PX, EXAT, PXAT = (1 << i for i in range(9))  # OLD is for GET
TIME_SHIFT = 16


@linked(void(STORE, int64))
def reply_value(store, entry):  # type: ignore[no-untyped-def]
    """The value of an entry, or null for none."""
    if entry == 0:
        reply_null(store)
        return
    memory = store.space.mem.bytes
    pa = read_address(store.space, entry)
    length, flags = bytes32(memory, pa + 4), bytes32(memory, pa + 8)
    at = HEADER + bytes32(memory, pa)
    if flags & EXPIRY:
        at += 8
    if flags & LARGE == 0 and (entry & PAGE_MASK) + at + length <= PAGE_SIZE:
        reply_bulk(store, memory, pa + at, length)
    else:
        reply_bulk_memory(store, entry_value(store, entry), length)


@kernel
def slot_entry(store, slot):  # type: ignore[no-untyped-def]
    """The entry that a slot points at; 0 for slot 0."""
    return entry_of(load64(store.space, slot)) if slot != 0 else 0


@kernel
def expiry_argument(store, i, seconds, absolute, error):  # type: ignore[no-untyped-def]
    """The deadline [Unix ms] that argument i spells, or -1 with the reply why not: it must be above zero."""
    valid, value = integer_argument(store, i)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return -1
    if value <= 0 or (seconds and value > INT64_MAX // 1000):
        reply_error(store, error)
        return -1
    if seconds:
        value *= 1000
    if not absolute:
        if value > INT64_MAX - store.server[NOW_MS]:
            reply_error(store, error)
            return -1
        value += store.server[NOW_MS]
    return value


@linked(HANDLER)
def get(store):  # type: ignore[no-untyped-def]
    """GET key"""
    reply_value(store, lookup_read(store, 1))
    return 0


@kernel
def _only_last(store, start, end):  # type: ignore[no-untyped-def]
    # Take back a reply that was followed by an error.
    out = bytes_at(store.server[REPLY_ADDRESS], store.server[REPLY_CAPACITY])
    copy_bytes(out, start, out, end, store.server[REPLY_LENGTH] - end)
    store.server[REPLY_LENGTH] -= end - start


@linked(int64(STORE, int64, int64))
def _options(store, first, allowed):  # type: ignore[no-untyped-def]
    """The options from argument `first` on, as a sum of the constants above, of which `allowed` may occur.

    Of a time, the argument that holds it stands above them.  -1 with an error reply where they contradict each other.
    """
    given, time, i = 0, 0, first
    while i < store.server[ARGC]:
        option, takes_time = 0, False
        name = word(store, i)
        if name == _NX_WORD or name == _XX_WORD:
            option = NX if name == _NX_WORD else XX
            refused = given & (NX | XX) & ~option
        elif name == _GET_WORD:
            option, refused = OLD, 0
        else:
            takes_time = True
            if name == _EX_WORD:
                option = EX
            elif name == _PX_WORD:
                option = PX
            elif name == _EXAT_WORD:
                option = EXAT
            elif name == _PXAT_WORD:
                option = PXAT
            else:
                takes_time = False
                if name == _KEEPTTL_WORD:
                    option = KEEPTTL
                elif name == _PERSIST_WORD:
                    option = PERSIST
            refused = given & (EX | PX | EXAT | PXAT | KEEPTTL | PERSIST) & ~option
        if option & allowed == 0 or refused != 0 or (takes_time and i + 1 >= store.server[ARGC]):
            reply_error(store, SYNTAX)
            return -1
        given |= option
        if takes_time:
            i += 1
            time = i
        i += 1
    return given | time << TIME_SHIFT


@linked(int64(STORE, int64, int64))
def _deadline_option(store, options, error):  # type: ignore[no-untyped-def]
    """The deadline that the options ask for, NO_DEADLINE without one; -2 with an error reply where it is none."""
    if options >> TIME_SHIFT == 0:
        return NO_DEADLINE
    deadline = expiry_argument(
        store, options >> TIME_SHIFT, options & (EX | EXAT) != 0, options & (EXAT | PXAT) != 0, error
    )
    return deadline if deadline >= 0 else -2


@linked(HANDLER)
def set_(store):  # type: ignore[no-untyped-def]
    """SET key value [NX | XX] [GET] [EX seconds | PX ms | EXAT seconds | PXAT ms | KEEPTTL]"""
    server = store.server
    options, deadline = 0, NO_DEADLINE
    if server[ARGC] > 3:
        options = _options(store, 3, NX | XX | OLD | KEEPTTL | EX | PX | EXAT | PXAT)
        if options < 0:
            return 0
        deadline = _deadline_option(store, options, EXPIRE_SET)
        if deadline < NO_DEADLINE:
            return 0
    kept = AS_BEFORE if options & KEEPTTL else WITHOUT
    length = arg_length(store, 2)
    if not reserve_value(store, 1, length, WITH if deadline >= 0 else kept, arg_length(store, 1) + length):
        return 0
    slot = lookup_write(store, 1)
    if options == 0:
        if set_value(store, 1, slot, 2, NO_DEADLINE):
            reply_ok(store)
        return 0
    before, entry = server[REPLY_LENGTH], slot_entry(store, slot)
    if options & OLD:
        count_lookup(store, entry != 0)
        reply_value(store, entry)
    if (options & NX and entry != 0) or (options & XX and entry == 0):
        if options & OLD == 0:
            reply_null(store)
        return 0
    if options & KEEPTTL and entry != 0:
        deadline = entry_deadline(store, entry)
    reply_end = server[REPLY_LENGTH]
    if not set_value(store, 1, slot, 2, deadline):
        _only_last(store, before, reply_end)
    elif options & OLD == 0:
        reply_ok(store)
    return 0


@linked(int64(STORE, int64, int64))
def _set_with_expiry(store, seconds, error):  # type: ignore[no-untyped-def]
    # SETEX and PSETEX: key, time, value.
    deadline = expiry_argument(store, 2, seconds, False, error)
    length = arg_length(store, 3)
    if deadline < 0 or not reserve_value(store, 1, length, WITH, arg_length(store, 1) + length):
        return 0
    if set_value(store, 1, lookup_write(store, 1), 3, deadline):
        reply_ok(store)
    return 0


@linked(HANDLER)
def setex(store):  # type: ignore[no-untyped-def]
    """SETEX key seconds value"""
    return _set_with_expiry(store, 1, EXPIRE_SETEX)


@linked(HANDLER)
def psetex(store):  # type: ignore[no-untyped-def]
    """PSETEX key milliseconds value"""
    return _set_with_expiry(store, 0, EXPIRE_PSETEX)


@linked(HANDLER)
def setnx(store):  # type: ignore[no-untyped-def]
    """SETNX key value"""
    length = arg_length(store, 2)
    if not reserve_value(store, 1, length, WITHOUT, arg_length(store, 1) + length):
        return 0
    if lookup_write(store, 1) != 0:
        reply_integer(store, 0)
    elif set_value(store, 1, 0, 2, NO_DEADLINE):
        reply_integer(store, 1)
    return 0


@linked(HANDLER)
def getset(store):  # type: ignore[no-untyped-def]
    """GETSET key value"""
    length = arg_length(store, 2)
    if not reserve_value(store, 1, length, WITHOUT, arg_length(store, 1) + length):
        return 0
    slot = lookup_write(store, 1)
    count_lookup(store, slot != 0)
    before = store.server[REPLY_LENGTH]
    reply_value(store, slot_entry(store, slot))
    reply_end = store.server[REPLY_LENGTH]
    if not set_value(store, 1, slot, 2, NO_DEADLINE):
        _only_last(store, before, reply_end)
    return 0


@linked(HANDLER)
def getdel(store):  # type: ignore[no-untyped-def]
    """GETDEL key"""
    if not reserve_removal(store, 1):
        return 0
    slot = lookup_write(store, 1)
    count_lookup(store, slot != 0)
    reply_value(store, slot_entry(store, slot))
    if slot != 0:
        hash_ = key_hash(store, 1)
        delete_entry(store, store.server[DB], slot, hash_)
        touched(store, store.server[DB], hash_)
    return 0


@linked(HANDLER)
def getex(store):  # type: ignore[no-untyped-def]
    """GETEX key [EX seconds | PX ms | EXAT seconds | PXAT ms | PERSIST]"""
    server = store.server
    options = _options(store, 2, PERSIST | EX | PX | EXAT | PXAT)
    if options < 0 or (options != 0 and not reserve_change(store, 1, arg_length(store, 1) + 4096)):
        return 0
    entry = lookup_read(store, 1)
    deadline = _deadline_option(store, options, EXPIRE_GETEX) if entry != 0 else NO_DEADLINE
    if deadline < NO_DEADLINE:
        return 0
    reply_value(store, entry)
    if entry == 0 or options == 0:
        return 0
    hash_ = key_hash(store, 1)
    slot = lookup(store, server[DB], 1, hash_)
    if deadline != NO_DEADLINE and deadline <= server[NOW_MS]:
        delete_entry(store, server[DB], slot, hash_)
        touched(store, server[DB], hash_)
    elif deadline != NO_DEADLINE or entry_deadline(store, entry) != NO_DEADLINE:
        changed = change_deadline(store, server[DB], slot, hash_, deadline)
        assert changed == 1, "no frame was reserved for a deadline"
        touched(store, server[DB], hash_)
    return 0


@linked(HANDLER)
def mget(store):  # type: ignore[no-untyped-def]
    """MGET key [key ...]"""
    reply_array(store, store.server[ARGC] - 1)
    for i in range(1, store.server[ARGC]):
        reply_value(store, lookup_read(store, i))
    return 0


@linked(int64(STORE))
def _set_pairs(store):  # type: ignore[no-untyped-def]
    # Set every pair of arguments; the caller has reserved for all of them: 1, or 0 with the error replied.
    for i in range(1, store.server[ARGC], 2):
        if not set_value(store, i, lookup_write(store, i), i + 1, NO_DEADLINE):
            return 0
    return 1


@linked(HANDLER)
def mset(store):  # type: ignore[no-untyped-def]
    """MSET key value [key value ...]"""
    if store.server[ARGC] % 2 == 0:
        reply_error(store, MSET_ARITY)
    elif reserve_pairs(store) and _set_pairs(store):
        reply_ok(store)
    return 0


@linked(HANDLER)
def msetnx(store):  # type: ignore[no-untyped-def]
    """MSETNX key value [key value ...]"""
    if store.server[ARGC] % 2 == 0:
        reply_error(store, MSETNX_ARITY)
        return 0
    if not reserve_pairs(store):
        return 0
    for i in range(1, store.server[ARGC], 2):
        if lookup_write(store, i) != 0:
            reply_integer(store, 0)
            return 0
    if _set_pairs(store):
        reply_integer(store, 1)
    return 0


@linked(HANDLER)
def strlen(store):  # type: ignore[no-untyped-def]
    """STRLEN key"""
    entry = lookup_read(store, 1)
    reply_integer(store, entry_length(store, entry) if entry != 0 else 0)
    return 0


@kernel
def _too_long(store, length):  # type: ignore[no-untyped-def]
    if length > store.server[PROTO_MAX_BULK_LEN]:
        reply_error(store, TOO_LONG)
        return True
    return False


@linked(HANDLER)
def append(store):  # type: ignore[no-untyped-def]
    """APPEND key value"""
    server = store.server
    added = arg_length(store, 2)
    slot = lookup_write(store, 1)
    before = entry_length(store, slot_entry(store, slot)) if slot != 0 else 0
    size = arg_length(store, 1) + 2 * min(before, 1 << 16) + added
    if _too_long(store, before + added) or not reserve_value(store, 1, before + added, AS_BEFORE, size):
        return 0
    hash_ = key_hash(store, 1)
    if slot == 0:
        room = set_value_room(store, server[DB], 1, 0, hash_, added, NO_DEADLINE)
    else:
        room = resize_value(store, server[DB], slot, hash_, before + added)
    if room == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    copy_in(store.space, room + before, query(store), arg_offset(store, 2), added)
    touched(store, server[DB], hash_)
    reply_integer(store, before + added)
    return 0


@kernel
def _fill_zero(store, va, count):  # type: ignore[no-untyped-def]
    while count > 0:
        here = min(count, PAGE_SIZE - (va & PAGE_MASK))
        pa = write_address(store.space, va)
        assert pa >= 0, "no frame was reserved for zeros"
        fill_bytes(store.space.mem.bytes, pa, 0, here)
        va += here
        count -= here


@linked(HANDLER)
def setrange(store):  # type: ignore[no-untyped-def]
    """SETRANGE key offset value"""
    server = store.server
    valid, offset = integer_argument(store, 2)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return 0
    if offset < 0:
        reply_error(store, OFFSET_RANGE)
        return 0
    count = arg_length(store, 3)
    slot = lookup_write(store, 1)
    before = entry_length(store, slot_entry(store, slot)) if slot != 0 else 0
    if count == 0:
        reply_integer(store, before)
        return 0
    if offset > INT64_MAX - count or _too_long(store, offset + count):
        if offset > INT64_MAX - count:
            reply_error(store, TOO_LONG)
        return 0
    length = max(before, offset + count)
    size = arg_length(store, 1) + min(before, 1 << 16) + length - before + count
    if not reserve_value(store, 1, length, AS_BEFORE, size):
        return 0
    hash_ = key_hash(store, 1)
    if slot == 0:
        room = set_value_room(store, server[DB], 1, 0, hash_, length, NO_DEADLINE)
        if room != 0:
            entry = slot_entry(store, lookup(store, server[DB], 1, hash_))
            entry_set_flags(store, entry, entry_flags(store, entry) | RAW)
    else:
        room = resize_value(store, server[DB], slot, hash_, length)
    if room == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    if offset > before:
        _fill_zero(store, room + before, offset - before)
    copy_in(store.space, room + offset, query(store), arg_offset(store, 3), count)
    touched(store, server[DB], hash_)
    reply_integer(store, length)
    return 0


@linked(HANDLER)
def getrange(store):  # type: ignore[no-untyped-def]
    """GETRANGE key start end"""
    valid, start = integer_argument(store, 2)
    also_valid, end = integer_argument(store, 3)
    if not valid or not also_valid:
        reply_error(store, NOT_INTEGER)
        return 0
    entry = lookup_read(store, 1)
    length = entry_length(store, entry) if entry != 0 else 0
    if start < 0 and end < 0 and start > end:
        length = 0
    if start < 0:
        start = max(0, start + length)
    if end < 0:
        end = max(0, end + length)
    end = min(end, length - 1)
    if start > end or length == 0:
        reply_empty_bulk(store)
    else:
        reply_bulk_memory(store, entry_value(store, entry) + start, end - start + 1)
    return 0


@linked(int64(STORE, int64))
def increment(store, by):  # type: ignore[no-untyped-def]
    """Add to the integer that key argument 1 holds, and reply with the sum."""
    server = store.server
    slot = lookup_write(store, 1)
    value, deadline = 0, NO_DEADLINE
    digits = bytes_at(server[SCRATCH_ADDRESS], 32)
    if slot != 0:
        entry = slot_entry(store, slot)
        count = entry_length(store, entry)
        valid = count <= 20
        if valid:
            copy_out(store.space, entry_value(store, entry), digits, 0, count)
            valid, value = parse_integer(digits, 0, count)
        if not valid:
            reply_error(store, NOT_INTEGER)
            return 0
        deadline = entry_deadline(store, entry)
    if (by < 0 and value < INT64_MIN - by) or (by > 0 and value > INT64_MAX - by):
        reply_error(store, OVERFLOW)
        return 0
    value += by
    hash_ = key_hash(store, 1)
    count = put_decimal(digits, 0, value)
    if not reserve_value(store, 1, count, AS_BEFORE, arg_length(store, 1) + count):
        return 0
    room = set_value_room(store, server[DB], 1, slot, hash_, count, deadline)
    if room == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    copy_in(store.space, room, digits, 0, count)
    touched(store, server[DB], hash_)
    reply_integer(store, value)
    return 0


@linked(HANDLER)
def incr(store):  # type: ignore[no-untyped-def]
    """INCR key"""
    return increment(store, 1)


@linked(HANDLER)
def decr(store):  # type: ignore[no-untyped-def]
    """DECR key"""
    return increment(store, -1)


@linked(HANDLER)
def incrby(store):  # type: ignore[no-untyped-def]
    """INCRBY key increment"""
    valid, by = integer_argument(store, 2)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return 0
    return increment(store, by)


@linked(HANDLER)
def decrby(store):  # type: ignore[no-untyped-def]
    """DECRBY key decrement"""
    valid, by = integer_argument(store, 2)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return 0
    if by == INT64_MIN:
        reply_error(store, DECR_MIN)
        return 0
    return increment(store, -by)


@linked(HANDLER)
def incrbyfloat(store):  # type: ignore[no-untyped-def]
    """INCRBYFLOAT key increment"""
    server = store.server
    first = server[DECIMAL_ADDRESS]
    second, result = first + TEXT_MAX, first + 2 * TEXT_MAX
    slot = lookup_write(store, 1)
    deadline = NO_DEADLINE
    bytes_at(first, 2)[0] = 48
    bytes_at(first, 2)[1] = 0
    if slot != 0:
        entry = slot_entry(store, slot)
        count = entry_length(store, entry)
        old = bytes_at(result, RESULT_MAX)
        valid = count < TEXT_MAX
        if valid:
            copy_out(store.space, entry_value(store, entry), old, 0, count)
            valid = number_text(old, 0, count, first)
        if not valid:
            reply_error(store, NOT_FLOAT)
            return 0
        deadline = entry_deadline(store, entry)
    if not number_text(query(store), arg_offset(store, 2), arg_length(store, 2), second):
        reply_error(store, NOT_FLOAT)
        return 0
    count = print_sum(first, second, result)
    if count < 0:
        reply_error(store, NAN_OR_INFINITY)
        return 0
    if not reserve_value(store, 1, count, AS_BEFORE, arg_length(store, 1) + count):
        return 0
    hash_ = key_hash(store, 1)
    text = bytes_at(result, RESULT_MAX)
    room = set_value_room(store, server[DB], 1, slot, hash_, count, deadline)
    if room == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    copy_in(store.space, room, text, 0, count)
    entry = slot_entry(store, lookup(store, server[DB], 1, hash_))
    entry_set_flags(store, entry, entry_flags(store, entry) | TEXT)
    touched(store, server[DB], hash_)
    reply_bulk(store, text, 0, count)
    return 0


HANDLERS = {
    b"GET": get,
    b"SET": set_,
    b"SETNX": setnx,
    b"SETEX": setex,
    b"PSETEX": psetex,
    b"GETSET": getset,
    b"GETDEL": getdel,
    b"GETEX": getex,
    b"MGET": mget,
    b"MSET": mset,
    b"MSETNX": msetnx,
    b"APPEND": append,
    b"STRLEN": strlen,
    b"GETRANGE": getrange,
    b"SUBSTR": getrange,
    b"SETRANGE": setrange,
    b"INCR": incr,
    b"DECR": decr,
    b"INCRBY": incrby,
    b"DECRBY": decrby,
    b"INCRBYFLOAT": incrbyfloat,
}
