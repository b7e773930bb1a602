"""The work of the reader's thread: it runs long reads over frozen roots, one after the other (store/aside.py).

Its context has what a loop's context has, but nothing is shared with the owner's: registers, buffers, arguments and
scratch memory, a processor, and a store that is read-only and has no listeners.  Only the frames are the same, and the
command table, which nobody writes.  Its READ_ASIDE_OVER is NEVER: here nothing goes aside.
"""

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
    REPLY_BASE,
    REPLY_MAX,
)
from kvstore.lifetimes.context import CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import KEYSPACE_HITS, KEYSPACE_MISSES, READS_ADDRESS
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.aside import (
    COMMAND_ADDRESS,
    COMMAND_SIZE,
    COPIED,
    DATABASE_READ,
    GIVEN_UP,
    HITS,
    MISSES,
    NEWS,
    READER_WORD,
    REGISTERS,
    REPLY_LIMIT,
    ROOT,
    SEED,
    SPENT,
    SPOKEN,
    STOP,
    UNTOUCHED,
    WAKE,
    job_of,
    reads_of,
)
from kvstore.store.leaving import hand_over
from kvstore.system.eventfds import count_raise, count_take
from kvstore.system.libc import cycles
from kvstore.wire.resp import reply_reset
from kvstore.wire.wanted import WANTED
from mmcore.jit import indirect, int64, linked, void
from mmcore.mapping import load_cr3

_GIVEN_UP_PLACE, _READER_WORD_PLACE = 8 * GIVEN_UP, 8 * READER_WORD
_call = indirect(HANDLER)


@linked(void(CONTEXT, int64[::1]))
def _run(context, job):  # type: ignore[no-untyped-def]
    """Run the command of a job over its root, and hand over its reply."""
    call, shard, begun = context.call, context.shard, cycles()
    for i in range(len(COPIED)):
        shard[COPIED[i]] = job[REGISTERS + i]
    context.store[HASH_SEED] = job[SEED]
    load_cr3(context.space, job[ROOT])
    call[DB], call[PROTOCOL], call[NO_TOUCH] = job[DATABASE_READ], job[SPOKEN], job[UNTOUCHED]
    call[GIVEN_UP_AT], call[REPLY_MAX] = int64(job.ctypes.data) + _GIVEN_UP_PLACE, job[REPLY_LIMIT]
    call[QUERY_ADDRESS], call[QUERY_SIZE] = job[COMMAND_ADDRESS], job[COMMAND_SIZE]
    call[QUEUE_POSITION], call[QUEUE_REMAINING] = 0, 1
    call[COMMAND_REPLY] = call[REPLY_BASE] = shard[KEYSPACE_HITS] = shard[KEYSPACE_MISSES] = 0
    reply_reset(context)
    command = next_queued(context)
    code = _call(row_of(context, command)[ROW_HANDLER], context)
    assert code == SERVED, "a read was not answered at once"
    if job[GIVEN_UP] == WANTED:
        hand_over(context, 0)
    reply_reset(context)
    job[HITS], job[MISSES] = shard[KEYSPACE_HITS], shard[KEYSPACE_MISSES]
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
