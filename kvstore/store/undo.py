"""A transaction that can be undone: EXEC forks the store first, and restores the old root when frames run out.

EXEC first tries to reserve the sum of its commands' needs.  If that succeeds, it does not fork, because after a fork
the first write to each page copies the page.  There is no such sum for a transaction with a command whose need is not
bounded by its arguments (GROWS).  A transaction of deletions alone never runs out.

    restored        the root, with all keys, indices and the heap in it; the dirty counter; counts of what happened to
                    keys: hits, misses, expiries of keys and of fields, evictions, keys that FLUSHDB has left and that
                    were freed
    not restored    epochs and generations, which only rise; frames, which are freed like those of a released root;
                    anything that is not data: SELECT, CLIENT, CONFIG SET, how many commands there were, the time that
                    they took, their errors

Copies do not count against the frames in force: the spare frames exist for them.  Effects wait until the transaction
ends (effects/pending.py).
"""

from kvstore.effects.door import tell_pending
from kvstore.effects.pending import pending_drop
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    EVICTED_KEYS,
    EXPIRED_KEYS,
    EXPIRED_SUBKEYS,
    KEYSPACE_HITS,
    KEYSPACE_MISSES,
    LAZYFREED_OBJECTS,
    PENDING_LOST,
    TRANSACTIONS_UNDONE,
)
from kvstore.lifetimes.store import (
    DIRTY,
    FROZEN_ROOTS,
    RAN_OUT,
    UNDO_COPIES,
    UNDO_DIRTY,
    UNDO_EVICTED,
    UNDO_EXPIRED,
    UNDO_HITS,
    UNDO_LAZYFREED,
    UNDO_MISSES,
    UNDO_ROOT,
    UNDO_SUBKEYS,
)
from kvstore.store.copies import copies_made
from kvstore.store.flush import release_root
from mmcore.fork import CONSTANT, fork
from mmcore.jit import int64, kernel, linked, void
from mmcore.mapping import load_cr3


@linked(int64(CONTEXT))
def undo_begin(context):  # type: ignore[no-untyped-def]
    """Keep the store's present state, so that later changes can be undone: 1, or 0 without a frame for that."""
    shard, store = context.shard, context.store
    root = fork(context.space, CONSTANT)
    if root < 0:
        return 0
    store[UNDO_ROOT], store[RAN_OUT] = root, 0
    store[FROZEN_ROOTS] += 1
    store[UNDO_DIRTY], store[UNDO_COPIES] = store[DIRTY], copies_made(context.space)
    store[UNDO_HITS], store[UNDO_MISSES] = shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES]
    store[UNDO_EXPIRED], store[UNDO_SUBKEYS] = shard[EXPIRED_KEYS], shard[EXPIRED_SUBKEYS]
    store[UNDO_EVICTED], store[UNDO_LAZYFREED] = shard[EVICTED_KEYS], shard[LAZYFREED_OBJECTS]
    return 1


@kernel
def must_undo(context):  # type: ignore[no-untyped-def]
    """Whether the running transaction can be undone and has run out of memory."""
    return context.store[UNDO_ROOT] >= 0 and (context.store[RAN_OUT] != 0 or context.shard[PENDING_LOST] != 0)


@linked(void(CONTEXT))
def undo(context):  # type: ignore[no-untyped-def]
    """Restore the store to its state at undo_begin."""
    shard, store = context.shard, context.store
    release_root(context, load_cr3(context.space, store[UNDO_ROOT]))
    pending_drop(context)
    store[DIRTY] = store[UNDO_DIRTY]
    shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES] = store[UNDO_HITS], store[UNDO_MISSES]
    shard[EXPIRED_KEYS], shard[EXPIRED_SUBKEYS] = store[UNDO_EXPIRED], store[UNDO_SUBKEYS]
    shard[EVICTED_KEYS], shard[LAZYFREED_OBJECTS] = store[UNDO_EVICTED], store[UNDO_LAZYFREED]
    shard[TRANSACTIONS_UNDONE] += 1
    store[FROZEN_ROOTS] -= 1
    store[UNDO_ROOT] = -1


@linked(void(CONTEXT))
def undo_end(context):  # type: ignore[no-untyped-def]
    """The transaction succeeded: forget the old state, and announce the effects that have waited."""
    store = context.store
    if store[UNDO_ROOT] < 0:
        return
    release_root(context, store[UNDO_ROOT])
    store[FROZEN_ROOTS] -= 1
    store[UNDO_ROOT] = -1
    tell_pending(context)
