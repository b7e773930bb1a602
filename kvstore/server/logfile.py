"""The log: the destination and the format of its lines.

A line goes to stdout, or to a file that is opened again when its name no longer leads to it.  So a program that rotates
logs just renames the file, and need not send a signal.  A line that cannot be written is lost, as with Redis: a full
disk, a deleted directory or an unread pipe must not stop the server.  No part of such a line is kept for later, so the
process can end normally.

    1234:M 05 Mar 2024 10:11:12.345 * Ready to accept connections

Redis's mark for the level, one of . - * #, follows the time.
"""

import io
import logging
import os

# Levels by the words of the parameter loglevel; `nothing` is above the level of every line.
LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG + 5,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}
_ENCODING, _ERRORS = "utf-8", "backslashreplace"  # a path may have bytes that are not text
_MARKS = {logging.DEBUG: ".", logging.DEBUG + 5: "-", logging.INFO: "*"}


class _Stdout(logging.StreamHandler):  # type: ignore[type-arg]
    """Lines to stdout."""

    def __init__(self) -> None:
        raw = open(1, "wb", buffering=0, closefd=False)  # noqa: SIM115 - open for as long as the process lives
        super().__init__(io.TextIOWrapper(raw, _ENCODING, _ERRORS, write_through=True))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line."""


def _mark(record: logging.LogRecord) -> bool:
    record.symbol = _MARKS.get(record.levelno, "#")
    return True


def _file(path: str) -> logging.Handler:
    from kvstore.server.rotated import RotatedFile  # see there

    return RotatedFile(path, encoding=_ENCODING, errors=_ERRORS)


def open_log(path: str, level: str) -> None:
    """Write the log of this process to `path`, or to stdout if that is empty.  Raises OSError."""
    handler = _file(path) if path else _Stdout()
    form = f"{os.getpid()}:M %(asctime)s.%(msecs)03d %(symbol)s %(message)s"
    handler.setFormatter(logging.Formatter(form, "%d %b %Y %H:%M:%S"))
    handler.addFilter(_mark)
    logging.getLogger("kvstore").addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Log only lines of this level, a word of LEVELS, or above."""
    logging.getLogger("kvstore").setLevel(LEVELS[level])
