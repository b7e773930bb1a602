"""Collections by their roots: copies, their memory, and the grave, in every form, beside forks, and short of frames."""

from collections.abc import Callable

import numpy as np
import pytest

from kvstore.lifetimes.sizes import COPYING_WORDS
from kvstore.structures.buckets import ADDRESS
from kvstore.structures.collection import root_copy, root_count, root_free, root_memory
from kvstore.structures.copying import COPIED, MORE, copying_begin, copying_step, copying_take
from kvstore.structures.element import element_alloc, element_hash
from kvstore.structures.grave import bury, dig
from kvstore.structures.hash import hash_bytes
from kvstore.structures.record import OWNS_ELEMENTS, RECORD_SIZE, TREE, record_new
from kvstore.structures.spread import record_of_chain
from kvstore.structures.table import TABLE_FRAMES, table_add, table_find
from kvstore.structures.tree import check_tree, tree_insert
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at
from mmcore import AddressSpace
from mmcore.check import check_heap, check_memory
from mmcore.errors import NO_FRAME
from mmcore.fork import CONSTANT, fork
from mmcore.heap import OWNER_BASE
from mmcore.jit import int64, linked, void
from mmcore.mapping import load_cr3
from mmcore.processor import Processor
from mmcore.space import frozen_reader, release
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, heap_bytes, memory_of, space_of_heap, words_of
from tests.kvstore.structures.test_chain import chain_of, elements
from tests.kvstore.structures.test_element import part
from tests.kvstore.structures.test_sequence import keys, sequence_of
from tests.mmcore.support import contents, only, scaled

SEED, GRAVE, NUMBER = 0x5EED, OWNER_BASE, 0x1234_5678_9ABC
FRAMES = 4000
COUNT = scaled(300, 40)


def table_of(space: AddressSpace, count: int, size: int, ordered: bool = False) -> int:
    """A record with a table of elements whose payloads have `size` bytes; if ordered, with a tree of them, too."""
    root = int(record_new(space.state, OWNS_ELEMENTS))
    for i in range(count):
        key, payload = b"key:%d" % i, b"%08d" % i + b"." * (size - 8)
        element = int(element_alloc(space.state, at(key), len(key), at(payload), len(payload)))
        hash_ = int(element_hash(space.state, element, SEED))
        assert table_add(space.state, root, SEED, hash_, element) == 0
        if ordered:
            assert tree_insert(space.state, root, i * 7 % 13, element) == 0
    return root


def hash_in(space: AddressSpace, count: int, size: int) -> int:
    return table_of(space, count, size)


def sorted_set_in(space: AddressSpace, count: int, size: int) -> int:
    return table_of(space, count, size, ordered=True)


def list_in(space: AddressSpace, count: int, size: int) -> int:
    return sequence_of(space, [b"%08d" % i + b"." * (size - 8) for i in range(count)])


@linked(void(SPACE, int64, int64))
def put_into_grave(space, head, record):  # type: ignore[no-untyped-def]
    """bury, for Python."""
    bury(space, head, record)


FORMS = (hash_in, sorted_set_in, list_in)
Form = Callable[[AddressSpace, int, int], int]


def element(space: AddressSpace, va: int) -> tuple[bytes, bytes]:
    k, p, key, payload = (int(part(space.state, va, which)) for which in range(4))
    return memory_of(space, key, k), memory_of(space, payload, p)


def walked(space: AddressSpace, root: int) -> list[tuple[bytes, bytes]]:
    """The elements that a walk meets."""
    walk, found = np.zeros(WALK_WORDS, np.int64), []
    walk_begin(space.state, root, walk)
    while va := int(walk_next(space.state, walk)):
        found.append(element(space, va))
    return found


@linked(int64(int64, int64))
def hash_at(address, count):  # type: ignore[no-untyped-def]
    """hash_bytes of bytes in the process, for Python."""
    return hash_bytes(bytes_at(address, count), 0, count, SEED)


def hash_bytes_of(key: bytes) -> int:
    return int(hash_at(at(key), len(key)))


def whole(space: AddressSpace, root: int, form: Form) -> list[object]:
    """All that a collection holds, in its order where it has one."""
    if form is list_in:
        return [*keys(space, root)]
    found = walked(space, root)
    assert len(found) == root_count(space.state, root)
    tree = words_of(space, root + TREE, 1)[0]
    ordered = [(word, element(space, va)) for word, va in check_tree(space.state, root, 0)] if tree else []
    return [*sorted(found), *ordered]


