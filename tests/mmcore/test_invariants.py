"""One test for each invariant of the machine, named after it, and one that check_memory notices when it is broken."""

import threading
import time

import numpy as np
import pytest

from mmcore import (
    AddressSpace,
    CorruptMemory,
    ForkMode,
    NotMapped,
    OutOfFrames,
    PhysicalMemory,
    Processor,
    TooManySpaces,
    check_memory,
    path_of,
)
from mmcore.frames import BLOCK_COUNT, BLOCK_FREE, BLOCK_WORDS
from mmcore.frozen import gather
from mmcore.mmu import read_address, write_address
from mmcore.paging import ENTRY_COUNT, RW, P
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from mmcore.state import FREE_COUNT, GENERATION, LAST_GENERATION
from mmcore.tlb import GENERATION_LIMIT, GENERATION_ONE
from tests.mmcore.support import GIB, MIB2, PAGE, contents, count_at, frame_at, machine, only, scaled

BASE = GIB
MODES = pytest.mark.parametrize("mode", list(ForkMode))


def forked(mode: ForkMode, pages: int = 4, frames: int = 512) -> tuple[PhysicalMemory, AddressSpace, AddressSpace]:
    """A memory, a space of so many written pages at BASE, and its child."""
    memory, space = machine(frames)
    space.map(BASE, pages * PAGE)
    for page in range(pages):
        space.write(BASE + page * PAGE, b"old %d" % page)
    return memory, space, space.fork(mode)


def path_rights(space: AddressSpace, address: int) -> list[bool]:
    """R/W of each entry on the path to a page, from the PML4 down."""
    entries = space.state.mem.entries
    return [
        bool(entries[frame_at(space, address, level) * ENTRY_COUNT + (address >> (3 + 9 * level) & 511)] & RW)
        for level in (4, 3, 2, 1)
    ]


def test_invariant_1_a_count_is_the_entries_and_roots_that_point_at_a_frame() -> None:
    memory, space = machine()
    space.map(BASE, 2 * PAGE)
    assert [count_at(space, BASE, level) for level in (4, 3, 2, 1, 0)] == [1, 1, 1, 1, 1]
    child = space.fork(ForkMode.ON_DEMAND)
    assert [count_at(space, BASE, level) for level in (4, 3, 2, 1, 0)] == [1, 1, 1, 2, 1]
    space.write(BASE, b"x")
    assert [count_at(space, BASE, level) for level in (4, 3, 2, 1, 0)] == [1, 1, 1, 1, 1]
    assert [count_at(child, BASE, level) for level in (4, 3, 2, 1, 0)] == [1, 1, 1, 1, 1]
    assert count_at(space, BASE + PAGE) == 2
    other = space.fork(ForkMode.CLASSIC)
    assert [count_at(space, BASE, level) for level in (4, 3, 2, 1, 0)] == [1, 1, 1, 1, 2]
    assert count_at(space, BASE + PAGE) == 3
    check_memory(memory, [space, child, other])
    memory.state.refcount[frame_at(space, BASE)] += 1
    with pytest.raises(CorruptMemory, match=r"\(1\)"):
        check_memory(memory, [space, child, other])


@MODES
def test_invariant_2_a_shared_frame_gets_no_store(mode: ForkMode) -> None:
    memory, space, child = forked(mode, 20)
    mem = memory.state.arrays
    frames = [frame_at(child, BASE, level) for level in (4, 3, 2, 1)]
    frames += [frame_at(child, BASE + page * PAGE) for page in range(20)]
    tables = mem.entries.reshape(-1, ENTRY_COUNT)[frames[:4]] & np.uint64(~RW)
    before = mem.bytes.reshape(-1, PAGE)[frames[4:]].copy()
    for page in range(20):
        space.write(BASE + page * PAGE, b"new")
    space.unmap(BASE + 3 * PAGE, 2 * PAGE)
    space.map(BASE + 3 * PAGE, PAGE)
    assert (mem.entries.reshape(-1, ENTRY_COUNT)[frames[:4]] & np.uint64(~RW) == tables).all()
    assert (mem.bytes.reshape(-1, PAGE)[frames[4:]] == before).all()
    check_memory(memory, [space, child])


