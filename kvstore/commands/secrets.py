"""Which arguments of a command are secret: passwords, and the names that go with them.

The slow log shows "(redacted)" in their place, as Redis does.  A declaration names the function that tells.
"""

_SECRET_PARAMETERS = {b"requirepass", b"masterauth", b"masteruser", b"tls-key-file-pass", b"tls-client-key-file-pass"}


def of_auth(args: list[bytes]) -> list[int]:
    """Of AUTH: all."""
    return list(range(1, len(args)))


def of_hello(args: list[bytes]) -> list[int]:
    """Of HELLO: the two behind AUTH."""
    secret: list[int] = []
    at = 2
    while at < len(args):
        if args[at].lower() == b"auth":
            secret += [at + 1, at + 2]
            at += 3
        else:
            at += 2
    return secret


def of_config_set(args: list[bytes]) -> list[int]:
    """Of CONFIG SET: the values of parameters that are secret."""
    return [at + 1 for at in range(2, len(args)) if args[at].lower() in _SECRET_PARAMETERS]
