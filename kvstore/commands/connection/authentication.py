"""AUTH, HELLO, RESET and QUIT: the user of a connection, its protocol, and its end."""

from typing import TYPE_CHECKING

from kvstore.commands.connection.identity import client_name
from kvstore.commands.info import REDIS_VERSION
from kvstore.wire.errors import ERRORS, NO_MULTI, SYNTAX, shown
from kvstore.wire.reply import OK, CommandError, Reply, Simple
from kvstore.wire.words import integer, word

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

DEFAULT_USER = b"default"
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
HELLO_NEEDS_AUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)


def _same(secret: bytes, given: bytes) -> bool:
    # The time of the comparison must not reveal where the two differ.
    import hmac  # here, because it loads a library that most servers do not need

    return hmac.compare_digest(secret, given)


def authenticate(server: "Server", client: "Client", command: bytes, user: bytes, password: bytes) -> None:
    """Authenticate the connection, or raise WRONGPASS and record it in the log; `command` is the one that asks.

    A user's name of the form name@store also lets the connection use that branch, snapshot or main store.
    """
    required = str(server.config["requirepass"]).encode(errors="surrogateescape")
    matches = not required or _same(required, password)
    user, chooses, store = user.partition(b"@")
    if user != DEFAULT_USER or not matches:
        server.log_denied(client, command, user)
        raise CommandError(WRONG_PASSWORD)
    if chooses:
        if server.in_transaction:
            raise CommandError(ERRORS[NO_MULTI])
        server.use_store(client.slot, store)
    client.authenticated = True


def auth(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """AUTH [username] password"""
    if len(args) > 3:
        raise CommandError(ERRORS[SYNTAX])
    if len(args) == 2 and not server.config["requirepass"]:
        raise CommandError(NO_PASSWORD_SET)
    authenticate(server, client, args[0], args[1] if len(args) == 3 else DEFAULT_USER, args[-1])
    return OK


def hello(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """HELLO [protover [AUTH username password] [SETNAME clientname]]"""
    protocol = client.protocol
    if len(args) > 1:
        protocol = integer(args[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    credentials: tuple[bytes, bytes] | None = None
    name: str | None = None
    at = 2
    while at < len(args):
        left = len(args) - at - 1
        if word(args, at) == b"auth" and left >= 2:
            credentials = args[at + 1], args[at + 2]
            at += 3
        elif word(args, at) == b"setname" and left >= 1:
            name = client_name(args[at + 1])
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{shown(args[at])}'")
    if credentials:
        authenticate(server, client, args[0], *credentials)
    if server.config["requirepass"] and not client.authenticated:
        raise CommandError(HELLO_NEEDS_AUTH)
    if name is not None:
        client.name = name
    client.protocol = protocol
    greeting: dict[str, Reply] = {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": protocol,
        "id": client.id,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }
    return greeting


def reset(server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """RESET"""
    server.discard_transaction(client)
    server.end_subscriptions(client)
    server.track_nothing(client)
    server.end_monitoring(client)
    server.use_store(client.slot, b"main")
    client.reset()
    client.authenticated = not server.config["requirepass"]
    return Simple("RESET")


def quit_(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """QUIT"""
    client.close_after_reply = True
    return OK
