"""Snapshots of a live address space: consistent, counted, and leaving no frame behind."""

import errno
import os
import random
import select
import threading
import time

import pytest

from mmcore import AddressSpace, NotMapped, PhysicalMemory, check_memory
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.paging import PAGE_SIZE
from snapshot import errors
from snapshot.files import Files
from snapshot.frozen import FrozenSpace
from snapshot.image import read_image
from snapshot.restore import restore
from snapshot.snapshotter import Snapshotter
from tests.snapshot.faults import WAIT_S, FaultyFiles, Gate, listing, raising, use_up

CHUNK = 16 * PAGE_SIZE
SIZE = 32 << 20
MODES = [CLASSIC, ON_DEMAND, CONSTANT]


@pytest.fixture
def memory():
    return PhysicalMemory(SIZE, poison=True)


@pytest.fixture
def space(memory):
    return AddressSpace(memory)


@pytest.fixture
def make(space, tmp_path):
    made: list[Snapshotter] = []

    def make_one(**more) -> Snapshotter:
        made.append(Snapshotter(space.state, tmp_path, chunk_size=CHUNK, **more))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def release_all(snapshotter: Snapshotter, memory: PhysicalMemory, space: AddressSpace, budget: int) -> int:
    """Release in steps, proving the machine's invariants after each; returns how many."""
    steps = 1
    while not snapshotter.release(budget):
        check_memory(memory, [space], snapshotter.roots)
        steps += 1
    check_memory(memory, [space], snapshotter.roots)
    return steps


class WaitingFiles(Files):
    """A disk on which each write waits until the owner has written to the space once more."""

    def __init__(self) -> None:
        self.writes = 0
        self.owner_wrote = threading.Semaphore(0)

    def write(self, fd: int, data: memoryview | bytes, offset: int) -> None:
        assert self.owner_wrote.acquire(timeout=WAIT_S)
        self.writes += 1
        super().write(fd, data, offset)


class Model:
    """The expected contents of each mapped page; a fork is a copy."""

    def __init__(self, space: AddressSpace, rng: random.Random) -> None:
        self.pages: dict[int, bytearray] = {}
        self._space, self._rng = space, rng

    def step(self) -> None:
        rng, space = self._rng, self._space
        roll = rng.random()
        region = rng.choice([0x1000_0000, (1 << 39) - 64 * PAGE_SIZE, 64 << 39])
        if roll < 0.03:
            address, count = region + rng.randrange(600) * PAGE_SIZE, rng.randrange(1, 40)
            free = [a for a in range(address, address + count * PAGE_SIZE, PAGE_SIZE) if a not in self.pages]
            for page in free:
                space.map(page, PAGE_SIZE)
                self.pages[page] = bytearray(PAGE_SIZE)
        elif roll < 0.05 and self.pages:
            for page in rng.sample(sorted(self.pages), min(10, len(self.pages))):
                space.unmap(page, PAGE_SIZE)
                del self.pages[page]
        elif self.pages:
            page = rng.choice(list(self.pages))
            offset = rng.randrange(PAGE_SIZE)
            data = rng.randbytes(min(rng.choice([1, 8, 200, 4096]), PAGE_SIZE - offset))
            space.write(page + offset, data)
            self.pages[page][offset : offset + len(data)] = data

    def copy(self) -> dict[int, bytes]:
        return {page: bytes(data) for page, data in self.pages.items()}


