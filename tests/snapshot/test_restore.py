"""An image back into an address space: whole, or not at all."""

import errno
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from mmcore import AddressSpace, PhysicalMemory, check_memory
from mmcore.paging import PAGE_SIZE
from mmcore.restore import tables_for_runs
from mmcore.share import share_repeated
from mmcore.state import FRESH
from snapshot import errors
from snapshot.image import DATA_OFFSET, Image, read_image
from snapshot.preload import frames_needed
from snapshot.restore import empty, restore
from snapshot.snapshotter import Snapshotter
from tests.snapshot.faults import FaultyFiles, raising, use_up

CHUNK = 8 * PAGE_SIZE
SIZE = 4 << 20
LAYOUT = [(0x1000_0000, 37), ((1 << 39) - 3 * PAGE_SIZE, 20), (64 << 39, 5)]
PAGES = sum(pages for _, pages in LAYOUT)


def fill(space: AddressSpace, seed: int) -> None:
    rng = random.Random(seed)
    for address, pages in LAYOUT:
        space.map(address, pages * PAGE_SIZE)
        space.write(address, rng.randbytes(pages * PAGE_SIZE))


def contents(space: AddressSpace) -> list[bytes]:
    return [space.read(address, pages * PAGE_SIZE) for address, pages in LAYOUT]


def take(space: AddressSpace, directory: Path, **more: int) -> Path:
    snapshotter = Snapshotter(
        space.state, directory, metadata=lambda frozen: {"made": "here"}, chunk_size=CHUNK, **more
    )
    outcome = snapshotter.run_and_wait()
    snapshotter.close()
    assert outcome.path is not None, outcome.error
    return outcome.path


@pytest.fixture
def saved(tmp_path):
    """An image, and the contents of the space that it was taken of."""
    memory = PhysicalMemory(SIZE)
    space = AddressSpace(memory)
    fill(space, 1)
    path = take(space, tmp_path)
    check_memory(memory, [space])
    assert read_image(path).chunk_count == 8
    return path, contents(space)


class Machine:
    """A memory to restore into, fresh or long used."""

    def __init__(self, used: bool) -> None:
        self.memory = PhysicalMemory(SIZE)
        self.space = AddressSpace(self.memory)
        if used:
            before = AddressSpace(self.memory)
            before.map(0, (self.memory.frames_free - 10) * PAGE_SIZE)
            before.write(0, b"\xee" * 900 * PAGE_SIZE)
            before.exit()
        self.free = self.memory.frames_free

    def assert_untouched(self) -> None:
        check_memory(self.memory, [self.space])
        assert self.memory.frames_free == self.free
        fresh = int(self.memory.state.frames[FRESH])
        assert not self.memory.state.arrays.bytes[fresh * PAGE_SIZE :].any(), "frames never used hold zeros"


@pytest.fixture(params=["fresh", "used"])
def machine(request) -> Machine:
    return Machine(request.param == "used")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_restored_space_holds_what_the_image_was_taken_of(saved, machine, threads):
    path, expected = saved
    image = restore(path, machine.space.state, threads=threads)
    check_memory(machine.memory, [machine.space])
    assert contents(machine.space) == expected
    assert isinstance(image, Image)
    assert (image.pages, image.metadata) == (PAGES, {"made": "here"})
    assert machine.memory.frames_free == machine.free - PAGES - tables_for_runs(image.runs)
    machine.space.write(LAYOUT[0][0], b"goes on")
    machine.space.map(0, PAGE_SIZE)
    check_memory(machine.memory, [machine.space])


def test_an_image_of_an_empty_space_restores_to_an_empty_space(machine, tmp_path):
    path = take(AddressSpace(PhysicalMemory(SIZE)), tmp_path)
    assert restore(path, machine.space.state).pages == 0
    machine.assert_untouched()


