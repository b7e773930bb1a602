"""Copying a record in steps: from a space that does not change into one that may.

    copying_begin(space, source, root, number, state)       1 with an empty record made, or 0
    copying_step(space, source, seed, state, budget)        COPIED, MORE, or NO_FRAME: then the record is to be buried
    copying_take(space, state)                              the copy as a record of its own, or 0

`source` is a frozen space of the same memory, or the space itself if the steps follow each other without a change.

A copy that takes several turns grows in the grave (grave.py): its owner buries the record at once, with a number that
it gives to no other copy.  The record is in the middle of a list then, so at the end `copying_take` moves what it
names to a new record, and the empty one stays behind to be dug out.

Of a stream, which has a root of another kind, the record of its nodes is copied so.  Its groups are copied in further
steps (stream_whole.py), and the last node when the copy is taken.

A hash with deadlines has an agenda (agenda.py), which is copied behind its fields as a sorted set is.  From its
beginning it is the agenda of the record that is built, so whatever frees the one frees the other.

A sorted set is copied in the order of its tree.  Each element is added to the table and to the end of the tree, so no
element has to be found again.  The copy is sound between two steps, whatever the stage.

    WORD  DESCRIPTION
    0     root of the record that is copied, in `source`
    1     the record that is built
    2     stage: ELEMENTS of a table alone, ITEMS of a tree, the FRONT and the BACK of a list, the DEADLINES of a hash,
          OVER
    3     ELEMENTS: the next element; ITEMS: position of the next item
    4     ITEMS: rank of the next item in the copy
    5     the record of the hash whose agenda is built, 0 until then
    6     ELEMENTS: the walk (walk.py); of a stream, its root, else no root of a stream, and behind it how far the
          copy of its groups is (stream_whole.py)

Work is counted in elements, and in parts of them of BYTES_PER_WORK bytes; an item of a tree counts one more.  A step
does at least one element or packed, however long, and no further one that is more than what is left of its budget.
"""

from kvstore.lifetimes.sizes import COPYING_WORDS
from kvstore.structures.chain import chain_memory
from kvstore.structures.chain_change import CHAIN_FRAMES, chain_copy
from kvstore.structures.element import (
    BARE,
    element_bytes,
    element_hash,
    element_key,
    element_key_length,
    element_payload_length,
    element_write,
    pin,
)
from kvstore.structures.kinds import CHAIN, STREAM, kind_of
from kvstore.structures.packed import long_frames, packed_copy, packed_used
from kvstore.structures.record import (
    BASE,
    BUILDER_SHIFT,
    COUNT,
    DEADLINES,
    FLAGS,
    HEAD,
    LINK,
    OWNS,
    OWNS_ITEMS,
    OWNS_PACKEDS,
    RECORD_SIZE,
    TAIL,
    TREE,
    record_add_count,
    record_deadlines,
    record_new,
    record_owns,
)
from kvstore.structures.stream import NODES
from kvstore.structures.table import TABLE_FRAMES, table_add
from kvstore.structures.tree import (
    COPY_FRAMES,
    position_address,
    position_next,
    position_word,
    tree_frames,
    tree_insert_at,
    tree_seek,
)
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import words_at
from mmcore.errors import NO_FRAME
from mmcore.frames import has_frames
from mmcore.heap import HEAP_FRAMES, heap_alloc
from mmcore.jit import int64, kernel, linked, view
from mmcore.mmu import copy_across, load64, store64
from mmcore.state import SPACE

COPIED, MORE = 0, 1
BYTES_PER_WORK = 1024
_ROOT, _COPY, _STAGE, _NEXT, _RANK, _HASH, _WALK = range(7)
_ELEMENTS, _ITEMS, _FRONT, _BACK, _DEADLINES, _OVER = range(6)
GROUPS_WORDS = 4
assert _WALK + WALK_WORDS == COPYING_WORDS and GROUPS_WORDS < WALK_WORDS


@view
def _walk_of(state):  # type: ignore[no-untyped-def]
    return words_at(int64(state.ctypes.data) + 8 * _WALK, WALK_WORDS)


@linked(int64(SPACE, SPACE, int64, int64))
def element_across(space, source, element, frames):  # type: ignore[no-untyped-def]
    """A copy of an element of `source` in an allocation of its own; 0 unless that leaves `frames` frames."""
    size = element_bytes(source, element)
    if not has_frames(space, frames + HEAP_FRAMES + (size >> 12) + (size >> 20)):
        return 0
    copy = heap_alloc(space, size)
    if copy != 0 and element >= BARE:
        k, p = element_key_length(source, element), element_payload_length(source, element)
        key = pin(source, element_key(source, element), k + p)
        element_write(space, copy, key, k, key + k, p)
    elif copy != 0:
        copy_across(space, copy, source, element, size)
    return copy


