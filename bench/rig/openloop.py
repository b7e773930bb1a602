"""An open-loop load generator: it sends each request when it is due, whatever the server does.

A closed loop sends the next request after the reply to the last one, so a stop of 50 ms appears as only one slow
request.  Here request i is due at start + i / rate, and its latency counts from that time.  Every request that becomes
due during a stop is charged with the rest of the stop.  (This avoids the mistake called "coordinated omission".)

    request i   on connection i mod C; a hash of i selects SET, GET or ADD, and the key; the k-th reply of connection c
                is that of request c + k * C, because a server answers a connection in order
    due         start + i * 10^9 / rate nanoseconds of the monotonic clock
    sent        when its bytes were made; later than due if the generator was late, or the socket was full
    answered    when its whole reply was received

`answered - due` is the latency.  `sent - due` of requests that no full socket held up is the generator's own lateness,
which is a part of every latency; `lateness` in the summary reports it.  bench/rig/echo.py answers at once, so it shows
the cost of loopback and generator without a server.

With `collections` a GET is an HGET and a SET an HSET, of fields named as keys in the hash HASH_KEY; an ADD, which there
is only then, is a ZADD of a random score to a member of the sorted set ZSET_KEY.

With a rate of 0 the loop is closed: each connection keeps `pipeline` requests in flight, and a request is due when it
is made.  This is how memtier_benchmark counts.

The generator is a separate process: one kernel without the interpreter, which sleeps between requests.  It uses half a
core at 20,000 requests a second.  If permitted (root), it takes a real-time priority, as if it ran on a machine of its
own: other work on these processors then delays the server, as it should, and not the measurement.

Sources of error: a processor shared with other work (see lateness); replies that are not RESP2.
"""

import contextlib
import ctypes
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from bench.rig.client import encode
from bench.rig.load import KEY_DIGITS, POOL_SIZE, pool
from bench.rig.servers import environment
from kvstore.system.libc import (
    CLOCK_MONOTONIC,
    EAGAIN,
    EINTR,
    EPOLL_EVENT_SIZE,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    MSG_NOSIGNAL,
    clock_gettime,
    errno,
    ints_at,
    recv,
    send,
    words_at,
)
from mmcore.jit import build, copy_bytes, external, int32, int64, kernel, linked, named_tuple, uint8

system_call = external("syscall", int64(int64, int64, int64, int64, int64, int64, int64))
EPOLL_PWAIT2 = 441  # epoll_wait with a time-out in nanoseconds; Linux 5.11
PR_SET_TIMERSLACK = 29

INPUT_SIZE = 1 << 18
OUTPUT_SIZE = 1 << 17  # bytes that a connection can buffer while its socket is full
EVENTS_MAX = 256
SCORES = 10**KEY_DIGITS  # scores of an ADD are below
DESCRIPTORS_MAX = 1024
LEAD_NS = 20_000_000  # from the order to begin to the first request
DRAIN_NS = 60 * 10**9  # how long to wait for replies after the last request

# The kinds of requests.
GET, SET, ADD = 0, 1, 2
HASH_KEY, ZSET_KEY = b"bench:hash", b"bench:zset"
# The results of `generate`.
ENDED, BROKEN, UNANSWERED = 0, -1, -2
# The states of the parser of a connection's replies.
TYPE, TEXT, LENGTH, PAYLOAD = 0, 1, 2, 3


class Load(NamedTuple):
    """The generator's state."""

    plan: np.ndarray  # int64[PLAN_WORDS]    what to do, below
    control: np.ndarray  # int64[8]              shared with the parent process: word STOP
    rows: np.ndarray  # int64[C, ROW_WORDS]   the connections, below
    output: np.ndarray  # uint8[C, OUTPUT_SIZE] bytes not yet sent
    input: np.ndarray  # uint8[INPUT_SIZE]
    scratch: np.ndarray  # int64[512]            events and times for system calls
    templates: np.ndarray  # uint8[3, request]     a GET, a SET and an ADD
    values: np.ndarray  # uint8[POOL_SIZE]      the pool from which values are cut
    times: np.ndarray  # int64[N, 3]           due, sent, answered [ns]
    kinds: np.ndarray  # uint8[N]              GET, SET or ADD, and HELD
    slots: np.ndarray  # int64[DESCRIPTORS_MAX] the connection of a descriptor


