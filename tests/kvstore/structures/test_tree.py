"""Trees against sorted lists, with check_tree: in order, by rank, beside a fork, and with every shortage of frames."""

import random
from bisect import bisect_left, bisect_right, insort
from itertools import accumulate, pairwise

import pytest

from kvstore.structures.element import element_alloc
from kvstore.structures.record import LEVELS, OWNS_PACKEDS, TREE, record_new
from kvstore.structures.tree import (
    CHILDREN,
    COUNT_WORD,
    FULL,
    INNER_SIZE,
    LEAF_SIZE,
    LEAST,
    LEVEL_WORD,
    WEIGHTS,
    WORDS,
    check_tree,
    position_address,
    position_next,
    position_previous,
    position_word,
    tree_add_weight,
    tree_drop_step,
    tree_frames,
    tree_insert,
    tree_insert_at,
    tree_rank,
    tree_rank_word,
    tree_remove,
    tree_remove_at,
    tree_seek,
    tree_seek_start,
    tree_weight,
)
from mmcore import AddressSpace, ForkMode, check_memory
from mmcore.check import check_heap
from mmcore.errors import NO_FRAME
from mmcore.heap import heap_alloc
from mmcore.jit import DISABLED, int64, linked
from mmcore.mmu import load64, store64
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, space_of_heap
from tests.mmcore.support import contents, only, scaled, seeds

Item = tuple[int, bytes]  # a word and a key


@linked(int64(SPACE, int64, int64))
def part(space, position, which):  # type: ignore[no-untyped-def]
    """A leaf of the module, by number."""
    if which == 0:
        return position_word(space, position)
    if which == 1:
        return position_address(space, position)
    if which == 2:
        return position_next(space, position)
    if which == 3:
        return position_previous(space, position)
    return tree_frames(space, position)


@linked(int64(SPACE, int64, int64))
def word_at(space, va, by):  # type: ignore[no-untyped-def]
    """Add to a word of the space, and return what it was."""
    word = load64(space, va)
    if by != 0:
        store64(space, va, word + by)
    return word


def record_in(space: AddressSpace, flags: int = 0) -> int:
    record = int(record_new(space.state, flags))
    assert record != 0
    return record


def walked(space: AddressSpace, record: int, weights: int) -> list[int]:
    """The addresses in the tree by its positions, there and back."""
    forward, position = [], int(tree_seek(space.state, record, 0, weights))
    last = 0
    while position != 0:
        forward.append(int(part(space.state, position, 1)))
        last, position = position, int(part(space.state, position, 2))
    backward = []
    while last != 0:
        backward.append(int(part(space.state, last, 1)))
        last = int(part(space.state, last, 3))
    assert backward == forward[::-1]
    return forward


class Ordered:
    """An ordered tree beside a sorted list."""

    def __init__(self, frames: int = 1000, *, space: AddressSpace | None = None) -> None:
        self.space = space or space_of_heap(frames)
        self.state = self.space.state
        self.record = record_in(self.space)
        self.items: list[Item] = []
        self.elements: dict[Item, int] = {}

    def element(self, item: Item) -> int:
        if item not in self.elements:
            self.elements[item] = int(element_alloc(self.state, at(item[1]), len(item[1]), 0, 0))
            assert self.elements[item] != 0
        return self.elements[item]

    def add(self, item: Item) -> None:
        assert tree_insert(self.state, self.record, item[0], self.element(item)) == 0
        insort(self.items, item)

    def remove(self, item: Item) -> None:
        assert tree_remove(self.state, self.record, item[0], self.elements[item]) == 0
        self.items.remove(item)

    def remove_at(self, rank: int) -> None:
        assert tree_remove_at(self.state, self.record, rank, 0) == 0
        del self.items[rank]

    def check(self) -> None:
        found = check_tree(self.state, self.record, 0)
        assert found == [(word, self.elements[word, key]) for word, key in self.items]
        assert tree_weight(self.state, self.record) == len(self.items)

    def check_rank(self, item: Item) -> None:
        """Ranks of an item, present or not, and of its word."""
        word, key = item
        for after, bisect in ((0, bisect_left), (1, bisect_right)):
            assert tree_rank(self.state, self.record, word, at(key), len(key), after) == bisect(self.items, item)
            expected = bisect([other for other, _ in self.items], word)
            assert tree_rank_word(self.state, self.record, word, after) == expected

    def check_seek(self, rank: int) -> None:
        position = int(tree_seek(self.state, self.record, rank, 0))
        if not 0 <= rank < len(self.items):
            assert position == 0
            return
        assert part(self.state, position, 0) == self.items[rank][0]
        assert part(self.state, position, 1) == self.elements[self.items[rank]]
        assert tree_seek_start(self.state, self.record, rank, 0) == rank


