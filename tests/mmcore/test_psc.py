"""The TLB and the paging-structure caches: what they serve, what they count, and what they must not go on serving."""

import pytest

from mmcore import AddressSpace, Caches, CorruptMemory, ForkMode, PhysicalMemory, check_memory
from mmcore.psc import psc_lookup
from mmcore.state import CR3, PSC_FIRST
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, frame_at

FORKS = pytest.mark.parametrize("mode", list(ForkMode))
NAMES = ("pde_cache", "pdpte_cache", "pml4_cache")


def machine(tlb: int = 1, pml4: int = 1, pdpte: int = 2, pde: int = 4) -> tuple[PhysicalMemory, AddressSpace]:
    memory = PhysicalMemory(4096 * PAGE, huge_pages=False, poison=True)
    return memory, AddressSpace(memory, caches=Caches(tlb, pml4, pdpte, pde))


def hits(space: AddressSpace, *addresses: int) -> list[str]:
    """Read a byte at each address; which cache the translation of each came from, or "walk"."""
    found = []
    for address in addresses:
        before = space.counters
        space.read(address, 1)
        names = ["tlb", *NAMES]
        found.append(next((n for n in names if space.counters[f"{n}_hits"] > before[f"{n}_hits"]), "walk"))
    return found


def test_a_walk_begins_at_the_cache_that_leads_furthest_down() -> None:
    memory, space = machine()
    for address in (0, PAGE, MIB2, GIB, GIB512):
        space.map(address, PAGE)
        space.read(address, 1)  # sets A, without which no entry is kept
    assert hits(space, 0, 0, PAGE, MIB2, GIB) == ["pde_cache", "tlb", "pde_cache", "pdpte_cache", "pml4_cache"]
    assert hits(space, GIB512, GIB512, 0) == ["walk", "tlb", "walk"]  # it has replaced what had the same index
    check_memory(memory, [space])


def test_every_look_is_counted_once() -> None:
    _, space = machine()
    space.map(0, 2 * PAGE)
    space.read(0, 1)
    space.read(PAGE, 1)
    before = space.counters
    space.read(0, 1)
    space.read(0, 1)
    changed = {name: count - before[name] for name, count in space.counters.items() if count != before[name]}
    assert changed == {"tlb_misses": 1, "tlb_hits": 1, "pde_cache_hits": 1}


def test_a_cache_of_no_entries_is_not_looked_at() -> None:
    _, space = machine(pml4=0, pdpte=0, pde=0)
    space.map(0, 2 * PAGE)
    assert hits(space, 0, PAGE, 0, PAGE) == ["walk"] * 4
    assert all(space.counters[f"{name}_{what}"] == 0 for name in NAMES for what in ("hits", "misses"))


def test_entries_without_a_are_not_kept() -> None:
    _, space = machine()
    space.map(0, 2 * PAGE)
    assert hits(space, 0, PAGE, 0) == ["walk", "walk", "pde_cache"]


@FORKS
def test_a_table_copied_by_a_write_is_served_no_more(mode: ForkMode) -> None:
    memory, space = machine()
    space.map(0, 2 * PAGE)
    child = space.fork(mode)
    for _ in range(2):
        assert hits(space, 0, PAGE)[0] != "tlb"
    space.write(0, b"parent")
    assert int(psc_lookup(space.state, 0)[0]) in (int(space.state.cpu[CR3]), frame_at(space, 0, 1))
    space.unmap(PAGE, PAGE)
    assert space.read(0, 6) == b"parent" and child.read(0, 6) == bytes(6)
    check_memory(memory, [space, child])


@FORKS
def test_what_is_kept_below_a_copied_table_still_holds(mode: ForkMode) -> None:
    memory, space = machine(pde=4, pdpte=4)
    for address in (0, MIB2, GIB, GIB + MIB2):
        space.map(address, PAGE)
        space.write(address, b"%x" % address)
    child = space.fork(mode)
    for address in (0, MIB2, GIB, GIB + MIB2) * 2:
        space.read(address, 1)
    space.write(0, b"new")
    check_memory(memory, [space, child])
    for address in (MIB2, GIB, GIB + MIB2):
        assert space.read(address, 6) == child.read(address, 6)
        space.write(address, b"new")
        check_memory(memory, [space, child])
        assert space.read(address, 3) == b"new" != child.read(address, 3)


def test_tables_freed_by_an_unmapping_are_served_no_more() -> None:
    memory, space = machine(pde=1, pdpte=1)
    for address, span in ((0, PAGE), (MIB2, PAGE), (0, PAGE)):
        space.map(address, span)
        space.read(address, 1)
        space.read(address, 1)
        space.unmap(address, span)
        check_memory(memory, [space])
    space.map(0, MIB2)
    space.read(0, 1)
    space.read(PAGE, 1)
    child = space.fork(ForkMode.ON_DEMAND)
    space.read(PAGE, 1)
    space.unmap(0, MIB2)  # the whole shared table goes
    assert space.counters["tables_dropped"] == 1
    check_memory(memory, [space, child])


def test_check_memory_notices_a_stale_entry() -> None:
    memory, space = machine()
    space.map(0, 2 * PAGE)
    space.read(0, 1)
    space.read(PAGE, 1)
    check_memory(memory, [space])
    space.state.psc[int(space.state.processor[PSC_FIRST + 2]) + 1] += PAGE
    with pytest.raises(CorruptMemory, match="level 2 has another table"):
        check_memory(memory, [space])


@FORKS
def test_a_huge_page_copied_by_a_write_is_served_no_more(mode: ForkMode) -> None:
    memory, space = machine(tlb=8)
    space.map(0, MIB2, huge=True)
    child = space.fork(mode)
    space.read(3 * PAGE, 1)
    space.write(PAGE, b"parent")
    check_memory(memory, [space, child])
    child.write(3 * PAGE, b"child")  # in place, for the parent has a copy of its own
    assert space.read(3 * PAGE, 5) == bytes(5)
    check_memory(memory, [space, child])
