"""Pages that appear at two addresses of one space."""

from collections.abc import Callable

import pytest

from mmcore import AddressSpace, AlreadyMapped, ForkMode, NotMapped, OutOfFrames, Overlap, PhysicalMemory, check_memory
from mmcore.paging import ENTRY_COUNT
from mmcore.share import share_repeated
from tests.mmcore.support import GIB, MIB2, PAGE, contents, count_at, frame_at, machine, only, some

BLOCKS = 3


def filled(frames: int = 3000, blocks: int = BLOCKS) -> tuple[PhysicalMemory, AddressSpace]:
    """A space with whole blocks at 0, of which one page each has been written."""
    memory, space = machine(frames)
    space.map(0, blocks * MIB2)
    for block in range(blocks):
        space.write(block * MIB2, b"block %d" % block)
    return memory, space


def changed(space: AddressSpace, epoch: int) -> list[tuple[int, int]]:
    """(address, pages) of each run, whatever the tables they are in."""
    pages = [page for address, length in space.changed_since(epoch) for page in range(address, address + length, PAGE)]
    firsts = [page for page in pages if page - PAGE not in pages]
    return [(page, next(n for n in range(1, len(pages) + 1) if page + n * PAGE not in pages)) for page in firsts]


def test_whole_tables_are_shared_and_no_page_is_touched() -> None:
    memory, space = filled()
    before, free = space.counters, memory.frames_free
    space.share(0, BLOCKS * MIB2, GIB)
    assert free - memory.frames_free == 1, "the PD of the new address"
    assert [count_at(space, block * MIB2, 1) for block in range(BLOCKS)] == [2] * BLOCKS
    assert space.counters["pages_copied"] == before["pages_copied"]
    for block in range(BLOCKS):
        assert space.read(GIB + block * MIB2, 7) == b"block %d" % block
    check_memory(memory, [space])


@pytest.mark.parametrize("first", [0, GIB])
def test_the_first_write_through_either_address_copies_a_table_and_a_page(first: int) -> None:
    memory, space = filled()
    space.share(0, BLOCKS * MIB2, GIB)
    other = GIB - first
    before, free = space.counters, memory.frames_free
    space.write(first + MIB2, b"mine")
    assert space.read(other + MIB2, 7) == b"block 1" and space.read(first + MIB2, 7) == b"minek 1"
    assert free - memory.frames_free == 2
    space.write(other + MIB2 + 8, b"also")  # nobody shares this table and page any more
    assert free - memory.frames_free == 2 and space.counters["tables_copied"] == before["tables_copied"] + 1
    assert space.read(first + MIB2, 12) == b"minek 1\0\0\0\0\0"
    check_memory(memory, [space])


def test_a_translation_for_writing_does_not_survive() -> None:
    memory, space = filled()
    space.write(5, b"held in the TLB")
    space.share(0, MIB2, GIB)
    space.write(5, b"HELD")
    assert space.read(GIB + 5, 4) == b"held"
    space.share(MIB2, PAGE, GIB + MIB2)  # one page
    space.write(MIB2, b"B")
    assert space.read(GIB + MIB2, 7) == b"block 1"
    check_memory(memory, [space])


def test_shared_a_second_time_it_copies_no_table() -> None:
    memory, space = filled()
    space.share(0, BLOCKS * MIB2, GIB)
    copied = space.counters["tables_copied"]
    space.share(0, BLOCKS * MIB2, 2 * GIB)
    space.share(GIB, BLOCKS * MIB2, 3 * GIB)
    assert space.counters["tables_copied"] == copied and count_at(space, 0, 1) == 4
    check_memory(memory, [space])
    for place in (GIB, 0, 3 * GIB):
        space.unmap(place, BLOCKS * MIB2)
        check_memory(memory, [space])
    assert count_at(space, 2 * GIB, 1) == 1 and space.read(2 * GIB, 7) == b"block 0"


def test_ranges_that_are_not_aligned_alike_share_page_by_page() -> None:
    memory, space = filled()
    free = memory.frames_free
    space.share(PAGE, 2 * MIB2, GIB)
    assert free - memory.frames_free == 3, "a PD and two PTs"
    assert count_at(space, MIB2) == 2 and count_at(space, MIB2, 1) == 1
    assert space.read(GIB + MIB2 - PAGE, 7) == b"block 1"
    check_memory(memory, [space])


@pytest.mark.parametrize("mode", list(ForkMode))
@pytest.mark.parametrize("alone", [False, True])
def test_what_was_shared_or_moved_has_changed_in_that_epoch_only(mode: ForkMode, alone: bool) -> None:
    memory, space = filled(5000, 4)
    epoch = space.epoch
    children = [space.fork(mode)]
    space.share(0, MIB2, GIB)
    space.remap(MIB2, MIB2, GIB + 2 * MIB2)
    assert changed(space, epoch) == [(GIB, ENTRY_COUNT), (GIB + 2 * MIB2, ENTRY_COUNT)]
    space.write(0, b"x")
    space.write(GIB + PAGE, b"x")
    assert changed(space, epoch) == [(0, 1), (GIB, ENTRY_COUNT), (GIB + 2 * MIB2, ENTRY_COUNT)]
    later = space.epoch
    children.append(space.fork(mode))
    if alone:
        for child in children:
            child.exit()
    assert changed(space, later) == []
    for address in (7 * PAGE, GIB + 7 * PAGE, GIB + 2 * MIB2 + 7 * PAGE):
        space.write(address, b"y")
    found = [(7 * PAGE, 1), (GIB + 7 * PAGE, 1), (GIB + 2 * MIB2 + 7 * PAGE, 1)]
    assert changed(space, later) == found
    assert set(changed(space, epoch)) >= {(GIB, ENTRY_COUNT), (GIB + 2 * MIB2, ENTRY_COUNT)}
    check_memory(memory, [space, *children])


