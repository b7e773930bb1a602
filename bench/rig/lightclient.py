"""A client in a closed loop that costs little, so that the server is the limit and not the client.

redis-benchmark makes an object of each reply.  With long replies it is at its limit while the server still has time, so
its rates are the client's.  This client makes all requests before the clock runs, and counts replies without keeping
them.  It is one kernel in this process.

    batch        `pipeline` requests; each connection sends one when all replies to its last one have come
    batches      of a whole run, BATCHES_MAX at most; they differ in the numbers that stand in RAND's place

Replies are RESP2.  An array is one reply with all that is in it.

Sources of error: two processors that client and server share with other work.
"""

import select
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from bench.rig.client import encode
from bench.rig.openloop import now_ns
from kvstore.system.libc import EINTR, EPOLL_EVENT_SIZE, MSG_NOSIGNAL, epoll_wait, errno, ints_at, recv, send
from mmcore.jit import build, int32, int64, kernel, linked, named_tuple, uint8

RAND = "__rand_int__"  # a random number of DIGITS digits takes its place, as with redis-benchmark
DIGITS = 12
BATCHES_MAX = 1 << 15  # with short requests some tens of megabytes
INPUT_SIZE = 1 << 18
EVENTS_MAX = 256
PATIENCE_MS = 60_000  # for the next reply

(
    EPOLL,  # descriptor
    PIPELINE,
    REQUESTS,  # to make; a multiple of PIPELINE
    SCRATCH,  # address of scratch, whose first two words are a time, and the others events
    INPUT,  # address of input
    BATCH,  # address of the first batch
    MADE,
    ANSWERED,
    ERRORS,  # error replies
    BEGAN,  # [ns]
    ENDED,  # [ns]
    PLAN_WORDS,
) = range(12)
(
    DESCRIPTOR,
    LEFT,  # replies that are still to come
    OPEN,  # values that the reply at hand still lacks
    PHASE,  # of the parser
    NUMBER,  # of a length line; then the bytes that a bulk string still lacks
    SIGN,
    IS_ARRAY,  # whether the length is an array's
    ROW_WORDS,
) = range(8)
TYPE, TEXT, LENGTH, PAYLOAD = range(4)  # phases
BROKEN = -1
EVENT_AT = 2  # word of scratch


class ClientBroke(Exception):
    """The server closed a connection, was silent for too long, or answered something that is not RESP2."""


class State(NamedTuple):
    """The client's state."""

    plan: np.ndarray  # int64[PLAN_WORDS]
    rows: np.ndarray  # int64[connections, ROW_WORDS]
    batches: np.ndarray  # uint8[B, bytes of a batch]
    input: np.ndarray  # uint8[INPUT_SIZE]
    scratch: np.ndarray  # int64[]
    slots: np.ndarray  # int64[]    the connection of a descriptor


STATE = named_tuple((int64[::1], int64[:, ::1], uint8[:, ::1], uint8[::1], int64[::1], int64[::1]), State)


