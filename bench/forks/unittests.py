"""The question: how long does it take to give every unit test a loaded store of its own?

Method.  Servers hold `mib` MiB of strings.  `tests` tests each read, write and delete keys of it; each must find the
store as it was loaded, and checks that.  For a test, set-up and tear-down are timed together, and its body apart.

    a branch a test     BRANCH CREATE and USE before the body, USE main and DROP behind it, as the pytest plugin does
    load again          FLUSHALL and all data once more, by pipelined SETs
    DEBUG RELOAD        of redis-server: it saves and loads all data, as some test suites do
    a server a test     a redis-server is started on a file with the data, and killed

The last three are repeated a few times only, because they take seconds.

    forks in process    A space of the same size is forked, the child reads and writes as many pages as the body has
                        commands, and is released; in each mode of fork, in turn.  The paper measured this: unit tests
                        of SQLite on a database of 1 GB, whose process is forked for every test.

Units: ms per test, medians.

Sources of error: the first writes of a body copy its pages, so a branch makes the body slower, not the set-up; a server
that is started on a file finds it in the page cache.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.reporting.paper import SOURCE
from bench.reporting.report import Report, Say, middle, say
from bench.rig.client import Client
from bench.rig.load import fill, key_name, value_of
from bench.rig.machine import ADDRESS, MIB, MODES, written
from bench.rig.servers import DEFAULT, Server, present, server
from mmcore.paging import HUGE_SIZE, PAGE_SIZE
from mmcore.space import AddressSpace, ForkMode

VALUE_SIZE = 1024
SIZE_OF_KEY = 1100  # [bytes] of data that a key stands for, about
SET_UP_BAR_MS = 1.0
PAPER_MS = {"classic": 13.15, "on-demand": 0.12}  # of a fork, Table 3
COMMANDS_A_STEP = 4  # of a body: GET, SET, GET, DEL


class Stopwatch:
    """Sums up the time of blocks [ms]."""

    def __init__(self) -> None:
        self.ms = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Add the time of a block."""
        began = time.perf_counter_ns()
        yield
        self.ms += (time.perf_counter_ns() - began) / 1e6


def body(client: Client, keys: int, steps: int, seed: int) -> None:
    """A test.  Raises AssertionError if the store is not as it was loaded."""
    for i in np.random.default_rng(seed).choice(keys, steps, replace=False):
        key = key_name(int(i))
        if client.command("GET", key) != value_of(int(i), VALUE_SIZE):
            raise AssertionError(f"{key!r} is not as it was loaded")
        client.command("SET", key, b"changed")
        if client.command("GET", key) != b"changed" or client.command("DEL", key) != 1:
            raise AssertionError(f"{key!r} was not changed")


def by_branches(one: Server, keys: int, tests: int, steps: int) -> tuple[list[float], list[float]]:
    """Set-up and tear-down of each test, and its body [ms]."""
    around, inside = [], []
    with one.client() as control, one.client() as client:
        for number in range(tests):
            outer, inner, name = Stopwatch(), Stopwatch(), f"t{number}"
            with outer():
                control.command("BRANCH", "CREATE", name)
                client.command("BRANCH", "USE", name)
            with inner():
                body(client, keys, steps, number % 8)  # keys come again, and must be as they were loaded
            with outer():
                client.command("BRANCH", "USE", "main")
                control.command("BRANCH", "DROP", name)
            around.append(outer.ms)
            inside.append(inner.ms)
    return around, inside


def by_loading(one: Server, keys: int, tests: int, steps: int) -> list[float]:
    """FLUSHALL and the data once more [ms]."""
    found = []
    for number in range(tests):
        watch = Stopwatch()
        with one.client() as client:
            body(client, keys, steps, number % 8)
            with watch():
                client.command("FLUSHALL")
                fill(one.port, keys, VALUE_SIZE)
        found.append(watch.ms)
    return found


def by_reload(one: Server, tests: int) -> list[float]:
    """DEBUG RELOAD [ms]."""
    found = []
    with one.client() as client:
        for _ in range(tests):
            watch = Stopwatch()
            with watch():
                client.command("DEBUG", "RELOAD")
            found.append(watch.ms)
    return found


def by_servers(one: Server, keys: int, tests: int, steps: int) -> list[float]:
    """A server that is started on the data of `one`, and killed [ms]."""
    found = []
    one.stop(save=True)
    for number in range(tests):
        watch = Stopwatch()
        with watch():
            one.start()
        with one.client() as client:
            body(client, keys, steps, number % 8)
        with watch():
            one.kill()
        found.append(watch.ms)
    return found


def in_process(space: AddressSpace, size: int, tests: int, touched: int) -> dict[str, list[float]]:
    """By mode: the fork and the release of each test's space [ms]."""
    found: dict[str, list[float]] = {name: [] for name in MODES}
    for number in range(tests):
        pages = np.random.default_rng(number).integers(0, size // PAGE_SIZE, touched)
        for name, mode in MODES.items():
            watch = Stopwatch()
            with watch():
                child = space.fork(ForkMode(mode))
            for page in pages.tolist():
                address = ADDRESS + page * PAGE_SIZE
                child.write(address, child.read(address, 8))
            with watch():
                child.exit()
            found[name].append(watch.ms)
    return found


def run(mib: int = 1024, tests: int = 200, slow_tests: int = 3, steps: int = 10, progress: Say = say) -> Report:
    """Measure; a body has 4 commands a step; `slow_tests` for what takes seconds."""
    keys = mib * MIB // SIZE_OF_KEY
    report = Report(
        "tests",
        "What does it cost to give every unit test a loaded store of its own?",
        [
            f"{mib} MiB, {keys:,} strings of {VALUE_SIZE} bytes; {tests} tests of {COMMANDS_A_STEP * steps} commands",
            f"{slow_tests} of those that take seconds",
            SOURCE,
        ],
        {"mib": mib, "tests": tests, "slow_tests": slow_tests, "steps": steps},
    )
    here, missing = present([DEFAULT, "redis"])
    report.notes += missing
    table = report.table("Set-up and tear-down of a test [ms]", "way", "median", "worst")
    with server(DEFAULT) as one:
        progress("loading")
        fill(one.port, keys, VALUE_SIZE)
        progress("a branch a test")
        around, inside = by_branches(one, keys, tests, steps)
    table.add("a branch a test", middle(around), max(around))
    if "redis" in here:
        with server("redis", ("--enable-debug-command", "yes")) as rival:
            fill(rival.port, keys, VALUE_SIZE)
            for way, found in (
                ("load again", by_loading(rival, keys, slow_tests, steps)),
                ("DEBUG RELOAD", by_reload(rival, slow_tests)),
                ("a server a test", by_servers(rival, keys, slow_tests, steps)),
            ):
                progress(way)
                table.add(f"{way}, redis-server", middle(found), max(found))
    size = (mib * MIB) & -HUGE_SIZE
    progress("forks in process")
    with written(size) as space:
        forks = in_process(space, size, tests, COMMANDS_A_STEP * steps)
    told = report.table("Fork and release of a test's space, in process [ms]", "mode", "median", "the paper's fork")
    for name, found in forks.items():
        told.add(name, middle(found), PAPER_MS.get(name))
    report.figure("a branch a test: set-up and tear-down", middle(around), at_most=SET_UP_BAR_MS, unit=" ms")
    report.figure("its body", middle(inside), unit=" ms")
    report.figure("classic over constant, in process", middle(forks["classic"]) / middle(forks["constant"]), unit=" ×")
    return report


SMOKE: dict[str, Any] = {"mib": 4, "tests": 5, "slow_tests": 1}
