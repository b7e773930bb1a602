"""Loading an image into an address space.

    adopt     maps pages that were preloaded: it only creates their page tables
    restore   reads an image into a machine that is already running; its address space must map nothing

On success the whole image is loaded and every byte of it verified.  Otherwise the space still maps nothing, and every
frame is free again.
"""

import ctypes
import os

from mmcore.errors import NO_FRAME
from mmcore.jit import address_of, int64, over, uint8, zeros
from mmcore.mapping import next_mapped, reset
from mmcore.paging import VA_LIMIT
from mmcore.release import CURSOR_SIZE, release_all
from mmcore.restore import adopt_repeats, adopt_runs, place_pages
from mmcore.state import FREE_COUNT, FRESH, TOTAL, Space
from snapshot.errors import OutOfFrames, SpaceNotEmpty
from snapshot.files import Files
from snapshot.image import PAGE_SIZE, Accept, Image, accept_any, open_image, page_reader, require
from snapshot.preload import Preload, tables_needed
from snapshot.reader import THREADS, ChunkReader, PageReader, Progress, chunk_buffer


def adopt(
    preload: Preload, space: Space, progress: Progress | None = None, accept: Accept = accept_any
) -> Image | None:
    """Map the preloaded image or, if it is bad, the next older one.  Returns None if there is no image at all.

    `space` is on the memory over `preload.mapping`.  Raises as Preload.join, and OutOfFrames; then the space is empty.
    """
    _require_empty(space)
    image = preload.join(progress, accept)
    if image is not None:
        free = int(space.mem.frames[FREE_COUNT])
        if free < image.pages + tables_needed(image) or adopt_runs(space, image.runs, preload.first_frame) == NO_FRAME:
            preload.cancel()
            raise _out_of_frames(image, space)
        _repeat(image, space)
    preload.let_go()
    return image


def restore(
    path: str | os.PathLike[str],
    space: Space,
    progress: Progress | None = None,
    threads: int = THREADS,
    files: Files | None = None,
    accept: Accept = accept_any,
) -> Image:
    """Read the image at `path` into `space`.  Raises an ImageError or a RestoreError; then the space is empty."""
    files = files or Files()
    _require_empty(space)
    fd, image = open_image(path, files)
    try:
        require(image, accept, page_reader(fd, image, files))
    except BaseException:
        files.close(fd)
        raise
    registers = space.mem.frames
    free, fresh = int(registers[FREE_COUNT]), int(registers[FRESH])
    never_used = int(registers[TOTAL]) - fresh
    needed = image.pages + tables_needed(image)
    if free < needed:
        files.close(fd)
        raise _out_of_frames(image, space)
    # Prefer frames that were used before: fresh ones would make the process grow.
    if free - never_used < needed and never_used >= image.pages:
        target = memoryview(space.mem.bytes)[fresh * PAGE_SIZE : fresh * PAGE_SIZE + image.data_size]  # type: ignore[arg-type]
        try:
            PageReader(fd, image, target, threads, files).start().join(progress)
        except BaseException:
            ctypes.memset(address_of(target), 0, len(target))  # frames never used hold zeros
            raise
        code = adopt_runs(space, image.runs, fresh)
        assert code == 0, code
    else:
        _place(fd, image, space, progress, files)
    _repeat(image, space)
    return image


def _repeat(image: Image, space: Space) -> None:
    """Map the repeated page again, once all others are there; the frames for tables are free."""
    if image.repeats:
        adopt_repeats(space, image.repeats.page, image.repeats.runs)


def _place(fd: int, image: Image, space: Space, progress: Progress | None, files: Files) -> None:
    """Read chunk by chunk through a buffer, and copy the pages to any free frames."""
    buffer = chunk_buffer(image)
    cursor = zeros(int64, 2)
    chunks = ChunkReader(fd, image, files)
    try:
        for chunk in range(image.chunk_count):
            offset, length = image.chunk_extent(chunk)
            chunks.read(chunk, buffer[:length])
            place_pages(space, image.runs, cursor, over(buffer, uint8), length // PAGE_SIZE)
            if progress:
                progress(offset + length, image.data_size)
    except BaseException:
        empty(space)
        raise
    finally:
        chunks.close()


def empty(space: Space) -> None:
    """Unmap everything, and give all frames back; takes time in proportion to them."""
    root = int(reset(space))
    if root == NO_FRAME:
        raise OutOfFrames("no frame for an empty root")
    release_all(space.mem, zeros(int64, CURSOR_SIZE), root)


def _require_empty(space: Space) -> None:
    first = int(next_mapped(space, 0, VA_LIMIT))
    if first != VA_LIMIT:
        raise SpaceNotEmpty(f"the address space has a page at {first:#x}")


def _out_of_frames(image: Image, space: Space) -> OutOfFrames:
    tables = tables_needed(image)
    free = int(space.mem.frames[FREE_COUNT])
    return OutOfFrames(f"{image.path} takes {image.pages} pages and {tables} tables; {free} frames are free")