def test_check_memory_notices_a_shared_frame_that_may_be_written() -> None:
    memory, space, child = forked(ForkMode.ON_DEMAND)
    mem = memory.state
    mem.entries[frame_at(space, BASE, 2) * ENTRY_COUNT] |= RW
    with pytest.raises(CorruptMemory, match=r"\(2\)"):
        check_memory(memory, [space, child])


@MODES
def test_invariant_3_a_page_is_writable_iff_rw_is_set_on_its_whole_path(mode: ForkMode) -> None:
    memory, space, child = forked(mode)
    protected = {ForkMode.CLASSIC: 1, ForkMode.ON_DEMAND: 2, ForkMode.CONSTANT: 4}[mode]
    shared = [level != protected for level in (4, 3, 2, 1)]
    assert path_rights(space, BASE) == path_rights(child, BASE) == shared
    faults = space.counters["write_faults"]
    space.write(BASE, b"x")
    assert space.counters["write_faults"] == faults + 1
    assert path_rights(space, BASE) == [True] * 4
    assert not all(path_rights(space, BASE + PAGE)) and not all(path_rights(child, BASE))
    space.write(BASE + 8, b"y")
    assert space.counters["write_faults"] == faults + 1
    space.write(BASE + PAGE, b"z")
    assert space.counters["write_faults"] == faults + 2
    check_memory(memory, [space, child])


def test_invariant_4_pages_below_a_shared_table_are_counted_once_by_it() -> None:
    memory, space = machine()
    space.map(BASE, 4 * PAGE)
    children = [space.fork(ForkMode.ON_DEMAND) for _ in range(3)]
    assert count_at(space, BASE, 1) == 4
    assert [count_at(space, BASE + page * PAGE) for page in range(4)] == [1] * 4
    table = frame_at(space, BASE, 1)
    children[0].write(BASE, b"x")
    # The copy is the child's alone: it counts the pages it shares with the old table, which counts them too.
    assert frame_at(space, BASE, 1) == table and count_at(space, BASE, 1) == 3
    assert [count_at(space, BASE + page * PAGE) for page in range(4)] == [1, 2, 2, 2]
    for child in children:
        child.exit()
    assert [count_at(space, BASE + page * PAGE) for page in range(4)] == [1] * 4
    check_memory(memory, [space])


@MODES
def test_invariant_5_a_fault_that_runs_out_of_frames_leaves_the_mapping(mode: ForkMode) -> None:
    memory, space, child = forked(mode)
    needed = {ForkMode.CLASSIC: 1, ForkMode.ON_DEMAND: 2, ForkMode.CONSTANT: 4}[mode]
    entries = memory.state.arrays.entries.copy()
    old = contents(memory, space.root)
    for free in range(needed):
        with only(memory, free) as held:
            with pytest.raises(OutOfFrames) as caught:
                space.write(BASE + 5, b"x")
            assert caught.value.address == BASE + 5
            assert write_address(space.state, BASE) == -1
            assert contents(memory, space.root) == old == contents(memory, child.root)
            table = slice(frame_at(space, BASE, 1) * ENTRY_COUNT, (frame_at(space, BASE, 1) + 1) * ENTRY_COUNT)
            assert (memory.state.arrays.entries[table] == entries[table]).all()
            assert memory.frames_free == free
            check_memory(memory, [space, child], held)
    with only(memory, needed) as held:
        space.write(BASE + 5, b"x")
        assert memory.frames_free == 0
        check_memory(memory, [space, child], held)
    assert contents(memory, child.root) == old


