"""The costs of forks and faults, counted exactly."""

import numpy as np
import pytest

from mmcore import ForkMode, check_memory
from mmcore.frozen import next_run
from mmcore.mapping import frames_of_run
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, frame_at, machine, runs_of, scaled


def counted(space: object, before: dict[str, int]) -> dict[str, int]:
    """Counters that have changed, without those of the caches of translations."""
    now = space.counters  # type: ignore[attr-defined]
    changed = {name: now[name] - before[name] for name in now if now[name] != before[name]}
    return {name: count for name, count in changed.items() if not name.endswith(("_hits", "_misses"))}


@pytest.mark.parametrize(("mode", "tables"), [(ForkMode.CLASSIC, 1 + 2 + 3 + 4), (ForkMode.ON_DEMAND, 1 + 2 + 3)])
def test_a_fork_copies_the_tables_above_its_level(mode: ForkMode, tables: int) -> None:
    memory, space = machine()
    for address in (0, MIB2, GIB, GIB512):
        space.map(address, PAGE)
    free, before = memory.frames_free, space.counters
    child = space.fork(mode)
    assert memory.frames_free == free - tables
    assert counted(space, before) == {"forks": 1, "fork_tables": tables}
    check_memory(memory, [space, child])


def test_write_after_an_on_demand_fork_copies_a_table_and_a_page() -> None:
    memory, space = machine()
    space.map(MIB2, 3 * PAGE)
    child = space.fork(ForkMode.ON_DEMAND)
    before = space.counters
    space.write(MIB2, b"x")
    assert counted(space, before) == {"write_faults": 1, "tables_copied": 1, "pages_copied": 1}
    space.write(MIB2 + PAGE, b"x")
    assert counted(space, before) == {"write_faults": 2, "tables_copied": 1, "pages_copied": 2}
    # The child is the old table's only sharer, and the old page's: nothing is left to copy.
    before = child.counters
    child.write(MIB2, b"x")
    assert counted(child, before) == {"write_faults": 1, "tables_reused": 1, "pages_reused": 1}
    child.write(MIB2 + 2 * PAGE, b"x")
    assert counted(child, before) == {"write_faults": 2, "tables_reused": 1, "pages_reused": 1, "pages_copied": 1}
    check_memory(memory, [space, child])


def test_write_after_a_classic_fork_copies_a_page() -> None:
    memory, space = machine()
    space.map(MIB2, 3 * PAGE)
    child = space.fork(ForkMode.CLASSIC)
    before = space.counters
    space.write(MIB2, b"x")
    assert counted(space, before) == {"write_faults": 1, "pages_copied": 1}
    child.exit()
    space.write(MIB2 + PAGE, b"x")
    assert counted(space, before) == {"write_faults": 2, "pages_copied": 1, "pages_reused": 1}
    check_memory(memory, [space, child])


@pytest.mark.parametrize("mode", list(ForkMode))
def test_a_read_never_copies(mode: ForkMode) -> None:
    memory, space = machine()
    space.map(MIB2, 3 * PAGE)
    child = space.fork(mode)
    free, before = memory.frames_free, space.counters
    space.read(MIB2, 3 * PAGE)
    child.read(MIB2, 3 * PAGE)
    assert memory.frames_free == free and counted(space, before) == {}


def test_mapping_and_unmapping_make_and_free_tables() -> None:
    memory, space = machine()
    before, free = space.counters, memory.frames_free
    space.map(GIB512 - PAGE, 2 * PAGE)
    assert counted(space, before) == {"pages_mapped": 2, "tables_made": 6}
    space.unmap(GIB512 - PAGE, 2 * PAGE)
    assert counted(space, before) == {"pages_mapped": 2, "tables_made": 6, "pages_unmapped": 2}
    assert memory.frames_free == free
    check_memory(memory, [space])


