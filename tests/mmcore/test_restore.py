"""Building an address space from pages that are there already, or in a buffer."""

import random

import numpy as np
import pytest

from mmcore import AddressSpace, PhysicalMemory, check_memory
from mmcore.errors import NO_FRAME
from mmcore.paging import PAGE_SIZE, VA_LIMIT
from mmcore.restore import adopt_repeats, adopt_runs, claim_fresh, frames_to_repeat, place_pages, tables_for_runs
from mmcore.state import FREE_COUNT, FRESH, TABLES_MADE
from tests.mmcore.support import frame_at

SIZE = 4 << 20
GIB = 1 << 30
LAYOUTS = {
    "nothing": [],
    "one page": [(0x5000, 1)],
    "neighbours with a hole": [(0x5000, 2), (0x8000, 3)],
    "across a page table": [((2 << 20) - 2 * PAGE_SIZE, 5)],
    "across a page directory": [(GIB - PAGE_SIZE, 2)],
    "across a PDPT": [((1 << 39) - PAGE_SIZE, 2)],
    "both ends of the lower half": [(0, 1), (VA_LIMIT - PAGE_SIZE, 1)],
    "several in one table": [(0x1000 * i, 1) for i in range(0, 60, 2)],
    "far apart": [(0x1000, 3), (GIB, 2), (3 * GIB + 0x7000, 1), (5 << 39, 4), ((5 << 39) + GIB, 1)],
}


def runs_of(layout: str) -> np.ndarray:
    return np.array(LAYOUTS[layout], dtype=np.int64).reshape(-1, 2)


