"""How much memory does a server give back after its data are deleted?

Method.  A server is loaded with `gib` of values of 1000 B, and then emptied in one of several ways.  After `wait_s`,
the resident memory of its process (VmRSS) is read and divided by that of the same server before it had any data.  The
last row deletes seven of eight keys, which leaves data scattered over memory, and reports the size of an image of them.

    FLUSHALL    at once
    UNLINK      all keys, a thousand per command
    expiry      every key has the same deadline, a second from the end of loading
    7 of 8      UNLINK of all but every eighth key

Units: MiB; the ratio has none.

Sources of error: the time until all keys have expired is not part of the wait, which begins when DBSIZE is 0.  An
operating system that is short of memory may by itself take back less, or more.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.reporting.report import Report, Say, say
from bench.rig.client import Client
from bench.rig.load import fill, key_name
from bench.rig.servers import DEFAULT, Server, present, server, snapshot

VALUE_SIZE = 1000
WAIT_S = 10.0
UNLINKED = 1000  # keys in a command
POLL_S = 0.02
EXPIRY_MS = 1000
WAYS = ("FLUSHALL", "UNLINK", "expiry", "7 of 8")
AT_MOST = 1.5


def _in_batches(client: Client, command: str, keys: Sequence[int], *more: str) -> None:
    """Send a command for each of the keys, many at a time."""
    for first in range(0, len(keys), UNLINKED):
        batch = keys[first : first + UNLINKED]
        client.pipeline([(command, key_name(key), *more) for key in batch])


def empty(one: Server, how: str, keys: int) -> None:
    """Delete the data in one of the WAYS, and wait until they are gone."""
    with one.client() as client:
        if how == "FLUSHALL":
            client.command("FLUSHALL")
        elif how == "expiry":
            moment = str(int(time.time() * 1000) + EXPIRY_MS)
            _in_batches(client, "PEXPIREAT", range(keys), moment)
        else:
            gone = [key for key in range(keys) if how == "UNLINK" or key % 8]
            for first in range(0, len(gone), UNLINKED):
                client.command("UNLINK", *(key_name(key) for key in gone[first : first + UNLINKED]))
        left = (keys + 7) // 8 if how == "7 of 8" else 0
        while client.command("DBSIZE") != left:
            time.sleep(POLL_S)


def image_size(one: Server) -> int:
    """The size of an image of the server's current data [bytes]."""
    with one.client() as client:
        snapshot(client)
    files = [path for path in Path(one.directory).iterdir() if path.suffix in (".kvimg", ".rdb")]
    return max(files, key=lambda path: path.stat().st_mtime_ns).stat().st_size


def run(
    subjects: Sequence[str] = (DEFAULT, "redis"),
    gib: float = 1.0,
    ways: Sequence[str] = WAYS,
    wait_s: float = WAIT_S,
    progress: Say = say,
) -> Report:
    """Measure."""
    keys = max(8, int(gib * 2**30) // VALUE_SIZE)
    report = Report(
        "givenback",
        "How much memory does a server give back, once its data are gone?",
        [f"VmRSS before {keys:,} keys of {VALUE_SIZE} B were loaded, then, and {wait_s:g} s after they were deleted"],
        {"subjects": list(subjects), "gib": gib, "ways": list(ways), "wait_s": wait_s},
    )
    here, missing = present(subjects)
    report.notes += missing
    table = report.table(
        "Resident memory",
        "deleted by",
        "server",
        "empty [MiB]",
        "loaded [MiB]",
        "afterwards [MiB]",
        "over empty",
        "image [MiB]",
    )
    for how in ways:
        over: list[float] = []
        for subject in here:
            progress(f"{subject}, {how}")
            with server(subject) as one:
                before = one.resident_bytes()
                fill(one.port, keys, VALUE_SIZE)
                loaded = one.resident_bytes()
                empty(one, how, keys)
                time.sleep(wait_s)
                after = one.resident_bytes()
                size = image_size(one)
            over.append(after / before)
            table.add(how, subject, before / 2**20, loaded / 2**20, after / 2**20, over[-1], size / 2**20)
        if how != "7 of 8":
            report.figure(f"resident after {how}, over empty", over[0] if over else None, at_most=AT_MOST)
    return report
