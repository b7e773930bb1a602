"""The two clocks, and the processor's counter.

    wall clock        NOW_US, NOW_MS     deadlines of keys, and time as clients are told it; it may jump, either way
    monotonic clock   TIMER_MS           durations: time-outs, CLIENT PAUSE, save points, ticks, ages; never goes back
    cycle counter     cycles()           how long a command or a slice of upkeep takes; CYCLES_PER_MS converts it

The loop reads both clocks once a turn, when it wakes.  The wall clock stands still while a transaction runs, so that no
key expires between two of its commands.

A shift is added to each clock when it is read: WALL_SHIFT_US and TIMER_SHIFT_US.  Both are 0 except in a test that
moves time by DEBUG SHIFT-CLOCK instead of waiting.

LRU_CLOCK, the clock for the use of keys, starts at Unix time and advances by the monotonic clock.  So idle times do not
jump with the wall clock, and they stay meaningful when an image is loaded later.
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
from mmcore.jit import int32, kernel, linked, void

_EXACT_CYCLES = 1 << 52  # the product with 1000 fits a word
CYCLES_PER_MS_MIN = 100_000  # used until there is a measurement: no supported processor is slower


@kernel
def _system_us(context, clock):  # type: ignore[no-untyped-def]
    clock_gettime(int32(clock), context.shard[SCRATCH_ADDRESS])
    time = words_at(context.shard[SCRATCH_ADDRESS], 2)
    return time[0] * 1_000_000 + time[1] // 1000


@kernel
def update_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers, but not the wall clock while a transaction runs."""
    call, shard = context.call, context.shard
    timer_us = _system_us(context, CLOCK_MONOTONIC) + shard[TIMER_SHIFT_US]
    shard[TIMER_MS] = timer_us // 1000
    shard[LRU_CLOCK] = timer_us // 1_000_000 + shard[LRU_ORIGIN_S]
    if call[DEPTH] == 0:
        shard[NOW_US] = _system_us(context, CLOCK_REALTIME) + shard[WALL_SHIFT_US]
        shard[NOW_MS] = shard[NOW_US] // 1000


@kernel
def wall_now(context):  # type: ignore[no-untyped-def]
    """Unix time now [us], and not when the turn began."""
    return _system_us(context, CLOCK_REALTIME) + context.shard[WALL_SHIFT_US]


@linked(void(CONTEXT))
def read_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks into the registers, for Python."""
    update_clocks(context)


@linked(void(CONTEXT))
def start_clocks(context):  # type: ignore[no-untyped-def]
    """Read both clocks for the first time; LRU_CLOCK and the cycle counter start here."""
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
    """Measure the rate of the cycle counter by the monotonic clock, from the start until now."""
    shard = context.shard
    elapsed_us = _system_us(context, CLOCK_MONOTONIC) - shard[CYCLES_ORIGIN_US]
    if elapsed_us >= 1000:
        counted = cycles() - shard[CYCLES_ORIGIN]
        if counted < _EXACT_CYCLES:
            rate = 1000 * counted // elapsed_us
        else:
            rate = counted // (elapsed_us // 1000)  # after days the product may not fit, and this quotient is exact
        shard[CYCLES_PER_MS] = max(CYCLES_PER_MS_MIN, rate)


def wall_us(registers: Registers) -> int:
    """Present Unix time [us], and not the time when the turn began."""
    return time.time_ns() // 1000 + registers.WALL_SHIFT_US


def counter_is_steady(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the cycle counter has a constant rate in all states of the processor; True if the system does not say."""
    try:
        flags = [line.split() for line in processors.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return True
    return not flags or "constant_tsc" in flags[0]
