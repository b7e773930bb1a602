"""Secret arguments of commands: passwords, and the names that go with them.

The slow log shows "(redacted)" in their place, as Redis does.  A declaration names the function that lists them.
"""

_SECRET_PARAMETERS = {b"requirepass", b"masterauth", b"masteruser", b"tls-key-file-pass", b"tls-client-key-file-pass"}


def of_auth(args: list[bytes]) -> list[int]:
    """All arguments of AUTH."""
    return list(range(1, len(args)))


def of_hello(args: list[bytes]) -> list[int]:
    """The two arguments behind AUTH in HELLO."""
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
    """The values of secret parameters in CONFIG SET."""
    return [at + 1 for at in range(2, len(args)) if args[at].lower() in _SECRET_PARAMETERS]
