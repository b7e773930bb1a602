"""Looking ahead: the cache lines of a pipeline's next commands are prefetched before the commands run.

A lookup waits for memory twice: for its key's bucket, and for the entry that the bucket points at.  A field of a great
hash costs two more waits, for its bucket and for its element.  With millions of keys or elements none of these is in
the cache, and one wait takes as long as the rest of the command.  But the commands of a pipeline lie in the query
buffer together, and a processor can wait for several lines at once.  So before these commands run one by one,
`look_ahead` goes over them in steps, and each step prefetches what the next one reads:

    1. hash all keys                    their buckets, and their clocks of use
    2. find the entries                 the entries
    3. find the roots of collections    the roots
    4. hash the elements                their buckets in the hash tables of great collections
    5. find the elements                the elements

The first argument is taken for the key, which is right for nearly every command.  The second is taken for the element
of a set or hash, and the last for that of a sorted set.  Where this is wrong, a line is fetched in vain.  LINDEX waits
for the packed that holds its element.  So its list is searched beforehand, and LINDEX is told the place.

A small database is in the cache anyway, and looking at a command takes about as long as finding its key there.  So
nothing is looked at then, unless the first of the commands is LINDEX, or is for a great collection and may name an
element: a range of a sorted set does not.

Looking ahead changes nothing but the contents of the caches and the TLB, and these places.
"""

from kvstore.lifetimes.call import DB, QUERY_SIZE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import AHEAD, INPUT_POSITION
from kvstore.lifetimes.sizes import PLACES_MAX
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clocks import clock_prefetch
from kvstore.store.databases import db_load, key_base
from kvstore.store.entries import HASH, LIST, SET, ZSET, entry_root, entry_type
from kvstore.store.index import index_prefetch, index_prefetch_entry
from kvstore.store.layout import DB_KEY_BUCKETS
from kvstore.store.places import forget_places, note_place
from kvstore.structures.hash import hash_bytes
from kvstore.structures.kinds import RECORD, kind_of
from kvstore.structures.record import BUCKETS
from kvstore.structures.sequence import sequence_prefetch
from kvstore.structures.table import table_prefetch, table_prefetch_element
from kvstore.wire.arguments import pack, query, word_at
from kvstore.wire.request import short_number
from mmcore.jit import bytes64, equal_bytes, int64, kernel, linked, prefetch, void
from mmcore.mmu import load64, read_address

AHEAD_MAX = PLACES_MAX  # commands at a time: about as many lines as a core can wait for at once
ARGUMENTS_MAX = 16  # of a command that is looked at; a longer one takes longer than fetching its key's lines
KEY_MAX = 512  # [bytes], of an element too
FEW_BUCKETS = 512  # with the first lines of their entries 256 KiB, a quarter of a common L2 cache
LINDEX_SIZE = 6
_LINDEX = pack(b"LINDEX")
RANGE_SIZE = 6  # bytes of a name that tell such a command
_ZRANGE, _ZREVRANGE, _ZREMRANGE = pack(b"ZRANGE"), pack(b"ZREVRA"), pack(b"ZREMRA")
_ZCOUNT, _ZLEXCOUNT = pack(b"ZCOUNT"), pack(b"ZLEXCO")
_LINDEX_BEGINS = int.from_bytes(b"*3\r\n$6\r\n", "little")

# Places of what is known of the i-th command, each for AHEAD_MAX commands.
_AT = 0  # in turn its key's hash, its entry, its root, the index of its element's bucket; 0 is none
_SECOND = AHEAD_MAX  # offset << SIZE_SHIFT | length of its second argument, -1 without one; in the end its hash
_LAST = 2 * AHEAD_MAX  # of its last argument, the same
_RANK = 3 * AHEAD_MAX  # of LINDEX; -1 of other commands
_SAME = 4 * AHEAD_MAX  # whether its key is that of the command before
_SIZE_SHIFT = 10
assert KEY_MAX < 1 << _SIZE_SHIFT


