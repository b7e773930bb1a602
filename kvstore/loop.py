"""The event loop: one kernel that serves every connection and enters Python only when it must.

A turn

    epoll_wait ── for each ready socket ──► recv ► parse ► execute ► reply ► send
        └── then upkeep, in bounded slices: expiry, releases, growth; the timer every 1/hz s

`serve` returns when something is Python's to do, with one of the EVENT codes; all it needs to go on is in the server's
registers, so the next call continues where the last one stopped, in the middle of a pipeline or of a transaction.

    EVENT_COMMAND   the command at hand (ARGC, args) of connection CONNECTION is served by Python, which appends its
                    reply to the reply buffer; EVENT_DETAIL is the row of the command table
    EVENT_HTTP      the connection at hand spoke HTTP and is closed; Python says so in the log
    EVENT_WAKE      the wake-up descriptor is readable: a signal came, or a snapshot's writer has news
    EVENT_SAVE      a snapshot was due, by a save point or since a transaction asked for one, and could not be begun
    EVENT_STOP      STOPPING is set
    EVENT_QUEUE     the command at hand has subcommands and is to be queued: Python says whether it is well-formed

A command's kernel returns an EVENT, too: NONE when it has replied, COMMAND when Python is to serve this form of it,
BLOCKED when its connection has to wait.

Order within a connection is the order of arrival; a transaction runs whole before anybody else is served.  A connection
that is held (see connections.py) keeps its replies and its further input until a snapshot has ended.

No pipeline keeps the others waiting.  TURN_CYCLES, turn-budget-us of the configuration, is shared out among the
connections that are ready when a turn begins; a connection that has used up its share between two commands keeps the
rest of its input and goes to the back of the queue (`give_turn`).  The share is measured in time, so a command counts
for what it costs, and one that Python serves for more than one of a kernel.  The clock is the time stamp counter, which
is read anyway to account for each command.
"""

from kvstore.ahead import look_ahead
from kvstore.arguments import arg_length, arg_offset, query, word_at
from kvstore.clock import calibrate, update_clocks
from kvstore.commands.transactions import discard_transaction, end_exec, next_queued, queue_command
from kvstore.connections import (
    ACTIVE_MS,
    ADDRESS_WORDS,
    AUTHENTICATED,
    BLOCKED,
    BLOCKED_UNTIL_MS,
    BYTES_IN,
    BYTES_OUT,
    CLOSE_AFTER_REPLY,
    COMMANDS,
    DATABASE,
    DIRTY_EXEC,
    FD,
    FLAGS,
    HELD,
    ID,
    IN_USE,
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    LAST_COMMAND,
    MULTI,
    NEVER,
    NO_TOUCH_MODE,
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_LENGTH,
    OUTPUT_SOFT_SINCE_MS,
    OUTPUT_START,
    OWN,
    PEER,
    POSTPONED,
    QUEUE_FLAGS,
    REPLY_OFF,
    REPLY_SKIP,
    REPLY_SKIP_NEXT,
    SPEAKS,
    UNBLOCKED,
    UNBLOCKED_BY_ERROR,
    UNIX_SOCKET,
    WAITS_FOR_TURN,
    WANTS_WRITE,
    close_connection,
    connection,
    drop,
    give_turn,
    grow,
    open_connection,
    take_turn,
)
from kvstore.errors import ABORTED, MISCONF, NO_AUTH, NO_MULTI, OUT_OF_MEMORY, UNBLOCKED_ERROR
from kvstore.expire import make_room
from kvstore.flush import give_back_credit
from kvstore.histogram import CELLS, cell_of
from kvstore.keyspace import memory_exceeded
from kvstore.latency import COMMAND_EVENT, FAST_COMMAND_EVENT, latency_sample
from kvstore.libc import (
    EAGAIN,
    EINTR,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    IPPROTO_TCP,
    MSG_NOSIGNAL,
    SO_KEEPALIVE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    accept4,
    bytes_at,
    close,
    cycles,
    epoll_ctl,
    epoll_wait,
    errno,
    getsockname,
    ints_at,
    recv,
    send,
    setsockopt,
    words_at,
)
from kvstore.refcounts import holdings_begin, holdings_end, holdings_note
from kvstore.refusals import is_http, reply_arity, reply_unknown
from kvstore.request import COMPLETE, INCOMPLETE, MALFORMED, parse_request, restore_request
from kvstore.resp import REPLY_CAPACITY_MIN, reply_error, reply_integer, reply_raw, reply_reset, reply_room
from kvstore.saving import save_begin
from kvstore.slowlog import slowlog_push
from kvstore.state import (
    AGAIN,
    AHEAD,
    ARGC,
    BLOCKED_CLIENTS,
    BLOCKED_DEADLINE_MS,
    BLOCKS,
    COMMAND,
    COMMAND_CYCLES,
    COMMAND_REPLY,
    COMMAND_SLOTS,
    COMMAND_SLOTS_ADDRESS,
    COMMAND_STATISTICS_ADDRESS,
    COMMAND_TABLE_ADDRESS,
    COMMANDS_PROCESSED,
    CONNECTED_CLIENTS,
    CONNECTION,
    CONNECTION_SLOTS,
    CYCLES_PER_MS,
    DB,
    DIRTY,
    EPOLL_FD,
    ERROR_REPLIES,
    ERROR_TABLE_ADDRESS,
    EVENT_DETAIL,
    EVENTS_ADDRESS,
    EVENTS_CAPACITY,
    EXEC_COMMAND,
    EXEC_CYCLES,
    EXEC_REMAINING,
    EXEC_SAVED_ADDRESS,
    EXPIRED_STALE_PERC,
    HANDLER,
    HOLDINGS_ADDRESS,
    INPUT_POSITION,
    INPUT_SHARED,
    KEEPALIVE_S,
    LAST_SAVE_OK,
    LAST_SAVE_TRY_MS,
    LATENCY_TRACKING,
    LOOP_TURNS,
    MAXCLIENTS,
    MAXMEMORY,
    NET_INPUT_BYTES,
    NET_OUTPUT_BYTES,
    NEXT_ID,
    NEXT_TICK_MS,
    NO_TOUCH,
    OUTER_REPLY,
    OUTPUT_HARD_LIMIT,
    OUTPUT_LIMIT_CLOSED,
    OUTPUT_SOFT_LIMIT,
    OUTPUT_SOFT_MS,
    PAUSED_UNTIL_MS,
    PAUSED_WRITES_ONLY,
    PROTECTED,
    PROTOCOL,
    QUERY_ADDRESS,
    QUERY_BUFFER_LIMIT,
    QUERY_LIMIT_CLOSED,
    QUERY_SIZE,
    READS_PROCESSED,
    READY,
    READY_NEXT,
    REDACTED,
    REJECTED_CONNECTIONS,
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    REQUIRE_AUTH,
    RESUME,
    SAMPLE_NEXT,
    SAMPLES_ADDRESS,
    SAVE_POINTS,
    SAVE_POINTS_ADDRESS,
    SAVE_WANTED,
    SAVED_MS,
    SCRATCH_ADDRESS,
    SHARED_ADDRESS,
    SHARED_CAPACITY,
    SLOW_CYCLES,
    SLOW_US,
    SLOWLOG_US,
    SNAPSHOT_ALIVE,
    STOPPING,
    STORE,
    SUBCOMMAND_SLOTS,
    SUBCOMMAND_SLOTS_ADDRESS,
    SWEEP_SLOT,
    TICK_MS,
    TIMEOUT_MS,
    TIMER_MS,
    TIMER_TICKS,
    TOTAL_CONNECTIONS,
    TURN_BEGAN,
    TURN_CYCLES,
    TURN_SHARE,
    TURN_US,
    TURNS_LEFT,
    TURNS_PENDING,
    UPKEEP_CYCLES,
    WRITES_PROCESSED,
    WRITES_REFUSED,
)
from kvstore.texts import DENIED, MAX_CLIENTS
from kvstore.upkeep import PRESSED, upkeep, upkeep_between
from mmcore.jit import copy_bytes, indirect, int32, int64, kernel, linked, view, void