def test_fresh_frames_of_one_mapping_are_neighbours_even_across_tables() -> None:
    _, space = machine()
    pages = 8
    space.map(MIB2 - 4 * PAGE, pages * PAGE)
    out = np.zeros(pages + 2, np.int64)
    assert frames_of_run(space.state, MIB2 - 4 * PAGE, pages + 2, out) == pages
    assert (np.diff(out[:pages]) == 1).all() and out[0] == frame_at(space, MIB2 - 4 * PAGE)


def test_moving_pages_copies_none() -> None:
    memory, space = machine()
    space.map(MIB2 - 2 * PAGE, 4 * PAGE)
    space.write(MIB2 - PAGE, b"moved")
    frames = [frame_at(space, MIB2 + i * PAGE) for i in range(-2, 2)]
    space.remap(MIB2 - 2 * PAGE, 4 * PAGE, GIB512 - PAGE)
    assert [frame_at(space, GIB512 + i * PAGE) for i in range(-1, 3)] == frames
    assert space.read(GIB512, 5) == b"moved" and not space.mapped(MIB2 - PAGE, PAGE)
    check_memory(memory, [space])


def test_growing_and_shrinking_copy_the_shared_table_at_the_end_and_no_page() -> None:
    memory, space = machine(2000)
    space.map(0, 2 * MIB2)
    child = space.fork(ForkMode.ON_DEMAND)
    before = space.counters
    space.remap(0, 2 * MIB2, 0, MIB2 + 8 * PAGE)
    assert counted(space, before) == {"tables_copied": 1, "pages_unmapped": 504}
    space.remap(0, MIB2 + 8 * PAGE, 0, MIB2)
    assert counted(space, before) == {"tables_copied": 1, "pages_unmapped": 512}
    space.remap(0, MIB2, 0, MIB2 + PAGE)
    assert counted(space, before) == {"tables_copied": 1, "pages_unmapped": 512, "tables_made": 1, "pages_mapped": 1}
    check_memory(memory, [space, child])
    assert child.read(2 * MIB2 - 1, 1) == b"\0"


def test_shrinking_drops_a_shared_table_that_goes_whole() -> None:
    memory, space = machine(2000)
    space.map(0, 2 * MIB2)
    child = space.fork(ForkMode.ON_DEMAND)
    before = space.counters
    space.remap(0, 2 * MIB2, GIB512, MIB2)
    assert counted(space, before) == {"tables_dropped": 1, "tables_copied": 1, "tables_made": 2}
    assert child.mapped(0, 2 * MIB2)
    check_memory(memory, [space, child])


def test_runs_go_on_across_tables_and_stop_at_holes_and_limits() -> None:
    memory, space = machine()
    assert runs_of(memory, space.root) == []
    space.map(MIB2 - 2 * PAGE, 5 * PAGE)
    space.unmap(MIB2 + PAGE, PAGE)
    space.map(GIB512 - PAGE, 2 * PAGE)
    whole = [(MIB2 - 2 * PAGE, 3), (MIB2 + 2 * PAGE, 1), (GIB512 - PAGE, 2)]
    assert runs_of(memory, space.root) == whole
    assert runs_of(memory, space.root, 2) == [(MIB2 - 2 * PAGE, 2), (MIB2, 1), *whole[1:]]
    out = np.zeros(2, np.int64)
    assert next_run(memory.state, space.root, MIB2 - PAGE, 99, out) == 2 and out[0] == MIB2 - PAGE


def test_a_mapping_of_many_tables(pages: int = scaled(3 * 512 + 100, 600)) -> None:
    memory, space = machine(pages + 32)
    space.map(MIB2 - 50 * PAGE, pages * PAGE)
    check_memory(memory, [space])
    space.unmap(MIB2 - 20 * PAGE, (pages - 60) * PAGE)
    check_memory(memory, [space])
    assert runs_of(memory, space.root) == [(MIB2 - 50 * PAGE, 30), (MIB2 + (pages - 80) * PAGE, 30)]
