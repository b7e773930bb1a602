"""MODULE: none can be loaded."""

from typing import TYPE_CHECKING

from kvstore.wire.reply import Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def module_list(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MODULE LIST"""
    return []
