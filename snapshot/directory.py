"""The images of a directory: finding the newest, keeping the right ones, and locking out other processes.

    dump-0000000042.kvimg                    an image; each new one has the next number
    dump-0000000041.kvimg.damaged            an image that was found damaged and set aside
    .dump-0000000043.kvimg.7f3a91c0.tmp      an image being written; its writer holds a lock on it
    .dump.lock                               the lock file of the process that owns these images

Numbers order the images, because a clock may be set back.  An image gets its name only when it is complete and durable,
so every file with such a name was complete once.  A temporary file is never opened as an image.  A temporary file
without a lock was left by a process that died; `clean` removes it.

A start loads the newest image that verifies and that the owner of the pages can open.  Every image refused on the way
is reported.  If all are refused, NoUsableImage is raised: no program shall start empty over data that it cannot read.

Only good images count, not names.  An image is good if this process wrote it, or verified every byte of it, and the
file has not changed since.  An unknown image is read whole before it may count.

    an image that is        in `retain`, once a newer one is durable        in `make_room`, for a disk that is full
    good                    counts; beyond `keep` it is removed             is removed, unless it is the newest good one
    damaged                 is set aside, with `.damaged` behind its name   stays
    anything else           stays, and does not count                       stays

Anything else is an image that this process cannot judge: it has another version or layout, it needs a parent, it is not
a regular file, or it cannot be read.  Another program may be able to open it, so it is never removed here.  A damaged
image may hold the newest data, so it is not removed either; its number is not used again.
"""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from snapshot.errors import Damaged, DirectoryInUse, ImageError, NoUsableImage, Unreadable
from snapshot.files import Files, Stamp
from snapshot.image import Accept, Image, accept_any, open_image, page_reader, require
from snapshot.reader import PageReader, Progress

PREFIX = "dump"
SUFFIX = ".kvimg"
DAMAGED_SUFFIX = ".damaged"
TEMPORARY_SUFFIX = ".tmp"
LOCK_SUFFIX = ".lock"
DIGITS = 10
_NO_LOCKS = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP}


class Entry(NamedTuple):
    """The name and number of an image that has not been opened."""

    sequence: int
    path: Path


@dataclass
class Newest:
    """The newest image that verifies, and the errors of the newer ones that were refused."""

    image: Image
    refused: list[ImageError] = field(default_factory=list)


@dataclass
class Kept:
    """The result of `retain`."""

    removed: list[Path] = field(default_factory=list)
    set_aside: list[Damaged] = field(default_factory=list)


class DirectoryLock:
    """This process's exclusive right to the images of one directory under one prefix."""

    def __init__(self, fd: int, path: Path, files: Files) -> None:
        self.path = path
        self._fd, self._files = fd, files

    @property
    def held(self) -> bool:
        """Whether there is a lock; False on a file system without locks, and after `release`."""
        return self._fd >= 0

    def release(self) -> None:
        """Release the lock, so that another process may take the images."""
        if self._fd >= 0:
            self._files.unlock(self._fd, self.path)
        self._fd = -1


