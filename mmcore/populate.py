"""Populating memory before it is needed.

Physical memory is reserved whole, and the system provides it as frames are first touched.  The owner waits for each
such first touch: the system zeroes a huge page of 2 MiB, and on a virtual machine the host may have to find one, which
has been seen to take 10 ms.  The populator is a thread that touches frames instead of the owner.  It stays a little
ahead of FRESH, the first frame never used.  It spends its life in one kernel, so it never needs the GIL.

    0 ........... FRESH ................ watermark ................ TOTAL
    used          populated, never used  not taken from the system yet

It looks every PAUSE_MS.  An owner that can wait for fresh frames asks `is_populated`, and lets it look at once
(`populate_now`).

Runs that were given back to the system (giveback.py) are used before frames that were never used, so the thread also
populates the first run of their list.  Populating changes no contents, so it needs no synchronisation with the owner:
it may even come too late.

The same thread advises the system where not to use huge pages.  Where frames in use and frames given back lie side by
side, khugepaged would join them into a huge page again and thus undo the giving back.  From time to time the thread
examines all blocks.  It advises against huge pages in blocks with at least SPARSE frames given back, and for huge pages
again once a block has fewer, or is about to be populated as a run.  It reads the blocks' words while the owner changes
them; a stale word only makes the advice come too early or too late.

A part that was given back splits the huge page that the block was for the system.  Once such a block is in use again,
but for SPARSE frames, it is joined into a huge page, one each pause.  khugepaged would need hours for that, and until
then every access to the block may miss the processor's TLB: a GET costs a sixth more.  To join copies 2 MiB.  The owner
waits for it only if it touches that block meanwhile.
"""

import os
import select
import threading
from types import TracebackType
from typing import Self

from mmcore.frames import (
    BLOCK_COUNT,
    BLOCK_EMPTY,
    BLOCK_SHIFT,
    BLOCK_SPLIT,
    BLOCK_STATE,
    BLOCK_WORDS,
    PARTIAL_OR_NONE,
)
from mmcore.jit import DISABLED, address_of, boolean, build, external, int32, int64, kernel, linked, uint8, void, zeros
from mmcore.memory import PhysicalMemory
from mmcore.paging import PAGE_SHIFT, RUN_FRAMES
from mmcore.priority import step_back
from mmcore.state import EMPTY_RUNS, FRESH, MEMORY, PARTIAL_HEAD, TOTAL, USED_RUNS

SPARSE = 64  # frames
ADVICES_MAX = 16_384  # most blocks advised against huge pages: each may cost the system a mapping of its own
AHEAD = 8 << 20  # [bytes]; four huge pages
NICE = 5
PIECE = 512  # frames populated per call: a huge page
PAUSE_MS = 10  # between two looks at FRESH when there is nothing to do
_PAUSES_PER_LOOK = 100  # pauses between two examinations of the blocks
_MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 14, 15
_MADV_POPULATE_WRITE = 23  # since Linux 5.14
_MADV_COLLAPSE = 25  # since Linux 6.1
REFUSED_MAX = 1000  # refusals in a row, after which nobody asks again; then khugepaged joins them some day
HUGE, SMALL, TO_JOIN = range(3)  # of a block: huge pages are advised; are not; and the block is to become one

(
    STOP,  # not 0: the loop ends
    WATERMARK,  # first frame not populated
    AHEAD_FRAMES,
    FAILED,  # not 0: the system does not support populating, and the loop has ended
    RUN_READY,  # block of the run that was populated last, -1 for none
    HUGE_PAGES,  # 0: the memory is nowhere advised for huge pages
    ADVISED,  # number of blocks advised against huge pages
    JOINING,  # number of blocks that are to be joined
    REFUSED,  # how often in a row the system has refused to join one
    _PAUSES,  # since the last examination of the blocks
    PAUSE,  # [ms] between two looks
    POLLED,  # a struct pollfd, of an eventfd
    _COUNT,  # of the eventfd, when it is read,
    _ONE,  # and when it is written, by the owner
) = range(14)
CONTROL_SIZE = 14
_POLLIN_SHIFT = 32  # place of POLLIN in a struct pollfd, whose first half is the descriptor


