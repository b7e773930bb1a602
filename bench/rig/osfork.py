"""The operating system's own fork, of a process with little more than a given amount of touched private memory.

This runs as a separate process, `python -m bench.rig.osfork QUESTION BYTES REPETITIONS normal|huge [AMOUNT ...]`, which
imports nothing large.  It touches the memory, reports that, waits for a line, and prints the nanoseconds of each
repetition as JSON:

    fork         [os.fork]                             the child exits at once
    fault        [read of a byte in the middle, read of a page beside it, the same two written]
    writes       [every first write to a page, in random order]
    whole        [[after fork, and when 25, 50, 75, 100 % were touched] of each mix]   in sequence
    exit         [exit of a child that shares all its memory, of one that shares none] until it was waited for
    clone        [fork, a guest's run in the child, and its end, until it was waited for]   AMOUNTS: see draw_pages

Times are taken in Python, around the system call or the access.  A fork of no memory, and an access without a fault,
show how much that adds.  Children live until the parent has finished, because otherwise nothing would be shared.  Each
repetition writes the pages again, so it gets the memory that the previous one freed; callers therefore discard the
first repetition.  `normal` means 4 KiB pages, `huge` means transparent huge pages.
"""

import json
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.rig.servers import environment

PAGE_SIZE = 4096
MADVISE = {"normal": getattr(mmap, "MADV_NOHUGEPAGE", 15), "huge": getattr(mmap, "MADV_HUGEPAGE", 14)}
NAMES = {"normal": "os.fork, 4 KiB pages", "huge": "os.fork, huge pages"}
BESIDE = 100 * PAGE_SIZE  # from the byte in the middle to the one in another page of its table
PIECE = 32 << 20  # [bytes] touched at once
QUARTERS = range(5)

_now = time.perf_counter_ns


def touched(size: int, pages: str) -> mmap.mmap | None:
    """Private memory of that size, every page written; None if the size is 0."""
    if not size:
        return None
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(MADVISE[pages])
    _write_all(memory)
    return memory


def _write_all(memory: mmap.mmap) -> None:
    for at in range(0, len(memory), PAGE_SIZE):
        memory[at] = 1


@contextmanager
def child() -> Iterator[None]:
    """Fork a child that lives until the end of the block, then wait for it."""
    wait, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.read(wait, 1)
        os._exit(0)
    os.close(wait)
    try:
        yield
    finally:
        os.close(tell)
        os.waitpid(pid, 0)


def fork(memory: mmap.mmap | None) -> int:
    """Time one fork."""
    before = _now()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    elapsed = _now() - before
    os.waitpid(pid, 0)
    return elapsed


def fault(memory: mmap.mmap) -> list[int]:
    """Time the first accesses after a fork."""
    middle, times = len(memory) // 2 + 8, []
    with child():
        for at in (middle, middle + BESIDE):
            before = _now()
            memory[at]
            times.append(_now() - before)
    with child():
        for at in (middle, middle + BESIDE):
            before = _now()
            memory[at] = 2
            times.append(_now() - before)
    return times


def writes(memory: mmap.mmap) -> list[int]:
    """Time all first writes after a fork."""
    order = list(range(0, len(memory), PAGE_SIZE))
    random.Random(1).shuffle(order)
    times = []
    with child():
        for at in order:
            before = _now()
            memory[at] = 2
            times.append(_now() - before)
    return times


def whole(memory: mmap.mmap) -> list[list[int]]:
    """For each mix, fork and touch everything: none, 1, 2, 3 and 4 of every four pieces are read."""
    piece = min(PIECE, len(memory) // 16)
    buffer, found = mmap.mmap(-1, piece), []  # aligned to pages, as the memory is
    for reads in QUARTERS:
        before = _now()
        with child(), memoryview(memory) as view:
            marks = [_now() - before]
            for i in range(len(memory) // piece):
                part = view[i * piece : (i + 1) * piece]
                if i & 3 < reads:
                    buffer[:] = part
                else:
                    part[:] = buffer
                part.release()
                if (i + 1) * 4 % (len(memory) // piece) == 0:
                    marks.append(_now() - before)
        found.append(marks)
    return found


def leave(memory: mmap.mmap) -> list[int]:
    """Time the exits of two children: one as it was forked, one whose parent has written everything since."""
    times = []
    for written in (False, True):
        with child():
            if written:
                _write_all(memory)
            before = _now()
        times.append(_now() - before)
    return times


def draw_pages(generator: random.Random, pages: int, reads: int, writes: int, tables: int) -> list[int]:
    """The pages that a guest's run touches: first those that it reads, then those that it writes.

    They are drawn from the pages of `tables` page tables, which are drawn first; of all tables for 0.
    """
    per_table = 512
    if tables == 0:
        return generator.choices(range(pages), k=reads + writes)
    drawn = generator.choices(range(pages // per_table), k=tables)
    return [per_table * generator.choice(drawn) + generator.randrange(per_table) for _ in range(reads + writes)]


def clone(memory: mmap.mmap, reads: int = 100, writes: int = 100, tables: int = 1) -> int:
    """Time a clone of all the memory, with the run of a guest in it."""
    drawn = draw_pages(random.Random(), len(memory) // PAGE_SIZE, reads, writes, tables)
    places = [PAGE_SIZE * page for page in drawn]
    read, written = places[:reads], places[reads:]
    before = _now()
    pid = os.fork()
    if pid == 0:
        for at in read:
            memory[at]
        for at in written:
            memory[at] = 2
        os._exit(0)
    os.waitpid(pid, 0)
    return _now() - before


QUESTIONS: dict[str, Callable[..., Any]] = {
    "fork": fork,
    "fault": fault,
    "writes": writes,
    "whole": whole,
    "exit": leave,
    "clone": clone,
}


def measure(
    question: str, size: int, repetitions: int, pages: str, at_once: int = 1, amounts: Sequence[int] = ()
) -> list[Any]:
    """The answers of `at_once` new processes that begin together: one per repetition, process after process."""
    words = [question, str(size), str(repetitions), pages, *map(str, amounts)]
    command = [sys.executable, "-m", "bench.rig.osfork", *words]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True) for _ in range(at_once)
    ]
    streams = [(one.stdin, one.stdout) for one in processes]
    for _, output in streams:
        assert output and output.readline() == "ready\n", f"{question} of {size} bytes did not begin"
    for start, _ in streams:
        assert start
        start.write("\n")
        start.flush()
    answers = [answer for one in processes for answer in json.loads(one.communicate()[0])]
    assert all(one.returncode == 0 for one in processes)
    return answers


def main(arguments: Sequence[str]) -> None:
    """`python -m bench.rig.osfork QUESTION BYTES REPETITIONS normal|huge [AMOUNT ...]`."""
    question, size, repetitions, pages, *amounts = arguments
    memory = touched(int(size), pages)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps([QUESTIONS[question](memory, *map(int, amounts)) for _ in range(int(repetitions))]))


if __name__ == "__main__":
    main(sys.argv[1:])
