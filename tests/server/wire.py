r"""A connection that shows the bytes on the wire, and transcripts: commands with the replies they must get.

redis-py hides the subject of these tests: the type of a reply, the difference between a null bulk and a null array, the
exact text of an error.  `Wire` sends bytes and decodes replies into values that keep all of this.

A transcript is one command a line, in redis-cli's quoting, and after an arrow the reply:

    SET k "a\x00b" NX GET   -> nil
    GET k                   -> "a\x00b"
    OBJECT ENCODING k       -> "embstr"
    INCR k                  -> !ERR value is not an integer or out of range
    MGET k missing          -> ["a\x00b", nil]
    TTL k                   -> -1
    HELLO 9                 -> !NOPROTO ...

    OK          a status            "text"      a bulk          12          an integer
    nil         a null              nil*        a null array    [a, b]      an array
    {a: b}      a map, a flat array in RESP2    ,1.5            a double, a bulk in RESP2
    =text       a verbatim text, a bulk in RESP2                !text       an error; "..." at its end: a beginning
    any         anything but an error

A backslash at a line's end continues it.  Both protocols must give the same reply, except as the notation says.
"""

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Argument = bytes | str | int | float
PATIENCE_S = 180.0  # events take milliseconds, but a busy machine may take this long


@dataclass(frozen=True)
class Status:
    """A simple string."""

    text: str


@dataclass(frozen=True)
class Failure:
    """An error reply."""

    text: str


@dataclass(frozen=True)
class Verbatim:
    """A RESP3 verbatim string."""

    kind: str
    data: bytes


class NullArray:
    """RESP2's *-1; RESP3 has one null only."""

    def __repr__(self) -> str:
        return "nil*"


NULL_ARRAY = NullArray()
OK = Status("OK")
QUEUED = Status("QUEUED")


class Closed(Exception):
    """The server closed the connection instead of replying."""


