"""Seeded streams of operations on several live spaces, against a model in which fork is a deep copy.

After each operation check_memory must pass, the spaces it touched must hold what the model holds, and what changed
since its space's last fork must be found by its stamps, and, unless pages were moved, no other page.  Memory is short
in some, so that many operations run out of frames: those must change nothing.

A stream that fails prints the call of `run` that replays it.
"""

import random

import pytest

from mmcore import AddressSpace, ForkMode, OutOfFrames, check_memory
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, agrees, machine, scaled, seeds
from tests.model.address_space import ModelSpace

SPACES_MAX = 8
# Places where ranges cross from one table of each level to the next.
PLACES = (MIB2, GIB, GIB512, 5 * GIB512 + 3 * GIB + 7 * MIB2)
SMALL = {"map": 6, "unmap": 4, "remap": 2, "write": 14, "read": 6, "fork": 3, "exit": 1, "leave": 1, "table": 1}
SMALL |= {"unshare": 2, "resize": 3, "share": 4, "blocks": 3}
HUGE = SMALL | {"map_huge": 6, "unmap_huge": 2, "move_huge": 2, "write_huge": 8}


class Stream:
    """One stream: `step` does one random operation on a random space and on its model."""

    def __init__(
        self, seed: int, frames: int, tlb_entries: int, modes: tuple[ForkMode, ...], weights: dict[str, int]
    ) -> None:
        self.random = random.Random(seed)
        self.memory, space = machine(frames, tlb_entries)
        self.live: list[tuple[AddressSpace, ModelSpace]] = [(space, ModelSpace())]
        self.modes = modes
        self.weights = weights
        self.loose = False  # frames may be stamped that did not change
        self.out_of_frames = 0
        self.log: list[str] = []

    def range(self, longest: int = 12) -> tuple[int, int]:
        place = self.random.choice(PLACES)
        first = place + self.random.randrange(-12, 12) * PAGE
        pages = self.random.choice((1, 1, 2, 3, longest))
        return first, pages * PAGE

    def stretch(self, model: ModelSpace, first: int | None = None) -> tuple[int, int] | None:
        """Part of what is mapped: (address of a page, length)."""
        if not model.pages:
            return None
        page = self.random.choice(sorted(model.pages)) if first is None else first
        pages = 1
        wanted = self.random.choice((1, 1, 2, 5, 20))
        while pages < wanted and page + pages * PAGE in model.pages:
            pages += 1
        return page, pages * PAGE

    def step(self) -> None:
        space, model = self.random.choice(self.live)
        kind = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        self.log.append(kind)
        free = self.memory.frames_free
        try:
            getattr(self, "do_" + kind)(space, model)
        except OutOfFrames:
            self.out_of_frames += 1
            self.log[-1] += " (out of frames)"
            if kind in ("write", "write_huge", "unshare"):
                self.loose = True  # what was copied before stays copied
            else:
                assert self.memory.frames_free == free, "frames lost"
        check_memory(self.memory, [space for space, _ in self.live])
        if space.alive:
            assert agrees(space, model)
            self.check_changes(space, model)

    def do_map(self, space: AddressSpace, model: ModelSpace) -> None:
        address, length = self.range()
        if model.none_mapped(address, length):
            space.map(address, length)
            model.map(address, length)

    def block(self) -> int:
        return self.random.choice(PLACES) + self.random.randrange(-3, 3) * MIB2

    def do_map_huge(self, space: AddressSpace, model: ModelSpace) -> None:
        address, length = self.block(), self.random.choice((1, 1, 2)) * MIB2
        if address >= 0 and model.none_mapped(address, length):
            space.map(address, length, huge=True)
            model.map(address, length, huge=True)

    def do_unmap_huge(self, space: AddressSpace, model: ModelSpace) -> None:
        if model.huge:
            address = self.random.choice(sorted(model.huge))
            space.unmap(address, MIB2)
            model.unmap(address, MIB2)

    def do_move_huge(self, space: AddressSpace, model: ModelSpace) -> None:
        if model.huge:
            old = self.random.choice(sorted(model.huge))
            new = self.block() + self.random.choice((0, 0, 0, PAGE))
            if new >= 0 and model.none_mapped(new, MIB2) and abs(old - new) >= MIB2:
                space.remap(old, MIB2, new)
                model.remap(old, MIB2, new)
                self.loose = True

    def do_write_huge(self, space: AddressSpace, model: ModelSpace) -> None:
        if model.huge:
            address = self.random.choice(sorted(model.huge)) + self.random.randrange(MIB2 - 100)
            data = self.random.randbytes(self.random.choice((1, 8, 100)))
            space.write(address, data)
            model.write(address, data)

    def do_table(self, space: AddressSpace, model: ModelSpace) -> None:
        """Drop a whole 2 MiB block, mapped where it was not."""
        block = self.random.choice(PLACES) & -MIB2
        hole = [page for page in range(block, block + MIB2, PAGE) if page not in model.pages]
        if self.memory.frames_free < len(hole) + 8:
            return
        for page in hole:
            space.map(page, PAGE)
            model.map(page, PAGE)
        space.unmap(block, MIB2)
        model.unmap(block, MIB2)

    def do_unmap(self, space: AddressSpace, model: ModelSpace) -> None:
        if found := self.stretch(model):
            space.unmap(*found)
            model.unmap(*found)

    def do_remap(self, space: AddressSpace, model: ModelSpace) -> None:
        if found := self.stretch(model):
            old, length = found
            new = self.random.choice(PLACES) + self.random.randrange(-40, 40) * PAGE
            if model.none_mapped(new, length):
                space.remap(old, length, new)
                model.remap(old, length, new)
                self.loose = True

    def do_share(self, space: AddressSpace, model: ModelSpace) -> None:
        if found := self.stretch(model):
            old, length = found
            new = self.random.choice(PLACES) + self.random.randrange(-40, 40) * PAGE
            if model.none_mapped(new, length):
                space.share(old, length, new)
                model.share(old, length, new)
                self.loose = True

    def do_blocks(self, space: AddressSpace, model: ModelSpace) -> None:
        """Share or move one or two whole blocks, or a little more or less; fill the first block if necessary."""
        old, new = self.block(), self.block() + self.random.choice((0, 0, 0, 0, PAGE))
        hole = [page for page in range(old, old + MIB2, PAGE) if page not in model.pages]
        if old < 0 or new < 0 or abs(old - new) < MIB2 or self.memory.frames_free < len(hole) + 8:
            return
        for page in hole:
            space.map(page, PAGE)
            model.map(page, PAGE)
        if self.random.randrange(3) == 0:
            address = old + self.random.randrange(MIB2 - 8)
            space.write(address, b"in time")
            model.write(address, b"in time")
        length = MIB2 + self.random.choice((0, 0, 0, -PAGE, PAGE, MIB2))
        apart = new + length <= old or old + length <= new
        if apart and model.all_mapped(old, length) and model.none_mapped(new, length):
            self.loose = True
            if self.random.randrange(3) > 0:
                space.share(old, length, new)
                model.share(old, length, new)
            else:
                space.remap(old, length, new)
                model.remap(old, length, new)

    def do_resize(self, space: AddressSpace, model: ModelSpace) -> None:
        """Grow or shrink what is mapped, where it is or elsewhere; also by a huge page, where those are in play."""
        if not (found := self.stretch(model)):
            return
        old, length = found
        huge = "map_huge" in self.weights and self.random.randrange(2) == 1
        if huge:
            new = self.random.choice((old, self.block() - length))
            size = length + MIB2
        else:
            new = self.random.choice((old, self.random.choice(PLACES) + self.random.randrange(-40, 40) * PAGE))
            size = max(PAGE, length + self.random.choice((-9, -1, 0, 1, 15)) * PAGE)
        if new < 0 or (huge and (new + length) % MIB2 != 0):
            return
        apart = new + size <= old or old + length <= new
        if model.none_mapped(new + length, size - length) if new == old else apart and model.none_mapped(new, size):
            space.remap(old, length, new, size, huge=huge)
            model.remap(old, length, new, size, huge=huge)
            self.loose = self.loose or new != old

    def do_write(self, space: AddressSpace, model: ModelSpace) -> None:
        if found := self.stretch(model):
            address, length = found
            skip = self.random.randrange(length)
            count = min(self.random.choice((1, 8, 100, 5000)), length - skip)
            data = self.random.randbytes(count)
            space.write(address + skip, data)
            model.write(address + skip, data)

    def do_read(self, space: AddressSpace, model: ModelSpace) -> None:
        if found := self.stretch(model):
            address, length = found
            skip = self.random.randrange(length)
            count = min(self.random.choice((1, 8, 100, 5000)), length - skip)
            assert space.read(address + skip, count) == model.read(address + skip, count)

    def do_unshare(self, space: AddressSpace, model: ModelSpace) -> None:
        before = space.counters["tables_copied"]
        space.unshare_step(self.random.choice((1, 2, 50)))
        assert space.counters["tables_copied"] <= before + 50 + 3

    def do_fork(self, space: AddressSpace, model: ModelSpace) -> None:
        if len(self.live) < SPACES_MAX:
            child = space.fork(self.random.choice(self.modes))
            self.live.append((child, model.fork()))

    def do_exit(self, space: AddressSpace, model: ModelSpace) -> None:
        if len(self.live) > 1:
            self.live.remove((space, model))
            space.exit()

    def do_leave(self, space: AddressSpace, model: ModelSpace) -> None:
        """Exit in steps."""
        if len(self.live) > 1:
            self.live.remove((space, model))
            leaving = space.exit_begin()
            while not leaving.done:
                leaving.step(self.random.choice((1, 5, 1000)))
                if self.random.randrange(20) == 0:
                    check_memory(self.memory, [space for space, _ in self.live], [leaving.root])

    def check_changes(self, space: AddressSpace, model: ModelSpace) -> None:
        changed = {
            page
            for address, length in space.changed_since(space.epoch - 1)
            for page in range(address, address + length, PAGE)
        }
        assert model.changed <= changed, "a change is not found"
        assert self.loose or model.changed == changed, "a page is said to have changed that did not"

    def finish(self) -> None:
        for space, model in self.live:
            assert agrees(space, model)
        for space, _ in self.live:
            space.exit()
        check_memory(self.memory, [])
        assert self.memory.frames_free == self.memory.frames_total


