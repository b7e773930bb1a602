"""Chains: elements by place against a list, of one shape and of many, beside forks, with every shortage of frames."""

import random
from collections.abc import Callable

import pytest

from kvstore.structures.chain import (
    BLOCK_MAX,
    BLOCKS_MAX,
    CAPACITY_MIN,
    CHAIN_MAX,
    COUNT_MAX,
    ELEMENT_MAX,
    block_next,
    chain_count,
    chain_element,
    chain_first,
    chain_fits,
    chain_memory,
    chain_payload,
    chain_spot,
    check_chain,
    spot_element,
    spot_next,
    spot_previous,
)
from kvstore.structures.chain_change import (
    CHAIN_FRAMES,
    chain_copy,
    chain_free,
    chain_insert,
    chain_new,
    chain_remove,
    chain_replace,
)
from kvstore.structures.chain_find import chain_find
from kvstore.structures.chain_layout import LENGTH_MAX
from mmcore import AddressSpace, ForkMode
from mmcore.check import check_heap
from mmcore.heap import heap_used
from mmcore.jit import int64, linked
from mmcore.paging import PAGE_SIZE
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, memory_of, space_of_heap
from tests.kvstore.structures.test_element import part
from tests.mmcore.support import only, scaled, seeds

STEPS = scaled(4000, 120)
SEEDS = seeds(6)
Element = tuple[bytes, bytes]


@linked(int64(SPACE, int64, int64))
def question(space, which, va):  # type: ignore[no-untyped-def]
    """A leaf of the module, by number."""
    if which == 0:
        return block_next(space, va)
    if which == 1:
        return chain_first(space, va)
    if which == 2:
        return spot_next(space, va)
    if which == 3:
        return spot_element(space, va)
    return heap_used(space)


def ask(space: AddressSpace, which: int, va: int = 0) -> int:
    return int(question(space.state, which, va))


def used(space: AddressSpace) -> int:
    return ask(space, 4)


def element(space: AddressSpace, reference: int) -> Element:
    k, p, key, payload = (int(part(space.state, reference, which)) for which in range(4))
    return memory_of(space, key, k), memory_of(space, payload, p)


