"""Every operation, with every single allocation of it failing in turn: nothing has happened then."""

from collections.abc import Callable

import pytest

from mmcore import AddressSpace, Caches, ForkMode, OutOfFrames, PhysicalMemory, check_memory
from mmcore.mapping import reset
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, contents, machine, only, run_contents, scaled, some

EDGE = GIB512 - PAGE  # the page after it is in another table of every level
NEAR = GIB - 2 * PAGE

Operation = Callable[[AddressSpace], object]
OPERATIONS: dict[str, tuple[int, Operation]] = {
    # name: (frames it takes, the operation)
    "map into an existing table": (2, lambda space: space.map(EDGE - 3 * PAGE, 2 * PAGE)),
    "map with all tables new": (4, lambda space: space.map(7 * GIB512, PAGE)),
    "map across tables of every level": (2 + 6, lambda space: space.map(9 * GIB512 - PAGE, 2 * PAGE)),
    "classic fork": (1 + 2 + 3 + 3, lambda space: space.fork(ForkMode.CLASSIC)),
    "constant fork": (1, lambda space: space.fork(ForkMode.CONSTANT)),
    "on-demand fork": (1 + 2 + 3, lambda space: space.fork(ForkMode.ON_DEMAND)),
    "write to one page": (1, lambda space: space.write(NEAR, b"x")),
    "reset": (1, lambda space: space.reset()),
    "grow in place, into new tables": (3 + 2, lambda space: space.remap(NEAR, 2 * PAGE, NEAR, 5 * PAGE)),
    "move and grow": (3 + 3, lambda space: space.remap(NEAR, 2 * PAGE, 11 * GIB512, 5 * PAGE)),
}
AFTER_ON_DEMAND: dict[str, tuple[int, Operation]] = {
    "write through a shared table": (2, lambda space: space.write(NEAR, b"x")),
    "map into a shared table": (1 + 1, lambda space: space.map(NEAR - PAGE, PAGE)),
    "unmap part of a shared table": (1, lambda space: space.unmap(NEAR, PAGE)),
    "unmap parts of two shared tables": (2, lambda space: space.unmap(EDGE, 2 * PAGE)),
    "move between shared tables": (2, lambda space: space.remap(NEAR, PAGE, EDGE - 2 * PAGE)),
    "move to new tables": (1 + 3, lambda space: space.remap(NEAR, PAGE, 11 * GIB512)),
    "grow in place, in a shared table": (2 + 1, lambda space: space.remap(EDGE + PAGE, PAGE, EDGE + PAGE, 3 * PAGE)),
    "shrink in place": (1, lambda space: space.remap(NEAR, 2 * PAGE, NEAR, PAGE)),
    "move and grow": (1 + 3 + 3, lambda space: space.remap(NEAR, 2 * PAGE, 11 * GIB512, 5 * PAGE)),
    "move and shrink": (1 + 1 + 3, lambda space: space.remap(EDGE, 2 * PAGE, 11 * GIB512, PAGE)),
}


def prepared() -> tuple[PhysicalMemory, AddressSpace]:
    memory, space = machine(200)
    space.map(EDGE, 2 * PAGE)
    space.map(NEAR, 2 * PAGE)
    for address in (EDGE, EDGE + PAGE, NEAR, NEAR + PAGE):
        space.write(address, b"at %x" % address)
    return memory, space


