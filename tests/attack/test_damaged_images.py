"""Randomly damaged images: each is refused by name, and the older good one loaded, or loads exactly the saved store.

    rough       bytes of the file changed, lost, added, moved; two images mixed: a checksum notices
    careful     words of header, manifest and trailer changed, with valid checksums
    inner       words of the store's own control block, the same way

There is never a traceback, a hang, a crash, or a store that is neither of the two.
"""

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.store.layout import CONTROL_BASE, DATABASES, DB_KEY_REGION, DESCRIPTOR_SIZE, DESCRIPTORS
from mmcore.heap import CONTROL
from snapshot.directory import ImageDirectory
from snapshot.errors import ImageError
from snapshot.image import DATA_OFFSET, PAGE_SIZE, TRAILER_SIZE
from snapshot.snapshotter import Snapshotter
from tests.attack.images import CHUNK, Parts, Sample, Shelf, load, sample_store
from tests.attack.seeds import seeds, told

Damage = Callable[[random.Random, Sample, Sample], bytes]


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A good image."""
    return Sample.made(1, tmp_path_factory.mktemp("older"))


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Another good image."""
    return Sample.made(2, tmp_path_factory.mktemp("good"))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


# ---------------------------------------------------------------------------------------------------------------- rough


def _change(generator: random.Random, data: bytearray) -> None:
    at, count = generator.randrange(len(data)), generator.choice((1, 8, 100, 5000))
    some = data[at : at + count]
    data[at : at + count] = generator.choice((bytes(len(some)), generator.randbytes(len(some))))


def _flip(generator: random.Random, data: bytearray) -> None:
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _cut(generator: random.Random, data: bytearray) -> None:
    del data[generator.randrange(len(data)) :]


def _extend(generator: random.Random, data: bytearray) -> None:
    data += generator.choice((b"\0", generator.randbytes(100), bytes(PAGE_SIZE), data[-TRAILER_SIZE:]))


def _lose(generator: random.Random, data: bytearray) -> None:
    at = generator.randrange(len(data))
    del data[at : at + generator.choice((1, 64, PAGE_SIZE, CHUNK))]


def _double(generator: random.Random, data: bytearray) -> None:
    at = generator.randrange(len(data))
    data[at:at] = data[at : at + generator.choice((1, 64, PAGE_SIZE, CHUNK))]


def _swap(generator: random.Random, data: bytearray) -> None:
    size = generator.choice((PAGE_SIZE, CHUNK))
    places = range(DATA_OFFSET, len(data) - size, size)
    one, other = generator.sample(places, 2)
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def _end(generator: random.Random, data: bytearray) -> None:
    at = len(data) - generator.randrange(1, 400)
    data[at] = generator.randrange(256)


ROUGH = (_change, _flip, _cut, _extend, _lose, _double, _swap, _end)


def rough(generator: random.Random, good: Sample, older: Sample) -> bytes:
    """One to three accidents; or the beginning of one image with the end of another."""
    if generator.random() < 0.1:
        at = generator.choice((PAGE_SIZE, PAGE_SIZE * generator.randrange(1, 20), generator.randrange(len(good.data))))
        return good.data[:at] + older.data[-generator.randrange(1, len(older.data)) :]
    data = bytearray(good.data)
    for _ in range(generator.choice((1, 1, 2, 3))):
        if len(data) > 3 * CHUNK:
            generator.choice(ROUGH)(generator, data)
    return bytes(data)


# -------------------------------------------------------------------------------------------------------------- careful

WORDS = (0, 1, -1, 2, 7, 4096, 4097, 1 << 31, 1 << 32, 1 << 47, 1 << 62, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1)
VALUES: tuple[Any, ...] = (
    *WORDS, None, True, False, 1.5, float("nan"), b"", b"x", bytes(16), b"\xff" * 64, "", "text", [], [1], {}, {"a": 1},
    {b"a": None}, [[]] * 3,
)  # fmt: skip


