"""Long reads aside: another thread reads a fork of the store, while the owner goes on serving everybody else.

A kernel of a reading command looks up its keys.  Then it knows how much work is ahead: as much as so many fields of a
hash take, 0.2 us each, or so many keys of its database.

    HGETALL, HKEYS, HVALS, SMEMBERS, ZRANGE and its kin    the elements answered
    KEYS                                                   the keys of the database
    SCAN, HSCAN, SSCAN, ZSCAN                              COUNT, or all that there are
    SUNION, SDIFF; ZUNION, ZDIFF                           the elements of all inputs; of the latter, twice
    SINTER, SINTERCARD; ZINTER, ZINTERCARD                 those of the smallest input, for each; the latter, twice
    SRANDMEMBER, HRANDFIELD, ZRANDMEMBER                   draws, twice
    LRANGE                                                 a quarter of the elements answered
    XRANGE, XREVRANGE, XREAD                               half of the entries answered
    XREADGROUP, which gives first and is read at its end   half of the entries given
    XPENDING                                               half of those answered; without a range, the consumers;
                                                           with IDLE, a quarter of the pending entries
    XINFO                                                  the groups and consumers answered; of FULL also half of the
                                                           entries, and the pending ones
    LPOS                                                   a sixteenth of those compared
    GEOSEARCH and its kin                                  half of the members of the cells that are searched
    SORT                                                   the elements, and the keys looked up for each answered
    LCS                                                    a 128th of the words of its rows
    MEMORY USAGE                                           the elements measured; of a stream, its parts
    HMGET, SMISMEMBER, ZMSCORE, MGET                       the elements or keys named
    GET, GETRANGE                                          the KiB answered
    BITCOUNT, BITPOS                                       the pages looked at
    PFCOUNT of several keys                                64 for each
    DEBUG DIGEST                                           the keys of the store

    if goes_aside(context, work):
        return BLOCKS

From READ_ASIDE_OVER on (read-aside-threshold) this forks the store, in constant time, and the connection waits as in
BLPOP.  A thread runs the same kernel once more, in a context of its own over the frozen root (net/reader.py), where
nothing goes aside.  The client gets the reply in pieces, as they come (net/reads.py): the store as it was at the fork.

    the owner                                        the reader
    looks up the keys, forks, fills a job
    raises the count of WAKE                    ►    takes it; walks the frozen root, and replies to its own buffer
    takes it, and sends it                      ◄    copies a piece of its reply; raises the count of NEWS
    takes it; has the root again                ◄    raises the count of NEWS at the end

A job belongs to one thread at a time, and the counts hand it over (system/eventfds.py).  There are two exceptions: the
owner may set its GIVEN_UP at any time, and the pieces.  These are a list that always ends with an empty node.  The
reader fills this node and links the next empty one behind it before it raises the count, so neither thread touches what
the other may free.  Jobs are a ring, served and taken in the order in which they were asked.

store/leaving.py says when a piece may leave, and how a read goes aside whose reply has become long in bytes.

By then the owner has done all that a command does besides replying, in its own run: expired keys are deleted, hits and
misses counted and announced, clocks of use set.  The reader finds a read-only store to which nobody listens, so its run
changes nothing but its own registers, which nobody reads.  XREADGROUP, which writes, has written when it goes aside,
and leaves the reader a command that only reads (commands/streams/deliveries.py).  Deadlines are compared with the clock
of the fork.  MGET is the exception, because its lookups are the work: the reader makes them, and its hits and misses
count.  Due keys are hidden but not deleted, clocks of use stay, and where misses are announced, MGET runs in place.

    (7) of mmcore/frozen.py says what another thread may do: read what can be reached from a root that holds a
    reference.  The reader has a processor of its own, so its translations are its own; in a frozen space they set
    neither A nor D.  Only the owner forks and releases.

A read runs in place, as if there were no reader, in these cases:

    in a transaction, or another nested call         its reply belongs in the middle of another one
    READS_MAX are under way                          each keeps its root, and what was written since
    fewer than FRAMES_SPARE frames are free          writes beside it copy pages
    the reader does not run                          while the store is being loaded
"""

