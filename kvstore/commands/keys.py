"""The commands about keys, whatever their values are.

RENAME and MOVE never copy a long value, DEL and UNLINK give one back later, in steps, FLUSHALL and FLUSHDB leave
everything for later; KEYS alone looks at every key at once, as it must.
"""

from kvstore.arguments import (
    INT64_MAX,
    arg_length,
    arg_offset,
    integer_argument,
    pack,
    parse_integer,
    query,
    word,
)
from kvstore.commands.hot import database_argument, is_int32
from kvstore.commands.strings import slot_entry
from kvstore.entries import (
    CLOCK_MASK,
    EDITED,
    HEADER,
    LARGE,
    RAW,
    entry_alloc,
    entry_alloc_around,
    entry_deadline,
    entry_flags,
    entry_free,
    entry_free_around,
    entry_hash,
    entry_key_length,
    entry_length,
    entry_memory,
    entry_set_flags,
    entry_value,
)
from kvstore.errors import (
    DB_INDEX,
    EXPIRE_EXPIRE,
    EXPIRE_EXPIREAT,
    EXPIRE_PEXPIRE,
    EXPIRE_PEXPIREAT,
    FIRST_DB,
    GT_AND_LT,
    INVALID_CURSOR,
    NO_KEY,
    NO_LFU,
    NOT_INTEGER,
    NX_AND_OTHERS,
    OUT_OF_FRAMES,
    OUT_OF_PATTERN,
    SAME_OBJECT,
    SECOND_DB,
    SYNTAX,
    UNSUPPORTED_OPTION,
)
from kvstore.flush import flush_all, flush_db
from kvstore.glob import glob_close, glob_least, glob_match, glob_open
from kvstore.index import BUCKET_SIZE, SLOTS, index_find_entry, next_overflow, scan_bucket, scan_next
from kvstore.keyspace import (
    FRAMES_TO_REMOVE,
    NO_DEADLINE,
    add_entry,
    change_deadline,
    db_load,
    db_store,
    delete_entry,
    expire_if_due,
    has_hash,
    key_base,
    key_hash,
    lookup,
    lookup_peek,
    lookup_read,
    next_random,
    random_entry,
    scan_entry,
    touched,
    unlink_entry,
)
from kvstore.layout import DATABASES, DB_KEY_BUCKETS, DB_KEYS, DESCRIPTOR_SIZE
from kvstore.libc import bytes_at
from kvstore.refcounts import is_held
from kvstore.reserve import reserve, reserve_change, reserve_removal
from kvstore.resp import (
    put_decimal,
    reply_array,
    reply_bulk,
    reply_bulk_integer,
    reply_bulk_memory,
    reply_error,
    reply_error_about,
    reply_integer,
    reply_null,
    reply_ok,
    reply_room,
    reply_type_name,
)
from kvstore.saving import save_emptied
from kvstore.state import (
    AGAIN,
    ARGC,
    DB,
    DIRTY,
    EXEC_SAVED_ADDRESS,
    HANDLER,
    HASH_SEED,
    LRU_CLOCK,
    NO_TOUCH,
    NOW_MS,
    QUERY_ADDRESS,
    REPLY_LENGTH,
    SCRATCH_ADDRESS,
    STORE,
)
from kvstore.watch import next_watch, touch_watch, watch_hash
from mmcore.frames import has_frames
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, void
from mmcore.mmu import copy_in, copy_out, copy_within, load8