EVENT_NONE, EVENT_COMMAND, EVENT_HTTP, EVENT_WAKE, EVENT_SAVE, EVENT_STOP, EVENT_QUEUE = range(7)
EVENT_POSTPONED = 8  # never leaves this file: CLIENT PAUSE holds the command back
EVENT_BLOCKED = BLOCKS  # likewise: the connection waits, for as long as its kernel left in BLOCKED_UNTIL_MS
EVENT_AGAIN = AGAIN  # likewise: the command has done a part of its work, and is to be begun again in the next turn

# Rows of the command table: int64[ROWS, ROW_WIDTH]; flags are those that the loop acts on.  Commands come first, their
# subcommands behind them, which no kernel is called by.
ROW_HANDLER, ROW_ARITY, ROW_FLAGS, ROW_HOLDS, ROW_WIDTH = 0, 1, 2, 3, 4
WRITE, DENY_OOM, NO_AUTH_NEEDED, NO_MULTI_ALLOWED, NOT_QUEUED, MAY_REPLICATE = 1, 2, 4, 8, 16, 32
IS_EXEC, CONTAINER = 64, 128
TELLS_HEALTH = 256  # PING, refused as writes are when snapshots fail, so that who watches over the server hears of it
SKIP_SLOWLOG, FAST = 512, 1024
ASKS_REFCOUNT = 4096  # in QUEUE_FLAGS: the transaction has an OBJECT REFCOUNT
HAS_SECRETS = 2048  # Python, which serves it, leaves in REDACTED which of its arguments the slow log must not show
REFUSED, UNCOUNTED = -1, -2  # COMMAND, for one that is not accounted for: an error, or one only queued
# Rows of the statistics, int64[ROWS, STATISTICS_WIDTH]; the histogram of histogram.py is the end of each.
STAT_CALLS, STAT_CYCLES, STAT_REJECTED, STAT_FAILED, STAT_CELLS = 0, 1, 2, 3, 4
STATISTICS_WIDTH = STAT_CELLS + CELLS

# Error replies by their first word: int64[ERROR_WORDS, ERROR_WIDTH], its bytes as two words, and how many.
ERROR_WORDS, ERROR_WIDTH = 32, 3

FNV_OFFSET, FNV_PRIME = -3750763034362895579, 1099511628211
COMMAND_NAME_MAX = 32

# What an epoll event's data holds: slot in the low half and the low bits of the connection's id above it, or
# -(1 + 4 * descriptor + kind) for a descriptor that is not a connection.
LISTEN_TCP, LISTEN_UNIX, WAKE = 0, 1, 2
ACCEPTS_PER_EVENT = 64
INPUT_MAX = 1 << 18  # [bytes] received at once
UNAUTHENTICATED_OUTPUT_MAX = 1024  # [bytes] held of replies; REPLY_BUFFER_SIZE_UNAUTHENTICATED_CLIENT
SHARES_MAX = 20  # a connection's share of a turn is no less than one part of so many
TURNS_PER_BATCH = 64  # connections that get a turn without an event before the loop looks for events again
SEND_EARLY = 1 << 18  # [bytes] of replies after which they are sent before the rest of a pipeline is executed
SAMPLES = 16
SAVE_RETRY_MS = 5000  # Redis's CONFIG_BGSAVE_RETRY_DELAY

_call = indirect(HANDLER)


# ------------------------------------------------------------------------------------------------ replies to the socket


@kernel
def _ask_for_write(store, slot, row, wanted):  # type: ignore[no-untyped-def]
    if (row[FLAGS] & WANTS_WRITE != 0) == wanted:
        return
    row[FLAGS] ^= WANTS_WRITE
    event = ints_at(store.server[SCRATCH_ADDRESS], 3)
    event[0] = EPOLLIN | EPOLLOUT if wanted else EPOLLIN
    event[1] = slot
    event[2] = row[ID] & 0x7FFF_FFFF
    epoll_ctl(int32(store.server[EPOLL_FD]), int32(EPOLL_CTL_MOD), int32(row[FD]), store.server[SCRATCH_ADDRESS])


@linked(int64(STORE, int64[::1], int64, int64))
def send_bytes(store, row, address, count):  # type: ignore[no-untyped-def]
    """Send until done or the socket is full; returns how many bytes were taken, or -1 for a broken connection."""
    sent = 0
    while sent < count:
        n = send(int32(row[FD]), address + sent, count - sent, int32(MSG_NOSIGNAL))
        store.server[WRITES_PROCESSED] += 1
        if n < 0:
            code = errno()
            if code == EINTR:
                continue
            if code == EAGAIN:
                break
            return -1
        sent += n
    store.server[NET_OUTPUT_BYTES] += sent
    row[BYTES_OUT] += sent
    return sent


