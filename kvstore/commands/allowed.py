"""Whom the configuration lets use what is dangerous: enable-debug-command and enable-protected-configs.

Each is no, yes or local.  Local are a Unix socket and the loopback addresses, also where IPv6 writes one of IPv4's.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def is_local(client: "Client") -> bool:
    """Whether a connection comes from this machine."""
    host = client.addr.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return client.unix or host == "::1" or host.startswith("127.")


def is_allowed(server: "Server", client: "Client", parameter: str) -> bool:
    """Whether `parameter` lets this connection do what it is about."""
    setting = server.config[parameter]
    return bool(setting == "yes" or (setting == "local" and is_local(client)))
