"""OBJECT and MEMORY USAGE: the stored form of a value."""

from kvstore.commands.refcounts import is_held
from kvstore.commands.strings.getting import slot_entry
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.lifetimes.shard import MAXMEMORY_POLICY, READ_ASIDE_OVER, SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.clocks import POLICY_LFU, clock_of, frequency, idle_s
from kvstore.store.dated import is_dated
from kvstore.store.entries import (
    EDITED,
    RAW,
    STREAM,
    STRING,
    TYPE_MASK,
    entry_encoding,
    entry_flags,
    entry_length,
    entry_memory,
    entry_root,
    entry_type,
    entry_value,
)
from kvstore.store.lookup import count_lookup, key_hash, lookup
from kvstore.store.types import COMPACT, DATED, ENCODING_BYTES, ENCODING_START, encoding_place
from kvstore.structures.collection import root_count
from kvstore.structures.stream import stream_nodes
from kvstore.structures.stream_whole import groups_parts
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument, pack, parse_integer, word
from kvstore.wire.errors import NO_IDLE_TIME, NO_LFU, NOT_INTEGER, SYNTAX
from kvstore.wire.resp import reply_bulk, reply_error, reply_integer, reply_null
from mmcore.jit import constant, int64, kernel, linked
from mmcore.mmu import copy_out, load8

_ENCODING, _FREQ, _IDLETIME, _REFCOUNT = pack(b"ENCODING"), pack(b"FREQ"), pack(b"IDLETIME"), pack(b"REFCOUNT")
_USAGE, _SAMPLES = pack(b"USAGE"), pack(b"SAMPLES")
_ALL = 1 << 62
_INT_NAME, _EMBSTR_NAME, _RAW_NAME = (constant(n) for n in (b"int", b"embstr", b"raw"))
EMBSTR_MAX = 44  # OBJ_ENCODING_EMBSTR_SIZE_LIMIT
SHARED_REFCOUNT = (1 << 31) - 1  # OBJ_SHARED_REFCOUNT


@kernel
def is_integer(context, entry):  # type: ignore[no-untyped-def]
    """Whether Redis would store the value as an integer: a string that spells one, and was not edited in place."""
    count = entry_length(context, entry)
    if count == 0 or count > 20 or entry_flags(context, entry) & (EDITED | TYPE_MASK):
        return False
    digits = bytes_at(context.shard[SCRATCH_ADDRESS], 32)
    copy_out(context.space, entry_value(context, entry), digits, 0, count)
    valid, _ = parse_integer(digits, 0, count)
    return valid


@linked(int64(CONTEXT, int64))
def encoding_of(context, entry):  # type: ignore[no-untyped-def]
    """The encoding that OBJECT ENCODING reports of a string: 0 int, 1 embstr, 2 raw."""
    if is_integer(context, entry):
        return 0
    if entry_flags(context, entry) & RAW or entry_length(context, entry) > EMBSTR_MAX:
        return 2
    return 1


@kernel
def _reply_use(context, hash_, wanted_lfu):  # type: ignore[no-untyped-def]
    # How often, or how long ago, a key was used, if the policy keeps that.
    lfu = context.shard[MAXMEMORY_POLICY] & POLICY_LFU != 0
    clock = clock_of(context, context.call[DB], hash_)
    if lfu != wanted_lfu:
        reply_error(context, NO_LFU if wanted_lfu else NO_IDLE_TIME)
    else:
        reply_integer(context, frequency(context, clock) if lfu else idle_s(context, clock))


@linked(HANDLER)
def object_(context):  # type: ignore[no-untyped-def]
    """OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT key; its other forms are left to Python"""
    key, key_size = argument(context, 2)
    what = word(context, 1)
    if context.call[ARGC] != 3 or (what != _ENCODING and what != _FREQ and what != _IDLETIME and what != _REFCOUNT):
        return 1
    hash_ = key_hash(context, key, key_size)
    entry = slot_entry(context, lookup(context, context.call[DB], key, key_size, hash_))
    count_lookup(context, entry != 0)  # which is not announced
    if entry == 0:
        reply_null(context)
        return 0
    if what == _ENCODING and entry_type(context, entry) != STRING:
        encoding = entry_encoding(context, entry)
        if encoding == COMPACT and is_dated(context, entry):
            encoding = DATED
        place = encoding_place(entry_type(context, entry), encoding)
        reply_bulk(context, ENCODING_BYTES, ENCODING_START[place], ENCODING_START[place + 1] - ENCODING_START[place])
    elif what == _ENCODING:
        encoding = encoding_of(context, entry)
        if encoding == 0:
            reply_bulk(context, _INT_NAME, 0, 3)
        elif encoding == 1:
            reply_bulk(context, _EMBSTR_NAME, 0, 6)
        else:
            reply_bulk(context, _RAW_NAME, 0, 3)
    elif what == _FREQ or what == _IDLETIME:
        _reply_use(context, hash_, what == _FREQ)
    else:
        # Redis shares one object for each integer below 10,000, and reports this number as its reference count.
        shared = entry_length(context, entry) <= 4 and is_integer(context, entry)
        shared = shared and load8(context.space, entry_value(context, entry)) != 45
        reply_integer(
            context,
            SHARED_REFCOUNT if shared else 1 + is_held(context, context.call[DB], hash_),
        )
    return 0


@linked(int64(CONTEXT, int64, int64))
def _elements_looked_at(context, entry, samples):  # type: ignore[no-untyped-def]
    """How many elements of an entry's value MEMORY USAGE measures with so many samples; 0 for all."""
    if entry_type(context, entry) == STRING:
        return 0
    space, root = context.space, entry_root(context, entry)
    if entry_type(context, entry) == STREAM:
        most = samples if samples > 0 else _ALL
        return min(stream_nodes(space, root), most) + groups_parts(space, root, most, 0, context.shard[READ_ASIDE_OVER])
    count = root_count(space, root)
    return count if samples == 0 else min(samples, count)


@linked(HANDLER)
def memory_usage(context):  # type: ignore[no-untyped-def]
    """MEMORY USAGE key [SAMPLES count]; its other forms are left to Python"""
    count = context.call[ARGC]
    key, key_size = argument(context, 2)
    if word(context, 1) != _USAGE or count < 3:
        return 1
    samples = 5  # Redis's default
    if count != 3:
        if count != 5 or word(context, 3) != _SAMPLES:
            reply_error(context, SYNTAX)
            return 0
        valid, samples = integer_argument(context, 4)
        if not valid:
            reply_error(context, NOT_INTEGER)
            return 0
        if samples < 0:
            reply_error(context, SYNTAX)
            return 0
    slot = lookup(context, context.call[DB], key, key_size, key_hash(context, key, key_size))
    if slot == 0:
        reply_null(context)
    elif goes_aside(context, _elements_looked_at(context, slot_entry(context, slot), samples)):
        return BLOCKS
    else:
        reply_integer(context, entry_memory(context, slot_entry(context, slot), samples) + 8)
    return 0