def test_progress_rises_to_the_end(saved, machine):
    seen: list[tuple[int, int]] = []
    restore(saved[0], machine.space.state, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (PAGES * PAGE_SIZE, PAGES * PAGE_SIZE)


@pytest.mark.parametrize("chunk", [0, 3, 7])
def test_a_bad_chunk_is_named_and_the_space_is_left_empty_and_every_frame_free(saved, machine, chunk):
    path, expected = saved
    data = bytearray(path.read_bytes())
    data[DATA_OFFSET + chunk * CHUNK + 77] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.ChecksumMismatch) as caught:
        restore(path, machine.space.state)
    assert caught.value.chunk == chunk
    machine.assert_untouched()
    data[DATA_OFFSET + chunk * CHUNK + 77] ^= 1
    path.write_bytes(data)
    restore(path, machine.space.state)
    assert contents(machine.space) == expected


@pytest.mark.parametrize(
    ("method", "nth"),
    [
        ("open", 0),
        ("is_file", 0),
        ("stamp", 0),
        ("read_into", 0),
        ("read_into", 1),
        ("read_into", 2),
        ("read_into", 5),
        ("read_cached", 3),
    ],
)
def test_a_file_that_cannot_be_read_leaves_the_space_empty(saved, machine, method, nth):
    files = FaultyFiles(method, nth, raising(errno.EIO), cache=False)
    with pytest.raises(errors.Unreadable) as caught:
        restore(saved[0], machine.space.state, files=files)
    assert caught.value.errno == errno.EIO
    machine.assert_untouched()


def test_a_file_that_shrinks_while_it_is_read_leaves_the_space_empty(saved, machine):
    files = FaultyFiles("read_into", 5, lambda _: saved[0].write_bytes(saved[0].read_bytes()[:20000]), cache=False)
    with pytest.raises(errors.ChecksumMismatch):
        restore(saved[0], machine.space.state, files=files)
    machine.assert_untouched()


def test_an_image_for_which_there_are_not_enough_frames_is_refused(saved, machine):
    hog = use_up(machine.memory, PAGES + 2)
    free = machine.memory.frames_free
    with pytest.raises(errors.OutOfFrames, match=f"{PAGES} pages"):
        restore(saved[0], machine.space.state)
    assert machine.memory.frames_free == free
    hog.exit()
    restore(saved[0], machine.space.state)
    assert contents(machine.space) == saved[1]


def test_an_image_that_takes_every_frame_fits(saved, machine):
    needed = PAGES + int(tables_for_runs(read_image(saved[0]).runs))
    hog = use_up(machine.memory, needed)
    restore(saved[0], machine.space.state)
    assert machine.memory.frames_free == 0
    assert contents(machine.space) == saved[1]
    check_memory(machine.memory, [machine.space, hog])


def test_a_space_that_maps_something_is_refused_and_keeps_it(saved, machine):
    machine.space.map(0x5000, PAGE_SIZE)
    machine.space.write(0x5000, b"mine")
    with pytest.raises(errors.SpaceNotEmpty, match="0x5000"):
        restore(saved[0], machine.space.state)
    assert machine.space.read(0x5000, 4) == b"mine"
    empty(machine.space.state)
    machine.assert_untouched()


def test_emptying_and_restoring_again_and_again_does_not_grow(saved, machine):
    restore(saved[0], machine.space.state)
    fresh = int(machine.memory.state.frames[FRESH])
    for _ in range(5):
        empty(machine.space.state)
        restore(saved[0], machine.space.state)
        assert contents(machine.space) == saved[1]
    assert int(machine.memory.state.frames[FRESH]) <= fresh + 1
    check_memory(machine.memory, [machine.space])


def test_a_snapshot_of_a_restored_space_is_the_same_image(saved, machine, tmp_path):
    first = read_image(saved[0])
    restore(saved[0], machine.space.state)
    (tmp_path / "again").mkdir()
    second = read_image(take(machine.space, tmp_path / "again"))
    assert second.runs.tolist() == first.runs.tolist()
    assert second.checksums.tolist() == first.checksums.tolist()
    assert second.id != first.id