def _odd_manifest(generator: random.Random, parts: Parts) -> None:
    manifest, key = parts.manifest, generator.choice(list(parts.manifest))
    kind = generator.randrange(4)
    if kind == 0:
        del manifest[key]
    elif kind == 1:
        manifest[generator.choice(("surplus", "", b"id", 7, None))] = generator.choice(VALUES)
    else:
        manifest[key] = generator.choice(VALUES)


def _odd_runs(generator: random.Random, parts: Parts) -> None:
    runs = parts.runs
    kind, i = generator.randrange(6), generator.randrange(len(runs))
    if kind == 0:
        runs[i][generator.randrange(2)] = generator.choice([word for word in WORDS if -(1 << 63) <= word < 1 << 63])
    elif kind == 1:
        generator.shuffle(runs)
    elif kind == 2:
        runs.insert(i, list(runs[i]))
    elif kind == 3:
        del runs[i]
    elif kind == 4:
        runs[i][0] = runs[i - 1][0]
    else:
        runs[i][1] += generator.choice((-1, 1))
    parts.runs = runs


def _odd_chunks(generator: random.Random, parts: Parts) -> None:
    chunks = parts.manifest["chunks"]
    parts.manifest["chunks"] = generator.choice((chunks[:-8], chunks + bytes(8), chunks[:-1], chunks[::-1], b""))


def _odd_header(generator: random.Random, parts: Parts) -> None:
    name = generator.choice(("version", "page_size", "chunk_size", "zero", "id", "magic"))
    words = [word for word in WORDS if 0 <= word < 1 << 32]
    parts.header[name] = {"id": generator.randbytes(16), "magic": b"\x89MMIMG\n\n"}.get(name, generator.choice(words))


def _odd_trailer(generator: random.Random, parts: Parts) -> None:
    name = generator.choice(("magic", "offset", "length", "checksum", "id", "size"))
    words = [word for word in WORDS if 0 <= word < 1 << 64]
    parts.trailer[name] = {"id": generator.randbytes(16), "magic": b"MMIMGENX"}.get(name, generator.choice(words))


def _odd_metadata(generator: random.Random, parts: Parts) -> None:
    metadata = parts.manifest["metadata"]
    key = generator.choice([*metadata, "surplus", 5, b"layout", None])
    metadata[key] = generator.choice(VALUES)


def _parent(generator: random.Random, parts: Parts) -> None:
    # The header's id: an earlier change may have removed the manifest's.
    parts.manifest["parent"] = generator.choice((bytes(16), generator.randbytes(16), parts.header["id"]))


CAREFUL = (_odd_manifest, _odd_manifest, _odd_runs, _odd_chunks, _odd_header, _odd_trailer, _odd_metadata, _parent)


def careful(generator: random.Random, good: Sample, _older: Sample) -> bytes:
    """One or two false words, with valid checksums.

    They stand in different parts.  Two false lengths of runs can have the true sum; the pages between them then move,
    and no check notices this.
    """
    parts = good.parts
    for change in generator.sample(CAREFUL, generator.choice((1, 1, 2))):
        change(generator, parts)
        if not isinstance(parts.manifest.get("runs"), bytes) or not isinstance(parts.manifest.get("metadata"), dict):
            break
        if not isinstance(parts.manifest.get("chunks"), bytes) or len(parts.manifest["runs"]) % 16:
            break
    return parts.bytes()


# ---------------------------------------------------------------------------------------------------------------- inner


def inner(generator: random.Random, good: Sample, _older: Sample) -> bytes:
    """An impossible control block, or none, with valid checksums."""
    parts = good.parts
    kind = generator.randrange(5)
    if kind == 0:
        parts.store(CONTROL_BASE, struct.pack("<Q", generator.choice((0, 0x6B76_0001, 1 << 63))))
    elif kind == 1:
        parts.store(CONTROL, struct.pack("<Q", generator.choice((0, 1, (1 << 64) - 1))))
    elif kind == 2:
        parts.drop_page(CONTROL)
    elif kind == 3:
        parts.store(CONTROL, bytes(PAGE_SIZE))
    else:
        at = DESCRIPTORS + generator.randrange(DATABASES) * DESCRIPTOR_SIZE + DB_KEY_REGION
        parts.store(at, struct.pack("<q", generator.choice((-1, 63, 1 << 40, -(1 << 63)))))
    parts.seal_pages()
    return parts.bytes()