@linked(void(STORE, int64, int64[::1]))
def keep_output(store, slot, row):  # type: ignore[no-untyped-def]
    """Send what the connection still has to say, or hold it for EPOLLOUT; enforce the limits on what is held."""
    server = store.server
    if row[FLAGS] & HELD:
        _ask_for_write(store, slot, row, False)
        return
    if row[OUTPUT_LENGTH] > row[OUTPUT_START]:
        pending = row[OUTPUT_LENGTH] - row[OUTPUT_START]
        sent = send_bytes(store, row, row[OUTPUT_ADDRESS] + row[OUTPUT_START], pending)
        if sent < 0:
            give_turn(store, slot, row, KILLED)
            return
        row[OUTPUT_START] += sent
    pending = row[OUTPUT_LENGTH] - row[OUTPUT_START]
    if pending == 0:
        row[OUTPUT_START] = row[OUTPUT_LENGTH] = row[OUTPUT_SOFT_SINCE_MS] = 0
        drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
        _ask_for_write(store, slot, row, False)
        if row[FLAGS] & CLOSE_AFTER_REPLY:
            give_turn(store, slot, row, KILLED)
        return
    _ask_for_write(store, slot, row, True)
    too_much = server[OUTPUT_HARD_LIMIT] > 0 and pending > server[OUTPUT_HARD_LIMIT]
    if server[REQUIRE_AUTH] and row[FLAGS] & AUTHENTICATED == 0 and pending > UNAUTHENTICATED_OUTPUT_MAX:
        too_much = True  # a stranger who does not read: memory is not for it to take
    if server[OUTPUT_SOFT_LIMIT] > 0 and pending > server[OUTPUT_SOFT_LIMIT]:
        if row[OUTPUT_SOFT_SINCE_MS] == 0:
            row[OUTPUT_SOFT_SINCE_MS] = server[TIMER_MS]
        elif server[TIMER_MS] - row[OUTPUT_SOFT_SINCE_MS] > server[OUTPUT_SOFT_MS]:
            too_much = True
    else:
        row[OUTPUT_SOFT_SINCE_MS] = 0
    if too_much:
        server[OUTPUT_LIMIT_CLOSED] += 1
        give_turn(store, slot, row, KILLED)


@linked(void(STORE, int64, int64[::1]))
def flush_reply(store, slot, row):  # type: ignore[no-untyped-def]
    """Send the reply buffer; what it does not take, or is held back, becomes the connection's own output."""
    server = store.server
    count, sent = server[REPLY_LENGTH], 0
    if row[FLAGS] & KILLED:
        count = 0
    if count > 0 and row[OUTPUT_LENGTH] == row[OUTPUT_START] and row[FLAGS] & HELD == 0:
        sent = send_bytes(store, row, server[REPLY_ADDRESS], count)
        if sent < 0:
            give_turn(store, slot, row, KILLED)
            sent = count
    if sent < count:
        if row[OUTPUT_LENGTH] == row[OUTPUT_START] and count >= REPLY_CAPACITY_MIN:
            # A long reply is not copied: its buffer changes hands.
            drop(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY)
            row[OUTPUT_ADDRESS] = server[REPLY_ADDRESS]
            row[OUTPUT_CAPACITY] = server[REPLY_CAPACITY]
            row[OUTPUT_START] = sent
            row[OUTPUT_LENGTH] = count
            server[REPLY_ADDRESS] = server[REPLY_CAPACITY] = 0
        elif grow(row, OUTPUT_ADDRESS, OUTPUT_CAPACITY, row[OUTPUT_LENGTH] + count - sent):
            out = bytes_at(row[OUTPUT_ADDRESS], row[OUTPUT_CAPACITY])
            reply = bytes_at(server[REPLY_ADDRESS], server[REPLY_CAPACITY])
            copy_bytes(out, row[OUTPUT_LENGTH], reply, sent, count - sent)
            row[OUTPUT_LENGTH] += count - sent
        else:
            give_turn(store, slot, row, KILLED)
        keep_output(store, slot, row)
    elif row[FLAGS] & CLOSE_AFTER_REPLY and row[OUTPUT_LENGTH] == row[OUTPUT_START]:
        give_turn(store, slot, row, KILLED)
    reply_reset(store)


# ------------------------------------------------------------------------------------------------------------ execution


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


@linked(int64(STORE))
def find_command(store):  # type: ignore[no-untyped-def]
    """The row of the command table that argument 0 names, or -1."""
    server = store.server
    length = arg_length(store, 0)
    if length > COMMAND_NAME_MAX:
        return -1
    hash_ = name_hash(query(store), arg_offset(store, 0), length)
    slots = words_at(server[COMMAND_SLOTS_ADDRESS], 2 * server[COMMAND_SLOTS])
    at = hash_ & (server[COMMAND_SLOTS] - 1)
    while slots[2 * at + 1] >= 0:
        if slots[2 * at] == hash_:
            return slots[2 * at + 1]
        at = (at + 1) & (server[COMMAND_SLOTS] - 1)
    return -1


@kernel
def subcommand_hash(hash_, command):  # type: ignore[no-untyped-def]
    """What the name of a subcommand is found by: its own hash, and its container's place in the table."""
    return (hash_ ^ (command + 1)) * FNV_PRIME


@linked(int64(STORE, int64))
def counted_row(store, command):  # type: ignore[no-untyped-def]
    """The row that the call at hand of a container counts for: its subcommand's, if there is one of that name."""
    server = store.server
    if server[ARGC] < 2 or arg_length(store, 1) > COMMAND_NAME_MAX:
        return command
    hash_ = subcommand_hash(name_hash(query(store), arg_offset(store, 1), arg_length(store, 1)), command)
    slots = words_at(server[SUBCOMMAND_SLOTS_ADDRESS], 2 * server[SUBCOMMAND_SLOTS])
    at = hash_ & (server[SUBCOMMAND_SLOTS] - 1)
    while slots[2 * at + 1] >= 0:
        if slots[2 * at] == hash_:
            return slots[2 * at + 1]
        at = (at + 1) & (server[SUBCOMMAND_SLOTS] - 1)
    return command


@view
def _statistics(store, command):  # type: ignore[no-untyped-def]
    address = store.server[COMMAND_STATISTICS_ADDRESS] + command * STATISTICS_WIDTH * 8
    return words_at(address, STATISTICS_WIDTH)


@view
def _entry(store, command):  # type: ignore[no-untyped-def]
    return words_at(store.server[COMMAND_TABLE_ADDRESS] + command * ROW_WIDTH * 8, ROW_WIDTH)


