"""Leaving pages of the heap: what is chosen, moved and returned, beside a dict of allocations."""

import random
from collections.abc import Callable

import pytest

from mmcore import AddressSpace, CorruptMemory, ForkMode, PhysicalMemory, check_memory
from mmcore.check import check_heap
from mmcore.heap import (
    CONTROL,
    HEAP_FRAMES,
    heap_alloc,
    heap_choose_step,
    heap_free,
    heap_init,
    heap_leaving,
    heap_move,
    heap_resize,
    heap_return_step,
    heap_should_move,
    heap_size,
    heap_slab_pages,
    heap_slab_used,
    heap_used,
)
from mmcore.heap.layout import CLASS_PAGES, LEAVERS, LEAVING, SLAB_META
from mmcore.heap.leaving import MOVE_FRAMES
from tests.mmcore.support import PAGE, contents, machine, only, scaled, seeds, some

SIZES = (8, 16, 24, 64, 100, 128, 300, 500, 584, 1000, 1361, 2048, 4096)
EVERYTHING = 1 << 20


def heap(frames: int = 1500) -> tuple[PhysicalMemory, AddressSpace]:
    memory, space = machine(frames, 256)
    assert heap_init(space.state) == 0
    return memory, space


def pages_of(space: AddressSpace) -> int:
    return int(heap_slab_pages(space.state))


def choose(space: AddressSpace) -> None:
    page = 0
    while page >= 0:
        page = heap_choose_step(space.state, page, 7)


def move_all(space: AddressSpace, live: dict[int, bytes]) -> int:
    """Move what lies on leaving pages; returns how many objects were moved."""
    moved = 0
    for va in list(live):
        data = live[va]
        new = heap_move(space.state, va, len(data), 0)
        if new != va:
            assert new not in live
            live[new] = live.pop(va)
            moved += 1
    return moved


def give_back(space: AddressSpace) -> None:
    while heap_return_step(space.state, 3):
        pass
    assert not heap_leaving(space.state)


def filled(space: AddressSpace, size: int, count: int) -> dict[int, bytes]:
    live = {}
    for i in range(count):
        va = heap_alloc(space.state, size)
        assert va
        live[va] = (b"%d." % i * size)[:size]
        space.write(va, live[va])
    return live


def thin(space: AddressSpace, live: dict[int, bytes], keep: Callable[[int], bool]) -> None:
    """Free the objects whose number, in the order of their making, is not to be kept."""
    for i, va in enumerate(list(live)):
        if not keep(i):
            assert heap_free(space.state, va, len(live.pop(va))) == 0


def holds(space: AddressSpace, live: dict[int, bytes]) -> bool:
    return all(space.read(va, len(data)) == data for va, data in live.items())


