r"""The image: the file format of an address space, and a reader that checks everything but the pages.

An image holds the unchanged pages of a frozen address space in ascending order of addresses.  The pages are aligned in
the file, so one read or one mapping loads a run of pages.  Numbers are little-endian; checksums are XXH3 (64 bits).

    OFFSET        SIZE      DESCRIPTION
    0             4096      header page
    4096          4096 * P  the P pages, one after the other
    4096 + 4096P  M         manifest, a msgpack map
    ... + M       64        trailer, the end of the file

Header page.  It is written first, so it holds only data that are known before any page is read:

    OFFSET  SIZE  DESCRIPTION
    0       8     magic 89 "MMIMG" 0D 0A (a transfer that mangles line ends or the high bit breaks it)
    8       4     format version, 1 or 2
    12      4     page size, 4096
    16      4     chunk size: how many bytes of pages are under one checksum; a multiple of the page size
    20      4     zero
    24      16    identity of this image, random
    40      4048  zero
    4088    8     checksum of bytes 0 .. 4087

Pages.  They are divided into chunks of the chunk size; the last one may be shorter.  The manifest has the checksum of
each chunk.

Manifest.  A map with exactly these keys:

    KEY             TYPE       DESCRIPTION
    version         int        as in the header
    id              16 bytes   as in the header
    parent          16 bytes   identity of the image of which this one holds only the changes; nil: it holds everything
    epoch           int        the machine's epoch that the fork ended
    root            int        frame that held the frozen root, for the record
    forked_unix_us  int        when it was forked [microseconds of Unix time]
    pages           int        P
    runs            bytes      16 per run, ascending: address of its first page, how many pages
    chunks          bytes      8 per chunk: its checksum
    metadata        map        the owner's own words

Version 2 has three more.  An image has version 2 if it has repeats, and otherwise version 1, which older readers know.

    repeated        int        address of the one page that the repeats map again; it is in `runs`
    repeats         bytes      as `runs`; these pages have no bytes in the file, and are in no run of `runs`
    repetitions     int        how many pages the repeats have

Trailer.  A reader starts here:

    OFFSET  SIZE  DESCRIPTION
    0       8     magic "MMIMGEND"
    8       8     offset of the manifest
    16      8     length of the manifest
    24      8     checksum of the manifest
    32      16    identity, as in the header
    48      8     length of the file
    56      8     checksum of bytes 8 .. 55

Worked example: a page of "A" at 0x10000000, one of "B" after it, one of "C" at 0x8000000000; identity 00 01 .. 0F,
epoch 1, root 7, forked at 1700000000000000, no metadata.

    0000  89 4d 4d 49 4d 47 0d 0a 01 00 00 00 00 10 00 00   magic, version 1, pages of 4096 bytes
    0010  00 00 40 00 00 00 00 00 00 01 02 03 04 05 06 07   chunks of 4 MiB, zero, identity
    0020  08 09 0a 0b 0c 0d 0e 0f                           .. identity
    1000  41 41 41 41 41 41 41 41                           the page of 0x10000000
    2000  42 42 42 42 42 42 42 42                           the page of 0x10001000
    3000  43 43 43 43 43 43 43 43                           the page of 0x8000000000
    4000  8a                                                the manifest, a map of 10 entries, 0x95 bytes; in it:
    405a  00 00 00 10 00 00 00 00 02 00 00 00 00 00 00 00   runs: 0x10000000, 2 pages;
    406a  00 00 00 00 80 00 00 00 01 00 00 00 00 00 00 00   .. 0x8000000000, 1 page
    4095  4d 4d 49 4d 47 45 4e 44 00 40 00 00 00 00 00 00   the trailer: magic, offset of the manifest
    40a5  95 00 00 00 00 00 00 00 e6 66 b4 1d df 96 7c c5   .. its length and checksum
    40b5  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f   .. identity
    40c5  d5 40 00 00 00 00 00 00 3f fd 05 6c 6b 45 81 80   .. length of the file, checksum of this

Trust.  A reader may trust nothing before `open_image` returns, and then everything but the pages.  It may trust a page
only after `Image.check_chunk` has passed for its chunk.  Metadata can be any msgpack map: their owner checks them.

The version changes if a reader of the old version would misread the new one.  It does not cover the contents of the
pages: the owner's metadata identify their layout.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgpack
import xxhash

from mmcore.jit import Array, Table, int64, over, uint64
from mmcore.restore import NO_LENGTH, NO_PAGE, NOT_APART, check_runs
from snapshot.errors import (
    ChecksumMismatch,
    ForeignImage,
    HeaderCorrupt,
    ManifestCorrupt,
    NeedsParent,
    NotAFile,
    NotAnImage,
    TrailerCorrupt,
    Truncated,
    Unreadable,
    UnsupportedVersion,
)
from snapshot.files import Files, Stamp

MAGIC = b"\x89MMIMG\r\n"
END_MAGIC = b"MMIMGEND"
PLAIN, REPEATING = 1, 2  # format versions
PAGE_SIZE = 4096
CHUNK_SIZE = 4 << 20  # the default of writers; readers use the size in the header
CHUNK_SIZE_MAX = 1 << 30
ID_SIZE = 16
DATA_OFFSET = PAGE_SIZE
METADATA_MAX = 16 << 20  # [bytes] of a manifest beside its runs and checksums; keeps a reader's memory in bounds
RUNS_MAX = PAGE_SIZE  # [bytes] of runs, repeats and checksums in a manifest, for each page

_HEADER = struct.Struct("<8sIIII16s")
_CHECKSUM = struct.Struct("<Q")
_TRAILER = struct.Struct("<8sQQQ16sQQ")
TRAILER_SIZE = _TRAILER.size
assert PAGE_SIZE % _CHECKSUM.size == 0 and CHUNK_SIZE % PAGE_SIZE == 0 and TRAILER_SIZE == 64

_MANIFEST_TYPES: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "id": (bytes,),
    "parent": (bytes, type(None)),
    "epoch": (int,),
    "root": (int,),
    "forked_unix_us": (int,),
    "pages": (int,),
    "runs": (bytes,),
    "chunks": (bytes,),
    "metadata": (dict,),
}
_REPEATING_TYPES = {**_MANIFEST_TYPES, "repeated": (int,), "repeats": (bytes,), "repetitions": (int,)}

checksum = xxhash.xxh3_64_intdigest
"""XXH3 of a buffer; releases the GIL for a large one."""


@dataclass(frozen=True)
class Repeats:
    """Pages that share the memory of one page, the one at address `page`."""

    page: int
    runs: Table  # int64[R, 2]   address of the first page, number of pages; ascending, apart


@dataclass(frozen=True)
class Image:
    """The contents of an image's header, manifest and trailer."""

    path: Path
    id: bytes
    version: int
    chunk_size: int
    parent: bytes | None
    epoch: int
    root: int
    forked_unix_us: int
    pages: int
    runs: Table  # int64[R, 2]   address of the first page, number of pages; ascending, apart
    checksums: Array  # uint64[C]
    metadata: dict[Any, Any]
    file_size: int
    stamp: Stamp  # of the file it was read from
    repeats: Repeats | None = None

    @property
    def data_size(self) -> int:
        """The size of all pages [bytes]."""
        return self.pages * PAGE_SIZE

    @property
    def chunk_count(self) -> int:
        """The number of chunks."""
        return len(self.checksums)

    def chunk_extent(self, chunk: int) -> tuple[int, int]:
        """A chunk's offset from the first page, and its length [bytes]."""
        offset = chunk * self.chunk_size
        return offset, min(self.chunk_size, self.data_size - offset)

    def check_chunk(self, chunk: int, data: memoryview | bytes) -> None:
        """Raise ChecksumMismatch unless `data` has the checksum of this chunk."""
        offset, length = self.chunk_extent(chunk)
        if len(data) != length or checksum(data) != int(self.checksums[chunk]):
            raise ChecksumMismatch(self.path, chunk, DATA_OFFSET + offset, length)

    def file_runs(self) -> Iterator[tuple[int, int, int]]:
        """Each run as (address, pages, offset in the file)."""
        offset = DATA_OFFSET
        for address, pages in self.runs.tolist():
            yield address, pages, offset
            offset += pages * PAGE_SIZE

    @cached_property
    def mapped(self) -> Table:
        """The runs of all pages, repeats included."""
        return Table.of(sorted(self.runs.tolist() + self.repeats.runs.tolist()), 2) if self.repeats else self.runs

    def page_number(self, address: int) -> int:
        """The number of the page at `address`, in the order of the file; -1 if there is none."""
        run = bisect_right(self._run_firsts, address) - 1
        if run < 0:
            return -1
        page = (address - self.runs[run, 0]) // PAGE_SIZE
        return self._run_numbers[run] + page if page < self.runs[run, 1] else -1

    @cached_property
    def _run_firsts(self) -> list[int]:
        return self.runs.column(0)

    @cached_property
    def _run_numbers(self) -> list[int]:
        # The number of the first page of each run.
        return [0, *accumulate(self.runs.column(1))]

    def maps(self, address: int, pages: int) -> bool:
        """Whether the image holds all of the `pages` pages from `address` on."""
        first, last = self.page_number(address), self.page_number(address + (pages - 1) * PAGE_SIZE)
        return pages >= 1 and first >= 0 and last - first == pages - 1


