"""Declarations of SAVE, BGSAVE, LASTSAVE and SHUTDOWN.

BGSAVE is a kernel, so that Python does not lengthen the pause.  Python words the error when no snapshot could begin.
"""

from kvstore.commands.declaration import Command, Family

_persistence = Family("server", "kvstore.commands.persistence")

COMMANDS = (
    Command(
        _persistence,
        "BGSAVE [SCHEDULE]",
        "Takes a snapshot in the background.",
        since="1.0.0",
        cost="O(N) with N the size of the page tables that a fork copies",
        flags="admin noscript no_async_loading",
        added="SCHEDULE:3.2.2",
        history=(("3.2.2", "Added the `SCHEDULE` option."),),
        kernel="kvstore.durable.saving:bgsave",
        python="images:bgsave",
    ),
    Command(
        _persistence,
        "LASTSAVE",
        "Answers when the last snapshot was completed, as Unix time in seconds.",
        since="1.0.0",
        cost="O(1)",
        flags="loading stale fast",
        tips="nondeterministic_output",
        categories="admin dangerous",
        python="images:lastsave",
    ),
    Command(
        _persistence,
        "SAVE",
        "Takes a snapshot and waits until it is durable.",
        since="1.0.0",
        cost="O(N) with N the size of the data",
        flags="admin noscript no_async_loading no_multi",
        python="images:save",
    ),
    Command(
        _persistence,
        "SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        "Stops the server, with a last snapshot if save points are set.",
        since="1.0.0",
        cost="O(N) with N the size of the data when it saves, else O(1)",
        flags="admin noscript loading stale no_multi allow_busy",
        groups="nosave_save",
        added="NOW:7.0.0 FORCE:7.0.0 ABORT:7.0.0",
        history=(("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers."),),
        python="images:shutdown",
    ),
)
