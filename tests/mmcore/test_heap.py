"""The heap against a dict of allocations, with check_heap and check_memory."""

import random
import struct
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
    SLAB_BASE,
    heap_alloc,
    heap_extend,
    heap_free,
    heap_init,
    heap_reclaim_step,
    heap_repay,
    heap_repay_zeros,
    heap_resize,
    heap_settle,
    heap_share,
    heap_size,
    heap_used,
)
from mmcore.heap.layout import BORROWED, LARGE_FRESH, LARGE_META, SLAB_META
from mmcore.heap.ranges import QUEUE_PAGES
from tests.mmcore.support import MIB2, PAGE, contents, frame_at, machine, only, scaled, seeds

SIZES = (1, 8, 9, 16, 17, 64, 100, 112, 128, 129, 500, 512, 513, 585, 1000, 1361, 2048, 2049, 4096, 4097, 9000, 30_000)
SIZES += (70 * PAGE, 90 * PAGE)  # large enough to be queued when freed
ACTIONS = ("alloc", "free", "resize", "share", "reclaim", "fork", "exit")


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


@pytest.mark.parametrize("seed", seeds(8))
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
        action = choose.choices(ACTIONS, (10, 9, 5, 2, 2, 0.3, 0.4))[0]
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
        elif action == "share" and room and (large := [va for va, data in live.items() if len(data) > PAGE]):
            va = choose.choice(large)
            twin = heap_share(space.state, va, len(live[va]))
            if twin:
                live[twin] = live[va]
                if choose.randrange(2):
                    fill(choose.choice((va, twin)), len(live[va]))
                    heap_repay(space.state, twin)
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


def borrowed(space: AddressSpace) -> int:
    """Pages that are borrowed, by the control page."""
    return int.from_bytes(space.read(CONTROL + BORROWED, 8), "little")


def test_a_shared_allocation_takes_no_page_and_borrows_all_of_them() -> None:
    memory, space = heap(5000)
    size = 3 * MIB2 - PAGE
    va = heap_alloc(space.state, size)
    assert va % MIB2 == 0
    space.write(va, b"first")
    free = memory.frames_free
    twin = heap_share(space.state, va, size)
    assert twin % MIB2 == 0 and free - memory.frames_free < 10
    assert heap_used(space.state) == 2 * size and borrowed(space) == size // PAGE
    space.write(twin, b"other")
    assert space.read(va, 5) == b"first"
    check(memory, space)
    moved = heap_resize(space.state, twin, size, 5 * MIB2)
    assert moved % MIB2 == 0 and borrowed(space) == size // PAGE and space.read(moved, 5) == b"other"
    check(memory, space)
    assert heap_resize(space.state, moved, 5 * MIB2, MIB2) == moved and borrowed(space) == 512
    check(memory, space)
    heap_repay(space.state, moved)
    assert borrowed(space) == 0
    third = heap_share(space.state, va, size)
    heap_free(space.state, va, size)
    check(memory, space)
    while heap_reclaim_step(space.state, 100):
        pass
    assert borrowed(space) == size // PAGE and space.read(third, 5) == b"first"
    heap_settle(space.state)
    fourth = heap_share(space.state, third, size)
    assert borrowed(space) == size // PAGE
    heap_free(space.state, third, size)  # its debt is of an earlier era
    assert borrowed(space) == size // PAGE
    heap_free(space.state, fourth, size)
    assert borrowed(space) == 0
    check(memory, space)


