"""PFCOUNT: the cardinality of one sketch, or of several together.

One sketch keeps what was computed last, until its registers change.  So PFCOUNT, which reads, may change a value, as in
Redis: that counts as a change and touches WATCH, but no event is published.  It stores nothing where that would not be
its place, in a read-only store and in a full one; there it computes anew each time.

Several are united in registers outside of the store, some microseconds for each key; of many keys that is a long read,
which goes aside.
"""

from kvstore.commands.hyperloglog.estimate import HISTOGRAMS, VALUES, count_registers, count_sketch
from kvstore.commands.hyperloglog.sketch import CARDINALITY, CORRUPT, merge_into
from kvstore.commands.hyperloglog.value import (
    cached,
    is_sketch,
    load_sketch,
    registers_in,
    sketch_in,
    work_begin,
)
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import PFCOUNT
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.lifetimes.store import READ_ONLY
from kvstore.store.aside import goes_aside
from kvstore.store.entries import entry_value
from kvstore.store.growing import mark_raw
from kvstore.store.lookup import key_hash, lookup, lookup_read
from kvstore.store.reserve import may_add
from kvstore.system.libc import free, words_at
from kvstore.wire.arguments import argument
from kvstore.wire.errors import CORRUPT_SKETCH
from kvstore.wire.resp import reply_error, reply_integer
from kvstore.wire.wanted import is_given_up
from mmcore.jit import fill_bytes, int64, linked, view
from mmcore.mmu import store64

_WORK = 64  # of one key of several, in elements of a collection: see store/aside.py
assert HISTOGRAMS * VALUES <= SCRATCH_WORDS


@view
def _counts(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS], HISTOGRAMS * VALUES)


@linked(int64(CONTEXT, int64, int64, int64))
def _count_one(context, entry, work, cardinality_at):  # type: ignore[no-untyped-def]
    """Compute the cardinality of an entry's sketch, to the word at `cardinality_at`: 0, or CORRUPT."""
    sketch = sketch_in(work)
    length = load_sketch(context, entry, sketch)
    if length == CORRUPT:
        return CORRUPT
    return count_sketch(sketch, length, _counts(context), words_at(cardinality_at, 1))


@linked(int64(CONTEXT))
def _one(context):  # type: ignore[no-untyped-def]
    """PFCOUNT of one key."""
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if entry == 0:
        reply_integer(context, 0)
        return 0
    if not is_sketch(context, entry):
        return 0
    cardinality = cached(context, entry, CARDINALITY)
    if cardinality >= 0:
        reply_integer(context, cardinality)
        return 0
    work = work_begin(context)
    if work == 0:
        return 0
    code = _count_one(context, entry, work, work)
    cardinality = words_at(work, 1)[0]
    free(work)
    if code == CORRUPT:
        reply_error(context, CORRUPT_SKETCH)
        return 0
    if context.store[READ_ONLY] == 0 and may_add(context, 0):
        store64(context.space, entry_value(context, entry) + CARDINALITY, cardinality)
        mark_raw(context, entry)
        changed(context, context.call[DB], key, key_size, key_hash(context, key, key_size), PFCOUNT, 1)
    reply_integer(context, cardinality)
    return 0


@linked(int64(CONTEXT, int64))
def unite(context, work):  # type: ignore[no-untyped-def]
    """Unite the sketches of all keys in registers: 0, or CORRUPT.  They have been looked up before."""
    registers = registers_in(work)
    fill_bytes(registers, 0, 0, len(registers))
    for i in range(1, context.call[ARGC]):
        if is_given_up(context):
            break
        key, key_size = argument(context, i)
        slot = lookup(context, context.call[DB], key, key_size, key_hash(context, key, key_size))
        if slot != 0:
            sketch = sketch_in(work)
            length = load_sketch(context, slot_entry(context, slot), sketch)
            if length == CORRUPT or merge_into(sketch, length, registers) == CORRUPT:
                return CORRUPT
    return 0


@linked(int64(CONTEXT))
def _several(context):  # type: ignore[no-untyped-def]
    """PFCOUNT of several keys."""
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        entry = lookup_read(context, key, key_size)
        if entry != 0 and not is_sketch(context, entry):
            return 0
    if goes_aside(context, _WORK * (context.call[ARGC] - 1)):
        return BLOCKS
    work = work_begin(context)
    if work == 0:
        return 0
    code = unite(context, work)
    if code == CORRUPT:
        reply_error(context, CORRUPT_SKETCH)
    else:
        reply_integer(context, count_registers(registers_in(work), _counts(context)))
    free(work)
    return 0


@linked(HANDLER)
def pfcount(context):  # type: ignore[no-untyped-def]
    """PFCOUNT key [key ...]"""
    return _one(context) if context.call[ARGC] == 2 else _several(context)
