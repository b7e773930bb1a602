"""CLUSTER and related commands, as a server outside a cluster answers them."""

from typing import TYPE_CHECKING

from kvstore.wire.reply import CommandError, Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def refused(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLUSTER ... | ASKING | READONLY | READWRITE"""
    raise CommandError("ERR This instance has cluster support disabled")
