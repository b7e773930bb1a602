"""HELP: the forms of a command, in the shape of Redis's HELP."""

from collections.abc import Iterable

from kvstore.wire.reply import Reply, Simple


def help_lines(name: str, forms: Iterable[tuple[str, str]]) -> Reply:
    """The reply to a container's HELP: its forms, each with its effect."""
    lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for usage, summary in forms:
        lines += [usage, f"    {summary}"]
    return [Simple(line) for line in lines]
