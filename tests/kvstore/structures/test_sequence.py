"""Sequences: against a list, with elements of all lengths, in every form, beside forks, with shortages of frames."""

import random
from collections.abc import Callable

import pytest

from kvstore.structures.collection import root_copy, root_count, root_free, root_memory
from kvstore.structures.grave import dig
from kvstore.structures.kinds import PACKED, kind_of
from kvstore.structures.listpack import is_listpack_integer, listpack_size
from kvstore.structures.packed import packed_count, packed_item, packed_item_size
from kvstore.structures.record import TREE
from kvstore.structures.sequence import (
    NOWHERE,
    check_sequence,
    packed_where,
    sequence_count,
    sequence_find,
    sequence_listpack,
    sequence_listpack_most,
    sequence_match,
    sequence_packeds,
    sequence_run,
    where_next,
    where_previous,
)
from kvstore.structures.sequence_change import sequence_insert, sequence_push, sequence_remove, sequence_replace
from kvstore.structures.tree import check_tree
from kvstore.system.libc import bytes_at
from mmcore import AddressSpace, ForkMode
from mmcore.heap import OWNER_BASE, heap_used
from mmcore.jit import DISABLED, int64, linked
from mmcore.mmu import load64
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, memory_of, space_of_heap
from tests.mmcore.support import only, scaled, seeds

STEPS = scaled(1200, 120)
SEEDS = seeds(6)
GRAVE = OWNER_BASE
MANY = 1 << 60


@linked(int64(SPACE, int64, int64, int64))
def question(space, which, va, i):  # type: ignore[no-untyped-def]
    """A leaf of a module, by number."""
    if which == 0:
        return sequence_count(space, va)
    if which == 1:
        where, _, _ = sequence_find(space, va, i)
        return where
    if which == 2:
        _, packed, _ = sequence_find(space, va, i)
        return packed
    if which == 3:
        _, _, first = sequence_find(space, va, i)
        return first
    if which == 4:
        return sequence_listpack_most(space, va)
    if which == 5:
        return heap_used(space)
    if which == 6:
        return packed_item(space, va, i)
    if which == 7:
        return kind_of(space, va)
    if which == 8:
        return packed_where(space, va, i)
    if which == 9:
        return packed_count(space, va)
    if which == 10:
        return packed_item_size(space, va, i)
    return load64(space, va)


@linked(int64(int64, int64))
def entry_size(text, count):  # type: ignore[no-untyped-def]
    """listpack_size of bytes in the process; negative for an integer."""
    size = listpack_size(bytes_at(text, count + 1), 0, count)
    return -size if is_listpack_integer(bytes_at(text, count + 1), 0, count) else size


def ask(space: AddressSpace, which: int, va: int = 0, i: int = 0) -> int:
    return int(question(space.state, which, va, i))


def used(space: AddressSpace) -> int:
    return ask(space, 5)


def keys_of(space: AddressSpace, packed: int) -> list[bytes]:
    return [memory_of(space, ask(space, 6, packed, i), ask(space, 10, packed, i)) for i in range(ask(space, 9, packed))]


def keys(space: AddressSpace, root: int) -> list[bytes]:
    """All keys, in order and, as a check, from the end; the invariants hold."""
    check_sequence(space.state, root)
    if ask(space, 7, root) != PACKED and ask(space, 11, root + TREE) != 0:
        check_tree(space.state, root, 1)
    count = ask(space, 0, root)
    assert count == root_count(space.state, root)
    found: list[bytes] = []
    where = ask(space, 1, root, 0)
    while where != NOWHERE:
        found += keys_of(space, ask(space, 8, root, where))
        where = int(where_next(space.state, root, where))
    assert len(found) == count
    left, where, packeds = count, ask(space, 1, root, count - 1), 0
    while where != NOWHERE:
        left -= ask(space, 9, ask(space, 8, root, where))
        packeds += 1
        where = int(where_previous(space.state, root, where))
    assert left == 0 and packeds == sequence_packeds(space.state, root)
    return found


def push(space: AddressSpace, root: int, front: int, key: bytes) -> int:
    return int(sequence_push(space.state, root, front, at(key), len(key)))


def sequence_of(space: AddressSpace, contents: list[bytes]) -> int:
    root = 0
    for key in contents:
        root = push(space, root, 0, key)
    assert keys(space, root) == contents
    return root


@pytest.fixture
def space() -> AddressSpace:
    return space_of_heap(4000)


def expected_entry(key: bytes) -> int:
    """A listpack's entry, as Redis's source says it, in Python's terms; negative for an integer."""
    try:
        value = int(key) if len(key) <= 20 and key.decode("ascii", "replace") == str(int(key)) else None
    except ValueError:
        value = None
    if value is not None and -(1 << 63) <= value < 1 << 63:
        if 0 <= value < 128:
            return -2
        for bits, size in [(13, 2), (16, 3), (24, 4), (32, 5), (64, 9)]:
            if -(1 << bits - 1) <= value < 1 << bits - 1:
                return -size - 1
    size = len(key) + (1 if len(key) < 64 else 2 if len(key) < 4096 else 5)
    return size + (1 if size < 128 else 2 if size < 16383 else 3 if size < 2097151 else 4)


