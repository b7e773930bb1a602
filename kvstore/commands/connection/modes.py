"""CLIENT REPLY, NO-EVICT, NO-TOUCH, TRACKING and CACHING: how a connection is served."""

from typing import TYPE_CHECKING

from kvstore.commands.table import options
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Reply, Set
from kvstore.wire.words import chosen

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

CACHING_WITHOUT_TRACKING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)


def client_reply(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT REPLY ON | OFF | SKIP"""
    mode = options(args)["on_off_skip"]
    if mode == "on":
        client.reply_mode = "on"
        return OK
    if mode == "off" or client.reply_mode != "off":
        client.reply_mode = mode
    return NO_REPLY


def client_no_evict(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT NO-EVICT ON | OFF"""
    client.no_evict = options(args)["enabled"] == "on"
    return OK


def client_no_touch(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT NO-TOUCH ON | OFF"""
    client.no_touch = options(args)["enabled"] == "on"
    return OK


def client_tracking(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT TRACKING ON | OFF"""
    if chosen(args[2], b"on", b"off") == b"on":  # arguments behind ON or OFF are ignored
        raise CommandError("ERR client side caching is not supported")
    return OK


def client_trackinginfo(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT TRACKINGINFO"""
    tracking: dict[str, Reply] = {"flags": Set((b"off",)), "redirect": -1, "prefixes": []}
    return tracking


def client_getredir(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT GETREDIR"""
    return -1


def client_caching(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT CACHING YES | NO"""
    raise CommandError(CACHING_WITHOUT_TRACKING)