@linked(int64(SPACE, SPACE, int64, int64, int64[::1]))
def copying_begin(space, source, root, number, state):  # type: ignore[no-untyped-def]
    """Begin to copy a record or a stream: 1, or 0 with nothing changed when frames ran out."""
    stream, whole = kind_of(source, root) == STREAM, root
    root = load64(source, root + NODES) if stream else root
    owns = OWNS_ITEMS if stream else load64(source, root + FLAGS) & OWNS
    copy = record_new(space, owns | number << BUILDER_SHIFT)
    if copy == 0:
        return 0
    for i in range(WALK_WORDS):
        state[_WALK + i] = 0
    state[_WALK] = whole if stream else 0
    state[_ROOT], state[_COPY], state[_NEXT], state[_RANK], state[_HASH] = root, copy, 0, 0, 0
    if stream and (root == 0 or load64(source, root + TREE) == 0):
        state[_STAGE] = _OVER
    elif load64(source, root + TREE) != 0:
        state[_STAGE], state[_NEXT] = _ITEMS, tree_seek(source, root, 0, int64(owns & OWNS_PACKEDS != 0))
    elif owns & OWNS_PACKEDS:
        state[_STAGE] = _FRONT
    else:
        walk_begin(source, root, _walk_of(state))
        state[_STAGE], state[_NEXT] = _ELEMENTS, walk_next(source, _walk_of(state))
    return 1


@kernel
def copying_record(state):  # type: ignore[no-untyped-def]
    """The record that is built."""
    return state[_HASH] if state[_HASH] != 0 else state[_COPY]


@kernel
def copying_stream(source, state):  # type: ignore[no-untyped-def]
    """The root of the stream that is copied; 0 for anything else."""
    root = state[_WALK]
    return root if root != 0 and kind_of(source, root) == STREAM else int64(0)


@view
def copying_groups(state):  # type: ignore[no-untyped-def]
    """How far the copy of a stream's groups is: GROUPS_WORDS words, zeros at the begin."""
    return words_at(int64(state.ctypes.data) + 8 * (_WALK + 1), GROUPS_WORDS)


@kernel
def _end_of(source, state):  # type: ignore[no-untyped-def]
    # The first or the last packed of a list, 0 without one.
    return load64(source, state[_ROOT] + (HEAD if state[_STAGE] == _FRONT else TAIL))


@linked(int64(SPACE, int64[::1]))
def copying_next(source, state):  # type: ignore[no-untyped-def]
    """Bytes of what is copied next: of an element, or of the items of a packed; 0 when nothing is left."""
    stage = state[_STAGE]
    if stage == _ELEMENTS:
        return element_bytes(source, state[_NEXT])
    if stage == _ITEMS:
        item = position_address(source, state[_NEXT])
        return (
            packed_used(source, item)
            if record_owns(source, state[_ROOT], OWNS_PACKEDS)
            else element_bytes(source, item)
        )
    if stage == _DEADLINES:
        agenda = record_deadlines(source, state[_ROOT])
        return chain_memory(source, agenda) if kind_of(source, agenda) == CHAIN else int64(RECORD_SIZE)
    packed = _end_of(source, state) if stage != _OVER else int64(0)
    return packed_used(source, packed) if packed != 0 else int64(0)


@kernel
def _add_twin(space, source, seed, copy, element, frames):  # type: ignore[no-untyped-def]
    # Copy an element into the table of the copy; 0 when that would leave less than `frames` frames.
    twin = element_across(space, source, element, TABLE_FRAMES + frames)
    if twin != 0:
        code = table_add(space, copy, seed, element_hash(space, twin, seed), twin)
        assert code == 0, "no frame was reserved for an element"
    return twin


@linked(int64(SPACE, SPACE, int64, int64[::1]))
def _copy_element(space, source, seed, state):  # type: ignore[no-untyped-def]
    """Copy the next element of a table: 1, or 0 when frames ran out."""
    if _add_twin(space, source, seed, state[_COPY], state[_NEXT], 0) == 0:
        return 0
    state[_NEXT] = walk_next(source, _walk_of(state))
    if state[_NEXT] == 0:
        state[_STAGE] = _DEADLINES if record_deadlines(source, state[_ROOT]) != 0 else _OVER
    return 1