class ImageDirectory:
    """The images in one directory under one prefix; `accept` decides which of them their owner can open."""

    def __init__(
        self,
        directory: str | Path,
        prefix: str = PREFIX,
        files: Files | None = None,
        accept: Accept = accept_any,
    ) -> None:
        if not prefix or "/" in prefix or "\0" in prefix or prefix.startswith("."):
            raise ValueError(f"{prefix!r} cannot begin the name of a file")
        self.directory = Path(directory)
        self.prefix = prefix
        self.files = files or Files()
        self.accept = accept
        self._good: dict[Path, Stamp] = {}
        image = rf"{re.escape(prefix)}-(\d+){re.escape(SUFFIX)}"
        self._final = re.compile(image, re.ASCII)
        self._damaged = re.compile(image + re.escape(DAMAGED_SUFFIX), re.ASCII)
        self._temporary = re.compile(rf"\.{image}\.[0-9a-f]+{re.escape(TEMPORARY_SUFFIX)}", re.ASCII)

    def __repr__(self) -> str:
        return f"<images {self.directory / self.prefix}-*{SUFFIX}>"

    # --- names ---

    def path_of(self, sequence: int) -> Path:
        """The path of the image with that number, which need not exist yet."""
        return self.directory / f"{self.prefix}-{sequence:0{DIGITS}}{SUFFIX}"

    def temporary_path(self, sequence: int) -> Path:
        """A unique temporary name for an image that is being written."""
        return self.directory / f".{self.path_of(sequence).name}.{os.urandom(4).hex()}{TEMPORARY_SUFFIX}"

    def entries(self) -> list[Entry]:
        """The images, newest first; none if there is no such directory.  Raises Unreadable."""
        found = []
        for name in self._names():
            match = self._final.fullmatch(name)
            if match:
                found.append(Entry(int(match[1]), self.directory / name))
        return sorted(found, reverse=True)

    def next_sequence(self) -> int:
        """One more than the highest number of any image, including those set aside."""
        matches = (self._final.fullmatch(name) or self._damaged.fullmatch(name) for name in self._names())
        return max((int(match[1]) for match in matches if match), default=0) + 1

    def clean(self) -> list[Path]:
        """Remove the temporary files of processes that died while writing.  Returns the paths removed."""
        removed = []
        for name in self._names():
            path = self.directory / name
            if self._temporary.fullmatch(name) and self.files.remove_abandoned(path):
                removed.append(path)
        return removed

    def lock(self) -> DirectoryLock:
        """Take the images for this process.  Raises DirectoryInUse, and OSError without a directory.

        If the directory is read-only, or the file system has no locks, it continues without a lock.
        """
        path = self.directory / f".{self.prefix}{LOCK_SUFFIX}"
        try:
            return DirectoryLock(self.files.lock(path), path, self.files)
        except BlockingIOError:
            raise DirectoryInUse(self.directory, self.prefix) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return DirectoryLock(-1, path, self.files)

    # --- which are good ---

    def newest(self, progress: Progress | None = None) -> Newest | None:
        """The newest image of which every byte verifies; None if there is no image at all.

        Raises NoUsableImage, which tells why each was refused.
        """
        refused: list[ImageError] = []
        for entry in self.entries():
            try:
                return Newest(self._verified(entry.path, progress), refused)
            except ImageError as error:
                refused.append(error)
        if refused:
            raise NoUsableImage(self.directory, refused)
        return None

    def note_good(self, path: Path, stamp: Stamp) -> None:
        """Record that this process has written the file with this stamp, or verified every byte of it."""
        self._good[path] = stamp

    def retain(self, keep: int, progress: Progress | None = None) -> Kept:
        """Keep the `keep` newest good images, remove older good ones, set damaged ones aside.

        Raises OSError.  An exception from `progress` ends it too.
        """
        assert keep >= 1, keep
        kept, good = Kept(), 0
        for entry in self.entries():
            try:
                if good < keep:
                    self._make_sure(entry.path, progress)
                    good += 1
                    continue
                self._look_at(entry.path)
            except Damaged as error:
                self.files.rename(entry.path, entry.path.with_name(entry.path.name + DAMAGED_SUFFIX))
                kept.set_aside.append(error)
            except ImageError:
                pass  # this process cannot judge it, so it stays
            else:
                self._remove(entry.path)
                kept.removed.append(entry.path)
        return kept

    def make_room(self, progress: Progress | None = None) -> Path | None:
        """Durably remove the oldest image that a newer good one makes dispensable.  None if there is none.

        Raises OSError.  An exception from `progress` ends it too.
        """
        entries = self.entries()
        newest_good = next((i for i, one in enumerate(entries) if self._passes(self._make_sure, one, progress)), None)
        if newest_good is None:
            return None
        for entry in reversed(entries[newest_good + 1 :]):
            if self._passes(lambda path, _progress: self._look_at(path), entry, progress):
                self._remove(entry.path)
                self.files.sync_directory(self.directory)
                return entry.path
        return None

    def _passes(self, check: Callable[[Path, Progress | None], None], entry: Entry, progress: Progress | None) -> bool:
        try:
            check(entry.path, progress)
        except ImageError:
            return False
        return True

    def _make_sure(self, path: Path, progress: Progress | None) -> None:
        """Verify that the image is good; raises an ImageError if not."""
        try:
            if self._good.get(path) == self.files.stamp(path):
                return
        except OSError as error:
            raise Unreadable(path, error) from error
        self._verified(path, progress)

    def _verified(self, path: Path, progress: Progress | None) -> Image:
        fd, image = self._open(path)
        PageReader(fd, image, files=self.files).start().join(progress)
        self.note_good(path, image.stamp)
        return image

    def _look_at(self, path: Path) -> None:
        """Verify, without reading the pages, that this process can open the image; raises an ImageError if not."""
        fd, _image = self._open(path)
        self.files.close(fd)

    def _open(self, path: Path) -> tuple[int, Image]:
        fd, image = open_image(path, self.files)
        try:
            require(image, self.accept, page_reader(fd, image, self.files))
        except BaseException:
            self.files.close(fd)
            raise
        return fd, image

    def _remove(self, path: Path) -> None:
        self.files.remove(path)
        self._good.pop(path, None)

    def _names(self) -> list[str]:
        try:
            return self.files.names(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unreadable(self.directory, error) from error


def newest(directory: str | Path, prefix: str = PREFIX, progress: Progress | None = None) -> Newest | None:
    """See ImageDirectory.newest."""
    return ImageDirectory(directory, prefix).newest(progress)
