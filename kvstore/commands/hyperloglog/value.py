"""Sketches as values of keys, and the memory in which a command works on one.

A command that changes a sketch, other than raising registers of a dense one, does so on a copy outside of the store.
So the length of the result is known before frames are reserved for it, and a corrupt sketch stays as it was.

The memory, which is malloc'd for the command:

    a sketch        SKETCH_MAX + SLACK bytes
    a dense one     DENSE_SIZE + SLACK bytes, for to_dense
    registers       REGISTERS bytes, one each
"""

from kvstore.commands.hyperloglog.elements import REGISTERS
from kvstore.commands.hyperloglog.sketch import (
    CORRUPT,
    DENSE,
    DENSE_SIZE,
    ENCODING,
    HEADER,
    MAGIC,
    SKETCH_MAX,
    SLACK,
    SPARSE,
)
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.store.entries import NO_DEADLINE, TYPE_MASK, entry_deadline, entry_head, entry_length, entry_value
from kvstore.store.growing import mark_raw
from kvstore.store.index import entry_of
from kvstore.store.lookup import find_slot
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.store.values import set_value_room
from kvstore.system.libc import bytes_at, malloc
from kvstore.wire.errors import NO_SKETCH, OUT_OF_RESULT, WRONG_TYPE
from kvstore.wire.resp import reply_error, reply_out_of_frames
from mmcore.jit import bytes32, int64, kernel, linked, uint8, view
from mmcore.mmu import copy_in, copy_out, load8, load64, read_address

_SKETCH_ROOM, _DENSE_ROOM = SKETCH_MAX + SLACK, DENSE_SIZE + SLACK
WORK_SIZE = _SKETCH_ROOM + _DENSE_ROOM + REGISTERS


@linked(int64(CONTEXT))
def work_begin(context):  # type: ignore[no-untyped-def]
    """The address of memory to work in, which the caller frees; 0 with an error reply."""
    work = malloc(WORK_SIZE)
    if work == 0:
        reply_error(context, OUT_OF_RESULT)
    return work


@view
def sketch_in(work):  # type: ignore[no-untyped-def]
    """The sketch in that memory."""
    return bytes_at(work, _SKETCH_ROOM)


@view
def room_in(work):  # type: ignore[no-untyped-def]
    """The room for a dense sketch."""
    return bytes_at(work + _SKETCH_ROOM, _DENSE_ROOM)


@view
def registers_in(work):  # type: ignore[no-untyped-def]
    """The registers, a byte each."""
    return bytes_at(work + _SKETCH_ROOM + _DENSE_ROOM, REGISTERS)


@linked(int64(CONTEXT, int64))
def sketch_of(context, entry):  # type: ignore[no-untyped-def]
    """The address of the entry's value << 1 | its encoding, if it looks like a sketch; else -1 with an error reply."""
    form, length = entry_head(context, entry)
    if form & TYPE_MASK:
        reply_error(context, WRONG_TYPE)
        return -1
    if length >= HEADER:  # such a value does not straddle pages in its first bytes
        value, memory = entry_value(context, entry), context.space.mem.bytes
        pa = read_address(context.space, value)
        encoding = int64(memory[pa + ENCODING])
        if bytes32(memory, pa) == MAGIC and (encoding == SPARSE or (encoding == DENSE and length == DENSE_SIZE)):
            return value << 1 | encoding
    reply_error(context, NO_SKETCH)
    return -1


@kernel
def is_sketch(context, entry):  # type: ignore[no-untyped-def]
    """Whether the entry's value looks like a sketch; else it replies an error."""
    return sketch_of(context, entry) >= 0


@kernel
def is_dense(context, entry):  # type: ignore[no-untyped-def]
    """Whether the sketch of an entry is dense."""
    return load8(context.space, entry_value(context, entry) + ENCODING) == DENSE


@kernel
def cached(context, entry, place):  # type: ignore[no-untyped-def]
    """The word at `place` in the header of an entry's sketch."""
    return load64(context.space, entry_value(context, entry) + place)


@linked(int64(CONTEXT, int64, uint8[::1]))
def load_sketch(context, entry, sketch):  # type: ignore[no-untyped-def]
    """Copy the sketch of an entry out: its length, or CORRUPT if it is too long for one."""
    length = entry_length(context, entry)
    if length > SKETCH_MAX:
        return CORRUPT
    copy_out(context.space, entry_value(context, entry), sketch, 0, length)
    return length


@linked(int64(CONTEXT, int64, int64, int64, int64, uint8[::1], int64))
def store_sketch(context, key, key_size, slot, hash_, sketch, length):  # type: ignore[no-untyped-def]
    """Set a key, whose slot is given, or 0, to a sketch of `length` bytes, with the same deadline.

    Returns 1, or 0 with nothing changed and an error replied.
    """
    db, deadline = context.call[DB], NO_DEADLINE
    if slot != 0:
        deadline = entry_deadline(context, entry_of(load64(context.space, slot)))
    if not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, key_size + length):
        return 0
    room = set_value_room(context, db, key, key_size, slot, hash_, length, deadline)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    copy_in(context.space, room, sketch, 0, length)
    if slot == 0:
        slot = find_slot(context, db, key, key_size, hash_)
    mark_raw(context, entry_of(load64(context.space, slot)))
    return 1
