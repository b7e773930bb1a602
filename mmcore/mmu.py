"""The MMU: how kernels access the bytes of an address space.

`read_address` and `write_address` translate a virtual address to an index into `mem.bytes`.  The TLB hit is inlined in
the caller; a miss walks the tables, and a write may fault there.  The result of read_address is valid until the next
write fault on that page, the result of write_address until the next fork, and both only until the page is unmapped.

The loads and stores below assert that they succeed.  Before a store, the caller must have reserved the frames that
copy-on-write may need (`has_frames`); before a load, it must know that the page is mapped.  Words are little-endian and
lie within one page.
"""

from mmcore.fault import mark_used, write_fault
from mmcore.jit import (
    boolean,
    bytes32,
    bytes64,
    copy_bytes,
    equal_bytes,
    int64,
    kernel,
    linked,
    put32,
    put64,
    uint8,
    void,
)
from mmcore.paging import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, READY, RW, TRACES, A
from mmcore.state import FROZEN, GENERATION, SPACE, TLB_HITS, TLB_MISSES
from mmcore.tlb import tlb_fill, tlb_index
from mmcore.walk import translate

__all__ = [
    "bytes32",
    "bytes64",
    "compare",
    "copy_across",
    "copy_in",
    "copy_out",
    "copy_within",
    "load8",
    "load32",
    "load64",
    "put32",
    "put64",
    "read_address",
    "store8",
    "store32",
    "store64",
    "write_address",
]


@linked(int64(SPACE, int64))
def read_miss(space, va):  # type: ignore[no-untyped-def]
    """read_address after a TLB miss."""
    space.processor[TLB_MISSES] += 1
    frame, flags = translate(space, va)
    if frame < 0:
        return frame
    if space.cpu[FROZEN] != 0:
        return tlb_fill(space, va, frame, False)
    if not flags & A:
        mark_used(space, va, 0)
    return tlb_fill(space, va, frame, flags & READY == READY)


@linked(int64(SPACE, int64))
def write_miss(space, va):  # type: ignore[no-untyped-def]
    """write_address after a TLB miss."""
    assert space.cpu[FROZEN] == 0, "a frozen space is written"
    space.processor[TLB_MISSES] += 1
    frame, flags = translate(space, va)
    if frame >= 0 and not flags & RW:
        frame = write_fault(space, va)
    if frame < 0:
        return frame
    if flags & TRACES != TRACES:
        mark_used(space, va, 1)
    return tlb_fill(space, va, frame, True)


@kernel
def read_address(space, va):  # type: ignore[no-untyped-def]
    """The index in mem.bytes at which `va` can be read, or NOT_PRESENT."""
    vpn = va >> PAGE_SHIFT
    index = tlb_index(space, vpn)
    if space.tlb[index] == space.cpu[GENERATION] | vpn:
        space.processor[TLB_HITS] += 1
        return space.tlb[index + 2] | (va & PAGE_MASK)
    return read_miss(space, va)


@kernel
def write_address(space, va):  # type: ignore[no-untyped-def]
    """The index in mem.bytes at which `va` can be written; NOT_PRESENT; or NO_FRAME with nothing changed."""
    vpn = va >> PAGE_SHIFT
    index = tlb_index(space, vpn)
    if space.tlb[index + 1] == space.cpu[GENERATION] | vpn:
        space.processor[TLB_HITS] += 1
        return space.tlb[index + 2] | (va & PAGE_MASK)
    return write_miss(space, va)


@kernel
def _readable(space, va, size):  # type: ignore[no-untyped-def]
    assert va & PAGE_MASK <= PAGE_SIZE - size, "a load straddles two pages"
    pa = read_address(space, va)
    assert pa >= 0, "load from an unmapped page"
    return pa


@kernel
def _writable(space, va, size):  # type: ignore[no-untyped-def]
    assert va & PAGE_MASK <= PAGE_SIZE - size, "a store straddles two pages"
    pa = write_address(space, va)
    assert pa >= 0, "store to an unmapped page, or no frame was reserved for it"
    return pa


