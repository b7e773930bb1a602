"""Work that can begin before the server is imported: reading the newest image.

Importing the server takes most of a start, on one processor.  Meanwhile threads that need nothing but the operating
system read the image's pages into the future physical memory.  So this module imports little.

Before it reads anything, it locks the directory's images for this process: two servers on the same images would delete
each other's.  A missing directory is made only if its parent exists, and that is logged, so that a typo in the path
does not look like lost data.
"""

import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from kvstore.config.config import Config
from kvstore.system.capacity import memory_to_reserve
from snapshot.directory import DirectoryLock, ImageDirectory
from snapshot.errors import NoDirectory
from snapshot.files import Files
from snapshot.preload import Preload

log = logging.getLogger("kvstore")


@dataclass
class Opened:
    """The images of a server, locked for it; the newest is being read into memory."""

    lock: DirectoryLock
    preload: Preload


def open_images(config: Config, files: Files | None = None) -> Opened:
    """Lock the configured directory's images and begin to read the newest.

    Raises NoDirectory, DirectoryInUse, Unreadable; and MemoryError, with a hint, if not even the least memory can be
    reserved.
    """
    files = files or Files()
    directory, prefix = Path(config["dir"]), config["dbfilename"]
    if make_directory(directory, files):
        log.warning("Created the directory %s. It is empty: the server starts without data", directory)
    images = ImageDirectory(directory, prefix, files)
    lock = images.lock()
    if not lock.held:
        log.warning("%s cannot be locked; see to it that no other server uses it", directory)
    if (directory / f"{prefix}.rdb").exists():
        log.warning("%s.rdb is Redis's and is not read; the images of this server are %s-*.kvimg", prefix, prefix)
    try:
        preload = Preload(images, memory_to_reserve(config["machine-memory"]))
    except BaseException:
        lock.release()
        raise
    return Opened(lock, preload)


def make_directory(directory: Path, files: Files) -> bool:
    """Make the directory, durably, if it is missing; returns whether it was missing.  Raises NoDirectory."""
    if directory.is_dir():
        return False
    try:
        files.make_directory(directory)
        files.sync_directory(directory.parent)
    except FileExistsError:
        raise NoDirectory(directory, os.strerror(errno.ENOTDIR)) from None
    except OSError as error:
        raise NoDirectory(directory, error.strerror or str(error)) from error
    return True
