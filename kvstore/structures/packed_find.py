"""Finding the element of a packed by its key: one pass over the items, with one translation."""

from kvstore.structures.element import SHORT_MAX, varint_size
from kvstore.structures.packed_layout import PACKED_HEADER
from kvstore.system.libc import bytes_at
from mmcore.jit import bytes32, equal_bytes, int64, kernel, linked
from mmcore.mmu import read_address
from mmcore.state import SPACE


@kernel
def _length(memory, at):  # type: ignore[no-untyped-def]
    # A varint (element.py), by its index in mem.bytes.
    first = int64(memory[at])
    if first <= SHORT_MAX:
        return first
    return (first & SHORT_MAX) << 24 | int64(memory[at + 1]) << 16 | int64(memory[at + 2]) << 8 | int64(memory[at + 3])


@linked(int64(SPACE, int64, int64, int64))
def packed_find(space, va, key, k):  # type: ignore[no-untyped-def]
    """The place of the element whose key is the `k` bytes at `key`, in the process; -1 without one."""
    memory, start = space.mem.bytes, read_address(space, va)
    header = bytes32(memory, start)
    count, ends = header >> 16, start + (header & 0xFFF8)
    at, text = start + PACKED_HEADER, bytes_at(key, k)
    for i in range(count):
        if _length(memory, at) == k:
            payload = at + varint_size(k)
            if equal_bytes(memory, payload + varint_size(_length(memory, payload)), text, 0, k):
                return i
        at = start + (bytes32(memory, ends - 2 * i - 4) >> 16)
    return -1
