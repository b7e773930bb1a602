"""Whether pieces of memory of two spaces, which share frames, are the same."""

from kvstore.structures.element import element_key, element_key_length
from mmcore.jit import boolean, equal_bytes, int64, linked
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def same_bytes(x, y, at, other, count):  # type: ignore[no-untyped-def]
    """Whether the `count` bytes at `at` in x are those at `other` in y."""
    memory = x.mem.bytes
    while count > 0:
        piece = min(count, min(PAGE_SIZE - (at & PAGE_MASK), PAGE_SIZE - (other & PAGE_MASK)))
        here, there = read_address(x, at), read_address(y, other)
        if here != there and not equal_bytes(memory, here, memory, there, piece):
            return False
        at += piece
        other += piece
        count -= piece
    return True


@linked(boolean(SPACE, SPACE, int64, int64))
def same_key(x, y, element, other):  # type: ignore[no-untyped-def]
    """Whether two elements have the same key."""
    k = element_key_length(x, element)
    return k == element_key_length(y, other) and same_bytes(x, y, element_key(x, element), element_key(y, other), k)
