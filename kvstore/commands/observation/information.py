"""INFO and TIME: the server as a whole."""

from typing import TYPE_CHECKING

from kvstore.commands.info import info_text
from kvstore.system.clock import wall_us
from kvstore.wire.reply import Reply, Verbatim
from kvstore.wire.words import text

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def info(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """INFO [section ...]"""
    return Verbatim(info_text(server, [text(name) for name in args[1:]]))


def time(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """TIME"""
    seconds, microseconds = divmod(wall_us(server.registers), 1_000_000)
    return [str(seconds), str(microseconds)]
