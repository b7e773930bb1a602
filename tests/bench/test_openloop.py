"""The load generator: what it asks, what it charges, what it makes of replies."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.rig.echo import EchoServer, echo_server
from bench.rig.load import KEY_DIGITS, request_parts
from bench.rig.openloop import Generator, GeneratorFailed, Outcome, Plan
from tests.bench.support import replying
from tests.server.wire import wait_until

VALUE_SIZE = 100
RATE = 2000


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with echo_server(VALUE_SIZE) as server:
        yield server


def generate(plan: Plan) -> Outcome:
    """All that there is room for in the plan's records."""
    with Generator(plan) as generator:
        generator.start()
        wait_until(lambda: not generator.alive(), "the end of the requests", timeout_s=300)
        return generator.stop()


def wait_stopped(pid: int) -> None:
    """Wait until a process that was sent SIGSTOP runs no more."""
    status = Path(f"/proc/{pid}/stat")
    wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", "the process to stop")


def test_requests_are_due_at_the_fixed_rate_and_all_are_answered(echo: EchoServer) -> None:
    found = generate(Plan(echo.port, RATE, 10, 1000, VALUE_SIZE, 1.0))
    assert len(found.due) == RATE
    assert set(np.diff(found.due)) == {10**9 // RATE}
    assert found.errors == 0
    assert (found.sent >= found.due).all()
    assert (found.answered > found.sent).all()
    assert 0.4 < found.sets.mean() < 0.6
    assert 0 < found.processor_share < 1


def test_requests_end_when_told_to_and_all_that_were_made_are_answered(echo: EchoServer) -> None:
    with Generator(Plan(echo.port, RATE, 3, 1000, VALUE_SIZE, 100.0)) as generator:
        generator.start()
        found = generator.stop()
    assert len(found.due) < 100 * RATE
    assert (found.answered > found.sent).all()


def test_a_server_that_stops_is_charged_for_all_that_became_due_meanwhile(echo: EchoServer) -> None:
    stop_s = 0.3
    with Generator(Plan(echo.port, RATE, 10, 1000, VALUE_SIZE, 10.0)) as generator:
        generator.start()
        time.sleep(0.3)
        os.kill(echo.pid, signal.SIGSTOP)
        wait_stopped(echo.pid)
        stopped = time.monotonic_ns()
        time.sleep(stop_s)
        os.kill(echo.pid, signal.SIGCONT)
        time.sleep(0.3)
        found = generator.stop()
    # A request that became due within the stop waited for the rest of it, and sleeping never takes less than asked.
    stalled = found.between(stopped, stopped + int(stop_s * 0.5e9))
    assert stalled.sum() >= 0.5 * stop_s * RATE - 1
    assert (found.latency[stalled] >= 0.5 * stop_s * 1e9).all()
    assert (found.answered > 0).all()


def test_sockets_that_are_full_hold_requests_back_and_lose_none() -> None:
    # Some 4 MB of SETs into a server that is stopped: more than its sockets take.
    size = 20_000
    with (
        echo_server(size) as server,
        Generator(Plan(server.port, 500, 1, 1000, size, 10.0, set_share=1.0)) as generator,
    ):
        os.kill(server.pid, signal.SIGSTOP)
        wait_stopped(server.pid)
        begins = generator.start()
        time.sleep(1.5)
        until = time.monotonic_ns()
        os.kill(server.pid, signal.SIGCONT)
        found = generator.stop()
    assert found.between(begins, until).sum() >= 500
    assert (np.diff(found.due) > 0).all()
    assert (found.answered > found.sent).all()
    # The time that a full socket costs counts as latency, and not as the generator's own lateness.
    assert (found.sent - found.due)[found.held].max() > 10**9
    assert len(found.lateness()) == len(found.due) - found.held.sum()


def test_a_closed_loop_keeps_its_pipelines_full(echo: EchoServer) -> None:
    plan = Plan(echo.port, 0, 3, 1000, VALUE_SIZE, 0.0, set_share=1 / 11, pipeline=50, requests_max=20_000)
    found = generate(plan)
    assert len(found.due) == 20_000
    assert 0.05 < found.sets.mean() < 0.15
    assert (found.latency > 0).all()
    open_at_once = [((found.due <= t) & (found.answered > t)).sum() for t in found.due[500:900:50]]
    assert max(open_at_once) <= 150
    assert max(open_at_once) > 50


def serve_requests(connection: socket.socket, replies: list[bytes], piece: int) -> None:
    """Answer GETs by these replies in turn, so many bytes at a time."""
    request_size = len(request_parts(0)[0]) + KEY_DIGITS + 2
    seen, answered = 0, 0
    while data := connection.recv(65536):
        seen += len(data)
        while seen >= request_size:
            seen -= request_size
            reply = replies[answered % len(replies)]
            answered += 1
            for at in range(0, len(reply), piece):
                connection.sendall(reply[at : at + piece])


REPLIES = [b"$5\r\nhello\r\n", b"$-1\r\n", b"+OK\r\n", b"$0\r\n\r\n", b"-ERR not today\r\n", b":42\r\n"]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_replies_of_every_kind_are_counted_however_they_arrive(piece: int) -> None:
    with replying(lambda connection: serve_requests(connection, REPLIES, piece)) as port:
        found = generate(Plan(port, 300, 1, 1000, VALUE_SIZE, 0.2, set_share=0.0))
    assert len(found.due) == 60
    assert found.errors == 10
    assert (np.diff(found.answered) >= 0).all()


def test_a_server_that_closes_or_speaks_something_else_fails_the_run() -> None:
    for replies in ([b"HTTP/1.1 400\r\n"], [b"*1\r\n:1\r\n"]):
        with (
            replying(lambda connection, replies=replies: serve_requests(connection, replies, 1000)) as port,
            pytest.raises(GeneratorFailed, match="a connection broke"),
        ):
            generate(Plan(port, 300, 1, 1000, VALUE_SIZE, 0.2, set_share=0.0))
    with replying(lambda connection: None) as port, pytest.raises(GeneratorFailed):
        generate(Plan(port, 300, 1, 1000, VALUE_SIZE, 0.2, set_share=0.0))


def test_values_too_long_for_the_generator_are_refused() -> None:
    with replying(lambda connection: None) as port, pytest.raises(GeneratorFailed, match="too long"):
        generate(Plan(port, 300, 1, 1000, 1 << 20, 0.2))