def elements(space: AddressSpace, root: int) -> list[Element]:
    """All elements, by their places and by their spots, there and back; the invariants hold."""
    check_chain(space.state, root)
    count = int(chain_count(space.state, root))
    spot, spots = ask(space, 1, root), list[int]()
    while spot:
        spots.append(spot)
        spot = ask(space, 2, spot)
    found = [element(space, ask(space, 3, spot)) for spot in spots]
    assert len(found) == count
    for place in {0, count // 2, count - 1} & set(range(count)):
        assert chain_spot(space.state, root, place) == spots[place]
        assert element(space, int(chain_element(space.state, root, place))) == found[place]
        before = spots[place - 1] if place else 0
        assert spot_previous(space.state, root, spots[place]) == before
    return found


def blocks(space: AddressSpace, root: int) -> int:
    count = 0
    while root:
        count, root = count + 1, ask(space, 0, root)
    return count


def insert(space: AddressSpace, root: int, place: int, one: Element) -> int:
    key, payload = one
    return int(chain_insert(space.state, root, place, at(key), len(key), at(payload), len(payload)))


def replace(space: AddressSpace, root: int, place: int, payload: bytes) -> int:
    return int(chain_replace(space.state, root, place, at(payload), len(payload)))


def chain_of(space: AddressSpace, contents: list[Element]) -> int:
    root = int(chain_new(space.state))
    for place, one in enumerate(contents):
        assert chain_fits(space.state, root, len(one[0]), len(one[1]))
        root = insert(space, root, place, one)
    assert elements(space, root) == contents
    return root


def weight(contents: list[Element]) -> int:
    return sum(len(key) + len(payload) + 2 for key, payload in contents)


@pytest.fixture
def space() -> AddressSpace:
    return space_of_heap(900)


SHAPES: list[list[tuple[int, int]]] = [
    [(10, 10)],
    [(10, 1), (10, 2), (10, 4)],
    [(1, 0), (2, 0), (3, 0)],
    [(4, 0)],
    [(64, 64), (1, 0), (10, 10)],
    [(255, 65), (160, 160), (0, 0), (3, 9)],
    [(8, 8), (8, 8), (8, 8), (8, 8), (8, 8), (9, 7)],
]


class Stream:
    """Random changes of one chain and of a list.  The shapes of elements vary from stream to stream."""

    def __init__(self, space: AddressSpace, seed: int) -> None:
        self.space, self.random = space, random.Random(seed)
        self.shapes = self.random.choice(SHAPES)
        self.root, self.list = chain_of(space, []), list[Element]()
        self.grows, self.refused = True, 0

    def payload(self, p: int) -> bytes:
        return self.random.randbytes(p)

    def element(self) -> Element | None:
        k, p = self.random.choice(self.shapes)
        key = self.random.randbytes(k)
        return None if any(key == other for other, _ in self.list) else (key, self.payload(p))

    def fits(self, k: int, p: int) -> bool:
        """The answer of chain_fits, which must be true for little and false for much."""
        fits = bool(chain_fits(self.space.state, self.root, k, p))
        there = weight(self.list) + k + p + 2
        assert fits or there > CHAIN_MAX // 2
        assert not fits or there <= CHAIN_MAX
        return fits

    def step(self) -> None:
        """One change.  If it is refused for want of frames, the list stays as it is."""
        generator, contents = self.random, self.list
        if generator.randrange(60) == 0:
            self.grows = not self.grows
        what, count = generator.randrange(12), len(contents)
        place = generator.choice([0, count, generator.randint(0, count)])
        if what < (8 if self.grows else 2):
            one = self.element()
            if one is not None and self.fits(len(one[0]), len(one[1])):
                self.take(insert(self.space, self.root, place, one), [*contents[:place], one, *contents[place:]])
        elif what < 10 and place < count:
            key, old = contents[place]
            p = generator.choice([len(old), *(p for _, p in self.shapes)])
            if len(key) + p <= ELEMENT_MAX and self.fits(len(key), p):
                one = key, self.payload(p)
                wanted = [*contents[:place], one, *contents[place + 1 :]]
                self.take(replace(self.space, self.root, place, one[1]), wanted)
        else:
            n = generator.randint(0, min(3, count - place)) if generator.randrange(20) else count - place
            root = int(chain_remove(self.space.state, self.root, place, n))
            self.take(root, contents[:place] + contents[place + n :])

    def take(self, root: int, wanted: list[Element]) -> None:
        if root != 0:
            self.root, self.list = root, wanted
        else:
            self.refused += 1

    def check(self) -> None:
        assert elements(self.space, self.root) == self.list
        for key, place in [(key, place) for place, (key, _) in enumerate(self.list)][:: max(1, len(self.list) // 9)]:
            assert chain_find(self.space.state, self.root, at(key), len(key)) == place
        for key in (b"", b"absent", b"\0" * 10, b"x" * 300):
            expected = next((place for place, (other, _) in enumerate(self.list) if other == key), -1)
            assert chain_find(self.space.state, self.root, at(key), len(key)) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_agrees_with_a_list(space: AddressSpace, seed: int) -> None:
    before = used(space)
    for number in range(6):
        stream = Stream(space, seed * 100 + number)
        for step in range(STEPS // 6):
            stream.step()
            if step % 10 == 0:
                stream.check()
        stream.check()
        assert stream.refused == 0
        assert chain_free(space.state, stream.root) == 0
    assert used(space) == before
    check_heap(space)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_beside_living_forks(space: AddressSpace, seed: int) -> None:
    stream = Stream(space, seed)
    for number in range(STEPS // 40):
        root, contents = stream.root, list(stream.list)
        child = space.fork(random.Random(seed + number).choice(list(ForkMode)))
        for _ in range(5):
            stream.step()
            stream.check()
        assert elements(child, root) == contents
        child.exit()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_with_too_few_frames(space: AddressSpace, seed: int) -> None:
    stream, frames, done = Stream(space, seed), random.Random(seed), 0
    for _ in range(STEPS // 20):
        child = space.fork(ForkMode.CONSTANT)
        with only(space.memory, frames.choice([0, 1, 3, 8, 40, CHAIN_FRAMES, CHAIN_FRAMES + 40])):
            before = stream.list
            for _ in range(5):
                stream.step()
            done += before is not stream.list
        stream.check()
        child.exit()
        stream.step()
    assert stream.refused > 0 and done > 0


def test_each_shortage_of_frames_changes_nothing(space: AddressSpace) -> None:
    contents = [(b"field:%05d" % i, b"value:%04d" % i) for i in range(100)]
    state, one, key = space.state, (b"another", b"one"), contents[50][0]
    changes: list[tuple[Callable[[int], int], list[Element]]] = [
        (lambda root: insert(space, root, 3, one), [*contents[:3], one, *contents[3:]]),
        (lambda root: insert(space, root, 100, one), [*contents, one]),
        (lambda root: replace(space, root, 50, b"y" * 10), [*contents[:50], (key, b"y" * 10), *contents[51:]]),
        (lambda root: replace(space, root, 50, b"y" * 90), [*contents[:50], (key, b"y" * 90), *contents[51:]]),
        (lambda root: int(chain_remove(state, root, 0, 1)), contents[1:]),
        (lambda root: int(chain_remove(state, root, 20, 70)), contents[:20] + contents[90:]),
        (lambda root: int(chain_remove(state, root, 0, 100)), []),
        (lambda root: int(chain_copy(state, state, root)), contents),
    ]  # fmt: skip
    for change, wanted in changes:
        root = chain_of(space, contents)
        assert blocks(space, root) > 2
        child, succeeded = space.fork(ForkMode.CONSTANT), False
        for free in range(CHAIN_FRAMES + 1):
            size = used(space)
            with only(space.memory, free):
                moved = change(root)
            if moved != 0:
                succeeded = True
                assert elements(space, moved) == wanted
                break
            assert elements(space, root) == contents and used(space) == size
        assert succeeded
        assert elements(child, root) == contents
        child.exit()
    with only(space.memory, CHAIN_FRAMES - 1):
        assert chain_new(state) == 0


def test_elements_of_one_shape_cost_nothing_beside_their_bytes(space: AddressSpace) -> None:
    contents = [(b"f%09d" % i, b"v%09d" % i) for i in range(100)]
    root = chain_of(space, contents)
    assert blocks(space, root) == 2 and chain_memory(space.state, root) == 2 * BLOCK_MAX
    assert chain_payload(space.state, root, 100) == 10
    root = insert(space, root, 3, (b"odd", b""))
    assert chain_payload(space.state, root, 3) == 0 and chain_payload(space.state, root, 101) == 10
    assert chain_memory(space.state, root) < 2600
    root = int(chain_remove(space.state, root, 3, 1))
    copy = int(chain_copy(space.state, space.state, root))
    assert chain_payload(space.state, copy, 3) == 10, "a copy looks at shapes again"
    assert elements(space, copy) == elements(space, root) == contents


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
@pytest.mark.parametrize("shapes", SHAPES[:5], ids=str)
def test_a_chain_takes_what_it_needs_and_a_quarter_at_most(
    space: AddressSpace, shapes: list[tuple[int, int]], order: str
) -> None:
    generator, contents = random.Random(1), dict[bytes, bytes]()
    while weight(list(contents.items())) < 2200 and len(contents) < 100:
        k, p = generator.choice(shapes)
        contents[generator.randbytes(k)] = generator.randbytes(p)
    there, root = list[Element](), int(chain_new(space.state))
    for one in sorted(contents.items(), reverse=order == "descending") if order != "random" else contents.items():
        place = sum(other < one for other in there)
        root, there = insert(space, root, place, one), [*there[:place], one, *there[place:]]
    assert elements(space, root) == there
    needed = sum(len(key) + len(payload) + (2 if len(shapes) > 1 else 0) for key, payload in there)
    assert chain_memory(space.state, root) <= needed * 5 // 4 + 64 * blocks(space, root)


def test_a_block_of_the_most_and_smallest_elements_may_become_mixed_anywhere(space: AddressSpace) -> None:
    """So a block has at most COUNT_MAX elements: with a shape for each they fit two."""
    tiny = [(b"%03d" % i, b"%04d" % i) for i in range(COUNT_MAX)]
    for place in range(0, COUNT_MAX + 1, scaled(1, 31)):
        for k in (1, LENGTH_MAX):
            root, one = chain_of(space, tiny), (b"k" * k, b"p" * min(LENGTH_MAX, ELEMENT_MAX - k))
            assert blocks(space, root) == 1 and chain_fits(space.state, root, *map(len, one))
            root = insert(space, root, place, one)
            assert elements(space, root) == [*tiny[:place], one, *tiny[place:]]
            root = int(chain_remove(space.state, root, place, 1))
            assert elements(space, root) == tiny
            assert chain_free(space.state, root) == 0


def test_what_is_too_long_or_too_much_does_not_fit(space: AddressSpace) -> None:
    root = int(chain_new(space.state))
    for k, p, fits in [(255, 65, 1), (65, 255, 1), (256, 0, 0), (0, 256, 0), (255, 66, 0), (0, 0, 1)]:
        assert chain_fits(space.state, root, k, p) == chain_fits(space.state, 0, k, p) == fits
    place = 0
    while chain_fits(space.state, root, 4, 12):
        root, place = insert(space, root, place, (b"%04d" % place, b"twelve bytes")), place + 1
    assert place == CHAIN_MAX // 18 and blocks(space, root) <= BLOCKS_MAX
    assert len(elements(space, root)) == place


def test_removal_gives_memory_back_and_joins_blocks(space: AddressSpace) -> None:
    contents = [(b"%05d" % i, b"x" * (i % 7)) for i in range(300)]
    root = chain_of(space, contents)
    assert blocks(space, root) >= 3
    while len(contents) > 10:
        for place in range(len(contents) - 1, -1, -2):
            root = int(chain_remove(space.state, root, place, 1))
            del contents[place]
        assert elements(space, root) == contents
    assert blocks(space, root) == 1 and chain_memory(space.state, root) <= 200
    root = int(chain_remove(space.state, root, 0, len(contents)))
    assert elements(space, root) == [] and chain_memory(space.state, root) == CAPACITY_MIN


def test_another_payload_of_the_same_length_stays_where_it_is(space: AddressSpace) -> None:
    contents = [(b"%05d" % i, b"x" * (i % 3)) for i in range(150)]
    root = chain_of(space, contents)
    before = used(space)
    for place, (key, payload) in enumerate(contents):
        contents[place] = key, b"y" * len(payload)
        assert replace(space, root, place, contents[place][1]) == root
    assert elements(space, root) == contents and used(space) == before


def test_even_what_is_empty_has_an_address_in_the_page_of_its_block(space: AddressSpace) -> None:
    """The blocks fill whole pages, and their elements the blocks."""
    for contents in (
        [(b"12345678", b"")],
        [(b"1234567", b""), (b"", b"")],
        [(b"a" * 8, b""), (b"", b"b" * 7), (b"c", b"")],
    ):
        for _ in range(300):
            root = chain_of(space, contents)
            for place in range(len(contents)):
                reference = int(chain_element(space.state, root, place))
                for which in (2, 3):  # of the key, and of the payload
                    assert int(part(space.state, reference, which)) // PAGE_SIZE == root // PAGE_SIZE


def test_what_is_broken_is_named(space: AddressSpace) -> None:
    alike, mixed = [(b"one", b"1"), (b"two", b"2")], [(b"one", b"1"), (b"three", b"3")]
    for contents, offset, damage, said in [
        (alike, 0, b"\x22", r"\(1\) the kind"),
        (alike, 3, b"\x04", r"\(1\) the kind"),
        (alike, 1, b"\x7f", r"\(1\) the capacity"),
        (alike, 2, b"\xff", r"\(2\) the number of elements"),
        (alike, 2, b"\x01", r"\(2\) the bytes"),
        (alike, 6, b"\x70", r"\(3\) elements"),
        (mixed, -2, b"\x70", r"\(2\) the bytes"),
        (mixed, 2, b"\x00", r"\(2\) the bytes"),
    ]:
        root = chain_of(space, contents)
        place = root + offset + (int(chain_memory(space.state, root)) if offset < 0 else 0)
        space.write(place, damage)
        with pytest.raises(AssertionError, match=said):
            check_chain(space.state, root)
