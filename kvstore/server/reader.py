"""The reader: the thread that serves long reads (store/aside.py), and the memory that its context is made of.

It spends its life in one kernel (net/reader.py), so it never needs the GIL.  It has the batch policy, like the
snapshot's writer, so that it preempts nobody when it wakes.  Its priority is lower than the owner's, but not as low as
the writer's: where all processors are busy, somebody waits for what it does.

One thread is enough to keep the others going.  A second one would shorten the queue of long reads, where there is a
third processor.

A kernel that fails on this thread ends the server, as it would on the other.
"""

import logging
import os
import threading
from collections.abc import Callable

from kvstore.commands.compiled import CommandTable
from kvstore.lifetimes.context import Context
from kvstore.lifetimes.shard import READS_ADDRESS
from kvstore.lifetimes.store import READ_ONLY, STORE_REGISTERS, UNDO_ROOT
from kvstore.lifetimes.wiring import Pool, Shard
from kvstore.net.reader import serve_reads
from kvstore.store.aside import ASKED, GIVEN_UP, JOB_WORDS, NEWS, READS_MAX, READS_WORDS, STOP, TAKEN, WAKE
from kvstore.wire.wanted import UNWANTED
from mmcore.jit import DISABLED, address_of, int64, zeros
from mmcore.memory import PhysicalMemory
from mmcore.priority import step_back
from mmcore.space import frozen_reader

log = logging.getLogger("kvstore")

NICE = 5


class Reader:
    """The thread, and what it works with.  `fileno` becomes readable when a read has ended."""

    def __init__(
        self,
        memory: PhysicalMemory,
        commands: CommandTable,
        owner: Shard,
        failed: Callable[[], None],
        nice: int = NICE,
    ) -> None:
        """failed: is called, on the thread, when `failure` has ended it.  The thread does not run yet."""
        self.failure: BaseException | None = None
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
        step_back(self._nice)
        try:
            serve_reads(self._context)
        except BaseException as error:
            log.critical("A long read failed: %r", error)
            self.failure = error
            self._failed()
