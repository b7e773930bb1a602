"""How many commands of collections a second, and at what processor time each?  And does LINDEX cost the same anywhere?

Method.  All servers run at once, with the same collections loaded.  redis-benchmark drives them in turn at a pipeline
of 16.  Before each run the collections that its command changes are made anew, outside the clock.  A run's processor
time is that of the server's process; divided by the number of commands it is the cost of one.  It includes the system's
share: receiving and sending.

    HSET, HGET       random fields of one hash, which exist
    SADD             random members of twice as many as the set has
    ZADD             random members that exist, with random scores
    LPUSH            to one list
    SPOP, LPOP       from several collections, so many that a run leaves half of their elements
    ZRANGE 0 9       the same ten members; LRANGE 0 99 the same hundred elements

LINDEX is sent by pipelines of 200 by this process, at index 0 and at random indices in turn; what is compared is the
processor time of the same number of commands.

Units: requests per second; ns of processor time per command; ratios have none.

Sources of error: a client that is the bottleneck, as redis-benchmark is when it parses LRANGE (the column "core" has
the share of a processor that the server used: well below 1.0 the ratio of rates tells little, and that of processor
times still does); processors shared with other work; runs shorter than a second.
"""

import random
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING

from bench.client import Client, ReplyError, encode
from bench.elements import store
from bench.report import Report, Say, Table, median, ratio
from bench.servers import Server, server
from bench.throughput import ClientFailed, rates_of

if TYPE_CHECKING:
    from bench.collections import Sizes

PIPELINE = 16
RATE_BAR, PROCESSOR_BAR, INDEX_BAR = 1.5, 0.9, 1.5
RAND = "__rand_int__"  # redis-benchmark puts twelve digits in its place
COLLECTIONS = 10  # that SPOP and LPOP take from
LOOKUPS_AT_ONCE = 200

TESTS: dict[str, tuple[str, ...]] = {
    "HSET": ("HSET", "hash", f"f{RAND}", "v123456789"),
    "HGET": ("HGET", "hash", f"f{RAND}"),
    "SADD": ("SADD", "set", f"m{RAND}"),
    "SPOP": ("SPOP", f"set:{RAND}"),
    "ZADD": ("ZADD", "zset", RAND, f"m{RAND}"),
    "ZRANGE 0 9": ("ZRANGE", "zset", "0", "9"),
    "LPUSH": ("LPUSH", "list", "v123456789"),
    "LPOP": ("LPOP", f"list:{RAND}"),
    "LRANGE of 100": ("LRANGE", "list", "0", "99"),
}
_REFILLED = ("SADD", "SPOP", "LPUSH", "LPOP")  # runs that change how many elements there are
_KINDS = {"H": "hash", "S": "set", "Z": "zset", "L": "list"}


def prepare(client: Client, test: str, count: int) -> None:
    """Make the collections of a test, with `count` elements each; numbers have as many digits as redis-benchmark's."""
    key = TESTS[test][1]
    for name in [key.replace(RAND, f"{i:012d}") for i in range(COLLECTIONS)] if RAND in key else [key]:
        client.command("DEL", name)
        store(client, _KINDS[test[0]], name, count, digits=12)


