"""Executing one command: find its row, admit it, call its kernel, account for it.  EXEC uses this for its queue too."""

from kvstore.branches.difference import leave_difference
from kvstore.commands.accounts import account, count_error, statistics_of
from kvstore.commands.refcounts import holdings_begin, holdings_end, holdings_note
from kvstore.commands.rows import (
    ASKS_REFCOUNT,
    CONTAINER,
    DENY_OOM,
    IS_EXEC,
    MAY_REPLICATE,
    NO_AUTH_NEEDED,
    NO_MULTI_ALLOWED,
    NOT_QUEUED,
    READS,
    ROW_ARITY,
    ROW_FLAGS,
    ROW_HANDLER,
    ROW_HOLDS,
    STAT_REJECTED,
    TELLS_HEALTH,
    UNCOUNTED,
    WHILE_SUBSCRIBED,
    WITHOUT_STORE,
    WRITE,
    counted_row,
    find_command,
    row_of,
)
from kvstore.commands.transactions import discard_transaction, end_exec, next_queued, queue_command, refuse_exec
from kvstore.connections.table import give_turn
from kvstore.effects.tracking import remember_keys
from kvstore.lifetimes.call import (
    ARGC,
    COMMAND,
    COMMAND_CYCLES,
    COMMAND_REPLY,
    CONNECTION,
    DEPTH,
    NO_TOUCH,
    QUEUE_REMAINING,
    REPLY_LENGTH,
)
from kvstore.lifetimes.connection import (
    AUTHENTICATED,
    DIRTY_EXEC,
    FLAGS,
    KILLED,
    LAST_COMMAND,
    MONITOR_MODE,
    MULTI,
    NO_TOUCH_MODE,
    QUEUE_BYTES,
    QUEUE_FLAGS,
    SPEAKS,
    STORE_LOST,
    SUBSCRIBER,
    TRACKING,
)
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import (
    EVENT_DETAIL,
    HOLDINGS_ADDRESS,
    PAUSED_UNTIL_MS,
    PAUSED_WRITES_ONLY,
    REQUIRE_AUTH,
    TIMER_MS,
)
from kvstore.lifetimes.store import DIRTY, READ_ONLY, WRITES_REFUSED
from kvstore.net.events import EVENT_COMMAND, EVENT_HTTP, EVENT_NONE, EVENT_POSTPONED, EVENT_QUEUE
from kvstore.store.copying import leave_copy
from kvstore.store.eviction import has_limit, lacks_memory
from kvstore.store.places import forget_places
from kvstore.store.undo import must_undo, undo, undo_end
from kvstore.system.libc import cycles
from kvstore.wire.errors import (
    BRANCH_DROPPED,
    MISCONF,
    MONITOR_AND_KEYS,
    NO_AUTH,
    NO_MULTI,
    OUT_OF_MEMORY,
    READ_ONLY_REPLICA,
)
from kvstore.wire.refusals import is_http, reply_arity, reply_subscriber, reply_unknown
from kvstore.wire.resp import prefix_error, reply_error
from mmcore.jit import indirect, int64, kernel, linked, void

_call = indirect(HANDLER)


@kernel
def fail_transaction(row):  # type: ignore[no-untyped-def]
    """A command was refused: if it belongs to a transaction, EXEC will abort."""
    if row[FLAGS] & MULTI:
        row[FLAGS] |= DIRTY_EXEC


@linked(void(CONTEXT, int64[::1], int64))
def abort_exec(context, row, start):  # type: ignore[no-untyped-def]
    """EXEC itself is refused with the error replied at `start`: discard the transaction, and reply that."""
    discard_transaction(context, row)
    prefix_error(context, start)


@kernel
def _refused(context, row, start):  # type: ignore[no-untyped-def]
    # Accounts for a command that was not run.  Its error is at `start` of the reply buffer.
    context.call[COMMAND_CYCLES] = cycles()
    count_error(context, start)
    leave_copy(context, context.call[CONNECTION])
    leave_difference(context, context.call[CONNECTION])
    fail_transaction(row)
    return EVENT_NONE


@kernel
def _reject(context, row, command, code):  # type: ignore[no-untyped-def]
    start = context.call[REPLY_LENGTH]
    reply_error(context, code)
    counted = counted_row(context, command) if row_of(context, command)[ROW_FLAGS] & CONTAINER else command
    statistics_of(context, counted)[STAT_REJECTED] += 1
    if row_of(context, command)[ROW_FLAGS] & IS_EXEC:
        abort_exec(context, row, start)
    return _refused(context, row, start)