def dig_all(space: AddressSpace, budget: int) -> int:
    """Empty the grave: the number of steps."""
    steps = 0
    while (work := int(dig(space.state, GRAVE, budget, 0))) > 0:
        assert work <= budget + 64  # a bucket with its chain, or a node, is not divided
        steps += 1
    assert words_of(space, GRAVE, 1) == [0]
    return steps


@pytest.mark.parametrize("size", [8, 200, 5000])
@pytest.mark.parametrize("form", FORMS)
def test_a_copy_shares_nothing_with_the_first(form: Form, size: int) -> None:
    space = space_of_heap(FRAMES)
    empty = heap_bytes(space)
    root = form(space, COUNT, size)
    kept, one = whole(space, root, form), heap_bytes(space) - empty
    copy = int(root_copy(space.state, GRAVE, root, SEED))
    assert copy not in (0, root)
    assert whole(space, copy, form) == kept
    root_free(space.state, GRAVE, root)
    dig_all(space, 50)
    assert whole(space, copy, form) == kept
    assert heap_bytes(space) - empty <= one * 5 // 4
    root_free(space.state, GRAVE, copy)
    dig_all(space, 50)
    assert heap_bytes(space) == empty
    check_heap(space)
    check_memory(space.memory, [space])


@pytest.mark.parametrize("count", [0, 1, 20, 120])
def test_a_chain_is_walked_copied_sized_and_spread(count: int) -> None:
    space = space_of_heap(FRAMES)
    state, empty = space.state, heap_bytes(space)
    fields = [(b"field:%d" % i, b"value" * (i % 5)) for i in range(count)]
    root = chain_of(space, fields)
    assert root_count(state, root) == count and root_memory(state, root, 0) == heap_bytes(space) - empty
    assert walked(space, root) == fields
    copy = int(root_copy(state, GRAVE, root, SEED))
    root_free(state, GRAVE, root)
    assert elements(space, copy) == fields and root_memory(state, copy, 0) == heap_bytes(space) - empty
    record = int(record_of_chain(state, copy, SEED, OWNS_ELEMENTS))
    assert sorted(walked(space, record)) == sorted(fields) and root_count(state, record) == count
    for key, payload in fields:
        slot = int(table_find(state, record, hash_bytes_of(key), at(key), len(key)))
        assert element(space, words_of(space, slot, 1)[0] & ADDRESS) == (key, payload)
    root_free(state, GRAVE, record)
    dig_all(space, 50)
    assert heap_bytes(space) == empty
    check_heap(space)


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_that_runs_out_of_frames_leaves_nothing(form: Form) -> None:
    space = space_of_heap(FRAMES)
    root = form(space, scaled(100, 30), 3000)
    kept, used = whole(space, root, form), heap_bytes(space)
    outcomes = set()
    for free in range(0, 520, scaled(13, 60)):
        frozen = int(fork(space.state, CONSTANT))
        before = contents(space.memory, frozen)
        with only(space.memory, free):
            copy = int(root_copy(space.state, GRAVE, root, SEED))
        outcomes.add(copy != 0)
        assert whole(space, root, form) == kept, free
        if copy != 0:
            assert whole(space, copy, form) == kept, free
            root_free(space.state, GRAVE, copy)
        dig_all(space, 1000)
        assert heap_bytes(space) == used, free
        assert contents(space.memory, frozen) == before, free
        release(space.memory, frozen)
    assert outcomes == {False, True}
    check_heap(space)
    check_memory(space.memory, [space])


class Stepwise:
    """A copy in steps of a root as it is now, from a frozen root, in the grave of the space."""

    def __init__(self, space: AddressSpace, root: int) -> None:
        self.space, self.frozen = space, int(fork(space.state, CONSTANT))
        self.reader, self.state = frozen_reader(space.memory, Processor()), np.zeros(COPYING_WORDS, np.int64)
        load_cr3(self.reader, self.frozen)
        assert copying_begin(space.state, self.reader, root, NUMBER, self.state) == 1
        put_into_grave(space.state, GRAVE, self.state[1])

    def step(self, budget: int) -> int:
        return int(copying_step(self.space.state, self.reader, SEED, self.state, budget))

    def end(self) -> None:
        release(self.space.memory, self.frozen)


