"""What can go wrong with a snapshot, each under a name of its own.

    SnapshotError
    ├── ImageError                 a file is not an image that can be used; `path` says which
    │   ├── Damaged                it is not what was written
    │   │   ├── NotAnImage         it does not begin as an image
    │   │   ├── HeaderCorrupt      the header page fails its checksum or contradicts itself
    │   │   ├── Truncated          it does not end as an image ends: cut short, or added to
    │   │   ├── TrailerCorrupt     the trailer fails its checksum or contradicts the file
    │   │   ├── ManifestCorrupt    the manifest fails its checksum or does not describe the file
    │   │   └── ChecksumMismatch   a chunk of pages is not what was written; `chunk`, `offset`
    │   ├── UnsupportedVersion     it is one, of a format this program does not read
    │   ├── ForeignImage           its pages are not what their owner can open: another layout, or another program's
    │   ├── NeedsParent            it holds only what changed since another image
    │   ├── NotAFile               a directory, a pipe, a device bears its name
    │   └── Unreadable             the operating system could not read it; `errno`
    ├── NoUsableImage              a directory has images and each was refused; `refused`
    ├── DirectoryInUse             another process has the images of this directory; `directory`
    ├── NoDirectory                a directory that is not there, and is not made; `directory`
    ├── RestoreError               the image is good, and there is no place for it
    │   ├── OutOfFrames            more pages than free frames
    │   └── SpaceNotEmpty          the address space already maps something
    ├── SnapshotFailed             a snapshot was not made; `step`, and the reason in words
    │   ├── ForkFailed             no frames for the tables that a fork copies
    │   ├── WriteFailed            a file operation failed; `errno`
    │   └── Cancelled              the owner asked for it
    ├── SnapshotRunning            one is being written already
    └── BadSavePoints              save points that cannot be parsed

An exception that is none of these is a bug.
"""

from collections.abc import Sequence
from pathlib import Path


class SnapshotError(Exception):
    """Base of all errors of this package."""


class ImageError(SnapshotError):
    """A file is not an image that can be used."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class Damaged(ImageError):
    """The file is not what was written."""


class NotAnImage(Damaged):
    """The file does not begin as an image begins."""


class UnsupportedVersion(ImageError):
    """An image of a format version that this program does not read."""

    def __init__(self, path: str | Path, version: int, supported: int) -> None:
        super().__init__(path, f"format version {version}; this program reads version {supported}")
        self.version = version


class HeaderCorrupt(Damaged):
    """The header page fails its checksum or contradicts itself."""


class Truncated(Damaged):
    """The file does not end as an image ends."""


class TrailerCorrupt(Damaged):
    """The trailer fails its checksum or contradicts the file."""


class ManifestCorrupt(Damaged):
    """The manifest fails its checksum or does not describe the file."""


class ChecksumMismatch(Damaged):
    """A chunk of pages is not what was written."""

    def __init__(self, path: str | Path, chunk: int, offset: int, length: int) -> None:
        super().__init__(path, f"chunk {chunk} ({length} bytes at offset {offset}) fails its checksum")
        self.chunk = chunk
        self.offset = offset


class ForeignImage(ImageError):
    """The pages are not what their owner can open."""


class NeedsParent(ImageError):
    """The image holds only what changed since another one, and nothing here reads two as one."""

    def __init__(self, path: str | Path, parent: bytes) -> None:
        super().__init__(path, f"it holds only what changed since image {parent.hex()}, and is nothing without that")
        self.parent = parent


class NotAFile(ImageError):
    """Something that is no regular file bears an image's name."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "it is no regular file")


class Unreadable(ImageError):
    """The operating system could not read the file."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        super().__init__(path, error.strerror or str(error))
        self.errno = error.errno


class NoUsableImage(SnapshotError):
    """A directory has images and every one was refused."""

    def __init__(self, directory: str | Path, refused: Sequence[ImageError]) -> None:
        super().__init__(f"no usable image in {directory}: " + "; ".join(str(one) for one in refused))
        self.directory = Path(directory)
        self.refused = list(refused)


class DirectoryInUse(SnapshotError):
    """Another process has the images of this directory."""

    def __init__(self, directory: str | Path, prefix: str) -> None:
        super().__init__(f"another server keeps its images in {directory} as {prefix}-*: two would delete each other's")
        self.directory = Path(directory)


class NoDirectory(SnapshotError):
    """A directory that is not there, and is not made."""

    def __init__(self, directory: str | Path, reason: str) -> None:
        super().__init__(f"Can't chdir to '{directory}': {reason}")
        self.directory = Path(directory)


class RestoreError(SnapshotError):
    """The image is good, and there is no place for it."""


class OutOfFrames(RestoreError):
    """The image has more pages than the memory has free frames."""


class SpaceNotEmpty(RestoreError):
    """The address space already maps something."""


class SnapshotFailed(SnapshotError):
    """A snapshot was not made; nothing of it is left on disk."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class ForkFailed(SnapshotFailed):
    """No frames for the page tables that the fork copies."""


class WriteFailed(SnapshotFailed):
    """A file operation failed."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step, error.strerror or str(error))
        self.errno = error.errno


class Cancelled(SnapshotFailed):
    """The owner asked for the snapshot to be given up."""


class SnapshotRunning(SnapshotError):
    """A snapshot is being written already."""


class BadSavePoints(SnapshotError, ValueError):
    """Save points that cannot be parsed."""