LOAD = named_tuple(
    (
        int64[::1],
        int64[::1],
        int64[:, ::1],
        uint8[:, ::1],
        uint8[::1],
        int64[::1],
        uint8[:, ::1],
        uint8[::1],
        int64[:, ::1],
        uint8[::1],
        int64[::1],
    ),
    Load,
)

STOP = 0
HELD = 4  # flag of a request that a full socket kept waiting
(
    EPOLL,  # descriptor
    START,  # [ns]
    RATE,  # requests a second; 0 for a closed loop
    PIPELINE,  # requests in flight per connection, in a closed loop
    KEYS,
    VALUE_SIZE,
    SET_SHARE,  # of 65536
    ADD_SHARE,
    SEED,
    LONGEST,  # bytes of the longest request
    SIZES,  # bytes of a GET, a SET and an ADD
    _,
    _,
    KEYS_AT,  # offsets of the key's digits in each
    _,
    _,
    VALUE_AT,
    SCORE_AT,
    SCRATCH,  # address of scratch
    INPUT,  # address of input
    OUTPUT,  # address of output
    NEXT,  # all requests below are due
    ANSWERED_ALL,
    ERRORS,  # error replies
    PLAN_WORDS,
) = range(25)
(
    DESCRIPTOR,
    MADE,  # requests of this connection whose bytes were made
    ANSWERED,
    OUT_START,
    OUT_END,
    FULL,  # the socket's buffer is full
    PHASE,
    SIGN,
    NUMBER,  # of a bulk string's length line, or bytes of its payload still to come
    ROW_WORDS,
) = range(10)

EPOLL_EVENT_AT = 16  # words; below it the times


@kernel
def now_ns(scratch):  # type: ignore[no-untyped-def]
    """The monotonic clock [ns]; uses two words at the address `scratch`."""
    clock_gettime(int32(CLOCK_MONOTONIC), scratch)
    time = words_at(scratch, 2)
    return time[0] * 1_000_000_000 + time[1]


@kernel
def due_ns(plan, request):  # type: ignore[no-untyped-def]
    """When a request of an open loop is due [ns]."""
    return plan[START] + request * 1_000_000_000 // plan[RATE]


@kernel
def mix(number, seed):  # type: ignore[no-untyped-def]
    """A hash of a request's number: the finisher of splitmix64; int64, not negative."""
    z = np.uint64(number) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(1))


@kernel
def put_digits(out, at, number):  # type: ignore[no-untyped-def]
    """Write the KEY_DIGITS digits of a number."""
    for digit in range(at + KEY_DIGITS - 1, at - 1, -1):
        out[digit] = 48 + number % 10
        number //= 10


@kernel
def make_request(load, c, row, request, held):  # type: ignore[no-untyped-def]
    """Append the bytes of a request to its connection's output."""
    plan, out = load.plan, load.output[c]
    hashed = mix(request, plan[SEED])
    draw = hashed & 0xFFFF
    kind = SET if draw < plan[SET_SHARE] else ADD if draw < plan[SET_SHARE] + plan[ADD_SHARE] else GET
    size, start = plan[SIZES + kind], row[OUT_END]
    copy_bytes(out, start, load.templates[kind], 0, size)
    put_digits(out, start + plan[KEYS_AT + kind], (hashed >> 16) % plan[KEYS])
    if kind == ADD:
        put_digits(out, start + plan[SCORE_AT], hashed % SCORES)
    elif kind == SET:
        copy_bytes(out, start + plan[VALUE_AT], load.values, hashed % (POOL_SIZE - plan[VALUE_SIZE]), plan[VALUE_SIZE])
    row[OUT_END] = start + size
    load.kinds[request] = kind | (HELD if held else 0)


@linked(int64(LOAD, int64, int64))
def pump(load, c, now):  # type: ignore[no-untyped-def]
    """Make and send the due requests of a connection, until its socket is full.  Returns 0, or BROKEN."""
    plan, row = load.plan, load.rows[c]
    connections = load.rows.shape[0]
    held = row[FULL] != 0  # requests that became due meanwhile were held up, too
    while True:
        while row[OUT_END] + plan[LONGEST] <= OUTPUT_SIZE:
            request = c + connections * row[MADE]
            if request >= plan[NEXT]:
                break
            if plan[RATE] == 0 and row[MADE] - row[ANSWERED] >= plan[PIPELINE]:
                break
            make_request(load, c, row, request, held)
            load.times[request, 0] = due_ns(plan, request) if plan[RATE] > 0 else now
            load.times[request, 1] = now
            row[MADE] += 1
        if row[OUT_START] == row[OUT_END]:
            return 0
        address = plan[OUTPUT] + c * OUTPUT_SIZE + row[OUT_START]
        sent = send(int32(row[DESCRIPTOR]), address, row[OUT_END] - row[OUT_START], int32(MSG_NOSIGNAL))
        if sent < 0:
            code = errno()
            if code == EINTR:
                continue
            if code != EAGAIN:
                return BROKEN
            row[FULL] = 1
            return 0
        row[OUT_START] += sent
        if row[OUT_START] == row[OUT_END]:
            row[OUT_START] = row[OUT_END] = row[FULL] = 0