def image_pages(path) -> dict[int, bytes]:
    """The pages of an image, by restoring it."""
    space = AddressSpace(PhysicalMemory(SIZE))
    image = restore(path, space.state)
    return {
        page: space.read(page, PAGE_SIZE)
        for address, count in image.runs.tolist()
        for page in range(address, address + count * PAGE_SIZE, PAGE_SIZE)
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [11, 12])
def test_an_image_is_the_space_at_the_instant_of_the_fork_however_hard_the_owner_writes(
    memory, space, make, mode, seed
):
    rng = random.Random(seed)
    model = Model(space, rng)

    def pages_of(frozen: FrozenSpace) -> dict:
        return {"pages": sum(frozen.runs().column(1))}

    files = WaitingFiles()
    snapshotter = make(mode=mode, metadata=pages_of, files=files)
    for _ in range(300):
        model.step()
    for taken in range(8):
        expected = model.copy()
        writes = files.writes = 0
        files.owner_wrote = threading.Semaphore(0)  # the one before may have releases left
        snapshotter.start()
        while not select.select([snapshotter.fileno()], [], [], 0)[0]:
            for _ in range(20):
                model.step()
            snapshotter.release(rng.randrange(1, 50))  # of the snapshot before
            writes += 20
            files.owner_wrote.release()
        outcome = snapshotter.poll()
        assert outcome is not None
        assert outcome.ok, outcome.error
        assert writes >= 20 * files.writes > 0
        check_memory(memory, [space], snapshotter.roots)
        assert image_pages(outcome.path) == expected, f"snapshot {taken} of seed {seed}, after {writes} writes"
        assert read_image(outcome.path).metadata == {"pages": len(expected)}
    release_all(snapshotter, memory, space, 17)
    assert {page: space.read(page, PAGE_SIZE) for page in model.pages} == model.copy()


@pytest.mark.parametrize("mode", MODES)
def test_writes_while_the_writer_stands_still_are_not_in_the_image_and_are_counted(memory, space, make, mode):
    gate = Gate()
    snapshotter = make(mode=mode, files=FaultyFiles("create", 0, gate))
    space.map(0x1000_0000, 1000 * PAGE_SIZE)
    space.write(0x1000_0000, b"a" * 1000 * PAGE_SIZE)
    began_unix_s = time.time()
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    for page in range(0, 30, 3):
        space.write(0x1000_0000 + page * PAGE_SIZE, b"later")
    progress = snapshotter.progress()
    assert (progress.step, progress.pages_done, progress.pages_total) == ("create", 0, 1000)
    tables = {CLASSIC: 0, ON_DEMAND: 1, CONSTANT: 3}[mode]
    assert progress.cow_size == (10 + tables) * PAGE_SIZE
    gate.go_on.set()
    outcome = snapshotter.wait()
    assert all(set(page) == {ord("a")} for page in image_pages(outcome.path).values())
    said = snapshotter.statistics
    assert (said.last_pages_copied, said.last_tables_copied) == (10, tables)
    assert said.last_cow_size == (10 + tables) * PAGE_SIZE
    assert (said.last_pages, said.last_bytes) == (1000, outcome.path.stat().st_size)
    assert (said.started, said.succeeded, said.failed, said.last_ok) == (1, 1, 0, True)
    assert said.last_path == outcome.path
    assert 0 < said.last_fork_ns <= said.last_pause_ns < said.last_duration_s * 1e9
    assert began_unix_s <= said.last_save_unix_s <= time.time()
    assert snapshotter.progress() is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("budget", [1, 3, 1000])
def test_frames_come_back_to_the_last_one_in_steps_of_the_budget(memory, space, make, mode, budget):
    snapshotter = make(mode=mode)
    space.map(0x1000_0000 - 50 * PAGE_SIZE, 150 * PAGE_SIZE)
    free = memory.frames_free
    for _ in range(3):
        snapshotter.start()
        space.write(0x1000_0000, b"x" * 40 * PAGE_SIZE)
        assert snapshotter.wait().ok
        assert memory.frames_free < free
        steps = release_all(snapshotter, memory, space, budget)
        assert steps > 1 or budget == 1000
        assert memory.frames_free == free
        assert snapshotter.roots == []


def test_a_snapshot_may_begin_while_older_ones_are_still_being_released(memory, space, make):
    snapshotter = make(keep=10)
    space.map(0x1000_0000, 100 * PAGE_SIZE)
    free = memory.frames_free
    for round_ in range(4):
        snapshotter.start()
        space.write(0x1000_0000, b"%d" % round_)
        assert snapshotter.wait().ok
        snapshotter.release(2)
    assert len(snapshotter.roots) == 4
    check_memory(memory, [space], snapshotter.roots)
    release_all(snapshotter, memory, space, 5)
    assert memory.frames_free == free