_NX, _XX, _GT, _LT = pack(b"NX"), pack(b"XX"), pack(b"GT"), pack(b"LT")
_MATCH, _COUNT, _TYPE, _STRING = pack(b"MATCH"), pack(b"COUNT"), pack(b"TYPE"), pack(b"STRING")
_DB, _REPLACE, _ASYNC, _SYNC = pack(b"DB"), pack(b"REPLACE"), pack(b"ASYNC"), pack(b"SYNC")
_ENCODING, _FREQ, _IDLETIME, _REFCOUNT = pack(b"ENCODING"), pack(b"FREQ"), pack(b"IDLETIME"), pack(b"REFCOUNT")
_USAGE, _SAMPLES = pack(b"USAGE"), pack(b"SAMPLES")
_INT_NAME, _EMBSTR_NAME, _RAW_NAME = (constant(n) for n in (b"int", b"embstr", b"raw"))
EMBSTR_MAX = 44  # OBJ_ENCODING_EMBSTR_SIZE_LIMIT
SHARED_REFCOUNT = (1 << 31) - 1  # OBJ_SHARED_REFCOUNT
HEADER_ROOM = 24  # [bytes] for the header of an array whose length is known only at its end
_CURSOR_TENTH = ((1 << 64) - 1) // 10
RANDOM_TRIES = 500  # keys that RANDOMKEY may find to be due, and delete, before it looks for one that is not
RANDOM_BUCKETS = 4096  # that it looks at then, in a turn
SCAN_EFFORT = 10  # buckets looked at for each key asked for, at most


# ------------------------------------------------------------------------------------------------ deleting, existing


@linked(HANDLER)
def del_(store):  # type: ignore[no-untyped-def]
    """DEL key [key ...]; UNLINK too, for a long value is never given back at once"""
    deleted = 0
    if not reserve_removal(store, store.server[ARGC] - 1):
        return 0
    for i in range(1, store.server[ARGC]):
        hash_ = key_hash(store, i)
        slot = lookup(store, store.server[DB], i, hash_)
        if slot != 0:
            delete_entry(store, store.server[DB], slot, hash_)
            touched(store, store.server[DB], hash_)
            deleted += 1
    reply_integer(store, deleted)
    return 0


@linked(HANDLER)
def exists(store):  # type: ignore[no-untyped-def]
    """EXISTS key [key ...]"""
    found = 0
    for i in range(1, store.server[ARGC]):
        if lookup_peek(store, i) != 0:
            found += 1
    reply_integer(store, found)
    return 0


@linked(HANDLER)
def touch(store):  # type: ignore[no-untyped-def]
    """TOUCH key [key ...]; it counts as a use even from a client that asked for none to be"""
    store.server[NO_TOUCH] = 0
    found = 0
    for i in range(1, store.server[ARGC]):
        if lookup_read(store, i) != 0:
            found += 1
    reply_integer(store, found)
    return 0


@linked(HANDLER)
def type_(store):  # type: ignore[no-untyped-def]
    """TYPE key"""
    reply_type_name(store, lookup_peek(store, 1) != 0)
    return 0


@linked(HANDLER)
def dbsize(store):  # type: ignore[no-untyped-def]
    """DBSIZE"""
    reply_integer(store, db_load(store, store.server[DB], DB_KEYS))
    return 0


# -------------------------------------------------------------------------------------------------- listing of keys


@kernel
def begin_array(store):  # type: ignore[no-untyped-def]
    """Begin an array of a length not yet known; `end_array` takes what this returns."""
    reply_room(store, HEADER_ROOM)
    start = store.server[REPLY_LENGTH]
    store.server[REPLY_LENGTH] = start + HEADER_ROOM
    return start


@linked(void(STORE, int64, int64))
def end_array(store, start, count):  # type: ignore[no-untyped-def]
    """Put the header of an array of `count` in front of what was appended since `begin_array`."""
    out = reply_room(store, 0)
    end = store.server[REPLY_LENGTH]
    out[start] = 42
    at = start + 1
    at += put_decimal(out, at, count)
    out[at] = 13
    out[at + 1] = 10
    copy_bytes(out, at + 2, out, start + HEADER_ROOM, end - start - HEADER_ROOM)
    store.server[REPLY_LENGTH] = end - (start + HEADER_ROOM - at - 2)


@kernel
def _is_due(store, entry):  # type: ignore[no-untyped-def]
    deadline = entry_deadline(store, entry)
    return deadline != NO_DEADLINE and deadline <= store.server[NOW_MS]


@kernel
def _open_pattern(store, i):  # type: ignore[no-untyped-def]
    # (whether it could be opened, the pattern that argument i is; 0 for one that every key matches).
    length, offset = arg_length(store, i), arg_offset(store, i)
    if length == 1 and query(store)[offset] == 42:
        return True, 0
    program = glob_open(store.server[QUERY_ADDRESS] + offset, length, 0)
    return program != 0, program


