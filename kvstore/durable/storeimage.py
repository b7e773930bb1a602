"""What an image says of the store in it, and which images this program can open.

An image is the store's memory: to open one of another layout would be to read nonsense and call it data.  So each has
the name of its layout among its metadata, a digest of every constant that says where something lies, and the control
block begins with magic numbers.  All must be this program's, else the image is refused by name and stays on the disk,
for a program that can read it.

    metadata of an image    layout      text: LAYOUT of the program that wrote it
                            databases   16 pairs: keys, and those of them with a deadline
                            made_by     "kvstore"

The digest notices a constant that changes.  What changes its meaning while all numbers stay must raise the version in
CONTROL_MAGIC or HEAP_MAGIC.  Images from before they had a digest have the layout UNMARKED; they are opened for as long
as that is still the layout.

The checks are of the control block alone, in constant time.  They keep an image out whose pages do not lie where its
manifest says, not one that somebody has edited with care.
"""

from typing import Any

import xxhash

from kvstore.store import entries, index, layout
from kvstore.store.flush import RECORD_SIZE
from kvstore.store.index import BUCKETS_MAX, BUCKETS_MIN, PAGE_BUCKETS
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_MAGIC,
    DATABASES,
    DB_DEADLINE_BUCKETS,
    DB_DEADLINE_REGION,
    DB_DEADLINES,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    INDEX_BASE,
    INDEX_REGIONS,
    INDEX_STRIDE,
)
from kvstore.structures import hash as hashing
from mmcore import heap
from mmcore.heap import CONTROL, HEAP_MAGIC
from snapshot.describe import text
from snapshot.frozen import FrozenSpace
from snapshot.image import PAGE_SIZE, Image, Page

_LAYOUT = """
    DATABASES CONTROL_BASE CONTROL_MAGIC CONTROL_SEED CONTROL_REGIONS CONTROL_FLUSHING DESCRIPTORS DESCRIPTOR_SIZE
    DB_KEYS DB_DEADLINES DB_KEY_BUCKETS DB_DEADLINE_BUCKETS DB_KEY_REGION DB_DEADLINE_REGION
    INDEX_BASE INDEX_STRIDE INDEX_REGIONS
"""
_HEAP = """
    CONTROL OWNER_BASE SLAB_META LARGE_META SLAB_BASE LARGE_BASE HEAP_END HEAP_MAGIC SLOT_SHIFT SLOT_SIZE
    USED SLAB_FRESH SLAB_FREE LARGE_FRESH QUEUE PARTIAL RANGES CLASS_SIZES ORDER_MAX LIVE FREE QUEUED
"""
_ENTRIES = "HEADER EXPIRY LARGE RAW TEXT CLOCK_MASK"
_INDEX = "BUCKET_SIZE SLOTS PAGE_BUCKETS LINK ADDRESS TAG_SHIFT LAST"
_HASH = "_SECRET0 _SECRET1 _SECRET2 _SECRET3"
CONSTANTS = ((layout, _LAYOUT), (heap, _HEAP), (entries, _ENTRIES), (index, _INDEX), (hashing, _HASH))


def layout_digest() -> str:
    """The name of the layout: a digest of the constants that it is made of."""
    named = [(module, name) for module, names in CONSTANTS for name in names.split()]
    lines = [f"{module.__name__} {name} {getattr(module, name)}" for module, name in named]
    lines.append(f"kvstore.store.flush RECORD_SIZE {RECORD_SIZE}")
    return xxhash.xxh3_64_hexdigest("\n".join(lines).encode())


LAYOUT = layout_digest()
UNMARKED = "8797e5077df670af"

# The two tables of a database, each as the words of its descriptor that say how many keys, buckets, and where.
_TABLES = (
    (DB_KEYS // 8, DB_KEY_BUCKETS // 8, DB_KEY_REGION // 8),
    (DB_DEADLINES // 8, DB_DEADLINE_BUCKETS // 8, DB_DEADLINE_REGION // 8),
)


def describe_store(frozen: FrozenSpace) -> dict[str, Any]:
    """The metadata of an image, from the store's control block as it was frozen."""
    words = _descriptors(frozen.read(DESCRIPTORS, DATABASES * DESCRIPTOR_SIZE))
    databases = [[of[DB_KEYS // 8], of[DB_DEADLINES // 8]] for of in words]
    return {"databases": databases, "made_by": "kvstore", "layout": LAYOUT}


def accept_store(image: Image, page: Page) -> str:
    """Why this program cannot open an image, or nothing when it can: see snapshot.image.Accept."""
    said = image.metadata.get("layout", UNMARKED)
    if said != LAYOUT:
        return f"its layout is {text(said)[:64]}, and this program's is {LAYOUT}"
    control = page(CONTROL)
    if len(control) != PAGE_SIZE:
        return f"it has no control block at {CONTROL_BASE:#x}"
    for name, at, magic in (("heap", CONTROL, HEAP_MAGIC), ("store", CONTROL_BASE, CONTROL_MAGIC)):
        found = int.from_bytes(control[at - CONTROL : at - CONTROL + 8], "little")
        if found != magic:
            return f"the {name}'s magic number is {found:#x}, and this program's is {magic:#x}"
    start = DESCRIPTORS - CONTROL
    return _odd_descriptor(image, _descriptors(control[start : start + DATABASES * DESCRIPTOR_SIZE]))


def _descriptors(data: bytes) -> list[list[int]]:
    # By database its words.
    words, width = memoryview(data).cast("q").tolist(), DESCRIPTOR_SIZE // 8
    return [words[db * width : (db + 1) * width] for db in range(DATABASES)]


def _odd_descriptor(image: Image, descriptors: list[list[int]]) -> str:
    regions = [words[region] for words in descriptors for _, _, region in _TABLES]
    if len(set(regions)) < len(regions) or min(regions) < 0 or max(regions) >= INDEX_REGIONS:
        return "its databases' index regions are not apart"
    for db in range(DATABASES):
        row = descriptors[db]
        if not 0 <= row[DB_DEADLINES // 8] <= row[DB_KEYS // 8]:
            return f"database {db} has {row[DB_KEYS // 8]} keys, {row[DB_DEADLINES // 8]} of them with a deadline"
        for keys, buckets, region in ((row[k], row[b], row[r]) for k, b, r in _TABLES):
            if buckets == keys == 0:
                continue
            first = INDEX_BASE + INDEX_STRIDE * region
            if not BUCKETS_MIN <= buckets <= BUCKETS_MAX or not image.maps(first, -(-buckets // PAGE_BUCKETS)):
                return f"the {buckets} buckets of database {db} are not in it"
    return ""
