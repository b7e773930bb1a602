"""The background thread that writes a frozen address space as an image.

The thread exists before the first snapshot and waits on an eventfd.  Beginning a snapshot therefore adds only a write
to the eventfd to the owner's pause, not the start of a thread.  The thread lowers its own priority and uses the batch
scheduling policy, so that it does not preempt the owner when it wakes.  It does not use the idle policy: on busy cores
the system could then stop it for long while it holds the GIL, for which the owner's Python would wait.

A second thread, which has the idle policy, copies the pages from their frames (gatherer.py): one chunk, while the
writer computes the checksum of the chunk before and writes it.  Each of these calls is made without the GIL.  Between
them the writer holds the GIL for microseconds.  The pages are written past the page cache: that takes a tenth of the
processor time and leaves the cache to other files, and the image must reach the disk anyway before it counts.  If a
file system does not support this, they go through the cache.

    step             action                                                 if it fails
    prepare          get the owner's metadata, list the runs of pages       -
    create           create and lock a file under a temporary name          -
    reserve          reserve all of its disk space                          the temporary file is removed; *
    write            write header, chunks, manifest, trailer                the same; *
    flush            only through the cache, every FLUSH_SIZE bytes:        the same
                     start them on their way to the disk, wait for
                     those before
    sync             make the file durable                                  the same
    rename           give it its final name                                 the same
    sync directory   make the name durable                                  the image is removed
    retain           remove images older than the newest `keep` good ones   the image stays; a warning

    * if the disk is full: the oldest image is removed, as long as a newer good one remains, and the writer starts again

In every case there is afterwards either one more complete and durable image, or nothing new; and the last good image
stays until there is a newer one.  Flushing on the way bounds the data that wait for the disk, and so the time of the
last sync.

A job can be cancelled at any step up to the rename, and once more after it: if an image gets its name while the job is
being cancelled, it is removed again.

Division of work.  The owner calls `submit`, `cancel` and `take`.  The thread runs the job, and writes another eventfd
when the job has ended.  Alternatively the owner prepares a job ahead (`arm`), and the code that forks, which may be a
kernel, writes `wake_fileno`; the thread then calls the job's `begin`, which fills in the values that were unknown
before.  The thread reads frames of the frozen root and changes nothing in the machine.
"""

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgpack

from mmcore.jit import Array, Table, uint64, zeros
from mmcore.priority import step_back
from mmcore.state import Memory
from snapshot.directory import PREFIX, ImageDirectory
from snapshot.errors import Cancelled, SnapshotError, SnapshotFailed, SnapshotRunning, WriteFailed
from snapshot.files import Files
from snapshot.gatherer import Gatherer
from snapshot.image import (
    CHUNK_SIZE,
    DATA_OFFSET,
    ID_SIZE,
    PAGE_SIZE,
    Accept,
    Repeats,
    accept_any,
    checksum,
    ending,
    header_page,
)

FLUSH_SIZE = 32 << 20
NICE = 10
KEEP = 2
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Frozen(Protocol):
    """Pages that nobody writes any more."""

    root: int  # frame of their PML4

    def runs(self) -> Table:
        """All pages but repeats: a row for each run, address of the first page and number of pages, ascending."""

    def repeats(self) -> Repeats | None:
        """The pages that `runs` left out: all of them map one page again that is in it."""

    def gather(self, first: int, pages: int, buffer: Array) -> None:
        """Copy `pages` pages, from page number `first` in the order of the runs on, to the front of `buffer`."""


@dataclass(slots=True)
class Job:
    """A request to write one image."""

    frozen: Frozen
    metadata: Callable[[], dict[Any, Any]] = dict  # called by the thread
    epoch: int = 0  # the epoch that the fork ended
    forked_ns: int = field(default_factory=time.perf_counter_ns)  # time of the fork, by that clock
    keep: int = KEEP  # how many of the newest images to keep
    begin: Callable[["Job"], None] = lambda job: None  # the thread calls it first: it fills in values unknown before
    given_up: Callable[[], bool] = lambda: False  # the thread calls it at each step: whether to stop


