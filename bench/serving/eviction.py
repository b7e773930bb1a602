"""How well does eviction choose, and what does a SET at maxmemory cost?

Method, hits.  Keys are asked for by Zipf's law with exponent 0.99, the popular ones scattered by a permutation.  A
client sends TOUCH for 64 keys at a time, which counts as a use in every server and answers only whether a key is there;
then it sets those that are missing, as a cache is used.  maxmemory is what each server itself says it uses under the
policy with a quarter of the keys, once its clocks have grown to them: so each has room for about as many keys, not for
as many bytes.  The share of hits is counted after as many requests again as there are keys, three times.  Each round
draws other requests, the same for all servers; the table has the mean of the rounds.

Method, cost.  A server is filled up to its maxmemory.  Then new keys are set by ten connections, sixteen in flight on
each, so each SET evicts about one key.  The cost is the processor time of the server's process, all its threads, by the
number of SETs.  The servers are measured in turn, round after round.

Units: percent of the requests; microseconds of processor time.

Sources of error: LRU clocks have a resolution of a second in all three servers, and a run takes some seconds; the
servers' accounts of memory differ, so the number of keys that each holds is in the table.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from bench.reporting.report import Report, Say, median, ratio, say
from bench.rig.client import Client
from bench.rig.load import KEY_DIGITS, requests
from bench.rig.servers import DEFAULT, Server, present, server

POLICIES = ("allkeys-lru", "allkeys-lfu")
EXPONENT = 0.99
BATCH, PIPELINE, CLIENTS = 64, 16, 10
WARMING = 3  # times as many requests as keys, before hits are counted
SETTLING_S = 0.5  # several turns of the servers' timers
SHARE = 4  # room for one key in so many


@dataclass(frozen=True)
class Hits:
    """The results of one server under one policy."""

    share: float
    keys: int  # held at the end


def _digits(rows: np.ndarray, begin: int, numbers: np.ndarray) -> None:
    rest = numbers.copy()
    for digit in range(KEY_DIGITS):
        rows[:, begin + KEY_DIGITS - 1 - digit] = 48 + rest % 10
        rest //= 10


def _touches(numbers: np.ndarray) -> np.ndarray:
    """uint8[count, request size]: a TOUCH of each key."""
    before = b"*2\r\n$5\r\nTOUCH\r\n$16\r\nkey:"
    rows = np.tile(np.frombuffer(before + b"0" * KEY_DIGITS + b"\r\n", np.uint8), (len(numbers), 1))
    _digits(rows, len(before), numbers)
    return rows


def _sets(numbers: np.ndarray, value_size: int) -> np.ndarray:
    """uint8[count, request size]: a SET of each key."""
    rows = requests(0, len(numbers), value_size)
    _digits(rows, rows.shape[1] - value_size - len(b"\r\n$%d\r\n\r\n" % value_size) - KEY_DIGITS, numbers)
    return rows


def _receive(client: Client, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += client.socket.recv(size - len(data))
        if data[:1] == b"-":
            raise RuntimeError(f"the server refuses: {bytes(data[:200])!r}")
    return bytes(data)


def _store(client: Client, numbers: np.ndarray, value_size: int, at_once: int) -> None:
    """Set keys, so many in flight."""
    for first in range(0, len(numbers), at_once):
        part = numbers[first : first + at_once]
        client.socket.sendall(_sets(part, value_size).data)
        _receive(client, 5 * len(part))


def _settled(client: Client) -> int:
    """The memory that a server says it uses, once what it adds by and by does not grow any more."""
    before, used = -1, int(client.info("memory")["used_memory"])
    while used > before:
        time.sleep(SETTLING_S)
        before, used = used, int(client.info("memory")["used_memory"])
    return used


def limit(one: Server, client: Client, keys: int, value_size: int, policy: str) -> None:
    """Give a server room for so many keys under a policy, and empty it."""
    client.command("CONFIG", "SET", "maxmemory-policy", policy)
    _store(client, np.arange(keys), value_size, 1000)
    used = _settled(client)
    client.command("FLUSHALL")
    client.command("CONFIG", "SET", "maxmemory", used)


def zipf(keys: int, count: int, seed: int) -> np.ndarray:
    """int64[count]: numbers of keys, drawn by Zipf's law."""
    generator = np.random.default_rng(seed)
    sums = np.cumsum(1.0 / np.arange(1, keys + 1) ** EXPONENT)
    ranks = np.searchsorted(sums, generator.random(count) * sums[-1])
    return np.asarray(generator.permutation(keys)[ranks])


