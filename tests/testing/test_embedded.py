"""A server for as long as a block lasts: its start, its options, its end, and what happens when either fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

import kvstore
from kvstore import StartFailed, embedded
from kvstore.testing import embedded as module
from kvstore.wire.reply import CommandError
from mmcore.jit import DISABLED
from tests.server.wire import wait_until

pytestmark = pytest.mark.skipif(DISABLED, reason="the server is not run without the compiler")


def runs(pid: int) -> bool:
    """Whether there is a process of this number that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_serves_by_its_socket_alone_and_leaves_nothing() -> None:
    with embedded() as server:
        directory, pid = Path(server.unix_socket).parent, server.pid
        with server.client(decode_responses=True) as client:
            assert client.set("city", "Lisbon") and client.get("city") == "Lisbon"
            assert client.config_get("port", "save", "dir") == {"port": "0", "save": "", "dir": str(directory)}
            assert client.info("server")["process_id"] == pid
        with redis.Redis.from_url(server.url) as client:
            assert client.get("city") == b"Lisbon"
        with server.connect() as connection:
            assert connection.command("GET", "city") == b"Lisbon"
        assert "Ready to accept connections" in server.log()
        assert runs(pid)
    assert not runs(pid)
    assert not directory.exists()


def test_options_are_keywords_or_names_with_dashes(tmp_path: Path) -> None:
    options = {"hash-max-listpack-entries": 7, "enable-debug-command": True}
    with embedded(options, maxmemory="64mb", lazyfree_lazy_expire=True, dir=str(tmp_path)) as server:
        expected = {
            "maxmemory": str(64 << 20),
            "hash-max-listpack-entries": "7",
            "enable-debug-command": "yes",
            "lazyfree-lazy-expire": "yes",
            "dir": str(tmp_path),
        }
        with server.client() as client:
            assert client.config_get(*expected) == expected
            assert client.save()
    assert list(tmp_path.glob("*.kvimg"))


def test_a_store_is_chosen_by_url_and_by_keyword() -> None:
    with embedded(port="auto", requirepass="a word:/") as server, server.client() as client:
        client.set("city", "Lisbon")
        client.execute_command("BRANCH", "CREATE", "test/1")
        client.set("city", "Porto")
        for url in (server.url_of("test/1"), server.url_of("test/1", tcp=True)):
            with redis.Redis.from_url(url) as of_branch:
                assert of_branch.get("city") == b"Lisbon"
        with server.client("test/1") as of_branch, server.connect("test/1") as plain:
            assert of_branch.get("city") == b"Lisbon"
            assert plain.command("GET", "city") == b"Lisbon"
        assert str(server.port) in server.url_of("test/1", tcp=True)
        with pytest.raises(CommandError, match="NOBRANCH"):
            server.connect("test/2")


def test_several_servers_run_beside_each_other() -> None:
    with embedded(port="auto") as first, embedded(port="auto") as second:
        with first.client() as client, second.client() as other:
            client.set("city", "Lisbon")
            assert other.get("city") is None
        assert first.port != second.port


def test_it_ends_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), embedded() as server:
        raise ZeroDivisionError
    assert not runs(server.pid)


def test_it_may_be_killed_within_the_block() -> None:
    with embedded() as server:
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    assert not runs(server.pid)


def test_one_that_does_not_follow_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.1)
    with embedded() as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert not runs(server.pid)


def test_one_whose_password_was_changed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.1)
    with embedded() as server, server.client() as client:
        client.config_set("requirepass", "another")
    assert not runs(server.pid)


def test_a_start_that_fails_shows_the_log() -> None:
    with pytest.raises(StartFailed, match=r"ended with status 1:\n.*'nonsense'"), embedded(nonsense=1):
        pass


def test_a_start_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(StartFailed, match="not ready after 0 s"), embedded(timeout_s=0):
        pass


def test_a_long_temporary_directory_is_not_used_for_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(long))
    directory = module.short_directory()
    os.rmdir(directory)
    assert len(directory) < module.SOCKET_PATH_MAX


def test_it_ends_when_its_parent_is_killed() -> None:
    script = (
        "import sys, kvstore\n"
        "with kvstore.embedded() as server:\n"
        "    print(server.pid, server.unix_socket, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, path = parent.stdout.readline().split()
        assert runs(int(pid))
        parent.kill()
    wait_until(lambda: not runs(int(pid)), "its end")
    for left in ("log", "socket"):
        Path(path.decode()).with_name(left).unlink(missing_ok=True)
    Path(path.decode()).parent.rmdir()


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ("import kvstore", {"kvstore.testing", "mmcore", "redis", "numba", "socket", "typing"}),
        ("from kvstore import embedded", {"mmcore", "redis", "numba", "numpy", "asyncio", "click"}),
        ("import pytest, kvstore.testing.plugin", {"kvstore.testing.embedded", "kvstore.wire", "mmcore", "redis"}),
    ],
)
def test_an_import_takes_only_what_it_needs(first: str, others: set[str]) -> None:
    script = f"{first}\nimport sys\nprint(*sys.modules)"
    run = [sys.executable, "-S", "-c", script] if first == "import kvstore" else [sys.executable, "-c", script]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True, cwd=module._HOME).stdout.split()
    assert "kvstore" in loaded
    assert others & set(loaded) == set()


def test_a_name_that_the_package_does_not_have_is_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        kvstore.nonsense  # noqa: B018
