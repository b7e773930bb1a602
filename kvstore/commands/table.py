"""The table of commands: the declarations of all families, by name and by number, and the functions that serve them.

The loop's table (compiled.py), COMMAND, HELP and the counters of INFO are all made from it.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvstore.commands import families
from kvstore.commands.declaration import Command
from kvstore.commands.refusals import unknown_subcommand, wrong_arity
from kvstore.wire.reply import Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

    ColdHandler = Callable[[Server, Client, list[bytes]], Reply]

COMMANDS: tuple[Command, ...] = tuple(
    sorted(
        (command for family in families.FAMILIES for command in import_module(family).COMMANDS),
        key=lambda command: command.name,
    )
)
ROWS: tuple[Command, ...] = COMMANDS + tuple(sub for command in COMMANDS for sub in command.subcommands)
_NUMBERS = {row.name: number for number, row in enumerate(ROWS)}
_BY_NAME = {command.name.encode(): command for command in COMMANDS}


def find(name: bytes) -> Command | None:
    """The command of this name, in any case; a subcommand is called "container|subcommand"."""
    container, bar, sub = name.lower().partition(b"|")
    command = _BY_NAME.get(container)
    return command.subcommand(sub) if command and bar else command


def resolve(args: list[bytes]) -> Command | None:
    """The declaration for a whole command: the subcommand's, for a container called with one."""
    command = _BY_NAME.get(args[0].lower())
    if command and command.subcommands and len(args) > 1:
        return command.subcommand(args[1])
    return command


def options(args: list[bytes]) -> dict[str, Any]:
    """The arguments of a whole command by their names; the table must have the command.  Raises CommandError."""
    command = resolve(args)
    assert command is not None, args[:2]
    return command.options(args)


def row_number_of(command: Command) -> int:
    """The place of a command or subcommand in ROWS."""
    return _NUMBERS[command.name]


def row_number(args: list[bytes]) -> int:
    """The place in ROWS of a whole command whose name is in the table: its subcommand's, if that exists."""
    row = resolve(args) or _BY_NAME[args[0].lower()]
    return _NUMBERS[row.name]


def secret_arguments(command: Command, args: list[bytes]) -> int:
    """The secret arguments of a whole command: bit i for argument i, for the first 62."""
    return sum(1 << at for at in set(command.secrets(args)) if at < 62) if command.secrets else 0


# ------------------------------------------------------------------------------------------------------- who serves


def kernel_of(command: Command) -> Any:
    """The kernel that serves a command, or serves its container's subcommands; None without one."""
    return _named(command.kernel) if command.kernel else None


@cache
def cold_handler(command: Command) -> "ColdHandler":
    """The Python function that serves a command, or the forms of it that its kernel leaves to Python."""
    own: ColdHandler | None = _named(command.python) if command.python else None
    if not command.subcommands:
        return own or _refuse(command)

    def serve(server: "Server", client: "Client", args: list[bytes]) -> Reply:
        if len(args) == 1:
            return own(server, client, args) if own and command.takes(1) else _refuse(command)(server, client, args)
        sub = command.subcommand(args[1])
        if sub is None:
            raise unknown_subcommand(command.name, args[1])
        if not sub.takes(len(args)):
            raise wrong_arity(sub)
        return cold_handler(sub)(server, client, args)

    return serve


def prepare_cold() -> None:
    """Load the modules and make the tables of cold commands ahead of time, so that their first use need not wait."""
    for row in ROWS:
        cold_handler(row)
    import_module("kvstore.commands.introspection.command").prepare()


def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _refuse(command: Command) -> "ColdHandler":
    # The kernel serves all good forms of this command, so it leaves to Python only a wrong number of arguments.
    def serve(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
        raise wrong_arity(command)

    return serve
