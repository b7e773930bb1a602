"""The sockets' system calls, by epoll.  Another way to wait, receive and send can be added beside this file.

    poll_wait       wait for events
    poll_add        watch a descriptor for input
    poll_for        watch it for input, for room to send, for both or for neither
    socket_...      receive, send, accept, options, addresses; no other file of the loop calls the system

An event's data holds a connection's slot in the low half and the low bits of its id above it, or
-(1 + 4 * descriptor + kind) for a descriptor that is not a connection.

Before `poll_wait` sleeps, it keeps polling for busy-poll-usec, because a wake-up costs the processor more than a poll.
That pays while requests follow each other quickly.  It does not poll

    when the last wait brought no event         an idle server sleeps
    when the last wait brought very many        no wake-up would be saved
    for a while, when polling rarely finds an event, or the system takes the processor away for another process: for
    REST_MS at first, and for twice as long, up to REST_MS_MAX, each time that it is so again
"""

from kvstore.lifetimes.connection import MUTED, WANTS_WRITE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    BUSY_CYCLES,
    BUSY_FOUND,
    BUSY_LOOKS,
    BUSY_POLL_US,
    BUSY_RECENT,
    BUSY_RECENT_FOUND,
    BUSY_REST_LENGTH,
    BUSY_REST_MS,
    BUSY_SWITCHES,
    CYCLES_PER_MS,
    EPOLL_FD,
    EVENTS_ADDRESS,
    EVENTS_CAPACITY,
    READS_PROCESSED,
    READY,
    SCRATCH_ADDRESS,
    TIMER_MS,
    WRITES_PROCESSED,
)
from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.system.libc import (
    EAGAIN,
    EINTR,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    MSG_NOSIGNAL,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    accept4,
    cycles,
    epoll_ctl,
    epoll_wait,
    errno,
    getsockname,
    ints_at,
    recv,
    send,
    sendmsg,
    setsockopt,
    switches,
    words_at,
)
from mmcore.jit import int32, int64, kernel, linked, void

CLOSED, AGAIN_LATER = -1, 0  # answers of socket_receive, beside a count of bytes
FULL = 64  # after so many events at once, polling saves nothing
SAMPLE = 64  # looks after which it is judged whether they pay
WORTH = 8  # one look in so many has to find an event
REST_MS, REST_MS_MAX = 200, 3200  # without a look, when looking does not pay
SWITCHES_MAX = 50  # times a tick that the system may take the processor away: 5 to 25 are usual, 80 in competition
_MSGHDR_WORDS, _MSG_IOV, _MSG_IOVLEN = 7, 2, 3  # struct msghdr
IOV_MAX = 120  # pieces that are sent at once: so many fit the scratch room behind it
assert _MSGHDR_WORDS + 2 * IOV_MAX <= SCRATCH_WORDS


@kernel
def _wait(context, timeout_ms):  # type: ignore[no-untyped-def]
    shard = context.shard
    return int64(
        epoll_wait(int32(shard[EPOLL_FD]), shard[EVENTS_ADDRESS], int32(shard[EVENTS_CAPACITY]), int32(timeout_ms))
    )


@kernel
def _rest(context):  # type: ignore[no-untyped-def]
    shard = context.shard
    shard[BUSY_REST_LENGTH] = min(max(2 * shard[BUSY_REST_LENGTH], REST_MS), REST_MS_MAX)
    shard[BUSY_REST_MS] = shard[TIMER_MS] + shard[BUSY_REST_LENGTH]


@linked(int64(CONTEXT))
def _look(context):  # type: ignore[no-untyped-def]
    """Poll for events until there are some, or BUSY_CYCLES have passed; returns how many there are."""
    shard = context.shard
    began, ready = cycles(), 0
    while ready <= 0 and cycles() - began < shard[BUSY_CYCLES]:
        ready = _wait(context, 0)
    shard[BUSY_LOOKS] += 1
    shard[BUSY_RECENT] += 1
    if ready > 0:
        shard[BUSY_FOUND] += 1
        shard[BUSY_RECENT_FOUND] += 1
    if shard[BUSY_RECENT] == SAMPLE:
        if WORTH * shard[BUSY_RECENT_FOUND] < SAMPLE:
            _rest(context)
        shard[BUSY_RECENT] = shard[BUSY_RECENT_FOUND] = 0
    return ready


@kernel
def poll_wait(context, timeout_ms):  # type: ignore[no-untyped-def]
    """Wait for events, at most `timeout_ms`; returns how many there are at EVENTS_ADDRESS."""
    shard = context.shard
    if timeout_ms != 0 and shard[BUSY_CYCLES] != 0:
        if shard[TIMER_MS] >= shard[BUSY_REST_MS] and 0 < shard[READY] < FULL:
            ready = _look(context)
            if ready > 0:
                return ready
    return max(_wait(context, timeout_ms), 0)


