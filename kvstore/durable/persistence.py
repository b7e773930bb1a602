"""Snapshots of the store: their times, their metadata, and the effect of a failure on clients.

snapshot.Snapshotter is the mechanism; this module adds Redis's rules.  A successful snapshot subtracts the changes that
it holds from the dirty counter.  A failed one keeps the last good image and the reason.  With
stop-writes-on-bgsave-error and save points set, the server then refuses writes until a snapshot succeeds.  Inside EXEC
a BGSAVE waits for the end of the transaction, so that an image never holds half of one.  A snapshot that is given up,
as by FLUSHALL, counts neither as a success nor as a failure: clients that are held for it wait for the next one.
"""

import logging
from pathlib import Path
from typing import Protocol

from kvstore.branches.lines import follow_anew
from kvstore.config.config import Config
from kvstore.connections.table import release_held
from kvstore.durable.loading import Loading
from kvstore.durable.saving import save_begin
from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes.context import Context, Registers
from kvstore.store.databases import keyspace_open
from kvstore.store.flush import release_root
from kvstore.store.sampling import DatabaseSize
from kvstore.system.clock import read_clocks, wall_us
from kvstore.wire.errors import ALREADY_SAVING, ERRORS
from kvstore.wire.reply import CommandError
from mmcore.errors import NO_FRAME
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.heap import ZEROS, heap_settle
from mmcore.jit import address_of, int64, zeros
from mmcore.mapping import load_cr3, reset
from mmcore.release import CURSOR_SIZE, release_all
from mmcore.space import AddressSpace
from snapshot.directory import DirectoryLock, ImageDirectory
from snapshot.errors import Cancelled, DirectoryInUse, SnapshotError, SnapshotRunning
from snapshot.restore import adopt, empty, restore
from snapshot.snapshotter import Snapshotter
from snapshot.writer import Outcome

log = logging.getLogger("kvstore")

MODES = {"classic": CLASSIC, "on-demand": ON_DEMAND, "constant": CONSTANT}


