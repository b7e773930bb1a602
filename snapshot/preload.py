"""Preload: read the newest image while the rest of the program still starts.

Most of a start is spent on importing the server, on one processor.  The pages of an image can be read without it.  They
are read, one after the other, into the future physical memory, from frame FIRST_FRAME on.  When the machine exists,
`restore.adopt` creates the page tables for them.  This module therefore imports little, and only the parts of the
machine that it needs.

The memory has the requested size, or the size that the image needs if that is larger: its pages, their tables and a
root, all of which the writer had too.  If there is no room for FIRST_FRAME frames before the pages, fewer are left.

    preload = Preload(ImageDirectory("data"), memory_size)    threads begin to read
    ...                                                       import what takes long
    memory = PhysicalMemory(size, mapping=preload.mapping)
    space = AddressSpace(memory)
    image = adopt(preload, space.state)                       waits, verifies, maps

Meanwhile the system backs the memory with pages of 4 KiB.  Under a hypervisor, the first touch of a huge page takes
milliseconds in which the process can neither map nor load anything, and imports do little else.  Afterwards the system
may join the pages into huge pages in the background.

An image may turn out bad, or the owner of the pages may be unable to open it.  Then its memory is dropped and holds
zeros again, and the next older image is read.  `join` asks the owner, because the program that can judge the pages is
not imported before.
"""

import mmap
from pathlib import Path

from mmcore.jit import anonymous
from mmcore.restore import frames_to_repeat, tables_for_runs
from snapshot.directory import Entry, ImageDirectory
from snapshot.errors import ImageError, NeedsParent, NoUsableImage, OutOfFrames
from snapshot.files import Files
from snapshot.image import PAGE_SIZE, Accept, Image, accept_any, open_image, require
from snapshot.reader import THREADS, PageReader, Progress

_LEAST = 1 << 20
FIRST_FRAME = 512  # the frames before it hold the first page tables; 2 MiB keep the alignment of huge pages


