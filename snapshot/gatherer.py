"""The thread that gathers pages for the writer in idle time.

While a snapshot is written, the owner's thread sleeps again and again until its client sends something.  If its
processor runs the writer at that moment, Linux wakes it on the processor of the client.  Both then share that one for
up to 30 ms, although another would be free soon.  A processor that runs only threads of the idle policy counts as idle
for this choice: the owner stays where it is, and takes it at once.  So the larger part of the writer's work, the copy,
is done by a thread that has this policy.  The writer cannot have it: it may hold the GIL, and the idle policy may stop
a thread for long.  This thread spends its life in one kernel, so it never holds the GIL.

    writer                                          thread
    list the frames of a group, number the request
    ring ASK                                        copy the frames into the buffer of the request
    wait for DONE                                   note the number as answered, ring DONE
    ask for the next group, in the other buffer     copy ...
    compute the checksum, write

(1) A buffer that was asked for belongs to the thread until it has answered, and to the writer from then on.  So does
    the list of frames; the writer asks for nothing before the answer.
(2) On busy processors the thread may get little time.  The writer's patience is PATIENCE_MS for an image; waiting uses
    it up, and each answer adds GRANT_MS.  When it ends, the writer gathers this group and all others of the image
    itself, in the other buffer.  An answer counts only if it has the number of the last request.  The thread works for
    an image only if it has answered all requests when the image begins.
(3) The root may be released while the thread is late.  It follows no entry of a page table, only the list of frames,
    and nobody uses what it copies then.
(4) `close` waits until the thread has ended.  The thread looks at STOP every PIECE frames.

On two processors, half of the writer's processor time goes over to the thread, and an image of 400 MiB takes two thirds
of the time.  Where all processors are busy it takes some 30 ms longer instead: the patience.

The buffers lie in huge pages, where the system offers them.  To write past the page cache, it pins the pages of the
buffer: thousands of small ones keep the processor in the system for most of a millisecond, without preemption.
"""

import contextlib
import mmap
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

from mmcore.frozen import copy_frames
from mmcore.jit import DISABLED, anonymous, boolean, external, int32, int64, linked, uint8, void, zeros
from mmcore.paging import PAGE_SHIFT, PAGE_SIZE
from mmcore.priority import step_aside, step_back
from mmcore.state import MEMORY, Memory
from snapshot.frozen import FrozenSpace

PATIENCE_MS = 20  # the longest wait; 4 MiB take 1 ms
GRANT_MS = 1  # what each answer adds to the patience that is left
_NONE = -1.0
PIECE = 16  # frames between two looks at STOP
(
    STOP,  # not 0: the loop ends
    REQUESTED,  # number of the last request
    ANSWERED,  # number of the last request that was answered
    SLOT,  # buffer of the last request, 0 or 1
    COUNT,  # frames of the last request
    ASK,  # eventfd: there is a request, or STOP was set
    DONE,  # eventfd: a request was answered
    _READ,  # the word that the loop reads
    _ONE,  # the word that it writes
    _PARAMETERS,  # a struct sched_param
) = range(10)
CONTROL_SIZE = 10
_read = external("read", int64(int32, int64, int64))
_write = external("write", int64(int32, int64, int64))


@linked(boolean(MEMORY, int64[::1], int64[::1], uint8[::1]))
def answer(mem, control, frames, buffers):  # type: ignore[no-untyped-def]
    """Copy the frames of the last request into its buffer.  Returns whether it is done; False if STOP was set."""
    offset = control[SLOT] * (buffers.size >> 1)
    for first in range(0, control[COUNT], PIECE):
        if control[STOP] != 0:
            return False
        copy_frames(mem, frames, first, min(PIECE, control[COUNT] - first), buffers, offset + (first << PAGE_SHIFT))
    return True


@linked(void(MEMORY, int64[::1], int64[::1], uint8[::1]))
def gather_loop(mem, control, frames, buffers):  # type: ignore[no-untyped-def]
    """Answer requests until STOP is set."""
    words = int64(control.ctypes.data)
    step_aside(words + 8 * _PARAMETERS)
    control[_ONE] = 1
    while control[STOP] == 0:
        _read(int32(control[ASK]), words + 8 * _READ, 8)
        number = control[REQUESTED]
        if number != control[ANSWERED] and answer(mem, control, frames, buffers):
            control[ANSWERED] = number
            _write(int32(control[DONE]), words + 8 * _ONE, 8)


@linked(void(uint8[::1]))
def touch(buffers):  # type: ignore[no-untyped-def]
    """Write to each page, so that the system provides it."""
    for at in range(0, buffers.size, PAGE_SIZE):
        buffers[at] = 0