@linked(void(STORE, int64))
def count_error(store, start):  # type: ignore[no-untyped-def]
    """Count the reply at `start` of the reply buffer, an error, by its first word."""
    server = store.server
    server[ERROR_REPLIES] += 1
    reply = bytes_at(server[REPLY_ADDRESS], server[REPLY_LENGTH])
    length = 0
    while length < 15 and start + 1 + length < len(reply) and reply[start + 1 + length] > 32:
        length += 1
    first = word_at(reply, start + 1, min(length, 8))
    second = word_at(reply, start + 9, max(0, length - 8))
    table = words_at(server[ERROR_TABLE_ADDRESS], ERROR_WORDS * ERROR_WIDTH)
    for i in range(0, ERROR_WORDS * ERROR_WIDTH, ERROR_WIDTH):
        if table[i + 2] == 0 or (table[i] == first and table[i + 1] == second):
            table[i], table[i + 1] = first, second
            table[i + 2] += 1
            return


@kernel
def fail_transaction(row):  # type: ignore[no-untyped-def]
    """A command was refused: EXEC will abort, if it was one of a transaction."""
    if row[FLAGS] & MULTI:
        row[FLAGS] |= DIRTY_EXEC


@linked(void(STORE, int64[::1], int64))
def abort_exec(store, row, start):  # type: ignore[no-untyped-def]
    """EXEC itself is refused, for the error replied at `start`: discard the transaction, and say so."""
    server = store.server
    discard_transaction(store, row)
    reply = reply_room(store, len(ABORTED))
    copy_bytes(reply, start + len(ABORTED), reply, start + 1, server[REPLY_LENGTH] - start - 1)
    copy_bytes(reply, start, ABORTED, 0, len(ABORTED))
    server[REPLY_LENGTH] += len(ABORTED) - 1


@kernel
def _refused(store, row, start):  # type: ignore[no-untyped-def]
    # Accounts for a command that was not run, whose error is at `start` of the reply buffer.
    store.server[COMMAND_CYCLES] = cycles()
    count_error(store, start)
    fail_transaction(row)
    return EVENT_NONE


@kernel
def _reject(store, row, command, code):  # type: ignore[no-untyped-def]
    start = store.server[REPLY_LENGTH]
    reply_error(store, code)
    counted = counted_row(store, command) if _entry(store, command)[ROW_FLAGS] & CONTAINER else command
    _statistics(store, counted)[STAT_REJECTED] += 1
    if _entry(store, command)[ROW_FLAGS] & IS_EXEC:
        abort_exec(store, row, start)
    return _refused(store, row, start)


@linked(int64(STORE, int64[::1]))
def refuse_unknown(store, row):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, which is not in the table; returns an EVENT."""
    server = store.server
    if is_http(store):
        server[COMMAND] = UNCOUNTED
        give_turn(store, server[CONNECTION], row, KILLED)
        return EVENT_HTTP
    start = server[REPLY_LENGTH]
    reply_unknown(store)
    return _refused(store, row, start)


@linked(int64(STORE, int64[::1], int64))
def refuse_arity(store, row, command):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, in row `command` of the table, for the number of its arguments; returns an EVENT."""
    start = store.server[REPLY_LENGTH]
    aborts = _entry(store, command)[ROW_FLAGS] & IS_EXEC
    reply_arity(store, command, aborts)
    _statistics(store, command)[STAT_REJECTED] += 1
    event = _refused(store, row, start)
    if aborts:
        discard_transaction(store, row)
    return event


@kernel
def _begin(store, command):  # type: ignore[no-untyped-def]
    # Runs the command at hand, or leaves it to Python; returns an EVENT.
    server = store.server
    server[EVENT_DETAIL] = command
    server[COMMAND_REPLY] = server[REPLY_LENGTH]
    server[COMMAND_CYCLES] = cycles()
    handler = _entry(store, command)[ROW_HANDLER]
    if handler == 0:
        return EVENT_COMMAND
    return _call(handler, store)


