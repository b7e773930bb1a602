"""How many bytes does an element of a collection take, and how much memory keeps a server whose data are mostly gone?

Method, elements.  One kind after the other is loaded into a server.  The growth of used_memory, the server's own
account, divided by the number of elements is the cost of one: with its share of everything around it, such as tables,
keys, and room that is kept free.  Fields, members and values have 10 bytes, so 20 bytes of an element of a hash are the
data, and 10 of the others; the integers of sets have six digits.

Method, the remainder.  A server is loaded with data of mixed sizes: strings of 16 B to 16 KiB, and hashes, sets, sorted
sets and lists of 1 to 1,000 elements, sizes drawn so that each power of two is as likely.  Of the keys, 95 of 100 drawn
at random are deleted by UNLINK.  After some idle time the resident memory of the process (VmRSS) is divided by that of
a fresh server, as long idle, which was loaded with the remaining keys only, in the same order.  Then the server is told
to defragment, which by default none does, and the same is measured after as much idle time again.

Units: bytes per element; MiB; the ratio has none.

Sources of error: used_memory counts whole pages in this server, and sizes of allocations in the others; the room of the
one table of keys, which doubles under one kind or the other; an operating system that takes back memory by itself.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.reporting.report import Report, Say, Table, ratio
from bench.rig.client import Client, ReplyError
from bench.rig.elements import commands, in_order, store, template
from bench.rig.load import fill, pool
from bench.rig.servers import Server, server
from bench.values.sizes import Sizes

SETTLE_S = 0.2
REMAINDER_BAR = 1.3
DELETED_SHARE = 0.95
STRING_BITS, COLLECTION_BITS = (4.0, 14.0), (0.0, 10.0)  # logarithms of the smallest and the largest sizes
UNLINKED = 1000  # keys in a command


@dataclass(frozen=True)
class Case:
    """Collections of one kind and size, or strings."""

    what: str
    kind: str
    keys: int
    elements: int  # of each
    bar: float  # [bytes]


CASES = (
    Case("a hash of 200,000", "hash", 1, 200_000, 40),
    Case("a set of 200,000", "set", 1, 200_000, 39),
    Case("a sorted set of 200,000", "zset", 1, 200_000, 75),
    Case("a list of 200,000", "list", 1, 200_000, 12.5),
    Case("2,000 hashes of 100", "hash", 2000, 100, 22),
    Case("2,000 sorted sets of 100", "zset", 2000, 100, 14),
    Case("500 sets of 400 integers", "intset", 500, 400, 4.2),
    Case("1,000,000 strings of 64 B, keys of 16 B", "string", 1_000_000, 1, 105),
)


def used(one: Server) -> int:
    """used_memory, some time after the last command."""
    time.sleep(SETTLE_S)
    return int(one.info("memory")["used_memory"])


def load_case(one: Server, case: Case, scale: float) -> int:
    """Load a case, smaller by `scale`; returns how many elements it has."""
    keys = max(1, round(case.keys * scale)) if case.keys > 1 else 1
    elements = round(case.elements * scale) if case.keys == 1 else case.elements
    if case.kind == "string":
        fill(one.port, keys, 64)
        return keys
    with one.client() as client:
        for i in range(keys):
            store(client, case.kind, b"%s:%d:%d" % (case.kind.encode(), case.keys, i), elements)
    return keys * elements


def elements(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part memory."""
    report.method.append("memory: used_memory after loading, less that before, by the number of elements")
    table = report.table("Bytes an element, by used_memory", "what", *here)
    found: dict[str, dict[str, float]] = {case.what: {} for case in CASES}
    for subject in here:
        with server(subject) as one:
            for case in CASES:
                progress(f"memory, {subject}, {case.what}")
                before = used(one)
                try:
                    count = load_case(one, case, sizes.scale)
                    found[case.what][subject] = (used(one) - before) / count
                except ReplyError as error:
                    report.notes.append(f"{subject}, {case.what}: {error}"[:120])
    for case in CASES:
        table.add(case.what, *(found[case.what].get(subject) for subject in here))
        ours = found[case.what].get(here[0]) if here else None
        report.figure(f"bytes an element, {case.what}", ours, at_most=case.bar, unit=" B")


# ------------------------------------------------------------------------------------------------------- the remainder


@dataclass(frozen=True)
class Item:
    """A key of the mixed data, and its value."""

    name: bytes
    kind: str
    size: int  # bytes of a string, elements of a collection


KINDS = ("string", "hash", "set", "zset", "list")


def items(size: int) -> list[Item]:
    """Keys whose data have `size` bytes together; always the same ones."""
    found: list[Item] = []
    rng, total = np.random.default_rng(2), 0
    data_bytes = {kind: 20 if kind in ("hash", "zset") else 10 for kind in KINDS}
    while total < size:
        kind = KINDS[len(found) % len(KINDS)]
        low, high = STRING_BITS if kind == "string" else COLLECTION_BITS
        count = int(2 ** rng.uniform(low, high))
        found.append(Item(b"key:%012d" % len(found), kind, count))
        total += count * (1 if kind == "string" else data_bytes[kind])
    return found


