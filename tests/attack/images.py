"""Makes impossible images with valid checksums, by changing the parts of a good one; and loads them.

A checksum detects a flipped bit.  The loader itself must detect an image with valid checksums and impossible contents.
This module makes such images.

    parts = Parts.of(data)              an image's bytes, taken apart
    parts.manifest["pages"] = -1
    parts.bytes()                       header, pages, manifest and trailer, every checksum recomputed

`load` does what a server's start does, without sockets: preload, adopt, open.  Then it reads every entry and proves the
whole store sound.
"""

import random
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.check import contents
from kvstore.store.databases import keyspace_open
from mmcore.heap import ZEROS
from mmcore.memory import PhysicalMemory
from mmcore.space import AddressSpace
from snapshot import image as format_
from snapshot.directory import ImageDirectory
from snapshot.errors import ImageError, NoUsableImage
from snapshot.files import Files
from snapshot.image import DATA_OFFSET, PAGE_SIZE, checksum
from snapshot.preload import Preload
from snapshot.restore import adopt
from snapshot.snapshotter import Snapshotter
from tests.kvstore.bare import Bare

Contents = dict[int, dict[bytes, tuple[bytes, int | None]]]

MEMORY = 8 << 20  # of a sample
LOADED = 64 << 20  # of the store that an image is loaded into
CHUNK = 4 * PAGE_SIZE
FAR_MS = 99_999_999_999_000
HEADER = struct.Struct("<8sIIII16s")
TRAILER = struct.Struct("<8sQQQ16sQQ")


@dataclass
class Parts:
    """The parts of an image: its numbers, without checksums."""

    header: dict[str, Any]
    pages: list[bytes]
    manifest: dict[Any, Any]
    trailer: dict[str, Any] = field(default_factory=dict)  # values that replace the correct ones

    @classmethod
    def of(cls, data: bytes) -> "Parts":
        """The parts of a good image."""
        names = ("magic", "version", "page_size", "chunk_size", "zero", "id")
        header = dict(zip(names, HEADER.unpack_from(data), strict=True))
        _, offset, length, *_ = TRAILER.unpack(data[-TRAILER.size :])
        pages = [data[at : at + PAGE_SIZE] for at in range(DATA_OFFSET, offset, PAGE_SIZE)]
        return cls(header, pages, msgpack.unpackb(data[offset : offset + length], strict_map_key=False))

    @property
    def runs(self) -> list[list[int]]:
        """[address of the first page, how many pages] of each run."""
        found: list[list[int]] = np.frombuffer(self.manifest["runs"], "<i8").reshape(-1, 2).tolist()
        return found

    @runs.setter
    def runs(self, runs: list[list[int]]) -> None:
        self.manifest["runs"] = struct.pack(f"<{2 * len(runs)}q", *(word for run in runs for word in run))

    def page_number(self, address: int) -> int:
        """The number of the page at this address."""
        number = 0
        for first, count in self.runs:
            if first <= address < first + count * PAGE_SIZE:
                return number + (address - first) // PAGE_SIZE
            number += count
        raise KeyError(hex(address))

    def store(self, address: int, data: bytes) -> None:
        """Change bytes of a page."""
        number, at = self.page_number(address), address % PAGE_SIZE
        page = self.pages[number]
        self.pages[number] = page[:at] + data + page[at + len(data) :]

    def drop_page(self, address: int) -> None:
        """Remove a page, and adjust runs and counts."""
        del self.pages[self.page_number(address)]
        runs = []
        for first, count in self.runs:
            before = (address - first) // PAGE_SIZE
            if 0 <= before < count:
                runs += [[first, before], [first + (before + 1) * PAGE_SIZE, count - before - 1]]
            else:
                runs.append([first, count])
        self.runs = [run for run in runs if run[1]]
        self.manifest["pages"] -= 1

    def rechunk(self, chunk_size: int = CHUNK) -> None:
        """Cut the pages into chunks of this size, in header and manifest."""
        self.header["chunk_size"] = chunk_size
        self.seal_pages()

    def seal_pages(self) -> None:
        """Compute the chunks' checksums from the present pages."""
        data, size = b"".join(self.pages), self.header["chunk_size"]
        digests = [checksum(data[at : at + size]) for at in range(0, len(data), size)]
        self.manifest["chunks"] = struct.pack(f"<{len(digests)}Q", *digests)

    def bytes(self, manifest: bytes | None = None) -> bytes:
        """The sealed image; `manifest`, if given, replaces the bytes of the manifest."""
        packed = msgpack.packb(self.manifest) if manifest is None else manifest
        header = HEADER.pack(*self.header.values()).ljust(PAGE_SIZE - 8, b"\0")
        header += struct.pack("<Q", checksum(header))
        data = b"".join(self.pages)
        words = {
            "magic": format_.END_MAGIC,
            "offset": DATA_OFFSET + len(data),
            "length": len(packed),
            "checksum": checksum(packed),
            "id": self.header["id"],
            "size": len(header) + len(data) + len(packed) + TRAILER.size,
            **self.trailer,
        }
        trailer = TRAILER.pack(*words.values(), 0)[:-8]
        return header + data + packed + trailer + struct.pack("<Q", checksum(trailer[8:]))


