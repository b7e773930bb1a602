"""The best candidates for eviction: a pool of sixteen, into which samples of all databases go, as in Redis.

    score     LRU: seconds since the last use; LFU: 255 less the counter; a key whose clock was forgotten is staler by
              one than all of its line; volatile-ttl: the higher, the sooner it is due
    sample    all entries of a few adjacent buckets, from a random one on: maxmemory-samples, or some more, of each
              database that has any; of the keys with a deadline under the volatile policies

A candidate stays in the pool until it is taken, or displaced by better ones.  So the pool holds good candidates of many
samples, and what is evicted is nearer to the stalest key than the stalest of one sample is.

A candidate is the word of its slot, with the table and the bucket in which it was seen.  It is given up if the slot is
not there any more, because the key was deleted, moved, or written anew; or if the key has been used since.

Clocks are found without a look at the entries.  The entries of a bucket agree in the low bits of their hashes, which
choose the line of the clocks, too; and the slot has the bits that the tag is made of.  So a sample costs two lines of
the cache: one of the index, one of clocks.  Where the table is too small for that, and for deadlines, it costs a look
at each entry.  Its key is hashed then, once as long as it is in the pool.  Keys may be long: beyond the end of the time
that eviction has, no sample goes on behind a key of more than LONG_KEY bytes.

The lines of a sample are seldom in the cache, and neither is the entry that goes.  So the place of the next sample is
drawn ahead, and its lines are prefetched, as are those of the best candidate that is left.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import EVICTION_POOL_ADDRESS, EVICTION_RANDOM, MAXMEMORY_POLICY, MAXMEMORY_SAMPLES
from kvstore.lifetimes.sizes import EVICTION_POOL_WORDS
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.clocks import (
    POLICY_ALLKEYS,
    POLICY_TTL,
    clock_beside,
    clock_lines,
    clock_own,
    clock_tags,
    clock_unknown,
    knows_lines,
    line_of,
    staleness,
)
from kvstore.store.databases import KEYS, TIMES, db_load
from kvstore.store.entries import entry_deadline, entry_hash, entry_key_length
from kvstore.store.layout import (
    DATABASES,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    INDEX_BASE,
    INDEX_STRIDE,
)
from kvstore.structures.buckets import ADDRESS, BUCKET_SIZE, LINE, LINK, SLOTS, TAG_SHIFT, next_overflow
from kvstore.system.libc import cycles, words_at
from kvstore.system.random import next_random
from mmcore.jit import bytes64, int64, kernel, linked, prefetch, view, void
from mmcore.mmu import load64, read_address

# int64[EVICTION_POOL_WORDS]: how many candidates there are; then the candidates, the best last.
COUNT = 0
SCORE, TABLE, BUCKET, WORD, HASH = range(5)  # of a candidate; its table is 2 * database + KEYS or TIMES
CANDIDATE_WORDS = 5
POOL_SIZE = (EVICTION_POOL_WORDS - 1) // CANDIDATE_WORDS
BUCKETS_PER_SAMPLE = 8  # looked at for each entry that is wanted, at most, in a sparse table
LONG_KEY = 1 << 12  # [bytes] whose hash takes about a microsecond
NEVER = (1 << 63) - 1  # end of the time for a caller that has no limit
_SOONEST = 1 << 62


@view
def _pool(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[EVICTION_POOL_ADDRESS], EVICTION_POOL_WORDS)


@view
def _candidate(context, number):  # type: ignore[no-untyped-def]
    return words_at(context.shard[EVICTION_POOL_ADDRESS] + 8 * (1 + CANDIDATE_WORDS * number), CANDIDATE_WORDS)


@kernel
def which_keys(context):  # type: ignore[no-untyped-def]
    """The table of a database whose entries may be evicted."""
    return KEYS if context.shard[MAXMEMORY_POLICY] & POLICY_ALLKEYS else TIMES


@kernel
def evictable(context, db):  # type: ignore[no-untyped-def]
    """How many keys of a database may be evicted."""
    return db_load(context, db, DB_KEYS + 8 * which_keys(context))


@linked(void(CONTEXT))
def pool_clear(context):  # type: ignore[no-untyped-def]
    """Forget all candidates."""
    _pool(context)[COUNT] = 0


@kernel
def _shift(context, number, by):  # type: ignore[no-untyped-def]
    # Copy a candidate to the place of a neighbour.
    one, other = _candidate(context, number), _candidate(context, number + by)
    for i in range(CANDIDATE_WORDS):
        other[i] = one[i]


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def pool_offer(context, score, table, bucket, word, hash_):  # type: ignore[no-untyped-def]
    """Put a candidate into the pool, unless it is there already, or the pool is full of better ones.

    `hash_`: of the key, if its score needs it.
    """
    pool = _pool(context)
    count, place = pool[COUNT], 0  # place: how many are worse
    if count == POOL_SIZE and _candidate(context, 0)[SCORE] >= score:
        return
    for i in range(count):
        other = _candidate(context, i)
        if other[WORD] == word and other[TABLE] == table:
            return
        place += int64(other[SCORE] < score)
    if count == POOL_SIZE:
        place -= 1
        for i in range(place):
            _shift(context, i + 1, -1)
    else:
        for i in range(count, place, -1):
            _shift(context, i - 1, 1)
        pool[COUNT] += 1
    new = _candidate(context, place)
    new[SCORE], new[TABLE], new[BUCKET], new[WORD], new[HASH] = score, table, bucket, word, hash_


@kernel
def _base(context, table):  # type: ignore[no-untyped-def]
    return INDEX_BASE + INDEX_STRIDE * db_load(context, table >> 1, DB_KEY_REGION + 8 * (table & 1))


@kernel
def _buckets(context, table):  # type: ignore[no-untyped-def]
    return db_load(context, table >> 1, DB_KEY_BUCKETS + 8 * (table & 1))


@kernel
def _score_of(context, line, clock):  # type: ignore[no-untyped-def]
    # Of the clock of a key in the line at this offset, or of a key that has none: -1.
    return staleness(context, clock) if clock >= 0 else staleness(context, clock_unknown(context, line)) + 1


@kernel
def _by_clock(context, line, tags, word):  # type: ignore[no-untyped-def]
    # The score of a key by the line of its bucket, and its slot.
    return _score_of(context, line, clock_beside(context, line, tags, word >> TAG_SHIFT))


@kernel
def _hash_of(context, word):  # type: ignore[no-untyped-def]
    # The hash of a key, if a score needs it, else 0.
    if context.shard[MAXMEMORY_POLICY] & POLICY_TTL:
        return int64(0)
    return entry_hash(context, word & ADDRESS, context.store[HASH_SEED])


@linked(int64(CONTEXT, int64, int64, int64))
def _by_entry(context, table, word, hash_):  # type: ignore[no-untyped-def]
    """The score of a key by its deadline, or by its hash."""
    if context.shard[MAXMEMORY_POLICY] & POLICY_TTL:
        return _SOONEST - entry_deadline(context, word & ADDRESS)
    return _score_of(context, line_of(context, hash_), clock_own(context, table >> 1, hash_))


@kernel
def _lines_tell(context, table):  # type: ignore[no-untyped-def]
    # Whether scores need no look at the entries of a table.
    return context.shard[MAXMEMORY_POLICY] & POLICY_TTL == 0 and knows_lines(context, _buckets(context, table))


@linked(int64(CONTEXT, int64, int64, int64))
def _sample_bucket(context, table, number, end):  # type: ignore[no-untyped-def]
    """Offer the entries of a bucket and its overflow; returns how many there are, or -1 when the time is over."""
    bucket, offered = _base(context, table) + BUCKET_SIZE * number, 0
    beside = _lines_tell(context, table)
    line, tags = line_of(context, number), clock_tags(context, table >> 1)
    while bucket != 0:
        for i in range(SLOTS):
            word = load64(context.space, bucket + 8 * i)
            if word == 0 or word & LINK:
                continue
            hash_ = int64(0)
            if beside:
                score = _by_clock(context, line, tags, word)
            else:
                hash_ = _hash_of(context, word)
                score = _by_entry(context, table, word, hash_)
            pool_offer(context, score, table, number, word, hash_)
            offered += 1
            if hash_ != 0 and entry_key_length(context, word & ADDRESS) > LONG_KEY and cycles() > end:
                return -1
        bucket = next_overflow(context.space, bucket)
    return offered


@linked(void(CONTEXT, int64, int64))
def _prefetch_sample(context, table, number):  # type: ignore[no-untyped-def]
    """Prefetch a bucket and the one behind it, which most samples need too, and their lines of clocks."""
    base, end = _base(context, table), _buckets(context, table)
    for near in range(number, min(number + 2, end)):
        prefetch(context.space.mem.bytes, read_address(context.space, base + BUCKET_SIZE * near))
        if _lines_tell(context, table):
            prefetch(clock_lines(context), line_of(context, near))


@linked(int64(CONTEXT, int64))
def pool_sample(context, end):  # type: ignore[no-untyped-def]
    """Sample each database that has keys which may be evicted; returns how many keys these are, -1 at the end.

    `end`: of the time for that, by the time stamp counter.
    """
    random = context.shard[EVICTION_RANDOM]
    following = context.shard[EVICTION_RANDOM] = next_random(context)
    keys, counts = 0, read_address(context.space, DESCRIPTORS + DB_KEYS + 8 * which_keys(context))
    for db in range(DATABASES):
        count = bytes64(context.space.mem.bytes, counts + DESCRIPTOR_SIZE * db)
        if count == 0:
            continue
        keys += count
        wanted = min(context.shard[MAXMEMORY_SAMPLES], count)
        table = 2 * db + which_keys(context)
        buckets = _buckets(context, table)
        number = random % buckets
        for _ in range(min(BUCKETS_PER_SAMPLE * wanted, buckets)):
            offered = _sample_bucket(context, table, number, end)
            if offered < 0:
                return -1
            wanted -= offered
            if wanted <= 0:
                break
            number = number + 1 if number + 1 < buckets else 0
        _prefetch_sample(context, table, following % buckets)
    return keys


@linked(int64(CONTEXT, int64, int64, int64))
def _slot(context, table, number, word):  # type: ignore[no-untyped-def]
    """Address of the slot with this word in a bucket of a table, or in its overflow; 0 if it is not there any more."""
    if which_keys(context) != table & 1 or number >= _buckets(context, table):
        return 0
    bucket = _base(context, table) + BUCKET_SIZE * number
    while bucket != 0:
        for i in range(SLOTS):
            if load64(context.space, bucket + 8 * i) == word:
                return bucket + 8 * i
        bucket = next_overflow(context.space, bucket)
    return 0


@linked(void(CONTEXT))
def _prefetch_best(context):  # type: ignore[no-untyped-def]
    """Prefetch the bucket and the entry of the best candidate, of which the entry may be gone."""
    count = _pool(context)[COUNT]
    if count == 0:
        return
    best, memory = _candidate(context, count - 1), context.space.mem.bytes
    if best[BUCKET] < _buckets(context, best[TABLE]):
        bucket = _base(context, best[TABLE]) + BUCKET_SIZE * best[BUCKET]
        prefetch(memory, read_address(context.space, bucket))
    pa = read_address(context.space, best[WORD] & ADDRESS)
    if pa >= 0:
        prefetch(memory, pa)
        prefetch(memory, pa + LINE)


@linked(int64(CONTEXT))
def pool_take(context):  # type: ignore[no-untyped-def]
    """Take the best candidate that is still one: the address of its slot << 8 | its table; 0 if there is none."""
    pool = _pool(context)
    while pool[COUNT] > 0:
        pool[COUNT] -= 1
        best = _candidate(context, pool[COUNT])
        table, number, word = best[TABLE], best[BUCKET], best[WORD]
        slot = _slot(context, table, number, word)
        if slot == 0:
            continue
        if _lines_tell(context, table):
            score = _by_clock(context, line_of(context, number), clock_tags(context, table >> 1), word)
        else:
            hash_ = best[HASH] if best[HASH] != 0 else _hash_of(context, word)
            score = _by_entry(context, table, word, hash_)
        if score >= best[SCORE]:
            _prefetch_best(context)
            return slot << 8 | table
    return 0
