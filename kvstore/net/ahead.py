"""Looking ahead: the cache lines of a pipeline's next commands are prefetched before the commands run.

A lookup waits for memory twice: for its key's bucket, and for the entry that the bucket points at.  With millions of
keys neither is in the cache, and one wait takes as long as the rest of the command.  But the commands of a pipeline lie
in the query buffer together, and a processor can wait for several lines at once.  So before these commands run one by
one, `look_ahead` hashes all their keys, prefetches the lines of all their buckets and of their clocks of use, and then
the lines of the entries.

The first argument is taken for the key, which is right for nearly every command.  For the others a line is fetched in
vain.  Looking ahead changes nothing but the contents of the caches and the TLB.
"""

from kvstore.lifetimes.call import DB, QUERY_SIZE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import AHEAD, INPUT_POSITION
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clocks import clock_prefetch
from kvstore.store.databases import db_load, key_base
from kvstore.store.index import index_prefetch, index_prefetch_entry
from kvstore.store.layout import DB_KEY_BUCKETS
from kvstore.structures.hash import hash_bytes
from kvstore.wire.arguments import query
from kvstore.wire.request import short_number
from mmcore.jit import int64, kernel, linked, void

AHEAD_MAX = 16  # commands at a time: about as many lines as a core can wait for at once
ARGUMENTS_MAX = 16  # of a command that is looked at; a longer one takes longer than fetching its key's lines
KEY_MAX = 512  # [bytes]


@kernel
def _next_key(text, position, end):  # type: ignore[no-untyped-def]
    # (offset of the key, its length or -1, offset behind the command) of the whole, plain command at `position`; the
    # last is 0 if there is no such command.
    if position >= end or text[position] != 42:
        return 0, -1, 0
    count, line = short_number(text, position + 1, end)
    if count < 1 or count > ARGUMENTS_MAX:
        return 0, -1, 0
    position = line + 2
    key, length = 0, -1
    for i in range(count):
        if position >= end or text[position] != 36:
            return 0, -1, 0
        size, line = short_number(text, position + 1, end)
        if size < 0:
            return 0, -1, 0
        if i == 1:
            key, length = line + 2, size
        position = line + 2 + size + 2
    if position > end:
        return 0, -1, 0
    return key, length, position


@linked(void(CONTEXT))
def look_ahead(context):  # type: ignore[no-untyped-def]
    """Prefetch for the commands at INPUT_POSITION; sets AHEAD to the first offset that has not been looked at."""
    call, shard, store, hashes = (
        context.call,
        context.shard,
        context.store,
        context.args,
    )  # the room for arguments is free between commands
    text, end = query(context), call[QUERY_SIZE]
    base, buckets = key_base(context, call[DB]), db_load(context, call[DB], DB_KEY_BUCKETS)
    found, position = 0, shard[INPUT_POSITION]
    shard[AHEAD] = end
    for _ in range(AHEAD_MAX if buckets > 0 else 0):
        key, length, position = _next_key(text, position, end)
        if position == 0:
            break
        shard[AHEAD] = position
        if 0 <= length <= KEY_MAX:
            hash_ = int64(hash_bytes(text, key, length, store[HASH_SEED]))
            index_prefetch(context, base, buckets, hash_)
            clock_prefetch(context, hash_)
            hashes[found] = hash_
            found += 1
    for i in range(found):
        index_prefetch_entry(context, base, buckets, hashes[i])
