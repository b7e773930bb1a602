"""What the tests of the server share."""

from collections.abc import Iterator

import pytest

from tests.server import standin
from tests.server.wire import OK, Wire, info


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    with standin.start(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def server(running):
    with Wire(running.address) as connection:
        assert connection("FLUSHALL") == OK
    return running


@pytest.fixture
def fresh_server(tmp_path):
    with standin.start(tmp_path) as process:
        yield process


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def wire(server, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A connection to an empty server, in either protocol."""
    with Wire(server.address, request.param) as connection:
        yield connection


@pytest.fixture
def wire2(server) -> Iterator[Wire]:
    """A connection to an empty server, for what the protocol does not matter to."""
    with Wire(server.address) as connection:
        yield connection


@pytest.fixture
def at_least_72(server) -> None:
    """Skips where the server is a Redis from before 7.2, whose behaviour this project follows."""
    with Wire(server.address) as connection:
        version = info(connection, "server")["redis_version"]
    if version < "7.2":
        pytest.skip(f"Redis {version} does not have this")


@pytest.fixture
def ours(server) -> None:
    """Skips where the server is not this project's."""
    if server.is_redis:
        pytest.skip("of this server only")


@pytest.fixture
def start():
    return standin.start


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    with standin.start_redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(scope="module")
def start_module():
    return standin.start
