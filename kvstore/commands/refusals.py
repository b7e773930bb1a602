"""Refusals by Python: errors in Redis's words for commands that their declarations do not admit."""

from kvstore.commands.declaration import Command
from kvstore.wire.errors import SHOWN_MAX, shown
from kvstore.wire.reply import CommandError


def unknown_subcommand(container: str, name: bytes) -> CommandError:
    """The refusal of a subcommand that its container does not have."""
    return CommandError(f"ERR unknown subcommand '{shown(name, SHOWN_MAX)}'. Try {container.upper()} HELP.")


def unknown_subcommand_or_arity(container: str, name: bytes) -> CommandError:
    """The refusal by a container that does not distinguish the two errors."""
    problem = f"unknown subcommand or wrong number of arguments for '{shown(name, SHOWN_MAX)}'"
    return CommandError(f"ERR {problem}. Try {container.upper()} HELP.")


def wrong_arity(command: Command) -> CommandError:
    """The refusal of a command called with too many or too few arguments."""
    return CommandError(f"ERR wrong number of arguments for '{command.name}' command")