@linked(void(CONTEXT))
def judge_busy_poll(context):  # type: ignore[no-untyped-def]
    """Once a tick: apply the configured time, and rest if the system has taken the processor away too often."""
    shard = context.shard
    shard[BUSY_CYCLES] = shard[BUSY_POLL_US] * shard[CYCLES_PER_MS] // 1000
    if shard[BUSY_CYCLES] == 0:
        return
    taken = switches(shard[SCRATCH_ADDRESS])
    if shard[TIMER_MS] >= shard[BUSY_REST_MS]:
        if taken - shard[BUSY_SWITCHES] > SWITCHES_MAX:
            _rest(context)
        else:
            shard[BUSY_REST_LENGTH] = 0
    shard[BUSY_SWITCHES] = taken


@kernel
def _event(context, events, slot, identity):  # type: ignore[no-untyped-def]
    event = ints_at(context.shard[SCRATCH_ADDRESS], 3)
    event[0] = events
    event[1] = slot
    event[2] = identity & 0x7FFF_FFFF


@linked(int64(CONTEXT, int64, int64, int64))
def poll_add(context, fd, slot, identity):  # type: ignore[no-untyped-def]
    """Watch a new connection for input: 0, or -1."""
    _event(context, EPOLLIN, slot, identity)
    shard = context.shard
    return int64(epoll_ctl(int32(shard[EPOLL_FD]), int32(EPOLL_CTL_ADD), int32(fd), shard[SCRATCH_ADDRESS]))


@linked(void(CONTEXT, int64, int64, int64, int64))
def poll_for(context, fd, slot, identity, flags):  # type: ignore[no-untyped-def]
    """Watch a connection as its flags say: for input unless it is MUTED, for room to send if it WANTS_WRITE.

    A client that has gone is always told of, but of a connection that is watched for nothing only once.
    """
    kinds = (0 if flags & MUTED else EPOLLIN) | (EPOLLOUT if flags & WANTS_WRITE else 0)
    _event(context, kinds if kinds != 0 else EPOLLET, slot, identity)
    shard = context.shard
    epoll_ctl(int32(shard[EPOLL_FD]), int32(EPOLL_CTL_MOD), int32(fd), shard[SCRATCH_ADDRESS])


@kernel
def socket_receive(context, fd, address, room):  # type: ignore[no-untyped-def]
    """Receive to `address`; returns the number of bytes, AGAIN_LATER for none now, CLOSED for none ever again."""
    count = recv(int32(fd), address, room, int32(0))
    context.shard[READS_PROCESSED] += 1
    if count > 0:
        return count
    return AGAIN_LATER if count < 0 and (errno() == EAGAIN or errno() == EINTR) else CLOSED


@linked(int64(CONTEXT, int64, int64, int64))
def socket_send(context, fd, address, count):  # type: ignore[no-untyped-def]
    """Send until done or the socket is full; returns how many bytes were sent, or -1 for a broken connection."""
    sent = 0
    while sent < count:
        n = send(int32(fd), address + sent, count - sent, int32(MSG_NOSIGNAL))
        context.shard[WRITES_PROCESSED] += 1
        if n < 0:
            code = errno()
            if code == EINTR:
                continue
            if code == EAGAIN:
                break
            return -1
        sent += n
    return sent


@kernel
def put_piece(context, number, address, size):  # type: ignore[no-untyped-def]
    """Set piece `number`, below IOV_MAX, of what `socket_send_pieces` sends."""
    piece = words_at(context.shard[SCRATCH_ADDRESS] + 8 * (_MSGHDR_WORDS + 2 * number), 2)
    piece[0], piece[1] = address, size


@linked(int64(CONTEXT, int64, int64))
def socket_send_pieces(context, fd, count):  # type: ignore[no-untyped-def]
    """Send so many pieces at once; returns how many bytes the socket took, or -1 for a broken connection."""
    scratch = context.shard[SCRATCH_ADDRESS]
    header = words_at(scratch, _MSGHDR_WORDS)
    for i in range(_MSGHDR_WORDS):
        header[i] = 0
    header[_MSG_IOV], header[_MSG_IOVLEN] = scratch + 8 * _MSGHDR_WORDS, count
    while True:
        sent = sendmsg(int32(fd), scratch, int32(MSG_NOSIGNAL))
        context.shard[WRITES_PROCESSED] += 1
        if sent >= 0:
            return sent
        code = errno()
        if code == EAGAIN:
            return 0
        if code != EINTR:
            return -1


@kernel
def socket_accept(context, listener):  # type: ignore[no-untyped-def]
    """Accept a connection; returns its descriptor or -1, and leaves its address at word 1 of the scratch room."""
    scratch = context.shard[SCRATCH_ADDRESS]
    ints_at(scratch, 1)[0] = 128
    return int64(accept4(int32(listener), scratch + 8, scratch, int32(SOCK_NONBLOCK | SOCK_CLOEXEC)))


@kernel
def socket_name(context, fd):  # type: ignore[no-untyped-def]
    """Put the socket's own address at word 1 of the scratch room."""
    scratch = context.shard[SCRATCH_ADDRESS]
    ints_at(scratch, 1)[0] = 128
    getsockname(int32(fd), scratch + 8, scratch)


@kernel
def socket_option(context, fd, level, name, value):  # type: ignore[no-untyped-def]
    """Set an option whose value is an int."""
    ints_at(context.shard[SCRATCH_ADDRESS], 1)[0] = value
    setsockopt(int32(fd), int32(level), int32(name), context.shard[SCRATCH_ADDRESS], int32(4))
