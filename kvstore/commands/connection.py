"""AUTH, HELLO, RESET, QUIT and CLIENT: the commands about the connection itself that Python serves."""

import re
from typing import TYPE_CHECKING, Any

from kvstore.commands.info import REDIS_VERSION
from kvstore.lifetimes import connection
from kvstore.wire.errors import ERRORS, NOT_INTEGER, SYNTAX, shown
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Reply, Set, Simple

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

INT64_MAX = 2**63 - 1
DEFAULT_USER = b"default"
SYNTAX_ERROR = ERRORS[SYNTAX]
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
HELLO_NEEDS_AUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)
CACHING_WITHOUT_TRACKING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
# The classes of clients that CLIENT LIST and KILL know; here all are normal ones.
CLIENT_TYPES = ("normal", "master", "slave", "replica", "pubsub")


def integer(data: bytes, error: str = ERRORS[NOT_INTEGER]) -> int:
    """A decimal int64, read as strictly as Redis does; raises CommandError(error)."""
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", data) or not -INT64_MAX - 1 <= int(data) <= INT64_MAX:
        raise CommandError(error)
    return int(data)


def text(data: bytes) -> str:
    """Bytes of a client's as text that turns into the same bytes again."""
    return data.decode(errors="surrogateescape")


def word(args: list[bytes], at: int) -> bytes:
    """Argument `at` in lower case, or nothing."""
    return args[at].lower() if at < len(args) else b""


def chosen(data: bytes, *words: bytes) -> bytes:
    """Which of these words, in lower case, an argument is; raises a syntax error for none."""
    if data.lower() not in words:
        raise CommandError(SYNTAX_ERROR)
    return data.lower()


def plain(value: bytes, error: str) -> str:
    """A value that CLIENT LIST can show: printable, without blanks; raises CommandError(error)."""
    if not all(0x21 <= byte <= 0x7E for byte in value):
        raise CommandError(error)
    return value.decode("ascii")


# ----------------------------------------------------------------------------------------------------- authentication


def _same(secret: bytes, given: bytes) -> bool:
    # In a time that says nothing of where they differ.
    import hmac  # here, for it loads a library that most servers do not need

    return hmac.compare_digest(secret, given)


def authenticate(server: "Server", client: "Client", command: bytes, user: bytes, password: bytes) -> None:
    """Let the connection in, or raise WRONGPASS and enter that in the log; `command` is the one that asks."""
    required = str(server.config["requirepass"]).encode(errors="surrogateescape")
    matches = not required or _same(required, password)
    if user != DEFAULT_USER or not matches:
        server.log_denied(client, command, user)
        raise CommandError(WRONG_PASSWORD)
    client.authenticated = True