@dataclass
class Outcome:
    """The result of a job."""

    job: Job
    error: SnapshotError | None = None
    path: Path | None = None  # of the new image, if there is one
    pages: int = 0
    bytes: int = 0  # length of the file
    runs: int = 0
    duration_ns: int = 0
    sync_ns: int = 0  # the part of the last sync
    finished_unix_s: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is one more complete and durable image."""
        return self.error is None


class Writer:
    """The thread and its job; it has at most one."""

    def __init__(
        self,
        directory: str | Path,
        prefix: str = PREFIX,
        nice: int = NICE,
        files: Files | None = None,
        chunk_size: int = CHUNK_SIZE,
        accept: Accept = accept_any,
        memory: Memory | None = None,
    ) -> None:
        """memory: the frames of the frozen spaces, which a thread in idle time then gathers."""
        self.files = files or Files()
        self.images = ImageDirectory(directory, prefix, self.files, accept)
        self.pages_done = 0
        self.pages_total = 0
        self.step = "idle"
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._nice = nice
        self._chunk_size = chunk_size
        self._gatherer = Gatherer(chunk_size, memory, nice)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._job: Job | None = None
        self._submitted = False
        self._outcome: Outcome | None = None
        self._cancelled = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="snapshot-writer", daemon=True)
        self._thread.start()

    # --- the owner's side ---

    @property
    def closed(self) -> bool:
        """Whether the thread has ended."""
        return self._closing

    @property
    def running(self) -> bool:
        """Whether there is a job whose outcome has not been taken yet."""
        return self._submitted

    @property
    def native_id(self) -> int:
        """The operating system's ID of the thread."""
        return self._thread.native_id or 0

    def fileno(self) -> int:
        """An eventfd that becomes readable when a job has ended."""
        return self._event

    def wake_fileno(self) -> int:
        """The eventfd that starts the job passed to `arm`."""
        return self._wake

    def arm(self, job: Job) -> None:
        """Prepare a job, which starts when `wake_fileno` is written; no job may be running."""
        self.pages_done = self.pages_total = 0
        self._cancelled = False
        self._job = job

    def submit(self, job: Job) -> None:
        """Start a job at once."""
        if self._submitted:
            raise SnapshotRunning("a snapshot is being written already")
        if self._closing:
            raise SnapshotFailed("prepare", "the writer is closed")
        self.arm(job)
        self._submitted = True
        os.eventfd_write(self._wake, 1)

    def cancel(self) -> None:
        """Cancel the job; it ends soon, as Cancelled, unless it was past its last step."""
        self._cancelled = True

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job has ended; returns whether it has."""
        return bool(select.select([self._event], [], [], timeout)[0])

    def take(self) -> Outcome | None:
        """The outcome of a job that has ended.  It is returned once; None if there is none."""
        outcome = self._outcome
        if outcome is None:
            return None
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        self._outcome = self._job = None
        self._submitted = False
        return outcome

    def close(self) -> None:
        """Cancel the job, if there is one, and end the thread."""
        if self._closing:
            return
        self._closing = True
        self.cancel()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._gatherer.close()
        os.close(self._wake)
        os.close(self._event)

    # --- the thread's side ---

    def _run(self) -> None:
        step_back(self._nice)
        while True:
            os.eventfd_read(self._wake)
            if self._closing:
                return
            job = self._job
            assert job is not None and self._outcome is None, "woken without a job"
            self._outcome = self._perform(job)
            del job
            self.step = "idle"
            os.eventfd_write(self._event, 1)

    def _perform(self, job: Job) -> Outcome:
        outcome = Outcome(job)
        begun = time.perf_counter_ns()
        try:
            job.begin(job)
            self._write_image(job, outcome)
        except SnapshotError as error:
            outcome.error = error
        except OSError as error:
            outcome.error = WriteFailed(self.step, error)
        except Exception as error:  # report a bug to the owner instead of ending the thread
            outcome.error = SnapshotFailed(self.step, f"{type(error).__name__}: {error}")
        outcome.duration_ns = time.perf_counter_ns() - begun
        outcome.finished_unix_s = time.time()
        return outcome

    def _write_image(self, job: Job, outcome: Outcome) -> None:
        self.step = "prepare"
        forked_unix_us = (time.time_ns() - (time.perf_counter_ns() - job.forked_ns)) // 1000
        metadata = job.metadata()
        msgpack.packb(metadata)  # detect metadata that cannot be encoded before writing, not after
        runs = job.frozen.runs()
        self.pages_total = sum(runs.column(1))
        while True:
            try:
                self._write_once(job, outcome, runs, metadata, forked_unix_us)
                break
            except OSError as error:
                failed = WriteFailed(self.step, error)
                if error.errno not in _FULL or not self._make_room(outcome):
                    raise failed from error
        self.step = "retain"
        try:
            kept = self.images.retain(job.keep, self._look_up)
        except (OSError, SnapshotError) as error:
            outcome.warnings.append(f"older images could not be removed: {error}")
        else:
            outcome.warnings += [f"set aside as damaged: {error}" for error in kept.set_aside]

    def _make_room(self, outcome: Outcome) -> bool:
        """Remove one image to make room for the new one.  Returns whether one could be spared."""
        self.step = "make room"
        try:
            removed = self.images.make_room(self._look_up)
        except Cancelled:
            raise
        except (OSError, SnapshotError) as error:
            outcome.warnings.append(f"older images could not be removed: {error}")
            return False
        if removed is None:
            return False
        outcome.warnings.append(f"{removed} was removed: the disk is full, and there is a newer good image")
        return True

    def _look_up(self, _done: int, _total: int) -> None:
        # Called while older images are read: stop if the job was cancelled.
        self._go_on(self.step)

    def _write_once(
        self, job: Job, outcome: Outcome, runs: Table, metadata: dict[Any, Any], forked_unix_us: int
    ) -> None:
        """Write the image up to its durable name; on failure nothing of it is left."""
        images, files = self.images, self.files
        self.pages_done = 0
        self.step = "create"
        temporary = images.temporary_path(images.next_sequence())
        fd = files.create(temporary)
        try:
            try:
                outcome.bytes = self._write_file(fd, job, runs, metadata, forked_unix_us, outcome)
                self._go_on("rename")
                path = images.path_of(images.next_sequence())
                files.rename(temporary, path)
            except BaseException:
                self._remove(temporary, outcome)
                raise
            try:
                self._go_on("sync directory")
                files.sync_directory(images.directory)
            except BaseException:
                self._remove(path, outcome)
                raise
            images.note_good(path, files.stamp(fd))
        finally:
            self._close(fd, outcome)
        outcome.path = path
        outcome.pages, outcome.runs = self.pages_total, len(runs)

    def _write_file(
        self,
        fd: int,
        job: Job,
        runs: Table,
        metadata: dict[Any, Any],
        forked_unix_us: int,
        outcome: Outcome,
    ) -> int:
        """Write and sync the whole file; returns its length."""
        files, total = self.files, self.pages_total
        identity = os.urandom(ID_SIZE)
        self._go_on("reserve")
        files.reserve(fd, DATA_OFFSET + total * PAGE_SIZE)
        self._go_on("write")
        repeats = job.frozen.repeats()
        files.write(fd, header_page(identity, self._chunk_size, repeats), 0)
        direct = files.bypass_cache(fd, True)
        checksums = zeros(uint64, -(-total * PAGE_SIZE // self._chunk_size))
        flushed, waited = 0, 0
        for chunk, data in enumerate(self._gatherer.groups(job.frozen, total)):
            checksums[chunk] = checksum(data)
            self._go_on("write")
            written = DATA_OFFSET + chunk * self._chunk_size
            try:
                files.write(fd, data, written)
            except OSError as error:
                if not direct or error.errno != errno.EINVAL:
                    raise
                direct = not files.bypass_cache(fd, False)  # the file system requires a larger alignment than pages
                files.write(fd, data, written)
            written += len(data)
            self.pages_done = (written - DATA_OFFSET) // PAGE_SIZE
            if not direct and written - flushed >= FLUSH_SIZE:
                self._go_on("flush")
                files.flush_begin(fd, flushed, written - flushed)
                if flushed > waited:
                    files.flush_wait(fd, waited, flushed - waited)
                waited, flushed = flushed, written
        if direct:
            files.bypass_cache(fd, False)  # the rest is not a whole number of pages
        tail = ending(
            identity,
            runs=runs,
            checksums=checksums,
            metadata=metadata,
            epoch=job.epoch,
            root=job.frozen.root,
            forked_unix_us=forked_unix_us,
            repeats=repeats,
        )
        self._go_on("write")
        files.write(fd, tail, DATA_OFFSET + total * PAGE_SIZE)
        self._go_on("sync")
        begun = time.perf_counter_ns()
        files.sync(fd)
        outcome.sync_ns = time.perf_counter_ns() - begun
        return DATA_OFFSET + total * PAGE_SIZE + len(tail)

    def _go_on(self, step: str) -> None:
        """Begin a step, unless the job was cancelled."""
        if self._cancelled or (self._job is not None and self._job.given_up()):
            raise Cancelled(self.step, "cancelled")
        self.step = step

    def _remove(self, path: Path, outcome: Outcome) -> None:
        try:
            self.files.remove(path)
        except OSError as error:
            outcome.warnings.append(f"{path} could not be removed: {error.strerror or error}")

    def _close(self, fd: int, outcome: Outcome) -> None:
        try:
            self.files.close(fd)
        except OSError as error:  # harmless after a successful sync
            outcome.warnings.append(f"closing: {error.strerror or error}")