from kvstore.connections.pieces import (
    BEGUN,
    NEXT,
    node_at,
    node_free,
    node_new,
    pieces_begin,
    pieces_end,
    pieces_of,
    read_under_way,
)
from kvstore.connections.sends import hard_limit
from kvstore.connections.table import connection, give_turn
from kvstore.lifetimes.call import (
    CONNECTION,
    DB,
    DEPTH,
    NO_TOUCH,
    PROTOCOL,
)
from kvstore.lifetimes.connection import (
    ANSWER_READ,
    BLOCKED_ANSWER,
    BLOCKED_KIND,
    BLOCKED_UNTIL_MS,
    KILLED,
    QUEUE_ADDRESS,
    QUEUE_LENGTH,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import LENT_ROOTS
from kvstore.lifetimes.shard import (
    HASH_MAX_LISTPACK_ENTRIES,
    HASH_MAX_LISTPACK_VALUE,
    LIST_MAX_LISTPACK_SIZE,
    LRU_CLOCK,
    NOW_MS,
    NOW_US,
    PROTO_MAX_BULK_LEN,
    READ_ASIDE_OVER,
    READS_ADDRESS,
    READS_ASIDE,
    READS_IN_PLACE,
    SET_MAX_INTSET_ENTRIES,
    SET_MAX_LISTPACK_ENTRIES,
    SET_MAX_LISTPACK_VALUE,
    TIMER_MS,
    ZSET_MAX_LISTPACK_ENTRIES,
    ZSET_MAX_LISTPACK_VALUE,
)
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.flush import release_root
from kvstore.system.eventfds import count_raise
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.wanted import UNWANTED, WANTED
from mmcore.fork import CONSTANT, fork
from mmcore.frames import has_frames
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, view, void

READS_MAX = 64  # that are under way at once
FRAMES_SPARE = 1024
HEAD_MAX = 64
LIMIT_SLACK = 4 << 20  # [bytes] that a socket may take at once: a limit holds for what it does not take

# Registers that a read is to find as they were at the fork.
_COPIED = (
    NOW_MS, NOW_US, TIMER_MS, LRU_CLOCK, PROTO_MAX_BULK_LEN, HASH_MAX_LISTPACK_ENTRIES, HASH_MAX_LISTPACK_VALUE,
    SET_MAX_INTSET_ENTRIES, SET_MAX_LISTPACK_ENTRIES, SET_MAX_LISTPACK_VALUE, ZSET_MAX_LISTPACK_ENTRIES,
    ZSET_MAX_LISTPACK_VALUE, LIST_MAX_LISTPACK_SIZE,
)  # fmt: skip
COPIED = constant(_COPIED, int64)

# The two threads share READS_WORDS words, and behind them the jobs.
(
    WAKE,  # eventfds: of the reader,
    NEWS,  # and of the owner
    STOP,  # not 0: the reader ends when it is woken
    ASKED,  # jobs so far; the owner's, like the following
    TAKEN,
    ROOT_AT_HAND,  # between `goes_aside` and `read_ask`,
    LOOKS_UP_AT_HAND,  # likewise: see `reader_looks_up`
    OWNER_WORD,  # for the eventfds
    READER_WORD,
) = range(9)
READS_WORDS = 9
(
    NUMBER,  # from 1 on
    SLOT,  # of the connection that waits
    ROOT,
    GIVEN_UP,  # see wire/wanted.py
    REPLY_LIMIT,
    COMMAND_ADDRESS,  # the command as it waits in a queue buffer (commands/transactions.py); malloc'd
    COMMAND_SIZE,
    DATABASE_READ,
    SPOKEN,  # protocol of the reply
    UNTOUCHED,  # NO_TOUCH
    SEED,
    LOOKS_UP,  # whether the lookups of the reader count,
    HITS,  # which found so many keys,
    MISSES,  # and so many not
    PIECES_FIRST,  # the node that the owner will take next,
    PIECES_TAKEN,  # and how many it has taken
    # the reader's
    PIECES_LAST,  # the empty node
    PIECES_MADE,
    SPENT,  # [cycles]
    HEAD_SIZE,  # bytes of the beginning of the reply,
    HEAD,  # HEAD_MAX at most: whether it is an error, and which
    REGISTERS,  # COPIED
) = (*range(21), 20 + HEAD_MAX // 8)
JOB_WORDS = REGISTERS + len(_COPIED)


@view
def reads_of(context):  # type: ignore[no-untyped-def]
    """The words that the two threads share."""
    return words_at(context.shard[READS_ADDRESS], READS_WORDS)


@view
def job_of(context, number):  # type: ignore[no-untyped-def]
    """The job with a number counted from 0, while it has not been taken."""
    return words_at(context.shard[READS_ADDRESS] + 8 * (READS_WORDS + number % READS_MAX * JOB_WORDS), JOB_WORDS)


@linked(int64(CONTEXT))
def read_begin(context):  # type: ignore[no-untyped-def]
    """Fork the store for the read at hand: 1, or 0 if it is to run in place."""
    call, shard = context.call, context.shard
    if shard[READS_ADDRESS] == 0 or call[DEPTH] != 0:
        return 0
    row, reads = connection(context, call[CONNECTION]), reads_of(context)
    root = -1
    if reads[ASKED] - reads[TAKEN] < READS_MAX and has_frames(context.space, FRAMES_SPARE):
        root = fork(context.space, CONSTANT)
    if root < 0:
        shard[READS_IN_PLACE] += 1
        return 0
    context.pool[LENT_ROOTS] += 1
    reads[ROOT_AT_HAND], reads[LOOKS_UP_AT_HAND] = root, 0
    row[BLOCKED_KIND], row[BLOCKED_ANSWER], row[BLOCKED_UNTIL_MS] = 0, ANSWER_READ, 0
    return 1


@kernel
def goes_aside(context, work):  # type: ignore[no-untyped-def]
    """Whether the read at hand has so much work ahead that it goes aside; then its kernel returns BLOCKS.

    Its keys have been looked up, and nothing has been replied yet.
    """
    return work > context.shard[READ_ASIDE_OVER] and read_begin(context) == 1


@kernel
def reader_looks_up(context):  # type: ignore[no-untyped-def]
    """The read at hand, which goes aside, has not looked up its keys: the reader's hits and misses will count."""
    reads_of(context)[LOOKS_UP_AT_HAND] = 1


@linked(void(CONTEXT, int64))
def read_root_back(context, root):  # type: ignore[no-untyped-def]
    """The root of a read is not read any more."""
    context.pool[LENT_ROOTS] -= 1
    release_root(context, root)


@linked(void(CONTEXT))
def read_withdraw(context):  # type: ignore[no-untyped-def]
    """The read at hand, which was begun, will not be asked for."""
    read_root_back(context, reads_of(context)[ROOT_AT_HAND])


@linked(int64(CONTEXT, int64[::1]))
def read_ask(context, row):  # type: ignore[no-untyped-def]
    """Hand the read at hand to the reader: 1, or 0 when memory ran out, and its root has gone back.

    Its command is in the connection's queue buffer.
    """
    call, shard, reads = context.call, context.shard, reads_of(context)
    size = row[QUEUE_LENGTH]
    command = malloc(size)
    if command == 0 or not pieces_begin(context, row, reads[ASKED] + 1):
        free(command)
        read_withdraw(context)
        return 0
    copy_bytes(bytes_at(command, size), 0, bytes_at(row[QUEUE_ADDRESS], size), 0, size)
    limit, job = hard_limit(context, row), job_of(context, reads[ASKED])
    reads[ASKED] += 1
    job[NUMBER], job[SLOT], job[ROOT], job[GIVEN_UP] = reads[ASKED], call[CONNECTION], reads[ROOT_AT_HAND], WANTED
    job[REPLY_LIMIT] = limit + LIMIT_SLACK if limit > 0 else 0
    job[COMMAND_ADDRESS], job[COMMAND_SIZE] = command, size
    job[DATABASE_READ], job[SPOKEN], job[UNTOUCHED] = call[DB], call[PROTOCOL], call[NO_TOUCH]
    job[SEED], job[SPENT], job[HEAD_SIZE] = context.store[HASH_SEED], 0, 0
    job[PIECES_FIRST] = job[PIECES_LAST] = node_new()
    job[PIECES_TAKEN] = job[PIECES_MADE] = 0
    job[LOOKS_UP], job[HITS], job[MISSES] = reads[LOOKS_UP_AT_HAND], 0, 0
    for i in range(len(COPIED)):
        job[REGISTERS + i] = shard[COPIED[i]]
    shard[READS_ASIDE] += 1
    count_raise(reads[WAKE], shard[READS_ADDRESS] + 8 * OWNER_WORD, 1)
    return 1


@linked(void(CONTEXT, int64[::1]))
def read_unwanted(context, row):  # type: ignore[no-untyped-def]
    """Nobody wants the read that the connection has under way, if it has one."""
    number = read_under_way(row)
    if number != 0 and job_of(context, number - 1)[NUMBER] == number:
        job_of(context, number - 1)[GIVEN_UP] = UNWANTED


@linked(void(CONTEXT, int64, int64[::1]))
def read_give_up(context, slot, row):  # type: ignore[no-untyped-def]
    """The connection waits for its read no longer, if it has one under way; it is closed if it has got half a reply."""
    if read_under_way(row) == 0:
        return
    read_unwanted(context, row)
    if pieces_of(row)[BEGUN]:
        give_turn(context, slot, row, KILLED)
    pieces_end(context, slot, row)


@linked(void(CONTEXT, int64[::1]))
def job_end(context, job):  # type: ignore[no-untyped-def]
    """Free what a job has; its pieces have been taken, and the root goes back."""
    read_root_back(context, job[ROOT])
    node_free(job[PIECES_FIRST])
    free(job[COMMAND_ADDRESS])
    job[NUMBER] = job[COMMAND_ADDRESS] = 0


@linked(int64(int64[::1]))
def piece_take(job):  # type: ignore[no-untyped-def]
    """The node of the next piece of a job, which is the caller's now; 0 if what has come is the job's end."""
    if job[PIECES_TAKEN] == job[PIECES_MADE]:
        return 0
    job[PIECES_TAKEN] += 1
    address = job[PIECES_FIRST]
    job[PIECES_FIRST] = node_at(address)[NEXT]
    return address
