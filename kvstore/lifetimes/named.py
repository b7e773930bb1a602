"""A named store's row: what is known of the main store, a branch or a snapshot by its name; see branches/named.py.

It is int64[NAMED_WORDS], at store[NAMED_ADDRESS].
"""

(
    KIND,
    NUMBER,  # each gets another one
    NAME,  # address of its bytes
    NAME_SIZE,
    ROW,  # of the table of names
    AFTER,  # address of the named store made next, 0 for none; a list of all
    BEFORE,
    CONTEXT_OF_NAMED,  # address of the context's record
    ORIGIN,  # NUMBER of the store that it was made from
    BASE,  # root, -1 for none
    MADE_MS,  # Unix time
    ENDS_MS,  # when it is dropped; NEVER
    QUOTA,  # MAXMEMORY of BRANCH CREATE [bytes], 0 for none
    USERS,  # connections that use it
    USER_FIRST,  # slot of the first of them, plus 1
    DUE_NEXT,  # address of the store behind it in the list of stores with work left
    IS_DUE,
    RESETS,
    AREA,  # address of the memory for its users, 0 for none
    BASE_LINE,  # address of the line of its base; 0 for none: see branches/lines.py
    ORIGIN_NAME,  # address of the name that its origin had then
    ORIGIN_SIZE,
) = range(22)
NAMED_WORDS = 22
MAIN, BRANCH, SNAPSHOT, DROPPED = range(4)  # values of KIND
