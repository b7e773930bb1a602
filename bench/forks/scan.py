"""Can a consistent scan of all data go on beside transactions?

Method.  A server holds `hashes` hashes of a few fields.  Writers change them at a fixed rate: each write is an HINCRBY
of one field and of another one of the same hash by the opposite number, in one transaction, so the sum of all fields is
always the same.  Meanwhile a reader takes a snapshot, reads every hash of it by SCAN and HGETALL, and sums up.  The sum
must be the constant: the scan sees one instant, however long it takes.  The same scan of the live store may give
another sum, which is reported too.

The latency of a write counts from the time when it was due; it is measured while nobody scans, and during scans.

HyPer (Kemper, Neumann, ICDE 2011) forks its process for such queries, by the system's fork.

Units: ms, percentiles; writes per second; ratios have none.

Sources of error: the reader, the writers and the server share the processors, and the reader is in Python; so the scan
is slow, and most of the writers' latency is waiting for a processor.
"""

import threading
import time
from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, say
from bench.rig.client import Client, encode
from bench.rig.servers import DEFAULT, Server, server

FIELDS = 4
EACH = 1000  # the sum of a hash's fields
BATCH = 20  # transactions that one writer sends at once
SCANNED = 1000  # keys of a SCAN
COMMANDS = 4  # of a transaction: MULTI, HINCRBY, HINCRBY, EXEC


def load(one: Server, hashes: int) -> None:
    """Fill the store."""
    with one.client() as client:
        for first in range(0, hashes, SCANNED):
            pairs = [word for f in range(FIELDS) for word in (f"f{f}", str(EACH // FIELDS))]
            client.pipeline([("HSET", f"h{i}", *pairs) for i in range(first, min(first + SCANNED, hashes))])


class Writers(threading.Thread):
    """Sends transactions at a rate, and notes when each batch was due and answered."""

    def __init__(self, one: Server, hashes: int, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._client, self._hashes, self._rate = one.client(), hashes, rate
        self._generator = np.random.default_rng(seed)
        self._over = threading.Event()
        self.waits: list[tuple[float, float]] = []  # when it was due, and its latency [s]

    def _batch(self) -> bytes:
        parts = []
        for i in self._generator.integers(0, self._hashes, BATCH):
            one, other = self._generator.choice(FIELDS, 2, replace=False)
            parts += [encode("MULTI"), encode("HINCRBY", f"h{i}", f"f{one}", 1),
                      encode("HINCRBY", f"h{i}", f"f{other}", -1), encode("EXEC")]  # fmt: skip
        return b"".join(parts)

    def run(self) -> None:
        """Until `end`."""
        due = time.perf_counter()
        while not self._over.is_set():
            due += BATCH / self._rate
            data = self._batch()
            now = time.perf_counter()
            if now < due:
                time.sleep(due - now)
            self._client.exchange(data, COMMANDS * BATCH)
            self.waits.append((due, time.perf_counter() - due))

    def end(self) -> None:
        """Stop, and wait for it."""
        self._over.set()
        self.join()
        self._client.close()


def scan(client: Client) -> tuple[int, int]:
    """Read every hash of the store that the client uses; returns how many there are, and the sum of all fields."""
    cursor, count, total = b"0", 0, 0
    while True:
        cursor, keys = client.command("SCAN", cursor, "COUNT", SCANNED)
        for fields in client.pipeline([("HGETALL", key) for key in keys]):
            total += sum(map(int, fields[1::2]))
        count += len(keys)
        if cursor == b"0":
            return count, total


def run(hashes: int = 1_000_000, rate: float = 20_000.0, quiet_s: float = 10.0, progress: Say = say) -> Report:
    """Measure; `rate` is of writes, two in each transaction."""
    report = Report(
        "scan",
        "Can a consistent scan of all data go on beside transactions?",
        [
            f"{hashes:,} hashes of {FIELDS} fields; {rate:,.0f} writes a second in transactions of two",
            "a scan of a snapshot, and one of the live store, by SCAN and HGETALL",
        ],
        {"hashes": hashes, "rate": rate, "quiet_s": quiet_s},
    )
    with server(DEFAULT) as one:
        progress("loading")
        load(one, hashes)
        writers = Writers(one, hashes, rate / 2, 1)
        writers.start()
        progress("writes alone")
        time.sleep(quiet_s)
        with one.client() as client:
            began = time.perf_counter()
            progress("a scan of a snapshot")
            client.command("SNAPSHOT", "CREATE", "scanned")
            client.command("BRANCH", "USE", "scanned")
            count, total = scan(client)
            ended = time.perf_counter()
            client.command("BRANCH", "USE", "main")
            client.command("SNAPSHOT", "DROP", "scanned")
            progress("a scan of the live store")
            _, live = scan(client)
        writers.end()
    during = [wait for due, wait in writers.waits if began <= due < ended]
    before = [wait for due, wait in writers.waits if due < began]
    table = report.table("Latency of a batch of transactions [ms]", "time", "batches", "p50", "p99", "p99.9")
    for name, waits in (("alone", before), ("beside the scan", during)):
        table.add(name, len(waits), *(1000 * float(np.percentile(waits, p)) for p in (50, 99, 99.9)))
    sums = report.table("The sum of all fields", "scan", "hashes", "sum", "off by")
    sums.add("of the snapshot", count, total, total - EACH * hashes)
    sums.add("of the live store", count, live, live - EACH * hashes)
    report.figure("a scan's sum, off by", abs(total - EACH * hashes) + abs(count - hashes), at_most=0)
    report.figure("seconds of the scan", ended - began, unit=" s")
    achieved = 2 * BATCH * len(during) / (ended - began)
    report.figure("writes a second during the scan, over those asked for", achieved / rate, unit=" ×")
    return report


SMOKE: dict[str, Any] = {"hashes": 2000, "rate": 2000.0, "quiet_s": 0.5}
