"""CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: client-side caching, as effects/tracking.py provides it."""

from typing import TYPE_CHECKING

from kvstore.commands.table import options
from kvstore.lifetimes import connection
from kvstore.lifetimes.connection import (
    TRACKING_BCAST,
    TRACKING_CACHING,
    TRACKING_NOLOOP,
    TRACKING_OPTIN,
    TRACKING_OPTOUT,
)
from kvstore.wire.errors import ERRORS, SYNTAX, shown
from kvstore.wire.reply import OK, CommandError, Reply, Set
from kvstore.wire.words import chosen, integer, word

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

_MODES = {b"bcast": TRACKING_BCAST, b"optin": TRACKING_OPTIN, b"optout": TRACKING_OPTOUT, b"noloop": TRACKING_NOLOOP}
_PREFIX_WITHOUT_BCAST = "ERR PREFIX option requires BCAST mode to be enabled"
_ONE_REDIRECTION = "ERR A client can only redirect to a single other client"
_NO_SUCH_CLIENT = "ERR The client ID you want redirect to does not exist"
_SWITCHES = (
    "ERR You can't switch {} mode{} before disabling tracking for this client, and then re-enabling it with a "
    "different mode."
)
_BCAST_WITH_OPT = "ERR OPTIN and OPTOUT are not compatible with BCAST"
_OPTIN_WITH_OPTOUT = "ERR You can't specify both OPTIN mode and OPTOUT mode"
_OVERLAPS = "ERR Prefix '{}' overlaps with {} prefix '{}'. Prefixes for a single client must not overlap."
_CACHING_WITHOUT_TRACKING = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)
_CACHING_IN_OTHER_MODE = "ERR CLIENT CACHING {} is only valid when tracking is enabled in {} mode."


def client_tracking(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]"""
    modes, redirect, target, prefixes = _tracking_options(server, args)
    if chosen(args[2], b"on", b"off") == b"off":
        server.track_nothing(client)
        return OK
    if prefixes and not modes & TRACKING_BCAST:
        raise CommandError(_PREFIX_WITHOUT_BCAST)
    _check_modes(int(client.tracking), modes)
    if modes & TRACKING_BCAST:
        _check_prefixes(server.tracked_prefixes(client), prefixes)
        prefixes = prefixes or [b""]
    server.track(client, modes, redirect, target, prefixes)
    return OK


def _tracking_options(server: "Server", args: list[bytes]) -> tuple[int, int, int, list[bytes]]:
    # The modes, the id and slot of the connection that is told instead, and the prefixes.  They are read in the order
    # in which they were given, because that is the order of their errors, and REDIRECT must not come twice.
    modes = redirect = target = 0
    prefixes, at = [], 3
    while at < len(args):
        option, more = word(args, at), at + 1 < len(args)
        if option == b"redirect" and more:
            if redirect:
                raise CommandError(_ONE_REDIRECTION)
            redirect = integer(args[at + 1])
            target = server.slot_of(redirect)
            if target < 0:
                raise CommandError(_NO_SUCH_CLIENT)
        elif option == b"prefix" and more:
            prefixes.append(args[at + 1])
        elif option in _MODES:
            modes |= _MODES[option]
            at -= 1
        else:
            raise CommandError(ERRORS[SYNTAX])
        at += 2
    return modes, redirect, target, prefixes


def _check_modes(tracking: int, modes: int) -> None:
    # Whether a connection with these flags can be switched to these modes.
    if tracking & connection.TRACKING and (tracking ^ modes) & TRACKING_BCAST:
        raise CommandError(_SWITCHES.format("BCAST", " on/off"))
    if modes & TRACKING_BCAST and modes & (TRACKING_OPTIN | TRACKING_OPTOUT):
        raise CommandError(_BCAST_WITH_OPT)
    if modes & TRACKING_OPTIN and modes & TRACKING_OPTOUT:
        raise CommandError(_OPTIN_WITH_OPTOUT)
    both = TRACKING_OPTIN | TRACKING_OPTOUT
    if modes & both and tracking & both & ~modes:
        raise CommandError(_SWITCHES.format("OPTIN/OPTOUT", ""))


def _overlap(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def _check_prefixes(there: list[bytes], given: list[bytes]) -> None:
    for number, prefix in enumerate(given):
        for other in there:
            if _overlap(prefix, other):
                raise CommandError(_OVERLAPS.format(shown(prefix), "an existing", shown(other)))
        for other in given[number + 1 :]:
            if _overlap(prefix, other):
                raise CommandError(_OVERLAPS.format(shown(prefix), "another provided", shown(other)))


def client_caching(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CLIENT CACHING YES | NO"""
    tracking = int(client.tracking)
    if not tracking & connection.TRACKING:
        raise CommandError(_CACHING_WITHOUT_TRACKING)
    mode = options(args)["mode"]
    if not tracking & (TRACKING_OPTIN if mode == "yes" else TRACKING_OPTOUT):
        raise CommandError(_CACHING_IN_OTHER_MODE.format(mode.upper(), "OPTIN" if mode == "yes" else "OPTOUT"))
    client.tracking = tracking | TRACKING_CACHING
    return OK


def client_trackinginfo(server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT TRACKINGINFO"""
    tracking = int(client.tracking)
    caching = bool(tracking & TRACKING_CACHING)
    told = (
        (b"on", tracking & connection.TRACKING),
        (b"off", not tracking & connection.TRACKING),
        (b"bcast", tracking & TRACKING_BCAST),
        (b"optin", tracking & TRACKING_OPTIN),
        (b"caching-yes", tracking & TRACKING_OPTIN and caching),
        (b"optout", tracking & TRACKING_OPTOUT),
        (b"caching-no", tracking & TRACKING_OPTOUT and caching),
        (b"noloop", tracking & TRACKING_NOLOOP),
        (b"broken_redirect", tracking & connection.TRACKING_BROKEN),
    )
    about: dict[str, Reply] = {
        "flags": Set(tuple(name for name, holds in told if holds)),
        "redirect": client_getredir(server, client, []),
        "prefixes": list[Reply](server.tracked_prefixes(client)),
    }
    return about


def client_getredir(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """CLIENT GETREDIR"""
    return client.redirect if int(client.tracking) & connection.TRACKING else -1
