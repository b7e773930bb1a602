"""Finding the element of a chain by its key: one pass over the blocks, each translated once.

A key of the right length is compared by its last eight bytes first, as a word: most keys differ there, and the fewest
keys differ in their first bytes only.  A word that begins in front of a shorter key is in the block, too,
because a block begins with a header of eight bytes; the bytes in front are masked away.
"""

from kvstore.structures.chain import SPOT_SHIFT, block_count, block_next, spot_block, spot_place
from kvstore.structures.chain_layout import (
    BLOCK_HEADER,
    LENGTH_MAX,
    MIXED,
    SHAPE_SIZE,
    end_of,
    header_count,
    header_shape,
    next_of,
    shape_key,
    shape_size,
)
from kvstore.system.libc import bytes_at
from mmcore.jit import bytes32, bytes64, equal_bytes, int64, kernel, linked, uint8
from mmcore.mmu import read_address
from mmcore.state import SPACE

_WORD = 8


@kernel
def _tail(text, k):  # type: ignore[no-untyped-def]
    # (word, mask): the last bytes of a text of k bytes, as the upper ones of a word.
    if k >= _WORD:
        return bytes64(text, k - _WORD), int64(-1)
    word, mask = int64(0), int64(0)
    for i in range(k):
        place = 8 * (_WORD - k + i)
        word |= int64(text[i]) << place
        mask |= int64(0xFF) << place
    return word, mask


@linked(int64(uint8[::1], int64, int64, int64, int64))
def _find_alike(memory, at, header, key, k):  # type: ignore[no-untyped-def]
    """The place of a key in a block whose elements have one shape; -1 without it."""
    shape = header_shape(header)
    if shape_key(shape) != k:
        return -1
    text, size, end = bytes_at(key, k), shape_size(shape), at + BLOCK_HEADER + k
    word, mask = _tail(text, k)
    for i in range(header_count(header)):
        if bytes64(memory, end - _WORD) & mask == word and equal_bytes(memory, end - k, text, 0, k):
            return i
        end += size
    return -1


@linked(int64(uint8[::1], int64, int64, int64, int64))
def _find_mixed(memory, at, header, key, k):  # type: ignore[no-untyped-def]
    """The place of a key in a mixed block; -1 without it."""
    text, start, place = bytes_at(key, k), at + BLOCK_HEADER, end_of(at, header) - 4
    word, mask = _tail(text, k)
    for i in range(header_count(header)):
        shape = bytes32(memory, place) >> 16  # the word ends with the shape
        end = start + k
        if shape_key(shape) == k and bytes64(memory, end - _WORD) & mask == word:
            if equal_bytes(memory, start, text, 0, k):
                return i
        start += shape_size(shape)
        place -= SHAPE_SIZE
    return -1


@linked(int64(SPACE, int64, int64, int64))
def chain_seek(space, root, key, k):  # type: ignore[no-untyped-def]
    """The spot of the element whose key is the `k` bytes at `key`, in the process; 0 without one."""
    memory = space.mem.bytes
    while root != 0 and k <= LENGTH_MAX:
        at = read_address(space, root)
        header = bytes64(memory, at)
        if header & MIXED:
            i = _find_mixed(memory, at, header, key, k)
        else:
            i = _find_alike(memory, at, header, key, k)
        if i >= 0:
            return root | i << SPOT_SHIFT
        root = next_of(memory, at, header)
    return 0


@linked(int64(SPACE, int64, int64, int64))
def chain_find(space, root, key, k):  # type: ignore[no-untyped-def]
    """The place of the element whose key is the `k` bytes at `key`, in the process; -1 without one."""
    spot = chain_seek(space, root, key, k)
    if spot == 0:
        return -1
    place = spot_place(spot)
    while root != spot_block(spot):
        place += block_count(space, root)
        root = block_next(space, root)
    return place
