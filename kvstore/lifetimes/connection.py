"""A connection's row: the shard's data about each of its connections.

A row is int64[FIELDS].  connections/table.py has the table of rows, and opens and closes connections.
"""

(
    FD,
    ID,
    FLAGS,
    DATABASE,
    SPEAKS,  # protocol, 2 or 3
    CREATED_MS,  # by the monotonic clock, as all times here
    ACTIVE_MS,  # last time something was received
    # bytes received and not yet executed
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_START,
    INPUT_LENGTH,  # end of these bytes, which begin at INPUT_START
    SCAN_POSITION,  # of an unfinished command: how far it has been scanned,
    SCAN_ARGUMENTS,  # and how many of its arguments are still to come (-1: not begun)
    # replies that the socket has not taken yet
    OUTPUT_ADDRESS,
    OUTPUT_CAPACITY,
    OUTPUT_START,
    OUTPUT_LENGTH,  # end of the pending bytes, which begin at OUTPUT_START
    OUTPUT_SOFT_SINCE_MS,  # since when they have been above the soft limit
    # bytes that wait for the end of the turn, as a list of records (net/output.py): numbers plus 1, 0 for none
    SEND_FIRST,
    SEND_LAST,
    DEFERRED_FIRST,  # messages that came while a command of this connection runs: they go behind its reply
    DEFERRED_LAST,
    # Commands queued since MULTI, serialised by transactions.py; while BLOCKED, the command that waits; between two
    # turns of an XREADGROUP its record (commands/streams/deliveries.py).
    QUEUE_ADDRESS,
    QUEUE_CAPACITY,
    QUEUE_LENGTH,
    QUEUE_COUNT,
    QUEUE_FLAGS,  # of all commands queued, together
    QUEUE_ARGUMENTS,  # of those that write: how many, and their bytes
    QUEUE_BYTES,  # while BLOCKED: the time that the command has taken so far [cycles]
    WATCH_FIRST,  # its watches: interests, as those below
    WATCH_COUNT,
    # The progress of a command that goes on in its next turn: arguments of a WATCH, entries of a DELCONSUMER or an
    # XTRIM; 1 while an XREADGROUP has a record in the queue buffer.
    PART_DONE,
    LAST_COMMAND,  # row of the command table
    NEXT_FREE,  # while the slot is free: the next free slot
    NEXT_TURN,  # while it waits for a turn: the slot behind it, -1 for none
    COMMANDS,  # executed
    BYTES_IN,
    BYTES_OUT,
    BLOCKED_UNTIL_MS,  # while BLOCKED, by the monotonic clock; a command that blocks leaves its time-out here, or 0
    DEADLINE_PLACE,  # in the heap of deadlines, plus 1; 0 for none (connections/deadlines.py)
    BLOCKED_KIND,  # while BLOCKED on keys: the type of value that it waits for, plus 1; else 0
    BLOCKED_ANSWER,  # how its command is answered when its time is over: an ANSWER of below
    # its interests (connections/interests.py): the first one plus 1, and how many
    KEYS_FIRST,  # keys that it waits for
    KEYS_COUNT,
    CHANNELS_FIRST,
    CHANNELS_COUNT,
    PATTERNS_FIRST,
    PATTERNS_COUNT,
    SHARD_CHANNELS_FIRST,
    SHARD_CHANNELS_COUNT,
    TRACKED_FIRST,  # keys whose changes it is to be told, because it may hold them in a cache
    TRACKED_COUNT,
    PREFIXES_FIRST,
    PREFIXES_COUNT,
    REDIRECT,  # id of the connection that is told in its place, 0 for itself
    MONITOR_NEXT,  # slots of the connections that watch all commands, plus 1, as a list
    MONITOR_BEFORE,
    HELD_FOR,  # number of the snapshot that it is held for, while HELD
    # texts that the client has set: addresses of bytes that end with zero, 0 for none
    NAME,
    LIB_NAME,
    LIB_VER,
    # a value that is received into frames: see net/bodies.py
    BODY_ROOT_PLUS_1,  # of its sapling; 0 for none
    BODY_AT,  # offset of the value from the beginning of its command
    BODY_SIZE,
    BODY_DONE,  # bytes of it that have been received
    BODY_PAGES,  # that the sapling has
    BODY_WAITS_MS,  # since when the next pages wait to be populated, 0 if they do not
    CONTEXT_OF,  # address of the context of the store that it uses
    # the connections that use the same store, unless that is the main one; slots plus 1
    NEXT_USER,
    BEFORE_USER,
    PIECES,  # address of what it is sent before its own output, 0 for none: see connections/pieces.py
    PEER,  # the client's address and our own, as struct sockaddr: the first ADDRESS_WORDS words of it each
) = range(72)
ADDRESS_WORDS = 4  # a sockaddr_in6 has 28 bytes
OWN = PEER + ADDRESS_WORDS
FIELDS = OWN + ADDRESS_WORDS
REDIRECT_SLOT = NEXT_FREE  # while its own slot is in use: that of the connection in REDIRECT
IN_USE = 1 << 0
AUTHENTICATED = 1 << 1
MULTI = 1 << 2
DIRTY_EXEC = 1 << 3  # a command was refused while queueing: EXEC aborts
DIRTY_CAS = 1 << 4  # a watched key was changed: EXEC answers null
CLOSE_AFTER_REPLY = 1 << 5
REPLY_OFF = 1 << 6
REPLY_SKIP = 1 << 7  # no reply to the command at hand
REPLY_SKIP_NEXT = 1 << 8  # nor to the next one
NEVER = 0x7FFF_FFFF_FFFF_FFFF  # a deadline
NO_TOUCH_MODE = 1 << 9
NO_EVICT = 1 << 10
UNIX_SOCKET = 1 << 11
POSTPONED = 1 << 12  # CLIENT PAUSE holds its next command back
WANTS_WRITE = 1 << 13  # EPOLLOUT is asked for
KILLED = 1 << 14  # to be closed at the end of the turn
WAITS_FOR_TURN = 1 << 15  # the loop is to look at it in this turn without an event: see `give_turn`
MUTED = 1 << 30  # EPOLLIN is not asked for: see net/muting.py
HELD = 1 << 16  # until the snapshot numbered HELD_FOR has ended: see `hold`
BLOCKED = 1 << 17  # waits in a command; its input is kept meanwhile
AFTERWARDS = 1 << 20  # something is to be done when its command is over: see net/afterwards.py
SUBSCRIBER = 1 << 21  # has a channel, a pattern or a shard channel
MONITOR_MODE = 1 << 22
TRACKING = 1 << 23
TRACKING_BCAST = 1 << 24  # by prefixes of keys, not by what it has read
TRACKING_OPTIN = 1 << 25
TRACKING_OPTOUT = 1 << 26
TRACKING_CACHING = 1 << 27  # CLIENT CACHING, for the command that follows
TRACKING_NOLOOP = 1 << 28
TRACKING_BROKEN = 1 << 29  # the connection that is told in its place has gone
MOVED = 1 << 18  # it uses another store from its next command on
STORE_LOST = 1 << 19  # the store that it used was dropped
TRACKING_FLAGS = (
    TRACKING | TRACKING_BCAST | TRACKING_OPTIN | TRACKING_OPTOUT | TRACKING_CACHING | TRACKING_NOLOOP | TRACKING_BROKEN
)
# Answers of a command whose time is over, in BLOCKED_ANSWER; a read that another thread runs has no such time
ANSWER_ZERO, ANSWER_NULL_ARRAY, ANSWER_OK, ANSWER_READ = range(4)
