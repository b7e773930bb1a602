"""check_keyspace: walks the whole store and proves that indices, entries, counts and the heap's bytes agree."""

import struct
from typing import Any

import numpy as np

from kvstore.lifetimes.context import Context
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store import layout
from kvstore.store.check_reader import PAGE, Reader, class_size, read_element, tree_bytes, tree_items
from kvstore.store.check_streams import owned_bytes, read_stream
from kvstore.store.description import LAYOUT_WORD
from kvstore.store.entries import (
    EXPIRY,
    HASH,
    HEADER,
    LARGE,
    LIST,
    LONG_HEADER,
    LONG_KEY,
    ROOT_SIZE,
    SET,
    TYPE_MASK,
    TYPE_SHIFT,
    entry_hash,
)
from kvstore.store.entries import STREAM as STREAM_TYPE
from kvstore.structures.buckets import ADDRESS, BUCKET_SIZE, LINK
from kvstore.structures.chain import check_chain
from kvstore.structures.element import element_hash
from kvstore.structures.ints import check_ints, ints_at, ints_capacity, ints_count
from kvstore.structures.kinds import CHAIN, INTS, PACKED, RECORD, STREAM
from kvstore.structures.linear import bucket_number
from kvstore.structures.record import LINK as RECORD_LINK
from kvstore.structures.record import OWNS_BELOW, OWNS_ITEMS, OWNS_PACKEDS
from kvstore.structures.table import table_room
from kvstore.structures.tree import check_tree
from mmcore.heap import heap_used
from mmcore.jit import int64, linked
from mmcore.mapping import next_mapped
from mmcore.mmu import load64
from mmcore.state import SPACE


@linked(int64(int64, int64))
def bucket_of(hash_, buckets):  # type: ignore[no-untyped-def]
    """bucket_number, for Python."""
    return bucket_number(hash_, buckets)


@linked(int64(SPACE, int64, int64, int64, int64[::1]))
def table_elements(space, base, buckets, seed, found):  # type: ignore[no-untyped-def]
    """Write the addresses of a hash table's elements to `found`; all at once, because a table may have thousands.

    Returns (overflow buckets << 32) + elements, or -1 if an element is not where its hash belongs, or there is no end.
    """
    count = overflows = 0
    for number in range(buckets):
        va = base + BUCKET_SIZE * number
        while va != 0:
            following = 0
            for at in range(va, va + BUCKET_SIZE, 8):
                word = load64(space, at)
                if word & LINK != 0:
                    following = word & ADDRESS
                elif word != 0:
                    hash_ = element_hash(space, word & ADDRESS, seed)
                    if hash_ >> 48 != word >> 48 or bucket_number(hash_, buckets) != number or count == found.size:
                        return -1
                    found[count] = word & ADDRESS
                    count += 1
            if following != 0:
                overflows += 1
                if overflows > found.size:
                    return -1
            va = following
    return (overflows << 32) + count


@linked(int64(SPACE))
def heap_bytes(space):  # type: ignore[no-untyped-def]
    """heap_used, for Python."""
    return heap_used(space)


def _walk(reader: Reader, region: int, buckets: int, detached: bool = False) -> tuple[dict[int, tuple[int, int]], int]:
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


def _header(reader: Reader, entry: int) -> tuple[int, int, int, int]:
    """Where an entry's key begins, the key's length, the value's, and the flags."""
    form, length = struct.unpack("<2I", reader.bytes(entry, HEADER))
    if form & LONG_KEY < LONG_KEY:
        return HEADER, form & LONG_KEY, length, form & ~LONG_KEY
    return LONG_HEADER, reader.words(entry + HEADER, 1)[0], length, form & ~LONG_KEY


