"""Looking ahead: the cache lines of a pipeline's next commands are prefetched before the commands run.

A lookup waits for memory twice: for its key's bucket, and for the entry that the bucket points at.  With millions of
keys neither is in the cache, and one wait takes as long as the rest of the command.  But the commands of a pipeline lie
in the query buffer together, and a processor can wait for several lines at once.  So before these commands run one by
one, `look_ahead` hashes all their keys, prefetches the lines of all their buckets and of their clocks of use, and then
the lines of the entries.

The first argument is taken for the key, which is right for nearly every command.  For the others a line is fetched in
vain.  LINDEX waits for memory again, in the packed that holds its element.  So its list is searched beforehand, which
costs less than these lines, and they are prefetched, too.

A database of few keys is in the cache anyway, and looking at a command takes about as long as finding its key there.
So nothing is looked at then, unless it is a LINDEX.

Looking ahead changes nothing but the contents of the caches and the TLB.
"""

from kvstore.lifetimes.call import DB, QUERY_SIZE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import AHEAD, INPUT_POSITION
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clocks import clock_prefetch
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import LIST, entry_root, entry_type
from kvstore.store.index import index_prefetch, index_prefetch_entry
from kvstore.store.layout import DB_KEY_BUCKETS
from kvstore.structures.hash import hash_bytes
from kvstore.structures.sequence import sequence_prefetch
from kvstore.wire.arguments import pack, query, word_at
from kvstore.wire.request import short_number
from mmcore.jit import bytes64, int64, kernel, linked, void

AHEAD_MAX = 16  # commands at a time: about as many lines as a core can wait for at once
ARGUMENTS_MAX = 16  # of a command that is looked at; a longer one takes longer than fetching its key's lines
KEY_MAX = 512  # [bytes]
FEW_BUCKETS = 512  # with the first lines of their entries 256 KiB, a quarter of a common L2 cache
LINDEX_SIZE = 6
_LINDEX = pack(b"LINDEX")
_LINDEX_BEGINS = int.from_bytes(b"*3\r\n$6\r\n", "little")


@kernel
def _next_command(text, position, end):  # type: ignore[no-untyped-def]
    # (offset of the key, its length or -1, rank of LINDEX or -1, offset behind the command) of the whole, plain command
    # at `position`; the last is 0 if there is no such command.
    if position >= end or text[position] != 42:
        return 0, -1, -1, 0
    count, line = short_number(text, position + 1, end)
    if count < 1 or count > ARGUMENTS_MAX:
        return 0, -1, -1, 0
    position = line + 2
    key, length, name, rank = 0, -1, 0, -1
    for i in range(count):
        if position >= end or text[position] != 36:
            return 0, -1, -1, 0
        size, line = short_number(text, position + 1, end)
        if size < 0:
            return 0, -1, -1, 0
        if i == 0 and count == 3 and size == LINDEX_SIZE and line + 2 + size <= end:
            name = word_at(text, line + 2, LINDEX_SIZE)
        elif i == 1:
            key, length = line + 2, size
        elif name == _LINDEX:
            rank, _ = short_number(text, line + 2, end)
        position = line + 2 + size + 2
    if position > end:
        return 0, -1, -1, 0
    return key, length, rank, position


@kernel
def _is_lindex(text, position, end):  # type: ignore[no-untyped-def]
    # Whether the command at `position` is LINDEX.
    if end - position < 8 + LINDEX_SIZE or bytes64(text, position) != _LINDEX_BEGINS:
        return False
    return word_at(text, position + 8, LINDEX_SIZE) == _LINDEX


@linked(void(CONTEXT, int64, int64))
def _prefetch_element(context, entry, rank):  # type: ignore[no-untyped-def]
    """Prefetch the lines of an element of a list, if the entry is one and has it."""
    if entry_type(context, entry) == LIST:
        sequence_prefetch(context.space, entry_root(context, entry), rank)


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
    found, ranks, position = 0, 0, shard[INPUT_POSITION]
    shard[AHEAD] = end
    pays = buckets > FEW_BUCKETS or (buckets > 0 and _is_lindex(text, position, end))
    for _ in range(AHEAD_MAX if pays else 0):
        key, length, rank, position = _next_command(text, position, end)
        if position == 0:
            break
        shard[AHEAD] = position
        if 0 <= length <= KEY_MAX:
            hash_ = int64(hash_bytes(text, key, length, store[HASH_SEED]))
            index_prefetch(context, base, buckets, hash_)
            clock_prefetch(context, hash_)
            hashes[found], hashes[AHEAD_MAX + found] = hash_, rank
            found += 1
    for i in range(found):
        entry = index_prefetch_entry(context, base, buckets, hashes[i])
        ranks += int64(hashes[AHEAD_MAX + i] >= 0)
        hashes[i] = entry
    for i in range(found if ranks > 0 else 0):
        if hashes[i] != 0 and hashes[AHEAD_MAX + i] >= 0:
            _prefetch_element(context, hashes[i], hashes[AHEAD_MAX + i])
