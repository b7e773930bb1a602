"""A call's registers: the command at hand, and the place of its reply."""

(
    # the command at hand
    ARGC,
    QUERY_ADDRESS,  # of the buffer that the arguments' offsets count from
    QUERY_SIZE,  # [bytes]
    DB,  # the connection's database
    CONNECTION,  # the connection's slot
    PROTOCOL,  # 2 or 3
    OUTER_PROTOCOL,  # while a message is written: that of the reply, see connections/messages.py
    COMMAND,  # row of the command table
    NO_TOUCH,  # the command leaves the access clock alone
    # the reply under construction
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    REPLY_BASE,  # start of the connection's replies; before it are replies to others, not sent yet
    # nesting: see system/nesting.py
    DEPTH,  # number of calls around this one: 0 for a command read from a socket
    ARGS,  # where its arguments begin in `args` [arguments], behind those of the calls around it
    # of a call that EXEC has pushed: its queue, which is the query buffer then
    QUEUE_POSITION,
    QUEUE_REMAINING,  # commands still to run
    # its account: see commands/accounts.py
    COMMAND_CYCLES,  # time stamp counter when the command at hand began; between commands, when the last one ended
    COMMAND_REPLY,  # where its reply begins
    OUTER_REPLY,  # where the reply of the command read from the socket begins (EXEC, around those it runs)
    REDACTED,  # arguments of the command at hand that are secret, a bit each
    # a value that was received into frames: see store/bodies.py
    BODY_ADDRESS,  # of the argument, of which only the first bytes are there; 0 for none
    BODY_ROOT,  # of its sapling, -1 once it has been adopted
    # a read that another thread runs: see wire/wanted.py
    GIVEN_UP_AT,  # address of a word that is not 0 when nobody wants the reply any more; 0 in the owner's calls
    REPLY_MAX,  # bytes of a reply at which it is given up, 0 for no limit
) = range(25)
CALL_REGISTERS = 32
assert CALL_REGISTERS >= 25
