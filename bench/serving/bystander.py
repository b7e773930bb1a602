"""How long does another client wait while one sends something that takes long?

Method.  The bystander is a separate process.  It sends PING after PING over one connection and records the longest
wait.  Each repetition measures twice: first while nothing else happens, then while another connection sends the
pipeline and reads all replies.  The figure is the longest wait of the second measurement minus that of the first, the
median of all repetitions: this is the wait that the pipeline adds.  The servers are measured in turn, each in its own
process and directory.

Units: ms.

Sources of error: other work on the cores, which shows in the longest wait of the idle server (also reported); a
bystander that shares its core with the sender, since three processes use two cores here.
"""

import contextlib
import multiprocessing
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench.reporting.report import Report, Say, median, say
from bench.rig.client import Client, encode
from bench.rig.servers import DEFAULT, Server, present, server

BAR_MS = 15.0
IDLE_S = 0.5
EXPIRY_POLL_S = 0.02
FULL = {
    "repetitions": 5,
    "infos": 500,
    "unknown": 50_000,
    "connections": 4000,
    "arguments": 1_000_000,
    "watched": 100_000,
    "stars": 5,
    "hellos": 20_000,
    "expiring": 1_000_000,
}
SMOKE = {
    "repetitions": 1,
    "infos": 5,
    "unknown": 50,
    "connections": 20,
    "arguments": 1000,
    "watched": 100,
    "stars": 2,
    "hellos": 20,
    "expiring": 1000,
}
_PASSWORD = "a password"


# ------------------------------------------------------------------------------------------------------ the bystander


def watch(port: int, orders: Connection) -> None:
    """Send PING after PING between two orders, and report the longest wait [ns] after the second; None ends it."""
    with Client(port) as client:
        client.command("PING")
        orders.send(0)
        while orders.recv() is not None:
            longest = 0
            while not orders.poll():
                began = time.perf_counter_ns()
                client.command("PING")
                longest = max(longest, time.perf_counter_ns() - began)
            orders.recv()
            orders.send(longest)


class Bystander:
    """The waiting process and its control connection."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=watch, args=(port, theirs), daemon=True)
        self._process.start()
        self._orders.recv()  # it is connected

    def longest_ms(self, meanwhile: Callable[[], None]) -> float:
        """The longest wait while `meanwhile` runs."""
        self._orders.send(1)
        meanwhile()
        self._orders.send(1)
        return float(self._orders.recv()) / 1e6

    def close(self) -> None:
        """End it."""
        self._orders.send(None)
        self._process.join(60)


# ------------------------------------------------------------------------------------------------------ the pipelines


def exchange(port: int, data: bytes) -> None:
    """Send a pipeline, followed by QUIT, over a new connection, and read until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), 600.0) as connection:

        def send() -> None:
            with contextlib.suppress(OSError):  # it was closed early
                connection.sendall(data + encode("QUIT"))

        sender = threading.Thread(target=send)
        sender.start()
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 18):
                pass
        sender.join()


