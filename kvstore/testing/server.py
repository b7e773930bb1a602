"""A server as its clients see it: its address, and how clients of every kind reach one of its stores.

A client chooses a store when it authenticates, by the name `default@store`.  So a URL is all that a program under test
needs to work on a branch:

    unix://default%40cart:any@/tmp/kvstore-1/socket
    redis://default%40cart:any@127.0.0.1:7000

A server without a password accepts any.  URLs with a store always have one, because some clients do not authenticate
without a password.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from kvstore.wire.respclient import Connection

USER = "default"
ANY_PASSWORD = "any"
CONTROL_TIMEOUT_S = 60.0


class NotAnAddress(ValueError):
    """A URL that names no server that could be used."""


@dataclass
class Server:
    """Where a server listens, what it asks of its clients, and what is known of its process."""

    unix_socket: str = ""  # path; "" if it is reached by TCP
    host: str = "127.0.0.1"
    port: int = 0  # 0 if it has no TCP port
    password: str = ""
    store: str = ""  # the store that its clients use unless they are told another one; "" for the main one
    pid: int = 0  # 0 for one that nobody has started here
    log_file: str = ""  # path

    @classmethod
    def of(cls, url: str) -> "Server":
        """The server that a URL names: redis://[[user]:password@]host[:port], unix://[[user]:password@]/path.

        Raises NotAnAddress.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise NotAnAddress(f"{url}: {error}") from error
        user, _, store = unquote(parts.username or USER).partition("@")
        password, database = unquote(parts.password or ""), parse_qs(parts.query).get("db", ["0"])[-1]
        if user != USER:
            raise NotAnAddress(f"{url}: the only user is {USER!r}")
        if parts.scheme == "unix" and parts.path and not parts.hostname and database == "0":
            return cls(unix_socket=unquote(parts.path), password=password, store=store)
        if parts.scheme == "redis" and parts.hostname and parts.path in ("", "/", "/0") and database == "0":
            return cls(host=parts.hostname, port=port or 6379, password=password, store=store)
        raise NotAnAddress(f"{url}: an address is redis://host:port or unix:///path, without a number of a database")

    @property
    def url(self) -> str:
        """The URL of the store that its clients use."""
        return self.url_of(self.store)

    def url_of(self, store: str = "", tcp: bool = False) -> str:
        """The URL by which a client uses a store; `tcp`: by the TCP port, even if there is a Unix socket.

        Raises NotAnAddress without such a port.
        """
        user, password = f"{USER}@{store}" if store else "", self.password or (ANY_PASSWORD if store else "")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
        if self.unix_socket and not tcp:
            return f"unix://{login}{quote(self.unix_socket)}"
        if not self.port:
            raise NotAnAddress("the server has no TCP port: start it with port='auto'")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{login}{host}:{self.port}"

    def _options(self, store: str, library: Any) -> dict[str, Any]:
        # The same as keywords of a connection of redis-py, without its metadata: it would read them from disk for each
        # connection, and send them in two more commands.
        store = store or self.store
        found: dict[str, Any] = {"driver_info": None} if hasattr(library, "DriverInfo") else {}
        if self.unix_socket:
            found["path"] = self.unix_socket
        else:
            found.update(host=self.host, port=self.port)
        if store:
            found["username"] = f"{USER}@{store}"
        if self.password:
            found["password"] = self.password
        return found

    def log(self) -> str:
        """All that it has written, as long as it runs; "" for one that nobody has started here."""
        return Path(self.log_file).read_text(errors="replace") if self.log_file else ""

    def client(self, store: str = "", **keywords: Any) -> Any:
        """A redis.Redis that uses a store; the keywords are those of redis.Redis.from_url.

        It is made of a pool: redis.Redis without one takes half a millisecond longer.
        """
        redis = _redis("redis")
        kind = redis.UnixDomainSocketConnection if self.unix_socket else redis.Connection
        pool = redis.ConnectionPool(connection_class=kind, **{**self._options(store, redis), **keywords})
        return redis.Redis.from_pool(pool)

    def async_client(self, store: str = "", **keywords: Any) -> Any:
        """A redis.asyncio.Redis that uses a store; its connections are made, and end, in the loop that uses it."""
        redis = _redis("redis")
        return _redis("kvstore.testing.aio").client(**{**self._options(store, redis), **keywords})

    def connect(self, store: str = "", timeout_s: float = CONTROL_TIMEOUT_S) -> Connection:
        """A plain connection, which needs no redis-py.  Raises OSError; CommandError when the server refuses it."""
        store = store or self.store
        connection = Connection(self.host, self.port, unixsocket=self.unix_socket, timeout_s=timeout_s)
        try:
            if store:
                connection.command("AUTH", f"{USER}@{store}", self.password or ANY_PASSWORD)
            elif self.password:
                connection.command("AUTH", self.password)
        except BaseException:
            connection.close()
            raise
        return connection


def _redis(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError("redis-py is not installed: pip install redis") from error