@pytest.mark.parametrize("size", [16, 100, 584, 1361, 2048])
def test_what_is_left_of_many_objects_takes_as_many_pages_as_in_a_fresh_heap(size: int) -> None:
    memory, space = heap(scaled(3000, 600))
    draw, per_page = random.Random(size), PAGE // heap_size(size)
    live = filled(space, size, per_page * scaled(300, 40))
    thin(space, live, lambda _: draw.random() < 0.05)
    before, fresh = pages_of(space), -(-len(live) // per_page)
    choose(space)
    moved = move_all(space, live)
    assert 0 < moved <= len(live)
    after = pages_of(space)
    assert after <= fresh + fresh // 16 + 2 and after < before, (before, after, fresh)
    assert not heap_leaving(space.state), "all pages that were to leave are empty"
    assert heap_slab_used(space.state) == len(live) * heap_size(size)
    assert holds(space, live)
    check_memory(memory, [space])
    check_heap(space)
    choose(space)
    assert not heap_leaving(space.state), "nothing is left to do"


def test_pages_leave_even_if_all_have_the_same_number_of_objects() -> None:
    _, space = heap()
    live = filled(space, 1024, 80)  # twenty pages
    thin(space, live, lambda i: i % 4 == 1)
    assert pages_of(space) == 20
    choose(space)
    assert move_all(space, live) == 14 and pages_of(space) == 6
    assert holds(space, live)


def test_full_pages_and_pages_that_have_nowhere_to_go_stay() -> None:
    _, space = heap()
    live = filled(space, 1024, 40)
    choose(space)
    assert not heap_leaving(space.state)
    thin(space, live, lambda i: i % 4 != 3)  # three quarters full: what is freed would not hold a page more and a spare
    thin(space, live, lambda i: i > 3)
    choose(space)
    assert move_all(space, live) <= 3
    check_heap(space)
    _, space = heap()
    live = filled(space, 2048, 1)
    choose(space)
    assert not heap_leaving(space.state), "the only page of a class stays"


def test_invariant_11_a_leaving_page_is_in_the_list_of_those_and_goes_back_to_that_of_its_class() -> None:
    memory, space = heap()
    live = filled(space, 1024, 40)
    thin(space, live, lambda i: i % 4 == 0)
    choose(space)
    leaving = {va & -PAGE for va in live if heap_should_move(space.state, va)}
    assert len(leaving) == 7
    check_heap(space)
    assert heap_return_step(space.state, 3) == 3
    check_heap(space)
    assert heap_return_step(space.state, 100) == 4 and heap_return_step(space.state, 100) == 0
    check_heap(space)
    assert not any(heap_should_move(space.state, va) for va in live)
    assert len({heap_alloc(space.state, 1024) & -PAGE for _ in range(30)} & leaving) == 7, "they are used again"
    check_memory(memory, [space])


def test_invariant_12_nothing_is_put_on_a_leaving_page_and_its_last_object_unmaps_it() -> None:
    memory, space = heap()
    live = filled(space, 1024, 40)
    thin(space, live, lambda i: i % 4 == 0)
    choose(space)
    leaving = [va for va in live if heap_should_move(space.state, va)]
    new = [heap_alloc(space.state, 1024) for _ in range(50)]
    assert not {va & -PAGE for va in new} & {va & -PAGE for va in leaving}
    check_heap(space)
    for va in leaving:
        assert space.mapped(va, 1024)
        assert heap_free(space.state, va, 1024) == 0
        assert not space.mapped(va & -PAGE, PAGE)
        check_heap(space)
    assert not heap_leaving(space.state)
    check_memory(memory, [space])


def test_invariant_13_pages_and_objects_are_counted_by_class() -> None:
    _, space = heap()
    counts = dict.fromkeys((100, 1000, 9000), 0)
    for size, number in {100: 50, 1000: 7, 9000: 3}.items():
        counts[size] = number
        for _ in range(number):
            heap_alloc(space.state, size)
    assert heap_slab_used(space.state) == 50 * 104 + 7 * 1024
    assert heap_slab_pages(space.state) == 2 + 2
    assert heap_used(space.state) == heap_slab_used(space.state) + 3 * 3 * PAGE
    va = heap_alloc(space.state, 5000)
    assert heap_resize(space.state, va, 5000, 3 * PAGE)
    assert heap_used(space.state) == heap_slab_used(space.state) + 4 * 3 * PAGE
    check_heap(space)


@pytest.mark.parametrize("seed", seeds(8))
def test_a_stream_of_all_operations_keeps_every_byte(seed: int) -> None:
    memory, space = heap(2500)
    draw = random.Random(seed)
    live: dict[int, bytes] = {}
    frozen: list[tuple[AddressSpace, dict[int, bytes]]] = []
    page = 0
    actions = ("alloc", "free", "thin", "choose", "move", "return", "fork", "exit")
    for step in range(scaled(1000, 200)):
        action = draw.choices(actions, (30, 8, 0.5, 2, 12, 0.3, 0.3, 0.4))[0]
        if memory.frames_free < 3 * HEAP_FRAMES and action not in ("exit", "return"):
            continue
        if action == "alloc":
            size = draw.choice(SIZES)
            for _ in range(draw.choice((1, 1, 40))):
                va = heap_alloc(space.state, size)
                if va:
                    assert va not in live and not heap_should_move(space.state, va)
                    live[va] = draw.randbytes(size)
                    space.write(va, live[va])
        elif action == "free" and live:
            va = draw.choice(list(live))
            assert heap_free(space.state, va, len(live.pop(va))) == 0
        elif action == "thin":
            for va in [va for va in live if draw.random() < 0.8]:
                if memory.frames_free >= HEAP_FRAMES:
                    assert heap_free(space.state, va, len(live.pop(va))) == 0
        elif action == "choose":
            page = max(0, heap_choose_step(space.state, page, draw.choice((1, 5, 500))))
        elif action == "move":
            for va in draw.sample(list(live), min(len(live), 20)):
                should, data = heap_should_move(space.state, va), live.pop(va)
                new = heap_move(space.state, va, len(data), 0)
                assert new not in live and (should or new == va)
                live[new] = data
        elif action == "return":
            heap_return_step(space.state, draw.choice((1, 500)))
        elif action == "fork" and len(frozen) < 2 and memory.frames_free > 1000:
            frozen.append((space.fork(ForkMode(step % 2)), dict(live)))
        elif action == "exit" and frozen:
            frozen.pop(0)[0].exit()
        if step % 25 == 0:
            check_memory(memory, [space, *(child for child, _ in frozen)])
            for holder, expected in [(space, live), *frozen]:
                assert check_heap(holder) == sum(heap_size(len(data)) for data in expected.values())
                assert holds(holder, expected)
    for child, _ in frozen:
        child.exit()
    for va, data in live.items():
        assert heap_free(space.state, va, len(data)) == 0
    give_back(space)
    assert check_heap(space) == 0
    space.exit()
    assert memory.frames_free == memory.frames_total


def scattered(seed: int = 1) -> tuple[PhysicalMemory, AddressSpace, dict[int, bytes]]:
    memory, space = heap(600)
    draw, live = random.Random(seed), {}
    for size in (100, 1024, 2048):
        more = filled(space, size, 60)
        thin(space, more, lambda _: draw.random() < 0.3)
        live.update(more)
    return memory, space, live


@pytest.mark.parametrize("mode", [ForkMode.CONSTANT, None, ForkMode.ON_DEMAND, ForkMode.CLASSIC][: some(4, 2)])
def test_short_of_frames_every_step_does_nothing_or_all(mode: ForkMode | None) -> None:
    memory, space, live = scattered()
    spaces = [space] if mode is None else [space, space.fork(mode)]
    child = [contents(memory, each.root) for each in spaces[1:]]
    done = dict.fromkeys(("choose", "move", "return"), 0)
    for free in [*range(0, MOVE_FRAMES + 4, scaled(1, 9)), MOVE_FRAMES, MOVE_FRAMES + 200]:
        with only(memory, free) as held:
            before, leaving = contents(memory, space.root), heap_leaving(space.state)
            page = heap_choose_step(space.state, 0, EVERYTHING)
            if free < HEAP_FRAMES:
                assert page == 0 and contents(memory, space.root) == before
            done["choose"] += heap_leaving(space.state) and not leaving
            check_memory(memory, spaces, held)
            check_heap(space)
        with only(memory, free) as held:
            before = contents(memory, space.root)
            for va in [va for va in live if heap_should_move(space.state, va)][:2]:
                new = heap_move(space.state, va, len(live[va]), 3)
                assert new == va or free >= MOVE_FRAMES + 3
                live[new] = live.pop(va)
                done["move"] += new != va
            if free < MOVE_FRAMES + 3:
                assert contents(memory, space.root) == before
            check_memory(memory, spaces, held)
            check_heap(space)
        with only(memory, free) as held:
            returned = heap_return_step(space.state, 2)
            assert returned == 0 or free >= HEAP_FRAMES
            done["return"] += returned
            check_memory(memory, spaces, held)
            check_heap(space)
        assert holds(space, live)
        assert [contents(memory, each.root) for each in spaces[1:]] == child
    assert all(done.values()), done


def test_an_object_that_is_freed_without_frames_leaves_an_empty_page_that_is_unmapped_later() -> None:
    memory, space, live = scattered()
    choose(space)
    pages = pages_of(space)
    with only(memory, HEAP_FRAMES - 1):
        for va in [va for va in live if heap_should_move(space.state, va)]:
            assert heap_free(space.state, va, len(live.pop(va))) == 0
        check_heap(space)
        assert heap_leaving(space.state) and pages_of(space) == pages
    give_back(space)
    assert pages_of(space) < pages
    check_heap(space)
    assert holds(space, live)


@pytest.mark.parametrize(
    ("address", "what"),
    [(CONTROL + LEAVERS, "list"), (CONTROL + CLASS_PAGES, "counts by class"), (SLAB_META + 1, "list|counts")],
)
def test_check_heap_notices_damage_to_leaving_pages(address: int, what: str) -> None:
    _, space, _ = scattered()
    choose(space)
    check_heap(space)
    space.write(address, bytes([space.read(address, 1)[0] ^ (LEAVING >> 8)]))
    with pytest.raises(CorruptMemory, match=what):
        check_heap(space)
