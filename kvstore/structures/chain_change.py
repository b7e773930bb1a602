"""Changes of a chain (chain.py): inserting and removing elements, other payloads, copies.

Capacity.  A block that is full moves to an allocation with an eighth more than it needs, and AHEAD_MAX bytes at most:
large sizes of allocations are far apart anyway.  So a series of insertions does not copy it each time.  It moves to a
smaller one when it would fit there with a quarter to spare.  At BLOCK_MAX it is divided: behind the last block's end
another one begins, elsewhere both halves have the same weight.  A block is joined with a neighbour when both together
leave a quarter of a block free.

A function that needs an allocation, or a copy of a shared page, returns 0 with nothing changed if there are too few
frames.  CHAIN_FRAMES free frames are always enough.
"""

from kvstore.structures.chain import (
    BLOCK_MAX,
    BLOCKS_MAX,
    CAPACITY_MIN,
    COUNT_MAX,
    ELEMENT_MAX,
    block_before,
    block_capacity,
    block_count,
    block_limit,
    block_next,
    chain_spot,
    spot_block,
    spot_element,
    spot_place,
)
from kvstore.structures.chain_layout import (
    DIFFER,
    LENGTH_MAX,
    LINK_SIZE,
    LINKED,
    MIXED,
    NOTHING,
    SHAPE_SIZE,
    append_room,
    append_some,
    close_gap,
    fit_payload,
    header_capacity,
    header_count,
    header_needed,
    header_of,
    header_shape,
    header_used,
    make_gap,
    needed_for,
    next_of,
    offset_of,
    one_shape,
    put_next,
    shape_among,
    shape_at,
    shape_key,
    shape_of,
    shape_payload,
    shape_size,
)
from kvstore.structures.element import element_payload, element_write
from kvstore.system.libc import bytes_at
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc, heap_free, heap_size
from mmcore.jit import bytes64, int64, kernel, linked, put64
from mmcore.mmu import copy_in, read_address, write_address
from mmcore.state import SPACE

AHEAD_MAX = 48  # bytes
JOINED_MAX = 760  # bytes that two blocks need which are joined
CHAIN_FRAMES = BLOCKS_MAX * HEAP_FRAMES  # that all blocks are freed or made; a division takes fewer


# --- parts of a change -----------------------------------------------------------------------------------------------


@kernel
def _capacity_for(needed):  # type: ignore[no-untyped-def]
    return heap_size(max(CAPACITY_MIN, min(BLOCK_MAX, needed + min(needed >> 3, AHEAD_MAX))))


@kernel
def _pays(needed, capacity):  # type: ignore[no-untyped-def]
    # Whether a smaller allocation would hold it with a quarter to spare.
    return heap_size(max(CAPACITY_MIN, min(BLOCK_MAX, needed + (needed >> 2) + 8))) < capacity


@kernel
def _alloc(space, capacity, flags):  # type: ignore[no-untyped-def]
    # An empty block.  Called after has_frames.
    block = heap_alloc(space, capacity)
    assert block != 0, "no frames were reserved for a block"
    put64(space.mem.bytes, write_address(space, block), header_of(capacity, flags, 0, 0, 0))
    return block


@kernel
def _free(space, block):  # type: ignore[no-untyped-def]
    # Called after has_frames.
    code = heap_free(space, block, block_capacity(space, block))
    assert code == 0, "no frames were reserved for a block"


@kernel
def chain_relink(space, root, before, block):  # type: ignore[no-untyped-def]
    """Let the block in front (0: none) know another one; the root.  The frames are reserved."""
    if before == 0:
        return block
    at = write_address(space, before)
    assert at >= 0, "no frames were reserved for a block"
    put_next(space.mem.bytes, at, block)
    return root


# A change puts one element, or none, in the place of n elements of a block, from place i on.  The result is a
# virtual sequence: the elements before i, the new one, and those from i + n on.  Any range [first, last) of it can be
# made a block.  `new` is the shape of the new element, or NOTHING.


