"""`kvstore top` beside running servers, and on a terminal."""

import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from bench.rig.servers import Server, server
from kvstore.top.place import Place
from kvstore.top.sampling import Sampler
from kvstore.top.screen import State
from kvstore.top.view import view_of
from tests.cli.test_cli import ROOT, kvstore
from tests.harness import Process, start_redis, start_valkey
from tests.server.wire import OK, Wire, wait_until


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server with keys of three types in two databases, a branch, a snapshot and an entry in the slow log."""
    with Process("kvstore", tmp_path_factory.mktemp("data")) as process, Wire(process.address) as wire:
        for i in range(30):
            assert wire("SET", f"s{i}", "x" * 10) == OK
        assert wire("HSET", "h", *(word for i in range(50) for word in (f"f{i}", "v" * 20))) == 50
        assert wire("SELECT", "5") == OK and wire("RPUSH", "l", "a", "b") == 2
        assert wire("BRANCH", "CREATE", "tried") == OK and wire("SNAPSHOT", "CREATE", "kept,x=1") == OK
        assert wire("CONFIG", "SET", "slowlog-log-slower-than", "0") == OK
        assert wire("GET", "slow\x1b[2J") is None
        assert wire("CONFIG", "SET", "slowlog-log-slower-than", "-1") == OK
        assert wire("BRANCH", "USE", "tried") == OK and wire("SET", "mine", "1") == OK
        yield process


def as_json(process: Process, *words: str) -> dict[str, Any]:
    done = kvstore("top", "--json", "--interval", "0.2", "--port", str(process.port), *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_frame_tells_of_branches_types_and_databases(loaded: Process) -> None:
    found = as_json(loaded)
    assert found["server"]["name"] == "kvstore"
    assert found["requests"]["per_s"] == 0, "what it asks itself is not counted"
    assert {one["per_s"] for one in found["commands"]} == {0}
    stores = {one["name"]: one for one in found["stores"]}
    assert {name: one["kind"] for name, one in stores.items()} == {"tried": "branch", "kept,x=1": "snapshot"}
    assert stores["tried"]["connections"] == 1
    assert stores["tried"]["private"] > 0 == stores["kept,x=1"]["private"]
    assert all(one["mapped"] == one["shared"] + one["private"] > 0 for one in stores.values())
    assert found["machine"]["pages_copied"] > 0 and found["machine"]["forks"] >= 3
    assert [(one["number"], one["keys"]) for one in found["databases"]] == [(0, 31), (5, 1)]
    assert {one["type"] for one in found["types"]} >= {"string", "hash"}
    assert "GET slow\x1b[2J" in [one["command"] for one in found["slow"]]
    assert found["images"]["taken"] == 0 and found["images"]["running"] is False


def test_a_frame_is_text_where_there_is_no_terminal(loaded: Process) -> None:
    done = kvstore("top", "--interval", "0.1", "--socket", loaded.unix_socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    for part in ("kvstore 7.2.5", "branches 1   snapshots 1", "kept,x=1 (snapshot)", "none yet", "GET slow\\x1b[2J"):
        assert part in done.stdout, part


def test_a_branch_is_watched_by_the_name_of_its_user(loaded: Process) -> None:
    done = kvstore(
        "top", "--json", "--interval", "0.1", "--url", f"redis://default%40tried:any@127.0.0.1:{loaded.port}"
    )
    assert done.returncode == 0, done.stderr
    databases = json.loads(done.stdout)["databases"]
    assert [(one["number"], one["keys"]) for one in databases] == [(0, 31), (5, 2)]


def test_hits_of_the_census_are_no_hits(loaded: Process) -> None:
    sampler = Sampler(Place(port=loaded.port))
    before = sampler.look()
    with Wire(loaded.address) as wire:
        assert wire("GET", "s1") == b"x" * 10 and wire("GET", "none") is None
    after = sampler.look()
    sampler.close()
    assert after.own_hits > 0
    requests = view_of(before, after).figures["requests"]
    assert requests["hit_rate"] == 0.5


@pytest.mark.parametrize("start", [start_redis, start_valkey])
def test_another_server_is_watched_with_dashes(start: Any, tmp_path: Path) -> None:
    with start(tmp_path) as process, Wire(process.address) as wire:
        assert wire("SET", "key", "value") == OK
        sampler = Sampler(Place(port=process.port))
        before = sampler.look()
        assert wire("GET", "key") == b"value"
        view = view_of(before, sampler.look())
        sampler.close()
        found = as_json(process)
    assert view.figures["requests"]["hit_rate"] == 1
    assert {one.name: one.per_s for one in view.commands if one.per_s} == {"get": view.figures["requests"]["per_s"]}, (
        "its own commands are not counted there, either"
    )
    assert found["server"]["name"] in ("redis", "valkey") and found["server"]["version"]
    assert found["machine"]["pages_copied"] is None and found["branches"]["branches"] is None
    assert [one["type"] for one in found["types"]] == ["string"] and found["stores"] == []


def test_a_password_that_is_missing_is_said(tmp_path: Path) -> None:
    with Process("kvstore", tmp_path, options=("--requirepass", "secret"), password="secret") as process:
        done = kvstore("top", "--once", "--port", str(process.port))
        assert done.returncode == 1 and "NOAUTH" in done.stderr and "Traceback" not in done.stderr
        assert as_json(process, "--password", "secret")["clients"]["connected"] >= 1


def test_without_a_server_it_fails_with_a_reason() -> None:
    done = kvstore("top", "--port", "1")
    assert done.returncode == 1
    assert "cannot reach 127.0.0.1:1" in done.stderr
    refused = kvstore("top", "--url", "http://x")
    assert refused.returncode == 2 and "http is not redis: or unix:" in refused.stderr


@pytest.fixture
def restarted() -> Iterator[Server]:
    with server("constant") as one:
        yield one


def test_a_server_that_goes_away_leaves_its_picture_and_comes_back(restarted: Server) -> None:
    state = State(Sampler(Place(port=restarted.port)))
    state.look()
    state.look()
    assert state.view is not None and not state.gone
    kept = state.view
    restarted.kill()
    for _ in range(2):
        state.look()
        assert state.gone.startswith("no answer since") and state.view is kept
    restarted.start()
    state.look()
    assert not state.gone and state.view is not kept
    assert state.view.figures["requests"]["per_s"] is None, "it is another process"
    state.look()
    assert state.view.figures["requests"]["per_s"] == 0
    state.press("p")
    restarted.kill()
    state.look()
    assert not state.gone, "nothing is asked while it is paused"
    state.sampler.close()


def test_keys_choose_the_order() -> None:
    state = State(Sampler(Place()))
    seen = []
    for key in "sssss9tnmcr":
        assert state.press(key)
        seen.append(state.order)
    assert seen == ["time", "mean", "p99", "name", "calls", "p99", "time", "name", "mean", "calls", "calls"]
    assert state.backwards and not state.press("x") and not state.ended
    assert state.press("q") and state.ended


class Terminal:
    """`kvstore top` on a terminal of a size."""

    def __init__(self, process: Process, rows: int, columns: int) -> None:
        self._master, slave = pty.openpty()
        self.resize(rows, columns)
        words = ["top", "--port", str(process.port), "--interval", "0.1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvstore", *words],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(slave)
        os.set_blocking(self._master, False)

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def text(self) -> str:
        """The text that it has written since."""
        found = b""
        try:
            while data := os.read(self._master, 1 << 16):
                found += data
        except OSError:
            pass
        return found.decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_a_live_view_is_drawn_paused_resized_and_left(loaded: Process) -> None:
    terminal = Terminal(loaded, 40, 120)
    try:
        wait_until(lambda: "tried" in (text := terminal.text()) and "…" not in text, "a picture with all lines whole")
        wait_until(lambda: "tried" in terminal.text(), "the next one")
        terminal.press("p")
        wait_until(lambda: "paused" in terminal.text(), "the pause")
        terminal.resize(40, 40)
        wait_until(lambda: "…" in terminal.text(), "a picture of the new size, though it is paused")
        terminal.press("q")
        assert terminal.process.wait(60) == 0
        assert "\x1b[?1049l" in terminal.text(), "the screen is as before"
    finally:
        terminal.close()
