"""Reading the fields of an entry of a stream, in a node that is long or not.

    fields, name, at = entry_begin(space, node, place)
    name, k, value, v, next_name, at = entry_pair(space, name, at)         so many times

`name` is where the next master field is, or 0 for an entry that has its own names; `at` is where the next text is.  All
are addresses of the space, because a long node has many pages.
"""

from kvstore.structures.stream_layout import CONTENT, FORM, entry_at
from mmcore.jit import int64, kernel
from mmcore.mmu import load8, load32, read_address


@kernel
def text_at(space, va):  # type: ignore[no-untyped-def]
    """(size, address) of the text at an address."""
    first = load8(space, va)
    if first & 1 == 0:
        return first >> 1, va + 1
    word = first
    for i in range(1, 4):
        word |= load8(space, va + i) << (8 * i)
    return word >> 1, va + 4


@kernel
def entry_begin(space, node, place):  # type: ignore[no-untyped-def]
    """(number of fields, address of the master fields or 0, address of the texts) of an entry."""
    at = read_address(space, node)
    _, _, texts, same = entry_at(space.mem.bytes, at, place)
    va = node + (texts - at)
    if same:
        return load32(space, node + FORM) & 0xFFFF, node + CONTENT, va
    fields, va = text_at(space, va)
    return fields, int64(0), va


@kernel
def entry_pair(space, name, at):  # type: ignore[no-untyped-def]
    """(name, its size, value, its size, where the next master field is or 0, where the next text is)."""
    own = name == 0
    k, name = text_at(space, at if own else name)
    v, value = text_at(space, name + k if own else at)
    return name, k, value, v, (int64(0) if own else name + k), value + v