@linked(int64(CONTEXT, int64[::1]))
def refuse_unknown(context, row):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, which is not in the table; returns an EVENT."""
    call = context.call
    if is_http(context):
        call[COMMAND] = UNCOUNTED
        give_turn(context, call[CONNECTION], row, KILLED)
        return EVENT_HTTP
    start = call[REPLY_LENGTH]
    reply_unknown(context)
    return _refused(context, row, start)


@linked(int64(CONTEXT, int64[::1], int64))
def refuse_arity(context, row, command):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, in row `command` of the table, for the number of its arguments; returns an EVENT."""
    start = context.call[REPLY_LENGTH]
    aborts = row_of(context, command)[ROW_FLAGS] & IS_EXEC
    reply_arity(context, command, aborts)
    statistics_of(context, command)[STAT_REJECTED] += 1
    event = _refused(context, row, start)
    if aborts:
        discard_transaction(context, row)
    return event


@linked(int64(CONTEXT, int64[::1], int64))
def refuse_write(context, row, command):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, in row `command` of the table, because the store may not be written now."""
    return _reject(context, row, command, READ_ONLY_REPLICA if context.store[READ_ONLY] else MISCONF)


@linked(int64(CONTEXT, int64[::1], int64))
def refuse_monitor(context, row, command):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, in row `command` of the table, because its connection monitors.

    As CLIENT PAUSE does not hold monitors, they may not touch keys.
    """
    return _reject(context, row, command, MONITOR_AND_KEYS)


@kernel
def _flags_of(context, command):  # type: ignore[no-untyped-def]
    # The flags of a command; of a container, those of the subcommand at hand.
    if row_of(context, command)[ROW_FLAGS] & CONTAINER:
        return row_of(context, counted_row(context, command))[ROW_FLAGS]
    return row_of(context, command)[ROW_FLAGS]


@kernel
def _lacks_memory(context, effects):  # type: ignore[no-untyped-def]
    # Whether maxmemory, which limits the main store alone, forbids a command with these effects.  A read-only store
    # refuses the command anyway, and nothing can be deleted from it.
    if effects & DENY_OOM == 0 or not has_limit(context) or context.store[READ_ONLY]:
        return False
    return lacks_memory(context) != 0


@kernel
def _begin(context, command):  # type: ignore[no-untyped-def]
    # Run the command at hand, or leave it to Python; returns an EVENT.
    call, shard = context.call, context.shard
    shard[EVENT_DETAIL] = command
    call[COMMAND_REPLY] = call[REPLY_LENGTH]
    call[COMMAND_CYCLES] = cycles()
    handler = row_of(context, command)[ROW_HANDLER]
    if row_of(context, command)[ROW_FLAGS] & READS == 0:
        forget_places(context)
    if handler == 0:
        return EVENT_COMMAND
    return _call(handler, context)


