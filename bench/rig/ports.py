"""Ports for the servers of benchmarks and tests, several of which may run at the same time on one machine.

A server gets its port before it listens on it, and meanwhile nobody else may take that port.  The system takes the
ports of connections from its own range, so the ports here lie below that range.  A file named after the port is locked
until the port is released or the process that asked for it ends.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, 30_000)


class Port:
    """A TCP port of the loopback interface; nobody listens on it, and no other Port has it."""

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
        """Release the port, so that others may take it."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
