"""The state that every kernel of the server takes: the store's address space, the server's registers, the arguments.

`server` is one int64 array; each of its words has a name here.  `args` holds the command at hand: for argument i its
offset in the query buffer and its length, at 2*i and 2*i+1.  Argument 0 is the command's name.
"""

from dataclasses import dataclass

from mmcore.jit import Array, Plain, Record, int64, state_type
from mmcore.state import SPACE, Space


@dataclass(frozen=True, slots=True, eq=False)
class Store(Record):
    """What a kernel of the server takes first."""

    space: Space  # the address space that holds the data
    server: Array  # int64[REGISTERS]
    args: Array  # int64[2 * ARGUMENTS_MAX]


STORE = state_type(Store, SPACE, Plain(int64), Plain(int64))
HANDLER = int64(STORE)  # a command's signature
# and what it returns: it has replied; Python is to; its connection has to wait; or it has done some of its work and
# replied nothing, and is to be begun again in the next turn, which it never says within a transaction
SERVED, FOR_PYTHON, BLOCKS, AGAIN = 0, 1, 9, 10

REGISTERS = 256
ARGUMENTS_MAX = 1 << 24  # arguments of one command; the array is touched only as far as it is used

(
    # the clocks, read once a turn of the loop; see clock.py
    NOW_MS,  # the wall clock: Unix time [ms]
    NOW_US,  # Unix time [us]
    TIMER_MS,  # the monotonic clock [ms], which durations are measured by
    # the command at hand
    ARGC,
    QUERY_ADDRESS,  # of the buffer that the arguments' offsets count from
    QUERY_SIZE,  # [bytes]
    DB,  # the connection's database
    CONNECTION,  # the connection's slot
    PROTOCOL,  # 2 or 3
    COMMAND,  # row of the command table
    NO_TOUCH,  # the command leaves the access clock alone
    # the reply under construction
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    # the store
    DIRTY,  # changes since the last durable snapshot
    MAXMEMORY,  # [bytes], 0 = no limit
    SNAPSHOT_ALIVE,  # a frozen image is being read: reads leave the access clock alone, the index does not shrink
    WATCHES,  # keys watched by all connections together
    RANDOM,  # state of the generator behind RANDOMKEY and sampling
    # statistics, named as INFO has them
    KEYSPACE_HITS,
    KEYSPACE_MISSES,
    EXPIRED_KEYS,
    EXPIRED_STALE_PERC,  # of the deadlines that active expiry looked at lately, how many were due [1/1000 %]
    DEADLINES_MET,  # that active expiry has looked at
    ACTIVE_EXPIRE_ENABLED,
    LAZYFREE_PENDING,
    LAZYFREED_OBJECTS,
    EVICTED_KEYS,
    LRU_CLOCK,  # Unix time [s] at the start, and since then by the monotonic clock
    HASH_SEED,  # the store's
    RELEASE_COUNT,  # old roots waiting to be released, in the ring at RELEASE_ADDRESS; see flush.py
    RELEASE_FIRST,
    RELEASE_ADDRESS,
    EXPIRE_DB,  # the database that active expiry stands in
    EXPIRE_BUCKET,  # and its next bucket there
    FRAMES_IN_FORCE,  # that the store may take in all; see reserve.py
    GIVE_CREDIT,  # frames to give back to the system before the next tick; see flush.py
    GIVE_ALL,  # MEMORY PURGE: none are kept
    # the loop's own: see loop.py
    LOOP_FIRST,
) = range(39)

