"""The latency of commands of collections while a snapshot is taken.

Method.  A server holds one hash and one sorted set, with as many elements each.  An open loop (openloop.py) sends
HSET, HGET and ZADD of random elements at a fixed rate, as many of each, and takes BGSAVEs as in snapshot.py: the
latency of a request counts from when it was due, "before" are those due before the first BGSAVE, "during" those due
between any BGSAVE and its end.  The servers take turns, round after round.  A p99.9 here is that of a few stops, which
a system with two processors deals out by chance, so the median of the rounds is what counts.

Units: ms, percentiles by HdrHistogram with 3 digits.

Sources of error: those of snapshot.py: a late generator (its lateness is in the table), a snapshot too short for a
p99.9 (the number of requests is in the table), a rate that a server cannot sustain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.reporting.report import Report, Say, latencies, median, ratio
from bench.rig.client import ReplyError
from bench.rig.elements import numbered
from bench.rig.openloop import HASH_KEY, ZSET_KEY, Plan
from bench.rig.servers import Server, server
from bench.serving.snapshot import SECONDS_MAX, measure
from bench.values.sizes import Sizes

BAR = 1 / 5
CONNECTIONS = 50
VALUE_SIZE = 64
SNAPSHOTS = 3
PER_COMMAND, BATCH = 100, 100


def load(one: Server, count: int) -> None:
    """Store the fields and members that the generator names."""
    value = b"v" * VALUE_SIZE
    field = b"$16\r\nkey:############\r\n"
    shapes = {
        HASH_KEY: (b"HSET", field + b"$%d\r\n%s\r\n" % (VALUE_SIZE, value)),
        ZSET_KEY: (b"ZADD", b"$12\r\n############\r\n" + field),
    }
    with one.client() as client:
        for key, (command, element) in shapes.items():
            for first in range(0, count, PER_COMMAND * BATCH):
                data, sent = b"", 0
                for start in range(first, min(count, first + PER_COMMAND * BATCH), PER_COMMAND):
                    numbers = np.arange(start, min(count, start + PER_COMMAND))
                    header = (2 + 2 * len(numbers), len(command), command, len(key), key)
                    data += b"*%d\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % header + numbered(element, numbers).tobytes()
                    sent += 1
                client.exchange(data, sent)


@dataclass
class Measured:
    """The figures of one server; a window without requests has None."""

    rows: dict[str, list[list[float | None]]]  # by window, for each round: requests, then percentiles [ms]
    late: list[float | None]  # for each round: p99.9 of the generator's delay [ms]


def _round(report: Report, subject: str, sizes: Sizes, found: Measured) -> float | None:
    """Measure a server once; returns its p99.9 during BGSAVE [ms]."""
    plan = Plan(0, sizes.rate, CONNECTIONS, sizes.large, VALUE_SIZE, SECONDS_MAX, set_share=1 / 3, add_share=1 / 3,
                collections=True)  # fmt: skip
    with server(subject) as one:
        try:
            load(one, sizes.large)
        except ReplyError as error:
            report.notes.append(f"{subject}, snapshot: {error}"[:120])
            return None
        run = measure(one, Plan(**{**vars(plan), "port": one.port}), SNAPSHOTS, sizes.quiet_s)
    if run.outcome.errors:
        report.notes.append(f"{subject}: {run.outcome.errors} requests were answered by an error")
    found.late.append(latencies(run.outcome.lateness(run.quiet_from_ns))["p99.9"])
    for window, chosen in (("before", run.before), ("during", run.during)):
        values = latencies(run.outcome.latency[chosen])
        found.rows.setdefault(window, []).append([int(chosen.sum()), *values.values()])
    return values["p99.9"]


def _median(values: Iterable[float | None]) -> float | None:
    return median(value for value in values if value is not None)


def latency(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part snapshot."""
    report.method.append(
        f"snapshot: open loop, {sizes.rate:,} HSET, HGET and ZADD a second over {CONNECTIONS} connections; a hash and "
        f"a sorted set of {sizes.large:,}; {SNAPSHOTS} BGSAVEs, {sizes.rounds} rounds, the servers in turn; medians of "
        "the rounds, also of their ratios"
    )
    found = {subject: Measured({}, []) for subject in here}
    table = report.table("Latency [ms]", "server", "window", "requests", "p50", "p99", "p99.9", "p99.99", "max",
                         "late, p99.9")  # fmt: skip
    by_round = report.table("p99.9 during BGSAVE by rounds [ms]", "round", *here, "over redis")
    over = []
    for number in range(sizes.rounds):
        p999 = {}
        for subject in here:
            progress(f"snapshot, {subject}")
            p999[subject] = _round(report, subject, sizes, found[subject])
        over.append(ratio(p999[here[0]], p999.get("redis")))
        by_round.add(number + 1, *p999.values(), over[-1])
    for subject, measured in found.items():
        for window, rows in measured.rows.items():
            table.add(subject, window, *map(_median, zip(*rows, strict=True)), _median(measured.late))
    report.figure("p99.9 during BGSAVE, over redis-server's", _median(over), at_most=BAR, unit=" ×")
