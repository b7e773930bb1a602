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
    WAITING,  # its replies that wait for the end of the turn
    # commands queued since MULTI, serialised by transactions.py
    QUEUE_ADDRESS,
    QUEUE_CAPACITY,
    QUEUE_LENGTH,
    QUEUE_COUNT,
    QUEUE_FLAGS,  # of all commands queued, together
    QUEUE_ARGUMENTS,  # of those that write: how many, and their bytes
    QUEUE_BYTES,
    WATCH_FIRST,  # first of the connection's watches, -1 for none
    WATCH_COUNT,
    WATCH_DONE,  # the argument that a WATCH under way goes on with in its next turn, 0 for none
    LAST_COMMAND,  # row of the command table
    NEXT_FREE,  # while the slot is free: the next free slot
    NEXT_TURN,  # while it waits for a turn: the slot behind it, -1 for none
    COMMANDS,  # executed
    BYTES_IN,
    BYTES_OUT,
    BLOCKED_UNTIL_MS,  # while BLOCKED, by the monotonic clock; a command that blocks leaves its time-out here, or 0
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
    PEER,  # the client's address and our own, as struct sockaddr: the first ADDRESS_WORDS words of it each
) = range(47)
ADDRESS_WORDS = 4  # a sockaddr_in6 has 28 bytes
OWN = PEER + ADDRESS_WORDS
FIELDS = OWN + ADDRESS_WORDS
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
HELD = 1 << 16  # until the snapshot numbered HELD_FOR has ended: see `hold`
BLOCKED = 1 << 17  # waits in a command; its input is kept meanwhile
UNBLOCKED = 1 << 18  # BLOCKED, and has waited long enough: its next turn answers
UNBLOCKED_BY_ERROR = 1 << 19  # likewise, with an error: CLIENT UNBLOCK asked for that