@contextlib.contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    """Keep `count` idle connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 100, hard), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Client(port)).command("PING")
        yield


@contextlib.contextmanager
def password(admin: Client) -> Iterator[None]:
    """Make the server require a password from new connections."""
    admin.command("CONFIG", "SET", "requirepass", _PASSWORD)
    try:
        yield
    finally:
        admin.command("CONFIG", "SET", "requirepass", "")


def expire(port: int, count: int, repetition: Callable[[Callable[[], None]], None]) -> None:
    """Load keys that all expire at the same time, and measure from just before that until none is left."""
    with Client(port) as client:
        began = time.monotonic()
        client.command("FLUSHALL")
        commands = [encode("SET", f"key:{i}", "value") for i in range(count)]
        exchange(port, b"".join(commands))
        load_s = time.monotonic() - began
        at_ms = int((time.time() + 2 * load_s + 1) * 1000)
        exchange(port, b"".join(encode("PEXPIREAT", f"key:{i}", at_ms) for i in range(count)))
        time.sleep(max(0.0, at_ms / 1000 - time.time() - 0.1))

        def wait() -> None:
            while client.command("DBSIZE"):
                time.sleep(EXPIRY_POLL_S)

        repetition(wait)


def pipelines(sizes: dict[str, int]) -> dict[str, bytes]:
    """The bytes of each pipeline, by its name in the table."""
    many = ["a"] * (sizes["arguments"] - 1)
    stars = b"*[a]" * sizes["stars"] + b"*b"
    return {
        f"{sizes['infos']:,} INFO": encode("INFO") * sizes["infos"],
        f"{sizes['unknown']:,} unknown commands": encode("NOSUCH", "a") * sizes["unknown"],
        f"CLIENT LIST, {sizes['connections']:,} connections": encode("CLIENT", "LIST"),
        f"PING, {sizes['arguments']:,} arguments": encode("PING", *many),
        f"unknown, {sizes['arguments']:,} arguments": encode("NOSUCH", *many),
        f"WATCH, {sizes['watched']:,} keys": encode("WATCH", *(f"watched:{i}" for i in range(sizes["watched"]))),
        f"KEYS, {sizes['stars']} nested stars": encode("KEYS", stars),
        f"{sizes['hellos']:,} HELLO, no password": encode("HELLO") * sizes["hellos"],
    }


def measure(one: Server, sizes: dict[str, int], progress: Say) -> dict[str, list[tuple[float, float]]]:
    """(longest wait at the idle server, longest wait during the pipeline) [ms] of each repetition, by pipeline."""
    found: dict[str, list[tuple[float, float]]] = {}
    bystander = Bystander(one.port)
    with one.client() as admin:
        admin.command("SET", "a" * 50, "x")
        for name, data in pipelines(sizes).items():
            progress(f"{one.subject}: {name}")
            with contextlib.ExitStack() as stack:
                if "CLIENT LIST" in name:
                    stack.enter_context(idle_connections(one.port, sizes["connections"]))
                if "HELLO" in name:
                    stack.enter_context(password(admin))
                for _ in range(sizes["repetitions"]):
                    idle = bystander.longest_ms(lambda: time.sleep(IDLE_S))
                    busy = bystander.longest_ms(lambda data=data: exchange(one.port, data))  # type: ignore[misc]
                    found.setdefault(name, []).append((idle, busy))
        name = f"{sizes['expiring']:,} keys expire"
        for i in range(sizes["repetitions"]):
            progress(f"{one.subject}: {name}, {i + 1}")

            def repetition(wait: Callable[[], None]) -> None:
                idle = bystander.longest_ms(lambda: time.sleep(IDLE_S))
                found.setdefault(name, []).append((idle, bystander.longest_ms(wait)))

            expire(one.port, sizes["expiring"], repetition)
    bystander.close()
    return found


def run(subjects: Sequence[str] = (DEFAULT, "redis"), sizes: dict[str, int] = FULL, progress: Say = say) -> Report:
    """Measure."""
    report = Report(
        "bystander",
        "How long does another client wait while one sends something that takes long?",
        [
            f"the longest of PING after PING meanwhile, less the longest beside an idle server just before; "
            f"median of {sizes['repetitions']}",
            "idle: that longest wait beside the idle server, median",
        ],
        {"subjects": list(subjects), **sizes},
    )
    here, missing = present(subjects)
    report.notes += missing
    table = report.table("ms", "pipeline", *(column for s in here for column in (f"{s}, more", f"{s}, idle")))
    results: list[dict[str, list[tuple[float, float]]]] = []
    for subject in here:
        with server(subject) as one:
            results.append(measure(one, sizes, progress))
    for name in results[0] if results else ():
        cells: list[Any] = []
        for result in results:
            more = median(busy - idle for idle, busy in result[name])
            cells += [more, median(idle for idle, _ in result[name])]
        table.add(name, *cells)
        if here[0] != "redis":
            report.figure(name, cells[0], at_most=BAR_MS, unit=" ms")
    return report
