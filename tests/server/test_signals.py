"""SIGTERM, SIGINT, SIGHUP: during the start, while serving, during the final snapshot.

In Redis SIGTERM and SIGINT save and end the server; only a second SIGINT ends it without saving; SIGHUP does nothing.
"""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.gated import gate, gated
from tests.harness import Process
from tests.server.wire import OK, Status, Wire, encode, info, wait_until

SAVING = "Saving the final"
ALL = range(100)


@pytest.fixture
def gates(tmp_path: Path, ours: None) -> Path:
    """The directory in which a server looks for gates; see tests/gated.py."""
    return tmp_path / "gates"


def fill(wire: Wire) -> None:
    assert wire.pipeline([("SET", f"k{i}", i) for i in ALL]) == [OK for _ in ALL]


def survives(start, data: Path) -> bool:
    """Whether the keys that `fill` wrote exist after a start."""
    with start(data) as server, Wire(server.address) as wire:
        values = [wire("GET", f"k{i}") for i in ALL]
    assert values in ([str(i).encode() for i in ALL], [None for _ in ALL]), "half of it"
    return values[0] is not None


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_sigterm_leaves_the_final_snapshot_alone(
    start, data: Path, gates: Path, first: signal.Signals
) -> None:
    """A third one does not either, nor does a SIGHUP: the snapshot becomes durable, and the status is 0."""
    with (
        gate(gates, "sync") as durable,
        start(data, save="3600 1", **gated(gates)) as server,
        Wire(server.address) as wire,
    ):
        fill(wire)
        server.process.send_signal(first)
        durable.reached()
        for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            server.process.send_signal(again)
        # The main thread waits for the writer, so the server does not answer.  Signals are taken when none is pending.
        wait_until(lambda: not pending(server.process.pid), "the signals to be taken")
        assert server.process.poll() is None
        durable.open()
        assert server.ended() == 0
        assert "You insist" not in server.log()
    assert survives(start, data)


def pending(pid: int) -> int:
    """The signals of a process that have not been delivered, as a mask."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_sigint_during_the_final_snapshot_insists(start, data: Path, gates: Path, first: signal.Signals) -> None:
    """The process ends without the snapshot, with status 1, and logs that."""
    with (
        gate(gates, "sync") as durable,
        start(data, save="3600 1", **gated(gates)) as server,
        Wire(server.address) as wire,
    ):
        fill(wire)
        server.process.send_signal(first)
        durable.reached()
        server.process.send_signal(signal.SIGINT)
        assert server.ended() == 1
        assert "You insist... exiting now." in server.log()
        durable.open()
    assert not survives(start, data)


def test_sighup_is_ignored(start, tmp_path: Path) -> None:
    """Closing the terminal does not end the server."""
    with start(tmp_path) as server, Wire(server.address) as wire:
        fill(wire)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not pending(server.process.pid), "the signal to be taken")
        assert wire("GET", "k1") == b"1"
        assert server.process.poll() is None


def test_a_final_snapshot_that_fails_keeps_the_server_and_the_next_sigterm_tries_anew(start, data: Path) -> None:
    """SHUTDOWN does the same."""
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        if server.is_redis:
            pytest.skip("Redis holds its working directory open")
        fill(wire)
        away = data.with_name("away")
        data.rename(away)
        for round_ in range(1, 3):
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda n=round_: server.log().count("Errors trying to SHUTDOWN") == n, "the failure to be told")
            assert wire("GET", "k1") == b"1"
        away.rename(data)
        assert server.terminate() == 0
    assert survives(start, data)


def test_what_follows_shutdown_in_a_pipeline_is_not_executed(start, tmp_path: Path) -> None:
    """Otherwise it would be acknowledged, but missing in the final snapshot."""
    with start(tmp_path) as server, Wire(server.address) as wire:
        wire.send(encode("SET", "before", 1) + encode("SHUTDOWN", "SAVE") + encode("SET", "after", 1))
        assert b"+OK\r\n".startswith(wire.until_closed())
        assert server.ended() == 0
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert [wire("GET", "before"), wire("GET", "after")] == [b"1", None]


def test_what_is_acknowledged_is_in_the_final_snapshot(start, tmp_path: Path) -> None:
    """This holds for all clients of the same turn: here they wait for one that stops the server meanwhile."""
    with start(tmp_path) as server, Wire(server.address) as sleeper, Wire(server.address) as wire:
        others = [Wire(server.address) for _ in range(8)]
        assert [other("PING") for other in others] == [Status("PONG")] * 8
        sleeper.send(encode("DEBUG", "SLEEP", "0.5"))
        wire.send(encode("SHUTDOWN", "SAVE"))
        for number, other in enumerate(others):
            other.send(encode("SET", f"k{number}", 1))
        acknowledged = [other.until_closed() == b"+OK\r\n" for other in others]
        assert server.ended() == 0
        for other in others:
            other.close()
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert [wire("GET", f"k{number}") == b"1" for number in range(8)] == acknowledged


# ----------------------------------------------------------------------------------------------------- during the start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_server_is_ready_ends_it_at_once(
    ours: None, tmp_path: Path, number: signal.Signals
) -> None:
    """The state of the main thread does not matter: here it blocks in C.  SIGHUP is ignored from the beginning."""
    server = Process("kvstore", tmp_path, program="tests.server.held", save="1 1")
    try:
        wait_until(lambda: "Held" in server.log(), "the start to be held", timeout_s=120)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not pending(server.process.pid), "the signal to be taken")
        server.process.send_signal(number)
        assert server.ended() == 0
        assert f"Received {number.name} before the server was ready, exiting now." in server.log()
    finally:
        server.close()
    assert list(tmp_path.glob("*.kvimg")) == []


def test_a_signal_while_kernels_are_compiled_ends_the_compilers_too(ours: None, tmp_path: Path) -> None:
    """The status is 0, and no compiler process is left."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    server = Process("kvstore", data, environment={"KVSTORE_CACHE_DIR": str(cache)})
    try:
        compilers = wait_until(lambda: children(server.process.pid), "a compiler", timeout_s=120)
        assert server.terminate() == 0
        assert "Received SIGTERM before the server was ready, exiting now." in server.log()
        wait_until(lambda: not any(map(alive, compilers)), "the compilers to end")
    finally:
        server.close()


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


# -------------------------------------------------------------------------------------------------------- the log file


def test_a_log_file_that_was_renamed_is_opened_again(start, tmp_path: Path) -> None:
    """Each line goes to the file of that name.  A missing file is made; without a directory lines are lost."""
    directory = tmp_path / "log"
    directory.mkdir()
    file, old = directory / "server.log", directory / "server.log.1"
    with start(tmp_path, options=("--logfile", str(file))) as server, Wire(server.address) as wire:

        def lines() -> int:
            return file.read_text().count("Background sav") if file.exists() else 0

        def save() -> None:
            assert wire("BGSAVE") == Status("Background saving started")
            wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")

        save()
        told = lines()
        assert told > 0
        file.rename(old)
        save()
        assert lines() == told
        assert old.read_text().count("Background sav") == told
        file.unlink()
        save()
        assert lines() == told
        shutil.rmtree(directory)
        save()
        assert wire("PING") == Status("PONG")
        directory.mkdir()
        save()
        assert lines() == told
        assert "Traceback" not in server.log()
