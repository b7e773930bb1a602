"""DEBUG: inspecting a server, filling it, and bringing it into the state that a test needs.

enable-debug-command permits it to no client (the default), to connections from this machine, or to all clients.  Redis
does not have SHIFT-CLOCK.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.commands.allowed import is_allowed
from kvstore.commands.help import help_lines
from kvstore.commands.refusals import unknown_subcommand_or_arity
from kvstore.wire.errors import ERRORS, NO_KEY, NOT_INTEGER, SYNTAX, TOO_LONG
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Reply, Simple
from kvstore.wire.words import integer, word
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

log = logging.getLogger("kvstore")

SHIFT_MAX_MS = 10**12  # largest shift of a clock from the system's, thirty years
NOT_POSITIVE = "ERR value is out of range, must be positive"
NOT_ALLOWED = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)


def _digest(server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    found = server.digest(client.slot)
    return NO_REPLY if found is None else Simple(found)


def _digest_value(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    return [Simple(server.value_digest(client.db, key)) for key in args[2:]]


def _positive(data: bytes) -> int:
    number = integer(data, NOT_POSITIVE)
    if number < 0:
        raise CommandError(NOT_POSITIVE)
    return number


def _populate(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    count = _positive(args[2])
    size = _positive(args[4]) if len(args) == 5 else 0
    if size > server.config["proto-max-bulk-len"]:  # a string that no client could send
        raise CommandError(ERRORS[TOO_LONG])
    server.populate(client.db, count, args[3] if len(args) > 3 else b"key", size)
    return OK


def _sleep(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    try:
        seconds = float(args[2])
    except ValueError:
        seconds = 0.0
    if 0 < seconds < float("inf"):
        time.sleep(seconds)
    return OK


def _reload(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    options = {arg.lower() for arg in args[2:]}
    if not options <= {b"nosave"}:
        raise CommandError("ERR DEBUG RELOAD only supports the NOSAVE option.")
    try:
        server.reload(save=not options)
    except SnapshotError as error:
        log.error("DEBUG RELOAD failed: %s", error)
        raise CommandError(f"ERR {error}") from error
    return OK


def _object(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    described = server.describe(client.db, args[2])
    if described is None:
        raise CommandError(ERRORS[NO_KEY])
    return Simple(
        f"Value at:{described.address:#x} refcount:1 encoding:{described.encoding} "
        f"serializedlength:{described.length} lru:{described.clock} lru_seconds_idle:{described.idle_s}"
    )


def _set_active_expire(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    enabled = integer(args[2], ERRORS[NOT_INTEGER]) != 0
    server.config.update([("active-expire-enabled", "yes" if enabled else "no")])
    server.apply("active-expire-enabled")
    return OK


def _shift_clock(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    which, by_ms = word(args, 2), integer(args[3], ERRORS[NOT_INTEGER])
    if which not in (b"wall", b"timer"):
        raise CommandError(ERRORS[SYNTAX])
    shifted_us = server.registers.WALL_SHIFT_US if which == b"wall" else server.registers.TIMER_SHIFT_US
    if abs(shifted_us // 1000 + by_ms) > SHIFT_MAX_MS or (which == b"timer" and by_ms < 0):
        raise CommandError("ERR the clock cannot be moved so far")
    server.shift_clock(by_ms if which == b"wall" else 0, by_ms if which == b"timer" else 0)
    return OK


def _help(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    forms = {name: (f"{name.decode().upper()} {use}".rstrip(), about) for name, (_, _, use, about) in DEBUG.items()}
    last = forms.pop(b"help")
    return help_lines("debug", [*forms.values(), last])


# DEBUG's subcommands: function, arguments behind the name at least and at most, usage, summary.
DEBUG: dict[bytes, tuple[Callable[["Server", "Client", list[bytes]], Reply], range, str, str]] = {
    b"digest": (_digest, range(1), "", "Answers a digest of all data, the same for the same data."),
    b"digest-value": (_digest_value, range(1 << 20), "<key> [<key> ...]", "Answers a digest of each key's value."),
    b"help": (_help, range(1), "", "Answers what subcommands there are."),
    b"object": (_object, range(1, 2), "<key>", "Answers how the value of a key is kept."),
    b"populate": (
        _populate,
        range(1, 4),
        "<count> [<prefix>] [<size>]",
        "Makes numbered string keys, key:0 and so on, with values of <size> bytes; a key that is there stays as it is.",
    ),
    b"reload": (
        _reload,
        range(1 << 20),
        "[NOSAVE]",
        "Takes a snapshot, unless NOSAVE is given, empties the store, and loads the newest image.",
    ),
    b"set-active-expire": (_set_active_expire, range(1, 2), "<0|1>", "Turns active expiry off or on."),
    b"shift-clock": (
        _shift_clock,
        range(2, 3),
        "<WALL|TIMER> <milliseconds>",
        "Moves the clock that deadlines are compared with, or the one that durations are measured by.",
    ),
    b"sleep": (_sleep, range(1, 2), "<seconds>", "Stops the server for so long."),
}


def debug(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """DEBUG subcommand [arg ...]"""
    if not is_allowed(server, client, "enable-debug-command"):
        raise CommandError(NOT_ALLOWED)
    row = DEBUG.get(args[1].lower())
    if row is None or len(args) - 2 not in row[1]:
        raise unknown_subcommand_or_arity("debug", args[1])
    return row[0](server, client, args)
