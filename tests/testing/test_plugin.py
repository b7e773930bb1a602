"""The plugin in sessions of pytest of their own: isolation, seeds, asyncio, workers, and servers that it did not start.

In the sessions warnings are errors, so that a connection that is left open fails.
"""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from kvstore import embedded
from kvstore.testing.embedded import Embedded
from mmcore.jit import DISABLED
from tests.harness import start_redis
from tests.testing.test_embedded import runs

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(DISABLED, reason="the server is not run without the compiler")

IS_INSTALLED = any(point.name == "kvstore" for point in entry_points(group="pytest11"))
PLUGIN = () if IS_INSTALLED else ("-p", "kvstore.testing.plugin")
INI = """
[pytest]
filterwarnings = error
addopts = -p no:cacheprovider -p no:hypothesispytest -p no:valkey -ra
"""
NO_ASYNCIO = ("-p", "no:asyncio", "-p", "no:anyio")

# A seed that writes a line into a file each time that it is loaded.
CONFTEST = """
import os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="session")
def kvstore_seed():
    def seed(client):
        with HERE.joinpath("loaded").open("a") as file:
            print("root", file=file)
        client.set("city", "Lisbon")
        client.rpush("list", *range(1000))
    return seed

@pytest.fixture(scope="session")
def kvstore_client_options():
    return {"decode_responses": True}

@pytest.fixture
def note(kvstore_branch, kvstore_server):
    with HERE.joinpath("noted").open("a") as file:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        print(worker, kvstore_branch.name, kvstore_server.pid, file=file, flush=True)
"""


@pytest.fixture
def session(pytester: pytest.Pytester) -> Iterator["Session"]:
    """Runs pytest in an empty directory with a seed."""
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    return Session(pytester)


class Session:
    """See the fixture."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def run(self, *words: str, plugins: tuple[str, ...] = NO_ASYNCIO, **files: str) -> pytest.RunResult:
        """Run pytest with these words over these files."""
        self.pytester.makepyfile(**files)
        return self.pytester.runpytest_subprocess(*PLUGIN, *plugins, *words)

    def lines(self, name: str) -> list[list[str]]:
        """The lines of a file that the session has written, in words."""
        path = self.pytester.path / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


TESTS = """
import subprocess, sys
import pytest

@pytest.mark.parametrize("i", range(3))
def test_each_gets_the_seed(kv, i):
    assert kv.get("city") == "Lisbon" and kv.llen("list") == 1000 and kv.dbsize() == 2
    kv.flushall()
    kv.set("city", "Porto")

def test_a_branch_goes_back_to_the_seed(kv, kvstore_branch):
    kv.rename("city", "town")
    kvstore_branch.reset()
    assert kv.keys("*y") == ["city"]

def test_a_program_finds_the_branch_by_its_urls(kv, kvstore_branch):
    program = "import redis, sys; [redis.Redis.from_url(url).append('from', 'it ') for url in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", program, kvstore_branch.url, kvstore_branch.tcp_url], check=True)
    assert kv.get("from") == "it it "
    assert kvstore_branch.changes() == [(0, b"from", "new")]

def test_the_main_store_is_empty(kvstore_server, kv):
    with kvstore_server.client() as main:
        assert main.dbsize() == 0

def test_a_test_may_drop_its_branch(kv, kvstore_branch):
    with kvstore_branch.client() as other:
        other.execute_command("BRANCH", "USE", "main")
        other.execute_command("BRANCH", "DROP", kvstore_branch.name, "FORCE")

def test_all_branches_but_this_one_are_gone(kvstore_branch, kvstore_server):
    with kvstore_server.client(decode_responses=True) as client:
        names = [one["name"] for one in client.execute_command("BRANCH", "LIST")]
    assert names == ["main", kvstore_branch.name]

def test_its_options_are_those_of_the_ini_file(kv):
    assert kv.config_get("maxmemory", "save") == {"maxmemory": "67108864", "save": "3600 1"}
"""

NESTED = """
import pathlib, pytest

@pytest.fixture(scope="session")
def kvstore_seed():
    def another(client):
        with pathlib.Path(__file__).parent.parent.joinpath("loaded").open("a") as file:
            print("nested", file=file)
        client.set("town", "Sintra")
    return another
"""


def test_each_test_has_a_store_of_its_own(session: Session) -> None:
    session.pytester.makeini(
        INI
        + "kvstore_options =\n    maxmemory 64mb\n    port auto\n    save '3600 1'\n    hash-max-listpack-entries 7\n"
    )
    nested = session.pytester.mkpydir("nested")
    nested.joinpath("conftest.py").write_text(NESTED)
    test = "def test_here(kv):\n    assert kv.keys('*') == ['town']\n"
    nested.joinpath("test_one.py").write_text(test)
    nested.joinpath("test_two.py").write_text(test)
    session.run(test_all=TESTS).assert_outcomes(passed=11)
    assert session.lines("loaded") == [["nested"], ["root"]]


ASYNCIO = """
import asyncio, threading
import pytest

def test_in_a_loop_of_the_test_s_own(akv, kv):
    async def main():
        await akv.set("city", "Porto")
        return await asyncio.gather(*(akv.llen("list") for _ in range(5)))
    assert asyncio.run(main()) == [1000] * 5
    assert asyncio.run(akv.get("city")) == kv.get("city") == "Porto"

def test_in_a_loop_that_still_runs_in_another_thread(akv, request):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    def end():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    request.session.config.add_cleanup(end)
    assert asyncio.run_coroutine_threadsafe(akv.get("city"), loop).result() == "Lisbon"

