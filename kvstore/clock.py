"""The two clocks, and the processor's counter.

    wall clock        NOW_US, NOW_MS     deadlines of keys, and time as clients are told it; it may jump, either way
    monotonic clock   TIMER_MS           durations: time-outs, CLIENT PAUSE, save points, ticks, ages; it only goes on
    cycle counter     cycles()           how long a command or a slice of upkeep takes; CYCLES_PER_MS converts it

The loop reads both clocks once a turn, when it wakes.  The wall clock stands still while a transaction runs, so that no
key expires between two of its commands.

To each clock a shift is added as it is read: WALL_SHIFT_US and TIMER_SHIFT_US, 0 but in a test, which moves time by
DEBUG SHIFT-CLOCK instead of waiting for it.

The clock that notes the use of keys, LRU_CLOCK, begins as Unix time and goes on by the monotonic clock: idle times do
not jump with the wall clock, and an image that is loaded later still makes sense.
"""

import time
from pathlib import Path

from kvstore.libc import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, cycles, words_at
from kvstore.state import (
    CYCLES_ORIGIN,
    CYCLES_ORIGIN_US,
    CYCLES_PER_MS,
    EXEC_SAVED_ADDRESS,
    LRU_CLOCK,
    LRU_ORIGIN_S,
    NOW_MS,
    NOW_US,
    SCRATCH_ADDRESS,
    STORE,
    TIMER_MS,
    TIMER_SHIFT_US,
    UPKEEP_CYCLES,
    WALL_SHIFT_US,
)
from mmcore.jit import Array, int32, int64, kernel, linked, void

_EXACT_CYCLES = 1 << 52  # a thousand times as many fit a word
CYCLES_PER_MS_MIN = 100_000  # no processor that this runs on is slower: what counts until there is a measurement


@kernel
def _system_us(store, clock):  # type: ignore[no-untyped-def]
    clock_gettime(int32(clock), store.server[SCRATCH_ADDRESS])
    time = words_at(store.server[SCRATCH_ADDRESS], 2)
    return time[0] * 1_000_000 + time[1] // 1000


@kernel
def update_clocks(store):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers; the wall clock not while a transaction runs."""
    server = store.server
    timer_us = _system_us(store, CLOCK_MONOTONIC) + server[TIMER_SHIFT_US]
    server[TIMER_MS] = timer_us // 1000
    server[LRU_CLOCK] = timer_us // 1_000_000 + server[LRU_ORIGIN_S]
    if server[EXEC_SAVED_ADDRESS] == 0:
        server[NOW_US] = _system_us(store, CLOCK_REALTIME) + server[WALL_SHIFT_US]
        server[NOW_MS] = server[NOW_US] // 1000


@linked(void(STORE))
def read_clocks(store):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers, for Python."""
    update_clocks(store)


@linked(void(STORE))
def start_clocks(store):  # type: ignore[no-untyped-def]
    """Read both clocks for the first time: the clock of use and the cycle counter count from here."""
    server = store.server
    server[CYCLES_ORIGIN], server[CYCLES_ORIGIN_US] = cycles(), _system_us(store, CLOCK_MONOTONIC)
    server[UPKEEP_CYCLES] = server[CYCLES_ORIGIN]
    server[CYCLES_PER_MS] = CYCLES_PER_MS_MIN
    server[LRU_ORIGIN_S] = 0
    update_clocks(store)
    server[LRU_ORIGIN_S] = server[NOW_US] // 1_000_000 - server[LRU_CLOCK]
    server[LRU_CLOCK] += server[LRU_ORIGIN_S]


@linked(void(STORE))
def calibrate(store):  # type: ignore[no-untyped-def]
    """Measure the cycle counter by the monotonic clock, since the start."""
    server = store.server
    elapsed_us = _system_us(store, CLOCK_MONOTONIC) - server[CYCLES_ORIGIN_US]
    if elapsed_us >= 1000:
        counted = cycles() - server[CYCLES_ORIGIN]
        if counted < _EXACT_CYCLES:
            rate = 1000 * counted // elapsed_us
        else:
            rate = counted // (elapsed_us // 1000)  # days later, when the product may not fit and the quotient is exact
        server[CYCLES_PER_MS] = max(CYCLES_PER_MS_MIN, rate)


@linked(int64(STORE))
def read_cycles(store):  # type: ignore[no-untyped-def]
    """The counter that commands are timed by, for Python."""
    return cycles()


def wall_us(registers: Array) -> int:
    """Unix time [us], as it is now and not as it was when the turn began."""
    return time.time_ns() // 1000 + int(registers[WALL_SHIFT_US])


def counter_is_steady(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the cycle counter runs at one rate whatever the processor does; True where the system does not say."""
    try:
        flags = [line.split() for line in processors.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return True
    return not flags or "constant_tsc" in flags[0]
