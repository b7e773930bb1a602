"""Files that fail, or stop, at a chosen step; a memory that is nearly full."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcore import AddressSpace, PhysicalMemory
from mmcore.paging import ENTRY_COUNT, PAGE_SIZE
from snapshot.files import Files

WAIT_S = 180.0  # for what takes milliseconds, on a machine that is busy

STEPS = (
    *("create", "reserve", "bypass_cache", "write", "flush_begin", "flush_wait"),
    *("sync", "rename", "sync_directory", "close"),
)
"""The operations a writer makes, by method."""


class FaultyFiles(Files):
    """Calls `act(method)` instead of, or before, the `nth` call (from 0) of `method`.

    `act` raises, kills, blocks, or returns, after which the call goes on as usual.

    cache    True: nothing bypasses the page cache, False: nothing is found in it, None: as the system has it
    """

    def __init__(
        self, method: str = "", nth: int = 0, act: Callable[[str], None] = print, cache: bool | None = None
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._method, self._nth, self._act, self._cache = method, nth, act, cache

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name == "calls" or not callable(value):
            return value

        def counted(*arguments: Any) -> Any:
            self.calls[name] += 1
            if name == self._method and self.calls[name] == self._nth + 1:
                self._act(name)
            return value(*arguments)

        return counted

    def bypass_cache(self, fd: int, bypass: bool) -> bool:
        return self._cache is not True and super().bypass_cache(fd, bypass)

    def open_uncached(self, fd: int) -> int:
        return -1 if self._cache is True else super().open_uncached(fd)

    def read_cached(self, fd: int, buffer: memoryview, offset: int) -> int:
        return 0 if self._cache is False else super().read_cached(fd, buffer, offset)


def raising(code: int) -> Callable[[str], None]:
    def act(method: str) -> None:
        raise OSError(code, os.strerror(code))

    return act


class Gate:
    """An act that blocks until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, method: str) -> None:
        self.reached.set()
        assert self.go_on.wait(WAIT_S)


def use_up(memory: PhysicalMemory, leave: int) -> AddressSpace:
    """A space that takes all but `leave` of the free frames."""
    hog = AddressSpace(memory)
    block = ENTRY_COUNT * PAGE_SIZE
    hog.map(0, PAGE_SIZE)
    address = block
    while memory.frames_free >= leave + ENTRY_COUNT + 1:
        hog.map(address, block)
        address += block
    rest = memory.frames_free - leave  # less than the first block has room for, but one
    if rest == ENTRY_COUNT:
        hog.map(address, PAGE_SIZE)
        rest -= 2
    if rest:
        hog.map(PAGE_SIZE, rest * PAGE_SIZE)
    assert memory.frames_free == leave
    return hog


def listing(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))
