"""The latency of commands of collections while a snapshot is taken.

Method.  A server holds one hash and one sorted set, with as many elements each.  An open loop (openloop.py) sends
HSET, HGET and ZADD of random elements at a fixed rate, as many of each, and takes BGSAVEs as in snapshot.py: the
latency of a request counts from when it was due, "before" are those due before the first BGSAVE, "during" those due
between any BGSAVE and its end.  The servers take turns, one after the other.

Units: ms, percentiles by HdrHistogram with 3 digits.

Sources of error: those of snapshot.py: a late generator (its lateness is in the table), a snapshot too short for a
p99.9 (the number of requests is in the table), a rate that a server cannot sustain.
"""

from collections.abc import Sequence

import numpy as np

from bench.reporting.report import Report, Say, latencies, ratio
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


def latency(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part snapshot."""
    report.method.append(
        f"snapshot: open loop, {sizes.rate:,} HSET, HGET and ZADD a second over {CONNECTIONS} connections; a hash and "
        f"a sorted set of {sizes.large:,}; {SNAPSHOTS} BGSAVEs"
    )
    plan = Plan(0, sizes.rate, CONNECTIONS, sizes.large, VALUE_SIZE, SECONDS_MAX, set_share=1 / 3, add_share=1 / 3,
                collections=True)  # fmt: skip
    table = report.table("Latency [ms]", "server", "window", "requests", "p50", "p99", "p99.9", "p99.99", "max",
                         "late, p99.9")  # fmt: skip
    p999: dict[str, float | None] = {}
    for subject in here:
        progress(f"snapshot, {subject}")
        with server(subject) as one:
            try:
                load(one, sizes.large)
            except ReplyError as error:
                report.notes.append(f"{subject}, snapshot: {error}"[:120])
                continue
            found = measure(one, Plan(**{**vars(plan), "port": one.port}), SNAPSHOTS, sizes.quiet_s)
        if found.outcome.errors:
            report.notes.append(f"{subject}: {found.outcome.errors} requests were answered by an error")
        late = latencies(found.outcome.lateness(found.quiet_from_ns))["p99.9"]
        for window, chosen in (("before", found.before), ("during", found.during)):
            values = latencies(found.outcome.latency[chosen])
            table.add(subject, window, int(chosen.sum()), *values.values(), late)
        p999[subject] = values["p99.9"]
    ours = p999.get(here[0]) if here else None
    report.figure("p99.9 during BGSAVE, over redis-server's", ratio(ours, p999.get("redis")), at_most=BAR, unit=" ×")