@MODES
def test_invariant_6_no_write_translation_survives_a_fork(mode: ForkMode) -> None:
    memory, space, first = forked(mode)
    space.write(BASE, b"hot")
    second = space.fork(mode)
    frozen = contents(memory, second.root)
    faults = space.counters["write_faults"]
    space.write(BASE, b"new")
    assert space.counters["write_faults"] == faults + 1
    assert contents(memory, second.root) == frozen
    assert first.read(BASE, 3) == b"old"
    check_memory(memory, [space, first, second])


def test_invariant_6_holds_when_the_generations_run_out() -> None:
    memory, space = machine()
    space.map(BASE, PAGE)
    space.write(BASE, b"first")  # generation 1 is in the TLB
    space.state.processor[LAST_GENERATION] = GENERATION_LIMIT - GENERATION_ONE
    child = space.fork(ForkMode.ON_DEMAND)
    assert space.state.cpu[GENERATION] == 2 * GENERATION_ONE
    space.write(BASE, b"again")
    assert child.read(BASE, 5) == b"first"
    check_memory(memory, [space, child])


def test_invariant_6_holds_for_spaces_on_one_processor_and_when_its_generations_run_out() -> None:
    memory, processor = PhysicalMemory(4 << 20, poison=True), Processor(spaces=3)
    spaces = [AddressSpace(memory, processor=processor) for _ in range(3)]
    with pytest.raises(TooManySpaces):
        AddressSpace(memory, processor=processor)
    for number, space in enumerate(spaces):
        space.map(BASE, PAGE)
        space.write(BASE, bytes([number]))
    for before, last in ((1, GENERATION_LIMIT - 2 * GENERATION_ONE), (2, GENERATION_LIMIT - GENERATION_ONE)):
        processor.registers[LAST_GENERATION] = last
        child = spaces[1].fork(ForkMode.CONSTANT)
        spaces[1].write(BASE, bytes([before + 1]))
        assert child.read(BASE, 1) == bytes([before])
        assert [space.read(BASE, 1)[0] for space in spaces] == [0, before + 1, 2]
        generations = [space.state.cpu[GENERATION] for space in spaces]
        assert len(set(generations)) == 3 and max(generations) == processor.registers[LAST_GENERATION]
        check_memory(memory, [*spaces, child])
        child.exit()
    spaces[2].exit()
    fourth = AddressSpace(memory, processor=processor)  # in the registers of the one that has gone
    assert not fourth.mapped(BASE, 1)


def read_while_written(mode: ForkMode, seconds: float) -> None:
    """A thread reads a frozen child over and over, for so long, while its parent does all that a space can."""
    pages = scaled(1200, 24)
    memory, space = machine(4 * pages + 2048)
    space.map(BASE, pages * PAGE)
    for page in range(pages):
        space.write(BASE + page * PAGE, b"%08d" % page * 512)
    child = space.fork(mode)
    root = child.root
    expected = np.concatenate([np.frombuffer(data, np.uint8) for data in contents(memory, root).values()])
    wrong, rounds, stop = [], [0], threading.Event()

    def read() -> None:
        buffer = np.empty(pages * PAGE, np.uint8)
        while not stop.is_set():
            buffer[:] = 0
            if gather(memory.state, root, BASE, pages, buffer, 0) != pages or not np.array_equal(buffer, expected):
                wrong.append(rounds[0])
                return
            rounds[0] += 1

    thread = threading.Thread(target=read)
    thread.start()
    seed = int(time.time())
    print(f"{seed=}")
    random = np.random.default_rng(seed)
    until, step = time.monotonic() + seconds, 0
    try:
        while not wrong and (time.monotonic() < until or rounds[0] < 3):
            step += 1
            at = BASE + int(random.integers(pages - 2)) * PAGE
            if step % 97 == 0:
                # The same pages go, come back, move and are forked, so that the reader's tables are dropped beside it.
                space.unmap(at, 2 * PAGE)
                space.map(at, 2 * PAGE)
            elif step % 131 == 0:
                space.remap(at, PAGE, 0)
                space.remap(0, PAGE, at)
            elif step % 501 == 0:
                sibling = space.fork(ForkMode(step % 3))
                sibling.write(at, b"sibling")
                sibling.exit()
            elif step % 701 == 0:
                space.unshare_step(2)
            else:
                space.write(at + step % 4000, b"changed")
    finally:
        stop.set()
        thread.join()
    assert not wrong and rounds[0] >= 3
    check_memory(memory, [space, child])


