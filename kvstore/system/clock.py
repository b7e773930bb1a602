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

from kvstore.lifetimes.call import DEPTH
from kvstore.lifetimes.context import CONTEXT, Registers
from kvstore.lifetimes.shard import (
    CYCLES_ORIGIN,
    CYCLES_ORIGIN_US,
    CYCLES_PER_MS,
    LRU_CLOCK,
    LRU_ORIGIN_S,
    NOW_MS,
    NOW_US,
    SCRATCH_ADDRESS,
    TIMER_MS,
    TIMER_SHIFT_US,
    UPKEEP_CYCLES,
    WALL_SHIFT_US,
)
from kvstore.system.libc import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, cycles, words_at
from mmcore.jit import int32, int64, kernel, linked, void

_EXACT_CYCLES = 1 << 52  # a thousand times as many fit a word
CYCLES_PER_MS_MIN = 100_000  # no processor that this runs on is slower: what counts until there is a measurement


@kernel
def _system_us(context, clock):  # type: ignore[no-untyped-def]
    clock_gettime(int32(clock), context.shard[SCRATCH_ADDRESS])
    time = words_at(context.shard[SCRATCH_ADDRESS], 2)
    return time[0] * 1_000_000 + time[1] // 1000


@kernel
def update_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers; the wall clock not while a transaction runs."""
    call, shard = context.call, context.shard
    timer_us = _system_us(context, CLOCK_MONOTONIC) + shard[TIMER_SHIFT_US]
    shard[TIMER_MS] = timer_us // 1000
    shard[LRU_CLOCK] = timer_us // 1_000_000 + shard[LRU_ORIGIN_S]
    if call[DEPTH] == 0:
        shard[NOW_US] = _system_us(context, CLOCK_REALTIME) + shard[WALL_SHIFT_US]
        shard[NOW_MS] = shard[NOW_US] // 1000


@linked(void(CONTEXT))
def read_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers, for Python."""
    update_clocks(context)


@linked(void(CONTEXT))
def start_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks for the first time: the clock of use and the cycle counter count from here."""
    shard = context.shard
    shard[CYCLES_ORIGIN], shard[CYCLES_ORIGIN_US] = cycles(), _system_us(context, CLOCK_MONOTONIC)
    shard[UPKEEP_CYCLES] = shard[CYCLES_ORIGIN]
    shard[CYCLES_PER_MS] = CYCLES_PER_MS_MIN
    shard[LRU_ORIGIN_S] = 0
    update_clocks(context)
    shard[LRU_ORIGIN_S] = shard[NOW_US] // 1_000_000 - shard[LRU_CLOCK]
    shard[LRU_CLOCK] += shard[LRU_ORIGIN_S]


@linked(void(CONTEXT))
def calibrate(context):  # type: ignore[no-untyped-def]
    """Measure the cycle counter by the monotonic clock, since the start."""
    shard = context.shard
    elapsed_us = _system_us(context, CLOCK_MONOTONIC) - shard[CYCLES_ORIGIN_US]
    if elapsed_us >= 1000:
        counted = cycles() - shard[CYCLES_ORIGIN]
        if counted < _EXACT_CYCLES:
            rate = 1000 * counted // elapsed_us
        else:
            rate = counted // (elapsed_us // 1000)  # days later, when the product may not fit and the quotient is exact
        shard[CYCLES_PER_MS] = max(CYCLES_PER_MS_MIN, rate)


@linked(int64(CONTEXT))
def read_cycles(context):  # type: ignore[no-untyped-def]
    """The counter that commands are timed by, for Python."""
    return cycles()


def wall_us(registers: Registers) -> int:
    """Unix time [us], as it is now and not as it was when the turn began."""
    return time.time_ns() // 1000 + registers.WALL_SHIFT_US


def counter_is_steady(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the cycle counter runs at one rate whatever the processor does; True where the system does not say."""
    try:
        flags = [line.split() for line in processors.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return True
    return not flags or "constant_tsc" in flags[0]