def _items(reader: Reader, va: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """The elements of a packed, which are keys alone, and the bytes that it takes."""
    header, count, start = struct.unpack("<2HI", reader.bytes(va, 8))
    assert header & 7 == PACKED and count > 0, "a packed without elements"
    capacity, found = header & ~7, []
    if capacity == 0:  # a long packed
        size = start
        assert count == 1 and size > 4086, "a long packed of a short item"
        return [(reader.bytes(va + 8, size), b"")], class_size(8 + size)
    for i in range(count):
        (end,) = struct.unpack("<H", reader.bytes(va + capacity - 2 * (i + 1), 2))
        found.append((reader.bytes(va + start, end - start), b""))
        start = end
    return found, class_size(capacity)


def _blocks(reader: Reader, va: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """The elements of a chain, and the bytes that it takes."""
    check_chain(reader.context.space, va)
    found, taken = list[tuple[bytes, bytes]](), 0
    while va:
        word, count, flags, k, p, used = struct.unpack("<HBBBBH", reader.bytes(va, 8))
        capacity, at, linked, mixed = word & ~7, va + 8, flags & 1, flags & 2
        for i in range(count):
            if mixed:
                k, p = reader.bytes(va + capacity - 8 * linked - 2 * (i + 1), 2)
            found.append((reader.bytes(at, k), reader.bytes(at + k, p)))
            at += k + p
        assert at == va + 8 + used, "the bytes of a block"
        taken += class_size(capacity)
        va = reader.words(va + capacity - 8, 1)[0] if linked else 0
    assert len({key for key, _ in found}) == len(found), "a key is twice in a chain"
    return found, taken


class _Collection:
    """A value with a root: its elements, and the bytes of the heap that it takes."""

    def __init__(self, reader: Reader, root: int, seed: int, buried: bool = False) -> None:
        self.reader, self.taken = reader, 0
        self.elements: list[tuple[bytes, bytes]] = []
        self.deadlines: dict[bytes, int] = {}
        kind = reader.bytes(root, 1)[0] & 7
        if kind == PACKED:
            self.elements, self.taken = _items(reader, root)
        elif kind == CHAIN:
            self.elements, self.taken = _blocks(reader, root)
        elif kind == INTS:
            check_ints(reader.context.space, root)
            capacity, values = _integers(reader, root)
            self.elements, self.taken = [(b"%d" % value, b"") for value in values], class_size(capacity)
        elif kind == STREAM:
            self.elements, self.taken = read_stream(reader, root)
        else:
            assert kind == RECORD, f"a root of kind {kind}"
            self._record(root, seed, buried)

    def _record(self, root: int, seed: int, buried: bool) -> None:
        flags, count, buckets, base, tree, _, head, tail, _ = self.reader.words(root, 9)
        self.taken += class_size(72)
        by_address: dict[int, tuple[bytes, bytes]] = {}
        if buckets:
            self.taken += class_size(table_room_of(buckets))
        found = np.zeros(max(count, 0) + 8 * buckets, np.int64)
        outcome = table_elements(self.reader.context.space, base, buckets, seed, found)
        assert outcome >= 0, "a bucket is wrong"
        self.taken += BUCKET_SIZE * (outcome >> 32)
        for address in found[: outcome & 0xFFFF_FFFF].tolist():
            key, payload, size = read_element(self.reader, address)
            by_address[address] = key, payload
            self.taken += class_size(size)
        if flags & (OWNS_ITEMS | OWNS_BELOW) or (tree and not buckets and not flags & OWNS_PACKEDS):
            self.taken += owned_bytes(self.reader, root) - class_size(72)
            return
        self.elements = list(by_address.values())
        assert len({key for key, _ in self.elements}) == outcome & 0xFFFF_FFFF, "an element is there twice"
        if head and not flags & OWNS_PACKEDS:
            self._dated(head, seed, buried)
            head = 0
        self._ordered(root, tree, head, tail, by_address, bool(flags & OWNS_PACKEDS), buried)
        assert buried or len(self.elements) == count, f"{len(self.elements)} elements, and {count} are counted"

    def _dated(self, agenda: int, seed: int, buried: bool) -> None:
        """The agenda of a hash: the fields that have a deadline get it beside their value."""
        found = _Collection(self.reader, agenda, seed, buried)
        self.taken += found.taken
        if buried:
            return
        assert found.elements, "an agenda without texts"
        times = [time for _, time in _times(found)]
        assert times == sorted(times), "an agenda is not in the order of its times"
        pairs = dict(self.elements)
        assert all(name in pairs for name, _ in found.elements), "an agenda has a field that its hash has not"
        self.deadlines = dict(_times(found))

    def _ordered(
        self,
        root: int,
        tree: int,
        head: int,
        tail: int,
        by_address: dict[int, tuple[bytes, bytes]],
        packeds: bool,
        buried: bool,
    ) -> None:
        items: list[tuple[int, int]] = []
        if tree:
            self.taken += tree_bytes(self.reader, tree)
            items = (
                tree_items(self.reader, tree) if buried else check_tree(self.reader.context.space, root, int(packeds))
            )
        if not packeds:
            if tree and not buried:
                assert sorted(address for _, address in items) == sorted(by_address), "the tree has others"
                self.elements = [by_address[address] for _, address in items]
            return
        for packed, weight in [(head, 0), *((address, word) for word, address in items), (tail, 0)]:
            if packed:
                found, taken = _items(self.reader, packed)
                assert buried or weight in (0, len(found)), "a weight is not the number of items"
                self.elements += found
                self.taken += taken


def _times(agenda: _Collection) -> list[tuple[bytes, int]]:
    """The texts of an agenda with their times."""
    return [(text, int.from_bytes(time, "little")) for text, time in agenda.elements]


def _check_dated(names: dict[bytes, int], hashes: dict[bytes, dict[bytes, int]], left: int) -> None:
    """The agenda of a database has all its dated hashes, by a time that is no later than the least of theirs.

    Beside them it has the names that were left, and no others.
    """
    assert len(names) == len(hashes) + left, f"{len(names)} names of {len(hashes)} dated hashes, and {left} are left"
    for key, deadlines in hashes.items():
        assert key in names, "a hash with deadlines is not in the agenda of its database"
        assert names[key] <= min(deadlines.values()), "a hash is in the agenda of its database by too late a time"


def _integers(reader: Reader, va: int) -> tuple[int, list[int]]:
    """(capacity, values) of a set of integers."""
    space = reader.context.space
    return int(ints_capacity_of(space, va)), [int(ints_value(space, va, i)) for i in range(ints_total(space, va))]


@linked(int64(SPACE, int64))
def ints_capacity_of(space, va):  # type: ignore[no-untyped-def]
    """ints_capacity, for Python."""
    return ints_capacity(space, va)


@linked(int64(SPACE, int64))
def ints_total(space, va):  # type: ignore[no-untyped-def]
    """ints_count, for Python."""
    return ints_count(space, va)


@linked(int64(SPACE, int64, int64))
def ints_value(space, va, i):  # type: ignore[no-untyped-def]
    """ints_at, for Python."""
    return ints_at(space, va, i)


@linked(int64(int64))
def table_room_of(buckets):  # type: ignore[no-untyped-def]
    """table_room, for Python."""
    return table_room(buckets)


def _value_of(type_: int, found: _Collection) -> Any:
    """The elements as Python has them: a list, a set, a dictionary, or pairs of a member and its packed score.

    In a dictionary, a field that has a deadline has a pair: its value, and the deadline.
    """
    if type_ == LIST:
        return [key for key, _ in found.elements]
    if type_ == SET:
        return {key for key, _ in found.elements}
    if type_ != HASH:
        return found.elements
    deadlines = found.deadlines
    return {key: (value, deadlines[key]) if key in deadlines else value for key, value in found.elements}


def contents(context: Context) -> dict[int, dict[bytes, tuple[Any, int | None]]]:
    """Value and deadline [Unix ms] of each key, due or not, by database; proves the store sound."""
    reader = Reader(context)
    seed = int(context.store[HASH_SEED])
    magic, kept_seed, digest, regions, flushing, buried = reader.words(layout.CONTROL_BASE, 6)
    assert magic == layout.CONTROL_MAGIC and kept_seed == seed and digest == LAYOUT_WORD
    taken = 0
    used_regions: set[int] = set()
    databases: dict[int, dict[bytes, tuple[Any, int | None]]] = {}
    for db in range(layout.DATABASES):
        keys, deadlines, key_buckets, deadline_buckets, key_region, deadline_region, dated, left = reader.words(
            layout.DESCRIPTORS + db * layout.DESCRIPTOR_SIZE, 8
        )
        names, hashes = _Collection(reader, dated, seed) if dated else None, dict[bytes, dict[bytes, int]]()
        taken += names.taken if names else 0
        assert not used_regions & {key_region, deadline_region} and key_region != deadline_region
        used_regions |= {key_region, deadline_region}
        entries, overflows = _walk(reader, key_region, key_buckets)
        due, more_overflows = _walk(reader, deadline_region, deadline_buckets)
        taken += BUCKET_SIZE * (overflows + more_overflows)
        assert len(entries) == keys, f"db {db} has {len(entries)} entries and counts {keys}"
        assert len(due) == deadlines, f"db {db} has {len(due)} deadlines and counts {deadlines}"
        found: dict[bytes, tuple[Any, int | None]] = {}
        with_deadline = set()
        for entry, (tag, number) in entries.items():
            begin, key_length, length, flags = _header(reader, entry)
            key = reader.bytes(entry + begin, key_length)
            hash_ = int(entry_hash(context, entry, seed))
            assert hash_ >> 48 == tag, "the tag of a slot is not its entry's"
            assert bucket_of(hash_, key_buckets) == number, "an entry is in the wrong bucket"
            at, deadline = entry + begin + key_length, None
            if flags & EXPIRY:
                with_deadline.add(entry)
                deadline = reader.words(at, 1)[0]
                assert due[entry] == (tag, bucket_of(hash_, deadline_buckets)), "a deadline is in the wrong bucket"
            at += 8 if flags & (EXPIRY | LARGE) else 0
            size = at - entry
            if flags & LARGE:
                at, size = reader.words(at, 1)[0], size + 8
                taken += class_size(length)
            else:
                size += length
            taken += class_size(size)
            assert key not in found, "a key is there twice"
            value: Any = reader.bytes(at, length)
            if flags & TYPE_MASK:
                collection = _Collection(reader, struct.unpack("<q", value)[0], seed)
                assert collection.elements or flags >> TYPE_SHIFT & 7 == STREAM_TYPE, "a value without elements"
                taken += collection.taken
                value = _value_of(flags >> TYPE_SHIFT & 7, collection)
                if collection.deadlines:
                    hashes[key] = collection.deadlines
            found[key] = value, deadline
        _check_dated(dict(_times(names)) if names else {}, hashes, left)
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
            begin, key_length, length, flags = _header(reader, entry)
            size = begin + key_length + (8 if flags & (EXPIRY | LARGE) else 0) + (8 if flags & LARGE else length)
            taken += class_size(size) + (class_size(length) if flags & LARGE else 0)
            if flags & TYPE_MASK:
                root = reader.words(entry + size - ROOT_SIZE, 1)[0]
                taken += _Collection(reader, root, seed).taken
    while buried:
        taken += _Collection(reader, buried, seed, True).taken
        buried = reader.words(buried + RECORD_LINK, 1)[0]
    assert regions == sum(1 << region for region in used_regions), "index regions are lost, or used and not counted"
    used = int(heap_bytes(context.space))
    assert taken == used, f"entries take {taken} bytes, the heap has {used} in use"
    return databases


def check_keyspace(context: Context) -> None:
    """Prove a store sound: every key reachable by its hash, in its bucket, once; counts and bytes agree."""
    contents(context)
