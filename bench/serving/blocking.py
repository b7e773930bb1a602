"""How soon does a push answer a client that waits for it, and what do ten thousand that wait cost the others?

Method.  All servers run at once and take turns; a ratio is the median of the rounds' ratios.

    answers     One connection waits in BLPOP; another, in the same process, has been answered once more, so that the
                wait has begun; then it sends RPUSH.  The time ends when the first one has its reply.
    crowds      redis-benchmark sends GETs and SETs to a server with no other connections, and at once with many that
                are idle, that wait in BLPOP (each for a key of its own, every other with a time-out), or that have
                subscribed (each to a channel of its own).  The processor time of a request is compared.

Units: us from the first byte of RPUSH to the reply to BLPOP; ns of the server's processor time per request; ratios have
none.

Sources of error: both clients and all servers share the processors, and a wake-up of the client is a part of each
answer; the processor time includes the system's share, which depends on how many requests come at once.
"""

import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, median, say
from bench.rig.client import Client, encode
from bench.rig.load import fill
from bench.rig.redisbenchmark import ClientFailed, redis_benchmark
from bench.rig.servers import DEFAULT, Server, present, server

COMPARED = (DEFAULT, "redis", "valkey")
ANSWER_BAR, CROWD_BAR = 1.1, 1.05
IDLE, BLOCKED, SUBSCRIBED = "idle", "blocked", "subscribed"
KINDS = (IDLE, BLOCKED, SUBSCRIBED)
PIPELINE, CLIENTS, KEYS, VALUE_SIZE = 16, 50, 10_000, 64
SPARE_CLIENTS = 200  # connections that a server allows beyond the crowd
PATIENCE_S = 60.0

# By (subject's index, test, kind of crowd): ns per request, without the crowd and with it
Spent = dict[tuple[int, str, str], list[tuple[float, float]]]


def answers(one: Server, pushes: int) -> np.ndarray:
    """The time from each push to the answer of the client that waits: int64[pushes] [ns]."""
    found = np.zeros(pushes, np.int64)
    pop, push, expected = encode("BLPOP", "queue", 0), encode("RPUSH", "queue", "v"), ["queue", "v"]
    wanted = len(encode(*expected))
    with one.client() as waiting, one.client() as pushing:
        for number in range(pushes):
            waiting.socket.sendall(pop)
            pushing.command("EXISTS", "queue")
            began = time.perf_counter_ns()
            pushing.socket.sendall(push)
            reply = waiting.socket.recv(wanted)
            found[number] = time.perf_counter_ns() - began
            if reply != encode(*expected):
                raise ClientFailed(f"{one.subject} answered BLPOP by {reply!r}")
            pushing.exchange(b"", 1)
    return found


@contextmanager
def crowd(one: Server, kind: str, count: int) -> Iterator[None]:
    """So many connections of this kind, during the block."""
    with ExitStack() as stack:
        for number in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            if kind == BLOCKED:
                connection.sendall(encode("BLPOP", f"awaited:{number}", 100_000 * (number % 2)))
            elif kind == SUBSCRIBED:
                connection.sendall(encode("SUBSCRIBE", f"channel:{number}"))
        with one.client() as client:
            _wait_for(client, kind, count)
        yield
    with one.client() as client:
        _wait_for(client, IDLE, 0)


def _wait_for(client: Client, kind: str, count: int) -> None:
    # Wait until the crowd is there, or gone.
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = client.info("clients")
        if kind == BLOCKED:
            there = int(found["blocked_clients"]) == count
        elif kind == SUBSCRIBED:
            there = len(client.command("PUBSUB", "CHANNELS")) == count
        else:
            there = int(found["connected_clients"]) == (count + 1)
        if there:
            return
        time.sleep(0.01)
    raise ClientFailed(f"{count} connections that are {kind} did not come within {PATIENCE_S:.0f} s")


def request_ns(one: Server, test: str, requests: int) -> float:
    """The server's processor time per request [ns]."""
    used = one.processor_ns()
    redis_benchmark(one.port, [test], requests, PIPELINE, CLIENTS, KEYS, VALUE_SIZE)
    return (one.processor_ns() - used) / requests


