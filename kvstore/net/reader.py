"""The reader: a thread that runs long reads over frozen roots (store/aside.py says what it may touch).

It spends its life in one kernel, so it never needs the GIL.  It has the lowest claim to a processor, like the
snapshot's writer: a lower priority, and the batch policy, so that it preempts nobody when it wakes.

Its context has what a loop's context has, but nothing is shared with the owner's: registers, buffers, arguments and
scratch memory, a processor, and a store that is read-only and has no listeners.  Only the frames are the same, and the
command table, which nobody writes.  Its READ_ASIDE_OVER is NEVER: here nothing goes aside.

One thread is enough to keep the others going.  A second one would shorten the queue of long reads, where there is a
third processor.

A kernel that fails on this thread ends the server, as it would on the other.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable

from kvstore.commands.compiled import CommandTable
from kvstore.commands.rows import ROW_HANDLER, row_of
from kvstore.commands.transactions import next_queued
from kvstore.lifetimes.call import (
    COMMAND_REPLY,
    DB,
    GIVEN_UP_AT,
    NO_TOUCH,
    PROTOCOL,
    QUERY_ADDRESS,
    QUERY_SIZE,
    QUEUE_POSITION,
    QUEUE_REMAINING,
    REPLY_ADDRESS,
    REPLY_BASE,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    REPLY_MAX,
)
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED, Context
from kvstore.lifetimes.shard import READS_ADDRESS
from kvstore.lifetimes.store import HASH_SEED, READ_ONLY, STORE_REGISTERS, UNDO_ROOT
from kvstore.lifetimes.wiring import Pool, Shard
from kvstore.store.aside import (
    ASKED,
    COMMAND_ADDRESS,
    COMMAND_SIZE,
    COPIED,
    DATABASE_READ,
    GIVEN_UP,
    JOB_WORDS,
    NEWS,
    READER_WORD,
    READS_MAX,
    READS_WORDS,
    REGISTERS,
    REPLY,
    REPLY_LIMIT,
    REPLY_ROOM,
    REPLY_SIZE,
    ROOT,
    SEED,
    SPENT,
    SPOKEN,
    STOP,
    TAKEN,
    UNTOUCHED,
    WAKE,
    job_of,
    reads_of,
)
from kvstore.system.eventfds import count_raise, count_take
from kvstore.system.libc import cycles
from kvstore.wire.resp import reply_reset
from kvstore.wire.wanted import UNWANTED, WANTED
from mmcore.jit import DISABLED, address_of, indirect, int64, linked, void, zeros
from mmcore.mapping import load_cr3
from mmcore.memory import PhysicalMemory
from mmcore.space import frozen_reader

log = logging.getLogger("kvstore")

NICE = 10
_GIVEN_UP_PLACE, _READER_WORD_PLACE = 8 * GIVEN_UP, 8 * READER_WORD
_call = indirect(HANDLER)


@linked(void(CONTEXT, int64[::1]))
def _run(context, job):  # type: ignore[no-untyped-def]
    """Run the command of a job over its root; the reply is the job's."""
    call, shard, begun = context.call, context.shard, cycles()
    for i in range(len(COPIED)):
        shard[COPIED[i]] = job[REGISTERS + i]
    context.store[HASH_SEED] = job[SEED]
    load_cr3(context.space, job[ROOT])
    call[DB], call[PROTOCOL], call[NO_TOUCH] = job[DATABASE_READ], job[SPOKEN], job[UNTOUCHED]
    call[GIVEN_UP_AT], call[REPLY_MAX] = int64(job.ctypes.data) + _GIVEN_UP_PLACE, job[REPLY_LIMIT]
    call[QUERY_ADDRESS], call[QUERY_SIZE] = job[COMMAND_ADDRESS], job[COMMAND_SIZE]
    call[QUEUE_POSITION], call[QUEUE_REMAINING] = 0, 1
    call[REPLY_ADDRESS] = call[REPLY_CAPACITY] = call[COMMAND_REPLY] = call[REPLY_BASE] = 0
    reply_reset(context)
    command = next_queued(context)
    code = _call(row_of(context, command)[ROW_HANDLER], context)
    assert code == SERVED, "a read was not answered at once"
    job[REPLY], job[REPLY_ROOM], job[REPLY_SIZE] = call[REPLY_ADDRESS], call[REPLY_CAPACITY], call[REPLY_LENGTH]
    job[SPENT] = cycles() - begun


@linked(void(CONTEXT))
def serve_reads(context):  # type: ignore[no-untyped-def]
    """Run one job after the other until STOP is set.  The context is the reader's own."""
    reads, number = reads_of(context), 0
    word = context.shard[READS_ADDRESS] + _READER_WORD_PLACE
    while reads[STOP] == 0:
        for _ in range(count_take(reads[WAKE], word)):
            if reads[STOP] == 0:
                job = job_of(context, number)
                number += 1
                if job[GIVEN_UP] == WANTED:
                    _run(context, job)
                count_raise(reads[NEWS], word, 1)


class Reader:
    """The thread, and what it works with.  `fileno` becomes readable when a read has ended."""

    def __init__(
        self,
        memory: PhysicalMemory,
        commands: CommandTable,
        owner: Shard,
        failed: Callable[[BaseException], None],
        nice: int = NICE,
    ) -> None:
        """failed: is called, on the thread, with what has ended it.  The thread does not run yet."""
        self._owner, self._failed, self._nice = owner, failed, nice
        self.shared = zeros(int64, READS_WORDS + READS_MAX * JOB_WORDS)  # see store/aside.py
        self.shared[WAKE] = os.eventfd(0, os.EFD_CLOEXEC)
        self.shared[NEWS] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._shard, self._pool = Shard(), Pool(memory)
        self._shard.registers[READS_ADDRESS] = address_of(self.shared)
        commands.install(self._shard)
        store = zeros(int64, STORE_REGISTERS)
        store[READ_ONLY], store[UNDO_ROOT] = 1, -1
        space = frozen_reader(memory, self._shard.processor)
        shard = self._shard
        self._context = Context(space, self._pool.registers, store, shard.registers, shard.call, shard.args)
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Let long reads go aside from now on."""
        if not DISABLED:  # without the compiler, the loop would hold the GIL
            self._thread.start()
            self._owner.registers[READS_ADDRESS] = address_of(self.shared)

    def fileno(self) -> int:
        """An eventfd that becomes readable when a read has ended."""
        return int(self.shared[NEWS])

    @property
    def pending(self) -> int:
        """Reads that are under way."""
        return int(self.shared[ASKED] - self.shared[TAKEN])

    def close(self) -> None:
        """End the thread, after the read that it is at, which is given up.  No connection waits for one any more."""
        for job in range(READS_MAX):
            self.shared[READS_WORDS + job * JOB_WORDS + GIVEN_UP] = UNWANTED
        self.shared[STOP] = 1
        if self._thread.is_alive():
            os.eventfd_write(self.shared[WAKE], 1)
            self._thread.join()
        self._owner.registers[READS_ADDRESS] = 0
        os.close(self.shared[WAKE])
        os.close(self.shared[NEWS])

    def _run(self) -> None:
        thread = threading.get_native_id()
        with contextlib.suppress(PermissionError):  # a higher priority than allowed: keep the current one
            os.setpriority(os.PRIO_PROCESS, thread, self._nice)
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        try:
            serve_reads(self._context)
        except BaseException as error:
            log.critical("A long read failed: %r", error)
            self._failed(error)
