"""COPY of a great value: in steps, one a turn, from a frozen root.

The other clients go on, and may change the value meanwhile.  So COPY forks the store first, as a snapshot does, and
copies from the frozen root, through a second space on the same memory.  The client waits.  It gets the value as it was
when COPY began.  The copy becomes a key when it is complete: that is when the destination is looked up.

    another way                           why not
    sharing pages, as long strings do     elements of several values lie on one slab page
    copying from the live value, and      it does not end while another client keeps changing the value
    again when it was changed
    keeping others from changing it       they would wait

Until then the copy grows in the grave (kvstore/structures/copying.py).  An image that is taken meanwhile has it there;
a server that starts from the image gives its own copies other numbers, and frees this one.

One COPY of a great value is under way at a time.  Others wait for their turn.  Its registers name the connection.  When
that connection is closed or its command refused, it is no longer the owner, and the frozen root is released and the
half of a copy freed in steps (flush.py).

Deleting the source, or its expiry, does not stop a COPY that has begun.  FLUSHALL and FLUSHDB must: what they deleted
must not come back.  After SWAPDB the keys' names mean other keys.  After each of these COPY begins again, with whatever
is there then.  A COPY that was begun BEGINS_MAX times is not interrupted any more, so it ends.

BITOP of great strings (commands/bitmaps/turns.py) goes on in the same way, and takes COPY's place and registers.

A step waits for memory that the system has not provided yet.  It reserves frames as a command does.  There is no
estimate of the whole: it would refuse what fits.
"""

from kvstore.lifetimes.call import CONNECTION
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import TURNS_RESTING
from kvstore.lifetimes.sizes import COPYING_WORDS
from kvstore.lifetimes.store import (
    COPY_BEGINS,
    COPY_DEADLINE,
    COPY_FORM,
    COPY_NUMBER,
    COPY_OWNER,
    COPY_READER_ADDRESS,
    COPY_ROOT,
    COPY_STALE,
    COPY_STATE,
    COPY_WAITS_MS,
    FROZEN_ROOTS,
    HASH_SEED,
)
from kvstore.store.entries import TYPE_MASK, entry_deadline, entry_flags, entry_root
from kvstore.store.flush import release_copied
from kvstore.store.fresh import wait_for_fresh
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.structures.collection import root_count, root_memory
from kvstore.structures.copying import (
    BYTES_PER_WORK,
    COPIED,
    copying_begin,
    copying_groups,
    copying_next,
    copying_record,
    copying_step,
    copying_stream,
    copying_take,
)
from kvstore.structures.grave import bury
from kvstore.structures.kinds import RECORD, STREAM, kind_of
from kvstore.structures.record import BASE, OWNS_PACKEDS, record_deadlines, record_owns
from kvstore.structures.stream_whole import groups_begin, groups_step, stream_memory, stream_take
from kvstore.system.libc import words_at
from mmcore.fork import CONSTANT, fork
from mmcore.jit import int64, kernel, linked, view, void
from mmcore.mapping import load_cr3
from mmcore.mmu import load64
from mmcore.paging import PAGE_SHIFT
from mmcore.state import space_at

GREAT_ELEMENTS, GREAT_BYTES = 256, 256 << 10  # a value with more than either is great
STEP_WORK = 128  # of a turn, as structures/copying.py counts it: some 0.2 ms
STEP_BYTES = 2 * STEP_WORK * BYTES_PER_WORK  # that a step allocates, unless an element is long
BEGINS_MAX = 3


@view
def _state(context):  # type: ignore[no-untyped-def]
    return words_at(context.store[COPY_STATE], COPYING_WORDS)


@linked(int64(CONTEXT, int64))
def is_great(context, entry):  # type: ignore[no-untyped-def]
    """Whether copying this entry's value may take longer than a turn should (0 or 1)."""
    space = context.space
    if entry_flags(context, entry) & TYPE_MASK == 0:
        return 0
    root = entry_root(context, entry)
    if kind_of(space, root) == STREAM:
        return 1 if stream_memory(space, root, STEP_WORK, GREAT_BYTES) > GREAT_BYTES else 0
    if kind_of(space, root) != RECORD:
        return 0
    if record_owns(space, root, OWNS_PACKEDS):
        return 1 if load64(space, root + BASE) > GREAT_BYTES else 0
    great = root_count(space, root) > GREAT_ELEMENTS or root_memory(space, root, 0) > GREAT_BYTES
    return 1 if great else 0


@kernel
def copy_begins(context):  # type: ignore[no-untyped-def]
    """How often the COPY of the connection at hand was begun; 0 if none of its own is under way."""
    store = context.store
    return store[COPY_BEGINS] if store[COPY_OWNER] == context.call[CONNECTION] + 1 else 0


