"""The question: how much do branches of a loaded store cost, to make, to reset, to keep, to compare?

Method.  One server holds `keys` strings; a second one, redis-server, holds the same and shows what people do without
branches.

    times       A client sends PING, BRANCH CREATE and BRANCH DROP, in turn, `repetitions` times; and PING, BRANCH RESET
                and SNAPSHOT RESTORE, each after `writes` SETs in that branch by another client, which are not timed.  A
                ratio is that of the medians of a command and of the PING in the same situation.  On redis-server:
                DEBUG RELOAD, and FLUSHALL of the same store, each once per round.
    frames      The frames in use before a branch is made, and after it was made and 10 keys in it were written.  Then
                `alive` branches are made: how much the process has grown, without their frames.
    alive       redis-benchmark sends GETs and SETs to the main store, in turn without any branch and with `alive` of
                them; what is compared is the server's processor time per request.  It is the steady cost: before each
                run every page is written, so that the copies of pages, which each fork costs once, fall outside of it.
    difference  Two branches differ in `written` keys, and then in as many fields of one hash with `keys` fields.  A
                client sends BRANCH DIFF, `rounds` times, and asks for all differences at once.
    resets      One client writes a key and resets its branch, again and again, for `seconds`.  The frames in use are
                read twice a second.

Units: us as a client sees them; frames of 4 KiB; ns of processor time per request; ratios have none.

Sources of error: a client on the same processors is a part of every time, of a PING as well; noise of a shared machine
is larger than what 1,000 branches cost.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, middle, say
from bench.rig.client import Client
from bench.rig.load import fill, key_name
from bench.rig.redisbenchmark import redis_benchmark
from bench.rig.servers import DEFAULT, Server, present, server

CREATE_BAR, RESET_BAR, ALIVE_BAR, BESIDE_BAR = 2.0, 3.0, 1.03, 1024
RESETS_BAR = 1000  # a second
DIFFERENCE_BAR_MS = 5.0
PIPELINE, CLIENTS, VALUE_SIZE = 16, 50, 64
PING_AFTER = "PING after writes"
WRITTEN = 10  # keys, by the branch whose frames are counted


def _timed_us(client: Client, *command: str) -> float:
    began = time.perf_counter_ns()
    client.command(*command)
    return (time.perf_counter_ns() - began) / 1000


def _write(client: Client, keys: int, count: int, generator: np.random.Generator) -> None:
    client.pipeline([("SET", key_name(int(i)), b"w" * VALUE_SIZE) for i in generator.integers(0, keys, count)])


def times(one: Server, keys: int, writes: int, repetitions: int) -> dict[str, list[float]]:
    """The times of each command [us]."""
    found: dict[str, list[float]] = {}
    generator = np.random.default_rng(1)
    with one.client() as client, one.client() as beside:
        client.command("BRANCH", "CREATE", "kept")
        client.command("SNAPSHOT", "CREATE", "point")
        beside.command("BRANCH", "USE", "kept")
        for number in range(repetitions):
            for name, words in (
                ("PING", "PING"),
                ("BRANCH CREATE", f"BRANCH CREATE b{number}"),
                ("BRANCH DROP", f"BRANCH DROP b{number}"),
            ):
                found.setdefault(name, []).append(_timed_us(client, *words.split()))
            for name, words in (
                (PING_AFTER, "PING"),
                ("BRANCH RESET", "BRANCH RESET kept"),
                ("SNAPSHOT RESTORE", "SNAPSHOT RESTORE point INTO kept"),
            ):
                _write(beside, keys, writes, generator)
                found.setdefault(name, []).append(_timed_us(client, *words.split()))
        beside.command("BRANCH", "USE", "main")
        client.command("BRANCH", "DROP", "kept")
        client.command("SNAPSHOT", "DROP", "point")
    return found


def _frames(client: Client) -> int:
    return int(client.info("machine")["frames_in_use"])


def _settled(client: Client) -> int:
    # Frames in use when nothing waits to be released any more.
    before, now = -1, _frames(client)
    while now != before:
        time.sleep(0.05)
        before, now = now, _frames(client)
    return now


def frames(one: Server, keys: int, alive: int) -> dict[str, float]:
    """The frames of a branch, of one with WRITTEN writes, and the bytes beside its frames of one of `alive`."""
    with one.client() as client, one.client() as beside:
        empty = _settled(client)
        client.command("BRANCH", "CREATE", "counted")
        made = _settled(client)
        beside.command("BRANCH", "USE", "counted")
        for i in range(WRITTEN):
            beside.command("SET", key_name(i * (keys // WRITTEN)), b"w" * VALUE_SIZE)
        written = _settled(client)
        known = client.command("BRANCH", "INFO", "counted")
        told = dict(zip((name.decode() for name in known[::2]), known[1::2], strict=True))
        beside.command("BRANCH", "USE", "main")
        client.command("BRANCH", "DROP", "counted")
        before, resident = _settled(client), one.resident_bytes()
        for i in range(alive):
            client.command("BRANCH", "CREATE", f"a{i}")
        grown = one.resident_bytes() - resident - 4096 * (_settled(client) - before)
        for i in range(alive):
            client.command("BRANCH", "DROP", f"a{i}")
        _settled(client)
    return {
        "made": made - empty,
        "written": written - empty,
        "on their paths": (told["private"] >> 12) + told["tables_private"],
        "bytes beside": grown / alive,
    }


def _request_ns(one: Server, test: str, requests: int, keys: int) -> float:
    used = one.processor_ns()
    redis_benchmark(one.port, [test], requests, PIPELINE, CLIENTS, keys, VALUE_SIZE)
    return (one.processor_ns() - used) / requests


def beside(one: Server, keys: int, alive: int, requests: int, tests: Sequence[str]) -> dict[str, tuple[float, float]]:
    """By test: processor time per request without a branch, and with `alive` of them [ns]."""
    found: dict[str, list[float]] = {}
    for count in (0, alive):
        with one.client() as client:
            for i in range(count):
                client.command("BRANCH", "CREATE", f"a{i}")
            fill(one.port, keys, VALUE_SIZE)  # main copies what it shares
            for test in tests:
                found.setdefault(test, []).append(_request_ns(one, test, requests, keys))
            for i in range(count):
                client.command("BRANCH", "DROP", f"a{i}")
            _settled(client)
    return {test: (first, second) for test, (first, second) in found.items()}


def differences(one: Server, keys: int, written: int, rounds: int) -> dict[str, float]:
    """The time of a BRANCH DIFF of two branches [us], by what they differ in."""
    kinds: dict[str, tuple[str, ...]] = {"keys": ("SET",), "fields of one hash": ("HSET", "hash")}
    changed = [int(number) for number in np.random.default_rng(2).choice(keys, written, replace=False)]
    found = {}
    with one.client() as client, one.client() as beside:
        for first in range(0, keys, 1000):
            fields = (word for number in range(first, min(keys, first + 1000)) for word in (key_name(number), b"v"))
            client.command("HSET", "hash", *fields)
        for kind, before in kinds.items():
            for name in ("one", "other"):
                client.command("BRANCH", "CREATE", name)
            beside.command("BRANCH", "USE", "other")
            beside.pipeline([(*before, key_name(number), b"d" * VALUE_SIZE) for number in changed])
            beside.command("BRANCH", "USE", "main")
            expected = written if kind == "keys" else 1
            times_us = []
            for _ in range(rounds):
                began = time.perf_counter_ns()
                told = client.command("BRANCH", "DIFF", "one", "other", "COUNT", str(2 * written))
                times_us.append((time.perf_counter_ns() - began) / 1000)
                assert len(told[5]) == expected, f"{len(told[5])} differences"
            found[kind] = middle(times_us)
            for name in ("one", "other"):
                client.command("BRANCH", "DROP", name)
        client.command("UNLINK", "hash")
        _settled(client)
    return found


def resets(one: Server, keys: int, seconds: float) -> tuple[float, list[int]]:
    """Resets a second, and the frames in use while they went on."""
    counted, seen = 0, []
    with one.client() as client, one.client() as watching:
        client.command("BRANCH", "CREATE", "reset")
        client.command("BRANCH", "USE", "reset")
        began = look = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            client.pipeline([("SET", key_name(counted % keys), b"r"), ("BRANCH", "RESET")])
            counted += 1
            if now >= look:
                seen.append(_frames(watching))
                look = now + 0.5
        took = time.monotonic() - began
        client.command("BRANCH", "USE", "main")
        client.command("BRANCH", "DROP", "reset")
    return counted / took, seen


def _without_branches(one: Server, keys: int, rounds: int) -> dict[str, float]:
    # The ways to reset a store where there are no branches [us].
    found: dict[str, list[float]] = {"DEBUG RELOAD": [], "FLUSHALL": []}
    with one.client() as client:
        for _ in range(rounds):
            found["DEBUG RELOAD"].append(_timed_us(client, "DEBUG", "RELOAD"))
            found["FLUSHALL"].append(_timed_us(client, "FLUSHALL"))
            fill(one.port, keys, VALUE_SIZE)
    return {name: middle(taken) for name, taken in found.items()}


def run(
    keys: int = 1_000_000,
    rounds: int = 5,
    repetitions: int = 2000,
    writes: int = 100,
    alive: int = 1000,
    requests: int = 400_000,
    seconds: float = 60.0,
    progress: Say = say,
) -> Report:
    """Measure; `repetitions` and `requests` are those of one round."""
    report = Report(
        "branches",
        "What do branches of a loaded store cost?",
        [
            f"{keys:,} strings of {VALUE_SIZE} bytes; {rounds} rounds; medians",
            f"times: {repetitions:,} of each command a round; {writes} writes before RESET and RESTORE",
            f"alive: redis-benchmark, {requests:,} requests, {CLIENTS} clients, pipelines of {PIPELINE}",
        ],
        {"keys": keys, "rounds": rounds, "repetitions": repetitions, "writes": writes, "alive": alive,
         "requests": requests, "seconds": seconds},
    )  # fmt: skip
    here, missing = present([DEFAULT, "redis"])
    report.notes += missing
    tests = ("get", "set") if shutil.which("redis-benchmark") else ()
    taken: dict[str, list[float]] = {}
    spent: dict[str, list[tuple[float, float]]] = {test: [] for test in tests}
    with ExitStack() as stack:
        one = stack.enter_context(server(DEFAULT))
        fill(one.port, keys, VALUE_SIZE)
        for round_ in range(rounds):
            progress(f"times, round {round_ + 1} of {rounds}")
            for name, found in times(one, keys, writes, repetitions).items():
                taken.setdefault(name, []).extend(found)
        counted = frames(one, keys, alive)
        for round_ in range(rounds):
            progress(f"alive, round {round_ + 1} of {rounds}")
            for test, pair in beside(one, keys, alive, requests, tests).items():
                spent[test].append(pair)
        progress("difference")
        compared = differences(one, keys, min(writes, keys // 2), rounds)
        progress("resets")
        rate, seen = resets(one, keys, seconds)
    told = report.table("As a client sees them [us]", "command", "median", "p99", "over that PING")
    ping = after = middle(taken["PING"])
    for name, found in taken.items():
        if name == PING_AFTER:
            after = middle(found)
        told.add(name, middle(found), float(np.percentile(found, 99)), middle(found) / after)
    if "redis" in here:
        progress("redis-server")
        with server("redis", ("--enable-debug-command", "yes")) as rival:
            fill(rival.port, keys, VALUE_SIZE)
            for name, us in _without_branches(rival, keys, rounds).items():
                told.add(f"{name} of redis-server", us, None, us / ping)
    held = report.table("Frames", "branch", "frames")
    held.add("made", counted["made"])
    held.add(f"after {WRITTEN} writes", counted["written"])
    held.add("private pages and tables of its live root", counted["on their paths"])
    costs = report.table("Processor time of a request to the main store [ns]", "test", "alone", f"{alive:,} branches")
    for test in tests:
        costs.add(test.upper(), *(middle(pair[i] for pair in spent[test]) for i in (0, 1)))
    report.figure("BRANCH CREATE over PING", middle(taken["BRANCH CREATE"]) / ping, at_most=CREATE_BAR, unit=" ×")
    over = middle(taken["BRANCH RESET"]) / after
    report.figure(f"BRANCH RESET after {writes} writes, over PING after as many", over, at_most=RESET_BAR, unit=" ×")
    report.figure("bytes of a branch beside its frames", counted["bytes beside"], at_most=BESIDE_BAR, unit=" B")
    for test in tests:
        ratio = middle(with_them / alone for alone, with_them in spent[test])
        report.figure(f"{test.upper()} beside {alive:,} branches, over none", ratio, at_most=ALIVE_BAR, unit=" ×")
    for kind, us in compared.items():
        name = f"BRANCH DIFF, {writes} {kind} of {keys:,}"
        report.figure(name, us / 1000, at_most=DIFFERENCE_BAR_MS, unit=" ms")
    report.figure(f"a write and a RESET, a second, for {seconds:.0f} s", rate, at_least=RESETS_BAR)
    report.figure("frames in use at the end of that, over the begin", seen[-1] / seen[0], at_most=1.01, unit=" ×")
    return report


SMOKE: dict[str, Any] = {
    "keys": 2000, "rounds": 1, "repetitions": 20, "alive": 20, "requests": 2000, "seconds": 1.0,
}  # fmt: skip
