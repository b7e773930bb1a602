"""How many pages does a random write to a collection copy while a fork lives?

Method.  A hash, a sorted set and a list are filled.  A fork is made and lives.  Then N random elements are written, all
servers the same ones:

    HSET    an existing field gets another value of 10 bytes
    ZADD    a member gets another random score
    LSET    an element gets another value of 10 bytes

The figure is the number of pages that these writes copied, divided by N.  A page that is written several times is
copied once, so collisions make the figure smaller, and the more so the larger N is beside the number of pages; nothing
is corrected for that, in any of the servers, and so all are measured at the same N.  At the smallest N collisions are
rare, but what is written only once beside a fork (the key's own entry, the top of a tree) is spread over few writes.
A skip list of 200,000 elements makes redis-server copy 8 pages for a ZADD at N = 100, and 3 at N = 1,000.
Each N is repeated beside forks of their own; the median counts, and the bars are for each N.

    this server     in process: the kernels of the commands run over a frozen root, and the machine counts the pages
                    that its faults copy, exactly, with no other writer.  Page tables are counted apart.
    the others      a BGSAVE whose child `rdb-key-save-delay` keeps alive.  Private dirty memory of the parent
                    (smaps_rollup) after the writes less that before, in pages of 4 KiB.  As many reads of the same
                    elements precede, so that the pages of buffers are private already; the column "by reads" has what
                    another pass of reads adds: the noise.  Every element is read before the first fork, which ends
                    the rehashing that the filling began.  Page tables of the system are not counted.

Units: pages of 4 KiB per write.

Sources of error: the others' pages that the time of day or their timers write, which the reads before and the column
"by reads" show; an allocator that takes new values from pages that no fork shares, which is no copy, in any of them.
"""

import ctypes
import os
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, median, say
from bench.rig.client import Client, ReplyError
from bench.rig.elements import in_order
from bench.rig.servers import DEFAULT, RIVALS, Server, is_ours, present, server
from kvstore.commands.table import find, kernel_of
from kvstore.lifetimes.context import AGAIN
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.databases import keyspace_init
from kvstore.wire.resp import reply_grow
from mmcore.fork import CONSTANT, fork
from mmcore.jit import build
from mmcore.memory import PhysicalMemory
from mmcore.paging import PAGE_SIZE
from mmcore.release import release
from mmcore.state import PAGES_COPIED, TABLES_COPIED
from snapshot.begin import TICKET_WORDS

WRITES = (100, 500, 1000)
SMOKE: dict[str, Any] = {"elements": 2000, "writes": (20,), "rounds": 1}
KEY = "value"
PER_COMMAND = 100
SETTLE_S = 0.3  # after a fork, and before private memory is read
DELAY_US = 1_000_000_000  # that a child waits after its key
Words = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A write, with the read of the same element, by the element's number and a random number of nine digits."""

    name: str
    add: str
    elements: Callable[[int], Words]
    write: Callable[[int, int], Words]
    read: Callable[[int], Words]
    kind: str
    bar: float


CASES = (
    Case(
        "HSET",
        "HSET",
        lambda i: (f"f{i:09d}", f"v{i:09d}"),
        lambda i, n: ("HSET", KEY, f"f{i:09d}", f"v{n:09d}"),
        lambda i: ("HGET", KEY, f"f{i:09d}"),
        "hash",
        1.0,
    ),
    Case(
        "ZADD",
        "ZADD",
        lambda i: (str(i * 7919 % 10**9), f"m{i:09d}"),
        lambda i, n: ("ZADD", KEY, str(n), f"m{i:09d}"),
        lambda i: ("ZSCORE", KEY, f"m{i:09d}"),
        "zset",
        2.4,
    ),
    Case(
        "LSET",
        "RPUSH",
        lambda i: (f"v{i:09d}",),
        lambda i, n: ("LSET", KEY, str(i), f"v{n:09d}"),
        lambda i: ("LINDEX", KEY, str(i)),
        "list",
        1.1,
    ),
)


