"""The process that test_crash kills: writes image after image, each of pages that hold its number."""

import argparse
import errno
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

from mmcore.jit import Array, Table, int64, over
from snapshot import writer as writer_module
from snapshot.files import Files
from snapshot.image import PAGE_SIZE
from snapshot.writer import Job, Writer

PAGES = 60
CHUNK = 4 * PAGE_SIZE


class Pages:
    """Pages that all hold one number."""

    root = 0

    def __init__(self, number: int) -> None:
        self._number = number

    def runs(self) -> Table:
        return Table.of([[0x1000, PAGES]], 2)

    def repeats(self) -> None:
        return None

    def gather(self, first: int, pages: int, buffer: Array) -> None:
        words = over(buffer[: pages * PAGE_SIZE], int64)
        words[:] = Table.of([[self._number]] * len(words), 1).words


class DeadlyFiles(Files):
    """Kills the process at the nth call of a method, once armed, before the operation or after it."""

    armed = False

    def __init__(self, method: str, nth: int, when: str, room: int) -> None:
        self._method, self._left, self._when, self._room = method, nth, when, room

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "bypass_cache" and self._method.startswith("flush"):
            return lambda fd, bypass: False  # only what goes through the cache is flushed
        if name.startswith("_") or name != self._method or not self.armed:
            return value

        def deadly(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = value(*arguments)
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return deadly

    def reserve(self, fd: int, size: int) -> None:
        directory = Path(os.readlink(f"/proc/self/fd/{fd}")).parent
        if len([name for name in os.listdir(directory) if name.endswith(".kvimg")]) >= self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().reserve(fd, size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--at", nargs=3, default=("", "0", "before"))
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--images", type=int, default=1 << 60)
    parser.add_argument("--room", type=int, default=1 << 60, help="images that the disk has room for, beside a new one")
    options = parser.parse_args()
    writer_module.FLUSH_SIZE = 8 * PAGE_SIZE
    step, nth, when = options.at
    files = DeadlyFiles(step, int(nth), when, options.room)
    writer = Writer(options.directory, files=files, chunk_size=CHUNK)
    writer.images.clean()
    for number in range(1, options.images + 1):
        files.armed = number == 3
        writer.submit(Job(Pages(number), partial(dict, number=number), keep=options.keep))
        writer.wait()
        outcome = writer.take()
        assert outcome is not None
        assert outcome.ok, outcome.error
        print(number, flush=True)
    writer.close()


if __name__ == "__main__":
    main()
