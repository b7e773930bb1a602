"""Ports for servers that benchmarks and tests start, several of which may be at work at once on one machine.

A server is told its port before it listens on it, and meanwhile nobody else may take it.  The system gives connections
a port of its own range, so those here lie below that; and one that has been handed out is locked, by a file of its
number, until it is released or the process that asked for it ends.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, 30_000)


class Port:
    """A TCP port of the loopback that nobody listens on and that no other Port has."""

    def __init__(self) -> None:
        locks = Path(tempfile.gettempdir()) / f"kvstore-ports-{os.getuid()}"
        locks.mkdir(exist_ok=True)
        while True:
            self.number = random.SystemRandom().choice(PORTS)
            self._lock = os.open(locks / str(self.number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                    probe.bind(("127.0.0.1", self.number))
            except OSError:
                self.release()
            else:
                return

    def release(self) -> None:
        """Let others have it."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
