"""How long does another client wait while one reads very much at once, and how long does the reader wait?

Method.  The bystander is a separate process (bystander.py) and sends PING after PING.  Each repetition measures its
longest wait twice: while another connection sends one long read and receives all of its reply, then for as long while
nothing else happens.  The figure is the first less the second, the median of all repetitions.  The time that the read
itself took is that until its last byte.  The server is measured with reads aside, as configured by default, and with
read-aside-threshold 0, in the same process; redis-server beside it.  Of this server, each repetition also tells the
longest turn of the loop meanwhile, in processor time of its thread: how long a bystander has to wait for the server
itself, whatever else the cores do.

Units: ms.

Sources of error: three processes and the reader's thread on two cores, so that the bystander may wait for a
core and not for the server, which shows beside the idle server too, and does not show in the longest turn; a receiver
that is slower than the server, for then the time of a read is the receiver's.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

from bench.reporting.report import Report, Say, median, say
from bench.rig.client import Client, encode
from bench.rig.servers import DEFAULT, Server, is_ours, present, server
from bench.serving.bystander import IDLE_S, Bystander, exchange

BAR_MS = 5.0
TURN_BAR_MS = 2.0
FULL = {"repetitions": 5, "elements": 1_000_000}
SMOKE = {"repetitions": 1, "elements": 5000}
READS = {
    "KEYS *, {:,} keys": ("KEYS", "*"),
    "HGETALL, {:,} fields": ("HGETALL", "hash"),
    "SUNION, twice {:,} members": ("SUNION", "set", "set:2"),
    "ZRANGE, {:,} members": ("ZRANGE", "zset", 0, -1),
}
_BATCH = 1000


def fill(port: int, count: int) -> None:
    """A database of `count` keys, and a value of each type with as many elements."""
    commands = []
    for first in range(0, count, _BATCH):
        some = range(first, min(first + _BATCH, count))
        commands += [
            encode("HSET", "hash", *(word for i in some for word in (f"field:{i}", f"value:{i}"))),
            encode("SADD", "set", *(f"member:{i}" for i in some)),
            encode("SADD", "set:2", *(f"member:{2 * i}" for i in some)),
            encode("ZADD", "zset", *(word for i in some for word in (i, f"member:{i}"))),
            encode("MSET", *(word for i in some for word in (f"key:{i}", "value"))),
        ]
    exchange(port, b"".join(commands))


class Found(defaultdict[str, dict[str, list[tuple[float, float, float, float | None]]]]):
    """By way and read: (longest wait at the idle server, longest wait meanwhile, time of the read, longest turn) [ms].

    The turn is None for a server that does not tell.
    """

    def __init__(self) -> None:
        super().__init__(lambda: {name: [] for name in READS})


def longest_turn_ms(admin: Client) -> float | None:
    """The longest turn of the loop since the statistics were reset, None if the server does not tell."""
    lines = admin.command("INFO", "everything").decode().splitlines()
    found = [line.partition(":")[2] for line in lines if line.startswith("loop_longest_turn_usec:")]
    return float(found[0]) / 1000 if found else None


def measure(one: Server, sizes: dict[str, int], progress: Say) -> Found:
    """Measure one server."""
    bystander, found = Bystander(one.port), Found()
    with Client(one.port) as admin:
        fill(one.port, sizes["elements"])
        ways = {one.subject: ""}
        if is_ours(one.subject):
            usual = admin.command("CONFIG", "GET", "read-aside-threshold")[1].decode()
            ways = {"aside": usual, "in place": "0"}
            admin.command("CONFIG", "SET", "latency-monitor-threshold", 1)  # turns are measured
        for _ in range(sizes["repetitions"]):
            for way, threshold in ways.items():
                if threshold:
                    admin.command("CONFIG", "SET", "read-aside-threshold", threshold)
                for name, command in READS.items():
                    progress(f"{way}: {name.format(sizes['elements'])}")
                    taken: list[float] = []

                    def read(command: tuple[str | int, ...] = command, taken: list[float] = taken) -> None:
                        began = time.perf_counter()
                        exchange(one.port, encode(*command))
                        taken.append(1e3 * (time.perf_counter() - began))

                    admin.command("CONFIG", "RESETSTAT")
                    busy = bystander.longest_ms(read)
                    turn = longest_turn_ms(admin)
                    rest_s = max(IDLE_S, taken[0] / 1000)
                    idle = bystander.longest_ms(lambda rest_s=rest_s: time.sleep(rest_s))  # type: ignore[misc]
                    found[way][name].append((idle, busy, taken[0], turn))
    bystander.close()
    return found


def run(subjects: Sequence[str] = (DEFAULT, "redis"), sizes: dict[str, int] = FULL, progress: Say = say) -> Report:
    """Measure."""
    report = Report(
        "aside",
        "How long does another client wait while one reads very much at once, and how long does the reader wait?",
        [
            f"wait: the longest of PING after PING meanwhile, less the longest beside an idle server for as long; "
            f"median of {sizes['repetitions']}",
            "idle: that longest wait beside the idle server, median; read: until the last byte of the reply, median",
            "turn: the longest turn of the loop, in processor time of its thread, median",
        ],
        {"subjects": list(subjects), **sizes},
    )
    here, missing = present(subjects)
    report.notes += missing
    found = Found()
    for subject in here:
        with server(subject) as one:
            found.update(measure(one, sizes, progress))
    table = report.table(
        "ms", "read", *(f"{way}, {what}" for way in found for what in ("wait", "idle", "read", "turn"))
    )
    for name in READS:
        row = name.format(sizes["elements"])
        cells: list[float | None] = []
        for of in found.values():
            turns = [turn for *_, turn in of[name] if turn is not None]
            cells.append(median(busy - idle for idle, busy, *_ in of[name]))
            cells += [median(idle for idle, *_ in of[name]), median(read for _, _, read, _ in of[name])]
            cells.append(median(turns) if turns else None)
        table.add(row, *cells)
        if "aside" in found:
            report.figure(row, cells[0], at_most=BAR_MS, unit=" ms")
            report.figure(f"{row}: longest turn", cells[3], at_most=TURN_BAR_MS, unit=" ms")
    return report
