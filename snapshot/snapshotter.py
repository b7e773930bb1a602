"""Snapshots of one address space: fork, write, release.

    state      meaning                                             transition
    IDLE       nothing is being written                            begin: fork, wake the writer -> WRITING
    WRITING    the writer's thread reads the frozen root           poll, after the eventfd: take the outcome -> IDLE

When the writer has finished with a root, successfully or not, the root joins the list of roots to be released.  The
owner calls `release` with a budget when it has time; a new snapshot need not wait for that.  A synchronous snapshot
takes the same path, but the owner waits for the eventfd.

Only begin.py's kernel stops the owner.  `start` calls it; an owner that is itself a kernel calls it directly, with the
ticket.  `last_pause_ns` is the duration of this stop, `last_fork_ns` that of the fork alone.

Only the owner's thread may call the methods.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcore.errors import NO_FRAME
from mmcore.fork import CONSTANT
from mmcore.jit import Array, build, int64, zeros
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from mmcore.state import CR3, PAGES_COPIED, TABLES_COPIED, Space
from snapshot import begin as ticket
from snapshot.directory import PREFIX, ImageDirectory
from snapshot.errors import Cancelled, ForkFailed, SnapshotError, SnapshotFailed, SnapshotRunning
from snapshot.files import Files
from snapshot.frozen import NOWHERE, FrozenSpace
from snapshot.image import CHUNK_SIZE, PAGE_SIZE, Accept, accept_any
from snapshot.writer import KEEP, NICE, Job, Outcome, Writer

RELEASE_BUDGET = 4096  # frames per step, some tens of microseconds


@dataclass
class Statistics:
    """Statistics of all snapshots so far; names with `last` refer to the last one that ended, if not said otherwise."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    last_ok: bool = True  # True also before the first snapshot
    last_error: str = ""
    last_save_unix_s: float = 0.0  # end of the last good one
    last_duration_s: float = 0.0
    last_pause_ns: int = 0  # of the last one started
    last_fork_ns: int = 0  # the part of the fork
    last_pages: int = 0
    last_bytes: int = 0  # length of the image
    last_pages_copied: int = 0  # by writes while it was written
    last_tables_copied: int = 0
    last_path: Path | None = None  # of the last good image
    last_sync_ns: int = 0

    @property
    def last_cow_size(self) -> int:
        """Bytes of frames that copy-on-write took while the last snapshot was written."""
        return (self.last_pages_copied + self.last_tables_copied) * PAGE_SIZE


@dataclass(frozen=True)
class Progress:
    """The progress of the snapshot that is being written."""

    step: str
    pages_done: int
    pages_total: int  # 0 until they are counted
    elapsed_s: float
    cow_size: int  # bytes of frames that copy-on-write has taken since its fork