MIXES = {
    "classic": (ForkMode.CLASSIC,),
    "on-demand": (ForkMode.ON_DEMAND,),
    "constant": (ForkMode.CONSTANT,),
    "mixed": tuple(ForkMode),
}


def run(seed: int, frames: int, tlb_entries: int, mix: str, steps: int, huge: bool = False) -> Stream:
    stream = Stream(seed, frames, tlb_entries, MIXES[mix], HUGE if huge else SMALL)
    try:
        for _ in range(steps):
            stream.step()
        stream.finish()
    except BaseException:
        print(f"run({seed=}, {frames=}, {tlb_entries=}, {mix=}, {steps=}, {huge=})")
        print("the last of them:", ", ".join(stream.log[-20:]))
        raise
    return stream


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", seeds(8))
def test_spaces_behave_as_deep_copies(seed: int, mix: str) -> None:
    run(seed, 900, 16, mix, scaled(200, 100))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", seeds(4, 300))
def test_spaces_with_huge_pages_behave_as_deep_copies(seed: int, mix: str) -> None:
    run(seed, scaled(40, 10) * 512 + 300, 16, mix, scaled(150, 60), huge=True)


@pytest.mark.parametrize("seed", seeds(8, 100))
def test_streams_that_run_out_of_frames_change_nothing(seed: int) -> None:
    assert run(seed, scaled(90, 60), 64, "mixed", scaled(300, 150)).out_of_frames > 0


@pytest.mark.parametrize("seed", seeds(6, 400))
def test_streams_that_run_out_of_runs_change_nothing(seed: int) -> None:
    assert run(seed, 5 * 512 + 400, 64, "mixed", scaled(200, 120), huge=True).out_of_frames > 0


@pytest.mark.parametrize("seed", seeds(4, 200))
def test_a_large_tlb_keeps_no_stale_translation(seed: int) -> None:
    run(seed, scaled(40, 10) * 512, 4096, "mixed", scaled(150, 60), huge=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1000 + scaled(100, 10)))
def test_long_streams(seed: int) -> None:
    huge = seed % 2 == 1
    frames = (900, 40 * 512, 120, 5 * 512 + 400)[seed % 4]
    run(seed, frames, 1 << seed % 13, "mixed", scaled(2000, 400), huge=huge)


def test_the_model_notices_a_difference() -> None:
    _, space = machine()
    model = ModelSpace()
    space.map(MIB2, PAGE)
    model.map(MIB2, PAGE)
    assert agrees(space, model)
    model.write(MIB2 + 7, b"x")
    assert not agrees(space, model)