def test_one_at_a_time(space, make):
    gate = Gate()
    snapshotter = make(files=FaultyFiles("sync", 0, gate))
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    for ask in (snapshotter.start, snapshotter.run_and_wait, lambda: snapshotter.move("elsewhere", "dump")):
        with pytest.raises(errors.SnapshotRunning):
            ask()
    assert snapshotter.running
    gate.go_on.set()
    assert snapshotter.wait().ok
    assert not snapshotter.running
    assert snapshotter.statistics.started == 1


def test_a_failed_write_keeps_its_reason_and_gives_the_frames_back(memory, space, make, tmp_path):
    snapshotter = make(files=FaultyFiles("write", 2, raising(errno.ENOSPC)))
    space.map(0x1000_0000, 100 * PAGE_SIZE)
    free = memory.frames_free
    outcome = snapshotter.run_and_wait()
    assert isinstance(outcome.error, errors.WriteFailed)
    said = snapshotter.statistics
    assert (said.last_ok, said.failed, said.succeeded) == (False, 1, 0)
    assert said.last_error == f"write: {os.strerror(errno.ENOSPC)}"
    assert said.last_save_unix_s == 0
    assert listing(tmp_path) == []
    release_all(snapshotter, memory, space, 10)
    assert memory.frames_free == free
    assert snapshotter.run_and_wait().ok
    assert (said.last_ok, said.last_error) == (True, "")


def test_a_fork_for_which_there_are_no_frames_fails_and_changes_nothing(memory, space, make, tmp_path):
    space.map(0x1000_0000, PAGE_SIZE)
    snapshotter = make()
    hog = use_up(memory, 0)
    with pytest.raises(errors.ForkFailed):
        snapshotter.start()
    said = snapshotter.statistics
    assert (said.last_ok, said.failed, snapshotter.running) == (False, 1, False)
    assert "out of frames" in said.last_error
    check_memory(memory, [space, hog])
    assert listing(tmp_path) == []
    hog.exit()
    assert snapshotter.run_and_wait().ok


def test_running_out_of_frames_while_a_snapshot_is_written_harms_neither(memory, space, make):
    gate = Gate()
    snapshotter = make(files=FaultyFiles("create", 0, gate))
    space.map(0x1000_0000, 600 * PAGE_SIZE)
    space.write(0x1000_0000, b"a" * 600 * PAGE_SIZE)
    hog = use_up(memory, 120)
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    written = 0
    with pytest.raises(Exception, match="out of frames"):
        for page in range(600):
            space.write(0x1000_0000 + page * PAGE_SIZE, b"b")
            written += 1
    assert 0 < written < 600
    check_memory(memory, [space, hog], snapshotter.roots)
    gate.go_on.set()
    outcome = snapshotter.wait()
    assert all(page == b"a" * PAGE_SIZE for page in image_pages(outcome.path).values())
    while not snapshotter.release(50):
        check_memory(memory, [space, hog], snapshotter.roots)
    space.write(0x1000_0000 + 599 * PAGE_SIZE, b"b")


def test_a_cancelled_snapshot_gives_its_frames_back(memory, space, make, tmp_path):
    gate = Gate()
    snapshotter = make(files=FaultyFiles("write", 1, gate))
    space.map(0x1000_0000, 100 * PAGE_SIZE)
    free = memory.frames_free
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    snapshotter.cancel()
    gate.go_on.set()
    outcome = snapshotter.wait()
    assert isinstance(outcome.error, errors.Cancelled)
    assert listing(tmp_path) == []
    said = snapshotter.statistics
    assert (said.cancelled, said.failed, said.last_ok) == (1, 0, True), "it is no failure to be told to stop"
    release_all(snapshotter, memory, space, 10)
    assert memory.frames_free == free
    assert snapshotter.run_and_wait().ok, "what was given up is not the next one"


