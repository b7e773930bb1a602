"""The entries on the way to an address: which there are, and what is said of each."""

import pytest

from mmcore import ForkMode, NonCanonical, path_of
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, count_at, frame_at, machine


def test_a_path_has_an_entry_of_each_level() -> None:
    _, space = machine()
    address = GIB512 + 2 * GIB + 3 * MIB2 + 4 * PAGE
    space.map(address, PAGE)
    path = path_of(space, address + 5)
    assert [(one.level, one.name, one.index) for one in path] == [
        (4, "PML4E", 1),
        (3, "PDPTE", 2),
        (2, "PDE", 3),
        (1, "PTE", 4),
    ]
    assert [one.table for one in path] == [frame_at(space, address, level) for level in (4, 3, 2, 1)]
    assert [one.frame for one in path] == [frame_at(space, address, level) for level in (3, 2, 1, 0)]
    assert all(one.refcount == 1 and one.flags == ("P", "R/W", "U/S", "COW") for one in path)
    assert str(path[-1]) == f"PTE      4 -> frame {path[-1].frame}, count 1: P R/W U/S COW"


def test_a_path_ends_where_nothing_is_present() -> None:
    _, space = machine()
    assert path_of(space, 0) == []
    space.map(0, PAGE)
    assert [len(path_of(space, address)) for address in (0, PAGE, MIB2, GIB, GIB512)] == [4, 3, 2, 1, 0]
    for address in (-1, 1 << 47):
        with pytest.raises(NonCanonical):
            path_of(space, address)


def test_a_path_tells_what_is_shared_written_and_stamped() -> None:
    _, space = machine()
    space.map(MIB2, 2 * PAGE)
    child = space.fork(ForkMode.ON_DEMAND)
    space.write(MIB2, b"x")
    own, shared = path_of(space, MIB2), path_of(space, MIB2 + PAGE)
    assert own[-1].flags == ("P", "R/W", "U/S", "A", "D", "COW") and own[-1].refcount == 1
    assert shared[-1].flags == ("P", "U/S", "COW") and shared[-1].refcount == count_at(space, MIB2 + PAGE) == 2
    assert (own[-1].epoch, shared[-1].epoch) == (space.epoch, space.epoch - 1)
    assert path_of(child, MIB2)[-1].refcount == 1


def test_looking_changes_nothing() -> None:
    _, space = machine()
    space.map(MIB2, PAGE)
    before, counters = space.state.mem.entries.tolist(), space.counters
    path_of(space, MIB2)
    assert space.state.mem.entries.tolist() == before and space.counters == counters


def test_a_huge_pages_path_ends_in_the_pd() -> None:
    _, space = machine(3 * 512)
    space.map(GIB, MIB2, huge=True)
    path = path_of(space, GIB + 7 * PAGE)
    assert [one.name for one in path] == ["PML4E", "PDPTE", "PDE"]
    assert "PS" in path[-1].flags and path[-1].frame % 512 == 0
