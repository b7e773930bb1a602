"""Serving clients while the store is still being loaded.

Until the image is in memory and verified, the server listens with an empty store.  It serves commands whose declaration
has the flag `loading`, and answers -LOADING to all others, as Redis does.  The loop does not know of this.  It uses
another command table meanwhile, in which the other commands have no kernel, so it leaves them to Python, even those
that MULTI would queue.  No command needs an extra test, then or later.

    threads that read (snapshot/reader.py) ─► a thread that waits for them ─► wake ─► the owner: adopt, the true table
"""

from kvstore.commands import rows
from kvstore.commands.table import COMMANDS
from mmcore.jit import Table


def loading_table(table: Table) -> Table:
    """The loop's command table while the store is being loaded: a row of ROW_WIDTH words for each command."""
    other = Table(len(table), table.width)
    other.words[:] = table.words
    for index, command in enumerate(COMMANDS):
        if command.subcommands or "loading" not in command.flags:
            other[index, rows.ROW_HANDLER] = 0
            # Leave it to Python, queued or not.  No other check may refuse it first, because the store is not known.
            other[index, rows.ROW_FLAGS] |= rows.CONTAINER
            other[index, rows.ROW_FLAGS] &= ~(rows.WRITE | rows.DENY_OOM | rows.TELLS_HEALTH)
    return other