@kernel
def give_batch(state, row):  # type: ignore[no-untyped-def]
    """Send a connection its next batch, if there is one; returns 0 or BROKEN."""
    plan = state.plan
    if plan[MADE] >= plan[REQUESTS]:
        return 0
    size = state.batches.shape[1]
    address = plan[BATCH] + size * (plan[MADE] // plan[PIPELINE] % state.batches.shape[0])
    plan[MADE] += plan[PIPELINE]
    row[LEFT], row[OPEN] = plan[PIPELINE], 1
    # It waits for nothing, so its socket has room.
    return 0 if send(int32(row[DESCRIPTOR]), address, size, int32(MSG_NOSIGNAL)) == size else BROKEN


@kernel
def begin_value(state, row, byte):  # type: ignore[no-untyped-def]
    """The first byte of a value; returns 0 or BROKEN."""
    if byte == 36 or byte == 42:  # "$", "*"
        row[PHASE], row[NUMBER], row[SIGN], row[IS_ARRAY] = LENGTH, 0, 1, byte == 42
    elif byte == 43 or byte == 45 or byte == 58:  # "+", "-", ":"
        row[PHASE] = TEXT
        state.plan[ERRORS] += byte == 45
    else:
        return BROKEN
    return 0


@kernel
def read_length(row, byte):  # type: ignore[no-untyped-def]
    """A byte of a length line."""
    if byte == 45:
        row[SIGN] = -1
    elif 48 <= byte <= 57:
        row[NUMBER] = row[NUMBER] * 10 + byte - 48
    elif byte == 10:
        row[PHASE] = TYPE
        if row[IS_ARRAY]:
            row[OPEN] += (row[NUMBER] if row[SIGN] > 0 else 0) - 1
        elif row[SIGN] < 0:
            row[OPEN] -= 1
        else:
            row[PHASE], row[NUMBER] = PAYLOAD, row[NUMBER] + 2


@kernel
def count_replies(state, row, count):  # type: ignore[no-untyped-def]
    """Go over `count` received bytes; returns how many replies end there, or BROKEN."""
    data, at, ended = state.input, 0, 0
    while at < count:
        phase = row[PHASE]
        if phase == PAYLOAD:
            step = min(row[NUMBER], count - at)
            at += step
            row[NUMBER] -= step
            if row[NUMBER] == 0:
                row[PHASE] = TYPE
                row[OPEN] -= 1
        elif phase == TEXT:
            while at < count and data[at] != 10:
                at += 1
            if at < count:
                at += 1
                row[PHASE] = TYPE
                row[OPEN] -= 1
        elif phase == TYPE:
            if begin_value(state, row, int64(data[at])) != 0:
                return BROKEN
            at += 1
        else:
            read_length(row, int64(data[at]))
            at += 1
        if row[OPEN] == 0 and row[PHASE] == TYPE:
            ended += 1
            row[OPEN] = 1
    return ended


@kernel
def take_replies(state, row):  # type: ignore[no-untyped-def]
    """Receive once, and send the next batch if this one is answered; returns 0 or BROKEN."""
    plan = state.plan
    count = recv(int32(row[DESCRIPTOR]), plan[INPUT], INPUT_SIZE, int32(0))
    ended = count_replies(state, row, count) if count > 0 else BROKEN
    if ended < 0 or ended > row[LEFT]:
        return BROKEN
    row[LEFT] -= ended
    plan[ANSWERED] += ended
    return give_batch(state, row) if ended > 0 and row[LEFT] == 0 else 0


@linked(int64(STATE))
def drive(state):  # type: ignore[no-untyped-def]
    """Make all requests, and wait for all replies; returns 0 or BROKEN."""
    plan, rows = state.plan, state.rows
    plan[BEGAN] = now_ns(plan[SCRATCH])
    for c in range(rows.shape[0]):
        if give_batch(state, rows[c]) != 0:
            return BROKEN
    events = plan[SCRATCH] + 8 * EVENT_AT
    while plan[ANSWERED] < plan[REQUESTS]:
        ready = epoll_wait(int32(plan[EPOLL]), events, int32(EVENTS_MAX), int32(PATIENCE_MS))
        if ready < 0 and errno() == EINTR:
            continue
        if ready <= 0:
            return BROKEN
        for i in range(ready):
            event = ints_at(events + i * EPOLL_EVENT_SIZE, 2)
            if take_replies(state, rows[state.slots[event[1]]]) != 0:
                return BROKEN
    plan[ENDED] = now_ns(plan[SCRATCH])
    return 0


def batches_of(words: Sequence[str], batches: int, pipeline: int, highest: int) -> np.ndarray:
    """uint8[batches, bytes of a batch]: the command of these words, with random numbers below `highest`."""
    one = np.frombuffer(encode(*(word.replace(RAND, "0" * DIGITS) for word in words)), np.uint8)
    rows = np.tile(one, (batches * pipeline, 1))
    marked = np.frombuffer(encode(*(word.replace(RAND, "\0" * DIGITS) for word in words)), np.uint8) == 0
    places = np.flatnonzero(marked).reshape(-1, DIGITS)
    chosen = np.random.default_rng(1)
    for place in places:
        numbers = chosen.integers(0, highest, len(rows))
        for digit in place[::-1]:
            rows[:, digit] = 48 + numbers % 10
            numbers = numbers // 10
    return np.ascontiguousarray(rows.reshape(batches, -1))


def rate_of(port: int, words: Sequence[str], requests: int, pipeline: int, clients: int, highest: int) -> float:
    """Requests a second of one run.  Raises ClientBroke, also for an error reply."""
    build()
    batches = -(-requests // pipeline)
    state = State(
        np.zeros(PLAN_WORDS, np.int64),
        np.zeros((clients, ROW_WORDS), np.int64),
        batches_of(words, min(batches, BATCHES_MAX), pipeline, highest),
        np.zeros(INPUT_SIZE, np.uint8),
        np.zeros(EVENT_AT + 2 * EVENTS_MAX, np.int64),
        np.zeros(4096, np.int64),
    )
    plan = state.plan
    plan[PIPELINE], plan[REQUESTS] = pipeline, batches * pipeline
    plan[SCRATCH], plan[INPUT] = state.scratch.ctypes.data, state.input.ctypes.data
    plan[BATCH] = state.batches.ctypes.data
    with ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        plan[EPOLL] = epoll.fileno()
        for c in range(clients):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60.0))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            state.rows[c, DESCRIPTOR] = connection.fileno()
            state.slots[connection.fileno()] = c
            epoll.register(connection.fileno(), select.EPOLLIN)
        if drive(state) != 0:
            raise ClientBroke(f"{words[0]}: {plan[ANSWERED]} of {plan[REQUESTS]} requests were answered")
    if plan[ERRORS]:
        raise ClientBroke(f"{words[0]}: {plan[ERRORS]} replies are errors")
    return float(plan[REQUESTS] * 1e9 / (plan[ENDED] - plan[BEGAN]))
