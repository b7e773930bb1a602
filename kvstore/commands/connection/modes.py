"""CLIENT REPLY, NO-EVICT and NO-TOUCH: how a connection is served."""

from typing import TYPE_CHECKING

from kvstore.commands.table import options
from kvstore.wire.reply import NO_REPLY, OK, Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


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
