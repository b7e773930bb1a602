"""Files that fail, or stop, at a chosen step."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def listing(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))