def pages_in(runs: np.ndarray) -> int:
    return int(runs[:, 1].sum())


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def assert_holds(space: AddressSpace, runs: np.ndarray, data: bytes) -> None:
    offset = 0
    for address, pages in runs.tolist():
        assert space.read(address, pages * PAGE_SIZE) == data[offset : offset + pages * PAGE_SIZE]
        offset += pages * PAGE_SIZE


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory(SIZE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adopted_runs_are_mapped_onto_the_frames_that_hold_them(memory, layout):
    runs = runs_of(layout)
    data = random_bytes(1, pages_in(runs) * PAGE_SIZE)
    first = 100
    memory.state.bytes[first * PAGE_SIZE : first * PAGE_SIZE + len(data)] = np.frombuffer(data, np.uint8)
    space = AddressSpace(memory)
    free = memory.frames_free
    tables = int(tables_for_runs(runs))
    assert adopt_runs(space.state, runs, first) == 0
    check_memory(memory, [space])
    assert memory.frames_free == free - pages_in(runs) - tables
    assert space.state.processor[TABLES_MADE] == tables
    assert space.counters["pages_mapped"] == pages_in(runs)
    assert_holds(space, runs, data)
    for address, _pages in runs.tolist():
        space.write(address, b"written")  # they are like any other pages
        assert space.read(address, 7) == b"written"
    check_memory(memory, [space])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_placed_pages_are_copied_into_frames_wherever_there_are_some(memory, layout):
    runs = runs_of(layout)
    data = random_bytes(2, pages_in(runs) * PAGE_SIZE)
    other, space = AddressSpace(memory), AddressSpace(memory)
    other.map(0x10_0000, 200 * PAGE_SIZE)
    for page in random.Random(3).sample(range(200), 150):
        other.unmap(0x10_0000 + page * PAGE_SIZE, PAGE_SIZE)  # leaves holes all over
    free = memory.frames_free
    cursor = np.zeros(2, np.int64)
    done = 0
    while done < pages_in(runs):
        step = min(7, pages_in(runs) - done)
        buffer = np.frombuffer(bytearray(data[done * PAGE_SIZE : (done + step) * PAGE_SIZE]), np.uint8)
        place_pages(space.state, runs, cursor, buffer, step)
        done += step
        check_memory(memory, [other, space])
    assert cursor.tolist() == [len(runs), 0]
    assert memory.frames_free == free - pages_in(runs) - tables_for_runs(runs)
    assert_holds(space, runs, data)


def test_runs_that_do_not_fit_change_nothing(memory):
    space = AddressSpace(memory)
    total = memory.frames_total
    registers = memory.state.frames.tolist()
    too_many = [
        (np.array([[0, total]]), 1),  # more pages than frames
        (np.array([[0, 10]]), total - 9),  # frames beyond the end
        (np.array([[0, 10]]), 0),  # frames in use
        (np.array([[0, total - 3]]), 1),  # no frames for the tables
    ]
    for runs, first in too_many:
        assert adopt_runs(space.state, np.ascontiguousarray(runs, dtype=np.int64), first) == NO_FRAME
        assert memory.state.frames.tolist() == registers
    check_memory(memory, [space])


def test_runs_that_just_fit_fit(memory):
    space = AddressSpace(memory)
    pages = memory.frames_total - 1 - 4  # the root; a PDPT, a PD, two PTs
    runs = np.array([[0, pages]], dtype=np.int64)
    assert tables_for_runs(runs) == 4
    first = memory.frames_total - pages
    assert adopt_runs(space.state, runs, first) == 0
    assert memory.frames_free == 0
    check_memory(memory, [space])


def test_frames_passed_over_are_free_and_handed_out_in_order(memory):
    state, arrays = memory.state, memory.state.arrays
    arrays.bytes[6 * PAGE_SIZE : 10 * PAGE_SIZE] = 7  # what those claimed hold; those before them were never used
    claim_fresh(state, 6, 4)
    assert (int(state.frames[FRESH]), int(state.frames[FREE_COUNT])) == (10, memory.frames_total - 4)
    arrays.refcount[6:10] = 1
    space = AddressSpace(memory)
    assert space.root == 0
    space.map(0, PAGE_SIZE)
    assert space.read(0, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert [frame_at(space, 0, level) for level in (3, 2, 1, 0)] == [1, 2, 3, 4]


def test_an_adopted_space_forks_and_goes_back_to_the_last_frame(memory):
    space = AddressSpace(memory)
    free = memory.frames_free
    runs = runs_of("far apart")
    assert adopt_runs(space.state, runs, 50) == 0
    child = space.fork()
    child.write(0x1000, b"child")
    assert space.read(0x1000, 5) == bytes(5)
    check_memory(memory, [space, child])
    child.exit()
    space.reset()
    check_memory(memory, [space])
    assert memory.frames_free == free


REPEATS = {
    "none": [],
    "beside the page": [(0x6000, 1), (0x9000, 3)],
    "a whole table": [(2 << 20, 512)],
    "most of two tables": [((2 << 20) + PAGE_SIZE, 1022)],
    "many tables, and edges": [((4 << 20) - 3 * PAGE_SIZE, 3 + 40 * 512 + 5)],
    "across a page directory": [(GIB - 9 * PAGE_SIZE, 20)],
    "far apart": [(0x6000, 2), (GIB, 700), (3 * GIB + 0x7000, 1), (5 << 39, 2000)],
}


@pytest.mark.parametrize("layout", REPEATS)
@pytest.mark.parametrize("spare", [0, 100])
def test_a_page_is_mapped_again_where_an_image_repeats_it(layout, spare):
    """With just the frames that were counted, and with more."""
    repeats = np.array(REPEATS[layout], dtype=np.int64).reshape(-1, 2)
    runs = np.array([(0x5000, 1), (0x8000, 1)], dtype=np.int64)
    merged = np.array(sorted(runs.tolist() + repeats.tolist()), dtype=np.int64)
    needed = 2 + int(tables_for_runs(merged)) + int(frames_to_repeat(repeats))
    memory = PhysicalMemory((1 + needed + spare) * PAGE_SIZE)
    space = AddressSpace(memory)
    memory.state.arrays.bytes[2 * PAGE_SIZE : 3 * PAGE_SIZE] = 7
    assert adopt_runs(space.state, runs, 2) == 0
    adopt_repeats(space.state, 0x5000, repeats)
    check_memory(memory, [space])
    assert memory.frames_free >= spare
    assert space.counters["pages_mapped"] == 2 + pages_in(repeats)
    before = memory.frames_free
    for address, pages in repeats.tolist():
        assert space.read(address, pages * PAGE_SIZE) == b"\7" * pages * PAGE_SIZE
        if spare:
            space.write(address + (pages - 1) * PAGE_SIZE, b"mine")  # copies the page, and a shared table at most
    assert before - memory.frames_free <= 2 * len(repeats) and space.read(0x5000, PAGE_SIZE) == b"\7" * PAGE_SIZE
    check_memory(memory, [space])
    space.exit()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total
