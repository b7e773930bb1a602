"""How long does taking a snapshot stop the server?

Method.  Each server holds the same keys, at least a gibibyte of touched memory, and takes BGSAVE after BGSAVE.  Before
each one a few random keys are written, so that the tables to be shared are in the state of a store in use.  The servers
report the pause themselves: this server reports the whole stop including the fork, redis-server only its fork,
latest_fork_usec.

Units: us.

Sources of error: too few snapshots for a worst; another process on the same cores (the scheduler then causes the
worst); redis-server with transparent huge pages on (it turns them off for itself).
"""

import time
from collections.abc import Sequence

from bench.reporting.report import Report, Say, median, ratio, say, worst
from bench.rig.load import fill
from bench.rig.servers import SUBJECTS, present, server, snapshot

WRITTEN_BETWEEN = 10_000


def run(
    subjects: Sequence[str] = SUBJECTS,
    keys: int = 1_048_576,
    value_size: int = 1024,
    repetitions: int = 20,
    rival_repetitions: int = 5,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "pause",
        "How long does taking a snapshot stop the server?",
        [
            f"{keys:,} keys of {value_size} B ({keys * value_size / 2**30:.2f} GiB of values), "
            f"{repetitions} BGSAVEs ({rival_repetitions} of redis-server), "
            f"{WRITTEN_BETWEEN:,} keys written before each",
            "fork and pause as the server tells them; of redis-server latest_fork_usec stands for both",
        ],
        {"subjects": list(subjects), "keys": keys, "value_size": value_size, "repetitions": repetitions},
    )
    here, missing = present(subjects)
    report.notes += missing
    table = report.table(
        "us", "server", "snapshots", "fork, median", "fork, worst", "pause, median", "pause, worst", "[s] each"
    )
    pauses: dict[str, list[float]] = {}
    for subject in here:
        progress(f"{subject}: load {keys:,} keys")
        with server(subject) as one, one.client() as client:
            fill(one.port, keys, value_size)
            taken = []
            for i in range(rival_repetitions if subject == "redis" else repetitions):
                progress(f"{subject}: snapshot {i + 1}")
                fill(one.port, min(keys, WRITTEN_BETWEEN), value_size)
                time.sleep(0.05)
                taken.append(snapshot(client))
        forks = [t.fork_us for t in taken]
        pauses.setdefault(subject, [t.pause_us for t in taken])
        stops = [t.pause_us for t in taken]
        table.add(
            subject,
            len(taken),
            median(forks),
            worst(forks),
            median(stops),
            worst(stops),
            median(t.seconds for t in taken),
        )
    for subject in ("constant", "on-demand"):
        if subject not in pauses:
            continue
        ours = worst(pauses[subject])
        report.figure(f"worst {subject} pause", ours, unit=" us")
        for rival, what, bar in (
            ("classic", "the median classic one", 50),
            ("redis", "redis-server's median fork", 500),
        ):
            over = ratio(ours, median(pauses.get(rival, [])))
            report.figure(f"worst {subject} pause, over {what}", over, at_most=1 / bar)
    return report