KINDS: dict[str, Damage] = {"rough": rough, "careful": careful, "inner": inner}


def damage(shelf: Shelf, kind: str, count: int, good: Sample, older: Sample) -> tuple[int, int]:
    """Load `count` damaged images, or one that is replayed; returns how many were loaded and how many were refused."""
    played = refused = 0
    for seed in seeds(kind, count):
        with told(seed) as generator:
            data = KINDS[kind](generator, good, older)
            refuses = shelf.refuses_or_loads(data, good, older)
            assert refuses or kind == "careful" or data == good.data, "the damage was not noticed"
            refused += refuses
            played += 1
    return played, refused


@pytest.mark.parametrize(("kind", "count"), [("rough", 150), ("careful", 250), ("inner", 20)])
def test_a_damaged_image_is_refused_or_whole(shelf: Shelf, good: Sample, older: Sample, kind: str, count: int) -> None:
    """Plays seeds; most images are refused."""
    played, refused = damage(shelf, kind, count, good, older)
    assert refused >= played // 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_image_is_refused_or_whole_for_long(shelf: Shelf, good: Sample, older: Sample, kind: str) -> None:
    """Twenty thousand of each kind."""
    damage(shelf, kind, 20_000, good, older)


def test_good_images_are_loaded_and_none_is_an_empty_start(shelf: Shelf, good: Sample, older: Sample) -> None:
    """Canaries: whole images are not refused, and the two are different."""
    shelf.fill()
    assert load(shelf.directory) == (None, [])
    assert not shelf.refuses_or_loads(good.data, good, older)
    assert not shelf.refuses_or_loads(good.parts.bytes(), good, older)
    assert good.contents != older.contents
    with pytest.raises(AssertionError, match="neither what it was nor refused"):
        shelf.refuses_or_loads(older.data, good, older)


def test_saves_beside_a_damaged_newest_image_keep_the_good_one_until_there_are_newer(
    shelf: Shelf, good: Sample, older: Sample
) -> None:
    """Two images are kept: only good ones count, and not the number of names."""
    for seed in seeds("saves", 6):
        with told(seed) as generator:
            shelf.fill(older.data, rough(generator, good, older))
            if load(shelf.directory)[0] != older.contents:
                continue  # the damage had no effect
            with sample_store(seed=3) as store:
                snapshotter = Snapshotter(
                    store.space.state, shelf.directory, metadata=describe_store, accept=accept_store
                )
                try:
                    snapshotter.start()
                    assert snapshotter.wait().ok
                finally:
                    snapshotter.close()
            newest = ImageDirectory(shelf.directory).entries()[0].path
            newest.unlink()  # the new one is lost as well: only the old one is left
            assert load(shelf.directory)[0] == older.contents


def test_what_bears_an_images_name_and_is_none(shelf: Shelf, older: Sample) -> None:
    """Refuses a pipe, a directory, and a broken or circular link, without blocking."""
    make: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "directory": lambda path: path.mkdir(),
        "dangling link": lambda path: path.symlink_to("nowhere"),
        "circle": lambda path: path.symlink_to(path.name),
        "empty file": lambda path: path.touch(),
        "device": lambda path: path.symlink_to("/dev/zero"),
    }
    for what, maker in make.items():
        shelf.fill(older.data)
        maker(ImageDirectory(shelf.directory).path_of(2))
        found, refused = load(shelf.directory)
        assert found == older.contents, what
        assert len(refused) == 1 and isinstance(refused[0], ImageError), what
        shutil.rmtree(shelf.directory)
