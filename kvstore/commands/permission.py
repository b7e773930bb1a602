"""Which connections may use what enable-debug-command and enable-protected-configs guard."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def allowed(server: "Server", client: "Client", parameter: str) -> bool:
    """What the parameter says of the connection: no, yes, or to connections of this machine."""
    setting = server.config[parameter]
    host = client.addr.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return bool(setting == "yes" or (setting == "local" and (client.unix or host == "::1" or host.startswith("127."))))
