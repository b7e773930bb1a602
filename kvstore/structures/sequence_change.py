"""Changes of a sequence (sequence.py): pushing, inserting, replacing and removing elements.

A function that changes something returns the new root, or 0 with nothing changed if there are too few frames:
`sequence_frames` are always enough for one element.
"""

from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.listpack import listpack_size
from kvstore.structures.packed import (
    PACKED_MAX,
    is_long_item,
    packed_append_packed,
    packed_count,
    packed_fits,
    packed_free,
    packed_insert,
    packed_is_long,
    packed_item,
    packed_item_size,
    packed_needed,
    packed_new,
    packed_new_long,
    packed_remove,
    packed_resize,
    packed_split,
    packed_used,
)
from kvstore.structures.record import (
    BASE,
    HEAD,
    OWNS_PACKEDS,
    RECORD_SIZE,
    TAIL,
    TREE,
    record_add_count,
    record_count,
    record_new,
)
from kvstore.structures.sequence import (
    ALONE,
    BACK,
    FRONT,
    heads_of,
    listpack_sizes,
    sequence_count,
    sequence_find,
    sequence_frames,
)
from kvstore.structures.tree import (
    position_address,
    position_next,
    tree_add_weight,
    tree_insert_at,
    tree_remove_at,
    tree_seek,
    tree_weight,
)
from kvstore.system.libc import bytes_at
from mmcore.frames import has_frames
from mmcore.heap import heap_free
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import copy_in, load64, store64
from mmcore.state import SPACE

ROOM = 1000  # bytes of a packed that is added to a record: more elements will come
BACK_MAX = 2500  # bytes of a record's elements that become a packed again
SCARCE = 1000  # a packed that has lost elements, and needs no more than this, is joined with the one behind it
JOINED_MAX = 3000
# --- parts of a change; frames have been made sure of ----------------------------------------------------------------


@kernel
def _done(code):  # type: ignore[no-untyped-def]
    assert code == 0, "no frames were reserved for a sequence"


@kernel
def _made(va):  # type: ignore[no-untyped-def]
    assert va != 0, "no frames were reserved for a sequence"
    return va


@kernel
def _write(space, packed, i, key, k):  # type: ignore[no-untyped-def]
    copy_in(space, packed_item(space, packed, i), bytes_at(key, k), 0, k)


@linked(int64(SPACE, int64, int64, int64))
def _single(space, key, k, room):  # type: ignore[no-untyped-def]
    """A packed of one element, with so much room if it is not long."""
    if is_long_item(k):
        packed = _made(packed_new_long(space, k))
    else:
        packed = _made(packed_new(space, max(k, room)))
        packed = _made(packed_insert(space, packed, 0, k))
    _write(space, packed, 0, key, k)
    return packed


@linked(int64(SPACE, int64, int64, int64, int64))
def _put_in(space, packed, i, key, k):  # type: ignore[no-untyped-def]
    """Insert an element that fits; the packed's new address."""
    packed = _made(packed_insert(space, packed, i, k))
    _write(space, packed, i, key, k)
    return packed


@kernel
def _change(space, root, field, value):  # type: ignore[no-untyped-def]
    if load64(space, root + field) != value:
        store64(space, root + field, value)


@linked(void(SPACE, int64, int64, int64, int64, int64))
def _settle(space, root, where, rank, by, packed):  # type: ignore[no-untyped-def]
    """Note that the packed of a record that holds a rank has another address, or `by` elements more."""
    if where == FRONT or where == BACK:
        _change(space, root, HEAD if where == FRONT else TAIL, packed)
    elif by != 0 or position_address(space, where) != packed:
        _done(tree_add_weight(space, root, rank - heads_of(space, root), by, packed))


@linked(void(SPACE, int64, int64, int64))
def _add(space, root, count, size):  # type: ignore[no-untyped-def]
    """Change the number of a record's elements, and the bytes that they would take in a listpack."""
    record_add_count(space, root, count)
    store64(space, root + BASE, load64(space, root + BASE) + size)


@linked(int64(SPACE, int64, int64))
def _record_of(space, packed, field):  # type: ignore[no-untyped-def]
    """A record with one packed at this end."""
    root, count = _made(record_new(space, OWNS_PACKEDS)), packed_count(space, packed)
    store64(space, root + field, packed)
    _add(space, root, count, listpack_sizes(space, packed, 0, count))
    return root


