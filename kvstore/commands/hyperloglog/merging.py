"""PFMERGE: the destination becomes the union of itself and of other sketches.

It is bounded by its arguments, some ten microseconds for each key.
"""

from kvstore.commands.hyperloglog.counting import unite
from kvstore.commands.hyperloglog.sketch import (
    CORRUPT,
    ENCODING,
    SPARSE,
    mark_stale,
    raise_all,
    sketch_new,
    to_dense,
)
from kvstore.commands.hyperloglog.value import (
    is_dense,
    is_sketch,
    load_sketch,
    registers_in,
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
from kvstore.store.lookup import key_hash, lookup_read, lookup_write
from kvstore.system.libc import free
from kvstore.wire.arguments import argument
from kvstore.wire.errors import CORRUPT_SKETCH
from kvstore.wire.resp import reply_error, reply_ok
from mmcore.jit import int64, linked


@linked(int64(CONTEXT))
def _any_dense(context):  # type: ignore[no-untyped-def]
    """Look all keys up: whether one of their sketches is dense (0 or 1); -1 with an error reply if one is none."""
    dense = 0
    for i in range(1, context.call[ARGC]):
        key, key_size = argument(context, i)
        entry = lookup_read(context, key, key_size)
        if entry != 0:
            if not is_sketch(context, entry):
                return -1
            if is_dense(context, entry):
                dense = 1
    return dense


@linked(int64(CONTEXT, int64, int64, int64))
def _united(context, slot, work, dense):  # type: ignore[no-untyped-def]
    """Make the sketch of the destination, whose slot is given, or 0, the union of all; its length, or CORRUPT."""
    if unite(context, work) == CORRUPT:
        return CORRUPT
    sketch, registers, limit = sketch_in(work), registers_in(work), context.shard[HLL_SPARSE_MAX_BYTES]
    length = load_sketch(context, slot_entry(context, slot), sketch) if slot != 0 else sketch_new(sketch)
    if dense and length != CORRUPT and sketch[ENCODING] == SPARSE:
        length = to_dense(sketch, length, room_in(work))
    return raise_all(sketch, length, registers, limit, room_in(work)) if length != CORRUPT else int64(CORRUPT)


@linked(HANDLER)
def pfmerge(context):  # type: ignore[no-untyped-def]
    """PFMERGE destkey [sourcekey [sourcekey ...]]"""
    dense = _any_dense(context)
    if dense < 0:
        return 0
    work = work_begin(context)
    if work == 0:
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    length = _united(context, slot, work, dense)
    if length == CORRUPT:
        reply_error(context, CORRUPT_SKETCH)
    else:
        mark_stale(sketch_in(work))
        if store_sketch(context, key, key_size, slot, hash_, sketch_in(work), length):
            changed(context, context.call[DB], key, key_size, hash_, PFADD, 1)
            reply_ok(context)
    free(work)
    return 0
