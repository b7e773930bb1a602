"""SET and its family: commands that set a key to a whole value, or read a key and delete it.

SET with IFEQ, and DELIFEQ, compare first, in one piece: a lock is released, or a value replaced, only by one who knows
what is there.  They are Valkey's.
"""

from kvstore.commands.strings.getting import has_value, is_refused, reply_value, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import DEL, EXPIRE
from kvstore.effects.events import PERSIST as PERSISTED
from kvstore.lifetimes.call import ARGC, DB, REPLY_ADDRESS, REPLY_CAPACITY, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.bodies import bytes_to_add
from kvstore.store.entries import NO_DEADLINE, entry_deadline
from kvstore.store.lookup import key_hash, lookup, lookup_read, lookup_write, note_lookup
from kvstore.store.membership import delete_entry
from kvstore.store.reserve import (
    AS_BEFORE,
    WITH,
    WITHOUT,
    reserve_change,
    reserve_pairs,
    reserve_removal,
    reserve_value,
)
from kvstore.store.values import change_deadline, set_value
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import INT64_MAX, argument, integer_argument, pack, word
from kvstore.wire.errors import (
    EXPIRE_GETEX,
    EXPIRE_PSETEX,
    EXPIRE_SET,
    EXPIRE_SETEX,
    MSET_ARITY,
    MSETNX_ARITY,
    NOT_INTEGER,
    SYNTAX,
)
from kvstore.wire.resp import reply_error, reply_integer, reply_null, reply_ok
from mmcore.jit import copy_bytes, int64, kernel, linked

_NX_WORD, _XX_WORD, _GET_WORD = pack(b"NX"), pack(b"XX"), pack(b"GET")
_KEEPTTL_WORD, _PERSIST_WORD, _IFEQ_WORD = pack(b"KEEPTTL"), pack(b"PERSIST"), pack(b"IFEQ")
_EX_WORD, _PX_WORD, _EXAT_WORD, _PXAT_WORD = pack(b"EX"), pack(b"PX"), pack(b"EXAT"), pack(b"PXAT")

NX, XX, OLD, KEEPTTL, PERSIST, EX, PX, EXAT, PXAT, IFEQ = (1 << i for i in range(10))  # OLD is for GET
TIME_SHIFT, IFEQ_SHIFT = 16, 40  # of the numbers of arguments, which have less than PLACE_BITS
PLACE_BITS = IFEQ_SHIFT - TIME_SHIFT