@kernel
def _bytes_between(memory, at, first, last):  # type: ignore[no-untyped-def]
    header = bytes64(memory, at)
    return offset_of(memory, at, header, last) - offset_of(memory, at, header, first) if first < last else int64(0)


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64, int64))
def _build(space, block, i, n, new, first, last, following):  # type: ignore[no-untyped-def]
    """A new block of a range of the virtual sequence, linked with the one that follows (0: none).

    Of a new element that takes the place of an old one, the first bytes are those of the old one.  With `following`
    below zero nothing is made: the result is how many bytes such a block, linked, would need.
    """
    at, memory, has = read_address(space, block), space.mem.bytes, int64(new != NOTHING)
    front = max(min(last, i), first)  # the elements before the new one end here
    behind, stop = max(first, i + has) - has + n, last - has + n  # in the old block
    in_range = has != 0 and first <= i < last
    shape = one_shape(shape_among(memory, at, first, front - first), shape_among(memory, at, behind, stop - behind))
    used = _bytes_between(memory, at, first, front) + _bytes_between(memory, at, behind, stop)
    if in_range:
        shape = one_shape(shape, new)
        used += shape_size(new)
    needed = needed_for(used, last - first, shape == DIFFER, following != 0)
    if following < 0:
        return needed
    flags = (MIXED if shape == DIFFER else 0) | (LINKED if following != 0 else 0)
    made = _alloc(space, _capacity_for(needed), flags)
    to, at = write_address(space, made), read_address(space, block)
    append_some(memory, to, at, first, front - first)
    if in_range:
        start = at + offset_of(memory, at, bytes64(memory, at), i)
        append_room(memory, to, new, start, _bytes_between(memory, at, i, i + n) if n == 1 else 0)
    append_some(memory, to, at, behind, stop - behind)
    if following != 0:
        put_next(memory, to, following)
    return made


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def _middle(space, block, i, n, new, count):  # type: ignore[no-untyped-def]
    """Where to divide a virtual sequence of two elements or more, so that both parts fit a block, even a mixed one."""
    at, memory, has = read_address(space, block), space.mem.bytes, int64(new != NOTHING)
    header = bytes64(memory, at)
    total = header_used(header) - _bytes_between(memory, at, i, i + n) + SHAPE_SIZE * count
    if has:
        total += shape_size(new)
    cut, weight = 0, 0
    while cut < count - 1:
        old = cut if cut < i else cut - has + n
        size = SHAPE_SIZE + shape_size(new if has != 0 and cut == i else shape_at(memory, at, header, old))
        if cut > 0 and 2 * weight + size > total:
            break
        weight += size
        cut += 1
    return cut


@linked(int64(SPACE, int64, int64, int64, int64, int64))
def _change(space, root, block, i, n, new):  # type: ignore[no-untyped-def]
    """Change a block by making another one or two of it; the root.  Called after has_frames."""
    at, memory, has = read_address(space, block), space.mem.bytes, int64(new != NOTHING)
    header = bytes64(memory, at)
    following, before = next_of(memory, at, header), block_before(space, root, block)
    count = header_count(header) - n + has
    if count <= COUNT_MAX and _build(space, block, i, n, new, 0, count, -1) <= BLOCK_MAX:
        root = chain_relink(space, root, before, _build(space, block, i, n, new, 0, count, following))
    elif following == 0 and n == 0 and i == count - 1:
        right = _build(space, block, i, n, new, i, count, 0)
        if header & LINKED or header_needed(header) + LINK_SIZE <= header_capacity(header):
            at = write_address(space, block)
            assert at >= 0, "no frames were reserved for a block"
            put_next(memory, at, right)
            return root
        root = chain_relink(space, root, before, _build(space, block, i, n, new, 0, i, right))
    else:
        cut = _middle(space, block, i, n, new, count)
        right = _build(space, block, i, n, new, cut, count, following)
        root = chain_relink(space, root, before, _build(space, block, i, n, new, 0, cut, right))
    _free(space, block)
    return root


