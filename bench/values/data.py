"""Streams, HyperLogLogs, bits, geography and SORT beside redis-server's and Valkey's: speed, memory, long commands.

Method, rates: that of command_rates.py, with 50 clients and these commands:

    XADD             to one stream, with one field of four bytes
    XRANGE of 10     from random entries of a stream of 100,000
    PFADD            random elements of a million, to one key
    PFADD, sparse    one of 500 elements, to one key, whose sketch stays sparse
    PFADD, 30 keys   one of 30 elements, to one of 30 keys
    SETBIT, GETBIT   the same bit of random ones of 1,000 keys, because redis-benchmark's numbers have leading zeros
    GEOSEARCH        without a pipeline: the hundredth part of 100,000 places, which are spread evenly
    SORT             without a pipeline: a list of 10,000 random numbers

Method, memory.  The growth of used_memory, by the number of entries of a stream with one field of four bytes.

Method, bits.  Of 64 MiB of random bytes: BITCOUNT; BITOP AND with 64 MiB more; BITPOS of the only bit that is set, the
last one.  One client sends one command at a time, the servers in turn.  The processor time is that of the process, the
wait is what passes until the reply.

Units: requests per second; ns of processor time per command; bytes per entry; ms; ratios have none.

Sources of error: those of command_rates.py; a processor shared with other work, which lengthens the wait and not the
processor time.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, median, ratio, say
from bench.rig.client import Client, ReplyError
from bench.rig.command_rates import PIPELINE, Driven, measure
from bench.rig.lightclient import RAND
from bench.rig.servers import DEFAULT, RIVALS, Server, present, server
from bench.values.collection_memory import used

PARTS = ("rates", "memory", "bits")
FULL: dict[str, Any] = {
    "clients": 50, "requests": 500_000, "entries": 100_000, "places": 100_000, "sorted_": 10_000,
    "bitmap_bytes": 64 << 20,
}  # fmt: skip
SMOKE: dict[str, Any] = {
    "clients": 5, "requests": 2000, "entries": 1000, "places": 1000, "sorted_": 100, "bitmap_bytes": 1 << 16,
    "rounds": 1,
}  # fmt: skip
BITMAPS, BIT, ELEMENTS, FEW, SKETCHES = 1000, "12345", 1_000_000, 500, 30
BOX = (0.0, 40.0, 10.0, 50.0)  # west, south, east, north [degrees], where places are
SEARCHED_KM = 53  # the radius of the hundredth part of that
AT_ONCE = 200
BITS_BAR = 1.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    clients: int
    requests: int
    entries: int  # of a stream
    places: int
    sorted_: int  # elements of the list that SORT sorts
    bitmap_bytes: int
    rounds: int = 5


def fill_stream(client: Client, entries: int) -> None:
    """Make the stream; the numbers of its entries are their identifiers."""
    client.command("DEL", "stream")
    for first in range(1, entries + 1, AT_ONCE):
        last = min(first + AT_ONCE, entries + 1)
        client.pipeline([("XADD", "stream", f"{i}-0", "temp", "21.5") for i in range(first, last)])


def fill_places(client: Client, places: int) -> None:
    """Make the places; always the same ones."""
    west, south, east, north = BOX
    chosen = np.random.default_rng(1).uniform((west, south), (east, north), (places, 2))
    client.command("DEL", "places")
    for first in range(0, places, AT_ONCE):
        words = [
            word
            for i, (longitude, latitude) in enumerate(chosen[first : first + AT_ONCE], first)
            for word in (f"{longitude:.6f}", f"{latitude:.6f}", f"m{i:09d}")
        ]
        client.command("GEOADD", "places", *words)


def fill_list(client: Client, elements: int) -> None:
    """Make the list of random numbers; always the same ones."""
    client.command("DEL", "list")
    chosen = np.random.default_rng(2).integers(0, 10**9, elements).tolist()
    for first in range(0, elements, AT_ONCE):
        client.command("RPUSH", "list", *chosen[first : first + AT_ONCE])


def _empty(key: str) -> Callable[[Client], None]:
    return lambda client: client.command("DEL", key)


def _nothing(_client: Client) -> None:
    pass  # the command makes its keys


def driven(sizes: Sizes) -> list[Driven]:
    """The commands of the part rates."""
    longitude, latitude = (str((BOX[i] + BOX[i + 2]) / 2) for i in (0, 1))
    around = ("GEOSEARCH", "places", "FROMLONLAT", longitude, latitude, "BYRADIUS", str(SEARCHED_KM), "km")
    requests, searches, sorts = sizes.requests, max(10, sizes.requests // 50), max(10, sizes.requests // 200)
    places, entries, elements = sizes.places, sizes.entries, sizes.sorted_
    return [
        Driven("XADD", ("XADD", "stream", "*", "temp", "21.5"), _empty("stream"), requests, 1, again=True),
        Driven(
            "XRANGE of 10",
            ("XRANGE", "stream", RAND, "+", "COUNT", "10"),
            lambda client: fill_stream(client, entries),
            requests,
            entries,
        ),
        Driven("PFADD", ("PFADD", "seen", RAND), _empty("seen"), requests, ELEMENTS, again=True),
        Driven("PFADD, sparse", ("PFADD", "few", RAND), _empty("few"), requests, FEW, again=True),
        Driven("PFADD, 30 keys", ("PFADD", f"few:{RAND}", RAND), _nothing, requests, SKETCHES),
        Driven("SETBIT", ("SETBIT", f"bits:{RAND}", BIT, "1"), _nothing, requests, BITMAPS),
        Driven("GETBIT", ("GETBIT", f"bits:{RAND}", BIT), _nothing, requests, BITMAPS),
        Driven("GEOSEARCH", around, lambda client: fill_places(client, places), searches, 1, pipeline=1),
        Driven("SORT", ("SORT", "list"), lambda client: fill_list(client, elements), sorts, 1, pipeline=1),
    ]


def rates(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part rates."""
    report.method.append(
        f"rates: two clients, {sizes.clients} connections, pipelines of {PIPELINE}, but 1 for GEOSEARCH and SORT; "
        f"{sizes.requests:,} requests, a 50th of that and a 200th of these; {sizes.rounds} rounds, the servers in turn"
    )
    measure(report, here, driven(sizes), sizes.rounds, sizes.clients, progress)