def filling(case: Case, elements: int) -> Iterator[Words]:
    """The commands that make a collection."""
    order = in_order(case.kind, elements).tolist()
    for first in range(0, elements, PER_COMMAND):
        yield (case.add, KEY, *(word for i in order[first : first + PER_COMMAND] for word in case.elements(i)))


def chosen(case: Case, elements: int, writes: int, seed: int) -> tuple[list[Words], list[Words]]:
    """(reads, writes) of random elements."""
    rng = np.random.default_rng(seed)
    numbers, values = rng.integers(0, elements, writes).tolist(), rng.integers(0, 10**9, writes).tolist()
    return [case.read(i) for i in numbers], [case.write(i, n) for i, n in zip(numbers, values, strict=True)]


# -------------------------------------------------------------------------------------------------------- this server


class Kernels:
    """A store without a loop or sockets, on which the kernels of commands are called."""

    def __init__(self, memory: PhysicalMemory) -> None:
        shard = Shard(arguments=4 * PER_COMMAND)
        self.opened = OpenStore(Pool(memory), shard)
        self.context, self.registers = self.opened.context, self.opened.context.registers
        self._ticket = np.zeros(TICKET_WORDS, np.int64)
        self.registers.TICKET_ADDRESS = self._ticket.ctypes.data
        self.registers.NOW_MS, self.registers.ACTIVE_EXPIRE_ENABLED = int(time.time() * 1000), 0
        code = keyspace_init(self.context)
        assert code == 0, f"no frames for a keyspace: {code}"
        reply_grow(self.context, 1 << 16)

    def __call__(self, *words: str) -> bytes:
        """The reply to a command; raises ReplyError for an error, and for a command without a kernel."""
        command = find(words[0].encode())
        kernel = kernel_of(command) if command is not None else None
        if kernel is None:
            raise ReplyError(f"there is no kernel of {words[0]}")
        parts = [word.encode() for word in words]
        text, at, places = ctypes.create_string_buffer(b"".join(parts)), 0, array("q")
        for part in parts:
            places.extend((at, len(part)))
            at += len(part)
        self.context.args[: len(places)] = memoryview(places)
        r = self.registers
        r.QUERY_ADDRESS, r.QUERY_SIZE, r.ARGC, r.REPLY_LENGTH = ctypes.addressof(text), at, len(parts), 0
        while (code := kernel(self.context)) == AGAIN:
            pass
        assert code == 0, f"{words[0]} was left to Python"
        reply = ctypes.string_at(r.REPLY_ADDRESS, r.REPLY_LENGTH)
        if reply.startswith(b"-"):
            raise ReplyError(reply.decode())
        return reply

    def copied(self, commands: Sequence[Words]) -> tuple[int, int]:
        """(pages, page tables) that these commands copy beside a fork that is made for them."""
        space = self.context.space
        root = int(fork(space, CONSTANT))
        assert root >= 0, "no frame for a root"
        self.registers.FROZEN_ROOTS = 1
        before = [int(space.processor[counter]) for counter in (PAGES_COPIED, TABLES_COPIED)]
        for words in commands:
            self(*words)
        pages, tables = (
            int(space.processor[c]) - b for c, b in zip((PAGES_COPIED, TABLES_COPIED), before, strict=True)
        )
        self.registers.FROZEN_ROOTS = 0
        release(self.opened.space.memory, root)
        return pages, tables


def measure_ours(case: Case, elements: int, writes: Sequence[int], rounds: int) -> dict[int, list[tuple[float, float]]]:
    """(pages, page tables) per write of each round, by N."""
    build()
    found: dict[int, list[tuple[float, float]]] = {}
    with PhysicalMemory((64 << 20) + 512 * elements) as memory:
        store = Kernels(memory)
        for words in filling(case, elements):
            store(*words)
        for count in writes:
            for seed in range(rounds):
                pages, tables = store.copied(chosen(case, elements, count, seed)[1])
                found.setdefault(count, []).append((pages / count, tables / count))
    return found