_madvise = external("madvise", int32(int64, int64, int32))
_poll = external("poll", int32(int64, int64, int32))
_read = external("read", int64(int32, int64, int64))
_write = external("write", int64(int32, int64, int64))


@kernel
def _advise(mem, first, count, advice):  # type: ignore[no-untyped-def]
    address = int64(mem.bytes.ctypes.data) + (first << PAGE_SHIFT)
    return _madvise(address, count << PAGE_SHIFT, int32(advice)) == 0


@kernel
def _set_state(control, small, block, state):  # type: ignore[no-untyped-def]
    control[ADVISED] += int64(state == SMALL) - int64(small[block] == SMALL)
    control[JOINING] += int64(state == TO_JOIN) - int64(small[block] == TO_JOIN)
    small[block] = state


@kernel
def _is_in_use(mem, block):  # type: ignore[no-untyped-def]
    at = block * BLOCK_WORDS
    return mem.blocks[at + BLOCK_COUNT] < SPARSE and mem.blocks[at + BLOCK_STATE] == PARTIAL_OR_NONE


@linked(void(MEMORY, int64[::1], uint8[::1]))
def advise_blocks(mem, control, small):  # type: ignore[no-untyped-def]
    """Advise against huge pages in blocks that became sparse, and for them in blocks that no longer are.

    `small` has what each block is: HUGE, SMALL or TO_JOIN.
    """
    for block in range(mem.frames[FRESH] >> BLOCK_SHIFT):
        at = block * BLOCK_WORDS
        sparse = mem.blocks[at + BLOCK_EMPTY] >= SPARSE
        if sparse != (small[block] == SMALL) and not (sparse and control[ADVISED] >= ADVICES_MAX):
            advice = _MADV_NOHUGEPAGE if sparse else _MADV_HUGEPAGE
            if _advise(mem, block << BLOCK_SHIFT, RUN_FRAMES, advice):
                _set_state(control, small, block, SMALL if sparse else HUGE)
        may_join = small[block] == HUGE and control[REFUSED] < REFUSED_MAX
        if may_join and mem.blocks[at + BLOCK_SPLIT] != 0 and _is_in_use(mem, block):
            mem.blocks[at + BLOCK_SPLIT] = 0
            _set_state(control, small, block, TO_JOIN)


@linked(void(MEMORY, int64[::1], uint8[::1]))
def join_next(mem, control, small):  # type: ignore[no-untyped-def]
    """Join the first block that is to be joined, if there is one, into a huge page.

    The system refuses when it has no huge page, or when the block is busy, and is asked again later.
    """
    for block in range(small.size if control[JOINING] > 0 else 0):
        if small[block] == TO_JOIN:
            _set_state(control, small, block, HUGE)
            if _advise(mem, block << BLOCK_SHIFT, RUN_FRAMES, _MADV_COLLAPSE):
                control[REFUSED] = 0
            else:
                control[REFUSED] += 1
                mem.blocks[block * BLOCK_WORDS + BLOCK_SPLIT] = 1
            break


@kernel
def _word_at(control, word):  # type: ignore[no-untyped-def]
    # Address of one of the words.
    return int64(control.ctypes.data) + 8 * word


@linked(boolean(int64[::1]))
def _sleep(control):  # type: ignore[no-untyped-def]
    """Sleep for a pause, or until somebody waits for frames.  Returns whether it was a whole pause."""
    if _poll(_word_at(control, POLLED), 1, int32(control[PAUSE])) <= 0:
        return True
    _read(int32(control[POLLED] & 0x7FFFFFFF), _word_at(control, _COUNT), 8)
    return False


@linked(void(int64[::1]))
def populate_now(control):  # type: ignore[no-untyped-def]
    """Somebody waits for frames: end the thread's pause."""
    control[_ONE] = 1
    _write(int32(control[POLLED] & 0x7FFFFFFF), _word_at(control, _ONE), 8)


