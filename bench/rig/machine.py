"""Machines to measure, and kernels that read the clock.

All physical memory of a machine is touched before any measurement.  The first touch of a page causes a page fault of
the operating system, and on a virtual machine also one of the host, which costs a hundred times as much as the things
measured here.  After that, a space is in one of two states:

    written    every page is mapped and has been written
    aliased    only the first part is written; the page tables of the rest have the same entries as those of that part

In an aliased space the page tables are real and full, and there are as many as the size needs; thus a space of 1 TiB
fits a machine of a few GiB.  The pages are not real: size / part entries point at each frame, and its count is as high.
A fork reads and writes the same amounts as for a real space, with one exception: a classic fork, which counts every
page, finds the counts of `part` in a nearer cache than those of the whole.  Aliasing therefore flatters classic forks.

The cost of pages also depends on the place of their frames.  LAYOUTS lists the ways to lay them out:

    in sequence    in ascending frames, as in a fresh mapping
    scattered      as random writes under forks leave them: the counts of a table's pages are anywhere in memory

The clock is CLOCK_MONOTONIC, and the kernels read it themselves.  `clock` is the int64[3] array for it: seconds,
nanoseconds, and ELAPSED, where a kernel with another result leaves the measured time.  Nothing is subtracted for the
reading of the clock.  `clock_note` reports the cost of a reading, and how long the machine stops a program that does
nothing but read the clock: no time here is more precise than that.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bench.reporting.report import median
from kvstore.system.libc import CLOCK_MONOTONIC, clock_gettime
from mmcore.fault import own_path
from mmcore.fork import fork
from mmcore.jit import build, int64, kernel, linked, uint8, void
from mmcore.memory import PhysicalMemory
from mmcore.mmu import copy_in, copy_out, load8, store8
from mmcore.paging import ENTRY_COUNT, HUGE_SIZE, PAGE_SIZE, PT_SPAN, span
from mmcore.processor import Processor
from mmcore.release import RELEASED, release, release_all, release_step
from mmcore.space import AddressSpace, ForkMode
from mmcore.state import CR3, MEMORY, SPACE, TABLES_COPIED
from mmcore.tables import share_children
from mmcore.tlb import tlb_flush
from mmcore.walk import walk

ADDRESS = 1 << 40  # where spaces begin; a multiple of the span of any table
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MODES = {"classic": ForkMode.CLASSIC, "on-demand": ForkMode.ON_DEMAND, "constant": ForkMode.CONSTANT}

ELAPSED = 2  # [ns]
VALUE = 77  # the value that writes store
LAYOUTS = ("in sequence", "scattered")
_FAULT_SIZE, _FAULT_ROUNDS = 256 * MIB, 5
_READINGS = 10_000_000
_STOPPED_NS = 10_000  # a reading that takes longer was interrupted


def new_clock() -> np.ndarray:
    """The array that a kernel reads the clock into."""
    return np.zeros(3, np.int64)


@kernel
def now(clock):  # type: ignore[no-untyped-def]
    """The clock [ns]."""
    clock_gettime(CLOCK_MONOTONIC, int64(clock.ctypes.data))
    return clock[0] * 1_000_000_000 + clock[1]


@linked(void(int64[::1], int64[::1]))
def clock_readings(times, clock):  # type: ignore[no-untyped-def]
    """Record the times between successive readings of the clock."""
    for i in range(times.size):
        before = now(clock)
        times[i] = now(clock) - before


@linked(int64(SPACE, int64, int64[::1]))
def timed_fork(space, mode, clock):  # type: ignore[no-untyped-def]
    """Fork; returns the child's root."""
    before = now(clock)
    root = fork(space, mode)
    clock[ELAPSED] = now(clock) - before
    return root


