"""The operating system's own fork, of a process that has little else than so much touched private memory.

Run as a process of its own, `python -m bench.osfork BYTES REPETITIONS normal|huge`, which imports nothing large; it
prints the nanoseconds of each fork as a JSON list.  What is timed is os.fork in the parent: the system call and a few
microseconds of Python's bookkeeping (the row of no memory at all tells them).  The child exits at once.  `normal` is
4 KiB pages, `huge` what transparent huge pages make of it.
"""

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.servers import environment

PAGE_SIZE = 4096
MADVISE = {"normal": getattr(mmap, "MADV_NOHUGEPAGE", 15), "huge": getattr(mmap, "MADV_HUGEPAGE", 14)}


def forks_ns(size: int, repetitions: int, pages: str) -> list[int]:
    """Durations of forks of this process with `size` bytes more."""
    if size:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(MADVISE[pages])
        for at in range(0, size, PAGE_SIZE):
            memory[at] = 1
    times = []
    for _ in range(repetitions):
        before = time.perf_counter_ns()
        child = os.fork()
        if child == 0:
            os._exit(0)
        times.append(time.perf_counter_ns() - before)
        os.waitpid(child, 0)
    return times


def measure(size: int, repetitions: int, pages: str) -> list[int]:
    """The same in a new process."""
    command = [sys.executable, "-m", "bench.osfork", str(size), str(repetitions), pages]
    run = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return [int(ns) for ns in json.loads(run.stdout)]


def main(arguments: Sequence[str]) -> None:
    """`python -m bench.osfork BYTES REPETITIONS normal|huge`."""
    size, repetitions, pages = arguments
    print(json.dumps(forks_ns(int(size), int(repetitions), pages)))


if __name__ == "__main__":
    main(sys.argv[1:])
