"""Several connections to one server, whose commands are played in one order; and all the bytes that each got.

A command is not sent before the server has read, and so executed, the one before it, on whatever connection that was:
total_net_input_bytes says so.  The output of a connection is compared as a whole, because a message may arrive at any
time.

Both servers' bytes are read as a flat sequence of parts, in which a message or a confirmation is one part.  Redis makes
no promise about two orders, which `canonical` makes the same: of messages of several patterns, and of what
UNSUBSCRIBE without arguments ends.
"""

from itertools import groupby
from typing import Any

from tests.server.wire import Argument, Wire, encode, info, wait_until

MESSAGES = (b"message", b"pmessage", b"smessage")
ENDS = (b"unsubscribe", b"punsubscribe", b"sunsubscribe")
WORDS = (*MESSAGES, *ENDS, b"subscribe", b"psubscribe", b"ssubscribe", b"pong")

Part = tuple[Any, ...]  # the kind of a reply and its text or count; or of a message, with all its parts


class Stage:
    """Connections by name; one that the server has closed is opened anew when it is named again."""

    def __init__(self, address: Any) -> None:
        self._address, self._control = address, Wire(address)
        self._open: dict[str, Wire] = {}
        self._closed: list[tuple[str, bytes]] = []
        self._expected = 0
        self._expected = self._input()

    def _input(self) -> int:
        # Bytes that the server has received so far.
        self._expected += len(encode("INFO", "stats"))
        return int(info(self._control, "stats")["total_net_input_bytes"])

    def play(self, who: str, *words: Argument) -> None:
        """Send a command, and wait until the server has executed it."""
        if who not in self._open:
            self._open[who] = Wire(self._address)
        data = encode(*words)
        self._expected += len(data)
        self._open[who].send(data)
        wait_until(lambda: self._input() >= self._expected, f"{words} to be read", interval_s=0.001)
        if words[0] == "QUIT":
            self._end(who)

    def _end(self, who: str) -> None:
        wire = self._open.pop(who)
        wire.socket.shutdown(1)  # of this side; Redis does not close after a QUIT that it must not answer
        self._closed.append((who, wire.until_closed()))
        wire.close()

    def end(self) -> list[tuple[str, bytes]]:
        """Close all connections; returns each with what it got, in the order in which they were closed."""
        for who in sorted(self._open):
            self._end(who)
        self._control.close()
        return self._closed


def parts(data: bytes) -> list[Part]:
    """The bytes that a connection got, as a flat sequence."""
    found: list[Part] = []
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
        if kind == b"$" and line != b"-1":
            count = int(line)
            found.append((kind, data[at : at + count]))
            at += count + 2
        else:
            found.append((kind, line))
    grouped: list[Part] = []
    at = 0
    while at < len(found):
        kind, count = found[at]
        if kind in (b"*", b">") and int(count) > 1 and found[at + 1 : at + 2]:
            word = found[at + 1][1]
            if word in WORDS:
                grouped.append((word, kind, *found[at + 2 : at + 1 + int(count)]))
                at += 1 + int(count)
                continue
        if kind in (b"*", b"%") and found[at + 1 : at + 2] == [(b"$", b"server")]:  # HELLO: it tells the version
            at = _behind(found, at)
            grouped.append((b"hello", kind))
            continue
        grouped.append(found[at])
        at += 1
    return grouped


def _behind(found: list[Part], at: int) -> int:
    # The place behind a reply and all that is within it.
    kind, count = found[at]
    at += 1
    if kind in b"*>~%":
        for _ in range(int(count) * (2 if kind == b"%" else 1)):
            at = _behind(found, at)
    return at


def _kind_of_run(part: Part) -> Any:
    if part[0] == b"pmessage":
        return (*part[:2], *part[3:])  # the same message: all but the pattern
    return part[:2] if part[0] in ENDS else None


def canonical(found: list[Part]) -> list[Part]:
    """The same parts, with orders that are chance made the same."""
    result: list[Part] = []
    for kind, group in groupby(found, _kind_of_run):
        run = list(group)
        if kind is None:
            result += run
        elif kind[0] == b"pmessage":
            result += sorted(run)
        else:
            names = sorted(part[2] for part in run)
            result += [(*part[:2], name, *part[3:]) for part, name in zip(run, names, strict=True)]
    return result


def without_messages(found: list[Part]) -> tuple[list[Part], list[Part]]:
    """The replies and confirmations, and the messages, each in their order."""
    return (
        [part for part in found if part[0] not in MESSAGES],
        [part for part in found if part[0] in MESSAGES],
    )