class Owner(Protocol):
    """The part of the server, the store's owner, that snapshots need."""

    config: Config
    space: AddressSpace
    main: Context
    registers: Registers

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is under way."""

    def db_sizes(self) -> list[DatabaseSize]:
        """The size of each database."""


class _Snapshotter(Snapshotter):
    """Passes roots that are no longer needed to the loop, which releases them between turns, in bounded steps."""

    def __init__(self, server: "Owner") -> None:
        config = server.config
        super().__init__(
            server.space.state,
            config["dir"],
            config["dbfilename"],
            MODES[config["fork-mode"]],
            metadata=describe_store,
            accept=accept_store,
            repeated=ZEROS,
        )
        self._context = server.main
        server.registers.TICKET_ADDRESS = address_of(self.ticket)

    def begin(self) -> int:
        return int(save_begin(self._context))

    def begun(self) -> None:
        log.info("Background saving started, forked in %.1f us", self.statistics.last_fork_ns / 1000)

    def release_later(self, root: int) -> None:
        release_root(self._context, root)


class Persistence:
    """The snapshots of a server's store."""

    def __init__(self, server: "Owner", lock: DirectoryLock) -> None:
        self._server = server
        self._lock = lock  # on the directory that the images go to
        self._snapshotter = _Snapshotter(server)
        self.keys_loaded = 0  # that were in the image loaded last
        self._registers = server.registers
        self._ended_s = -1.0  # duration of the last one that ended

    # ---------------------------------------------------------------------------------------------- what is known

    @property
    def running(self) -> bool:
        """Whether a snapshot is being written."""
        return self._snapshotter.running

    @property
    def progress(self) -> float:
        """Progress of the snapshot being written, 0 to 1."""
        progress = self._snapshotter.progress()
        return progress.pages_done / progress.pages_total if progress and progress.pages_total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Time since the snapshot being written began; 0 when there is none."""
        progress = self._snapshotter.progress()
        return progress.elapsed_s if progress else 0.0

    @property
    def taken(self) -> int:
        """Successful snapshots since the start."""
        return self._snapshotter.statistics.succeeded

    @property
    def forks(self) -> int:
        """Forks since the start."""
        return self._snapshotter.statistics.started

    @property
    def last_ok(self) -> bool:
        """Whether the last snapshot succeeded, or there was none."""
        return self._snapshotter.statistics.last_ok

    @property
    def last_error(self) -> str:
        """The reason why the last snapshot failed; empty for none."""
        return self._snapshotter.statistics.last_error

    @property
    def last_duration_s(self) -> float:
        """Duration of the last snapshot; -1 before the first."""
        return self._ended_s

    @property
    def last_save_unix_s(self) -> float:
        """The time at which the data were last made durable, or loaded."""
        return float(self._registers.LAST_SAVE_MS) / 1000

    @property
    def last_pause_us(self) -> float:
        """The time for which the last snapshot stopped the server."""
        return self._snapshotter.statistics.last_pause_ns / 1000

    @property
    def last_fork_ns(self) -> int:
        """Duration of the last fork alone."""
        return self._snapshotter.statistics.last_fork_ns

    @property
    def last_pages(self) -> int:
        """Pages in the last image."""
        return self._snapshotter.statistics.last_pages

    @property
    def last_pages_copied(self) -> int:
        """Pages copied by writes while the last image was written."""
        return self._snapshotter.statistics.last_pages_copied

    @property
    def last_cow_size(self) -> int:
        """Bytes of pages and tables copied by writes while the last image was written."""
        return self._snapshotter.statistics.last_cow_size

    @property
    def last_bytes(self) -> int:
        """Length of the last image's file."""
        return self._snapshotter.statistics.last_bytes

    @property
    def last_path(self) -> Path | None:
        """Path of the last image."""
        return self._snapshotter.statistics.last_path

    # ---------------------------------------------------------------------------------------------- taking one

    def fileno(self) -> int:
        """Readable when a snapshot has ended."""
        return self._snapshotter.fileno()

    def start(self) -> None:
        """Fork, and have the image written in the background.  Raises CommandError."""
        try:
            self._snapshotter.start()
        except SnapshotRunning:
            raise CommandError(ERRORS[ALREADY_SAVING]) from None
        except SnapshotError as error:
            self._failed(error)
            release_held(self._server.main, self.forks + 1)  # no client is held for a later snapshot than the next
            raise CommandError(f"ERR {error}") from error

    def start_due(self) -> None:
        """A due snapshot could not be begun: try again, to get the reason."""
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
        if self._server.in_transaction:  # an image must not hold half of a transaction
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
        r.IMAGE_UNDER_WAY = 0
        r.FROZEN_ROOTS -= 1
        self._ended_s = self._snapshotter.statistics.last_duration_s
        for warning in outcome.warnings:
            log.warning("%s", warning)
        if isinstance(outcome.error, Cancelled):
            log.info("Snapshot given up: %s", outcome.error)
            if release_held(self._server.main, 0):
                r.SAVE_WANTED = 1
            return
        release_held(self._server.main, self.forks)
        if outcome.error:
            self._failed(outcome.error)
            return
        r.DIRTY -= r.DIRTY_AT_FORK
        self._saved(int(outcome.finished_unix_s * 1_000_000) + int(r.WALL_SHIFT_US))
        r.LAST_SAVE_OK = 1
        self.refuse_writes()
        told = outcome.path, outcome.pages, self._ended_s, self.last_pause_us
        log.info("Snapshot %s is durable: %d pages, %.2f s; it stopped the clients for %.1f us", *told)

    def _saved(self, at_us: int) -> None:
        # The data are durable since `at_us` [Unix us]; save points count from now.
        read_clocks(self._server.main)
        self._registers.LAST_SAVE_MS = at_us // 1000
        self._registers.SAVED_MS = self._registers.TIMER_MS

    def _failed(self, error: SnapshotError) -> None:
        self._registers.LAST_SAVE_OK = 0
        self.refuse_writes()
        log.error("Snapshot failed: %s", error)

    def refuse_writes(self) -> None:
        """Set whether writes are refused, from the result of the last snapshot and the configuration."""
        config = self._server.config
        stop = config["stop-writes-on-bgsave-error"] and config["save"].points and not self.last_ok
        self._registers.WRITES_REFUSED = bool(stop)

    def cancel(self) -> None:
        """Give up the snapshot being written."""
        if self.running:
            self._snapshotter.cancel()

    def reconfigure(self) -> None:
        """Apply the configured directory and kind of fork.  Raises ValueError when they cannot change now."""
        config = self._server.config
        self._snapshotter.mode = MODES[config["fork-mode"]]
        directory, prefix = config["dir"], config["dbfilename"]
        images = self._snapshotter.images
        if (images.directory, images.prefix) != (Path(directory), prefix):
            self._move(directory, prefix)

    def _move(self, directory: str, prefix: str) -> None:
        if self.running:
            raise ValueError("a snapshot is being written")
        try:
            lock = ImageDirectory(directory, prefix).lock()
        except DirectoryInUse as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            raise ValueError(error.strerror) from error
        self._snapshotter.move(directory, prefix)
        self._lock.release()
        self._lock = lock

    def close(self) -> None:
        """End the writer's thread, giving up its image, and release the directory to other servers."""
        self._snapshotter.close()
        self._lock.release()

    # ---------------------------------------------------------------------------------------------- loading one

    def load(self, loading: Loading) -> None:
        """Replace the empty store by the image that has been read; keep the empty store if there is no image."""
        store = self._server.main
        images = self._snapshotter.images
        images.clean()
        image = loading.result()
        for refused in loading.preload.refused:
            log.warning("Image refused: %s", refused)
        if image is not None:
            empty(store.space)
            adopt(loading.preload, store.space, accept=accept_store)
            images.note_good(image.path, image.stamp)
            self._open()
            log.info("Loaded %s: %d keys, %.3f s", image.path, self.keys_loaded, loading.elapsed_s)
        self._saved(wall_us(self._registers))
        self._registers.DIRTY = 0

    def _open(self) -> None:
        heap_settle(self._server.main.space)
        code = keyspace_open(self._server.main)
        assert code == 0, "an image was accepted that has no store in it"
        self.keys_loaded = sum(one.keys for one in self._server.db_sizes())

    def reload(self, save: bool) -> None:
        """DEBUG RELOAD: empty the store and load the newest image; first take one if `save`.  Raises CommandError."""
        if save or self._registers.SAVE_WANTED:  # data that FLUSHALL has deleted must not come back
            self.run_and_wait()
        elif self.running:
            self._ended(self._snapshotter.wait())
        newest = self._snapshotter.images.newest()
        if newest is None:
            raise CommandError("ERR Error trying to load the RDB dump, check server logs.")
        context = self._server.main
        space = context.space
        old = int(reset(space))
        if old == NO_FRAME:
            raise CommandError("ERR no frame for an empty root")
        try:
            restore(newest.image.path, space, accept=accept_store)
            self._open()
        except SnapshotError as error:
            release_all(space.mem, zeros(int64, CURSOR_SIZE), load_cr3(space, old))
            log.error("Reload failed: %s", error)
            raise CommandError("ERR Error trying to load the RDB dump, check server logs.") from error
        release_root(context, old)
        follow_anew(context)
        self._registers.DIRTY = 0