@linked(void(MEMORY, int64[::1], uint8[::1]))
def populate_loop(mem, control, small):  # type: ignore[no-untyped-def]
    """Keep AHEAD_FRAMES frames from FRESH on, and the next empty run, populated until STOP is set."""
    while control[STOP] == 0:
        fresh, total, run = mem.frames[FRESH], mem.frames[TOTAL], mem.frames[EMPTY_RUNS]
        first = max(control[WATERMARK], fresh)
        count = min(min(PIECE, total - first), fresh + control[AHEAD_FRAMES] - first)
        if run >= 0 and run != control[RUN_READY]:
            if small[run] == SMALL and _advise(mem, run << BLOCK_SHIFT, RUN_FRAMES, _MADV_HUGEPAGE):
                _set_state(control, small, run, HUGE)
            if not _advise(mem, run << BLOCK_SHIFT, RUN_FRAMES, _MADV_POPULATE_WRITE):
                control[FAILED] = 1
                break
            control[RUN_READY] = run
        elif count > 0:
            if not _advise(mem, first, count, _MADV_POPULATE_WRITE):
                control[FAILED] = 1
                break
            control[WATERMARK] = first + count
        elif _sleep(control):
            join_next(mem, control, small)
            control[_PAUSES] += 1
            if control[_PAUSES] >= _PAUSES_PER_LOOK and control[HUGE_PAGES] != 0:
                control[_PAUSES] = 0
                advise_blocks(mem, control, small)


@linked(boolean(MEMORY, int64[::1], int64))
def is_populated(mem, control, count):  # type: ignore[no-untyped-def]
    """Whether the next `count` frames to be allocated, at most a run, are populated, or nobody is going to do that."""
    registers = mem.frames
    block = registers[PARTIAL_HEAD]
    if control[FAILED] != 0 or control[STOP] != 0:
        return True
    if block >= 0 and mem.blocks[block * BLOCK_WORDS + BLOCK_COUNT] >= count:
        return True
    if registers[USED_RUNS] >= 0:
        return True
    if registers[EMPTY_RUNS] >= 0:
        return registers[EMPTY_RUNS] == control[RUN_READY]
    return min(registers[FRESH] + count, registers[TOTAL]) <= control[WATERMARK]


class Populator:
    """The thread that populates `memory` for `ahead` bytes beyond the frames used so far.

    huge_pages: whether the memory is advised for huge pages, as PhysicalMemory does by default.
    pause_ms: the time between two looks when there is nothing to do.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        ahead: int = AHEAD,
        nice: int = NICE,
        huge_pages: bool = True,
        pause_ms: int = PAUSE_MS,
    ) -> None:
        build()
        self._memory = memory
        self._control = zeros(int64, CONTROL_SIZE)
        self._control[AHEAD_FRAMES] = ahead >> PAGE_SHIFT
        self._control[RUN_READY] = -1
        self._control[PAUSE] = pause_ms
        self._control[HUGE_PAGES] = huge_pages
        self._small = zeros(uint8, len(memory.state.blocks) // BLOCK_WORDS)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._control[POLLED] = self._wake | select.POLLIN << _POLLIN_SHIFT
        self._nice = nice
        self._thread = threading.Thread(target=self._run, name="populator", daemon=True)
        if not DISABLED:  # without the compiler, the loop would hold the GIL
            self._thread.start()

    @property
    def watermark(self) -> int:
        """The first frame that is not populated."""
        return int(self._control[WATERMARK])

    @property
    def control(self) -> int:
        """Address of the words that is_populated takes, int64[CONTROL_SIZE]; 0 if the thread does not run."""
        return address_of(self._control) if self.running else 0

    @property
    def run_ready(self) -> int:
        """The block of the empty run that was populated last; -1 for none."""
        return int(self._control[RUN_READY])

    @property
    def running(self) -> bool:
        """Whether the thread runs; False if the system does not support populating."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread.  Call it before the memory is closed."""
        self._control[STOP] = 1
        if self._thread.is_alive():
            os.eventfd_write(self._wake, 1)
            self._thread.join()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def _run(self) -> None:
        step_back(self._nice, batch=False)
        populate_loop(self._memory.state, self._control, self._small)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
