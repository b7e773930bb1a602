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

STEPS = ("create", "reserve", "write", "flush_begin", "flush_wait", "sync", "rename", "sync_directory", "close")
"""The operations a writer makes, by method."""


class FaultyFiles(Files):
    """Calls `act(method)` instead of, or before, the `nth` call (from 0) of `method`.

    `act` raises, kills, blocks, or returns, after which the call goes on as usual.
    """

    def __init__(self, method: str, nth: int, act: Callable[[str], None]) -> None:
        self.calls: Counter[str] = Counter()
        self._method, self._nth, self._act = method, nth, act

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
        assert self.go_on.wait(20)


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
