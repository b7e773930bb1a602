"""Seeded streams of operations on several live spaces, against a model in which fork is a deep copy.

After each operation check_memory must pass, the spaces it touched must hold what the model holds, and each page
changed since its space's last fork must carry the stamp of that epoch, and, unless pages were moved, no other page.
Memory is short, so that many operations run out of frames: those must change nothing.
"""

import random

import pytest

from mmcore import AddressSpace, ForkMode, OutOfFrames, check_memory
from tests.mmcore.support import GIB, GIB512, MIB2, PAGE, agrees, frame_at, machine, scaled
from tests.model.address_space import ModelSpace

SPACES_MAX = 6
# Places where ranges cross from one table of each level to the next.
PLACES = (MIB2, GIB, GIB512, 5 * GIB512 + 3 * GIB + 7 * MIB2)


class Stream:
    """One stream: `step` does one random operation on a random space and on its model."""

    def __init__(self, seed: int, frames: int, tlb_entries: int, modes: tuple[ForkMode, ...]) -> None:
        self.random = random.Random(seed)
        self.memory, space = machine(frames, tlb_entries)
        self.live: list[tuple[AddressSpace, ModelSpace]] = [(space, ModelSpace())]
        self.modes = modes
        self.moved = False
        self.out_of_frames = 0
        self.log: list[str] = []

    def range(self, longest: int = 12) -> tuple[int, int]:
        place = self.random.choice(PLACES)
        first = place + self.random.randrange(-12, 12) * PAGE
        pages = self.random.choice((1, 1, 2, 3, longest))
        return first, pages * PAGE

    def stretch(self, model: ModelSpace) -> tuple[int, int] | None:
        """Part of what is mapped: (address of a page, length)."""
        if not model.pages:
            return None
        page = self.random.choice(sorted(model.pages))
        pages = 1
        wanted = self.random.choice((1, 1, 2, 5, 20))
        while pages < wanted and page + pages * PAGE in model.pages:
            pages += 1
        return page, pages * PAGE

    def step(self) -> None:
        space, model = self.random.choice(self.live)
        kind = self.random.choices(
            ("map", "unmap", "remap", "write", "read", "fork", "exit", "table"), (6, 4, 2, 14, 6, 3, 2, 1)
        )[0]
        self.log.append(kind)
        free = self.memory.frames_free
        try:
            getattr(self, "do_" + kind)(space, model)
        except OutOfFrames:
            self.out_of_frames += 1
            self.log[-1] += " (out of frames)"
            assert self.memory.frames_free >= free - (0 if kind != "write" else free), "frames lost"
        check_memory(self.memory, [space for space, _ in self.live])
        if space.alive:
            assert agrees(space, model)
            self.check_stamps(space, model)

    def do_map(self, space: AddressSpace, model: ModelSpace) -> None:
        address, length = self.range()
        if model.none_mapped(address, length):
            space.map(address, length)
            model.map(address, length)

    def do_table(self, space: AddressSpace, model: ModelSpace) -> None:
        """Drop a whole 2 MiB block, mapped where it was not."""
        block = self.random.choice(PLACES) & -MIB2
        hole = [page for page in range(block, block + MIB2, PAGE) if page not in model.pages]
        if self.memory.frames_free < len(hole) + 8:
            return
        for page in hole:
            space.map(page, PAGE)
        space.unmap(block, MIB2)
        for page in range(block, block + MIB2, PAGE):
            model.pages.pop(page, None)
            model.changed.discard(page)

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
                self.moved = True

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

    def do_fork(self, space: AddressSpace, model: ModelSpace) -> None:
        if len(self.live) < SPACES_MAX:
            child = space.fork(self.random.choice(self.modes))
            self.live.append((child, model.fork()))

    def do_exit(self, space: AddressSpace, model: ModelSpace) -> None:
        if len(self.live) > 1:
            self.live.remove((space, model))
            space.exit()

    def check_stamps(self, space: AddressSpace, model: ModelSpace) -> None:
        epoch = space.state.mem.epoch
        stamped = {page for page in model.pages if epoch[frame_at(space, page)] >= space.epoch}
        assert model.changed <= stamped, "a change went unstamped"
        assert self.moved or model.changed == stamped, "a page is stamped that did not change"
        for page in model.changed:
            for level in (4, 3, 2, 1):
                assert epoch[frame_at(space, page, level)] >= space.epoch, "a change that a walk would skip"

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
    "mixed": tuple(ForkMode),
}


def run(seed: int, frames: int, tlb_entries: int, mix: str, steps: int) -> Stream:
    stream = Stream(seed, frames, tlb_entries, MIXES[mix])
    try:
        for _ in range(steps):
            stream.step()
        stream.finish()
    except BaseException:
        print(f"run({seed=}, {frames=}, {tlb_entries=}, {mix=}, {steps=}), the last of them: {stream.log[-20:]}")
        raise
    return stream


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", range(scaled(8, 2)))
def test_spaces_behave_as_deep_copies(seed: int, mix: str) -> None:
    run(seed, 900, 16, mix, scaled(400, 120))


@pytest.mark.parametrize("seed", range(100, 100 + scaled(8, 2)))
def test_streams_that_run_out_of_frames_change_nothing(seed: int) -> None:
    assert run(seed, scaled(90, 60), 64, "mixed", scaled(500, 150)).out_of_frames > 0


@pytest.mark.parametrize("seed", range(200, 200 + scaled(4, 1)))
def test_a_large_tlb_keeps_no_stale_translation(seed: int) -> None:
    run(seed, 600, 4096, "mixed", scaled(400, 80))


def test_the_model_notices_a_difference() -> None:
    _, space = machine()
    model = ModelSpace()
    space.map(MIB2, PAGE)
    model.map(MIB2, PAGE)
    assert agrees(space, model)
    model.write(MIB2 + 7, b"x")
    assert not agrees(space, model)
