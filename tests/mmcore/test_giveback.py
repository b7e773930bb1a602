"""Contents of free frames go back to the system, by exact counts; what is in use stays."""

import random

import numpy as np
import pytest

from mmcore import AddressSpace, Caches, ForkMode, PhysicalMemory, check_memory
from mmcore.giveback import CALL_WORTH, give_back, resident_free
from mmcore.jit import DISABLED, address_of
from mmcore.paging import PAGE_SHIFT, RUN_FRAMES
from mmcore.populate import ADVISED, HUGE, HUGE_PAGES, JOINING, SMALL, TO_JOIN, Populator, advise_blocks, join_next
from mmcore.state import EMPTY_COUNT, EMPTY_RUNS, FREE_COUNT, FRESH, RETURNED, RETURNS, RUN_COUNT
from tests.mmcore.support import GIB, MIB2, PAGE, contents, frame_at, machine, scaled, seeds
from tests.mmcore.test_populate import resident


def registers(memory: PhysicalMemory, *which: int) -> list[int]:
    return [int(memory.state.frames[register]) for register in which]


def test_what_was_freed_goes_back_and_nothing_else() -> None:
    memory = PhysicalMemory(8 * MIB2, huge_pages=False)
    space = AddressSpace(memory)
    space.map(GIB, 6 * MIB2)
    for page in range(6 * RUN_FRAMES):
        space.write(GIB + page * PAGE, b"%d" % page)
    before = int(resident(memory).sum())
    space.unmap(GIB, 5 * MIB2)
    kept = memory.frames_kept
    assert kept == 5 * RUN_FRAMES + 5  # pages, and five tables
    assert memory.give_back() == kept and memory.frames_kept == 0
    assert before - int(resident(memory).sum()) == kept
    for page in range(5 * RUN_FRAMES, 6 * RUN_FRAMES):
        assert space.read(GIB + page * PAGE, 4) == b"%d" % page
    check_memory(memory, [space])
    assert memory.give_back() == 0, "nothing goes back twice"


def test_whole_runs_take_one_call_each_and_pieces_one_each() -> None:
    memory, space = machine(6 * RUN_FRAMES)
    space.map(GIB, 3 * MIB2)
    frames = sorted(frame_at(space, GIB + page * PAGE) for page in range(3 * RUN_FRAMES))
    whole = [block for block in range(6) if set(range(block * 512, block * 512 + 512)) <= set(frames)]
    assert len(whole) == 2
    at = {frame_at(space, GIB + page * PAGE): GIB + page * PAGE for page in range(3 * RUN_FRAMES)}
    for frame in range(whole[0] * 512, whole[0] * 512 + 512):
        space.unmap(at[frame], PAGE)
    assert registers(memory, RUN_COUNT) == [1]
    first = whole[1] * 512
    for frame in [*range(first + 10, first + 20), first + 30, first + 511]:
        space.unmap(at[frame], PAGE)
    assert memory.frames_kept == 512 + 12
    assert give_back(memory.state, 1) == RUN_FRAMES, "the run first"
    assert registers(memory, RETURNED, RETURNS, EMPTY_COUNT) == [512, 1, 512]
    assert [give_back(memory.state, 1) for _ in range(3)] == [10 + CALL_WORTH, 1 + CALL_WORTH, 1 + CALL_WORTH]
    assert registers(memory, RETURNED, RETURNS, EMPTY_COUNT) == [524, 4, 524]
    assert resident_free(memory.state) == 0 == give_back(memory.state, 1)
    check_memory(memory, [space])


def test_a_budget_bounds_the_step() -> None:
    memory, space = machine(12 * RUN_FRAMES)
    space.map(GIB, 10 * MIB2)
    space.exit()
    steps = 0
    while memory.frames_kept:
        assert 0 <= give_back(memory.state, RUN_FRAMES) <= 2 * RUN_FRAMES
        check_memory(memory, [])
        steps += 1
    assert steps >= 10


def test_a_budget_bounds_the_calls_in_one_block() -> None:
    memory, space = machine(3 * RUN_FRAMES)
    space.map(GIB, 2 * MIB2)
    for page in range(0, 2 * RUN_FRAMES, 2):
        space.unmap(GIB + page * PAGE, PAGE)
    kept = memory.frames_kept
    assert kept >= RUN_FRAMES - 2, "every other frame, so that each is a piece of its own"
    while memory.frames_kept:
        before = registers(memory, RETURNS)[0]
        assert give_back(memory.state, 4 * (1 + CALL_WORTH)) <= 4 * (1 + CALL_WORTH)
        assert registers(memory, RETURNS)[0] - before <= 4
        check_memory(memory, [space])
    assert registers(memory, RETURNED) == [kept]