def _buffers(size: int) -> memoryview:
    # Whole pages, as writing past the cache requires.  A mapping of whole huge pages begins at one: since Linux 6.7.
    mapping = anonymous(2 * size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapping)


class Gatherer:
    """Two buffers of `size` bytes, a whole number of pages, and the thread.

    memory: the frames that the thread copies; without it there is no thread.
    """

    def __init__(self, size: int, memory: Memory | None, nice: int) -> None:
        self._size = size
        self._buffers = _buffers(size)
        self._touched = False  # by the writer: in a page fault the thread could hold a lock of the system for long
        self._frames = zeros(int64, size >> PAGE_SHIFT)
        self._control = zeros(int64, CONTROL_SIZE)
        self._memory, self._nice = memory, nice
        self._thread = threading.Thread(target=self._run, name="snapshot-gatherer", daemon=True)
        self._control[ASK] = os.eventfd(0, os.EFD_CLOEXEC)
        self._control[DONE] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._done = select.poll()
        self._done.register(int(self._control[DONE]), select.POLLIN)
        if memory is not None and not DISABLED:  # without the compiler, the loop would hold the GIL
            self._thread.start()

    @property
    def native_id(self) -> int:
        """The operating system's ID of the thread; 0 if there is none."""
        return self._thread.native_id or 0

    @property
    def pending(self) -> bool:
        """Whether the thread has not answered the last request."""
        return bool(self._control[REQUESTED] != self._control[ANSWERED])

    def groups(self, frozen: Any, pages: int) -> Iterator[memoryview]:
        """All `pages` pages of a writer.Frozen, in groups that fill a buffer; each is valid until the next."""
        per_group = self._size >> PAGE_SHIFT
        patience_ms = self._wait(PATIENCE_MS) if self._can_copy(frozen) else _NONE
        if patience_ms >= 0 and not self._touched:
            touch(self._buffers)
            self._touched = True
        if patience_ms >= 0 and pages:
            self._request(frozen, 0, min(per_group, pages))
        for first in range(0, pages, per_group):
            count = min(per_group, pages - first)
            if patience_ms >= 0:
                patience_ms = self._wait(patience_ms)
            if patience_ms >= 0:
                patience_ms = min(patience_ms + GRANT_MS, PATIENCE_MS)
                data = self._buffer(int(self._control[SLOT]), count)
                if first + count < pages:
                    self._request(frozen, first + count, min(per_group, pages - first - count))
            else:
                data = self._buffer(1 - int(self._control[SLOT]), count)  # the other one may be the thread's
                frozen.gather(first, count, data)
            yield data

    def close(self) -> None:
        """End the thread, if there is one, and wait for its end.  Nobody uses a buffer any more."""
        self._control[STOP] = 1
        if self._thread.is_alive():
            os.eventfd_write(int(self._control[ASK]), 1)
            self._thread.join()
        for word in (ASK, DONE):
            if self._control[word] >= 0:
                os.close(int(self._control[word]))
                self._control[word] = -1

    def _can_copy(self, frozen: Any) -> bool:
        if self._memory is None or not self._thread.is_alive():
            return False
        return isinstance(frozen, FrozenSpace) and frozen.lies_in(self._memory)

    def _buffer(self, slot: int, pages: int) -> memoryview:
        return self._buffers[slot * self._size : slot * self._size + pages * PAGE_SIZE]

    def _request(self, frozen: FrozenSpace, first: int, pages: int) -> None:
        """Ask for these pages in the other buffer than the last time."""
        control = self._control
        assert not self.pending, "the thread has a request already"
        frozen.frames(first, pages, self._frames)
        control[SLOT], control[COUNT] = 1 - control[SLOT], pages
        control[REQUESTED] += 1
        self._ring()

    def _ring(self) -> None:
        os.eventfd_write(int(self._control[ASK]), 1)

    def _wait(self, patience_ms: float) -> float:
        """Wait until the thread has answered.  Returns the patience that is left, or _NONE if it ended before."""
        ends = time.monotonic() + patience_ms / 1000
        while self.pending:
            if patience_ms <= 0:
                return _NONE
            if self._done.poll(patience_ms):
                os.eventfd_read(int(self._control[DONE]))
            patience_ms = (ends - time.monotonic()) * 1000
        return max(patience_ms, 0)

    def _run(self) -> None:
        step_back(self._nice)  # for a system that refuses the idle policy
        gather_loop(self._memory, self._control, self._frames, self._buffers)
