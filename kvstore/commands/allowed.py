"""Permission for dangerous commands and parameters: enable-debug-command and enable-protected-configs.

Each is no, yes or local.  Unix sockets and loopback addresses are local, also an IPv4 loopback address mapped to IPv6.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def is_local(client: "Client") -> bool:
    """Whether a connection comes from this machine."""
    host = client.addr.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return client.unix or host == "::1" or host.startswith("127.")


def is_allowed(server: "Server", client: "Client", parameter: str) -> bool:
    """Whether `parameter` permits its dangerous operations to this connection."""
    setting = server.config[parameter]
    return bool(setting == "yes" or (setting == "local" and is_local(client)))
