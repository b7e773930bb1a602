"""Does active expiry keep up, and how long do clients wait for it?

Method.  There are two loads; every server gets each of them in turn.  *At once*: all keys have the same deadline.  One
client alternates DBSIZE and PING from before that deadline until no key is left.  The longest wait before the deadline
is that of an idle server; the longest wait after it includes the expiry.  *Flood*: new keys arrive at a fixed rate, and
each lives for half a second.  DBSIZE at the end counts the keys that must be alive then, rate times lifetime, and the
expired keys that are not deleted yet.

Units: s, ms, keys.

Sources of error: a host that stops a thread for milliseconds, so the longest waits are reported as medians of the
rounds, beside those of an idle server in the same round; a load generator that does not reach the rate, which is noted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.reporting.report import Report, Say, median, ratio, say
from bench.rig.client import Client, encode
from bench.rig.servers import DEFAULT, Server, present, server

LIFETIME_MS = 500
BATCH_S = 0.002  # between two batches of the flood
PIPELINE = 1000
LOAD_MARGIN = 3  # multiple of the loading time that the first batch predicts


@dataclass(frozen=True)
class AtOnce:
    """The results for many keys with one deadline."""

    gone_s: float  # from the deadline until DBSIZE was 0
    idle_wait_ms: float  # the longest wait for a reply before the deadline
    wait_ms: float  # the longest wait after it


def _pipeline(client: Client, commands: Sequence[bytes]) -> None:
    # Send commands whose replies are all +OK.
    client.socket.sendall(b"".join(commands))
    left = 5 * len(commands)
    while left:
        data = client.socket.recv(min(left, 1 << 18))
        if not data or data[:1] == b"-":
            raise RuntimeError(f"the server did not take a SET: {data[:200]!r}")
        left -= len(data)


def _longest(client: Client, until: float | None, name: str = "DBSIZE") -> tuple[float, float]:
    """Query until a time, or until no key is left: (the longest wait [ms], the time of the last reply)."""
    longest, now = 0.0, time.time()
    while until is None or now < until:
        for command in ((name,), ("PING",)):
            began = time.perf_counter()
            reply = client.command(*command)
            longest = max(longest, time.perf_counter() - began)
            if until is None and reply == 0:
                return 1000 * longest, time.time()
        now = time.time()
    return 1000 * longest, now


def at_once(one: Server, keys: int, value_size: int, idle_s: float) -> AtOnce:
    """Load keys with one deadline, and measure their expiry."""
    value = b"v" * value_size
    with one.client() as client:
        began = time.perf_counter()
        _pipeline(client, [encode("SET", b"key:%012d" % n, value, "PX", "1") for n in range(PIPELINE)])
        load_s = (time.perf_counter() - began) * keys / PIPELINE
        deadline = time.time() + LOAD_MARGIN * load_s + idle_s
        stamp = b"%d" % round(deadline * 1000)
        for first in range(0, keys, PIPELINE):
            numbers = range(first, min(first + PIPELINE, keys))
            _pipeline(client, [encode("SET", b"key:%012d" % n, value, "PXAT", stamp) for n in numbers])
        if time.time() > deadline - idle_s:
            raise RuntimeError("the keys were not loaded before their deadline")
        time.sleep(max(0.0, deadline - idle_s - time.time()))
        idle, _ = _longest(client, deadline)
        wait, ended = _longest(client, None)
    return AtOnce(max(ended - deadline, 1e-4), idle, wait)


def flood(one: Server, rate: int, seconds: float, value_size: int) -> tuple[int, float]:
    """Store new keys at a rate: (keys held at the end, the rate that was reached)."""
    value, sent = b"v" * value_size, 0
    with one.client() as client, one.client() as other:
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            due = int(rate * elapsed)
            if due > sent:
                numbers = range(sent, min(due, sent + PIPELINE))
                _pipeline(client, [encode("SET", b"key:%012d" % n, value, "PX", LIFETIME_MS) for n in numbers])
                sent = numbers.stop
            if sent >= due:
                time.sleep(BATCH_S)
        held = int(other.command("DBSIZE"))
    return held, sent / elapsed


def run(
    subjects: Sequence[str] = (DEFAULT, "redis"),
    keys: int = 1_000_000,
    rate: int = 35_000,
    seconds: float = 15.0,
    rounds: int = 3,
    value_size: int = 64,
    idle_s: float = 4.0,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "expiry",
        "Does active expiry keep up, and who waits for it?",
        [
            f"{keys:,} keys of {value_size} B with one deadline; {rate:,} new keys a second for {seconds:g} s, each "
            f"living for {LIFETIME_MS} ms; {rounds} rounds in turn, medians",
        ],
        {"subjects": list(subjects), "keys": keys, "rate": rate, "seconds": seconds, "rounds": rounds},
    )
    here, missing = present(subjects)
    report.notes += missing
    masses: dict[str, list[AtOnce]] = {subject: [] for subject in here}
    floods: dict[str, list[tuple[int, float]]] = {subject: [] for subject in here}
    for number in range(rounds):
        for subject in here:
            progress(f"{subject}: round {number + 1}")
            with server(subject) as one:
                masses[subject].append(at_once(one, keys, value_size, idle_s))
            with server(subject) as one:
                floods[subject].append(flood(one, rate, seconds, value_size))
    columns = ("gone after [s]", "longest wait, idle [ms]", "longest wait, expiring [ms]")
    first = report.table(f"{keys:,} keys at once", "server", *columns)
    second = report.table(
        f"{rate:,} new keys a second", "server", "held at the end", "of which dead", "reached [keys/s]"
    )
    for subject in here:
        of = masses[subject]
        gone, idle, wait = (median(getattr(one, name) for one in of) for name in ("gone_s", "idle_wait_ms", "wait_ms"))
        first.add(subject, gone, idle, wait)
        held, reached = median(one[0] for one in floods[subject]), median(one[1] for one in floods[subject])
        alive = None if reached is None else reached * min(LIFETIME_MS / 1000, seconds)
        second.add(subject, held, None if held is None or alive is None else max(0.0, held - alive), reached)
        if reached is not None and reached < 0.97 * rate:
            report.notes.append(f"{subject}: the load generator reached {reached:,.0f} keys a second only")
    ours = here[0] if here and here[0] != "redis" else None
    theirs = "redis" if "redis" in here else None
    if ours:
        mine, stock = masses[ours], masses.get(theirs or "", [])
        over = ratio(median(one.gone_s for one in mine), median(one.gone_s for one in stock))
        report.figure("keys at once: seconds until gone, over redis-server's", over, at_most=1.0)
        held = ratio(median(a / b for a, b in floods[ours]), median(a / b for a, b in floods.get(theirs or "", [])))
        report.figure("flood: keys held at the end, by the rate reached, over redis-server's", held, at_most=1.2)
        more = median(one.wait_ms - one.idle_wait_ms for one in mine)
        report.figure("longest wait while they expire, more than an idle server's", more, at_most=15.0, unit=" ms")
    return report