Page = Callable[[int], bytes]
"""Returns the contents of the page at an address; empty if the image has no such page."""

Accept = Callable[[Image, Page], str]
"""The owner's judgement of an image: the reason why the owner cannot open it, or an empty string."""


def accept_any(_image: Image, _page: Page) -> str:
    """The `accept` of an owner that can open any pages."""
    return ""


def require(image: Image, accept: Accept, page: Page) -> None:
    """Raise NeedsParent or ForeignImage unless the owner can open this image as it is."""
    if image.parent is not None:
        raise NeedsParent(image.path, image.parent)
    reason = accept(image, page)
    if reason:
        raise ForeignImage(image.path, reason)


# --- writing ---


def header_page(identity: bytes, chunk_size: int = CHUNK_SIZE, repeats: Repeats | None = None) -> bytes:
    """The first page of an image, whose version depends on whether it has repeats."""
    assert len(identity) == ID_SIZE and chunk_size % PAGE_SIZE == 0
    page = _HEADER.pack(MAGIC, REPEATING if repeats else PLAIN, PAGE_SIZE, chunk_size, 0, identity)
    page = page.ljust(PAGE_SIZE - _CHECKSUM.size, b"\0")
    return page + _CHECKSUM.pack(checksum(page))


def ending(
    identity: bytes,
    *,
    runs: Table,
    checksums: Array,
    metadata: dict[Any, Any],
    epoch: int,
    root: int,
    forked_unix_us: int,
    parent: bytes | None = None,
    repeats: Repeats | None = None,
) -> bytes:
    """The end of an image, after the pages: manifest and trailer.  `runs` has rows of two, `checksums` is uint64[C]."""
    pages = sum(runs.column(1))
    entries = {
        "version": REPEATING if repeats else PLAIN,
        "id": identity,
        "parent": parent,
        "epoch": epoch,
        "root": root,
        "forked_unix_us": forked_unix_us,
        "pages": pages,
        "runs": _run_bytes(runs),
        "chunks": bytes(checksums),
        "metadata": metadata,
    }
    if repeats:
        entries["repeated"] = repeats.page
        entries["repeats"] = _run_bytes(repeats.runs)
        entries["repetitions"] = sum(repeats.runs.column(1))
    manifest = msgpack.packb(entries)
    offset = DATA_OFFSET + pages * PAGE_SIZE
    size = offset + len(manifest) + TRAILER_SIZE
    trailer = _TRAILER.pack(END_MAGIC, offset, len(manifest), checksum(manifest), identity, size, 0)
    covered = trailer[len(END_MAGIC) : -_CHECKSUM.size]
    return bytes(manifest) + trailer[: -_CHECKSUM.size] + _CHECKSUM.pack(checksum(covered))


