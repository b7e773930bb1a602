"""CONFIG: parameters, read and set while the server runs."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvstore.commands.allowed import is_allowed
from kvstore.commands.table import options
from kvstore.config.config import Refused
from kvstore.config.file import ConfigError
from kvstore.wire.errors import shown
from kvstore.wire.reply import OK, CommandError, Reply
from kvstore.wire.words import text
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

log = logging.getLogger("kvstore")


def config_get(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CONFIG GET parameter [parameter ...]"""
    return server.config.matching(text(pattern) for pattern in args[2:])


def config_set(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CONFIG SET parameter value [parameter value ...]"""
    pairs = [(text(pair["parameter"]), text(pair["value"])) for pair in options(args)["parameter_value"]]
    config = server.config
    noticed = len(config.notices)
    try:
        old = config.update(pairs, protected=is_allowed(server, client, "enable-protected-configs"))
    except Refused as refusal:
        if not refusal.why:
            name = shown(refusal.name.encode(errors="surrogateescape"))
            raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'") from refusal
        raise _not_set(refusal.name, refusal.why) from refusal
    for name in old:
        try:
            server.apply(name)
        except Exception as error:
            _take_back(server, old, name)
            del config.notices[noticed:]
            if isinstance(error, ValueError | OSError | SnapshotError):
                raise _not_set(name, _why(error)) from error
            raise
    for notice in config.notices[noticed:]:
        log.warning("CONFIG SET: %s", notice)
    return OK


def _take_back(server: "Server", old: Mapping[str, Any], refused: str) -> None:
    # Restore the old values one by one: one that cannot be restored must not prevent the others.
    server.config.values.update(old)
    for name in old:
        try:
            server.apply(name)
        except Exception:
            if name != refused:  # the reason for that one is reported anyway
                log.exception("CONFIG SET: %s is not what it was", name)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _not_set(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def config_resetstat(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CONFIG RESETSTAT"""
    server.reset_statistics()
    return OK


def config_rewrite(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CONFIG REWRITE"""
    if server.config.file is None:
        raise CommandError("ERR The server is running without a config file")
    try:
        server.config.rewrite()
    except (OSError, ConfigError) as error:
        log.warning("CONFIG REWRITE failed: %s", error)
        raise CommandError(f"ERR Rewriting config file: {_why(error)}") from error
    log.info("CONFIG REWRITE executed with success")
    return OK
