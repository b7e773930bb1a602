"""The log of refused authentications, shown by ACL LOG.

A refusal that repeats a recent one, the same user by the same command within a minute, is counted in that entry and
does not make a new one.  So a client that guesses passwords does not push out other entries.  The newest entry comes
first; beyond acllog-max-len the oldest is dropped.  Ages and that minute are measured by the monotonic clock; time
stamps are Unix time.
"""

from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

GROUPING_MS = 60_000  # Redis's ACL_LOG_GROUPING_MAX_TIME_DELTA
GROUPING_ENTRIES = 10  # a refusal is compared with so many of the newest entries


class Moment(NamedTuple):
    """A time, by both clocks."""

    unix_ms: int
    timer_ms: int  # monotonic


@dataclass
class Entry:
    """One refusal, or several similar ones."""

    number: int
    inside: str  # "toplevel", or "multi" where EXEC ran the command
    command: bytes
    user: bytes
    client: bytes  # the last one, as CLIENT LIST describes it
    created: Moment
    updated: Moment
    count: int = 1


class AclLog:
    """The entries, newest first."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.denied = 0  # refusals since the start or CONFIG RESETSTAT
        self._next = 0

    def enter(self, inside: str, command: bytes, user: bytes, client: bytes, now: Moment, limit: int) -> None:
        """Record a refusal; keep at most `limit` entries."""
        self.denied += 1
        for at, entry in enumerate(islice(self.entries, GROUPING_ENTRIES)):
            alike = (entry.inside, entry.command, entry.user) == (inside, command, user)
            if alike and now.timer_ms - entry.updated.timer_ms <= GROUPING_MS:
                entry.count, entry.client, entry.updated = entry.count + 1, client, now
                self.entries.insert(0, self.entries.pop(at))
                return
        self.entries.insert(0, Entry(self._next, inside, command, user, client, now, now))
        self._next += 1
        del self.entries[limit:]

    def reset(self) -> None:
        """Forget all entries; their numbers go on."""
        self.entries.clear()