def encode(*arguments: Argument) -> bytes:
    """A command as an array of bulks."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Wire:
    """One connection.  Every wait fails after `timeout_s`."""

    def __init__(self, address: tuple[str, int] | str, protocol: int = 2, timeout_s: float = PATIENCE_S) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.buffer = bytearray()
        self.position = 0
        self.protocol = protocol
        try:
            self.socket.connect(address)
            if family == socket.AF_INET:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if protocol == 3:
                assert isinstance(self("HELLO", "3"), dict)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def __call__(self, *arguments: Argument) -> Any:
        """Send a command and decode its reply."""
        self.send(encode(*arguments))
        return self.reply()

    def pipeline(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        """Send all commands at once, then read all replies."""
        self.send(b"".join(encode(*command) for command in commands))
        return [self.reply() for _ in commands]

    def raw(self, *arguments: Argument) -> bytes:
        """Send a command; returns the bytes of its reply."""
        self.send(encode(*arguments))
        return self.raw_reply()

    def raw_reply(self) -> bytes:
        """The bytes of the next reply."""
        self._drop()
        self._decode()
        return bytes(self.buffer[: self.position])

    def reply(self) -> Any:
        """The next reply."""
        self._drop()
        return self._decode()

    def pending(self) -> bytes:
        """The bytes received beyond the last reply."""
        self._drop()
        return bytes(self.buffer)

    def until_closed(self, timeout_s: float | None = None) -> bytes:
        """All bytes until the server closes the connection; TimeoutError if it does not."""
        self._drop()
        if timeout_s is not None:
            self.socket.settimeout(timeout_s)
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self.buffer += data
        everything = bytes(self.buffer)
        self.buffer.clear()
        return everything

    def _drop(self) -> None:
        del self.buffer[: self.position]
        self.position = 0

    def _receive(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise Closed(bytes(self.buffer[:200]))
        self.buffer += data

    def _line(self) -> bytes:
        searched = self.position
        while (end := self.buffer.find(b"\r\n", searched)) < 0:
            searched = max(self.position, len(self.buffer) - 1)
            self._receive()
        line = bytes(self.buffer[self.position : end])
        self.position = end + 2
        return line

    def _bytes(self, count: int) -> bytes:
        while len(self.buffer) < self.position + count + 2:
            self._receive()
        data = bytes(self.buffer[self.position : self.position + count])
        assert self.buffer[self.position + count : self.position + count + 2] == b"\r\n", "a bulk of another length"
        self.position += count + 2
        return data

    def _decode(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return Status(rest.decode(errors="surrogateescape"))
            case b"-":
                return Failure(rest.decode(errors="surrogateescape"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._bytes(int(rest))
            case b"*" | b">":
                return NULL_ARRAY if rest == b"-1" else [self._decode() for _ in range(int(rest))]
            case b"~":
                return [self._decode() for _ in range(int(rest))]
            case b"_":
                return None
            case b",":
                return float(rest)
            case b"#":
                return rest == b"t"
            case b"=":
                data = self._bytes(int(rest))
                return Verbatim(data[:3].decode(), data[4:])
            case b"%":
                return {_hashable(self._decode()): self._decode() for _ in range(int(rest))}
        raise AssertionError(f"not the beginning of a reply: {line[:80]!r}")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------------- transcripts

_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)', re.DOTALL)


def unquote(text: str) -> bytes:
    """The bytes that the inside of a double-quoted word denotes."""
    out, at = bytearray(), 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            letter = text[at + 1]
            if letter == "x":
                out.append(int(text[at + 2 : at + 4], 16))
                at += 4
                continue
            out += _ESCAPES.get(letter, letter.encode())
            at += 2
            continue
        out += text[at].encode()
        at += 1
    return bytes(out)


def words(text: str) -> list[bytes]:
    """The arguments of a command in a transcript."""
    return [
        unquote(match.group(1)) if match.group(1) is not None else match.group(2).encode()
        for match in _WORD.finditer(text)
    ]


@dataclass(frozen=True)
class Beginning:
    """Equals every error with this beginning."""

    text: str


class Anything:
    """Equals every reply except an error."""

    def __repr__(self) -> str:
        return "any"


class _Expectation:
    """Reads the notation of a reply."""

    def __init__(self, text: str, protocol: int) -> None:
        self.text, self.at, self.protocol = text, 0, protocol

    def whole(self) -> Any:
        if self.text.startswith("!"):
            message = self.text[1:]
            return Beginning(message[:-3]) if message.endswith("...") else Failure(message)
        value = self.value()
        assert self.at == len(self.text), f"cannot read the rest of {self.text!r} from {self.at}"
        return value

    def value(self) -> Any:
        text = self.text
        if text[self.at] == "[":
            return self._items("]")
        if text[self.at] == "{":
            items = self._items("}", ":")
            if self.protocol == 2:
                return items
            return {items[i]: items[i + 1] for i in range(0, len(items), 2)}
        if text[self.at] == "=":
            self.at += 1
            data = self.value()
            return data if self.protocol == 2 else Verbatim("txt", data)
        if text[self.at] == ",":
            match = re.compile(r",([-+0-9.a-z]+)").match(text, self.at)
            assert match
            self.at = match.end()
            return match.group(1).encode() if self.protocol == 2 else float(match.group(1))
        if text[self.at] == '"':
            match = _WORD.match(text, self.at)
            assert match and match.group(1) is not None
            self.at = match.end()
            return unquote(match.group(1))
        if text[self.at] == "!":
            match = re.compile(r"!([^,\]]*)").match(text, self.at)
            assert match
            self.at = match.end()
            return Failure(match.group(1))
        match = re.compile(r"[^\s,:\]}]+").match(text, self.at)
        assert match, f"no reply at {self.at} in {text!r}"
        self.at = match.end()
        word = match.group()
        if word == "nil":
            return None
        if word == "nil*":
            return NULL_ARRAY if self.protocol == 2 else None
        if word == "any":
            return Anything()
        return int(word) if re.fullmatch(r"-?\d+", word) else Status(word)

    def _items(self, closing: str, separators: str = "") -> list[Any]:
        items: list[Any] = []
        self.at += 1
        while True:
            while self.text[self.at] in " ," + separators:
                self.at += 1
            if self.text[self.at] == closing:
                self.at += 1
                return items
            items.append(self.value())


def expectation(text: str, protocol: int) -> Any:
    """The reply that this notation denotes."""
    return _Expectation(text, protocol).whole()


def agrees(expected: Any, got: Any) -> bool:
    """Whether a reply equals the expected one, including types."""
    if isinstance(expected, Anything):
        return not isinstance(got, Failure)
    if isinstance(expected, Beginning):
        return isinstance(got, Failure) and got.text.startswith(expected.text)
    if isinstance(expected, list):
        return isinstance(got, list) and len(expected) == len(got) and all(map(agrees, expected, got))
    if isinstance(expected, dict):
        return isinstance(got, dict) and list(expected) == list(got) and all(agrees(expected[k], got[k]) for k in got)
    return type(expected) is type(got) and bool(expected == got)


def run_transcript(wire: Wire, text: str) -> None:
    """Play a transcript to its end; reports every different reply with its command.

    It is sent as one pipeline, so that hardly any time passes between a command that sets a time and one that shows it.
    """
    commands, expected_replies = [], []
    for line in re.sub(r" \\\n +", " ", text.strip()).splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        command, arrow, reply = line.rpartition(" -> ")
        assert arrow, f"a transcript line without its reply: {line}"
        commands.append(words(command))
        expected_replies.append(expectation(reply.strip(), wire.protocol))
    differences = [
        f"{command}\n  expected {expected}\n  got      {got}"
        for command, expected, got in zip(commands, expected_replies, wire.pipeline(commands), strict=True)
        if not agrees(expected, got)
    ]
    assert not differences, f"RESP{wire.protocol}:\n" + "\n".join(differences)


# ------------------------------------------------------------------------------------------------------------- waits


def wait_until(condition: Any, what: str, timeout_s: float = PATIENCE_S, interval_s: float = 0.01) -> Any:
    """Evaluate `condition` until it is true, and return its value; fails with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(interval_s)


def info(wire: Wire, section: str = "everything") -> dict[str, str]:
    """INFO as a dictionary of texts."""
    data = wire("INFO", section)
    text = data.data if isinstance(data, Verbatim) else data
    assert isinstance(text, bytes), data
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return dict(pairs)


def scan_all(wire: Wire, *options: Argument) -> Iterator[bytes]:
    """All keys that one full SCAN returns, in its order."""
    cursor: Argument = 0
    while True:
        cursor, keys = wire("SCAN", cursor, *options)
        yield from keys
        if int(cursor) == 0:
            return
