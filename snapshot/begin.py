"""The beginning of a snapshot, the only part that stops the owner: fork, and wake the writer's thread.

One kernel does both.  A detour through Python would cost some hundred microseconds when its code is not in the
processor's cache; the fork costs a few.  An event loop that is itself a kernel can call this one directly.  The kernel
leaves the data for the writer's thread and for Python in the ticket.  The owner's thread writes the ticket until it
wakes the writer.  After that nobody writes it until the owner has taken the outcome, with one exception: the owner may
set GIVEN_UP at any time.
"""

from mmcore.fork import fork
from mmcore.jit import external, int32, int64, linked
from mmcore.state import EPOCH, PAGES_COPIED, SPACE, TABLES_COPIED

(
    ROOT,  # of the frozen tree, -1 while no snapshot is being written
    MODE,  # of the fork
    WAKE,  # an eventfd: the writer's thread waits for it
    STARTED,  # number of snapshots so far
    AT_EPOCH,  # the epoch that the fork ended
    AT_NS,  # time of the fork, by the monotonic clock
    FORK_NS,  # duration of the last fork
    PAUSE_NS,  # the same, including the waking of the thread
    PAGES_BEFORE,  # the space's counters at the fork
    TABLES_BEFORE,
    GIVEN_UP,  # not 0: the image is not wanted any more; the writer ends soon and leaves none
    _ONE,  # the value to write to the eventfd
    _CLOCK,  # seconds, nanoseconds
    _CLOCK_NS,
) = range(14)
TICKET_WORDS = 16
RUNNING = 1

_CLOCK_MONOTONIC = 1
_S_NS = 1_000_000_000
_clock_gettime = external("clock_gettime", int32(int32, int64))
_write = external("write", int64(int32, int64, int64))


@linked(int64(int64[::1]))
def _now_ns(ticket):  # type: ignore[no-untyped-def]
    _clock_gettime(int32(_CLOCK_MONOTONIC), int64(ticket.ctypes.data) + 8 * _CLOCK)
    return ticket[_CLOCK] * _S_NS + ticket[_CLOCK_NS]


@linked(int64(SPACE, int64[::1]))
def begin(space, ticket):  # type: ignore[no-untyped-def]
    """Freeze the space and start writing it.  Returns 0, or RUNNING or NO_FRAME with nothing changed."""
    if ticket[ROOT] >= 0:
        return RUNNING
    cpu = space.cpu
    begun = _now_ns(ticket)
    ticket[AT_NS] = begun
    ticket[AT_EPOCH] = cpu[EPOCH]
    ticket[PAGES_BEFORE] = space.processor[PAGES_COPIED]
    ticket[TABLES_BEFORE] = space.processor[TABLES_COPIED]
    ticket[GIVEN_UP] = 0
    root = fork(space, ticket[MODE])
    ticket[FORK_NS] = _now_ns(ticket) - begun
    if root < 0:
        return root
    ticket[ROOT] = root
    ticket[STARTED] += 1
    ticket[_ONE] = 1
    _write(int32(ticket[WAKE]), int64(ticket.ctypes.data) + 8 * _ONE, 8)
    ticket[PAUSE_NS] = _now_ns(ticket) - begun
    return 0