def test_keep_is_kept() -> None:
    memory, space = machine(12 * RUN_FRAMES)
    space.map(GIB, 10 * MIB2)
    space.exit()
    assert memory.give_back(keep=2000) >= 10 * RUN_FRAMES - 2000
    assert 2000 - RUN_FRAMES < memory.frames_kept <= 2000


def test_what_the_system_has_given_already_is_used_first() -> None:
    memory, space = machine(8 * RUN_FRAMES)
    space.map(GIB, 4 * MIB2)
    space.unmap(GIB, 4 * MIB2)
    fresh = registers(memory, FRESH)
    give_back(memory.state, RUN_FRAMES)
    kept = memory.frames_kept
    assert registers(memory, EMPTY_COUNT) == [RUN_FRAMES] and kept > 3 * RUN_FRAMES
    space.map(GIB, (kept - 8) * PAGE)
    assert registers(memory, EMPTY_COUNT, FRESH) == [RUN_FRAMES, *fresh], "neither empty nor fresh ones"
    space.map(2 * GIB, 100 * PAGE)
    assert registers(memory, EMPTY_COUNT, FRESH) == [0, *fresh], "empty runs before fresh ones"
    check_memory(memory, [space])


@pytest.mark.parametrize("huge", [False, True])
def test_pages_from_frames_that_were_given_back_are_zeros(huge: bool) -> None:
    memory, space = machine(6 * RUN_FRAMES)
    space.map(GIB, 4 * MIB2)
    for page in range(4 * RUN_FRAMES):
        space.write(GIB + page * PAGE, b"\xff" * 64)
    keep = [page for page in range(4 * RUN_FRAMES) if page % 7 == 0]
    space.unmap(GIB + 3 * MIB2, MIB2)
    for page in range(3 * RUN_FRAMES):
        if page % 7:
            space.unmap(GIB + page * PAGE, PAGE)
    memory.give_back()
    if huge:
        space.map(8 * GIB, MIB2, huge=True)
        assert space.read(8 * GIB, MIB2) == bytes(MIB2)
    pages = memory.frames_free - 20
    space.map(2 * GIB, pages * PAGE)
    assert not any(space.read(2 * GIB, pages * PAGE))
    for page in keep:
        if page < 3 * RUN_FRAMES:
            assert space.read(GIB + page * PAGE, 64) == b"\xff" * 64
    check_memory(memory, [space])


@pytest.mark.parametrize("seed", seeds(6))
def test_a_stream_of_maps_forks_and_returns(seed: int) -> None:
    """The counts stay exact, and no page in use changes, whatever is given back in between."""
    memory, space = machine(10 * RUN_FRAMES)
    choose = random.Random(seed)
    held: dict[int, int] = {}
    children: list[tuple[AddressSpace, dict[int, bytes]]] = []
    for step in range(scaled(400, 60)):
        action = choose.choices(("map", "unmap", "give", "fork", "exit", "huge", "write"), (6, 6, 4, 1, 1, 1, 4))[0]
        slot = choose.randrange(40)
        address = GIB + slot * 4 * MIB2
        if action == "map" and address not in held and memory.frames_free > 900:
            held[address] = choose.choice((1, 3, 40, 700))
            space.map(address, held[address] * PAGE)
            assert not any(space.read(address, held[address] * PAGE))
            space.write(address, bytes([slot + 1]) * held[address] * PAGE)
        elif action == "huge" and address not in held and memory.frames_free > 1800 and not children:
            try:
                space.map(address, MIB2, huge=True)
            except Exception:
                continue
            assert not any(space.read(address, MIB2))
            held[address] = RUN_FRAMES
        elif action == "unmap" and held and memory.frames_free > 20:
            gone = choose.choice(list(held))
            space.unmap(gone, held.pop(gone) * PAGE)
        elif action == "give":
            kept = memory.frames_kept
            returned = registers(memory, RETURNED)[0]
            work = give_back(memory.state, choose.choice((1, 50, 600)))
            returned = registers(memory, RETURNED)[0] - returned
            assert memory.frames_kept == kept - returned and work >= returned
        elif action == "fork" and len(children) < 2 and not any(count == RUN_FRAMES for count in held.values()):
            children.append((space.fork(ForkMode(step % 3)), contents(memory, space.root)))
        elif action == "exit" and children:
            child, expected = children.pop()
            assert contents(memory, child.root) == expected
            child.exit()
        elif action == "write" and held and memory.frames_free > 20:
            space.write(choose.choice(list(held)), b"written")
        if step % 10 == 0:
            check_memory(memory, [space, *(child for child, _ in children)])
    for child, expected in children:
        assert contents(memory, child.root) == expected
        child.exit()
    space.exit()
    check_memory(memory, [])
    memory.give_back()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total and memory.frames_kept == 0
    fresh, free, empty = registers(memory, FRESH, FREE_COUNT, EMPTY_COUNT)
    assert empty == free - (memory.frames_total - fresh) == fresh