@kernel
def _next_command(text, position, end):  # type: ignore[no-untyped-def]
    # (offset of the key, its length or -1, second argument, last argument, rank of LINDEX or -1, offset behind the
    # command) of the whole, plain command at `position`; the last of these is 0 if there is no such command.
    if position >= end or text[position] != 42:
        return 0, -1, -1, -1, -1, 0
    count, line = short_number(text, position + 1, end)
    if count < 1 or count > ARGUMENTS_MAX:
        return 0, -1, -1, -1, -1, 0
    position = line + 2
    key, length, second, last, name, rank = 0, -1, -1, -1, 0, -1
    for i in range(count):
        if position >= end or text[position] != 36:
            return 0, -1, -1, -1, -1, 0
        size, line = short_number(text, position + 1, end)
        if size < 0:
            return 0, -1, -1, -1, -1, 0
        if i == 0 and count == 3 and size == LINDEX_SIZE and line + 2 + size <= end:
            name = word_at(text, line + 2, LINDEX_SIZE)
        elif i == 1:
            key, length = line + 2, size
        elif i > 1:
            last = (line + 2) << _SIZE_SHIFT | size if size <= KEY_MAX else -1
            if i == 2:
                second = last
            if name == _LINDEX:
                rank, _ = short_number(text, line + 2, end)
        position = line + 2 + size + 2
    if position > end:
        return 0, -1, -1, -1, -1, 0
    return key, length, second, last, rank, position


@kernel
def _is_lindex(text, position, end):  # type: ignore[no-untyped-def]
    # Whether the command at `position` is LINDEX.
    if end - position < 8 + LINDEX_SIZE or bytes64(text, position) != _LINDEX_BEGINS:
        return False
    return word_at(text, position + 8, LINDEX_SIZE) == _LINDEX


@kernel
def _is_great(space, root):  # type: ignore[no-untyped-def]
    # Whether a collection, not a list, has a hash table that does not fit the cache.
    return kind_of(space, root) == RECORD and load64(space, root + BUCKETS) > FEW_BUCKETS


@kernel
def _has_table(type_):  # type: ignore[no-untyped-def]
    return type_ == HASH or type_ == SET or type_ == ZSET


@linked(int64(CONTEXT))
def _is_of_a_range(context):  # type: ignore[no-untyped-def]
    """Whether the whole command at INPUT_POSITION names ranks or bounds of a sorted set, and no element (1 or 0)."""
    text, position, end = query(context), context.shard[INPUT_POSITION], context.call[QUERY_SIZE]
    _, line = short_number(text, position + 1, end)
    size, line = short_number(text, line + 3, end)
    begins = word_at(text, line + 2, min(size, RANGE_SIZE))
    ranks = begins == _ZRANGE or begins == _ZREVRANGE or begins == _ZREMRANGE
    return int64(ranks or begins == _ZCOUNT or begins == _ZLEXCOUNT)


@linked(int64(CONTEXT, int64, int64))
def _pays(context, base, buckets):  # type: ignore[no-untyped-def]
    """Whether to look at the commands at INPUT_POSITION although all keys are in the cache (0 or 1)."""
    text, position, end = query(context), context.shard[INPUT_POSITION], context.call[QUERY_SIZE]
    if _is_lindex(text, position, end):
        return 1
    key, length, second, _, _, position = _next_command(text, position, end)
    if position == 0 or second < 0 or length < 0 or length > KEY_MAX:
        return 0
    hash_ = int64(hash_bytes(text, key, length, context.store[HASH_SEED]))
    entry = index_prefetch_entry(context, base, buckets, hash_)
    if entry == 0 or not _has_table(entry_type(context, entry)):
        return 0
    if not _is_great(context.space, entry_root(context, entry)):
        return 0
    return int64(entry_type(context, entry) != ZSET or _is_of_a_range(context) == 0)