def hits(one: Server, keys: int, value_size: int, policy: str, seed: int) -> Hits:
    """Use a server as a cache, and count."""
    asked, found = zipf(keys, (WARMING + 1) * keys, seed), 0
    with one.client() as client:
        limit(one, client, keys // SHARE, value_size, policy)
        for first in range(0, len(asked), BATCH):
            part = asked[first : first + BATCH]
            client.socket.sendall(_touches(part).data)
            there = np.frombuffer(_receive(client, 4 * len(part)), np.uint8)[1::4] == ord("1")
            missing = part[~there]
            if first >= WARMING * keys:
                found += int(there.sum())
            if len(missing):
                client.socket.sendall(_sets(missing, value_size).data)
                _receive(client, 5 * len(missing))
        held = int(client.command("DBSIZE"))
    return Hits(found / (len(asked) - WARMING * keys), held)


def _share(rounds: Sequence[Hits]) -> float:
    return fmean(one.share for one in rounds)


def _store_by_many(clients: Sequence[Client], numbers: np.ndarray, value_size: int) -> None:
    """Set keys, PIPELINE in flight on each connection."""
    for first in range(0, len(numbers), PIPELINE * len(clients)):
        parts = [numbers[first + PIPELINE * i :][:PIPELINE] for i in range(len(clients))]
        for client, part in zip(clients, parts, strict=True):
            client.socket.sendall(_sets(part, value_size).data)
        for client, part in zip(clients, parts, strict=True):
            _receive(client, 5 * len(part))


def cost(one: Server, keys: int, value_size: int, policy: str) -> float:
    """Processor time of a SET that evicts [us]."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(one.client()) for _ in range(CLIENTS)]
        client = clients[0]
        limit(one, client, keys // SHARE, value_size, policy)
        _store_by_many(clients, np.arange(keys // 2), value_size)
        before, used = int(client.info("stats")["evicted_keys"]), one.processor_ns()
        _store_by_many(clients, np.arange(keys, 2 * keys), value_size)
        took = one.processor_ns() - used
        evicted = int(client.info("stats")["evicted_keys"]) - before
    if evicted < 0.9 * keys:
        raise RuntimeError(f"{keys} keys were set, and {evicted} evicted")
    return took / keys / 1000


def run(
    subjects: Sequence[str] = (DEFAULT, "redis", "valkey"),
    keys: int = 400_000,
    rounds: int = 3,
    value_size: int = 100,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "eviction",
        "How well does eviction choose, and what does it cost?",
        [
            f"{keys:,} keys with values of {value_size} B, memory for a quarter of them; Zipf's law, {EXPONENT}",
            f"{keys:,} SETs of new keys at maxmemory, {PIPELINE} in flight on each of {CLIENTS} "
            f"connections; {rounds} rounds in turn: means of the hits, medians of the cost",
        ],
        {"subjects": list(subjects), "keys": keys, "rounds": rounds, "value_size": value_size},
    )
    here, missing = present(subjects)
    report.notes += missing
    ours, others = here[0] if here else "", here[1:]
    for policy in POLICIES:
        chosen: dict[str, list[Hits]] = {subject: [] for subject in here}
        costs: dict[str, list[float]] = {subject: [] for subject in here}
        for number in range(rounds):
            for subject in here:
                progress(f"{subject}: hits, {policy}, round {number + 1}")
                with server(subject) as one:
                    chosen[subject].append(hits(one, keys, value_size, policy, number))
                progress(f"{subject}: cost, {policy}, round {number + 1}")
                with server(subject) as one:
                    costs[subject].append(cost(one, keys, value_size, policy))
        table = report.table(policy, "server", "hits [%]", "keys held", "a SET at maxmemory [us]")
        for subject in here:
            held = round(fmean(one.keys for one in chosen[subject]))
            table.add(subject, 100 * _share(chosen[subject]), held, median(costs[subject]))
        for other in others:
            of = ratio(_share(chosen[ours]), _share(chosen[other]))
            report.figure(f"{policy}: hits, over {other}-server's", of, at_least=0.99)
            faster = ratio(median(costs[other]), median(costs[ours]))
            bar = 1.3 if other == "redis" else None
            report.figure(f"{policy}: {other}-server's processor time of a SET over this one's", faster, at_least=bar)
    return report
