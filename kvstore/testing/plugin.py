"""The pytest plugin: a server for the session, and a store of its own for each test.

    kvstore_server          the server: started for this session, or the one that --kvstore-url names
    kvstore_seed            the data that tests start from: a function, for users to override
    kvstore_branch          a branch of these data for one test: its name, its URL
    kv, akv                 a client of this branch: redis.Redis, redis.asyncio.Redis
    kvstore_client_options  keywords of these clients, for users to override

pytest imports this module in every session, also in those that need no server.  So it imports nothing by itself; each
fixture imports what it needs.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvstore.testing.branches import Branch, Branches, Seed
    from kvstore.testing.server import Server
    from kvstore.testing.shared import Shared

_SHARED: "pytest.StashKey[Shared]" = pytest.StashKey()
_RUN = pytest.StashKey[str]()
_REFUSED = (
    "kvstore: the tests may not use {}, because the plugin has not started this server. "
    "With --kvstore-allow-remote they make branches and snapshots there; they never write to its main store."
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options.  It is the first hook of a plugin, so it also protects the kernels."""
    _keep_kernels(pluginmanager)
    group = parser.getgroup("kvstore", "stores for tests")
    group.addoption("--kvstore-url", metavar="URL", help="use a running server: redis://host:port or unix:///path")
    group.addoption(
        "--kvstore-allow-remote", action="store_true", help="let tests make branches on the server of --kvstore-url"
    )
    parser.addini("kvstore_url", "the default of --kvstore-url", default="")
    parser.addini("kvstore_allow_remote", "the default of --kvstore-allow-remote", type="bool", default=False)
    parser.addini("kvstore_options", "parameters of the server, one a line: maxmemory 1gb", type="linelist", default=[])


def _keep_kernels(pluginmanager: pytest.PytestPluginManager) -> None:
    # pytest rewrites the assertions in all modules of a distribution that has a plugin.  numba could not compile
    # kernels any more, because nothing that pytest puts in has a type.
    hook: Any = pluginmanager.rewrite_hook
    marked, cache = getattr(hook, "_must_rewrite", None), getattr(hook, "_marked_for_rewrite_cache", None)
    if marked is not None and cache is not None:
        marked.difference_update(("bench", "kvstore", "mmcore", "snapshot"))
        cache.clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the processes of the session have shared."""
    shared = config.stash.get(_SHARED, None)
    if shared is None:
        return
    del config.stash[_SHARED]
    shared.close()
    if _url(config) and _is_allowed(config):
        _tidy_remote(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where it finds the server."""
    config = node.config
    if _SHARED not in config.stash:
        from kvstore.testing.shared import Shared

        config.stash[_SHARED] = Shared(_options(config))
    node.workerinput["kvstore"] = {"directory": config.stash[_SHARED].directory, "run": _run(config)}


@pytest.fixture(scope="session")
def kvstore_server(request: pytest.FixtureRequest) -> Iterator["Server"]:
    """The server of the session: with `url`, `client()`, `pid` and `log()`."""
    from kvstore.testing.embedded import StartFailed, embedded
    from kvstore.testing.server import NotAnAddress, Server
    from kvstore.testing.shared import ask

    config = request.config
    with contextlib.ExitStack() as stack:
        with _told(StartFailed, NotAnAddress):
            if url := _url(config):
                if not _is_allowed(config):
                    pytest.fail(_REFUSED.format(url), pytrace=False)
                server = Server.of(url)
            elif given := _given(config):
                server = ask(given["directory"])
            else:
                server = stack.enter_context(embedded(_options(config)))
        yield server


@pytest.fixture(scope="session")
def kvstore_seed() -> "Seed":
    """A function that writes the data that tests start from; it takes a client.  None by default.  Override it."""
    return None


@pytest.fixture(scope="session")
def kvstore_client_options() -> dict[str, Any]:
    """The keywords of the clients that fixtures make, such as decode_responses.  Override it."""
    return {}


@pytest.fixture(scope="session")
def _kvstore_branches(kvstore_server: "Server", request: pytest.FixtureRequest) -> Iterator["Branches"]:
    from kvstore.testing.branches import Branches, CannotBranch

    given = _given(request.config)
    lock_file = f"{given['directory']}/seed" if given else ""
    process = getattr(request.config, "workerinput", {}).get("workerid", "main")
    is_remote = bool(_url(request.config))
    with _told(CannotBranch):
        branches = Branches(
            kvstore_server, run=_run(request.config), process=process, lock_file=lock_file, transient=not is_remote
        )
    yield branches
    if is_remote and not given:
        branches.drop_all()
    branches.close()


@pytest.fixture
def kvstore_branch(
    _kvstore_branches: "Branches", kvstore_seed: "Seed", kvstore_client_options: dict[str, Any]
) -> Iterator["Branch"]:
    """A branch of the seeded store for this test: with `name`, `url`, `client()`, `changes()` and `reset()`."""
    branch = _kvstore_branches.branch(kvstore_seed, kvstore_client_options)
    yield branch
    branch.drop()


@pytest.fixture
def kv(kvstore_branch: "Branch", kvstore_client_options: dict[str, Any]) -> Iterator[Any]:
    """A redis.Redis that uses this test's branch."""
    client = kvstore_branch.client(**kvstore_client_options)
    yield client
    client.close()


@pytest.fixture
def akv(kvstore_branch: "Branch", kvstore_client_options: dict[str, Any]) -> Iterator[Any]:
    """A redis.asyncio.Redis that uses this test's branch; it connects in the loop that uses it."""
    client = kvstore_branch.async_client(**kvstore_client_options)
    yield client
    client.connection_pool.finish()


@contextlib.contextmanager
def _told(*expected: type[Exception]) -> Iterator[None]:
    # These errors are for users: the reason says all, and where it was raised is of no use to them.
    try:
        yield
        return
    except expected as error:
        reason = str(error)
    pytest.fail(f"kvstore: {reason}", pytrace=False)


def _url(config: pytest.Config) -> str:
    return str(config.getoption("kvstore_url") or config.getini("kvstore_url"))


def _is_allowed(config: pytest.Config) -> bool:
    return bool(config.getoption("kvstore_allow_remote") or config.getini("kvstore_allow_remote"))


def _options(config: pytest.Config) -> dict[str, str]:
    # The lines of kvstore_options: a name, and the rest.
    lines = (line.split(maxsplit=1) for line in config.getini("kvstore_options"))
    return {words[0]: words[1].strip("'\"") if len(words) > 1 else "" for words in lines}


def _given(config: pytest.Config) -> dict[str, str]:
    # The addresses that the owner of the server has told this worker; empty if this is no worker.
    found: dict[str, str] = getattr(config, "workerinput", {}).get("kvstore", {})
    return found


def _run(config: pytest.Config) -> str:
    # The random name of the session, the same in all of its processes.
    if _RUN not in config.stash:
        from secrets import token_hex

        config.stash[_RUN] = _given(config).get("run") or token_hex(4)
    return config.stash[_RUN]


def _tidy_remote(config: pytest.Config) -> None:
    from kvstore.testing.branches import Branches, CannotBranch
    from kvstore.testing.server import NotAnAddress, Server

    try:
        branches = Branches(Server.of(_url(config)), run=_run(config), process="owner")
    except (CannotBranch, NotAnAddress):  # the tests have told
        return
    branches.drop_all()
    branches.close()