@linked(int64(SPACE, int64))
def _smaller(space, root):  # type: ignore[no-untyped-def]
    """Make a packed of a record that has few elements; the root."""
    if load64(space, root + TREE) != 0:
        return root
    head, tail = load64(space, root + HEAD), load64(space, root + TAIL)
    if head == 0 and tail == 0:
        return root
    used, count = 0, 0
    for packed in (head, tail):
        if packed != 0:
            used += packed_used(space, packed)
            count += packed_count(space, packed)
    if packed_needed(used, count) > BACK_MAX:
        return root
    packed = head | tail
    if head != 0 and tail != 0:
        packed = _made(packed_append_packed(space, head, tail))
    _done(heap_free(space, root, RECORD_SIZE))
    return packed


# --- changes ---------------------------------------------------------------------------------------------------------


@linked(int64(SPACE, int64, int64, int64, int64))
def sequence_push(space, root, front, key, k):  # type: ignore[no-untyped-def]
    """Add the `k` bytes at `key`, in the process, in front (1) or at the end (0).  Root 0 begins a sequence."""
    if not has_frames(space, sequence_frames(space, root, k)):
        return 0
    if root == 0:
        packed = _single(space, key, k, 0)
        return _record_of(space, packed, TAIL) if is_long_item(k) else packed
    if kind_of(space, root) == PACKED:
        if packed_fits(space, root, k):
            return _put_in(space, root, 0 if front else packed_count(space, root), key, k)
        root = _record_of(space, root, TAIL if front else HEAD)
    field = HEAD if front else TAIL
    packed = load64(space, root + field)
    if packed == 0:
        packed = _single(space, key, k, ROOM)
    elif packed_fits(space, packed, k):
        packed = _put_in(space, packed, 0 if front else packed_count(space, packed), key, k)
    else:
        rank = 0 if front else tree_weight(space, root)
        _done(tree_insert_at(space, root, rank, packed_count(space, packed), packed, 1))
        packed = _single(space, key, k, ROOM)
    _change(space, root, field, packed)
    _add(space, root, 1, listpack_size(bytes_at(key, k), 0, k))
    return root


@linked(void(SPACE, int64, int64, int64))
def _promote(space, root, rank, field):  # type: ignore[no-untyped-def]
    """Make the first or the last packed of the tree, which holds this rank there, an end of the record."""
    packed = position_address(space, tree_seek(space, root, rank, 1))
    _done(tree_remove_at(space, root, rank, 1))
    store64(space, root + field, packed)


@linked(void(SPACE, int64, int64, int64))
def _join(space, root, where, rank):  # type: ignore[no-untyped-def]
    """Join the packed of the tree that begins at a rank with the one behind it, if both have few elements."""
    following = position_next(space, where)
    if following == 0 or not has_frames(space, sequence_frames(space, root, 0)):
        return
    packed, other = position_address(space, where), position_address(space, following)
    if packed_is_long(space, packed) or packed_is_long(space, other):
        return
    mine, more = packed_count(space, packed), packed_count(space, other)
    used = packed_used(space, packed)
    if packed_needed(used, mine) > SCARCE:
        return
    if packed_needed(used + packed_used(space, other), mine + more) > JOINED_MAX:
        return
    _done(tree_remove_at(space, root, rank + mine, 1))
    packed = _made(packed_append_packed(space, packed, other))
    _done(tree_add_weight(space, root, rank, more, packed))


@linked(int64(SPACE, int64, int64, int64))
def _remove_some(space, root, rank, n):  # type: ignore[no-untyped-def]
    """Remove up to `n` elements of a record from a rank on, all in one packed; how many."""
    where, packed, first = sequence_find(space, root, rank)
    i, count = rank - first, packed_count(space, packed)
    n = min(n, count - i)
    size = listpack_sizes(space, packed, i, n)
    if n < count:
        packed = _made(packed_remove(space, packed, i, n))
        _settle(space, root, where, first, -n, packed)
        if where > 0:
            _join(space, root, where, first - heads_of(space, root))
    else:
        if where == FRONT or where == BACK:
            store64(space, root + (HEAD if where == FRONT else TAIL), 0)
        else:
            _done(tree_remove_at(space, root, first - heads_of(space, root), 1))
        _done(packed_free(space, packed))
    _add(space, root, -n, -size)
    return n


