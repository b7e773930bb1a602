"""PFADD: registers are raised.

A dense sketch is changed where it is: an element touches three bytes of it.  A sparse one is copied out, some hundred
bytes as a rule, changed there and set anew, if it has changed.
"""

from kvstore.commands.hyperloglog.elements import VALUE_SHIFT, register_of
from kvstore.commands.hyperloglog.sketch import (
    BITS,
    DENSE_SIZE,
    HEADER,
    REGISTER_MAX,
    STALE,
    mark_stale,
    sketch_new,
    sketch_set,
)
from kvstore.commands.hyperloglog.value import (
    is_dense,
    is_sketch,
    load_sketch,
    room_in,
    sketch_in,
    store_sketch,
    work_begin,
)
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import PFADD
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import HLL_SPARSE_MAX_BYTES
from kvstore.store.entries import entry_value
from kvstore.store.growing import mark_raw
from kvstore.store.lookup import key_hash, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.system.libc import free
from kvstore.wire.arguments import arg_length, arg_offset, argument, query
from kvstore.wire.errors import CORRUPT_SKETCH
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load8, store8

_FIRST_ELEMENT = 2
_INDEX_MASK = (1 << VALUE_SHIFT) - 1


@kernel
def _register(context, i):  # type: ignore[no-untyped-def]
    # (the register of the element in argument i, its value).
    found = register_of(query(context), arg_offset(context, i), arg_length(context, i))
    return found & _INDEX_MASK, found >> VALUE_SHIFT


@kernel
def _raise(context, value, index, new):  # type: ignore[no-untyped-def]
    # Raise a register of the dense sketch at `value`; returns whether it was lower.
    at, shift = value + HEADER + (BITS * index >> 3), BITS * index & 7
    pair, two = load8(context.space, at), shift > 8 - BITS
    if two:
        pair |= load8(context.space, at + 1) << 8
    if pair >> shift & REGISTER_MAX >= new:
        return False
    pair = pair & ~(REGISTER_MAX << shift) | new << shift
    store8(context.space, at, pair & 255)
    if two:
        store8(context.space, at + 1, pair >> 8)
    return True


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _add_dense(context, key, key_size, hash_, entry):  # type: ignore[no-untyped-def]
    """Add all elements to the dense sketch of an entry: how many have changed it, -1 with an error reply."""
    if not reserve_value(context, key, key_size, hash_, DENSE_SIZE, AS_BEFORE, key_size):
        return -1
    value, updated = entry_value(context, entry), 0
    for i in range(_FIRST_ELEMENT, context.call[ARGC]):
        index, new = _register(context, i)
        updated += _raise(context, value, index, new)
    if updated > 0:
        store8(context.space, value + STALE, load8(context.space, value + STALE) | 0x80)
        mark_raw(context, entry)
    return updated


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _add_aside(context, key, key_size, hash_, slot, work):  # type: ignore[no-untyped-def]
    """Add all elements to the sparse sketch of a slot, or 0: how many have changed it, -1 with an error reply."""
    sketch, limit = sketch_in(work), context.shard[HLL_SPARSE_MAX_BYTES]
    if slot == 0:
        length, updated = sketch_new(sketch), 1
    else:
        length, updated = load_sketch(context, slot_entry(context, slot), sketch), 0
    for i in range(_FIRST_ELEMENT, context.call[ARGC]):
        if length >= 0:
            index, new = _register(context, i)
            found = sketch_set(sketch, length, index, new, limit, room_in(work))
            length = found >> 1
            updated += found & 1
    if length < 0:
        reply_error(context, CORRUPT_SKETCH)
        return -1
    if updated > 0:
        mark_stale(sketch)
        if not store_sketch(context, key, key_size, slot, hash_, sketch, length):
            return -1
    return updated


@linked(HANDLER)
def pfadd(context):  # type: ignore[no-untyped-def]
    """PFADD key [element [element ...]]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    entry = slot_entry(context, slot)
    if slot != 0 and not is_sketch(context, entry):
        return 0
    if slot != 0 and is_dense(context, entry):
        updated = _add_dense(context, key, key_size, hash_, entry)
    else:
        work = work_begin(context)
        if work == 0:
            return 0
        updated = _add_aside(context, key, key_size, hash_, slot, work)
        free(work)
    if updated > 0:
        changed(context, context.call[DB], key, key_size, hash_, PFADD, updated)
    if updated >= 0:
        reply_integer(context, int64(updated > 0))
    return 0