def load_items(client: Client, chosen: Sequence[Item], usable: Sequence[str]) -> int:
    """Store items of the usable kinds; returns how many."""
    bodies = {kind: _bodies(kind) for kind in usable if kind != "string"}
    values, loaded, data, sent = pool(), 0, bytearray(), 0
    for item in chosen:
        if item.kind not in usable:
            continue
        if item.kind == "string":
            value = values[: item.size].tobytes()
            data += b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(item.name), item.name, item.size, value)
        else:
            data += bodies[item.kind](item.name, item.size)
        loaded, sent = loaded + 1, sent + 1
        if len(data) > 1 << 20:
            client.exchange(data, sent)
            data, sent = bytearray(), 0
    client.exchange(data, sent)
    return loaded


def _bodies(kind: str):  # type: ignore[no-untyped-def]
    # A function from a name and a number of elements to a command, which cuts the elements from bytes made once.
    most = 1 << int(COLLECTION_BITS[1])
    elements = np.frombuffer(next(commands(kind, b"", in_order(kind, most), most))[0][-most * len(template(kind)) :],
                             np.uint8).tobytes()  # fmt: skip
    one, add = len(template(kind)), {"hash": b"HSET", "set": b"SADD", "zset": b"ZADD", "list": b"RPUSH"}[kind]
    words = template(kind).count(b"$")

    def command(name: bytes, size: int) -> bytes:
        header = b"*%d\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (2 + words * size, len(add), add, len(name), name)
        return header + elements[: one * size]

    return command


def usable_kinds(client: Client) -> tuple[list[str], list[str]]:
    """The kinds whose commands the server knows, and the others."""
    adds = {"string": "SET a b", "hash": "HSET a b c", "set": "SADD a b", "zset": "ZADD a 1 b", "list": "RPUSH a b"}
    usable, lacking = [], []
    for kind, words in adds.items():
        try:
            client.command(*words.split())
            usable.append(kind)
        except ReplyError:
            lacking.append(kind)
        client.command("DEL", "a")
    return usable, lacking


def _gone(chosen: Sequence[Item]) -> Iterator[list[bytes]]:
    for first in range(0, len(chosen), UNLINKED):
        yield [item.name for item in chosen[first : first + UNLINKED]]


def _defragment(client: Client) -> bool:
    """Turn defragmentation on, of everything; returns whether the server has it."""
    try:
        client.command("CONFIG", "SET", "active-defrag-ignore-bytes", "1mb")
        client.command("CONFIG", "SET", "activedefrag", "yes")
    except ReplyError:
        return False
    return True


def _remainder(subject: str, every: Sequence[Item], idle_s: float, report: Report) -> list[float | None]:
    """Resident memory [MiB]: loaded; after deletion and idle time; after as long with defragmentation; and that of a
    fresh server of the remainder.
    """
    stays = np.random.default_rng(3).random(len(every)) >= DELETED_SHARE
    kept = [item for item, stay in zip(every, stays, strict=True) if stay]
    found: list[float | None] = []
    with server(subject) as one, one.client() as client:
        usable, lacking = usable_kinds(client)
        if lacking:
            report.notes.append(f"{subject} lacks the commands of: {', '.join(lacking)}; the remainder is without them")
        load_items(client, every, usable)
        found.append(one.resident_bytes() / 2**20)
        order = np.random.default_rng(4).permutation(np.flatnonzero(~stays))
        for names in _gone([every[i] for i in order]):
            client.command("UNLINK", *names)
        time.sleep(idle_s)
        found.append(one.resident_bytes() / 2**20)
        has_it = _defragment(client)
        time.sleep(idle_s if has_it else 0)
        found.append(one.resident_bytes() / 2**20 if has_it else None)
        left = client.command("DBSIZE")
    with server(subject) as one, one.client() as client:
        loaded = load_items(client, kept, usable)
        assert loaded == left, f"{left} keys are left, {loaded} should be"
        time.sleep(idle_s)
        found.append(one.resident_bytes() / 2**20)
    return found


def remainder(report: Report, here: Sequence[str], sizes: Sizes, progress: Say) -> None:
    """The part remainder."""
    every = items(sizes.mixed_bytes)
    report.method.append(
        f"remainder: VmRSS with {sizes.mixed_bytes / 1e6:,.0f} MB of data in {len(every):,} keys of mixed kinds and "
        f"sizes, {sizes.idle_s:g} s after {DELETED_SHARE:.0%} of the keys were deleted, as long after activedefrag was "
        "turned on with active-defrag-ignore-bytes 1mb, and of a fresh server"
    )
    table: Table = report.table(
        "Resident memory [MiB]",
        "server",
        "loaded",
        "after deletion",
        "defragmented",
        "fresh with the remainder",
        "deleted over fresh",
        "defragmented over fresh",
    )
    ours: list[float | None] = []
    for subject in here:
        progress(f"remainder, {subject}")
        found = _remainder(subject, every, sizes.idle_s, report)
        over = [ratio(found[place], found[3]) for place in (1, 2)]
        table.add(subject, *found, *over)
        if subject == here[0]:
            ours = over
    for what, value in zip(("", ", defragmented,"), ours, strict=True):
        report.figure(f"resident after deletion{what} over a fresh store of the remainder", value,
                      at_most=REMAINDER_BAR, unit=" ×")  # fmt: skip