@MODES
def test_invariant_7_a_reader_of_a_frozen_root_sees_only_the_frozen_bytes(mode: ForkMode) -> None:
    read_while_written(mode, 1.0)


@pytest.mark.slow
@MODES
def test_invariant_7_holds_for_minutes(mode: ForkMode) -> None:
    read_while_written(mode, 60.0)


def test_invariant_7_a_frozen_root_is_released_by_its_owner_in_steps() -> None:
    memory, space, child = forked(ForkMode.CLASSIC, 200)
    space.write(BASE, b"x")
    cursor = np.zeros(CURSOR_SIZE, np.int64)
    root, child._state = child.root, None
    release_begin(cursor, root)
    steps = 0
    while cursor[0] != RELEASED:
        assert 0 < release_step(memory.state, cursor, 7) <= 7 + 8
        check_memory(memory, [space], [int(cursor[0])])
        steps += 1
    assert steps >= 200 // 7
    assert space.read(BASE + PAGE, 5) == b"old 1"


@MODES
def test_invariant_8_free_and_reachable_are_all_frames_and_disjoint(mode: ForkMode) -> None:
    memory, space, child = forked(mode, 30)
    for page in range(30):
        (space if page % 2 else child).write(BASE + page * PAGE, b"x")
        check_memory(memory, [space, child])
    space.exit()
    check_memory(memory, [child])
    child.exit()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total


def test_check_memory_notices_a_lost_frame_and_one_free_twice() -> None:
    memory, space = machine()
    space.map(BASE, 3 * PAGE)
    space.unmap(BASE, 3 * PAGE)
    check_memory(memory, [space])
    mem = memory.state
    words = mem.blocks[:BLOCK_WORDS]  # all of these frames are in the first block
    head = int(words[BLOCK_FREE]) - 1
    words[BLOCK_FREE] = mem.epoch[head] >> 1
    with pytest.raises(CorruptMemory, match=r"\(8\) \d+ frames of block 0 are free, \d+ are said"):
        check_memory(memory, [space])
    words[BLOCK_COUNT] -= 1
    with pytest.raises(CorruptMemory, match=r"\(8\) \d+ frames are free, \d+ are said"):
        check_memory(memory, [space])
    mem.frames[FREE_COUNT] -= 1
    with pytest.raises(CorruptMemory, match=r"\(8\) frame \d+ is neither"):
        check_memory(memory, [space])
    mem.frames[FREE_COUNT] += 1
    words[BLOCK_FREE], words[BLOCK_COUNT] = head + 1, words[BLOCK_COUNT] + 1
    second = (int(mem.epoch[head]) >> 1) - 1
    mem.epoch[second] = (head + 1) << 1
    with pytest.raises(CorruptMemory, match="twice"):
        check_memory(memory, [space])


def test_invariant_9_a_huge_page_is_an_aligned_run_whose_head_counts_for_it() -> None:
    memory, space = machine(2048)
    space.map(BASE, MIB2, huge=True)
    head = frame_at(space, BASE)
    counts = memory.state.arrays.refcount[head : head + ENTRY_COUNT]
    assert head % ENTRY_COUNT == 0 and (counts == 1).all()
    child = space.fork(ForkMode.CLASSIC)
    assert counts[0] == 2 and (counts[1:] == 1).all()
    space.write(BASE + 7 * PAGE, b"x")
    copy = frame_at(space, BASE)
    assert copy != head and copy % ENTRY_COUNT == 0 and (counts == 1).all()
    check_memory(memory, [space, child])
    child.unmap(BASE, PAGE)  # split: its frames are pages like others now
    assert counts[0] == 0 and (counts[1:] == 1).all()
    check_memory(memory, [space, child])
    memory.state.refcount[copy + 5] = 0
    with pytest.raises(CorruptMemory, match=r"\(1\)"):
        check_memory(memory, [space, child])


