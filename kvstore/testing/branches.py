"""The branches of one session of tests: a seed that is loaded once, and a branch of it for each test.

A *seed* is a function that writes the data that the tests start from, or None.  Its data are written into a branch of
the store that the server's URL names, and kept as a snapshot.  Each test gets a branch of the snapshot, which is
dropped after the test.  Both cost a fork of one page of page tables, whatever the seed has written.  One connection
serves all of this, so that a test need not wait for another one.

No store is written to but these, and their names say to which session they belong:

    pytest-5f0c2e1b-seed-7d41a9c0       the snapshot of a seed
    pytest-5f0c2e1b-gw1-17              the branch of the 17th test of the worker gw1

So several sessions, and the processes of one session, can use one server.  A process loads a seed with a lock held.
If that fails half-way, nothing is left of it, and another process tries again.  On a server that lives longer than the
session, all stores end by themselves after a day.
"""

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kvstore.testing.server import Server
from kvstore.wire.reply import CommandError

PREFIX = "pytest"
ENDS_AFTER_S = 86_400  # of the stores on a server that lives longer than the session

Seed = Callable[[Any], object] | None


class CannotBranch(Exception):
    """The server has no branches, has gone, or refuses; the message has the reason."""


class SeedsOfOneName(Exception):
    """Two different seeds that other processes could not tell apart."""


def is_gone(error: CommandError) -> bool:
    """Whether a command has failed because there is no such store."""
    return str(error).startswith("NOBRANCH")


class Branch:
    """The branch of one test."""

    def __init__(self, stores: "Branches", name: str, snapshot: str) -> None:
        self.name = name
        self._stores, self._snapshot = stores, snapshot

    def __repr__(self) -> str:
        return f"<Branch {self.name}>"

    @property
    def url(self) -> str:
        """The URL by which a program uses the branch."""
        return self._stores.server.url_of(self.name)

    @property
    def tcp_url(self) -> str:
        """The same by the server's TCP port, for clients without Unix sockets.  Raises NotAnAddress if it has none."""
        return self._stores.server.url_of(self.name, tcp=True)

    def client(self, **keywords: Any) -> Any:
        """A redis.Redis that uses the branch."""
        return self._stores.server.client(self.name, **keywords)

    def async_client(self, **keywords: Any) -> Any:
        """A redis.asyncio.Redis that uses the branch."""
        return self._stores.server.async_client(self.name, **keywords)

    def reset(self) -> None:
        """Give the branch the data again that the test began with; its clients stay connected."""
        self._stores.command("BRANCH", "RESET", self.name)

    def changes(self) -> list[tuple[int, bytes, str]]:
        """The keys that are not as the test began with them: (database, key, "new" | "gone" | "changed"), sorted."""
        found: list[tuple[int, bytes, str]] = []
        cursor = 0
        while True:
            reply = self._stores.command("BRANCH", "DIFF", self._snapshot, self.name, "CURSOR", cursor)
            fields = dict(zip(reply[::2], reply[1::2], strict=True))
            found += ((database, key, how.decode()) for database, key, how in fields[b"changes"])
            cursor = fields[b"cursor"]
            if not cursor:
                return sorted(found)

    def drop(self) -> None:
        """End the branch, whether or not clients use it; nothing happens when it has ended already."""
        with contextlib.suppress(CommandError):
            self._stores.command("BRANCH", "DROP", self.name, "FORCE")


class Branches:
    """See the module's note.

    run: what distinguishes the session from others; process: the process from others of the session; lock_file: held
    while a seed is loaded, "" when there is one process; transient: whether the server ends with the session.
    """

    def __init__(
        self,
        server: Server,
        *,
        run: str,
        process: str,
        lock_file: str = "",
        transient: bool = True,
    ) -> None:
        self.server = server
        self._names = f"{PREFIX}-{run}"
        self._process = process
        self._lock_file = lock_file
        self._ends = () if transient else ("TTL", ENDS_AFTER_S)
        self._count = 0
        self._one_at_a_time = threading.Lock()  # a test may reset its branch in a thread
        self._seeds: dict[str, Seed] = {}  # those that are loaded, by the names of their snapshots
        try:
            self._connection = server.connect()
            self._base = self.command("BRANCH", "CURRENT").decode()
        except OSError as error:
            raise CannotBranch(f"{server.url} cannot be reached: {error}") from error
        except CommandError as error:
            raise CannotBranch(f"{server.url} is not a server with branches: {error}") from error

    def command(self, *words: str | int) -> Any:
        """The reply to a command about stores.  Raises CommandError, and CannotBranch when the server has gone."""
        try:
            with self._one_at_a_time:
                return self._connection.command(*words)
        except OSError as error:
            raise CannotBranch(f"the server has gone: {error}\n{self.server.log()}") from error

    def branch(self, seed: Seed, client_options: Mapping[str, Any]) -> Branch:
        """A new branch with the data of a seed, which is loaded if no process of the session has done that."""
        snapshot = self._snapshot_of(seed, client_options)
        self._count += 1
        name = f"{self._names}-{self._process}-{self._count}"
        self.command("BRANCH", "CREATE", name, "FROM", snapshot, *self._ends)
        return Branch(self, name, snapshot)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def drop_all(self) -> None:
        """Drop all stores of the session, for a server that lives longer."""
        for kind in ("BRANCH", "SNAPSHOT"):
            for one in self.command(kind, "LIST"):
                name = dict(zip(one[::2], one[1::2], strict=True))[b"name"].decode()
                if name.startswith(f"{self._names}-"):
                    with contextlib.suppress(CommandError):
                        self.command(kind, "DROP", name, "FORCE")

    def _snapshot_of(self, seed: Seed, client_options: Mapping[str, Any]) -> str:
        identity = _identity(seed)
        name = f"{self._names}-seed-{zlib.crc32(identity.encode()):08x}"
        if name in self._seeds:
            if self._seeds[name] is not seed:
                raise SeedsOfOneName(f"two seeds are called {identity}: give them different names (__qualname__)")
            return name
        with self._alone():
            if not self._is_there(name):
                self._load(seed, name, client_options)
        self._seeds[name] = seed
        return name

    def _load(self, seed: Seed, snapshot: str, client_options: Mapping[str, Any]) -> None:
        loading = f"{snapshot}-{self._process}"
        self.command("BRANCH", "CREATE", loading, "FROM", self._base, *self._ends)
        try:
            if seed is not None:
                client = self.server.client(loading, **{"socket_timeout": None, **client_options})  # it may take long
                try:
                    seed(client)
                finally:
                    client.close()
            self.command("SNAPSHOT", "CREATE", snapshot, "FROM", loading, *self._ends)
        finally:
            with contextlib.suppress(CommandError):
                self.command("BRANCH", "DROP", loading, "FORCE")

    def _is_there(self, snapshot: str) -> bool:
        try:
            self.command("SNAPSHOT", "INFO", snapshot)
        except CommandError as error:
            if is_gone(error):
                return False
            raise
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # The system releases the lock of a process that dies.
        if not self._lock_file:
            yield
            return
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _identity(seed: Seed) -> str:
    # The same in all processes of a session.
    if seed is None:
        return "none"
    named: Any = seed if hasattr(seed, "__qualname__") else type(seed)
    return f"{named.__module__}.{named.__qualname__}"
