"""Databases: sixteen descriptors in the control block (layout.py), and what they tell.

A database has two indices: one of all its entries, and one of those with a deadline, which active expiry walks.  A
function takes KEYS or TIMES to choose between the two.  The number selects that index's fields in the
descriptor.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import COPY_STALE, HASH_SEED, MAXMEMORY
from kvstore.store.clocks import clocks_empty, clocks_memory
from kvstore.store.description import LAYOUT_WORD
from kvstore.store.index import PAGE_BUCKETS
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_LAYOUT,
    CONTROL_MAGIC,
    CONTROL_REGIONS,
    CONTROL_SEED,
    DATABASES,
    DB_DEADLINE_BUCKETS,
    DB_DEADLINE_REGION,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    INDEX_BASE,
    INDEX_STRIDE,
)
from kvstore.system.random import next_random
from mmcore.errors import NO_FRAME
from mmcore.heap import heap_init, heap_used
from mmcore.jit import bytes64, fill_bytes, int64, kernel, linked, put64
from mmcore.mmu import load64, read_address, store64, write_address
from mmcore.paging import PAGE_SIZE

FRAMES_TO_REMOVE = 128  # that must be free for a removal
KEYS, TIMES = 0, 1  # a database's two tables; selects their fields in the descriptor


@linked(int64(CONTEXT))
def keyspace_init(context):  # type: ignore[no-untyped-def]
    """Make an empty store in an empty address space: 0 or NO_FRAME."""
    space = context.space
    if heap_init(space) != 0:
        return NO_FRAME
    if context.store[HASH_SEED] == 0:  # an emptied store keeps its seed, because watches identify keys by hash
        context.store[HASH_SEED] = next_random(context) ^ (next_random(context) << 32)
    pa = write_address(space, CONTROL_BASE)
    memory = space.mem.bytes
    fill_bytes(memory, pa, 0, DESCRIPTORS - CONTROL_BASE + DATABASES * DESCRIPTOR_SIZE)
    put64(memory, pa, CONTROL_MAGIC)
    put64(memory, pa + CONTROL_SEED, context.store[HASH_SEED])
    put64(memory, pa + CONTROL_LAYOUT, LAYOUT_WORD)
    put64(memory, pa + CONTROL_REGIONS, (1 << (2 * DATABASES)) - 1)
    for db in range(DATABASES):
        at = pa + DESCRIPTORS - CONTROL_BASE + db * DESCRIPTOR_SIZE
        put64(memory, at + DB_KEY_REGION, 2 * db)
        put64(memory, at + DB_DEADLINE_REGION, 2 * db + 1)
    clocks_empty(context)
    return 0


@linked(int64(CONTEXT))
def keyspace_open(context):  # type: ignore[no-untyped-def]
    """Take over the store in the address space: 0, or -1 when it has another layout."""
    if load64(context.space, CONTROL_BASE) != CONTROL_MAGIC:
        return -1
    if load64(context.space, CONTROL_BASE + CONTROL_LAYOUT) != LAYOUT_WORD:
        return -1
    context.store[HASH_SEED] = load64(context.space, CONTROL_BASE + CONTROL_SEED)
    context.store[COPY_STALE] = 1
    clocks_empty(context)
    return 0


@kernel
def db_load(context, db, field):  # type: ignore[no-untyped-def]
    """A field of a database's descriptor."""
    return load64(context.space, DESCRIPTORS + db * DESCRIPTOR_SIZE + field)


@kernel
def db_store(context, db, field, value):  # type: ignore[no-untyped-def]
    """Set a field of a database's descriptor."""
    store64(context.space, DESCRIPTORS + db * DESCRIPTOR_SIZE + field, value)


@kernel
def key_base(context, db):  # type: ignore[no-untyped-def]
    """Address of the first bucket of a database's keys."""
    return INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_KEY_REGION)


@kernel
def deadline_base(context, db):  # type: ignore[no-untyped-def]
    """Address of the first bucket of a database's deadlines."""
    return INDEX_BASE + INDEX_STRIDE * db_load(context, db, DB_DEADLINE_REGION)


@linked(int64(CONTEXT))
def index_pages(context):  # type: ignore[no-untyped-def]
    """Pages of all indices together."""
    pa = read_address(context.space, DESCRIPTORS)
    pages = 0
    for db in range(DATABASES):
        at = pa + db * DESCRIPTOR_SIZE
        pages += (bytes64(context.space.mem.bytes, at + DB_KEY_BUCKETS) + PAGE_BUCKETS - 1) // PAGE_BUCKETS
        pages += (bytes64(context.space.mem.bytes, at + DB_DEADLINE_BUCKETS) + PAGE_BUCKETS - 1) // PAGE_BUCKETS
    return pages


@linked(int64(CONTEXT))
def overhead_memory(context):  # type: ignore[no-untyped-def]
    """Memory of the indices and the clocks of use [bytes]."""
    return index_pages(context) * PAGE_SIZE + clocks_memory(context)


@linked(int64(CONTEXT))
def memory_used(context):  # type: ignore[no-untyped-def]
    """Memory that the store uses: entries, indices and clocks [bytes]."""
    return heap_used(context.space) + overhead_memory(context)


@linked(int64(CONTEXT))
def memory_exceeded(context):  # type: ignore[no-untyped-def]
    """Whether the store uses more than maxmemory allows (0 or 1)."""
    limit = context.store[MAXMEMORY]
    return 1 if limit > 0 and memory_used(context) > limit else 0
