"""Sets of integers: against a sorted list, with every size, beside forks, with every shortage of frames."""

import random
from bisect import bisect_left, insort

import pytest

from kvstore.structures.ints import (
    INTS_FRAMES,
    INTS_HEADER,
    INTS_MAX,
    check_ints,
    ints_at,
    ints_capacity,
    ints_copy,
    ints_count,
    ints_find,
    ints_fits,
    ints_free,
    ints_insert,
    ints_new,
    ints_remove,
)
from mmcore import AddressSpace, ForkMode
from mmcore.heap import heap_size, heap_used
from mmcore.jit import int64, linked
from mmcore.state import SPACE
from tests.kvstore.structures.support import space_of_heap
from tests.mmcore.support import only, scaled, seeds

STEPS = scaled(4000, 150)
SEEDS = seeds(6)
EDGES = [edge + by for bits in (15, 31, 63) for edge in (-(1 << bits), 1 << bits) for by in (-1, 0, 1)]
EDGES = [0, 1, -1] + [value for value in EDGES if -(1 << 63) <= value < 1 << 63]


@linked(int64(SPACE, int64, int64, int64))
def question(space, which, va, i):  # type: ignore[no-untyped-def]
    """A leaf of the module, by number."""
    if which == 0:
        return ints_count(space, va)
    if which == 1:
        return ints_at(space, va, i)
    if which == 2:
        return ints_capacity(space, va)
    if which == 3:
        return heap_used(space)
    if which == 5:
        return heap_size(i)
    return int64(ints_fits(space, va, i))


def ask(space: AddressSpace, which: int, va: int = 0, i: int = 0) -> int:
    return int(question(space.state, which, va, i))


def values(space: AddressSpace, va: int) -> list[int]:
    """All integers in order; the invariants hold."""
    check_ints(space.state, va)
    return [ask(space, 1, va, i) for i in range(ask(space, 0, va))]


class Width:
    """Bytes of an integer in a set: by the units that it reaches, four from the least integer's on, as it grew."""

    def __init__(self) -> None:
        self.bytes, self.units = 2, range(-2, 2)

    def with_one(self, contents: list[int], value: int) -> "Width":
        """The model with one more integer."""
        wider = Width()
        for wider.bytes in (size for size in (2, 4) if size >= self.bytes):
            unit = 1 << 8 * wider.bytes - 2
            if wider.bytes == self.bytes and value // unit in self.units:
                return self
            first = min([*contents, value]) // unit
            wider.units = range(first, first + 4)
            if max([*contents, value]) // unit in wider.units and -(1 << 15) <= first + 2 < 1 << 15:
                return wider
        wider.bytes = 8
        return wider


def ints_of(space: AddressSpace, contents: list[int]) -> int:
    va = int(ints_new(space.state))
    for value in contents:
        va = int(ints_insert(space.state, va, value))
    assert values(space, va) == sorted(contents)
    return va


@pytest.fixture
def space() -> AddressSpace:
    return space_of_heap(600)


