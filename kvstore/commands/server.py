"""INFO, TIME and DEBUG: the server as a whole, looked at and, for tests, interfered with."""

import logging
import time as clock
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.commands.info import info_text
from kvstore.commands.introspection.help import help_lines
from kvstore.commands.permission import allowed
from kvstore.commands.persistence.images import reason
from kvstore.commands.refusals import unknown_subcommand_or_arity
from kvstore.system.clock import wall_us
from kvstore.wire.errors import ERRORS, NO_KEY, NOT_INTEGER, SYNTAX
from kvstore.wire.reply import OK, CommandError, Reply, Simple, Verbatim
from kvstore.wire.words import integer, text, word
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

log = logging.getLogger("kvstore")

SHIFT_MAX_MS = 10**12  # that DEBUG SHIFT-CLOCK moves a clock from the system's, thirty years


def info(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """INFO [section ...]"""
    return Verbatim(info_text(server, [text(name) for name in args[1:]]))


def time(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """TIME"""
    seconds, microseconds = divmod(wall_us(server.registers), 1_000_000)
    return [str(seconds), str(microseconds)]


# ---------------------------------------------------------------------------------------------------------------- DEBUG


def _debug_sleep(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    try:
        seconds = float(args[2])
    except ValueError:
        seconds = 0.0
    if 0 < seconds < float("inf"):
        clock.sleep(seconds)
    return OK


def _debug_reload(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    options = {arg.lower() for arg in args[2:]}
    if not options <= {b"nosave"}:
        raise CommandError("ERR DEBUG RELOAD only supports the NOSAVE option.")
    try:
        server.reload(save=not options)
    except SnapshotError as error:
        log.error("DEBUG RELOAD failed: %s", error)
        raise reason(error) from error
    return OK


def _debug_object(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    described = server.describe(client.db, args[2])
    if described is None:
        raise CommandError(ERRORS[NO_KEY])
    return Simple(
        f"Value at:{described.address:#x} refcount:1 encoding:{described.encoding} "
        f"serializedlength:{described.length} lru:{described.clock} lru_seconds_idle:{described.idle_s}"
    )


def _debug_set_active_expire(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    enabled = integer(args[2], ERRORS[NOT_INTEGER]) != 0
    server.config.update([("active-expire-enabled", "yes" if enabled else "no")])
    server.apply("active-expire-enabled")
    return OK


def _debug_shift_clock(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    which, by_ms = word(args, 2), integer(args[3], ERRORS[NOT_INTEGER])
    if which not in (b"wall", b"timer"):
        raise CommandError(ERRORS[SYNTAX])
    shifted_us = server.registers.WALL_SHIFT_US if which == b"wall" else server.registers.TIMER_SHIFT_US
    if abs(shifted_us // 1000 + by_ms) > SHIFT_MAX_MS or (which == b"timer" and by_ms < 0):
        raise CommandError("ERR the clock cannot be moved so far")
    server.shift_clock(by_ms if which == b"wall" else 0, by_ms if which == b"timer" else 0)
    return OK


def _debug_help(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    forms = [(f"{name.decode().upper()} {usage}".rstrip(), summary) for name, (_, _, usage, summary) in DEBUG.items()]
    return help_lines("debug", forms)


# DEBUG's subcommands: function, arguments behind the name at least and at most, usage, summary.
DEBUG: dict[bytes, tuple[Callable[["Server", "Client", list[bytes]], Reply], range, str, str]] = {
    b"help": (_debug_help, range(1), "", "Answers what subcommands there are."),
    b"object": (_debug_object, range(1, 2), "<key>", "Answers how the value of a key is kept."),
    b"reload": (
        _debug_reload,
        range(1 << 20),
        "[NOSAVE]",
        "Takes a snapshot, unless NOSAVE is given, empties the store, and loads the newest image.",
    ),
    b"set-active-expire": (_debug_set_active_expire, range(1, 2), "<0|1>", "Turns active expiry off or on."),
    b"shift-clock": (
        _debug_shift_clock,
        range(2, 3),
        "<WALL|TIMER> <milliseconds>",
        "Moves the clock that deadlines are compared with, or the one that durations are measured by.",
    ),
    b"sleep": (_debug_sleep, range(1, 2), "<seconds>", "Stops the server for so long."),
}


def debug(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """DEBUG subcommand [arg ...]"""
    if not allowed(server, client, "enable-debug-command"):
        raise CommandError(
            'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from '
            "a local connection, otherwise you need to set this option in the configuration file, and then restart the "
            "server."
        )
    row = DEBUG.get(args[1].lower())
    if row is None or len(args) - 2 not in row[1]:
        raise unknown_subcommand_or_arity("debug", args[1])
    return row[0](server, client, args)
