"""Where the store's data lie in its address space.

    va                        what
    0x1000_0800               the keyspace's control block, in the page it shares with the heap's
    PML4 entries 1 .. 63      the heap: every entry (key, deadline, value), every overflow bucket
    PML4 entries 64 ..        index regions of 16 GiB each: region r starts at INDEX_BASE + r * INDEX_STRIDE

A database owns two regions: one index of all its keys and one of those that have a deadline.  Which, its descriptor
in the control block says: FLUSHDB and SWAPDB exchange regions, and move nothing.

Control block (little endian, 8-byte words, offsets from CONTROL_BASE)

    OFFSET  SIZE  DESCRIPTION
    0       8     magic and layout version (CONTROL_MAGIC)
    8       8     seed of the hash
    16      8     -
    24      8     bit set of index regions in use
    32      8     head of the queue of indices being flushed, 0 for none; see flush.py
    64      64*16 descriptors of the databases

Descriptor of a database

    OFFSET  SIZE  DESCRIPTION
    0       8     keys
    8       8     keys with a deadline
    16      8     buckets of the key index (0 before the first key)
    24      8     buckets of the deadline index
    32      8     region of the key index
    40      8     region of the deadline index
    48      16    -
"""

DATABASES = 16
CONTROL_BASE = 0x1000_0800
CONTROL_MAGIC = 0x6B76_0001
CONTROL_SEED = 8
CONTROL_REGIONS = 24
CONTROL_FLUSHING = 32
DESCRIPTORS = CONTROL_BASE + 64
DESCRIPTOR_SIZE = 64
assert DESCRIPTORS + DATABASES * DESCRIPTOR_SIZE <= (CONTROL_BASE | 4095) + 1

DB_KEYS, DB_DEADLINES = 0, 8
DB_KEY_BUCKETS, DB_DEADLINE_BUCKETS = 16, 24
DB_KEY_REGION, DB_DEADLINE_REGION = 32, 40

assert DB_DEADLINES == DB_KEYS + 8 and DB_DEADLINE_BUCKETS == DB_KEY_BUCKETS + 8
assert DB_DEADLINE_REGION == DB_KEY_REGION + 8

INDEX_BASE = 64 << 39
INDEX_STRIDE = 1 << 34
INDEX_REGIONS = 63
