"""Packeds: items by place against a list, in any order, beside forks, with every shortage of frames."""

import random
from collections.abc import Callable

import pytest

from kvstore.structures.packed import (
    CAPACITY_MIN,
    PACKED_FRAMES,
    PACKED_HEADER,
    PACKED_MAX,
    check_packed,
    packed_append_packed,
    packed_capacity,
    packed_copy,
    packed_count,
    packed_fits,
    packed_free,
    packed_insert,
    packed_item,
    packed_item_size,
    packed_needed,
    packed_new,
    packed_remove,
    packed_resize,
    packed_split,
    packed_used,
)
from kvstore.system.libc import bytes_at
from mmcore import AddressSpace, ForkMode
from mmcore.heap import heap_size, heap_used
from mmcore.jit import int64, linked
from mmcore.mmu import copy_in
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, memory_of, space_of_heap
from tests.mmcore.support import only, scaled, seeds

STEPS = scaled(4000, 250)
SEEDS = seeds(6)


@linked(int64(SPACE, int64, int64, int64))
def question(space, which, va, i):  # type: ignore[no-untyped-def]
    """A leaf of the module, by number."""
    if which == 0:
        return packed_count(space, va)
    if which == 1:
        return packed_item(space, va, i)
    if which == 2:
        return packed_item_size(space, va, i)
    if which == 3:
        return packed_used(space, va)
    if which == 4:
        return packed_capacity(space, va)
    if which == 5:
        return heap_used(space)
    if which == 6:
        return heap_size(i)
    return int64(packed_fits(space, va, i))


@linked(int64(SPACE, int64, int64, int64, int64))
def put(space, va, i, item, size):  # type: ignore[no-untyped-def]
    """Write item `i` from an address of the process."""
    copy_in(space, packed_item(space, va, i), bytes_at(item, size), 0, size)
    return va


def ask(space: AddressSpace, which: int, va: int = 0, i: int = 0) -> int:
    return int(question(space.state, which, va, i))


def count(space: AddressSpace, va: int) -> int:
    return ask(space, 0, va)


def capacity(space: AddressSpace, va: int) -> int:
    return ask(space, 4, va)


def used(space: AddressSpace) -> int:
    return ask(space, 5)


def items(space: AddressSpace, va: int) -> list[bytes]:
    """All items, each by its place and size; the invariants hold."""
    check_packed(space.state, va)
    found = [memory_of(space, ask(space, 1, va, i), ask(space, 2, va, i)) for i in range(count(space, va))]
    assert ask(space, 3, va) == sum(map(len, found))
    assert ask(space, 1, va, len(found)) == ask(space, 1, va, 0) + sum(map(len, found))
    return found


def insert(space: AddressSpace, va: int, i: int, item: bytes) -> int:
    moved = int(packed_insert(space.state, va, i, len(item)))
    if moved != 0:
        put(space.state, moved, i, at(item), len(item))
    return moved


def resize(space: AddressSpace, va: int, i: int, item: bytes) -> int:
    moved = int(packed_resize(space.state, va, i, len(item)))
    if moved != 0:
        put(space.state, moved, i, at(item), len(item))
    return moved


def packed_of(space: AddressSpace, contents: list[bytes]) -> int:
    va = int(packed_new(space.state, len(contents[0]) if contents else 1))
    for i, item in enumerate(contents):
        va = insert(space, va, i, item)
    assert items(space, va) == contents
    return va


def fits(contents: list[bytes]) -> bool:
    return packed_needed(sum(map(len, contents)), len(contents)) <= PACKED_MAX


@pytest.fixture
def space() -> AddressSpace:
    return space_of_heap(600)


