"""How much memory does a key take?

Method.  The resident memory of the server's process (VmRSS) is read right after its start, and again one second after
the keys are loaded.  The difference divided by the number of keys is the cost of a key; the total is the cost to the
operator.  used_memory is the server's own account.

Units: bytes per key; MiB.

Sources of error: memory that is reserved but never touched is not resident, and not counted; pages that the allocator
has touched once and freed are counted; memory backed by huge pages is resident in pieces of 2 MiB.
"""

import time
from collections.abc import Sequence

from bench.reporting.report import Report, Say, ratio, say
from bench.rig.load import fill
from bench.rig.servers import DEFAULT, present, server

SETTLE_S = 1.0


def run(
    subjects: Sequence[str] = (DEFAULT, "redis"),
    keys: int = 1_000_000,
    value_sizes: Sequence[int] = (64,),
    settle_s: float = SETTLE_S,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "memory",
        "How much memory does a key take?",
        [
            f"VmRSS of the process before and {settle_s:g} s after loading {keys:,} keys of 16 B",
        ],
        {"subjects": list(subjects), "keys": keys, "value_sizes": list(value_sizes)},
    )
    here, missing = present(subjects)
    report.notes += missing
    table = report.table(
        "Resident memory",
        "server",
        "value [B]",
        "empty [MiB]",
        "loaded [MiB]",
        "a key [B]",
        "used_memory a key [B]",
    )
    for size in value_sizes:
        totals: list[float] = []
        a_key: list[float] = []
        for subject in here:
            progress(f"{subject}, values of {size} B")
            with server(subject) as one:
                time.sleep(settle_s)
                empty, accounted = one.resident_bytes(), int(one.info("memory")["used_memory"])
                fill(one.port, keys, size)
                time.sleep(settle_s)
                loaded = one.resident_bytes()
                accounted = int(one.info("memory")["used_memory"]) - accounted
            totals.append(loaded)
            a_key.append((loaded - empty) / keys)
            table.add(subject, size, empty / 2**20, loaded / 2**20, a_key[-1], accounted / keys)
        theirs = (totals[1], a_key[1]) if len(here) > 1 else (None, None)
        report.figure(f"resident with {size} B values, over redis-server's", ratio(totals[0], theirs[0]), at_most=1.0)
        report.figure(f"the same, by what a key adds, {size} B", ratio(a_key[0], theirs[1]), at_most=1.0)
    return report
