"""The fuzzer's commands given to kernels directly, without a server: every index outside its array raises an error.

Compiled code reads beyond an array without an error.  Under NUMBA_BOUNDSCHECK=1, which `make test` uses too, it raises
IndexError, and the test names the seed.  Every run checks that each command sends one reply, and after every hundred
commands that machine, heap and keyspace are sound.
"""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore.commands.table import find
from kvstore.lifetimes.connection import FIELDS, SCAN_ARGUMENTS
from kvstore.lifetimes.sizes import ARGUMENTS_MAX
from kvstore.lifetimes.wiring import OpenStore, Shard
from kvstore.wire.request import COMPLETE, EMPTY, INCOMPLETE, MALFORMED, parse_request
from tests.attack.commands import command
from tests.attack.seeds import seeds, told
from tests.attack.test_bystander import PIECES, rubbish
from tests.kvstore.bare import HANDLERS, Bare, parse


def served(store: Bare, words: list[bytes]) -> bytes | None:
    """The reply of the command's kernel; None for what is not a kernel's, or left to Python."""
    row = find(words[0]) if words else None
    if row is None or words[0].upper() not in HANDLERS or not row.takes(len(words)):
        return None
    return store.attempt(*words)


def play(store: Bare, generator: random.Random, count: int) -> int:
    """Play `count` commands that kernels serve; returns how many there were."""
    done = tried = 0
    while done < count:
        tried += 1
        assert tried < 100 * count, "hardly any command is a kernel's"
        words = command(generator)
        reply = served(store, words)
        if reply is None:
            continue
        done += 1
        value, end = parse(reply, 0)
        assert end == len(reply), f"{words} was answered {value}, and more: {reply[end:][:100]!r}"
        if generator.random() < 0.01:
            store.clock_ms += generator.choice((1, 1000, 10**7))
        if generator.random() < 0.005:
            if store.forks:
                store.release(store.forks[0])
            else:
                store.fork()
        if done % 100 == 0:
            store.check()
    return done


@contextlib.contextmanager
def bare(generator: random.Random) -> Iterator[Bare]:
    """A store in either protocol, with little memory."""
    with Bare(size=generator.choice((8, 64)) << 20, protocol=generator.choice((2, 3)), seed=1) as store:
        yield store


def test_commands_with_odd_arguments_leave_a_sound_store() -> None:
    """Plays every command that has a kernel, in stores with and without room, with and without a frozen root."""
    for seed in seeds("kernels", 6):
        with told(seed) as generator, bare(generator) as store:
            play(store, generator, 400)
            store.check()


@pytest.mark.slow
def test_commands_with_odd_arguments_leave_a_sound_store_for_long() -> None:
    """The same, longer."""
    for seed in seeds("kernels", 1000):
        with told(seed) as generator, bare(generator) as store:
            play(store, generator, 2000)


class Requests:
    """The parser of requests over an array that ends with the bytes: it must not read beyond them."""

    def __init__(self) -> None:
        self.bare = Bare(size=4 << 20)
        self.shard = Shard()  # with as many arguments as the server has; it owns the room for a line
        self.opened = OpenStore(self.bare.pool, self.shard, self.bare.space)
        self.context, self.places = self.opened.context, self.shard.args

    def all(self, data: bytes, trusted: bool = True) -> list[list[bytes]]:
        """The commands in some bytes, up to an error or the end."""
        r = self.context.registers
        text, row = np.frombuffer(data, np.uint8).copy(), np.zeros(FIELDS, np.int64)
        row[SCAN_ARGUMENTS] = -1
        r.QUERY_ADDRESS, r.QUERY_SIZE = text.ctypes.data, len(data)
        r.INPUT_POSITION, r.REPLY_LENGTH, r.REQUIRE_AUTH = 0, 0, not trusted
        found = []
        while (status := int(parse_request(self.context, row))) in (COMPLETE, EMPTY):
            if status == COMPLETE:
                count = int(r.ARGC)
                assert 0 < count <= ARGUMENTS_MAX
                places = np.asarray(self.places[: 2 * count]).reshape(-1, 2).tolist()
                assert all(0 <= at <= at + size <= len(data) for at, size in places)
                found.append([text[at : at + size].tobytes() for at, size in places])
        assert status in (INCOMPLETE, MALFORMED)
        return found


@pytest.fixture(scope="module")
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    made.bare.close()


def test_rubbish_is_parsed_within_its_bytes(requests: Requests) -> None:
    """Parses streams of the fuzzer, whole and cut anywhere."""
    for seed in seeds("requests", 150):
        with told(seed) as generator:
            data = rubbish(generator)
            requests.all(data, generator.random() < 0.7)
            requests.all(data[: generator.randrange(len(data) + 1)])


@pytest.mark.parametrize(
    "line",
    [
        b"a " * (ARGUMENTS_MAX + 5) + b"\r\n",
        b"a " * (1 << 16) + b"\r\n",
        b'"' * (1 << 17) + b"\r\n",
        b"a" * (1 << 17) + b"\r\n",
        b"'a' " * (1 << 17) + b"\n",
        b"\x00" * (1 << 17) + b"\n",
    ],
    ids=["too many words", "words", "quotes", "one word", "quoted words", "zeros"],
)
def test_a_line_that_is_too_long_is_refused_though_its_end_is_there(requests: Requests, line: bytes) -> None:
    """64 KiB is the limit of an inline command, whether or not its newline has arrived."""
    assert requests.all(b"PING\r\n" + line + b"PING\r\n") == [[b"PING"]]


def test_pieces_of_the_protocol_in_any_order_are_parsed_within_their_bytes(requests: Requests) -> None:
    """Parses numbers, signs and line ends in random order."""
    for seed in seeds("pieces", 300):
        with told(seed) as generator:
            requests.all(b"".join(generator.choices(PIECES, k=generator.randrange(1, 30))))
