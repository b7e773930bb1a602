"""The heap against a dict of allocations, with check_heap and check_memory."""

import random
from itertools import pairwise

import numpy as np
import pytest

from mmcore import AddressSpace, CorruptMemory, ForkMode, PhysicalMemory, check_memory
from mmcore.check import check_heap
from mmcore.heap import (
    CLASS_SIZES,
    CONTROL,
    HEAP_END,
    HEAP_FRAMES,
    LARGE_BASE,
    OWNER_BASE,
    QUEUE_PAGES,
    SLAB_BASE,
    SLAB_META,
    heap_alloc,
    heap_free,
    heap_init,
    heap_reclaim_step,
    heap_resize,
    heap_size,
    heap_used,
)
from tests.mmcore.support import PAGE, contents, machine, only, scaled

SIZES = (1, 8, 9, 16, 17, 64, 100, 112, 128, 129, 500, 512, 513, 585, 1000, 1361, 2048, 2049, 4096, 4097, 9000, 30_000)
SIZES += (70 * PAGE, 90 * PAGE)  # large enough to be queued when freed


def heap(frames: int = 1500) -> tuple[PhysicalMemory, AddressSpace]:
    memory, space = machine(frames, 256)
    assert heap_init(space.state) == 0
    return memory, space


def check(memory: PhysicalMemory, *spaces: AddressSpace) -> None:
    check_memory(memory, spaces)
    for space in spaces:
        assert check_heap(space) == heap_used(space.state)


