"""The images of a directory.

    dump-0000000042.kvimg                    an image; the number rises by one with each
    .dump-0000000043.kvimg.7f3a91c0.tmp      one being written, locked by its writer for as long as it lives

A number orders them, not a clock, which may be set back.  An image gets its name only when it is complete and durable,
so whatever bears such a name was once whole; a temporary file is never looked at as an image.  One that nobody has
locked was left by a process that died, and `clean` removes it.

The newest image that verifies is the one to start from.  An image refused on the way there is reported, never passed
over in silence; when all are refused, NoUsableImage is raised, so that nobody starts empty over data it cannot read.
"""

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from snapshot.errors import ImageError, NoUsableImage, Unreadable
from snapshot.files import Files
from snapshot.image import Image
from snapshot.reader import Progress, verify

PREFIX = "dump"
SUFFIX = ".kvimg"
TEMPORARY_SUFFIX = ".tmp"
DIGITS = 10


class Entry(NamedTuple):
    """An image by name: not opened yet."""

    sequence: int
    path: Path


@dataclass
class Newest:
    """The newest image that verifies, and what was refused before it was found."""

    image: Image
    refused: list[ImageError] = field(default_factory=list)


class ImageDirectory:
    """The images in one directory under one prefix."""

    def __init__(self, directory: str | Path, prefix: str = PREFIX, files: Files | None = None) -> None:
        if not prefix or "/" in prefix or "\0" in prefix or prefix.startswith("."):
            raise ValueError(f"{prefix!r} cannot begin the name of a file")
        self.directory = Path(directory)
        self.prefix = prefix
        self.files = files or Files()
        self._final = re.compile(rf"{re.escape(prefix)}-(\d+){re.escape(SUFFIX)}", re.ASCII)
        self._temporary = re.compile(
            rf"\.{re.escape(prefix)}-\d+{re.escape(SUFFIX)}\.[0-9a-f]+{re.escape(TEMPORARY_SUFFIX)}", re.ASCII
        )

    def __repr__(self) -> str:
        return f"<images {self.directory / self.prefix}-*{SUFFIX}>"

    def path_of(self, sequence: int) -> Path:
        """Where the image of that number is, or will be."""
        return self.directory / f"{self.prefix}-{sequence:0{DIGITS}}{SUFFIX}"

    def temporary_path(self, sequence: int) -> Path:
        """A name of its own for an image that is being written."""
        return self.directory / f".{self.path_of(sequence).name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"

    def entries(self) -> list[Entry]:
        """The images, newest first; none if there is no such directory.  Raises Unreadable."""
        found = []
        for name in self._names():
            match = self._final.fullmatch(name)
            if match:
                found.append(Entry(int(match[1]), self.directory / name))
        return sorted(found, reverse=True)

    def next_sequence(self) -> int:
        """One more than the newest image's."""
        entries = self.entries()
        return entries[0].sequence + 1 if entries else 1

    def clean(self) -> list[Path]:
        """Remove what processes that died while writing have left; returns what went."""
        removed = []
        for name in self._names():
            path = self.directory / name
            if self._temporary.fullmatch(name) and self.files.remove_abandoned(path):
                removed.append(path)
        return removed

    def prune(self, keep: int) -> list[Path]:
        """Remove all but the `keep` newest images; returns what went.  Raises OSError."""
        assert keep >= 1, keep
        removed = []
        for entry in self.entries()[keep:]:
            self.files.remove(entry.path)
            removed.append(entry.path)
        return removed

    def newest(self, progress: Progress | None = None) -> Newest | None:
        """The newest image that verifies, every byte of it; None if there is no image at all.

        Raises NoUsableImage, which says why each was refused.
        """
        refused: list[ImageError] = []
        for entry in self.entries():
            try:
                return Newest(verify(entry.path, progress, files=self.files), refused)
            except ImageError as error:
                refused.append(error)
        if refused:
            raise NoUsableImage(self.directory, refused)
        return None

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
