"""A blocking client of the Redis protocol (RESP2): only the features that benchmarks need, directly on the socket.

It uses neither the server's code nor a client library, so a benchmark measures neither.
"""

import socket
from collections.abc import Iterable, Sequence
from typing import Any, Self

RECEIVE_SIZE = 1 << 18


class ReplyError(Exception):
    """The server answered with an error; the text is its own."""


class Client:
    """One connection."""

    def __init__(self, port: int, timeout_s: float = 600.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def command(self, *arguments: str | bytes | int) -> Any:
        """Send a command and return its reply; raises ReplyError for an error reply."""
        self.socket.sendall(encode(*arguments))
        reply = self._reply()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Iterable[Sequence[str | bytes | int]]) -> list[Any]:
        """Send commands at once and return their replies; raises ReplyError for the first error among them."""
        sent = [encode(*command) for command in commands]
        return self.exchange(b"".join(sent), len(sent))

    def exchange(self, data: bytes | bytearray | memoryview, count: int) -> list[Any]:
        """Send `count` commands that are bytes already and return their replies; raises as `pipeline` does."""
        self.socket.sendall(data)
        replies = [self._reply() for _ in range(count)]
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        return replies

    def info(self, section: str = "everything") -> dict[str, str]:
        """INFO as a dictionary."""
        text = self.command("INFO", section).decode()
        return dict(row.split(":", 1) for row in text.splitlines() if ":" in row and not row.startswith("#"))

    def _more(self) -> None:
        data = self.socket.recv(RECEIVE_SIZE)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return text

    def _reply(self) -> Any:
        text = self._line()
        kind, rest = text[:1], text[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            while len(self._buffer) < size + 2:
                self._more()
            data = bytes(self._buffer[:size])
            del self._buffer[: size + 2]
            return data
        if kind == b"*":
            return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]
        raise ConnectionError(f"not RESP2: {text[:40]!r}")


def encode(*arguments: str | bytes | int) -> bytes:
    """A command in RESP."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)