@kernel
def expiry_argument(context, i, seconds, absolute, error):  # type: ignore[no-untyped-def]
    """The deadline [Unix ms] in argument i, which must be above zero; -1 with an error reply for a bad one."""
    valid, value = integer_argument(context, i)
    if not valid:
        reply_error(context, NOT_INTEGER)
        return -1
    if value <= 0 or (seconds and value > INT64_MAX // 1000):
        reply_error(context, error)
        return -1
    if seconds:
        value *= 1000
    if not absolute:
        if value > INT64_MAX - context.shard[NOW_MS]:
            reply_error(context, error)
            return -1
        value += context.shard[NOW_MS]
    return value


@kernel
def _only_last(context, start, end):  # type: ignore[no-untyped-def]
    # Remove a reply that was followed by an error.
    out = bytes_at(context.call[REPLY_ADDRESS], context.call[REPLY_CAPACITY])
    copy_bytes(out, start, out, end, context.call[REPLY_LENGTH] - end)
    context.call[REPLY_LENGTH] -= end - start


@linked(int64(CONTEXT, int64, int64))
def _options(context, first, allowed):  # type: ignore[no-untyped-def]
    """The options from argument `first` on, as a sum of the constants above, of which `allowed` may occur.

    The bits above them hold the numbers of the arguments with a time and with a value to compare.  -1 with an error
    reply for contradictory options.
    """
    given, time, compared, i = 0, 0, 0, first
    while i < context.call[ARGC]:
        option, takes_time = 0, False
        name = word(context, i)
        if name == _NX_WORD or name == _XX_WORD or name == _IFEQ_WORD:
            option = NX if name == _NX_WORD else XX if name == _XX_WORD else IFEQ
            refused = given & (NX | XX | IFEQ) & ~(option & ~IFEQ)
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
        takes_word = takes_time or option == IFEQ
        if option & allowed == 0 or refused != 0 or (takes_word and i + 1 >= context.call[ARGC]):
            reply_error(context, SYNTAX)
            return -1
        given |= option
        if takes_word:
            i += 1
            time = i if takes_time else time
            compared = compared if takes_time else i
        i += 1
    return given | time << TIME_SHIFT | compared << IFEQ_SHIFT


@linked(int64(CONTEXT, int64, int64))
def _deadline_option(context, options, error):  # type: ignore[no-untyped-def]
    """The deadline that the options ask for, NO_DEADLINE without one; -2 with an error reply for a bad one."""
    place = options >> TIME_SHIFT & ((1 << PLACE_BITS) - 1)
    if place == 0:
        return NO_DEADLINE
    deadline = expiry_argument(context, place, options & (EX | EXAT) != 0, options & (EXAT | PXAT) != 0, error)
    return deadline if deadline >= 0 else -2


@linked(int64(CONTEXT, int64, int64))
def _is_kept(context, options, entry):  # type: ignore[no-untyped-def]
    """Whether the options keep SET from setting the key of this entry, 0 for none; then it has replied (0 or 1)."""
    if options & IFEQ and entry != 0 and options & OLD == 0 and is_refused(context, entry):
        return 1
    kept = (options & NX and entry != 0) or (options & XX and entry == 0)
    if options & IFEQ:
        value, size = argument(context, options >> IFEQ_SHIFT)
        kept = entry == 0 or not has_value(context, entry, value, size)
    if kept and options & OLD == 0:
        reply_null(context)
    return 1 if kept else 0


@linked(HANDLER)
def set_(context):  # type: ignore[no-untyped-def]
    """SET key value [NX | XX | IFEQ old] [GET] [EX seconds | PX ms | EXAT seconds | PXAT ms | KEEPTTL]"""
    call = context.call
    key, key_size = argument(context, 1)
    value, value_size = argument(context, 2)
    options, deadline = 0, NO_DEADLINE
    if call[ARGC] > 3:
        options = _options(context, 3, NX | XX | IFEQ | OLD | KEEPTTL | EX | PX | EXAT | PXAT)
        if options < 0:
            return 0
        deadline = _deadline_option(context, options, EXPIRE_SET)
        if deadline < NO_DEADLINE:
            return 0
    kept = AS_BEFORE if options & KEEPTTL else WITHOUT
    form = WITH if deadline >= 0 else kept
    hash_ = key_hash(context, key, key_size)
    if not reserve_value(
        context, key, key_size, hash_, value_size, form, key_size + bytes_to_add(context, value, value_size)
    ):
        return 0
    slot = lookup_write(context, key, key_size, hash_)
    if options == 0:
        if set_value(context, key, key_size, slot, hash_, value, value_size, NO_DEADLINE):
            reply_ok(context)
        return 0
    before, entry = call[REPLY_LENGTH], slot_entry(context, slot)
    if options & OLD:
        note_lookup(context, entry != 0, key, key_size, hash_)
        if is_refused(context, entry):
            return 0
        reply_value(context, entry, 0)
    if options & (NX | XX | IFEQ) and _is_kept(context, options, entry):
        return 0
    new_deadline = deadline != NO_DEADLINE
    if options & KEEPTTL and entry != 0:
        deadline = entry_deadline(context, entry)
    reply_end = call[REPLY_LENGTH]
    if not set_value(context, key, key_size, slot, hash_, value, value_size, deadline):
        _only_last(context, before, reply_end)
        return 0
    if new_deadline:
        changed(context, call[DB], key, key_size, hash_, EXPIRE, 0)
    if options & OLD == 0:
        reply_ok(context)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _set_with_expiry(context, seconds, error):  # type: ignore[no-untyped-def]
    # SETEX and PSETEX: key, time, value.
    key, key_size = argument(context, 1)
    value, value_size = argument(context, 3)
    deadline = expiry_argument(context, 2, seconds, False, error)
    if deadline < 0:
        return 0
    hash_ = key_hash(context, key, key_size)
    if not reserve_value(
        context, key, key_size, hash_, value_size, WITH, key_size + bytes_to_add(context, value, value_size)
    ):
        return 0
    slot = lookup_write(context, key, key_size, hash_)
    if set_value(context, key, key_size, slot, hash_, value, value_size, deadline):
        changed(context, context.call[DB], key, key_size, hash_, EXPIRE, 0)
        reply_ok(context)
    return 0


@linked(HANDLER)
def setex(context):  # type: ignore[no-untyped-def]
    """SETEX key seconds value"""
    return _set_with_expiry(context, 1, EXPIRE_SETEX)


@linked(HANDLER)
def psetex(context):  # type: ignore[no-untyped-def]
    """PSETEX key milliseconds value"""
    return _set_with_expiry(context, 0, EXPIRE_PSETEX)


@linked(HANDLER)
def setnx(context):  # type: ignore[no-untyped-def]
    """SETNX key value"""
    key, key_size = argument(context, 1)
    value, value_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    if not reserve_value(
        context, key, key_size, hash_, value_size, WITHOUT, key_size + bytes_to_add(context, value, value_size)
    ):
        return 0
    if lookup_write(context, key, key_size, hash_) != 0:
        reply_integer(context, 0)
    elif set_value(context, key, key_size, 0, hash_, value, value_size, NO_DEADLINE):
        reply_integer(context, 1)
    return 0


@linked(HANDLER)
def getset(context):  # type: ignore[no-untyped-def]
    """GETSET key value"""
    key, key_size = argument(context, 1)
    value, value_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    if not reserve_value(
        context, key, key_size, hash_, value_size, WITHOUT, key_size + bytes_to_add(context, value, value_size)
    ):
        return 0
    slot = lookup_write(context, key, key_size, hash_)
    note_lookup(context, slot != 0, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    before = context.call[REPLY_LENGTH]
    reply_value(context, slot_entry(context, slot), 0)
    reply_end = context.call[REPLY_LENGTH]
    if not set_value(context, key, key_size, slot, hash_, value, value_size, NO_DEADLINE):
        _only_last(context, before, reply_end)
    return 0


@linked(HANDLER)
def getdel(context):  # type: ignore[no-untyped-def]
    """GETDEL key"""
    key, key_size = argument(context, 1)
    if not reserve_removal(context, 1):
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    note_lookup(context, slot != 0, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    reply_value(context, slot_entry(context, slot), 0)
    if slot != 0:
        delete_entry(context, context.call[DB], slot, hash_)
        changed(context, context.call[DB], key, key_size, hash_, DEL, 1)
    return 0


@linked(HANDLER)
def delifeq(context):  # type: ignore[no-untyped-def]
    """DELIFEQ key value"""
    key, key_size = argument(context, 1)
    value, size = argument(context, 2)
    if not reserve_removal(context, 1):
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if is_refused(context, slot_entry(context, slot)):
        return 0
    equal = slot != 0 and has_value(context, slot_entry(context, slot), value, size)
    if equal:
        delete_entry(context, context.call[DB], slot, hash_)
        changed(context, context.call[DB], key, key_size, hash_, DEL, 1)
    reply_integer(context, 1 if equal else 0)
    return 0


@linked(HANDLER)
def getex(context):  # type: ignore[no-untyped-def]
    """GETEX key [EX seconds | PX ms | EXAT seconds | PXAT ms | PERSIST]"""
    call, shard = context.call, context.shard
    key, key_size = argument(context, 1)
    options = _options(context, 2, PERSIST | EX | PX | EXAT | PXAT)
    if options < 0 or (options != 0 and not reserve_change(context, 1, key_size + 4096)):
        return 0
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    deadline = _deadline_option(context, options, EXPIRE_GETEX) if entry != 0 else NO_DEADLINE
    if deadline < NO_DEADLINE:
        return 0
    reply_value(context, entry, 0)
    if entry == 0 or options == 0:
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup(context, call[DB], key, key_size, hash_)
    if deadline != NO_DEADLINE and deadline <= shard[NOW_MS]:
        delete_entry(context, call[DB], slot, hash_)
        changed(context, call[DB], key, key_size, hash_, DEL, 1)
    elif deadline != NO_DEADLINE or entry_deadline(context, entry) != NO_DEADLINE:
        done = change_deadline(context, call[DB], slot, hash_, deadline)
        assert done == 1, "no frame was reserved for a deadline"
        event = EXPIRE if deadline != NO_DEADLINE else PERSISTED
        changed(context, call[DB], key, key_size, hash_, event, 1)
    return 0


@linked(int64(CONTEXT))
def _set_pairs(context):  # type: ignore[no-untyped-def]
    # Set every pair of arguments, for all of which the caller has reserved: 1, or 0 with the error replied.
    for i in range(1, context.call[ARGC], 2):
        key, key_size = argument(context, i)
        value, value_size = argument(context, i + 1)
        hash_ = key_hash(context, key, key_size)
        slot = lookup_write(context, key, key_size, hash_)
        if not set_value(context, key, key_size, slot, hash_, value, value_size, NO_DEADLINE):
            return 0
    return 1


@linked(HANDLER)
def mset(context):  # type: ignore[no-untyped-def]
    """MSET key value [key value ...]"""
    if context.call[ARGC] % 2 == 0:
        reply_error(context, MSET_ARITY)
    elif reserve_pairs(context) and _set_pairs(context):
        reply_ok(context)
    return 0


@linked(HANDLER)
def msetnx(context):  # type: ignore[no-untyped-def]
    """MSETNX key value [key value ...]"""
    if context.call[ARGC] % 2 == 0:
        reply_error(context, MSETNX_ARITY)
        return 0
    if not reserve_pairs(context):
        return 0
    for i in range(1, context.call[ARGC], 2):
        key, key_size = argument(context, i)
        if lookup_write(context, key, key_size, key_hash(context, key, key_size)) != 0:
            reply_integer(context, 0)
            return 0
    if _set_pairs(context):
        reply_integer(context, 1)
    return 0