def test_closing_in_the_middle_gives_every_frame_back_and_leaves_no_file(memory, space, make, tmp_path):
    gate = Gate()
    snapshotter = make(files=FaultyFiles("write", 1, gate))
    space.map(0x1000_0000, 100 * PAGE_SIZE)
    free = memory.frames_free
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    space.write(0x1000_0000, b"b")
    gate.go_on.set()
    snapshotter.close()
    assert listing(tmp_path) == []
    assert memory.frames_free == free
    check_memory(memory, [space])
    with pytest.raises(errors.SnapshotFailed):
        snapshotter.start()
    assert memory.frames_free == free


def test_metadata_are_made_of_what_was_frozen_and_not_of_what_came_after(space, make):
    gate, seen = Gate(), []

    def metadata(frozen: FrozenSpace) -> dict:
        gate("metadata")
        with pytest.raises(NotMapped):
            frozen.read(0x1000_0000 + PAGE_SIZE, PAGE_SIZE + 1)
        seen.append(threading.current_thread().name)
        return {"word": frozen.read(0x1000_0000 + PAGE_SIZE - 2, 4)}

    snapshotter = make(metadata=metadata)
    space.map(0x1000_0000, 2 * PAGE_SIZE)
    space.write(0x1000_0000 + PAGE_SIZE - 2, b"then")
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    space.write(0x1000_0000 + PAGE_SIZE - 2, b"now!")
    gate.go_on.set()
    assert read_image(snapshotter.wait().path).metadata == {"word": b"then"}
    assert seen == ["snapshot-writer"]


def test_metadata_that_raise_fail_the_snapshot_and_give_the_frames_back(memory, space, make, tmp_path):
    def broken(frozen: FrozenSpace) -> dict:
        raise KeyError("owner")

    snapshotter = make(metadata=broken)
    free = memory.frames_free
    outcome = snapshotter.run_and_wait()
    assert (outcome.error.step, outcome.error.reason) == ("prepare", "KeyError: 'owner'")
    assert listing(tmp_path) == []
    release_all(snapshotter, memory, space, 10)
    assert memory.frames_free == free


def test_images_go_elsewhere_after_a_move(space, make, tmp_path):
    snapshotter = make()
    (tmp_path / "b").mkdir()
    assert snapshotter.run_and_wait().ok
    snapshotter.move(tmp_path / "b", "other")
    assert snapshotter.run_and_wait().path == tmp_path / "b" / "other-0000000001.kvimg"
    snapshotter.move(tmp_path / "absent", "other")
    outcome = snapshotter.run_and_wait()
    assert isinstance(outcome.error, errors.WriteFailed)
    assert (outcome.error.step, outcome.error.errno) == ("create", errno.ENOENT)


def test_a_root_that_is_handed_over_is_released_in_turn(memory, space, make):
    snapshotter = make()
    space.map(0x1000_0000, 100 * PAGE_SIZE)
    free = memory.frames_free
    child = space.fork()
    snapshotter.release_later(child.root)
    release_all(snapshotter, memory, space, 3)
    assert memory.frames_free == free


def test_the_first_pages_of_many_runs_are_listed_in_order(space, make):
    pages = sorted(random.Random(5).sample(range(3000), 1500))
    for page in pages:
        space.map((64 << 39) + page * PAGE_SIZE, PAGE_SIZE)
        space.write((64 << 39) + page * PAGE_SIZE, b"%d" % page)
    outcome = make().run_and_wait()
    image = read_image(outcome.path)
    covered = [(at - (64 << 39)) // PAGE_SIZE + i for at, count in image.runs.tolist() for i in range(count)]
    assert covered == pages
    assert all(
        found.startswith(b"%d" % ((at - (64 << 39)) // PAGE_SIZE)) for at, found in image_pages(outcome.path).items()
    )