class Snapshotter:
    """Takes snapshots of `space`, to images in `directory`.

    metadata   the writer's thread calls it for each snapshot, with the frozen space, whose bytes it may read; it
               returns the metadata to keep beside the pages, as values that msgpack can encode
    keep       how many of the newest images to keep; may be changed at any time
    nice       the nice value of the writer's thread
    chunk_size bytes of pages per checksum
    accept     decides which images the owner of the pages can open; no others are ever removed
    repeated   the address of a page that may be mapped at other addresses too; images hold it once
    """

    def __init__(
        self,
        space: Space,
        directory: str | Path,
        prefix: str = PREFIX,
        mode: int = CONSTANT,
        metadata: Callable[[FrozenSpace], dict[Any, Any]] = lambda frozen: {},
        keep: int = KEEP,
        nice: int = NICE,
        files: Files | None = None,
        chunk_size: int = CHUNK_SIZE,
        accept: Accept = accept_any,
        repeated: int = NOWHERE,
    ) -> None:
        build()  # so that neither a fork nor the writer's thread ever waits for a compilation
        self.space = space
        self.keep = keep
        self._statistics = Statistics()
        self._metadata = metadata
        self._repeated = repeated
        self._writer = Writer(directory, prefix, nice, files, chunk_size, accept, space.mem)
        self.ticket = zeros(int64, ticket.TICKET_WORDS)
        self.ticket[ticket.ROOT] = -1
        self.ticket[ticket.WAKE] = self._writer.wake_fileno()
        self.mode = mode
        self._arm()
        self._releasing: list[Array] = []  # a cursor for each root

    def __repr__(self) -> str:
        return f"<Snapshotter {'writing' if self.running else 'idle'}, {self.images!r}>"

    # --- taking one ---

    @property
    def running(self) -> bool:
        """Whether a snapshot is being written, or its outcome waits for `poll`."""
        return bool(self.ticket[ticket.ROOT] >= 0)

    @property
    def mode(self) -> int:
        """The mode of the next fork; may be changed at any time."""
        return int(self.ticket[ticket.MODE])

    @mode.setter
    def mode(self, mode: int) -> None:
        self.ticket[ticket.MODE] = mode

    @property
    def images(self) -> ImageDirectory:
        """The directory of the images."""
        return self._writer.images

    @property
    def statistics(self) -> Statistics:
        """Statistics of all snapshots so far."""
        known, words = self._statistics, self.ticket
        known.started = int(words[ticket.STARTED])
        known.last_fork_ns, known.last_pause_ns = int(words[ticket.FORK_NS]), int(words[ticket.PAUSE_NS])
        return known

    def fileno(self) -> int:
        """An eventfd that becomes readable when `poll` has an outcome."""
        return self._writer.fileno()

    def begin(self) -> int:
        """Fork and wake the writer.  Returns 0, RUNNING or NO_FRAME."""
        return int(ticket.begin(self.space, self.ticket))

    def begun(self) -> None:
        """The writer's thread calls this when a snapshot has begun."""

    def start(self) -> None:
        """Fork, and start writing the image.  Raises SnapshotRunning, ForkFailed."""
        if self._writer.closed:
            raise SnapshotFailed("prepare", "the snapshotter is closed")
        code = self.begin()
        if code == ticket.RUNNING:
            raise SnapshotRunning("a snapshot is being written already")
        if code == NO_FRAME:
            error = ForkFailed("fork", "out of frames for the page tables that it copies")
            self._failed(error)
            raise error

    def poll(self) -> Outcome | None:
        """The outcome of a snapshot that has ended.  It is returned once; None if there is none."""
        outcome = self._writer.take()
        if outcome is None:
            return None
        statistics = self._statistics
        statistics.last_pages_copied, statistics.last_tables_copied = self._copied()
        statistics.last_duration_s = self._elapsed_s()
        self._give_up_root()
        self._arm()
        if isinstance(outcome.error, Cancelled):
            statistics.cancelled += 1  # this was requested, so the previous one remains the last one
            return outcome
        if outcome.error is not None:
            self._failed(outcome.error)
            return outcome
        statistics.succeeded += 1
        statistics.last_ok, statistics.last_error = True, ""
        statistics.last_save_unix_s = outcome.finished_unix_s
        statistics.last_pages, statistics.last_bytes = outcome.pages, outcome.bytes
        statistics.last_path, statistics.last_sync_ns = outcome.path, outcome.sync_ns
        return outcome

    def run_and_wait(self) -> Outcome:
        """Take a snapshot and wait for its end.  Raises as `start`; the outcome tells of a failed write."""
        self.start()
        return self.wait()

    def wait(self) -> Outcome:
        """Wait for the end of the snapshot that is being written."""
        assert self.running, "nothing is being written"
        self._writer.wait()
        outcome = self.poll()
        assert outcome is not None
        return outcome

    def cancel(self) -> None:
        """Cancel the snapshot that is being written; it ends soon, as Cancelled."""
        self.ticket[ticket.GIVEN_UP] = 1

    def progress(self) -> Progress | None:
        """The progress of the snapshot that is being written."""
        if not self.running:
            return None
        writer = self._writer
        cow_size = sum(self._copied()) * PAGE_SIZE
        return Progress(writer.step, writer.pages_done, writer.pages_total, self._elapsed_s(), cow_size)

    def move(self, directory: str | Path, prefix: str) -> None:
        """Write the images there from now on.  Raises SnapshotRunning."""
        if self.running:
            raise SnapshotRunning("a snapshot is being written")
        images = self._writer.images
        self._writer.images = ImageDirectory(directory, prefix, images.files, images.accept)

    def close(self) -> None:
        """Cancel a snapshot that is being written, end the thread, and release every root."""
        self._writer.close()
        self._give_up_root()
        while not self.release(1 << 20):
            pass

    # --- giving frames back ---

    @property
    def roots(self) -> list[int]:
        """All roots except the space's own: the one being written and those being released."""
        held = [int(self.ticket[ticket.ROOT])] if self.running else []
        return held + [int(cursor[0]) for cursor in self._releasing]

    @property
    def releasing(self) -> bool:
        """Whether there are roots to release."""
        return bool(self._releasing)

    def release(self, budget: int = RELEASE_BUDGET) -> bool:
        """Release about `budget` frames of finished roots.  Returns whether nothing is left."""
        if self._releasing:
            cursor = self._releasing[0]
            release_step(self.space.mem, cursor, budget)
            if cursor[0] == RELEASED:
                self._releasing.pop(0)
        return not self._releasing

    def release_later(self, root: int) -> None:
        """Take over a root that nobody reads any more, such as one from `reset`, and release it later."""
        assert root != self.space.cpu[CR3], "the root is in use"
        cursor = zeros(int64, CURSOR_SIZE)
        release_begin(cursor, root)
        self._releasing.append(cursor)

    def _arm(self) -> None:
        frozen = FrozenSpace(self.space.mem, repeated=self._repeated)

        def begin(job: Job) -> None:
            words = self.ticket
            frozen.root, job.epoch, job.forked_ns = (
                int(words[word]) for word in (ticket.ROOT, ticket.AT_EPOCH, ticket.AT_NS)
            )
            job.keep = self.keep
            self.begun()

        def given_up() -> bool:
            return bool(self.ticket[ticket.GIVEN_UP])

        self._writer.arm(Job(frozen, lambda: self._metadata(frozen), begin=begin, given_up=given_up))

    def _copied(self) -> tuple[int, int]:
        # Pages and tables since the fork.
        counted, words = self.space.processor, self.ticket
        pages = counted[PAGES_COPIED] - words[ticket.PAGES_BEFORE]
        return int(pages), int(counted[TABLES_COPIED] - words[ticket.TABLES_BEFORE])

    def _elapsed_s(self) -> float:
        return (time.perf_counter_ns() - int(self.ticket[ticket.AT_NS])) / 1e9

    def _give_up_root(self) -> None:
        if self.running:
            self.release_later(int(self.ticket[ticket.ROOT]))
            self.ticket[ticket.ROOT] = -1

    def _failed(self, error: SnapshotError) -> None:
        self._statistics.failed += 1
        self._statistics.last_ok, self._statistics.last_error = False, str(error)
