"""BRANCH SAVE: an image of any named store, by a name of its own, written while everyone goes on.

    BRANCH SAVE mine experiment         dir/experiment-0000000001.kvimg
    kvstore serve --dbfilename experiment    starts from it

The images of the main store are persistence.py's affair, and this module never writes among them: their name is locked.
One save is written at a time, by a thread that is started with the first.  The client waits for its end, as one whose
command blocks does; other clients go on.  If it leaves, the image is written all the same.  A save that fails leaves
the last good image of that name, and the log has the reason.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes import pool
from kvstore.lifetimes.context import Context
from kvstore.store.flush import release_root
from kvstore.wire.errors import ALREADY_SAVING, ERRORS
from kvstore.wire.reply import CommandError
from mmcore.errors import NO_FRAME
from mmcore.fork import CONSTANT, fork
from mmcore.heap import ZEROS
from mmcore.state import EPOCH
from snapshot.directory import DirectoryLock, ImageDirectory
from snapshot.errors import DirectoryInUse
from snapshot.frozen import FrozenSpace
from snapshot.writer import Job, Writer

log = logging.getLogger("kvstore")


class _UnderWay(NamedTuple):
    name: str
    frozen: FrozenSpace
    lock: DirectoryLock
    ended: Callable[[bool], None]


class Exports:
    """The saves of named stores.  `main` is the context of the main store."""

    def __init__(self, main: Context, watch: Callable[[int], None]) -> None:
        """watch: lets the loop wake when a descriptor becomes readable."""
        self._main, self._watch = main, watch
        self._writer: Writer | None = None
        self._under_way: _UnderWay | None = None

    def start(self, context: Context, name: str, directory: str, file: str, ended: Callable[[bool], None]) -> None:
        """Fork the store of `context`, and begin to write its image.  Raises CommandError.

        name: the store's, for the log.  ended: is called in the owner's thread with whether the image is durable.
        """
        if self._under_way:
            raise CommandError(ERRORS[ALREADY_SAVING])
        try:
            images = ImageDirectory(directory, file, accept=accept_store)
            lock = images.lock()
        except (ValueError, DirectoryInUse) as error:
            raise CommandError(f"ERR {error}") from error
        except OSError as error:
            raise CommandError(f"ERR {directory}: {error.strerror}") from error
        root = int(fork(context.space, CONSTANT))
        if root == NO_FRAME:
            lock.release()
            raise CommandError("OOM no frame is left for a fork")
        self._main.pool[pool.LENT_ROOTS] += 1
        if self._writer is None:
            self._writer = Writer(directory, file, memory=context.space.mem)
            self._watch(self._writer.fileno())
        self._writer.images = images
        frozen = FrozenSpace(context.space.mem, root, ZEROS)
        self._under_way = _UnderWay(name, frozen, lock, ended)
        self._writer.submit(Job(frozen, lambda: describe_store(frozen), epoch=int(context.space.cpu[EPOCH]) - 1))
        log.info("Saving %s as %s", name, images.path_of(images.next_sequence()))

    def poll(self) -> None:
        """Take note of a save that has ended."""
        outcome = self._writer.take() if self._writer else None
        if outcome is None:
            return
        name = self._finish(outcome.ok).name
        for warning in outcome.warnings:
            log.warning("%s", warning)
        if outcome.error:
            log.error("Saving %s failed: %s", name, outcome.error)
        else:
            log.info("%s is durable: %d pages of %s", outcome.path, outcome.pages, name)

    def _finish(self, ok: bool) -> _UnderWay:
        one, self._under_way = self._under_way, None
        assert one is not None, "nothing was being saved"
        one.lock.release()
        release_root(self._main, one.frozen.root)
        self._main.pool[pool.LENT_ROOTS] -= 1
        one.ended(ok)
        return one

    def close(self) -> None:
        """Give up a save that is being written, and end the thread."""
        if self._writer:
            self._writer.close()
        if self._under_way:
            self._finish(False)
