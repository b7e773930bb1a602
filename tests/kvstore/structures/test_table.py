"""The hash table of elements beside a dictionary: seeded streams, shrinking, scans, draws, forks and missing frames."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from kvstore.structures.buckets import ADDRESS, BUCKET_SIZE, LINK, SLOTS
from kvstore.structures.element import (
    element_alloc,
    element_free,
    element_hash,
)
from kvstore.structures.grave import bury, dig
from kvstore.structures.linear import bucket_number, scan_bucket, scan_next
from kvstore.structures.record import BASE, BUCKETS, COUNT, OWNS_ELEMENTS, record_new
from kvstore.structures.table import (
    LOAD_MAX,
    LOAD_MIN,
    TABLE_FRAMES,
    table_add,
    table_at,
    table_find,
    table_random,
    table_remove,
    table_room,
)
from mmcore.check import check_heap, check_memory
from mmcore.errors import NO_FRAME
from mmcore.fork import CONSTANT, fork
from mmcore.heap import OWNER_BASE
from mmcore.jit import DISABLED, int64, linked
from mmcore.space import release
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, heap_bytes, memory_of, space_of_heap, words_of
from tests.mmcore.support import contents, only, scaled, seeds

SEED = 0x5EED
GRAVE = OWNER_BASE


@linked(int64(SPACE, int64))
def at_slot(space, slot):  # type: ignore[no-untyped-def]
    """table_at, for Python."""
    return table_at(space, slot)


@linked(int64(SPACE, int64, int64))
def buried(space, head, record):  # type: ignore[no-untyped-def]
    """bury, for Python."""
    bury(space, head, record)
    return 0


@linked(int64(int64, int64))
def number_of(hash_, buckets):  # type: ignore[no-untyped-def]
    """bucket_number, for Python."""
    return bucket_number(hash_, buckets)


@linked(int64(int64))
def room_of(buckets):  # type: ignore[no-untyped-def]
    """table_room, for Python."""
    return table_room(buckets)


@linked(int64(int64, int64))
def cursor_after(cursor, buckets):  # type: ignore[no-untyped-def]
    """scan_next, for Python."""
    return scan_next(cursor, buckets)


@linked(int64(int64, int64))
def bucket_at(cursor, buckets):  # type: ignore[no-untyped-def]
    """scan_bucket, for Python."""
    return scan_bucket(cursor, buckets)


class Hash:
    """A table in a space, with a dictionary of what must be in it."""

    def __init__(self, frames: int = 3000) -> None:
        self.space = space_of_heap(frames)
        self.record = int(record_new(self.space.state, OWNS_ELEMENTS))
        self.twin: dict[bytes, bytes] = {}

    def slot(self, key: bytes) -> int:
        return int(table_find(self.space.state, self.record, self.hash(key), at(key), len(key)))

    def hash(self, key: bytes) -> int:
        probe = int(element_alloc(self.space.state, at(key), len(key), 0, 0))
        hash_ = int(element_hash(self.space.state, probe, SEED))
        assert element_free(self.space.state, probe) == 0
        return hash_

    def add(self, key: bytes, value: bytes) -> int:
        element = int(element_alloc(self.space.state, at(key), len(key), at(value), len(value)))
        if element == 0:
            return NO_FRAME
        hash_ = int(element_hash(self.space.state, element, SEED))
        code = int(table_add(self.space.state, self.record, SEED, hash_, element))
        if code == 0:
            self.twin[key] = value
        else:
            assert element_free(self.space.state, element) == 0
        return code

    def remove(self, key: bytes) -> int:
        slot = self.slot(key)
        element = int(at_slot(self.space.state, slot))
        code = int(table_remove(self.space.state, self.record, self.hash(key), slot))
        if code == 0:
            assert element_free(self.space.state, element) == 0
            del self.twin[key]
        return code

    def field(self, offset: int) -> int:
        return words_of(self.space, self.record + offset, 1)[0]

    def chain(self, number: int) -> Iterator[list[int]]:
        va = self.field(BASE) + BUCKET_SIZE * number
        while va:
            words = words_of(self.space, va, SLOTS)
            yield words
            va = words[-1] & ADDRESS if words[-1] & LINK else 0

    def element(self, va: int) -> tuple[bytes, bytes]:
        k, p = memory_of(self.space, va, 2)  # the tests' keys and values are short
        data = memory_of(self.space, va + 2, k + p)
        return data[:k], data[k:]

    def check(self) -> None:
        """Invariants 1 to 4, and the contents."""
        found, buckets = {}, self.field(BUCKETS)
        for number in range(buckets):
            for depth, words in enumerate(self.chain(number)):
                assert not any(word & LINK for word in words[:-1]), "3: a link is not in the last slot"
                assert depth == 0 or sum(word != 0 for word in words) >= 2, "4: an overflow bucket with one word"
                for word in words:
                    if word and not word & LINK:
                        va = word & ADDRESS
                        key, value = self.element(va)
                        hash_ = int(element_hash(self.space.state, va, SEED))
                        assert word >> 48 == hash_ >> 48, "1: a slot has the tag of another hash"
                        assert number_of(hash_, buckets) == number, "1: an element is in another bucket"
                        assert key not in found, "1: an element is there twice"
                        found[key] = value
        assert found == self.twin
        assert self.field(COUNT) == len(self.twin), "2: the record counts other elements"


@pytest.mark.parametrize("seed", seeds(4))
def test_a_stream_of_additions_and_removals_agrees_with_a_dictionary(seed: int) -> None:
    generator, table = random.Random(seed), Hash()
    keys = [b"field:%d" % i for i in range(scaled(900, 60))]
    for step in range(scaled(4000, 250)):
        key = generator.choice(keys)
        growing = step % scaled(1000, 60) < scaled(600, 40)
        if table.slot(key):
            assert key in table.twin, f"seed {seed}, step {step}"
            if not growing or generator.random() < 0.2:
                assert table.remove(key) == 0
        else:
            assert key not in table.twin, f"seed {seed}, step {step}"
            if growing or generator.random() < 0.2:
                assert table.add(key, b"v%d" % step) == 0
        if step % scaled(400, 50) == 0:
            table.check()
            assert table.field(COUNT) <= LOAD_MAX * table.field(BUCKETS)
            assert table.field(BUCKETS) <= max(1, table.field(COUNT) // LOAD_MIN + 1)
    table.check()
    for key in list(table.twin):
        assert table.remove(key) == 0
    table.check()
    assert table.field(BUCKETS) == 1
    check_heap(table.space)
    check_memory(table.space.memory, [table.space])


def test_the_grave_frees_all_of_it_in_steps() -> None:
    table = Hash()
    empty = heap_bytes(table.space)
    for i in range(scaled(1000, 80)):
        assert table.add(b"field:%d" % i, b"value") == 0
    assert buried(table.space.state, GRAVE, table.record) == 0
    steps = 0
    while dig(table.space.state, GRAVE, 50, 0) > 0:
        steps += 1
    assert steps >= scaled(1000, 80) // 60
    assert words_of(table.space, GRAVE, 1) == [0]
    assert heap_bytes(table.space) == empty - 72
    check_heap(table.space)


@pytest.mark.parametrize("size", [1, 7, scaled(400, 40)])
def test_draws_are_uniform(size: int) -> None:
    table, generator = Hash(), random.Random(size)
    for i in range(size):
        assert table.add(b"%d" % i, b"") == 0
    drawn: Counter[int] = Counter()
    draws = scaled(100, 10) * size
    while sum(drawn.values()) < draws:
        element = int(table_random(table.space.state, table.record, generator.getrandbits(62)))
        if element:
            drawn[element] += 1
    assert len(drawn) == size
    expected = draws / size
    chi = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi < size + 5 * (2 * size) ** 0.5, f"{chi} with {size - 1} degrees of freedom"


@pytest.mark.parametrize("seed", seeds(3))
def test_a_scan_meets_all_that_stays_while_the_table_grows_and_shrinks(seed: int) -> None:
    table, generator = Hash(), random.Random(seed)
    staying = {b"stay:%d" % i for i in range(scaled(200, 30))}
    for key in staying:
        assert table.add(key, b"") == 0
    met, cursor, added = set(), 0, 0
    while True:
        buckets = table.field(BUCKETS)
        for words in table.chain(int(bucket_at(cursor, buckets))):
            met |= {table.element(word & ADDRESS)[0] for word in words if word and not word & LINK}
        cursor = int(cursor_after(cursor, buckets))
        if cursor == 0:
            break
        if generator.random() < 0.5:
            for _ in range(generator.randrange(40)):
                assert table.add(b"more:%d" % added, b"") == 0
                added += 1
        else:
            more = [key for key in table.twin if key not in staying]
            for key in generator.sample(more, min(len(more), 60)):
                assert table.remove(key) == 0
    assert staying <= met, f"seed {seed}"


def test_a_fork_keeps_what_was_there() -> None:
    table = Hash()
    for i in range(scaled(300, 40)):
        assert table.add(b"field:%d" % i, b"old") == 0
    before = contents(table.space.memory, table.space.root)
    root = int(fork(table.space.state, CONSTANT))
    for i in range(scaled(300, 40)):
        assert table.remove(b"field:%d" % i) == 0
        assert table.add(b"other:%d" % i, b"new") == 0
    assert contents(table.space.memory, root) == before
    table.check()
    release(table.space.memory, root)
    check_memory(table.space.memory, [table.space])


def test_without_frames_nothing_changes() -> None:
    table = Hash(1200)
    for i in range(scaled(200, 40)):
        assert table.add(b"field:%d" % i, b"") == 0
    kept = dict(table.twin)
    hash_, slot = table.hash(b"field:1"), table.slot(b"field:1")
    with only(table.space.memory, TABLE_FRAMES - 1):
        assert table.add(b"one more", b"") == NO_FRAME
        assert table_remove(table.space.state, table.record, hash_, slot) == NO_FRAME
        assert table.twin == kept
    table.check()
    assert table.add(b"one more", b"") == 0
    table.check()


def test_enough_frames_are_enough_at_every_size_beside_a_fork() -> None:
    table, roots = Hash(scaled(4000, 1500)), []
    for i in range(scaled(700, 30)):
        if i % scaled(10, 5) == 0:
            roots.append(int(fork(table.space.state, CONSTANT)))
        with only(table.space.memory, TABLE_FRAMES + 40):
            assert table.add(b"field:%d" % i, b"") == 0
        if len(roots) > 3:
            release(table.space.memory, roots.pop(0))
    table.check()


@pytest.mark.skipif(DISABLED, reason="many buckets take long without the compiler")
def test_growth_beyond_a_range_copies_no_page() -> None:
    table = Hash(6000)
    for i in range(6000):
        assert table.add(b"f%d" % i, b"") == 0
    assert table.field(BUCKETS) > 1000
    assert room_of(table.field(BUCKETS)) % 4096 == 0
    table.check()


@pytest.mark.parametrize("tag", [0, 1, 0x7FFF, -1, -0x8000])
def test_elements_of_equal_tags_are_told_apart_by_their_keys(tag: int) -> None:
    """They fill a bucket and a part of the next.  Tag 0 is that of empty slots and links, too."""
    one, hash_ = Hash(), tag << 48
    state = one.space.state
    for i in range(200):
        assert one.add(b"key:%d" % i, b"") == 0
    for i in range(40):
        one.remove(b"key:%d" % i)
    keys = [b"same:%02d" % i for i in range(12)]
    for key in keys:
        element = int(element_alloc(state, at(key), len(key), 0, 0))
        assert table_add(state, one.record, SEED, hash_, element) == 0
    slots = [int(table_find(state, one.record, hash_, at(key), len(key))) for key in keys]
    assert [
        memory_of(one.space, int(at_slot(state, slot)) + 2, len(key)) for slot, key in zip(slots, keys, strict=True)
    ] == keys
    assert table_find(state, one.record, hash_, at(b"same:12"), 7) == 0