class Weighted:
    """A tree of packeds beside a list of (weight, address); the addresses are numbers that nobody follows."""

    def __init__(self, frames: int = 600) -> None:
        self.space = space_of_heap(frames)
        self.state = self.space.state
        self.record = record_in(self.space)
        self.items: list[tuple[int, int]] = []
        self.next = 1

    def start(self, place: int) -> int:
        return sum(weight for weight, _ in self.items[:place])

    def add(self, place: int, weight: int) -> None:
        self.next += 1
        assert tree_insert_at(self.state, self.record, self.start(place), weight, self.next, 1) == 0
        self.items.insert(place, (weight, self.next))

    def remove(self, place: int, within: int = 0) -> None:
        assert tree_remove_at(self.state, self.record, self.start(place) + within, 1) == 0
        del self.items[place]

    def change(self, place: int, by: int, address: int, within: int = 0) -> None:
        assert tree_add_weight(self.state, self.record, self.start(place) + within, by, address) == 0
        weight, old = self.items[place]
        self.items[place] = (weight + by, address or old)

    def check(self) -> None:
        assert check_tree(self.state, self.record, 1) == self.items
        assert tree_weight(self.state, self.record) == self.start(len(self.items))

    def check_seek(self, rank: int) -> None:
        position = int(tree_seek(self.state, self.record, rank, 1))
        ends = list(accumulate(weight for weight, _ in self.items))
        if not 0 <= rank < (ends[-1] if ends else 0):
            assert position == 0
            return
        place = bisect_right(ends, rank)
        assert (part(self.state, position, 0), part(self.state, position, 1)) == self.items[place]
        assert tree_seek_start(self.state, self.record, rank, 1) == self.start(place)


def test_an_empty_tree_has_nothing() -> None:
    tree = Ordered()
    tree.check()
    tree.check_rank((5, b"five"))
    for rank in (-1, 0, 1):
        tree.check_seek(rank)
    assert tree_drop_step(tree.state, tree.record, 10) == 0


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("words", [1, 5, 1 << 62])
def test_an_ordered_tree_is_a_sorted_list(seed: int, words: int) -> None:
    generator, tree = random.Random(seed), Ordered()
    keys = [b"", b"a" * 200, *(b"%d" % number for number in range(scaled(700, 90)))]

    def any_item() -> Item:
        return generator.randrange(-words, words), generator.choice(keys)

    for growth in (0.8, 0.2, 0.6, 0.05):
        for step in range(scaled(900, 100)):
            item = any_item()
            if generator.random() < growth:
                if item not in tree.items:
                    tree.add(item)
            elif tree.items and generator.random() < 0.5:
                tree.remove(generator.choice(tree.items))
            elif tree.items:
                tree.remove_at(generator.randrange(len(tree.items)))
            tree.check_rank(any_item())
            tree.check_seek(generator.randrange(-1, len(tree.items) + 2))
            if step % 100 == 0:
                tree.check()
        tree.check()
        assert walked(tree.space, tree.record, 0) == [tree.elements[item] for item in tree.items]
    while tree.items:
        tree.remove(generator.choice(tree.items))
    tree.check()
    assert word_at(tree.state, tree.record + TREE, 0) == 0


