"""The file operations of a snapshot, each a method of one object.

Everything that writer, reader and directory do to a file system goes through here, so that a test can put an object in
its place that fails at a chosen step, and nothing else can tell.  Each method is one step: it succeeds or raises
OSError, and has no effect worth mentioning when it raises.  All big calls release the GIL.
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
    """Raise what the last call of libc reported, unless it is that this file system does not offer the call."""
    code = ctypes.get_errno() if status else 0
    if code and code not in _NOT_OFFERED:
        raise OSError(code, os.strerror(code))


class Stamp(NamedTuple):
    """What tells that a file is still the same one, unchanged since it was looked at."""

    device: int
    inode: int
    size: int  # [bytes]
    modified_ns: int  # Unix time

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """From what the system says of the file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Files:
    """The operating system's files."""

    # --- writing ---

    def create(self, path: Path) -> int:
        """A new file, open for writing and locked for as long as it stays open; FileExistsError if there is one."""
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
            os.close(fd)  # between the two calls somebody took it for an abandoned one

    def reserve(self, fd: int, size: int) -> None:
        """Set `size` bytes of disk aside, so that a full disk shows at once; nothing where that is not offered."""
        if _fallocate is not None:
            _check(_fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)))

    def write(self, fd: int, data: memoryview | bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done

    def bypass_cache(self, fd: int, bypass: bool) -> bool:
        """Write past the page cache from now on, or no longer; False where that is not offered.

        Then offsets, sizes and addresses of buffers must be multiples of the page size.
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
        """Ask for these bytes to go to disk, without waiting for it."""
        if _sync_file_range is not None:
            _check(_sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_WRITE))

    def flush_wait(self, fd: int, offset: int, size: int) -> None:
        """Wait until these bytes are with the disk, which bounds what `sync` is left to do."""
        if _sync_file_range is not None:
            # A write error is reported to the first call that asks: one not heeded here would not show in `sync`.
            flags = _SYNC_WAIT_BEFORE | _SYNC_WRITE | _SYNC_WAIT_AFTER
            _check(_sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), flags))

    def sync(self, fd: int) -> None:
        """Return once the file, with its length, is durable."""
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its final name, at once or not at all."""
        os.rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        """Return once the directory's names are durable."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Remove a name; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    # --- reading ---

    def open(self, path: Path) -> int:
        """Whatever has this name, open for reading; a pipe is not waited for."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def is_file(self, fd: int) -> bool:
        """Whether it is a regular file, with a length and a content that stay."""
        return stat.S_ISREG(os.fstat(fd).st_mode)

    def stamp(self, file: int | Path) -> Stamp:
        """Of an open file, or of the one that has this name."""
        return Stamp.of(os.stat(file))

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; returns how many bytes there were, fewer only at the end of the file."""
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def read_cached(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` as far as the page cache has it, without waiting; how many bytes that was."""
        try:
            return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EAGAIN and error.errno not in _NOT_OFFERED:
                raise
            return 0

    def open_uncached(self, fd: int) -> int:
        """The same file, open for reading past the page cache; -1 where that is not offered."""
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            return -1

    def close(self, fd: int) -> None:
        """Close; the lock of `create` ends here."""
        os.close(fd)

    # --- directories ---

    def make_directory(self, directory: Path) -> None:
        """Make one directory; FileNotFoundError without its parent, FileExistsError when the name is taken."""
        os.mkdir(directory)

    def lock(self, path: Path) -> int:
        """The file of this name, made if need be, locked until it is closed; BlockingIOError if somebody else has it.

        The lock is the kernel's: it ends with the process, however that ends.
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
            os.close(fd)  # between the two calls its holder removed it: that is another file now

    def unlock(self, fd: int, path: Path) -> None:
        """Give back what `lock` took, and remove the file."""
        with contextlib.suppress(OSError):  # nothing hangs on it: a file that nobody has locked is in nobody's way
            os.unlink(path)
        os.close(fd)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory."""
        return os.listdir(directory)

    def remove_abandoned(self, path: Path) -> bool:
        """Remove the file unless a live process holds the lock that `create` took; returns whether it went."""
        try:
            fd = self.open(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO):  # a dangling link, a socket: no writer's
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
