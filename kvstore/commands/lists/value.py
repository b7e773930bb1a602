"""A list as a value: its form, its encoding, and its replies.

A list is a sequence (kvstore/structures/sequence.py).  OBJECT ENCODING reports "listpack" as Redis 7.2 does: a list
that grows beyond list-max-listpack-size is WIDE, and is COMPACT again when it has shrunk to half of that.  Redis asks
also whether the elements lie in one node of its quicklist, which depends on the list's past; this store does not.

Adding is bounded by the arguments, and removing by the list itself.  Both reserve frames, and then cannot fail.
"""

from kvstore.lifetimes.context import BLOCKS, CONTEXT, SERVED
from kvstore.lifetimes.shard import LIST_MAX_LISTPACK_SIZE
from kvstore.store.entries import entry_encoding, entry_root, entry_set_encoding
from kvstore.store.leaving import reply_goes_on
from kvstore.store.reserve import BYTES_PER_CHANGE, reserve_change, reserve_elements
from kvstore.store.types import COMPACT, WIDE
from kvstore.structures.listpack import LISTPACK_EMPTY
from kvstore.structures.packed_layout import PACKED_HEADER, capacity_at, count_at, long_size_at, offset_at
from kvstore.structures.sequence import (
    NOWHERE,
    packed_where,
    sequence_count,
    sequence_find,
    sequence_frames,
    sequence_listpack,
    sequence_listpack_most,
    sequence_listpack_within,
    sequence_packeds,
    where_next,
    where_previous,
)
from kvstore.wire.resp import reply_bulk, reply_bulk_memory, reply_length
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import read_address

_NODE_MIN, _NODES = 4096, 5  # list-max-listpack-size -1 is 4 KiB, -5 and below are 64 KiB
_SAFE = 8192  # [bytes] that a listpack limited by its count may have
_FRAMES_RESERVED = 700  # that every reservation has, whatever it is for
_FEW = 64  # elements for which it does not pay to count the packeds that may hold them
_PUSHED_PER_PACKED = 2048  # bytes: two neighbours do not fit one packed
_PACKEDS_PER_KEY = 8  # that may be changed with the frames for one key


@kernel
def _node_bytes(context):  # type: ignore[no-untyped-def]
    # The limit of a listpack where it is one of bytes.
    return _NODE_MIN << min(-1 - context.shard[LIST_MAX_LISTPACK_SIZE], _NODES - 1)


@kernel
def _exceeds(context, size, count):  # type: ignore[no-untyped-def]
    # Whether a listpack of so many bytes and elements is too large.
    most = context.shard[LIST_MAX_LISTPACK_SIZE]
    if most < 0:
        return size > _node_bytes(context)
    return size > _SAFE or count > max(most, 1)


@linked(int64(CONTEXT, int64, int64, int64))
def encoding_grown(context, root, size, n):  # type: ignore[no-untyped-def]
    """The encoding of a COMPACT list, or of none (root 0), that gets `n` more elements of `size` bytes."""
    space = context.space
    if root == 0:
        return WIDE if _exceeds(context, LISTPACK_EMPTY + size, n) else COMPACT
    count = sequence_count(space, root) + n
    if not _exceeds(context, sequence_listpack_most(space, root) + size, count):
        return COMPACT
    return WIDE if _exceeds(context, sequence_listpack(space, root) + size, count) else COMPACT


@kernel
def note_growth(context, entry, size, n):  # type: ignore[no-untyped-def]
    """Update the encoding of a list before it gets `n` more elements of `size` bytes."""
    if entry_encoding(context, entry) == COMPACT:
        entry_set_encoding(context, entry, encoding_grown(context, entry_root(context, entry), size, n))


@linked(void(CONTEXT, int64, int64))
def note_loss(context, entry, root):  # type: ignore[no-untyped-def]
    """Update the encoding of a list with this root, which may have shrunk."""
    if entry_encoding(context, entry) == COMPACT:
        return
    space, most, limit = context.space, context.shard[LIST_MAX_LISTPACK_SIZE], _SAFE
    if most < 0:
        limit = _node_bytes(context) >> 1
    elif sequence_count(space, root) > max(most, 1) >> 1:
        return
    if sequence_listpack_within(space, root, limit):
        entry_set_encoding(context, entry, COMPACT)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def reserve_list(context, root, elements, size, changes):  # type: ignore[no-untyped-def]
    """Whether a list may get so many elements of `size` bytes, by so many changes at once; else it replies -OOM."""
    frames = changes * sequence_frames(context.space, root, 0)
    packeds = min(elements, size // _PUSHED_PER_PACKED + 2)
    return reserve_elements(context, packeds, size + (max(frames - _FRAMES_RESERVED, 0) << 12))


@linked(int64(CONTEXT, int64, int64))
def reserve_loss(context, root, n):  # type: ignore[no-untyped-def]
    """Whether there are frames to remove up to `n` elements of a list; else it replies -OOM.

    Each packed that loses some may take copies of shared pages: its own, of the tree, of the heap, and their tables.
    """
    frames = sequence_frames(context.space, root, 0)
    packeds = n if n <= _FEW else min(n, sequence_packeds(context.space, root))
    size = BYTES_PER_CHANGE + (max(frames - _FRAMES_RESERVED, 0) << 12)
    return reserve_change(context, 3 + packeds // _PACKEDS_PER_KEY, size)


@linked(void(CONTEXT, int64, int64))
def reply_element(context, packed, i):  # type: ignore[no-untyped-def]
    """The element at place `i` of a packed."""
    memory, at = context.space.mem.bytes, read_address(context.space, packed)
    capacity = capacity_at(memory, at)
    if capacity == 0:
        reply_bulk_memory(context, packed + PACKED_HEADER, long_size_at(memory, at))
        return
    start = offset_at(memory, at, capacity, i)
    reply_bulk(context, memory, at + start, offset_at(memory, at, capacity, i + 1) - start)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def reply_elements(context, root, rank, n, step, start, limit):  # type: ignore[no-untyped-def]
    """`n` elements of a list from a rank on, in steps of 1 or -1, without the header of an array.

    Returns BLOCKS if the read, whose reply began at `start`, goes aside when it reaches `limit`, else SERVED.
    """
    space = context.space
    if n <= 0:
        return SERVED
    where, packed, first = sequence_find(space, root, rank)
    i = rank - first
    while True:
        memory, at = space.mem.bytes, read_address(space, packed)
        count = count_at(memory, at)
        here = min(n, count - i if step > 0 else i + 1)
        for _ in range(here):
            reply_element(context, packed, i)
            i += step
        n -= here
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return BLOCKS
        if n == 0 or is_given_up(context):
            return SERVED
        where = where_next(space, root, where) if step > 0 else where_previous(space, root, where)
        assert where != NOWHERE, "a rank beyond a list"
        packed = packed_where(space, root, where)
        i = 0 if step > 0 else count_at(memory, read_address(space, packed)) - 1