def _run_bytes(runs: Table) -> bytes:
    return bytes(runs.words[: 2 * len(runs)])


# --- reading ---


def open_image(path: str | os.PathLike[str], files: Files | None = None) -> tuple[int, Image]:
    """Open an image and check everything but the pages.  The caller must close the descriptor.

    Raises an ImageError, and then nothing stays open.
    """
    files = files or Files()
    path = Path(path)
    try:
        fd = files.open(path)
    except OSError as error:
        raise Unreadable(path, error) from error
    try:
        if not files.is_file(fd):
            raise NotAFile(path)
        return fd, _read_image(fd, path, files)
    except OSError as error:
        files.close(fd)
        raise Unreadable(path, error) from error
    except BaseException:
        files.close(fd)
        raise


def read_image(path: str | os.PathLike[str], files: Files | None = None) -> Image:
    """The description of an image, without reading its pages; raises an ImageError."""
    files = files or Files()
    fd, image = open_image(path, files)
    files.close(fd)
    return image


def page_reader(fd: int, image: Image, files: Files) -> Page:
    """A function that reads single pages from an open image, without verifying them."""

    def read(address: int) -> bytes:
        number = image.page_number(address)
        try:
            return _read(fd, DATA_OFFSET + number * PAGE_SIZE, PAGE_SIZE, files) if number >= 0 else b""
        except OSError as error:
            raise Unreadable(image.path, error) from error

    return read


