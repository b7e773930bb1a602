"""The writer's thread: whole images or none, and every failure by the step it happened at."""

import errno
import os
import random
import resource
import select
import shutil
import threading
import time
from pathlib import Path

import pytest

from mmcore.jit import Array, Table
from snapshot import errors
from snapshot import writer as writer_module
from snapshot.image import PAGE_SIZE, read_image
from snapshot.reader import PageReader, open_image, verify
from snapshot.writer import Job, Outcome, Writer
from tests.snapshot.faults import WAIT_S, FaultyFiles, Gate, listing, raising

CHUNK = 4 * PAGE_SIZE
FLUSH = 8 * PAGE_SIZE


class Pages:
    """A frozen address space made of an array."""

    def __init__(self, seed: int, runs: list[tuple[int, int]]) -> None:
        self.root = 9
        self._runs = Table.of(runs, 2)
        count = sum(self._runs.column(1))
        self.data = random.Random(seed).randbytes(count * PAGE_SIZE)

    def runs(self) -> Table:
        return self._runs

    def repeats(self) -> None:
        return None

    def gather(self, first: int, pages: int, buffer: Array) -> None:
        buffer[: pages * PAGE_SIZE] = self.data[first * PAGE_SIZE : (first + pages) * PAGE_SIZE]


def job(seed: int = 1, runs: list[tuple[int, int]] | None = None, **more: object) -> Job:
    pages = Pages(seed, [(0x1000_0000, 30), (0x80_0000_0000, 11)] if runs is None else runs)
    fields: dict = {"epoch": 3, "metadata": lambda: {"seed": seed}, **more}
    return Job(pages, **fields)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_SIZE", FLUSH)


