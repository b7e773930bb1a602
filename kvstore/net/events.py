"""EVENT codes: the reasons why the kernel `serve` returns to Python, and the next step that its parts agree on.

    EVENT_COMMAND   Python serves the command at hand (ARGC, args) of connection CONNECTION, and appends its reply to
                    the reply buffer; EVENT_DETAIL is the row of the command table
    EVENT_HTTP      the connection at hand spoke HTTP and is closed; Python logs that
    EVENT_WAKE      the wake-up descriptor is readable: a signal came, or a snapshot's writer has news
    EVENT_SAVE      a snapshot was due, by a save point or on request of a transaction, and could not be begun
    EVENT_STOP      STOPPING is set
    EVENT_QUEUE     the command at hand has subcommands and is to be queued: Python says whether it is well-formed

A command's kernel returns an EVENT, too: NONE when it has replied, COMMAND when Python has to serve this form of the
command, BLOCKED when the connection has to wait.
"""

from kvstore.lifetimes.context import AGAIN, BLOCKS

EVENT_NONE, EVENT_COMMAND, EVENT_HTTP, EVENT_WAKE, EVENT_SAVE, EVENT_STOP, EVENT_QUEUE = range(7)
EVENT_POSTPONED = 8  # never reaches Python: CLIENT PAUSE holds the command back
EVENT_BLOCKED = BLOCKS  # likewise: the connection waits, for as long as its kernel left in BLOCKED_UNTIL_MS
EVENT_AGAIN = AGAIN  # likewise: the command has done a part of its work, and is called again in the next turn
