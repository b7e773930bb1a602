"""The file operations of a snapshot, each a method of one object.

The writer, the reader and the directory access the file system only through this object.  A test can therefore replace
it by one that fails at a chosen step.  Each method is one step: it succeeds, or it raises OSError and has no effect
that matters.  All long calls release the GIL.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate", None)
_sync_file_range = getattr(_libc, "sync_file_range", None)
_NOT_OFFERED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESPIPE}
_SYNC_WAIT_BEFORE, _SYNC_WRITE, _SYNC_WAIT_AFTER = 1, 2, 4


def _check(status: int) -> None:
    """Raise the error of the last libc call, unless the error is that this file system does not support the call."""
    code = ctypes.get_errno() if status else 0
    if code and code not in _NOT_OFFERED:
        raise OSError(code, os.strerror(code))


class Stamp(NamedTuple):
    """Identifies a file in one state: two equal stamps mean the same file, unchanged."""

    device: int
    inode: int
    size: int  # [bytes]
    modified_ns: int  # Unix time

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """The stamp for the result of stat()."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Files:
    """The operating system's files."""

    # --- writing ---

    def create(self, path: Path) -> int:
        """Create a file, open for writing and locked as long as it is open; FileExistsError if it exists."""
        while True:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                os.close(fd)
                self.remove(path)
                raise
            os.close(fd)  # between the two calls, another process took it for an abandoned file

    def reserve(self, fd: int, size: int) -> None:
        """Reserve `size` bytes of disk, so that a full disk is noticed at once.  No effect where not supported."""
        if _fallocate is not None:
            _check(_fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)))

    def write(self, fd: int, data: memoryview | bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done

    def bypass_cache(self, fd: int, bypass: bool) -> bool:
        """Start or stop writing past the page cache.  Returns False where it is not supported.

        While bypassing, offsets, sizes and addresses of buffers must be multiples of the page size.
        """
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if bypass else flags)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
            return False
        return True

    def flush_begin(self, fd: int, offset: int, size: int) -> None:
        """Start writing these bytes to the disk, without waiting."""
        if _sync_file_range is not None:
            _check(_sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_WRITE))

    def flush_wait(self, fd: int, offset: int, size: int) -> None:
        """Wait until these bytes have been sent to the disk, which bounds the work left for `sync`."""
        if _sync_file_range is not None:
            # The system reports a write error only once: if it were ignored here, `sync` would not see it.
            flags = _SYNC_WAIT_BEFORE | _SYNC_WRITE | _SYNC_WAIT_AFTER
            _check(_sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), flags))

    def sync(self, fd: int) -> None:
        """Return once the file, with its length, is durable."""
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its final name, atomically."""
        os.rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        """Return once the names in the directory are durable."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Remove a name; a missing name is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    # --- reading ---

    def open(self, path: Path) -> int:
        """Open this name for reading, whatever kind of file it is, without waiting for the writer of a pipe."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def is_file(self, fd: int) -> bool:
        """Whether it is a regular file, which has a length and stable contents."""
        return stat.S_ISREG(os.fstat(fd).st_mode)

    def stamp(self, file: int | Path) -> Stamp:
        """The stamp of an open file, or of the file with this name."""
        return Stamp.of(os.stat(file))

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`.  Returns the number of bytes read, fewer only at the end of the file."""
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def read_cached(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` as far as the page cache has the data, without waiting.  Returns the length."""
        try:
            return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EAGAIN and error.errno not in _NOT_OFFERED:
                raise
            return 0

    def open_uncached(self, fd: int) -> int:
        """Open the same file for reading past the page cache; -1 where it is not supported."""
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            return -1

    def close(self, fd: int) -> None:
        """Close; the lock of `create` ends here."""
        os.close(fd)

    # --- directories ---

    def make_directory(self, directory: Path) -> None:
        """Create one directory; FileNotFoundError without its parent, FileExistsError if the name is taken."""
        os.mkdir(directory)

    def lock(self, path: Path) -> int:
        """Open or create a file and lock it until it is closed; BlockingIOError if another process holds the lock.

        The kernel owns the lock and releases it when the process ends, however it ends.
        """
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # between the two calls, its holder removed it: the name now means another file

    def unlock(self, fd: int, path: Path) -> None:
        """Release the lock of `lock`, and remove the file."""
        with contextlib.suppress(OSError):  # a failure is harmless: a file without a lock stops nobody
            os.unlink(path)
        os.close(fd)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory."""
        return os.listdir(directory)

    def remove_abandoned(self, path: Path) -> bool:
        """Remove the file unless a live process holds the lock that `create` took.  Returns whether it was removed."""
        try:
            fd = self.open(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO):  # a dangling link or a socket: not a writer's file
                raise
            return False
        try:
            if not self.is_file(fd):
                return False
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.remove(path)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True
