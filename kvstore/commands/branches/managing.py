"""BRANCH and SNAPSHOT, what Python serves of them: INFO, RENAME, SWAP, SAVE, and a refusal of DROP."""

from typing import TYPE_CHECKING

from kvstore.branches.known import KINDS, Known
from kvstore.wire.errors import (
    BRANCH_EXISTS,
    BRANCH_NAME,
    ERRORS,
    NO_BRANCH,
    NOT_A_SNAPSHOT,
    SNAPSHOT_READ_ONLY,
    SYNTAX,
)
from kvstore.wire.reply import OK, CommandError, Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

IN_USE = "ERR the {} is used by {} connection{}: let them use another one, or drop it with FORCE"
RENAMED_MAIN = "ERR the main store keeps its name"


def _find(server: "Server", name: bytes) -> Known:
    found = server.named(name)
    if found is None:
        raise CommandError(ERRORS[NO_BRANCH])
    return found


def _summary(server: "Server", one: Known) -> dict[str, Reply]:
    return {
        "name": one.name,
        "kind": one.kind,
        "from": one.origin,
        "created": one.made_ms // 1000,
        "ttl": one.ttl_s(server.registers.NOW_MS),
        "connections": server.users_of(one),
    }


def info(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BRANCH INFO name, SNAPSHOT INFO name"""
    one = _find(server, args[2])
    if args[0].lower() == b"snapshot" and one.kind != "snapshot":
        raise CommandError(ERRORS[NOT_A_SNAPSHOT])
    held = server.held_by(one)
    return {
        **_summary(server, one),
        "maxmemory": one.quota,
        "resets": one.resets,
        "keys": server.keys_of(one),
        "own_bytes": server.own_bytes(one),
        "rss": held.rss,
        "shared": held.shared,
        "private": held.private,
        "tables_shared": held.tables_shared,
        "tables_private": held.tables_private,
        **server.recorded_of(one),
    }


def branch_rename(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BRANCH RENAME old new"""
    one = _find(server, args[2])
    if one.kind == "main":
        raise CommandError(RENAMED_MAIN)
    if not server.is_store_name(args[3]):
        raise CommandError(ERRORS[BRANCH_NAME])
    if server.named(args[3]) is not None:
        raise CommandError(ERRORS[BRANCH_EXISTS])
    server.rename_store(one, args[3])
    return OK


def branch_swap(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BRANCH SWAP first second"""
    first, second = _find(server, args[2]), _find(server, args[3])
    if "snapshot" in (first.kind, second.kind):
        raise CommandError(ERRORS[SNAPSHOT_READ_ONLY])
    if first.address != second.address:
        server.swap_stores(first, second)
    return OK


def drop(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BRANCH DROP name, SNAPSHOT DROP name, of a store in use"""
    one = _find(server, args[2])
    raise CommandError(IN_USE.format(KINDS[one.kind], one.users, "s" * (one.users > 1)))


def branch_save(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """BRANCH SAVE name file"""
    return server.save_store(client.slot, _find(server, args[2]), args[3])


def not_well_formed(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """Forms that the kernels do not take, although the number of their arguments is right"""
    raise CommandError(ERRORS[SYNTAX])