@pytest.mark.skipif(DISABLED, reason="without the compiler there is no such thread")
def test_the_next_empty_run_is_there_before_it_is_used() -> None:
    memory = PhysicalMemory(8 * MIB2, huge_pages=False)
    space = AddressSpace(memory)
    space.map(GIB, 5 * MIB2)
    space.write(GIB, b"x" * (5 * MIB2))
    space.unmap(GIB, 5 * MIB2)
    memory.give_back()
    with Populator(memory, 0) as populator:
        first = registers(memory, EMPTY_RUNS)[0]
        while populator.run_ready != first:
            assert populator.running, "the system does not offer it"
    there = resident(memory).reshape(-1, RUN_FRAMES)
    assert there[first].all() and int(there[:5].all(axis=1).sum()) == 1, "that one, and no other"


@pytest.mark.skipif(DISABLED, reason="the advice of a thread that is not there")
def test_sparse_blocks_are_advised_against_huge_pages_until_they_are_full_again() -> None:
    memory = PhysicalMemory(8 * MIB2)
    space = AddressSpace(memory, caches=Caches(tlb=64))
    space.map(GIB, 3 * MIB2)
    for page in range(0, 3 * RUN_FRAMES, 2):
        space.unmap(GIB + page * PAGE, PAGE)
    memory.give_back()
    control, small = np.zeros(16, np.int64), np.zeros(8, np.uint8)
    control[HUGE_PAGES] = 1
    advise_blocks(memory.state, control, small)
    assert small.tolist()[:3] == [1, 1, 1] and control[ADVISED] == 3
    assert "nh" in flags_of(memory, 0) and "hg" in flags_of(memory, 7 * RUN_FRAMES)
    for page in range(0, 3 * RUN_FRAMES, 2):
        space.map(GIB + page * PAGE, PAGE)
    advise_blocks(memory.state, control, small)
    assert small.tolist()[:3] == [TO_JOIN] * 3 and control[ADVISED] == 0 and "hg" in flags_of(memory, 0)


@pytest.mark.skipif(DISABLED, reason="the advice of a thread that is not there")
def test_blocks_that_are_full_again_are_joined_one_by_one_and_keep_their_contents() -> None:
    memory = PhysicalMemory(8 * MIB2)
    space = AddressSpace(memory, caches=Caches(tlb=64))
    space.map(GIB, 3 * MIB2)
    for page in range(3 * RUN_FRAMES):
        space.write(GIB + page * PAGE, b"%d" % page)
    for page in range(0, 3 * RUN_FRAMES, 2):
        space.unmap(GIB + page * PAGE, PAGE)
    memory.give_back()
    control, small = np.zeros(16, np.int64), np.zeros(8, np.uint8)
    advise_blocks(memory.state, control, small)
    for page in range(0, 2 * RUN_FRAMES, 2):  # the last block stays sparse
        space.map(GIB + page * PAGE, PAGE)
    advise_blocks(memory.state, control, small)
    states = [sorted(small.tolist()[:3])]
    for _ in range(3):
        join_next(memory.state, control, small)
        states.append(sorted(small.tolist()[:3]))
    assert states == [[SMALL, TO_JOIN, TO_JOIN], [HUGE, SMALL, TO_JOIN], [HUGE, HUGE, SMALL], [HUGE, HUGE, SMALL]]
    assert control[JOINING] == 0 and control[ADVISED] == 1
    for page in range(1, 3 * RUN_FRAMES, 2):
        assert space.read(GIB + page * PAGE, 5) == (b"%d" % page).ljust(5, b"\0")
    check_memory(memory, [space])


def flags_of(memory: PhysicalMemory, frame: int) -> list[str]:
    """The system's flags of the mapping that holds a frame (VmFlags of smaps)."""
    address, inside = address_of(memory.state.bytes) + (frame << PAGE_SHIFT), False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            first, dash, rest = line.split()[0].partition("-")
            if dash:
                inside = int(first, 16) <= address < int(rest, 16)
            elif inside and line.startswith("VmFlags:"):
                return line.split()[1:]
    raise AssertionError("no such mapping")
