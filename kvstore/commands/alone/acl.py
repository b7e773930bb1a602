"""ACL: the only user is default.  After authentication it may run every command."""

from typing import TYPE_CHECKING

from kvstore.commands.connection.authentication import DEFAULT_USER
from kvstore.commands.declaration import CATEGORIES
from kvstore.commands.table import ROWS
from kvstore.observe.acllog import Entry
from kvstore.wire.reply import OK, CommandError, Reply, Set
from kvstore.wire.words import integer, text, word

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


ENTRIES_SHOWN = 10  # of the log, unless more are asked for


def _password(server: "Server") -> str | None:
    # The digest of the password, in the form of ACL rules; None without a password.
    required = str(server.config["requirepass"])
    import hashlib  # here, because it loads a library that few servers need

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


def acl_log(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """ACL LOG [count | RESET]: only wrong names and passwords, as an authenticated client may do everything"""
    if len(args) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.")
    if word(args, 2) == b"reset":
        server.acl_log.reset()
        return OK
    count = max(0, integer(args[2])) if len(args) == 3 else ENTRIES_SHOWN
    return [_entry(server, entry) for entry in server.acl_log.entries[:count]]


def _entry(server: "Server", entry: Entry) -> dict[str, Reply]:
    return {
        "count": entry.count,
        "reason": "auth",
        "context": entry.inside,
        "object": entry.command,
        "username": entry.user,
        "age-seconds": (int(server.registers.TIMER_MS) - entry.updated.timer_ms) / 1000,
        "client-info": entry.client,
        "entry-id": entry.number,
        "timestamp-created": entry.created.unix_ms,
        "timestamp-last-updated": entry.updated.unix_ms,
    }