def auth(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """AUTH [username] password"""
    if len(args) > 3:
        raise CommandError(SYNTAX_ERROR)
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
    client.reset()
    client.authenticated = not server.config["requirepass"]
    return Simple("RESET")


def quit_(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """QUIT"""
    client.close_after_reply = True
    return OK


# ------------------------------------------------------------------------------------------------- what a client is


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


def _client_type(data: bytes) -> str:
    name = text(data).lower()
    if name not in CLIENT_TYPES:
        raise CommandError(f"ERR Unknown client type '{shown(data)}'")
    return name


def _alive(server: "Server") -> list[int]:
    # The slots that have a connection that is not about to be closed.
    flags = server.connections.column(connection.FLAGS)
    return [
        slot for slot, flag in enumerate(flags) if flag & (connection.IN_USE | connection.KILLED) == connection.IN_USE
    ]


def client_list(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT LIST [TYPE type] | [ID client-id ...]"""
    listed = _alive(server)
    if len(args) == 4 and word(args, 2) == b"type":
        listed = listed if _client_type(args[3]) == "normal" else listed[:0]
    elif len(args) > 3 and word(args, 2) == b"id":
        wanted = [integer(data, "ERR Invalid client ID") for data in args[3:]]
        ids = server.connections.column(connection.ID)
        slots = {ids[slot]: slot for slot in listed}
        listed = [slots[one] for one in wanted if one in slots]
    elif len(args) > 2:
        raise CommandError(SYNTAX_ERROR)
    return server.reply_clients(listed)


# --------------------------------------------------------------------------------------------- what becomes of clients


def _checked(option: bytes, value: bytes) -> Any:
    # The value that a filter of CLIENT KILL asks for.
    if option == b"id":
        wanted = integer(value, "ERR client-id should be greater than 0")
        if wanted < 1:
            raise CommandError("ERR client-id should be greater than 0")
        return wanted
    if option == b"maxage":
        age_s = integer(value, "ERR maxage is not an integer or out of range")
        if age_s < 1:
            raise CommandError("ERR maxage should be greater than 0")
        return age_s
    if option == b"type":
        return _client_type(value)
    if option == b"user":
        if value != DEFAULT_USER:
            raise CommandError(f"ERR No such user '{shown(value)}'")
        return text(value)
    if option in (b"addr", b"laddr"):
        return text(value)
    raise CommandError(SYNTAX_ERROR)


def _passing(server: "Server", slots: list[int], option: bytes, wanted: Any) -> list[int]:
    # Of these slots, those that a filter lets pass.
    table = server.connections
    if option == b"id":
        return [slot for slot in slots if table[slot, connection.ID] == wanted]
    if option == b"maxage":
        youngest_ms = server.registers.TIMER_MS - 1000 * wanted
        return [slot for slot in slots if table[slot, connection.CREATED_MS] <= youngest_ms]
    if option in (b"addr", b"laddr"):
        passes = server.from_address(wanted, own=option == b"laddr")
        return [slot for slot in slots if passes[slot]]
    return slots if option == b"user" or wanted == "normal" else []


def client_kill(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT KILL ip:port | CLIENT KILL <filter> <value> [<filter> <value> ...]; of a filter given twice the last"""
    one_address = len(args) == 3
    skip_me = not one_address
    filters: dict[bytes, Any] = {}
    if one_address:
        filters[b"addr"] = text(args[2])
    else:
        for at in range(2, len(args), 2):
            option = word(args, at)
            if at + 1 == len(args):
                raise CommandError(SYNTAX_ERROR)
            if option == b"skipme":
                skip_me = chosen(args[at + 1], b"yes", b"no") == b"yes"
            else:
                filters[option] = _checked(option, args[at + 1])
    doomed = _alive(server)
    for option, wanted in filters.items():
        doomed = _passing(server, doomed, option, wanted)
    if skip_me:
        doomed = [slot for slot in doomed if slot != client.slot]
    server.kill(doomed)
    if one_address and not doomed:
        raise CommandError("ERR No such client")
    return OK if one_address else len(doomed)


def client_pause(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT PAUSE timeout [WRITE | ALL]"""
    if len(args) > 4:
        raise CommandError(SYNTAX_ERROR)
    if len(args) == 4 and word(args, 3) not in (b"write", b"all"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = integer(args[2], "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    if timeout_ms > INT64_MAX - int(server.registers.TIMER_MS):  # Redis counts from Unix time, and so fails here
        raise CommandError("ERR timeout is out of range")
    server.pause_clients(timeout_ms, word(args, 3) == b"write")
    return OK


def client_unpause(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT UNPAUSE"""
    server.unpause_clients()
    return OK


def client_unblock(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT UNBLOCK client-id [TIMEOUT | ERROR]"""
    if len(args) > 4:
        raise CommandError(SYNTAX_ERROR)
    if len(args) == 4 and word(args, 3) not in (b"timeout", b"error"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    wanted = integer(args[2])
    slots = _passing(server, _alive(server), b"id", wanted)
    return int(any(server.unblock(slot, word(args, 3) == b"error") for slot in slots))


# ------------------------------------------------------------------------------------------------ modes of a connection


def client_reply(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT REPLY ON | OFF | SKIP"""
    mode = chosen(args[2], b"on", b"off", b"skip")
    if mode == b"on":
        client.reply_mode = "on"
        return OK
    if mode == b"off" or client.reply_mode != "off":
        client.reply_mode = mode.decode()
    return NO_REPLY


def client_no_evict(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT NO-EVICT ON | OFF"""
    client.no_evict = chosen(args[2], b"on", b"off") == b"on"
    return OK


def client_no_touch(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT NO-TOUCH ON | OFF"""
    client.no_touch = chosen(args[2], b"on", b"off") == b"on"
    return OK


def client_tracking(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT TRACKING ON | OFF"""
    if chosen(args[2], b"on", b"off") == b"on":
        raise CommandError("ERR client side caching is not supported")
    return OK


def client_trackinginfo(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT TRACKINGINFO"""
    tracking: dict[str, Reply] = {"flags": Set((b"off",)), "redirect": -1, "prefixes": []}
    return tracking


def client_getredir(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT GETREDIR"""
    return -1


def client_caching(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT CACHING YES | NO"""
    raise CommandError(CACHING_WITHOUT_TRACKING)
