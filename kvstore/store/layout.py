"""Where the store's data lie in its address space.

    va                        what
    0x1000_0800               the keyspace's control block, in the page it shares with the heap's
    PML4 entries 1 .. 63      the heap: every entry (key, deadline, value), every overflow bucket
    PML4 entries 64 ..        index regions of 16 GiB each: region r starts at INDEX_BASE + r * INDEX_STRIDE

A database owns two regions: one index of all its keys and one of those that have a deadline.  Its descriptor in the
control block names the two regions, so FLUSHDB and SWAPDB exchange regions without moving any data.

Control block (little endian, 8-byte words, offsets from CONTROL_BASE)

    OFFSET  SIZE  DESCRIPTION
    0       8     magic "kv" and, in the VERSION_BITS low bits, LAYOUT_VERSION
    8       8     seed of the hash
    16      8     digest of the layout; see description.py
    24      8     bit set of index regions in use
    32      8     head of the queue of indices being flushed, 0 for none; see flush.py
    40      8     head of the grave, 0 when it is empty; see kvstore/structures/grave.py
    64      64*16 descriptors of the databases

Descriptor of a database

    OFFSET  SIZE  DESCRIPTION
    0       8     keys
    8       8     keys with a deadline
    16      8     buckets of the key index (0 before the first key)
    24      8     buckets of the deadline index
    32      8     region of the key index
    40      8     region of the deadline index
    48      8     root of the agenda of hashes that have fields with a deadline, 0 without one; see dated.py
    56      8     names in that agenda without such a hash; see leftnames.py

Record of an index that is being flushed, in the heap; see flush.py

    OFFSET  SIZE  DESCRIPTION
    0       8     next record, 0 for none
    8       8     region of the keys
    16      8     buckets that are left in it
    24      8     region of the deadlines << 32 | buckets that are left in it
"""

DATABASES = 16
CONTROL_BASE = 0x1000_0800
LAYOUT_VERSION = 3  # raise it when a number here gets another meaning; 2 had strings only
VERSION_BITS = 16
CONTROL_MAGIC = 0x6B76 << VERSION_BITS | LAYOUT_VERSION
assert 0 < LAYOUT_VERSION < 1 << VERSION_BITS
CONTROL_SEED = 8
CONTROL_LAYOUT = 16
CONTROL_REGIONS = 24
CONTROL_FLUSHING = 32
CONTROL_GRAVE = 40
DESCRIPTORS = CONTROL_BASE + 64
DESCRIPTOR_SIZE = 64
assert DESCRIPTORS + DATABASES * DESCRIPTOR_SIZE <= (CONTROL_BASE | 4095) + 1

DB_KEYS, DB_DEADLINES = 0, 8
DB_KEY_BUCKETS, DB_DEADLINE_BUCKETS = 16, 24
DB_KEY_REGION, DB_DEADLINE_REGION = 32, 40
DB_DATED, DB_LEFT = 48, 56

assert DB_DEADLINES == DB_KEYS + 8 and DB_DEADLINE_BUCKETS == DB_KEY_BUCKETS + 8
assert DB_DEADLINE_REGION == DB_KEY_REGION + 8

INDEX_BASE = 64 << 39
INDEX_STRIDE = 1 << 34
INDEX_REGIONS = 63

RECORD_SIZE = 32
RECORD_NEXT, RECORD_KEY_REGION, RECORD_KEY_BUCKETS, RECORD_DEADLINES = 0, 8, 16, 24
RECORD_REGION_SHIFT = 32  # of RECORD_DEADLINES: the region above, the buckets below
