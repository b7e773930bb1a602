"""For how long does work on a large value stop the loop, and how long does a second client wait meanwhile?

Method.  A value is made: a hash, a sorted set and a list of many elements, and a string of nearly 512 MB.  Then one
command does what is expensive: it deletes the value, copies it, lets it expire, empties the server, or touches its end.
"grow" makes a collection from nothing by commands of one element, in pipelines of 16.  The measurement goes on for
`settle_s` after the reply, for work that the server does later.

    the longest turn    of the loop, by its thread's own processor time: `loop_longest_turn_usec` of this server, which
                        it measures while its latency monitor is on.  The others do not report theirs.
    the second client   a process that sends PING after PING (bystander.py): its longest wait meanwhile, less the
                        longest beside the idle server just after, in as much time, but in IDLE_MAX_S at most: the
                        longest of more waits is longer

Each is repeated on a new value; figures are medians, and the table has the worst turn, too.

Units: us of processor time; ms.

Sources of error: processor time excludes what others take, but not what they displace from the caches, nor faults of
the operating system when it first gives a page; a second client that waits for a processor, of which the longest waits
beside the idle server tell; two processes that use the server's processors, the sender and the second client.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.reporting.report import Report, Say, largest, median
from bench.rig.client import Client, ReplyError, encode
from bench.rig.elements import commands, in_order, store
from bench.rig.servers import Server, server
from bench.serving.bystander import Bystander
from bench.values.sizes import Sizes

TURN_BAR_US, WAIT_BAR_MS = 1000.0, 5.0
KINDS = ("hash", "zset", "list")
EXPIRY_MS = 100
POLL_S = 0.01
IDLE_MAX_S = 5.0
GROW_PIPELINE = 16
MONITOR_MS = "1000000"  # the latency monitor is on, and no event is long enough for it
KEY, OTHER = "value", "copy"
SMALL = "0123456789"


@dataclass(frozen=True)
class Measured:
    """One repetition."""

    turn_us: float | None
    idle_ms: float
    busy_ms: float


Measure = Callable[[Callable[[], object]], Measured]


class Watch:
    """Measures what happens in one server."""

    def __init__(self, one: Server, client: Client, bystander: Bystander, settle_s: float) -> None:
        self.one, self.client, self.bystander, self.settle_s = one, client, bystander, settle_s

    def __call__(self, act: Callable[[], object]) -> Measured:
        def meanwhile() -> None:
            act()
            time.sleep(self.settle_s)

        self.client.command("CONFIG", "RESETSTAT")
        began = time.monotonic()
        busy = self.bystander.longest_ms(meanwhile)
        took = time.monotonic() - began
        turn = self.client.info("machine")["loop_longest_turn_usec"] if self.one.ours else None
        idle = self.bystander.longest_ms(lambda: time.sleep(min(took, IDLE_MAX_S)))
        return Measured(float(turn) if turn else None, idle, busy)


def _expire(client: Client) -> None:
    client.command("PEXPIRE", KEY, EXPIRY_MS)
    while client.command("DBSIZE"):
        time.sleep(POLL_S)


def _grow(client: Client, kind: str, count: int) -> None:
    per_batch = 200 * GROW_PIPELINE  # made at once, not sent at once
    numbers = in_order(kind, count)
    for first in range(0, count, per_batch):
        for data, sent in commands(kind, KEY.encode(), numbers[first : first + per_batch], 1):
            size = len(data) // sent
            for start in range(0, sent, GROW_PIPELINE):
                part = min(GROW_PIPELINE, sent - start)
                client.exchange(data[start * size : (start + part) * size], part)


def collection_acts(client: Client, kind: str, count: int) -> dict[str, Callable[[], object]]:
    """The operations measured on a collection; all but grow begin with a full one."""
    return {
        "grow": lambda: _grow(client, kind, count),
        "COPY": lambda: client.command("COPY", KEY, OTHER),
        "DEL": lambda: client.command("DEL", KEY),
        "UNLINK": lambda: client.command("UNLINK", KEY),
        "expiry": lambda: _expire(client),
        "FLUSHALL": lambda: client.command("FLUSHALL"),
    }


def of_collections(watch: Watch, kind: str, count: int) -> dict[str, Measured]:
    """One repetition with a collection."""
    client, found = watch.client, {}
    for name, act in collection_acts(client, kind, count).items():
        client.command("FLUSHALL")
        if name != "grow":
            store(client, kind, KEY, count)
        time.sleep(watch.settle_s)
        found[name] = watch(act)
        left = client.command("DBSIZE")
        assert left == {"grow": 1, "COPY": 2}.get(name, 0), f"{name} of a {kind} leaves {left} keys"
    client.command("FLUSHALL")
    return found


def of_string(watch: Watch, size: int) -> dict[str, Measured]:
    """One repetition with a long value."""
    client = watch.client
    data = encode("SET", KEY, np.random.default_rng(1).bytes(size))
    acts: dict[str, Callable[[], object]] = {
        "SET": lambda: client.exchange(data, 1),
        "APPEND": lambda: client.command("APPEND", KEY, SMALL),
        "GETRANGE at its end": lambda: client.command("GETRANGE", KEY, size, size + len(SMALL) - 1),
        "SETRANGE at its end": lambda: client.command("SETRANGE", KEY, size, SMALL[::-1]),
        "COPY": lambda: client.command("COPY", KEY, OTHER),
        "DEL": lambda: client.command("DEL", KEY),
    }
    client.command("FLUSHALL")
    found = {name: watch(act) for name, act in acts.items()}
    assert client.command("GETRANGE", OTHER, size, -1) == SMALL[::-1].encode()
    client.command("FLUSHALL")
    return found


def _measure(
    subject: str, sizes: Sizes, report: Report, progress: Say
) -> dict[tuple[str, str], list[Measured]]:  # fmt: skip
    found: dict[tuple[str, str], list[Measured]] = {}
    with server(subject) as one, one.client() as client, contextlib.closing(Bystander(one.port)) as bystander:
        client.command("CONFIG", "SET", "latency-monitor-threshold", MONITOR_MS)
        watch = Watch(one, client, bystander, sizes.settle_s)
        for what in (*KINDS, "string"):
            for round_ in range(sizes.rounds):
                progress(f"turns, {subject}, {what}, {round_ + 1} of {sizes.rounds}")
                try:
                    if what == "string":
                        results = of_string(watch, sizes.value_bytes)
                    else:
                        results = of_collections(watch, what, sizes.large)
                except ReplyError as error:
                    report.notes.append(f"{subject}, turns with a {what}: {error}"[:120])
                    break
                for name, result in results.items():
                    found.setdefault((what, name), []).append(result)
    return found


def turns(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part turns."""
    report.method.append(
        f"turns: collections of {sizes.large:,}, a string of {sizes.value_bytes / 2**20:,.0f} MiB, {sizes.rounds} "
        f"times each, and {sizes.settle_s:g} s after the reply; the turn by thread processor time, the wait by a "
        "second client"
    )
    results = {subject: _measure(subject, sizes, report, progress) for subject in here}
    rows = list(dict.fromkeys(row for found in results.values() for row in found))
    table = report.table("The longest turn [us], and the second client's longest wait [ms], more than beside it idle",
                         "value", "what", "turn, median", "turn, worst",
                         *(f"{s}{what}" for s in here for what in (", more", ", idle")))  # fmt: skip
    turn_medians: list[float | None] = []
    for what, name in rows:
        ours = results[here[0]].get((what, name), [])
        long = [one.turn_us for one in ours if one.turn_us is not None]
        turn_medians.append(median(long))
        cells: list[float | None] = []
        for subject in here:
            of = results[subject].get((what, name), [])
            cells += [
                median(m.busy_ms - m.idle_ms for m in of),
                statistics.median(m.idle_ms for m in of) if of else None,
            ]
        table.add(what, name, turn_medians[-1], max(long, default=None), *cells)
        report.figure(f"{name}, {what}: the longest turn", turn_medians[-1], at_most=TURN_BAR_US, unit=" us")
        report.figure(f"{name}, {what}: a second client waits more", cells[0], at_most=WAIT_BAR_MS, unit=" ms")
    report.figure("the longest turn of all", largest(turn_medians), at_most=TURN_BAR_US, unit=" us")
