"""Reading all pages of an image, verified, by several threads.

The threads take chunks in order from one counter; each reads its chunk and computes the checksum at once, while the
bytes are in the cache.  Reading and checksum both leave the GIL, so this goes on beside whatever else the program is
doing, such as importing its modules.  A bad chunk stops the counter, but all chunks before it are still finished: the
error names the first bad one.

    target given    chunk c goes to target[c * chunk_size:]; after an error the owner drops what is there
    none given      each thread reads into a buffer of its own: only to verify

What the page cache has of a chunk is copied from there, which is the fastest; the rest is read past it, which spares
the copy, and the cache for others.
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
"""Called now and then with how many bytes of pages are done, and how many there are."""

THREADS = 2
PROGRESS_INTERVAL_S = 0.05


def chunk_buffer(image: Image) -> memoryview:
    """Room for one chunk.  Memory of a mapping begins with a page, as reading past the page cache wants it."""
    return memoryview(mmap.mmap(-1, image.chunk_size))


class ChunkReader:
    """Reads and verifies single chunks, in any order and thread.  Owns `fd`."""

    def __init__(self, fd: int, image: Image, files: Files | None = None) -> None:
        self._image = image
        self._files = files or Files()
        self._fd = fd
        self._uncached = self._files.open_uncached(fd)

    def read(self, chunk: int, buffer: memoryview) -> None:
        """Fill `buffer`, of the chunk's length and at the beginning of a page; raises an ImageError."""
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
                if error.errno != errno.EINVAL:  # the file system wants more than whole pages
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
    """The reading of one image's pages.  Owns `fd`, and closes it at the end."""

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
        """Wait for the end; raises what is wrong with the first bad chunk."""
        try:
            for thread in self._threads:
                while progress and thread.is_alive():
                    progress(self.done, self.image.data_size)
                    thread.join(PROGRESS_INTERVAL_S)
                thread.join()
        finally:
            self.cancel()  # of no effect, unless the wait was broken off
            for thread in self._threads:
                thread.join()
            self._chunks.close()
        self._target = None  # a view of a mapping keeps it from being closed
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
        except BaseException as error:  # it belongs to whoever joins
            self._surprise = error
            self.cancel()

    def _fail(self, chunk: int, error: ImageError) -> None:
        with self._lock:
            if chunk < self._stop:
                self._stop, self._error = chunk, error


def verify(
    path: str | Path, progress: Progress | None = None, threads: int = THREADS, files: Files | None = None
) -> Image:
    """Read and check every byte of an image, and say what it holds; raises an ImageError."""
    fd, image = open_image(path, files)
    PageReader(fd, image, None, threads, files).start().join(progress)
    return image