@pytest.mark.parametrize("seed", seeds(8))
def test_a_tree_of_packeds_is_a_list(seed: int) -> None:
    generator, tree = random.Random(seed), Weighted()
    for growth in (0.8, 0.2, 0.6, 0.05):
        place = 0
        for step in range(scaled(1000, 150)):
            count = len(tree.items)
            if generator.random() < 0.2:
                place = generator.choice((0, count, generator.randrange(count + 1)))
            place = min(place, count)
            if generator.random() < growth:
                tree.add(place, generator.choice((1, 2, 100)))
            elif count:
                place = min(place, count - 1)
                tree.remove(place, generator.randrange(tree.items[place][0]))
            if tree.items:
                chosen = generator.randrange(len(tree.items))
                weight = tree.items[chosen][0]
                by = generator.choice((0, 1, 50, 1 - weight))
                tree.change(chosen, by, generator.choice((0, 1 << 40 | step)), generator.randrange(weight))
            tree.check_seek(generator.randrange(-1, tree.start(len(tree.items)) + 2))
            if step % 100 == 0:
                tree.check()
        tree.check()
        assert walked(tree.space, tree.record, 1) == [address for _, address in tree.items]


def test_words_are_signed_and_of_64_bits() -> None:
    tree = Ordered()
    lowest, highest = -(1 << 63), (1 << 63) - 1
    for word in (0, highest, -1, lowest, 1, highest - 1, lowest + 1):
        tree.add((word, b"key"))
    tree.check()
    for word, _ in list(tree.items):
        tree.check_rank((word, b"key"))
        tree.check_rank((word, b"kez"))


def test_the_first_item_of_every_leaf_can_be_removed() -> None:
    for by_rank in (False, True):
        tree = Ordered()
        for word in range(scaled(1500, 200)):
            tree.add((word * 7 % 1500, b"key"))
        while len(tree.items) > FULL + 10:
            firsts = leaves_of(tree)[1:]
            for item in firsts[: len(tree.items) - FULL]:
                tree.remove_at(tree.items.index(item)) if by_rank else tree.remove(item)
                tree.check_rank(item)
            tree.check()


def leaves_of(tree: Ordered) -> list[Item]:
    """The first item of every leaf."""
    firsts, rank = [], 0
    while rank < len(tree.items):
        firsts.append(tree.items[rank])
        leaf = int(tree_seek(tree.state, tree.record, rank, 0)) >> 6
        rank += int(word_at(tree.state, leaf, 0)) >> 48
    return firsts


def fill_of(tree: Ordered) -> list[int]:
    """Items of every leaf."""
    ranks = [tree.items.index(item) for item in leaves_of(tree)] + [len(tree.items)]
    return [behind - rank for rank, behind in pairwise(ranks)]


@pytest.mark.parametrize("direction", [1, -1])
def test_items_that_come_in_order_fill_their_leaves(direction: int) -> None:
    tree = Ordered()
    for word in range(scaled(3000, 300)):
        tree.add((direction * word, b"key"))
    tree.check()
    assert set(sorted(fill_of(tree))[2:]) <= {FULL - 1, FULL}


def test_a_node_that_is_not_at_an_edge_is_split_into_halves() -> None:
    tree = Ordered()
    for word in range(FULL):
        tree.add((10 * word, b"key"))
    tree.add((5, b"key"))
    assert fill_of(tree) == [33, 31]


def test_a_tree_that_shrinks_from_either_end_stays_half_full() -> None:
    for front in (True, False):
        tree = Ordered()
        for word in range(scaled(1000, 150)):
            tree.add((word, b"key"))
        while tree.items:
            tree.remove_at(0 if front else len(tree.items) - 1)
            if len(tree.items) % 50 == 0:
                tree.check()
            if len(tree.items) > FULL:
                assert min(fill_of(tree)[1:-1], default=LEAST) >= LEAST