@kernel
def answered(load, c, row, kind, now):  # type: ignore[no-untyped-def]
    """Note that the oldest open request of a connection is answered."""
    load.times[c + load.rows.shape[0] * row[ANSWERED], 2] = now
    row[ANSWERED] += 1
    load.plan[ANSWERED_ALL] += 1
    row[PHASE] = TYPE
    if kind == 45:  # "-"
        load.plan[ERRORS] += 1


@kernel
def parse(load, c, row, count, now):  # type: ignore[no-untyped-def]
    """Parse `count` more received bytes of a connection's replies.  Returns 0, or BROKEN if they are not RESP2."""
    data, at = load.input, 0
    while at < count:
        if row[PHASE] == PAYLOAD:
            step = min(row[NUMBER], count - at)
            row[NUMBER] -= step
            at += step
            if row[NUMBER] == 0:
                answered(load, c, row, 36, now)
            continue
        byte = int64(data[at])
        at += 1
        if row[PHASE] == TYPE:
            if byte == 36:  # "$"
                row[PHASE], row[NUMBER], row[SIGN] = LENGTH, 0, 1
            elif byte == 43 or byte == 45 or byte == 58:  # "+", "-", ":"
                row[PHASE], row[SIGN] = TEXT, byte
            else:
                return BROKEN
        elif row[PHASE] == TEXT:
            if byte == 10:
                answered(load, c, row, row[SIGN], now)
        elif byte == 45:
            row[SIGN] = -1
        elif 48 <= byte <= 57:
            row[NUMBER] = row[NUMBER] * 10 + byte - 48
        elif byte == 10:
            if row[SIGN] < 0:
                answered(load, c, row, 36, now)
            else:
                row[PHASE] = PAYLOAD
                row[NUMBER] += 2
    return 0


@linked(int64(LOAD, int64))
def receive(load, c):  # type: ignore[no-untyped-def]
    """Receive everything that a connection's socket has.  Returns 0, or BROKEN."""
    plan, row = load.plan, load.rows[c]
    while True:
        count = recv(int32(row[DESCRIPTOR]), plan[INPUT], INPUT_SIZE, int32(0))
        if count <= 0:
            code = errno()
            if count < 0 and code == EINTR:
                continue
            return 0 if count < 0 and code == EAGAIN else BROKEN
        if parse(load, c, row, count, now_ns(plan[SCRATCH])) != 0:
            return BROKEN
        if count < INPUT_SIZE:
            return 0


@kernel
def wait(load, timeout_ns):  # type: ignore[no-untyped-def]
    """Sleep until a socket is ready or the time is over.  Returns the number of events in scratch."""
    plan = load.plan
    times = words_at(plan[SCRATCH], 4)
    times[2] = timeout_ns // 1_000_000_000
    times[3] = timeout_ns % 1_000_000_000
    events = plan[SCRATCH] + 8 * EPOLL_EVENT_AT
    return system_call(EPOLL_PWAIT2, plan[EPOLL], events, EVENTS_MAX, plan[SCRATCH] + 16, 0, 0)


