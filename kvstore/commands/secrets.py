"""Which arguments of a command are secret: passwords, and the names that go with them.

The slow log shows "(redacted)" in their place, as Redis does.
"""

from collections.abc import Callable

_SECRET_PARAMETERS = {b"requirepass", b"masterauth", b"masteruser", b"tls-key-file-pass", b"tls-client-key-file-pass"}


def _of_auth(args: list[bytes]) -> list[int]:
    return list(range(1, len(args)))


def _of_hello(args: list[bytes]) -> list[int]:
    secret: list[int] = []
    at = 2
    while at < len(args):
        if args[at].lower() == b"auth":
            secret += [at + 1, at + 2]
            at += 3
        else:
            at += 2
    return secret


def _of_config_set(args: list[bytes]) -> list[int]:
    return [at + 1 for at in range(2, len(args)) if args[at].lower() in _SECRET_PARAMETERS]


SECRETS: dict[str, Callable[[list[bytes]], list[int]]] = {  # by the names of the table
    "auth": _of_auth,
    "hello": _of_hello,
    "config|set": _of_config_set,
}


def secret_arguments(name: str, args: list[bytes]) -> int:
    """Which arguments of a command of this name are secret: bit i for argument i, of the first 62."""
    return sum(1 << at for at in set(SECRETS[name](args)) if at < 62)
