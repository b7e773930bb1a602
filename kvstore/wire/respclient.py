"""RESP from the client's side: a decoder of replies, and a small blocking client for the command line and for tests.

`Decoder` does no I/O.  It takes bytes as they arrive, in any pieces, and returns the complete replies; it keeps the
rest.  It is strict: bytes that are neither RESP2 nor RESP3 raise ProtocolError, and the stream is unusable afterwards.
Replies have the values of reply.py:

    +OK  Simple     -ERR no  Error      :1 (1  int      $4 data  bytes      =8 txt:text  Verbatim       ,1.5  float
    #t   bool       _ $-1 *-1  None     *2  list        %1  dict            ~2  Set                     >2    Push

    with Connection(port=6379) as connection:
        connection.command("SET", "key", "value")       -> "OK"
        connection.command("GET", "key")                -> b"value"
        connection.command("GET")                       raises CommandError
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from kvstore.wire.reply import CommandError, Error, Set, Simple, Verbatim

LINE_MAX = 1 << 16  # [bytes]
BULK_MAX = 1 << 32  # [bytes]
DEPTH_MAX = 64
RECEIVE_SIZE = 1 << 16

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_DOUBLE = re.compile(rb"[+-]?(inf|nan|[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)")


class ProtocolError(Exception):
    """The received bytes are not RESP."""


class Push(list[Any]):
    """A message that the server sends of its own accord, and not a reply."""


@dataclass
class _Aggregate:
    """An array, map, set or push of which `missing` members have not arrived yet."""

    kind: bytes
    missing: int
    members: list[Any] = field(default_factory=list)

    def value(self) -> Any:
        members = self.members
        match self.kind:
            case b"%":
                return {_hashable(key): value for key, value in zip(members[::2], members[1::2], strict=True)}
            case b"~":
                return Set(members)
            case b">":
                return Push(members)
            case _:
                return members


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


class Decoder:
    """Turns the bytes of a stream into replies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # offset of the first byte that is not decoded yet
        self._open: list[_Aggregate] = []  # the incomplete aggregates, the innermost last

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes of the stream; returns the replies that they complete."""
        self._buffer += data
        complete = []
        while (step := self._step()) is not None:
            (value,) = step
            if value is _OPENED:
                continue
            while self._open:
                innermost = self._open[-1]
                innermost.members.append(value)
                innermost.missing -= 1
                if innermost.missing:
                    break
                value = self._open.pop().value()
                if innermost.kind == b"|":  # attributes: they describe the next reply, and are not part of it
                    break
            else:
                complete.append(value)
        del self._buffer[: self._at]
        self._at = 0
        return complete

    @property
    def idle(self) -> bool:
        """Whether there is no unfinished reply."""
        return not self._buffer and not self._open

    def _step(self) -> tuple[Any] | None:
        # The next value, or the header of an aggregate; None when the buffer does not hold a whole one.
        end = self._buffer.find(b"\r\n", self._at, self._at + LINE_MAX)
        if end < 0:
            if len(self._buffer) - self._at >= LINE_MAX:
                raise ProtocolError("a line is too long")
            return None
        kind, line = bytes(self._buffer[self._at : self._at + 1]), bytes(self._buffer[self._at + 1 : end])
        after = end + 2
        if kind in (b"$", b"=", b"!") and line != b"-1":
            stop = after + _count(line, BULK_MAX)
            if len(self._buffer) < stop + 2:
                return None
            if self._buffer[stop : stop + 2] != b"\r\n":
                raise ProtocolError("a bulk string is longer than it says")
            value = _bulk(kind, bytes(self._buffer[after:stop]))
            after = stop + 2
        elif kind in (b"*", b"%", b"~", b">", b"|") and line != b"-1":
            value = self._aggregate(kind, _count(line, BULK_MAX))
        else:
            value = _scalar(kind, line)
        self._at = after
        return (value,)

    def _aggregate(self, kind: bytes, count: int) -> Any:
        aggregate = _Aggregate(kind, 2 * count if kind in (b"%", b"|") else count)
        if not aggregate.missing:
            return _OPENED if kind == b"|" else aggregate.value()
        if len(self._open) == DEPTH_MAX:
            raise ProtocolError("replies are nested too deep")
        self._open.append(aggregate)
        return _OPENED


_OPENED = object()


def _count(line: bytes, most: int) -> int:
    if not line.isdigit() or len(line) > 10 or int(line) > most:
        raise ProtocolError(f"{line[:32]!r} is no length")
    return int(line)


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _bulk(kind: bytes, data: bytes) -> Any:
    if kind == b"$":
        return data
    if kind == b"!":
        return Error(_text(data))
    if data[3:4] != b":":
        raise ProtocolError("a verbatim string without a format")
    return Verbatim(_text(data[4:]))


def _scalar(kind: bytes, line: bytes) -> Any:
    match kind:
        case b"+":
            return Simple(_text(line))
        case b"-":
            return Error(_text(line))
        case b":" | b"(" if _INTEGER.fullmatch(line):
            return int(line)
        case b"," if _DOUBLE.fullmatch(line):
            return float(line)
        case b"#" if line in (b"t", b"f"):
            return line == b"t"
        case b"_" if not line:
            return None
        case b"$" | b"*" if line == b"-1":
            return None
    raise ProtocolError(f"{(kind + line)[:32]!r} begins no reply")


Argument = bytes | str | int | float


def encode_command(*args: Argument) -> bytes:
    """A command in the form that is sent."""
    parts = [arg if isinstance(arg, bytes) else str(arg).encode(errors="surrogateescape") for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Connection:
    """A connection to a server, one command at a time.

    Raises OSError when the server cannot be reached, or has gone, and CommandError when it refuses the password.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        *,
        unixsocket: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float | None = 10.0,
    ) -> None:
        if unixsocket:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.settimeout(timeout_s)
                self._socket.connect(unixsocket)
            except BaseException:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection((host, port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder()
        self._ready: list[Any] = []
        if password:
            try:
                self.command("AUTH", *([username] if username else []), password)
            except BaseException:
                self.close()
                raise

    def command(self, *args: Argument) -> Any:
        """The reply to a command.  Raises CommandError when it is an error."""
        (reply,) = self.pipeline([args])
        if isinstance(reply, Error):
            raise CommandError(str(reply))
        return reply

    def pipeline(self, commands: Iterable[Iterable[Argument]]) -> list[Any]:
        """The replies to several commands sent at once; an error is returned as Error."""
        encoded = [encode_command(*args) for args in commands]
        self._socket.sendall(b"".join(encoded))
        while len(self._ready) < len(encoded):
            data = self._socket.recv(RECEIVE_SIZE)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._ready += (reply for reply in self._decoder.feed(data) if not isinstance(reply, Push))
        replies, self._ready = self._ready[: len(encoded)], self._ready[len(encoded) :]
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
