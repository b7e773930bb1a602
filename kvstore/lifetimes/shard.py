"""A shard's registers: data of one loop and its connections, independent of the store that a command works on."""

(
    # the clocks, read once a turn of the loop; see clock.py
    NOW_MS,  # the wall clock: Unix time [ms]
    NOW_US,  # Unix time [us]
    TIMER_MS,  # the monotonic clock [ms], which durations are measured by
    # the store
    RANDOM,  # state of the generator behind RANDOMKEY and sampling
    # statistics, named as INFO has them
    KEYSPACE_HITS,
    KEYSPACE_MISSES,
    EXPIRED_KEYS,
    EXPIRED_SUBKEYS,  # fields of hashes
    ACTIVE_EXPIRE_ENABLED,
    LAZYFREE_PENDING,
    LAZYFREED_OBJECTS,
    EVICTED_KEYS,
    LRU_CLOCK,  # Unix time [s] at the start, and since then by the monotonic clock
    # connections
    CONNECTIONS_ADDRESS,  # of the table
    CONNECTION_SLOTS,  # how many of its rows were ever used
    CONNECTION_CAPACITY,  # and how many there are
    FREE_SLOT,  # first free slot among those used, -1 for none
    NEXT_ID,
    CONNECTED_CLIENTS,
    BLOCKED_CLIENTS,
    MAXCLIENTS,
    # the turn: epoll's answer, and how far it has been served
    EPOLL_FD,
    EVENTS_ADDRESS,
    EVENTS_CAPACITY,
    READY,  # events in hand
    READY_NEXT,  # next to serve
    RESUME,  # slot of the connection to go on with, -1 for none
    # looking again before sleep: see net/epoll.py
    BUSY_POLL_US,  # as configured
    BUSY_CYCLES,
    BUSY_LOOKS,  # so far,
    BUSY_FOUND,  # and those that found something
    BUSY_RECENT,  # of the sample under way
    BUSY_RECENT_FOUND,
    BUSY_REST_LENGTH,  # of the last rest [ms], 0 after a tick in which looking paid
    BUSY_REST_MS,  # until when there is no look, by the monotonic clock
    PLACE_LOOKED,  # when the loop last looked whether its processor is taken away [cycles]: see net/placement.py
    PLACE_SWITCHES,  # how often it had been, by then
    PLACE_MOVES,  # times that the loop has moved
    PLACE_REST_MS,  # how long it will stay after the next move
    PLACE_STAYS_MS,  # until when it stays after the last one
    BUSY_SWITCHES,  # times that the system had taken the processor away, at the last tick
    SENDS_ADDRESS,  # bytes that wait for the end of the turn: int64[SENDS_MAX, SEND_WORDS], see connections/sends.py
    SENDS,
    SENDS_DEFERRED,  # those among them that wait for the end of a command
    MESSAGES_ADDRESS,  # bytes for connections other than the one at hand: see connections/messages.py
    MESSAGES_CAPACITY,
    MESSAGES_LENGTH,
    MONITOR_FIRST,  # slot of the first connection that watches all commands, plus 1; 0 for none
    MONITORS,
    PUBSUB_CLIENTS,
    PUBSUB_HARD_LIMIT,  # of the output of connections with subscriptions, as OUTPUT_HARD_LIMIT of the others
    PUBSUB_SOFT_LIMIT,
    PUBSUB_SOFT_MS,
    TRACKING_CLIENTS,
    TRACKING_KEYS_MAX,  # tracking-table-max-keys, 0 for no limit
    MAXMEMORY_CLIENTS,  # [bytes] of all connections together, 0 for no limit
    EVICTED_CLIENTS,
    DEADLINES_ADDRESS,  # of blocked connections: see connections/deadlines.py
    DEADLINES,
    WANTING_WRITE,  # connections that wait for room to send
    ROWS_SWEPT,  # rows of connections that the timer has looked at
    # connections that wait for a turn without an event, first come first served; see connections/table.py
    TURN_FIRST,  # slots, -1 for none
    TURN_LAST,
    TURNS_PENDING,
    TURNS_RESTING,  # of these, connections that need no turn for a millisecond: store/fresh.py
    TURNS_LEFT,  # of them, those that get their turn before the loop waits again; -1: not counted yet
    # how long a pipeline runs before the others are served, in cycles of the time stamp counter; see net/pipeline.py
    TURN_BEGAN,  # of the connection at hand
    TURN_SHARE,  # of each connection, for as long as these events are served
    TURN_CYCLES,  # of all connections together
    TURN_US,  # as configured
    SHARED_ADDRESS,  # of the buffer that input is received into
    SHARED_CAPACITY,
    CALLS_ADDRESS,  # of the calls around the one at hand: int64[CALLS_MAX, CALL_REGISTERS]
    DECIMAL_ADDRESS,  # room for two numbers and their sum as text; see decimal.py
    SCRATCH_ADDRESS,  # small structures for system calls
    # the connection at hand
    INPUT_POSITION,  # of the next command in the query buffer
    AHEAD,  # offset of the first command in the query buffer that has not been prefetched
    PLACES_ADDRESS,  # found while looking ahead: see store/places.py
    PLACES_NEXT,  # that a command may take,
    PLACES_END,  # and how many there are
    INPUT_SHARED,  # whether that is the shared buffer
    INLINE_ADDRESS,  # room for an inline command as it was received: uint8[LINE_ROOM], see request.py
    # why the kernel returned
    EVENT_DETAIL,
    # the command table
    COMMAND_TABLE_ADDRESS,
    COMMAND_COUNT,
    COMMAND_SLOTS_ADDRESS,
    COMMAND_SLOTS,
    COMMAND_STATISTICS_ADDRESS,
    SUBCOMMAND_SLOTS_ADDRESS,  # subcommands by name and container
    SUBCOMMAND_SLOTS,
    COMMAND_NAMES_ADDRESS,  # uint8[rows, NAME_WIDTH], padded with zeros; see refusals.py
    ERROR_TABLE_ADDRESS,  # error replies by their first word; see commands/accounts.py
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
    PAUSED_UNTIL_MS,  # by the monotonic clock, like all times of the loop
    PAUSED_WRITES_ONLY,
    TICK_MS,  # between timer ticks
    NEXT_TICK_MS,
    TIMER_TICKS,  # so far
    EXPIRE_CALM,  # buckets that active expiry may look at before it rests; see upkeep.py
    EXPIRE_PLANNED_MS,  # when it was last granted some
    EXPIRE_LIVELY_MS,  # until when it looks often, because keys have expired lately
    EXPIRE_CREDIT,  # time that it has saved up while much is due [cycles]
    EXPIRE_CYCLES,  # time that it has taken in all
    EXPIRE_TIME_CAPS,  # how often its time was over and much was still due
    UPKEEP_CYCLES,  # time stamp counter when the loop last woke, or upkeep last ended
    SWEEP_SLOT,  # where the timer's sweep over the connections stands
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
    LOOP_BEGAN_NS,  # processor time of the thread when the turn began, 0 when it is not measured; see net/loop.py
    LOOP_LONGEST_NS,  # the longest turn
    # what the clocks need; see clock.py
    WALL_SHIFT_US,
    TIMER_SHIFT_US,
    LRU_ORIGIN_S,
    CYCLES_ORIGIN,
    CYCLES_ORIGIN_US,
    CYCLES_PER_MS,
    # durations of commands: see histogram.py, slowlog.py, latency.py
    TRANSACTIONS_UNDONE,
    # effects that wait for the end of a transaction: see effects/pending.py
    PENDING_ADDRESS,
    PENDING_CAPACITY,
    PENDING_LENGTH,
    PENDING_LOST,  # memory ran out for one: the transaction has to be undone
    LATENCY_TRACKING,  # whether each command's histogram is kept
    SLOW_US,  # `note_slow` looks at a command that takes as long; the same in cycles
    SLOW_CYCLES,
    SLOWLOG_US,  # it enters the slow log from so many microseconds on, -1 for never
    SLOWLOG_ADDRESS,
    LATENCY_MS,  # events of so many milliseconds are remembered, 0 for none
    LATENCY_ADDRESS,
    HOLDINGS_ADDRESS,  # notes of a transaction that asks for reference counts, 0 for none; see refcounts.py
    HOLDINGS_SLOTS,
    LONG_ADDRESS,  # of memory for a key that lies across pages; see store/collections.py
    LONG_CAPACITY,
    BLOCKED_DEADLINE_MS,  # the first of DEADLINES, by the monotonic clock; NEVER without one
    # up to which size a collection has its small encoding, as configured
    HASH_MAX_LISTPACK_ENTRIES,
    HASH_MAX_LISTPACK_VALUE,
    SET_MAX_INTSET_ENTRIES,
    SET_MAX_LISTPACK_ENTRIES,
    SET_MAX_LISTPACK_VALUE,
    ZSET_MAX_LISTPACK_ENTRIES,
    ZSET_MAX_LISTPACK_VALUE,
    LIST_MAX_LISTPACK_SIZE,  # of a list's node: so many elements, or if negative 4 KiB, 8 KiB, ... 64 KiB for -1 ... -5
    # defragmentation: as configured
    ACTIVE_DEFRAG,
    DEFRAG_IGNORE_BYTES,
    DEFRAG_THRESHOLD_LOWER,
    DEFRAG_THRESHOLD_UPPER,
    DEFRAG_CYCLE_MIN,
    DEFRAG_CYCLE_MAX,
    DEFRAG_MAX_SCAN_FIELDS,
    # its share of the time, and what it has done; see net/upkeep.py
    DEFRAG_RUNNING,  # percent of the time, 0 while it rests
    DEFRAG_LOOK_MS,  # when it is planned next
    DEFRAG_STAMP,  # time stamp counter when time was last granted
    DEFRAG_CREDIT,  # time that it may take [cycles]
    DEFRAG_BEGAN_MS,  # when it began to run
    DEFRAG_RAN_MS,  # for how long it has run in all, until it last rested
    DEFRAG_HITS,  # parts moved
    DEFRAG_MISSES,  # parts looked at that stayed
    DEFRAG_KEY_HITS,  # keys of which a part was moved
    DEFRAG_KEY_MISSES,
    KEY_PLACES_ADDRESS,  # where the commands' keys are: see wire/keyplaces.py; 0 until somebody needs it
    CLIENT_BUFFERS,  # bytes of all connections' own buffers; connections/memory.py adds what else they take
    EVICTION_REST_MS,  # until when no connection is closed for memory, because none may be
    BACKGROUND_CREDIT,  # time that the release of memory may take beside its step a turn [cycles]; see net/upkeep.py
    # stores: see branches/using.py
    MAIN_CONTEXT,  # addresses of the contexts of the main store,
    CONTEXT_AT_HAND,  # and of the store at hand
    DUE_FIRST,  # stores that have been used and may have work left, as a list; 0 for none
    DUE_LAST,
    DIFFS_FIRST,  # address of the first of the comparisons of stores under way: see branches/difference.py; 0 for none
    # long reads, which another thread serves: see store/aside.py
    READ_ASIDE_OVER,  # a read with more work ahead goes aside; NEVER
    READS_ADDRESS,  # of what the two threads share, 0 without a reader
    READS_ASIDE,  # so far,
    READS_IN_PLACE,  # and those that were as long, but could not go
    # clocks of use, of the main store: see store/clocks.py
    CLOCKS_ADDRESS,
    CLOCK_LINES,
    CLOCK_LINES_MAX,
    CLOCK_SCRUBBED,  # the next line whose cells are compared with the keys: see store/clockgrowth.py
    CLOCKS_BEGAN,  # LRU_CLOCK when there were none
    # eviction, as configured: see store/eviction.py
    MAXMEMORY_POLICY,
    MAXMEMORY_SAMPLES,
    EVICTION_TENACITY,
    LFU_LOG_FACTOR,
    LFU_DECAY_TIME,  # [min], 0 for never
    # and what it has done
    EVICTION_POOL_ADDRESS,
    EVICTION_RANDOM,  # random number for the next sample, whose memory is being fetched
    EVICTION_DB,  # where it goes on
    EVICTION_BEGAN_MS,  # since when memory has been above maxmemory; 0 while it is not
    EVICTION_EXCEEDED_MS,  # for how long it has been above, in all, until then
    EVICTION_IDLE_MS,  # until when nothing is evicted, because it had no effect
    # a node of a stream holds no more, 0 for no limit
    STREAM_NODE_MAX_BYTES,
    STREAM_NODE_MAX_ENTRIES,
    HLL_SPARSE_MAX_BYTES,  # of a sketch that stays sparse, as configured
    DUE_HIDDEN,  # COMMANDS_PROCESSED plus one when a due key was last hidden for want of frames: see store/lookup.py
) = range(213)
SHARD_REGISTERS = 256
assert SHARD_REGISTERS >= 213
