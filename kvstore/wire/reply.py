"""Replies as Python values, and their RESP2 and RESP3 encodings.

Commands served in Python return values.  Only `encode` knows their form on the wire.

    value                     RESP2                  RESP3
    Simple("OK")              +OK                    +OK
    Error("ERR no")           -ERR no                -ERR no
    1                         :1                     :1
    True                      :1                     #t
    1.5                       $3 1.5                 ,1.5
    b"data", "text"           $4 data                $4 data
    Verbatim("text")          $4 text                =8 txt:text
    None                      $-1                    _
    NULL_ARRAY                *-1                    _
    [1, 2], (1, 2)            *2                     *2
    Set([1, 2])               *2                     ~2
    {b"k": 1}                 *2 k 1                 %1 k 1
    Raw(b"...")               as it is               as it is
    NO_REPLY                  nothing                nothing

The hot plane has its own encoder, resp.py, which appends to the reply buffer from kernels.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, TypeAlias


class Simple(str):
    """A status, such as OK: one line."""

    __slots__ = ()


class Error(str):
    """An error: its code in capitals, a space, and a sentence."""

    __slots__ = ()


class Verbatim(str):
    """Text for people, marked so that clients do not parse it."""

    __slots__ = ()


class Raw(bytes):
    """Bytes that are RESP already, for the protocol that the client speaks."""

    __slots__ = ()


class Set(tuple["Reply", ...]):
    """An unordered collection without duplicates, sent in the order of the tuple."""

    __slots__ = ()


class Sentinel(Enum):
    """Replies that no Python value represents."""

    NULL_ARRAY = "null array"
    NO_REPLY = "no reply"


NULL_ARRAY: Final = Sentinel.NULL_ARRAY
NO_REPLY: Final = Sentinel.NO_REPLY
OK: Final = Simple("OK")

_Map: TypeAlias = Mapping[str, "Reply"] | Mapping[bytes, "Reply"] | Mapping[int, "Reply"]
Reply: TypeAlias = str | bytes | int | float | bool | Sequence["Reply"] | _Map | Sentinel | None


class CommandError(Exception):
    """Raised by a command to answer an error; the text begins with the error's code."""

    @property
    def reply(self) -> Error:
        """The error as a reply."""
        return Error(self.args[0])


def encode(value: Reply, protocol: int = 2) -> bytes:
    """The bytes that answer `value` to a client that speaks RESP2 or RESP3."""
    out: list[bytes] = []
    _append(out, value, protocol == 3)
    return b"".join(out)


def double_text(value: float) -> str:
    """A double in Redis's form: the shortest decimal that reads back as the same number."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value).removesuffix(".0")


def _line(text: str) -> bytes:
    # A line break inside would end the reply early.  A client that chose the text could forge the next reply.
    return text.replace("\r", " ").replace("\n", " ").encode(errors="surrogateescape")


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _append(out: list[bytes], value: Reply, resp3: bool) -> None:
    match value:
        case Raw():
            out.append(value)
        case bytes():
            out.append(_bulk(value))
        case Simple():
            out.append(b"+%b\r\n" % _line(value))
        case Error():
            out.append(b"-%b\r\n" % _line(value.rstrip("\r\n")))
        case Verbatim() if resp3:
            data = value.encode(errors="surrogateescape")
            out.append(b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data))
        case str():
            out.append(_bulk(value.encode(errors="surrogateescape")))
        case bool() if resp3:
            out.append(b"#t\r\n" if value else b"#f\r\n")
        case int():
            out.append(b":%d\r\n" % value)
        case float():
            text = double_text(value).encode()
            out.append(b",%b\r\n" % text if resp3 else _bulk(text))
        case None:
            out.append(b"_\r\n" if resp3 else b"$-1\r\n")
        case Sentinel.NULL_ARRAY:
            out.append(b"_\r\n" if resp3 else b"*-1\r\n")
        case Sentinel.NO_REPLY:
            pass
        case Mapping():
            out.append(b"%%%d\r\n" % len(value) if resp3 else b"*%d\r\n" % (2 * len(value)))
            _append_all(out, (part for pair in value.items() for part in pair), resp3)
        case Set():
            out.append((b"~%d\r\n" if resp3 else b"*%d\r\n") % len(value))
            _append_all(out, value, resp3)
        case Sequence():
            out.append(b"*%d\r\n" % len(value))
            _append_all(out, value, resp3)
        case _:
            raise TypeError(f"{value!r} is no reply")


def _append_all(out: list[bytes], values: Iterable[Reply], resp3: bool) -> None:
    for value in values:
        _append(out, value, resp3)