@linked(int64(LOAD))
def generate(load):  # type: ignore[no-untyped-def]
    """Run until stopped or out of room for records, then until all is answered; ENDED, BROKEN or UNANSWERED."""
    plan, rows = load.plan, load.rows
    connections, total = rows.shape[0], load.times.shape[0]
    ends = 0  # deadline for the last reply; 0 while requests are made
    if plan[RATE] == 0:
        plan[NEXT] = total
        for c in range(connections):
            if pump(load, c, now_ns(plan[SCRATCH])) != 0:
                return BROKEN
    while True:
        now = now_ns(plan[SCRATCH])
        if ends == 0 and (load.control[STOP] != 0 or (plan[RATE] > 0 and plan[NEXT] == total)):
            ends = now + DRAIN_NS
            if plan[RATE] == 0:
                plan[NEXT] = 0
        timeout = 100_000_000
        if ends == 0 and plan[RATE] > 0:
            due = due_ns(plan, plan[NEXT])
            while due <= now and plan[NEXT] < total:
                c = plan[NEXT] % connections
                plan[NEXT] += 1
                if rows[c, FULL] == 0 and pump(load, c, now) != 0:
                    return BROKEN
                due = due_ns(plan, plan[NEXT])
            timeout = min(timeout, max(0, due - now_ns(plan[SCRATCH])))
        elif ends != 0:
            made = int64(0)
            for c in range(connections):
                made += rows[c, MADE]
            if plan[ANSWERED_ALL] >= max(made, plan[NEXT]):
                return ENDED
            if now > ends:
                return UNANSWERED
        elif plan[ANSWERED_ALL] == total:
            return ENDED
        ready = wait(load, timeout)
        if ready < 0 and errno() != EINTR:
            return BROKEN
        for i in range(ready):
            event = ints_at(plan[SCRATCH] + 8 * EPOLL_EVENT_AT + i * EPOLL_EVENT_SIZE, 2)
            kinds, c = int64(event[0]), load.slots[event[1]]
            if kinds & (EPOLLIN | EPOLLERR | EPOLLHUP) and receive(load, c) != 0:
                return BROKEN
            if (rows[c, FULL] or plan[RATE] == 0) and pump(load, c, now_ns(plan[SCRATCH])) != 0:
                return BROKEN


# --------------------------------------------------------------------------------------------- the process of generator


@dataclass(frozen=True)
class Plan:
    """The load to generate."""

    port: int
    rate: int  # requests a second; 0 for a closed loop
    connections: int
    keys: int
    value_size: int  # [bytes]
    seconds_max: float  # room for records of an open loop
    set_share: float = 0.5
    add_share: float = 0.0  # of collections only
    collections: bool = False
    pipeline: int = 1  # closed loop only
    requests_max: int = 0  # room for records of a closed loop
    seed: int = 1


@dataclass
class Outcome:
    """The records of a run.  Times are of the monotonic clock [ns]."""

    due: np.ndarray  # int64[N]
    sent: np.ndarray  # int64[N]
    answered: np.ndarray  # int64[N]
    sets: np.ndarray  # bool[N]
    held: np.ndarray  # bool[N]    a full socket kept it waiting
    errors: int  # error replies
    processor_share: float  # the share of one core that the generator used

    @property
    def latency(self) -> np.ndarray:
        """int64[N]: the time from when a request was due to its reply."""
        latency: np.ndarray = self.answered - self.due
        return latency

    def lateness(self, since_ns: int = 0) -> np.ndarray:
        """int64[]: the generator's delay from due to sent, of requests due since then that no full socket held up."""
        lateness: np.ndarray = (self.sent - self.due)[~self.held & (self.due >= since_ns)]
        return lateness

    def between(self, first_ns: int, last_ns: int) -> np.ndarray:
        """bool[N]: whether each request was due in that time."""
        chosen: np.ndarray = (self.due >= first_ns) & (self.due < last_ns)
        return chosen


class GeneratorFailed(Exception):
    """The generator ended early; the message says why."""


class Generator:
    """The benchmark's handle on the generator's process: prepare it, start it, stop it, read its records."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-load-")
        self._records = Path(self._directory.name) / "records.npz"
        control = Path(self._directory.name) / "control"
        control.write_bytes(bytes(64))
        self._control = np.memmap(control, np.int64, "r+")
        words = [str(control), str(self._records), json.dumps(asdict(self.plan))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rig.openloop", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            self._expect("ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.communicate()
        self._directory.cleanup()

    def start(self) -> int:
        """Begin.  Returns the time at which the first request is due [ns]."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._expect("started").split()[1])

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> Outcome:
        """Stop making requests, and wait for the open ones.  Returns all records."""
        self._control[STOP] = 1
        summary = json.loads(self._expect("ended").split(maxsplit=1)[1])
        with np.load(self._records) as found:
            times, kinds = found["times"], found["kinds"]
        return Outcome(
            times[:, 0],
            times[:, 1],
            times[:, 2],
            (kinds & (HELD - 1)) == SET,
            (kinds & HELD) != 0,
            summary["errors"],
            summary["processor_share"],
        )

    def _expect(self, word: str) -> str:
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text.startswith(word):
            _, errors = self._process.communicate()
            raise GeneratorFailed(f"no {word!r} from the load generator: {text}{errors[-2000:]}")
        return text


