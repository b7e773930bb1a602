"""A transaction that can be undone: the store is forked before it, and where frames run out the old root comes back.

EXEC asks for the sum of what its commands may need first; when that is granted nothing is forked, for after a fork the
first write to each page copies it.  A command whose need its arguments do not bound (GROWS) cannot be summed up, and
deletions alone never run out.

    what goes back      the root, with all keys, indices and the heap in it; the dirty counter; hits, misses, expiries
    what does not       epochs and generations, which only rise; frames, which are given back as a released root's are;
                        what is no data: SELECT, CLIENT, CONFIG SET, what commands took

Copies are not counted against what is in force: the frames beside it are there for them.  Effects wait meanwhile.
"""

from kvstore.effects.door import tell_pending
from kvstore.effects.pending import pending_drop
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import EXPIRED_KEYS, KEYSPACE_HITS, KEYSPACE_MISSES, PENDING_LOST, TRANSACTIONS_UNDONE
from kvstore.lifetimes.store import (
    DIRTY,
    FROZEN_ROOTS,
    RAN_OUT,
    UNDO_COPIES,
    UNDO_DIRTY,
    UNDO_EXPIRED,
    UNDO_HITS,
    UNDO_MISSES,
    UNDO_ROOT,
)
from kvstore.store.copies import copies_made
from kvstore.store.flush import release_root
from mmcore.fork import CONSTANT, fork
from mmcore.jit import int64, kernel, linked, void
from mmcore.mapping import load_cr3


@linked(int64(CONTEXT))
def undo_begin(context):  # type: ignore[no-untyped-def]
    """Keep the store as it is, so that what follows can be undone: 1, or 0 without a frame for that."""
    shard, store = context.shard, context.store
    root = fork(context.space, CONSTANT)
    if root < 0:
        return 0
    store[UNDO_ROOT], store[RAN_OUT] = root, 0
    store[FROZEN_ROOTS] += 1
    store[UNDO_DIRTY], store[UNDO_COPIES] = store[DIRTY], copies_made(context.space)
    store[UNDO_HITS], store[UNDO_MISSES] = shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES]
    store[UNDO_EXPIRED] = shard[EXPIRED_KEYS]
    return 1


@kernel
def must_undo(context):  # type: ignore[no-untyped-def]
    """Whether the transaction under way, which can be undone, has run out of memory."""
    return context.store[UNDO_ROOT] >= 0 and (context.store[RAN_OUT] != 0 or context.shard[PENDING_LOST] != 0)


@linked(void(CONTEXT))
def undo(context):  # type: ignore[no-untyped-def]
    """Bring the store back as it was at undo_begin."""
    shard, store = context.shard, context.store
    release_root(context, load_cr3(context.space, store[UNDO_ROOT]))
    pending_drop(context)
    store[DIRTY] = store[UNDO_DIRTY]
    shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES] = store[UNDO_HITS], store[UNDO_MISSES]
    shard[EXPIRED_KEYS] = store[UNDO_EXPIRED]
    shard[TRANSACTIONS_UNDONE] += 1
    store[FROZEN_ROOTS] -= 1
    store[UNDO_ROOT] = -1


@linked(void(CONTEXT))
def undo_end(context):  # type: ignore[no-untyped-def]
    """The transaction holds: forget the store as it was, and tell what has waited."""
    store = context.store
    if store[UNDO_ROOT] < 0:
        return
    release_root(context, store[UNDO_ROOT])
    store[FROZEN_ROOTS] -= 1
    store[UNDO_ROOT] = -1
    tell_pending(context)
