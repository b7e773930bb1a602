"""The branches of a session: seeds that fail, that wait for each other, and that cannot be told apart."""

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kvstore import embedded
from kvstore.testing.branches import Branches, SeedsOfOneName
from kvstore.testing.embedded import Embedded
from mmcore.jit import DISABLED

pytestmark = pytest.mark.skipif(DISABLED, reason="the server is not run without the compiler")
_RUNS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    """A server."""
    with embedded() as server:
        yield server


@pytest.fixture
def run() -> str:
    """A name that no other session has."""
    return f"run{next(_RUNS)}"


@pytest.fixture
def branches(server: Embedded, run: str) -> Iterator[Branches]:
    """The branches of a session with one process."""
    one = Branches(server, run=run, process="main")
    yield one
    one.drop_all()
    one.close()


def names(branches: Branches, run: str) -> set[str]:
    """The stores of a session."""
    listed = branches.command("BRANCH", "LIST") + branches.command("SNAPSHOT", "LIST")
    found = {dict(zip(one[::2], one[1::2], strict=True))[b"name"].decode() for one in listed}
    return {name for name in found if name.startswith(f"pytest-{run}-")}


def get(branches: Branches, branch: Any, key: str) -> Any:
    """The value of a key of a branch."""
    with branches.server.connect(branch.name) as connection:
        return connection.command("GET", key)


def test_a_seed_is_loaded_once(branches: Branches) -> None:
    calls = []

    def seed(client: Any) -> None:
        calls.append(client.set("city", "Lisbon"))

    made = [branches.branch(seed, {}) for _ in range(3)]
    assert [get(branches, one, "city") for one in made] == [b"Lisbon"] * 3
    assert len({one.name for one in made}) == 3
    assert calls == [True]


def test_there_need_be_no_seed(branches: Branches, run: str) -> None:
    branch = branches.branch(None, {})
    assert get(branches, branch, "city") is None
    branch.drop()
    branch.drop()  # once more does no harm
    assert len(names(branches, run)) == 1
    branches.drop_all()
    assert names(branches, run) == set()


def test_the_changes_of_a_test_are_told(branches: Branches) -> None:
    def seed(client: Any) -> None:
        client.mset({"a": 1, "b": 2, "c": 3})

    branch = branches.branch(seed, {})
    assert branch.changes() == []
    with branch.client() as client:
        client.incr("a")
        client.delete("b")
        client.expire("c", 1000)
        client.mset({f"key:{i}": i for i in range(500)})  # more than one reply has
    changes = branch.changes()
    assert changes[:3] == [(0, b"a", "changed"), (0, b"b", "gone"), (0, b"c", "changed")]
    assert sorted(changes[3:]) == sorted((0, b"key:%d" % i, "new") for i in range(500))
    branch.reset()
    assert branch.changes() == []


def test_nothing_is_left_of_a_seed_that_fails(branches: Branches, run: str) -> None:
    fails = True

    def seed(client: Any) -> None:
        client.incr("calls")
        if fails:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        branches.branch(seed, {})
    assert names(branches, run) == set()
    fails = False
    assert get(branches, branches.branch(seed, {}), "calls") == b"1"


def test_two_seeds_of_one_name_are_refused(branches: Branches) -> None:
    def make(city: str) -> Any:
        def seed(client: Any) -> None:
            client.set("city", city)

        return seed

    branches.branch(make("Lisbon"), {})
    with pytest.raises(SeedsOfOneName, match=r"test_two_seeds.*seed: give them different names"):
        branches.branch(make("Porto"), {})
    other = make("Porto")
    other.__qualname__ = "porto"
    assert get(branches, branches.branch(other, {}), "city") == b"Porto"


def test_a_seed_waits_for_the_same_seed_of_another_process(server: Embedded, run: str, tmp_path: Path) -> None:
    calls: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def seed(client: Any) -> None:
        calls.append(client.execute_command("BRANCH", "CURRENT").decode())
        begun.set()
        assert go_on.wait(60)
        client.set("city", "Lisbon")

    each = [Branches(server, run=run, process=f"gw{i}", lock_file=str(tmp_path / "lock")) for i in range(2)]
    made: list[Any] = []
    threads = [threading.Thread(target=lambda one=one: made.append(one.branch(seed, {}))) for one in each]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert [get(each[0], one, "city") for one in made] == [b"Lisbon"] * 2
    assert len(calls) == 1 and calls[0].endswith("-gw0")
    for one in each:
        one.drop_all()
        one.close()
