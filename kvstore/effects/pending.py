"""Effects of a transaction that may be undone: they are announced at its end, or dropped when it is undone.

The list is one malloc'd buffer of the shard's.  A record, in 8-byte words:

    0   event (events.py)
    1   database; of READ: the slot of the connection
    2   hash of the key; of SWAPPED: the other database
    3   length of the key, whose bytes follow, padded to a word

A message that the transaction publishes waits among them: PUBLISHED, the kind of its channel, the length of the
channel's name, and the length of name and text together, which follow.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import PENDING_ADDRESS, PENDING_CAPACITY, PENDING_LENGTH, PENDING_LOST
from kvstore.system.libc import bytes_at, free, realloc, words_at
from mmcore.jit import copy_bytes, int64, linked, void

HEAD = 32  # [bytes] of a record, before the key
_KEPT = 1 << 16  # [bytes] that the list keeps when it is empty


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def pending_put(context, event, db, key, size, hash_):  # type: ignore[no-untyped-def]
    """Add an effect to the list.  Sets PENDING_LOST when memory runs out."""
    shard = context.shard
    needed = HEAD + ((size + 7) & ~7)
    if shard[PENDING_LENGTH] + needed > shard[PENDING_CAPACITY]:
        capacity = max(2 * shard[PENDING_CAPACITY], shard[PENDING_LENGTH] + needed, 4096)
        moved = realloc(shard[PENDING_ADDRESS], capacity)
        if moved == 0:
            shard[PENDING_LOST] = 1
            return
        shard[PENDING_ADDRESS], shard[PENDING_CAPACITY] = moved, capacity
    at = shard[PENDING_ADDRESS] + shard[PENDING_LENGTH]
    record = words_at(at, 4)
    record[0], record[1], record[2], record[3] = event, db, hash_, size
    copy_bytes(bytes_at(at + HEAD, size), 0, bytes_at(key, size), 0, size)
    shard[PENDING_LENGTH] += needed


@linked(void(CONTEXT))
def pending_drop(context):  # type: ignore[no-untyped-def]
    """Drop all waiting effects."""
    shard = context.shard
    shard[PENDING_LENGTH] = shard[PENDING_LOST] = 0
    if shard[PENDING_CAPACITY] > _KEPT:
        free(shard[PENDING_ADDRESS])
        shard[PENDING_ADDRESS] = shard[PENDING_CAPACITY] = 0