@kernel
def _prefetch_root(context, i, entry):  # type: ignore[no-untyped-def]
    # Step 3, for a command with an entry and a second argument; returns the root of a collection with a table, or 0.
    known, type_ = context.args, entry_type(context, entry)
    if type_ == LIST and known[_RANK + i] >= 0:
        root = entry_root(context, entry)
        packed, rest = sequence_prefetch(context.space, root, known[_RANK + i])
        if packed != 0:
            note_place(context, root, known[_RANK + i], packed, rest)
    if not _has_table(type_):
        return int64(0)
    if type_ == ZSET:
        known[_SECOND + i] = known[_LAST + i]
    root = entry_root(context, entry)
    prefetch(context.space.mem.bytes, read_address(context.space, root))
    return root


@kernel
def _prefetch_bucket(context, i, root):  # type: ignore[no-untyped-def]
    # Step 4, for a command with a root; returns the index of the bucket in mem.bytes, or 0.
    known, place = context.args, context.args[_SECOND + i]
    if place < 0 or not _is_great(context.space, root):
        return int64(0)
    size = place & ((1 << _SIZE_SHIFT) - 1)
    hash_ = int64(hash_bytes(query(context), place >> _SIZE_SHIFT, size, context.store[HASH_SEED]))
    known[_SECOND + i] = hash_
    return table_prefetch(context.space, root, hash_)


@linked(int64(CONTEXT, int64, int64))
def _hash_keys(context, base, buckets):  # type: ignore[no-untyped-def]
    """Step 1, for as many commands as are looked at; returns of how many a key is known."""
    shard, known = context.shard, context.args
    text, end, position = query(context), context.call[QUERY_SIZE], shard[INPUT_POSITION]
    found, before, size, hash_ = 0, 0, -1, int64(0)  # the key of the command before, which is often the same
    for _ in range(AHEAD_MAX):
        key, length, second, last, rank, position = _next_command(text, position, end)
        if position == 0:
            break
        shard[AHEAD] = position
        if 0 <= length <= KEY_MAX:
            same = length == size and equal_bytes(text, key, text, before, length)
            if not same:
                hash_ = int64(hash_bytes(text, key, length, context.store[HASH_SEED]))
                index_prefetch(context, base, buckets, hash_)
                clock_prefetch(context, hash_)
            known[_AT + found], known[_SAME + found] = hash_, same
            known[_SECOND + found], known[_LAST + found], known[_RANK + found] = second, last, rank
            before, size = key, length
            found += 1
    return found


@linked(void(CONTEXT))
def look_ahead(context):  # type: ignore[no-untyped-def]
    """Prefetch for the commands at INPUT_POSITION; sets AHEAD to the first offset that has not been looked at."""
    call, known = context.call, context.args  # the room for arguments is free between commands
    base, buckets = key_base(context, call[DB]), db_load(context, call[DB], DB_KEY_BUCKETS)
    context.shard[AHEAD] = call[QUERY_SIZE]
    forget_places(context)
    if buckets <= FEW_BUCKETS and (buckets == 0 or _pays(context, base, buckets) == 0):
        return
    found = _hash_keys(context, base, buckets)
    entry = int64(0)
    for i in range(found):
        if known[_SAME + i] == 0:
            entry = index_prefetch_entry(context, base, buckets, known[_AT + i])
        known[_AT + i] = entry if known[_SECOND + i] >= 0 else 0
    roots = int64(0)
    for i in range(found):
        if known[_AT + i] != 0:
            known[_AT + i] = _prefetch_root(context, i, known[_AT + i])
            roots |= known[_AT + i]
    if roots == 0:
        return
    for i in range(found):
        if known[_AT + i] != 0:
            known[_AT + i] = _prefetch_bucket(context, i, known[_AT + i])
    for i in range(found):
        if known[_AT + i] != 0:
            table_prefetch_element(context.space, known[_AT + i], known[_SECOND + i])
