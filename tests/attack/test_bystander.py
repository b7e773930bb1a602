r"""The server survives all input of attackers, and a bystander beside them gets the right replies.

    streams     well-formed commands with odd arguments: each brings exactly its replies, in valid RESP
    rubbish     streams with bytes changed, lost, doubled; half commands, wrong lengths, inline, HTTP: the server sends
                only whole replies, a protocol error is the last of them, and no command in a body is executed
    strangers   the same without a password: the server shows nothing and does nothing

One thread plays attackers and bystander, in an order that depends on the seed, so a seed repeats the attack.
"""

import random
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from tests.attack.commands import Stream, command, stream
from tests.attack.conftest import PASSWORD
from tests.attack.seeds import seeds, told
from tests.harness import Process
from tests.server.wire import OK, QUEUED, Closed, Failure, Status, Wire, encode

TOKEN = b"the end \r\n+of it"
PIECES = [
    b"*", b"$", b"\r\n", b"\n", b"\r", b"0", b"-1", b"1", b"9999999999999999999", b"4", b" ", b'"', b"'", b"\\x",
    b"\x00", b"*1\r\n", b"$5\r\n", b"*-1\r\n", b"*1000000\r\n", b"*1048577\r\n", b"$536870913\r\n", b"+", b":", b"%",
    b"x" * 300, b"*2\r\n$3\r\nGET\r\n$1\r\na", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf", b'SET a "', b"PING\r\n",
    b"ECHO 'a b'\r\n",
]  # fmt: skip
WEB = [
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nSET forged 1\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nSET forged 1\r\n",
    b"post /\r\nSET forged 1\r\n",
    b"Host: localhost\r\nSET forged 1\r\n",
]


class Bystander:
    """A client that takes no part in the attack, and checks every reply."""

    def __init__(self, server: Process) -> None:
        self.server, self.count = server, 0
        self.wire = Wire(server.address)
        if server.password:
            assert self.wire("AUTH", server.password) == OK
        assert self.wire("SELECT", 9) == OK

    def look(self) -> None:
        """Send some commands whose replies do not depend on other clients."""
        self.count += 1
        mine = b"%d" % self.count
        commands = [
            ("PING",), ("MULTI",), ("SET", "mine", mine), ("APPEND", "mine", "!"), ("GET", "mine"), ("EXEC",),
            ("ECHO", mine),
        ]  # fmt: skip
        try:
            replies = self.wire.pipeline(commands)
        except (Closed, OSError) as error:
            raise AssertionError(f"{error!r}; {self.server.process.poll()}: {self.server.log()[-3000:]}") from error
        assert replies == [
            *(Status("PONG"), OK, QUEUED, QUEUED, QUEUED),
            [OK, len(mine) + 1, mine + b"!"],
            mine,
        ]

    def __enter__(self) -> "Bystander":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Check once more, and check the log."""
        with self.wire:
            if kind is None:
                self.look()
                assert self.server.process.poll() is None
                assert "Traceback" not in self.server.log(), self.server.log()[-5000:]


def pieces(generator: random.Random, data: bytes) -> list[bytes]:
    """The data, cut into random pieces."""
    found, start = [], 0
    while start < len(data):
        step = generator.choice((1, 7, 100, 1000, 100_000, 1 << 20))
        found.append(data[start : start + step])
        start += step
        if len(found) > 50:
            return [*found, data[start:]]
    return found


def check_replies(wire: Wire, made: Stream) -> None:
    """Read as many replies as the stream must bring; the last ones are the token, and QUIT's."""
    replies: list[Any] = []
    try:
        while len(replies) < made.replies:
            replies.append(wire.reply())
    except (Closed, AssertionError) as error:
        raise AssertionError(f"{len(replies)} of {made.replies} replies: {error!r}, after {replies[-3:]}") from error
    echoed = replies[-2:-1] if made.closes else replies[-1:]
    assert echoed == [TOKEN], f"not where it must be: {replies[-4:]}"
    if made.closes:
        assert wire.until_closed() == b""
    else:
        assert wire.pending() == b""


def play_streams(server: Process, generator: random.Random, rounds: int, steps: int) -> None:
    """Play streams over some lasting connections in turn, with the bystander in between."""
    with Bystander(server) as bystander, ExitStack() as stack:

        def connect() -> Wire:
            return stack.enter_context(Wire(server.address, generator.choice((2, 3))))

        connections = [connect() for _ in range(3)]
        for _ in range(rounds):
            place = generator.randrange(len(connections))
            made = stream(generator, generator.randrange(1, steps), TOKEN)
            for piece in pieces(generator, made.data):
                connections[place].send(piece)
                if generator.random() < 0.2:
                    bystander.look()
            check_replies(connections[place], made)
            if made.closes:
                connections[place] = connect()
            bystander.look()


def test_every_command_with_odd_arguments_brings_its_replies_and_disturbs_nobody(attacked: Process) -> None:
    """Twenty thousand commands of the whole table, inside and outside transactions, with replies off and on."""
    for seed in seeds("streams", 20):
        with told(seed) as generator:
            play_streams(attacked, generator, 40, 60)


@pytest.mark.slow
def test_every_command_with_odd_arguments_for_long(attacked: Process) -> None:
    """Two million commands."""
    for seed in seeds("streams", 400):
        with told(seed) as generator:
            play_streams(attacked, generator, 160, 60)