def forms(plan: Plan) -> tuple[bytes, bytes, bytes]:
    """The bytes of a GET, a SET and an ADD, with zeros for all digits and for the value."""
    key, value = b"key:" + b"0" * KEY_DIGITS, bytes(plan.value_size)
    add = encode("ZADD", ZSET_KEY, b"0" * KEY_DIGITS, key)
    if plan.collections:
        return encode("HGET", HASH_KEY, key), encode("HSET", HASH_KEY, key, value), add
    return encode("GET", key), encode("SET", key, value), add


def prepare(plan: Plan, control: np.ndarray) -> tuple[Load, list[socket.socket], select.epoll]:
    """Connect, and lay out the state."""
    _, set_, add = requests = forms(plan)
    longest = max(map(len, requests))
    if longest > OUTPUT_SIZE:
        raise ValueError(f"values of {plan.value_size} bytes are too long for the generator")
    templates = np.zeros((len(requests), longest), np.uint8)
    for kind, request in enumerate(requests):
        templates[kind, : len(request)] = np.frombuffer(request, np.uint8)
    room = int(plan.rate * plan.seconds_max) if plan.rate else plan.requests_max
    load = Load(
        np.zeros(PLAN_WORDS, np.int64),
        control,
        np.zeros((plan.connections, ROW_WORDS), np.int64),
        np.zeros((plan.connections, OUTPUT_SIZE), np.uint8),
        np.zeros(INPUT_SIZE, np.uint8),
        np.zeros(EPOLL_EVENT_AT + EVENTS_MAX * 2, np.int64),
        templates,
        pool(),
        np.zeros((room, 3), np.int64),
        np.zeros(room, np.uint8),
        np.zeros(DESCRIPTORS_MAX, np.int64),
    )
    words = load.plan
    words[RATE], words[PIPELINE], words[KEYS] = plan.rate, plan.pipeline, plan.keys
    words[VALUE_SIZE], words[SEED], words[SET_SHARE] = plan.value_size, plan.seed, round(plan.set_share * 65536)
    words[ADD_SHARE], words[LONGEST] = round(plan.add_share * 65536), longest
    for kind, request in enumerate(requests):
        words[SIZES + kind], words[KEYS_AT + kind] = len(request), request.rindex(b"key:") + 4
    words[VALUE_AT] = len(set_) - 2 - plan.value_size
    words[SCORE_AT] = add.index(b"0" * KEY_DIGITS)
    words[SCRATCH], words[INPUT], words[OUTPUT] = (a.ctypes.data for a in (load.scratch, load.input, load.output))
    # Touch the pages here, not while the clock runs.
    load.times[:], load.output[:], load.kinds[:] = 0, 0, 0
    epoll = select.epoll()
    connections = []
    for c in range(plan.connections):
        connection = socket.create_connection(("127.0.0.1", plan.port), 60.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        connections.append(connection)
        load.rows[c, DESCRIPTOR] = connection.fileno()
        load.slots[connection.fileno()] = c
        epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    words[EPOLL] = epoll.fileno()
    return load, connections, epoll


def run(control_path: str, records_path: str, plan: Plan) -> None:
    """The generator's process: it talks to its parent by lines on stdin and stdout."""
    load, connections, epoll = prepare(plan, np.memmap(control_path, np.int64, "r+"))
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    # Without this, sleeps may last up to 50 us too long.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    build()
    print("ready", flush=True)
    sys.stdin.readline()
    load.plan[START] = time.monotonic_ns() + LEAD_NS
    print("started", load.plan[START], flush=True)
    began, used = time.monotonic(), time.process_time()
    ending = generate(load)
    share = (time.process_time() - used) / (time.monotonic() - began)
    if ending != ENDED:
        reason = {BROKEN: "a connection broke", UNANSWERED: "requests were left without an answer"}[ending]
        raise SystemExit(f"{reason}; {load.plan[ANSWERED_ALL]} were answered")
    done = load.times[:, 2] > 0
    np.savez(records_path, times=load.times[done], kinds=load.kinds[done])
    print("ended", json.dumps({"errors": int(load.plan[ERRORS]), "processor_share": share}), flush=True)
    epoll.close()
    for connection in connections:
        connection.close()


def main(arguments: Sequence[str]) -> None:
    """`python -m bench.rig.openloop CONTROL RECORDS PLAN`; Generator starts this."""
    control, records, plan = arguments
    run(control, records, Plan(**json.loads(plan)))


if __name__ == "__main__":
    main(sys.argv[1:])