@linked(int64(SPACE, int64, int64))
def _join(space, root, block):  # type: ignore[no-untyped-def]
    """Join a block (0: none) with the one behind it, if both are small and there are frames; the root."""
    following = block_next(space, block) if block != 0 else int64(0)
    if following == 0 or not has_frames(space, CHAIN_FRAMES):
        return root
    memory, at, other = space.mem.bytes, read_address(space, block), read_address(space, following)
    header, behind = bytes64(memory, at), bytes64(memory, other)
    count, more, beyond = header_count(header), header_count(behind), next_of(memory, other, behind)
    shape = one_shape(shape_among(memory, at, 0, count), shape_among(memory, other, 0, more))
    used, mixed = header_used(header) + header_used(behind), shape == DIFFER
    if needed_for(used, count + more, mixed, True) > JOINED_MAX or count + more > COUNT_MAX:
        return root
    flags = (MIXED if mixed else 0) | (LINKED if beyond != 0 else 0)
    joined = _alloc(space, _capacity_for(needed_for(used, count + more, mixed, beyond != 0)), flags)
    to = write_address(space, joined)
    append_some(memory, to, read_address(space, block), 0, count)
    append_some(memory, to, read_address(space, following), 0, more)
    if beyond != 0:
        put_next(memory, to, beyond)
    root = chain_relink(space, root, block_before(space, root, block), joined)
    _free(space, block)
    _free(space, following)
    return root


# --- changes ---------------------------------------------------------------------------------------------------------


@linked(int64(SPACE))
def chain_new(space):  # type: ignore[no-untyped-def]
    """A chain without elements; 0 with nothing changed when frames ran out."""
    return _alloc(space, CAPACITY_MIN, 0) if has_frames(space, CHAIN_FRAMES) else 0


@linked(int64(SPACE, int64))
def chain_free(space, root):  # type: ignore[no-untyped-def]
    """Free a chain with its elements.  Frames were reserved: 0, or NO_FRAME where one was missing all the same."""
    while root != 0:
        following, code = block_next(space, root), heap_free(space, root, block_capacity(space, root))
        if code != 0:
            return code
        root = following
    return 0


@linked(int64(SPACE, SPACE, int64))
def chain_copy(space, source, root):  # type: ignore[no-untyped-def]
    """A copy of a chain of `source`, which is the space itself or another one of its memory.

    It takes no more than it needs; 0 with nothing changed when frames ran out.
    """
    if not has_frames(space, CHAIN_FRAMES):
        return 0
    memory, copy, last = space.mem.bytes, 0, 0
    while root != 0:
        at = read_address(source, root)
        header = bytes64(memory, at)
        count, following = header_count(header), next_of(memory, at, header)
        mixed = shape_among(memory, at, 0, count) == DIFFER
        capacity = heap_size(max(CAPACITY_MIN, needed_for(header_used(header), count, mixed, following != 0)))
        block = _alloc(space, capacity, (MIXED if mixed else 0) | (LINKED if following != 0 else 0))
        to = write_address(space, block)
        if following != 0:
            put_next(memory, to, 0)
        append_some(memory, to, read_address(source, root), 0, count)
        copy = chain_relink(space, copy, last, block)
        last, root = block, following
    return copy


