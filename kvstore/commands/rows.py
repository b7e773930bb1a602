"""The command table as kernels see it: a row of int64 words for each command, and the lookup of a row by name.

Commands come first in the table, and their subcommands behind them.  No kernel is called through a subcommand's row.
"""

from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    COMMAND_SLOTS,
    COMMAND_SLOTS_ADDRESS,
    COMMAND_TABLE_ADDRESS,
    SUBCOMMAND_SLOTS,
    SUBCOMMAND_SLOTS_ADDRESS,
)
from kvstore.observe.histogram import CELLS
from kvstore.system.libc import words_at
from kvstore.wire.arguments import arg_length, arg_offset, query
from mmcore.jit import int64, kernel, linked, view

# Rows of the command table: int64[ROWS, ROW_WIDTH].  The flags are those that the loop acts on.
ROW_HANDLER, ROW_ARITY, ROW_FLAGS, ROW_HOLDS, ROW_WIDTH = 0, 1, 2, 3, 4
WRITE, DENY_OOM, NO_AUTH_NEEDED, NO_MULTI_ALLOWED, NOT_QUEUED, MAY_REPLICATE = 1, 2, 4, 8, 16, 32
IS_EXEC, CONTAINER = 64, 128
TELLS_HEALTH = 256  # PING: refused like writes when snapshots fail, so that monitoring notices
SKIP_SLOWLOG, FAST = 512, 1024
GROWS = 8192  # its need of memory is not bounded by its arguments: see store/undo.py
ADDS_SKETCH = 1 << 19  # it may add a HyperLogLog, which is bounded, beside its arguments
ASKS_REFCOUNT = 4096  # in QUEUE_FLAGS: the transaction has an OBJECT REFCOUNT
HAS_SECRETS = 2048  # served by Python, which sets in REDACTED the arguments that the slow log must not show
WHILE_SUBSCRIBED = 1 << 16  # allowed to a connection with subscriptions, which is restricted in RESP2
READS = 1 << 14  # read-only: tracking connections may keep in a cache what it answers
OF_CLIENT = 1 << 15  # CLIENT, or a subcommand of it: CLIENT CACHING outlasts it
WITHOUT_STORE = 1 << 18  # allowed to a connection whose store was dropped
UNMONITORED = 1 << 17  # MONITOR does not show it
REFUSED, UNCOUNTED = -1, -2  # values of COMMAND for a command that is not accounted for: an error, or one only queued

# Rows of the statistics, int64[ROWS, STATISTICS_WIDTH]; the histogram of histogram.py is the end of each.
STAT_CALLS, STAT_CYCLES, STAT_REJECTED, STAT_FAILED, STAT_CELLS = 0, 1, 2, 3, 4
STATISTICS_WIDTH = STAT_CELLS + CELLS
FNV_OFFSET, FNV_PRIME = -3750763034362895579, 1099511628211
COMMAND_NAME_MAX = 32


@kernel
def name_hash(text, start, length):  # type: ignore[no-untyped-def]
    """FNV-1a of a command's name in upper case; the server uses the same function to fill the table of names."""
    hash_ = FNV_OFFSET
    for i in range(length):
        byte = int64(text[start + i])
        if 97 <= byte <= 122:
            byte -= 32
        hash_ = (hash_ ^ byte) * FNV_PRIME
    return hash_


@linked(int64(CONTEXT))
def find_command(context):  # type: ignore[no-untyped-def]
    """The row of the command table that argument 0 names, or -1."""
    shard = context.shard
    length = arg_length(context, 0)
    if length > COMMAND_NAME_MAX:
        return -1
    hash_ = name_hash(query(context), arg_offset(context, 0), length)
    slots = words_at(shard[COMMAND_SLOTS_ADDRESS], 2 * shard[COMMAND_SLOTS])
    at = hash_ & (shard[COMMAND_SLOTS] - 1)
    while slots[2 * at + 1] >= 0:
        if slots[2 * at] == hash_:
            return slots[2 * at + 1]
        at = (at + 1) & (shard[COMMAND_SLOTS] - 1)
    return -1


@kernel
def subcommand_hash(hash_, command):  # type: ignore[no-untyped-def]
    """The hash of a subcommand, made from the hash of its name and its container's place in the table."""
    return (hash_ ^ (command + 1)) * FNV_PRIME


@linked(int64(CONTEXT, int64))
def counted_row(context, command):  # type: ignore[no-untyped-def]
    """The row that counts the call at hand of a container: its subcommand's row, if there is one of that name."""
    call, shard = context.call, context.shard
    if call[ARGC] < 2 or arg_length(context, 1) > COMMAND_NAME_MAX:
        return command
    hash_ = subcommand_hash(name_hash(query(context), arg_offset(context, 1), arg_length(context, 1)), command)
    slots = words_at(shard[SUBCOMMAND_SLOTS_ADDRESS], 2 * shard[SUBCOMMAND_SLOTS])
    at = hash_ & (shard[SUBCOMMAND_SLOTS] - 1)
    while slots[2 * at + 1] >= 0:
        if slots[2 * at] == hash_:
            return slots[2 * at + 1]
        at = (at + 1) & (shard[SUBCOMMAND_SLOTS] - 1)
    return command


@view
def row_of(context, command):  # type: ignore[no-untyped-def]
    return words_at(context.shard[COMMAND_TABLE_ADDRESS] + command * ROW_WIDTH * 8, ROW_WIDTH)