@pytest.mark.parametrize("mode", list(ForkMode))
def test_a_fork_keeps_its_tree(mode: ForkMode) -> None:
    generator, tree = random.Random(3), Ordered(2500)
    for number in range(scaled(1500, 150)):
        tree.add((generator.randrange(20), b"%d" % number))
    items = [(word, tree.elements[word, key]) for word, key in tree.items]
    child = tree.space.fork(mode)
    for number in range(scaled(1500, 150)):
        tree.add((generator.randrange(20), b"new %d" % number))
        tree.remove(generator.choice(tree.items))
    tree.check()
    assert check_tree(child.state, tree.record, 0) == items
    while tree.items:
        tree.remove_at(generator.randrange(len(tree.items)))
    assert check_tree(child.state, tree.record, 0) == items
    check_memory(tree.space.memory, [tree.space, child])
    child.exit()


def test_a_change_of_one_packed_writes_no_more_than_its_path() -> None:
    """A node that did not change is not copied."""
    tree = Weighted()
    for place in range(scaled(200, 130)):
        tree.add(place, 1)
    child = tree.space.fork(ForkMode.ON_DEMAND)
    before = contents(tree.space.memory, tree.space.root)
    tree.change(100, 0, 7777)  # the leaf alone
    tree.change(101, 0, 0)
    after = contents(tree.space.memory, tree.space.root)
    leaf = int(tree_seek(tree.state, tree.record, 100, 1)) >> 6
    assert [page for page in after if after[page] != before[page]] == [leaf & -4096]
    tree.check()
    child.exit()


@pytest.mark.parametrize("weights", [0, 1])
def test_every_shortage_of_frames_leaves_all_as_it_was(weights: int) -> None:
    """Each step of a stream is tried with too few frames, then with just enough, beside a fork."""
    generator = random.Random(9)
    tree = Ordered(2000) if not weights else Weighted(2000)
    space, state, record = tree.space, tree.state, tree.record
    child = space.fork(ForkMode.ON_DEMAND)
    steps = scaled(160, 24)
    for step in range(steps):
        growing = step < steps * 0.6
        if step % 4 == 0:
            child.exit()
            child = space.fork(ForkMode.ON_DEMAND)
        count = len(tree.items)
        arguments: tuple[int, ...]
        if isinstance(tree, Ordered):
            item = (generator.randrange(9), b"%d" % step) if growing else generator.choice(tree.items)
            arguments = (item[0], tree.element(item))
            change = tree_insert if growing else tree_remove
        else:
            packed, place = (1 + generator.randrange(9), step + 1), generator.randrange(count + growing)
            arguments = (tree.start(place), *packed, 1) if growing else (tree.start(place), 1)
            change = tree_insert_at if growing else tree_remove_at
        before = contents(space.memory, space.root)
        enough = int(part(state, record, 4))
        for free in (0, generator.randrange(enough), enough - 1):
            with only(space.memory, free):
                assert change(state, record, *arguments) == NO_FRAME
        assert contents(space.memory, space.root) == before
        with only(space.memory, enough):
            assert change(state, record, *arguments) == 0
        if isinstance(tree, Ordered):
            insort(tree.items, item) if growing else tree.items.remove(item)
        elif growing:
            tree.items.insert(place, packed)
        else:
            del tree.items[place]
        if step % 10 == 0:
            tree.check()
    tree.check()
    check_memory(space.memory, [space, child])
    child.exit()


def test_a_shortage_of_frames_does_not_change_a_weight() -> None:
    tree = Weighted()
    for place in range(130):
        tree.add(place, 2)
    child = tree.space.fork(ForkMode.ON_DEMAND)
    for free in range(20):
        with only(tree.space.memory, free):
            code = int(tree_add_weight(tree.state, tree.record, 77, 5, 99))
        if code == 0:
            break
        assert code == NO_FRAME
        tree.check()
    assert free == 8
    tree.items[38] = (7, 99)
    tree.check()
    child.exit()


