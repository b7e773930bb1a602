"""How the reply of a reading command leaves, while the command goes on.

On the reader's thread (store/aside.py), a piece of the reply may be sent as soon as nothing in it will change.  So the
loop of a command that has replied the header of its array at first says `reply_leaves` now and then.  A reply of any
length then takes the memory of a few pieces, if its client receives it.  A reply whose header comes last is cut into
pieces at its end.

On the owner's thread, a read of few elements may turn out to be long because they are large.  When its reply has
BYTES_IN_PLACE, it is dropped, and the read goes aside after all, from its beginning.

    start = reply_length(context)
    limit = reply_limit(context, start)
    for ...:
        ...                                                   a part of the reply
        if reply_length(context) >= limit:
            limit = reply_goes_on(context, start)
            if limit < 0:
                return BLOCKS

Until then, besides replying, such a command must have done only what it does once in any case.
"""

from kvstore.connections.pieces import ADDRESS, END, MAPPED, NEXT, PIECE, ROOM, node_at, node_new, piece_map
from kvstore.lifetimes.call import GIVEN_UP_AT, REPLY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import READ_ASIDE_OVER, READS_ADDRESS
from kvstore.store.aside import (
    GIVEN_UP,
    HEAD,
    HEAD_MAX,
    HEAD_SIZE,
    JOB_WORDS,
    NEWS,
    PIECES_LAST,
    PIECES_MADE,
    READER_WORD,
    read_begin,
    reads_of,
)
from kvstore.system.eventfds import count_raise
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.resp import reply_number, reply_raw, reply_room
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, void
from mmcore.mmu import copy_out

BYTES_IN_PLACE = 1 << 20  # of a reply that is made in place
_LINE_END = constant(b"\r\n")


@linked(void(CONTEXT, int64))
def hand_over(context, least):  # type: ignore[no-untyped-def]
    """Hand the reply so far to the owner, in pieces; a last one of less than `least` bytes stays."""
    call, shard, reads, at = context.call, context.shard, reads_of(context), 0
    job = words_at(call[GIVEN_UP_AT] - 8 * GIVEN_UP, JOB_WORDS)
    length = call[REPLY_LENGTH]
    reply = bytes_at(call[REPLY_ADDRESS], length)
    if job[PIECES_MADE] == 0:
        job[HEAD_SIZE] = min(length, HEAD_MAX)
        copy_bytes(bytes_at(int64(job.ctypes.data) + 8 * HEAD, HEAD_MAX), 0, reply, 0, job[HEAD_SIZE])
    while length - at >= max(least, 1):
        count, following = min(length - at, PIECE), node_new()
        node, address = node_at(job[PIECES_LAST]), piece_map(count)
        copy_bytes(bytes_at(address, count), 0, reply, at, count)
        node[ADDRESS], node[ROOM], node[END], node[MAPPED], node[NEXT] = address, count, count, 1, following
        job[PIECES_LAST] = following
        job[PIECES_MADE] += 1
        count_raise(reads[NEWS], shard[READS_ADDRESS] + 8 * READER_WORD, 1)
        at += count
    copy_bytes(reply, 0, reply, at, length - at)
    call[REPLY_LENGTH] = length - at


@kernel
def reply_leaves(context):  # type: ignore[no-untyped-def]
    """Say that the reply so far will not be changed: it may be sent, if another thread runs the command at hand."""
    if context.call[GIVEN_UP_AT] != 0 and context.call[REPLY_LENGTH] >= PIECE:
        hand_over(context, PIECE)


@kernel
def reply_limit(context, start):  # type: ignore[no-untyped-def]
    """The length at which the loop of a reply that began at `start` calls `reply_goes_on`."""
    if context.call[GIVEN_UP_AT] != 0:
        return PIECE
    return start + BYTES_IN_PLACE if context.shard[READ_ASIDE_OVER] != NEVER else NEVER


@linked(int64(CONTEXT, int64))
def reply_goes_on(context, start):  # type: ignore[no-untyped-def]
    """The reply has reached its limit: returns the next one, or -1 if the read goes aside, without a reply."""
    if context.call[GIVEN_UP_AT] != 0:
        hand_over(context, PIECE)
        return PIECE
    if read_begin(context) == 0:
        return NEVER
    context.call[REPLY_LENGTH] = start
    return -1


@linked(void(CONTEXT, int64, int64))
def reply_long(context, va, count):  # type: ignore[no-untyped-def]
    """A bulk string out of the address space that may be very long: it leaves in pieces."""
    reply_number(context, 36, count)
    while count > 0 and not is_given_up(context):
        size = min(count, PIECE)
        copy_out(context.space, va, reply_room(context, size), context.call[REPLY_LENGTH], size)
        context.call[REPLY_LENGTH] += size
        va += size
        count -= size
        reply_leaves(context)
    reply_raw(context, _LINE_END, 0, 2)