def test_a_range_grows_by_moving_tables() -> None:
    memory, space = filled()
    frames = [frame_at(space, block * MIB2, 1) for block in range(BLOCKS)]
    before, free = space.counters, memory.frames_free
    space.remap(0, BLOCKS * MIB2, GIB, BLOCKS * MIB2 + PAGE)
    assert [frame_at(space, GIB + block * MIB2, 1) for block in range(BLOCKS)] == frames
    assert free - memory.frames_free == 2 and space.counters["pages_copied"] == before["pages_copied"]
    assert space.read(GIB + 2 * MIB2, 7) == b"block 2"
    check_memory(memory, [space])


def test_huge_pages_are_shared_whole_or_in_parts() -> None:
    memory, space = machine(8 * 512)
    space.map(0, 2 * MIB2, huge=True)
    space.write(0, b"first")
    space.write(MIB2, b"second")
    space.share(0, MIB2, GIB)
    space.share(MIB2, PAGE, 2 * GIB)
    check_memory(memory, [space])
    space.write(GIB, b"FIRST")
    space.write(MIB2, b"SECOND")
    assert space.read(0, 5) == b"first" and space.read(2 * GIB, 6) == b"second"
    assert space.counters["huge_copied"] == 1 and space.counters["huge_split"] == 1
    check_memory(memory, [space])


def test_a_fork_and_its_parent_go_separate_ways() -> None:
    memory, space = filled()
    space.share(0, MIB2, GIB)
    for mode in ForkMode:
        child = space.fork(mode)
        child.write(GIB, b"CHILD")
        space.write(0, b"PARENT")
        assert child.read(0, 7) == b"block 0" and child.read(GIB, 7) == b"CHILD 0"
        assert space.read(GIB, 7) == b"block 0" and space.read(0, 7) == b"PARENT0"
        child.share(GIB, MIB2, 2 * GIB)
        check_memory(memory, [space, child])
        child.exit()
        space.write(0, b"block 0")
    space.exit()
    check_memory(memory, [])
    assert memory.frames_free == memory.frames_total


def test_bad_ranges_are_refused_with_nothing_changed() -> None:
    memory, space = filled()
    space.map(GIB, PAGE)
    before = contents(memory, space.root)
    with pytest.raises(AlreadyMapped):
        space.share(0, 2 * PAGE, GIB - PAGE)
    with pytest.raises(NotMapped):
        space.share(BLOCKS * MIB2, PAGE, 2 * GIB)
    with pytest.raises(Overlap):
        space.share(0, 2 * PAGE, PAGE)
    assert contents(memory, space.root) == before
    check_memory(memory, [space])


@pytest.mark.parametrize("first", [0, 3, 511])
@pytest.mark.parametrize("count", [1, 2, 509, 512, 513, 1024, 5 * 512 + 7])
def test_one_page_stands_for_many(first: int, count: int) -> None:
    memory, space = machine(3000)
    space.map(0, PAGE)
    space.write(0, b"again")
    free, to = memory.frames_free, GIB + first * PAGE
    share_repeated(space.state, 0, to, count)
    assert free - memory.frames_free <= 5 and space.mapped(to, count * PAGE)
    assert all(frame_at(space, to + page * PAGE) == frame_at(space, 0) for page in (0, count // 2, count - 1))
    child = space.fork(ForkMode.ON_DEMAND)
    space.write(to + count // 2 * PAGE, b"other")
    assert space.read(0, 5) == child.read(to + count // 2 * PAGE, 5) == b"again"
    texts = [space.read(to + page * PAGE, 5) for page in range(count)]
    assert texts.count(b"other") == 1 and texts.count(b"again") == count - 1
    check_memory(memory, [space, child])
    space.unmap(to, count * PAGE)
    check_memory(memory, [space, child])


OPERATIONS: dict[str, Callable[[AddressSpace], None]] = {
    "share tables": lambda space: space.share(0, 2 * MIB2, GIB),
    "share a table and a page": lambda space: space.share(0, MIB2 + PAGE, 512 * GIB - MIB2),
    "share pages across": lambda space: space.share(MIB2 - 2 * PAGE, 5 * PAGE, GIB - 3 * PAGE),
    "move tables": lambda space: space.remap(0, 2 * MIB2, GIB),
    "move a table and grow": lambda space: space.remap(0, MIB2, 512 * GIB - MIB2, MIB2 + PAGE),
    "write where it is shared": lambda space: space.write(3 * GIB + 5 * PAGE, b"x"),
    "unmap a part of what is shared": lambda space: space.unmap(3 * GIB + PAGE, PAGE),
}


@pytest.mark.parametrize("mode", [ForkMode.CONSTANT, None, ForkMode.ON_DEMAND, ForkMode.CLASSIC][: some(4, 1)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_allocation_failing_in_turn(name: str, mode: ForkMode | None) -> None:
    for free in range(16):
        memory, space = filled(4000, 2)
        space.share(0, MIB2, 3 * GIB)
        spaces = [space] if mode is None else [space, space.fork(mode)]
        before = [contents(memory, each.root) for each in spaces]
        with only(memory, free) as held:
            try:
                OPERATIONS[name](space)
            except OutOfFrames:
                assert memory.frames_free == free
                assert [contents(memory, each.root) for each in spaces] == before
                check_memory(memory, spaces, held)
                continue
            check_memory(memory, spaces, held)
            assert [contents(memory, each.root) for each in spaces[1:]] == before[1:]
            return
    pytest.fail("never succeeded")