@pytest.mark.parametrize("budget", [1, 7, 1000])
@pytest.mark.parametrize("owned", [False, True])
def test_a_tree_is_dropped_in_steps(budget: int, owned: bool) -> None:
    tree = Weighted(1500)
    space, state = tree.space, tree.state
    record = tree.record = record_in(space, OWNS_PACKEDS if owned else 0)
    used = check_heap(space)
    count = scaled(700, 150)
    for place in range(count):
        packed = int(heap_alloc(state, 200)) if owned else place + 1
        if owned:
            word = int(word_at(state, packed, 0))
            word_at(state, packed, 208 | 1 - word)  # its capacity and its kind
            assert word_at(state, packed, 0) == 208 | 1
        assert tree_insert_at(state, record, place, 1, packed, 1) == 0
    tree.items = check_tree(state, record, 1)
    nodes = (check_heap(space) - used - 208 * count * owned) / LEAF_SIZE
    leaves = sum(1 for _ in leaf_counts(tree))
    done = steps = 0
    with only(space.memory, 3):
        assert tree_drop_step(state, record, budget) == 0
    while work := int(tree_drop_step(state, record, budget)):
        assert work <= budget
        done += work
        steps += 1
    assert steps == -(-done // budget)
    inner = (nodes - leaves) * LEAF_SIZE / INNER_SIZE
    assert done == leaves + inner + count * owned
    assert check_heap(space) == used
    assert check_tree(state, record, 1) == []
    check_memory(space.memory, [space])


def leaf_counts(tree: Weighted) -> list[int]:
    counts, rank, total = [], 0, tree.start(len(tree.items))
    while rank < total:
        leaf = int(tree_seek(tree.state, tree.record, rank, 1)) >> 6
        counts.append(int(word_at(tree.state, leaf, 0)) >> 48)
        rank += counts[-1]
    return counts


def small_tree() -> tuple[Ordered, int, int]:
    """A tree of two levels, its root, and its first leaf."""
    tree = Ordered()
    for word in range(200):
        tree.add((word * 17 % 200, b"key"))
    tree.check()
    assert word_at(tree.state, tree.record + LEVELS, 0) == 2
    return tree, int(word_at(tree.state, tree.record + TREE, 0)), int(tree_seek(tree.state, tree.record, 0, 0)) >> 6


@pytest.mark.parametrize(
    ("number", "of_root", "offset", "by"),
    [
        (1, True, LEVEL_WORD, 1 << 48),
        (1, False, LEVEL_WORD, 1 << 48),
        (2, False, COUNT_WORD, -40 << 48),
        (3, True, WEIGHTS, 1),
        (3, True, COUNT_WORD, -1 << 48),
        (4, True, WORDS, -1),
        (5, False, WORDS + 8, -1),
        (6, False, LEVEL_WORD, LEAF_SIZE),
        (6, False, COUNT_WORD, LEAF_SIZE),
    ],
)
def test_a_broken_invariant_is_named(number: int, of_root: bool, offset: int, by: int) -> None:
    tree, root, leaf = small_tree()
    if number == 2:  # the first leaf may hold few items, so it is the second
        leaf = int(word_at(tree.state, root + CHILDREN + 8, 0))
    word_at(tree.state, (root if of_root else leaf) + offset, by)
    if (number, of_root) == (3, True) and offset == COUNT_WORD:
        number = 6  # a child is missing: the leaf in front of it has a next one
    with pytest.raises(AssertionError, match=f"^{number}: "):
        check_tree(tree.state, tree.record, 0)


@pytest.mark.skipif(DISABLED, reason="takes minutes without the compiler")
@pytest.mark.parametrize("order", ["ascending", "random"])
def test_a_tree_of_three_levels_and_more(order: str) -> None:
    count, tree = 30_000, Weighted(4000)
    generator = random.Random(4)
    for number in range(count):
        rank = number if order == "ascending" else generator.randrange(number + 1)
        assert tree_insert_at(tree.state, tree.record, rank, 1, number + 1, 1) == 0
    assert word_at(tree.state, tree.record + LEVELS, 0) == 3
    tree.items = check_tree(tree.state, tree.record, 1)
    assert sorted(address for _, address in tree.items) == list(range(1, count + 1))
    while len(tree.items) > 100:
        for _ in range(len(tree.items) // 2):
            rank = generator.randrange(len(tree.items))
            assert tree_remove_at(tree.state, tree.record, rank, 1) == 0
            del tree.items[rank]
        tree.check()
    check_memory(tree.space.memory, [tree.space])