@linked(int64(STORE, int64, int64))
def reply_if_match(store, entry, pattern):  # type: ignore[no-untyped-def]
    """Append the entry's key if it is alive and matches an open pattern (0: any): 1 or 0; -1 when memory ran out."""
    count = entry_key_length(store, entry)
    if _is_due(store, entry) or (pattern != 0 and count < glob_least(pattern)):
        return 0
    start = store.server[REPLY_LENGTH]
    reply_bulk_memory(store, entry + HEADER, count)
    if pattern == 0:
        return 1
    matches = glob_match(pattern, reply_room(store, 0), store.server[REPLY_LENGTH] - 2 - count, count)
    if matches != 1:
        store.server[REPLY_LENGTH] = start
    return matches


@linked(HANDLER)
def keys(store):  # type: ignore[no-untyped-def]
    """KEYS pattern"""
    base, buckets = key_base(store, store.server[DB]), db_load(store, store.server[DB], DB_KEY_BUCKETS)
    outer = store.server[REPLY_LENGTH]
    enough, pattern = _open_pattern(store, 1)
    start, found = begin_array(store), 0
    for number in range(buckets):
        bucket = base + BUCKET_SIZE * number
        while bucket != 0 and enough:
            for i in range(SLOTS):
                entry = scan_entry(store, bucket, i)
                if entry != 0:
                    matches = reply_if_match(store, entry, pattern)
                    found += matches
                    enough = enough and matches >= 0
            bucket = next_overflow(store, bucket)
    glob_close(pattern)
    if enough:
        end_array(store, start, found)
    else:
        store.server[REPLY_LENGTH] = outer
        reply_error(store, OUT_OF_PATTERN)
    return 0


@kernel
def _cursor(text, start, count):  # type: ignore[no-untyped-def]
    # (whether these bytes are a cursor, its place): what strtoul reads, with its sign, but no white space before it.
    at, end = start, start + count
    if at < end and (text[at] == 43 or text[at] == 45):
        at += 1
        if at == end:
            return False, 0
    negative = count > 0 and text[start] == 45
    value = 0
    while at < end:
        digit = int64(text[at]) - 48
        full = value < 0 or value > _CURSOR_TENTH or (value == _CURSOR_TENTH and digit > 5)
        if digit < 0 or digit > 9 or full:
            return False, 0
        value = 10 * value + digit  # from 2^63 on it is negative, and its low bits are right
        at += 1
    if negative:
        value = -value
    return True, value & 0xFFFF_FFFF


@linked(void(STORE, int64, int64))
def _wrap(store, start, cursor):  # type: ignore[no-untyped-def]
    # Make what was appended since `start` the second element of an array whose first is the cursor.
    room = 4 + 32
    reply_room(store, room)
    length = store.server[REPLY_LENGTH] - start
    out = reply_room(store, room)
    copy_bytes(out, start + room, out, start, length)
    store.server[REPLY_LENGTH] = start
    reply_array(store, 2)
    reply_bulk_integer(store, cursor)
    out = reply_room(store, room)
    copy_bytes(out, store.server[REPLY_LENGTH], out, start + room, length)
    store.server[REPLY_LENGTH] += length


