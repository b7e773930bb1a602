"""How many commands of collections a second, and at what processor time each?  And does LINDEX cost the same anywhere?

Method: that of command_rates.py, at a pipeline of 16, with these commands:

    HSET, HGET       random fields of one hash, which exist
    SADD             random members of twice as many as the set has
    ZADD             random members that exist, with random scores
    LPUSH            to one list
    SPOP, LPOP       from several collections, so many that a run leaves half of their elements
    ZRANGE 0 9       the same ten members; LRANGE 0 99 the same hundred elements

LINDEX is sent by this process over one connection, at index 0 and at random indices in turn, without pipelines, in
pipelines of 16, and in such of 200; what is compared is the processor time of the same number of commands.  The figure
is that of 16, as for the other commands.  The longer the pipeline, the less of a command's cost is the system's.

Units: requests per second; ns of processor time per command; ratios have none.

Sources of error: those of command_rates.py.
"""

import random
from collections.abc import Iterable, Sequence
from functools import partial

from bench.reporting.report import Report, Say, median, ratio
from bench.rig.client import Client, ReplyError, encode
from bench.rig.command_rates import PIPELINE, Driven, measure
from bench.rig.elements import store
from bench.rig.lightclient import RAND
from bench.rig.servers import Server, server
from bench.values.sizes import Sizes

INDEX_BAR = 1.5
COLLECTIONS = 10  # that SPOP and LPOP take from
LOOKUPS_AT_ONCE = (1, PIPELINE, 200)

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


def prepare(test: str, count: int, client: Client) -> None:
    """Make the collections of a test, with `count` elements each; numbers have as many digits as redis-benchmark's."""
    key = TESTS[test][1]
    for name in [key.replace(RAND, f"{i:012d}") for i in range(COLLECTIONS)] if RAND in key else [key]:
        client.command("DEL", name)
        store(client, _KINDS[test[0]], name, count, digits=12)


def driven(test: str, sizes: Sizes) -> Driven:
    """A test as it is driven."""
    popped = test in ("SPOP", "LPOP")
    requests = min(sizes.requests, COLLECTIONS * sizes.elements // 2) if popped else sizes.requests
    highest = COLLECTIONS if popped else 2 * sizes.elements if test == "SADD" else sizes.elements
    again = test in _REFILLED
    return Driven(test, TESTS[test], partial(prepare, test, sizes.elements), requests, highest, again)


def throughput(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part throughput."""
    report.method += [
        f"throughput: two clients, {sizes.clients} connections, pipelines of {PIPELINE}, {sizes.requests:,} requests; "
        f"collections of {sizes.elements:,}; {sizes.rounds} rounds, the servers in turn; ratios are the medians of the "
        "rounds'",
        "processor: the process's processor time by the number of commands; core: its share of a processor meanwhile",
    ]
    measure(report, here, [driven(test, sizes) for test in TESTS], sizes.rounds, sizes.clients, progress)


# ------------------------------------------------------------------------------------------------------------- LINDEX


def batches(indices: Sequence[int], at_once: int) -> list[tuple[bytes, int]]:
    """(bytes, commands) of LINDEX at these indices."""
    found = []
    for first in range(0, len(indices), at_once):
        part = indices[first : first + at_once]
        found.append((b"".join(encode("LINDEX", "list", at) for at in part), len(part)))
    return found


def _cost_ns(one: Server, client: Client, sent: Iterable[tuple[bytes, int]], count: int) -> float:
    before = one.processor_ns()
    for data, commands in sent:
        client.exchange(data, commands)
    return (one.processor_ns() - before) / count


def _index_of(one: Server, client: Client, sizes: Sizes, at_once: int) -> list[tuple[float, float]]:
    """For each round the cost at 0, and anywhere [ns]."""
    chosen = random.Random(1)
    anywhere = batches([chosen.randrange(sizes.indexed) for _ in range(sizes.lookups)], at_once)
    first = batches([0] * sizes.lookups, at_once)
    return [
        (_cost_ns(one, client, first, sizes.lookups), _cost_ns(one, client, anywhere, sizes.lookups))
        for _ in range(sizes.rounds)
    ]


def index(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part index."""
    report.method.append(
        f"index: a list of {sizes.indexed:,} elements of 10 B, {sizes.lookups:,} LINDEX over one connection, "
        f"{sizes.rounds} rounds"
    )
    table = report.table("LINDEX, processor time a command [ns]", "server", "pipeline", "at 0", "anywhere",
                         "anywhere over at 0")  # fmt: skip
    ours = None
    for subject in here:
        progress(f"index, {subject}")
        with server(subject) as one, one.client() as client:
            try:
                store(client, "list", "list", sizes.indexed)
                client.command("LINDEX", "list", 0)
            except ReplyError as error:
                report.notes.append(f"{subject}, LINDEX: {error}")
                continue
            for at_once in LOOKUPS_AT_ONCE:
                pairs = _index_of(one, client, sizes, at_once)
                over = median(ratio(b, a) or 0.0 for a, b in pairs)
                table.add(subject, at_once, median(a for a, _ in pairs), median(b for _, b in pairs), over)
                if subject == here[0] and at_once == PIPELINE:
                    ours = over
    report.figure("LINDEX anywhere, processor time over LINDEX 0", ours, at_most=INDEX_BAR, unit=" ×")