def reserve(size: int, least: int = 0, huge_pages: bool = True) -> mmap.mmap:
    """Reserve `size` bytes of zeros, which the system provides on first touch; if it refuses, less, down to `least`.

    Raises MemoryError, with a hint.
    """
    least = min(size, max(least, _LEAST))
    while True:
        try:
            mapping = anonymous(size)
            break
        except OSError as error:
            if size <= least:
                raise MemoryError(
                    f"the system refuses {least} bytes of address space: {error.strerror}; ulimit -v and "
                    "vm.overcommit_memory limit it"
                ) from error
            size = max(least, size // 4 * 3 // PAGE_SIZE * PAGE_SIZE)
    if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def frames_needed(image: Image) -> int:
    """The number of frames that an image needs: its pages, all tables, and a root."""
    return image.pages + tables_needed(image) + 1


def tables_needed(image: Image) -> int:
    """The number of frames that must be free for the tables of an image, below the root."""
    tables = int(tables_for_runs(image.mapped))
    return tables + int(frames_to_repeat(image.repeats.runs)) if image.repeats else tables


class Preload:
    """The newest image that verifies, on its way into `mapping`, from frame `first_frame` on.

    size: of the memory to reserve [bytes]; more if the newest image needs it, less if the system refuses.
    mapping: memory to use instead; its size does not change.
    """

    def __init__(
        self,
        images: ImageDirectory,
        size: int,
        *,
        mapping: mmap.mmap | None = None,
        threads: int = THREADS,
        files: Files | None = None,
    ) -> None:
        self.first_frame = FIRST_FRAME
        self._mapping = mapping
        self._size = size // PAGE_SIZE * PAGE_SIZE
        self.refused: list[ImageError] = []
        self.image: Image | None = None
        self._directory: Path = images.directory
        self._candidates: list[Entry] = images.entries()  # newest first
        self._threads = threads
        self._files = files or images.files
        self._reader: PageReader | None = None
        self._too_big: OutOfFrames | None = None
        self._stopped = False
        self._begin()
        if self._mapping is None:
            self._mapping = reserve(self._size)

    @property
    def mapping(self) -> mmap.mmap:
        """The future physical memory."""
        assert self._mapping is not None
        return self._mapping

    def _begin(self) -> None:
        """Open the newest candidate with a good manifest, and begin to read its pages."""
        self.image = None
        while self._candidates and not self._too_big and not self._stopped:
            entry = self._candidates.pop(0)
            try:
                fd, image = open_image(entry.path, self._files)
            except ImageError as error:
                self.refused.append(error)
                continue
            if image.parent is not None:
                self._files.close(fd)
                self.refused.append(NeedsParent(image.path, image.parent))
                continue
            needed = frames_needed(image)
            try:
                if self._mapping is None:
                    # Reserve some more: a store without a free frame could not even delete.
                    least = needed + FIRST_FRAME
                    wanted = -(-(least + needed // 8) // FIRST_FRAME) * FIRST_FRAME * PAGE_SIZE
                    self._mapping = reserve(max(self._size, wanted), least * PAGE_SIZE)
            except MemoryError:
                self._files.close(fd)
                raise
            frames = len(self.mapping) // PAGE_SIZE
            if needed > frames:
                # Never load an older image just because the newest good one needs more memory.
                self._files.close(fd)
                self._too_big = OutOfFrames(
                    f"{entry.path} takes {needed} frames ({needed * PAGE_SIZE:,} bytes); the memory has {frames}"
                )
                return
            self.first_frame = min(FIRST_FRAME, frames - image.pages)
            first, size = self.first_frame * PAGE_SIZE, image.data_size
            target = memoryview(self.mapping)[first : first + size]
            self._advise("MADV_NOHUGEPAGE", image)
            self.image = image
            self._reader = PageReader(fd, image, target, self._threads, self._files).start()
            if self._stopped:
                self._reader.cancel()
            return

    @property
    def done(self) -> int:
        """Bytes read and verified."""
        return self._reader.done if self._reader else 0

    @property
    def total(self) -> int:
        """Bytes to read in total."""
        return self.image.data_size if self.image else 0

    def join(self, progress: Progress | None = None, accept: Accept = accept_any) -> Image | None:
        """Wait until an image is read, verified and accepted by its owner; None if there is no image at all.

        Raises NoUsableImage if all were refused, OutOfFrames if the newest good one does not fit.
        """
        while self._reader and self.image:
            try:
                self._reader.join(progress)
                if self._stopped:
                    self.cancel()
                    break
                require(self.image, accept, self._page)
            except ImageError as error:
                self.refused.append(error)
                self._drop(self.image)
                self._reader = None
                self._begin()
            else:
                self._reader = None
                return self.image
        if self._too_big:
            raise self._too_big
        if self.image is None and self.refused:
            raise NoUsableImage(self._directory, self.refused)
        return self.image

    def let_go(self) -> None:
        """Hand the pages over: they are mapped, and from now on they belong to the machine."""
        if self.image:
            self._advise("MADV_HUGEPAGE", self.image)
        self.image = None

    def stop(self) -> None:
        """Make a thread that waits in `join` give up after the current chunks.  May be called from any thread."""
        self._stopped = True
        reader = self._reader
        if reader:
            reader.cancel()

    def cancel(self) -> None:
        """Give up: stop reading, and drop the pages from memory."""
        image, reader = self.image, self._reader
        self._candidates, self._reader, self.image = [], None, None
        if reader and image:
            reader.cancel()
            try:
                reader.join()
            except ImageError as error:
                self.refused.append(error)
        if image:
            self._drop(image)

    def _page(self, address: int) -> bytes:
        # A page of the image that has been read.
        number = self.image.page_number(address) if self.image else -1
        first = (self.first_frame + number) * PAGE_SIZE
        return self.mapping[first : first + PAGE_SIZE] if number >= 0 else b""

    def _advise(self, advice: str, image: Image) -> None:
        if image.pages and hasattr(mmap, advice):
            self.mapping.madvise(getattr(mmap, advice), self.first_frame * PAGE_SIZE, image.data_size)

    def _drop(self, image: Image) -> None:
        if image.pages:
            self.mapping.madvise(mmap.MADV_DONTNEED, self.first_frame * PAGE_SIZE, image.data_size)
            self._advise("MADV_HUGEPAGE", image)
