"""Fixtures shared by the tests of the server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.harness import Process
from tests.server.branching import check_clean, drop_all
from tests.server.streams import LIMITS, Pair, Side
from tests.server.wire import OK, Wire, info

Start = Callable[..., Process]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The server that most tests share."""
    with harness.start(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def server(running: Process) -> Process:
    """The shared server, emptied."""
    assert running.process.poll() is None, running.log()[-5000:]
    with Wire(running.address) as connection:
        assert connection("FLUSHALL") == OK
    return running


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a server of the test's own: see tests/harness.py."""
    return harness.start


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A real redis-server."""
    with harness.start_redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A real valkey-server, for features that redis-server 7.0 lacks."""
    with harness.start_valkey(tmp_path_factory.mktemp("valkey")) as process:
        yield process


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def wire(server: Process, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A connection to an empty server, in either protocol."""
    with Wire(server.address, request.param) as connection:
        yield connection


@pytest.fixture
def wire2(server: Process) -> Iterator[Wire]:
    """A connection to an empty server, for tests that do not depend on the protocol."""
    with Wire(server.address) as connection:
        yield connection


@pytest.fixture
def at_least_72(server: Process) -> None:
    """Skips if the server is a Redis older than 7.2, whose behaviour this project follows."""
    with Wire(server.address) as connection:
        version = info(connection, "server")["redis_version"]
    if version < "7.2":
        pytest.skip(f"Redis {version} does not have this")


@pytest.fixture
def ours(server: Process) -> None:
    """Skips if the server is not this project's."""
    if server.is_redis:
        pytest.skip("of this server only")


@pytest.fixture
def stores(server: Process, ours: None) -> Iterator[None]:
    """Begins and ends without branches and snapshots; skips if the server has none."""
    with Wire(server.address) as first:
        drop_all(first)
    yield
    check_clean(server)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty directory for a server's images."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture(params=["resp2", "resp3"], scope="module")
def protocol_of_pair(request: pytest.FixtureRequest) -> int:
    """The protocol of both sides."""
    return int(request.param[-1])


@pytest.fixture(params=["redis", "valkey"], scope="module")
def pair(request: pytest.FixtureRequest, running: Process, protocol_of_pair: int) -> Iterator[Pair]:
    """This server beside an oracle, for streams of commands: see streams.py."""
    other = request.getfixturevalue(f"{request.param}_server")
    sides = Side(running.address, protocol_of_pair, "mine"), Side(other.address, protocol_of_pair, request.param)
    yield Pair(*sides)
    for side in sides:
        for name, values in LIMITS.items():
            side.wire("CONFIG", "SET", name, values[0])
        side.close()
