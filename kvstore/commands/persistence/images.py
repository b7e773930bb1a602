"""SAVE, BGSAVE, LASTSAVE and SHUTDOWN: taking images of the store."""

import logging
from typing import TYPE_CHECKING

from kvstore.commands.table import options
from kvstore.wire.errors import ALREADY_SAVING, ERRORS, SYNTAX
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Reply, Simple
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

log = logging.getLogger("kvstore")


def reason(error: SnapshotError) -> CommandError:
    """The reason why an image could not be written or read, as a reply."""
    return CommandError(f"ERR {error}")


def save(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """SAVE"""
    if server.snapshots.running:
        raise CommandError(ERRORS[ALREADY_SAVING])
    try:
        server.snapshots.run_and_wait()
    except SnapshotError as error:
        raise reason(error) from error
    return OK


def bgsave(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BGSAVE [SCHEDULE], when its kernel could not begin a snapshot: reply with the reason."""
    options(args)  # refuses all but SCHEDULE, which has no effect here: nothing else is being written
    if server.snapshots.running:
        raise CommandError(ERRORS[ALREADY_SAVING])
    try:
        server.snapshots.start()
    except SnapshotError as error:
        raise reason(error) from error
    return Simple("Background saving started")


def lastsave(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """LASTSAVE"""
    return int(server.snapshots.last_save_unix_s)


def shutdown(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"""
    given = options(args)
    if "abort" in given:
        if len(given) > 1:
            raise CommandError(ERRORS[SYNTAX])
        raise CommandError("ERR No shutdown in progress.")
    save_wanted = {"save": True, "nosave": False}.get(given.get("nosave_save", ""))
    log.info("User requested shutdown...")
    server.shutdown(save_wanted, "force" in given)
    client.close_after_reply = True  # later commands of the pipeline are not executed
    return NO_REPLY