@linked(int64(SPACE, int64, int64, int64))
def sequence_remove(space, root, rank, n):  # type: ignore[no-untyped-def]
    """Remove `n` elements from a rank on, but not all that there are.

    For each packed that is emptied, the caller has made sure of some frames, too.
    """
    if not has_frames(space, sequence_frames(space, root, 0)):
        return 0
    if kind_of(space, root) == PACKED:
        return packed_remove(space, root, rank, n)
    if load64(space, root + TREE) != 0:
        if rank == 0 and load64(space, root + HEAD) == 0:
            _promote(space, root, 0, HEAD)
        elif rank + n == record_count(space, root) and load64(space, root + TAIL) == 0:
            _promote(space, root, tree_weight(space, root) - 1, TAIL)
    while n > 0:
        n -= _remove_some(space, root, rank, n)
    assert record_count(space, root) > 0, "a sequence has lost all its elements"
    return _smaller(space, root)


@linked(void(SPACE, int64, int64))
def _split_at(space, root, rank):  # type: ignore[no-untyped-def]
    """Split the packed of a record that holds a rank, so that this rank is the first of a packed."""
    where, packed, first = sequence_find(space, root, rank)
    i, count = rank - first, packed_count(space, packed)
    if i == 0:
        return
    heads = heads_of(space, root)
    right = _made(packed_split(space, packed, i))
    if where == FRONT:
        _done(tree_insert_at(space, root, 0, count - i, right, 1))
    elif where == BACK:
        store64(space, root + TAIL, right)
        if load64(space, root + HEAD) == 0 and load64(space, root + TREE) == 0:
            store64(space, root + HEAD, packed)
        else:
            _done(tree_insert_at(space, root, tree_weight(space, root), i, packed, 1))
    else:
        _done(tree_add_weight(space, root, first - heads, i - count, 0))
        _done(tree_insert_at(space, root, rank - heads, count - i, right, 1))


@linked(int64(SPACE, int64, int64, int64, int64))
def _insert_between(space, root, rank, key, k):  # type: ignore[no-untyped-def]
    """Insert an element at a rank at which there is no room: into a neighbour, or as a packed of its own."""
    if kind_of(space, root) == PACKED:
        root = _record_of(space, root, TAIL)
    _split_at(space, root, rank)
    where, packed, _ = sequence_find(space, root, rank - 1)
    if packed_fits(space, packed, k):
        packed = _put_in(space, packed, packed_count(space, packed), key, k)
        _settle(space, root, where, rank - 1, 1, packed)
        return root
    where, packed, _ = sequence_find(space, root, rank)
    if packed_fits(space, packed, k):
        packed = _put_in(space, packed, 0, key, k)
        _settle(space, root, where, rank, 1, packed)
    else:
        _done(tree_insert_at(space, root, rank - heads_of(space, root), 1, _single(space, key, k, 0), 1))
    return root


@linked(int64(SPACE, int64, int64, int64, int64))
def sequence_insert(space, root, rank, key, k):  # type: ignore[no-untyped-def]
    """Insert the `k` bytes at `key`, in the process, so that they get this rank."""
    if rank == 0 or rank == sequence_count(space, root):
        return sequence_push(space, root, int64(rank == 0), key, k)
    if not has_frames(space, sequence_frames(space, root, k)):
        return 0
    where, packed, first = sequence_find(space, root, rank)
    if packed_fits(space, packed, k):
        packed = _put_in(space, packed, rank - first, key, k)
        if where == ALONE:
            return packed
        _settle(space, root, where, rank, 1, packed)
    else:
        root = _insert_between(space, root, rank, key, k)
    _add(space, root, 1, listpack_size(bytes_at(key, k), 0, k))
    return root


@linked(int64(SPACE, int64, int64, int64, int64))
def sequence_replace(space, root, rank, key, k):  # type: ignore[no-untyped-def]
    """Replace the element at a rank by the `k` bytes at `key`, in the process."""
    # The removal of the old element, if it comes to that, has its own frames.
    if not has_frames(space, sequence_frames(space, root, k) + sequence_frames(space, root, 0)):
        return 0
    where, packed, first = sequence_find(space, root, rank)
    i, used = rank - first, packed_used(space, packed) + k - packed_item_size(space, packed, rank - first)
    if packed_is_long(space, packed) or packed_needed(used, packed_count(space, packed)) > PACKED_MAX:
        root = _made(sequence_insert(space, root, rank, key, k))
        return _made(sequence_remove(space, root, rank + 1, 1))
    before = listpack_sizes(space, packed, i, 1)
    packed = _made(packed_resize(space, packed, i, k))
    _write(space, packed, i, key, k)
    if where == ALONE:
        return packed
    _settle(space, root, where, rank, 0, packed)
    _add(space, root, 0, listpack_size(bytes_at(key, k), 0, k) - before)
    return _smaller(space, root)
