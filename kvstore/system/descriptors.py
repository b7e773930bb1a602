"""The number of connections that the system's limit of open files allows.

    limit of open files = RESERVED + connections

A process may raise its soft limit up to the hard one.  A privileged process may raise both, up to the system's maximum.
The server asks for the limit that maxclients needs.  If it gets less, it lowers maxclients, and shows the lower value
everywhere.
"""

import logging
import resource
from pathlib import Path

log = logging.getLogger("kvstore")

RESERVED = 32  # listeners, files, pipes: as Redis's CONFIG_MIN_RESERVED_FDS
_MAXIMUM = 1 << 20  # Linux's default, if the system does not say


class TooFewDescriptors(Exception):
    """The limit of open files leaves no room for a single connection."""


def files_max() -> int:
    """The highest limit of open files that the system grants to any process."""
    try:
        return int(Path("/proc/sys/fs/nr_open").read_text())
    except (OSError, ValueError):
        return _MAXIMUM


def clients_max() -> int:
    """The highest possible maxclients, if the limits do not change from outside."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files_max()
    return (most if hard == resource.RLIM_INFINITY else min(hard, most)) - RESERVED


def allow_clients(wanted: int) -> int:
    """Raise the limit of open files for so many connections, or as far as possible; returns how many are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    most = files_max() if hard == resource.RLIM_INFINITY else hard
    for limits in ((needed, max(needed, most)), (min(needed, most), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (OSError, ValueError) as error:
            log.debug("The limit of open files cannot be %d: %s", limits[0], error)
            continue
        return min(wanted, limits[0] - RESERVED)
    return min(wanted, soft - RESERVED)


def clients_at_start(wanted: int) -> int:
    """The effective maxclients of a server configured for `wanted`.  Raises TooFewDescriptors."""
    allowed = allow_clients(wanted)
    if allowed == wanted:
        return wanted
    limit = allowed + RESERVED
    if allowed < 1:
        raise TooFewDescriptors(
            f"Your current 'ulimit -n' of {limit} is not enough for the server to start. "
            f"Please increase your open file limit to at least {wanted + RESERVED}. Exiting."
        )
    log.warning("You requested maxclients of %d requiring at least %d max file descriptors.", wanted, wanted + RESERVED)
    log.warning(
        "Current maximum open files is %d. maxclients has been reduced to %d to compensate for low ulimit. "
        "If you need higher maxclients increase 'ulimit -n'.",
        limit,
        allowed,
    )
    return allowed