@pytest.fixture
def make_writer(tmp_path):
    made: list[Writer] = []

    def make(files=None, directory: Path = tmp_path, **more) -> Writer:
        made.append(Writer(directory, files=files, chunk_size=CHUNK, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run(writer: Writer, what: Job) -> Outcome:
    writer.submit(what)
    assert writer.wait(WAIT_S)
    outcome = writer.take()
    assert outcome is not None
    return outcome


def test_an_image_holds_exactly_the_pages_and_the_words_it_was_given(make_writer):
    before = time.time_ns() // 1000
    what = job()
    outcome = run(make_writer(), what)
    assert outcome.ok
    assert outcome.path is not None
    fd, image = open_image(outcome.path)
    target = bytearray(image.data_size)
    PageReader(fd, image, memoryview(target)).start().join()
    assert what.frozen.data == bytes(target)
    assert what.frozen.runs().tolist() == image.runs.tolist()
    assert (image.epoch, image.root, image.metadata) == (3, 9, {"seed": 1})
    assert before - 1000 <= image.forked_unix_us <= time.time_ns() // 1000
    assert (41, outcome.path.stat().st_size, 2) == (outcome.pages, outcome.bytes, outcome.runs)
    assert outcome.warnings == []


@pytest.mark.parametrize("cache", [None, True])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 12, 13, 40])
def test_images_of_every_length_about_the_boundary_of_a_chunk_verify(make_writer, count, cache):
    files = FaultyFiles(cache=cache)
    outcome = run(make_writer(files), job(runs=[(0x5000, count)] if count else []))
    assert files.calls["write"] == 2 + -(-count // 4)
    assert outcome.path is not None
    assert (count, -(-count // 4)) == (verify(outcome.path).pages, verify(outcome.path).chunk_count)


def test_images_are_numbered_and_older_ones_than_those_kept_go(make_writer, tmp_path):
    writer = make_writer()
    for seed in range(5):
        assert run(writer, job(seed, keep=3)).ok
    assert [f"dump-000000000{n}.kvimg" for n in (3, 4, 5)] == listing(tmp_path)
    assert [read_image(tmp_path / name).metadata["seed"] for name in listing(tmp_path)] == [2, 3, 4]
    assert run(writer, job(9, keep=1)).ok
    assert listing(tmp_path) == ["dump-0000000006.kvimg"]


def test_the_eventfd_tells_when_a_job_has_ended_and_is_quiet_after(make_writer):
    writer = make_writer()
    assert not select.select([writer.fileno()], [], [], 0)[0]
    writer.submit(job())
    assert select.select([writer.fileno()], [], [], 20)[0]
    assert writer.running
    assert writer.take() is not None
    assert not writer.running
    assert not select.select([writer.fileno()], [], [], 0)[0]
    assert writer.take() is None


def test_a_second_job_is_refused_until_the_first_ones_outcome_was_taken(make_writer, tmp_path):
    gate = Gate()
    writer = make_writer(FaultyFiles("sync", 0, gate))
    writer.submit(job(1))
    assert gate.reached.wait(WAIT_S)
    with pytest.raises(errors.SnapshotRunning):
        writer.submit(job(2))
    gate.go_on.set()
    assert writer.wait(WAIT_S)
    with pytest.raises(errors.SnapshotRunning):
        writer.submit(job(2))
    assert writer.take() is not None
    assert run(writer, job(3)).ok
    assert [read_image(tmp_path / name).metadata["seed"] for name in listing(tmp_path)] == [1, 3]


def test_progress_counts_pages_and_names_the_step(make_writer):
    gate = Gate()
    writer = make_writer(FaultyFiles("write", 3, gate))  # the header, two chunks, and this
    writer.submit(job())
    assert gate.reached.wait(WAIT_S)
    assert (writer.pages_done, writer.pages_total, writer.step) == (8, 41, "write")
    gate.go_on.set()
    assert writer.wait(WAIT_S)
    assert (writer.pages_done, writer.pages_total, writer.step) == (41, 41, "idle")


# --- failures ---

STEP_OF = {
    "bypass_cache": "write",
    "flush_begin": "flush",
    "flush_wait": "flush",
    "sync_directory": "sync directory",
    "names": "create",
}
THROUGH_CACHE = ("flush_begin", "flush_wait")
FAILURES = [
    *((method, 0, errno.EIO) for method in ("names", "create", "reserve", "write", "sync", "rename", "sync_directory")),
    *(("write", nth, errno.ENOSPC) for nth in (1, 2, 7, 11, 12)),
    ("reserve", 0, errno.ENOSPC),
    ("flush_begin", 1, errno.EIO),
    ("flush_wait", 2, errno.EIO),
    ("bypass_cache", 0, errno.EIO),
    ("bypass_cache", 1, errno.EIO),
    ("names", 1, errno.EIO),
    ("create", 0, errno.EACCES),
    ("rename", 0, errno.ENOENT),
]


@pytest.mark.parametrize(("method", "nth", "code"), FAILURES)
def test_a_failing_operation_fails_the_snapshot_by_name_and_leaves_nothing(make_writer, tmp_path, method, nth, code):
    assert run(make_writer(), job(1)).ok
    files = FaultyFiles(method, nth, raising(code), cache=True if method in THROUGH_CACHE else None)
    writer = make_writer(files)
    outcome = run(writer, job(2))
    assert files.calls[method] > nth, "the fault was never reached"
    assert isinstance(outcome.error, errors.WriteFailed | errors.Unreadable)
    assert code == outcome.error.errno
    assert os.strerror(code) in str(outcome.error)
    if method != "names":
        assert STEP_OF.get(method, method) == outcome.error.step
    assert (outcome.path, outcome.ok) == (None, False)
    assert listing(tmp_path) == ["dump-0000000001.kvimg"]
    assert verify(tmp_path / "dump-0000000001.kvimg").metadata == {"seed": 1}
    assert run(writer, job(3)).ok, "the writer goes on after a failure"


def test_every_write_that_may_fail_was_counted(make_writer):
    files = FaultyFiles(cache=True)
    assert run(make_writer(files), job()).ok
    assert tuple(files.calls[name] for name in ("write", "flush_begin", "flush_wait")) == (13, 5, 4)


@pytest.mark.parametrize(("method", "nth"), [("create", 0), ("reserve", 0), ("write", 5), ("rename", 0)])
def test_a_directory_that_vanishes_fails_the_snapshot_and_leaves_nothing(make_writer, tmp_path, method, nth):
    directory = tmp_path / "data"
    directory.mkdir()
    outcome = run(make_writer(FaultyFiles(method, nth, lambda _: shutil.rmtree(directory)), directory), job())
    assert isinstance(outcome.error, errors.WriteFailed)
    assert outcome.error.errno == errno.ENOENT
    assert not directory.exists()


def test_a_directory_that_vanishes_after_the_rename_fails_too(make_writer, tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    files = FaultyFiles("sync_directory", 0, lambda _: shutil.rmtree(directory))
    outcome = run(make_writer(files, directory), job())
    assert (outcome.error.step, outcome.path) == ("sync directory", None)


def test_a_file_system_that_takes_no_writes_past_its_cache_is_written_through_it(make_writer):
    def refuse(method: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    files = FaultyFiles("write", 1, refuse)
    outcome = run(make_writer(files), job())
    assert outcome.path is not None, outcome.error
    assert verify(outcome.path).pages == 41
    assert files.calls["flush_begin"] == 5


def test_a_full_disk_shows_before_anything_is_written(make_writer):
    files = FaultyFiles("reserve", 0, raising(errno.ENOSPC))
    outcome = run(make_writer(files), job())
    assert "No space left on device" in str(outcome.error)
    assert files.calls["write"] == 0


class Volume(FaultyFiles):
    """A disk with room for so many images, and for none that is being written beside them."""

    def __init__(self, room: int, method: str = "reserve") -> None:
        super().__init__()
        self._room, self._at = room, method

    def _check(self, fd: int, method: str) -> None:
        directory = Path(os.readlink(f"/proc/self/fd/{fd}")).parent
        if (
            method == self._at
            and len([name for name in os.listdir(directory) if name.endswith(".kvimg")]) >= self._room
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def reserve(self, fd: int, size: int) -> None:
        self._check(fd, "reserve")

    def write(self, fd: int, data: memoryview | bytes, offset: int) -> None:
        self._check(fd, "write" if offset >= 10 * PAGE_SIZE else "")
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._check(fd, "sync")
        super().sync(fd)


@pytest.mark.parametrize("method", ["reserve", "write", "sync"])
def test_a_disk_that_holds_no_more_gets_room_from_the_oldest_images(make_writer, tmp_path, method):
    """Wherever the disk turns out to be full; what is kept is the newest, and one more is written whole."""
    writer = make_writer(Volume(2, method))
    for seed in range(5):
        outcome = run(writer, job(seed, keep=9))
        assert outcome.ok, outcome.error
        assert ["was removed" in warning for warning in outcome.warnings] == ([True] if seed >= 2 else [])
    assert listing(tmp_path) == ["dump-0000000004.kvimg", "dump-0000000005.kvimg"]
    assert [verify(tmp_path / name).metadata["seed"] for name in listing(tmp_path)] == [3, 4]


def test_the_last_good_image_is_not_given_for_room(make_writer, tmp_path):
    writer = make_writer(Volume(1))
    assert run(writer, job(1)).ok
    outcome = run(writer, job(2))
    assert isinstance(outcome.error, errors.WriteFailed)
    assert (outcome.error.errno, outcome.error.step) == (errno.ENOSPC, "reserve")
    assert listing(tmp_path) == ["dump-0000000001.kvimg"]
    assert verify(tmp_path / "dump-0000000001.kvimg").metadata == {"seed": 1}


def test_room_is_not_made_at_the_cost_of_the_only_good_image_when_the_newest_is_damaged(make_writer, tmp_path):
    for seed in (1, 2):
        assert run(make_writer(), job(seed)).ok
    newest = tmp_path / "dump-0000000002.kvimg"
    newest.write_bytes(newest.read_bytes()[:-1])
    outcome = run(make_writer(Volume(2)), job(3))
    assert outcome.error.errno == errno.ENOSPC
    assert verify(tmp_path / "dump-0000000001.kvimg").metadata == {"seed": 1}


@pytest.mark.parametrize(("method", "nth"), [("remove", 1), ("sync_directory", 0), ("names", 1)])
def test_room_that_cannot_be_made_leaves_the_full_disk_as_the_reason(make_writer, tmp_path, method, nth):
    for seed in (1, 2):
        assert run(make_writer(), job(seed)).ok

    class Broken(FaultyFiles):
        def reserve(self, fd: int, size: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = Broken(method, nth, raising(errno.EIO))
    outcome = run(make_writer(files), job(3, keep=9))
    assert files.calls[method] > nth, "the fault was never reached"
    assert (outcome.error.errno, outcome.error.step) == (errno.ENOSPC, "reserve")
    assert "Input/output error" in outcome.warnings[0]
    assert verify(tmp_path / "dump-0000000002.kvimg").metadata == {"seed": 2}


def test_the_newest_damaged_the_next_image_does_not_cost_the_good_one(make_writer, tmp_path):
    for seed in (1, 2):
        assert run(make_writer(), job(seed, keep=2)).ok
    newest = tmp_path / "dump-0000000002.kvimg"
    newest.write_bytes(newest.read_bytes()[:-1])
    outcome = run(make_writer(), job(3, keep=2))
    assert outcome.ok
    assert "set aside as damaged" in outcome.warnings[0] and str(newest) in outcome.warnings[0]
    assert listing(tmp_path) == ["dump-0000000001.kvimg", "dump-0000000002.kvimg.damaged", "dump-0000000003.kvimg"]
    assert verify(tmp_path / "dump-0000000001.kvimg").metadata == {"seed": 1}


def test_an_image_given_up_while_it_gets_its_name_loses_it_again(make_writer, tmp_path):
    gate = Gate()
    writer = make_writer(FaultyFiles("rename", 0, gate))
    writer.submit(job())
    assert gate.reached.wait(20)
    writer.cancel()
    gate.go_on.set()
    assert writer.wait(20)
    outcome = writer.take()
    assert isinstance(outcome.error, errors.Cancelled)
    assert (outcome.path, listing(tmp_path)) == (None, [])


def test_a_job_that_its_owner_gives_up_ends_as_a_cancelled_one(make_writer, tmp_path):
    gate = Gate()
    given_up: list[bool] = []
    writer = make_writer(FaultyFiles("sync", 0, gate))
    writer.submit(job(given_up=lambda: bool(given_up)))
    assert gate.reached.wait(20)
    given_up.append(True)
    gate.go_on.set()
    assert writer.wait(20)
    assert isinstance(writer.take().error, errors.Cancelled)
    assert listing(tmp_path) == []


def test_old_images_that_cannot_be_removed_are_a_warning_and_not_a_failure(make_writer, tmp_path):
    assert run(make_writer(), job(1)).ok
    outcome = run(make_writer(FaultyFiles("remove", 0, raising(errno.EPERM))), job(2, keep=1))
    assert outcome.ok
    assert "Operation not permitted" in outcome.warnings[0]
    assert len(listing(tmp_path)) == 2


def test_a_temporary_file_that_cannot_be_removed_is_told_and_goes_at_the_next_cleaning(make_writer, tmp_path):
    class Stubborn(FaultyFiles):
        def remove(self, path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = make_writer(Stubborn("sync", 0, raising(errno.EIO)))
    outcome = run(writer, job())
    assert (outcome.error.step, len(outcome.warnings)) == ("sync", 1)
    assert len(listing(tmp_path)) == 1
    assert writer.images.newest() is None
    assert len(make_writer().images.clean()) == 1
    assert listing(tmp_path) == []


def test_metadata_that_cannot_be_packed_fails_before_a_file_is_made(make_writer, tmp_path):
    files = FaultyFiles()
    outcome = run(make_writer(files), job(metadata=lambda: {"x": object()}))
    assert outcome.error.step == "prepare"
    assert files.calls["create"] == 0
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("method", "nth"), [("create", 0), ("write", 0), ("write", 6), ("flush_wait", 1), ("sync", 0)])
def test_a_cancelled_snapshot_ends_soon_and_leaves_nothing(make_writer, tmp_path, method, nth):
    gate = Gate()
    files = FaultyFiles(method, nth, gate, cache=True)
    writer = make_writer(files)
    writer.submit(job())
    assert gate.reached.wait(WAIT_S)
    written = files.calls["write"]
    writer.cancel()
    gate.go_on.set()
    assert writer.wait(WAIT_S)
    outcome = writer.take()
    assert isinstance(outcome.error, errors.Cancelled)
    assert listing(tmp_path) == []
    assert files.calls["write"] == written
    assert run(writer, job()).ok, "a cancelled job does not cancel the next"


def test_a_cancel_after_the_last_step_comes_too_late(make_writer):
    gate = Gate()
    writer = make_writer(FaultyFiles("sync_directory", 0, gate))
    writer.submit(job())
    assert gate.reached.wait(WAIT_S)
    writer.cancel()
    gate.go_on.set()
    assert writer.wait(WAIT_S)
    assert writer.take().ok


def test_closing_gives_up_the_job_and_ends_the_thread(make_writer, tmp_path):
    gate = Gate()
    writer = make_writer(FaultyFiles("write", 2, gate))
    writer.submit(job())
    assert gate.reached.wait(WAIT_S)
    gate.go_on.set()
    writer.close()
    writer.close()
    assert listing(tmp_path) == []
    with pytest.raises(errors.SnapshotError):
        make_closed = make_writer()
        make_closed.close()
        make_closed.submit(job())


def test_the_thread_lowers_its_own_priority_and_no_other(make_writer):
    gate = Gate()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    writer = make_writer(FaultyFiles("sync", 0, gate), nice=7)
    writer.submit(job())
    assert gate.reached.wait(WAIT_S)
    assert os.getpriority(os.PRIO_PROCESS, writer.native_id) == 7
    assert before == os.getpriority(os.PRIO_PROCESS, 0)
    gate.go_on.set()
    assert writer.wait(WAIT_S)


def test_handing_a_job_over_starts_no_thread_and_waits_for_nothing(make_writer):
    gate = Gate()
    writer = make_writer(FaultyFiles("create", 1, gate))
    run(writer, job())
    before = set(threading.enumerate())
    writer.submit(job())  # it returns while the job is held at its first step
    assert gate.reached.wait(WAIT_S) and writer.running and writer.take() is None
    assert set(threading.enumerate()) == before
    gate.go_on.set()
    assert writer.wait(WAIT_S)


def test_a_limit_of_the_operating_system_fails_the_snapshot_and_leaves_nothing(make_writer, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * PAGE_SIZE, hard))
    try:
        outcome = run(make_writer(), job())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(outcome.error, errors.WriteFailed)
    assert outcome.error.errno == errno.EFBIG
    assert listing(tmp_path) == []
