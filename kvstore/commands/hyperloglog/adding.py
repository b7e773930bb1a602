"""PFADD: registers are raised.

    a dense sketch     is changed where it is: an element touches three bytes of it
    a sparse one       too, by a few bytes for each of its elements; its entry may move when it grows
    otherwise          it is copied out, changed there and set anew: when it becomes dense, when there are many elements
                       or its entry is longer than a page, and when it is corrupt or memory is short

A command must not fail half-way.  So before a sparse sketch is changed in its place, it is clear that there are frames
for the largest size that it may get, that no element makes it dense, and that its runs are sound, if there are several
elements: the second one must not find it corrupt.
"""

from kvstore.commands.hyperloglog.elements import VALUE_SHIFT, register_of
from kvstore.commands.hyperloglog.sketch import (
    BITS,
    DENSE,
    DENSE_SIZE,
    HEADER,
    REGISTER_MAX,
    STALE,
    VALUE_MAX,
    find_run,
    is_sound,
    is_sparse,
    mark_stale,
    put_runs,
    sketch_new,
    sketch_set,
    split_run,
)
from kvstore.commands.hyperloglog.value import (
    load_sketch,
    room_in,
    sketch_in,
    sketch_of,
    store_sketch,
    work_begin,
)
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import PFADD
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import HLL_SPARSE_MAX_BYTES, SCRATCH_ADDRESS
from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.store.entries import LARGE, entry_flags, entry_set_length, string_in_page
from kvstore.store.growing import mark_raw
from kvstore.store.lookup import key_hash, lookup_write
from kvstore.store.reserve import AS_BEFORE, may_add, reserve_value
from kvstore.store.values import resize_value
from kvstore.system.libc import free, words_at
from kvstore.wire.arguments import arg_length, arg_offset, argument, query
from kvstore.wire.errors import CORRUPT_SKETCH
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.heap import heap_size
from mmcore.jit import int64, kernel, linked, view
from mmcore.mmu import load8, read_address, store8, write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

_FIRST_ELEMENT = 2
_IN_PLACE_MAX = 64  # elements for which a sparse sketch is changed where it is
_GROWTH = 3  # [bytes] by which an element may make a sparse sketch longer
_ASIDE = -1
assert _IN_PLACE_MAX <= SCRATCH_WORDS
_INDEX_MASK = (1 << VALUE_SHIFT) - 1


@kernel
def _register(context, i):  # type: ignore[no-untyped-def]
    # (the register of the element in argument i, its value).
    found = register_of(query(context), arg_offset(context, i), arg_length(context, i))
    return found & _INDEX_MASK, found >> VALUE_SHIFT


@kernel
def _is_lower(context, value, index, new):  # type: ignore[no-untyped-def]
    # Whether a register of the dense sketch at `value` is lower.  Its bits lie in two bytes, which may be on two pages.
    memory, at, shift = context.space.mem.bytes, value + HEADER + (BITS * index >> 3), BITS * index & 7
    pa = read_address(context.space, at)
    pair = int64(memory[pa])
    if shift > 8 - BITS:
        pair |= (int64(memory[pa + 1]) if at & PAGE_MASK < PAGE_MASK else load8(context.space, at + 1)) << 8
    return pair >> shift & REGISTER_MAX < new


@kernel
def _raise(context, value, index, new):  # type: ignore[no-untyped-def]
    # Raise a register of the dense sketch at `value`.
    at, shift = value + HEADER + (BITS * index >> 3), BITS * index & 7
    store8(context.space, at, load8(context.space, at) & ~(REGISTER_MAX << shift) | new << shift)
    if shift > 8 - BITS:
        rest = 8 - shift
        store8(context.space, at + 1, load8(context.space, at + 1) & ~(REGISTER_MAX >> rest) | new >> rest)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _add_dense(context, key, key_size, hash_, entry, value):  # type: ignore[no-untyped-def]
    """Add all elements to the dense sketch of an entry: how many have changed it, -1 with an error reply."""
    updated = 0
    for i in range(_FIRST_ELEMENT, context.call[ARGC]):
        index, new = _register(context, i)
        if _is_lower(context, value, index, new):
            if updated == 0 and not reserve_value(context, key, key_size, hash_, DENSE_SIZE, AS_BEFORE, key_size):
                return -1
            _raise(context, value, index, new)
            updated += 1
    if updated > 0:
        store8(context.space, value + STALE, load8(context.space, value + STALE) | 0x80)
        mark_raw(context, entry)
    return updated


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _raise_sparse(context, key_size, slot, hash_, register, granted):  # type: ignore[no-untyped-def]
    """Raise a register of the sparse sketch of a slot where it is: whether it was lower; or _ASIDE, nothing changed.

    granted: whether all is known to be as it must be, frames included
    """
    space, memory, db = context.space, context.space.mem.bytes, context.call[DB]
    entry, index, new = slot_entry(context, slot), register & _INDEX_MASK, register >> VALUE_SHIFT
    pa, begin, length = string_in_page(context, entry)
    if begin == 0 or not is_sparse(memory, pa + begin, length):
        return _ASIDE
    at, previous, first, count, old, size = find_run(memory, pa + begin, length, HEADER, 0, index)
    if old >= new:
        return 0
    if size == 0 or new > VALUE_MAX:
        return _ASIDE
    word, new_size = split_run(old, index - first, new, first + count - 1 - index)
    longest = max(length, length + new_size - size)
    if begin + longest > PAGE_SIZE or (longest > length and longest > context.shard[HLL_SPARSE_MAX_BYTES]):
        return _ASIDE
    if granted == 0 and not may_add(context, key_size + longest):
        return _ASIDE
    if heap_size(begin + longest) != heap_size(begin + length):
        moved = resize_value(context, db, slot, hash_, longest)
        assert moved != 0, "no frame was reserved for a sketch"
        entry = slot_entry(context, slot)
    pa = write_address(space, entry)
    assert pa >= 0, "no frame was reserved for a sketch"
    after = put_runs(memory, pa + begin, length, at, size, word, new_size, previous)
    if heap_size(begin + after) == heap_size(begin + longest):
        entry_set_length(context, entry, after)
        mark_raw(context, entry)
    else:
        moved = resize_value(context, db, slot, hash_, after)
        assert moved != 0, "no frame was reserved for a sketch"
    return 1


