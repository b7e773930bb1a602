"""MONITOR: the connection is shown every command that the server executes.  See kvstore/effects/monitors.py."""

from typing import TYPE_CHECKING

from kvstore.wire.reply import NO_REPLY, OK, CommandError, Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def monitor(server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """MONITOR; a second one is not answered, as in Redis"""
    if server.in_transaction:
        raise CommandError("ERR MONITOR isn't allowed for DENY BLOCKING client")
    if client.monitors:
        return NO_REPLY
    server.begin_monitoring(client)
    return OK
