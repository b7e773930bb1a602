"""How many messages a second does PUBLISH deliver, to 1 and to 100 subscribers, beside redis-server and Valkey?

Method.  All servers run at once.  redis-benchmark publishes the same message over and over, 16 at a time on each of its
connections.  This process holds the subscribers, and reads what has come without parsing it: the number of bytes says
how many messages these are.  A run begins when redis-benchmark starts, and ends when each subscriber has every message.
The servers take turns; a figure is the median of the ratios of neighbouring runs.

A run's processor time is that of the server's process; divided by the number of delivered messages it is the cost of
one.  It includes the system's share: receiving, and above all sending.

Units: delivered messages per second; ns of processor time per delivered message; ratios have none.

Sources of error: a client that is the bottleneck (the column "core" has the share of a processor that the server used:
well below 1.0 the ratio of rates tells little, and that of processor times still does); processors shared with other
work; runs shorter than a second.
"""

import select
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from time import monotonic
from typing import Any

from bench.reporting.report import Report, Say, median, say
from bench.rig.client import encode
from bench.rig.redisbenchmark import ClientFailed
from bench.rig.servers import DEFAULT, Server, present, server

COMPARED = (DEFAULT, "redis", "valkey")
SUBSCRIBERS = (1, 100)
PIPELINE = 16
RATE_BAR = 1.5
CHANNEL = "news"
RECEIVE_SIZE = 1 << 20
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Run:
    """The outcome of one run."""

    rate: float  # delivered messages a second
    processor_ns: float  # of the server, per delivered message
    core: float  # share of a processor that the server used


class Subscribers:
    """Connections that have subscribed to the channel, and count the bytes that arrive."""

    def __init__(self, one: Server, count: int, text: str) -> None:
        self._stack, self._poll = ExitStack(), select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._room = memoryview(bytearray(RECEIVE_SIZE))
        self._message = len(encode("message", CHANNEL, text))
        for _ in range(count):
            client = self._stack.enter_context(one.client())
            client.command("SUBSCRIBE", CHANNEL)
            client.socket.setblocking(False)
            self._sockets[client.socket.fileno()] = client.socket
            self._poll.register(client.socket, select.EPOLLIN)

    def __enter__(self) -> "Subscribers":
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        self._stack.close()

    def receive(self, messages: int) -> None:
        """Return when each has received so many messages."""
        left, deadline = messages * self._message * len(self._sockets), monotonic() + PATIENCE_S
        while left > 0:
            for descriptor, _ in self._poll.poll(1.0):
                received = self._sockets[descriptor].recv_into(self._room)
                if received == 0:
                    raise ClientFailed("the server closed a subscriber")
                left -= received
            if monotonic() > deadline:
                raise ClientFailed(f"{left} bytes did not come within {PATIENCE_S:.0f} s")
        if left < 0:
            raise ClientFailed("more messages came than were published")


def run_once(one: Server, subscribers: int, messages: int, clients: int, text: str) -> Run:
    """Publish so many messages, and wait until all subscribers have them."""
    options = {"-p": one.port, "-n": messages, "-P": PIPELINE, "-c": clients}
    words = ["redis-benchmark", "-q", *(str(word) for pair in options.items() for word in pair)]
    with Subscribers(one, subscribers, text) as listening:
        used, began = one.processor_ns(), monotonic()
        with subprocess.Popen(
            [*words, "PUBLISH", CHANNEL, text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as publisher:
            try:
                listening.receive(messages)
            except BaseException:
                publisher.kill()
                raise
            took, spent = monotonic() - began, one.processor_ns() - used
            output = publisher.communicate(timeout=PATIENCE_S)[0]
    if publisher.returncode != 0:
        raise ClientFailed(output.decode(errors="replace")[-1000:])
    delivered = messages * subscribers
    return Run(delivered / took, spent / delivered, spent / 1e9 / took)


def _published(size: int, clients: int) -> int:
    # As many messages, in whole pipelines of all clients.
    whole = PIPELINE * clients
    return max(1, size // whole) * whole


def run(
    subjects: Sequence[str] = COMPARED,
    subscribers: Sequence[int] = SUBSCRIBERS,
    rounds: int = 5,
    deliveries: int = 20_000_000,
    published_max: int = 1_000_000,
    clients: int = 50,
    size: int = 32,
    progress: Say = say,
) -> Report:
    """Measure; each run delivers about `deliveries` messages of `size` bytes, and publishes `published_max` at most."""
    report = Report(
        "pubsub",
        "How many messages a second does PUBLISH deliver, beside redis-server and Valkey?",
        [
            f"redis-benchmark, {clients} publishers, pipelines of {PIPELINE}, {size} B each; all servers run at once",
            f"{rounds} rounds in turn, first {subjects[0]}; a ratio is the median of the rounds' ratios",
            "processor: the server's processor time per delivered message; core: its share of a processor meanwhile",
        ],
        {"subjects": list(subjects), "subscribers": list(subscribers), "rounds": rounds, "deliveries": deliveries,
         "published_max": published_max, "clients": clients, "size": size},
    )  # fmt: skip
    if not shutil.which("redis-benchmark"):
        report.notes.append("redis-benchmark is not installed; nothing was measured")
        return report
    here, missing = present(subjects)
    report.notes += missing
    runs: dict[tuple[int, int], list[Run]] = {}  # by (number of subscribers, subject's index)
    text = "x" * size
    with ExitStack() as stack:
        running = [stack.enter_context(server(subject)) for subject in here]
        for count in subscribers:
            messages = _published(min(published_max, deliveries // count), clients)
            for one in running:  # warms it up
                run_once(one, count, _published(messages // 20, clients), clients, text)
            for round_ in range(rounds):
                progress(f"{count} subscribers, round {round_ + 1} of {rounds}")
                for place, one in enumerate(running):
                    runs.setdefault((count, place), []).append(run_once(one, count, messages, clients, text))
    table = report.table("Delivered messages a second, median; processor time of each [ns], median", "subscribers",
                         *(f"{s}{what}" for s in here for what in ("", ", processor", ", core")))  # fmt: skip
    for count in subscribers:
        cells = [
            median(value(run) for run in runs[count, place])
            for place in range(len(here))
            for value in (attrgetter("rate"), attrgetter("processor_ns"), attrgetter("core"))
        ]
        table.add(count, *cells)
        for place, rival in enumerate(here[1:], 1):
            pairs = list(zip(runs[count, 0], runs[count, place], strict=True))
            bar = RATE_BAR if rival == "redis" else None
            name = f"to {count:,} subscribers"
            report.figure(f"{name}: messages a second over {rival}'s", median(a.rate / b.rate for a, b in pairs),
                          at_least=bar, unit=" ×")  # fmt: skip
            report.figure(f"{name}: processor time over {rival}'s",
                          median(a.processor_ns / b.processor_ns for a, b in pairs), unit=" ×")  # fmt: skip
    return report


SMOKE: dict[str, Any] = {"rounds": 1, "deliveries": 20_000, "clients": 5}