def fails_cleanly(operation: Operation, needed: int, mode: ForkMode | None, exact: bool = True) -> None:
    for free in range(needed + 6):
        memory, space = prepared()
        spaces = [space] if mode is None else [space, space.fork(mode)]
        before = [contents(memory, each.root) for each in spaces]
        with only(memory, free) as held:
            try:
                result = operation(space)
            except OutOfFrames:
                assert free < needed or not exact, f"{needed} frames were to be enough"
                assert memory.frames_free == free
                assert [contents(memory, each.root) for each in spaces] == before
                check_memory(memory, spaces, held)
                continue
            if isinstance(result, AddressSpace):
                spaces.append(result)
            assert free >= needed, f"{needed} frames were thought to be needed, not {free}"
            assert not exact or free == needed
            check_memory(memory, spaces, held)
            if mode is not None:
                assert contents(memory, spaces[1].root) == before[1]
            return
    pytest.fail("never succeeded")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_allocation_failing_in_turn(name: str) -> None:
    needed, operation = OPERATIONS[name]
    fork_first = ForkMode.CLASSIC if name.startswith("write") else None
    fails_cleanly(operation, needed, fork_first, exact=not name.startswith("move"))


@pytest.mark.parametrize("name", AFTER_ON_DEMAND)
def test_every_allocation_failing_in_turn_on_shared_tables(name: str) -> None:
    needed, operation = AFTER_ON_DEMAND[name]
    fails_cleanly(operation, needed, ForkMode.ON_DEMAND, exact=not name.startswith("move"))


HUGE = 2 * GIB512 - MIB2  # two huge pages, with different tables of every level
WHOLE = {
    # Operations on spaces with huge pages and small ones, for every mode of the fork before them.
    "classic fork": lambda space: space.fork(ForkMode.CLASSIC),
    "on-demand fork": lambda space: space.fork(ForkMode.ON_DEMAND),
    "constant fork": lambda space: space.fork(ForkMode.CONSTANT),
    "write to a page": lambda space: space.write(EDGE, b"x"),
    "write to a huge page": lambda space: space.write(HUGE + 5 * PAGE, b"x"),
    "write to a page beside a huge page": lambda space: space.write(HUGE - PAGE, b"x"),
    "map beside": lambda space: space.map(NEAR - 3 * PAGE, 2 * PAGE),
    "map across": lambda space: space.map(9 * GIB512 - PAGE, 2 * PAGE),
    "map a huge page in a table that is there": lambda space: space.map(HUGE - 3 * MIB2, 2 * MIB2, huge=True),
    "map huge pages across": lambda space: space.map(7 * GIB512 - MIB2, 2 * MIB2, huge=True),
    "unmap pages": lambda space: space.unmap(NEAR, PAGE),
    "unmap parts of two tables": lambda space: space.unmap(EDGE, 2 * PAGE),
    "unmap a huge page": lambda space: space.unmap(HUGE, MIB2),
    "unmap part of a huge page": lambda space: space.unmap(HUGE + PAGE, PAGE),
    "unmap parts of two huge pages": lambda space: space.unmap(HUGE + PAGE, MIB2),
    "unmap a page and part of a huge page": lambda space: space.unmap(HUGE - PAGE, 2 * PAGE),
    "move pages": lambda space: space.remap(NEAR, 2 * PAGE, 11 * GIB512 - PAGE),
    "move huge pages whole": lambda space: space.remap(HUGE, 2 * MIB2, 11 * GIB512 - MIB2),
    "move a huge page in parts": lambda space: space.remap(HUGE, MIB2, 11 * GIB512 - PAGE),
    "move parts of two huge pages": lambda space: space.remap(HUGE + PAGE, MIB2, 12 * GIB512 + PAGE),
    "move and grow by a huge page": lambda space: space.remap(
        HUGE + PAGE, MIB2 - PAGE, 11 * GIB512 - MIB2 + PAGE, 2 * MIB2 - PAGE, huge=True
    ),
    "move and keep part of a huge page": lambda space: space.remap(HUGE, 2 * MIB2, 11 * GIB512 - MIB2, MIB2 + PAGE),
    "grow in place by a huge page": lambda space: space.remap(HUGE, 2 * MIB2, HUGE, 3 * MIB2, huge=True),
    "keep part of a huge page": lambda space: space.remap(HUGE, 2 * MIB2, HUGE, MIB2 + PAGE),
    "unshare": lambda space: space.unshare_step(1000),
    "reset": lambda space: space.reset(),
}