@linked(HANDLER)
def scan(store):  # type: ignore[no-untyped-def]
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]"""
    server = store.server
    valid, cursor = _cursor(query(store), arg_offset(store, 1), arg_length(store, 1))
    if not valid:
        reply_error(store, INVALID_CURSOR)
        return 0
    count, at_pattern, of_type = 10, 0, True
    i = 2
    while i < server[ARGC]:
        option = word(store, i)
        if i + 1 >= server[ARGC]:
            reply_error(store, SYNTAX)
            return 0
        if option == _COUNT:
            valid, count = integer_argument(store, i + 1)
            if not valid:
                reply_error(store, NOT_INTEGER)
                return 0
            if count < 1:
                reply_error(store, SYNTAX)
                return 0
        elif option == _MATCH:
            at_pattern = i + 1
        elif option == _TYPE:
            of_type = word(store, i + 1) == _STRING
        else:
            reply_error(store, SYNTAX)
            return 0
        i += 2
    base, buckets = key_base(store, server[DB]), db_load(store, server[DB], DB_KEY_BUCKETS)
    outer = server[REPLY_LENGTH]
    enough, pattern = _open_pattern(store, at_pattern) if at_pattern != 0 else (True, 0)
    start, found, looked, emitted = begin_array(store), 0, 0, 0
    effort = SCAN_EFFORT * min(count, INT64_MAX // SCAN_EFFORT)
    while buckets > 0 and enough:
        bucket = base + BUCKET_SIZE * scan_bucket(cursor, buckets)
        while bucket != 0:
            for j in range(SLOTS):
                entry = scan_entry(store, bucket, j)
                if entry != 0:
                    emitted += 1
                    if of_type:
                        matches = reply_if_match(store, entry, pattern)
                        found += matches
                        enough = enough and matches >= 0
            bucket = next_overflow(store, bucket)
        cursor = scan_next(cursor, buckets)
        looked += 1
        if cursor == 0 or emitted >= count or looked >= effort:
            break
    glob_close(pattern)
    if buckets == 0:
        cursor = 0
    if enough:
        end_array(store, start, found)
        _wrap(store, outer, cursor)
    else:
        server[REPLY_LENGTH] = outer
        reply_error(store, OUT_OF_PATTERN)
    return 0


@linked(int64(STORE, int64))
def _live_entry(store, budget):  # type: ignore[no-untyped-def]
    """A live entry of the first bucket that has any, from a random one on; 0 when `budget` buckets have none."""
    server = store.server
    base, buckets = key_base(store, server[DB]), db_load(store, server[DB], DB_KEY_BUCKETS)
    number = next_random(store) % buckets
    for _ in range(min(budget, buckets)):
        bucket, chosen, live = base + BUCKET_SIZE * number, 0, 0
        while bucket != 0:
            for i in range(SLOTS):
                entry = scan_entry(store, bucket, i)
                if entry != 0 and not _is_due(store, entry):
                    live += 1
                    if next_random(store) % live == 0:
                        chosen = entry
            bucket = next_overflow(store, bucket)
        if chosen != 0:
            return chosen
        number = number + 1 if number + 1 < buckets else 0
    return 0


@linked(HANDLER)
def randomkey(store):  # type: ignore[no-untyped-def]
    """RANDOMKEY

    Draws, and deletes what is drawn and due.  Where nearly all is due, it looks for what is not, some buckets at a time
    and in the next turn on: a key that lives is found, and nobody waits until all others are deleted.
    """
    server = store.server
    db = server[DB]
    for _ in range(RANDOM_TRIES):
        if db_load(store, db, DB_KEYS) == 0:
            reply_null(store)
            return 0
        base, buckets = key_base(store, db), db_load(store, db, DB_KEY_BUCKETS)
        entry = random_entry(store, base, buckets)
        if not _is_due(store, entry):
            reply_bulk_memory(store, entry + HEADER, entry_key_length(store, entry))
            return 0
        hash_ = entry_hash(store, entry, server[HASH_SEED])
        expire_if_due(store, db, index_find_entry(store, base, buckets, hash_, entry), hash_)
    buckets = db_load(store, db, DB_KEY_BUCKETS)
    at_once = server[EXEC_SAVED_ADDRESS] != 0 or not has_frames(store.space, FRAMES_TO_REMOVE)  # nothing goes meanwhile
    entry = _live_entry(store, buckets if at_once else RANDOM_BUCKETS) if buckets > 0 else 0
    if entry != 0:
        reply_bulk_memory(store, entry + HEADER, entry_key_length(store, entry))
    elif at_once or buckets <= RANDOM_BUCKETS:
        reply_null(store)
    else:
        return AGAIN
    return 0


# --------------------------------------------------------------------------------------------- moving and copying


@linked(int64(STORE, int64, int64, int64))
def duplicate(store, entry, i, keep_value):  # type: ignore[no-untyped-def]
    """An entry with the key that argument i is and the value and deadline of `entry`; 0 when frames ran out.

    `keep_value`: a value with an allocation of its own is not copied, it goes over to the new entry.
    """
    space = store.space
    flags, length, count = entry_flags(store, entry), entry_length(store, entry), arg_length(store, i)
    deadline = entry_deadline(store, entry)
    if keep_value and flags & LARGE:
        new = entry_alloc_around(store, count, length, deadline, entry_value(store, entry))
    else:
        new = entry_alloc(store, count, length, deadline)
    if new == 0:
        return 0
    copy_in(space, new + HEADER, query(store), arg_offset(store, i), count)
    if not (keep_value and flags & LARGE):
        copy_within(space, entry_value(store, new), entry_value(store, entry), length)
    entry_set_flags(store, new, (entry_flags(store, new) & ~CLOCK_MASK) | (flags & (EDITED | CLOCK_MASK)))
    return new


@linked(int64(STORE, int64))
def _rename(store, only_new):  # type: ignore[no-untyped-def]
    server = store.server
    if not reserve_change(store, 2, arg_length(store, 2) + 4096):
        return 0
    db, source_hash, target_hash = server[DB], key_hash(store, 1), key_hash(store, 2)
    slot = lookup(store, db, 1, source_hash)
    if slot == 0:
        reply_error(store, NO_KEY)
        return 0
    same = source_hash == target_hash and lookup(store, db, 2, target_hash) == slot
    target = slot if same else lookup(store, db, 2, target_hash)
    if same or (only_new and target != 0):
        if only_new:
            reply_integer(store, 0)
        else:
            reply_ok(store)
        return 0
    slot = lookup(store, db, 1, source_hash)  # the look-up of the target may have expired it, and merged buckets
    entry = slot_entry(store, slot)
    new = duplicate(store, entry, 2, 1)
    if new == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    if target != 0:
        delete_entry(store, db, target, target_hash)
        slot = lookup(store, db, 1, source_hash)
    unlink_entry(store, db, slot, source_hash)
    if entry_flags(store, entry) & LARGE:
        entry_free_around(store, entry)
    else:
        entry_free(store, entry)
    add_entry(store, db, target_hash, new, entry_deadline(store, new))
    touched(store, db, source_hash)
    touched(store, db, target_hash)
    server[DIRTY] -= 1  # Redis counts a renaming once
    if only_new:
        reply_integer(store, 1)
    else:
        reply_ok(store)
    return 0


@linked(HANDLER)
def rename(store):  # type: ignore[no-untyped-def]
    """RENAME key newkey"""
    return _rename(store, 0)


@linked(HANDLER)
def renamenx(store):  # type: ignore[no-untyped-def]
    """RENAMENX key newkey"""
    return _rename(store, 1)


@linked(HANDLER)
def move(store):  # type: ignore[no-untyped-def]
    """MOVE key db"""
    db = store.server[DB]
    target = database_argument(store, 2)
    if target < 0:
        return 0
    if target == db:
        reply_error(store, SAME_OBJECT)
        return 0
    if not reserve_change(store, 2, 0):
        return 0
    hash_ = key_hash(store, 1)
    if lookup(store, db, 1, hash_) == 0 or lookup(store, target, 1, hash_) != 0:
        reply_integer(store, 0)
        return 0
    slot = lookup(store, db, 1, hash_)
    entry = slot_entry(store, slot)
    unlink_entry(store, db, slot, hash_)
    add_entry(store, target, hash_, entry, entry_deadline(store, entry))
    touched(store, db, hash_)
    touched(store, target, hash_)
    store.server[DIRTY] -= 1
    reply_integer(store, 1)
    return 0


@linked(HANDLER)
def copy(store):  # type: ignore[no-untyped-def]
    """COPY source destination [DB db] [REPLACE]"""
    server = store.server
    db, replace = server[DB], False
    i = 3
    while i < server[ARGC]:
        option = word(store, i)
        if option == _REPLACE:
            replace = True
        elif option == _DB and i + 1 < server[ARGC]:
            db = database_argument(store, i + 1)
            if db < 0:
                return 0
            i += 1
        else:
            reply_error(store, SYNTAX)
            return 0
        i += 1
    source_hash, target_hash = key_hash(store, 1), key_hash(store, 2)
    if db == server[DB] and source_hash == target_hash and arg_length(store, 1) == arg_length(store, 2):
        reply_error(store, SAME_OBJECT)
        return 0
    entry = lookup_read(store, 1)
    if entry == 0:
        reply_integer(store, 0)
        return 0
    length = entry_length(store, entry)
    if not reserve(store, 2, arg_length(store, 2) + length):
        return 0
    target = lookup(store, db, 2, target_hash)
    if target != 0 and not replace:
        reply_integer(store, 0)
        return 0
    new = duplicate(store, entry, 2, 0)
    if new == 0:
        reply_error(store, OUT_OF_FRAMES)
        return 0
    if target != 0:
        delete_entry(store, db, target, target_hash)
    add_entry(store, db, target_hash, new, entry_deadline(store, new))
    touched(store, db, target_hash)
    reply_integer(store, 1)
    return 0


@kernel
def _swap(store, first, second):  # type: ignore[no-untyped-def]
    for field in range(0, DESCRIPTOR_SIZE, 8):
        kept = db_load(store, first, field)
        db_store(store, first, field, db_load(store, second, field))
        db_store(store, second, field, kept)


@linked(void(STORE, int64, int64))
def _touch_swapped(store, db, other):  # type: ignore[no-untyped-def]
    # A watched key changed, unless it is in neither database.
    at = next_watch(store, db, 0)
    while at >= 0:
        hash_ = watch_hash(store, at)
        if has_hash(store, db, hash_) or has_hash(store, other, hash_):
            touch_watch(store, at)
        at = next_watch(store, db, at + 1)


@linked(HANDLER)
def swapdb(store):  # type: ignore[no-untyped-def]
    """SWAPDB index1 index2"""
    valid, first = integer_argument(store, 1)
    if not valid or not is_int32(first):
        reply_error(store, FIRST_DB)
        return 0
    valid, second = integer_argument(store, 2)
    if not valid or not is_int32(second):
        reply_error(store, SECOND_DB)
        return 0
    if first < 0 or first >= DATABASES or second < 0 or second >= DATABASES:
        reply_error(store, DB_INDEX)
        return 0
    if not reserve_removal(store, 1):
        return 0
    if first != second:
        _swap(store, first, second)
        _touch_swapped(store, first, second)
        _touch_swapped(store, second, first)
    store.server[DIRTY] += 1
    reply_ok(store)
    return 0


@kernel
def _flush_mode(store):  # type: ignore[no-untyped-def]
    # Whether the command is well-formed; ASYNC and SYNC both mean what happens anyway.
    option = word(store, 1) if store.server[ARGC] == 2 else _ASYNC
    if store.server[ARGC] > 2 or (option != _ASYNC and option != _SYNC):
        reply_error(store, SYNTAX)
        return False
    return True


@linked(HANDLER)
def flushall(store):  # type: ignore[no-untyped-def]
    """FLUSHALL [ASYNC | SYNC]"""
    if _flush_mode(store):
        if flush_all(store):
            reply_ok(store)
            save_emptied(store)
        else:
            reply_error(store, OUT_OF_FRAMES)
    return 0


@linked(HANDLER)
def flushdb(store):  # type: ignore[no-untyped-def]
    """FLUSHDB [ASYNC | SYNC]"""
    if _flush_mode(store):
        if flush_db(store, store.server[DB]):
            reply_ok(store)
        else:
            reply_error(store, OUT_OF_FRAMES)
    return 0


# ---------------------------------------------------------------------------------------------------------- expiry


@linked(int64(STORE, int64, int64, int64))
def _expire(store, seconds, absolute, error):  # type: ignore[no-untyped-def]
    server = store.server
    nx = xx = gt = lt = False
    for i in range(3, server[ARGC]):
        option = word(store, i)
        if option == _NX:
            nx = True
        elif option == _XX:
            xx = True
        elif option == _GT:
            gt = True
        elif option == _LT:
            lt = True
        else:
            reply_error_about(store, UNSUPPORTED_OPTION, i)
            return 0
    if nx and (xx or gt or lt):
        reply_error(store, NX_AND_OTHERS)
        return 0
    if gt and lt:
        reply_error(store, GT_AND_LT)
        return 0
    valid, value = integer_argument(store, 2)
    if not valid:
        reply_error(store, NOT_INTEGER)
        return 0
    base = 0 if absolute else server[NOW_MS]
    if seconds and (value > INT64_MAX // 1000 or value < -(INT64_MAX // 1000)):
        reply_error(store, error)
        return 0
    if seconds:
        value *= 1000
    if value > INT64_MAX - base:
        reply_error(store, error)
        return 0
    deadline = value + base
    if not reserve_change(store, 1, 4096):
        return 0
    hash_ = key_hash(store, 1)
    slot = lookup(store, server[DB], 1, hash_)
    if slot == 0:
        reply_integer(store, 0)
        return 0
    current = entry_deadline(store, slot_entry(store, slot))
    has = current != NO_DEADLINE
    # Without a deadline a key lives for ever: GT never holds, LT always does.
    if (
        (nx and has)
        or (xx and not has)
        or (gt and (not has or deadline <= current))
        or (lt and has and deadline >= current)
    ):
        reply_integer(store, 0)
        return 0
    if deadline <= server[NOW_MS]:
        delete_entry(store, server[DB], slot, hash_)
    elif not change_deadline(store, server[DB], slot, hash_, deadline):
        reply_error(store, OUT_OF_FRAMES)
        return 0
    touched(store, server[DB], hash_)
    reply_integer(store, 1)
    return 0


@linked(HANDLER)
def expire(store):  # type: ignore[no-untyped-def]
    """EXPIRE key seconds [NX | XX | GT | LT]"""
    return _expire(store, 1, 0, EXPIRE_EXPIRE)


@linked(HANDLER)
def pexpire(store):  # type: ignore[no-untyped-def]
    """PEXPIRE key milliseconds [NX | XX | GT | LT]"""
    return _expire(store, 0, 0, EXPIRE_PEXPIRE)


@linked(HANDLER)
def expireat(store):  # type: ignore[no-untyped-def]
    """EXPIREAT key unix-time-seconds [NX | XX | GT | LT]"""
    return _expire(store, 1, 1, EXPIRE_EXPIREAT)


@linked(HANDLER)
def pexpireat(store):  # type: ignore[no-untyped-def]
    """PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]"""
    return _expire(store, 0, 1, EXPIRE_PEXPIREAT)


@linked(int64(STORE, int64, int64))
def _time_left(store, seconds, absolute):  # type: ignore[no-untyped-def]
    entry = lookup_peek(store, 1)
    left = entry_deadline(store, entry) if entry != 0 else -2
    if left >= 0:
        if not absolute:
            left = max(0, left - store.server[NOW_MS])
        if seconds:
            left = (left + 500) // 1000
    reply_integer(store, left)
    return 0


@linked(HANDLER)
def ttl(store):  # type: ignore[no-untyped-def]
    """TTL key"""
    return _time_left(store, 1, 0)


@linked(HANDLER)
def pttl(store):  # type: ignore[no-untyped-def]
    """PTTL key"""
    return _time_left(store, 0, 0)


@linked(HANDLER)
def expiretime(store):  # type: ignore[no-untyped-def]
    """EXPIRETIME key"""
    return _time_left(store, 1, 1)


@linked(HANDLER)
def pexpiretime(store):  # type: ignore[no-untyped-def]
    """PEXPIRETIME key"""
    return _time_left(store, 0, 1)


@linked(HANDLER)
def persist(store):  # type: ignore[no-untyped-def]
    """PERSIST key"""
    server = store.server
    if not reserve_change(store, 1, 4096):
        return 0
    hash_ = key_hash(store, 1)
    slot = lookup(store, server[DB], 1, hash_)
    if slot == 0 or entry_deadline(store, slot_entry(store, slot)) == NO_DEADLINE:
        reply_integer(store, 0)
    elif change_deadline(store, server[DB], slot, hash_, NO_DEADLINE):
        touched(store, server[DB], hash_)
        reply_integer(store, 1)
    else:
        reply_error(store, OUT_OF_FRAMES)
    return 0


# ------------------------------------------------------------------------------------------------- looking inside


@kernel
def is_integer(store, entry):  # type: ignore[no-untyped-def]
    """Whether the value is kept as Redis keeps integers: it spells one, and was not edited in place."""
    count = entry_length(store, entry)
    if count == 0 or count > 20 or entry_flags(store, entry) & EDITED:
        return False
    digits = bytes_at(store.server[SCRATCH_ADDRESS], 32)
    copy_out(store.space, entry_value(store, entry), digits, 0, count)
    valid, _ = parse_integer(digits, 0, count)
    return valid


@linked(int64(STORE, int64))
def encoding_of(store, entry):  # type: ignore[no-untyped-def]
    """0 int, 1 embstr, 2 raw: what OBJECT ENCODING says."""
    if is_integer(store, entry):
        return 0
    if entry_flags(store, entry) & RAW or entry_length(store, entry) > EMBSTR_MAX:
        return 2
    return 1


@kernel
def idle_s(store, entry):  # type: ignore[no-untyped-def]
    """Since the entry was last used [s]; its clock has 24 bits."""
    return (store.server[LRU_CLOCK] - entry_flags(store, entry)) & CLOCK_MASK


@linked(HANDLER)
def object_(store):  # type: ignore[no-untyped-def]
    """OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT key; its other forms are left to Python"""
    what = word(store, 1)
    if store.server[ARGC] != 3 or (what != _ENCODING and what != _FREQ and what != _IDLETIME and what != _REFCOUNT):
        return 1
    entry = lookup_peek(store, 2)
    if entry == 0:
        reply_null(store)
        return 0
    if what == _ENCODING:
        encoding = encoding_of(store, entry)
        if encoding == 0:
            reply_bulk(store, _INT_NAME, 0, 3)
        elif encoding == 1:
            reply_bulk(store, _EMBSTR_NAME, 0, 6)
        else:
            reply_bulk(store, _RAW_NAME, 0, 3)
    elif what == _FREQ:
        reply_error(store, NO_LFU)
    elif what == _IDLETIME:
        reply_integer(store, idle_s(store, entry))
    else:
        # Redis has the integers below 10,000 once for everybody, and says so by this number.
        shared = entry_length(store, entry) <= 4 and encoding_of(store, entry) == 0
        shared = shared and load8(store.space, entry_value(store, entry)) != 45
        reply_integer(store, SHARED_REFCOUNT if shared else 1 + is_held(store, store.server[DB], key_hash(store, 2)))
    return 0


@linked(HANDLER)
def memory_usage(store):  # type: ignore[no-untyped-def]
    """MEMORY USAGE key [SAMPLES count]; its other forms are left to Python"""
    count = store.server[ARGC]
    if word(store, 1) != _USAGE or count < 3:
        return 1
    if count != 3:
        if count != 5 or word(store, 3) != _SAMPLES:
            reply_error(store, SYNTAX)
            return 0
        valid, samples = integer_argument(store, 4)
        if not valid:
            reply_error(store, NOT_INTEGER)
            return 0
        if samples < 0:
            reply_error(store, SYNTAX)
            return 0
    slot = lookup(store, store.server[DB], 2, key_hash(store, 2))
    if slot == 0:
        reply_null(store)
    else:
        reply_integer(store, entry_memory(store, slot_entry(store, slot)) + 8)
    return 0


HANDLERS = {
    b"DEL": del_,
    b"UNLINK": del_,
    b"EXISTS": exists,
    b"TOUCH": touch,
    b"TYPE": type_,
    b"DBSIZE": dbsize,
    b"KEYS": keys,
    b"SCAN": scan,
    b"RANDOMKEY": randomkey,
    b"RENAME": rename,
    b"RENAMENX": renamenx,
    b"MOVE": move,
    b"COPY": copy,
    b"SWAPDB": swapdb,
    b"FLUSHALL": flushall,
    b"FLUSHDB": flushdb,
    b"EXPIRE": expire,
    b"PEXPIRE": pexpire,
    b"EXPIREAT": expireat,
    b"PEXPIREAT": pexpireat,
    b"TTL": ttl,
    b"PTTL": pttl,
    b"EXPIRETIME": expiretime,
    b"PEXPIRETIME": pexpiretime,
    b"PERSIST": persist,
    b"OBJECT": object_,
    b"MEMORY": memory_usage,
}
