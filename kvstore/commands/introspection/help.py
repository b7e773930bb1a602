"""HELP, of every container: its forms, each with what it does."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvstore.commands.table import find
from kvstore.wire.reply import Reply, Simple

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def help_lines(name: str, forms: Iterable[tuple[str, str]]) -> Reply:
    """The reply to a container's HELP: its forms, each with what it does."""
    lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for usage, summary in forms:
        lines += [usage, f"    {summary}"]
    return [Simple(line) for line in lines]


def help_(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """HELP of any container"""
    container = find(args[0])
    assert container is not None
    forms = [(f"{sub.own_name.upper()} {sub.usage}".rstrip(), sub.summary) for sub in container.subcommands]
    if container.python:
        forms.insert(0, ("(no subcommand)", container.summary))
    return help_lines(container.name, forms)
