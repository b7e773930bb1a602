"""The server with gates before its file operations: a test can stop it at an operation, and let it go on.

    gates/sync        a pipe with an operation's name: the server's next `Files.sync` waits until the pipe is closed

`gate` makes one.  This server is as strict as tests/strict.py; tests/harness.py starts it with the result of `gated`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snapshot.files import Files
from tests.server.wire import wait_until

VARIABLE = "KVSTORE_TEST_GATES"
OPERATIONS = ("create", "sync", "rename", "sync_directory", "read_cached")


class Gate:
    """The test's end of a gate: made closed."""

    def __init__(self, directory: Path, operation: str) -> None:
        assert operation in OPERATIONS, operation
        directory.mkdir(exist_ok=True)
        self._path, self._fd = directory / operation, -1
        os.mkfifo(self._path)

    def reached(self) -> None:
        """Wait until the server has reached the gate."""
        wait_until(self._knock, f"the server to come to {self._path.name}")

    def _knock(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # the server does not read from it yet
            return False
        return True

    def open(self) -> None:
        """Let the server pass, now and later."""
        self._path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@contextmanager
def gate(directory: Path, operation: str) -> Iterator[Gate]:
    """A closed gate, open at the end."""
    one = Gate(directory, operation)
    try:
        yield one
    finally:
        one.open()


def gated(directory: Path) -> dict[str, Any]:
    """Arguments for tests/harness.py's `start` that start the server with gates in this directory."""
    return {"program": "tests.gated", "environment": {VARIABLE: str(directory)}}


def _stopped(operation: str, directory: Path) -> Any:
    real, path = getattr(Files, operation), directory / operation

    def wait_and_do(*arguments: Any) -> Any:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # there is no gate
            return real(*arguments)
        try:
            os.read(fd, 1)  # until the test closes its end
        finally:
            os.close(fd)
        return real(*arguments)

    return wait_and_do


if __name__ == "__main__":
    from kvstore.__main__ import main
    from mmcore.jit import Leaf
    from tests.strict import refuse

    Leaf.__call__ = refuse  # type: ignore[method-assign]
    for name in OPERATIONS:
        setattr(Files, name, _stopped(name, Path(os.environ[VARIABLE])))
    main()
