"""CLIENT LIST, KILL, PAUSE, UNPAUSE, UNBLOCK: commands about other connections."""

from typing import TYPE_CHECKING, Any

from kvstore.commands.connection.authentication import DEFAULT_USER
from kvstore.lifetimes import connection
from kvstore.wire.arguments import INT64_MAX
from kvstore.wire.errors import ERRORS, SYNTAX, TIMEOUT_NEGATIVE, TIMEOUT_NOT_INTEGER, TIMEOUT_RANGE, shown
from kvstore.wire.reply import OK, CommandError, Reply
from kvstore.wire.words import chosen, integer, text, word

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

# The classes of clients that CLIENT LIST and KILL know.  There are no masters and replicas; monitors are normal.
CLIENT_TYPES = ("normal", "master", "slave", "replica", "pubsub")


def _client_type(data: bytes) -> str:
    name = text(data).lower()
    if name not in CLIENT_TYPES:
        raise CommandError(f"ERR Unknown client type '{shown(data)}'")
    return name


def _alive(server: "Server") -> list[int]:
    # The slots of all connections that are not about to be closed.
    flags = server.connections.column(connection.FLAGS)
    return [
        slot for slot, flag in enumerate(flags) if flag & (connection.IN_USE | connection.KILLED) == connection.IN_USE
    ]


def _of_type(server: "Server", slots: list[int], wanted: str) -> list[int]:
    # Those of these slots whose connections are of a class.
    if wanted not in ("normal", "pubsub"):
        return []
    flags = server.connections.column(connection.FLAGS)
    return [slot for slot in slots if (flags[slot] & connection.SUBSCRIBER != 0) == (wanted == "pubsub")]


def client_list(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT LIST [TYPE type] | [ID client-id ...]"""
    listed = _alive(server)
    if len(args) == 4 and word(args, 2) == b"type":
        listed = _of_type(server, listed, _client_type(args[3]))
    elif len(args) > 3 and word(args, 2) == b"id":
        wanted = [integer(data, "ERR Invalid client ID") for data in args[3:]]
        ids = server.connections.column(connection.ID)
        slots = {ids[slot]: slot for slot in listed}
        listed = [slots[one] for one in wanted if one in slots]
    elif len(args) > 2:
        raise CommandError(ERRORS[SYNTAX])
    return server.reply_clients(listed)


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
    raise CommandError(ERRORS[SYNTAX])


def _passing(server: "Server", slots: list[int], option: bytes, wanted: Any) -> list[int]:
    # Those of these slots that match a filter.
    table = server.connections
    if option == b"id":
        return [slot for slot in slots if table[slot, connection.ID] == wanted]
    if option == b"maxage":
        youngest_ms = server.registers.TIMER_MS - 1000 * wanted
        return [slot for slot in slots if table[slot, connection.CREATED_MS] <= youngest_ms]
    if option in (b"addr", b"laddr"):
        passes = server.from_address(wanted, own=option == b"laddr")
        return [slot for slot in slots if passes[slot]]
    return slots if option == b"user" else _of_type(server, slots, wanted)


def client_kill(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT KILL ip:port | CLIENT KILL <filter> <value> [<filter> <value> ...]; a repeated filter overrides"""
    one_address = len(args) == 3
    skip_me = not one_address
    filters: dict[bytes, Any] = {}
    if one_address:
        filters[b"addr"] = text(args[2])
    else:
        for at in range(2, len(args), 2):
            option = word(args, at)
            if at + 1 == len(args):
                raise CommandError(ERRORS[SYNTAX])
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
        raise CommandError(ERRORS[SYNTAX])
    if len(args) == 4 and word(args, 3) not in (b"write", b"all"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = integer(args[2], ERRORS[TIMEOUT_NOT_INTEGER])
    if timeout_ms < 0:
        raise CommandError(ERRORS[TIMEOUT_NEGATIVE])
    if timeout_ms > INT64_MAX - int(server.registers.TIMER_MS):  # Redis counts from Unix time, and so fails here
        raise CommandError(ERRORS[TIMEOUT_RANGE])
    server.pause_clients(timeout_ms, word(args, 3) == b"write")
    return OK


def client_unpause(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT UNPAUSE"""
    server.unpause_clients()
    return OK


def client_unblock(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CLIENT UNBLOCK client-id [TIMEOUT | ERROR]"""
    if len(args) > 4:
        raise CommandError(ERRORS[SYNTAX])
    if len(args) == 4 and word(args, 3) not in (b"timeout", b"error"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    wanted = integer(args[2])
    slots = _passing(server, _alive(server), b"id", wanted)
    return int(any(server.unblock(slot, word(args, 3) == b"error") for slot in slots))
