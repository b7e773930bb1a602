"""check_keyspace: walks the whole store and proves that indices, entries, counts and the heap's bytes agree."""

import struct

import numpy as np

from kvstore.lifetimes.context import Context
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store import layout
from kvstore.store.description import LAYOUT_WORD
from kvstore.store.entries import EXPIRY, HEADER, LARGE, entry_hash
from kvstore.structures.buckets import BUCKET_SIZE, LINK
from kvstore.structures.linear import bucket_number
from mmcore.heap import CLASS_SIZES, heap_used
from mmcore.jit import int64, linked
from mmcore.mapping import next_mapped
from mmcore.mmu import copy_out
from mmcore.state import SPACE

PAGE = 4096


@linked(int64(int64, int64))
def bucket_of(hash_, buckets):  # type: ignore[no-untyped-def]
    """bucket_number, for Python."""
    return bucket_number(hash_, buckets)


@linked(int64(SPACE))
def heap_bytes(space):  # type: ignore[no-untyped-def]
    """heap_used, for Python."""
    return heap_used(space)


class _Reader:
    """Reads a store that does not change meanwhile; by pages, because it has many small entries."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._pages: dict[int, bytes] = {}

    def _read(self, va: int, count: int) -> bytes:
        out = np.empty(count, np.uint8)
        copy_out(self.context.space, va, out, 0, count)
        return out.tobytes()

    def bytes(self, va: int, count: int) -> bytes:
        start = va % PAGE
        if not 0 < count <= PAGE - start:
            return self._read(va, count)
        page = self._pages.get(va - start)
        if page is None:
            page = self._pages[va - start] = self._read(va - start, PAGE)
        return page[start : start + count]

    def words(self, va: int, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}q", self.bytes(va, 8 * count)))


def read_words(context: Context, va: int, count: int) -> list[int]:
    """Words of the store's address space."""
    return _Reader(context).words(va, count)


def _class_size(size: int) -> int:
    return next((fit for fit in CLASS_SIZES if fit >= size), -(-size // PAGE) * PAGE)


def _walk(reader: _Reader, region: int, buckets: int, detached: bool = False) -> tuple[dict[int, tuple[int, int]], int]:
    """The tag and bucket of each entry of a table, and the number of its overflow buckets."""
    base, overflows = layout.INDEX_BASE + layout.INDEX_STRIDE * region, 0
    found: dict[int, tuple[int, int]] = {}
    for number in range(buckets):
        va = base + BUCKET_SIZE * number
        while va:
            following = 0
            for i, word in enumerate(reader.words(va, 8)):
                if word & LINK:
                    assert i == 7, "a link stands in the last slot only"
                    following = word & 0xFFFF_FFFF_FFF8
                elif word:
                    entry = word & 0xFFFF_FFFF_FFF8
                    assert entry not in found, "an entry is in a table twice"
                    found[entry] = (word >> 48, number)
            overflows += following != 0
            va = following
    end = base + layout.INDEX_STRIDE
    mapped_to = base + -(-buckets * BUCKET_SIZE // PAGE) * PAGE
    assert next_mapped(reader.context.space, mapped_to, end) == end, "a table has pages beyond its buckets"
    spare = -buckets % (PAGE // BUCKET_SIZE)
    merged = reader.words(base + BUCKET_SIZE * buckets, 8 * spare) if buckets and not detached else []
    assert not any(merged), "a merged bucket is not empty"
    return found, overflows


def contents(context: Context) -> dict[int, dict[bytes, tuple[bytes, int | None]]]:
    """Value and deadline [Unix ms] of each key, due or not, by database; proves the store sound."""
    reader = _Reader(context)
    seed = int(context.store[HASH_SEED])
    magic, kept_seed, digest, regions, flushing = reader.words(layout.CONTROL_BASE, 5)
    assert magic == layout.CONTROL_MAGIC and kept_seed == seed and digest == LAYOUT_WORD
    taken = 0
    used_regions: set[int] = set()
    databases: dict[int, dict[bytes, tuple[bytes, int | None]]] = {}
    for db in range(layout.DATABASES):
        keys, deadlines, key_buckets, deadline_buckets, key_region, deadline_region = reader.words(
            layout.DESCRIPTORS + db * layout.DESCRIPTOR_SIZE, 6
        )
        assert not used_regions & {key_region, deadline_region} and key_region != deadline_region
        used_regions |= {key_region, deadline_region}
        entries, overflows = _walk(reader, key_region, key_buckets)
        due, more_overflows = _walk(reader, deadline_region, deadline_buckets)
        taken += BUCKET_SIZE * (overflows + more_overflows)
        assert len(entries) == keys, f"db {db} has {len(entries)} entries and counts {keys}"
        assert len(due) == deadlines, f"db {db} has {len(due)} deadlines and counts {deadlines}"
        found: dict[bytes, tuple[bytes, int | None]] = {}
        with_deadline = set()
        for entry, (tag, number) in entries.items():
            header = reader.bytes(entry, HEADER)
            key_length, length, flags = struct.unpack("<3I", header)
            key = reader.bytes(entry + HEADER, key_length)
            hash_ = int(entry_hash(context, entry, seed))
            assert hash_ >> 48 == tag, "the tag of a slot is not its entry's"
            assert bucket_of(hash_, key_buckets) == number, "an entry is in the wrong bucket"
            at, deadline = entry + HEADER + key_length, None
            if flags & EXPIRY:
                with_deadline.add(entry)
                deadline = reader.words(at, 1)[0]
                assert due[entry] == (tag, bucket_of(hash_, deadline_buckets)), "a deadline is in the wrong bucket"
            at += 8 if flags & (EXPIRY | LARGE) else 0
            size = at - entry
            if flags & LARGE:
                at, size = reader.words(at, 1)[0], size + 8
                taken += _class_size(length)
            else:
                size += length
            taken += _class_size(size)
            assert key not in found, "a key is there twice"
            found[key] = reader.bytes(at, length), deadline
        assert with_deadline == set(due), "the index of deadlines has other entries than those that have one"
        if found:
            databases[db] = found
    while flushing:
        flushing, key_region, key_buckets, word = reader.words(flushing, 4)
        deadline_region, deadline_buckets = word >> 32, word & 0xFFFF_FFFF
        used_regions |= {key_region, deadline_region}
        taken += 32
        entries, overflows = _walk(reader, key_region, key_buckets, True)
        taken += BUCKET_SIZE * (overflows + _walk(reader, deadline_region, deadline_buckets, True)[1])
        for entry in entries:
            key_length, length, flags = struct.unpack("<3I", reader.bytes(entry, HEADER))
            size = HEADER + key_length + (8 if flags & (EXPIRY | LARGE) else 0) + (8 if flags & LARGE else length)
            taken += _class_size(size) + (_class_size(length) if flags & LARGE else 0)
    assert regions == sum(1 << region for region in used_regions), "index regions are lost, or used and not counted"
    used = int(heap_bytes(context.space))
    assert taken == used, f"entries take {taken} bytes, the heap has {used} in use"
    return databases


def check_keyspace(context: Context) -> None:
    """Prove a store sound: every key reachable by its hash, in its bucket, once; counts and bytes agree."""
    contents(context)
