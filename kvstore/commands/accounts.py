"""Statistics of commands: calls, time and failures by command, and error replies by their first word.

A command is accounted for when it ends.  Its time is counted in cycles of the time stamp counter; see histogram.py.
"""

from kvstore.commands.rows import (
    FAST,
    HAS_SECRETS,
    ROW_FLAGS,
    SKIP_SLOWLOG,
    STAT_CALLS,
    STAT_CELLS,
    STAT_CYCLES,
    STAT_FAILED,
    STATISTICS_WIDTH,
    UNMONITORED,
    row_of,
)
from kvstore.effects.monitors import REDACT_FURTHER, tell_monitors
from kvstore.lifetimes.call import COMMAND_CYCLES, COMMAND_REPLY, REDACTED, REPLY_ADDRESS, REPLY_CAPACITY, REPLY_LENGTH
from kvstore.lifetimes.connection import BLOCKED, COMMANDS, FLAGS, NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    COMMAND_STATISTICS_ADDRESS,
    COMMANDS_PROCESSED,
    CYCLES_PER_MS,
    ERROR_REPLIES,
    ERROR_TABLE_ADDRESS,
    LATENCY_TRACKING,
    MONITOR_FIRST,
    SLOW_CYCLES,
    SLOW_US,
    SLOWLOG_US,
)
from kvstore.lifetimes.sizes import ERROR_WIDTH, ERROR_WORDS
from kvstore.observe.histogram import cell_of
from kvstore.observe.latency import COMMAND_EVENT, FAST_COMMAND_EVENT, latency_sample
from kvstore.observe.slowlog import slowlog_push
from kvstore.system.libc import bytes_at, cycles, words_at
from kvstore.wire.arguments import word_at
from mmcore.jit import int64, kernel, linked, view, void


@view
def statistics_of(context, command):  # type: ignore[no-untyped-def]
    address = context.shard[COMMAND_STATISTICS_ADDRESS] + command * STATISTICS_WIDTH * 8
    return words_at(address, STATISTICS_WIDTH)


@linked(void(CONTEXT, int64))
def count_error(context, start):  # type: ignore[no-untyped-def]
    """Count the error reply at `start` of the reply buffer by its first word."""
    call, shard = context.call, context.shard
    shard[ERROR_REPLIES] += 1
    reply = bytes_at(call[REPLY_ADDRESS], call[REPLY_LENGTH])
    length = 0
    while length < 15 and start + 1 + length < len(reply) and reply[start + 1 + length] > 32:
        length += 1
    first = word_at(reply, start + 1, min(length, 8))
    second = word_at(reply, start + 9, max(0, length - 8))
    table = words_at(shard[ERROR_TABLE_ADDRESS], ERROR_WORDS * ERROR_WIDTH)
    for i in range(0, ERROR_WORDS * ERROR_WIDTH, ERROR_WIDTH):
        if table[i + 2] == 0 or (table[i] == first and table[i + 1] == second):
            table[i], table[i + 1] = first, second
            table[i + 2] += 1
            return


@linked(void(CONTEXT))
def measure_slowness(context):  # type: ignore[no-untyped-def]
    """Convert SLOW_US to SLOW_CYCLES, rounded down, so that `note_slow` makes the exact decision.

    While there are monitors it is 0: every command is told them, and none pays for the question when there is none.
    """
    shard = context.shard
    slow_us = min(shard[SLOW_US], NEVER // shard[CYCLES_PER_MS])
    if shard[MONITOR_FIRST] > 0:
        shard[SLOW_CYCLES] = 0
    else:
        shard[SLOW_CYCLES] = slow_us * shard[CYCLES_PER_MS] // 1000 if shard[SLOW_US] < NEVER else NEVER


@linked(void(CONTEXT, int64[::1], int64))
def note_monitored(context, row, command):  # type: ignore[no-untyped-def]
    """Show the command at hand to the monitors, unless it is one that they are not shown."""
    flags = row_of(context, command)[ROW_FLAGS]
    if flags & UNMONITORED == 0:
        tell_monitors(context, row, context.call[REDACTED] | REDACT_FURTHER if flags & HAS_SECRETS else 0)


@linked(void(CONTEXT, int64[::1], int64, int64))
def note_slow(context, row, command, elapsed):  # type: ignore[no-untyped-def]
    """Tell the slow log, the latency monitor and MONITOR that the command at hand took `elapsed` cycles."""
    call, shard = context.call, context.shard
    flags = row_of(context, command)[ROW_FLAGS]
    duration_us = elapsed * 1000 // shard[CYCLES_PER_MS]
    latency_sample(context, FAST_COMMAND_EVENT if flags & FAST else COMMAND_EVENT, duration_us // 1000)
    if 0 <= shard[SLOWLOG_US] <= duration_us and flags & SKIP_SLOWLOG == 0:
        slowlog_push(context, row, duration_us, call[REDACTED] if flags & HAS_SECRETS else 0)
    if shard[MONITOR_FIRST] > 0 and row[FLAGS] & BLOCKED == 0:  # a command that blocked was shown when it began
        note_monitored(context, row, command)


@kernel
def account_wait(context, row, command):  # type: ignore[no-untyped-def]
    """Account for a command that did nothing but wait: as in Redis it has no time, and is not slow."""
    statistics_of(context, command)[STAT_CALLS] += 1
    context.shard[COMMANDS_PROCESSED] += 1
    row[COMMANDS] += 1


@kernel
def account(context, row, command):  # type: ignore[no-untyped-def]
    # Account for a command that has been answered.
    call, shard = context.call, context.shard
    now = cycles()
    elapsed = max(0, now - call[COMMAND_CYCLES])
    call[COMMAND_CYCLES] = now
    statistics = statistics_of(context, command)
    statistics[STAT_CALLS] += 1
    statistics[STAT_CYCLES] += elapsed
    if shard[LATENCY_TRACKING]:
        statistics[STAT_CELLS + cell_of(elapsed)] += 1
    if elapsed >= shard[SLOW_CYCLES]:
        note_slow(context, row, command, elapsed)
    start = call[COMMAND_REPLY]
    if call[REPLY_LENGTH] > start and bytes_at(call[REPLY_ADDRESS], call[REPLY_CAPACITY])[start] == 45:
        statistics[STAT_FAILED] += 1
        count_error(context, start)
    shard[COMMANDS_PROCESSED] += 1
    row[COMMANDS] += 1
