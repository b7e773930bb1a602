"""Snapshots of the store: when, what beside the pages, and what a failure means for clients.

The mechanism is snapshot.Snapshotter's; here are Redis's rules around it.  A good snapshot forgets the changes it
holds; a failed one leaves the last good image, a reason, and, with stop-writes-on-bgsave-error and save points set,
refuses writes until one succeeds.  Inside EXEC a BGSAVE waits for the transaction's end, so that an image never holds
half of one.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvstore import state
from kvstore.clock import read_clocks, wall_us
from kvstore.flush import release_root
from kvstore.keyspace import keyspace_init, keyspace_open
from kvstore.layout import DATABASES, DB_DEADLINES, DB_KEYS, DESCRIPTOR_SIZE, DESCRIPTORS
from kvstore.reply import CommandError
from kvstore.saving import save_begin
from mmcore.errors import NO_FRAME
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.mapping import load_cr3, reset
from mmcore.release import CURSOR_SIZE, release_all
from snapshot.errors import SnapshotError, SnapshotRunning
from snapshot.frozen import FrozenSpace
from snapshot.preload import Preload
from snapshot.restore import adopt, restore
from snapshot.snapshotter import Snapshotter
from snapshot.writer import Outcome

if TYPE_CHECKING:
    from kvstore.server import Server

log = logging.getLogger("kvstore")

MODES = {"classic": CLASSIC, "on-demand": ON_DEMAND, "constant": CONSTANT}


def _describe(frozen: FrozenSpace) -> dict[str, Any]:
    """What an image holds, from the store's control block as it was frozen."""
    words = np.frombuffer(frozen.read(DESCRIPTORS, DATABASES * DESCRIPTOR_SIZE), "<i8").reshape(DATABASES, -1)
    return {"databases": words[:, [DB_KEYS // 8, DB_DEADLINES // 8]].tolist(), "made_by": "kvstore"}


class _Snapshotter(Snapshotter):
    """Hands roots that are done with to the loop, which releases them between turns, in bounded steps."""

    def __init__(self, server: "Server") -> None:
        config = server.config
        super().__init__(
            server.space.state,
            config["dir"],
            config["dbfilename"],
            MODES[config["fork-mode"]],
            metadata=_describe,
        )
        self._store = server.store
        server.registers[state.TICKET_ADDRESS] = self.ticket.ctypes.data

    def begin(self) -> int:
        return int(save_begin(self._store))

    def begun(self) -> None:
        log.info("Background saving started, forked in %.1f us", self.statistics.last_fork_ns / 1000)

    def release_later(self, root: int) -> None:
        release_root(self._store, root)


class Persistence:
    """The snapshots of a server's store."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._snapshotter = _Snapshotter(server)
        self._registers = server.registers
        self._ended_s = -1.0  # duration of the last one that ended

    # ---------------------------------------------------------------------------------------------- what is known

    @property
    def running(self) -> bool:
        """Whether a snapshot is being written."""
        return self._snapshotter.running

    @property
    def progress(self) -> float:
        """Of the one being written, 0 to 1."""
        progress = self._snapshotter.progress()
        return progress.pages_done / progress.pages_total if progress and progress.pages_total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Since the one being written began; 0 when there is none."""
        progress = self._snapshotter.progress()
        return progress.elapsed_s if progress else 0.0

    @property
    def taken(self) -> int:
        """Good ones since the start."""
        return self._snapshotter.statistics.succeeded

    @property
    def forks(self) -> int:
        """Forks since the start."""
        return self._snapshotter.statistics.started

    @property
    def last_ok(self) -> bool:
        """Whether the last one succeeded, or there was none."""
        return self._snapshotter.statistics.last_ok

    @property
    def last_error(self) -> str:
        """Why the last one failed, or nothing."""
        return self._snapshotter.statistics.last_error

    @property
    def last_duration_s(self) -> float:
        """How long the last one took; -1 before the first."""
        return self._ended_s

    @property
    def last_save_unix_s(self) -> float:
        """When the data were last made durable, or loaded."""
        return float(self._registers[state.LAST_SAVE_MS]) / 1000

    @property
    def last_pause_us(self) -> float:
        """For how long the last one stopped the server."""
        return self._snapshotter.statistics.last_pause_ns / 1000

    @property
    def last_fork_ns(self) -> int:
        """The fork by itself."""
        return self._snapshotter.statistics.last_fork_ns

    @property
    def last_pages(self) -> int:
        """Pages in the last image."""
        return self._snapshotter.statistics.last_pages

    @property
    def last_pages_copied(self) -> int:
        """Pages copied by writes while the last one was written."""
        return self._snapshotter.statistics.last_pages_copied

    @property
    def last_cow_size(self) -> int:
        """Bytes of pages and tables copied by writes while the last one was written."""
        return self._snapshotter.statistics.last_cow_size

    @property
    def last_bytes(self) -> int:
        """Length of the last image's file."""
        return self._snapshotter.statistics.last_bytes

    @property
    def last_path(self) -> Path | None:
        """The last image."""
        return self._snapshotter.statistics.last_path

    # ---------------------------------------------------------------------------------------------- taking one

    def fileno(self) -> int:
        """Readable when a snapshot has ended."""
        return self._snapshotter.fileno()

    def start(self) -> None:
        """Fork, and have the image written.  Raises CommandError."""
        try:
            self._snapshotter.start()
        except SnapshotRunning:
            raise CommandError("ERR Background save already in progress") from None
        except SnapshotError as error:
            self._failed(error)
            raise CommandError(f"ERR {error}") from error

    def start_due(self) -> None:
        """One was due and could not be begun: once more, for the reason."""
        try:
            self.start()
        except CommandError as error:
            log.warning("%s", error)

    def poll(self) -> None:
        """Take note of a snapshot that has ended."""
        outcome = self._snapshotter.poll()
        if outcome is not None:
            self._ended(outcome)

    def run_and_wait(self) -> None:
        """SAVE: take a snapshot and wait until it is durable.  Raises CommandError."""
        if self._server.in_transaction:  # what it has done so far must not be seen without the rest
            raise CommandError("ERR SAVE cannot run inside a transaction")
        if self.running:
            self._ended(self._snapshotter.wait())
        self.start()
        outcome = self._snapshotter.wait()
        self._ended(outcome)
        if outcome.error:
            raise CommandError(f"ERR {outcome.error}")

    def _ended(self, outcome: Outcome) -> None:
        r = self._registers
        r[state.SNAPSHOT_ALIVE] = 0
        self._ended_s = self._snapshotter.statistics.last_duration_s
        for warning in outcome.warnings:
            log.warning("%s", warning)
        if outcome.error:
            self._failed(outcome.error)
            return
        r[state.DIRTY] -= r[state.DIRTY_AT_FORK]
        self._saved(int(outcome.finished_unix_s * 1_000_000) + int(r[state.WALL_SHIFT_US]))
        r[state.LAST_SAVE_OK] = 1
        self.refuse_writes()
        told = outcome.path, outcome.pages, self._ended_s, self.last_pause_us
        log.info("Snapshot %s is durable: %d pages, %.2f s; it stopped the clients for %.1f us", *told)

    def _saved(self, at_us: int) -> None:
        # The data are durable since then [Unix us]; save points count from now.
        read_clocks(self._server.store)
        self._registers[state.LAST_SAVE_MS] = at_us // 1000
        self._registers[state.SAVED_MS] = self._registers[state.TIMER_MS]

    def _failed(self, error: SnapshotError) -> None:
        self._registers[state.LAST_SAVE_OK] = 0
        self.refuse_writes()
        log.error("Snapshot failed: %s", error)

    def refuse_writes(self) -> None:
        """Have writes refused, or not, by how the last snapshot went and what is configured."""
        config = self._server.config
        stop = config["stop-writes-on-bgsave-error"] and config["save"].points and not self.last_ok
        self._registers[state.WRITES_REFUSED] = bool(stop)

    def cancel(self) -> None:
        """Give up the one being written."""
        if self.running:
            self._snapshotter.cancel()

    def reconfigure(self) -> None:
        """Take over where images go and how to fork.  Raises ValueError when that cannot change now."""
        config = self._server.config
        try:
            self._snapshotter.move(config["dir"], config["dbfilename"])
        except SnapshotRunning:
            raise ValueError("a snapshot is being written") from None
        self._snapshotter.mode = MODES[config["fork-mode"]]

    def close(self) -> None:
        """End the writer's thread; a snapshot being written is given up."""
        self._snapshotter.close()

    # ---------------------------------------------------------------------------------------------- loading one

    def load(self, preload: Preload) -> None:
        """Take the image that was preloaded, or begin empty where there is none."""
        began = time.perf_counter()
        store = self._server.store
        self._snapshotter.images.clean()
        image = adopt(preload, store.space)
        for refused in preload.refused:
            log.warning("Image refused: %s", refused)
        if image is None:
            if keyspace_init(store) != 0:
                raise MemoryError("the physical memory is too small for an empty store")
        else:
            keyspace_open(store)
            keys = sum(sizes[0] for sizes in self._server.db_sizes())
            log.info("Loaded %s: %d keys, waited %.3f s for it", image.path, keys, time.perf_counter() - began)
        self._saved(wall_us(self._registers))
        self._registers[state.DIRTY] = 0

    def reload(self, save: bool) -> None:
        """DEBUG RELOAD: empty the store and load the newest image, after taking one if `save`.  Raises CommandError."""
        if save:
            self.run_and_wait()
        elif self.running:
            self._ended(self._snapshotter.wait())
        newest = self._snapshotter.images.newest()
        if newest is None:
            raise CommandError("ERR Error trying to load the RDB dump, check server logs.")
        store = self._server.store
        space = store.space
        old = int(reset(space))
        if old == NO_FRAME:
            raise CommandError("ERR no frame for an empty root")
        try:
            restore(newest.image.path, space)
            keyspace_open(store)
        except SnapshotError as error:
            release_all(space.mem, np.zeros(CURSOR_SIZE, np.int64), load_cr3(space, old))
            log.error("Reload failed: %s", error)
            raise CommandError("ERR Error trying to load the RDB dump, check server logs.") from error
        release_root(store, old)
        self._registers[state.DIRTY] = 0