@pytest.mark.parametrize("size", [200, 5000])
@pytest.mark.parametrize("budget", [1, 8])
@pytest.mark.parametrize("form", FORMS)
def test_a_copy_in_steps_is_of_what_was_frozen(form: Form, budget: int, size: int) -> None:
    space = space_of_heap(2 * FRAMES)
    empty = heap_bytes(space)
    root = form(space, max(COUNT, 80), size)  # enough for several steps of the greatest budget
    kept = whole(space, root, form)
    copying, others = Stepwise(space, root), 0
    root_free(space.state, GRAVE, root)
    while (code := copying.step(budget)) == MORE:
        others += int(dig(space.state, GRAVE, 5, NUMBER))
        if others % 7 == 0:  # and something else comes to lie where the original was
            root_free(space.state, GRAVE, form(space, 12, size))
    assert code == COPIED and others > 0
    copy = int(copying_take(space.state, copying.state))
    while dig(space.state, GRAVE, 100, NUMBER) > 0:
        pass
    assert words_of(space, GRAVE, 1) == [copying.state[1]], "the record that was built stays behind, empty"
    assert whole(space, copy, form) == kept
    dig_all(space, 50)
    assert whole(space, copy, form) == kept
    copying.end()
    check_memory(space.memory, [space])
    root_free(space.state, GRAVE, copy)
    dig_all(space, 50)
    assert heap_bytes(space) == empty
    check_heap(space)


@pytest.mark.parametrize("form", FORMS)
def test_half_a_copy_is_dug_out_like_anything_else(form: Form) -> None:
    space = space_of_heap(FRAMES)
    root = form(space, COUNT, 200)
    kept, used = whole(space, root, form), heap_bytes(space)
    for steps in range(0, 40, scaled(1, 9)):
        copying = Stepwise(space, root)
        for _ in range(steps):
            copying.step(10)
        assert dig(space.state, GRAVE, 1000, NUMBER) == 0 and heap_bytes(space) >= used + RECORD_SIZE
        dig_all(space, 1000)
        assert heap_bytes(space) == used
        copying.end()
    assert whole(space, root, form) == kept
    check_heap(space)
    check_memory(space.memory, [space])


@pytest.mark.parametrize("form", FORMS)
def test_a_step_without_frames_leaves_a_sound_half(form: Form) -> None:
    space = space_of_heap(FRAMES)
    root = form(space, scaled(100, 30), 3000)
    kept, used = whole(space, root, form), heap_bytes(space)
    codes = set()
    for free in range(60, 560, scaled(13, 60)):
        copying, code = Stepwise(space, root), MORE
        with only(space.memory, free):
            while code == MORE:
                code = copying.step(10)
            codes.add(code)
        dig_all(space, 1000)
        assert heap_bytes(space) == used, free
        assert whole(space, root, form) == kept, free
        copying.end()
    assert codes == {NO_FRAME, COPIED}
    check_heap(space)
    check_memory(space.memory, [space])


@pytest.mark.parametrize("form", FORMS)
def test_a_step_does_no_long_piece_beyond_its_budget(form: Form) -> None:
    space = space_of_heap(FRAMES)
    root = form(space, 20, 5000)  # each counts as five
    copying, steps = Stepwise(space, root), 1
    while copying.step(6) == MORE:
        steps += 1
    assert steps in (20, 21), "one element a step; a list has an end that may be empty"
    dig_all(space, 1000)
    copying.end()


@pytest.mark.parametrize("budget", [1, 7, 100_000])
def test_the_grave_takes_all_forms_and_gives_back_all_memory(budget: int) -> None:
    space = space_of_heap(FRAMES)
    empty = heap_bytes(space)
    roots = [form(space, count, 100) for form in FORMS for count in (1, COUNT)]
    frozen = int(fork(space.state, CONSTANT))
    before = contents(space.memory, frozen)
    for root in roots:
        root_free(space.state, GRAVE, root)
    with only(space.memory, TABLE_FRAMES - 1):
        assert dig(space.state, GRAVE, budget, 0) == 0
    steps = dig_all(space, budget)
    assert steps == 1 if budget > 1000 else steps > 2 * COUNT // (budget + 64)
    assert heap_bytes(space) == empty
    assert contents(space.memory, frozen) == before
    release(space.memory, frozen)
    check_heap(space)
    check_memory(space.memory, [space])


@pytest.mark.parametrize("samples", [0, 5])
@pytest.mark.parametrize("size", [8, 200, 5000])
@pytest.mark.parametrize("form", FORMS)
def test_memory_is_that_of_the_heap(form: Form, size: int, samples: int) -> None:
    space = space_of_heap(FRAMES)
    empty = heap_bytes(space)
    root = form(space, COUNT, size)
    used, said = heap_bytes(space) - empty, int(root_memory(space.state, root, samples))
    assert 0.75 * used <= said <= 1.25 * used
