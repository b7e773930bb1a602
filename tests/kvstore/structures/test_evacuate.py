"""Evacuation of values whose parts lie on nearly empty pages: step by step, while they change, beside a fork, and with
too few frames."""

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest

from kvstore.structures.chain import BLOCK_MAX
from kvstore.structures.chain_change import chain_insert
from kvstore.structures.element import element_alloc, element_free, element_hash
from kvstore.structures.evacuate import FRAMES, LOOKED, MOVED, TALLY_WORDS, record_evacuate, root_evacuate
from kvstore.structures.ints import check_ints, ints_insert, ints_new
from kvstore.structures.packed import check_packed, packed_insert, packed_new
from kvstore.structures.record import HEAD, LEVELS, OWNS_ELEMENTS, OWNS_PACKEDS, TAIL, record_new
from kvstore.structures.table import table_add, table_find, table_remove
from kvstore.structures.tree import check_tree, tree_insert, tree_insert_at, tree_remove
from mmcore import AddressSpace, ForkMode, check_memory
from mmcore.check import check_heap
from mmcore.heap import CLASS_SIZES, heap_alloc, heap_choose_step, heap_free, heap_return_step, heap_slab_pages
from mmcore.heap.leaving import MOVE_FRAMES
from mmcore.jit import int64, linked, void
from mmcore.mmu import load64, store64
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, heap_bytes, memory_of, space_of_heap, words_of
from tests.kvstore.structures.test_chain import blocks, chain_of, elements
from tests.mmcore.support import contents, only, scaled, seeds, some

SEED = 12345
SIZES = (16, 24, 32, 64, 72)  # of elements, overflow buckets and records
GREAT = (128, 256, 512, 1024, 2048)  # of packeds, nodes and small tables


@linked(void(SPACE, int64, int64))
def put(space, va, word):  # type: ignore[no-untyped-def]
    """Store a word."""
    store64(space, va, word)


@linked(int64(SPACE))
def slab_pages(space):  # type: ignore[no-untyped-def]
    """heap_slab_pages, for Python."""
    return heap_slab_pages(space)


@linked(int64(SPACE, int64))
def word_at(space, va):  # type: ignore[no-untyped-def]
    """load64, for Python."""
    return load64(space, va)


class Value:
    """A record, and the elements that it must hold; `junk` keeps its parts apart, until it is dropped."""

    def __init__(self, seed: int, flags: int, frames: int = 6000) -> None:
        self.draw, self.space = random.Random(seed), space_of_heap(frames)
        self.record = int(record_new(self.space.state, flags))
        self.tally = np.zeros(TALLY_WORDS, np.int64)
        self.junk: list[tuple[int, int]] = []
        self.words: dict[bytes, int] = {}
        self.listed: list[bytes] = []

    def spread(self) -> None:
        for size in (*SIZES, *(GREAT if self.draw.random() < 0.2 else ())):
            for _ in range(3):
                self.junk.append((int(heap_alloc(self.space.state, size)), size))

    def thin(self) -> None:
        """Drop the junk, and let the heap choose pages."""
        for va, size in self.junk:
            assert heap_free(self.space.state, va, size) == 0
        self.junk = []
        assert heap_choose_step(self.space.state, 0, 1 << 30) == -1

    def step(self, position: int, budget: int) -> int:
        return int(record_evacuate(self.space.state, self.record, SEED, position, budget, self.tally))

    def find(self, key: bytes) -> int:
        hash_ = self.hash_of(key)
        slot = int(table_find(self.space.state, self.record, hash_, at(key), len(key)))
        return int(word_at(self.space.state, slot)) & 0xFFFF_FFFF_FFF8 if slot else 0

    def hash_of(self, key: bytes) -> int:
        probe = int(element_alloc(self.space.state, at(key), len(key), 0, 0))
        hash_ = int(element_hash(self.space.state, probe, SEED))
        assert element_free(self.space.state, probe) == 0
        return hash_

    def add(self, key: bytes, word: int | None) -> None:
        state = self.space.state
        element = int(element_alloc(state, at(key), len(key), at(b"12345678"), 8))
        assert table_add(state, self.record, SEED, element_hash(state, element, SEED), element) == 0
        if word is not None:
            assert tree_insert(state, self.record, word, element) == 0
        self.words[key] = 0 if word is None else word

    def remove(self, key: bytes, ordered: bool) -> None:
        state, element, word = self.space.state, self.find(key), self.words.pop(key)
        if ordered:
            assert tree_remove(state, self.record, word, element) == 0
        hash_ = self.hash_of(key)
        slot = table_find(state, self.record, hash_, at(key), len(key))
        assert table_remove(state, self.record, hash_, slot) == 0
        assert element_free(state, element) == 0

    def check(self, ordered: bool) -> None:
        check_heap(self.space)
        found = {key: self.find(key) for key in self.words}
        assert all(found.values())
        if ordered:
            items = check_tree(self.space.state, self.record, 0)
            expected = sorted((word, key) for key, word in self.words.items())
            assert items == [(word, found[key]) for word, key in expected]
        for key, element in found.items():
            assert memory_of(self.space, element, 2 + len(key) + 8) == bytes([len(key), 8]) + key + b"12345678"