def _report_answers(report: Report, here: Sequence[str], found: dict[int, list[np.ndarray]]) -> None:
    table = report.table("From a push to the answer of the client that waits [us]", "server", "median", "p99")
    for place, subject in enumerate(here):
        together = np.concatenate(found[place]) / 1000
        table.add(subject, *(float(np.percentile(together, p)) for p in (50, 99)))
    for place, rival in enumerate(here[1:], 1):
        for name, p in (("median", 50), ("p99", 99)):
            pairs = [np.percentile(a, p) / np.percentile(b, p) for a, b in zip(found[0], found[place], strict=True)]
            bar = ANSWER_BAR if (rival, p) == ("redis", 50) else None
            report.figure(f"push to answer, {name}, over {rival}'s", median(pairs), at_most=bar, unit=" ×")


def _report_crowds(
    report: Report,
    here: Sequence[str],
    tests: Sequence[str],
    count: int,
    found: Spent,
) -> None:
    table = report.table(f"Processor time of a request beside {count:,} connections [ns], median",
                         "server", "test", "none", *KINDS)  # fmt: skip
    for place, subject in enumerate(here):
        for test in tests:
            alone = median(before for kind in KINDS for before, _ in found[place, test, kind])
            beside = (median(with_it for _, with_it in found[place, test, kind]) for kind in KINDS)
            table.add(subject, test.upper(), alone, *beside)
            for kind in KINDS:
                name = f"{test.upper()} of {subject} beside {count:,} that are {kind}, over none"
                ratio = median(with_it / before for before, with_it in found[place, test, kind])
                report.figure(name, ratio, at_most=None if place else CROWD_BAR, unit=" ×")


def run(
    subjects: Sequence[str] = COMPARED,
    rounds: int = 5,
    pushes: int = 10_000,
    connections: int = 10_000,
    requests: int = 200_000,
    tests: Sequence[str] = ("get", "set"),
    progress: Say = say,
) -> Report:
    """Measure; `pushes` and `requests` are those of one round."""
    report = Report(
        "blocking",
        "How soon does a push answer a client that waits, and what do many that wait cost the others?",
        [
            f"{rounds} rounds in turn, first {subjects[0]}; all servers run at once; a ratio is the rounds' median",
            f"answers: {pushes:,} pushes a round, by one process that holds both connections",
            f"crowds: redis-benchmark, {requests:,} requests, {CLIENTS} clients, pipelines of {PIPELINE}",
        ],
        {"subjects": list(subjects), "rounds": rounds, "pushes": pushes, "connections": connections,
         "requests": requests, "tests": list(tests)},
    )  # fmt: skip
    here, missing = present(subjects)
    report.notes += missing
    waits: dict[int, list[np.ndarray]] = {}  # by subject's index
    spent: Spent = {}
    has_benchmark = shutil.which("redis-benchmark") is not None
    with ExitStack() as stack:
        options = ("--maxclients", str(connections + SPARE_CLIENTS))
        running = [stack.enter_context(server(subject, options)) for subject in here]
        for one in running:
            answers(one, max(1, pushes // 10))  # warms it up
        for round_ in range(rounds):
            progress(f"answers, round {round_ + 1} of {rounds}")
            for place, one in enumerate(running):
                waits.setdefault(place, []).append(answers(one, pushes))
        for one in running:
            fill(one.port, KEYS, VALUE_SIZE)
        for round_ in range(rounds if has_benchmark else 0):
            progress(f"crowds, round {round_ + 1} of {rounds}")
            for kind in KINDS:
                for place, one in enumerate(running):
                    alone = [request_ns(one, test, requests) for test in tests]
                    with crowd(one, kind, connections):
                        for test, before in zip(tests, alone, strict=True):
                            pair = before, request_ns(one, test, requests)
                            spent.setdefault((place, test, kind), []).append(pair)
    _report_answers(report, here, waits)
    if has_benchmark:
        _report_crowds(report, here, tests, connections, spent)
    else:
        report.notes.append("redis-benchmark is not installed; the cost of crowds was not measured")
    return report


SMOKE: dict[str, Any] = {"rounds": 1, "pushes": 50, "connections": 50, "requests": 1000}