def rubbish(generator: random.Random) -> bytes:
    """Good commands with some of their bytes changed, lost, doubled or moved; or bytes that are not a command."""
    if generator.random() < 0.1:
        return generator.choice(WEB)
    harmless = [
        words for words in (command(generator) for _ in range(8)) if words[0].upper() not in (b"CLIENT", b"CONFIG")
    ]
    data = bytearray(b"".join(encode(*words) for words in harmless))
    for _ in range(generator.choice((1, 1, 2, 4, 20))):
        at, kind = generator.randrange(len(data) + 1), generator.randrange(6)
        if kind == 0:
            data[at:at] = generator.choice(PIECES)
        elif kind == 1:
            del data[at : at + generator.randrange(1, 10)]
        elif kind == 2 and data:
            data[at % len(data)] = generator.randrange(256)
        elif kind == 3:
            data[at:at] = data[generator.randrange(len(data) + 1) :][: generator.randrange(40)]
        elif kind == 4:
            data[at:at] = generator.randbytes(generator.randrange(30))
        else:
            del data[at:]
    return bytes(data)


DANGEROUS = (b"SHUTDOWN", b"CONFIG", b"SLEEP", b"PAUSE", b"KILL", b"SET-ACTIVE", b"SHIFT-CLOCK", b"MONITOR", b"WAIT")


def whole_replies(data: bytes) -> list[object]:
    """The replies in some bytes; AssertionError unless the bytes are whole replies and nothing else."""
    replies = []
    wire = Wire.__new__(Wire)  # to decode, without a connection
    wire.buffer, wire.position, wire.protocol = bytearray(data), 0, 3
    while wire.position < len(data):
        replies.append(wire._decode())
    return replies


def play_rubbish(server: Process, generator: random.Random, rounds: int) -> None:
    """Send rubbish over one connection after the other, and read all replies."""
    with Bystander(server) as bystander:
        for _ in range(rounds):
            data = rubbish(generator)
            if any(word in data.upper() for word in DANGEROUS):
                continue
            with Wire(server.address) as wire:
                try:
                    for piece in pieces(generator, data):
                        wire.send(piece)
                    if generator.random() < 0.3:
                        bystander.look()
                    wire.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    continue  # the server may close it: its replies are lost, with the rest of the input
                replies = whole_replies(wire.until_closed())
            refused = [i for i, reply in enumerate(replies) if _is_protocol_error(reply)]
            assert refused in ([], [len(replies) - 1]), replies[-5:]
            bystander.look()
        assert bystander.wire("SELECT", 0) == OK
        assert bystander.wire("EXISTS", "forged") == 0
        assert bystander.wire("SELECT", 9) == OK


def _is_protocol_error(reply: object) -> bool:
    return isinstance(reply, Failure) and reply.text.startswith("ERR Protocol error")


def test_what_is_no_protocol_is_answered_in_the_protocol_or_closed(attacked: Process) -> None:
    """Two thousand streams of rubbish."""
    for seed in seeds("rubbish", 20):
        with told(seed) as generator:
            play_rubbish(attacked, generator, 100)


@pytest.mark.slow
def test_what_is_no_protocol_for_long(attacked: Process) -> None:
    """A hundred thousand."""
    for seed in seeds("rubbish", 200):
        with told(seed) as generator:
            play_rubbish(attacked, generator, 500)


REFUSALS = (
    *("NOAUTH ", "WRONGPASS ", "NOPROTO ", "EXECABORT Transaction discarded because of: wrong number"),
    *("ERR wrong number of arguments", "ERR unknown command", "ERR unknown sub"),
)
FOR_STRANGERS = (b"AUTH", b"HELLO")  # they have refusals of their own


def play_stranger(server: Process, generator: random.Random, rounds: int) -> None:
    """Commands before AUTH: each is refused, and the bystander's key stays as it is."""
    with Bystander(server) as bystander:
        for _ in range(rounds):
            requests = [words for words in (command(generator) for _ in range(20)) if _fits_a_stranger(words)]
            with Wire(server.address) as wire:
                for piece in pieces(generator, b"".join(encode(*words) for words in requests)):
                    wire.send(piece)
                for words in requests:
                    reply = wire.reply()
                    refusals = ("ERR ", *REFUSALS) if words[0].upper() in FOR_STRANGERS else REFUSALS
                    assert isinstance(reply, Failure) and reply.text.startswith(refusals), f"{words}: {reply}"
                assert wire("AUTH", PASSWORD) == OK
                assert wire("DBSIZE") == 0
            bystander.look()


def _fits_a_stranger(words: list[bytes]) -> bool:
    # Longer requests are protocol errors before a password is given; `rubbish` tests those.
    return len(words) <= 10 and all(len(word) <= 16_384 for word in words)


def test_before_a_password_is_given_nothing_is_shown_and_nothing_done(locked: Process) -> None:
    """Sends every command of the table, with odd arguments."""
    for seed in seeds("strangers", 10):
        with told(seed) as generator:
            play_stranger(locked, generator, 30)


@pytest.mark.slow
def test_before_a_password_is_given_for_long(locked: Process) -> None:
    """The same, longer."""
    for seed in seeds("strangers", 100):
        with told(seed) as generator:
            play_stranger(locked, generator, 300)


def test_the_rig_would_notice() -> None:
    """Canaries: a missing reply, a forged one, a part of one."""
    generator = random.Random(7)
    made = stream(generator, 40, TOKEN)
    assert made.replies >= 20 and made.requests[-2 if made.closes else -1] == [b"ECHO", TOKEN]
    assert whole_replies(b"+OK\r\n-ERR x\r\n:1\r\n") == [OK, Failure("ERR x"), 1]
    for bad in (b"FORGED\r\n", b"$3\r\nabcd\r\n", b"+OK\r\n\r\n"):
        with pytest.raises((AssertionError, ValueError)):
            whole_replies(bad)
