"""Hashes, sets, sorted sets and lists beside redis-server's and Valkey's: speed, memory, stops, snapshots.

The parts, each in a module of its own that says how it measures:

    throughput    commands a second, and processor time a command           collection_rates.py
    memory        bytes an element                                          collection_memory.py
    index         LINDEX anywhere over LINDEX 0                             collection_rates.py
    turns         the loop's longest turn, and a second client's wait       collection_turns.py
    snapshot      p99.9 during BGSAVE                                       collection_snapshot.py
    remainder     resident memory after most of the data were deleted       collection_memory.py

Method.  Every part measures this server, redis-server and Valkey in one run, with the same bytes sent to each; what can
alternate does.  A figure is a median, and compares with the rival that its name says, or with a bar of its own.

Units: those in the names of columns and figures.

Sources of error: those of the parts; and other work on the processors, against which there are medians, alternation,
and the processes' own processor time instead of the clock.  A server that lacks a command, or a rival that is not
installed, leaves its cells blank, and a note says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields

from bench.reporting.report import Report, Say, say
from bench.rig.servers import DEFAULT, present
from bench.values import collection_memory, collection_rates, collection_snapshot, collection_turns
from bench.values.sizes import Sizes

PARTS = ("throughput", "memory", "index", "turns", "snapshot", "remainder")
COMPARED = (DEFAULT, "redis", "valkey")


_MEASURE: dict[str, Callable[[Report, Sequence[str], Sizes, Say], None]] = {
    "throughput": collection_rates.throughput,
    "memory": collection_memory.elements,
    "index": collection_rates.index,
    "turns": collection_turns.turns,
    "snapshot": collection_snapshot.latency,
    "remainder": collection_memory.remainder,
}


def run(
    parts: Sequence[str] = PARTS,
    subjects: Sequence[str] = COMPARED,
    sizes: Sizes | None = None,
    progress: Say = say,
) -> Report:
    """Measure the parts, in their own order."""
    sizes = sizes or Sizes()
    report = Report(
        "collections",
        "Hashes, sets, sorted sets and lists: how fast, how large, and how long do they stop the server?",
        [],
        {
            "parts": list(parts),
            "subjects": list(subjects),
            **{field.name: getattr(sizes, field.name) for field in fields(sizes)},
        },
    )
    here, missing = present(subjects)
    report.notes += missing
    for part in PARTS:
        if part in parts:
            _MEASURE[part](report, here, sizes, progress)
    return report