@linked(int64(SPACE, int64, int64, int64, int64[::1], int64[::1], int64[::1]))
def timed_forks(space, mode, begin, end, times, cursor, clock):  # type: ignore[no-untyped-def]
    """Fork and release the child again and again, from `begin` to `end` on the clock.  Returns how often.

    times[i] gets the duration of the i-th fork; there are at most times.size.  `cursor` is for release.
    """
    while now(clock) < begin:
        pass
    count = 0
    while count < times.size and now(clock) < end:
        before = now(clock)
        root = fork(space, mode)
        times[count] = now(clock) - before
        count += 1
        release_all(space.mem, cursor, root)
    return count


@linked(void(SPACE, int64[::1], int64[::1], int64[::1]))
def timed_reads(space, addresses, times, clock):  # type: ignore[no-untyped-def]
    """Read a byte at each of the addresses, timed one by one."""
    for i in range(addresses.size):
        before = now(clock)
        load8(space, addresses[i])
        times[i] = now(clock) - before


@linked(void(SPACE, int64[::1], int64[::1], int64[::1], int64[::1]))
def timed_writes(space, addresses, times, tables, clock):  # type: ignore[no-untyped-def]
    """Write a byte at each of the addresses, timed one by one; `tables` gets the number of tables each write copied."""
    for i in range(addresses.size):
        copied = space.processor[TABLES_COPIED]
        before = now(clock)
        store8(space, addresses[i], VALUE)
        times[i] = now(clock) - before
        tables[i] = space.processor[TABLES_COPIED] - copied