def run_once(one: Server, test: str, sizes: "Sizes") -> tuple[float, float, float]:
    """One run of redis-benchmark: (requests a second, processor time a command [ns], share of a core)."""
    popped = test in ("SPOP", "LPOP")
    requests = min(sizes.requests, COLLECTIONS * sizes.elements // 2) if popped else sizes.requests
    highest = COLLECTIONS if popped else 2 * sizes.elements if test == "SADD" else sizes.elements
    options = {"-p": one.port, "-n": requests, "-P": PIPELINE, "-c": sizes.clients, "-r": highest}
    command = ["redis-benchmark", "--csv", *(str(word) for pair in options.items() for word in pair), *TESTS[test]]
    used, began = one.processor_ns(), monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ClientFailed(f"redis-benchmark did not end within 600 s: {test}") from error
    took, spent = monotonic() - began, one.processor_ns() - used
    (rate,) = rates_of(done).values()
    return rate, spent / requests, spent / 1e9 / took


def throughput(report: Report, here: Sequence[str], sizes: "Sizes", progress: Say) -> None:
    """The part throughput."""
    report.method += [
        f"throughput: redis-benchmark, {sizes.clients} clients, pipelines of {PIPELINE}, {sizes.requests:,} requests; "
        f"collections of {sizes.elements:,}; {sizes.rounds} rounds, the servers in turn; ratios are the medians of the "
        "rounds'",
        "processor: the process's processor time by the number of commands; core: its share of a processor meanwhile",
    ]
    if not shutil.which("redis-benchmark"):
        report.notes.append("redis-benchmark is not installed; no throughput was measured")
        return
    rates: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        running = [stack.enter_context(server(subject)) for subject in here]
        for test in TESTS:
            progress(f"throughput, {test}")
            lacking = set()
            for round_ in range(sizes.rounds):
                for one in running:
                    if one.subject in lacking:
                        continue
                    try:
                        if round_ == 0 or test in _REFILLED:
                            with one.client() as client:
                                prepare(client, test, sizes.elements)
                        rates.setdefault((test, one.subject), []).append(run_once(one, test, sizes))
                    except (ReplyError, ClientFailed) as error:
                        lacking.add(one.subject)
                        report.notes.append(f"{one.subject}, {test}: {str(error)[:100]}")
    table = report.table("Requests a second, median; processor time a command [ns], median",
                         "command", *(f"{s}{what}" for s in here for what in ("", ", processor", ", core")),
                         "over redis", "processor over valkey")  # fmt: skip
    for test in TESTS:
        _row(report, table, test, here, rates)


def _row(
    report: Report,
    table: Table,
    test: str,
    here: Sequence[str],
    found: dict[tuple[str, str], list[tuple[float, float, float]]],
) -> None:
    def ratios(rival: str, what: int) -> float | None:
        ours, theirs = found.get((test, here[0]), []), found.get((test, rival), [])
        return median(a[what] / b[what] for a, b in zip(ours, theirs, strict=False))

    cells = [median(run[what] for run in found.get((test, s), [])) for s in here for what in range(3)]
    rate, processor = ratios("redis", 0), ratios("valkey", 1)
    table.add(test, *cells, rate, processor)
    report.figure(f"{test}, requests a second over redis-server's", rate, at_least=RATE_BAR, unit=" ×")
    report.figure(f"{test}, processor time over Valkey's", processor, at_most=PROCESSOR_BAR, unit=" ×")


# ------------------------------------------------------------------------------------------------------------- LINDEX


def batches(indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """(bytes, commands) of LINDEX at these indices."""
    found = []
    for first in range(0, len(indices), LOOKUPS_AT_ONCE):
        part = indices[first : first + LOOKUPS_AT_ONCE]
        found.append((b"".join(encode("LINDEX", "list", at) for at in part), len(part)))
    return found


def _cost_ns(one: Server, client: Client, sent: Iterable[tuple[bytes, int]], count: int) -> float:
    before = one.processor_ns()
    for data, commands in sent:
        client.exchange(data, commands)
    return (one.processor_ns() - before) / count


def index(report: Report, here: Sequence[str], sizes: "Sizes", progress: Say) -> None:
    """The part index."""
    report.method.append(
        f"index: a list of {sizes.indexed:,} elements of 10 B, {sizes.lookups:,} LINDEX in pipelines of "
        f"{LOOKUPS_AT_ONCE}, {sizes.rounds} rounds"
    )
    table = report.table("LINDEX, processor time a command [ns]", "server", "at 0", "anywhere", "anywhere over at 0")
    chosen = random.Random(1)
    anywhere = batches([chosen.randrange(sizes.indexed) for _ in range(sizes.lookups)])
    first = batches([0] * sizes.lookups)
    ours = None
    for subject in here:
        progress(f"index, {subject}")
        with server(subject) as one, one.client() as client:
            try:
                store(client, "list", "list", sizes.indexed)
                client.command("LINDEX", "list", 0)
            except ReplyError as error:
                report.notes.append(f"{subject}, LINDEX: {error}")
                table.add(subject, None, None, None)
                continue
            pairs = [
                [_cost_ns(one, client, sent, sizes.lookups) for sent in (first, anywhere)] for _ in range(sizes.rounds)
            ]
        over = median(ratio(b, a) or 0.0 for a, b in pairs)
        table.add(subject, median(a for a, _ in pairs), median(b for _, b in pairs), over)
        if subject == here[0]:
            ours = over
    report.figure("LINDEX anywhere, processor time over LINDEX 0", ours, at_most=INDEX_BAR, unit=" ×")