def test_an_allocation_is_extended_by_zeros_that_it_borrows() -> None:
    """In its range and in a new one; a write takes a frame, and a page off the debt."""
    memory, space = heap(5000)
    va = heap_alloc(space.state, 2 * PAGE)
    space.write(va, b"first")
    free, size = memory.frames_free, 2 * PAGE
    for larger in (3 * PAGE, 5 * PAGE, MIB2 - PAGE, MIB2 + PAGE, 3 * MIB2 + 5 * PAGE, 3 * MIB2 + 6 * PAGE + 1):
        va = heap_extend(space.state, va, size, larger)
        assert borrowed(space) == -(-larger // PAGE) - 2 and space.read(va, larger)[5:] == bytes(larger - 5)
        assert heap_used(space.state) == -(-larger // PAGE) * PAGE
        size = larger
        check(memory, space)
    assert free - memory.frames_free < 16
    debt, child = borrowed(space), space.fork(ForkMode.CONSTANT)
    for at, count, pages in ((0, 9, 0), (MIB2 + 9, 5, 1), (MIB2 + 9, 5, 0), (2 * MIB2 - 3, 6, 2), (size - 1, 1, 1)):
        heap_repay_zeros(space.state, va, at, count)
        space.write(va + at, b"x" * count)
        debt -= pages
        assert borrowed(space) == debt
        check(memory, space, child)
    assert space.read(va, size).count(b"x") == 21 and child.read(va, size).count(b"x") == 0
    twin = heap_share(space.state, va, size)
    assert heap_resize(space.state, twin, size, MIB2) == twin and space.read(twin + MIB2 - 2, 2) == bytes(2)
    check(memory, space, child)
    for one, length in ((va, size), (twin, MIB2)):
        heap_free(space.state, one, length)
    while heap_reclaim_step(space.state, 100):
        pass
    assert borrowed(space) == 0 and heap_used(space.state) == 0
    check(memory, space, child)


@pytest.mark.parametrize("shared", [False, True])
def test_an_extension_that_gets_no_frames_changes_nothing(shared: bool) -> None:
    for free in range(0, 80, 3):
        memory, space = heap(5000)
        va = heap_alloc(space.state, MIB2)
        spaces = [space, space.fork(ForkMode.CONSTANT)] if shared else [space]
        before = [contents(memory, each.root) for each in spaces]
        with only(memory, free) as held:
            moved = heap_extend(space.state, va, MIB2, 5 * MIB2 + PAGE)
            check_memory(memory, spaces, held)
            if moved == 0:
                assert [contents(memory, each.root) for each in spaces] == before
        if moved != 0:
            assert borrowed(space) == 3 * 512 + 513
            check(memory, *spaces)
            return
    pytest.fail("never succeeded")


def test_a_shared_allocation_needs_few_frames_and_says_so() -> None:
    memory, space = heap(3000)
    size = 2 * MIB2
    va = heap_alloc(space.state, size)
    spaces = [space]
    for _ in range(2):
        for free in range(0, 60, scaled(1, 4)):
            with only(memory, free) as held:
                before = contents(memory, space.root)
                twin = heap_share(space.state, va, size)
                check_memory(memory, spaces, held)
                assert twin or contents(memory, space.root) == before
            if twin:
                break
        assert HEAP_FRAMES <= free <= HEAP_FRAMES + 4
        check(memory, *spaces)
        spaces.append(space.fork(ForkMode.CONSTANT))


def test_the_range_before_one_of_whole_tables_is_not_lost() -> None:
    memory, space = heap(3000)
    heap_alloc(space.state, 3 * PAGE)
    heap_alloc(space.state, MIB2 - PAGE)
    check(memory, space)
    below = heap_alloc(space.state, 100 * PAGE)
    assert below < LARGE_BASE + MIB2
    check(memory, space)


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


def own_books(space: AddressSpace) -> None:
    """Write to the heap's own pages, so that after a fork none of them is left to copy."""
    for address in (CONTROL, LARGE_META):
        space.write(address, space.read(address, 8))


def metadata_pages(space: AddressSpace) -> int:
    """Pages of metadata of large ranges; here there are few."""
    return sum(space.mapped(LARGE_META + page * PAGE, PAGE) for page in range(64))


def grow(space: AddressSpace, va: int, before: int, after: int) -> int:
    """Grow an allocation beyond its range, by pages: the same frames serve it then, and no page has been copied."""
    own_books(space)
    frames = [frame_at(space, va + page * PAGE) for page in range(before)]
    counters, used, metadata = space.counters, heap_used(space.state), metadata_pages(space)
    moved = heap_resize(space.state, va, before * PAGE, after * PAGE)
    assert moved not in (0, va)
    assert [frame_at(space, moved + page * PAGE) for page in range(before)] == frames
    assert not any(space.mapped(va + page * PAGE, PAGE) for page in range(before))
    assert space.read(moved + before * PAGE, (after - before) * PAGE) == bytes((after - before) * PAGE)
    mapped = after - before + metadata_pages(space) - metadata
    for name, change in {"pages_copied": 0, "pages_reused": 0, "pages_mapped": mapped, "pages_unmapped": 0}.items():
        assert space.counters[name] - counters[name] == change, name
    assert heap_used(space.state) == used + (after - before) * PAGE
    return moved


def test_a_growth_across_orders_copies_no_page_and_conserves_frames() -> None:
    memory, space = heap(2200)
    sizes = (2, 3, 5, 9, 33, 300, 1100)[: scaled(7, 5)]
    free = 0
    for round_ in range(2):
        va = heap_alloc(space.state, sizes[0] * PAGE)
        for page in range(sizes[0]):
            space.write(va + page * PAGE, b"%8d" % page)
        for before, after in pairwise(sizes):
            old, va = va, grow(space, va, before, after)
            check(memory, space)
            for page in range(before, after):
                space.write(va + page * PAGE, b"%8d" % page)
            assert [int(space.read(va + page * PAGE, 8)) for page in range(after)] == list(range(after))
            assert heap_alloc(space.state, before * PAGE) == old, "the old range is used again"
            assert heap_free(space.state, old, before * PAGE) == 0
            while heap_reclaim_step(space.state, 1000):
                pass
        assert heap_free(space.state, va, max(sizes) * PAGE) == 0
        while heap_reclaim_step(space.state, 1000):
            pass
        check(memory, space)
        assert round_ == 0 or memory.frames_free == free, "from the second time on, the metadata is mapped"
        free = memory.frames_free


@pytest.mark.parametrize("mode", list(ForkMode))
def test_a_growth_beside_a_fork_leaves_the_fork_as_it_was(mode: ForkMode) -> None:
    memory, space = heap(400)
    neighbour, va = (heap_alloc(space.state, 8 * PAGE) for _ in range(2))  # in the same page table
    text = b"".join(b"%07d\n" % i for i in range(PAGE))
    space.write(neighbour, text)
    space.write(va, text)
    child = space.fork(mode)
    before = contents(memory, child.root)
    moved = grow(space, va, 8, 20)
    check(memory, space, child)
    counters = space.counters
    space.write(moved + 5, b"parent")
    assert space.counters["pages_copied"] == counters["pages_copied"] + 1, "the page is shared still"
    assert space.read(moved, 8 * PAGE) == text[:5] + b"parent" + text[11:] and space.read(neighbour, 8 * PAGE) == text
    assert contents(memory, child.root) == before
    theirs = grow(child, va, 8, 9)
    child.write(theirs + PAGE, b"child")
    assert child.read(theirs, 8 * PAGE) == text[:PAGE] + b"child" + text[PAGE + 5 :]
    assert space.read(moved, 8 * PAGE) == text[:5] + b"parent" + text[11:]
    check(memory, space, child)
    child.exit()
    assert heap_free(space.state, moved, 20 * PAGE) == 0 and heap_free(space.state, neighbour, 8 * PAGE) == 0
    check(memory, space)
    space.exit()
    assert memory.frames_free == memory.frames_total


@pytest.mark.parametrize("mode", [None, *ForkMode])
def test_a_growth_that_runs_out_of_frames_changes_nothing(mode: ForkMode | None) -> None:
    needed = 9 - 4 + HEAP_FRAMES
    memory, space = heap(200)
    va = heap_alloc(space.state, 4 * PAGE)
    space.write(va, b"contents" * 2048)
    spaces = [space] if mode is None else [space, space.fork(mode)]
    before = [contents(memory, each.root) for each in spaces]
    for free in range(needed + 1):
        with only(memory, free) as held:
            moved = heap_resize(space.state, va, 4 * PAGE, 9 * PAGE)
            assert (moved != 0) == (free == needed)
            if moved == 0:
                assert memory.frames_free == free
                assert [contents(memory, each.root) for each in spaces] == before
            check_memory(memory, spaces, held)
            for each in spaces:
                check_heap(each)
    assert space.read(moved, 4 * PAGE) == b"contents" * 2048
    assert [contents(memory, each.root) for each in spaces[1:]] == before[1:]


@pytest.mark.parametrize("pages", [4, scaled(1024, 128)])
def test_the_frames_of_a_growth_are_enough_when_it_touches_the_most_tables(pages: int) -> None:
    """Everything is shared with a constant fork, and both ranges lie across the edge of tables of every level."""
    memory, space = heap(2 * pages + 300)
    edge = (1 << 27) - pages // 2  # the page with this number has the edge of a PML4 entry `pages // 2` behind it
    space.write(CONTROL + LARGE_FRESH, struct.pack("<q", edge))
    va = heap_alloc(space.state, pages * PAGE)
    space.write(va, bytes(range(256)) * (pages * PAGE // 256))
    space.write(CONTROL + LARGE_FRESH, struct.pack("<q", 2 * (1 << 27) - pages // 2))
    child = space.fork(ForkMode.CONSTANT)
    before = contents(memory, child.root)
    tables = 2 * (pages >> 9)
    with only(memory, 1 + tables + HEAP_FRAMES - 1) as held:
        assert heap_resize(space.state, va, pages * PAGE, (pages + 1) * PAGE) == 0
        assert contents(memory, space.root) == before
        check_memory(memory, [space, child], held)
    with only(memory, 1 + tables + HEAP_FRAMES) as held:
        moved = heap_resize(space.state, va, pages * PAGE, (pages + 1) * PAGE)
        assert moved == LARGE_BASE + (2 * (1 << 27) - pages // 2) * PAGE
        check_memory(memory, [space, child], held)
    assert space.read(moved, pages * PAGE) == bytes(range(256)) * (pages * PAGE // 256)
    assert contents(memory, child.root) == before


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
