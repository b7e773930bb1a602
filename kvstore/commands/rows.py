"""The command table as kernels see it: a row of int64 words a command, and how a row is found by its name.

Commands come first in the table.  Their subcommands stand behind them; no kernel is called by a subcommand's row.
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

# Rows of the command table: int64[ROWS, ROW_WIDTH]; flags are those that the loop acts on.  Commands come first, their
# subcommands behind them, which no kernel is called by.
ROW_HANDLER, ROW_ARITY, ROW_FLAGS, ROW_HOLDS, ROW_WIDTH = 0, 1, 2, 3, 4


WRITE, DENY_OOM, NO_AUTH_NEEDED, NO_MULTI_ALLOWED, NOT_QUEUED, MAY_REPLICATE = 1, 2, 4, 8, 16, 32


IS_EXEC, CONTAINER = 64, 128


TELLS_HEALTH = 256  # PING, refused as writes are when snapshots fail, so that who watches over the server hears of it


SKIP_SLOWLOG, FAST = 512, 1024


GROWS = 8192  # what it may need is not bounded by its arguments: see store/undo.py
ASKS_REFCOUNT = 4096  # in QUEUE_FLAGS: the transaction has an OBJECT REFCOUNT


HAS_SECRETS = 2048  # Python, which serves it, leaves in REDACTED which of its arguments the slow log must not show


REFUSED, UNCOUNTED = -1, -2  # COMMAND, for one that is not accounted for: an error, or one only queued


# Rows of the statistics, int64[ROWS, STATISTICS_WIDTH]; the histogram of histogram.py is the end of each.
STAT_CALLS, STAT_CYCLES, STAT_REJECTED, STAT_FAILED, STAT_CELLS = 0, 1, 2, 3, 4


STATISTICS_WIDTH = STAT_CELLS + CELLS


FNV_OFFSET, FNV_PRIME = -3750763034362895579, 1099511628211


COMMAND_NAME_MAX = 32


@kernel
def name_hash(text, start, length):  # type: ignore[no-untyped-def]
    """FNV-1a of a command's name in upper case; the server fills the table of names by the same function."""
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
    """What the name of a subcommand is found by: its own hash, and its container's place in the table."""
    return (hash_ ^ (command + 1)) * FNV_PRIME


@linked(int64(CONTEXT, int64))
def counted_row(context, command):  # type: ignore[no-untyped-def]
    """The row that the call at hand of a container counts for: its subcommand's, if there is one of that name."""
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