def test_not_at_all(akv):
    pass
"""

WITH_PLUGINS = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

MARKS = [pytest.mark.asyncio, pytest.mark.asyncio(loop_scope="session"), pytest.mark.anyio]
"""
WITH_PLUGIN = """
@MARKS[{n}]
@pytest.mark.parametrize("i", range(2))
async def test_a_client_in_the_plugin_s_loop_{n}(akv, kv, i):
    assert await akv.get("city") == "Lisbon"
    await akv.set("city", "Porto")
    assert kv.get("city") == "Porto"

@MARKS[{n}]
async def test_subscribers_and_pipelines_{n}(akv):
    async with akv.pubsub() as listener:
        await listener.subscribe("news")
        await akv.publish("news", "hello")
        while (message := await listener.get_message(timeout=60))["type"] != "message":
            pass
        assert message["data"] == "hello"
    assert await akv.pipeline().get("city").llen("list").execute() == ["Lisbon", 1000]
"""


def test_asyncio_without_a_plugin(session: Session) -> None:
    session.run(test_all=ASYNCIO).assert_outcomes(passed=3)


def test_asyncio_with_the_plugins(session: Session) -> None:
    pytest.importorskip("pytest_asyncio")
    pytest.importorskip("anyio")
    session.pytester.makeini(INI + "asyncio_default_fixture_loop_scope = function\n")
    tests = WITH_PLUGINS + "".join(WITH_PLUGIN.format(n=n) for n in range(3))
    session.run(plugins=(), test_all=tests).assert_outcomes(passed=9)


MANY = """
import pytest

@pytest.mark.parametrize("i", range(12))
def test_each_gets_the_seed(kv, note, i):
    assert kv.get("city") == "Lisbon" and kv.dbsize() == 2
    kv.flushall()
"""


def test_workers_share_a_server_and_its_seed(session: Session) -> None:
    session.run("-n", "2", test_all=MANY).assert_outcomes(passed=12)
    noted = session.lines("noted")
    assert {worker for worker, _, _ in noted} == {"gw0", "gw1"}
    assert len({branch for _, branch, _ in noted}) == 12
    assert all(f"-{worker}-" in branch for worker, branch, _ in noted)
    (pid,) = {int(pid) for _, _, pid in noted}
    assert not runs(pid)
    assert session.lines("loaded") == [["root"]]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_start_that_fails_shows_the_log(session: Session, workers: tuple[str, ...]) -> None:
    session.pytester.makeini(INI + "kvstore_options = nonsense 1\n")
    result = session.run(*workers, test_all="def test_a(kv): pass\ndef test_b(kv): pass\n")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*kvstore: the server ended with status 1:", "*unknown option 'nonsense'"])


def test_a_server_that_goes_shows_its_log(session: Session) -> None:
    test = "def test_a(kv, kvstore_server): kvstore_server.kill()\ndef test_b(kv): pass\n"
    result = session.run(test_all=test)
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*CannotBranch: the server has gone*", "*Ready to accept connections*"])


@pytest.fixture(scope="module")
def running() -> Iterator[Embedded]:
    """A server that the plugin does not start."""
    with embedded() as server:
        with server.client() as client:
            client.set("kept", "data")
        yield server


def stores(server: Embedded) -> list[str]:
    """The names of all stores of a server."""
    with server.client() as client:
        listed = client.execute_command("BRANCH", "LIST") + client.execute_command("SNAPSHOT", "LIST")
    return [one[b"name"].decode() for one in listed]


REMOTE = """
def test_it_starts_from_what_is_there(kv):
    assert sorted(kv.keys("*")) == ["city", "kept", "list"]
    kv.flushall()

def test_again(kv):
    assert kv.get("kept") == "data"

def test_its_stores_end_by_themselves(kv, kvstore_branch, kvstore_server):
    with kvstore_server.client() as client:
        found = client.execute_command("BRANCH", "LIST") + client.execute_command("SNAPSHOT", "LIST")
        assert all(one[b"ttl"] > 80_000 for one in found if one[b"name"] != b"main") and len(found) >= 3
"""


def test_a_server_that_it_did_not_start_is_not_touched(session: Session, running: Embedded) -> None:
    result = session.run("--kvstore-url", running.url, test_all=REMOTE)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([f"*may not use {running.url}, because*--kvstore-allow-remote*"])
    assert stores(running) == ["main"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_with_permission_it_makes_only_stores_of_its_own(
    session: Session, running: Embedded, workers: tuple[str, ...]
) -> None:
    session.pytester.makeini(INI + f"kvstore_url = {running.url}\n")
    session.run("--kvstore-allow-remote", *workers, test_all=REMOTE).assert_outcomes(passed=3)
    with running.client() as client:
        assert client.keys("*") == [b"kept"]
    assert stores(running) == ["main"]
    assert session.lines("loaded") == [["root"]]


def test_a_server_without_branches_is_named(session: Session, tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        result = session.run("--kvstore-url", url, "--kvstore-allow-remote", test_all=REMOTE)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([f"*kvstore: {url} is not a server with branches: ERR unknown command 'BRANCH'*"])


def test_a_server_that_is_not_there_is_named(session: Session) -> None:
    url = "redis://127.0.0.1:1"
    result = session.run("--kvstore-url", url, "--kvstore-allow-remote", test_all="def test_a(kv): pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*kvstore: {url} cannot be reached*"])