class Stream:
    """Random changes of one set and of a sorted list.  Its integers are wider from part to part."""

    def __init__(self, space: AddressSpace, seed: int) -> None:
        self.space, self.random, self.list, self.width = space, random.Random(seed), list[int](), Width()
        self.bits = [4, 10, 15]
        self.start = self.random.choice([0, 0, 40_000, -(10**8), 10**12, -(1 << 44), 1 << 46])
        self.va = int(ints_new(space.state))

    def step(self) -> None:
        """One change.  If it is refused for want of frames, the list stays as it is."""
        generator, state = self.random, self.space.state
        if generator.randrange(100) == 0:
            self.bits.append(generator.choice([17, 31, 40, 63]))
        bits = generator.choice(self.bits)
        value = generator.choice(EDGES) if generator.randrange(300) == 0 else generator.getrandbits(bits)
        if generator.randrange(2):
            value = -value
        value = min(max(value + self.start, -(1 << 63)), (1 << 63) - 1)
        place = bisect_left(self.list, value)
        there = place < len(self.list) and self.list[place] == value
        assert ints_find(state, self.va, value) == (place if there else -1 - place)
        if generator.randrange(5) < 3:
            wide = self.width if there else self.width.with_one(self.list, value)
            fits = INTS_HEADER + wide.bytes * (len(self.list) + 1) <= INTS_MAX
            assert bool(ask(self.space, 4, self.va, value)) == fits
            if fits:
                moved = int(ints_insert(state, self.va, value))
                if moved != 0:
                    self.va = moved
                    if not there:
                        insort(self.list, value)
                        self.width = wide
        elif self.list:
            place = place if there else generator.randrange(len(self.list))
            moved = int(ints_remove(state, self.va, place))
            if moved != 0:
                self.va = moved
                del self.list[place]

    def check(self) -> None:
        assert values(self.space, self.va) == self.list


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_agrees_with_a_sorted_list(space: AddressSpace, seed: int) -> None:
    before = ask(space, 3)
    stream = Stream(space, seed)
    for number in range(STEPS):
        stream.step()
        if number % 10 == 0:
            stream.check()
    stream.check()
    assert ints_free(space.state, stream.va) == 0
    assert ask(space, 3) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_beside_living_forks(space: AddressSpace, seed: int) -> None:
    stream = Stream(space, seed)
    for _ in range(STEPS // 40):
        va, contents = stream.va, list(stream.list)
        child = space.fork(random.Random(seed).choice(list(ForkMode)))
        for _ in range(5):
            stream.step()
            stream.check()
        assert values(child, va) == contents
        child.exit()


def test_each_shortage_of_frames_changes_nothing(space: AddressSpace) -> None:
    contents = [i * 7 - 300 for i in range(100)]
    changes = [
        (lambda va: int(ints_insert(space.state, va, 2)), [*contents, 2]),
        (lambda va: int(ints_insert(space.state, va, 1 << 40)), [*contents, 1 << 40]),
        (lambda va: int(ints_insert(space.state, va, -1 << 20)), [*contents, -1 << 20]),
        (lambda va: int(ints_remove(space.state, va, 50)), contents[:50] + contents[51:]),
        (lambda va: int(ints_copy(space.state, va)), contents),
    ]
    with only(space.memory, 100):  # most are taken once, and the rest for each number
        for change, wanted in changes:
            va = ints_of(space, contents)
            child, succeeded = space.fork(ForkMode.CONSTANT), False
            for free in range(INTS_FRAMES + 1):
                size = ask(space, 3)
                with only(space.memory, free):
                    moved = change(va)
                if moved != 0:
                    succeeded = True
                    assert values(space, moved) == sorted(wanted)
                    break
                assert values(space, va) == contents and ask(space, 3) == size
            assert succeeded
            assert values(child, va) == contents
            child.exit()
    with only(space.memory, INTS_FRAMES - 1):
        assert ints_new(space.state) == 0


@pytest.mark.parametrize("number", range(6))
def test_the_edges_of_each_size(space: AddressSpace, number: int) -> None:
    order = random.Random(number).sample(EDGES, len(EDGES))
    va, added = int(ints_new(space.state)), list[int]()
    for value in order:
        assert ints_find(space.state, va, value) == -1 - bisect_left(added, value)
        va = int(ints_insert(space.state, va, value))
        insort(added, value)
        assert values(space, va) == added
        assert ints_insert(space.state, va, value) == va
    for value in order:
        place = int(ints_find(space.state, va, value))
        assert place == added.index(value)
        va = int(ints_remove(space.state, va, place))
        added.remove(value)
        assert values(space, va) == added


@pytest.mark.parametrize(("step", "most"), [(1, 2044), (100, 1022), (1 << 26, 511)])
def test_a_full_set(space: AddressSpace, step: int, most: int) -> None:
    most = scaled(most, 60)
    va = ints_of(space, [7 + step * i for i in range(most)])
    if scaled(1, 0):
        assert not ask(space, 4, va, 8)
        assert ask(space, 2, va) == INTS_MAX
    for i in range(most):
        va = int(ints_remove(space.state, va, (i * 37) % (most - i)))
    assert values(space, va) == []
    assert ask(space, 2, va) <= 32


@pytest.mark.parametrize(
    ("first", "step", "size"),
    [
        (1, 1, 2), (100_000, 1, 2), (16_000, 500, 2), (-500_000_000, 3, 2), (1 << 28, -400, 2), (0, 700, 4),
        (1 << 29, 1, 4), (1_700_000_000_000, 1000, 4), (-(1 << 44), -(1 << 24), 4), (0, 1 << 26, 8), (1 << 46, 1, 8),
    ],
)  # fmt: skip
def test_neighbours_take_few_bytes(space: AddressSpace, first: int, step: int, size: int) -> None:
    """The range of the integers decides, and where it lies while that is within reach of a base of 16 bits."""
    contents = [first + step * i for i in range(100)]
    va = ints_of(space, contents)
    copy = int(ints_copy(space.state, va))
    assert ask(space, 2, copy) == ask(space, 5, i=INTS_HEADER + size * 100)
    for place, value in enumerate(sorted(contents)):
        assert ints_find(space.state, copy, value) == place
    for place, value in ((0, -(1 << 63)), (0, min(contents) - 1), (100, max(contents) + 1), (100, (1 << 63) - 1)):
        assert ints_find(space.state, copy, value) == -1 - place


def test_a_copy_is_another_set(space: AddressSpace) -> None:
    for contents in [[], [5], [1, 70_000, -3], [1 << 60, *range(200)]]:
        va = ints_of(space, contents)
        copy = int(ints_copy(space.state, va))
        va = int(ints_insert(space.state, va, 999))
        assert values(space, copy) == sorted(contents)
        assert values(space, va) == sorted([*contents, 999])


def test_what_is_broken_is_named(space: AddressSpace) -> None:
    for offset, damage, said in [
        (0, b"\x0b", r"\(1\) the kind"),
        (0, b"\x02", r"\(1\) the kind"),
        (5, b"\x7f", r"\(1\) the capacity"),
        (2, b"\xff", r"\(1\) integers outside"),
        (9, b"\x11", r"\(2\) integers do not ascend"),
    ]:
        va = ints_of(space, [1, 2, 3])
        space.write(va + offset, damage)
        with pytest.raises(AssertionError, match=said):
            check_ints(space.state, va)