def test_class_sizes() -> None:
    assert CLASS_SIZES[:16] == tuple(range(8, 129, 8))
    assert CLASS_SIZES[15:40] == tuple(range(128, 513, 16))
    assert CLASS_SIZES[39:] == (512, 584, 680, 816, 1024, 1360, 2048, 4096)
    for size in range(4097):
        assert heap_size(size) == min(each for each in CLASS_SIZES if each >= size)
    assert [heap_size(size) for size in (4097, 8192, 8193, 1 << 20)] == [8192, 8192, 12288, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_an_allocation_is_aligned_disjoint_and_within_a_page(size: int) -> None:
    memory, space = heap()
    taken = sorted(heap_alloc(space.state, size) for _ in range(12))
    assert all(va % 8 == 0 and va > 0 for va in taken)
    if heap_size(size) in (16, 64, 128, 512, 2048):
        assert all(va % heap_size(size) == 0 for va in taken), "a power of two is aligned to its size"
    assert all(b - a >= heap_size(size) for a, b in pairwise(taken))
    if size <= PAGE:
        assert all(va >= SLAB_BASE and va // PAGE == (va + size - 1) // PAGE for va in taken)
    else:
        assert all(LARGE_BASE <= va < HEAP_END and va % PAGE == 0 for va in taken)
    assert heap_used(space.state) == 12 * heap_size(size)
    check(memory, space)
    for va in taken:
        assert heap_free(space.state, va, size) == 0
    while heap_reclaim_step(space.state, 1000):
        pass
    assert heap_used(space.state) == 0
    check(memory, space)


@pytest.mark.parametrize("seed", range(scaled(8, 2)))
def test_random_allocations_keep_their_bytes(seed: int) -> None:
    memory, space = heap()
    choose = random.Random(seed)
    live: dict[int, bytes] = {}
    frozen: list[tuple[AddressSpace, dict[int, bytes]]] = []

    def fill(va: int, size: int, kept: bytes = b"") -> None:
        data = kept[:size] + choose.randbytes(1) * (size - len(kept[:size]))
        space.write(va, data)
        live[va] = data

    for step in range(scaled(1500, 250)):
        action = choose.choices(("alloc", "free", "resize", "reclaim", "fork", "exit"), (10, 8, 5, 2, 0.3, 0.4))[0]
        size = choose.choice(SIZES)
        room = memory.frames_free >= size // PAGE + 3 * HEAP_FRAMES
        if action == "alloc" and room and (va := heap_alloc(space.state, size)):
            assert not any(va < other + len(data) and other < va + size for other, data in live.items())
            fill(va, size)
        elif action == "free" and live and room:
            va = choose.choice(list(live))
            assert heap_free(space.state, va, len(live.pop(va))) == 0
        elif action == "resize" and live and room:
            va = choose.choice(list(live))
            before = live.pop(va)
            moved = heap_resize(space.state, va, len(before), size) or va
            if moved != va or heap_size(len(before)) == heap_size(size) or space_holds(space, va, len(before), size):
                assert space.read(moved, min(size, len(before))) == before[:size]
                fill(moved, size, before)
            else:
                live[va] = before
        elif action == "reclaim":
            budget = choose.randrange(1, 60)
            assert 0 <= heap_reclaim_step(space.state, budget) <= budget
        elif action == "fork" and len(frozen) < 2 and memory.frames_free > 200:
            frozen.append((space.fork(ForkMode(step % 2)), dict(live)))
        elif action == "exit" and frozen:
            frozen.pop(0)[0].exit()
        if step % 25 == 0:
            check(memory, space, *(child for child, _ in frozen))
            assert heap_used(space.state) == sum(heap_size(len(data)) for data in live.values())
            for holder, expected in [(space, live), *frozen]:
                assert all(holder.read(va, len(data)) == data for va, data in expected.items())
    for va, data in live.items():
        assert heap_free(space.state, va, len(data)) == 0
    while heap_reclaim_step(space.state, 100):
        pass
    assert check_heap(space) == 0
    for child, _ in frozen:
        child.exit()
    space.exit()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total


def space_holds(space: AddressSpace, va: int, old: int, new: int) -> bool:
    """Whether a large allocation was resized where it stands."""
    return old > PAGE and new > PAGE and space.mapped(va, new) and not (old > new and space.mapped(va, old))


def test_a_child_has_the_heap_too() -> None:
    memory, space = heap()
    va = heap_alloc(space.state, 100)
    space.write(va, b"parent")
    child = space.fork(ForkMode.ON_DEMAND)
    both = heap_alloc(space.state, 100)
    assert heap_alloc(child.state, 100) == both
    assert heap_free(child.state, va, 100) == 0
    assert space.read(va, 6) == b"parent"
    check(memory, space, child)
    assert heap_used(space.state) == 208 and heap_used(child.state) == 104


def test_an_emptied_page_goes_back_unless_it_is_the_last_with_room() -> None:
    memory, space = heap()
    first = [heap_alloc(space.state, 1024) for _ in range(9)]  # three pages
    free = memory.frames_free
    for va in first[:4]:
        heap_free(space.state, va, 1024)
    assert memory.frames_free == free + 1
    assert first[0] == heap_alloc(space.state, 4096) & -PAGE, "its number is used again"
    check(memory, space)


def test_a_large_run_grows_and_shrinks_in_its_range() -> None:
    memory, space = heap()
    va = heap_alloc(space.state, 5 * PAGE)  # of a range of 8 pages
    space.write(va, b"kept")
    free = memory.frames_free
    assert heap_resize(space.state, va, 5 * PAGE, 8 * PAGE) == va and memory.frames_free == free - 3
    assert heap_resize(space.state, va, 8 * PAGE, 2 * PAGE) == va and memory.frames_free == free + 3
    moved = heap_resize(space.state, va, 2 * PAGE, 9 * PAGE)
    assert moved not in (0, va) and space.read(moved, 4) == b"kept"
    check(memory, space)


def test_a_large_free_is_only_queued_and_given_back_in_pieces() -> None:
    memory, space = heap(2500)
    pages = 4 * QUEUE_PAGES + 700
    va = heap_alloc(space.state, pages * PAGE)
    free = memory.frames_free
    assert heap_free(space.state, va, pages * PAGE) == 0
    assert memory.frames_free == free and heap_used(space.state) == 0
    steps = released = 0
    while done := heap_reclaim_step(space.state, 50):
        assert done <= 50
        released += done
        steps += 1
        check(memory, space)
    assert released == pages and steps >= pages // 50
    assert memory.frames_free >= free + pages
    assert heap_alloc(space.state, pages * PAGE) == va, "the range is used again"


def test_no_more_frames_is_zero_and_changes_nothing() -> None:
    memory, space = heap(300)
    small = [heap_alloc(space.state, 600) for _ in range(20)]
    child = space.fork(ForkMode.ON_DEMAND)
    before, old = contents(memory, space.root), contents(memory, child.root)
    for free in range(12):
        with only(memory, free) as held:
            kept = contents(memory, space.root)
            for answer in (
                heap_alloc(space.state, 9 * PAGE),
                heap_alloc(space.state, 600),
                heap_resize(space.state, small[5], 600, 3 * PAGE),
            ):
                assert answer == 0 or free >= 6
            if free < 6 and heap_free(space.state, small[7], 600) < 0:
                assert contents(memory, space.root) == kept
            check_memory(memory, [space, child], held)
            check_heap(space)
            assert contents(memory, child.root) == old
        space.exit()
        space = child.fork(ForkMode.ON_DEMAND)
    assert before == old


def test_frees_of_what_was_not_allocated_are_bugs() -> None:
    _, space = heap()
    va = heap_alloc(space.state, 100)
    large = heap_alloc(space.state, 3 * PAGE)
    for wrong, size in ((va, 500), (va + 104, 100), (large, 100), (va, 3 * PAGE), (large, 2 * PAGE), (0, 100)):
        with pytest.raises(AssertionError):
            heap_free(space.state, wrong, size)
    heap_free(space.state, large, 3 * PAGE)
    with pytest.raises(AssertionError):
        heap_free(space.state, large, 3 * PAGE)
    with pytest.raises(AssertionError):
        heap_alloc(space.state, -1)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        (CONTROL, "no heap"),
        (CONTROL + 8, "in use"),
        (SLAB_META, "counts"),
        (SLAB_META + 12, "list"),
        (SLAB_META + 6, "free"),
    ],
)
def test_check_heap_notices_damage(address: int, what: str) -> None:
    _, space = heap()
    keep = [heap_alloc(space.state, 100) for _ in range(3)]
    heap_free(space.state, keep[1], 100)
    check_heap(space)
    position = address + 2 if what == "counts" else address
    space.write(position, bytes([space.read(position, 1)[0] + 1]))
    with pytest.raises(CorruptMemory, match=what):
        check_heap(space)


def test_the_owner_has_the_other_half_of_the_control_page() -> None:
    _, space = heap()
    space.write(OWNER_BASE, b"\xff" * (PAGE - (OWNER_BASE - CONTROL)))
    va = [heap_alloc(space.state, size) for size in (10, 3000, 9000)]
    assert all(va) and check_heap(space) == sum(heap_size(size) for size in (10, 3000, 9000))
    assert space.read(OWNER_BASE, 8) == b"\xff" * 8
    assert np.count_nonzero(va) == 3
