"""The layout in words that can be compared: every constant that says where something lies, its version, its digest.

An image, a snapshot or a branch is a plain copy of the store's memory.  A program with another layout would read
nonsense from it and take that for data.  So a store carries the name of its layout, in the control block and in an
image's metadata.

    CONSTANTS   the modules that lay bytes out in the address space, each with the constants that say how
    digest      XXH3 (64 bits) of "module constant value" lines, in the order of CONSTANTS
    LAYOUT      "version 2, digest 0123456789abcdef"

The digest changes when a constant changes.  A change of meaning that leaves all numbers alone, such as another rule for
the bucket of a hash, must raise LAYOUT_VERSION (layout.py) or the number in HEAP_MAGIC (mmcore/heap/layout.py).  A
constant that says when something is done, and not where it lies, is not listed: its value does not affect an image.
"""

import xxhash

from kvstore.store import entries, index, layout, scores
from kvstore.structures import (
    agenda,
    buckets,
    chain_layout,
    element,
    groups,
    ints,
    kinds,
    packed_layout,
    record,
    stream,
    stream_layout,
    table,
)
from kvstore.structures import hash as hashing
from kvstore.structures.tree import nodes as tree
from mmcore import paging
from mmcore.heap import layout as heap

_PAGING = "PAGE_SIZE"
_LAYOUT = """
    LAYOUT_VERSION VERSION_BITS CONTROL_BASE CONTROL_MAGIC CONTROL_SEED CONTROL_LAYOUT CONTROL_REGIONS
    CONTROL_FLUSHING CONTROL_GRAVE
    DATABASES DESCRIPTORS DESCRIPTOR_SIZE
    DB_KEYS DB_DEADLINES DB_KEY_BUCKETS DB_DEADLINE_BUCKETS DB_KEY_REGION DB_DEADLINE_REGION DB_DATED DB_LEFT
    INDEX_BASE INDEX_STRIDE INDEX_REGIONS
    RECORD_SIZE RECORD_NEXT RECORD_KEY_REGION RECORD_KEY_BUCKETS RECORD_DEADLINES RECORD_REGION_SHIFT
"""
_HEAP = """
    CONTROL OWNER_BASE ZEROS SLAB_META LARGE_META SLAB_BASE LARGE_BASE HEAP_END HEAP_MAGIC SLOT_SHIFT SLOT_SIZE
    USED SLAB_FRESH SLAB_FREE LARGE_FRESH QUEUE SLAB_PAGES LARGE_USED PARTIAL LEAVERS BORROWED ERA ERA_SHIFT RANGES
    CLASS_PAGES CLASS_LEAVING CLASS_OBJECTS LEAVING UNIT_SHIFT CLASS_SIZES SMALL_MAX ORDER_MAX LIVE FREE QUEUED
"""
_ENTRIES = """
    FORM VALUE_LENGTH LONG_LENGTH HEADER LONG_HEADER LONG_KEY EXPIRY LARGE RAW TEXT ENCODING_SHIFT TYPE_SHIFT
    STRING LIST SET ZSET HASH STREAM
"""
_KINDS = "PACKED INTS RECORD CHAIN STREAM KIND_MASK"
_ELEMENT = "SHORT_MAX"
_CHAIN_LAYOUT = "BLOCK_HEADER SHAPE_SIZE LINK_SIZE LINKED MIXED COUNT_PLACE SHAPE_PLACE USED_PLACE _CAPACITY"
_RECORD = """
    FLAGS COUNT BUCKETS BASE TREE LEVELS HEAD TAIL LINK RECORD_SIZE FLAG_SHIFT OWNS_ELEMENTS OWNS_PACKEDS
    OWNS_ITEMS OWNS_BELOW BELOW DEADLINES
"""
_BUCKETS = "BUCKET_SIZE SLOTS LINK ADDRESS TAG_SHIFT LAST"
_INDEX = "PAGE_BUCKETS"
_HASH = "_SECRET0 _SECRET1 _SECRET2 _SECRET3"
_PACKED_LAYOUT = "PACKED_HEADER END_SIZE _CAPACITY _START_PLACE"
_INTS = "INTS_HEADER SHIFT_MIN SHIFT_MAX _SHIFT_PLACE _COUNT_PLACE _CAPACITY_PLACE _BASE_PLACE"
_TABLE = "PAGE_BUCKETS"
_TREE = """
    LEAF_SIZE INNER_SIZE ARRAY COUNT_WORD LEVEL_WORD WORDS ADDRESSES CHILDREN WEIGHTS ADDRESS_BITS ADDRESS WEIGHTED
"""
_SCORES = "WORD_SIZE MINUS_ZERO"
_STREAM = "COUNT LAST_MS LAST_SEQ DELETED_MS DELETED_SEQ ADDED NODES TAIL GROUPS STREAM_SIZE"
_STREAM_LAYOUT = """
    KEY_SIZE KEY_OFFSET BASE_MS BASE_SEQ COUNTS FORM CONTENT SPARE END_SIZE ADDED_PLACE STOP_PLACE START_PLACE
    CAPACITY_PLACE SAME MS_PLACE SEQ_PLACE FORM_SIZE LENGTH_SHORT ORDERED NODE_MAX
"""
_GROUPS = """
    PENDING CONSUMERS GIVEN_MS GIVEN_SEQ READ SEEN ACTIVE TIME TIMES CONSUMER
    GROUP_SIZE CONSUMER_SIZE PENDING_SIZE UNKNOWN NEVER
"""
_AGENDA = "TIME_SIZE"
CONSTANTS = (
    (paging, _PAGING),
    (heap, _HEAP),
    (layout, _LAYOUT),
    (entries, _ENTRIES),
    (buckets, _BUCKETS),
    (index, _INDEX),
    (hashing, _HASH),
    (kinds, _KINDS),
    (element, _ELEMENT),
    (record, _RECORD),
    (packed_layout, _PACKED_LAYOUT),
    (chain_layout, _CHAIN_LAYOUT),
    (ints, _INTS),
    (table, _TABLE),
    (tree, _TREE),
    (scores, _SCORES),
    (stream, _STREAM),
    (stream_layout, _STREAM_LAYOUT),
    (groups, _GROUPS),
    (agenda, _AGENDA),
)


def layout_digest() -> int:
    """A 64-bit digest of the layout that the constants describe now."""
    named = [(module, name) for module, names in CONSTANTS for name in names.split()]
    lines = [f"{module.__name__} {name} {getattr(module, name)}" for module, name in named]
    return xxhash.xxh3_64_intdigest("\n".join(lines).encode())


def layout_name(version: int, digest: int) -> str:
    """A layout in words."""
    return f"version {version}, digest {digest:016x}"


LAYOUT_DIGEST = layout_digest()
LAYOUT_WORD = LAYOUT_DIGEST - (1 << 64) if LAYOUT_DIGEST >> 63 else LAYOUT_DIGEST  # the same as an int64
LAYOUT = layout_name(layout.LAYOUT_VERSION, LAYOUT_DIGEST)
