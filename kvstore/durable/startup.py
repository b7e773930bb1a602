"""What can begin before the server is imported: reading the newest image.

Importing the server takes most of a start, on one processor.  The image's pages are meanwhile read into what will be
the physical memory, by threads that need nothing but the operating system.  So this module imports little.

Before anything is read the directory's images are locked for this process: another server on the same ones would delete
them, and be deleted from.  A directory that is not there is made only where its parent is, and the log says so: a path
with a typo must not look like data that are lost.
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
    """The images of a server: locked for it, the newest on its way into memory."""

    lock: DirectoryLock
    preload: Preload


def open_images(config: Config, files: Files | None = None) -> Opened:
    """Lock the configured directory's images and begin to read the newest.

    Raises NoDirectory, DirectoryInUse, Unreadable; and MemoryError, with a hint, where not even the least memory can be
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
    """Make the directory if it is missing, durably; whether it was.  Raises NoDirectory."""
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