def test_the_sizes_in_a_listpack() -> None:
    texts = [
        b"",
        b"-",
        b"0",
        b"-0",
        b"00",
        b"01",
        b"+1",
        b" 1",
        b"1 ",
        b"-1",
        b"9" * 19,
        b"9" * 20,
        b"x1",
        b"1x",
        b"1.5",
    ]
    for bits in (7, 12, 15, 23, 31, 63, 64):
        for by in (-2, -1, 0, 1, 2):
            texts += [b"%d" % ((1 << bits) + by), b"%d" % (-(1 << bits) + by)]
    texts += [
        b"x" * count for count in (1, 2, 62, 63, 64, 65, 124, 125, 126, 127, 128, 4095, 4096, 16377, 16378, 16379)
    ]
    for text in texts:
        assert int(entry_size(at(text), len(text))) == expected_entry(text), text


class Stream:
    """Random changes of a sequence and of a list.  It grows and shrinks in turn."""

    def __init__(self, space: AddressSpace, seed: int) -> None:
        self.space, self.random = space, random.Random(seed)
        self.lengths = self.random.choice(
            [[0, 1, 2, 3], [9, 30, 127, 128], [700, 1500, 9], [4086, 4087, 2000, 9000, 5]]
        )
        self.root, self.list = 0, list[bytes]()
        self.grows = True

    def key(self) -> bytes:
        generator = self.random
        if generator.randrange(2):
            return b"%d" % generator.randrange(20)
        return bytes([generator.randrange(97, 100)]) * generator.choice(self.lengths)

    def take(self, root: int, wanted: list[bytes]) -> None:
        if root != 0:
            self.root, self.list = root, wanted

    def step(self) -> None:
        """One change.  If it is refused for want of frames, the list stays as it is."""
        generator, state, contents = self.random, self.space.state, self.list
        if generator.randrange(150) == 0:
            self.grows = not self.grows
        what, key, count = generator.randrange(10), self.key(), len(contents)
        if not contents or (what < 4 and (self.grows or what == 0)):
            front = generator.randrange(2)
            self.take(push(self.space, self.root, front, key), [key, *contents] if front else [*contents, key])
        elif what < 6 and self.grows:
            rank = generator.randint(0, count)
            root = int(sequence_insert(state, self.root, rank, at(key), len(key)))
            self.take(root, [*contents[:rank], key, *contents[rank:]])
        elif what == 6:
            rank = generator.randrange(count)
            root = int(sequence_replace(state, self.root, rank, at(key), len(key)))
            self.take(root, [*contents[:rank], key, *contents[rank + 1 :]])
        elif what < 8:
            n = generator.choice([1, 1, 1, 2, 5, count // 3])
            rank = generator.choice([0, max(count - n, 0), generator.randrange(count)])
            n = min(n, count - rank)
            if 0 < n < count:
                self.take(int(sequence_remove(state, self.root, rank, n)), contents[:rank] + contents[rank + n :])
        else:
            self.look(key)

    def look(self, key: bytes) -> None:
        """Questions."""
        generator, state, contents = self.random, self.space.state, self.list
        count = len(contents)
        rank, limit = generator.randrange(count), generator.choice([1, 3, count, MANY])
        assert ask(self.space, 3, self.root, rank) <= rank
        for step in (1, -1):
            places = list(range(rank, count if step > 0 else -1, step))[:limit]
            found = next((i for i in places if contents[i] == key), -1)
            assert sequence_match(state, self.root, rank, step, limit, at(key), len(key)) == found
        packed, first = ask(self.space, 2, self.root, rank), ask(self.space, 3, self.root, rank)
        n = min(limit, first + ask(self.space, 9, packed) - rank)
        run = next((i for i in range(n) if contents[rank + i] != key), n)
        assert sequence_run(state, self.root, rank, limit, at(key), len(key)) == run
        size = 7 + sum(abs(expected_entry(one)) for one in contents)
        assert sequence_listpack(state, self.root) == size <= ask(self.space, 4, self.root)

    def check(self) -> None:
        if self.list:
            assert keys(self.space, self.root) == self.list

    def free(self) -> None:
        if self.list:
            root_free(self.space.state, GRAVE, self.root)
            while dig(self.space.state, GRAVE, 7, 0) > 0:
                pass


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_agrees_with_a_list(space: AddressSpace, seed: int) -> None:
    before = used(space)
    stream = Stream(space, seed)
    for number in range(STEPS):
        stream.step()
        if number % 20 == 0:
            stream.check()
    stream.check()
    stream.free()
    assert used(space) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_beside_living_forks(space: AddressSpace, seed: int) -> None:
    stream = Stream(space, seed)
    for _ in range(STEPS // 30):
        root, contents = stream.root, list(stream.list)
        child = space.fork(random.Random(seed).choice(list(ForkMode)))
        for _ in range(10):
            stream.step()
        stream.check()
        if contents:
            assert keys(child, root) == contents
        child.exit()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_with_too_few_frames(space: AddressSpace, seed: int) -> None:
    stream, generator, refused, done = Stream(space, seed), random.Random(seed), 0, 0
    for _ in range(STEPS // 10):
        child = space.fork(ForkMode.CONSTANT)
        with only(space.memory, min(generator.choice([300, 450, 600, 900, 1500]), space.memory.frames_free)):
            for _ in range(5):
                before = stream.root, stream.list
                stream.step()
                refused += before == (stream.root, stream.list)
                done += before != (stream.root, stream.list)
        stream.check()
        child.exit()
    assert refused > 0 and done > 0


def test_a_refused_change_changes_nothing_and_each_is_made_at_last(space: AddressSpace) -> None:
    contents = [b"%05d" % i * 3 for i in range(40 if DISABLED else 1500)]
    middle, long = len(contents) // 2, b"x" * 9000
    state = space.state
    changes: list[tuple[Callable[[int], int], list[bytes]]] = [
        (lambda root: push(space, root, 1, b"x"), [b"x", *contents]),
        (lambda root: push(space, root, 0, long), [*contents, long]),
        (
            lambda root: int(sequence_insert(state, root, middle, at(long), len(long))),
            [*contents[:middle], long, *contents[middle:]],
        ),
        (
            lambda root: int(sequence_replace(state, root, middle, at(long), len(long))),
            [*contents[:middle], long, *contents[middle + 1 :]],
        ),
        (lambda root: int(sequence_remove(state, root, middle, 1)), contents[:middle] + contents[middle + 1 :]),
        (lambda root: int(sequence_remove(state, root, 1, middle)), contents[:1] + contents[middle + 1 :]),
    ]
    for change, wanted in changes:
        root = sequence_of(space, contents)
        child, moved = space.fork(ForkMode.CONSTANT), 0
        for free in range(0, 2000, scaled(46, 200)):
            size = used(space)
            with only(space.memory, free):
                moved = change(root)
            if moved != 0:
                break
            assert keys(space, root) == contents and used(space) == size
        assert keys(space, moved) == wanted
        assert keys(child, root) == contents
        child.exit()
        root_free(state, GRAVE, moved)
        while dig(state, GRAVE, 100, 0) > 0:
            pass


def test_the_form_follows_the_number_of_elements(space: AddressSpace) -> None:
    root, count = 0, 0
    while root == 0 or ask(space, 7, root) == PACKED:
        root = push(space, root, 0, b"12345678")
        count += 1
    assert count == 409  # of ten bytes each, behind a header of eight
    for _ in range(count - 1):
        root = int(sequence_remove(space.state, root, 0, 1))
    assert ask(space, 7, root) == PACKED and keys(space, root) == [b"12345678"]
    assert root_memory(space.state, root, 0) <= 32


def test_a_long_element_makes_a_record_and_its_removal_a_packed(space: AddressSpace) -> None:
    long = b"y" * 5000
    root = sequence_of(space, [long])
    assert ask(space, 7, root) != PACKED
    for key in (b"a", b"b"):
        root = push(space, root, 1, key)
    assert keys(space, root) == [b"b", b"a", long]
    root = int(sequence_remove(space.state, root, 2, 1))
    assert ask(space, 7, root) == PACKED and keys(space, root) == [b"b", b"a"]


def test_a_queue_takes_no_more_memory_however_long_it_runs(space: AddressSpace) -> None:
    element = b"0123456789abcdef"
    root = sequence_of(space, [element] * scaled(2000, 300))
    before = used(space)
    for _ in range(scaled(20_000, 300)):
        root = push(space, root, 0, element)
        root = int(sequence_remove(space.state, root, 0, 1))
    assert used(space) <= before + 3 * 4096
    assert ask(space, 0, root) == scaled(2000, 300)


def test_a_copy_is_another_sequence(space: AddressSpace) -> None:
    for contents in ([b"a"], [b"%d" % i * 9 for i in range(scaled(900, 60))], [b"z" * 6000, b"1"]):
        root = sequence_of(space, contents)
        copy = int(root_copy(space.state, GRAVE, root, 7))
        root = push(space, root, 0, b"more")
        assert keys(space, copy) == contents
        assert sequence_listpack(space.state, copy) == 7 + sum(abs(expected_entry(one)) for one in contents)
        assert keys(space, root) == [*contents, b"more"]
