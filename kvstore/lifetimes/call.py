"""A call's registers: the command at hand, and where its reply goes."""

(
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
    # a transaction under way, which may pause for a command that Python serves
    EXEC_REMAINING,  # commands still to run; 0 for no transaction
    EXEC_POSITION,
    EXEC_SAVED_ADDRESS,  # the query buffer to return to
    EXEC_SAVED_SIZE,
    EXEC_COMMAND,  # EXEC's own row, and when it began [cycles]: it is accounted for when the last command has run
    EXEC_CYCLES,
    # why the kernel returned
    COMMAND_CYCLES,  # time stamp counter when the command at hand began; between commands, when the last one ended
    COMMAND_REPLY,  # where its reply begins
    OUTER_REPLY,  # where the reply of the command read from the socket begins (EXEC, around those it runs)
    # what commands took: see histogram.py, slowlog.py, latency.py
    REDACTED,  # arguments of the command at hand that are secret, a bit each
) = range(21)
CALL_REGISTERS = 32
assert CALL_REGISTERS >= 21
