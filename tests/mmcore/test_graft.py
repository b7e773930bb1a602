"""Saplings: trees of pages that belong to no space, until they are grafted or released."""

import numpy as np
import pytest

from mmcore import AddressSpace, ForkMode, PhysicalMemory, check_memory
from mmcore.check import check_heap
from mmcore.graft import graft, sapling_address, sapling_grow, sapling_new, sapling_piece
from mmcore.heap import ADOPT_MIN, heap_adopt, heap_alloc, heap_free, heap_init, heap_reclaim_step, heap_used
from mmcore.release import CURSOR_SIZE, release_all
from tests.mmcore.support import GIB, MIB2, PAGE, contents, machine, only


def sapling(memory: PhysicalMemory, space: AddressSpace, pages: int, step: int = 100) -> int:
    """A sapling whose pages hold their numbers."""
    root = int(sapling_new(space.state))
    for first in range(0, pages, step):
        assert sapling_grow(space.state, root, first, min(step, pages - first)) == 0
    for page in range(pages):
        at = int(sapling_address(space.state, root, page * PAGE))
        memory.state.arrays.bytes[at : at + 8] = np.frombuffer(page.to_bytes(8, "little"), np.uint8)
    return root


def let_go(memory: PhysicalMemory, root: int) -> None:
    """Release what is left of a sapling."""
    release_all(memory.state, np.zeros(CURSOR_SIZE, np.int64), root)


def numbers(space: AddressSpace, va: int, pages: int) -> list[int]:
    """The numbers in the pages at `va`."""
    return [int.from_bytes(space.read(va + page * PAGE, 8), "little") for page in range(pages)]


@pytest.mark.parametrize("pages", [1, 512, 513, 1300])
def test_a_grafted_sapling_is_the_space_s_own(pages: int) -> None:
    memory, space = machine(4000)
    space.map(GIB - PAGE, PAGE)
    root = sapling(memory, space, pages)
    check_memory(memory, [space], [root])
    graft(space.state, root, pages, GIB)
    check_memory(memory, [space], [root])
    let_go(memory, root)
    check_memory(memory, [space])
    assert numbers(space, GIB, pages) == list(range(pages))
    space.write(GIB + (pages - 1) * PAGE, b"x")
    space.unmap(GIB, pages * PAGE)
    space.exit()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total


@pytest.mark.parametrize("mode", list(ForkMode))
def test_forks_and_resets_of_spaces_leave_it_alone_and_it_counts_as_changed_when_it_is_grafted(mode: ForkMode) -> None:
    memory, space = machine(4000)
    space.map(0, PAGE)
    root = sapling(memory, space, 600)
    epoch = space.epoch
    child = space.fork(mode)
    later = space.epoch
    other = space.fork(mode)
    assert sapling_grow(space.state, root, 600, 10) == 0
    check_memory(memory, [space, child, other], [root])
    graft(space.state, root, 610, GIB)
    for since in (epoch, later):
        assert list(space.changed_since(since)) == [(GIB, 610 * PAGE)]
    newest = space.epoch
    last = space.fork(mode)
    assert list(space.changed_since(newest)) == []
    space.write(GIB + 5 * PAGE, b"x")
    assert list(space.changed_since(newest)) == [(GIB + 5 * PAGE, PAGE)]
    assert numbers(last, GIB, 600) == list(range(600)) and not child.mapped(GIB, 1)
    check_memory(memory, [space, child, other, last], [root])


def test_pieces_are_neighbours_in_memory() -> None:
    memory, space = machine(3000)
    space.map(0, 3 * PAGE)
    root = sapling(memory, space, 300, 64)
    at = 100
    while at < 300 * PAGE:
        count = int(sapling_piece(space.state, root, at, min(50_000, 300 * PAGE - at)))
        assert 0 < count <= 50_000
        first = int(sapling_address(space.state, root, at))
        for page in range(at // PAGE + 1, (at + count - 1) // PAGE + 1):
            assert int(sapling_address(space.state, root, page * PAGE)) == first + page * PAGE - at
        at += count
    let_go(memory, root)


def test_the_heap_adopts_one_or_says_that_frames_are_short() -> None:
    memory, space = machine(5000, 256)
    assert heap_init(space.state) == 0
    heap_alloc(space.state, 3 * PAGE)
    for size in (ADOPT_MIN + 1, MIB2, 5 * MIB2 + 1):
        pages = -(-size // PAGE)
        root, before = sapling(memory, space, pages), int(heap_used(space.state))
        kept = contents(memory, space.root)
        va = free = 0
        while va == 0:
            with only(memory, free) as held:
                va = int(heap_adopt(space.state, root, size))
                assert va or contents(memory, space.root) == kept
                check_memory(memory, [space], [root, *held])
            free += 8
        let_go(memory, root)
        assert check_heap(space) == before + pages * PAGE
        assert numbers(space, va, pages) == list(range(pages))
        check_memory(memory, [space])
        assert heap_free(space.state, va, size) == 0
    while heap_reclaim_step(space.state, 100):
        pass
    check_heap(space)
    check_memory(memory, [space])
