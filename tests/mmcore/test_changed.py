"""The changes since an epoch: all of them are found, and no table is looked into in which there are none."""

import numpy as np
import pytest

from mmcore import AddressSpace, ForkMode, check_memory
from mmcore.frozen import next_changed
from mmcore.paging import ENTRY_COUNT, VA_LIMIT
from tests.mmcore.support import GIB, MIB2, PAGE, frame_at, machine

MODES = pytest.mark.parametrize("mode", list(ForkMode))


def changed(space: AddressSpace, epoch: int) -> list[tuple[int, int]]:
    """(address, pages) of each run."""
    return [(address, length // PAGE) for address, length in space.changed_since(epoch)]


@MODES
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_written_mapped_or_moved_after_a_fork_and_nothing_else(mode: ForkMode, alone: bool) -> None:
    memory, space = machine()
    for address in (0, MIB2, GIB):
        space.map(address, 4 * PAGE)
        space.write(address, b"x" * 4 * PAGE)
    epoch = space.epoch
    child = space.fork(mode)
    if alone:
        child.exit()  # nothing is copied then: rights are given back, and the stamps have to be right all the same
    assert changed(space, epoch) == []
    space.write(PAGE, b"y")
    space.write(PAGE + 8, b"y")
    space.write(GIB + 2 * PAGE, b"yy" * PAGE)
    space.read(MIB2, 4 * PAGE)
    assert changed(space, epoch) == [(PAGE, 1), (GIB + 2 * PAGE, 2)]
    space.map(MIB2 + 4 * PAGE, PAGE)
    space.remap(0, PAGE, MIB2 + 5 * PAGE)
    space.unmap(GIB, PAGE)
    assert changed(space, epoch) == [(PAGE, 1), (MIB2 + 4 * PAGE, 2), (GIB + 2 * PAGE, 2)]
    space.unmap(MIB2, PAGE)
    space.map(MIB2, PAGE)
    assert changed(space, epoch) == [(PAGE, 1), (MIB2, 1), (MIB2 + 4 * PAGE, 2), (GIB + 2 * PAGE, 2)]
    assert sum(pages for _, pages in changed(space, -1)) == 12
    check_memory(memory, [space, child])


@MODES
def test_epochs_add_up(mode: ForkMode) -> None:
    _, space = machine()
    space.map(0, 4 * PAGE)
    epochs = []
    for page in range(4):
        epochs.append(space.epoch)
        space.fork(mode).exit()
        space.write(page * PAGE, b"x")
    assert [changed(space, epoch) for epoch in epochs] == [[(page * PAGE, 4 - page)] for page in range(4)]


def test_a_child_knows_what_it_changed_itself() -> None:
    memory, space = machine()
    space.map(0, 4 * PAGE)
    epoch = space.epoch
    child = space.fork(ForkMode.ON_DEMAND)
    child.write(PAGE, b"child")
    space.write(2 * PAGE, b"parent")
    assert changed(child, epoch) == [(PAGE, 1)] and changed(space, epoch) == [(2 * PAGE, 1)]
    check_memory(memory, [space, child])


def test_a_part_of_a_split_huge_page_changes_by_itself() -> None:
    memory, space = machine(2048)
    space.map(0, MIB2, huge=True)
    space.write(0, b"x")
    epoch = space.epoch
    space.fork(ForkMode.CLASSIC).exit()
    space.unmap(0, PAGE)
    assert changed(space, epoch) == []
    space.write(5 * PAGE, b"y")
    assert changed(space, epoch) == [(5 * PAGE, 1)]
    epoch = space.epoch
    space.map(MIB2, MIB2, huge=True)
    space.fork(ForkMode.ON_DEMAND).exit()
    space.write(MIB2 + 3 * PAGE, b"y")
    assert changed(space, epoch) == [(MIB2, ENTRY_COUNT)]  # a huge page changes whole
    check_memory(memory, [space])


def test_a_table_in_which_nothing_changed_is_not_looked_into() -> None:
    _, space = machine()
    for address in (0, MIB2):
        space.map(address, PAGE)
        space.write(address, b"x")
    epoch = space.epoch
    space.fork(ForkMode.ON_DEMAND).exit()
    space.write(MIB2, b"y")
    mem = space.state.mem
    # A stamp below a table without one: who looks there finds it.
    mem.epoch[frame_at(space, 0)] = space.epoch
    out = np.zeros(2, np.int64)
    assert next_changed(mem, space.root, epoch, 0, VA_LIMIT, out) == 1 and out[0] == MIB2
