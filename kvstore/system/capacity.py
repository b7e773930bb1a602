"""The size of the machine's physical memory: the reserved address space, and the number of frames in force.

    0 ............ in force ............ reserved
    for data       | for copies beside a snapshot, and for commands that remove or overwrite

Reserving costs nothing, because the system provides a frame only when it is first touched.  So the server reserves as
much as can ever be used: the memory of the machine or of the control group, whichever is less, minus the process's need
beside its data, and within the limit of the address space (ulimit -v).  maxmemory is a separate policy and does not
matter here.  `machine-memory` sets how much of the reservation is in force; by default all but an eighth.  An image
that needs more raises it (server/server.py).
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

HUGE_SIZE = 2 << 20  # a mapping of whole huge pages begins at one, since Linux 6.7
RESERVED_LEAST = 64 << 20
BESIDE = 192 << 20  # resident beside the frames: the interpreter, the kernels, buffers
BESIDE_ADDRESSES = 1_000 << 20  # of address space beside the frames, mostly untouched
SPARE_SHARE = 8  # one part in so many of the reservation is never in force


def system_memory() -> int:
    """Memory of this machine [bytes]."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limit_files(root: Path) -> Iterator[Path]:
    # Files that may hold a memory limit of this process's control groups, of both versions, from the innermost out.  In
    # a container the innermost is often mounted in the place of the outermost.
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = base / path.strip("/")
        for place in (group, *group.parents):
            yield place / ("memory.limit_in_bytes" if controllers else "memory.max")
            if place == base:
                break


def group_limit(root: Path = Path("/")) -> int | None:
    """The lowest memory limit of this process's control groups [bytes]; None without one."""
    limits = []
    for file in _limit_files(root):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # not "max"
            limits.append(int(text))
    return min(limits, default=None)


def address_limit() -> int | None:
    """The limit of the address space, ulimit -v [bytes]; None without one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def in_force(configured: int, reserved: int) -> int:
    """How much of `reserved` is in force [bytes], with machine-memory `configured` (0: not)."""
    most = reserved - reserved // SPARE_SHARE
    return min(configured, most) if configured else most


def reservation(configured: int, memory: int, group: int | None, addresses: int | None) -> int:
    """How much to reserve [bytes].  Raises MemoryError, with a hint, if not even the least can be reserved."""
    there = max(RESERVED_LEAST, min(memory, memory if group is None else group) - BESIDE)
    wanted = -(-max(there, configured + -(-configured // (SPARE_SHARE - 1))) // HUGE_SIZE) * HUGE_SIZE
    if addresses is not None:
        room = addresses - BESIDE_ADDRESSES
        if room < RESERVED_LEAST:
            least = BESIDE_ADDRESSES + RESERVED_LEAST
            raise MemoryError(
                f"the address space is limited to {addresses} bytes, and the server takes {least} at least: raise the "
                f"limit (ulimit -v {least >> 10})"
            )
        wanted = min(wanted, max(RESERVED_LEAST, room - room // 8))
    return wanted // HUGE_SIZE * HUGE_SIZE


def memory_to_reserve(configured: int) -> int:
    """The result of `reservation` for this process on this machine."""
    return reservation(configured, system_memory(), group_limit(), address_limit())