class Stream:
    """Random changes of one packed and of a list.  Sizes of items vary from stream to stream."""

    def __init__(self, space: AddressSpace, seed: int) -> None:
        self.space, self.random = space, random.Random(seed)
        self.largest = self.random.choice([1, 3, 9, 40, 300, 3000])
        self.va, self.list = packed_of(space, []), list[bytes]()
        self.others: list[tuple[int, list[bytes]]] = []

    def item(self) -> bytes:
        return self.random.randbytes(self.random.randint(0, self.largest))

    def step(self) -> None:
        """One change.  If it is refused for want of frames, the list stays as it is."""
        generator, space, state = self.random, self.space, self.space.state
        what, contents = generator.randrange(12), self.list
        i = generator.choice([0, len(contents), generator.randint(0, len(contents))])
        if what < 6:
            item = self.item()
            wanted = [*contents[:i], item, *contents[i:]]
            assert bool(ask(space, 7, self.va, len(item))) == fits(wanted)
            self.take(wanted, lambda: insert(space, self.va, i, item))
        elif what < 8 and i < len(contents):
            item = self.item()
            wanted = [*contents[:i], item, *contents[i + 1 :]]
            self.take(wanted, lambda: resize(space, self.va, i, item))
        elif what < 10:
            n = generator.randint(0, min(3, len(contents) - i)) if generator.randrange(9) else len(contents) - i
            wanted = contents[:i] + contents[i + n :]
            self.take(wanted, lambda: int(packed_remove(state, self.va, i, n)))
        elif what == 10:
            other = int(packed_split(state, self.va, i))
            if other != 0:
                self.list = contents[:i]
                self.others.append((other, contents[i:]))
        elif self.others:
            other, more = self.others[-1]
            if fits(contents + more):
                if self.take(contents + more, lambda: int(packed_append_packed(state, self.va, other))):
                    self.others.pop()

    def take(self, wanted: list[bytes], change: Callable[[], int]) -> bool:
        """Make a change that leads to this list, if the list fits."""
        if not fits(wanted):
            return False
        moved = change()
        if moved != 0:
            self.va, self.list = moved, wanted
        return moved != 0

    def check(self) -> None:
        assert items(self.space, self.va) == self.list
        if self.others:
            other, contents = self.others[-1]
            assert items(self.space, other) == contents

    def free(self) -> None:
        for va in [self.va, *(va for va, _ in self.others)]:
            assert packed_free(self.space.state, va) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_agrees_with_a_list(space: AddressSpace, seed: int) -> None:
    before = used(space)
    for part in range(6):
        stream = Stream(space, seed * 100 + part)
        for number in range(STEPS // 6):
            stream.step()
            if number % 4 == 0:
                stream.check()
        stream.check()
        stream.free()
    assert used(space) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_beside_living_forks(space: AddressSpace, seed: int) -> None:
    stream = Stream(space, seed)
    for _ in range(STEPS // 40):
        va, contents = stream.va, list(stream.list)
        child = space.fork(random.Random(seed).choice(list(ForkMode)))
        for _ in range(5):
            stream.step()
            stream.check()
        assert items(child, va) == contents
        child.exit()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_with_too_few_frames(space: AddressSpace, seed: int) -> None:
    stream, refused, done = Stream(space, seed), 0, 0
    for _ in range(STEPS // 40):
        child = space.fork(ForkMode.CONSTANT)
        with only(space.memory, random.Random(seed).randrange(PACKED_FRAMES + 4)):
            for _ in range(5):
                before = stream.va, list(stream.list)
                stream.step()
                refused += before == (stream.va, stream.list)
                done += before != (stream.va, stream.list)
                stream.check()
        child.exit()
        stream.step()
        stream.check()
    assert refused > 0 and done > 0


def test_each_shortage_of_frames_changes_nothing(space: AddressSpace) -> None:
    contents = [bytes([65 + i]) * 40 for i in range(20)]
    changes: list[tuple[Callable[[int, int], int], list[bytes]]] = [
        (lambda va, _: insert(space, va, 3, b"x"), [*contents[:3], b"x", *contents[3:]]),
        (lambda va, _: insert(space, va, 20, b"x" * 2000), [*contents, b"x" * 2000]),
        (lambda va, _: int(packed_remove(space.state, va, 0, 1)), contents[1:]),
        (lambda va, _: int(packed_remove(space.state, va, 0, 18)), contents[18:]),
        (lambda va, _: resize(space, va, 5, b"y" * 1500), [*contents[:5], b"y" * 1500, *contents[6:]]),
        (lambda va, _: resize(space, va, 5, b"y"), [*contents[:5], b"y", *contents[6:]]),
        (lambda va, _: va if packed_split(space.state, va, 7) != 0 else 0, contents[:7]),
        (lambda va, other: int(packed_append_packed(space.state, va, other)), [*contents, *contents]),
        (lambda va, _: int(packed_copy(space.state, space.state, va)), contents),
    ]
    with only(space.memory, 4 * PACKED_FRAMES):  # most are taken once, and the rest for each number
        for change, wanted in changes:
            va, other = packed_of(space, contents), packed_of(space, contents)
            child, succeeded = space.fork(ForkMode.CONSTANT), False
            for free in range(PACKED_FRAMES + 1):
                size = used(space)
                with only(space.memory, free):
                    moved = change(va, other)
                if moved != 0:
                    succeeded = True
                    assert items(space, moved) == wanted
                    break
                assert items(space, va) == contents and items(space, other) == contents
                assert used(space) == size
            assert succeeded
            assert items(child, va) == contents and items(child, other) == contents
            child.exit()


def test_a_new_packed_has_room_for_one_item(space: AddressSpace) -> None:
    for size in [0, 1, 2, 9, 10, 11, 100, 2000, PACKED_MAX - PACKED_HEADER - 2]:
        va = int(packed_new(space.state, size))
        assert items(space, va) == []
        assert capacity(space, va) == ask(space, 6, 0, max(CAPACITY_MIN, size + PACKED_HEADER + 2))
        assert packed_insert(space.state, va, 0, size) == va
        check_packed(space.state, va)
    with only(space.memory, PACKED_FRAMES - 1):
        assert packed_new(space.state, 1) == 0


def test_an_item_of_another_size_keeps_its_first_bytes(space: AddressSpace) -> None:
    for size in (30, 3, 1000, 20, 1):
        va = packed_of(space, [b"first", b"abcdefghijklmnopqrst", b"last"])
        va = int(packed_resize(space.state, va, 1, size))
        found = items(space, va)
        assert len(found[1]) == size
        assert [found[0], found[1][:20], found[2]] == [b"first", b"abcdefghijklmnopqrst"[:size], b"last"]


def test_splitting_keeps_the_place_of_the_first_part(space: AddressSpace) -> None:
    contents = [str(i).encode() for i in range(100)]
    for i in (0, 1, 2, 3, 4, 5, 50, 99, 100):
        va = packed_of(space, contents)
        size = capacity(space, va)
        other = int(packed_split(space.state, va, i))
        assert items(space, va) == contents[:i] and items(space, other) == contents[i:]
        assert capacity(space, va) == size
        joined = int(packed_append_packed(space.state, va, other))
        assert joined == va
        assert items(space, joined) == contents


def test_appends_copy_seldom_and_waste_an_eighth(space: AddressSpace) -> None:
    va, moves, i = packed_of(space, []), 0, 0
    while ask(space, 7, va, 8):
        moved = insert(space, va, i, b"12345678")
        moves += moved != va
        va, i = moved, i + 1
        needed = PACKED_HEADER + 10 * i
        assert capacity(space, va) <= max(CAPACITY_MIN, ask(space, 6, 0, min(PACKED_MAX, needed + needed // 8)))
    assert i == (PACKED_MAX - PACKED_HEADER) // 10 and moves <= 32
    for turn in range(50):  # at one size, an insert and a remove do not move it again and again
        va = int(packed_remove(space.state, va, 0, 1))
        moved = insert(space, va, 0, b"12345678")
        assert turn == 0 or moved == va
        va = moved


def test_a_queue_and_a_stack_slide_seldom_and_move_no_items_otherwise(space: AddressSpace) -> None:
    """At either end, and from one to the other: the first item's place shows what has moved."""
    for push_front, pop_front in [(0, 1), (1, 0), (1, 1), (0, 0)]:
        contents = [b"%08d" % i for i in range(100)]
        va, slides = packed_of(space, contents), 0
        for number in range(scaled(2000, 60)):
            start = ask(space, 1, va, 0) - va
            place, item = 0 if push_front else len(contents), b"%08d" % (100 + number)
            moved = insert(space, va, place, item)
            contents.insert(place, item)
            assert moved == va or number == 0
            slides += abs(ask(space, 1, moved, 0) - moved - start) > len(item)
            va = int(packed_remove(space.state, moved, 0 if pop_front else len(contents) - 1, 1))
            del contents[0 if pop_front else -1]
            if number % 20 == 0:
                assert items(space, va) == contents
        assert items(space, va) == contents
        assert slides <= scaled(2000, 60) // (4 if push_front != pop_front else 100)


def test_removal_gives_memory_back(space: AddressSpace) -> None:
    va = packed_of(space, [b"12345678"] * 400)
    assert capacity(space, va) == 4096
    va = int(packed_remove(space.state, va, 10, 390))
    assert items(space, va) == [b"12345678"] * 10
    assert capacity(space, va) <= 128
    va = int(packed_remove(space.state, va, 0, 10))
    assert items(space, va) == [] and capacity(space, va) == CAPACITY_MIN


def test_a_copy_takes_no_more_than_it_needs(space: AddressSpace) -> None:
    for contents in [[], [b"a"], [bytes([i]) * 7 for i in range(90)]]:
        va = packed_of(space, contents)
        copy = int(packed_copy(space.state, space.state, va))
        needed = packed_needed(sum(map(len, contents)), len(contents))
        assert capacity(space, copy) == ask(space, 6, 0, max(CAPACITY_MIN, needed))
        insert(space, va, 0, b"more")
        assert items(space, copy) == contents


def test_what_is_broken_is_named(space: AddressSpace) -> None:
    contents = [b"one", b"two", b"three"]
    for offset, damage, said in [
        (0, b"\x22", r"\(1\) a packed of another kind"),
        (1, b"\x7f", r"\(1\) the capacity"),
        (3, b"\x30", r"\(3\) the ends"),
        (4, b"\x07", r"\(2\) the first item"),
        (-2, b"\x30", r"\(2\) the ends"),
        (-6, b"\xff", r"\(3\) the items"),
    ]:
        va = packed_of(space, contents)
        place = va + offset + (capacity(space, va) if offset < 0 else 0)
        space.write(place, damage)
        with pytest.raises(AssertionError, match=said):
            check_packed(space.state, va)
