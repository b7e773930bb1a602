"""Unsharing ahead: what a step copies, what it leaves for writes to find done, and when it begins anew."""

import pytest

from mmcore import AddressSpace, ForkMode, OutOfFrames, PhysicalMemory, check_memory
from tests.mmcore.support import GIB, MIB2, PAGE, count_at, machine, only

SHARING = pytest.mark.parametrize("mode", [ForkMode.ON_DEMAND, ForkMode.CONSTANT])
REGIONS = 6


def forked(mode: ForkMode) -> tuple[PhysicalMemory, AddressSpace, AddressSpace]:
    """A space of a page in each of REGIONS regions, half of them 1 GiB further up, and its child."""
    memory, space = machine()
    for region in range(REGIONS):
        space.map(region * MIB2 + (region % 2) * GIB, PAGE)
        space.write(region * MIB2 + (region % 2) * GIB, b"old")
    return memory, space, space.fork(mode)


def unshare(space: AddressSpace, budget: int) -> None:
    """Step until nothing is left."""
    while space.unshare_step(budget) > 0:
        pass


@SHARING
@pytest.mark.parametrize("budget", [1, 2, 100])
def test_writes_find_tables_copied_ahead(mode: ForkMode, budget: int) -> None:
    memory, space, child = forked(mode)
    unshare(space, budget)
    check_memory(memory, [space, child])
    upper = 0 if mode == ForkMode.ON_DEMAND else 3  # the PDPT and two PDs
    assert space.counters["tables_unshared"] == space.counters["tables_copied"] == REGIONS + upper
    assert space.counters["pages_copied"] == 0 and count_at(space, 0) == 2
    for region in range(REGIONS):
        space.write(region * MIB2 + (region % 2) * GIB, b"new")
    assert space.counters["tables_copied"] == REGIONS + upper and space.counters["pages_copied"] == REGIONS
    assert child.read(0, 3) == b"old"
    check_memory(memory, [space, child])


def test_a_step_keeps_to_its_budget() -> None:
    memory, space, child = forked(ForkMode.ON_DEMAND)
    copied = 0
    while (done := space.unshare_step(1)) > 0:
        # A step that only looked, through tables that are private or missing, has done its part too.
        assert done == 1 and space.counters["tables_copied"] - copied in (0, 1)
        copied = space.counters["tables_copied"]
        check_memory(memory, [space, child])
    assert copied == REGIONS


@SHARING
def test_a_fork_sends_it_back_to_the_start(mode: ForkMode) -> None:
    memory, space, child = forked(mode)
    unshare(space, 100)
    before = space.counters["tables_unshared"]
    assert space.unshare_step(100) == 0
    other = space.fork(mode)
    unshare(space, 100)
    assert space.counters["tables_unshared"] == 2 * before
    check_memory(memory, [space, child, other])


@SHARING
def test_tables_whose_other_sharers_are_gone_are_taken_back(mode: ForkMode) -> None:
    memory, space, child = forked(mode)
    child.exit()
    unshare(space, 100)
    assert space.counters["tables_copied"] == 0 and space.counters["tables_reused"] >= REGIONS
    check_memory(memory, [space])


def test_without_frames_it_says_so_and_goes_on_when_there_are_some() -> None:
    memory, space, child = forked(ForkMode.ON_DEMAND)
    with only(memory, 2) as held:
        with pytest.raises(OutOfFrames):
            unshare(space, 100)
        check_memory(memory, [space, child], held)
        assert space.counters["tables_copied"] == 2
    unshare(space, 100)
    assert space.counters["tables_copied"] == REGIONS
    check_memory(memory, [space, child])
