"""CLIENT ID, INFO, GETNAME, SETNAME, SETINFO: the identity of a connection."""

from typing import TYPE_CHECKING

from kvstore.wire.errors import shown
from kvstore.wire.reply import OK, CommandError, Reply
from kvstore.wire.words import plain

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def client_id(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT ID"""
    return client.id


def client_getname(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT GETNAME"""
    return client.name or None


def client_name(value: bytes) -> str:
    """The name that a connection asks for."""
    return plain(value, "ERR Client names cannot contain spaces, newlines or special characters.")


def client_setname(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT SETNAME connection-name"""
    client.name = client_name(args[2])
    return OK


def client_setinfo(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT SETINFO LIB-NAME libname | LIB-VER libver"""
    attribute = {b"lib-name": "lib_name", b"lib-ver": "lib_ver"}.get(args[2].lower())
    if attribute is None:
        raise CommandError(f"ERR Unrecognized option '{shown(args[2])}'")
    error = f"ERR {shown(args[2])} cannot contain spaces, newlines or special characters."
    setattr(client, attribute, plain(args[3], error))
    return OK


def client_info(server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT INFO"""
    return server.reply_clients([client.slot])