def memory(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part memory."""
    report.method.append(f"memory: used_memory, grown by a stream of {sizes.entries:,}, by the number of its entries")
    table = report.table("Bytes an entry of a stream", "server", "bytes")
    found: dict[str, float] = {}
    for subject in here:
        progress(f"memory, {subject}")
        with server(subject) as one, one.client() as client:
            before = used(one)
            try:
                fill_stream(client, sizes.entries)
                found[subject] = (used(one) - before) / sizes.entries
            except ReplyError as error:
                report.notes.append(f"{subject}, a stream: {error}"[:120])
        table.add(subject, found.get(subject))
    over = ratio(found.get(here[0]), found.get("redis"))
    report.figure("bytes an entry of a stream, over redis-server's", over, at_most=1.0, unit=" ×")


# --------------------------------------------------------------------------------------------------------------- bits

LONG: dict[str, tuple[str, ...]] = {
    "BITCOUNT": ("BITCOUNT", "random"),
    "BITOP AND": ("BITOP", "AND", "both", "random", "other"),
    "BITPOS": ("BITPOS", "last", "1"),
}


def fill_bitmaps(client: Client, size: int) -> None:
    """Make two strings of random bytes, and one of zeros but for its last bit."""
    rng = np.random.default_rng(3)
    for key in ("random", "other"):
        client.command("SET", key, rng.bytes(size))
    client.command("SET", "last", bytes(size - 1) + b"\x01")


def bits(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part bits."""
    report.method.append(
        f"bits: strings of {sizes.bitmap_bytes / 2**20:g} MiB, {sizes.rounds} rounds, the servers in turn"
    )
    costs: dict[tuple[str, str], list[tuple[float, float]]] = {}  # (processor time, wait) [ms]
    with ExitStack() as stack:
        running = [stack.enter_context(server(subject)) for subject in here]
        for one in running:
            with one.client() as client:
                fill_bitmaps(client, sizes.bitmap_bytes)
        for name, words in LONG.items():
            progress(f"bits, {name}")
            lacking: set[str] = set()
            for _ in range(sizes.rounds + 1):
                for one in running:
                    if one.subject not in lacking:
                        try:
                            costs.setdefault((name, one.subject), []).append(_cost_ms(one, words))
                        except ReplyError as error:
                            lacking.add(one.subject)
                            report.notes.append(f"{one.subject}, {name}: {error}"[:120])
    table = report.table("Long commands of bits [ms], median", "command",
                         *(f"{s}{what}" for s in here for what in (", processor", ", wait")), "over redis")  # fmt: skip
    for name in LONG:
        runs = {subject: costs.get((name, subject), [])[1:] for subject in here}  # the first run warms up
        pairs = zip(runs[here[0]], runs.get("redis", []), strict=False)
        over = median(ours[0] / theirs[0] for ours, theirs in pairs)
        table.add(name, *(median(run[what] for run in runs[subject]) for subject in here for what in (0, 1)), over)
        report.figure(f"{name}, processor time over redis-server's", over, at_most=BITS_BAR, unit=" ×")


def _cost_ms(one: Server, words: Sequence[str]) -> tuple[float, float]:
    with one.client() as client:
        client.command("PING")
        processor, began = one.processor_ns(), monotonic_ns()
        client.command(*words)
        return (one.processor_ns() - processor) / 1e6, (monotonic_ns() - began) / 1e6


def run(
    parts: Sequence[str] = PARTS,
    subjects: Sequence[str] = (DEFAULT, *RIVALS),
    sizes: Sizes | None = None,
    progress: Say = say,
) -> Report:
    """Measure the parts, in their own order."""
    sizes = sizes or Sizes(**FULL)
    report = Report(
        "data",
        "Streams, HyperLogLogs, bits, geography and SORT: how fast, and how large?",
        [],
        {"parts": list(parts), "subjects": list(subjects), **vars(sizes)},
    )
    here, missing = present(subjects)
    report.notes += missing
    measures: dict[str, Callable[[Report, Sequence[str], Sizes, Say], None]] = {
        "rates": rates,
        "memory": memory,
        "bits": bits,
    }
    for part in PARTS:
        if part in parts:
            measures[part](report, here, sizes, progress)
    return report
