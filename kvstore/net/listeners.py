"""The sockets that a server listens on: TCP ports, and a Unix socket, which leaves a file behind.

An unavailable address is an error that names the address.  An address that begins with "-" may be missing on this
machine, like ::1 on a machine without IPv6.  Even such an address is an error if another process uses it.

The file of a Unix socket outlives a server that was killed.  So the server first tries to connect to an existing file.
If another server answers, it keeps its file; a file without a server is replaced.  A file that is not a socket is never
touched.  On exit the server removes the file only if the file is still its own.
"""

import errno
import logging
import os
import socket
import stat
from pathlib import Path

log = logging.getLogger("kvstore")

UNIX_PATH_MAX = 107  # bytes, without the zero byte at the end
_EVERYWHERE = {"*": "0.0.0.0", "::*": "::"}
_NO_SUCH_PROTOCOL = {
    errno.EAFNOSUPPORT,
    errno.ENOPROTOOPT,
    errno.EPFNOSUPPORT,
    errno.EPROTONOSUPPORT,
    errno.ESOCKTNOSUPPORT,
}


class CannotListen(Exception):
    """A socket that cannot be opened: which one, and why."""


def listen_tcp(address: str, port: int, backlog: int) -> socket.socket | None:
    """A socket that listens at `address`, in the notation of redis.conf's bind; None if an optional one is missing.

    Raises CannotListen.
    """
    optional, host = address.startswith("-"), address.removeprefix("-")
    try:
        return _listen_tcp(_EVERYWHERE.get(host, host), port, backlog)
    except (OSError, ValueError) as error:  # ValueError for an impossible name
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        text = f"Could not create server TCP listening socket {host}:{port}: {why}"
        missing = isinstance(error, OSError) and (
            error.errno in _NO_SUCH_PROTOCOL or (optional and error.errno == errno.EADDRNOTAVAIL)
        )
        if not missing:
            raise CannotListen(text) from error
        log.warning("%s", text)
        return None


def _listen_tcp(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class UnixListener(socket.socket):
    """A socket that listens at `path`.  Raises CannotListen."""

    def __init__(self, path: str, permissions: int, backlog: int) -> None:
        self.path, self._file = Path(path), (-1, -1)
        length = len(os.fsencode(path))
        if length > UNIX_PATH_MAX:
            too_long = f"unix socket path too long ({length}), must be under {UNIX_PATH_MAX + 1}"
            raise CannotListen(f"Failed opening Unix socket: {too_long}")
        super().__init__(socket.AF_UNIX)
        try:
            self._make_way()
            self.bind(path)
            self._file = self._identity()
            if permissions:
                self.path.chmod(permissions)  # before a client can connect
            self.listen(backlog)
            self.setblocking(False)
        except OSError as error:
            self.close()
            raise CannotListen(f"Failed opening Unix socket: {path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Stop listening, and remove the file unless it now belongs to another server."""
        try:
            if self.fileno() >= 0 and self._identity() == self._file:
                self.path.unlink()
        except OSError as error:
            log.debug("The Unix socket %s is not removed: %s", self.path, error.strerror)
        super().close()

    def _identity(self) -> tuple[int, int]:
        found = self.path.lstat()
        return found.st_dev, found.st_ino

    def _make_way(self) -> None:
        # Remove the file that a dead server left behind.
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EADDRINUSE, "bind: Address already in use, by what is no socket")
        if _is_answered(str(self.path)):
            raise OSError(errno.EADDRINUSE, "bind: Address already in use, by a server that answers")
        self.path.unlink(missing_ok=True)


def _is_answered(path: str) -> bool:
    # Whether a process has this socket open.  Only a refused connection proves the opposite: a full backlog does not.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def warn_of_backlog(backlog: int) -> None:
    """Log a warning if the system's limit of waiting connections is below the configured one."""
    try:
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        return
    if most < backlog:
        log.warning(
            "WARNING: The TCP backlog setting of %d cannot be enforced because /proc/sys/net/core/somaxconn is set to "
            "the lower value of %d.",
            backlog,
            most,
        )
