"""The description of a store in its image, and the check whether this program can open an image.

An image is the store's memory, so only a program with the same layout can open it (kvstore/store/description.py).  The
metadata name the layout.  In the pages, the heap's control block has a magic number; the store's control block has a
magic number with the layout's version, and the layout's digest.  If one of these is not this program's, it refuses the
image by name, gives both layouts in the reason, and leaves the image on the disk for a program that can read it.

    metadata of an image    layout      text: LAYOUT of the program that wrote it, "version 2, digest 0123456789abcdef"
                            databases   16 pairs: keys, and those of them with a deadline
                            made_by     "kvstore"

The checks read the control block only, in constant time.  They detect an image whose pages do not lie where its
manifest says.  They do not detect careful tampering.
"""

from typing import Any

from kvstore.store.description import LAYOUT, LAYOUT_DIGEST, layout_name
from kvstore.store.index import BUCKETS_MAX, BUCKETS_MIN, PAGE_BUCKETS
from kvstore.store.layout import (
    CONTROL_BASE,
    CONTROL_LAYOUT,
    CONTROL_MAGIC,
    DATABASES,
    DB_DATED,
    DB_DEADLINE_BUCKETS,
    DB_DEADLINE_REGION,
    DB_DEADLINES,
    DB_KEY_BUCKETS,
    DB_KEY_REGION,
    DB_KEYS,
    DB_LEFT,
    DESCRIPTOR_SIZE,
    DESCRIPTORS,
    INDEX_BASE,
    INDEX_REGIONS,
    INDEX_STRIDE,
    LAYOUT_VERSION,
    VERSION_BITS,
)
from mmcore.heap import CONTROL, HEAP_MAGIC, ZEROS
from snapshot.describe import text
from snapshot.frozen import FrozenSpace
from snapshot.image import PAGE_SIZE, Image, Page

UNNAMED = "not named"  # the layout of an image whose metadata do not name one

# The two tables of a database, each as the words of its descriptor with the number of keys, of buckets, and the region.
_TABLES = (
    (DB_KEYS // 8, DB_KEY_BUCKETS // 8, DB_KEY_REGION // 8),
    (DB_DEADLINES // 8, DB_DEADLINE_BUCKETS // 8, DB_DEADLINE_REGION // 8),
)


def describe_store(frozen: FrozenSpace) -> dict[str, Any]:
    """The metadata of an image, from the control block of the frozen store."""
    words = _descriptors(frozen.read(DESCRIPTORS, DATABASES * DESCRIPTOR_SIZE))
    databases = [[of[DB_KEYS // 8], of[DB_DEADLINES // 8]] for of in words]
    return {"databases": databases, "made_by": "kvstore", "layout": LAYOUT}


def accept_store(image: Image, page: Page) -> str:
    """The reason why this program cannot open an image, empty when it can: see snapshot.image.Accept."""
    said = image.metadata.get("layout", UNNAMED)
    if said != LAYOUT:
        return f"its layout is {text(said)[:64]}, and this program's is {LAYOUT}"
    if image.repeats and image.repeats.page != ZEROS:
        return f"it repeats the page at {image.repeats.page:#x}, and the page of zeros is at {ZEROS:#x}"
    control = page(CONTROL)
    if len(control) != PAGE_SIZE:
        return f"it has no control block at {CONTROL_BASE:#x}"
    start = DESCRIPTORS - CONTROL
    descriptors = _descriptors(control[start : start + DATABASES * DESCRIPTOR_SIZE])
    return _odd_control(control) or _odd_descriptor(image, descriptors)


def _word(control: bytes, at: int) -> int:
    return int.from_bytes(control[at - CONTROL : at - CONTROL + 8], "little")


def _odd_control(control: bytes) -> str:
    heap, store = _word(control, CONTROL), _word(control, CONTROL_BASE)
    if heap != HEAP_MAGIC:
        return f"the heap's magic number is {heap:#x}, and this program's is {HEAP_MAGIC:#x}"
    if store >> VERSION_BITS != CONTROL_MAGIC >> VERSION_BITS:
        return f"the store's magic number is {store:#x}, and this program's is {CONTROL_MAGIC:#x}"
    version, digest = store & ((1 << VERSION_BITS) - 1), _word(control, CONTROL_BASE + CONTROL_LAYOUT)
    if (version, digest) != (LAYOUT_VERSION, LAYOUT_DIGEST):
        return f"its control block's layout is {layout_name(version, digest)}, and this program's is {LAYOUT}"
    return ""


def _descriptors(data: bytes) -> list[list[int]]:
    # The words of each database.
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
        dated, left = row[DB_DATED // 8], row[DB_LEFT // 8]
        if dated != 0 and not image.maps(dated - dated % PAGE_SIZE, 1):
            return f"the agenda of database {db} is not in it"
        if left < 0 or (left > 0 and dated == 0):
            return f"database {db} counts {left} names that were left, and has no agenda"
        for keys, buckets, region in ((row[k], row[b], row[r]) for k, b, r in _TABLES):
            if buckets == keys == 0:
                continue
            first = INDEX_BASE + INDEX_STRIDE * region
            if not BUCKETS_MIN <= buckets <= BUCKETS_MAX or not image.maps(first, -(-buckets // PAGE_BUCKETS)):
                return f"the {buckets} buckets of database {db} are not in it"
    return ""