@view
def _found(context):  # type: ignore[no-untyped-def]
    # The registers of the elements, each as register_of has it.
    return words_at(context.shard[SCRATCH_ADDRESS], _IN_PLACE_MAX)


@linked(int64(CONTEXT, int64, int64, int64))
def _may_stay(context, key_size, entry, elements):  # type: ignore[no-untyped-def]
    """Whether all elements can be added to the entry's sparse sketch where it is (0 or 1).  Notes their registers."""
    pa, begin, length = string_in_page(context, entry)
    longest, memory = length + elements * _GROWTH, context.space.mem.bytes
    if elements > _IN_PLACE_MAX or begin == 0 or not is_sparse(memory, pa + begin, length):
        return 0
    if begin + longest > PAGE_SIZE or longest > context.shard[HLL_SPARSE_MAX_BYTES]:
        return 0
    found = _found(context)
    for i in range(elements):
        index, new = _register(context, _FIRST_ELEMENT + i)
        if new > VALUE_MAX:
            return 0
        found[i] = index | new << VALUE_SHIFT
    return 1 if may_add(context, key_size + longest) and is_sound(memory, pa + begin, length) else 0


@linked(int64(CONTEXT, int64, int64, int64))
def _add_sparse(context, key_size, slot, hash_):  # type: ignore[no-untyped-def]
    """Add all elements to the sparse sketch of a slot where it is: how many have changed it, or _ASIDE."""
    elements, updated = context.call[ARGC] - _FIRST_ELEMENT, 0
    if elements == 1:
        index, new = _register(context, _FIRST_ELEMENT)
        return _raise_sparse(context, key_size, slot, hash_, index | new << VALUE_SHIFT, 0)
    if not _may_stay(context, key_size, slot_entry(context, slot), elements):
        return int64(_ASIDE)
    for i in range(elements):
        updated += _raise_sparse(context, key_size, slot, hash_, _found(context)[i], 1)
    return updated


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _add_aside(context, key, key_size, hash_, slot):  # type: ignore[no-untyped-def]
    """Add all elements to the sparse sketch of a slot, or 0: how many have changed it, -1 with an error reply."""
    work = work_begin(context)
    if work == 0:
        return -1
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
        updated = -1
    if updated > 0:
        mark_stale(sketch)
        if not store_sketch(context, key, key_size, slot, hash_, sketch, length):
            updated = -1
    free(work)
    return updated


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _add(context, key, key_size, hash_, slot):  # type: ignore[no-untyped-def]
    """Add all elements to the value of a slot, or 0: how many have changed it, -1 with an error reply."""
    if slot != 0:
        entry = slot_entry(context, slot)
        found = sketch_of(context, entry)
        if found < 0:
            return -1
        if found & 1 == DENSE:
            return _add_dense(context, key, key_size, hash_, entry, found >> 1)
    return _add_aside(context, key, key_size, hash_, slot)


@linked(HANDLER)
def pfadd(context):  # type: ignore[no-untyped-def]
    """PFADD key [element [element ...]]"""
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    updated = int64(_ASIDE)
    if slot != 0 and entry_flags(context, slot_entry(context, slot)) & LARGE == 0:
        updated = _add_sparse(context, key_size, slot, hash_)
    if updated == _ASIDE:
        updated = _add(context, key, key_size, hash_, slot)
    if updated > 0:
        changed(context, context.call[DB], key, key_size, hash_, PFADD, updated)
    if updated >= 0:
        reply_integer(context, int64(updated > 0))
    return 0