def sorted_set(seed: int, count: int) -> Value:
    value = Value(seed, OWNS_ELEMENTS)
    for i in range(count):
        value.add(b"member:%d" % i, value.draw.randrange(count // 2))
        value.spread()
    value.thin()
    return value


def hash_table(seed: int, count: int) -> Value:
    value = Value(seed, OWNS_ELEMENTS)
    for i in range(count):
        value.add(b"field:%d" % i, None)
        value.spread()
    value.thin()
    return value


def add_packed(value: Value, texts: list[bytes]) -> int:
    state = value.space.state
    packed = int(packed_new(state, 10))
    for i, text in enumerate(texts):
        packed = int(packed_insert(state, packed, i, len(text)))
        place = packed + 4 if i == 0 else end_of(value.space, packed, i - 1)
        start = int.from_bytes(memory_of(value.space, place, 2), "little")
        value.space.write(packed + start, text)
    return packed


def end_of(space: AddressSpace, packed: int, i: int) -> int:
    """Where the end of item i is said."""
    return packed + (int.from_bytes(memory_of(space, packed, 2), "little") & ~7) - 2 * (i + 1)


def items_of(space: AddressSpace, packed: int) -> list[bytes]:
    check_packed(space.state, packed)
    count, start = struct.unpack("<2H", memory_of(space, packed + 2, 4))
    found = []
    for i in range(count):
        end = int.from_bytes(memory_of(space, end_of(space, packed, i), 2), "little")
        found.append(memory_of(space, packed + start, end - start))
        start = end
    return found


def long_list(seed: int, count: int) -> Value:
    value = Value(seed, OWNS_PACKEDS)
    state = value.space.state
    for i in range(count):
        texts = [b"item:%d:%d" % (i, j) for j in range(value.draw.randrange(1, 40))]
        packed = add_packed(value, texts)
        if i == 0:
            put(state, value.record + HEAD, packed)
        elif i == count - 1:
            put(state, value.record + TAIL, packed)
        else:
            rank = sum(weight for weight, _ in check_tree(state, value.record, 1)) if i % 16 == 0 else value.rank
            assert tree_insert_at(state, value.record, rank, len(texts), packed, 1) == 0
            value.rank = rank + len(texts)
        value.listed += texts
        value.spread()
    value.thin()
    return value


Value.rank = 0  # type: ignore[attr-defined]


def check_list(value: Value) -> None:
    check_heap(value.space)
    head, tail = (int(word_at(value.space.state, value.record + field)) for field in (HEAD, TAIL))
    found: list[bytes] = []
    for packed in (head, *(address for _, address in check_tree(value.space.state, value.record, 1)), tail):
        found += items_of(value.space, packed)
    assert found == value.listed


MAKERS: dict[str, tuple[Callable[[int, int], Value], Callable[[Value], None]]] = {
    "sorted set": (sorted_set, lambda value: value.check(True)),
    "hash table": (hash_table, lambda value: value.check(False)),
    "list": (long_list, check_list),
}


def leaving(value: Value) -> int:
    """Pages that are leaving; they stay from here on."""
    count = 0
    while heap_return_step(value.space.state, 1):
        count += 1
    return count


@pytest.mark.parametrize("budget", [1, 40, 1 << 30])
@pytest.mark.parametrize("name", MAKERS)
def test_all_parts_move_and_the_value_is_whole_after_each_step(name: str, budget: int) -> None:
    make, check = MAKERS[name]
    value = make(budget, scaled(600 if name != "list" else 150, 130))
    before, position, steps = int(slab_pages(value.space.state)), 0, 0
    check(value)
    moved = int(root_evacuate(value.space.state, value.record, value.tally))
    value.record = moved
    while position >= 0:
        position = value.step(position, budget)
        steps += 1
        if steps % 7 == 0 or budget > 1:
            check(value)
    check(value)
    assert 0 < value.tally[MOVED] <= value.tally[LOOKED]
    assert (steps > 1) == (budget < 1 << 30)
    after = int(slab_pages(value.space.state))
    assert leaving(value) == 0, "every page that was to leave is empty"
    assert after < before
    check_memory(value.space.memory, [value.space])
    if name != "hash table":
        assert word_at(value.space.state, value.record + LEVELS) > 1


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("ordered", [False, True])
def test_a_value_may_change_between_two_steps(seed: int, ordered: bool) -> None:
    value = (sorted_set if ordered else hash_table)(seed, scaled(500, 80))
    position, number = 0, 10_000
    for step in range(scaled(250, 40)):
        for _ in range(value.draw.randrange(6)):
            if value.words and value.draw.random() < 0.6:
                value.remove(value.draw.choice(list(value.words)), ordered)
            else:
                number += 1
                value.add(b"new:%d" % number, value.draw.randrange(400) if ordered else None)
        position = value.step(max(position, 0), value.draw.choice((1, 10, 60)))
        if step % 10 == 0:
            value.check(ordered)
        if step % 50 == 0:
            heap_choose_step(value.space.state, 0, 1 << 30)
    value.check(ordered)
    assert value.tally[MOVED] > 0


@pytest.mark.parametrize("mode", [ForkMode.CONSTANT, None, ForkMode.ON_DEMAND, ForkMode.CLASSIC][: some(4, 1)])
@pytest.mark.parametrize("name", MAKERS)
def test_short_of_frames_a_part_moves_as_a_whole_or_stays(name: str, mode: ForkMode | None) -> None:
    make, check = MAKERS[name]
    value = make(3, scaled(300, 150))
    memory, space = value.space.memory, value.space
    spaces = [space] if mode is None else [space, space.fork(mode)]
    child = [contents(memory, each.root) for each in spaces[1:]]
    position, none = 0, 0
    for free in (*range(0, MOVE_FRAMES + FRAMES + 8, scaled(11, 40)), MOVE_FRAMES + FRAMES, MOVE_FRAMES + FRAMES + 300):
        before = int(value.tally[MOVED])
        with only(memory, free) as held:
            enough = free >= MOVE_FRAMES + FRAMES
            position = value.step(0 if enough else max(position, 0), 1 << 30 if enough else 40)
            check_memory(memory, spaces, held)
        assert enough or value.tally[MOVED] == before
        check(value)
        none += value.tally[MOVED] == before
        assert [contents(memory, each.root) for each in spaces[1:]] == child
    assert none > 0 and value.tally[MOVED] > 0


def chain_apart(value: Value) -> tuple[int, list[tuple[bytes, bytes]]]:
    """A chain whose blocks lie on pages that are nearly empty, while others have room, and its elements."""
    state, fields = value.space.state, [(b"field:%03d" % i, b"value" * (1 + i % 4)) for i in range(120)]
    for number in range(16):
        va = int(heap_alloc(state, BLOCK_MAX))
        value.junk += [] if number % 4 else [(va, BLOCK_MAX)]
    chain = chain_of(value.space, [])
    for place, (key, payload) in enumerate(fields):
        chain = int(chain_insert(state, chain, place, at(key), len(key), at(payload), len(payload)))
        if place % 20 == 0:
            value.junk += [(int(heap_alloc(state, BLOCK_MAX)), BLOCK_MAX) for _ in range(3)]
    value.thin()
    return chain, fields


def test_the_blocks_of_a_chain_move_with_its_root() -> None:
    value = Value(1, 0)
    chain, fields = chain_apart(value)
    count, before = blocks(value.space, chain), heap_bytes(value.space)
    moved = int(root_evacuate(value.space.state, chain, value.tally))
    assert elements(value.space, moved) == fields and blocks(value.space, moved) == count > 2
    assert value.tally[LOOKED] == count and value.tally[MOVED] > 1
    assert heap_bytes(value.space) == before
    check_heap(value.space)


@pytest.mark.parametrize("free", [*range(0, MOVE_FRAMES + FRAMES + 8, 40), 1000])
def test_short_of_frames_a_chain_stays_whole(free: int) -> None:
    value = Value(1, 0)
    chain, fields = chain_apart(value)
    child = value.space.fork(ForkMode.CONSTANT)
    with only(value.space.memory, free):
        moved = int(root_evacuate(value.space.state, chain, value.tally))
    assert elements(value.space, moved) == elements(child, chain) == fields
    assert (value.tally[MOVED] > 1) == (free == 1000)
    check_heap(value.space)


def test_roots_of_all_kinds_move() -> None:
    value = Value(1, 0)
    state = value.space.state
    packed = add_packed(value, [b"a", b"bb"])
    ints = int(ints_new(state))
    for i in range(40):
        ints = int(ints_insert(state, ints, i * 7))
    for size in 3 * CLASS_SIZES[:40]:
        value.junk += [(int(heap_alloc(state, size)), size) for _ in range(4096 // size)]
        assert heap_alloc(state, size)  # one that stays
    before = memory_of(value.space, ints, 90)
    value.thin()
    new = int(root_evacuate(state, packed, value.tally))
    assert new != packed and items_of(value.space, new) == [b"a", b"bb"]
    new = int(root_evacuate(state, ints, value.tally))
    check_ints(state, new)
    assert new != ints and memory_of(value.space, new, 90) == before
    old, value.record = value.record, int(root_evacuate(state, value.record, value.tally))
    assert value.record != old and words_of(value.space, value.record, 9)[1:] == [0] * 8
    assert value.tally.tolist() == [3, 3]
    assert value.step(0, 1 << 30) == -1, "it has no parts"
    check_heap(value.space)
