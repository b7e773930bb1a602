"""Accounting: sums against a walk of all paths in exact fractions, states of regions by what led to them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
import pytest

from mmcore import AddressSpace, EmptyRange, ForkMode, NonCanonical, OutOfFrames, PhysicalMemory, RegionState, Usage
from mmcore.frames import frame_drop
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, count_at, frame_at, machine, scaled, seeds
from tests.mmcore.test_streams import HUGE, MIXES, Stream

UNTOUCHED, SHARED_TABLE, COPIED_TABLE, PAGES_COPIED = RegionState
RW_BIT, A_BIT, D_BIT, PS_BIT = 1 << 1, 1 << 5, 1 << 6, 1 << 7


@dataclass
class Path:
    """An entry that maps something, or leads to a table, and what the way to it says."""

    address: int
    level: int  # of what it points at: 0 a page
    frame: int
    entry: int
    part: Fraction
    table_part: Fraction  # of the table it stands in


def paths(space: AddressSpace) -> Iterator[Path]:
    """Every path of a space, read entry by entry; the format is written out here once more."""
    mem = space.state.mem

    def below(table: int, level: int, address: int, part: Fraction) -> Iterator[Path]:
        for index in np.flatnonzero(mem.entries[table * 512 : (table + 1) * 512] & np.uint64(1)).tolist():
            entry = int(mem.entries[table * 512 + index])
            frame = (entry >> 12) & ((1 << 40) - 1)
            at = address + (index << (12 + 9 * (level - 1)))
            its = part / int(mem.refcount[frame])
            if level == 1 or entry & PS_BIT:
                yield Path(at, 0, frame, entry, its, part)
            else:
                yield Path(at, level - 1, frame, entry, its, part)
                yield from below(frame, level - 1, at, its)

    root = space.root
    part = Fraction(1, int(mem.refcount[root]))
    yield Path(0, 4, root, 0, part, part)
    yield from below(root, 4, 0, part)


def size_of(path: Path) -> int:
    return MIB2 if path.entry & PS_BIT else PAGE


def expected_usage(space: AddressSpace) -> Usage:
    sums: Counter[str] = Counter()
    pss = tables_part = Fraction(0)
    for path in paths(space):
        kind = "private" if path.part == 1 else "shared"
        if path.level:
            sums[f"tables_{kind}"] += 1
            tables_part += path.part
            continue
        size = size_of(path)
        pss += path.part * size
        sums["rss"] += size
        sums["referenced"] += size if path.entry & A_BIT else 0
        sums["anon_huge_pages"] += size if size == MIB2 else 0
        sums[f"{kind}_dirty" if path.entry & D_BIT else f"{kind}_clean"] += size
    names = set(Usage.__dataclass_fields__) - {"pss", "tables_part"}
    return Usage(pss=float(pss), tables_part=float(tables_part), **{name: sums[name] for name in names})


def expected_regions(space: AddressSpace) -> list[tuple[int, int, int, int, int, int, bool]]:
    found: dict[int, list[Path]] = {}
    for path in paths(space):
        if not path.level:
            found.setdefault(path.address & -MIB2, []).append(path)
    rows = []
    for address, pages in found.items():
        worth = 512 if size_of(pages[0]) == MIB2 else 1
        private = worth * sum(path.part == 1 for path in pages)
        own = PAGES_COPIED if private else COPIED_TABLE
        state = SHARED_TABLE if pages[0].table_part < 1 else own
        dirty, referenced = (worth * sum(bool(path.entry & bit) for path in pages) for bit in (D_BIT, A_BIT))
        rows.append((address, int(state), worth * len(pages), private, dirty, referenced, worth == 512))
    return rows


def check_account(memory: PhysicalMemory, spaces: list[AddressSpace]) -> None:
    """All that must be true of the accounts of all spaces on a memory."""
    usages = [space.usage() for space in spaces]
    tables: set[int] = set()
    pages: dict[int, int] = {}
    for space, usage in zip(spaces, usages, strict=True):
        expected = expected_usage(space)
        assert asdict(usage) == pytest.approx(asdict(expected), rel=1e-12)
        assert usage.rss == usage.shared_clean + usage.shared_dirty + usage.private_clean + usage.private_dirty
        assert usage.private_clean + usage.private_dirty <= usage.pss * (1 + 1e-12) <= usage.rss * (1 + 2e-12)
        found = space.regions()
        assert found.tolist() == expected_regions(space)
        assert found["pages"].sum() * PAGE == usage.rss
        assert found["private"].sum() * PAGE == usage.private_clean + usage.private_dirty
        assert found["dirty"].sum() * PAGE == usage.shared_dirty + usage.private_dirty
        for path in paths(space):
            if path.level:
                tables.add(path.frame)
            else:
                pages[path.frame] = size_of(path)
    resident = sum(pages.values())
    assert sum(usage.pss for usage in usages) == pytest.approx(resident, rel=1e-12)
    assert sum(usage.tables_part for usage in usages) == pytest.approx(len(tables), rel=1e-12)
    assert memory.frames_total - memory.frames_free == resident // PAGE + len(tables)


def stir(stream: Stream, steps: int) -> None:
    """Random operations, without a look at what they have done."""
    for _ in range(steps):
        space, model = stream.random.choice(stream.live)
        kind = stream.random.choices(list(stream.weights), list(stream.weights.values()))[0]
        with suppress(OutOfFrames):
            getattr(stream, f"do_{kind}")(space, model)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", seeds(4, 500))
def test_accounts_agree_with_a_walk_of_every_path(seed: int, mix: str) -> None:
    stream = Stream(seed, 40 * 512 + 300, 16, MIXES[mix], HUGE)
    mapped = 0
    for _ in range(scaled(5, 3)):
        stir(stream, 25)
        spaces = [space for space, _ in stream.live]
        check_account(stream.memory, spaces)
        mapped += sum(space.regions().size for space in spaces)
    assert mapped > 0, f"{seed=}: nothing was ever mapped"


def test_a_walk_that_counts_wrong_is_noticed() -> None:
    memory, space = machine()
    space.map(MIB2, 3 * PAGE)
    child = space.fork(ForkMode.ON_DEMAND)
    check_account(memory, [space, child])
    frame = frame_at(space, MIB2)
    space.state.mem.refcount[frame] += 1
    with pytest.raises(AssertionError):
        check_account(memory, [space, child])
    frame_drop(space.state.mem, frame)
    check_account(memory, [space, child])


def test_an_empty_space_has_a_root_and_nothing_else() -> None:
    memory, space = machine()
    usage = space.usage()
    assert (usage.rss, usage.pss, usage.tables_private, usage.tables_shared, usage.tables_part) == (0, 0, 1, 0, 1)
    assert space.regions().size == 0
    check_account(memory, [space])


@pytest.mark.parametrize("mode", ForkMode)
def test_a_child_that_writes_nothing_has_half_of_everything(mode: ForkMode) -> None:
    memory, space = machine(2048)
    space.map(GIB, 600 * PAGE)
    space.write(GIB, b"x")
    alone = space.usage()
    assert (alone.rss, alone.private_dirty, alone.private_clean) == (600 * PAGE, PAGE, 599 * PAGE)
    assert (alone.pss, alone.referenced) == (alone.rss, PAGE)
    child = space.fork(mode)
    for one in (space, child):
        usage = one.usage()
        assert (usage.pss, usage.shared_dirty, usage.shared_clean) == (300 * PAGE, PAGE, 599 * PAGE)
        assert usage.private_clean == usage.private_dirty == 0
        shared = {ForkMode.CLASSIC: 0, ForkMode.ON_DEMAND: 2, ForkMode.CONSTANT: 4}[mode]
        assert (usage.tables_shared, usage.tables_private) == (shared, 5 - shared)
        assert usage.tables_part == 5 - shared / 2
    check_account(memory, [space, child])
    child.exit()
    assert space.usage() == alone


def test_forks_of_different_modes_split_a_page_by_paths() -> None:
    memory, space = machine()
    space.map(MIB2, PAGE)
    one = space.fork(ForkMode.ON_DEMAND)
    two = space.fork(ForkMode.CLASSIC)
    assert (space.usage().pss, one.usage().pss, two.usage().pss) == (PAGE / 4, PAGE / 4, PAGE / 2)
    check_account(memory, [space, one, two])


def test_usage_reads_as_smaps() -> None:
    _, space = machine()
    space.map(MIB2, 3 * PAGE)
    space.write(MIB2, b"x")
    lines = dict(line.split(":") for line in str(space.usage()).splitlines())
    kilobytes = {name: int(value.removesuffix("kB")) for name, value in lines.items()}
    assert kilobytes == {
        "Rss": 12,
        "Pss": 12,
        "Shared_Clean": 0,
        "Shared_Dirty": 0,
        "Private_Clean": 8,
        "Private_Dirty": 4,
        "Referenced": 4,
        "AnonHugePages": 0,
        "Tables_Shared": 0,
        "Tables_Private": 16,
        "Tables_Part": 16,
    }


# --- regions ---------------------------------------------------------------------------------------------------------


def states(space: AddressSpace, address: int = MIB2, count: int = 4) -> list[int]:
    return [int(state) for state in space.regions(address, count * MIB2)["state"]]


def four_regions() -> tuple[PhysicalMemory, AddressSpace]:
    # Two pages in each of three regions, then one with nothing.
    memory, space = machine()
    for i in range(3):
        space.map(MIB2 * (1 + i), 2 * PAGE)
    return memory, space


def test_before_any_fork_all_pages_are_the_spaces_own() -> None:
    _, space = four_regions()
    assert states(space) == [PAGES_COPIED, PAGES_COPIED, PAGES_COPIED, UNTOUCHED]


@pytest.mark.parametrize("mode", [ForkMode.ON_DEMAND, ForkMode.CONSTANT])
def test_a_shared_table_is_copied_by_a_write_and_by_unsharing_ahead(mode: ForkMode) -> None:
    memory, space = four_regions()
    child = space.fork(mode)
    assert states(space) == states(child) == [SHARED_TABLE] * 3 + [UNTOUCHED]
    space.write(2 * MIB2, b"x")
    assert states(space) == [SHARED_TABLE, PAGES_COPIED, SHARED_TABLE, UNTOUCHED]
    # Pages that the parent no longer has are the child's own, although it has copied nothing.
    assert states(child) == [SHARED_TABLE, PAGES_COPIED, SHARED_TABLE, UNTOUCHED]
    while space.unshare_step(100):
        pass
    assert states(space) == [COPIED_TABLE, PAGES_COPIED, COPIED_TABLE, UNTOUCHED]
    check_account(memory, [space, child])


def test_a_classic_fork_copies_every_table() -> None:
    memory, space = four_regions()
    child = space.fork(ForkMode.CLASSIC)
    assert states(space) == [COPIED_TABLE] * 3 + [UNTOUCHED]
    child.write(MIB2 + PAGE, b"x")
    assert states(child) == [PAGES_COPIED, COPIED_TABLE, COPIED_TABLE, UNTOUCHED]
    assert child.regions()["private"].tolist() == [1, 0, 0]
    check_account(memory, [space, child])


@pytest.mark.parametrize("mode", ForkMode)
def test_a_huge_page_is_a_region(mode: ForkMode) -> None:
    memory, space = machine(4 * 512)
    space.map(GIB, MIB2, huge=True)
    space.write(GIB + 5, b"x")
    assert space.regions().tolist() == [(GIB, PAGES_COPIED, 512, 512, 512, 512, True)]
    child = space.fork(mode)
    shared = COPIED_TABLE if mode == ForkMode.CLASSIC else SHARED_TABLE
    assert space.regions().tolist() == [(GIB, shared, 512, 0, 512, 512, True)]
    assert space.usage().anon_huge_pages == MIB2 and space.usage().pss == MIB2 / 2
    child.write(GIB, b"y")
    assert space.regions()["state"].tolist() == child.regions()["state"].tolist() == [PAGES_COPIED]
    check_account(memory, [space, child])


def test_regions_of_a_range_are_all_there() -> None:
    _, space = four_regions()
    space.map(GIB512, PAGE)
    assert space.regions()["address"].tolist() == [MIB2, 2 * MIB2, 3 * MIB2, GIB512]
    assert space.regions(2 * MIB2 + PAGE)["address"].tolist() == [2 * MIB2, 3 * MIB2, GIB512]
    assert space.regions(MIB2 - 1, 2)["address"].tolist() == [0, MIB2]
    assert space.regions(3 * MIB2, GIB).size == 512
    assert space.regions(3 * MIB2, GIB)["pages"].tolist() == [2] + [0] * 511
    for address, length, error in [(0, 0, EmptyRange), (-1, 5, NonCanonical), (1 << 46, 1 << 47, NonCanonical)]:
        with pytest.raises(error):
            space.regions(address, length)


def test_a_table_that_is_mapped_many_times_is_looked_at_once() -> None:
    memory, space = machine()
    space.map(0, 2 * PAGE)
    mem = space.state.mem.arrays
    pt, pd = frame_at(space, 0, 1), frame_at(space, 0, 2)
    entry = mem.entries[pd * 512]
    others = np.arange(pd * 512 + 1, (pd + 1) * 512)
    mem.entries[others] = entry
    mem.refcount[pt] += others.size
    usage = space.usage()
    assert (usage.rss, usage.pss, usage.tables_shared) == (1024 * PAGE, pytest.approx(2 * PAGE), 512)
    assert count_at(space, 0, 1) == 512
    assert space.regions()["state"].tolist() == [SHARED_TABLE] * 512
    check_account(memory, [space])
