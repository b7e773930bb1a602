"""The log: where its lines go, and how they look.

A line goes to stdout, or to a file that is opened again when its name no longer leads to it: a program that rotates
logs renames the file and need not send a signal.  A line that cannot be written is lost, as with Redis: a full disk, a
directory that has gone or a pipe that nobody reads must not stop the server.  Nothing of such a line is kept for later,
so the process ends well, too.

    1234:M 05 Mar 2024 10:11:12.345 * Ready to accept connections

Redis's mark for the level, one of . - * #, follows the time.
"""

import io
import logging
import os

# By the words of the parameter loglevel; `nothing` is above all that is ever logged.
LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG + 5,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}
_ENCODING, _ERRORS = "utf-8", "backslashreplace"  # a path may have bytes that are no text
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
    """Have the log of this process written to `path`, to stdout if that is empty.  Raises OSError."""
    handler = _file(path) if path else _Stdout()
    form = f"{os.getpid()}:M %(asctime)s.%(msecs)03d %(symbol)s %(message)s"
    handler.setFormatter(logging.Formatter(form, "%d %b %Y %H:%M:%S"))
    handler.addFilter(_mark)
    logging.getLogger("kvstore").addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Log what is at least as important as this word of LEVELS says."""
    logging.getLogger("kvstore").setLevel(LEVELS[level])