@linked(int64(SPACE, int64, int64, int64, int64, int64, int64))
def chain_insert(space, root, place, key, k, payload, p):  # type: ignore[no-untyped-def]
    """Insert an element, from addresses of the process, at a place; with payload 0 its bytes stay unwritten.

    The caller has checked that it fits.  Returns the new root, or 0 with nothing changed when frames ran out.
    """
    memory, spot, shape = space.mem.bytes, chain_spot(space, root, place), shape_of(k, p)
    block, i = spot_block(spot), spot_place(spot)
    at = read_address(space, block)
    header = bytes64(memory, at)
    count, mixed = header_count(header), header & MIXED != 0
    assert 0 <= i <= count and max(k, p) <= LENGTH_MAX and k + p <= ELEMENT_MAX, "an element does not fit a chain"
    fits = header_needed(header) + k + p + (SHAPE_SIZE if mixed else 0) <= block_limit(header) and count < COUNT_MAX
    if fits and (mixed or count == 0 or shape == header_shape(header)):
        at = write_address(space, block)
        if at < 0:
            return 0
        make_gap(memory, at, i, shape)
    else:
        if not has_frames(space, CHAIN_FRAMES):
            return 0
        root = _change(space, root, block, i, 0, shape)
        spot = chain_spot(space, root, place)
    element_write(space, spot_element(space, spot), key, k, payload, p)
    return root


@linked(int64(SPACE, int64, int64, int64, int64))
def chain_replace(space, root, place, payload, p):  # type: ignore[no-untyped-def]
    """Give the element at a place another payload, which fits, from an address of the process.

    Returns the new root, or 0 with nothing changed when frames ran out.
    """
    memory, spot = space.mem.bytes, chain_spot(space, root, place)
    block, i = spot_block(spot), spot_place(spot)
    at = read_address(space, block)
    header = bytes64(memory, at)
    shape = shape_at(memory, at, header, i)
    k, old = shape_key(shape), shape_payload(shape)
    assert i < header_count(header) and p <= LENGTH_MAX and k + p <= ELEMENT_MAX, "an element does not fit a chain"
    if p == old or (header & MIXED and header_needed(header) + p - old <= block_limit(header)):
        at = write_address(space, block)
        if at < 0:
            return 0
        if p != old:
            fit_payload(memory, at, i, p)
    else:
        if not has_frames(space, CHAIN_FRAMES):
            return 0
        root = _change(space, root, block, i, 1, shape_of(k, p))
        spot = chain_spot(space, root, place)
    copy_in(space, element_payload(space, spot_element(space, spot)), bytes_at(payload, p), 0, p)
    return root


@linked(int64(SPACE, int64, int64, int64, int64))
def _remove_some(space, root, block, i, n):  # type: ignore[no-untyped-def]
    """Remove `n` elements of a block; the root, or 0 with nothing changed when there is no frame for a copied page."""
    at, memory = read_address(space, block), space.mem.bytes
    header = bytes64(memory, at)
    count, following, before = header_count(header), next_of(memory, at, header), block_before(space, root, block)
    if n == count and (before != 0 or following != 0):
        root = chain_relink(space, root, before, following)
        _free(space, block)
        return root
    used = header_used(header) - _bytes_between(memory, at, i, i + n)
    needed = needed_for(used, count - n, header & MIXED != 0, following != 0)
    if _pays(needed, header_capacity(header)) and has_frames(space, 2 * CHAIN_FRAMES):
        return _change(space, root, block, i, n, NOTHING)
    at = write_address(space, block)
    if at < 0:
        return 0
    close_gap(memory, at, i, n)
    return root


@linked(int64(SPACE, int64, int64, int64))
def chain_remove(space, root, place, n):  # type: ignore[no-untyped-def]
    """Remove `n` elements from a place on.  The new root, or 0 with nothing changed when frames ran out."""
    enough = has_frames(space, CHAIN_FRAMES)
    while n > 0:
        spot = chain_spot(space, root, place)
        block, i = spot_block(spot), spot_place(spot)
        count = block_count(space, block)
        some = min(n, count - i)
        assert some > 0, "elements to be removed are not there"
        if not enough and (some < n or (some == count and (block != root or block_next(space, block) != 0))):
            return 0
        root = _remove_some(space, root, block, i, some)
        if root == 0:
            return 0
        n -= some
    root = _join(space, root, spot_block(chain_spot(space, root, place)))
    return _join(space, root, block_before(space, root, spot_block(chain_spot(space, root, place))))