@pytest.mark.parametrize("cache", [True, False, None])
def test_all_pages_are_read_once_from_the_cache_or_past_it(saved, cache):
    path, expected = saved
    if cache is None:
        path.read_bytes()[:1]  # in the cache now
    read: list[tuple[int, int]] = []

    class Counting(FaultyFiles):
        def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
            done = super().read_into(fd, buffer, offset)
            read.append((offset, done))
            return done

        def read_cached(self, fd: int, buffer: memoryview, offset: int) -> int:
            done = super().read_cached(fd, buffer, offset)
            read.append((offset, done))
            return done

    machine = Machine(False)
    restore(path, machine.space.state, files=Counting(cache=cache))
    assert contents(machine.space) == expected
    pages = sorted(one for one in read if one[1] and DATA_OFFSET <= one[0] < DATA_OFFSET + PAGES * PAGE_SIZE)
    assert sum(size for _, size in pages) == PAGES * PAGE_SIZE
    assert [offset for offset, _ in pages] == list(np.cumsum([DATA_OFFSET] + [size for _, size in pages])[:-1])


def test_a_wait_that_is_broken_off_leaves_the_space_empty_and_nothing_running(saved, machine):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(saved[0], machine.space.state, interrupt)
    machine.assert_untouched()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("page-reader")] == []


ONE, TWICE = 0x1000_3000, 5 << 39  # the page that is repeated, and where its repeats begin


def repeating(memory: PhysicalMemory) -> AddressSpace:
    """A space whose page ONE appears 2,000 times more; some of these were written since."""
    space = AddressSpace(memory)
    fill(space, 1)
    share_repeated(space.state, ONE, TWICE, 2000)
    share_repeated(space.state, ONE, 0x1000_0000 - 9 * PAGE_SIZE, 9)  # right before a run
    for page in (0, 700, 701, 1999):
        space.write(TWICE + page * PAGE_SIZE, b"written")
    return space


def test_pages_that_repeat_one_take_no_place_in_the_image_nor_in_memory(machine, tmp_path):
    memory = PhysicalMemory(SIZE)
    space = repeating(memory)
    expected = space.read(TWICE, 2000 * PAGE_SIZE)
    path = take(space, tmp_path, repeated=ONE)
    image = restore(path, machine.space.state)
    check_memory(machine.memory, [machine.space])
    assert image.pages == PAGES + 4 and image.repeats is not None
    assert image.repeats.runs.tolist() == [
        [0x1000_0000 - 9 * PAGE_SIZE, 9],
        [TWICE + PAGE_SIZE, 699],
        [TWICE + 702 * PAGE_SIZE, 1297],
    ]
    assert contents(machine.space) == contents(space)
    assert machine.space.read(TWICE, 2000 * PAGE_SIZE) == expected
    assert machine.space.read(0x1000_0000 - 9 * PAGE_SIZE, PAGE_SIZE) == space.read(ONE, PAGE_SIZE)
    assert machine.free - machine.memory.frames_free < PAGES + 40
    machine.space.write(TWICE + 5 * PAGE_SIZE, b"mine")
    assert machine.space.read(ONE, PAGE_SIZE) == space.read(ONE, PAGE_SIZE)
    check_memory(machine.memory, [machine.space])
    assert (
        restore(take(machine.space, tmp_path, repeated=ONE), AddressSpace(PhysicalMemory(SIZE)).state).pages
        == PAGES + 5
    )


def test_an_owner_that_repeats_no_page_gets_all_of_them(tmp_path):
    space = repeating(PhysicalMemory(SIZE))
    assert read_image(take(space, tmp_path)).pages == PAGES + 2000 + 9
    space.unmap(ONE, PAGE_SIZE)  # the repeated page is gone: the others are pages like all
    assert read_image(take(space, tmp_path, repeated=ONE)).pages == PAGES - 1 + 2000 + 9


def test_repeats_without_frames_for_their_tables_are_refused_and_nothing_is_changed(tmp_path):
    path = take(repeating(PhysicalMemory(SIZE)), tmp_path, repeated=ONE)
    image = read_image(path)
    needed = frames_needed(image)
    for short in (1, 0):
        memory = PhysicalMemory((needed - short) * PAGE_SIZE)
        space = AddressSpace(memory)
        if short:
            with pytest.raises(errors.OutOfFrames):
                restore(path, space.state)
            assert memory.frames_free == needed - short - 1
        else:
            restore(path, space.state)
        check_memory(memory, [space])