def _read_image(fd: int, path: Path, files: Files) -> Image:
    stamp = files.stamp(fd)
    size = stamp.size
    identity, chunk_size, version = _check_header(_read(fd, 0, PAGE_SIZE, files), path)
    if size < PAGE_SIZE + TRAILER_SIZE:
        raise Truncated(path, f"it ends after {size} bytes, before any manifest")
    offset, length, digest = _check_trailer(_read(fd, size - TRAILER_SIZE, TRAILER_SIZE, files), path, size, identity)
    manifest = _read(fd, offset, length, files)
    if checksum(manifest) != digest:
        raise ManifestCorrupt(path, f"the manifest ({length} bytes at offset {offset}) fails its checksum")
    return _parse_manifest(manifest, path, offset, stamp, identity, chunk_size, version)


def _read(fd: int, offset: int, size: int, files: Files) -> bytes:
    buffer = bytearray(size)
    done = files.read_into(fd, memoryview(buffer), offset)
    return bytes(buffer[:done])


def _check_header(page: bytes, path: Path) -> tuple[bytes, int, int]:
    """Identity, chunk size and format version."""
    if page[: len(MAGIC)] != MAGIC[: len(page)] or not page:
        raise NotAnImage(path, "it does not begin with an image's magic number" if page else "the file is empty")
    if len(page) < PAGE_SIZE:
        raise Truncated(path, f"it ends after {len(page)} bytes, within the header")
    _, version, page_size, chunk_size, zero, identity = _HEADER.unpack_from(page)
    (digest,) = _CHECKSUM.unpack_from(page, PAGE_SIZE - _CHECKSUM.size)
    good = checksum(page[: -_CHECKSUM.size]) == digest
    if good and version not in (PLAIN, REPEATING):
        raise UnsupportedVersion(path, version, REPEATING)
    if not good:
        raise HeaderCorrupt(path, "the header page fails its checksum")
    if page_size != PAGE_SIZE:
        raise HeaderCorrupt(path, f"page size {page_size}, not {PAGE_SIZE}")
    if chunk_size == 0 or chunk_size % PAGE_SIZE or chunk_size > CHUNK_SIZE_MAX:
        raise HeaderCorrupt(path, f"chunk size {chunk_size}")
    if zero or any(page[_HEADER.size : -_CHECKSUM.size]):
        raise HeaderCorrupt(path, "bytes that must be zero are not")
    return identity, chunk_size, version


def _check_trailer(trailer: bytes, path: Path, size: int, identity: bytes) -> tuple[int, int, int]:
    """Offset, length and checksum of the manifest."""
    if len(trailer) < TRAILER_SIZE:
        raise Truncated(path, "it shrank while it was read")
    magic, offset, length, digest, trailer_id, file_size, own = _TRAILER.unpack(trailer)
    good = checksum(trailer[len(END_MAGIC) : -_CHECKSUM.size]) == own
    if magic != END_MAGIC and not good:
        raise Truncated(path, f"no trailer at its end, after {size} bytes: cut short, or added to")
    if magic != END_MAGIC or not good:
        raise TrailerCorrupt(path, "the trailer fails its checksum")
    if trailer_id != identity:
        raise TrailerCorrupt(path, "the trailer is another image's")
    if file_size != size:
        raise Truncated(path, f"{size} bytes where the trailer says {file_size}")
    if offset % PAGE_SIZE or offset < DATA_OFFSET or offset + length + TRAILER_SIZE != size:
        raise TrailerCorrupt(path, f"no place for a manifest of {length} bytes at offset {offset}")
    if length > (offset - DATA_OFFSET) // PAGE_SIZE * RUNS_MAX + METADATA_MAX:
        raise TrailerCorrupt(path, f"a manifest of {length} bytes for {(offset - DATA_OFFSET) // PAGE_SIZE} pages")
    return offset, length, digest


