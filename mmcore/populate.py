"""Having memory at hand before it is needed.

Physical memory is reserved whole and taken from the system as frames are first touched.  That first touch is the
owner's to wait for: the system zeroes a huge page, 2 MiB, and on a virtual machine the host may have to find one, which
has been seen to take 10 ms.  A thread that stays a little ahead of FRESH, the first frame never used, touches them
instead; it spends its life in one kernel, so it never asks for the GIL.

    0 ........... FRESH ................ watermark ................ TOTAL
    used          populated, never used  not taken from the system yet

Populating changes no contents, so it needs no agreement with the owner: it may even come too late.  Frames that are
used again need none of this.
"""

import contextlib
import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
from numba import int32, int64, types, void

from mmcore.jit import DISABLED, build, linked
from mmcore.paging import PAGE_SHIFT
from mmcore.space import PhysicalMemory
from mmcore.state import FRESH, MEMORY, TOTAL

AHEAD = 8 << 20  # [bytes]; four huge pages
NICE = 5
PIECE = 512  # frames populated in a call: a huge page
PAUSE_NS = 10_000_000  # between two looks at FRESH when there is nothing to do
_MADV_POPULATE_WRITE = 23  # since Linux 5.14

(
    STOP,  # not 0: the loop ends
    WATERMARK,  # first frame not populated
    AHEAD_FRAMES,
    FAILED,  # not 0: the system does not offer it, the loop has ended
    _TIMESPEC,  # two words, what to sleep
) = range(5)
CONTROL_SIZE = _TIMESPEC + 2


_madvise = types.ExternalFunction("madvise", int32(int64, int64, int32))
_nanosleep = types.ExternalFunction("nanosleep", int32(int64, int64))


@linked(void(MEMORY, int64[::1]))
def populate_loop(mem, control):  # type: ignore[no-untyped-def]
    """Keep AHEAD_FRAMES frames from FRESH on populated, until STOP."""
    memory = int64(mem.bytes.ctypes.data)
    timespec = int64(control.ctypes.data) + 8 * _TIMESPEC
    while control[STOP] == 0:
        fresh, total = mem.frames[FRESH], mem.frames[TOTAL]
        first = max(control[WATERMARK], fresh)
        count = min(min(PIECE, total - first), fresh + control[AHEAD_FRAMES] - first)
        if count <= 0:
            _nanosleep(timespec, 0)
        elif _madvise(memory + (first << PAGE_SHIFT), count << PAGE_SHIFT, int32(_MADV_POPULATE_WRITE)) != 0:
            control[FAILED] = 1
            break
        else:
            control[WATERMARK] = first + count


class Populator:
    """The thread that stays `ahead` bytes ahead of the frames of `memory` that were ever used."""

    def __init__(self, memory: PhysicalMemory, ahead: int = AHEAD, nice: int = NICE) -> None:
        build()
        self._memory = memory
        self._control = np.zeros(CONTROL_SIZE, np.int64)
        self._control[AHEAD_FRAMES] = ahead >> PAGE_SHIFT
        self._control[_TIMESPEC + 1] = PAUSE_NS
        self._nice = nice
        self._thread = threading.Thread(target=self._run, name="populator", daemon=True)
        if not DISABLED:  # without the compiler there is no loop without the GIL
            self._thread.start()

    @property
    def watermark(self) -> int:
        """First frame that was not populated."""
        return int(self._control[WATERMARK])

    @property
    def running(self) -> bool:
        """Whether it goes on; not, where the system does not offer it."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; before the memory is closed."""
        self._control[STOP] = 1
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        populate_loop(self._memory.state, self._control)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
