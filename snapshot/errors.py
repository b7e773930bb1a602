"""The errors of this package: one class for each kind of failure.

    SnapshotError
    ├── ImageError                 a file is not a usable image; `path` names it
    │   ├── Damaged                the contents are not those that were written
    │   │   ├── NotAnImage         the file does not begin like an image
    │   │   ├── HeaderCorrupt      the header page fails its checksum or contradicts itself
    │   │   ├── Truncated          the file does not end like an image: data are missing, or were appended
    │   │   ├── TrailerCorrupt     the trailer fails its checksum or contradicts the file
    │   │   ├── ManifestCorrupt    the manifest fails its checksum or does not describe the file
    │   │   └── ChecksumMismatch   a chunk of pages fails its checksum; `chunk`, `offset`
    │   ├── UnsupportedVersion     an image of a format version that this program does not read
    │   ├── ForeignImage           the owner cannot open the pages: another layout, or another program's image
    │   ├── NeedsParent            it holds only the changes since another image
    │   ├── NotAFile               the name is that of a directory, a pipe or a device
    │   └── Unreadable             the operating system could not read it; `errno`
    ├── NoUsableImage              a directory has images, but all were refused; `refused`
    ├── DirectoryInUse             another process owns the images of this directory; `directory`
    ├── NoDirectory                the directory does not exist, and is not created; `directory`
    ├── RestoreError               the image is good, but there is no room for it
    │   ├── OutOfFrames            more pages than free frames
    │   └── SpaceNotEmpty          the address space already maps something
    ├── SnapshotFailed             a snapshot was not completed; `step`, and the reason in words
    │   ├── ForkFailed             no frames for the tables that a fork copies
    │   ├── WriteFailed            a file operation failed; `errno`
    │   └── Cancelled              the owner cancelled it
    ├── SnapshotRunning            a snapshot is already being written
    └── BadSavePoints              save points that cannot be parsed

Any other exception is a bug.
"""

from collections.abc import Sequence
from pathlib import Path


class SnapshotError(Exception):
    """Base of all errors of this package."""


class ImageError(SnapshotError):
    """A file is not a usable image."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class Damaged(ImageError):
    """The contents of the file are not those that were written."""


class NotAnImage(Damaged):
    """The file does not begin like an image."""


class UnsupportedVersion(ImageError):
    """The image has a format version that this program does not read."""

    def __init__(self, path: str | Path, version: int, supported: int) -> None:
        super().__init__(path, f"format version {version}; this program reads version {supported}")
        self.version = version


class HeaderCorrupt(Damaged):
    """The header page fails its checksum or contradicts itself."""


class Truncated(Damaged):
    """The file does not end like an image."""


class TrailerCorrupt(Damaged):
    """The trailer fails its checksum or contradicts the file."""


class ManifestCorrupt(Damaged):
    """The manifest fails its checksum or does not describe the file."""


class ChecksumMismatch(Damaged):
    """A chunk of pages fails its checksum."""

    def __init__(self, path: str | Path, chunk: int, offset: int, length: int) -> None:
        super().__init__(path, f"chunk {chunk} ({length} bytes at offset {offset}) fails its checksum")
        self.chunk = chunk
        self.offset = offset


class ForeignImage(ImageError):
    """The owner of the pages cannot open the image."""


class NeedsParent(ImageError):
    """The image holds only the changes since another one; this package cannot combine the two."""

    def __init__(self, path: str | Path, parent: bytes) -> None:
        super().__init__(path, f"it holds only what changed since image {parent.hex()}, and is nothing without that")
        self.parent = parent


class NotAFile(ImageError):
    """An image's name belongs to something that is not a regular file."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "it is no regular file")


class Unreadable(ImageError):
    """The operating system could not read the file."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        super().__init__(path, error.strerror or str(error))
        self.errno = error.errno


class NoUsableImage(SnapshotError):
    """A directory has images, but all were refused."""

    def __init__(self, directory: str | Path, refused: Sequence[ImageError]) -> None:
        super().__init__(f"no usable image in {directory}: " + "; ".join(str(one) for one in refused))
        self.directory = Path(directory)
        self.refused = list(refused)


class DirectoryInUse(SnapshotError):
    """Another process owns the images of this directory."""

    def __init__(self, directory: str | Path, prefix: str) -> None:
        super().__init__(f"another server keeps its images in {directory} as {prefix}-*: two would delete each other's")
        self.directory = Path(directory)


class NoDirectory(SnapshotError):
    """The directory does not exist, and is not created."""

    def __init__(self, directory: str | Path, reason: str) -> None:
        super().__init__(f"Can't chdir to '{directory}': {reason}")
        self.directory = Path(directory)


class RestoreError(SnapshotError):
    """The image is good, but there is no room for it."""


class OutOfFrames(RestoreError):
    """The image has more pages than the memory has free frames."""


class SpaceNotEmpty(RestoreError):
    """The address space already maps something."""


class SnapshotFailed(SnapshotError):
    """A snapshot was not completed; nothing of it is left on disk."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


class ForkFailed(SnapshotFailed):
    """There are no frames for the page tables that the fork copies."""


class WriteFailed(SnapshotFailed):
    """A file operation failed."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step, error.strerror or str(error))
        self.errno = error.errno


class Cancelled(SnapshotFailed):
    """The owner cancelled the snapshot."""


class SnapshotRunning(SnapshotError):
    """A snapshot is already being written."""


class BadSavePoints(SnapshotError, ValueError):
    """Save points that cannot be parsed."""
