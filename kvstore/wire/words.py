"""Reading a client's words in Python: integers, texts, words of a choice."""

import re

from kvstore.wire.arguments import INT64_MAX
from kvstore.wire.errors import ERRORS, NOT_INTEGER, SYNTAX
from kvstore.wire.reply import CommandError


def integer(data: bytes, error: str = ERRORS[NOT_INTEGER]) -> int:
    """A decimal int64, as strict as in Redis; raises CommandError(error)."""
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", data) or not -INT64_MAX - 1 <= int(data) <= INT64_MAX:
        raise CommandError(error)
    return int(data)


def text(data: bytes) -> str:
    """A client's bytes as text that can be turned back into the same bytes."""
    return data.decode(errors="surrogateescape")


def word(args: list[bytes], at: int) -> bytes:
    """Argument `at` in lower case, or nothing."""
    return args[at].lower() if at < len(args) else b""


def chosen(data: bytes, *words: bytes) -> bytes:
    """The one of these words, in lower case, that the argument is; raises a syntax error for none."""
    if data.lower() not in words:
        raise CommandError(ERRORS[SYNTAX])
    return data.lower()


def plain(value: bytes, error: str) -> str:
    """A value that CLIENT LIST can show: printable, without blanks; raises CommandError(error)."""
    if not all(0x21 <= byte <= 0x7E for byte in value):
        raise CommandError(error)
    return value.decode("ascii")