@MODES
def test_invariant_10_a_and_d_are_set_as_the_processor_sets_them(mode: ForkMode) -> None:
    memory, space = machine()
    space.map(BASE, 3 * PAGE)

    def traces(one: AddressSpace, page: int) -> list[str]:
        path = path_of(one, BASE + page * PAGE)
        return ["".join(bit for bit in "AD" if bit in entry.flags) for entry in path]

    assert traces(space, 0) == ["", "", "", ""]
    space.read(BASE, 1)
    assert traces(space, 0) == ["A", "A", "A", "A"] and traces(space, 1) == ["A", "A", "A", ""]
    space.write(BASE + PAGE, b"x")
    assert traces(space, 1) == ["A", "A", "A", "AD"]
    child = space.fork(mode)
    space.write(BASE + 2 * PAGE, b"x")
    assert traces(space, 2) == ["A", "A", "A", "AD"]
    # The parent's copies do not show in the child; data from before the fork is in both.
    assert traces(child, 2)[-1] == "" and traces(child, 1)[-1] == "AD"
    child.read(BASE + 2 * PAGE, 1)
    assert traces(child, 2) == ["A", "A", "A", "A"]
    check_memory(memory, [space, child])


def test_check_memory_notices_a_stale_translation() -> None:
    memory, space = machine()
    space.map(BASE, 2 * PAGE)
    space.write(BASE, b"x")
    space.state.arrays.tlb.reshape(-1, 4)[:, 2] += PAGE
    with pytest.raises(CorruptMemory, match=r"\(6\)"):
        check_memory(memory, [space])


def test_a_table_taken_back_without_a_copy_still_stamps_what_is_written() -> None:
    memory, space, child = forked(ForkMode.ON_DEMAND, 3)
    child.exit()
    mem, epoch = memory.state, space.epoch
    space.write(BASE, b"x")
    assert space.counters["tables_reused"] == 1 and space.counters["tables_copied"] == 0
    assert mem.epoch[frame_at(space, BASE)] == epoch > mem.epoch[frame_at(space, BASE + PAGE)]
    space.write(BASE + PAGE, b"x")
    assert mem.epoch[frame_at(space, BASE + PAGE)] == epoch
    assert space.counters["pages_reused"] == 2 and space.counters["pages_copied"] == 0
    check_memory(memory, [space])


def test_poison_fills_freed_frames() -> None:
    memory, space = machine()
    space.map(BASE, PAGE)
    frame = frame_at(space, BASE)
    space.unmap(BASE, PAGE)
    assert (memory.state.arrays.bytes[frame * PAGE : (frame + 1) * PAGE] == 0xDB).all()
    assert bool(memory.state.entries[frame * ENTRY_COUNT] & P)
    space.map(BASE, PAGE)
    assert space.read(BASE, PAGE) == bytes(PAGE)


def test_a_block_of_shared_tables_is_dropped_without_a_copy_and_leaves_the_tlb() -> None:
    memory, space = machine(2 * 512 + 64)
    space.map(MIB2, 2 * MIB2)
    child = space.fork(ForkMode.ON_DEMAND)
    space.read(2 * MIB2 - 3 * PAGE, 6 * PAGE)  # of both tables, into the TLB
    free = memory.frames_free
    space.unmap(MIB2, 2 * MIB2)
    assert space.counters["tables_dropped"] == 2 and space.counters["tables_copied"] == 0
    assert memory.frames_free >= free
    check_memory(memory, [space, child])
    assert not space.mapped(2 * MIB2 - PAGE, PAGE)
    with pytest.raises(NotMapped):
        space.read(2 * MIB2, 1)
    assert read_address(space.state, 2 * MIB2) < 0
    assert contents(memory, space.root) == {} and len(contents(memory, child.root)) == 1024
