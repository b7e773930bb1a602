"""How long after a restart is the first GET answered, and how long does a start without data take?

Method.  The server is loaded, shut down with a save, and started again.  The time runs from the launch of its process
until a GET on a new connection returns the right value.  While the server loads, it may refuse connections or answer
LOADING; the client tries again every half millisecond.  The files have just been written and are read once more before
the start, so all reads hit the page cache.  Servers take turns.  Then the same is done with an empty directory, until
the first PONG.  The time of `python -c pass` shows the share of Python itself.  The resident memory of the empty server
is measured, too.

Units: s; MiB, resident.

Sources of error: a first start that compiles (an uncounted start precedes); a cold page cache (then the disk is
measured); a server that answers before it has loaded (the GET is for the key loaded last, and its value is compared).
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.reporting.report import Report, Say, median, ratio, say, worst
from bench.rig.load import fill, key_name, value_of
from bench.rig.servers import DEFAULT, Server, environment, present, server


def warm_page_cache(directory: Path) -> int:
    """Read all files below the directory.  Returns their total size [bytes]."""
    total = 0
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    total += len(block)
    return total


PYTHON = "python -c pass"


def python_s() -> float:
    """The time that an interpreter takes to start and end [s]."""
    before = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env=environment())
    return time.monotonic() - before


def run(
    subjects: Sequence[str] = (DEFAULT, "redis"),
    keys: int = 1_000_000,
    value_size: int = 1024,
    repetitions: int = 10,
    progress: Say = say,
) -> Report:
    """Measure."""
    report = Report(
        "restart",
        "How long after a restart is the first GET answered?",
        [
            f"{keys:,} keys of {value_size} B, shut down with a save, page cache warm; {repetitions} starts in turn",
            "from the launch of the process to the right answer to a GET of the key loaded last",
            f"with nothing to load: from the launch to the first PONG, beside {PYTHON}; and what is resident then",
        ],
        {"subjects": list(subjects), "keys": keys, "value_size": value_size, "repetitions": repetitions},
    )
    here, missing = present(subjects)
    report.notes += missing
    loaded: list[list[float]] = [[] for _ in here]
    empty: list[list[float]] = [[] for _ in here]
    files: list[int] = []
    resident: list[list[float]] = [[] for _ in here]
    python: list[float] = []
    get, value = ("GET", key_name(keys - 1)), value_of(keys - 1, value_size)
    with ExitStack() as stack:
        saved: list[Server] = []
        fresh: list[Server] = []
        for subject in here:
            progress(f"load {subject}")
            fresh.append(stack.enter_context(server(subject)))
            fresh[-1].stop()
            saved.append(stack.enter_context(server(subject)))
            fill(saved[-1].port, keys, value_size)
            saved[-1].stop(save=True)
            files.append(warm_page_cache(saved[-1].directory))
        for repetition in range(repetitions):
            progress(f"restart {repetition + 1} of {repetitions}")
            for place, one in enumerate(saved):
                one.launch()
                loaded[place].append(one.wait_for(*get, expected=value))
                one.stop()
            for place, one in enumerate(fresh):
                empty[place].append(one.start())
                resident[place].append(one.resident_bytes() / 2**20)
                one.stop()
            python.append(python_s())
    table = report.table("To the first answered GET [s]", "server", "median", "worst", "files [MiB]")
    for place, subject in enumerate(here):
        table.add(subject, median(loaded[place]), worst(loaded[place]), files[place] / 2**20)
    table = report.table("With nothing to load, to the first PONG [s]", "what", "median", "worst", "resident [MiB]")
    for place, subject in enumerate(here):
        table.add(subject, median(empty[place]), worst(empty[place]), median(resident[place]))
    table.add(PYTHON, median(python), worst(python), None)
    theirs = median(loaded[1]) if len(here) > 1 else None
    report.figure("first GET after a restart, over redis-server's", ratio(median(loaded[0]), theirs), at_most=0.25)
    report.figure("start to the first PONG [s]", median(empty[0]), at_most=0.2)
    report.figure("resident when empty [MiB]", median(resident[0]), at_most=40.0)
    return report