@linked(void(STORE))
def measure_slowness(store):  # type: ignore[no-untyped-def]
    """Have SLOW_CYCLES be as long as SLOW_US; not longer, so that `note_slow` decides."""
    server = store.server
    slow_us = min(server[SLOW_US], NEVER // server[CYCLES_PER_MS])
    server[SLOW_CYCLES] = slow_us * server[CYCLES_PER_MS] // 1000 if server[SLOW_US] < NEVER else NEVER


@linked(void(STORE, int64[::1], int64, int64))
def note_slow(store, row, command, elapsed):  # type: ignore[no-untyped-def]
    """The command at hand took so many cycles, which is long: tell the slow log and the latency monitor."""
    server = store.server
    flags = _entry(store, command)[ROW_FLAGS]
    duration_us = elapsed * 1000 // server[CYCLES_PER_MS]
    latency_sample(store, FAST_COMMAND_EVENT if flags & FAST else COMMAND_EVENT, duration_us // 1000)
    if 0 <= server[SLOWLOG_US] <= duration_us and flags & SKIP_SLOWLOG == 0:
        slowlog_push(store, row, duration_us, server[REDACTED] if flags & HAS_SECRETS else 0)


@kernel
def _end(store, row, command):  # type: ignore[no-untyped-def]
    # Accounts for a command that has been answered.
    server = store.server
    now = cycles()
    elapsed = max(0, now - server[COMMAND_CYCLES])
    server[COMMAND_CYCLES] = now
    statistics = _statistics(store, command)
    statistics[STAT_CALLS] += 1
    statistics[STAT_CYCLES] += elapsed
    if server[LATENCY_TRACKING]:
        statistics[STAT_CELLS + cell_of(elapsed)] += 1
    if elapsed >= server[SLOW_CYCLES]:
        note_slow(store, row, command, elapsed)
    start = server[COMMAND_REPLY]
    if server[REPLY_LENGTH] > start and bytes_at(server[REPLY_ADDRESS], server[REPLY_CAPACITY])[start] == 45:
        statistics[STAT_FAILED] += 1
        count_error(store, start)
    server[COMMANDS_PROCESSED] += 1
    row[COMMANDS] += 1


@linked(int64(STORE, int64[::1]))
def execute(store, row):  # type: ignore[no-untyped-def]
    """Admit, queue or run the command at hand; returns an EVENT."""
    server = store.server
    command = find_command(store)
    server[COMMAND] = command
    if command < 0:
        return refuse_unknown(store, row)
    entry = _entry(store, command)
    arity, flags = entry[ROW_ARITY], entry[ROW_FLAGS]
    row[LAST_COMMAND] = command
    if (arity > 0 and server[ARGC] != arity) or server[ARGC] < -arity:
        return refuse_arity(store, row, command)
    if server[REQUIRE_AUTH] and row[FLAGS] & AUTHENTICATED == 0 and flags & NO_AUTH_NEEDED == 0:
        return _reject(store, row, command, NO_AUTH)
    in_multi = row[FLAGS] & MULTI != 0
    if in_multi and flags & NO_MULTI_ALLOWED:
        return _reject(store, row, command, NO_MULTI)
    queued = row[QUEUE_FLAGS] if in_multi and flags & NOT_QUEUED else 0  # EXEC answers for what it will run
    effects = flags | queued
    if (
        server[PAUSED_UNTIL_MS] > server[TIMER_MS]
        and (server[PAUSED_WRITES_ONLY] == 0 or effects & (WRITE | MAY_REPLICATE))
        and flags & NO_AUTH_NEEDED == 0
    ):
        return EVENT_POSTPONED
    if effects & DENY_OOM and server[MAXMEMORY] > 0 and memory_exceeded(store) and not make_room(store):
        return _reject(store, row, command, OUT_OF_MEMORY)
    if effects & (WRITE | TELLS_HEALTH) and server[WRITES_REFUSED]:
        return _reject(store, row, command, MISCONF)
    if in_multi and flags & NOT_QUEUED == 0:
        if flags & CONTAINER:
            server[EVENT_DETAIL] = command
            server[COMMAND_REPLY] = server[REPLY_LENGTH]
            return EVENT_QUEUE
        queue_command(store, row, flags)
        server[COMMAND_CYCLES] = cycles()
        return EVENT_NONE
    server[NO_TOUCH] = row[FLAGS] & NO_TOUCH_MODE
    event = _begin(store, command)
    if flags & (CONTAINER | IS_EXEC):
        if flags & IS_EXEC and server[EXEC_SAVED_ADDRESS] != 0:
            server[EXEC_COMMAND] = command  # accounted for when it has run its queue
            server[EXEC_CYCLES] = server[COMMAND_CYCLES]
            if row[QUEUE_FLAGS] & ASKS_REFCOUNT:
                holdings_begin(store, row)
            return event
        if event == EVENT_NONE and flags & CONTAINER:
            command = row[LAST_COMMAND] = counted_row(store, command)
    if event == EVENT_NONE:
        _end(store, row, command)
    return event


@linked(int64(STORE, int64[::1]))
def run_transaction(store, row):  # type: ignore[no-untyped-def]
    """Run, or go on with, the queue of an EXEC; returns an EVENT."""
    server = store.server
    while server[EXEC_REMAINING] > 0:
        command, dirty = next_queued(store), server[DIRTY]
        event = _begin(store, command)
        if event != EVENT_NONE:
            return event
        if _entry(store, command)[ROW_FLAGS] & CONTAINER:
            command = counted_row(store, command)
        if server[HOLDINGS_ADDRESS] != 0 and server[DIRTY] != dirty:
            holdings_note(store, _entry(store, command)[ROW_HOLDS], server[COMMAND_REPLY])
        _end(store, row, command)
    if server[HOLDINGS_ADDRESS] != 0:
        holdings_end(store)
    end_exec(store, row)
    server[COMMAND_CYCLES] = server[EXEC_CYCLES]
    server[COMMAND_REPLY] = server[OUTER_REPLY]
    _end(store, row, server[EXEC_COMMAND])
    return EVENT_NONE


@kernel
def _command_over(store, row):  # type: ignore[no-untyped-def]
    # The command read from the socket is answered in full: apply CLIENT REPLY.
    if row[FLAGS] & (REPLY_OFF | REPLY_SKIP | REPLY_SKIP_NEXT):
        if row[FLAGS] & (REPLY_OFF | REPLY_SKIP):
            store.server[REPLY_LENGTH] = store.server[OUTER_REPLY]
        row[FLAGS] &= ~REPLY_SKIP
        if row[FLAGS] & REPLY_SKIP_NEXT:
            row[FLAGS] = (row[FLAGS] & ~REPLY_SKIP_NEXT) | REPLY_SKIP


@linked(void(STORE, int64[::1]))
def begin_wait(store, row):  # type: ignore[no-untyped-def]
    """The command at hand blocks its connection: count the call, as Redis does without a time, and set the deadline."""
    server = store.server
    _statistics(store, server[COMMAND])[STAT_CALLS] += 1
    server[COMMANDS_PROCESSED] += 1
    row[COMMANDS] += 1
    row[FLAGS] |= BLOCKED
    server[BLOCKED_CLIENTS] += 1
    timeout_ms = row[BLOCKED_UNTIL_MS]
    row[BLOCKED_UNTIL_MS] = NEVER if timeout_ms == 0 else server[TIMER_MS] + timeout_ms
    server[BLOCKED_DEADLINE_MS] = min(server[BLOCKED_DEADLINE_MS], row[BLOCKED_UNTIL_MS])


@linked(void(STORE))
def wake_blocked(store):  # type: ignore[no-untyped-def]
    """Give a turn to every connection that has waited long enough, if the first of them has."""
    server = store.server
    now_ms = server[TIMER_MS]
    if now_ms < server[BLOCKED_DEADLINE_MS]:
        return
    server[BLOCKED_DEADLINE_MS] = NEVER
    for slot in range(server[CONNECTION_SLOTS]):
        row = connection(store, slot)
        if row[FLAGS] & IN_USE == 0 or row[FLAGS] & (BLOCKED | UNBLOCKED) != BLOCKED:
            continue
        if row[BLOCKED_UNTIL_MS] <= now_ms:
            give_turn(store, slot, row, UNBLOCKED)
        else:
            server[BLOCKED_DEADLINE_MS] = min(server[BLOCKED_DEADLINE_MS], row[BLOCKED_UNTIL_MS])


@kernel
def _end_wait(store, row):  # type: ignore[no-untyped-def]
    # Answers the command that its connection has waited in: no replica has acknowledged anything, as there is none.
    server = store.server
    server[PROTOCOL] = row[SPEAKS]
    start = server[OUTER_REPLY] = server[REPLY_LENGTH]
    if row[FLAGS] & UNBLOCKED_BY_ERROR:
        reply_error(store, UNBLOCKED_ERROR)
        count_error(store, start)
    else:
        reply_integer(store, 0)
    row[FLAGS] &= ~(BLOCKED | UNBLOCKED | UNBLOCKED_BY_ERROR)
    row[ACTIVE_MS] = server[TIMER_MS]  # the wait does not count as idle
    server[BLOCKED_CLIENTS] -= 1
    _command_over(store, row)


@linked(int64(STORE, int64, int64[::1]))
def run_pipeline(store, slot, row):  # type: ignore[no-untyped-def]
    """Execute what is in the query buffer; returns an EVENT, EVENT_NONE when no whole command is left."""
    server = store.server
    while True:
        if server[EXEC_SAVED_ADDRESS] != 0:
            event = run_transaction(store, row)
            if event != EVENT_NONE:
                return event
            _command_over(store, row)
        if row[FLAGS] & (CLOSE_AFTER_REPLY | KILLED):
            server[INPUT_POSITION] = server[QUERY_SIZE]
            return EVENT_NONE
        if row[FLAGS] & (BLOCKED | HELD):
            return EVENT_NONE
        if server[REPLY_LENGTH] > SEND_EARLY:
            flush_reply(store, slot, row)
        start = server[INPUT_POSITION]
        if server[COMMAND_CYCLES] - server[TURN_BEGAN] > server[TURN_SHARE] and start < server[QUERY_SIZE]:
            give_turn(store, slot, row, 0)
            return EVENT_NONE
        if start == 0:
            server[AHEAD] = 0  # another buffer; and most hold one command, which is best begun at once
        elif server[AHEAD] <= start < server[QUERY_SIZE]:
            look_ahead(store)
        malformed = server[REPLY_LENGTH]
        status = parse_request(store, row)
        if status == INCOMPLETE:
            return EVENT_NONE
        if status == MALFORMED:
            count_error(store, malformed)
            row[FLAGS] |= CLOSE_AFTER_REPLY
            continue
        if status == COMPLETE:
            server[OUTER_REPLY] = server[REPLY_LENGTH]
            event = execute(store, row)
            if event == EVENT_POSTPONED:
                restore_request(store, start)
                row[FLAGS] |= POSTPONED
                server[BLOCKED_CLIENTS] += 1
                return EVENT_NONE
            if event == EVENT_BLOCKED:
                begin_wait(store, row)
                return EVENT_NONE
            if event == EVENT_AGAIN:
                restore_request(store, start)
                give_turn(store, slot, row, 0)
                return EVENT_NONE
            if event != EVENT_NONE:
                return event
            if server[EXEC_SAVED_ADDRESS] == 0:
                _command_over(store, row)
        else:
            server[COMMAND_CYCLES] = cycles()  # an empty line takes time, too


@linked(void(STORE, int64, int64[::1]))
def settle(store, slot, row):  # type: ignore[no-untyped-def]
    """After the last command of this turn: keep what is left of the input, send the replies."""
    server = store.server
    left = server[QUERY_SIZE] - server[INPUT_POSITION]
    if left == 0:
        row[INPUT_START] = row[INPUT_LENGTH] = 0
        if row[INPUT_CAPACITY] > 0:
            drop(row, INPUT_ADDRESS, INPUT_CAPACITY)
    else:
        if server[INPUT_SHARED] == 0:
            row[INPUT_START] = server[INPUT_POSITION]
        elif grow(row, INPUT_ADDRESS, INPUT_CAPACITY, left):
            kept = bytes_at(row[INPUT_ADDRESS], row[INPUT_CAPACITY])
            copy_bytes(kept, 0, query(store), server[INPUT_POSITION], left)
            row[INPUT_LENGTH] = left
        else:
            give_turn(store, slot, row, KILLED)
        if left > server[QUERY_BUFFER_LIMIT]:
            server[QUERY_LIMIT_CLOSED] += 1
            give_turn(store, slot, row, KILLED)
    if server[REPLY_LENGTH] > 0 or row[FLAGS] & CLOSE_AFTER_REPLY:
        flush_reply(store, slot, row)


@linked(int64(STORE, int64))
def go_on(store, slot):  # type: ignore[no-untyped-def]
    """Continue with a connection after Python has answered the command at hand; returns an EVENT."""
    server = store.server
    row = connection(store, slot)
    if server[COMMAND] >= 0:
        _end(store, row, server[COMMAND])
    elif server[COMMAND] == REFUSED:
        count_error(store, server[COMMAND_REPLY])
    server[COMMAND_CYCLES] = cycles()
    if server[EXEC_SAVED_ADDRESS] == 0:
        _command_over(store, row)
    event = run_pipeline(store, slot, row)
    if event != EVENT_NONE:
        return event
    settle(store, slot, row)
    return EVENT_NONE


@linked(int64(STORE, int64, int64[::1]))
def run_input(store, slot, row):  # type: ignore[no-untyped-def]
    """Execute from the connection's own buffer; returns an EVENT."""
    server = store.server
    server[CONNECTION] = slot
    server[DB] = row[DATABASE]
    server[PROTOCOL] = row[SPEAKS]
    server[QUERY_ADDRESS] = row[INPUT_ADDRESS]
    server[QUERY_SIZE] = row[INPUT_LENGTH]
    server[INPUT_POSITION] = server[AHEAD] = row[INPUT_START]
    server[INPUT_SHARED] = 0
    server[TURN_BEGAN] = cycles()
    event = run_pipeline(store, slot, row)
    if event == EVENT_NONE:
        settle(store, slot, row)
    return event


@linked(int64(STORE, int64, int64[::1]))
def receive(store, slot, row):  # type: ignore[no-untyped-def]
    """Read what the socket has and execute it; returns an EVENT.

    Of a connection that waits for a turn nothing is read: it goes on with what it has.
    """
    server = store.server
    if row[FLAGS] & WAITS_FOR_TURN:
        return EVENT_NONE
    before = row[INPUT_LENGTH] - row[INPUT_START]
    address, room = server[SHARED_ADDRESS], server[SHARED_CAPACITY]
    if before > 0:
        if row[INPUT_START] > 0:
            kept = bytes_at(row[INPUT_ADDRESS], row[INPUT_CAPACITY])
            copy_bytes(kept, 0, kept, row[INPUT_START], before)
            row[INPUT_START] = 0
            row[INPUT_LENGTH] = before
        if not grow(row, INPUT_ADDRESS, INPUT_CAPACITY, before + 16384):
            give_turn(store, slot, row, KILLED)
            return EVENT_NONE
        address, room = row[INPUT_ADDRESS] + before, min(row[INPUT_CAPACITY] - before, INPUT_MAX)
    count = recv(int32(row[FD]), address, room, int32(0))
    server[READS_PROCESSED] += 1
    if count <= 0:
        if count == 0 or (errno() != EAGAIN and errno() != EINTR):
            give_turn(store, slot, row, KILLED)
        return EVENT_NONE
    server[NET_INPUT_BYTES] += count
    row[BYTES_IN] += count
    row[ACTIVE_MS] = server[TIMER_MS]
    if before == 0:
        server[CONNECTION] = slot
        server[DB] = row[DATABASE]
        server[PROTOCOL] = row[SPEAKS]
        server[QUERY_ADDRESS] = server[SHARED_ADDRESS]
        server[QUERY_SIZE] = count
        server[INPUT_POSITION] = 0
        server[INPUT_SHARED] = 1
        server[TURN_BEGAN] = cycles()
        event = run_pipeline(store, slot, row)
        if event == EVENT_NONE:
            settle(store, slot, row)
        return event
    row[INPUT_LENGTH] = before + count
    if row[FLAGS] & POSTPONED:
        if row[INPUT_LENGTH] > server[QUERY_BUFFER_LIMIT]:
            server[QUERY_LIMIT_CLOSED] += 1
            give_turn(store, slot, row, KILLED)
        return EVENT_NONE
    return run_input(store, slot, row)


# -------------------------------------------------------------------------------------------------- opening and closing


@kernel
def _is_loopback(address):  # type: ignore[no-untyped-def]
    # Whether this sockaddr is 127.0.0.1, ::1 or ::ffff:127.0.0.1, the addresses that protected mode lets in.
    family = int64(address[0]) | int64(address[1]) << 8
    if family == 2:
        return address[4] == 127 and address[5] == 0 and address[6] == 0 and address[7] == 1
    if family != 10:
        return True
    for i in range(8, 18):
        if address[i] != 0:
            return False
    if address[18] == 255 and address[19] == 255:
        return address[20] == 127 and address[21] == 0 and address[22] == 0 and address[23] == 1
    for i in range(18, 23):
        if address[i] != 0:
            return False
    return address[23] == 1


@kernel
def _refuse(store, fd, text):  # type: ignore[no-untyped-def]
    reply_reset(store)
    reply_raw(store, text, 0, len(text))
    send(int32(fd), store.server[REPLY_ADDRESS], len(text), int32(MSG_NOSIGNAL))
    reply_reset(store)
    close(int32(fd))
    store.server[REJECTED_CONNECTIONS] += 1


@kernel
def _option(store, fd, level, name, value):  # type: ignore[no-untyped-def]
    ints_at(store.server[SCRATCH_ADDRESS], 1)[0] = value
    setsockopt(int32(fd), int32(level), int32(name), store.server[SCRATCH_ADDRESS], int32(4))


@kernel
def _keep_address(store, row, field):  # type: ignore[no-untyped-def]
    # The sockaddr at word 1 of the scratch room goes to the row.
    address = words_at(store.server[SCRATCH_ADDRESS] + 8, ADDRESS_WORDS)
    for i in range(ADDRESS_WORDS):
        row[field + i] = address[i]


@linked(void(STORE, int64, int64))
def accept_connections(store, listener, kind):  # type: ignore[no-untyped-def]
    """Take up to ACCEPTS_PER_EVENT waiting connections."""
    server = store.server
    scratch = server[SCRATCH_ADDRESS]
    for _ in range(ACCEPTS_PER_EVENT):
        ints_at(scratch, 1)[0] = 128
        fd = int64(accept4(int32(listener), scratch + 8, scratch, int32(SOCK_NONBLOCK | SOCK_CLOEXEC)))
        if fd < 0:
            return
        server[TOTAL_CONNECTIONS] += 1
        if kind == LISTEN_TCP and server[PROTECTED] and not _is_loopback(bytes_at(scratch + 8, 128)):
            _refuse(store, fd, DENIED)
            continue
        if server[CONNECTED_CLIENTS] >= server[MAXCLIENTS]:
            _refuse(store, fd, MAX_CLIENTS)
            continue
        if kind == LISTEN_TCP:
            _option(store, fd, IPPROTO_TCP, TCP_NODELAY, 1)
            if server[KEEPALIVE_S] > 0:
                _option(store, fd, SOL_SOCKET, SO_KEEPALIVE, 1)
                _option(store, fd, IPPROTO_TCP, TCP_KEEPIDLE, server[KEEPALIVE_S])
                _option(store, fd, IPPROTO_TCP, TCP_KEEPINTVL, max(1, server[KEEPALIVE_S] // 3))
                _option(store, fd, IPPROTO_TCP, TCP_KEEPCNT, 3)
        identity = server[NEXT_ID]
        server[NEXT_ID] += 1
        flags = UNIX_SOCKET if kind == LISTEN_UNIX else 0
        slot = open_connection(store, fd, identity, flags, server[TIMER_MS])
        if kind == LISTEN_TCP:
            row = connection(store, slot)
            _keep_address(store, row, PEER)
            ints_at(scratch, 1)[0] = 128
            getsockname(int32(fd), scratch + 8, scratch)
            _keep_address(store, row, OWN)
        event = ints_at(scratch, 3)
        event[0] = EPOLLIN
        event[1] = slot
        event[2] = identity & 0x7FFF_FFFF
        if epoll_ctl(int32(server[EPOLL_FD]), int32(EPOLL_CTL_ADD), int32(fd), scratch) != 0:
            close_connection(store, slot)


@linked(int64(STORE))
def serve_turns(store):  # type: ignore[no-untyped-def]
    """Give the first TURNS_LEFT of those who wait their turn: close the killed, go on with input; returns an EVENT."""
    server = store.server
    while server[TURNS_LEFT] > 0:
        server[TURNS_LEFT] -= 1
        slot = take_turn(store)
        row = connection(store, slot)
        if row[FLAGS] & KILLED:
            close_connection(store, slot)
            continue
        answered = row[FLAGS] & UNBLOCKED != 0
        if answered:
            _end_wait(store, row)
        elif row[OUTPUT_LENGTH] > row[OUTPUT_START]:
            keep_output(store, slot, row)
        if answered or (row[INPUT_LENGTH] > row[INPUT_START] and row[FLAGS] & KILLED == 0):
            event = run_input(store, slot, row)
            if event != EVENT_NONE:
                return event
    return EVENT_NONE


# ------------------------------------------------------------------------------------------------ the timer's work


@kernel
def _save_due(store):  # type: ignore[no-untyped-def]
    server = store.server
    if server[SNAPSHOT_ALIVE]:
        return False
    if server[SAVE_WANTED]:
        return server[EXEC_SAVED_ADDRESS] == 0
    if server[LAST_SAVE_OK] == 0 and server[TIMER_MS] - server[LAST_SAVE_TRY_MS] < SAVE_RETRY_MS:
        return False
    points = words_at(server[SAVE_POINTS_ADDRESS], 2 * server[SAVE_POINTS])
    for i in range(server[SAVE_POINTS]):
        if server[DIRTY] >= points[2 * i + 1] and server[TIMER_MS] - server[SAVED_MS] > 1000 * points[2 * i]:
            return True
    return False


@linked(void(STORE))
def resume_postponed(store):  # type: ignore[no-untyped-def]
    """Give a turn to every connection that CLIENT PAUSE held back."""
    server = store.server
    server[PAUSED_UNTIL_MS] = 0
    for slot in range(server[CONNECTION_SLOTS]):
        row = connection(store, slot)
        if row[FLAGS] & IN_USE and row[FLAGS] & POSTPONED:
            row[FLAGS] &= ~POSTPONED
            server[BLOCKED_CLIENTS] -= 1
            give_turn(store, slot, row, 0)


@linked(void(STORE))
def tick(store):  # type: ignore[no-untyped-def]
    """The timer, every TICK_MS: a tenth of the connections' time-outs, a sample for INFO."""
    server = store.server
    now = server[TIMER_MS]
    calibrate(store)
    server[NEXT_TICK_MS] = now + server[TICK_MS]
    server[TIMER_TICKS] += 1
    measure_slowness(store)
    server[TURN_CYCLES] = server[TURN_US] * server[CYCLES_PER_MS] // 1000
    give_back_credit(store)
    if server[PAUSED_UNTIL_MS] != 0 and server[PAUSED_UNTIL_MS] <= now:
        resume_postponed(store)
    for _ in range(min(server[CONNECTION_SLOTS], server[CONNECTION_SLOTS] // 10 + 1)):
        slot = server[SWEEP_SLOT]
        server[SWEEP_SLOT] = (slot + 1) % server[CONNECTION_SLOTS]
        row = connection(store, slot)
        if row[FLAGS] & IN_USE == 0 or row[FLAGS] & (KILLED | POSTPONED | WAITS_FOR_TURN | HELD):
            continue
        if server[TIMEOUT_MS] > 0 and now - row[ACTIVE_MS] > server[TIMEOUT_MS] and row[FLAGS] & BLOCKED == 0:
            give_turn(store, slot, row, KILLED)
        elif row[OUTPUT_LENGTH] > row[OUTPUT_START]:
            keep_output(store, slot, row)
    sample = words_at(server[SAMPLES_ADDRESS] + server[SAMPLE_NEXT] * 32, 4)
    server[SAMPLE_NEXT] = (server[SAMPLE_NEXT] + 1) % SAMPLES
    sample[0] = now
    sample[1] = server[COMMANDS_PROCESSED]
    sample[2] = server[NET_INPUT_BYTES]
    sample[3] = server[NET_OUTPUT_BYTES]


@kernel
def _wait(store, timeout_ms):  # type: ignore[no-untyped-def]
    server = store.server
    ready = epoll_wait(
        int32(server[EPOLL_FD]), server[EVENTS_ADDRESS], int32(server[EVENTS_CAPACITY]), int32(timeout_ms)
    )
    server[READY] = max(int64(ready), 0)
    server[READY_NEXT] = 0
    server[TURNS_LEFT] = -1
    sharers = min(max(1, server[READY] + server[TURNS_PENDING]), SHARES_MAX)
    server[TURN_SHARE] = server[TURN_CYCLES] // sharers
    server[UPKEEP_CYCLES] = cycles()


@linked(int64(STORE))
def serve_event(store):  # type: ignore[no-untyped-def]
    """Serve the next of the events in hand; returns an EVENT."""
    server = store.server
    event = ints_at(server[EVENTS_ADDRESS] + 12 * server[READY_NEXT], 3)
    server[READY_NEXT] += 1
    kinds, slot, identity = int64(event[0]), int64(event[1]), int64(event[2])
    if identity < 0:
        special = -slot - 1
        if special & 3 == WAKE:
            return EVENT_WAKE
        accept_connections(store, special >> 2, special & 3)
        return EVENT_NONE
    row = connection(store, slot)
    if row[FLAGS] & IN_USE == 0 or row[ID] & 0x7FFF_FFFF != identity or row[FLAGS] & KILLED:
        return EVENT_NONE
    if kinds & EPOLLOUT:
        keep_output(store, slot, row)
    if kinds & (EPOLLIN | EPOLLERR | EPOLLHUP) and row[FLAGS] & (KILLED | CLOSE_AFTER_REPLY) == 0:
        return receive(store, slot, row)
    if kinds & (EPOLLERR | EPOLLHUP):
        give_turn(store, slot, row, KILLED)
    return EVENT_NONE


@linked(int64(STORE))
def serve(store):  # type: ignore[no-untyped-def]
    """Serve until something is Python's to do; returns an EVENT.  Hold nothing, and call from one thread only."""
    server = store.server
    while True:
        update_clocks(store)
        if server[RESUME] >= 0:
            slot = server[RESUME]
            server[RESUME] = -1
            event = go_on(store, slot)
            if event != EVENT_NONE:
                return event
        if server[STOPPING]:
            return EVENT_STOP  # before anything is executed that the final snapshot does not hold
        while server[READY_NEXT] < server[READY]:
            event = serve_event(store)
            if event != EVENT_NONE:
                return event
            if server[EXPIRED_STALE_PERC] >= PRESSED:
                upkeep_between(store)
        if server[TURNS_LEFT] < 0:
            server[TURNS_LEFT] = min(server[TURNS_PENDING], TURNS_PER_BATCH)
        if server[TURNS_LEFT] > 0:
            event = serve_turns(store)
            if event != EVENT_NONE:
                return event
        server[LOOP_TURNS] += 1
        if server[TIMER_MS] >= server[NEXT_TICK_MS]:
            tick(store)
        if server[BLOCKED_DEADLINE_MS] != NEVER:
            wake_blocked(store)
        idle = server[READY] == 0 and server[TURNS_PENDING] == 0
        rest_ms = upkeep(store, idle)
        if _save_due(store) and save_begin(store) != 0:
            return EVENT_SAVE
        rest_ms = min(rest_ms, server[NEXT_TICK_MS] - server[TIMER_MS])
        if server[BLOCKED_DEADLINE_MS] != NEVER:
            rest_ms = min(rest_ms, server[BLOCKED_DEADLINE_MS] - server[TIMER_MS])
        _wait(store, 0 if server[TURNS_PENDING] > 0 else max(0, rest_ms))
