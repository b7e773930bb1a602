"""GETBIT and SETBIT: one bit of a string.

Bit 0 is the most significant bit of the first byte.  A string has zeros behind its end, as many as are asked for.
SETBIT there makes the string longer (store/growing.py).
"""

from kvstore.commands.strings.getting import is_refused, slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import SETBIT
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import HANDLER
from kvstore.lifetimes.shard import PROTO_MAX_BULK_LEN
from kvstore.store.entries import entry_length, entry_value
from kvstore.store.growing import bytes_to_grow, grow_value
from kvstore.store.lookup import key_hash, lookup_read, lookup_write
from kvstore.store.reserve import AS_BEFORE, reserve_value
from kvstore.wire.arguments import argument, integer_argument
from kvstore.wire.errors import BIT_OFFSET, BIT_VALUE
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.heap import heap_repay_zeros
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load8, read_address, write_address


@kernel
def bit_in_range(context, offset):  # type: ignore[no-untyped-def]
    """Whether a string may have a bit of this number."""
    return offset >= 0 and offset >> 3 < context.shard[PROTO_MAX_BULK_LEN]


@kernel
def _bit_offset(context, i):  # type: ignore[no-untyped-def]
    # The number of a bit in argument i; -1 with an error reply for none.
    valid, offset = integer_argument(context, i)
    if not valid or not bit_in_range(context, offset):
        reply_error(context, BIT_OFFSET)
        return -1
    return offset


@linked(HANDLER)
def getbit(context):  # type: ignore[no-untyped-def]
    """GETBIT key offset"""
    offset = _bit_offset(context, 2)
    if offset < 0:
        return 0
    key, key_size = argument(context, 1)
    entry = lookup_read(context, key, key_size)
    if is_refused(context, entry):
        return 0
    bit = 0
    if entry != 0 and offset >> 3 < entry_length(context, entry):
        bit = load8(context.space, entry_value(context, entry) + (offset >> 3)) >> (7 - (offset & 7)) & 1
    reply_integer(context, bit)
    return 0


@linked(HANDLER)
def setbit(context):  # type: ignore[no-untyped-def]
    """SETBIT key offset value"""
    offset = _bit_offset(context, 2)
    if offset < 0:
        return 0
    valid, bit = integer_argument(context, 3)
    if not valid or bit & ~1 != 0:
        reply_error(context, BIT_VALUE)
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    entry = slot_entry(context, slot)
    if is_refused(context, entry):
        return 0
    before = entry_length(context, entry) if slot != 0 else 0
    at, shift = offset >> 3, 7 - (offset & 7)
    length = max(before, at + 1)
    if not reserve_value(context, key, key_size, hash_, length, AS_BEFORE, bytes_to_grow(key_size, before, length)):
        return 0
    room = grow_value(context, context.call[DB], key, key_size, slot, hash_, length, 1)
    if room == 0:
        reply_out_of_frames(context)
        return 0
    memory = context.space.mem.bytes
    byte = int64(memory[read_address(context.space, room + at)])
    if byte >> shift & 1 != bit:
        heap_repay_zeros(context.space, room, at, 1)
        pa = write_address(context.space, room + at)
        assert pa >= 0, "no frame was reserved for a bit"
        memory[pa] = byte ^ 1 << shift
    if byte >> shift & 1 != bit or length > before:
        changed(context, context.call[DB], key, key_size, hash_, SETBIT, 1)
    reply_integer(context, byte >> shift & 1)
    return 0