@kernel
def leave_copy(context, slot):  # type: ignore[no-untyped-def]
    """The connection does not go on with its COPY, if one is under way; what belongs to that is freed later."""
    if context.store[COPY_OWNER] == slot + 1:
        context.store[COPY_OWNER] = 0


@linked(void(CONTEXT))
def copy_end(context):  # type: ignore[no-untyped-def]
    """The COPY of the connection at hand has ended, one way or another.  A copy that was not taken is freed."""
    context.store[COPY_OWNER] = 0
    release_copied(context)


@kernel
def _reader(context):  # type: ignore[no-untyped-def]
    # The space of the frozen root.  Another COPY may have used it since the last turn, so it forgets its translations.
    reader = space_at(context.store[COPY_READER_ADDRESS])
    load_cr3(reader, context.store[COPY_ROOT])
    return reader


@linked(int64(CONTEXT, int64))
def copy_fork(context, begins):  # type: ignore[no-untyped-def]
    """Fork the store for work in steps of the connection at hand, for the time `begins`: 1, or 0 without frames."""
    store = context.store
    release_copied(context)  # of a COPY that was given up in this turn
    root = fork(context.space, CONSTANT)
    if root < 0:
        return 0
    store[COPY_OWNER], store[COPY_STALE], store[COPY_BEGINS] = context.call[CONNECTION] + 1, 0, begins
    store[COPY_ROOT], store[COPY_WAITS_MS] = root, 0
    store[COPY_NUMBER] += 1
    store[FROZEN_ROOTS] += 1
    return 1


@linked(int64(CONTEXT, int64, int64))
def copy_begin(context, entry, begins):  # type: ignore[no-untyped-def]
    """Begin a COPY of an entry's value, for the time `begins`: 1, or 0 with nothing changed when frames ran out."""
    store, space = context.store, context.space
    if copy_fork(context, begins) == 0:
        return 0
    store[COPY_FORM], store[COPY_DEADLINE] = entry_flags(context, entry), entry_deadline(context, entry)
    if not copying_begin(space, _reader(context), entry_root(context, entry), store[COPY_NUMBER], _state(context)):
        copy_end(context)
        return 0
    bury(space, CONTROL_BASE + CONTROL_GRAVE, copying_record(_state(context)))
    stream = copying_stream(_reader(context), _state(context))
    groups = (
        groups_begin(space, stream, store[COPY_NUMBER], copying_groups(_state(context))) if stream != 0 else int64(0)
    )
    if groups < 0:
        copy_end(context)
        return 0
    if groups > 0:
        bury(space, CONTROL_BASE + CONTROL_GRAVE, groups)
    return 1


@kernel
def copy_is_dated(context):  # type: ignore[no-untyped-def]
    """Whether the copy is a hash that has deadlines already, as it will when it is taken."""
    return record_deadlines(context.space, copying_record(_state(context))) != 0


@linked(int64(CONTEXT))
def copy_next(context):  # type: ignore[no-untyped-def]
    """Bytes that a step may allocate."""
    return STEP_BYTES + copying_next(_reader(context), _state(context))


@linked(int64(CONTEXT))
def copy_waits(context):  # type: ignore[no-untyped-def]
    """Whether the next step waits until the system has provided its memory (0 or 1)."""
    store = context.store
    store[COPY_WAITS_MS] = wait_for_fresh(context, STEP_BYTES >> PAGE_SHIFT, store[COPY_WAITS_MS])
    if store[COPY_WAITS_MS] == 0:
        return 0
    context.shard[TURNS_RESTING] += 1
    return 1


@linked(int64(CONTEXT))
def copy_step(context):  # type: ignore[no-untyped-def]
    """A step of the COPY under way: COPIED, MORE, or NO_FRAME."""
    state, source = _state(context), _reader(context)
    code = copying_step(context.space, source, context.store[HASH_SEED], state, STEP_WORK)
    stream = copying_stream(source, state)
    if code == COPIED and stream != 0:
        code = groups_step(context.space, source, stream, copying_groups(state), STEP_WORK)
    return code


@linked(int64(CONTEXT))
def copy_take(context):  # type: ignore[no-untyped-def]
    """The root of the copy, which is complete; 0 with nothing changed when frames ran out."""
    state, source = _state(context), _reader(context)
    stream = copying_stream(source, state)
    if stream != 0:
        return stream_take(context.space, source, stream, copying_record(state), copying_groups(state)[0])
    return copying_take(context.space, state)