(
    # connections
    CONNECTIONS_ADDRESS,  # of the table
    CONNECTION_SLOTS,  # how many of its rows were ever used
    CONNECTION_CAPACITY,  # and how many there are
    FREE_SLOT,  # first free slot among those used, -1 for none
    NEXT_ID,
    CONNECTED_CLIENTS,
    BLOCKED_CLIENTS,
    MAXCLIENTS,
    # watches
    WATCH_TABLE_ADDRESS,
    WATCH_CAPACITY,
    WATCH_USED,  # rows of the table that were ever taken
    WATCH_FREE,  # first free one among them, -1 for none
    WATCH_HEADS_ADDRESS,
    WATCH_HEADS_CAPACITY,
    WATCH_CHAINS,
    # the turn: epoll's answer, and how far it has been served
    EPOLL_FD,
    EVENTS_ADDRESS,
    EVENTS_CAPACITY,
    READY,  # events in hand
    READY_NEXT,  # next to serve
    RESUME,  # slot of the connection to go on with, -1 for none
    # connections that wait for a turn without an event, first come first served; see connections.py
    TURN_FIRST,  # slots, -1 for none
    TURN_LAST,
    TURNS_PENDING,
    TURNS_LEFT,  # of them, those that get their turn before the loop waits again; -1: not counted yet
    # how long a pipeline runs before the others are served, in cycles of the time stamp counter; see loop.py
    TURN_BEGAN,  # of the connection at hand
    TURN_SHARE,  # of each connection, for as long as these events are served
    TURN_CYCLES,  # of all connections together
    TURN_US,  # as configured
    SHARED_ADDRESS,  # of the buffer that input is received into
    SHARED_CAPACITY,
    DECIMAL_ADDRESS,  # room for two numbers and their sum as text; see decimal.py
    SCRATCH_ADDRESS,  # small change for system calls
    # the connection at hand
    INPUT_POSITION,  # of the next command in the query buffer
    AHEAD,  # where in the query buffer commands begin that were not looked ahead to
    INPUT_SHARED,  # whether that is the shared buffer
    INLINE_ADDRESS,  # room for an inline command as it was received: uint8[LINE_ROOM], see request.py
    # a transaction under way, which may pause for a command that Python serves
    EXEC_REMAINING,  # commands still to run; 0 for no transaction
    EXEC_POSITION,
    EXEC_SAVED_ADDRESS,  # the query buffer to return to
    EXEC_SAVED_SIZE,
    EXEC_COMMAND,  # EXEC's own row, and when it began [cycles]: it is accounted for when the last command has run
    EXEC_CYCLES,
    # why the kernel returned
    EVENT_DETAIL,
    COMMAND_CYCLES,  # time stamp counter when the command at hand began; between commands, when the last one ended
    COMMAND_REPLY,  # where its reply begins
    OUTER_REPLY,  # where the reply of the command read from the socket begins (EXEC, around those it runs)
    # the command table
    COMMAND_TABLE_ADDRESS,
    COMMAND_COUNT,
    COMMAND_SLOTS_ADDRESS,
    COMMAND_SLOTS,
    COMMAND_STATISTICS_ADDRESS,
    SUBCOMMAND_SLOTS_ADDRESS,  # subcommands by name and container
    SUBCOMMAND_SLOTS,
    COMMAND_NAMES_ADDRESS,  # uint8[rows, NAME_WIDTH], padded with zeros; see refusals.py
    ERROR_TABLE_ADDRESS,  # error replies by their first word; see loop.py
    # limits and modes
    REQUIRE_AUTH,
    PROTECTED,
    TIMEOUT_MS,
    KEEPALIVE_S,
    UNIX_PATH_ADDRESS,  # of the Unix socket's path, and how long that is
    UNIX_PATH_LENGTH,
    PROTO_MAX_BULK_LEN,
    QUERY_BUFFER_LIMIT,
    OUTPUT_HARD_LIMIT,
    OUTPUT_SOFT_LIMIT,
    OUTPUT_SOFT_MS,
    WRITES_REFUSED,  # MISCONF: the last snapshot failed and stop-writes-on-bgsave-error is set
    PAUSED_UNTIL_MS,  # by the monotonic clock, as all that the loop times
    PAUSED_WRITES_ONLY,
    TICK_MS,  # between timer ticks
    NEXT_TICK_MS,
    TIMER_TICKS,  # so far
    EXPIRE_CALM,  # buckets that active expiry may look at before it rests; see upkeep.py
    EXPIRE_PLANNED_MS,  # when it was last granted some
    EXPIRE_LIVELY_MS,  # until when it looks often, because keys have expired lately
    EXPIRE_CREDIT,  # time that it has saved up while much is [cycles]
    EXPIRE_CYCLES,  # time that it has taken in all
    EXPIRE_TIME_CAPS,  # how often its time was over and much was still due
    UPKEEP_CYCLES,  # time stamp counter when the loop last woke, or upkeep last ended
    SWEEP_SLOT,  # where the timer's sweep over the connections stands
    SAVE_POINTS_ADDRESS,  # (seconds, changes) pairs
    SAVE_POINTS,
    LAST_SAVE_MS,  # the end of the last good snapshot, by the wall clock,
    SAVED_MS,  # and by the monotonic one
    LAST_SAVE_TRY_MS,  # by the monotonic clock
    LAST_SAVE_OK,
    SAVE_WANTED,  # a BGSAVE asked for inside a transaction, or scheduled
    TICKET_ADDRESS,  # of the snapshotter's ticket; see snapshot/begin.py
    DIRTY_AT_FORK,  # DIRTY when the snapshot under way was begun
    STOPPING,
    # statistics
    TOTAL_CONNECTIONS,
    REJECTED_CONNECTIONS,
    COMMANDS_PROCESSED,
    NET_INPUT_BYTES,
    NET_OUTPUT_BYTES,
    ERROR_REPLIES,
    READS_PROCESSED,
    WRITES_PROCESSED,
    QUERY_LIMIT_CLOSED,
    OUTPUT_LIMIT_CLOSED,
    SAMPLES_ADDRESS,  # ring of (TIMER_MS, commands, bytes in, bytes out), one a tick
    SAMPLE_NEXT,
    LOOP_TURNS,
    # what the clocks need; see clock.py
    WALL_SHIFT_US,
    TIMER_SHIFT_US,
    LRU_ORIGIN_S,
    CYCLES_ORIGIN,
    CYCLES_ORIGIN_US,
    CYCLES_PER_MS,
    # what commands took: see histogram.py, slowlog.py, latency.py
    LATENCY_TRACKING,  # whether each command's histogram is kept
    SLOW_US,  # a command that takes as long is looked at by `note_slow`; the same in cycles
    SLOW_CYCLES,
    SLOWLOG_US,  # it enters the slow log from so many microseconds on, -1 for never
    SLOWLOG_ADDRESS,
    LATENCY_MS,  # events of so many milliseconds are remembered, 0 for none
    LATENCY_ADDRESS,
    REDACTED,  # arguments of the command at hand that are secret, a bit each
    HOLDINGS_ADDRESS,  # notes of a transaction that asks for reference counts, 0 for none; see refcounts.py
    HOLDINGS_SLOTS,
    # connections that wait in a blocking command
    BLOCKED_DEADLINE_MS,  # first time at which one of them has waited long enough, by the monotonic clock
    LOOP_END,
) = range(LOOP_FIRST, LOOP_FIRST + 122)
assert LOOP_END < REGISTERS