def sample_store(seed: int, keys: int = 60) -> Bare:
    """A small store: short and long values, deadlines, several databases."""
    generator, store = random.Random(seed), Bare(MEMORY)
    for i in range(keys):
        store("SELECT", generator.choice((0, 0, 0, 1, 15)))
        value = generator.randbytes(generator.choice((0, 3, 20, 300, 5000)))
        deadline = generator.choice(((), (), ("PXAT", FAR_MS + i)))
        assert store("SET", b"key:%d" % i, value, *deadline) == "OK"
    assert store("SETBIT", b"sparse", 300_000, 1) == 0  # its pages before the last one repeat the page of zeros
    return store


def write_image(store: Bare, directory: Path) -> Path:
    """Write an image of a store as a server does; returns its path."""
    snapshotter = Snapshotter(store.space.state, directory, metadata=describe_store, repeated=ZEROS)
    try:
        snapshotter.start()
        outcome = snapshotter.wait()
        assert outcome.ok and outcome.path is not None, outcome.error
        while not snapshotter.release(1000):
            pass
        return outcome.path
    finally:
        snapshotter.close()


@dataclass(frozen=True)
class Sample:
    """An image's bytes, in several chunks, and its contents."""

    data: bytes
    contents: Contents

    @classmethod
    def made(cls, seed: int, directory: Path) -> "Sample":
        """The image of the sample store of that seed."""
        store = sample_store(seed)
        with store:
            parts = Parts.of(write_image(store, directory).read_bytes())
            parts.rechunk()
            return cls(parts.bytes(), contents(store.context))

    @property
    def parts(self) -> Parts:
        """The parts of the image, for changes."""
        return Parts.of(self.data)


def load(directory: Path, files: Files | None = None) -> tuple[Contents | None, list[ImageError]]:
    """The contents with which a server would start from these images, None for no image; and the refusals.

    Raises NoUsableImage, as a start does, when there are images and all are refused.
    """
    preload = Preload(ImageDirectory(directory, files=files), LOADED)
    memory = PhysicalMemory(len(preload.mapping), mapping=preload.mapping)
    try:
        space = AddressSpace(memory)
        image = adopt(preload, space.state, accept=accept_store)
        if image is None:
            return None, preload.refused
        pool, shard = Pool(memory), Shard(arguments=8)  # a context does not keep all memory of theirs
        opened = OpenStore(pool, shard, space)
        assert keyspace_open(opened.context) == 0
        return contents(opened.context), preload.refused
    finally:
        memory.close()


class Shelf:
    """A directory that is refilled for each case."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, *images: bytes) -> None:
        """Store these images, the oldest first, and nothing else."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        for number, data in enumerate(images, 1):
            ImageDirectory(self.directory).path_of(number).write_bytes(data)

    def refuses_or_loads(self, data: bytes, good: Sample, older: Sample) -> bool:
        """Whether an image is refused by name and the older good one is loaded.  Else it must load exactly as `good`.

        Anything else is an AssertionError.
        """
        self.fill(older.data, data)
        found, refused = load(self.directory)
        if not refused:
            assert found == good.contents, "an image was loaded that is neither what it was nor refused"
            return False
        assert [type(error) for error in refused] != [ImageError] and len(refused) == 1, refused
        assert str(refused[0].path) in str(refused[0])
        assert found == older.contents, "the older image was not taken as it is"
        self.fill(data)
        try:
            found, _ = load(self.directory)
        except NoUsableImage as error:
            assert [type(one) for one in error.refused] == [type(refused[0])]
        else:
            raise AssertionError(f"alone it is loaded, though {refused} refused it")
        return True
