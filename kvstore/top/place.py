"""Where a server is, and how a client says who it is: from options, or from a URL as redis-py takes it.

    redis://[[user]:password@]host[:port][/db]        unix://[[user]:password@]/path[?db=n]

The number of a database is accepted and ignored, because `kvstore top` looks at all of them.  A user `default@branch`
is the user of a branch, so its keys are those that are shown.
"""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from kvstore.wire.respclient import Connection

TIMEOUT_S = 5.0  # for a reply; keys are not read meanwhile


class BadUrl(ValueError):
    """A URL that names no server; the message says why."""


@dataclass(frozen=True)
class Place:
    """A server and its credentials."""

    host: str = "127.0.0.1"
    port: int = 6379
    unixsocket: str | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return user + (self.unixsocket or f"{host}:{self.port}")

    def connect(self) -> Connection:
        """A connection to it.  Raises OSError, and CommandError when it refuses the password."""
        return Connection(
            self.host,
            self.port,
            unixsocket=self.unixsocket,
            username=self.username,
            password=self.password,
            timeout_s=TIMEOUT_S,
        )


def place_of_url(url: str) -> Place:
    """The place that a URL names.  Raises BadUrl."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrl(str(error)) from error
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if username and not password:
        raise BadUrl("a user without a password")
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise BadUrl("unix: needs a path, as in unix:///run/socket")
        return Place(unixsocket=unquote(parts.path), username=username, password=password)
    if parts.scheme != "redis":
        raise BadUrl(f"{parts.scheme or 'it'} is not redis: or unix:")
    return Place(parts.hostname or "127.0.0.1", port or 6379, None, username, password)
