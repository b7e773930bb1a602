"""The timer, every 1/hz s: time-outs of connections, save points, samples for INFO."""

from kvstore.commands.accounts import measure_slowness
from kvstore.connections.pieces import has_output
from kvstore.connections.table import connection, give_turn
from kvstore.effects.tracking import TRIMMED_BY_TIMER, trim_tracked
from kvstore.lifetimes.call import CONNECTION, DEPTH
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    AFTERWARDS,
    BLOCKED,
    FLAGS,
    HELD,
    IN_USE,
    KILLED,
    MONITOR_MODE,
    POSTPONED,
    SUBSCRIBER,
    WAITS_FOR_TURN,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    BLOCKED_CLIENTS,
    COMMANDS_PROCESSED,
    CONNECTION_SLOTS,
    CYCLES_PER_MS,
    NET_INPUT_BYTES,
    NET_OUTPUT_BYTES,
    NEXT_TICK_MS,
    PAUSED_UNTIL_MS,
    ROWS_SWEPT,
    SAMPLE_NEXT,
    SAMPLES_ADDRESS,
    SWEEP_SLOT,
    TICK_MS,
    TIMEOUT_MS,
    TIMER_MS,
    TIMER_TICKS,
    TURN_CYCLES,
    TURN_US,
    WANTING_WRITE,
)
from kvstore.lifetimes.sizes import SAMPLES
from kvstore.lifetimes.store import (
    DIRTY,
    IMAGE_UNDER_WAY,
    LAST_SAVE_OK,
    LAST_SAVE_TRY_MS,
    SAVE_POINTS,
    SAVE_POINTS_ADDRESS,
    SAVE_WANTED,
    SAVED_MS,
)
from kvstore.net.epoll import judge_busy_poll
from kvstore.net.output import keep_output
from kvstore.net.serving import has_waiting, serve_waiting
from kvstore.net.stores import end_stores, note_used_stores
from kvstore.store.clockgrowth import clocks_fit
from kvstore.store.flush import give_back_credit
from kvstore.system.clock import calibrate
from kvstore.system.libc import words_at
from mmcore.jit import kernel, linked, void

SAVE_RETRY_MS = 5000  # Redis's CONFIG_BGSAVE_RETRY_DELAY


@kernel
def save_due(context):  # type: ignore[no-untyped-def]
    call, shard, store = context.call, context.shard, context.store
    if store[IMAGE_UNDER_WAY]:
        return False
    if store[SAVE_WANTED]:
        return call[DEPTH] == 0
    if store[LAST_SAVE_OK] == 0 and shard[TIMER_MS] - store[LAST_SAVE_TRY_MS] < SAVE_RETRY_MS:
        return False
    points = words_at(store[SAVE_POINTS_ADDRESS], 2 * store[SAVE_POINTS])
    for i in range(store[SAVE_POINTS]):
        if store[DIRTY] >= points[2 * i + 1] and shard[TIMER_MS] - store[SAVED_MS] > 1000 * points[2 * i]:
            return True
    return False


@linked(void(CONTEXT))
def resume_postponed(context):  # type: ignore[no-untyped-def]
    """The end of CLIENT PAUSE: go on with every connection that it held back, and serve keys that are waited for."""
    shard = context.shard
    shard[PAUSED_UNTIL_MS] = 0
    for slot in range(shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & IN_USE and row[FLAGS] & POSTPONED:
            row[FLAGS] &= ~POSTPONED
            shard[BLOCKED_CLIENTS] -= 1
            give_turn(context, slot, row, 0)
    note_used_stores(context)
    if has_waiting(context):
        if context.call[CONNECTION] >= 0:
            connection(context, context.call[CONNECTION])[FLAGS] |= AFTERWARDS
        else:
            serve_waiting(context)


@linked(void(CONTEXT))
def tick(context):  # type: ignore[no-untyped-def]
    """The timer, every TICK_MS: a tenth of the connections' time-outs, a sample for INFO."""
    shard = context.shard
    now = shard[TIMER_MS]
    calibrate(context)
    shard[NEXT_TICK_MS] = now + shard[TICK_MS]
    shard[TIMER_TICKS] += 1
    measure_slowness(context)
    shard[TURN_CYCLES] = shard[TURN_US] * shard[CYCLES_PER_MS] // 1000
    judge_busy_poll(context)
    trim_tracked(context, TRIMMED_BY_TIMER)
    give_back_credit(context)
    clocks_fit(context)
    end_stores(context)
    if shard[PAUSED_UNTIL_MS] != 0 and shard[PAUSED_UNTIL_MS] <= now:
        resume_postponed(context)
    # Idle connections are looked at only if they may time out.
    sweeps = shard[TIMEOUT_MS] > 0 or shard[WANTING_WRITE] > 0
    for _ in range(min(shard[CONNECTION_SLOTS], shard[CONNECTION_SLOTS] // 10 + 1) if sweeps else 0):
        shard[ROWS_SWEPT] += 1
        slot = shard[SWEEP_SLOT]
        shard[SWEEP_SLOT] = (slot + 1) % shard[CONNECTION_SLOTS]
        row = connection(context, slot)
        if row[FLAGS] & IN_USE == 0 or row[FLAGS] & (KILLED | POSTPONED | WAITS_FOR_TURN | HELD):
            continue
        may_time_out = row[FLAGS] & (BLOCKED | MONITOR_MODE | SUBSCRIBER) == 0
        if may_time_out and shard[TIMEOUT_MS] > 0 and now - row[ACTIVE_MS] > shard[TIMEOUT_MS]:
            give_turn(context, slot, row, KILLED)
        elif has_output(row):
            keep_output(context, slot, row)
    sample = words_at(shard[SAMPLES_ADDRESS] + shard[SAMPLE_NEXT] * 32, 4)
    shard[SAMPLE_NEXT] = (shard[SAMPLE_NEXT] + 1) % SAMPLES
    sample[0] = now
    sample[1] = shard[COMMANDS_PROCESSED]
    sample[2] = shard[NET_INPUT_BYTES]
    sample[3] = shard[NET_OUTPUT_BYTES]