# --------------------------------------------------------------------------------------------------------- the others


def private_pages(one: Server) -> float:
    """Pages that the process has written and shares with nobody."""
    assert one.process is not None
    for row in Path(f"/proc/{one.process.pid}/smaps_rollup").read_text().splitlines():
        if row.startswith("Private_Dirty:"):
            return int(row.split()[1]) * 1024 / PAGE_SIZE
    raise RuntimeError("the kernel does not tell Private_Dirty")


@contextmanager
def living_fork(one: Server, client: Client) -> Iterator[None]:
    """A child that saves, and has not ended; afterwards it is ended."""
    assert one.process is not None
    pid = one.process.pid
    client.command("BGSAVE")
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not children.read_text().split():
        time.sleep(0.01)
    time.sleep(SETTLE_S)
    try:
        yield
        assert children.read_text().split(), "the child has ended"
    finally:
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGUSR1)  # by which a server itself ends its child
        while client.info("persistence")["rdb_bgsave_in_progress"] != "0":
            time.sleep(0.01)


def measure_rival(
    subject: str, case: Case, elements: int, writes: Sequence[int], rounds: int
) -> dict[int, list[tuple[float, float]]]:
    """(pages by writes, pages by reads) per command of each round, by N."""
    found: dict[int, list[tuple[float, float]]] = {}
    with server(subject, ["--rdb-key-save-delay", str(DELAY_US)]) as one, one.client() as client:
        client.pipeline(list(filling(case, elements)))
        client.pipeline([case.read(i) for i in range(elements if case.kind != "list" else 0)])
        for count in writes:
            for seed in range(rounds):
                reads, wanted = chosen(case, elements, count, seed)
                with living_fork(one, client):
                    client.pipeline(reads)
                    marks = [private_pages(one)]
                    for commands in (reads, wanted):
                        client.pipeline(commands)
                        marks.append(private_pages(one))
                found.setdefault(count, []).append(((marks[2] - marks[1]) / count, (marks[1] - marks[0]) / count))
    return found


def run(
    subjects: Sequence[str] = (DEFAULT, *RIVALS),
    elements: int = 200_000,
    writes: Sequence[int] = WRITES,
    rounds: int = 5,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "pages",
        "How many pages does a random write to a collection copy while a fork lives?",
        [
            f"collections of {elements:,} elements; N random writes beside one fork, {rounds} forks for each N",
            "several writes to one page copy it once, and count so, in all servers",
            "this server: in process, by the machine's counter; the others: private dirty memory of the parent",
        ],
        {"subjects": list(subjects), "elements": elements, "writes": list(writes), "rounds": rounds},
    )
    here, missing = present(subjects)
    report.notes += missing
    rows: dict[tuple[str, int], list[float | None]] = {}
    for case in CASES:
        for subject in here:
            progress(f"pages, {case.name}, {subject}")
            found: dict[int, list[tuple[float, float]]] = {}
            try:
                if is_ours(subject):
                    found = measure_ours(case, elements, writes, rounds)
                else:
                    found = measure_rival(subject, case, elements, writes, rounds)
            except ReplyError as error:
                report.notes.append(f"{subject}, {case.name}: {error}"[:120])
            for count in writes:
                pairs = found.get(count, [])
                rows.setdefault((case.name, count), []).extend(
                    (median(pages for pages, _ in pairs), median(other for _, other in pairs))
                )
    table = report.table("Pages copied per write, median", "write", "N",
                         *(f"{s}{what}" for s in here for what in ("", ", tables" if is_ours(s) else ", by reads")),
                         )  # fmt: skip
    for (name, count), cells in rows.items():
        table.add(name, count, *cells)
    for case in CASES:
        for count in writes:
            ours = rows[case.name, count][0] if here and is_ours(here[0]) else None
            report.figure(f"pages copied per {case.name}, N = {count:,}", ours, at_most=case.bar)
    return report