@kernel
def load8(space, va):  # type: ignore[no-untyped-def]
    """The byte at `va`, as int64."""
    return int64(space.mem.bytes[_readable(space, va, 1)])


@kernel
def load32(space, va):  # type: ignore[no-untyped-def]
    """The unsigned 32-bit word at `va`, as int64."""
    return bytes32(space.mem.bytes, _readable(space, va, 4))


@kernel
def load64(space, va):  # type: ignore[no-untyped-def]
    """The 64-bit word at `va`, as int64."""
    return bytes64(space.mem.bytes, _readable(space, va, 8))


@kernel
def store8(space, va, value):  # type: ignore[no-untyped-def]
    """Store the low byte of `value`."""
    space.mem.bytes[_writable(space, va, 1)] = value & 255


@kernel
def store32(space, va, value):  # type: ignore[no-untyped-def]
    """Store the low 32 bits of `value`."""
    put32(space.mem.bytes, _writable(space, va, 4), value)


@kernel
def store64(space, va, value):  # type: ignore[no-untyped-def]
    """Store `value`."""
    put64(space.mem.bytes, _writable(space, va, 8), value)


@kernel
def _left_in_page(va):  # type: ignore[no-untyped-def]
    return PAGE_SIZE - (va & PAGE_MASK)


@linked(void(SPACE, int64, uint8[::1], int64, int64))
def copy_in(space, va, array, offset, count):  # type: ignore[no-untyped-def]
    """Copy array[offset : offset + count] to `va`, across pages."""
    while count > 0:
        piece = min(count, _left_in_page(va))
        copy_bytes(space.mem.bytes, _writable(space, va, 1), array, offset, piece)
        va += piece
        offset += piece
        count -= piece


@linked(void(SPACE, int64, uint8[::1], int64, int64))
def copy_out(space, va, array, offset, count):  # type: ignore[no-untyped-def]
    """Copy the `count` bytes at `va`, across pages, to array[offset:]."""
    while count > 0:
        piece = min(count, _left_in_page(va))
        copy_bytes(array, offset, space.mem.bytes, _readable(space, va, 1), piece)
        va += piece
        offset += piece
        count -= piece


@kernel
def _copy_piece(space, target, source, count):  # type: ignore[no-untyped-def]
    # Translate the target first: its fault may move the page that is read.
    to = _writable(space, target, 1)
    copy_bytes(space.mem.bytes, to, space.mem.bytes, _readable(space, source, 1), count)


@linked(void(SPACE, int64, int64, int64))
def copy_within(space, target, source, count):  # type: ignore[no-untyped-def]
    """Copy `count` bytes from `source` to `target`, across pages; the two may overlap."""
    backward = source < target < source + count
    while count > 0:
        if backward:
            to, of = target + count, source + count
            piece = min(count, min(((to - 1) & PAGE_MASK) + 1, ((of - 1) & PAGE_MASK) + 1))
            _copy_piece(space, to - piece, of - piece, piece)
        else:
            piece = min(count, min(_left_in_page(target), _left_in_page(source)))
            _copy_piece(space, target, source, piece)
            target += piece
            source += piece
        count -= piece


@linked(boolean(SPACE, int64, uint8[::1], int64, int64))
def compare(space, va, array, offset, count):  # type: ignore[no-untyped-def]
    """Whether the `count` bytes at `va`, across pages, equal array[offset : offset + count]."""
    while count > 0:
        piece = min(count, _left_in_page(va))
        if not equal_bytes(space.mem.bytes, _readable(space, va, 1), array, offset, piece):
            return False
        va += piece
        offset += piece
        count -= piece
    return True


@linked(void(SPACE, int64, SPACE, int64, int64))
def copy_across(space, target, source, va, count):  # type: ignore[no-untyped-def]
    """Copy the `count` bytes at `va` of `source`, a space of the same memory, to `target`, across pages."""
    memory = space.mem.bytes
    while count > 0:
        piece = min(count, min(_left_in_page(target), _left_in_page(va)))
        to = _writable(space, target, 1)
        copy_bytes(memory, to, memory, _readable(source, va, 1), piece)
        target += piece
        va += piece
        count -= piece