@linked(int64(SPACE, int64, int64[::1], int64, int64, uint8[::1], int64[::1], int64[::1]))
def timed_whole(space, mode, addresses, piece, reads, buffer, marks, clock):  # type: ignore[no-untyped-def]
    """Fork, then touch `piece` bytes at each of the addresses, through `buffer`; returns the child's root.

    `reads` of every four pieces are read, the others are written.  marks[i] gets the time from the beginning until
    i / (marks.size - 1) of the pieces were touched.
    """
    before = now(clock)
    root = fork(space, mode)
    marks[0] = now(clock) - before
    parts = marks.size - 1
    for part in range(parts):
        for i in range(part * addresses.size // parts, (part + 1) * addresses.size // parts):
            at = i * piece % buffer.size
            if i & 3 < reads:
                copy_out(space, addresses[i], buffer, at, piece)
            else:
                copy_in(space, addresses[i], buffer, at, piece)
        marks[part + 1] = now(clock) - before
    return root


@linked(int64(MEMORY, int64[::1], int64, int64[::1], int64[::1]))
def timed_release(mem, cursor, budget, times, clock):  # type: ignore[no-untyped-def]
    """Release the cursor's tree in steps of `budget` frames, timed one by one; returns how many there were."""
    steps = 0
    while cursor[0] != RELEASED:
        before = now(clock)
        release_step(mem, cursor, budget)
        times[steps] = now(clock) - before
        steps += 1
    return steps


@linked(void(SPACE, int64, int64))
def touch(space, va, pages):  # type: ignore[no-untyped-def]
    """Write a byte to each of these pages."""
    for i in range(pages):
        store8(space, va + i * PAGE_SIZE, VALUE)


@linked(void(SPACE, int64, int64, int64, int64))
def alias(space, va, end, part, level):  # type: ignore[no-untyped-def]
    """Map [va + part, end) to repetitions of [va, va + part), by tables of `level` (1: PTs; 2: PDs, huge pages).

    All arguments are multiples of the span of such a table, and the frames for the tables must be free.
    """
    mem = space.mem
    for at in range(va + part, end, span(level + 1)):
        share_children(mem, walk(mem, space.cpu[CR3], at - part, level), own_path(space, at, level))
    tlb_flush(space)


def clock_note() -> str:
    """A note on the cost of a reading of the clock, and on interruptions."""
    build()
    times = np.zeros(_READINGS, np.int64)
    clock_readings(times, new_clock())
    return describe_readings(times)


def describe_readings(times: np.ndarray) -> str:
    """The sentence for the times between successive readings [ns]."""
    long = times[times > _STOPPED_NS]
    stops = f"stopped it {long.size} times for more than {_STOPPED_NS // 1000} us"
    if long.size:
        stops += f", {np.median(long) / 1000:.0f} us in the median and {long.max() / 1000:.0f} us at worst"
    return (
        f"a reading of the clock takes {np.median(times):.0f} ns, part of every time in the kernel; in "
        f"{times.sum() / 1e9:.1f} s of nothing else the machine {stops}"
    )


def tables_size(size: int) -> int:
    """Room for the page tables of `size` bytes and of a fork, and for aligning huge pages behind them [bytes]."""
    return 2 * (size // ENTRY_COUNT + size // ENTRY_COUNT**2) + 2 * HUGE_SIZE


def warm(memory: PhysicalMemory) -> None:
    """Touch all of an unused memory, and the arrays that describe its frames."""
    state = memory.state.arrays
    state.bytes[::PAGE_SIZE] = 0
    state.refcount.fill(0)
    state.payer.fill(0)
    state.epoch.fill(0)


@contextmanager
def written(size: int, room: int = 0, *, huge: bool = False, spaces: int = 1) -> Iterator[AddressSpace]:
    """A space with `size` bytes at ADDRESS, every page written, and `room` bytes beside it and its tables.

    spaces: the number of spaces that its processor may work on.
    """
    build()
    with PhysicalMemory(size + tables_size(size) + room) as memory:
        warm(memory)
        space = AddressSpace(memory, processor=Processor(spaces=spaces))
        space.map(ADDRESS, size, huge=huge)
        touch(space.state, ADDRESS, size // PAGE_SIZE)
        yield space


@contextmanager
def aliased(size: int, part: int = GIB, *, huge: bool = False) -> Iterator[AddressSpace]:
    """A space with `size` bytes at ADDRESS, of which the first `part` is written and the rest is aliased to it.

    Both are multiples of 2 MiB, or of 1 GiB with huge pages.
    """
    table = span(3) if huge else PT_SPAN
    assert size % table == 0 and part % table == 0, f"{size} and {part} bytes are not whole tables"
    with written(part, tables_size(size), huge=huge) as space:
        alias(space.state, ADDRESS, ADDRESS + size, part, 2 if huge else 1)
        yield space


def pages_of(size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """int64[N]: addresses in the pages of `size` bytes at ADDRESS, in sequence or at random."""
    addresses = np.arange(ADDRESS, ADDRESS + size, PAGE_SIZE)
    return rng.permutation(addresses) if rng else addresses


def first_writes(space: AddressSpace, mode: ForkMode, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fork and write a byte at each address: int64[N] the times [ns], int64[N] the number of tables copied."""
    clock, times, tables = new_clock(), np.zeros_like(addresses), np.zeros_like(addresses)
    root = int(timed_fork(space.state, int(mode), clock))
    timed_writes(space.state, addresses, times, tables, clock)
    release(space.memory, root)
    return times, tables


def lay_out(space: AddressSpace, size: int, layout: str, rng: np.random.Generator) -> None:
    """Map the pages of a written space anew, in one of the LAYOUTS."""
    space.unmap(ADDRESS, size)
    space.map(ADDRESS, size)
    touch(space.state, ADDRESS, size // PAGE_SIZE)
    if layout == "scattered":
        for _ in range(2):  # the first round frees frames that are still in sequence
            first_writes(space, ForkMode.CLASSIC, pages_of(size, rng))


def page_fault_ns(size: int = _FAULT_SIZE, rounds: int = _FAULT_ROUNDS) -> float:
    """The yardstick, a page fault: the median first write to a page after a classic fork, in random order.

    This is a plain copy-on-write fault of pages laid out in sequence: allocate a frame, copy 4 KiB, map it.
    """
    rng, found = np.random.default_rng(1), []
    with written(size, size) as space:
        for _ in range(rounds):
            lay_out(space, size, "in sequence", rng)
            times, _ = first_writes(space, ForkMode.CLASSIC, pages_of(size, rng))
            found.append(float(np.median(times)))
    return median(found) or 0.0
