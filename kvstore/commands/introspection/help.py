"""HELP of every container: its forms by name, each with its effect, and HELP itself at the end, as in Redis.

The texts are summaries of our own, as in COMMAND DOCS.
"""

from typing import TYPE_CHECKING

from kvstore.commands.help import help_lines
from kvstore.commands.table import find
from kvstore.wire.reply import Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def help_(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """HELP of any container"""
    container = find(args[0])
    assert container is not None
    subcommands = sorted(container.subcommands, key=lambda sub: sub.own_name == "help")
    forms = [(f"{sub.own_name.upper()} {sub.usage}".rstrip(), sub.summary) for sub in subcommands]
    if container.python:
        forms.insert(0, ("(no subcommand)", container.summary))
    return help_lines(container.name, forms)