def _parse_manifest(
    data: bytes, path: Path, offset: int, stamp: Stamp, identity: bytes, chunk_size: int, version: int
) -> Image:
    types = _REPEATING_TYPES if version == REPEATING else _MANIFEST_TYPES
    try:
        manifest = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:  # TypeError: a list as a key
        raise ManifestCorrupt(path, f"the manifest is not msgpack: {error}") from error
    if not isinstance(manifest, dict) or manifest.keys() != types.keys():
        raise ManifestCorrupt(path, "the manifest's keys are not those of this version")
    for key, kinds in types.items():
        if not isinstance(manifest[key], kinds) or isinstance(manifest[key], bool):
            raise ManifestCorrupt(path, f"the manifest's {key!r} is a {type(manifest[key]).__name__}")
    if manifest["version"] != version:
        raise ManifestCorrupt(path, f"the manifest's version is {manifest['version']}, the header's {version}")
    if manifest["id"] != identity:
        raise ManifestCorrupt(path, "the manifest is another image's")
    if manifest["parent"] is not None and len(manifest["parent"]) != ID_SIZE:
        raise ManifestCorrupt(path, "the identity of its parent has the wrong length")
    pages = manifest["pages"]
    if pages < 0 or DATA_OFFSET + pages * PAGE_SIZE != offset:
        raise ManifestCorrupt(path, f"{pages} pages do not end where the manifest begins, at {offset}")
    if len(manifest["chunks"]) != -(-pages * PAGE_SIZE // chunk_size) * _CHECKSUM.size:
        raise ManifestCorrupt(path, f"{len(manifest['chunks'])} bytes of checksums for {pages} pages")
    image = Image(
        path=path,
        id=identity,
        version=version,
        chunk_size=chunk_size,
        parent=manifest["parent"],
        epoch=manifest["epoch"],
        root=manifest["root"],
        forked_unix_us=manifest["forked_unix_us"],
        pages=pages,
        runs=_parse_runs(manifest["runs"], path, pages),
        checksums=over(manifest["chunks"], uint64),
        metadata=manifest["metadata"],
        file_size=stamp.size,
        stamp=stamp,
        repeats=_parse_repeats(manifest, path) if version == REPEATING else None,
    )
    if image.repeats:
        _check_repeats(image, image.repeats.page)
    return image


_FAULTS = {
    NO_PAGE: "a run begins at no page's address",
    NO_LENGTH: "a run has an impossible length",
    NOT_APART: "runs overlap or are out of order",
}


def _parse_runs(data: bytes, path: Path, pages: int) -> Table:
    if len(data) % 16:
        raise ManifestCorrupt(path, f"{len(data)} bytes of runs are no whole number of runs")
    runs = Table(len(data) // 16, 2, over(data, int64))
    fault = check_runs(runs)
    if fault:
        raise ManifestCorrupt(path, _FAULTS[fault])
    counted = sum(runs.column(1))
    if counted != pages:
        raise ManifestCorrupt(path, f"the runs have {counted} pages, the manifest says {pages}")
    return runs


def _parse_repeats(manifest: dict[str, Any], path: Path) -> Repeats:
    return Repeats(manifest["repeated"], _parse_runs(manifest["repeats"], path, manifest["repetitions"]))


def _check_repeats(image: Image, page: int) -> None:
    if check_runs(image.mapped):
        raise ManifestCorrupt(image.path, "a page is in the image and repeats another one")
    if page % PAGE_SIZE or image.page_number(page) < 0:
        raise ManifestCorrupt(image.path, f"the repeated page, at {page:#x}, is not in the image")
