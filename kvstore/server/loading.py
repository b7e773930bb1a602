"""A store that is still being loaded, and clients that are served meanwhile.

Until the image is in memory, and verified, the server listens, and its store is an empty one.  Commands whose row in
the table says `loading` are served; every other is answered -LOADING, as Redis does.  The loop knows nothing of this:
for that time it has another command table, in which the others have no kernel, so that it leaves them to Python, also
those that MULTI would queue.  Nothing is tested per command, before or afterwards.

    threads that read (snapshot/reader.py) ─► a thread that waits for them ─► wake ─► the owner: adopt, the true table
"""

from kvstore.commands import rows
from kvstore.commands.table import COMMANDS
from mmcore.jit import Table


def loading_table(table: Table) -> Table:
    """The loop's command table, a row of ROW_WIDTH a command, for as long as the store is not there."""
    other = Table(len(table), table.width)
    other.words[:] = table.words
    for index, command in enumerate(COMMANDS):
        if command.subcommands or "loading" not in command.flags:
            other[index, rows.ROW_HANDLER] = 0
            # Python is asked, queueing or not; nothing else is to refuse it first, for nothing is known of the store.
            other[index, rows.ROW_FLAGS] |= rows.CONTAINER
            other[index, rows.ROW_FLAGS] &= ~(rows.WRITE | rows.DENY_OOM | rows.TELLS_HEALTH)
    return other
