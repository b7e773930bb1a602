"""Reading an image before the machine is there."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mmcore import AddressSpace, PhysicalMemory, check_memory
from mmcore.paging import PAGE_SIZE
from snapshot import errors
from snapshot.directory import ImageDirectory
from snapshot.image import DATA_OFFSET, Image, Page, ending, read_image
from snapshot.preload import FIRST_FRAME, Preload, reserve
from snapshot.restore import adopt, restore
from snapshot.snapshotter import Snapshotter
from tests.snapshot.faults import FaultyFiles, Gate

CHUNK = 8 * PAGE_SIZE
SIZE = 8 << 20
PAGES = 70


def page_bytes(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGES * PAGE_SIZE)


@pytest.fixture
def images(tmp_path) -> ImageDirectory:
    """Three images of the same pages with different contents, numbered 1 to 3 like the seeds of those."""
    memory = PhysicalMemory(SIZE)
    space = AddressSpace(memory)
    space.map(0x1000, PAGES * PAGE_SIZE)
    snapshotter = Snapshotter(space.state, tmp_path, keep=3, chunk_size=CHUNK)
    for seed in (1, 2, 3):
        space.write(0x1000, page_bytes(seed))
        assert snapshotter.run_and_wait().ok
    snapshotter.close()
    return snapshotter.images


def damage(path: Path, offset: int = DATA_OFFSET + 6 * CHUNK) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def machine_of(preload: Preload) -> tuple[PhysicalMemory, AddressSpace]:
    memory = PhysicalMemory(SIZE, mapping=preload.mapping)
    return memory, AddressSpace(memory)


def test_the_newest_image_is_read_and_then_mapped(images):
    preload = Preload(images, SIZE)
    memory, space = machine_of(preload)
    image = adopt(preload, space.state)
    assert image is not None
    assert image.path == images.path_of(3)
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(3)
    assert preload.refused == []
    check_memory(memory, [space])
    preload.cancel()  # too late to take anything away
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(3)
    space.map(1 << 30, 100 * PAGE_SIZE)
    assert space.read(1 << 30, 100 * PAGE_SIZE) == bytes(100 * PAGE_SIZE)
    check_memory(memory, [space])


@pytest.mark.parametrize("offset", [0, 100, DATA_OFFSET, DATA_OFFSET + 6 * CHUNK])
def test_a_bad_image_is_dropped_and_the_next_older_one_read_in_its_place(images, offset):
    damage(images.path_of(3), offset)
    preload = Preload(images, SIZE)
    memory, space = machine_of(preload)
    image = adopt(preload, space.state)
    assert image is not None
    assert image.path == images.path_of(2)
    assert [one.path for one in preload.refused] == [images.path_of(3)]
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(2)
    check_memory(memory, [space])


def test_an_image_that_its_owner_cannot_open_is_dropped_and_the_next_older_one_read(images):
    """The owner sees the image and its pages, and no page of it stays."""

    def accept(image: Image, page: Page) -> str:
        assert page(0x1000) == page_bytes(3 if image.path == images.path_of(3) else 2)[:PAGE_SIZE]
        assert page(0x1000 + PAGES * PAGE_SIZE) == b""
        return "not mine" if image.path == images.path_of(3) else ""

    preload = Preload(images, SIZE)
    memory, space = machine_of(preload)
    image = adopt(preload, space.state, accept=accept)
    assert image is not None
    assert image.path == images.path_of(2)
    assert [(type(one), one.path) for one in preload.refused] == [(errors.ForeignImage, images.path_of(3))]
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(2)
    check_memory(memory, [space])


def test_an_image_with_a_parent_is_half_a_store_and_the_next_older_whole_one_is_read(images):
    whole = images.path_of(3).read_bytes()
    image = read_image(images.path_of(3))
    end = ending(
        image.id, runs=image.runs, checksums=image.checksums, metadata={}, epoch=1, root=1, forked_unix_us=1,
        parent=bytes(range(16)),
    )  # fmt: skip
    images.path_of(3).write_bytes(whole[: DATA_OFFSET + image.data_size] + end)
    preload = Preload(images, SIZE)
    _, space = machine_of(preload)
    found = adopt(preload, space.state)
    assert found is not None
    assert found.path == images.path_of(2)
    assert [(type(one), one.path) for one in preload.refused] == [(errors.NeedsParent, images.path_of(3))]
    assert "000102030405060708090a0b0c0d0e0f" in str(preload.refused[0])
    with pytest.raises(errors.NeedsParent):
        restore(images.path_of(3), AddressSpace(PhysicalMemory(SIZE)).state)


def test_a_reading_that_is_stopped_gives_nothing_and_leaves_zeros(images):
    gate = Gate()
    preload = Preload(images, SIZE, files=FaultyFiles("read_cached", 0, gate), threads=1)
    assert gate.reached.wait(20)
    preload.stop()
    gate.go_on.set()
    assert preload.join() is None
    assert not any(preload.mapping[:])


def test_when_all_are_bad_that_is_an_error_and_memory_holds_zeros_again(images):
    for sequence in (1, 2, 3):
        damage(images.path_of(sequence))
    preload = Preload(images, SIZE)
    memory, space = machine_of(preload)
    with pytest.raises(errors.NoUsableImage) as caught:
        adopt(preload, space.state)
    assert [one.path for one in caught.value.refused] == [images.path_of(sequence) for sequence in (3, 2, 1)]
    assert not memory.state.arrays.bytes.any()
    assert memory.frames_free == memory.frames_total - 1
    check_memory(memory, [space])


def test_no_image_is_none(tmp_path):
    preload = Preload(ImageDirectory(tmp_path / "absent"), SIZE)
    memory, space = machine_of(preload)
    assert adopt(preload, space.state) is None
    check_memory(memory, [space])


def test_an_image_that_does_not_fit_is_an_error_and_no_older_one_is_taken(images):
    """A root, three tables and the pages: one frame less will not do."""
    preload = Preload(images, 0, mapping=reserve((1 + 3 + PAGES - 1) * PAGE_SIZE))
    with pytest.raises(errors.OutOfFrames, match=r"dump-0000000003.* takes 74 frames"):
        preload.join()


def test_an_image_takes_no_more_frames_than_its_writer_had(images):
    preload = Preload(images, 0, mapping=reserve((1 + 3 + PAGES) * PAGE_SIZE))
    memory = PhysicalMemory(len(preload.mapping), mapping=preload.mapping)
    space = AddressSpace(memory)
    assert adopt(preload, space.state) is not None
    assert preload.first_frame == 4 and memory.frames_free == 0
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(3)
    check_memory(memory, [space])


def test_a_memory_smaller_than_the_image_is_made_larger(images):
    preload = Preload(images, 16 * PAGE_SIZE)
    memory = PhysicalMemory(len(preload.mapping), mapping=preload.mapping)
    space = AddressSpace(memory)
    assert adopt(preload, space.state) is not None
    assert preload.first_frame == FIRST_FRAME and memory.frames_free >= FIRST_FRAME - 4
    space.write(0x1000, page_bytes(1))
    assert space.read(0x1000, PAGES * PAGE_SIZE) == page_bytes(1)
    check_memory(memory, [space])


def test_the_system_refusing_is_told_with_a_hint():
    with pytest.raises(MemoryError, match=r"refuses \d+ bytes of address space: .*ulimit -v"):
        reserve(1 << 62, 1 << 61)
    with reserve(1 << 62, 1 << 24) as less:
        assert 1 << 24 <= len(less) < 1 << 48


def test_cancelling_leaves_zeros(images):
    preload = Preload(images, SIZE)
    preload.cancel()
    assert preload.join() is None
    assert not any(preload.mapping[:])


def test_progress_of_the_image_that_is_read_is_told(images):
    seen: list[tuple[int, int]] = []
    preload = Preload(images, SIZE)
    preload.join(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (PAGES * PAGE_SIZE, PAGES * PAGE_SIZE)
    preload.cancel()


def test_a_memory_of_another_size_than_the_mapping_is_refused(images):
    preload = Preload(images, SIZE)
    with pytest.raises(Exception, match="mapping of"):
        PhysicalMemory(2 * SIZE, mapping=preload.mapping)
    preload.cancel()


def test_what_reads_images_early_imports_nothing_slow():
    slow = "numba numpy kvstore click"
    code = f"import sys, snapshot.preload; sys.exit(bool(set('{slow}'.split()) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