@linked(int64(CONTEXT, int64[::1], int64))
def refuse_subscriber(context, row, command):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, in row `command` of the table, to a connection that listens to channels in RESP2."""
    start, named = context.call[REPLY_LENGTH], command
    flags = row_of(context, command)[ROW_FLAGS]
    if flags & CONTAINER:
        named = counted_row(context, command)
        arity, given = row_of(context, named)[ROW_ARITY], context.call[ARGC]
        if named == command or (arity > 0 and given != arity) or given < -arity:
            return _begin(context, command)  # which refuses it: the error is that there is no such subcommand, or arity
    row[LAST_COMMAND] = named
    reply_subscriber(context, named, flags & IS_EXEC)
    statistics_of(context, named)[STAT_REJECTED] += 1
    if flags & IS_EXEC:
        discard_transaction(context, row)
    return _refused(context, row, start)


@linked(void(CONTEXT, int64[::1], int64))
def note_read(context, row, command):  # type: ignore[no-untyped-def]
    """The command at hand, in row `command` of the table, has been run for a connection that tracks keys."""
    if row_of(context, command)[ROW_FLAGS] & READS:
        remember_keys(context, row, command)


@linked(int64(CONTEXT, int64[::1]))
def execute(context, row):  # type: ignore[no-untyped-def]
    """Admit, queue or run the command at hand; returns an EVENT."""
    call, shard, store = context.call, context.shard, context.store
    command = find_command(context)
    call[COMMAND] = command
    if command < 0:
        return refuse_unknown(context, row)
    entry = row_of(context, command)
    arity, flags = entry[ROW_ARITY], entry[ROW_FLAGS]
    row[LAST_COMMAND] = command
    if (arity > 0 and call[ARGC] != arity) or call[ARGC] < -arity:
        return refuse_arity(context, row, command)
    if shard[REQUIRE_AUTH] and row[FLAGS] & AUTHENTICATED == 0 and flags & NO_AUTH_NEEDED == 0:
        return _reject(context, row, command, NO_AUTH)
    in_multi = row[FLAGS] & MULTI != 0
    if in_multi and flags & NO_MULTI_ALLOWED:
        return _reject(context, row, command, NO_MULTI)
    queued = row[QUEUE_FLAGS] if in_multi and flags & NOT_QUEUED else 0  # EXEC is checked for its commands
    effects = flags | queued
    if (
        shard[PAUSED_UNTIL_MS] > shard[TIMER_MS]
        and (shard[PAUSED_WRITES_ONLY] == 0 or effects & (WRITE | MAY_REPLICATE))
        and flags & NO_AUTH_NEEDED == 0
        and row[FLAGS] & MONITOR_MODE == 0
    ):
        leave_copy(context, call[CONNECTION])
        leave_difference(context, call[CONNECTION])
        return EVENT_POSTPONED
    if _lacks_memory(context, effects):
        return _reject(context, row, command, OUT_OF_MEMORY)
    if effects & (WRITE | TELLS_HEALTH) and store[WRITES_REFUSED] | store[READ_ONLY]:
        if effects & WRITE or store[READ_ONLY] == 0:
            return refuse_write(context, row, command)
    if row[FLAGS] & (
        MULTI | SUBSCRIBER | MONITOR_MODE | STORE_LOST
    ):  # one test for all, because most connections are in no mode
        if row[FLAGS] & STORE_LOST and flags & WITHOUT_STORE == 0:
            return _reject(context, row, command, BRANCH_DROPPED)
        if row[FLAGS] & SUBSCRIBER and row[SPEAKS] == 2 and flags & WHILE_SUBSCRIBED == 0:
            return refuse_subscriber(context, row, command)
        if row[FLAGS] & MONITOR_MODE and _flags_of(context, command) & (READS | WRITE | MAY_REPLICATE):
            return refuse_monitor(context, row, command)
        if in_multi and flags & NOT_QUEUED == 0:
            if flags & CONTAINER:
                shard[EVENT_DETAIL] = command
                call[COMMAND_REPLY] = call[REPLY_LENGTH]
                return EVENT_QUEUE
            queue_command(context, row, flags)
            call[COMMAND_CYCLES] = cycles()
            return EVENT_NONE
    call[NO_TOUCH] = row[FLAGS] & NO_TOUCH_MODE
    event = _begin(context, command)
    if flags & (CONTAINER | IS_EXEC) | row[FLAGS] & TRACKING:
        if flags & IS_EXEC and call[DEPTH] != 0:  # accounted for after its queue has run
            if row[QUEUE_FLAGS] & ASKS_REFCOUNT:
                holdings_begin(context, row)
            return event
        if event == EVENT_NONE and flags & CONTAINER:
            command = row[LAST_COMMAND] = counted_row(context, command)
        if event == EVENT_NONE and row[FLAGS] & TRACKING:
            note_read(context, row, command)
    if event == EVENT_NONE:
        account(context, row, command)
    return event


@linked(int64(CONTEXT, int64[::1]))
def execute_again(context, row):  # type: ignore[no-untyped-def]
    """Admit and run the command at hand, which has waited, once more; returns EVENT_NONE, or EVENT_BLOCKED to wait on.

    It checks anew all that may have changed meanwhile.  Its time is that of both runs, without the wait.
    """
    call, store = context.call, context.store
    command = call[COMMAND]
    flags = row_of(context, command)[ROW_FLAGS]
    if _lacks_memory(context, flags):
        return _reject(context, row, command, OUT_OF_MEMORY)
    if flags & WRITE and store[WRITES_REFUSED] | store[READ_ONLY]:
        return refuse_write(context, row, command)
    call[NO_TOUCH] = row[FLAGS] & NO_TOUCH_MODE
    event = _begin(context, command)
    if event == EVENT_NONE:
        call[COMMAND_CYCLES] -= row[QUEUE_BYTES]
        account(context, row, command)
    return event


@kernel
def _undo_transaction(context, row):  # type: ignore[no-untyped-def]
    # The running transaction has run out of memory: none of it has any effect, and EXEC gets one error.
    if context.shard[HOLDINGS_ADDRESS] != 0:
        holdings_end(context)
    undo(context)
    end_exec(context, row)
    refuse_exec(context, row)
    account(context, row, context.call[COMMAND])
    return EVENT_NONE


@linked(int64(CONTEXT, int64[::1]))
def run_transaction(context, row):  # type: ignore[no-untyped-def]
    """Run or continue the queue of an EXEC; returns an EVENT."""
    call, shard, store = context.call, context.shard, context.store
    while call[QUEUE_REMAINING] > 0:
        command, dirty = next_queued(context), store[DIRTY]
        event = _begin(context, command)
        if event != EVENT_NONE:
            return event
        if must_undo(context):
            return _undo_transaction(context, row)
        if row_of(context, command)[ROW_FLAGS] & CONTAINER | row[FLAGS] & TRACKING:
            if row_of(context, command)[ROW_FLAGS] & CONTAINER:
                command = counted_row(context, command)
            if row[FLAGS] & TRACKING:
                note_read(context, row, command)
        if shard[HOLDINGS_ADDRESS] != 0 and store[DIRTY] != dirty:
            holdings_note(context, row_of(context, command)[ROW_HOLDS], call[COMMAND_REPLY])
        account(context, row, command)
    if must_undo(context):  # the last command was one that Python serves
        return _undo_transaction(context, row)
    if shard[HOLDINGS_ADDRESS] != 0:
        holdings_end(context)
    undo_end(context)
    end_exec(context, row)
    account(context, row, call[COMMAND])
    return EVENT_NONE