@linked(int64(SPACE, SPACE, int64[::1], int64))
def _copy_deadlines(space, source, state, size):  # type: ignore[no-untyped-def]
    """Copy the agenda of a hash, or begin to copy one that is a record: 1, or 0 when frames ran out."""
    agenda, copy = record_deadlines(source, state[_ROOT]), state[_COPY]
    if not has_frames(space, CHAIN_FRAMES + (size >> 12) + COPY_FRAMES):
        return 0
    if kind_of(source, agenda) == CHAIN:
        twin, state[_STAGE] = chain_copy(space, source, agenda), _OVER
    else:
        twin = record_new(space, load64(source, agenda + FLAGS) & OWNS)
        state[_ROOT], state[_COPY], state[_HASH], state[_RANK] = agenda, twin, copy, 0
        state[_STAGE], state[_NEXT] = _ITEMS, tree_seek(source, agenda, 0, 0)
    assert twin != 0, "no frame was reserved for an agenda"
    store64(space, copy + DEADLINES, twin)
    return 1


@linked(int64(SPACE, SPACE, int64, int64[::1], int64))
def _copy_item(space, source, seed, state, size):  # type: ignore[no-untyped-def]
    """Copy the next item of a tree, with its element or its packed of `size` bytes: 1, or 0 when frames ran out."""
    position, copy = state[_NEXT], state[_COPY]
    word, item = position_word(source, position), position_address(source, position)
    weights, frames = int64(record_owns(space, copy, OWNS_PACKEDS)), tree_frames(space, copy)
    if record_owns(space, copy, OWNS_ITEMS):
        twin = element_across(space, source, item, frames)
        record_add_count(space, copy, int64(twin != 0))
    elif not weights:
        twin = _add_twin(space, source, seed, copy, item, frames)
    else:
        twin = packed_copy(space, source, item) if has_frames(space, long_frames(size) + frames) else int64(0)
    if twin == 0:
        return 0
    code = tree_insert_at(space, copy, state[_RANK], word, twin, weights)
    assert code == 0, "no frame was reserved for a tree"
    state[_RANK] += word if weights else 1
    state[_NEXT] = position_next(source, position)
    if state[_NEXT] == 0:
        state[_STAGE] = _FRONT if weights else _OVER
    return 1


@linked(int64(SPACE, SPACE, int64[::1], int64))
def _copy_end(space, source, state, size):  # type: ignore[no-untyped-def]
    """Copy the first packed of a list, of `size` bytes, or the last one and the counts: 1, or 0 when frames ran out."""
    root, copy, packed = state[_ROOT], state[_COPY], _end_of(source, state)
    if not has_frames(space, long_frames(size) + COPY_FRAMES):
        return 0
    twin = packed_copy(space, source, packed) if packed != 0 else int64(0)
    if state[_STAGE] == _FRONT:
        store64(space, copy + HEAD, twin)
        state[_STAGE] = _BACK
        return 1
    store64(space, copy + TAIL, twin)
    store64(space, copy + COUNT, load64(source, root + COUNT))
    store64(space, copy + BASE, load64(source, root + BASE))
    state[_STAGE] = _OVER
    return 1


@linked(int64(SPACE, SPACE, int64, int64[::1], int64))
def copying_step(space, source, seed, state, budget):  # type: ignore[no-untyped-def]
    """Do about `budget` of the work that is left: COPIED when none is, else MORE; or NO_FRAME.

    `seed` is that of the hash of elements.
    """
    done = 0
    while state[_STAGE] != _OVER:
        size = copying_next(source, state)
        work = 1 + size // BYTES_PER_WORK + int64(state[_STAGE] == _ITEMS)
        if done > 0 and done + work > budget:
            return MORE
        if state[_STAGE] == _ELEMENTS:
            copied = _copy_element(space, source, seed, state)
        elif state[_STAGE] == _ITEMS:
            copied = _copy_item(space, source, seed, state, size)
        elif state[_STAGE] == _DEADLINES:
            copied = _copy_deadlines(space, source, state, size)
        else:
            copied = _copy_end(space, source, state, size)
        if copied == 0:
            return NO_FRAME
        done += work
    return COPIED


@linked(int64(SPACE, int64[::1]))
def copying_take(space, state):  # type: ignore[no-untyped-def]
    """The copy, which is complete, as a record that is not in the grave; 0 with nothing changed when frames ran out."""
    built = copying_record(state)
    if not has_frames(space, HEAP_FRAMES + COPY_FRAMES):
        return 0
    record = record_new(space, load64(space, built + FLAGS) & OWNS)
    if record == 0:
        return 0
    for field in range(COUNT, LINK, 8):
        store64(space, record + field, load64(space, built + field))
        store64(space, built + field, 0)
    return record