def with_huge_pages(mode: ForkMode | None) -> tuple[PhysicalMemory, list[AddressSpace]]:
    memory = PhysicalMemory(6 * MIB2, huge_pages=False, poison=True)
    space = AddressSpace(memory, caches=Caches(tlb=64))
    space.map(EDGE, 2 * PAGE)
    space.map(NEAR, 2 * PAGE)
    space.map(HUGE - PAGE, PAGE)
    space.map(HUGE, 2 * MIB2, huge=True)
    for address in (EDGE, EDGE + PAGE, NEAR, NEAR + PAGE, HUGE - PAGE, HUGE, HUGE + 7 * PAGE, HUGE + MIB2):
        space.write(address, b"at %x" % address)
    return memory, [space] if mode is None else [space, space.fork(mode)]


@pytest.mark.parametrize("mode", (ForkMode.CONSTANT, None, ForkMode.ON_DEMAND, ForkMode.CLASSIC)[: some(4, 1)])
@pytest.mark.parametrize("name", WHOLE)
def test_every_allocation_failing_in_turn_beside_huge_pages(name: str, mode: ForkMode | None) -> None:
    succeeded = 0
    for runs, free in [(runs, free) for runs in range(3) for free in range(0, 16, scaled(1, 5))]:
        memory, spaces = with_huge_pages(mode)
        before = [run_contents(memory, each.root) for each in spaces]
        with only(memory, free, runs) as held:
            try:
                result = WHOLE[name](spaces[0])
            except OutOfFrames:
                assert memory.frames_free == free + runs * 512 or name == "unshare"
                assert [run_contents(memory, each.root) for each in spaces] == before
                check_memory(memory, spaces, held)
            else:
                succeeded += 1
                if isinstance(result, AddressSpace):
                    assert run_contents(memory, result.root) == before[0]
                    spaces.append(result)
                check_memory(memory, spaces, held)
                if mode is not None:
                    assert run_contents(memory, spaces[1].root) == before[1]
            for each in spaces:
                each.exit()
        check_memory(memory, [])
        assert memory.frames_free == memory.frames_total
        if succeeded == scaled(2, 1):
            return
    pytest.fail("never succeeded")


def test_no_run_is_free_though_frames_are() -> None:
    memory, space = machine(4 * 512)
    space.map(GIB, 1900 * PAGE)
    for page in range(0, 1800, 100):
        space.unmap(GIB + page * PAGE, 99 * PAGE)
    assert memory.frames_free > 3 * 512
    with pytest.raises(OutOfFrames) as caught:
        space.map(GIB512, MIB2, huge=True)
    assert caught.value.address == GIB512
    check_memory(memory, [space])
    for page in range(99, 1800, 100):
        space.unmap(GIB + page * PAGE, PAGE)
    space.map(GIB512, MIB2, huge=True)  # the frames that came free one by one make a run again
    assert space.read(GIB512, MIB2) == bytes(MIB2)
    check_memory(memory, [space])


def test_a_write_over_many_pages_changes_no_byte_when_the_last_copy_fails() -> None:
    memory, space = machine(200)
    space.map(MIB2 - 4 * PAGE, 8 * PAGE)
    child = space.fork(ForkMode.ON_DEMAND)
    before = contents(memory, space.root)
    for free in range(10):
        with only(memory, free) as held:
            with pytest.raises(OutOfFrames):
                space.write(MIB2 - 4 * PAGE, b"x" * (8 * PAGE))
            assert contents(memory, space.root) == before == contents(memory, child.root)
            check_memory(memory, [space, child], held)
        space.exit()
        space = child.fork(ForkMode.ON_DEMAND)


def test_a_space_needs_a_root() -> None:
    memory, space = machine()
    with only(memory, 0):
        with pytest.raises(OutOfFrames):
            AddressSpace(memory)
        assert reset(space.state) == -1
    check_memory(memory, [space])
