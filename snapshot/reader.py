"""Several threads read and verify all pages of an image.

The threads take chunks in order from one counter.  Each thread reads a chunk and computes its checksum at once, while
the bytes are in the cache.  Both release the GIL, so the program can do other work meanwhile, such as importing its
modules.  A bad chunk stops the counter, but the threads still finish all chunks before it: the error names the first
bad chunk.

    target given    chunk c goes to target[c * chunk_size:]; after an error the owner discards its contents
    none given      each thread reads into a buffer of its own, only to verify

Pages that are in the page cache are copied from there, which is fastest.  The others are read past the cache: that
saves a copy, and leaves the cache to other files.
"""

import errno
import itertools
import mmap
import threading
from collections.abc import Callable
from pathlib import Path

from snapshot.errors import ChecksumMismatch, ImageError, Unreadable
from snapshot.files import Files
from snapshot.image import DATA_OFFSET, PAGE_SIZE, Image, open_image

Progress = Callable[[int, int], None]
"""Called from time to time with the number of page bytes done, and the total number."""

THREADS = 2
PROGRESS_INTERVAL_S = 0.05


def chunk_buffer(image: Image) -> memoryview:
    """Room for one chunk.  It is a mapping, hence page-aligned, which reading past the page cache requires."""
    return memoryview(mmap.mmap(-1, image.chunk_size))


class ChunkReader:
    """Reads and verifies single chunks, in any order and thread.  Owns `fd`."""

    def __init__(self, fd: int, image: Image, files: Files | None = None) -> None:
        self._image = image
        self._files = files or Files()
        self._fd = fd
        self._uncached = self._files.open_uncached(fd)

    def read(self, chunk: int, buffer: memoryview) -> None:
        """Fill `buffer`, which has the chunk's length and is page-aligned.  Raises an ImageError."""
        image = self._image
        offset, length = image.chunk_extent(chunk)
        try:
            done = self._fill(buffer, DATA_OFFSET + offset)
        except OSError as error:
            raise Unreadable(image.path, error) from error
        if done < length:
            raise ChecksumMismatch(image.path, chunk, DATA_OFFSET + offset, length)
        image.check_chunk(chunk, buffer)

    def _fill(self, buffer: memoryview, offset: int) -> int:
        files = self._files
        done = files.read_cached(self._fd, buffer, offset) // PAGE_SIZE * PAGE_SIZE
        if done < len(buffer) and self._uncached >= 0:
            try:
                done += files.read_into(self._uncached, buffer[done:], offset + done) // PAGE_SIZE * PAGE_SIZE
            except OSError as error:
                if error.errno != errno.EINVAL:  # the file system requires a larger alignment than pages
                    raise
        if done < len(buffer):
            done += files.read_into(self._fd, buffer[done:], offset + done)
        return done

    def close(self) -> None:
        """Close the file."""
        for fd in (self._fd, self._uncached):
            if fd >= 0:
                self._files.close(fd)
        self._fd = self._uncached = -1


class PageReader:
    """Reads the pages of one image.  Owns `fd`, and closes it at the end."""

    def __init__(
        self,
        fd: int,
        image: Image,
        target: memoryview | None = None,
        threads: int = THREADS,
        files: Files | None = None,
    ) -> None:
        assert target is None or len(target) >= image.data_size, (image.data_size, target and len(target))
        self.image = image
        self.done = 0  # bytes read and verified
        self._chunks = ChunkReader(fd, image, files)
        self._target = target
        self._next = itertools.count()
        self._stop = image.chunk_count  # the first chunk not to take
        self._error: ImageError | None = None
        self._surprise: BaseException | None = None
        self._lock = threading.Lock()
        count = max(1, min(threads, image.chunk_count))
        self._threads = [threading.Thread(target=self._run, name=f"page-reader-{i}", daemon=True) for i in range(count)]

    def start(self) -> "PageReader":
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()
        return self

    def join(self, progress: Progress | None = None) -> None:
        """Wait for the end.  Raises the error of the first bad chunk."""
        try:
            for thread in self._threads:
                while progress and thread.is_alive():
                    progress(self.done, self.image.data_size)
                    thread.join(PROGRESS_INTERVAL_S)
                thread.join()
        finally:
            self.cancel()  # has an effect only if the wait was interrupted
            for thread in self._threads:
                thread.join()
            self._chunks.close()
        self._target = None  # a mapping with a view on it cannot be closed
        if self._surprise:
            raise self._surprise
        if self._error:
            raise self._error
        if progress:
            progress(self.done, self.image.data_size)

    def cancel(self) -> None:
        """Take no further chunk."""
        with self._lock:
            self._stop = 0

    def _run(self) -> None:
        image = self.image
        own = None if self._target is not None else chunk_buffer(image)
        try:
            while (chunk := next(self._next)) < self._stop:
                offset, length = image.chunk_extent(chunk)
                buffer = own[:length] if own is not None else self._target[offset : offset + length]  # type: ignore[index]
                try:
                    self._chunks.read(chunk, buffer)
                except ImageError as error:
                    self._fail(chunk, error)
                    return
                with self._lock:
                    self.done += length
        except BaseException as error:  # `join` raises it
            self._surprise = error
            self.cancel()

    def _fail(self, chunk: int, error: ImageError) -> None:
        with self._lock:
            if chunk < self._stop:
                self._stop, self._error = chunk, error


def verify(
    path: str | Path, progress: Progress | None = None, threads: int = THREADS, files: Files | None = None
) -> Image:
    """Read and check every byte of an image.  Returns its description; raises an ImageError."""
    fd, image = open_image(path, files)
    PageReader(fd, image, None, threads, files).start().join(progress)
    return image
