"""ACL: there is one user, default, who may do everything once the password is given."""

import hashlib
from typing import TYPE_CHECKING

from kvstore.commands.connection import DEFAULT_USER, integer, text, word
from kvstore.commands.table import CATEGORIES, ROWS
from kvstore.reply import OK, CommandError, Reply, Set

if TYPE_CHECKING:
    from kvstore.coldplane import Client, Server


def _password(server: "Server") -> str | None:
    # The digest of the password, as rules have it; None without one.
    required = str(server.config["requirepass"])
    return hashlib.sha256(required.encode(errors="surrogateescape")).hexdigest() if required else None


def acl_whoami(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """ACL WHOAMI"""
    return client.user


def acl_users(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """ACL USERS"""
    return [DEFAULT_USER]


def acl_list(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """ACL LIST"""
    password = _password(server)
    return [f"user default on {f'#{password}' if password else 'nopass'} ~* &* +@all"]


def acl_getuser(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """ACL GETUSER username"""
    if args[2] != DEFAULT_USER:
        return None
    password = _password(server)
    user: dict[str, Reply] = {
        "flags": Set(("on",) if password else ("on", "nopass")),
        "passwords": [password] if password else [],
        "commands": "+@all",
        "keys": "~*",
        "channels": "&*",
        "selectors": [],
    }
    return user


def acl_cat(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """ACL CAT [categoryname]"""
    if len(args) == 2:
        return list(CATEGORIES)
    if len(args) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.")
    category = text(args[2]).lower()
    if category not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{text(args[2])}'")
    return [row.name for row in ROWS if category in row.categories]


def acl_log(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """ACL LOG [count | RESET]: who may do everything is denied nothing, and wrong passwords are not kept"""
    if len(args) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.")
    if word(args, 2) == b"reset":
        return OK
    if len(args) == 3:
        integer(args[2])
    return []
